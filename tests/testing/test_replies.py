import json

import pytest

from codex_actors.testing import (
    apply_patch,
    function_call,
    http_error,
    mcp_call,
    message,
    rate_limit_headers,
    reasoning,
    reply,
    shell,
    update_plan,
    web_search,
    write_stdin,
)


@pytest.mark.parametrize(
    ("item", "wire"),
    [
        (
            message("hi"),
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
        ),
        (
            reasoning("a", "b"),
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
                "encrypted_content": "scripted",
            },
        ),
        (apply_patch("*** ..."), {"type": "custom_tool_call", "name": "apply_patch", "input": "*** ..."}),
        (
            mcp_call("tiny", "echo", text="hi"),
            {
                "type": "function_call",
                "name": "echo",
                "namespace": "mcp__tiny",
                "arguments": '{"text": "hi"}',
            },
        ),
        (
            web_search("trio"),
            {
                "type": "web_search_call",
                "status": "completed",
                "action": {"type": "search", "query": "trio"},
            },
        ),
    ],
)
def test_items_are_what_the_service_sends(item, wire):
    assert item == wire


@pytest.mark.parametrize(
    ("item", "name", "arguments"),
    [
        (shell("ls", tty=True), "exec_command", {"cmd": "ls", "tty": True}),
        (
            write_stdin("y\n", 7, yield_time_ms=250),
            "write_stdin",
            {"session_id": 7, "chars": "y\n", "yield_time_ms": 250},
        ),
        (
            update_plan({"one": "completed"}),
            "update_plan",
            {"plan": [{"step": "one", "status": "completed"}]},
        ),
    ],
)
def test_function_arguments_travel_as_json_text(item, name, arguments):
    assert (item["type"], item["name"], json.loads(item["arguments"])) == ("function_call", name, arguments)


def test_arguments_that_are_no_json_can_be_sent_too():
    assert function_call("exec_command", "{oops")["arguments"] == "{oops"


def test_a_body_of_ones_own_takes_the_place_of_the_error_object():
    assert http_error(502, body="<html>").body == "<html>"
    assert http_error(502, body="").body == ""


def test_either_window_of_a_rate_limit_can_be_told():
    assert rate_limit_headers(99.5, window="secondary", window_minutes=60, resets_at=5) == {
        "x-codex-secondary-used-percent": "99.5",
        "x-codex-secondary-window-minutes": "60",
        "x-codex-secondary-reset-at": "5",
    }


def test_what_the_model_says_is_not_in_the_repr_of_a_reply():
    assert "secret" not in repr(reply(message("secret")))
