"""The real service: needs CODEX_API_KEY and costs a few cents. Run with `pytest -m live`."""

import json
import os
from pathlib import Path

import pytest
import trio

from codex_actors import Codex, errors
from codex_actors.options import CodexOptions, ThreadOptions, TurnOptions

KEY = os.environ.get("CODEX_API_KEY")

pytestmark = [pytest.mark.live, pytest.mark.skipif(not KEY, reason="CODEX_API_KEY is not set")]


@pytest.fixture
def options(codex_binary: Path, tmp_path: Path) -> CodexOptions:
    home = tmp_path / "home"
    home.mkdir()
    return CodexOptions(codex_path=codex_binary, codex_home=home, api_key=KEY)


@pytest.fixture
def thread_options(tmp_path: Path) -> ThreadOptions:
    return ThreadOptions(
        cwd=tmp_path,
        skip_git_repo_check=True,
        sandbox="read-only",
        model=os.environ.get("CODEX_ACTORS_LIVE_MODEL"),
        reasoning_effort="low",
    )


async def test_a_thread_is_resumed_in_a_new_runtime_and_remembers(options, thread_options):
    with trio.fail_after(300):
        async with Codex(options) as codex:
            thread = codex.start_thread(thread_options)
            first = await thread.run("Remember the number 4711. Answer with OK only.")
            second = await thread.run("Say OK once more, nothing else.")
        async with Codex(options) as codex:
            assert thread.id
            third = await codex.resume_thread(thread.id, thread_options).run(
                "Which number were you to remember? Answer with the number only."
            )
    assert first.thread_id == second.thread_id == third.thread_id
    assert "4711" in third.final_response
    assert second.usage.turn is not None
    assert second.usage.turn.input_tokens > 0
    assert third.usage.turn is None


async def test_an_answer_follows_its_schema(options, thread_options):
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    with trio.fail_after(300):
        async with Codex(options) as codex:
            turn = TurnOptions(output_schema=schema)
            result = await codex.start_thread(thread_options).run("What is 19 + 23?", turn)
    assert json.loads(result.final_response) == {"sum": 42}


async def test_a_key_that_is_none_is_an_error_that_says_so(options, thread_options, codex_binary):
    wrong = CodexOptions(
        codex_path=codex_binary, codex_home=options.codex_home, api_key="sk-this-is-deliberately-no-key"
    )
    with trio.fail_after(300), pytest.raises(errors.AuthenticationError) as caught:
        async with Codex(wrong) as codex:
            await codex.start_thread(thread_options).run("Say OK.")
    assert caught.value.http_status == 401
