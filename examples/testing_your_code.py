"""A reviewer of your own and its tests: the real Codex and a scripted model, so no key, network or luck.

`python testing_your_code.py` runs the tests, as `pytest testing_your_code.py` does where `trio_mode = true`
is set. It needs `pip install "codex-actors[codex,testing]"`, which brings the fixtures.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_actors import Codex, CodexOptions, ThreadOptions
from codex_actors.errors import AuthenticationError
from codex_actors.testing import CodexHome, ModelServer, Scenario, Step, http_error, message, shell

Pretend = Callable[..., tuple[CodexOptions, Scenario]]

# What is tested: ordinary code, that asks Codex and makes a decision of the answer.


async def may_be_merged(codex: Codex, directory: Path) -> bool:
    """Whether Codex has nothing against the code in a directory."""
    options = ThreadOptions(cwd=directory, sandbox="read-only", skip_git_repo_check=True)
    result = await codex.start_thread(options).run("Review calc.py. Say APPROVED if it is fine.")
    return "APPROVED" in result.final_response


# And its tests.


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A directory with a file in it."""
    (tmp_path / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    return tmp_path


@pytest.fixture
def pretend(
    model_server: ModelServer, make_codex_home: Callable[..., CodexHome], codex_binary: Path
) -> Pretend:
    """Makes options with which Codex hears what the test says."""

    def pretend(*steps: Step) -> tuple[CodexOptions, Scenario]:
        script = model_server.script("review", *steps)
        home = make_codex_home(script.url)
        return CodexOptions(codex_path=codex_binary, codex_home=home.path, env=home.environment), script

    return pretend


async def test_code_with_a_bug_is_not_merged(pretend: Pretend, code: Path) -> None:
    options, script = pretend(shell("cat calc.py"), message("It subtracts."))
    async with Codex(options) as codex:
        assert not await may_be_merged(codex, code)
    assert "Review calc.py" in script.requests[0].prompt
    assert "return a - b" in script.requests[1].tool_outputs[0]  # Codex did read the file


async def test_code_without_a_bug_is_merged(pretend: Pretend, code: Path) -> None:
    options, _ = pretend(message("APPROVED"))
    async with Codex(options) as codex:
        assert await may_be_merged(codex, code)


async def test_a_refused_key_is_no_verdict(pretend: Pretend, code: Path) -> None:
    options, _ = pretend(http_error(401, "no such key"))
    async with Codex(options) as codex:
        with pytest.raises(AuthenticationError):
            await may_be_merged(codex, code)


if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true"]
    sys.exit(subprocess.call([*command, __file__]))
