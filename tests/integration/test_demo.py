"""The demo on the real Codex: what it shows, and that its last lines can be red."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from codex_actors.testing import Act, complains, exits, fake_codex
from tests.integration.command import COMMAND, signal_twice
from tests.integration.terminal import open_terminal

# What a Codex that leaves things behind would do: a process of its own, and a file in its TMPDIR.
LEAKING_CODEX = """\
#!/bin/sh
if [ "$1" = exec ]; then
    echo planted >"$TMPDIR/planted.txt"
    echo planted >"$CODEX_HOME/../project/stray.txt"
    echo "$CODEX_HOME" >{service}
fi
exec {codex} "$@"
"""

# What Codex's sandbox does where the system has no user namespaces for it.
CODEX_WITHOUT_SANDBOX = """\
#!/bin/sh
case "$*" in sandbox*|*read-only*|*workspace-write*) exit 1 ;; esac
exec {codex} "$@"
"""

ENV = {name: value for name, value in os.environ.items() if name not in {"CODEX_API_KEY", "NO_COLOR", "TERM"}}


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


async def run_demo(*arguments: str, **env: str) -> tuple[int, str]:
    with trio.fail_after(60):
        done = await trio.run_process(
            [*COMMAND, "demo", *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**ENV, **env},
        )
    return done.returncode, (done.stdout + done.stderr).decode()


TREE = """\
  supervision tree   restart    at work  at the end
  demo                          running  running
  ├─ model           permanent  running  running
  └─ codex           permanent  running  running
     ├─ backend      permanent  running  running
     └─ turns        permanent  running  running
        └─ 5 x turn  temporary  running  gone
"""


async def test_five_turns_end_as_they_should_and_nothing_is_left(codex_binary: Path):
    started_at = trio.current_time()
    status, text = await run_demo("--codex", str(codex_binary))
    assert status == 0, text
    assert trio.current_time() - started_at < 20, (
        "it takes 5 seconds on a machine that has nothing else to do"
    )
    assert "✗ $ python" in text, "the tests failed at first"
    told, table, tree, verdicts = text.split("\n\n")
    [pid] = re.findall(r"kill    \| ! we send SIGKILL to process (\d+)", told)
    assert f"kill    | · codex is process {pid}\n" in told
    assert re.search(r"kill    \| · side effects: none; done: 1 agent message, 1 command execution\n", told)
    _, inspect, repair, report, cancel, kill = table.splitlines()
    assert re.match(r"✓ inspect +completed +300 in, 30 out", inspect)
    assert re.match(r"✓ repair +completed +400 in, 40 out +seen", repair)
    assert re.match(r"✓ report +completed +200 in, 20 out", report)
    assert re.match(r"✓ cancel +TurnInterruptedError +not counted", cancel)
    assert re.match(r"✓ kill +ProcessKilledError +not counted +none", kill)
    assert f"{tree}\n" == TREE
    parsed, gone, killed, restarted, tests, changes, left, removed = verdicts.splitlines()
    assert parsed == "✓ structured output: Finding(file='prices.py', line=7, severity='high')"
    assert gone.startswith("✓ the cancelled turn was gone after ")
    assert re.fullmatch(r"✓ the killed turn was reported after .* s; turns that went on: [1-4]", killed)
    assert restarted == "✓ nothing had to be restarted, and no turn is left in the tree"
    assert tests == "✓ the project's tests failed before and pass now; we ran them outside Codex"
    assert changes == "✓ prices.py has changed in the project, and nothing else"
    assert left == "✓ no process and no temporary file is left"
    assert re.fullmatch(r"✓ /.*/codex-actors-demo-[\w-]+ is removed", removed)
    assert all(line.isprintable() for line in text.splitlines())
    assert max(map(len, text.splitlines())) < 110


@asynccontextmanager
async def starts_what_it_is_asked_for(fifo: Path) -> AsyncIterator[list[trio.Process]]:
    """A service that starts processes for others, as dockerd does: what nobody's containment can hold."""
    os.mkfifo(fifo)
    started: list[trio.Process] = []

    async def serve() -> None:
        async with trio.lowlevel.FdStream(os.open(fifo, os.O_RDWR | os.O_NONBLOCK)) as requests:
            async for homes in requests:
                for home in homes.decode().split():
                    env = {"CODEX_HOME": home}
                    started.append(await trio.lowlevel.open_process(("/bin/sleep", "600"), env=env))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield started
        nursery.cancel_scope.cancel()
    for process in started:
        process.kill()
        await process.wait()


async def test_what_is_planted_turns_its_line_red_and_the_status_to_1(codex_binary: Path, tmp_path: Path):
    codex = script(tmp_path / "codex", LEAKING_CODEX.format(codex=codex_binary, service=tmp_path / "service"))
    demo = open_terminal([*COMMAND, "demo", "--codex", str(codex)], ENV, tmp_path)
    async with starts_what_it_is_asked_for(tmp_path / "service") as planted, demo as terminal:
        text = await terminal.read_until("is removed")
    assert terminal.status == 1
    assert "\x1b[1;31m✗\x1b[0m left behind: " in text
    assert "\x1b[1;31m✗\x1b[0m changed in the project: prices.py, stray.txt" in text
    words = re.sub(r"\s+", " ", text.rpartition("left behind: ")[2])
    assert "temporary file planted.txt" in words
    assert len(planted) == 5
    assert all(f"process {process.pid} (sleep)" in words for process in planted)


async def test_a_demo_that_nobody_reads_any_more_ends_without_a_word(codex_binary: Path, tmp_path: Path):
    words = [*COMMAND, "demo", "--codex", str(codex_binary)]
    with (tmp_path / "stderr").open("wb") as stderr:
        async with trio.open_nursery() as nursery:
            run = partial(
                trio.run_process, words, stdout=subprocess.PIPE, stderr=stderr, check=False, env=ENV
            )
            process: trio.Process = await nursery.start(run)
            assert process.stdout is not None
            with trio.fail_after(60):
                await process.stdout.receive_some()
                await process.stdout.aclose()
                assert await process.wait() == 1
    assert (tmp_path / "stderr").read_bytes() == b""


async def test_without_a_sandbox_the_demo_says_so_and_does_without(codex_binary: Path, tmp_path: Path):
    codex = script(tmp_path / "codex", CODEX_WITHOUT_SANDBOX.format(codex=codex_binary))
    status, text = await run_demo("--codex", str(codex), "--keep")
    assert status == 0, text
    assert "! Codex's sandbox cannot work on this machine" in text
    assert "kill    | · side effects: seen; done: 1 agent message, 1 command execution" in text
    [kept] = re.findall(r"✓ kept, as you asked: (/.*)", text)
    assert "for price in prices:" in (Path(kept) / "project" / "prices.py").read_text()
    shutil.rmtree(kept)


@pytest.mark.parametrize("seconds", [0.9, 1.8])
async def test_a_demo_that_is_interrupted_leaves_nothing(seconds: float, codex_binary: Path):
    async with trio.open_nursery() as nursery:
        words = [*COMMAND, "demo", "--codex", str(codex_binary)]
        run = partial(trio.run_process, words, capture_stdout=True, capture_stderr=True, check=False, env=ENV)
        process = await nursery.start(run)
        with trio.fail_after(30):
            await trio.sleep(seconds)
            await signal_twice(process, signal.SIGINT)
            await process.wait()
    assert process.returncode == 130


async def test_the_real_service_needs_a_key():
    status, text = await run_demo("--live")
    assert (status, text) == (2, "codex-actors demo: --live needs a key in CODEX_API_KEY\n")


async def test_the_real_service_is_asked_with_the_key_and_a_home_of_its_own(tmp_path: Path):
    """Where there is no service to ask, a Codex that refuses shows what it was given."""
    seen = tmp_path / "seen"
    shows = Act(
        f'echo "$CODEX_API_KEY $CODEX_HOME" >>{seen}; grep -c model_provider $CODEX_HOME/config.toml >>{seen}'
    )
    codex = fake_codex(tmp_path, shows, complains("refused"), exits(1))
    status, text = await run_demo("--live", "--codex", str(codex), CODEX_API_KEY="a-key")
    assert status == 1
    for name in ("inspect", "repair", "report"):
        assert f"✗ the turn '{name}' did not complete but ended with " in text
    assert "✗ the turn 'cancel' was not cancelled but ended with " in text
    assert "✗ the turn 'kill' was not killed but ended with " in text
    assert "✗ the project's tests still fail; we ran them outside Codex" in text
    assert "✗ changed in the project: nothing" in text
    assert "✓ no process and no temporary file is left" in text
    assert seen.read_text().count("a-key /") == 5
    assert "\n0\n" in seen.read_text(), "it is not the scripted model that is asked"


async def test_a_model_can_only_be_chosen_where_there_is_one():
    status, text = await run_demo("--model", "m")
    assert (status, text.startswith("codex-actors demo: --model needs --live")) == (2, True)


async def test_without_codex_the_demo_says_what_to_do():
    status, text = await run_demo("--codex", "/no/such/codex")
    assert status == 1
    assert "no Codex binary found (looked at: /no/such/codex); install one with" in text


async def test_without_h11_the_demo_says_what_to_install():
    without = "import sys; sys.modules['h11'] = None; from codex_actors.cli import main; sys.exit(main())"
    done = await trio.run_process(
        [sys.executable, "-c", without, "demo"], capture_stderr=True, check=False, env=ENV
    )
    assert done.returncode == 2
    assert b"pip install 'codex-actors[testing]'" in done.stderr
