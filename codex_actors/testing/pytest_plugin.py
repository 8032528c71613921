"""The pytest fixtures of codex_actors; pytest loads them by itself where the package is installed.

`model_server` is an open `ModelServer` (it needs pytest-trio), `make_codex_home` writes one CODEX_HOME
after another, and `codex_binary` is the real Codex, without which the test is skipped.
"""

# Plugins are loaded before coverage starts, and in every pytest run of everyone who has the package
# installed: so what a fixture needs is imported when it is used, and until then trio is not.

import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from codex_actors.testing import CodexHome, ModelServer


@pytest.fixture
async def model_server() -> AsyncGenerator["ModelServer", None]:
    """A scripted model, open while the test runs."""
    from codex_actors.testing import open_model_server  # noqa: PLC0415 - see above

    async with open_model_server() as model:
        yield model


@pytest.fixture
def make_codex_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "CodexHome"]:
    """Calls `testing.codex_home` with a new directory each time."""
    from codex_actors.testing import codex_home  # noqa: PLC0415 - see above

    def make(base_url: str, **settings: object) -> "CodexHome":
        return codex_home(tmp_path_factory.mktemp("codex-home"), base_url, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def codex_binary() -> Path:
    """The real Codex: CODEX_ACTORS_TEST_BINARY if that is set, else the one that the library finds."""
    from codex_actors.backends._binary import find_codex  # noqa: PLC0415 - see above
    from codex_actors.errors import CodexNotFoundError  # noqa: PLC0415 - see above

    chosen = os.environ.get("CODEX_ACTORS_TEST_BINARY") or None
    try:
        return Path(find_codex(chosen))
    except CodexNotFoundError:
        if chosen:
            raise
        pytest.skip("no real Codex: install codex-actors[codex] or set CODEX_ACTORS_TEST_BINARY")
