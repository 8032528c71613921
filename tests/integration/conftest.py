"""The real Codex, and a workspace for it."""

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from codex_actors.options import CodexOptions
from codex_actors.testing import CodexHome, ModelServer
from tests.integration.stories import Codex, Run, Story


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty directory for the model to work in."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def codex_version(codex_binary: Path) -> str:
    """The version of the Codex under test, such as 0.163.0."""
    return subprocess.check_output([codex_binary, "--version"], text=True, timeout=60).split()[-1]


@pytest.fixture
def codex(codex_binary: Path, workspace: Path) -> Codex:
    """The real Codex, in the workspace."""
    return Codex(codex_binary, workspace)


@pytest.fixture
def play(
    model_server: ModelServer, make_codex_home: Callable[..., CodexHome], codex: Codex
) -> Callable[[str, Story], Awaitable[Run]]:
    """Plays a story from beginning to end."""

    async def play(name: str, story: Story) -> Run:
        for path, content in story.files.items():
            (codex.workspace / path).write_text(content)
        scenario = model_server.script(name, *story.steps)
        home = make_codex_home(scenario.url, **story.home)
        return await codex.run(
            home, *story.arguments, sandbox=story.sandbox, prompt=story.prompt, stop=story.stop
        )

    return play


@pytest.fixture
def configure(make_codex_home: Callable[..., CodexHome], codex_binary: Path) -> Callable[..., CodexOptions]:
    """Makes the options of a runtime whose model is scripted; keywords are those of `CodexOptions`."""

    def configure(url: str, *, settings: str = "", **options: Any) -> CodexOptions:
        home = make_codex_home(url, settings=settings)
        return CodexOptions(
            **{
                "codex_path": codex_binary,
                "codex_home": home.path,
                "api_key": home.environment["CODEX_API_KEY"],
                # HOME too: the model's shells read profiles there, which leave locks when they are killed.
                "env": {"TMPDIR": home.environment["TMPDIR"], "HOME": str(home.path)},
                **options,
            }
        )

    return configure
