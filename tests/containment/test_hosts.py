"""Hosts that are not as one would have them: containment holds in each, and Codex still stops gracefully."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from codex_actors import Codex
from codex_actors.options import CodexOptions
from codex_actors.testing import Act, ModelServer, writes
from tests.containment.judge import Victim, until
from tests.containment.stage import ROOT, Cast, open_program, set_stage
from tests.containment.storm import in_between
from tests.fakes import COMPLETED, DONE, STARTED, THREAD, fake_options, line, said
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")

# Asks for a turn and leaves it when Codex and its victim are there; then says so.
PROGRAM = """
import os, signal, sys, tempfile
sys.path[:0] = {path!r}
{peculiarity}
import trio
from codex_actors import Codex
from codex_actors.options import CodexOptions, ThreadOptions

async def main(codex, home, cwd):
    async with Codex(CodexOptions(codex_path=codex, codex_home=home)) as codex:
        async with codex.start_thread(ThreadOptions(cwd=cwd)).run_streamed("go") as turn:
            async for event in turn:
                if type(event).__name__ == "ItemCompleted":
                    break
    os._exit(7)

trio.run(main, *sys.argv[1:])
"""

PECULIARITIES = {
    "it blocks SIGINT": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})",
    "it blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "it ignores SIGINT": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "it ignores its children": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "its directory is gone": "d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)",
    "it has 3000 descriptors open": "[os.set_inheritable(os.dup(2), True) for _ in range(3000)]",
    "its umask lets nobody in": "os.umask(0o777)",
    "it has no environment": "os.environ.clear()",
}
PYTHON = (sys.executable,)
CLOSED = {"stdin": "<&-", "stdin and stdout": "<&- >&-", "all three": "<&- >&- 2>&-"}
# Without it, structlog's own defaults have nowhere to write to.
HAS_STDOUT = "sys.stdout = sys.stdout or open(os.devnull, 'w')"


async def run_peculiar(
    directory: Path, peculiarity: str, python: Sequence[str] = PYTHON
) -> tuple[int, Victim, bool]:
    """Run the program; returns its status, the victim, and whether Codex heard the graceful SIGINT."""
    victim, heard = Victim(directory / "lock", 1), directory / "heard"
    acts = (
        writes(STARTED),
        Act(f"trap 'echo INT >{heard}; exit 0' INT"),
        Act(victim.command("server")),
        Act(f"while ! grep -q daemon {victim.lock}; do sleep 0.01; done"),
        writes(said("it is there")),
        Act("while :; do sleep 0.01; done"),
    )
    options = fake_options(directory, *acts)
    program = PROGRAM.format(path=[str(ROOT), *filter(None, sys.path)], peculiarity=peculiarity)
    words = (*python, "-c", program, options.codex_path, options.codex_home, directory)
    with trio.fail_after(60):
        done = await trio.run_process([*map(str, words)], check=False, stdin=subprocess.DEVNULL)
    return done.returncode, victim, heard.exists()


@pytest.mark.parametrize("peculiarity", PECULIARITIES.values(), ids=PECULIARITIES)
async def test_whatever_the_host_is_like_codex_hears_that_it_should_stop(peculiarity, tmp_path):
    status, victim, heard = await run_peculiar(tmp_path, peculiarity)
    assert status == 7
    assert victim.is_dead()
    assert heard


@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED)
async def test_a_host_whose_streams_are_closed_is_a_host_too(closed, tmp_path):
    python = ("/bin/sh", "-c", f'exec "$@" {closed}', "sh", *PYTHON)
    status, victim, heard = await run_peculiar(tmp_path, HAS_STDOUT, python)
    assert status == 7
    assert victim.is_dead()
    assert heard


@pytest.mark.parametrize("flags", [("-S",), ("-I",), ("-I", "-S"), ("-O",), ("-X", "dev")], ids=" ".join)
async def test_a_host_whose_python_is_started_otherwise_is_a_host_too(flags, tmp_path):
    status, victim, heard = await run_peculiar(tmp_path, "", (sys.executable, *flags))
    assert status == 7
    assert victim.is_dead()
    assert heard


async def test_a_fork_that_holds_all_the_host_has_does_not_keep_its_turns_alive(tmp_path: Path):
    victim = Victim(tmp_path / "lock")
    options = fake_options(tmp_path, writes(line("thread.started", thread_id=THREAD)), Act(victim.command()))
    forks = "                if os.fork() == 0: os.mkdir('forked'); signal.pause()\n"
    program = PROGRAM.format(path=[str(ROOT), *filter(None, sys.path)], peculiarity="")
    before, condition, after = program.partition("                if type(event)")
    program = before + forks + condition + after
    words = (sys.executable, "-c", program, options.codex_path, options.codex_home, tmp_path)
    host = await trio.lowlevel.open_process([*map(str, words)], start_new_session=True, cwd=tmp_path)
    try:
        await victim.wait_alive()
        await until((tmp_path / "forked").exists)
        host.kill()
        assert await victim.wait_dead(5)
    finally:
        os.killpg(host.pid, signal.SIGKILL)  # the fork
        await host.wait()


async def test_two_hosts_do_not_know_each_other(
    tmp_path: Path, codex_binary: Path, model_server: ModelServer
):
    cast = Cast(kind="fake", sandbox="danger-full-access", containment="subreaper")
    places = tmp_path / "one", tmp_path / "other"
    for place in places:
        place.mkdir()
    with (
        set_stage(cast, places[0], codex_binary, model_server) as one,
        set_stage(cast, places[1], codex_binary, model_server) as other,
    ):
        async with open_program(one.plan) as host, open_program(other.plan):
            victims = [victim for stage in (one, other) for victim in stage.victims.values()]
            for victim in victims:
                await victim.wait_alive()
            host.kill()
            assert [await victim.wait_dead(5) for victim in victims[:2]] == [True, True]
            assert [victim.has_grown() for victim in victims[2:]] == [True, True]


async def test_two_runtimes_of_one_host_do_not_know_each_other(tmp_path: Path):
    one, other = Victim(tmp_path / "one.lock"), Victim(tmp_path / "other.lock")
    acts = (Act("read -r who || :"), writes(STARTED), Act(f"{one.command()[: -len('one.lock family')]}$who"))
    options = fake_options(tmp_path, *acts)
    async with Codex(options) as stays, stays.start_thread().run_streamed(f"{other.lock.name}"):
        async with Codex(options) as goes, goes.start_thread().run_streamed(f"{one.lock.name}"):
            await one.wait_alive()
            await other.wait_alive()
            guards = in_between()[0]
            assert len(guards) == 2
        assert one.is_dead()
        assert other.has_grown()
    assert other.is_dead()


async def test_an_environment_of_300_kilobytes_arrives(tmp_path: Path):
    seen = tmp_path / "seen"
    options = fake_options(
        tmp_path,
        Act(f'echo "${{#ONE}} ${{#TWO}} ${{#THREE}}" >{seen}'),
        writes(DONE),
        env=dict.fromkeys(("ONE", "TWO", "THREE"), "x" * 100_000),
    )
    async with Codex(options) as codex:
        await codex.start_thread().run("go")
    assert seen.read_text() == "100000 100000 100000\n"


async def test_guard_and_watchers_show_nothing_of_the_host_or_its_turns(tmp_path, monkeypatch):
    monkeypatch.setenv("HOST_SECRET", "a-secret")
    victim = Victim(tmp_path / "lock")
    acts = (writes(STARTED), Act(f"{victim.command()} &"), Act("sleep 60"), writes(COMPLETED))
    options: CodexOptions = fake_options(
        tmp_path, *acts, api_key="a-secret", env={"TOKEN": "a-secret"}, inherit_env="all"
    )
    async with Codex(options) as codex, codex.start_thread().run_streamed("a-secret"):
        await victim.wait_alive()
        guards, watchers, trees = in_between()
        assert (len(guards), len(watchers)) == (1, 2), "one watches, one waits"
        assert any("a-secret" in word for pid in trees for word in _entry(pid, "environ")), "to be seen"
        for pid in (*guards, *watchers):
            assert not any("a-secret" in word for word in _entry(pid, "environ") + _entry(pid, "cmdline"))
            names = {word.partition("=")[0] for word in _entry(pid, "environ")}
            measuring = {name for name in names if name.startswith("COVERAGE_")}
            assert names <= HARMLESS | measuring


# The way to Python's libraries and to programs.
HARMLESS = {"", "LC_CTYPE", "PATH", "LD_LIBRARY_PATH"}


def _entry(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_text().split("\0")
