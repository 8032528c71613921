# One process tree: started contained, read, stopped by a ladder whose every step is finite, and proven dead.
# Nothing here knows what Codex is. Leaving `Containment.open_process`, for whatever reason, means that
# nothing of the tree lives any more, as far as the means can see to that (`_guard`, `_group`), and that its
# descriptors are closed.
#
# The input is an anonymous file instead of a pipe: nobody has to feed it, a child that never reads it
# blocks nobody, and there is no EPIPE.
#
# Ctrl-C is held back wherever a process could be lost by it; trio then raises it in the main task.

import fcntl
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import structlog
import trio

from codex_actors import errors, options
from codex_actors._nursery import open_private_nursery
from codex_actors._process._files import open_anonymous_file, resource_limit, translate_os_errors
from codex_actors._process._group import ProcessGroup
from codex_actors._process._guard import GuardLostError, open_guard
from codex_actors._process._tree import Launch, Means, Tree
from codex_actors.results import Leftovers

__all__ = [
    "Containment",
    "Process",
    "open_anonymous_file",
    "resource_limit",
    "translate_os_errors",
]

_log = structlog.get_logger("codex_actors")

# What our pipes hold at most, so that one read takes it all. Stdout's holds four times what is usual: a
# flood of events then costs a sixth less.
STDOUT_BYTES = 256 * 1024
STDERR_BYTES = 64 * 1024
MAX_STDERR_BYTES = 8 * 1024

# Its root waits for an init of the new namespace, and that for the command.
_NAMESPACE = ("--unshare-pid", "--die-with-parent", "--dev-bind", "/", "/", "--proc", "/proc", "--")
_NAMESPACE_WRAPPERS = 2


class Process:
    """A running process; made by `Containment.open_process`.

    Attributes:
        leftovers: What it left behind; known when it is over.
        killed: Whether it had to be, because it did not stop in time.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        stdout: int,
        stderr: int,
        absorb: Callable[[bytes], object],
        may_stay: Sequence[str],
        keep: bool,
        interrupt_seconds: float,
        kill_seconds: float,
    ) -> None:
        self.leftovers = Leftovers()
        self.killed = False
        self._tree = tree
        self._may_stay = may_stay
        self._keep = keep
        self._stdout = stdout
        self._stderr = stderr
        self._absorb = absorb
        self._stderr_tail = b""
        self._interrupt_seconds = interrupt_seconds
        self._kill_seconds = kill_seconds
        self._grace_ends: float | None = None
        self._exited = False
        self._all_read = False
        self._waiting = trio.CancelScope()

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._tree.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; negative is a signal number; None while it runs."""
        return self._tree.returncode

    @property
    def stderr_tail(self) -> str:
        """The last of what it wrote to stderr, decoded leniently."""
        return self._stderr_tail.decode(errors="replace")

    async def receive_some(self) -> bytes:
        """Read from stdout; empty once all that the process wrote was read.

        That is at the end of the stream, or when the process is gone, whoever else still holds the pipe.
        """
        await trio.lowlevel.checkpoint()
        while not self._all_read:
            # One read takes all that it can have left in the pipe; whoever else writes there may never end.
            self._all_read = self._exited
            with suppress(BlockingIOError):
                return os.read(self._stdout, STDOUT_BYTES)
            if not self._all_read:
                with trio.CancelScope() as self._waiting:
                    await trio.lowlevel.wait_readable(self._stdout)
        return b""

    async def wait(self) -> None:
        """Wait until the process is gone."""
        await self._tree.wait_exit()

    async def stop(self) -> None:
        """`end` the process, clear what it leaves, and read the rest, when nobody else does any more."""
        async with open_private_nursery() as nursery:
            # Codex is deaf to SIGINT while it is blocked on its stdout.
            nursery.start_soon(self._absorb_stdout)
            nursery.start_soon(self.drain_stderr)
            nursery.start_soon(self._tree.watch)
            await self.end()
            await self._clear()
        self._exited = True
        await self._absorb_stdout()
        self._read_stderr()

    async def end(self) -> None:
        """Interrupt the process, and kill it if it has not stopped `interrupt_seconds` later.

        Somebody must go on reading its output meanwhile.
        """
        if self.returncode is not None:
            return
        if self._grace_ends is None:
            self._grace_ends = trio.current_time() + self._interrupt_seconds
            self._tree.interrupt()
        with trio.move_on_at(self._grace_ends):
            await self._tree.wait_exit()
        if self.returncode is None:
            self.killed = True
            self._tree.kill()
            with trio.move_on_after(self._kill_seconds):
                await self._tree.wait_exit()

    async def _clear(self) -> None:
        ended_by_itself = self._grace_ends is None
        may_stay = ("*",) if self._keep and ended_by_itself else self._may_stay
        with trio.move_on_after(self._kill_seconds) as clearing:
            self.leftovers = await self._tree.clear(may_stay)
        if (
            clearing.cancelled_caught
        ):  # the kernel does not let go of somebody, or it is another user's by now
            _log.error("process.stuck", pid=self.pid, wait_seconds=self._kill_seconds)

    @trio.lowlevel.enable_ki_protection
    async def _absorb_stdout(self) -> None:
        while data := await self.receive_some():
            self._absorb(data)

    @trio.lowlevel.enable_ki_protection
    async def watch_exit(self) -> None:
        """Let nobody wait for output when the process is gone."""
        await self._tree.wait_exit()
        self._exited = True
        self._waiting.cancel()

    @trio.lowlevel.enable_ki_protection
    async def drain_stderr(self) -> None:
        """Keep stderr from filling up, which would block the process."""
        while self._read_stderr():
            await trio.lowlevel.wait_readable(self._stderr)

    def _read_stderr(self) -> bool:
        """Take what the pipe holds; False at the end of the stream."""
        with suppress(BlockingIOError):
            data = os.read(self._stderr, STDERR_BYTES)
            self._stderr_tail = (self._stderr_tail + data)[-MAX_STDERR_BYTES:]
            return bool(data)
        return True


class Containment:
    """Starts processes so that what they cause does not outlive them.

    Args:
        means: How; ``"auto"`` is the best that does not change what the processes may do.
        spawn_seconds: How long it may take to start one.
        kill_seconds: How long the kernel may take to end one after SIGKILL.
    """

    def __init__(
        self,
        means: options.Containment,
        *,
        spawn_seconds: float,
        kill_seconds: float,
    ) -> None:
        self._wanted = means
        self._spawn_seconds = spawn_seconds
        self._kill_seconds = kill_seconds
        self._means: Means | None = None
        self._ready = trio.Event()

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Be ready to start processes, until cancelled.

        Raises:
            ContainmentError: The means that is wanted is not to be had here.
            GuardLostError: The guard was killed; call again for another one.
        """
        if self._wanted != "process-group":
            try:
                await self._serve_guard(task_status)
            except errors.ContainmentError as exc:
                if self._wanted != "auto":
                    raise
                _log.warning("containment.weakened", problem=exc.problem)
        await self._offer(ProcessGroup(), task_status)

    async def _serve_guard(self, task_status: trio.TaskStatus[None]) -> None:
        async with open_guard(spawn_seconds=self._spawn_seconds, kill_seconds=self._kill_seconds) as guard:
            if self._wanted == "auto":
                self._wanted = "subreaper"  # what worked once must work again
            await self._offer(guard, task_status)

    async def _offer(self, means: Means, task_status: trio.TaskStatus[None]) -> None:
        self._means = means
        self._ready.set()
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self._means, self._ready = None, trio.Event()

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def open_process(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int,
        pass_fds: Sequence[int] = (),
        absorb: Callable[[bytes], object] = len,
        may_stay: Sequence[str] = (),
        keep: bool = False,
        bwrap: str | None = None,
        interrupt_seconds: float,
    ) -> AsyncGenerator[Process]:
        """Start a process and see to it that nothing of it is left when the block is left.

        It leads a session of its own, so that a terminal's Ctrl-C reaches it only through us. Leaving the
        block while it runs interrupts it, keeps reading what it writes, and kills it if it does not stop.
        What it has started is killed then too.

        Args:
            command: The executable and its arguments.
            env: Its whole environment.
            stdin: A descriptor that it reads from.
            pass_fds: More descriptors for it, under the same numbers.
            absorb: Takes what it had written to stdout when the block was left; forgotten by default.
            may_stay: Patterns, as the shell's, of names and command lines that it may leave running.
            keep: Whether all may stay, if it ends by itself.
            bwrap: Runs it in a process namespace, if given.
            interrupt_seconds: How long it may take to stop after SIGINT.

        Raises:
            SpawnError: It cannot be started.
            ResourceLimitError: The machine is out of something.
        """
        with _pipes(command[0]) as (stdout, stderr, child_ends):
            fds = {0: stdin, 1: child_ends[0], 2: child_ends[1], **{fd: fd for fd in pass_fds}}
            tree = await self._start(_launch(command, env, fds, bwrap))
            process = Process(
                tree,
                stdout=stdout,
                stderr=stderr,
                absorb=absorb,
                may_stay=may_stay,
                keep=keep,
                interrupt_seconds=interrupt_seconds,
                kill_seconds=self._kill_seconds,
            )
            try:
                while child_ends:
                    os.close(child_ends.pop())
                async with open_private_nursery() as nursery:
                    nursery.start_soon(tree.watch)
                    nursery.start_soon(process.watch_exit)
                    nursery.start_soon(process.drain_stderr)
                    await self._see_started(command[0], tree)
                    yield process
            finally:
                with trio.CancelScope(shield=True):  # bounded: each step of the ladder is
                    await process.stop()
                tree.close()

    async def _see_started(self, path: str, tree: Tree) -> None:
        with translate_os_errors(path), trio.move_on_after(self._spawn_seconds):
            return await tree.wait_started()
        raise errors.SpawnError(path, TimeoutError(f"it was not started within {self._spawn_seconds:g} s"))

    async def _start(self, launch: Launch) -> Tree:
        path = launch.command[0]
        with translate_os_errors(path), trio.move_on_after(self._spawn_seconds):
            while True:
                await self._ready.wait()
                if self._means is not None:
                    with suppress(GuardLostError):  # there will be another one
                        return await self._means.start(launch)
                await trio.lowlevel.checkpoint()
        raise errors.SpawnError(path, TimeoutError("nothing is there to contain it"))


def _launch(
    command: Sequence[str], env: Mapping[str, str], fds: Mapping[int, int], bwrap: str | None
) -> Launch:
    if bwrap is None:
        return Launch(command=command, env=env, fds=fds)
    return Launch(command=(bwrap, *_NAMESPACE, *command), env=env, fds=fds, wrappers=_NAMESPACE_WRAPPERS)


@contextmanager
def _pipes(path: str) -> Generator[tuple[int, int, list[int]]]:
    fds: list[int] = []
    child_ends: list[int] = []
    try:
        with translate_os_errors(path):
            for size in (STDOUT_BYTES, STDERR_BYTES):
                ours, theirs = os.pipe()
                fds.append(ours)
                child_ends.append(theirs)
                os.set_blocking(ours, False)
                _resize(ours, size)
        yield fds[0], fds[1], child_ends
    finally:
        for fd in fds + child_ends:
            os.close(fd)


def _resize(pipe: int, size: int) -> None:
    if sys.platform == "linux":  # pragma: no branch - elsewhere, no pipe holds more than 64 KiB
        # Growing is refused to users whose pipes already hold very much; this one then holds less.
        with suppress(PermissionError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
