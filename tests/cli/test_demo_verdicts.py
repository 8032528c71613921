from pathlib import Path

import pytest

from codex_actors import PartialResult, SideEffects, TurnResult, TurnUsage, errors
from codex_actors.cli import _demo_verdicts
from codex_actors.cli._demo_verdicts import (
    Played,
    Stage,
    is_good,
    judge_changes,
    judge_leaks,
    judge_removal,
    judge_tests,
    judge_turns,
    table,
)
from codex_actors.events import Usage

COMPLETED = TurnResult(
    thread_id="t",
    usage=TurnUsage(turn=Usage(input_tokens=300, output_tokens=30)),
    side_effects=SideEffects.NONE,
)
INTERRUPTED = errors.TurnInterruptedError("left", partial=PartialResult())
FAILED = errors.StreamTruncatedError("cut short", partial=PartialResult())

AS_IT_SHOULD = {
    "inspect": Played(COMPLETED, 2.0, None),
    "repair": Played(COMPLETED, 3.0, None),
    "cancel": Played(INTERRUPTED, 1.0, 0.02),
}


def flaws(plays: dict[str, Played]) -> list[str]:
    return [verdict for verdict in judge_turns(plays) if not is_good(verdict)]


def test_turns_that_ended_as_they_should_are_good():
    assert flaws(AS_IT_SHOULD) == []


@pytest.mark.parametrize(
    ("part", "played", "flaw"),
    [
        ("inspect", Played(FAILED, 1, None), "✗ the turn 'inspect' did not complete: cut short"),
        ("repair", Played(FAILED, 1, None), "✗ the turn 'repair' did not complete: cut short"),
        ("cancel", Played(FAILED, 1, None), "✗ the turn 'cancel' was not cancelled but ended: cut short"),
        ("cancel", Played(COMPLETED, 1, None), "✗ the turn 'cancel' was not cancelled but ended: completed"),
        ("cancel", Played(INTERRUPTED, 1, None), "✗ the turn 'cancel' was not cancelled but ended: left"),
    ],
)
def test_a_turn_that_ended_otherwise_is_a_flaw(part: str, played: Played, flaw: str):
    assert flaws({**AS_IT_SHOULD, part: played}) == [flaw]


def test_the_table_fits_into_eighty_columns_and_names_every_turn():
    lines = list(table(AS_IT_SHOULD))
    assert [line.split()[0] for line in lines] == ["turn", "inspect", "repair", "cancel"]
    assert lines[1].split()[1:] == ["completed", "300", "in,", "30", "out", "none", "2.0", "s"]
    assert max(map(len, lines)) <= 80


def test_a_turn_that_never_began_has_its_place_in_the_table():
    missing = errors.CodexNotFoundError(("PATH",))
    assert "CodexNotFoundError" in list(table({**AS_IT_SHOULD, "repair": Played(missing, 0, None)}))[2]


@pytest.mark.parametrize(("before", "after", "good"), [(1, 0, True), (0, 0, False), (1, 1, False)])
def test_the_tests_must_have_failed_before_and_pass_now(before: int, after: int, good: bool):
    assert is_good(judge_tests(before, after)) == good


@pytest.mark.parametrize(
    ("status", "good"),
    [(" M prices.py\n", True), ("", False), (" M prices.py\n?? .agents/\n", False), (" M other.py\n", False)],
)
def test_only_the_repaired_file_may_have_changed(status: str, good: bool):
    assert is_good(judge_changes(status)) == good


async def test_a_file_that_is_left_is_named(tmp_path: Path):
    stage = Stage(tmp_path)
    stage.temporary.mkdir(parents=True)
    assert await judge_leaks(stage) == "✓ no process and no temporary file is left"
    (stage.temporary / "left\x1b[1m").touch()
    assert await judge_leaks(stage) == "✗ left behind: temporary file left"


async def test_where_processes_cannot_be_seen_nothing_is_said_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stage = Stage(tmp_path)
    stage.temporary.mkdir(parents=True)
    monkeypatch.setattr(_demo_verdicts, "can_see_processes", lambda: False)
    assert (
        await judge_leaks(stage)
        == "✓ no temporary file is left; this system does not let us look for processes"
    )


def test_the_stage_must_be_gone_unless_it_was_to_be_kept(tmp_path: Path):
    assert is_good(judge_removal(Stage(tmp_path), keep=True))
    assert not is_good(judge_removal(Stage(tmp_path), keep=False))
    assert is_good(judge_removal(Stage(tmp_path / "gone"), keep=False))
