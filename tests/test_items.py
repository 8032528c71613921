"""Every item that Codex writes, decoded field by field."""

import json
from typing import get_args

import pytest

from codex_actors import items
from codex_actors._protocol import LineDecoder
from codex_actors.events import ItemCompleted, ItemStarted, ItemUpdated
from tests.capture_files import SPOKEN, capture


def decode(line: str) -> items.Item:
    """The item of a line as Codex writes it."""
    [event] = LineDecoder().feed(b'{"type":"item.completed","item":' + line.encode() + b"}\n")
    assert isinstance(event, ItemCompleted), event
    return event.item


def recorded(name: str) -> list[items.Item]:
    """All items of a real run, each as often as Codex wrote it."""
    events = LineDecoder().feed(capture(name).stdout)
    return [event.item for event in events if isinstance(event, (ItemStarted, ItemUpdated, ItemCompleted))]


# As the real Codex writes them, but for what no run could be made to show: `_meta`, `declined`, a search
# with several queries, a page.
ITEMS = {
    '{"id":"item_0","type":"agent_message","text":"hello"}': items.AgentMessage(id="item_0", text="hello"),
    '{"id":"item_0","type":"reasoning","text":"**Thinking**\\n\\nabout it"}': items.Reasoning(
        id="item_0", text="**Thinking**\n\nabout it"
    ),
    '{"id":"item_0","type":"command_execution","command":"/bin/bash -lc \'echo hi\'",'
    '"aggregated_output":"","exit_code":null,"status":"in_progress"}': items.CommandExecution(
        id="item_0", command="/bin/bash -lc 'echo hi'", exit_code=None, status="in_progress"
    ),
    '{"id":"item_0","type":"command_execution","command":"/bin/bash -lc ls",'
    '"aggregated_output":"err\\nout\\n","exit_code":127,"status":"failed"}': items.CommandExecution(
        id="item_0",
        command="/bin/bash -lc ls",
        aggregated_output="err\nout\n",
        exit_code=127,
        status="failed",
    ),
    '{"id":"item_0","type":"command_execution","command":"rm","aggregated_output":"",'
    '"exit_code":-1,"status":"declined"}': items.CommandExecution(
        id="item_0", command="rm", exit_code=-1, status="declined"
    ),
    '{"id":"item_0","type":"file_change","changes":[{"path":"/p/a.txt","kind":"update"},'
    '{"path":"/p/b.txt","kind":"delete"},{"path":"/p/new.txt","kind":"add"}],'
    '"status":"in_progress"}': items.FileChange(
        id="item_0",
        changes=(
            items.FileUpdate(path="/p/a.txt", kind="update"),
            items.FileUpdate(path="/p/b.txt", kind="delete"),
            items.FileUpdate(path="/p/new.txt", kind="add"),
        ),
        status="in_progress",
    ),
    '{"id":"item_0","type":"mcp_tool_call","server":"tiny","tool":"echo","arguments":{"text":"hi"},'
    '"result":null,"error":null,"status":"in_progress"}': items.McpToolCall(
        id="item_0", server="tiny", tool="echo", arguments={"text": "hi"}, status="in_progress"
    ),
    '{"id":"item_0","type":"mcp_tool_call","server":"tiny","tool":"echo","arguments":{},"result":'
    '{"content":[{"type":"text","text":"hi"}],"structured_content":{"n":[1,2.5,null]},'
    '"_meta":{"cost":3}},"error":null,"status":"completed"}': items.McpToolCall(
        id="item_0",
        server="tiny",
        tool="echo",
        arguments={},
        result=items.McpToolResult(
            content=({"type": "text", "text": "hi"},),
            structured_content={"n": [1, 2.5, None]},
            meta={"cost": 3},
        ),
        status="completed",
    ),
    '{"id":"item_0","type":"mcp_tool_call","server":"tiny","tool":"die","arguments":null,"result":null,'
    '"error":{"message":"Transport closed"},"status":"failed"}': items.McpToolCall(
        id="item_0",
        server="tiny",
        tool="die",
        arguments=None,
        error=items.McpToolError(message="Transport closed"),
        status="failed",
    ),
    '{"id":"item_0","type":"web_search","id":"ws_19","query":"q",'
    '"action":{"type":"search","query":"q","queries":["a","b"]}}': items.WebSearch(
        id="item_0",
        call_id="ws_19",
        query="q",
        action=items.WebSearchAction(type="search", query="q", queries=("a", "b")),
    ),
    '{"id":"item_0","type":"web_search","id":"ws_19","query":"",'
    '"action":{"type":"find_in_page","url":"https://example.org","pattern":"p"}}': items.WebSearch(
        id="item_0",
        call_id="ws_19",
        action=items.WebSearchAction(type="find_in_page", url="https://example.org", pattern="p"),
    ),
    '{"id":"item_0","type":"web_search","query":"q"}': items.WebSearch(id="item_0", query="q"),
    '{"id":"item_0","type":"todo_list","items":[{"text":"one","completed":true},'
    '{"text":"two","completed":false}]}': items.TodoList(
        id="item_0",
        items=(items.TodoEntry(text="one", completed=True), items.TodoEntry(text="two", completed=False)),
    ),
    '{"id":"item_0","type":"collab_tool_call","tool":"spawn_agent","sender_thread_id":"t0",'
    '"receiver_thread_ids":["t1"],"prompt":"do","agents_states":{"t1":{"status":"pending_init",'
    '"message":null}},"status":"completed"}': items.CollabToolCall(
        id="item_0",
        tool="spawn_agent",
        sender_thread_id="t0",
        receiver_thread_ids=("t1",),
        prompt="do",
        agents_states={"t1": items.AgentState(status="pending_init")},
        status="completed",
    ),
    '{"id":"item_0","type":"collab_tool_call","tool":"wait","sender_thread_id":"t0",'
    '"receiver_thread_ids":["t1"],"prompt":null,"agents_states":{"t1":{"status":"completed",'
    '"message":"child result"}},"status":"in_progress"}': items.CollabToolCall(
        id="item_0",
        tool="wait",
        sender_thread_id="t0",
        receiver_thread_ids=("t1",),
        agents_states={"t1": items.AgentState(status="completed", message="child result")},
        status="in_progress",
    ),
    '{"id":"item_0","type":"error","message":"Model metadata not found."}': items.Error(
        id="item_0", message="Model metadata not found."
    ),
}


@pytest.mark.parametrize(
    ("line", "item"), ITEMS.items(), ids=[type(item).__name__ for item in ITEMS.values()]
)
def test_an_item_is_decoded_field_by_field(line, item):
    assert decode(line) == item


def test_every_item_type_has_a_line_here():
    assert {type(item) for item in ITEMS.values()} == {*get_args(items.Item)}


def test_every_item_type_has_been_seen_in_a_real_run():
    seen = {type(item) for run in SPOKEN for item in recorded(run.name)}
    assert seen == {*get_args(items.Item)}


def test_a_status_of_a_newer_codex_is_kept_as_it_is():
    item = decode('{"id":"item_0","type":"file_change","changes":[],"status":"simmering"}')
    assert isinstance(item, items.FileChange)
    assert item.status == "simmering"


def test_other_open_words_are_kept_as_they_are_too():
    change = decode('{"id":"i","type":"file_change","changes":[{"path":"/p","kind":"chmod"}]}')
    search = decode('{"id":"i","type":"web_search","query":"q","action":{"type":"screenshot"}}')
    assert change == items.FileChange(id="i", changes=(items.FileUpdate(path="/p", kind="chmod"),))
    assert search == items.WebSearch(id="i", query="q", action=items.WebSearchAction(type="screenshot"))


def test_a_field_of_a_newer_codex_is_ignored():
    assert decode('{"id":"i","type":"agent_message","text":"hi","mood":{"x":[1]}}') == items.AgentMessage(
        id="i", text="hi"
    )


@pytest.mark.parametrize(
    ("line", "item"),
    [
        ('{"id":"i","type":"command_execution","command":"c"}', items.CommandExecution(id="i", command="c")),
        ('{"id":"i","type":"file_change"}', items.FileChange(id="i")),
        (
            '{"id":"i","type":"mcp_tool_call","server":"s","tool":"t","result":{}}',
            items.McpToolCall(id="i", server="s", tool="t", result=items.McpToolResult()),
        ),
        ('{"id":"i","type":"web_search"}', items.WebSearch(id="i")),
        (
            '{"id":"i","type":"todo_list","items":[{"text":"t"}]}',
            items.TodoList(id="i", items=(items.TodoEntry(text="t"),)),
        ),
        ('{"id":"i","type":"collab_tool_call","tool":"wait"}', items.CollabToolCall(id="i", tool="wait")),
    ],
)
def test_what_an_item_can_do_without_may_be_missing(line, item):
    assert decode(line) == item


def test_two_calls_without_children_share_no_dictionary():
    first, second = (items.CollabToolCall(id=name, tool="wait") for name in ("a", "b"))
    assert first.agents_states is not second.agents_states


def test_a_web_search_has_both_of_its_ids_in_a_real_run():
    found = [item for item in recorded("web_search.0.169.0") if isinstance(item, items.WebSearch)]
    assert [(search.id, search.call_id) for search in found] == [("item_0", "ws_1963c00304de")] * 2


def test_a_plan_changes_until_the_turn_ends():
    plans = [item for item in recorded("plan_enabled.0.169.0") if isinstance(item, items.TodoList)]
    assert [[step.completed for step in plan.items] for plan in plans] == [
        [False, False],
        [True, False],
        [True, True],
        [True, True],
    ]


def test_a_message_that_speaks_of_a_web_search_is_left_as_it_is():
    text = '{"type":"item.completed","item":{"id":"x","type":"web_search","id":"ws"'
    message = decode(json.dumps({"id": "item_0", "type": "agent_message", "text": text}))
    assert message == items.AgentMessage(id="item_0", text=text)


def test_what_a_tool_was_passed_is_left_as_it_is_though_it_looks_like_a_web_search():
    event = '{"type":"item.completed","item":{"id":"x","type":"web_search","id":"ws"}}'
    call = decode(f'{{"id":"i","type":"mcp_tool_call","server":"s","tool":"t","arguments":{event}}}')
    assert isinstance(call, items.McpToolCall)
    assert call.arguments == {"type": "item.completed", "item": {"id": "ws", "type": "web_search"}}
