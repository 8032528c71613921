"""The README's first program runs as it stands."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from codex_actors.testing import CodexHome, ModelServer, message

README = Path(__file__).parents[2] / "README.md"


async def test_the_first_program_prints_what_codex_answered(
    model_server: ModelServer,
    make_codex_home: Callable[..., CodexHome],
    codex_binary: Path,
    workspace: Path,
):
    program = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    scenario = model_server.script("readme", message("It is a library."))
    environment = {**os.environ, **make_codex_home(scenario.url).environment}
    environment["PATH"] = f"{codex_binary.parent}:{os.environ['PATH']}"
    await trio.run_process(["git", "init", "--quiet"], cwd=workspace)
    finished = await trio.run_process(
        [sys.executable, "-c", program], cwd=workspace, env=environment, capture_stdout=True
    )
    assert finished.stdout.decode() == "It is a library.\n"
    [request] = scenario.requests
    assert request.prompt == "What does this repository do?"
