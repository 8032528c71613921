from pathlib import Path

import pytest

from codex_actors import Child
from codex_actors.cli._demo import _verdicts
from codex_actors.cli._demo._outcomes import Played
from codex_actors.cli._demo._stage import Stage
from codex_actors.cli._demo._tree import Branch
from codex_actors.cli._demo._verdicts import (
    is_good,
    judge_changes,
    judge_leaks,
    judge_removal,
    judge_tests,
    judge_tree,
    judge_turns,
)
from tests.cli.demo.plays import AS_IT_SHOULD, COMPLETED, CUT_SHORT, INTERRUPTED, KILLED


def flaws(plays: dict[str, Played]) -> list[str]:
    return [verdict for verdict in judge_turns(plays) if not is_good(verdict)]


def test_turns_that_ended_as_they_should_are_good():
    assert list(judge_turns(AS_IT_SHOULD)) == [
        "✓ structured output: Finding(file='prices.py', line=7, severity='high')",
        "✓ the cancelled turn was gone after 0.02 s",
        "✓ the killed turn was reported after 0.05 s; turns that went on: 3",
    ]


@pytest.mark.parametrize(
    ("name", "played", "flaw"),
    [
        (
            "inspect",
            Played(CUT_SHORT, 0, 1, None),
            "✗ the turn 'inspect' did not complete but ended with StreamTruncatedError: cut short",
        ),
        ("report", Played(COMPLETED, 0, 1, None), "✗ the turn 'report' gave no Finding but None"),
        (
            "cancel",
            Played(COMPLETED, 0, 1, 0.5),
            "✗ the turn 'cancel' was not cancelled but ended with completed",
        ),
        ("cancel", Played(INTERRUPTED, 0, 1, None), "✗ the turn 'cancel' ended before we had cancelled it"),
        ("kill", Played(COMPLETED, 0, 1, 0.5), "✗ the turn 'kill' was not killed but ended with completed"),
        ("kill", Played(KILLED, 0, 1, None), "✗ the turn 'kill' was killed, but not by us"),
        ("kill", Played(KILLED, 0, 9, 8.9), "✗ no other turn was there to go on when one was killed"),
    ],
)
def test_a_turn_that_ended_otherwise_is_a_flaw(name: str, played: Played, flaw: str):
    assert flaws({**AS_IT_SHOULD, name: played}) == [flaw]


def tree(*turns: Child, backend: Child | None = None) -> Branch:
    """A tree as the demo has it."""
    children = () if not turns else (Branch("turn", "temporary", "running", turns, ()),)
    supervisor = Branch("turns", "permanent", "running", (TURNS,), children)
    return Branch(
        "demo",
        "",
        "running",
        (),
        (Branch("backend", "permanent", "running", (backend or BACKEND,), ()), supervisor),
    )


TURNS, BACKEND = Child("turns"), Child("backend")


def test_a_tree_in_which_all_have_had_one_life_is_good():
    good = "✓ nothing had to be restarted, and no turn is left in the tree"
    assert judge_tree(tree(Child("turn"), Child("turn")), tree()) == good


def test_a_tree_in_which_something_was_restarted_is_not():
    assert judge_tree(tree(), tree(backend=Child("backend"))) == "✗ restarted, or down: backend"


def test_nor_is_one_that_has_lost_something():
    lost = tree()._replace(branches=())
    assert judge_tree(tree(), lost) == "✗ restarted, or down: backend, turns"


def test_nor_is_one_in_which_a_turn_is_left():
    assert judge_tree(tree(Child("turn")), tree(Child("turn"))) == "✗ left in the supervision tree: turn"


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
    monkeypatch.setattr(_verdicts, "can_see_processes", lambda: False)
    assert (
        await judge_leaks(stage)
        == "✓ no temporary file is left; this system does not let us look for processes"
    )


def test_the_stage_must_be_gone_unless_it_was_to_be_kept(tmp_path: Path):
    assert is_good(judge_removal(Stage(tmp_path), keep=True))
    assert not is_good(judge_removal(Stage(tmp_path), keep=False))
    assert is_good(judge_removal(Stage(tmp_path / "gone"), keep=False))
