import pytest

from codex_actors import ParsedTurnResult, PartialResult, SideEffects, TurnResult, errors
from codex_actors.cli._demo._outcomes import Played, describe_end, flaw, table
from codex_actors.cli._demo._story import CANCEL, INSPECT, KILL, PARTS, REPORT, Finding, Part
from codex_actors.items import AgentMessage, CommandExecution
from codex_actors.results import Leftovers
from tests.cli.demo.plays import AS_IT_SHOULD, COMPLETED, CUT_SHORT, FOUND, INTERRUPTED, KILLED, TERMINATED


@pytest.mark.parametrize("part", PARTS, ids=lambda it: it.name)
def test_a_turn_that_ended_as_it_should_has_no_flaw(part: Part):
    assert flaw(part, AS_IT_SHOULD[part.name].outcome) is None


@pytest.mark.parametrize(
    ("part", "outcome", "what"),
    [
        (INSPECT, CUT_SHORT, "did not complete but ended with StreamTruncatedError: cut short"),
        (REPORT, COMPLETED, "gave no Finding but None"),
        (
            REPORT,
            ParsedTurnResult(thread_id="t", parsed={"file": "prices.py"}),
            "gave no Finding but {'file': 'prices.py'}",
        ),
        (CANCEL, COMPLETED, "was not cancelled but ended with completed"),
        (CANCEL, KILLED, f"was not cancelled but ended with ProcessKilledError: {KILLED}"),
        (KILL, COMPLETED, "was not killed but ended with completed"),
        (KILL, INTERRUPTED, "was not killed but ended with TurnInterruptedError: left"),
        (KILL, TERMINATED, f"was not killed but ended with ProcessKilledError: {TERMINATED}"),
    ],
)
def test_a_turn_that_ended_otherwise_has_one(part: Part, outcome: TurnResult | errors.CodexError, what: str):
    assert flaw(part, outcome) == what


def test_an_end_that_we_brought_about_is_told_with_what_was_done_and_without_alarm():
    partial = PartialResult(
        items=(
            AgentMessage(id="item_0", text="a"),
            CommandExecution(id="item_1", command="b"),
            CommandExecution(id="item_2", command="c"),
        ),
        side_effects=SideEffects.SEEN,
        leftovers=Leftovers(killed=("sleep", "bash")),
    )
    killed = errors.ProcessKilledError(partial=partial, returncode=-9)
    assert list(describe_end(KILL, Played(killed, 0, 2, 1.5))) == [
        "! ProcessKilledError after 2.0 s",
        "· side effects: seen; done: 1 agent message, 2 command executions",
        "· left running and killed by us: sleep, bash",
    ]


def test_any_other_end_is_told_as_it_is():
    told = list(describe_end(KILL, Played(CUT_SHORT, 0, 2, None)))
    assert told[0] == "✗ StreamTruncatedError after 2.0 s: cut short"
    told = list(describe_end(REPORT, Played(FOUND, 0, 2, None)))
    assert told == ["✓ completed in 2.0 s; tokens: not counted", "· side effects: unknown"]


def test_the_table_has_a_row_of_every_turn_and_a_mark_for_each():
    rows = list(table({**AS_IT_SHOULD, "repair": Played(CUT_SHORT, 0, 1, None)}))
    assert [(row[0], row[1]) for row in rows] == [
        (" ", "turn"),
        ("✓", "inspect"),
        ("✗", "repair"),
        ("✓", "report"),
        ("✓", "cancel"),
        ("✓", "kill"),
    ]
    assert rows[1][2:] == ("completed", "300 in, 30 out", "none", "2.0 s")


def test_a_turn_that_never_began_has_its_place_in_the_table():
    missing = Played(errors.CodexNotFoundError(("PATH",)), 0, 0, None)
    assert list(table({**AS_IT_SHOULD, "repair": missing}))[2][2:4] == ("CodexNotFoundError", "not counted")


def test_what_a_misfit_reply_has_done_is_counted():
    misfit = errors.InvalidOutputError("not JSON at $", path="$", result=COMPLETED)
    assert Played(misfit, 0, 1, None).done is COMPLETED
    assert isinstance(FOUND.parsed, Finding)
