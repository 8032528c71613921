# Says whether a victim lives, by the locks that its members hold: by what the kernel says, and never by
# what we report ourselves.

import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import trio

PROGRAM = Path(__file__).with_name("victim.py")
FAMILY = 6
_LOOK_EVERY_SECONDS = 0.003
_LOOKS = 20


class Victim:
    """A family of processes, some of which hide, to be started by somebody else.

    Args:
        lock: The file that its members lock; made here.
        size: How many they are.
    """

    def __init__(self, lock: Path, size: int = FAMILY) -> None:
        lock.touch()
        self.lock = lock
        self.size = size
        self._inode = lock.stat().st_ino

    def argv(self, shape: str = "family") -> list[str]:
        """The command that starts it."""
        return [sys.executable, "-I", "-S", str(PROGRAM), str(self.lock), shape]

    def command(self, shape: str = "family") -> str:
        """The same for a shell."""
        return shlex.join(self.argv(shape))

    def count(self) -> int:
        """How many locks are held; one may be held by several."""
        return len(self._holders())

    def _holders(self) -> list[int]:
        # As in "1: FLOCK  ADVISORY  READ 1234 fd:01:5678 0 EOF".
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return [int(it[4]) for it in held if it[1] == "FLOCK" and it[5].endswith(f":{self._inode}")]

    def has_grown(self) -> bool:
        """Whether all of its members are there, and hold their locks."""
        # More than once: the kernel tells of locks piece by piece, and those of others come and go meanwhile.
        return any(self.count() == self.size for _ in range(_LOOKS))

    async def wait_alive(self, seconds: float = 30) -> None:
        """Wait until all of its members are there."""
        with trio.fail_after(seconds):
            await until(lambda: self.count() == self.size)

    def is_dead(self) -> bool:
        """Whether nobody holds the lock."""
        with self.lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    async def wait_dead(self, seconds: float) -> bool:
        """Wait until nobody holds the lock; False if somebody still does then."""
        with trio.move_on_after(seconds):
            await until(self.is_dead)
        return self.is_dead()

    def pids(self) -> list[int]:
        """Who has the locked file open."""
        return [pid for pid in all_processes() if self._inode in _open_inodes(pid)]

    def ancestors(self) -> list[int]:
        """The longest line of ancestors that a member has, itself first."""
        return max((_ancestors(pid) for pid in self._holders()), key=len, default=[])

    def exterminate(self) -> None:
        """Kill whoever is left, for the next test."""
        ends = time.monotonic() + 10
        while not self.is_dead():
            kill(*self.pids())
            if time.monotonic() > ends:
                raise TimeoutError(f"{self.lock}: {self.pids()} cannot be killed")


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so that nobody tells us of."""
    while not holds():  # noqa: ASYNC110 - as said
        await trio.sleep(_LOOK_EVERY_SECONDS)


def all_processes() -> list[int]:
    """All process ids."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def kill(*pids: int) -> None:
    """Kill whoever of these still lives."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def words(pid: int) -> list[str]:
    """The command line of a process; empty if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def at_home(home: Path) -> list[int]:
    """The processes that have this CODEX_HOME."""
    return [pid for pid in all_processes() if f"CODEX_HOME={home}" in _environment(pid)]


def _environment(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return []


def _open_inodes(pid: int) -> set[int]:
    with suppress(OSError):
        return set(_inodes(Path(f"/proc/{pid}/fd")))
    return set()


def _inodes(descriptors: Path) -> Iterator[int]:
    for fd in descriptors.iterdir():
        with suppress(OSError):
            yield fd.stat().st_ino


def _ancestors(pid: int) -> list[int]:
    line: list[int] = []
    with suppress(OSError):
        while pid:
            line.append(pid)
            pid = parent_of(pid)
    return line


def parent_of(pid: int) -> int:
    """Whose child a process is."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
