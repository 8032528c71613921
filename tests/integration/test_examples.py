"""Every example runs as it stands, on the real Codex and a scripted model."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from codex_actors.testing import CodexHome, ModelServer, http_error, message, on, shell

EXAMPLES = Path(__file__).parents[2] / "examples"
STORIES: dict[str, tuple[list[Any], list[str]]] = {
    "basic": ([message("It is a library.")], ["It is a library.\ntokens: Usage(input_tokens="]),
    "streaming": (
        [shell("ls"), message("nothing")],
        ["$ /bin/bash -lc ls", "-> 0", "stopped; go on with thread 0"],
    ),
    "structured_output": (
        [
            message('{"summary": "Nearly.", "findings": "none"}'),
            message(
                '{"summary": "Good.", "findings": ['
                '{"file": "b.py", "problem": "a typo", "severity": "low", "line": 7},'
                '{"file": "a.py", "problem": "a crash", "severity": "high", "line": null}]}'
            ),
        ],
        ["Good.\nhigh: a.py:- a crash\nlow: b.py:7 a typo\n"],
    ),
    "side_by_side": (
        [
            on("tested", message("All of it.")),
            on("documented", http_error(400, "no")),
            on("missing", message("Nothing.")),
        ],
        [
            "What is tested here? All of it.",
            "What is documented here? InvalidRequestError: ",
            "What is missing here? Nothing.",
        ],
    ),
    "telemetry_handler": (
        [
            on("for?", shell("ls"), message("A library.")),
            on("tests?", message("pytest.")),
            on("refuse?", http_error(400, "no")),
        ],
        [
            "'completed': 2",
            "'InvalidRequestError': 1",
            "'agent_message': 2",
            "'command_execution': 1",
            "output tokens: 30, seconds: ",
        ],
    ),
}


def test_every_example_has_a_story():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(STORIES)


@pytest.mark.parametrize("name", STORIES)
async def test_the_example_runs_and_prints_what_it_promises(
    model_server: ModelServer,
    make_codex_home: Callable[..., CodexHome],
    codex_binary: Path,
    workspace: Path,
    name: str,
):
    steps, expected = STORIES[name]
    home = make_codex_home(model_server.script(name, *steps).url)
    environment = {**os.environ, **home.environment, "HOME": str(home.path)}
    environment["PATH"] = f"{codex_binary.parent}:{os.environ['PATH']}"
    await trio.run_process(["git", "init", "--quiet"], cwd=workspace)
    finished = await trio.run_process(
        [sys.executable, EXAMPLES / f"{name}.py"], cwd=workspace, env=environment, capture_stdout=True
    )
    printed = finished.stdout.decode()
    for text in expected:
        assert text in printed
