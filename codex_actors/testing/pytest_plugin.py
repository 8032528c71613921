"""The pytest fixtures of codex_actors; pytest loads them by itself where the package is installed.

`model_server` is an open `ModelServer` (it needs pytest-trio), `make_codex_home` writes one CODEX_HOME
after another, and `codex_binary` is the real Codex, without which the test is skipped.
"""

# Plugins are loaded before coverage starts, and in every pytest run of everyone who has the package
# installed: so this file is short, and what it needs from extras is imported when a fixture is used.

import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from codex_actors.backends._binary import find_codex
from codex_actors.errors import CodexNotFoundError
from codex_actors.testing import CodexHome, ModelServer, codex_home, open_model_server


@pytest.fixture
async def model_server() -> AsyncGenerator[ModelServer, None]:
    """A scripted model, open while the test runs."""
    async with open_model_server() as model:
        yield model


@pytest.fixture
def make_codex_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CodexHome]:
    """Calls `codex_home` with a new directory each time."""

    def make(base_url: str, **settings: object) -> CodexHome:
        return codex_home(tmp_path_factory.mktemp("codex-home"), base_url, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def codex_binary() -> Path:
    """The real Codex: CODEX_ACTORS_TEST_BINARY if that is set, else the one that the library finds."""
    chosen = os.environ.get("CODEX_ACTORS_TEST_BINARY") or None
    try:
        return Path(find_codex(chosen))
    except CodexNotFoundError:
        if chosen:
            raise
        pytest.skip("no real Codex: install codex-actors[codex] or set CODEX_ACTORS_TEST_BINARY")
