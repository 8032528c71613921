# What a scripted model says, as plain data: items are the wire's own JSON objects, so whatever the
# Responses API may say one day can be said here today. Nothing in this file waits, sends or knows HTTP.

import json
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
import trio

from codex_actors._data import Data
from codex_actors.events import Usage

Item: TypeAlias = Mapping[str, object]

# What the recorded runs were scripted with; a reply that says nothing about tokens costs this much.
_DEFAULT_USAGE = Usage(input_tokens=100, output_tokens=10)


class Pause(Data, frozen=True, kw_only=True):
    """Silence in the middle of a reply.

    Attributes:
        seconds: How long nothing is sent.
    """

    seconds: float


Part: TypeAlias = Item | Pause | trio.Event


class Completed(Data, frozen=True, kw_only=True):
    """The reply ends as it should, with ``response.completed``.

    Attributes:
        end_turn: False makes Codex ask again although no tool was called; None leaves the field out.
    """

    end_turn: bool | None = None


class Failed(Data, frozen=True, kw_only=True):
    """The reply ends with ``response.failed``; made by `failed`.

    Attributes:
        code: The service's word for the failure.
        message: What it says about it.
    """

    code: str
    message: str


class Incomplete(Data, frozen=True, kw_only=True):
    """The reply ends with ``response.incomplete``; made by `incomplete`.

    Attributes:
        reason: The service's word for what is missing.
    """

    reason: str


class Broken(Data, frozen=True, kw_only=True):
    """The reply ends without an ending.

    Attributes:
        how: ``cut`` closes the connection inside the body, ``eof`` ends the body properly but too early,
            ``reset`` sends a TCP reset, ``hang`` sends nothing more until the other side leaves.
    """

    how: Literal["cut", "eof", "reset", "hang"]


Ending: TypeAlias = Completed | Failed | Incomplete | Broken


class Reply(Data, frozen=True, kw_only=True):
    """One streamed answer of the model; made by `reply`.

    Attributes:
        parts: What is sent, in this order.
        ending: How it ends.
        usage: The tokens of this one response; None sends no usage.
        headers: Response headers.
    """

    parts: tuple[Part, ...] = ()
    ending: Ending = Completed()
    usage: Usage | None = _DEFAULT_USAGE
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])

    _private = frozenset({"parts"})


class HttpAnswer(Data, frozen=True, kw_only=True):
    """An answer that is no stream; made by `http_error`.

    Attributes:
        status: The HTTP status.
        body: The whole body.
        headers: Response headers.
    """

    status: int
    body: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])


Answer: TypeAlias = Reply | HttpAnswer


def reply(
    *parts: Part,
    ending: Ending | None = None,
    usage: Usage | None = _DEFAULT_USAGE,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Says several things in one reply, or one thing with all that can be set about it.

    Args:
        *parts: What is sent, in this order: an item, a `pause`, or a `trio.Event` that holds the reply
            back until the test sets it.
        ending: How it ends; None is a proper end.
        usage: The tokens of this one response; None sends no usage.
        headers: Response headers, such as `rate_limit_headers`.
    """
    return Reply(parts=parts, ending=ending or Completed(), usage=usage, headers=headers or {})


def pause(seconds: float) -> Pause:
    """Says nothing for some seconds; the connection stays open."""
    return Pause(seconds=seconds)


def completed(*, end_turn: bool | None = None) -> Completed:
    """Ends a reply properly; with ``end_turn=False`` Codex will ask the model again."""
    return Completed(end_turn=end_turn)


def failed(code: str, message: str = "scripted failure") -> Failed:
    """Ends a reply with ``response.failed``, such as ``failed("context_length_exceeded")``."""
    return Failed(code=code, message=message)


def incomplete(reason: str) -> Incomplete:
    """Ends a reply with ``response.incomplete``, such as ``incomplete("max_output_tokens")``."""
    return Incomplete(reason=reason)


def cut() -> Broken:
    """Ends a reply by closing the connection inside the body."""
    return Broken(how="cut")


def early_eof() -> Broken:
    """Ends the body properly, but before ``response.completed``."""
    return Broken(how="eof")


def reset() -> Broken:
    """Ends a reply with a TCP reset."""
    return Broken(how="reset")


def hang() -> Broken:
    """Never ends: sends nothing more until Codex leaves or the server closes."""
    return Broken(how="hang")


def http_error(
    status: int,
    message: str = "scripted error",
    *,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    **fields: object,
) -> HttpAnswer:
    """Refuses a request with an HTTP status and the JSON error object that OpenAI sends.

    ``http_error(429, type="usage_limit_reached", resets_at=1893456000)`` or
    ``http_error(429, headers={"retry-after": "1"})`` or ``http_error(502, body="<html>")``.

    Args:
        status: The HTTP status.
        message: The error's message.
        body: The whole body as it stands, in place of the error object.
        headers: Response headers.
        **fields: More fields of the error object, such as ``type`` and ``code``.
    """
    error = {"message": message, **fields}
    return HttpAnswer(
        status=status,
        body=json.dumps({"error": error}) if body is None else body,
        headers=headers or {},
    )


def rate_limit_headers(
    used_percent: float,
    *,
    window_minutes: int = 300,
    resets_at: int = 1_893_456_000,
    window: Literal["primary", "secondary"] = "primary",
) -> dict[str, str]:
    """The response headers from which Codex learns how much of a rate limit is used.

    Args:
        used_percent: Used share of the window, 0 to 100.
        window_minutes: Length of the window in minutes.
        resets_at: When the window starts anew, in seconds since 1970.
        window: Which of the plan's two windows.
    """
    prefix = f"x-codex-{window}"
    return {
        f"{prefix}-used-percent": str(used_percent),
        f"{prefix}-window-minutes": str(window_minutes),
        f"{prefix}-reset-at": str(resets_at),
    }


# --- items ---------------------------------------------------------------------------------------


def message(text: str) -> Item:
    """The model says something."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def reasoning(*summary: str) -> Item:
    """The model thinks, and says so in summary paragraphs; without any, Codex shows nothing."""
    return {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "encrypted_content": "scripted",
    }


def function_call(name: str, arguments: Mapping[str, object] | str, *, namespace: str | None = None) -> Item:
    """The model calls a function tool; text instead of a mapping is sent as it stands, even if no JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    place = {} if namespace is None else {"namespace": namespace}
    return {"type": "function_call", "name": name, "arguments": text, **place}


def tool_call(name: str, text: str) -> Item:
    """The model calls a tool that takes free text (a "custom" tool)."""
    return {"type": "custom_tool_call", "name": name, "input": text}


def shell(command: str, **arguments: object) -> Item:
    """The model runs a shell command.

    Args:
        command: What ``bash -lc`` gets.
        **arguments: More arguments of Codex's ``exec_command``: ``workdir``, ``tty``, ``yield_time_ms``
            (after how many milliseconds a command that still runs is left in the background), ...
    """
    return function_call("exec_command", {"cmd": command, **arguments})


def write_stdin(text: str, session_id: int, **arguments: object) -> Item:
    """The model types into a command that still runs; see `ModelRequest.session_id`."""
    return function_call("write_stdin", {"session_id": session_id, "chars": text, **arguments})


def apply_patch(patch: str) -> Item:
    """The model edits files; `patch` goes from ``*** Begin Patch`` to ``*** End Patch``."""
    return tool_call("apply_patch", patch)


def mcp_call(server: str, tool: str, **arguments: object) -> Item:
    """The model calls a tool of an MCP server."""
    return function_call(tool, arguments, namespace=f"mcp__{server}")


def web_search(query: str, **action: object) -> Item:
    """The model has searched the web (the service does that, not Codex).

    Args:
        query: What for.
        **action: More of what the service says it did: ``queries``; or another ``type``, such as
            ``open_page`` with its ``url``, or ``find_in_page`` with its ``url`` and ``pattern``.
    """
    done = {"type": "search", "query": query, **action}
    return {"type": "web_search_call", "status": "completed", "action": done}


def update_plan(steps: Mapping[str, Literal["pending", "in_progress", "completed"]]) -> Item:
    """The model writes its to-do list; a tool only where ``tools.update_plan.enabled = true``."""
    plan = [{"step": step, "status": status} for step, status in steps.items()]
    return function_call("update_plan", {"plan": plan})
