"""Every example runs as it stands, on the real Codex and a scripted model."""

import ast
import json
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
import trio

from codex_actors.testing import (
    CodexHome,
    Item,
    ModelRequest,
    ModelServer,
    On,
    Scenario,
    Step,
    apply_patch,
    cut,
    http_error,
    message,
    on,
    reasoning,
    reply,
    shell,
    update_plan,
    web_search,
)
from tests.integration.asking import git

EXAMPLES = Path(__file__).parents[2] / "examples"
GREETING = "*** Begin Patch\n*** Add File: hello.txt\n+Hello.\n*** End Patch\n"
CALC = "def add(a, b):\n    return a - b\n"
MENDED = (
    "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch\n"
)
TEST_CALC = """\
import unittest
from calc import add

class Adds(unittest.TestCase):
    def test_adds(self):
        self.assertEqual(add(2, 2), 4)
"""


def picture() -> bytes:
    """A red dot as a PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def names_its_model(request: ModelRequest) -> Item:
    return message(f"It is {request.field('model')} who speaks.")


def comes_round(request: ModelRequest) -> Item:
    """A reviewer who has an objection, once."""
    objected = "No tests." in str(request.field("input"))
    verdict = {"approved": objected, "objections": [] if objected else ["No tests."]}
    return message(json.dumps(verdict))


class Story(msgspec.Struct):
    """What an example meets, and what has to come of it.

    Attributes:
        steps: What the model says.
        prints: What it writes, a pattern for each line, in this order and perhaps with more in between; with
            ``!`` before it, anywhere.
        arguments: Its arguments.
        given: What it reads.
        files: What is there when it begins, in a repository, all of it committed.
        variables: Of its environment.
        leaves: Files that are there in the end, and what is in them.
    """

    steps: Sequence[Step | On]
    prints: Sequence[str]
    arguments: Sequence[str] = ()
    given: str = ""
    files: Mapping[str, str | bytes] = {}
    variables: Mapping[str, str] = {}
    leaves: Mapping[str, str] = {}


STORIES: dict[str, Story] = {
    "basic": Story([message("It is a library.")], ["It is a library\\.", r"tokens: Usage\(input_tokens=.*"]),
    "streaming": Story(
        [shell("ls"), message("nothing")],
        [r"\$ /bin/bash -lc ls", "-> 0", "stopped; go on with thread 0.*"],
    ),
    "side_by_side": Story(
        [
            on("tested", message("All of it.")),
            on("documented", http_error(400, "no")),
            on("missing", message("Nothing.")),
        ],
        [
            "!What is tested here. All of it.",
            "!What is documented here. InvalidRequestError: .*",
            "!What is missing here. Nothing.",
        ],
    ),
    "structured_output": Story(
        [
            message('{"summary": "Nearly.", "findings": "none"}'),
            message(
                '{"summary": "Good.", "findings": ['
                '{"file": "b.py", "problem": "a typo", "severity": "low", "line": 7},'
                '{"file": "a.py", "problem": "a crash", "severity": "high", "line": null}]}'
            ),
        ],
        ["Good.", "high: a.py:- a crash", "low: b.py:7 a typo"],
    ),
    "telemetry_handler": Story(
        [
            on("for?", shell("ls"), message("A library.")),
            on("tests?", message("pytest.")),
            on("refuse?", http_error(400, "no")),
        ],
        [
            "turns: .*'completed': 2.*",
            "items: .*'agent_message': 2.*",
            "output tokens: 30, seconds: .*",
        ],
    ),
    "all_items": Story(
        [
            reply(reasoning("A file will do."), update_plan({"write": "in_progress", "check": "pending"})),
            reply(web_search("greetings"), apply_patch(GREETING)),
            shell("cat hello.txt"),
            update_plan({"write": "completed", "check": "completed"}),
            message("The world is greeted."),
        ],
        [
            "thought      A file will do.",
            "searched     greetings",
            r"files        add .*hello.txt \(completed\)",
            r"ran          .*cat hello.txt.* -> 0",
            "said         The world is greeted.",
            "plan         2 of 2 done",
        ],
        leaves={"hello.txt": "Hello.\n"},
    ),
    "progressive_display": Story(
        [
            update_plan({"write": "in_progress", "check": "pending"}),
            apply_patch(GREETING),
            update_plan({"write": "completed", "check": "in_progress"}),
            shell("cat hello.txt"),
            update_plan({"write": "completed", "check": "completed"}),
            message("The world is greeted."),
        ],
        [
            r"\[\.{20}\] +\d+ s  write",
            r"\[\.{20}\] +\d+ s  1 files changed",
            r"\[#{10}\.{10}\] +\d+ s  check",
            r"\[#{10}\.{10}\] +\d+ s  \$ .*cat hello.txt.*",
            r"\[#{20}\] +\d+ s  finishing",
            "The world is greeted.",
        ],
    ),
    "stateful_streaming": Story(
        [apply_patch(GREETING), message("Written."), shell("exit 3"), message("Checked.")],
        [
            "running: .*exit 3.*",
            "files: hello.txt",
            "failed: .*exit 3.* -> 3.*",
            r"said: Written. / Checked.  \(40 tokens\)",
        ],
    ),
    "multi_turn": Story(
        [message("README.md."), message("It says most."), message("Clarity.")],
        [
            "> Which file here .*",
            "README.md.",
            "  10 tokens of output, 10 so far",
            "> Why that one.",
            "It says most.",
            "  10 tokens of output, 20 so far",
            "Clarity.",
            "go on later with thread 0.*",
        ],
    ),
    "file_operations": Story(
        [
            apply_patch(
                "*** Begin Patch\n*** Add File: greeting.py\n+def greet(name): ...\n"
                "*** Delete File: old.txt\n*** End Patch\n"
            ),
            message("Done."),
        ],
        [
            "!add    greeting.py",
            "!delete old.txt",
            "side effects seen: True",
            "there now: greeting.py",
            r"def greet\(name\): ...",
        ],
    ),
    "review_before_apply": Story(
        [apply_patch(MENDED), message("It subtracted.")],
        ["It subtracted.", r"diff --git a/calc.py b/calc.py", r"\+    return a \+ b", ".*applied"],
        given="y\n",
        files={"calc.py": CALC},
        leaves={"calc.py": CALC.replace("-", "+")},
    ),
    "monitor_commands": Story(
        [
            shell("python3 -m unittest"),
            apply_patch(MENDED),
            shell("python3 -m unittest"),
            shell("false"),
            message("All well."),
        ],
        [
            r"\$ .*python3 -m unittest.*",
            r"  failed, status 1, .*: FAILED \(failures=1\)",
            r"\$ .*python3 -m unittest.*",
            "  ok, .*: OK",
            r"  failed, status 1, .*: \(no output\)",
            "All well.",
            "tests: passed",
        ],
        files={"calc.py": CALC, "test_calc.py": TEST_CALC},
    ),
    "error_recovery": Story(
        [
            on("greeting", apply_patch(GREETING), http_error(503, "busy")),
            on("cut off", message("It was all done.")),
        ],
        ["attempt 1: OverloadedError, side effects seen", "It was all done."],
        leaves={"hello.txt": "Hello.\n"},
    ),
    "validate_input_and_result": Story(
        [
            message('{"version": "two", "reason": "new", "is_breaking": false}'),
            message('{"version": "1.3.0", "reason": "new", "is_breaking": true}'),
            message('{"version": "2.0.0", "reason": "new", "is_breaking": true}'),
        ],
        [
            "refused: ThreadOptions.cwd - there is no directory no-such-directory",
            "not accepted: 'two' is not of the form 1.2.3",
            "not accepted: a breaking change needs a new first number",
            r"Release\(version='2.0.0', reason='new', is_breaking=True\)",
        ],
    ),
    "environment_config": Story(
        [names_its_model],
        ["model: gpt-5.5-mini sandbox: read-only", "key: Codex's own", "It is gpt-5.5-mini who speaks."],
        variables={"REVIEWER_MODEL": "gpt-5.5-mini"},
    ),
    "compare_models": Story(
        [names_its_model, names_its_model],
        [
            r"gpt-5.5 {10} +\d\.\d s +10 tokens  It is gpt-5.5 who speaks.",
            r"gpt-5.5-mini {5} +\d\.\d s +10 tokens  It is gpt-5.5-mini who speaks.",
        ],
    ),
    "agent_collaboration": Story(
        [
            on("Write a function", message("Written.")),
            on("Review", comes_round),
            on("objects", message("Tests are there.")),
        ],
        [
            "author    Written.",
            "reviewer  No tests.",
            "author    Tests are there.",
            "reviewer  approved, in round 2",
        ],
    ),
    "images": Story(
        [message("A red dot.")],
        ["A red dot."],
        arguments=["dot.png"],
        files={"dot.png": picture()},
    ),
    "supervised_service": Story(
        [
            on("here", message("A library.")),
            on("tested", message("All of it.")),
            on("refused", http_error(400, "no")),
        ],
        [
            "!What is here. -> A library.",
            "!What is tested. -> All of it.",
            "!What is refused. -> InvalidRequestError",
            "stopped in order",
        ],
        given="What is here?\nWhat is tested?\nWhat is refused?\n",
    ),
    "testing_your_code": Story([], ["3 passed in .*"]),
    "save_and_resume": Story(
        [message("I will.")],
        ["a new conversation", "I will."],
    ),
}


class Table:
    """Where an example is run: a repository, a model, and a Codex on the PATH that knows no other one.

    Args:
        workspace: The repository.
        home: Codex's.
        codex: The real Codex.
        scenario: What the model says.
    """

    def __init__(self, workspace: Path, home: CodexHome, codex: Path, scenario: Scenario) -> None:
        self.workspace = workspace
        self.scenario = scenario
        self._environment = {
            **os.environ,
            **home.environment,
            "HOME": str(home.path),
            "PATH": f"{codex.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CODEX_ACTORS_TEST_BINARY": str(codex),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        return {**self._environment, **variables}

    async def run(self, name: str, *arguments: str, given: str = "", **variables: str) -> tuple[str, int]:
        """Run an example; what it wrote, and its exit status."""
        with trio.fail_after(90):
            done = await trio.run_process(
                self.command(name, *arguments),
                cwd=self.workspace,
                env=self.environment(**variables),
                stdin=given.encode(),
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        return done.stdout.decode(), done.returncode


@pytest.fixture
async def lay(
    model_server: ModelServer,
    make_codex_home: Callable[..., CodexHome],
    codex_binary: Path,
    workspace: Path,
):
    """Lays the table for an example."""

    async def lay(steps: Sequence[Step | On], files: Mapping[str, str | bytes] | None = None) -> Table:
        for name, content in (files or {}).items():
            (workspace / name).write_bytes(content.encode() if isinstance(content, str) else content)
        git("init", "--quiet", cwd=workspace)
        git("add", "--all", cwd=workspace)
        git("commit", "--quiet", "--allow-empty", "--message", "begin", cwd=workspace)
        scenario = model_server.script("example", *steps)
        return Table(workspace, make_codex_home(scenario.url), codex_binary, scenario)

    return lay


def unmet(patterns: Sequence[str], printed: str) -> list[str]:
    """The patterns that no line matches, or none after the line of the pattern before."""
    lines = printed.splitlines()
    rest = iter(lines)
    return [
        pattern
        for pattern in patterns
        if not any(
            re.fullmatch(pattern.removeprefix("!"), it) for it in (lines if pattern[0] == "!" else rest)
        )
    ]


@pytest.mark.parametrize("name", STORIES)
async def test_the_example_runs_and_prints_what_it_promises(lay: Callable[..., Awaitable[Table]], name: str):
    story = STORIES[name]
    table = await lay(story.steps, story.files)
    printed, status = await table.run(name, *story.arguments, given=story.given, **story.variables)
    assert (unmet(story.prints, printed), status) == ([], 0), printed
    for file, content in story.leaves.items():
        assert (table.workspace / file).read_text() == content


def test_every_example_has_a_story():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(STORIES)


def test_every_example_is_short_says_what_it_shows_and_is_listed():
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.py\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(STORIES)
    for name, file in listed:
        text = (EXAMPLES / f"{file}.py").read_text()
        assert name == file
        assert ast.get_docstring(ast.parse(text))
        assert len(text.splitlines()) <= 85


# What one run of an example does not show


async def test_a_saved_conversation_goes_on_in_the_next_run(lay):
    table = await lay([message("I will."), message("It was 7.")])
    await table.run("save_and_resume")
    printed, _ = await table.run("save_and_resume", "Which", "number?")
    assert unmet(["going on with 0.*", "It was 7."], printed) == []
    assert "Remember the number 7." in str(table.scenario.requests[-1].field("input"))
    assert table.scenario.requests[-1].prompt == "Which number?"


async def test_a_saved_conversation_that_is_gone_is_given_up(lay):
    table = await lay([])
    (table.workspace / "thread.txt").write_text("019a0000-0000-7000-8000-000000000001\n")
    printed, status = await table.run("save_and_resume")
    assert (unmet(["that conversation is not on record any more.*"], printed), status) == ([], 0), printed
    assert not (table.workspace / "thread.txt").exists()


@pytest.mark.parametrize("answer", ["n\n", "\n"])
async def test_a_patch_that_is_declined_is_not_applied(lay, answer):
    table = await lay(STORIES["review_before_apply"].steps, {"calc.py": CALC})
    printed, _ = await table.run("review_before_apply", given=answer)
    assert printed.endswith("left as it was\n")
    assert (table.workspace / "calc.py").read_text() == CALC
    assert not list((table.workspace / ".git").glob("worktrees/*")), "the copy is gone"


async def test_a_turn_that_fails_leaves_no_copy(lay):
    table = await lay([http_error(400, "no")], {"calc.py": CALC})
    printed, status = await table.run("review_before_apply")
    assert (unmet(["nothing changed: .*"], printed), status) == ([], 1)
    assert not list((table.workspace / ".git").glob("worktrees/*"))


@pytest.mark.parametrize(
    ("steps", "says", "status"),
    [
        ([message("They pass!")], "tests: were not run", 1),
        ([shell("python3 -m unittest"), message("They pass!")], "tests: failed", 1),
    ],
)
async def test_what_codex_says_of_the_tests_is_not_believed(lay, steps, says, status):
    table = await lay(steps, {"calc.py": CALC, "test_calc.py": TEST_CALC})
    assert ((printed := await table.run("monitor_commands"))[0].splitlines()[-1], printed[1]) == (
        says,
        status,
    )


@pytest.mark.parametrize(
    ("steps", "printed"),
    [
        (
            [http_error(503, "busy"), message("Written.")],
            "attempt 1: OverloadedError, side effects unknown\nWritten.\n",
        ),
        ([http_error(401, "no such key")], "gave up: AuthenticationError .*\n"),
        (
            [cut()] * 4,
            "(attempt .: ConnectionLostError, side effects unknown\n){3}gave up: ConnectionLostError .*\n",
        ),
    ],
)
async def test_recovery_begins_again_goes_on_or_gives_up(lay, steps, printed):
    assert re.fullmatch(printed, (await (await lay(steps)).run("error_recovery"))[0])


@pytest.mark.parametrize(
    ("name", "arguments", "variables", "says"),
    [
        (
            "environment_config",
            (),
            {"REVIEWER_SANDBOX": "none"},
            "bad configuration: ThreadOptions.sandbox: .*",
        ),
        (
            "environment_config",
            (),
            {"REVIEWER_TURN_SECONDS": "soon"},
            "bad configuration: could not .*'soon'",
        ),
        ("images", ("no.png",), {}, "LocalImage.path: there is no readable file no.png"),
        ("images", (), {}, "usage: .*images.py PICTURE..."),
        ("validate_input_and_result", ("latest",), {}, "'latest' is no version"),
    ],
)
async def test_what_cannot_work_is_refused_before_the_model_is_asked(lay, name, arguments, variables, says):
    table = await lay([])
    printed, status = await table.run(name, *arguments, **variables)
    assert (unmet([says], printed), status) == ([], 1), printed
    assert list(table.scenario.requests) == []


async def test_a_picture_reaches_the_model(lay):
    table = await lay([message("A red dot.")], {"dot.png": picture()})
    await table.run("images", "dot.png")
    assert "data:image/png;base64," in str(table.scenario.requests[0].field("input"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_service_stops_in_order_at_a_signal(lay, number):
    table = await lay([on("here", message("A library."))])
    service = await trio.lowlevel.open_process(
        table.command("supervised_service"),
        cwd=table.workspace,
        env=table.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert service.stdin
    assert service.stdout
    assert service.stderr
    try:
        with trio.fail_after(60):
            await service.stdin.send_all(b"What is here?\n")
            answer = b""
            while not answer.endswith(b"\n"):
                answer += await service.stdout.receive_some()
            assert answer == b"What is here? -> A library.\n"
            service.send_signal(number)
            await service.wait()
        assert service.returncode == (0 if number == signal.SIGTERM else 1)
    finally:
        service.kill()
        with trio.CancelScope(shield=True):
            await service.wait()
            for stream in (service.stdin, service.stdout, service.stderr):
                await stream.aclose()
