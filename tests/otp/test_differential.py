"""Programs do on our supervisors what they do on Erlang's; `nox -s otp` runs many more of them."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors._supervision import Strategy
from codex_actors._supervisor import open_supervisor
from tests.otp import differential, erlang_side
from tests.otp.differential import Tally, compare, difference, needs_model, smaller
from tests.otp.erlang_side import Erlang, Recorded
from tests.otp.programs import Exit, Flags, Program, Tree, Wait, Worker, to_erlang, write
from tests.otp.puppets import FAIL, running

needs_erlang = pytest.mark.skipif(
    not erlang_side.is_here(), reason="no Erlang here: apt-get install erlang-base"
)

PROGRAMS = 60


@pytest.fixture(scope="module")
def erlang():
    with Erlang() as running:
        yield running


@needs_erlang
def test_programs_do_on_ours_what_they_do_on_erlangs_supervisor(erlang):
    tally = Tally()
    compare(erlang, PROGRAMS, 1, tally)
    assert tally.ran == PROGRAMS
    assert tally.hits.exits
    assert tally.hits.calls


def worker(child_id: str = "a", starts: tuple[str, ...] = ("ok",)) -> Worker:
    return Worker(child_id, "permanent", False, "brutal_kill", starts, "stop")


def program(*steps: Exit | Wait, intensity: int = 1, period: int = 1) -> Program:
    flags = Flags("one_for_one", intensity, period, "never")
    return Program(Tree("root", "permanent", False, flags, (worker(),)), steps)


CRASH = Exit("/a", "crash")


@needs_erlang
def test_the_clock_of_otp_has_whole_seconds(erlang):
    recorded = erlang.run([program(CRASH, Wait(seconds), CRASH) for seconds in (0, 1, 2)])
    trees = [moment.result for each in recorded for step, moment in each.steps() if step == "tree"]
    assert trees == ["noproc", "noproc", [["a", "running"]]]
    assert [needs_model(each) for each in recorded] == [False, True, False]
    assert not any(map(difference, recorded))


@needs_erlang
def test_what_is_recorded_wrong_is_seen_and_told(erlang):
    [recorded] = erlang.run([program(CRASH)])
    recorded.trace.moments[1].events.pop()
    told = difference(recorded)
    assert "differ in {'exit',<<\"/a\">>,'crash'}" in told
    assert "['start', '/a', 'permanent', 'ok']]" in told


def test_a_program_that_differs_is_made_smaller_by_taking_something_out():
    [written] = write(1, 0)
    found = set(smaller(written))
    assert written not in found
    assert max(len(to_erlang(each)) for each in found) <= len(to_erlang(written))


async def test_only_the_child_whose_start_failed_is_being_restarted(autojump_clock, puppets):
    """The one that fell first is down, as its siblings are, and may be deleted; once it was not."""
    puppets.starts["b"] = [None, FAIL, None]
    async with open_supervisor(puppets.specs("abc"), strategy=Strategy.ONE_FOR_ALL) as top:
        async with trio.open_nursery() as nursery, top._turn:
            await puppets.exit("c")
            nursery.start_soon(top.delete_child, "c")
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert running(top) == ["a", "b"]


@needs_erlang
def test_programs_that_were_too_slow_to_tell_are_made_up_for(erlang, monkeypatch):
    run, calls = erlang.run, list[int]()

    def half_of_them_late(programs):
        calls.append(len(programs))
        return run(programs[::2])

    monkeypatch.setattr(erlang, "run", half_of_them_late)
    tally = Tally()
    assert len(compare(erlang, 4, 1, tally)) == 4
    assert (tally.ran, tally.late, calls) == (4, 3, [4, 2, 1])


@needs_erlang
def test_differences_that_do_not_come_again_are_counted_and_too_many_are_an_error(erlang, monkeypatch):
    def odd_once(_: Recorded, seed: int | None = None) -> str:
        return "odd" if seed is None else ""

    monkeypatch.setattr(differential, "difference", odd_once)
    with pytest.raises(AssertionError, match="and then did not:\nodd\nodd"):
        compare(erlang, 3, 1, Tally())
