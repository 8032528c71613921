# What a run can leave behind, looked for where it would be. Reading /proc needs no rights for processes
# of our own; those of others are not ours to have started.

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import trio

_PROC = Path("/proc")
# What was killed needs a moment to vanish; what lives on does so longer than this.
_LOOKS = 50
_LOOK_SECONDS = 0.02

# Codex's own note of which directories it has mounted for its sandbox; it is there after any command.
_CODEX_KEEPS = "codex-bwrap-synthetic-mount-targets-"


def can_see_processes() -> bool:
    """Whether this system lets us look at processes."""
    return (_PROC / "self" / "environ").exists()


async def processes_left(codex_home: Path) -> list[str]:
    """Name the processes that live although they should not: our children, and any of that CODEX_HOME."""
    left: list[str] = []
    for _ in range(_LOOKS):
        if not (left := list(_living(codex_home))):
            break
        await trio.sleep(_LOOK_SECONDS)
    return left


def files_left(temporary: Path) -> list[str]:
    """Name what lies in a directory for temporary files."""
    return sorted(path.name for path in temporary.iterdir() if not path.name.startswith(_CODEX_KEEPS))


def _living(codex_home: Path) -> Iterator[str]:
    marker = f"CODEX_HOME={codex_home}".encode()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # it has just ended, or is not ours to look at
            status = _status(entry)
            ours = status["PPid"] == str(os.getpid())
            if ours or marker in (entry / "environ").read_bytes().split(b"\0"):
                yield f"process {entry.name} ({status['Name']})"


def _status(process: Path) -> Mapping[str, str]:
    lines = (process / "status").read_text(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
