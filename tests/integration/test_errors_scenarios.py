"""Everything that goes wrong between Codex and its model, on the real binary, as it was recorded.

The names are those of tests/captures. Most stories allow Codex no second try, so that they take no time;
then its notices of trying again are missing, and nothing else.
"""

import re
import signal
import socket
from contextlib import closing

import pytest
import trio

from codex_actors.testing import (
    Step,
    cut,
    early_eof,
    failed,
    hang,
    http_error,
    incomplete,
    message,
    reply,
    reset,
    shell,
)
from tests.integration.stories import Event, Story, recorded, recorded_events

DONE = message("done")
RETRIES = 5


def story(*steps: Step, **home: object) -> Story:
    return Story(steps, home=home)


def is_notice(event: Event) -> bool:
    return event["type"] == "error" and "Reconnecting..." in event["message"]


UNKNOWN_MODEL = http_error(404, "model not found", type="invalid_request_error", code="model_not_found")

AT_ONCE = {
    "err_400": story(
        http_error(400, "Invalid value", type="invalid_request_error", code="invalid_value", param=None)
    ),
    "err_404": story(
        http_error(404, "model not found", type="invalid_request_error", code="model_not_found")
    ),
    "err_429_always": story(http_error(429, "slow down", type="rate_limit", code="rate_limit_exceeded")),
    "err_429_usage_limit": story(http_error(429, "limit", type="usage_limit_reached")),
    "err_429_insufficient_quota": story(
        http_error(429, "quota", type="insufficient_quota", code="insufficient_quota")
    ),
    "err_no_retries": story(http_error(500, "oops")),
    "err_failed_context": story(failed("context_length_exceeded", "too long")),
    "err_failed_invalid_prompt": story(failed("invalid_prompt", "Invalid prompt: policy")),
    "err_failed_overloaded": story(failed("server_is_overloaded", "busy")),
    "err_failed_quota": story(failed("insufficient_quota", "no money")),
    "err_incomplete": story(reply(message("partial text"), ending=incomplete("max_output_tokens"))),
    "err_midturn_500": story(
        shell("echo step1"),
        http_error(400, "Invalid value", type="invalid_request_error", code=None, param=None),
    ),
}

ONE_RETRY = {
    "err_500_then_ok": story(http_error(500, "oops"), DONE, request_max_retries=1),
    "err_429_retry_after": story(http_error(429, "later", headers={"retry-after": "1"}), DONE),
    "err_failed_ratelimit_sse": story(
        failed(
            "rate_limit_exceeded", "Rate limit reached for gpt on tokens per min. Please try again in 0.5s."
        ),
        DONE,
    ),
    "err_truncated_once": story(reply(message("part"), ending=cut()), DONE),
    "err_truncated_clean": story(early_eof(), DONE),
    "err_idle_timeout": story(hang(), DONE, stream_idle_timeout_seconds=0.3),
}

# Each of these takes six seconds when Codex tries as often as it does by itself.
UNTIL_IT_GIVES_UP: dict[str, Step] = {
    "err_403": http_error(403, "forbidden"),
    "err_500_always": http_error(500, "oops"),
    "err_html_body": http_error(502, body="<html>bad gateway</html>"),
    "err_failed_cyber": failed("cyber_policy_violation", "flagged"),
    "err_failed_other": failed("weird_code", "weird"),
    "err_incomplete_filter": incomplete("content_filter"),
    "err_truncated_always": cut(),
}


@pytest.mark.parametrize("name", AT_ONCE)
async def test_what_cannot_be_mended_fails_at_once(name, play, codex_version):
    run = await play(name, AT_ONCE[name])
    expected = [event for event in recorded_events(name, codex_version) if not is_notice(event)]
    assert run.masked == expected
    assert run.exit_code == recorded(name, codex_version).returncode == 1


@pytest.mark.parametrize("name", ONE_RETRY)
async def test_what_passes_is_tried_again_with_at_most_a_notice(name, play, codex_version):
    story = ONE_RETRY[name]
    run = await play(name, Story(story.steps, home={"stream_max_retries": RETRIES, **story.home}))
    assert run.masked == recorded_events(name, codex_version)
    assert run.exit_code == 0


@pytest.mark.parametrize("name", UNTIL_IT_GIVES_UP)
async def test_what_does_not_pass_fails_with_the_last_cause(name, play, codex_version):
    run = await play(name, story(UNTIL_IT_GIVES_UP[name]))
    assert run.masked == [event for event in recorded_events(name, codex_version) if not is_notice(event)]
    assert run.exit_code == 1


@pytest.mark.slow
async def test_every_try_is_announced_until_codex_gives_up(play, codex_version):
    """All of them at once, because each takes its six seconds in waiting."""
    stories = {
        name: story(*[step] * (RETRIES + 1), stream_max_retries=RETRIES)
        for name, step in {"err_404": UNKNOWN_MODEL, **UNTIL_IT_GIVES_UP}.items()
    }
    said = {}

    async def run(name: str) -> None:
        said[name] = (await play(name, stories[name])).masked

    async with trio.open_nursery() as nursery:
        for name in stories:
            nursery.start_soon(run, name)
    assert said == {name: recorded_events(name, codex_version) for name in stories}


async def test_an_unknown_model_is_tried_again_by_versions_before_0_169(play, codex_version):
    """The one true difference between the versions that is seen in the events of a failure."""
    run = await play("err_404", story(UNKNOWN_MODEL, UNKNOWN_MODEL, stream_max_retries=1))
    last = run.events[-1]["error"]["message"]
    if codex_version == "0.163.0":
        assert [is_notice(event) for event in run.events] == [False, False, True, False, False]
        assert last.startswith("unexpected status 404 Not Found: model not found, url: http://127.0.0.1:")
    else:
        assert not any(is_notice(event) for event in run.events)
        assert last == "model not found"


async def test_an_invalid_key_is_said_with_status_and_place(play):
    run = await play("err_401", story(http_error(401, "Incorrect API key provided", code="invalid_api_key")))
    assert run.masked[-1]["error"]["message"] == (
        "unexpected status 401 Unauthorized: Incorrect API key provided, url: <model>/responses"
    )


async def test_a_usage_limit_says_until_when(play):
    limit = http_error(429, "limit", type="usage_limit_reached", plan_type="plus", resets_at=1_893_456_000)
    run = await play("limit", story(limit))
    error = run.events[-1]["error"]["message"]
    assert "hit your usage limit." in error
    assert re.search(r"try again at (Jan 1st, 2030|Dec 31st, 2029) \d+:\d\d [AP]M\.", error)  # local time


async def test_a_model_without_capacity_is_named_so(play):
    busy = http_error(503, "busy", type="server_error", code="server_is_overloaded")
    run = await play("err_503", story(busy))
    assert (
        run.events[-1]["error"]["message"] == "Selected model is at capacity. Please try a different model."
    )


async def test_a_reset_connection_is_a_lost_stream_like_any_other(play):
    run = await play("reset", story(reset(), DONE, stream_max_retries=1))
    assert [event["type"] for event in run.events if is_notice(event)] == ["error"]
    assert run.events[-1]["type"] == "turn.completed"


async def test_a_command_whose_reply_was_cut_off_is_not_run_again(play, workspace):
    once = reply(shell("echo once >>tries; cat tries"), ending=cut())
    run = await play("once", story(once, DONE, stream_max_retries=1))
    assert run.events[-1]["type"] == "turn.completed"
    assert (workspace / "tries").read_text() == "once\n"


async def test_without_a_key_no_request_is_made(model_server, make_codex_home, codex):
    scenario = model_server.script("no_key", DONE)
    home = make_codex_home(scenario.url)
    del home.environment["CODEX_API_KEY"]
    run = await codex.run(home)
    assert run.events[-1]["error"]["message"] == "Missing environment variable: `CODEX_API_KEY`."
    assert not list(scenario.requests)


async def test_a_model_that_is_not_there_is_waited_for_without_end(make_codex_home, codex):
    with closing(socket.socket()) as never_listening:
        never_listening.bind(("127.0.0.1", 0))
        home = make_codex_home(f"http://127.0.0.1:{never_listening.getsockname()[1]}/s/gone/v1")
        run = await codex.run(home, stop=(b"waiting for network", signal.SIGINT))
    assert run.events[-1] == {
        "type": "error",
        "message": "Reconnecting... waiting for network (Connection failed: error sending request)",
    }
    assert run.exit_code == 1


@pytest.mark.parametrize(
    ("files", "arguments", "says"),
    [
        ({}, ("--cd", "/no/such/directory"), "Error: No such file or directory (os error 2)"),
        ({}, ("-c", 'approval_policy="untrusted"'), 'approval_policy = "untrusted" is no longer supported'),
        ({}, ("-c", "model=17"), "Error loading config.toml: invalid type: integer `17`, expected a string"),
        ({}, ("--strict-config", "-c", "zzz.yyy=1"), "unknown configuration field `zzz`"),
        ({}, ("--output-schema", "zzz.json"), "Failed to read output schema file zzz.json"),
        ({"s.json": "not"}, ("--output-schema", "s.json"), "schema file s.json is not valid JSON"),
        ({}, ("resume", "01a1f884-0000-7000-8000-000000000000"), "no rollout found for thread id 01a1f884"),
    ],
)
async def test_what_is_refused_before_the_turn_is_said_on_stderr_only(play, files, arguments, says):
    run = await play("refused", Story((), arguments=arguments, files=files))
    assert (run.stdout, run.exit_code) == (b"", 1)
    assert says in run.stderr
