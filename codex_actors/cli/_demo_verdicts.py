# What the demo came to. Nothing here is taken from what Codex said of itself: the tests were run by us, the
# changes are git's, and what is left is looked for.

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from codex_actors import PartialResult, TurnResult, errors
from codex_actors.cli._demo_story import CANCEL, INSPECT, PARTS, REPAIR, REPAIRED_FILE
from codex_actors.cli._describe import DONE, FAILED, clean, duration, outcome_name, token_count
from codex_actors.cli._leaks import can_see_processes, files_left, processes_left

# Wide enough for what usually stands there, and together for 80 columns.
_WIDTHS = (9, 22, 18, 14, 0)


class Played(NamedTuple):
    """What became of a part."""

    outcome: TurnResult | errors.CodexError
    seconds: float
    stop_seconds: float | None  # from cancelling until nothing of it lived any more


class Stage(NamedTuple):
    """Where it is played: one directory that holds all."""

    root: Path

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def codex_home(self) -> Path:
        return self.root / "codex-home"

    @property
    def temporary(self) -> Path:
        """For temporary files of Codex and whatever it starts."""
        return self.codex_home / "tmpdir"


def table(plays: Mapping[str, Played]) -> Iterator[str]:
    """Say what the turns came to."""
    yield _row("turn", "outcome", "tokens", "side effects", "time")
    for part in PARTS:
        outcome, seconds, _ = plays[part.name]
        done = outcome if isinstance(outcome, TurnResult) else getattr(outcome, "partial", PartialResult())
        yield _row(
            part.name,
            outcome_name(outcome),
            token_count(done.usage.turn),
            done.side_effects.value,
            duration(seconds),
        )


def _row(*cells: str) -> str:
    return "  " + "".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))


def is_good(verdict: str) -> bool:
    """Whether a verdict is one to be had."""
    return verdict.startswith(DONE)


def _good(text: str) -> str:
    return f"{DONE} {text}"


def _bad(text: str) -> str:
    return f"{FAILED} {clean(text)}"


def judge_turns(plays: Mapping[str, Played]) -> Iterator[str]:
    """See that each turn ended as it should have."""
    for part in (INSPECT, REPAIR):
        outcome = plays[part.name].outcome
        if not isinstance(outcome, TurnResult):
            yield _bad(f"the turn {part.name!r} did not complete: {outcome}")
    outcome, _, stop_seconds = plays[CANCEL.name]
    if isinstance(outcome, errors.TurnInterruptedError) and stop_seconds is not None:
        yield _good(f"the cancelled turn was gone after {stop_seconds:.2f} s")
    else:
        how = "completed" if isinstance(outcome, TurnResult) else outcome
        yield _bad(f"the turn {CANCEL.name!r} was not cancelled but ended: {how}")


def judge_tests(before: int, after: int) -> str:
    """See that the tests failed before and pass now, by their exit statuses."""
    if before == 0:
        return _bad("the project's tests passed before anything was repaired")
    if after != 0:
        return _bad("the project's tests still fail; we ran them outside Codex")
    return _good("the project's tests failed before and pass now; we ran them outside Codex")


def judge_changes(status: str) -> str:
    """See what has changed in the project, by what `git status --porcelain` says."""
    changed = sorted(line[3:] for line in status.splitlines())
    if changed == [REPAIRED_FILE]:
        return _good(f"{REPAIRED_FILE} has changed in the project, and nothing else")
    return _bad(f"changed in the project: {', '.join(changed) or 'nothing'}")


async def judge_leaks(stage: Stage) -> str:
    """Look for what should be gone."""
    processes = await processes_left(stage.codex_home) if can_see_processes() else []
    files = (f"temporary file {name}" for name in files_left(stage.temporary))
    if left := [*processes, *files]:
        return _bad(f"left behind: {', '.join(left)}")
    if not can_see_processes():
        return _good("no temporary file is left; this system does not let us look for processes")
    return _good("no process and no temporary file is left")


def judge_removal(stage: Stage, *, keep: bool) -> str:
    """See that the stage is gone, or still there if that was asked for."""
    if keep:
        return _good(f"kept, as you asked: {stage.root}")
    return (
        _bad(f"{stage.root} cannot be removed") if stage.root.exists() else _good(f"{stage.root} is removed")
    )
