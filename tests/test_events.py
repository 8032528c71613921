"""Every event that Codex writes, and nothing of it lost."""

import json
from typing import get_args

import msgspec
import pytest

from codex_actors import events
from codex_actors._protocol import LineDecoder
from codex_actors.items import AgentMessage
from tests.capture_files import CAPTURES, SPOKEN, TEXT_MODE

EVENTS = {
    '{"type":"thread.started","thread_id":"01a1f884-0000-7000-8000-000000000000"}': events.ThreadStarted(
        thread_id="01a1f884-0000-7000-8000-000000000000"
    ),
    '{"type":"turn.started"}': events.TurnStarted(),
    '{"type":"turn.completed","usage":{"input_tokens":5,"cached_input_tokens":4,'
    '"cache_write_input_tokens":3,"output_tokens":2,"reasoning_output_tokens":1}}': events.TurnCompleted(
        usage=events.Usage(
            input_tokens=5,
            cached_input_tokens=4,
            cache_write_input_tokens=3,
            output_tokens=2,
            reasoning_output_tokens=1,
        )
    ),
    '{"type":"turn.completed","usage":{}}': events.TurnCompleted(usage=events.Usage()),
    '{"type":"turn.failed","error":{"message":"no"}}': events.TurnFailed(
        error=events.FailureMessage(message="no")
    ),
    '{"type":"item.started","item":{"id":"i","type":"agent_message","text":"a"}}': events.ItemStarted(
        item=AgentMessage(id="i", text="a")
    ),
    '{"type":"item.updated","item":{"id":"i","type":"agent_message","text":"a"}}': events.ItemUpdated(
        item=AgentMessage(id="i", text="a")
    ),
    '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"a"}}': events.ItemCompleted(
        item=AgentMessage(id="i", text="a")
    ),
    '{"type":"error","message":"Reconnecting... 1/5 (x)"}': events.Error(message="Reconnecting... 1/5 (x)"),
}


def pairs_without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON as Codex means it: a web search's second ``id`` is another field."""
    found: dict[str, object] = {}
    for name, value in pairs:
        found["call_id" if name in found else name] = value
    return found


def holds(decoded: object, written: object) -> bool:
    """Whether everything that was written is in what was decoded."""
    if isinstance(written, dict):
        return isinstance(decoded, dict) and all(
            name in decoded and holds(decoded[name], value) for name, value in written.items()
        )
    if isinstance(written, list):
        return (
            isinstance(decoded, list) and len(decoded) == len(written) and all(map(holds, decoded, written))
        )
    return decoded == written and type(decoded) is type(written)


@pytest.mark.parametrize(
    ("line", "event"), EVENTS.items(), ids=[type(event).__name__ for event in EVENTS.values()]
)
def test_an_event_is_decoded_field_by_field(line, event):
    assert LineDecoder().feed(line.encode() + b"\n") == [event]


def test_every_event_type_has_a_line_here():
    assert {type(event) for event in EVENTS.values()} == {*get_args(events.WireEvent)}


def test_what_users_may_get_is_what_codex_writes_and_two_of_ours():
    assert {*get_args(events.Event)} == {*get_args(events.WireEvent), events.Unknown, events.Noise}


@pytest.mark.parametrize("run", SPOKEN, ids=lambda run: run.name)
def test_nothing_that_the_real_codex_wrote_is_lost(run):
    """Neither an event nor a field: every key and value of every line is in the structs."""
    decoded = LineDecoder().feed(run.stdout)
    lines = run.stdout.splitlines()
    assert len(decoded) == len(lines)
    for event, line in zip(decoded, lines, strict=True):
        assert isinstance(event, get_args(events.WireEvent))
        written = json.loads(line, object_pairs_hook=pairs_without_doubles)
        assert holds(json.loads(msgspec.json.encode(event)), written)


@pytest.mark.parametrize("run", SPOKEN, ids=lambda run: run.name)
def test_the_raw_lines_are_the_stream_and_say_the_same_again(run):
    with_raw = LineDecoder(keep_raw=True).feed(run.stdout)
    raw = b"".join(
        event.raw + b"\n" for event in with_raw if not isinstance(event, events.Noise) and event.raw
    )
    assert raw == run.stdout
    assert LineDecoder().feed(raw) == LineDecoder().feed(run.stdout)


@pytest.mark.parametrize("run", SPOKEN, ids=lambda run: run.name)
def test_the_events_come_in_the_order_that_the_index_lists(run):
    names = {kind: kind.__struct_config__.tag for kind in get_args(events.WireEvent)}
    assert [names[type(event)] for event in LineDecoder().feed(run.stdout)] == [
        step.split(":")[0] for step in run.events
    ]


def test_text_is_noise():
    [run] = (run for run in CAPTURES if run.story == TEXT_MODE)
    [event] = LineDecoder().feed(run.stdout)
    assert event == events.Noise(
        reason="JSON is malformed: invalid character (byte 0)", sample=b"hello plain", size=11
    )


def test_a_line_is_not_kept_unless_it_was_asked_for():
    line = b'{"type":"turn.started","new":1}\n'
    assert LineDecoder().feed(line) == [events.TurnStarted(raw=None)]
    assert LineDecoder(keep_raw=True).feed(line) == [events.TurnStarted(raw=line[:-1])]
