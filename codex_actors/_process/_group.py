# The weak means, for systems without subreapers: a process group, and what could be found below the root
# when it was told to stop. Whoever has left the group and lost its parent before that escapes, and so does
# everything if the host is killed.

import os
import signal
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

import trio

from codex_actors._data import Data
from codex_actors._process._tree import Launch, Tree
from codex_actors.results import Leftovers

# POSIX has no other way to ask for all processes. It takes 10 ms.
_PS = ("ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "lstart=", "-o", "comm=")
_PS_SECONDS = 5.0


class ProcessGroup:
    """Starts trees that lead a process group of their own."""

    async def start(self, launch: Launch) -> Tree:
        """Start a tree; see `Means.start`.

        Raises:
            OSError: The root could not be started.
        """
        stdin, stdout, stderr, *others = launch.fds.values()
        root = await trio.lowlevel.open_process(
            launch.command,
            env=launch.env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=others,
            start_new_session=True,
        )
        return _GroupTree(root)


class _Process(Data, frozen=True):
    pid: int
    parent: int
    group: int
    started: str
    name: str


class _GroupTree:
    def __init__(self, root: trio.Process) -> None:
        self.pid = root.pid
        self._root = root
        self._family: list[_Process] = []

    @property
    def returncode(self) -> int | None:
        return self._root.poll()

    async def watch(self) -> None:
        await self._root.wait()

    async def wait_started(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_exit(self) -> None:
        await self._root.wait()

    def interrupt(self) -> None:
        self._family = _below(self.pid, _processes())
        self._root.send_signal(signal.SIGINT)
        self._root.send_signal(signal.SIGCONT)  # a stopped one hears of it only now

    def kill(self) -> None:
        self._family = _below(self.pid, _processes())
        self._root.kill()

    async def clear(self, may_stay: Sequence[str]) -> Leftovers:
        left = await trio.to_thread.run_sync(self._left)
        killed = [it for it in left if not any(fnmatchcase(it.name, pattern) for pattern in may_stay)]
        for process in killed:
            with suppress(OSError):  # it has just ended, or become another user
                os.kill(process.pid, signal.SIGKILL)
        return Leftovers(
            killed=tuple(it.name for it in killed), kept=tuple(it.name for it in left if it not in killed)
        )

    def _left(self) -> list[_Process]:
        now = {it.pid: it for it in _processes()}
        known = [it.pid for it in self._family if now.get(it.pid, it).started == it.started]
        roots = {*known, *(it.pid for it in now.values() if it.group == self.pid)} - {self.pid}
        found = {it.pid: it for root in roots for it in (now.get(root), *_below(root, now.values())) if it}
        return [*found.values()]

    def close(self) -> None: ...


def _below(pid: int, processes: Collection[_Process]) -> list[_Process]:
    children = [it for it in processes if it.parent == pid]
    return [below for child in children for below in (child, *_below(child.pid, processes))]


def _processes() -> list[_Process]:
    try:
        listing = subprocess.run(_PS, capture_output=True, check=True, timeout=_PS_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return []  # then only the root is known
    return [*map(_parse, listing.decode(errors="replace").splitlines())]


def _parse(line: str) -> _Process:
    # The start time is five words, and the name is the rest.
    pid, parent, group, *started, name = line.split(None, 8)
    return _Process(int(pid), int(parent), int(group), " ".join(started), name)
