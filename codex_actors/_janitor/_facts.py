# Who we are, and who has a process number now, as far as it can be seen. Without /proc, numbers are all.

import os
from contextlib import suppress
from functools import cache
from hashlib import blake2s
from pathlib import Path
from typing import NamedTuple

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


def this_owner(tag: str) -> Owner:
    """Our own process.

    Args:
        tag: What else is to be known of what it owns.
    """
    pid = os.getpid()
    return Owner(pid=pid, started=_started(pid), place=here(), tag=tag)


@cache  # a fork has another number
def _started(_pid: int) -> int:
    with suppress(OSError):
        return status("self").started
    return 0  # there is no /proc


@cache
def tag_of(codex_home: Path) -> str:
    """What tells a CODEX_HOME from others."""
    return blake2s(os.fsencode(codex_home.resolve()), digest_size=4).hexdigest()


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
