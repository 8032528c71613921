"""Everybody who watches over a turn is killed in one stroke; the next start cleans up."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from codex_actors import Codex, CodexOptions
from codex_actors._ownership import owner_of_process
from codex_actors.testing import CodexHome, ModelServer, message, on, shell
from tests.integration.command import COMMAND, Command
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")

# The one with a session of its own outlives whatever becomes of Codex.
VICTIM = "setsid sleep 600 & sleep 600"


@pytest.fixture
def command(
    model_server: ModelServer, make_codex_home: Callable[..., CodexHome], codex_binary: Path, workspace: Path
) -> Command:
    scenario = model_server.script("crash", on("run", shell(VICTIM)), message("done"))
    return Command(codex_binary, make_codex_home(scenario.url), workspace)


@asynccontextmanager
async def crashed(command: Command, *arguments: str) -> AsyncIterator[int]:
    """A process of a turn that has lost its host, its guard and its watcher at once."""
    async with trio.open_nursery() as nursery:
        words = (*COMMAND, *command.arguments(*arguments, prompt="run"))
        start = partial(
            trio.run_process,
            words,
            check=False,
            stdout=subprocess.DEVNULL,
            cwd=command.workspace,
            env=command.bare_env,
        )
        host = await nursery.start(start)
        with trio.fail_after(60):
            while (survivor := survivor_of(command)) is None:  # noqa: ASYNC110 - nobody says when
                await trio.sleep(0.01)
        turn = turn_of(command, host.pid)
        guards = {host.pid, *below(host.pid)} - turn
        send(guards, signal.SIGSTOP)  # so that nobody sees anybody else die
        send(guards, signal.SIGKILL)
    try:
        yield survivor
    finally:
        send(turn_of(command), signal.SIGKILL)


def turn_of(command: Command, *others: int) -> set[int]:
    """Who works with the turn's CODEX_HOME, but for others."""
    marker = f"CODEX_HOME={command.home.path}".encode()
    return {pid for pid in processes() if marker in environment(pid).split(b"\0")}.difference(others)


def survivor_of(command: Command) -> int | None:
    for pid in turn_of(command):
        with suppress(ProcessLookupError):
            if name_of(pid) == "sleep" and os.getsid(pid) == pid:
                return pid
    return None


def processes() -> Iterable[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def environment(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def below(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child, *below(child)}
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def test_the_next_runtime_kills_what_a_crash_has_left(command: Command):
    async with crashed(command) as survivor:
        assert survivor_of(command) == survivor
        assert owner_of_process(environment(survivor)) is not None, "commands inherit it"
        async with Codex(CodexOptions(codex_path=command.codex, codex_home=command.home.path)):
            with trio.fail_after(10):
                while turn_of(command):  # noqa: ASYNC110 - nobody says when
                    await trio.sleep(0.01)


async def clean(home: CodexHome) -> bytes:
    words = (*COMMAND, "janitor", "--codex-home", str(home.path))
    done = await trio.run_process(words, capture_stdout=True)
    return done.stdout


async def test_who_cleans_another_home_leaves_it_alone(
    command: Command, make_codex_home: Callable[..., CodexHome]
):
    async with crashed(command) as survivor:
        assert b"killed" not in await clean(make_codex_home("http://127.0.0.1:1"))
        assert survivor_of(command) == survivor


@pytest.mark.parametrize("options", [("--leftovers", "keep"), ("--allowed-leftovers", "no such")])
async def test_where_anything_may_stay_everything_is_spared(command: Command, options: tuple[str, str]):
    async with crashed(command, *options) as survivor:
        assert b"killed" not in await clean(command.home)
        assert survivor_of(command) == survivor
