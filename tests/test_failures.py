"""Codex says in prose why it failed; these tables say which error that becomes."""

# ruff: noqa: RUF001 - the apostrophes are Codex's

import re
from typing import NamedTuple

import msgspec
import pytest

from codex_actors import errors
from codex_actors._failures import refusal, turn_failure
from codex_actors.results import PartialResult
from tests.capture_files import CAPTURES, SPOKEN, capture

URL = "url: http://127.0.0.1/v1/responses"
CUT = "Transport error: network error: error decoding response body"
BUSY = "We’re currently experiencing high demand, which may cause temporary errors."
BODY = '{"error": {...}}'  # the service's own JSON, passed on as it came


class Failure(NamedTuple):
    """What the model service does, what ``turn.failed`` then says, and the error that becomes of it."""

    service: str
    reason: str
    error: type[errors.TurnFailedError]
    http_status: int | None = None
    resets_at: str | None = None


FAILURES = (
    Failure("no key", "Missing environment variable: `CODEX_API_KEY`.", errors.AuthenticationError),
    Failure("401", f"unexpected status 401 Unauthorized: no, {URL}", errors.AuthenticationError, 401),
    Failure("403", f"unexpected status 403 Forbidden: forbidden, {URL}", errors.AuthenticationError, 403),
    Failure("400", BODY, errors.InvalidRequestError),
    Failure(
        "400 with a status", f"unexpected status 400 Bad Request: no, {URL}", errors.InvalidRequestError, 400
    ),
    Failure("422", f"unexpected status 422 Unprocessable Entity: no, {URL}", errors.InvalidRequestError, 422),
    Failure("invalid_prompt", "Invalid prompt: policy", errors.InvalidRequestError),
    Failure("404, from 0.169", "model not found", errors.ModelNotFoundError),
    Failure(
        "404, until 0.163",
        f"unexpected status 404 Not Found: model not found, {URL}",
        errors.ModelNotFoundError,
        404,
    ),
    Failure(
        "404 of the real service",
        "The model `gpt-0` does not exist or you do not have access to it.",
        errors.ModelNotFoundError,
    ),
    Failure("429", "exceeded retry limit, last status: 429 Too Many Requests", errors.RateLimitError, 429),
    Failure(
        "rate_limit_exceeded",
        "rate limit exceeded: Rate limit reached for gpt on tokens per min. Please try again in 0.5s.",
        errors.RateLimitError,
        None,
        "0.5s",
    ),
    Failure(
        "429 usage_limit_reached",
        "You’ve hit your usage limit. Upgrade to Pro or try again at Jan 1st, 2030 12:00 AM.",
        errors.UsageLimitError,
        None,
        "Jan 1st, 2030 12:00 AM",
    ),
    Failure(
        "the same without a time", "You’ve hit your usage limit. Try again later.", errors.UsageLimitError
    ),
    Failure(
        "insufficient_quota",
        "Quota exceeded. Check your plan and billing details.",
        errors.QuotaExceededError,
    ),
    Failure("500", BUSY, errors.OverloadedError),
    Failure(
        "502",
        f"unexpected status 502 Bad Gateway: <html>bad gateway</html>, {URL}",
        errors.OverloadedError,
        502,
    ),
    Failure("503", f"unexpected status 503 Service Unavailable: no, {URL}", errors.OverloadedError, 503),
    Failure("504", "exceeded retry limit, last status: 504 Gateway Timeout", errors.OverloadedError, 504),
    Failure(
        "server_is_overloaded",
        "Selected model is at capacity. Please try a different model.",
        errors.OverloadedError,
    ),
    Failure(
        "context_length_exceeded",
        "Codex ran out of room in the model's context window. "
        "Start a new thread or clear earlier history before retrying.",
        errors.ContextWindowExceededError,
    ),
    Failure(
        "max_output_tokens",
        "Incomplete response returned, reason: max_output_tokens",
        errors.IncompleteResponseError,
    ),
    Failure(
        "content_filter",
        "stream disconnected before completion: Incomplete response returned, reason: content_filter",
        errors.IncompleteResponseError,
    ),
    Failure("the stream is cut", f"stream disconnected before completion: {CUT}", errors.ConnectionLostError),
    Failure(
        "the stream ends too early",
        "stream disconnected before completion: stream closed before response.completed",
        errors.ConnectionLostError,
    ),
    Failure(
        "silence",
        "stream disconnected before completion: idle timeout waiting for SSE",
        errors.ConnectionLostError,
    ),
    Failure("another failure", "stream disconnected before completion: weird", errors.TurnFailedError),
    Failure("a flagged request", "stream disconnected before completion: flagged", errors.TurnFailedError),
    Failure("connection refused", "Connection failed: error sending request", errors.ConnectionLostError),
    Failure("what nobody has seen yet", "the moon is in the wrong phase", errors.TurnFailedError),
    Failure(
        "a status nobody has seen yet",
        f"unexpected status 418 I'm a teapot: no, {URL}",
        errors.TurnFailedError,
        418,
    ),
)


def said_by(stdout: bytes) -> str:
    """The message of the last line, a ``turn.failed``."""
    message: str = msgspec.json.decode(stdout.splitlines()[-1])["error"]["message"]
    return message


def masked(reason: str) -> str:
    """The reason without what differs from run to run."""
    return re.sub(r"url: http://\S+?/v1/", "url: http://127.0.0.1/v1/", re.sub(r'^\{"error".*', BODY, reason))


def failed(reason: str) -> errors.TurnFailedError:
    return turn_failure(reason, partial=PartialResult(), returncode=1, stderr_tail="the end")


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.service)
def test_each_reason_becomes_its_own_error(row):
    exc = failed(row.reason)
    assert (type(exc), exc.http_status, exc.resets_at) == (row.error, row.http_status, row.resets_at)


def test_an_error_keeps_the_reason_and_how_the_process_ended():
    exc = failed("whatever Codex says")
    assert str(exc) == exc.reason == "whatever Codex says"
    assert (exc.returncode, exc.stderr_tail, exc.partial) == (1, "the end", PartialResult())


def test_every_class_of_failure_has_a_row():
    assert {row.error for row in FAILURES} == {
        errors.TurnFailedError,
        *errors.TurnFailedError.__subclasses__(),
    }


@pytest.mark.parametrize(
    "run", [run for run in SPOKEN if b'"turn.failed"' in run.stdout], ids=lambda run: run.name
)
def test_the_real_codex_says_what_the_table_says(run):
    reason = said_by(run.stdout)
    [row] = [row for row in FAILURES if row.reason == masked(reason)]
    assert type(failed(reason)) is row.error


@pytest.mark.parametrize("cause", ["Model", "experiencing high demand? no: try again in 5 minutes"])
def test_a_reset_time_is_what_stands_after_try_again(cause):
    assert failed(cause).resets_at == (None if cause == "Model" else "5 minutes")


THREAD = "01a1f884-0000-7000-8000-000000000000"


class Refusal(NamedTuple):
    """What Codex prints when it starts no turn, and the error that becomes of it."""

    stderr: str
    error: type[errors.SetupError | errors.ThreadError]
    returncode: int = 1


REFUSALS = {
    "bad config.toml": Refusal(capture("err_bad_config_toml.0.169.0").stderr, errors.ConfigRefusedError),
    "unknown key, strictly": Refusal(
        capture("err_unknown_config_key_strict.0.169.0").stderr, errors.ConfigRefusedError
    ),
    "unsupported policy": Refusal(
        capture("approval_untrusted_exec.0.169.0").stderr, errors.ConfigRefusedError
    ),
    "bad schema": Refusal(capture("output_schema_badfile.0.169.0").stderr, errors.ConfigRefusedError),
    "no schema": Refusal(capture("output_schema_missing.0.169.0").stderr, errors.ConfigRefusedError),
    "no prompt": Refusal(capture("err_no_prompt.0.169.0").stderr, errors.ConfigRefusedError),
    "no such home": Refusal(capture("err_bad_home.0.169.0").stderr, errors.CodexHomeError),
    "unwritable home": Refusal(capture("err_unwritable_home.0.169.0").stderr, errors.CodexHomeError),
    "unknown thread": Refusal(capture("resume_5_unknown_id.0.169.0").stderr, errors.ThreadNotFoundError),
    "busy thread": Refusal(
        f"Error: thread/resume: thread {THREAD} already has an active writer (code -32600)",
        errors.ThreadBusyError,
    ),
    "untrusted directory": Refusal(
        "Not inside a trusted directory and --skip-git-repo-check was not specified.",
        errors.UntrustedDirectoryError,
    ),
    "no such directory": Refusal("Error: No such file or directory (os error 2)", errors.ConfigRefusedError),
    "required MCP server": Refusal(
        "Error: required MCP servers failed to initialize: tiny", errors.ConfigRefusedError
    ),
    "bad arguments": Refusal("error: unexpected argument '--frob' found", errors.ConfigRefusedError, 2),
    "silence": Refusal("", errors.ConfigRefusedError),
}


def refused(row: Refusal) -> errors.SetupError | errors.ThreadError:
    return refusal(
        returncode=row.returncode, stderr_tail=row.stderr, thread_id=THREAD, codex_home="/home/dev/.codex"
    )


@pytest.mark.parametrize("row", REFUSALS.values(), ids=REFUSALS)
def test_each_refusal_becomes_its_own_error(row):
    assert type(refused(row)) is row.error


def test_every_recorded_refusal_is_in_the_table():
    recorded = {run.stderr for run in CAPTURES if run.returncode == 1 and not run.stdout}
    assert recorded <= {row.stderr for row in REFUSALS.values()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad config.toml", "config.toml:4:6: key with no value, expected `=`"),
        ("unknown key, strictly", "unknown configuration field `zzz`"),
        ("no prompt", "No prompt provided via stdin."),
        ("no schema", "Failed to read output schema file zzz.json"),
        ("bad arguments", "exit status 2"),
        ("silence", "it did not say why"),
        ("unknown thread", f"no thread {THREAD} in CODEX_HOME /home/dev/.codex"),
        ("busy thread", THREAD),
        ("untrusted directory", "ThreadOptions.skip_git_repo_check"),
        ("no such home", "CODEX_HOME /home/dev/.codex does not exist"),
    ],
)
def test_a_refusal_says_what_to_do_or_what_codex_said(name, said):
    assert said in str(refused(REFUSALS[name]))


def test_the_chatter_before_a_refusal_is_left_out_of_the_message():
    message = str(refused(REFUSALS["bad schema"]))
    assert message == (
        "Codex refused to start (exit status 1): "
        "Output schema file s.json is not valid JSON: expected ident at line 1 column 2"
    )


def test_a_refusal_keeps_the_exit_status_and_what_was_printed():
    exc = refused(REFUSALS["bad arguments"])
    assert isinstance(exc, errors.ConfigRefusedError)
    assert (exc.returncode, exc.stderr_tail) == (2, "error: unexpected argument '--frob' found")


def test_the_line_of_the_configuration_that_codex_quotes_stays_out_of_the_message():
    """It may hold a key."""
    assert "this is not toml" in REFUSALS["bad config.toml"].stderr
    assert "this is not toml" not in str(refused(REFUSALS["bad config.toml"]))


def test_a_long_refusal_is_clipped_to_its_end():
    message = str(refused(Refusal("x" * 5_000 + " the end", errors.ConfigRefusedError)))
    assert len(message) < 1_100
    assert message.endswith("the end")
