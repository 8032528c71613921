import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from codex_actors.testing import (
    Act,
    closes_stdout,
    complains,
    dies,
    exits,
    fake_codex,
    hangs,
    ignores,
    leaves_child,
    reads_prompt,
    replays,
    writes,
)
from tests.leak_check import HAS_PROC


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def run(*acts: Act, prompt: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        fake = fake_codex(tmp_path / "bin", *acts)
        return subprocess.run(
            [fake, "exec", "--json"], input=prompt, capture_output=True, timeout=10, check=False
        )

    return run


def test_it_knows_its_version_whatever_it_does_otherwise(tmp_path):
    fake = fake_codex(tmp_path, hangs(), version="0.101.0")
    assert subprocess.check_output([fake, "--version"], timeout=10) == b"codex-cli 0.101.0\n"


def test_it_exits_with_success_unless_told_otherwise(run):
    assert run().returncode == 0


def test_it_does_its_acts_in_order(run, tmp_path):
    recording = tmp_path / "it's a recording.jsonl"
    recording.write_bytes(b'{"type":"turn.started"}\n')
    done = run(writes("before\n"), replays(recording), complains("dear me"), exits(3))
    assert (done.stdout, done.stderr, done.returncode) == (
        b'before\n{"type":"turn.started"}\n',
        b"dear me",
        3,
    )


@pytest.mark.parametrize(
    "output", [bytes(range(256)), "%s 'quoted' \\n $HOME `id` ü\u2028"], ids=["bytes", "text"]
)
def test_it_writes_every_byte_as_it_is(run, output):
    assert run(writes(output)).stdout == (output if isinstance(output, bytes) else output.encode())


def test_it_keeps_the_prompt_that_it_read(run, tmp_path):
    run(reads_prompt(tmp_path / "prompt"), prompt=b"do it")
    assert (tmp_path / "prompt").read_bytes() == b"do it"


def test_it_can_exit_without_reading_its_prompt(tmp_path):
    fake = fake_codex(tmp_path, exits(1))
    reader, writer = os.pipe()
    try:
        assert subprocess.run([fake], stdin=reader, timeout=10, check=False).returncode == 1
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_it_dies_by_a_signal(run, number):
    assert run(dies(number)).returncode == -number


async def test_it_hangs_until_it_is_stopped(tmp_path):
    async with started(fake_codex(tmp_path, writes("up"), hangs())) as (process, stdout):
        assert await stdout.receive_some() == b"up"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == -signal.SIGINT


@pytest.mark.skipif(not HAS_PROC, reason="asks /proc which signals are ignored")
async def test_it_can_be_deaf_to_everything_but_a_kill(tmp_path):
    fake = fake_codex(tmp_path, ignores(signal.SIGINT, signal.SIGTERM), writes("deaf"), hangs())
    async with started(fake) as (process, stdout):
        await stdout.receive_some()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert ignored_signals(process.pid) >= {signal.SIGINT, signal.SIGTERM}
        process.kill()
        assert await process.wait() == -signal.SIGKILL


async def test_it_lives_on_after_closing_its_stdout(tmp_path):
    async with started(fake_codex(tmp_path, writes("last words"), closes_stdout(), hangs())) as (
        process,
        stdout,
    ):
        assert await read_all(stdout) == b"last words"
        assert process.poll() is None


async def test_its_child_holds_stdout_after_its_own_end(tmp_path):
    pid_file = tmp_path / "pid"
    async with started(fake_codex(tmp_path / "bin", leaves_child(pid_file), exits(0))) as (process, stdout):
        assert await process.wait() == 0
        child = int(pid_file.read_text())
        os.kill(child, signal.SIGKILL)  # it exists, and only with it ends what reads stdout
        assert await read_all(stdout) == b""


@asynccontextmanager
async def started(fake: Path) -> AsyncGenerator[tuple[trio.Process, trio.abc.ReceiveStream]]:
    """Runs a fake whose stdout is a pipe; kills it in the end."""
    with trio.fail_after(10):
        process = await trio.lowlevel.open_process([fake], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        async with process.stdout:
            yield process, process.stdout
            process.kill()
            await process.wait()


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def ignored_signals(pid: int) -> set[int]:
    [mask] = [
        line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigIgn")
    ]
    return {number for number in range(1, 32) if int(mask, 16) >> (number - 1) & 1}
