import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors.cli._output import Output, OutputLostError, standard_output

Pipe = tuple[IO[bytes], IO[bytes]]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        yield reader, writer


async def test_all_of_it_is_written_however_slowly_it_is_read(pipe: Pipe):
    data = os.urandom(300_000)
    received = bytearray()

    async def read() -> None:
        while len(received) < len(data):
            await trio.lowlevel.wait_readable(pipe[0].fileno())
            received.extend(os.read(pipe[0].fileno(), 5_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await Output(pipe[1].fileno()).write(data)
    assert received == data


async def test_what_two_tasks_write_at_once_is_not_mixed(pipe: Pipe):
    output, received = Output(pipe[1].fileno()), bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.write, b"a" * 100_000)
        nursery.start_soon(output.write, b"b" * 100_000)
        while len(received) < 200_000:
            await trio.lowlevel.wait_readable(pipe[0].fileno())
            received.extend(os.read(pipe[0].fileno(), 65_536))
    assert bytes(received) in {b"a" * 100_000 + b"b" * 100_000, b"b" * 100_000 + b"a" * 100_000}


async def test_a_reader_that_has_stopped_reading_stops_nothing_else(pipe: Pipe, autojump_clock):
    """A pager that waits for its user: Ctrl-C and deadlines have to work all the same."""
    with trio.move_on_after(5) as scope:
        await Output(pipe[1].fileno()).write(bytes(10_000_000))
    assert scope.cancelled_caught


async def test_a_reader_that_has_left_is_an_error(pipe: Pipe):
    pipe[0].close()
    with pytest.raises(OutputLostError):
        await Output(pipe[1].fileno()).write(b"x")


async def test_a_reader_that_leaves_while_we_wait_is_an_error(pipe: Pipe):
    async def leave() -> None:
        await wait_all_tasks_blocked()
        pipe[0].close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        with pytest.raises(OutputLostError):
            await Output(pipe[1].fileno()).write(bytes(10_000_000))


async def test_files_can_be_written_too(tmp_path: Path):
    with (tmp_path / "out").open("wb") as file:
        await Output(file.fileno()).write(b"x" * 10_000)
        await Output(file.fileno()).write_text("end")
    assert (tmp_path / "out").read_bytes() == b"x" * 10_000 + b"end\n"


async def test_a_disk_that_is_full_is_said_to_be():
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OutputLostError, match="No space left on device") as lost:
        await Output(full).write(b"x")
    os.close(full)
    assert not lost.value.nobody_reads


def test_a_command_that_was_started_without_an_output_has_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(OutputLostError, match="Bad file descriptor"):
        standard_output()
