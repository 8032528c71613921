# Writing that never blocks the event loop: whoever reads us may be slow, or paused in a pager, and Ctrl-C
# and deadlines have to work all the same.

import errno
import os
import select
import sys

import trio

# A pipe that is ready takes this much at once without blocking.
_CHUNK_BYTES = select.PIPE_BUF


class OutputLostError(Exception):
    """What we have to say can no longer be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.nobody_reads = isinstance(error, BrokenPipeError)


def standard_output() -> "Output":
    """Our standard output.

    Raises:
        OutputLostError: We were started without one.
    """
    # Not descriptor 1 by itself: if it was closed, it is something of ours by now.
    if sys.__stdout__ is None:
        raise OutputLostError(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    return Output(sys.__stdout__.fileno())


class Output:
    """A descriptor to write to.

    Args:
        fd: The descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._one_writer = trio.Lock()

    async def write(self, data: bytes) -> None:
        """Write all of it, and nobody else's in between.

        Raises:
            OutputLostError: It cannot be written, or nobody reads any more.
        """
        async with self._one_writer:
            rest = memoryview(data)
            while rest:
                await self._wait_ready()
                rest = rest[self._write_some(rest[:_CHUNK_BYTES]) :]

    async def write_text(self, text: str) -> None:
        """Write lines, as well as the terminal can show them.

        Raises:
            OutputLostError: It cannot be written, or nobody reads any more.
        """
        await self.write(f"{text}\n".encode(sys.stdout.encoding, errors="replace"))

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except OSError as exc:
            raise OutputLostError(exc) from exc

    async def _wait_ready(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except PermissionError:  # a file is always ready, and epoll refuses to say so
            await trio.lowlevel.checkpoint()
