# A turn as lines of JSON: Codex's own for the events that it wrote, ours for everything else. Pure.

from collections.abc import Mapping

import msgspec

from codex_actors import errors
from codex_actors.events import Event, Noise, Unknown
from codex_actors.results import PartialResult, SideEffects, TurnResult

# Where no event came before them, these say that no turn began.
_BEGAN_NOTHING = (
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


def result_line(outcome: TurnResult | errors.CodexError, *, began: bool) -> bytes:
    """What a turn came to as a line of JSON.

    Args:
        outcome: Its result, or why there is none.
        began: Whether Codex has said anything: then no error can be sure that nothing was done.
    """
    if isinstance(outcome, TurnResult):
        return _line({"type": "result", "outcome": "completed", **_done(outcome)})
    # An error keeps its facts in attributes, so whatever a new one brings is told too.
    facts = {name: value for name, value in vars(outcome).items() if not name.startswith("_")}
    done: TurnResult | PartialResult = (
        facts.pop("partial", None) or facts.pop("result", None) or _unseen(outcome, began=began)
    )
    ended = _exit(facts.pop("returncode", done.returncode))
    head = {
        "type": "result",
        "outcome": type(outcome).__name__,
        "message": str(outcome),
        "category": outcome.category,
        "retryable": outcome.retryable,
    }
    return _line({**head, **_done(done), **facts, **ended})


def _unseen(error: errors.CodexError, *, began: bool) -> PartialResult:
    nothing = isinstance(error, _BEGAN_NOTHING) and not began
    return PartialResult(side_effects=SideEffects.NONE if nothing else SideEffects.UNKNOWN)


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
