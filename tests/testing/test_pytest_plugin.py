import subprocess
import sys
import textwrap

import pytest

from codex_actors.testing import fake_codex

USES_EVERY_FIXTURE = """
async def test_hello(model_server, make_codex_home, codex_binary):
    scenario = model_server.script("hello")
    first, second = make_codex_home(scenario.url), make_codex_home(scenario.url, model="other")
    assert first.path != second.path
    assert codex_binary.name == "codex"
"""

HIDE_THE_WHEEL = "import sys; sys.modules['codex_cli_bin'] = None"


@pytest.fixture
def run_pytest(pytester: pytest.Pytester):
    """A pytest of its own, in a directory that knows nothing of this project's configuration."""
    pytester.makeini("[pytest]\ntrio_mode = true\n")

    def run(test: str) -> pytest.RunResult:
        pytester.makepyfile(test)
        return pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider")

    return run


def test_the_fixtures_are_there_without_being_asked_for(run_pytest, monkeypatch, tmp_path):
    monkeypatch.setenv("CODEX_ACTORS_TEST_BINARY", str(fake_codex(tmp_path)))
    run_pytest(USES_EVERY_FIXTURE).assert_outcomes(passed=1)


def test_without_a_real_codex_a_test_is_skipped_and_says_what_to_install(run_pytest, monkeypatch):
    monkeypatch.setenv("CODEX_ACTORS_TEST_BINARY", "")
    monkeypatch.setenv("PATH", "/nowhere")
    result = run_pytest(HIDE_THE_WHEEL + USES_EVERY_FIXTURE)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*install codex-actors?codex? or set CODEX_ACTORS_TEST_BINARY*"])


def test_a_chosen_codex_that_is_not_there_is_an_error(run_pytest, monkeypatch):
    monkeypatch.setenv("CODEX_ACTORS_TEST_BINARY", "/nowhere/codex")
    result = run_pytest(USES_EVERY_FIXTURE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*CodexNotFoundError*"])


def test_loading_the_plugin_needs_no_extra():
    """It is loaded in every pytest run of everyone who has the package."""
    program = """
        import sys
        sys.modules.update(dict.fromkeys(["h11", "pytest_trio", "codex_cli_bin", "rich"]))
        import codex_actors.testing.pytest_plugin
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(program)], check=True, timeout=60)
