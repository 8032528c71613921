# The host's side of the guard (guard_program.py): one channel to the guard, and one to each tree's watcher.
#
# A message is short and arrives whole or not at all (SOCK_SEQPACKET); what is long, arguments and
# environment, goes along as an anonymous file.

import errno
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import structlog
import trio

from codex_actors import errors
from codex_actors._nursery import open_private_nursery
from codex_actors._process._files import open_anonymous_file, resource_limit
from codex_actors._process._tree import Launch
from codex_actors.results import Leftovers

_log = structlog.get_logger("codex_actors")

# Isolated and without site-packages: nothing of the host's or the user's changes what it does or weighs.
_PYTHON_FLAGS = ("-I", "-S")
_PROGRAM = Path(__file__).with_name("guard_program.py")
_MAX_MESSAGE = 64 * 1024
# What it may need of our environment; the rest is none of its business.
_VARIABLES = ("LD_LIBRARY_PATH",)
_KILLED = -9
_SIGNALLED = 128
_ONE_FD = socket.CMSG_LEN(4)


class GuardLostError(Exception):
    """The guard has ended, and with it every tree it kept."""


class _Channel:
    # Our end of a conversation with the guard or a watcher. That it has gone is heard of by receiving.

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._trio_end = trio.socket.from_stdlib_socket(end)

    def tell(self, message: bytes) -> None:
        """Send what is short and never has to wait."""
        with suppress(OSError):
            self._end.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    async def hand_over(self, message: bytes, fds: Iterable[int]) -> None:
        """Send a message, and descriptors with it."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._trio_end.sendmsg([message], [rights], socket.MSG_NOSIGNAL)

    async def receive(self, fds: "array[int] | None" = None) -> bytes:
        """Receive a message, and the descriptor that comes with it; empty if the other side has gone."""
        receive = partial(self._trio_end.recvmsg, _MAX_MESSAGE, _ONE_FD, socket.MSG_CMSG_CLOEXEC)
        try:
            message, ancillary, _, _ = await receive()
        except ConnectionResetError:  # it has gone, with something unread; what it had said comes next
            message, ancillary, _, _ = await receive()
        if fds is not None:
            for _, _, data in ancillary:
                fds.frombytes(data)
        return message

    def close(self, farewell: bytes) -> None:
        """Leave, and say so: whom we have forked may hold a copy of our end."""
        self.tell(farewell)
        self._trio_end.close()


class Guard:
    """Starts trees that nothing escapes from; `open_guard` makes it."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._user = os.geteuid()
        self._trees: WeakValueDictionary[bytes, _GuardedTree] = WeakValueDictionary()
        # One watcher waits for work, so that no tree has to wait for a fork; or an error, why there is none.
        self._spares, self._spare = trio.open_memory_channel["_GuardedTree | OSError"](1)

    async def start(self, launch: Launch) -> "_GuardedTree":
        """Start a tree; see `Means.start`.

        Raises:
            ContainmentError: We have become another user, which the guard has not.
            GuardLostError: The guard has ended.
            OSError: The machine is out of something.
        """
        if os.geteuid() != self._user:
            problem = "the program has become another user since the runtime opened: open it afterwards"
            raise errors.ContainmentError("subreaper", problem)
        tree = await self._take_spare()
        try:
            await tree.start(launch)
        except BaseException:
            tree.close()
            raise
        return tree

    async def _take_spare(self) -> "_GuardedTree":
        problem = OSError(errno.ECHILD, "its watcher was killed")
        for _ in range(2):  # what was wrong may be long past
            try:
                spare = await self._spare.receive()
            except trio.EndOfChannel:
                raise GuardLostError from None
            self.ask_for_spare()
            if not isinstance(spare, _GuardedTree):
                problem = spare
            elif spare.lives:
                return spare
            else:
                spare.close()
        raise problem

    def ask_for_spare(self) -> None:
        """Have a watcher made, for whichever tree comes next."""
        self._channel.tell(b"watcher")

    @trio.lowlevel.enable_ki_protection
    async def listen(self) -> None:
        """Take note of what the guard says, until it is gone.

        Raises:
            GuardLostError: It is gone.
        """
        try:
            while message := await self._channel.receive(fds := array("i")):
                verb, number = message.split()
                self._note(verb, number, *fds)
            raise GuardLostError
        finally:
            self.close()

    def _note(self, verb: bytes, number: bytes, fd: int = -1) -> None:
        match verb:
            case b"watcher" if fd < 0:  # it was sent, and there was no room for it
                self._spares.send_nowait(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            case b"watcher":
                tree = self._trees[number] = _GuardedTree(_Channel(socket.socket(fileno=fd)))
                self._spares.send_nowait(tree)
            case b"failed":
                self._spares.send_nowait(OSError(int(number), os.strerror(int(number))))
            case _:
                if lost := self._trees.get(number):
                    lost.note_lost(proven=True)

    def close(self) -> None:
        """Let go of what nobody has taken."""
        self._spares.close()
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while isinstance(spare := self._spare.receive_nowait(), _GuardedTree):
                spare.close()
        for tree in self._trees.values():
            tree.note_lost(proven=False)


class _GuardedTree:
    def __init__(self, channel: _Channel) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._channel = channel
        self._wrapped = False
        self._failure: OSError | None = None
        self._leftovers = Leftovers()
        self._started = trio.Event()
        self._exited = trio.Event()
        self._over = trio.Event()
        self._lost = trio.Event()

    @property
    def lives(self) -> bool:
        """Whether its watcher does, as far as is known."""
        return not self._lost.is_set()

    async def start(self, launch: Launch) -> None:
        """Have the watcher start the root."""
        self._wrapped = launch.wrappers > 0
        with open_anonymous_file(_request(launch)) as request, _here() as cwd:
            await self._channel.hand_over(b"start", (request, cwd, *launch.fds.values()))

    @trio.lowlevel.enable_ki_protection
    async def watch(self) -> None:
        while not self._over.is_set():
            if message := await self._channel.receive():
                self._note(*message.split(b" ", 1))
            else:  # the watcher was killed; the guard kills what it leaves, and says so
                await self._lost.wait()
                self._note_over(self._leftovers)

    def _note(self, verb: bytes, said: bytes) -> None:
        match verb:
            case b"started":
                self.pid = int(said)
                self._started.set()
            case b"failed":
                self._failure = OSError(int(said), os.strerror(int(said)))
                self._note_over(Leftovers(proven=True))
            case b"exited":
                self.returncode = _unwrapped(int(said)) if self._wrapped else int(said)
                self._exited.set()
            case _:
                killed, kept = (
                    tuple(map(os.fsdecode, filter(None, names.split(b"\0")))) for names in said.split(b"\0\0")
                )
                self._note_over(Leftovers(killed=killed, kept=kept, proven=True))

    def _note_over(self, leftovers: Leftovers) -> None:
        self._leftovers = leftovers
        if self.returncode is None and self._failure is None:
            self.returncode = _KILLED
        for event in (self._started, self._exited, self._over):
            event.set()

    def note_lost(self, *, proven: bool) -> None:
        """Hear from the guard that the watcher was killed, or that the guard was."""
        if not self._over.is_set():
            self._leftovers = Leftovers(proven=proven)
            self._lost.set()

    async def wait_started(self) -> None:
        await self._started.wait()
        if self._failure is not None:
            raise self._failure

    async def wait_exit(self) -> None:
        await self._exited.wait()

    def interrupt(self) -> None:
        self._channel.tell(b"interrupt")

    def kill(self) -> None:
        self._channel.tell(b"kill")

    async def clear(self, may_stay: Sequence[str]) -> Leftovers:
        self._channel.tell(b"\0".join((b"clear", *map(os.fsencode, may_stay))))
        await self._over.wait()
        return self._leftovers

    def close(self) -> None:
        self._channel.close(b"clear")


def _unwrapped(status: int) -> int:
    """What a wrapper, as a shell, says of one whom a signal has ended."""
    return _SIGNALLED - status if status > _SIGNALLED else status


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_guard(*, spawn_seconds: float, kill_seconds: float) -> AsyncGenerator[Guard]:
    """Start a guard, which is gone when the block is left.

    Args:
        spawn_seconds: How long it may take until it is ready.
        kill_seconds: How long it may take to end.

    Raises:
        ContainmentError: There can be none here.
        GuardLostError: It was killed meanwhile.
    """
    if sys.platform != "linux":
        raise errors.ContainmentError("subreaper", "it needs Linux")
    # A frozen program would start itself again here, and so on.
    if not sys.executable or getattr(sys, "frozen", False):
        raise errors.ContainmentError("subreaper", "there is no Python interpreter to run the guard")
    with _translated():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs, _translated():
            process = await _start_guard(theirs)
        channel = _Channel(ours)
        try:
            await _see_ready(channel, spawn_seconds)
            guard = Guard(channel)
            guard.ask_for_spare()
            async with open_private_nursery() as nursery:
                nursery.start_soon(guard.listen)
                yield guard
        finally:
            channel.close(b"bye")
            with trio.CancelScope(shield=True):
                await _see_gone(process, kill_seconds)


async def _see_gone(process: trio.Process, kill_seconds: float) -> None:
    with trio.move_on_after(kill_seconds):
        await process.wait()
    process.kill()
    with trio.move_on_after(kill_seconds):
        await process.wait()


async def _see_ready(channel: _Channel, spawn_seconds: float) -> None:
    problem = f"the guard was not ready within {spawn_seconds:g} s"
    with trio.move_on_after(spawn_seconds):
        if await channel.receive() == b"ready":
            return
        problem = "the guard could not start; what it said is on stderr"
    raise errors.ContainmentError("subreaper", problem)


async def _start_guard(channel: socket.socket) -> trio.Process:
    with _pidfd_of_host() as host:
        return await trio.lowlevel.open_process(
            (sys.executable, *_PYTHON_FLAGS, str(_PROGRAM), str(channel.fileno()), str(host)),
            env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(channel.fileno(), host),
            start_new_session=True,
        )


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OSError as exc:
        problem = f"the guard cannot be started: {exc.strerror}"
        raise (resource_limit(exc) or errors.ContainmentError("subreaper", problem)) from exc


@contextmanager
def _pidfd_of_host() -> Generator[int]:
    pidfd = os.pidfd_open(os.getpid())
    try:
        yield pidfd
    finally:
        os.close(pidfd)


@contextmanager
def _here() -> Generator[int]:
    # As a descriptor, because it may have no path any more.
    cwd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield cwd
    finally:
        os.close(cwd)


def _request(launch: Launch) -> bytes:
    header = " ".join(map(str, (launch.wrappers, len(launch.command), *launch.fds)))
    fields = [header, *launch.command, *(f"{name}={value}" for name, value in launch.env.items())]
    if any("\0" in field for field in fields):
        raise ValueError("embedded null byte")
    return b"\0".join(map(_encoded, fields))


def _encoded(field: str) -> bytes:
    with suppress(UnicodeEncodeError):
        return os.fsencode(field)
    raise ValueError("a lone surrogate")  # the other error would show what it is in
