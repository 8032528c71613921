# What became of each turn, and whether that is what should have become of it.

import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, assert_never, cast

from codex_actors import ParsedTurnResult, PartialResult, TurnResult, errors
from codex_actors.cli._demo._story import PARTS, Part
from codex_actors.cli._describe import (
    ASIDE,
    DONE,
    FAILED,
    NOTICE,
    describe_outcome,
    duration,
    outcome_name,
    token_count,
)


class Played(NamedTuple):
    """What became of a part."""

    outcome: TurnResult | errors.CodexError
    began: float
    ended: float  # when nothing of it lived any more
    struck: float | None  # when it was cancelled or killed

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def done(self) -> TurnResult | PartialResult:
        """What it had done."""
        if isinstance(self.outcome, TurnResult):
            return self.outcome
        done = getattr(self.outcome, "partial", getattr(self.outcome, "result", None))
        return done if isinstance(done, TurnResult | PartialResult) else PartialResult()


def flaw(part: Part, outcome: TurnResult | errors.CodexError) -> str | None:
    """What is wrong with how a turn ended; None if it ended as it should have."""
    how = "completed" if isinstance(outcome, TurnResult) else f"{outcome_name(outcome)}: {outcome}"
    match part.fate:
        case "completes":
            if not isinstance(outcome, TurnResult):
                return f"did not complete but ended with {how}"
            return None if part.output_type is None else _misfit(part.output_type, parsed(outcome))
        case "is cancelled":
            is_so = isinstance(outcome, errors.TurnInterruptedError)
            return None if is_so else f"was not cancelled but ended with {how}"
        case "is killed":
            is_so = isinstance(outcome, errors.ProcessKilledError) and outcome.signal == signal.SIGKILL
            return None if is_so else f"was not killed but ended with {how}"
        case _:
            assert_never(part.fate)


def parsed(outcome: object) -> object:
    """What a turn's final response is as an instance; None if it is none."""
    return cast("ParsedTurnResult[object]", outcome).parsed if isinstance(outcome, ParsedTurnResult) else None


def _misfit(wanted: type[object], got: object) -> str | None:
    return None if isinstance(got, wanted) else f"gave no {wanted.__name__} but {got!r}"


def describe_end(part: Part, played: Played) -> Iterator[str]:
    """Say how a turn ended; an error that was provoked is worth a line, but no alarm."""
    if part.fate == "completes" or flaw(part, played.outcome):
        yield from describe_outcome(played.outcome, played.seconds)
    else:
        yield f"{NOTICE} {outcome_name(played.outcome)} after {duration(played.seconds)}"
        yield f"{ASIDE} side effects: {played.done.side_effects.value}; done: {_work(played)}"
    if left := played.done.leftovers.killed:
        yield f"{ASIDE} left running and killed by us: {', '.join(left)}"


def _work(played: Played) -> str:
    kinds = Counter(str(item.__struct_config__.tag).replace("_", " ") for item in played.done.items)
    counts = (f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in kinds.items())
    return ", ".join(counts) or "nothing"


def table(plays: Mapping[str, Played]) -> Iterator[Sequence[str]]:
    """Say what the turns came to, in rows of cells, the first of which is a mark."""
    yield " ", "turn", "outcome", "tokens", "side effects", "time"
    for part in PARTS:
        played = plays[part.name]
        yield (
            FAILED if flaw(part, played.outcome) else DONE,
            part.name,
            outcome_name(played.outcome),
            token_count(played.done.usage.turn),
            played.done.side_effects.value,
            duration(played.seconds),
        )
