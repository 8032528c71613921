# One turn at a time per thread. Codex refuses a second one ("already has an active writer") where users
# expect to wait, so we queue before Codex is asked: within the runtime by a trio lock, which is fair and
# immediate; across processes by a file lock, which dies with its holder however that dies.

import fcntl
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

import trio

from codex_actors import errors
from codex_actors._process import resource_limit

FOLDER = "codex-actors-locks"
# Other processes cannot wake us when they let go; twenty looks a second cost nothing beside a turn.
_LOOK_SECONDS = 0.05


class ThreadLocks:
    """The locks of all threads of one CODEX_HOME.

    Args:
        codex_home: The directory.
        when_busy: Whether to wait for a thread's turn to end or to refuse at once.
        thread_seconds: How long to wait.
    """

    def __init__(
        self, codex_home: Path, *, when_busy: Literal["wait", "refuse"], thread_seconds: float
    ) -> None:
        self._folder = codex_home / FOLDER
        self._seconds = thread_seconds if when_busy == "wait" else 0
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    def of_thread(self, thread_id: str) -> trio.Lock:
        """The lock that this runtime's turns on a thread share."""
        return self._locks.setdefault(thread_id, trio.Lock())

    def adopt(self, thread_id: str, lock: trio.Lock) -> None:
        """Let the lock of a thread that had no id yet be that of its id."""
        self._locks.setdefault(thread_id, lock)

    @asynccontextmanager
    async def hold(self, lock: trio.Lock, thread_id: Callable[[], str | None]) -> AsyncGenerator[ExitStack]:
        """Hold a thread, within this runtime and against other processes.

        Args:
            lock: The lock that this runtime's turns on the thread share.
            thread_id: Says which thread it is; None while it has no id, and then `hold_file` is for later.
                Asked when the lock is held, because the turn before may give the thread its id.

        Returns:
            Where further locks can go, to be let go with this one.

        Raises:
            ThreadBusyError: It was not free in time, or at once where waiting is not wanted.
            CodexHomeError: The lock's file cannot be made.
            ResourceLimitError: There are too few file descriptors.
        """
        give_up_at = trio.current_time() + self._seconds
        with ExitStack() as held:
            await _acquire(lock, give_up_at, thread_id)
            held.callback(lock.release)
            known = thread_id()
            # Even where nobody waits, there is a second look: a janitor holds a file for an instant.
            last_look_at = max(give_up_at, trio.current_time() + _LOOK_SECONDS)
            while known is not None and not self.hold_file(held, known):
                if trio.current_time() >= last_look_at:
                    raise _busy(known, "another process")
                await trio.sleep(_LOOK_SECONDS)
            yield held

    def hold_file(self, held: ExitStack, thread_id: str) -> bool:
        """Hold a thread against other processes until `held` is closed; False if one of them has it.

        Raises:
            CodexHomeError: The lock's file cannot be made.
            ResourceLimitError: There are too few file descriptors.
        """
        path = self._folder / f"{thread_id}.lock"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            home = str(self._folder.parent)
            raise (
                resource_limit(exc) or errors.CodexHomeError(home, f"cannot be written: {exc.strerror}")
            ) from exc
        if _locked(fd, path):
            held.callback(os.close, fd)
            held.callback(_remove, path)
            return True
        os.close(fd)
        return False


def _locked(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have removed the file that we had already opened.
        return os.path.samestat(os.fstat(fd), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove(path: Path) -> None:
    with suppress(OSError):  # the home may be gone by now, and a file that stays blocks nobody
        path.unlink()


async def _acquire(lock: trio.Lock, give_up_at: float, thread_id: Callable[[], str | None]) -> None:
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        with trio.move_on_at(give_up_at) as waiting:
            await lock.acquire()
        if waiting.cancelled_caught:
            raise _busy(thread_id(), "this runtime") from None


def _busy(thread_id: str | None, holder: str) -> errors.ThreadBusyError:
    thread = f"thread {thread_id}" if thread_id else "this new thread"
    return errors.ThreadBusyError(f"{holder} has a turn running on {thread}", thread_id or "")
