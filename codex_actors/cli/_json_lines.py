# A turn as lines of JSON: Codex's own for the events that it wrote, ours for everything else. Pure.

from collections.abc import Mapping

import msgspec

from codex_actors import errors
from codex_actors.events import Event, Noise, Unknown
from codex_actors.results import PartialResult, SideEffects, TurnResult

_STARTED_NOTHING = (
    errors.OptionError,
    errors.SetupError,
    errors.ThreadBusyError,
    errors.ThreadNotFoundError,
)


def event_line(event: Event) -> bytes:
    """An event as a line of JSON; one that Codex wrote must have kept its raw line."""
    match event:
        case Unknown(reason=reason, raw=raw):
            return _line({"type": "unknown", "reason": reason, "raw": msgspec.Raw(raw)})
        case Noise(reason=reason, sample=sample, size=size):
            text = sample.decode(errors="replace")
            return _line({"type": "noise", "reason": reason, "sample": text, "size": size})
        case _:
            return (event.raw or msgspec.json.encode(event)) + b"\n"


def result_line(outcome: TurnResult | errors.CodexError) -> bytes:
    """What a turn came to as a line of JSON."""
    if isinstance(outcome, TurnResult):
        return _line({"type": "result", "outcome": "completed", **_done(outcome)})
    # An error keeps its facts in attributes, so whatever a new one brings is told too.
    facts = {name: value for name, value in vars(outcome).items() if not name.startswith("_")}
    partial: PartialResult = facts.pop("partial", None) or _nothing_done(outcome)
    ended = _exit(facts.pop("returncode", partial.returncode))
    head = {
        "type": "result",
        "outcome": type(outcome).__name__,
        "message": str(outcome),
        "category": outcome.category,
        "retryable": outcome.retryable,
    }
    return _line({**head, **_done(partial), **facts, **ended})


def _nothing_done(error: errors.CodexError) -> PartialResult:
    certain = isinstance(error, _STARTED_NOTHING)
    return PartialResult(side_effects=SideEffects.NONE if certain else SideEffects.UNKNOWN)


def _done(result: TurnResult | PartialResult) -> Mapping[str, object]:
    return {
        "thread_id": result.thread_id,
        "final_response": result.final_response,
        "usage": {"thread": result.usage.thread, "turn": result.usage.turn},
        "side_effects": result.side_effects.value,
        "timings": result.timings,
        **_exit(result.returncode),
    }


def _exit(returncode: int | None) -> Mapping[str, object]:
    if returncode is not None and returncode < 0:
        return {"exit_code": None, "signal": -returncode}
    return {"exit_code": returncode, "signal": None}


def _line(fields: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"
