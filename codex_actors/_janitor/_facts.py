# Who we are, and who has a process number now, as far as it can be seen. Without /proc, numbers are all.

import os
from contextlib import suppress
from functools import cache
from hashlib import blake2s
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from msgspec.structs import replace

from codex_actors._ownership import Owner, Place, Seen

PROC = Path("/proc")
_NAMESPACES = ("self/ns/pid", "self/ns/time")
# A zombie that is the last of its process; one whose other threads go on looks the same but for their number.
_DEAD = frozenset("ZX")


class _Status(NamedTuple):
    state: str
    parent: int
    threads: int
    started: int


@cache
def here() -> Place:
    """Where our process numbers are known."""
    boot, view = "", ""
    with suppress(OSError):
        boot = (PROC / "sys/kernel/random/boot_id").read_text().replace("-", "")
    with suppress(OSError):
        view = "".join(str((PROC / name).readlink()) for name in _NAMESPACES)
    return Place(
        boot=boot.strip()[:12].ljust(12, "0"), view=blake2s(view.encode(), digest_size=4).hexdigest()
    )


def this_owner() -> Owner:
    """Our own process."""
    return _owner(os.getpid())  # which a fork changes


@cache
def _owner(pid: int) -> Owner:
    started = 0
    with suppress(OSError):
        started = status("self").started
    return Owner(pid=pid, started=started, place=here(), nonce=token_hex(4))


def new_owner() -> Owner:
    """Our own process, with a nonce that nothing else has."""
    return replace(this_owner(), nonce=token_hex(4))


def seen(pid: int) -> Seen:
    """Who has a process number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "nobody"
    except PermissionError:
        pass  # a stranger has it
    if not proc_is_ours():
        return "somebody"
    try:
        found = status(pid)
    except OSError:  # hidden from us, or it has just ended
        return "somebody"
    return "nobody" if found.state in _DEAD and found.threads <= 1 else found.started


def proc_is_ours() -> bool:
    """Whether there is a /proc, and its numbers are the ones that we know."""
    with suppress(OSError):
        return (PROC / "self").readlink() == Path(str(os.getpid()))
    return False


def status(pid: int | str) -> _Status:
    """What the kernel says of a process.

    Raises:
        OSError: Nothing.
    """
    text = (PROC / str(pid) / "stat").read_text(errors="replace")
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return _Status(fields[0], int(fields[1]), int(fields[17]), int(fields[19]))


def ancestors() -> set[int]:
    """We ourselves, and whoever has started us."""
    found: set[int] = set()
    pid = os.getpid()
    while pid and pid not in found:
        found.add(pid)
        with suppress(OSError):  # else this round finds it again, and ends
            pid = status(pid).parent
    return found
