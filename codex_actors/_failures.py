# Codex says in prose why it failed; here prose becomes an error class. The wording is that of 0.163 to
# 0.169. What is not recognised stays a TurnFailedError or ConfigRefusedError with the text in it, so a
# new wording costs precision, never the failure itself. Rows are tried in order, first match wins.

import re

from codex_actors import errors
from codex_actors.results import PartialResult

_TURN_FAILURES: tuple[tuple[re.Pattern[str], type[errors.TurnFailedError]], ...] = tuple(
    (re.compile(pattern), error)
    for pattern, error in (
        (r"Missing environment variable: ", errors.AuthenticationError),
        (r"hit your usage limit", errors.UsageLimitError),
        (r"^Quota exceeded", errors.QuotaExceededError),
        (r"ran out of room in the model's context window", errors.ContextWindowExceededError),
        (r"Incomplete response returned, reason: ", errors.IncompleteResponseError),
        (r"^Invalid prompt: ", errors.InvalidRequestError),
        # A 400 is passed on as the service's JSON body, without its status.
        (r'^\{\s*"error"', errors.InvalidRequestError),
        (r"^model not found$|^The model `[^`]*` does not exist", errors.ModelNotFoundError),
        (r"experiencing high demand|is at capacity", errors.OverloadedError),
        (r"^rate limit exceeded|^Rate limit reached", errors.RateLimitError),
    )
)
_STATUS_FAILURES: dict[int, type[errors.TurnFailedError]] = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    403: errors.AuthenticationError,
    404: errors.ModelNotFoundError,
    422: errors.InvalidRequestError,
    429: errors.RateLimitError,
}
_STATUS = re.compile(r"(?:unexpected status|last status:) (\d{3})\b")
_RESETS_AT = re.compile(r"[Tt]ry again (?:at|in) (.+?)\.?$")
# Codex words every failure of a stream as a disconnection, also those that the service gave a reason for.
_CONNECTION = re.compile(
    r"^stream closed before|[Cc]onnection failed|error sending request"
    r"|^stream disconnected before completion: (?:Transport error|stream closed|idle timeout)"
)


def turn_failure(
    reason: str, *, partial: PartialResult, returncode: int | None, stderr_tail: str
) -> errors.TurnFailedError:
    """The error for the message of a ``turn.failed``."""
    status = _STATUS.search(reason)
    resets_at = _RESETS_AT.search(reason)
    http_status = int(status[1]) if status else None
    return _failure_class(reason, http_status)(
        reason,
        partial=partial,
        http_status=http_status,
        resets_at=resets_at[1] if resets_at else None,
        returncode=returncode,
        stderr_tail=stderr_tail,
    )


def _failure_class(reason: str, http_status: int | None) -> type[errors.TurnFailedError]:
    for pattern, error in _TURN_FAILURES:
        if pattern.search(reason):
            return error
    if http_status in _STATUS_FAILURES:
        return _STATUS_FAILURES[http_status]
    if http_status is not None and http_status >= 500:  # noqa: PLR2004 - HTTP's own number
        return errors.OverloadedError
    if _CONNECTION.search(reason):
        return errors.ConnectionLostError
    return errors.TurnFailedError


_RETRY = re.compile(r"^Reconnecting\.\.\. (?:(\d+)/(\d+)|waiting for network)")


def retry_count(notice: str) -> tuple[int | None, int | None] | None:
    """Which attempt of how many a notice announces; both None if Codex does not count, None if it is none."""
    found = _RETRY.match(notice)
    if found is None:
        return None
    return (int(found[1]), int(found[2])) if found[1] else (None, None)


def waits_for_network(notice: str) -> bool:
    """Whether a notice says that the model service cannot be reached, for which Codex waits without end."""
    return "waiting for network" in notice


# What Codex prints when it starts no turn at all.
_UNTRUSTED = "Not inside a trusted directory"
_NO_THREAD = re.compile(r"no rollout found for thread id|[Nn]o (?:saved )?session found")
_BUSY = "already has an active writer"
_HOME = re.compile(r'CODEX_HOME points to "([^"]*)"|could not create PATH aliases: No such file')
# Chatter, and the lines of a config.toml that Codex quotes (``4 | key = ...``): they may hold a secret.
_OMITTED = re.compile(
    r"Reading additional input from stdin|Reading prompt from stdin|WARNING: proceeding|\s*\d* *\|"
)


def refusal(
    *, returncode: int, stderr_tail: str, thread_id: str, codex_home: str
) -> errors.SetupError | errors.ThreadError:
    """The error for a Codex that exited with an error before it said anything on stdout."""
    if _UNTRUSTED in stderr_tail:
        return errors.UntrustedDirectoryError(
            "the working directory is not inside a git repository or a trusted project; "
            "choose another ThreadOptions.cwd or set ThreadOptions.skip_git_repo_check",
            returncode=returncode,
            stderr_tail=stderr_tail,
        )
    if _NO_THREAD.search(stderr_tail):
        return errors.ThreadNotFoundError(f"no thread {thread_id} in CODEX_HOME {codex_home}", thread_id)
    if _BUSY in stderr_tail:
        return errors.ThreadBusyError(f"another program has a turn running on thread {thread_id}", thread_id)
    if _HOME.search(stderr_tail):
        return errors.CodexHomeError(codex_home, "does not exist or cannot be written")
    return errors.ConfigRefusedError(
        f"Codex refused to start (exit status {returncode}): {_said(stderr_tail)}",
        returncode=returncode,
        stderr_tail=stderr_tail,
    )


def _said(stderr_tail: str) -> str:
    lines = [line for line in stderr_tail.splitlines() if not _OMITTED.match(line)]
    return "\n".join(lines).strip()[-1000:] or "it did not say why"
