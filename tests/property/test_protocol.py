"""What is true of every stream, whatever is in it and however it is cut."""

import json
import sys
from typing import get_args

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from codex_actors import errors
from codex_actors._protocol import MAX_SAMPLE_BYTES, Ending, LineDecoder, TurnState
from codex_actors.events import Event, Noise, TurnCompleted, Unknown, WireEvent
from codex_actors.results import TurnResult
from tests.property import strategies as ours

limits = st.sampled_from([1, 22, 23, 150, 300, 1_000_000])


def decode(*chunks: bytes, limit: int = 1_000_000, keep_raw: bool = False) -> list[Event]:
    decoder = LineDecoder(max_line_bytes=limit, keep_raw=keep_raw)
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()


def lines_of(stream: bytes) -> list[bytes]:
    return stream.removesuffix(b"\n").split(b"\n") if stream else []


@given(st.data(), ours.recordings | ours.streams, limits, st.booleans())
def test_where_the_pipe_cuts_never_matters(data, stream, limit, keep_raw):
    pieces = data.draw(ours.cuts(stream))
    assert decode(*pieces, limit=limit, keep_raw=keep_raw) == decode(stream, limit=limit, keep_raw=keep_raw)


@given(ours.streams, limits)
@example(b"\n", 1_000_000)
def test_every_line_is_one_event_and_none_touches_another(stream, limit):
    events = decode(stream, limit=limit)
    assert events == [event for line in lines_of(stream) for event in decode(line + b"\n", limit=limit)]
    assert len(events) == len(lines_of(stream))


@given(ours.streams, limits)
def test_asking_for_raw_lines_changes_nothing_else(stream, limit):
    with_raw = decode(stream, limit=limit, keep_raw=True)
    assert [event if isinstance(event, Noise) else event.raw for event in with_raw] == [
        event if isinstance(event, Noise) else line
        for event, line in zip(with_raw, lines_of(stream), strict=True)
    ]
    assert [without_raw(event) for event in with_raw] == [
        without_raw(event) for event in decode(stream, limit=limit)
    ]


def without_raw(event: Event) -> Event:
    known = isinstance(event, get_args(WireEvent))
    return msgspec.structs.replace(event, raw=None) if known else event


@given(ours.lines.filter(lambda line: b"\n" not in line), limits)
def test_only_what_is_no_json_object_is_noise(line, limit):
    [event] = decode(line + b"\n", limit=limit)
    assert isinstance(event, Noise) == (len(line) > limit or not is_json_object(line))
    if isinstance(event, Noise):
        assert (event.sample, event.size) == (line[:MAX_SAMPLE_BYTES], len(line))
        assert event.reason
    if isinstance(event, Unknown):
        assert event.raw == line
        assert 0 < len(event.reason) <= MAX_SAMPLE_BYTES


def is_json_object(line: bytes) -> bool:
    """In the eyes of another JSON parser."""
    try:
        value = json.loads(line.decode(), parse_constant=int)
        json.dumps(value, ensure_ascii=False).encode()  # fails for half a surrogate pair
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


@given(st.lists(ours.lines | st.binary(max_size=400), max_size=20), limits)
def test_no_more_is_held_back_than_the_limit_allows(chunks, limit):
    decoder = LineDecoder(max_line_bytes=limit)
    for chunk in chunks:
        decoder.feed(chunk)
        assert len(decoder._held) <= max(limit, MAX_SAMPLE_BYTES)
        assert sys.getsizeof(decoder._held) <= 3 * max(limit, MAX_SAMPLE_BYTES)
        rest = chunk[chunk.rfind(b"\n") + 1 :]
        assert b"\n" not in decoder._held
        assert decoder._held_bytes >= len(rest)
    decoder.close()
    assert len(decoder._held) == decoder._held_bytes == 0


@given(ours.streams, st.booleans(), st.sampled_from([-35, -9, 0, 1, 2, 101]), st.none() | st.integers(0, 3))
def test_a_turn_succeeds_if_and_only_if_its_completion_was_decoded(stream, read_only, returncode, keep_items):
    events = decode(stream)
    state = TurnState(keep_items=keep_items)
    state.read_only, state.ending = read_only, Ending(returncode=returncode)
    state.apply(events)
    completed = any(isinstance(event, TurnCompleted) for event in events)
    try:
        outcome: object = state.outcome(thread_id="t", codex_home="/h")
    except errors.CodexError as exc:
        outcome = exc
    assert isinstance(outcome, TurnResult) == completed
    if isinstance(outcome, TurnResult | errors.TurnError):
        partial = outcome if isinstance(outcome, TurnResult) else outcome.partial
        assert partial.returncode == returncode
        assert partial.unknown_events == sum(isinstance(event, Unknown) for event in events)
        assert partial.noise_lines == sum(isinstance(event, Noise) for event in events)
        assert keep_items is None or len(partial.items) <= keep_items
    else:
        assert (events, returncode > 0) == ([], True)
