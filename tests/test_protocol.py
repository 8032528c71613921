"""Bytes in, events out, and what a turn's events add up to."""

import json
import signal
import sys
from io import BytesIO
from itertools import accumulate
from random import Random

import msgspec
import pytest

from codex_actors import errors
from codex_actors._protocol import (
    MAX_IN_PROGRESS,
    MAX_NOTICES,
    MAX_SAMPLE_BYTES,
    Ending,
    LineDecoder,
    TurnState,
    _decode_at_once,
)
from codex_actors.events import (
    Error,
    Event,
    FailureMessage,
    ItemCompleted,
    ItemStarted,
    ItemUpdated,
    Noise,
    ThreadStarted,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    Unknown,
    Usage,
)
from codex_actors.items import (
    AgentMessage,
    CollabToolCall,
    CommandExecution,
    FileChange,
    McpToolCall,
    Reasoning,
    TodoList,
    WebSearch,
)
from codex_actors.items import Error as Warning_
from codex_actors.results import PartialResult, SideEffects, Timings, TurnResult, TurnUsage
from tests.capture_files import SPOKEN, Capture, capture

STARTED = b'{"type":"turn.started"}'


def decode(*chunks: bytes, max_line_bytes: int = 1_000_000, keep_raw: bool = False) -> list[Event]:
    """All events of a stream that came in these pieces."""
    decoder = LineDecoder(max_line_bytes=max_line_bytes, keep_raw=keep_raw)
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()


def at_once(lines: bytes) -> list[Event] | None:
    """What becomes of whole lines if nobody looks closely."""
    return _decode_at_once(BytesIO(lines).readlines(), lines)


def decode_one(line: bytes) -> Event:
    """The event of one line, which must not disturb the ones around it."""
    before, event, after = decode(STARTED + b"\n" + line + b"\n" + STARTED + b"\n")
    assert before == after == TurnStarted()
    return event


# Bytes to lines to events.


def test_where_the_pipe_cuts_does_not_matter():
    stdout = capture("cmd_unicode_newlines.0.169.0").stdout
    assert decode(*(stdout[i : i + 1] for i in range(len(stdout)))) == decode(stdout)


def test_an_event_comes_with_the_read_that_ends_its_line():
    decoder = LineDecoder()
    assert decoder.feed(STARTED) == []
    assert decoder.feed(b"\n" + STARTED) == [TurnStarted()]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == [TurnStarted()]
    assert decoder.close() == []


def test_a_last_line_without_an_end_counts():
    assert decode(STARTED + b"\n" + STARTED) == [TurnStarted(), TurnStarted()]


def test_the_end_of_the_stream_comes_once():
    decoder = LineDecoder()
    decoder.feed(b'{"type":"turn.st')
    assert decoder.close() == [Noise(reason="Input data was truncated", sample=b'{"type":"turn.st', size=16)]
    assert decoder.close() == []


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_a_newline_ends_a_line(separator):
    text = msgspec.json.encode(f"a{separator}b")
    [event] = decode(b'{"type":"error","message":' + text + b"}\n")
    assert event == Error(message=f"a{separator}b")


def test_a_windows_newline_is_white_space():
    assert decode(b'{"type":"turn.started"}\r\n{"type":"turn.started"}\r\n') == [TurnStarted()] * 2
    assert decode(STARTED + b"\r\n", keep_raw=True) == [TurnStarted(raw=STARTED + b"\r")]


@pytest.mark.parametrize("run", SPOKEN, ids=lambda run: run.name)
def test_what_codex_writes_is_decoded_at_once(run):
    """A closer look at every line would take several times as long."""
    assert at_once(run.stdout) == decode(run.stdout)


@pytest.mark.parametrize(
    "lines",
    [
        b'{"type":"turn.started"}{"type":"turn.started"}\n',
        b'{"type":"turn.started"}\n\n',
        b'{"type":"turn.started"} {"type":"turn.started"}\n\n',
        b'{"type":"turn.started"}{"type":"turn.started"}\n{"type":\n',
        b'{"type":"turn.started"}{"type":"turn.started"}\n{"type":\n"turn.started"}\n',
        b'\n{"type":"turn.started"}{"type":"turn.started"}\n',
        b'{"type":\n"turn.started"}\n',
        b'{"type":"turn.started","x":{\n}}\n{"type":"turn.started"}{"type":"turn.started"}\n',
        b'{"type":"turn.started","x":{"y":1}\n{"type":"turn.started"}}\n',
        b'{"type":"error","message":"}\n{"}{"type":"turn.started"}\n',
        b'{"type":"item.completed","item":{"id":"a}\n{","type":"web_search","id":"b"}}\n',
        b'{"type":"error","message":"\xff"}\n',
        b'{"type":"turn.started","ignored":"\xff"}\n',
        b'\xef\xbb\xbf{"type":"turn.started"}\n',
        b'{"type":"new"}\n',
        b"[]\n",
        b"\n",
    ],
)
def test_what_is_not_one_object_a_line_wants_a_closer_look(lines):
    assert at_once(lines) is None
    one_by_one = [event for line in lines.splitlines(keepends=True) for event in decode(line)]
    assert decode(lines) == one_by_one
    assert len(one_by_one) == lines.count(b"\n")


# A newer Codex is never an error.


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"type":"turn.paused"}', "Invalid value 'turn.paused' - at `$.type`"),
        (
            b'{"type":"item.completed","item":{"type":"painting"}}',
            "Invalid value 'painting' - at `$.item.type`",
        ),
        (
            b'{"type":"item.completed","item":{"id":"i"}}',
            "Object missing required field `type` - at `$.item`",
        ),
        (b'{"type":"item.completed"}', "Object missing required field `item`"),
        (b'{"type":"turn.completed","usage":null}', "Expected `object`, got `null` - at `$.usage`"),
        (b'{"type":"error","message":7}', "Expected `str`, got `int` - at `$.message`"),
        (b'{"type":7}', "Expected `str` - at `$.type`"),
        (b"{}", "Object missing required field `type`"),
        (b'{"turn":"started"}', "Object missing required field `type`"),
        (
            b'{"type":"item.completed","item":{"type":"command_execution","id":"i","command":["ls"]}}',
            "Expected `str`, got `array` - at `$.item.command`",
        ),
        (
            b'{"type":"turn.completed","usage":{"input_tokens":' + b"9" * 5_000 + b"}}",
            "Integer value out of range - at `$.usage.input_tokens`",
        ),
    ],
)
def test_an_object_that_this_version_does_not_know_reaches_the_user(line, reason):
    assert decode_one(line) == Unknown(raw=line, reason=reason)


def test_the_reason_for_not_knowing_is_short():
    event = decode_one(b'{"type":"' + b"x" * 10_000 + b'"}')
    assert isinstance(event, Unknown)
    assert len(event.reason) == MAX_SAMPLE_BYTES


def test_fields_of_a_newer_codex_are_in_the_raw_line():
    line = b'{"type":"turn.started","mood":{"of":["the",{"agent":null}]}}'
    assert decode_one(line) == TurnStarted()
    assert decode(line, keep_raw=True) == [TurnStarted(raw=line)]


# What is no JSON object.


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Reading prompt from stdin...", "JSON is malformed: invalid character"),
        (b"", "Input data was truncated"),
        (b"  ", "Input data was truncated"),
        (b'{"type":"turn.st', "Input data was truncated"),
        (b'{"type":"new', "Input data was truncated"),
        (b'{"type":"new","x":}', "JSON is malformed: invalid character"),
        (STARTED + STARTED, "JSON is malformed: trailing characters"),
        (STARTED + b" " + STARTED, "JSON is malformed: trailing characters"),
        (b"\xef\xbb\xbf" + STARTED, "JSON is malformed: invalid character"),
        (STARTED + b"\x00", "JSON is malformed: trailing characters"),
        (b"\x00" * 9, "JSON is malformed: invalid character"),
        (b"[" + STARTED + b"]", "not a JSON object"),
        (b'"turn.started"', "not a JSON object"),
        (b"1", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"type":"error","message":"a\x01"}', "JSON is malformed: invalid character"),
        (b'{"type":"error","message":"\\ud800"}', "Input data was truncated"),
        (
            b'{"type":"error","message":"\xff"}',
            "'utf-8' codec can't decode byte 0xff in position 27: invalid start byte",
        ),
        (
            b'{"type":"turn.started","ignored":"\xff"}',
            "'utf-8' codec can't decode byte 0xff in position 34: invalid start byte",
        ),
        (
            b'{"type":"new","ignored":"\xff"}',
            "'utf-8' codec can't decode byte 0xff in position 25: invalid start byte",
        ),
    ],
)
def test_what_is_no_json_object_is_noise_with_a_reason(line, reason):
    event = decode_one(line)
    assert isinstance(event, Noise)
    assert event.reason.startswith(reason)
    assert (event.sample, event.size) == (line, len(line))


@pytest.mark.parametrize("kind", [b"turn.started", b"new"])
def test_nesting_too_deep_to_read_is_noise(kind):
    line = b'{"type":"' + kind + b'","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    event = decode_one(line)
    assert isinstance(event, Noise)
    assert event.reason.startswith("maximum recursion depth exceeded")
    assert event.size == len(line)


def test_a_sample_of_noise_is_clipped():
    event = decode_one(b"x" * 5_000)
    assert isinstance(event, Noise)
    assert (event.sample, event.size) == (b"x" * MAX_SAMPLE_BYTES, 5_000)


# Lines that are too long.


def test_a_line_as_long_as_the_limit_is_read_and_one_byte_more_is_noise():
    lines = b'{"type":"new"}\n' + STARTED + b'\n{"type":"new"}\n'
    too_long = Noise(reason="longer than 22 bytes", sample=STARTED, size=23)
    assert decode(lines, max_line_bytes=23)[1] == TurnStarted()
    assert decode(lines, max_line_bytes=22)[1] == too_long


@pytest.mark.parametrize("step", [1, 100, 299, 300, 301])
def test_the_limit_is_the_same_for_a_line_that_comes_in_pieces(step):
    line = STARTED.rjust(300)
    pieces = [line[i : i + step] for i in range(0, len(line), step)]
    assert (
        decode(*pieces, b"\n", max_line_bytes=300) == decode(*pieces, max_line_bytes=300) == [TurnStarted()]
    )
    assert [type(event) for event in decode(*pieces, b"\n", max_line_bytes=299)] == [Noise]


@pytest.mark.parametrize("step", [1, 7, 100, 199, 200, 201, 5_000])
def test_of_a_line_over_the_limit_the_beginning_is_kept_however_it_came(step):
    line = bytes(range(32, 127)) * 50
    pieces = [line[i : i + step] for i in range(0, len(line), step)]
    events = decode(*pieces, b"\n" + STARTED + b"\n", max_line_bytes=300)
    assert events == [
        Noise(reason="longer than 300 bytes", sample=line[:MAX_SAMPLE_BYTES], size=len(line)),
        TurnStarted(),
    ]


def test_the_stream_can_end_in_a_line_over_the_limit():
    assert decode(b"x" * 300, b"x" * 300, max_line_bytes=400) == [
        Noise(reason="longer than 400 bytes", sample=b"x" * MAX_SAMPLE_BYTES, size=600)
    ]


def test_memory_is_bounded_however_long_a_line_is():
    decoder = LineDecoder(max_line_bytes=10_000)
    held = set()
    for _ in range(1_000):
        assert decoder.feed(b"x" * 999) == []
        held.add(sys.getsizeof(decoder._held))
    assert max(held) < 2 * 10_000
    assert sys.getsizeof(decoder._held) < 3 * MAX_SAMPLE_BYTES
    assert decoder.feed(b"\n" + STARTED + b"\n")[1:] == [TurnStarted()]
    assert len(decoder._held) == 0


# Damaged streams.


def succeeds(events: list[Event], returncode: int = 0) -> bool:
    """Whether the grammar calls that a completed turn."""
    try:
        outcome(*events, returncode=returncode)
    except errors.CodexError:
        return False
    return True


def line_ends(run: Capture) -> list[int]:
    """Where each line's newline is."""
    return [end - 1 for end in accumulate(map(len, run.stdout.splitlines(keepends=True)))]


@pytest.mark.parametrize("run", SPOKEN, ids=lambda run: run.name)
def test_a_run_cut_anywhere_keeps_what_came_before_and_succeeds_only_if_it_completed(run):
    whole, ends = decode(run.stdout), line_ends(run)
    completed = isinstance(whole[-1], TurnCompleted)
    for cut in range(len(run.stdout) + 1):
        events = decode(run.stdout[:cut])
        intact = sum(end <= cut for end in ends)
        assert events[:intact] == whole[:intact]
        assert len(events) - intact in {0, 1}
        assert all(type(event) is Noise for event in events[intact:])
        assert succeeds(events) == (completed and intact == len(ends))


@pytest.mark.parametrize("run", SPOKEN, ids=lambda run: run.name)
def test_a_run_with_any_byte_changed_keeps_its_other_events_and_succeeds_only_if_it_completed(run):
    whole, ends = decode(run.stdout), line_ends(run)
    random = Random(run.name)
    changes = [(byte + random.randrange(1, 256)) % 256 for byte in run.stdout]
    for position, changed in [*enumerate(changes), *((n, ord("\n")) for n in range(ends[-1]))]:
        damaged = bytearray(run.stdout)
        damaged[position] = changed
        lines = bytes(damaged).removesuffix(b"\n").split(b"\n")
        events = decode(bytes(damaged))
        intact = sum(end < position for end in ends)
        assert len(events) == len(lines)
        assert events[:intact] == whole[:intact]
        if len(lines) == len(ends):
            assert events[intact + 1 :] == whole[intact + 1 :]
        assert succeeds(events) <= any(map(says_completed, lines))


def says_completed(line: bytes) -> bool:
    """Whether that is a turn.completed, in the eyes of another JSON parser."""
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("type") == "turn.completed"


# The grammar of a turn.

COMMAND = CommandExecution(id="item_0", command="make", status="in_progress")
PATCH = FileChange(id="item_1", status="in_progress")
PATCHED = FileChange(id=PATCH.id, changes=PATCH.changes, status="completed")
TOOL = McpToolCall(id="item_2", server="s", tool="t", status="in_progress")
CHILD = CollabToolCall(id="item_3", tool="spawn_agent", status="in_progress")
MESSAGE = AgentMessage(id="item_4", text="done")
PLAN = TodoList(id="item_5")
SEARCH = WebSearch(id="item_6", query="q")
WARNING = Warning_(id="item_7", message="deprecated")
THOUGHT = Reasoning(id="item_8", text="hm")

THREAD = ThreadStarted(thread_id="the thread")
BEGUN = TurnStarted()
COMPLETED = TurnCompleted(usage=Usage(input_tokens=7, output_tokens=3))
FAILED = TurnFailed(error=FailureMessage(message="model not found"))
RETRY = Error(message="Reconnecting... 1/5 (x)")
UNKNOWN = Unknown(raw=b"{}", reason="r")
NOISE = Noise(reason="r", sample=b"", size=0)
TIMINGS = Timings(first_event_seconds=0.1, last_event_seconds=0.2, exit_seconds=0.3)


HEARD = Ending(returncode=0, timings=TIMINGS, dropped_events=2, all_heard=True)


def state_after(
    *events: Event, read_only=False, tools=True, review=False, keep_items=None, ending=HEARD
) -> TurnState:
    state = TurnState(review=review, keep_items=keep_items)
    state.read_only, state.tools, state.ending = read_only, tools, ending
    state.apply(events)
    return state


def outcome(*events: Event, returncode: int | None = 0, stderr_tail: str = "", **kind) -> TurnResult:
    ending = HEARD._replace(returncode=returncode, stderr_tail=stderr_tail)
    state = state_after(*events, ending=ending, **kind)
    return state.outcome(thread_id="asked for", codex_home="/home/dev/.codex")


def failure(*events: Event, returncode: int | None = 0, stderr_tail: str = "", **kind) -> errors.TurnError:
    with pytest.raises(errors.TurnError) as caught:
        outcome(*events, returncode=returncode, stderr_tail=stderr_tail, **kind)
    return caught.value


@pytest.mark.parametrize("returncode", [0, 1, 101, -9])
@pytest.mark.parametrize(
    "events",
    [
        (THREAD, BEGUN, COMPLETED),
        (THREAD, BEGUN, RETRY, COMPLETED),
        (THREAD, BEGUN, COMPLETED, RETRY),
        (THREAD, BEGUN, FAILED, COMPLETED),
        (THREAD, BEGUN, COMPLETED, FAILED),
        (THREAD, BEGUN, COMPLETED, NOISE, UNKNOWN),
        (NOISE, UNKNOWN, COMPLETED),
        (THREAD, BEGUN, ItemStarted(item=COMMAND), COMPLETED),
    ],
)
def test_a_turn_that_completed_has_succeeded_whatever_else_was_said(events, returncode):
    result = outcome(*events, returncode=returncode)
    assert (result.usage.thread, result.returncode) == (COMPLETED.usage, returncode)


@pytest.mark.parametrize(
    ("events", "returncode", "error"),
    [
        ((), 0, errors.StreamTruncatedError),
        ((THREAD,), 0, errors.StreamTruncatedError),
        ((THREAD, BEGUN), 0, errors.StreamTruncatedError),
        ((THREAD, BEGUN, ItemCompleted(item=MESSAGE)), 0, errors.StreamTruncatedError),
        ((THREAD, BEGUN, ItemCompleted(item=WARNING)), 0, errors.StreamTruncatedError),
        ((NOISE, UNKNOWN), 0, errors.StreamTruncatedError),
        ((THREAD, BEGUN, RETRY), 0, errors.ErrorEventError),
        ((THREAD, BEGUN, RETRY, ItemCompleted(item=MESSAGE)), 0, errors.ErrorEventError),
        ((THREAD, BEGUN, RETRY), 1, errors.ProcessExitedError),
        ((THREAD, BEGUN), 1, errors.ProcessExitedError),
        ((THREAD,), 2, errors.ProcessExitedError),
        ((NOISE,), 1, errors.ProcessExitedError),
        ((THREAD, BEGUN), 101, errors.CodexPanickedError),
        ((), 101, errors.CodexPanickedError),
        ((THREAD, BEGUN), -15, errors.ProcessKilledError),
        ((), -9, errors.ProcessKilledError),
        ((THREAD, BEGUN, RETRY), -9, errors.ProcessKilledError),
        ((THREAD, BEGUN, FAILED), 1, errors.ModelNotFoundError),
        ((THREAD, BEGUN, RETRY, FAILED), 0, errors.ModelNotFoundError),
        ((THREAD, BEGUN, FAILED, RETRY), -9, errors.ModelNotFoundError),
        ((THREAD, BEGUN, FAILED), 101, errors.ModelNotFoundError),
    ],
)
def test_each_end_without_completion_is_an_error_of_its_own(events, returncode, error):
    exc = failure(*events, returncode=returncode, stderr_tail="the end")
    assert type(exc) is error
    assert (exc.returncode, exc.stderr_tail) == (returncode, "the end")
    assert exc.partial == state_after(*events, ending=HEARD._replace(returncode=returncode)).partial()


def test_a_turn_that_has_ended_needs_no_exit_status():
    """Such as when Codex is slow to leave, and nobody stayed."""
    assert outcome(THREAD, BEGUN, COMPLETED, returncode=None).returncode is None
    assert failure(THREAD, BEGUN, FAILED, returncode=None).returncode is None


def test_a_process_that_was_killed_says_by_which_signal():
    exc = failure(THREAD, BEGUN, returncode=-11)
    assert isinstance(exc, errors.ProcessKilledError)
    assert exc.signal == signal.SIGSEGV


def test_the_last_error_is_the_one_that_counts_when_codex_just_stops():
    exc = failure(THREAD, BEGUN, RETRY, Error(message="fatal"))
    assert isinstance(exc, errors.ErrorEventError)
    assert exc.reason == "fatal"


def test_codex_that_refuses_before_it_says_anything_did_not_fail_a_turn():
    with pytest.raises(errors.ConfigRefusedError, match="bad config") as caught:
        outcome(returncode=1, stderr_tail="bad config")
    assert (caught.value.returncode, caught.value.stderr_tail) == (1, "bad config")
    with pytest.raises(errors.ThreadNotFoundError, match="asked for"):
        outcome(returncode=1, stderr_tail="no rollout found for thread id")
    with pytest.raises(errors.CodexHomeError, match=r"/home/dev/\.codex"):
        outcome(returncode=1, stderr_tail='CODEX_HOME points to "/x"')


@pytest.mark.parametrize("run", SPOKEN, ids=lambda run: run.name)
def test_every_recorded_run_has_the_outcome_its_events_tell(run):
    expected = {
        "turn.completed": TurnResult,
        "turn.failed": errors.TurnFailedError,
        "thread.started": errors.StreamTruncatedError,
        "item.started:command_execution": errors.ProcessExitedError,
    }[run.events[-1]]
    try:
        result: object = outcome(*decode(run.stdout), returncode=run.returncode, stderr_tail=run.stderr)
    except errors.CodexError as exc:
        result = exc
    assert isinstance(result, expected)


def test_a_result_holds_all_that_the_turn_came_to():
    result = outcome(
        THREAD,
        ItemCompleted(item=WARNING),
        BEGUN,
        RETRY,
        ItemCompleted(item=AgentMessage(id="item_9", text="on it")),
        ItemStarted(item=COMMAND),
        ItemCompleted(item=COMMAND),
        UNKNOWN,
        NOISE,
        NOISE,
        ItemCompleted(item=MESSAGE),
        COMPLETED,
    )
    assert result == TurnResult(
        thread_id="the thread",
        final_response="done",
        items=(WARNING, AgentMessage(id="item_9", text="on it"), COMMAND, MESSAGE),
        usage=TurnUsage(thread=COMPLETED.usage),
        side_effects=SideEffects.SEEN,
        notices=("Reconnecting... 1/5 (x)",),
        unknown_events=1,
        noise_lines=2,
        dropped_events=2,
        timings=TIMINGS,
        returncode=0,
    )


def test_a_turn_can_be_asked_for_what_it_has_done_so_far():
    state = state_after(THREAD, BEGUN, ItemCompleted(item=MESSAGE))
    assert state.partial() == PartialResult(
        thread_id="the thread",
        final_response="done",
        items=(MESSAGE,),
        dropped_events=2,
        timings=TIMINGS,
        returncode=0,
    )


@pytest.mark.parametrize(
    ("events", "ended"),
    [((THREAD, BEGUN, RETRY), False), ((BEGUN, COMPLETED), True), ((BEGUN, FAILED), True)],
)
def test_a_turn_has_ended_when_codex_says_so(events, ended):
    assert state_after(*events).ended is ended


def test_events_may_come_in_any_number_of_batches():
    events = (THREAD, BEGUN, ItemStarted(item=COMMAND), ItemCompleted(item=COMMAND), COMPLETED)
    state = TurnState()
    for event in events:
        state.apply([])
        state.apply([event])
    state.ending = HEARD
    assert state.partial() == state_after(*events).partial()
    assert state.thread_id == "the thread"


# Tokens.


def test_a_review_counts_no_tokens():
    zeros = TurnCompleted(usage=Usage())
    assert outcome(THREAD, BEGUN, zeros, review=True).usage == TurnUsage()
    assert outcome(THREAD, BEGUN, zeros).usage.thread == Usage()


def test_a_turn_that_failed_counts_no_tokens():
    assert failure(THREAD, BEGUN, FAILED).partial.usage == TurnUsage()


# What is kept.


def test_a_stream_keeps_its_last_items_and_its_final_response():
    messages = [AgentMessage(id=f"item_{n}", text=f"{n}") for n in range(5)]
    events = [*(ItemCompleted(item=message) for message in messages), ItemCompleted(item=THOUGHT)]
    result = outcome(*events, COMPLETED, keep_items=2)
    assert (result.items, result.final_response) == ((messages[-1], THOUGHT), "4")
    assert outcome(*events, COMPLETED, keep_items=0).final_response == "4"
    assert outcome(*events, COMPLETED).items == (*messages, THOUGHT)


def test_only_the_last_notices_are_kept():
    notices = [Error(message=f"{n}") for n in range(100)]
    partial = state_after(*notices).partial()
    assert partial.notices == tuple(f"{n}" for n in range(100 - MAX_NOTICES, 100))


# What may be silent for long.


@pytest.mark.parametrize("item", [COMMAND, PATCH, TOOL, CHILD])
def test_what_acts_is_in_progress_from_its_start_to_its_completion(item):
    state = state_after(THREAD, BEGUN)
    assert not state.item_in_progress
    state.apply([ItemStarted(item=item)])
    assert state.item_in_progress
    state.apply([ItemUpdated(item=item)])
    assert state.item_in_progress
    state.apply([ItemCompleted(item=item)])
    assert not state.item_in_progress


def test_of_two_commands_one_may_still_be_in_progress():
    other = CommandExecution(id="item_9", command="sleep 1")
    state = state_after(ItemStarted(item=COMMAND), ItemStarted(item=other), ItemCompleted(item=COMMAND))
    assert state.item_in_progress


@pytest.mark.parametrize("item", [PLAN, SEARCH, THOUGHT, MESSAGE, WARNING])
def test_what_does_not_act_is_never_in_progress(item):
    """A plan is open until the turn ends; a search is the service's work."""
    assert not state_after(ItemStarted(item=item), ItemUpdated(item=item)).item_in_progress


def test_memory_is_bounded_also_by_commands_that_never_complete():
    state = state_after(*(ItemStarted(item=CommandExecution(id=f"{n}", command="c")) for n in range(2_000)))
    assert len(state._in_progress) == MAX_IN_PROGRESS


NO_NETWORK = Error(message="Reconnecting... waiting for network (Connection failed: error sending request)")


@pytest.mark.parametrize(
    ("events", "waiting"),
    [
        ((), False),
        ((THREAD, BEGUN), False),
        ((THREAD, BEGUN, RETRY), False),
        ((THREAD, BEGUN, NO_NETWORK), True),
        ((THREAD, BEGUN, RETRY, NO_NETWORK), True),
        ((THREAD, BEGUN, NO_NETWORK, RETRY), False),
        ((THREAD, BEGUN, NO_NETWORK, ItemCompleted(item=MESSAGE)), False),
    ],
)
def test_codex_waits_for_the_network_as_long_as_that_is_the_last_thing_it_said(events, waiting):
    state = TurnState()
    for event in events:
        state.apply([event])
        state.apply([])
    assert state.waiting_for_network is state_after(*events).waiting_for_network is waiting


# Side effects.

NONE, SEEN, UNSURE = SideEffects.NONE, SideEffects.SEEN, SideEffects.UNKNOWN


@pytest.mark.parametrize(
    ("events", "anywhere", "read_only"),
    [
        # Where no turn began there is nothing to worry about, whatever the sandbox.
        ((), NONE, NONE),
        ((THREAD,), NONE, NONE),
        ((THREAD, RETRY), NONE, NONE),
        # Where one began, a sandboxed command can have written without any item.
        ((THREAD, BEGUN), UNSURE, NONE),
        ((THREAD, COMPLETED), UNSURE, NONE),
        ((THREAD, FAILED), UNSURE, NONE),
        ((THREAD, ItemCompleted(item=MESSAGE)), UNSURE, NONE),
        ((THREAD, BEGUN, ItemCompleted(item=MESSAGE), COMPLETED), UNSURE, NONE),
        ((THREAD, BEGUN, ItemStarted(item=SEARCH), ItemStarted(item=PLAN)), UNSURE, NONE),
        # What acts is seen when it starts, and when only its end is.
        ((THREAD, BEGUN, ItemStarted(item=COMMAND)), SEEN, NONE),
        ((THREAD, BEGUN, ItemCompleted(item=COMMAND)), SEEN, NONE),
        ((THREAD, BEGUN, ItemStarted(item=PATCH)), SEEN, NONE),
        # A patch that succeeded in a read-only sandbox was let out of it.
        ((THREAD, BEGUN, ItemCompleted(item=PATCHED)), SEEN, SEEN),
        # An MCP server is outside every sandbox.
        ((THREAD, BEGUN, ItemStarted(item=TOOL)), SEEN, SEEN),
        ((THREAD, BEGUN, ItemCompleted(item=TOOL)), SEEN, SEEN),
        ((THREAD, BEGUN, UNKNOWN, ItemStarted(item=TOOL)), SEEN, SEEN),
        # A child agent's own work is never shown.
        ((THREAD, BEGUN, ItemStarted(item=CHILD)), SEEN, UNSURE),
        ((THREAD, BEGUN, ItemCompleted(item=CHILD)), SEEN, UNSURE),
        # What was not understood may have been anything.
        ((THREAD, UNKNOWN), UNSURE, UNSURE),
        ((THREAD, NOISE), UNSURE, UNSURE),
        ((THREAD, BEGUN, UNKNOWN), UNSURE, UNSURE),
        ((THREAD, BEGUN, NOISE, ItemStarted(item=COMMAND)), SEEN, UNSURE),
    ],
)
def test_side_effects_are_none_only_where_that_is_certain(events, anywhere, read_only):
    effects = [
        state_after(*events, read_only=sandbox, keep_items=keep).partial().side_effects
        for sandbox in (False, True)
        for keep in (None, 1)
    ]
    assert effects == [anywhere, anywhere, read_only, read_only]


@pytest.mark.parametrize(
    ("events", "read_only", "tools", "effects"),
    [
        ((), False, True, UNSURE),
        ((THREAD,), False, True, UNSURE),
        ((THREAD, BEGUN, ItemStarted(item=COMMAND)), False, True, SEEN),
        ((), True, True, UNSURE),
        ((THREAD, BEGUN, ItemStarted(item=COMMAND)), True, True, UNSURE),
        ((THREAD, BEGUN, ItemStarted(item=COMMAND)), True, False, NONE),
        ((THREAD, BEGUN, ItemStarted(item=CHILD)), True, False, NONE),
    ],
)
def test_of_a_codex_cut_short_only_a_sandbox_without_tools_beside_it_is_certain(
    events, read_only, tools, effects
):
    """It may have done more than it had time to say."""
    state = state_after(*events, read_only=read_only, tools=tools, ending=Ending())
    assert state.partial().side_effects is effects
