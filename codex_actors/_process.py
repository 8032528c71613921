# One OS process: started, read, and stopped by a ladder whose every step is finite. Nothing here
# knows what Codex is. Leaving `open_process`, for whatever reason, means that the process is reaped and
# its descriptors are closed.
#
# The input is an anonymous file instead of a pipe: nobody has to feed it, a child that never reads it
# blocks nobody, and there is no EPIPE.
#
# Ctrl-C is held back wherever a process could be lost by it; trio then raises it in the main task.

import errno
import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import IO

import structlog
import trio

from codex_actors import errors
from codex_actors._nursery import open_private_nursery

_log = structlog.get_logger("codex_actors")

# What our pipes hold at most, so that one read takes it all. Stdout's holds four times what is usual: a
# flood of events then costs a sixth less.
STDOUT_BYTES = 256 * 1024
STDERR_BYTES = 64 * 1024
MAX_STDERR_BYTES = 8 * 1024

_OUT_OF_SOMETHING = {
    errno.EMFILE: "too few file descriptors for this process; raise `ulimit -n` or run fewer turns at once",
    errno.ENFILE: "the machine is out of file descriptors",
    errno.ENOMEM: "the machine is out of memory",
    errno.EAGAIN: "too many processes for this user; raise `ulimit -u` or run fewer turns at once",
    errno.ENOSPC: "no space left for temporary data",
}


@contextmanager
def translate_os_errors(path: str) -> Generator[None]:
    """Turn what the operating system says when a process cannot be started into our errors."""
    try:
        yield
    except OSError as exc:
        # Without the frames inside Popen, whose locals hold the environment.
        raise (resource_limit(exc) or errors.SpawnError(path, exc)) from exc.with_traceback(None)


def resource_limit(error: OSError) -> errors.ResourceLimitError | None:
    """What the machine is out of, if that is what the operating system says."""
    if error.errno not in _OUT_OF_SOMETHING:
        return None
    return errors.ResourceLimitError(_OUT_OF_SOMETHING[error.errno], error.errno)


@contextmanager
def open_anonymous_file(data: bytes) -> Generator[int]:
    """Open a descriptor with `data` behind it that leaves nothing to clean up, even after a crash."""
    with ExitStack() as files:
        with translate_os_errors("a turn"):
            file = files.enter_context(_anonymous_file())
            file.write(data)
            file.seek(0)
        yield file.fileno()


def _anonymous_file() -> IO[bytes]:
    if sys.platform == "linux":
        return open(os.memfd_create("codex_actors"), "w+b")  # noqa: PTH123 - a descriptor has no path
    return tempfile.TemporaryFile()  # pragma: no cover - the tests run on Linux


class Process:
    """A running process; made by `open_process`.

    Attributes:
        pid: Its process id.
    """

    def __init__(
        self,
        process: trio.Process,
        *,
        stdout: int,
        stderr: int,
        absorb: Callable[[bytes], object],
        interrupt_seconds: float,
        kill_seconds: float,
    ) -> None:
        self.pid = process.pid
        self._process = process
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
    def returncode(self) -> int | None:
        """The exit status; negative is a signal number; None while it runs."""
        return self._process.returncode

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
        await self._process.wait()

    async def stop(self) -> None:
        """`end` the process and read what is left, when nobody else does any more."""
        async with open_private_nursery() as nursery:
            # Codex is deaf to SIGINT while it is blocked on its stdout.
            nursery.start_soon(self._absorb_stdout)
            nursery.start_soon(self.drain_stderr)
            await self.end()
        self._exited = True
        await self._absorb_stdout()
        self._read_stderr()

    async def end(self) -> None:
        """Interrupt the process, and kill it if it has not stopped `interrupt_seconds` later.

        Somebody must go on reading its output meanwhile.
        """
        if self._process.poll() is not None:
            return
        if self._grace_ends is None:
            self._grace_ends = trio.current_time() + self._interrupt_seconds
            self._process.send_signal(signal.SIGINT)
        with trio.move_on_at(self._grace_ends):
            await self._process.wait()
        self._process.kill()
        with trio.move_on_after(self._kill_seconds):
            await self._process.wait()
        if self._process.poll() is None:  # pragma: no cover - a process stuck in the kernel cannot be made
            _log.error("process.stuck", pid=self.pid, wait_seconds=self._kill_seconds)

    @trio.lowlevel.enable_ki_protection
    async def _absorb_stdout(self) -> None:
        while data := await self.receive_some():
            self._absorb(data)

    @trio.lowlevel.enable_ki_protection
    async def watch_exit(self) -> None:
        """Let nobody wait for output when the process is gone."""
        await self._process.wait()
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


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_process(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int,
    pass_fds: Sequence[int] = (),
    absorb: Callable[[bytes], object] = len,
    interrupt_seconds: float,
    kill_seconds: float,
) -> AsyncGenerator[Process]:
    """Start a process and see to it that it is gone when the block is left.

    It leads a session of its own, so that a terminal's Ctrl-C reaches it only through us. Leaving the
    block while it runs interrupts it, keeps reading what it writes, and kills it if it does not stop.

    Args:
        command: The executable and its arguments.
        env: Its whole environment.
        stdin: A descriptor that it reads from.
        pass_fds: More descriptors for it, under the same numbers.
        absorb: Takes what it had written to stdout when the block was left; forgotten by default.
        interrupt_seconds: How long it may take to stop after SIGINT.
        kill_seconds: How long the kernel may take to end it after SIGKILL.

    Raises:
        SpawnError: It cannot be started.
        ResourceLimitError: The machine is out of something.
    """
    with _pipes(command[0]) as (stdout, stderr, child_ends):
        with translate_os_errors(command[0]):
            running = await trio.lowlevel.open_process(
                command,
                env=env,
                stdin=stdin,
                stdout=child_ends[0],
                stderr=child_ends[1],
                pass_fds=pass_fds,
                start_new_session=True,
            )
        process = Process(
            running,
            stdout=stdout,
            stderr=stderr,
            absorb=absorb,
            interrupt_seconds=interrupt_seconds,
            kill_seconds=kill_seconds,
        )
        try:
            while child_ends:
                os.close(child_ends.pop())
            async with open_private_nursery() as nursery:
                nursery.start_soon(process.watch_exit)
                nursery.start_soon(process.drain_stderr)
                yield process
        finally:
            with trio.CancelScope(shield=True):  # bounded: each step of the ladder is
                await process.stop()


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
