import json
import signal
from typing import Any

import pytest

from codex_actors import PartialResult, SideEffects, Timings, TurnResult, TurnUsage, errors
from codex_actors._protocol import LineDecoder
from codex_actors.cli._json_lines import event_line, result_line
from codex_actors.events import Noise, Unknown, Usage
from tests.capture_files import CAPTURES, Capture


def result_of(outcome: TurnResult | errors.CodexError, *, began: bool = False) -> dict[str, Any]:
    line = result_line(outcome, began=began)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    said: dict[str, Any] = json.loads(line)
    return said


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda it: it.name)
def test_what_codex_wrote_is_passed_on_byte_by_byte(capture: Capture):
    events = LineDecoder(keep_raw=True).feed(capture.stdout)
    known = [event for event in events if not isinstance(event, Unknown | Noise)]
    objects = [line for line in capture.stdout.splitlines(keepends=True) if line.startswith(b"{")]
    assert list(map(event_line, known)) == objects


def test_an_unknown_event_is_passed_on_as_the_object_it_is():
    [event] = LineDecoder(keep_raw=True).feed(b'{"type":"new.thing","x":[1, 2]}\n')
    line = json.loads(event_line(event))
    assert line["type"] == "unknown"
    assert line["raw"] == {"type": "new.thing", "x": [1, 2]}
    assert "new.thing" in line["reason"]


def test_noise_is_passed_on_as_a_sample_whatever_its_bytes():
    line = event_line(Noise(reason="no JSON", sample=b'\xff"\n\x00', size=4))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "type": "noise",
        "reason": "no JSON",
        "sample": '\N{REPLACEMENT CHARACTER}"\n\0',
        "size": 4,
    }


def test_a_completed_turn_says_all_there_is_to_say():
    used = Usage(input_tokens=5, output_tokens=1)
    result = TurnResult(
        thread_id="t",
        final_response="hi",
        usage=TurnUsage(thread=used),
        side_effects=SideEffects.SEEN,
        timings=Timings(exit_seconds=2.5),
        returncode=0,
    )
    said = result_of(result)
    assert said["usage"]["thread"]["input_tokens"] == 5
    assert said["usage"]["turn"] is None
    assert said["timings"]["exit_seconds"] == 2.5
    del said["usage"], said["timings"]
    assert said == {
        "type": "result",
        "outcome": "completed",
        "thread_id": "t",
        "final_response": "hi",
        "side_effects": "seen",
        "exit_code": 0,
        "signal": None,
    }


def test_a_failure_says_its_name_and_every_fact_that_it_carries():
    partial = PartialResult(thread_id="t", side_effects=SideEffects.SEEN, final_response="half")
    failed = errors.RateLimitError(
        "slow down", partial=partial, http_status=429, returncode=1, stderr_tail="no"
    )
    said = result_of(failed)
    assert {
        "type": "result",
        "outcome": "RateLimitError",
        "message": "slow down",
        "category": "communication",
        "retryable": True,
        "thread_id": "t",
        "final_response": "half",
        "side_effects": "seen",
        "http_status": 429,
        "exit_code": 1,
        "signal": None,
        "stderr_tail": "no",
    }.items() <= said.items()
    assert not {"partial", "returncode", "args"} & said.keys()


def test_a_reply_that_does_not_fit_says_what_the_turn_came_to():
    result = TurnResult(
        thread_id="a thread", final_response="no", side_effects=SideEffects.SEEN, returncode=0
    )
    line = result_of(errors.InvalidOutputError("not JSON at $", path="$", result=result), began=True)
    assert (line["outcome"], line["path"], line["problem"]) == ("InvalidOutputError", "$", "not JSON at $")
    assert (line["thread_id"], line["final_response"]) == ("a thread", "no")
    assert (line["side_effects"], line["exit_code"]) == ("seen", 0)
    assert "result" not in line


def test_a_signal_is_no_exit_code():
    killed = errors.ProcessKilledError(partial=PartialResult(), returncode=-9)
    said = result_of(killed)
    assert (said["exit_code"], said["signal"]) == (None, signal.SIGKILL)


@pytest.mark.parametrize(
    ("error", "side_effects"),
    [
        (errors.CodexNotFoundError(("codex on PATH",)), "none"),
        (errors.OptionError("input", "is empty"), "none"),
        (errors.ThreadNotFoundError("no such thread", "t"), "none"),
        (errors.ThreadMismatchError("asked", "got"), "unknown"),
    ],
)
def test_what_never_began_had_no_side_effects_and_what_may_have_is_not_known(
    error: errors.CodexError, side_effects: str
):
    assert result_of(error)["side_effects"] == side_effects
    assert result_of(error, began=True)["side_effects"] == "unknown"


def test_notes_on_an_error_are_no_facts_of_it():
    error = errors.OptionError("input", "is empty")
    error.add_note("by the way")
    assert "__notes__" not in result_of(error)
