"""Everything in the README that can be run runs as it stands, with a scripted model."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from codex_actors.testing import CodexHome, ModelServer, Step, http_error, message, on, shell
from tests.integration.reader import Reader, blocks

README = Path(__file__).parents[2] / "README.md"
FIRST, STREAMED, REFUSED, WITHOUT_TRIO, TESTED = (it.text for it in blocks(README) if it.language == "python")
COMMANDS = next(it.text for it in blocks(README) if it.text.startswith("codex-actors run"))
USED_UP = http_error(429, "limit", type="usage_limit_reached", plan_type="plus", resets_at=1_893_456_000)


@pytest.fixture
async def read(
    model_server: ModelServer,
    make_codex_home: Callable[..., CodexHome],
    codex_binary: Path,
    workspace: Path,
):
    """Makes a reader, whose model says what it is told to."""
    await trio.run_process(["git", "init", "--quiet"], cwd=workspace)

    def read(*steps: Step) -> Reader:
        scenario = model_server.script("readme", *steps)
        return Reader(scenario, make_codex_home(scenario.url), codex_binary, workspace)

    return read


async def test_the_first_program_prints_what_codex_answered(read: Callable[..., Reader]):
    reader = read(message("It is a library."))
    assert await reader.run_program(FIRST) == "It is a library.\n"
    [request] = reader.model.requests
    assert request.prompt == "What does this repository do?"


async def test_the_streaming_program_prints_each_command_and_what_the_turn_came_to(
    read: Callable[..., Reader],
):
    first, last = (await read(shell("true"), message("Fixed.")).run_program(STREAMED)).splitlines()
    # The status is that of the machine's sandbox, which may well let nothing run at all.
    assert re.fullmatch(r"\S*bash -lc true -> \d+", first)
    assert last.startswith("Fixed. Usage(input_tokens=")
    assert last.endswith(" SideEffects.SEEN")


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (message("Gone on."), r"Gone on\."),
        (USED_UP, r"the plan is used up until Jan 1st, 2030 .*"),
        (http_error(400, "odd"), r"not completed: .*odd.* SideEffects\.\w+ False"),
    ],
)
async def test_the_program_that_catches_errors_tells_them_apart(
    answer: Step, printed: str, read: Callable[..., Reader]
):
    assert re.fullmatch(printed, (await read(answer).run_program(REFUSED)).strip())


async def test_the_program_without_trio_prints_the_answer_and_then_the_events(read: Callable[..., Reader]):
    printed = await read(message("A library."), message("By tests.")).run_program(WITHOUT_TRIO)
    assert printed.split() == [
        "A",
        "library.",
        *["ThreadStarted", "TurnStarted", "ItemCompleted", "TurnCompleted"],
    ]


async def test_the_commands_print_the_turn_and_its_lines_of_json(read: Callable[..., Reader]):
    reader = read(on("What does", message("A library.")), on("from the file", message("Done.")))
    (reader.workspace / "prompt.txt").write_text("from the file")
    output = await reader.run("bash", "-ec", COMMANDS)
    assert "● A library." in output
    assert output.splitlines()[-1].startswith('{"type":"result","outcome":"completed"')
    assert '"final_response":"Done."' in output


def test_the_example_of_a_test_passes(
    pytester: pytest.Pytester, codex_binary: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CODEX_ACTORS_TEST_BINARY", str(codex_binary))
    monkeypatch.setenv("HOME", str(pytester.path))
    pytester.run("git", "init", "--quiet")
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    pytester.makepyfile(TESTED)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
