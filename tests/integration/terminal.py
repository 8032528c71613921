"""A terminal, and a program that runs on it."""

import fcntl
import os
import pty
import struct
import termios
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio


class Terminal:
    """What a program writes to its terminal, and what is typed into it.

    Attributes:
        text: All that was written so far.
        status: The program's exit status, after it has ended.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.text = ""
        self.status: int | None = None

    async def read_until(self, text: str) -> str:
        """Read until the program has written this, or has ended."""
        with trio.fail_after(30):
            while text not in self.text and await self._read():
                pass
        assert text in self.text
        return self.text

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._fd, text.encode())

    async def read_to_end(self) -> None:
        """Read until nothing has the terminal open any more."""
        while await self._read():
            pass

    async def _read(self) -> bool:
        await trio.lowlevel.wait_readable(self._fd)
        try:
            self.text += os.read(self._fd, 65_536).decode(errors="replace")
        except OSError:  # how Linux says that nobody has it open any more
            return False
        return True


@asynccontextmanager
async def open_terminal(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, columns: int = 80
) -> AsyncGenerator[Terminal]:
    """Run a program on a terminal of its own; leaving waits for its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    terminal = Terminal(ours)
    try:
        async with trio.open_nursery() as nursery:
            run = partial(
                trio.run_process,
                command,
                env={"TERM": "xterm", **env},
                cwd=cwd,
                check=False,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                preexec_fn=_take_terminal,
            )
            process: trio.Process = await nursery.start(run)
            os.close(theirs)
            yield terminal
            with trio.fail_after(30):
                await terminal.read_to_end()
                terminal.status = await process.wait()
    finally:
        os.close(ours)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that its Ctrl-C is ours
