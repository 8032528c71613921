import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors.cli._output import Output


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


async def test_all_of_it_is_written_however_slowly_it_is_read(pipe: tuple[int, int]):
    data = os.urandom(300_000)
    received = bytearray()

    async def read() -> None:
        while len(received) < len(data):
            await trio.lowlevel.wait_readable(pipe[0])
            received.extend(os.read(pipe[0], 5_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await Output(pipe[1]).write(data)
    assert received == data


async def test_a_reader_that_has_stopped_reading_stops_nothing_else(pipe: tuple[int, int], autojump_clock):
    """A pager that waits for its user: Ctrl-C and deadlines have to work all the same."""
    with trio.move_on_after(5) as scope:
        await Output(pipe[1]).write(bytes(10_000_000))
    assert scope.cancelled_caught


async def test_a_reader_that_has_left_is_an_error(pipe: tuple[int, int]):
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        await Output(pipe[1]).write(b"x")


async def test_a_reader_that_leaves_while_we_wait_is_an_error(pipe: tuple[int, int]):
    async def leave() -> None:
        await wait_all_tasks_blocked()
        os.close(pipe[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        with pytest.raises(BrokenPipeError):
            await Output(pipe[1]).write(bytes(10_000_000))


async def test_files_can_be_written_too(tmp_path: Path):
    with (tmp_path / "out").open("wb") as file:
        await Output(file.fileno()).write(b"x" * 10_000)
        await Output(file.fileno()).write_text("end")
    assert (tmp_path / "out").read_bytes() == b"x" * 10_000 + b"end\n"
