# Writing that never blocks the event loop: whoever reads us may be slow, or paused in a pager, and Ctrl-C
# and deadlines have to work all the same.

import os
import select
import sys

import trio

# A pipe that is ready takes this much at once without blocking.
_CHUNK_BYTES = select.PIPE_BUF


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
            BrokenPipeError: Nobody reads any more.
        """
        async with self._one_writer:
            rest = memoryview(data)
            while rest:
                await self._wait_ready()
                rest = rest[os.write(self._fd, rest[:_CHUNK_BYTES]) :]

    async def write_text(self, text: str) -> None:
        """Write lines, as well as the terminal can show them.

        Raises:
            BrokenPipeError: Nobody reads any more.
        """
        await self.write(f"{text}\n".encode(sys.stdout.encoding, errors="replace"))

    async def _wait_ready(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except PermissionError:  # a file is always ready, and epoll refuses to say so
            await trio.lowlevel.checkpoint()
