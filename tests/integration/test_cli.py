"""The command on the real Codex: what it says, what it returns, and what it leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from codex_actors.testing import (
    CodexHome,
    ModelServer,
    Scenario,
    fake_codex,
    hang,
    http_error,
    message,
    on,
    reads_prompt,
    reply,
    shell,
    writes,
)
from tests.integration.command import COMMAND, Command, signal_twice
from tests.integration.terminal import open_terminal

STARTED = (
    '{"type":"thread.started","thread_id":"01999999-1111-7222-8333-444444444444"}\n{"type":"turn.started"}\n'
)
COMPLETED = '{"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":1}}\n'


@pytest.fixture
def scenario(model_server: ModelServer) -> Scenario:
    return model_server.script(
        "cli",
        on("say hello", message("hello\nyou")),
        on("try things", shell("echo out; echo bad >&2; exit 3"), message("It \x1b[31mfailed\x1b[0m.")),
        on("be refused", http_error(400, "no")),
        on("stay silent", reply(ending=hang())),
        on("run for ever", shell("sleep 600")),
        on("say it again", message("again")),
        message("no bugs found"),
    )


@pytest.fixture
def command(
    scenario: Scenario, make_codex_home: Callable[..., CodexHome], codex_binary: Path, workspace: Path
) -> Command:
    return Command(codex_binary, make_codex_home(scenario.url), workspace)


async def test_json_is_codex_own_events_and_then_the_result(command: Command):
    ended = await command.run("--json", prompt="say hello")
    assert (ended.status, ended.stderr) == (0, "")
    assert [line["type"] for line in ended.lines] == [
        "thread.started",
        "turn.started",
        "item.completed",
        "turn.completed",
        "result",
    ]
    assert ended.result["outcome"] == "completed"
    assert ended.result["thread_id"] == ended.lines[0]["thread_id"]
    assert ended.result["final_response"] == "hello\nyou"
    assert ended.result["usage"]["turn"]["input_tokens"] == 100
    assert command.locks == []


async def test_what_is_not_understood_and_what_is_no_event_is_in_the_json(command: Command, tmp_path: Path):
    codex = fake_codex(
        tmp_path / "bin", reads_prompt(), writes(STARTED + '{"type":"new"}\nnoise\n' + COMPLETED)
    )
    ended = await command.run("--json", codex=codex)
    assert [line["type"] for line in ended.lines][2:4] == ["unknown", "noise"]
    assert ended.lines[2]["raw"] == {"type": "new"}
    assert (ended.lines[3]["sample"], ended.lines[3]["size"]) == ("noise", 5)
    assert ended.status == 0


async def test_a_line_comes_as_soon_as_its_event(
    command: Command, model_server: ModelServer, make_codex_home: Callable[..., CodexHome]
):
    go_on = trio.Event()
    scenario = model_server.script("held", reply(go_on, message("late")))
    held = Command(command.codex, make_codex_home(scenario.url), command.workspace)
    async with trio.open_nursery() as nursery:
        words = (*COMMAND, *held.arguments("--json"))
        options = {"stdout": subprocess.PIPE, "cwd": held.workspace, "env": held.env}
        process = await nursery.start(partial(trio.run_process, words, **options))
        with trio.fail_after(30):
            received = b""
            while b"turn.started" not in received:
                received += await process.stdout.receive_some()
            go_on.set()
            while data := await process.stdout.receive_some():
                received += data
    assert received.endswith(b"\n")


async def test_lines_for_a_file_have_no_control_codes(command: Command):
    ended = await command.run(prompt="try things")
    first, *lines = ended.stdout.splitlines()
    assert first.startswith("· thread ")
    assert lines[:1] + lines[3:5] + lines[-1:] == [
        "… $ echo out; echo bad >&2; exit 3",
        lines[3],
        "● It failed.",
        "· side effects: seen",
    ]
    assert "✗ $ echo out; echo bad >&2; exit 3 (exit 3)" in lines
    assert lines[-2].startswith("✓ completed in ")
    assert lines[-2].endswith("tokens: 200 in, 20 out")
    assert all(line.isprintable() for line in lines)
    assert ended.status == 0


async def test_a_dash_reads_the_prompt_from_stdin(command: Command, scenario: Scenario):
    text = "say hello\n" + "ä" * 200_000
    ended = await command.run("--json", prompt="-", stdin=text.encode())
    assert ended.status == 0
    assert scenario.requests[-1].prompt == text


async def test_a_prompt_that_is_no_text_is_refused(command: Command, scenario: Scenario):
    ended = await command.run(prompt="-", stdin=b"\xff")
    assert (ended.status, len(scenario.requests)) == (2, 0)
    assert "PROMPT: on stdin is not UTF-8" in ended.stdout


async def test_a_turn_that_fails_exits_with_1_and_the_name_of_its_error(command: Command):
    ended = await command.run("--json", prompt="be refused")
    assert (ended.status, ended.result["outcome"], ended.result["retryable"]) == (
        1,
        "InvalidRequestError",
        False,
    )
    assert ended.result["exit_code"] == 1


async def test_a_deadline_ends_the_turn(command: Command):
    ended = await command.run("--json", "--deadline", "0.8", prompt="stay silent")
    assert (ended.status, ended.result["outcome"]) == (1, "TurnTimeoutError")
    assert (ended.result["deadline"], ended.result["seconds"]) == ("turn_seconds", 0.8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sandbox", "nonsense"), "argument -s/--sandbox: invalid choice: 'nonsense'"),
        (("--profile", "../x"), "--profile: must be a plain name"),
        (("--no-such-option",), "unrecognized arguments: --no-such-option"),
    ],
)
async def test_an_option_that_cannot_work_exits_with_2_before_anything_starts(
    arguments: tuple[str, ...], message: str, command: Command, scenario: Scenario
):
    ended = await command.run(*arguments)
    assert (ended.status, ended.stdout, len(scenario.requests)) == (2, "", 0)
    assert message in ended.stderr
    with_json = await command.run("--json", *arguments)
    assert (with_json.status, with_json.stderr, len(scenario.requests)) == (2, ended.stderr, 0)
    [result] = with_json.lines
    assert (result["type"], result["outcome"], result["side_effects"]) == ("result", "OptionError", "none")
    assert message in result["problem"]


async def test_what_turns_out_not_to_work_later_is_in_the_json_too(command: Command):
    ended = await command.run("--json", "--cd", "/no/such/directory")
    assert (ended.status, ended.result["outcome"]) == (2, "OptionError")
    ended = await command.run("--json", codex=Path("/no/such/codex"))
    assert (ended.status, ended.result["outcome"]) == (1, "CodexNotFoundError")
    assert ended.result["side_effects"] == "none"


async def test_warnings_of_the_library_stay_out_of_the_json(command: Command, tmp_path: Path):
    codex = fake_codex(tmp_path / "bin", reads_prompt(), writes(STARTED + COMPLETED), version="strange")
    ended = await command.run("--json", codex=codex)
    assert [line["type"] for line in ended.lines][-2:] == ["turn.completed", "result"]
    assert "codex.version_unknown" in ended.stderr


async def test_a_thread_is_gone_on_with(command: Command, scenario: Scenario):
    first = await command.run("--json", prompt="say hello")
    for arguments in (("--resume", first.result["thread_id"]), ("--last",)):
        again = await command.run("--json", *arguments, prompt="say it again")
        assert again.result["thread_id"] == first.result["thread_id"]
    fork = await command.run("--json", "--fork", first.result["thread_id"], prompt="say it again")
    assert fork.result["thread_id"] != first.result["thread_id"]
    assert "say hello" in str(scenario.requests[-1].field("input"))


async def test_a_thread_that_is_not_there_is_said_to_be(command: Command):
    ended = await command.run("--json", "--resume", "no such name")
    assert (ended.status, ended.result["outcome"]) == (1, "ThreadNotFoundError")


async def test_a_review_is_followed_as_any_turn_and_counts_no_tokens(command: Command):
    await trio.run_process(["git", "init", "--quiet"], cwd=command.workspace)
    (command.workspace / "new.py").write_text("import os\n")
    ended = await command.run("--json", "--review-uncommitted", prompt=None)
    assert ended.status == 0
    assert [line["type"] for line in ended.lines][:2] == ["thread.started", "turn.started"]
    assert ended.result["usage"] == {"thread": None, "turn": None}
    assert "no bugs found" in ended.result["final_response"]


# --- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_at_any_instant_twice_leaves_nothing_behind(
    number: signal.Signals, command: Command, scenario: Scenario
):
    """From before the command has begun to well into its turn; what is left, the leak check sees."""
    instants = [instant * 0.04 for instant in range(20 if number == signal.SIGINT else 6)]

    async def stop_after(seconds: float) -> None:
        output = command.workspace / f"output-{seconds}"
        with trio.fail_after(30), output.open("wb") as file:
            async with trio.open_nursery() as nursery:
                words = (*COMMAND, *command.arguments("--json", prompt="run for ever"))
                options = {"stdout": file, "capture_stderr": True, "cwd": command.workspace}
                run = partial(trio.run_process, words, check=False, env=command.bare_env, **options)
                process = await nursery.start(run)
                await trio.sleep(seconds)
                await signal_twice(process, number)
        # Before our first line runs, it is up to Python how it ends; struck twice, 3.11 may even crash.
        by_python = set() if output.stat().st_size else {-number, -signal.SIGSEGV, 1}
        assert process.returncode in {128 + number, *by_python}, seconds

    async with trio.open_nursery() as together:
        limit = trio.CapacityLimiter(3)
        for seconds in instants:
            together.start_soon(_limited, limit, partial(stop_after, seconds))
    assert command.locks == []


async def _limited(limit: trio.CapacityLimiter, run: Callable[[], object]) -> None:
    async with limit:
        await run()  # type: ignore[misc]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_turn_that_is_stopped_says_so_last(
    number: signal.Signals, command: Command, scenario: Scenario
):
    async with trio.open_nursery() as nursery:
        words = (*COMMAND, *command.arguments("--json", prompt="run for ever"))
        with (command.workspace / "out").open("wb") as out:
            run = partial(
                trio.run_process, words, check=False, env=command.env, stdout=out, cwd=command.workspace
            )
            process = await nursery.start(run)
        with trio.fail_after(30):
            await scenario.requests.wait(1)
            await signal_twice(process, number)
    assert process.returncode == 128 + number
    last = (command.workspace / "out").read_text().splitlines()[-1]
    assert '"outcome":"TurnInterruptedError"' in last


async def test_a_prompt_that_never_ends_can_be_interrupted(command: Command):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(65_536))
    async with trio.open_nursery() as nursery:
        words = (*COMMAND, *command.arguments(prompt="-"))
        run = partial(
            trio.run_process, words, check=False, env=command.env, stdin=reading, capture_stdout=True
        )
        process = await nursery.start(run)
        with trio.fail_after(30):
            await trio.lowlevel.wait_writable(writing)  # it has begun to read
            process.send_signal(signal.SIGINT)
            await process.wait()
    os.close(reading)
    os.close(writing)
    assert process.returncode == 130


async def test_a_reader_that_has_seen_enough_ends_the_turn(command: Command):
    words = " ".join(map(repr, (*COMMAND, *command.arguments("--json", prompt="try things"))))
    with trio.fail_after(30):
        done = await trio.run_process(
            ["bash", "-c", f"{words} | head -1; echo ${{PIPESTATUS[0]}}"],
            capture_stdout=True,
            capture_stderr=True,
            env=command.env,
            cwd=command.workspace,
        )
    first, status = done.stdout.decode().splitlines()
    assert "thread.started" in first
    assert status == "1"
    assert done.stderr == b""


# --- on a terminal -------------------------------------------------------------------------------


async def test_a_terminal_shows_what_is_going_on(command: Command):
    async with open_terminal(
        [*COMMAND, *command.arguments(prompt="try things")], command.env, command.workspace
    ) as tty:
        text = await tty.read_until("side effects: seen")
    assert tty.status == 0
    assert "\x1b[" in text
    assert "starting Codex" in text
    assert "\x1b[?25h" in text, "the cursor is there again"
    assert "It failed." in text


async def test_a_prompt_can_be_typed(command: Command):
    words = [*COMMAND, *command.arguments(prompt="-")]
    async with open_terminal(words, command.env, command.workspace) as tty:
        await tty.read_until("Ctrl-D")
        tty.type("say hello\n\x04")
        await tty.read_until("side effects")
    assert tty.status == 0


async def test_a_full_disk_ends_the_turn(command: Command):
    words = " ".join(map(repr, (*COMMAND, *command.arguments("--json", prompt="try things"))))
    done = await trio.run_process(
        ["bash", "-c", f"{words} >/dev/full"],
        capture_stderr=True,
        check=False,
        env=command.env,
        cwd=command.workspace,
    )
    assert done.returncode == 1
    assert done.stderr == b"codex-actors: cannot write to standard output: No space left on device\n"


async def test_ctrl_c_on_a_terminal_ends_the_turn_and_gives_the_terminal_back(
    command: Command, scenario: Scenario
):
    words = [*COMMAND, *command.arguments(prompt="run for ever")]
    async with open_terminal(words, command.env, command.workspace) as tty:
        await tty.read_until("$ sleep 600")
        tty.type("\x03")
        text = await tty.read_until("TurnInterruptedError")
    assert tty.status == 130
    assert "\x1b[?25h" in tty.text
    assert "Traceback" not in text


async def test_a_dumb_terminal_gets_plain_lines(command: Command):
    words = [*COMMAND, *command.arguments(prompt="say hello")]
    async with open_terminal(words, {**command.env, "TERM": "dumb"}, command.workspace) as tty:
        text = await tty.read_until("side effects")
    assert "\x1b" not in text


WITHOUT_RICH = (
    *(sys.executable, "-c"),
    "import sys; sys.modules['rich'] = None; from codex_actors.cli import main; sys.exit(main())",
)


async def test_without_rich_there_is_json_all_the_same(command: Command):
    ended = await command.run("--json", prompt="say hello", command=WITHOUT_RICH)
    assert (ended.status, ended.result["outcome"]) == (0, "completed")


async def test_without_rich_a_terminal_gets_plain_lines_and_a_hint(command: Command):
    words = [*WITHOUT_RICH, *command.arguments(prompt="say hello")]
    async with open_terminal(words, command.env, command.workspace) as tty:
        text = await tty.read_until("side effects")
    assert "pip install 'codex-actors[cli]'" in text
    assert "\x1b" not in text
    assert tty.status == 0
