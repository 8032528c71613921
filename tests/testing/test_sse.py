import json
from typing import Any

import pytest

from codex_actors.events import Usage
from codex_actors.testing import (
    _sse,
    apply_patch,
    completed,
    cut,
    failed,
    incomplete,
    mcp_call,
    message,
    reply,
    shell,
    web_search,
)


def decode(event: bytes) -> Any:
    kind, data, *rest = event.decode().split("\n")
    decoded = json.loads(data.removeprefix("data: "))
    assert rest == ["", ""]
    assert kind == f"event: {decoded['type']}"
    return decoded


@pytest.mark.parametrize("item", [shell("ls"), apply_patch("*** Begin Patch"), mcp_call("tiny", "echo")])
def test_a_call_gets_an_id_that_its_output_can_name(item):
    assert decode(_sse.item_done(item, 7))["item"] == {**item, "call_id": "call_7"}


def test_ids_that_the_script_has_are_kept():
    item = {**shell("ls"), "call_id": "mine"}
    assert decode(_sse.item_done(item, 7))["item"] == item


def test_a_web_search_gets_an_id_of_its_own():
    assert decode(_sse.item_done(web_search("trio"), 7))["item"]["id"] == "ws_7"


def test_what_no_one_refers_to_gets_no_id():
    assert decode(_sse.item_done(message("hi"), 7))["item"] == message("hi")


def test_usage_is_told_the_way_the_service_tells_it():
    usage = Usage(
        input_tokens=100,
        cached_input_tokens=20,
        cache_write_input_tokens=30,
        output_tokens=10,
        reasoning_output_tokens=4,
    )
    assert decode(_sse.ending(reply(usage=usage), "r1"))["response"] == {
        "id": "r1",
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 30},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 110,
        },
    }


@pytest.mark.parametrize(
    ("ending", "kind", "fields"),
    [
        (completed(), "response.completed", {}),
        (completed(end_turn=False), "response.completed", {"end_turn": False}),
        (
            failed("server_error", "oh"),
            "response.failed",
            {"status": "failed", "error": {"code": "server_error", "message": "oh"}},
        ),
        (
            incomplete("max_output_tokens"),
            "response.incomplete",
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        ),
    ],
)
def test_a_reply_ends_with_what_was_scripted(ending, kind, fields):
    assert decode(_sse.ending(reply(ending=ending, usage=None), "r1")) == {
        "type": kind,
        "response": {"id": "r1", "usage": None, **fields},
    }


def test_a_reply_that_breaks_off_has_no_last_event():
    assert _sse.ending(reply(ending=cut()), "r1") == b""
