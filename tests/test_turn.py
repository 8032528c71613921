"""A turn seen from both ends: its actor and its holder."""

import pytest
import trio
import trio.testing

from codex_actors import errors, events
from codex_actors._protocol import LineDecoder, TurnState
from codex_actors._turn import Turn, TurnActor
from codex_actors.results import TurnResult
from tests.fakes import COMPLETED, DONE, STARTED, THREAD, line, said, texts

RESULT = TurnResult(thread_id=THREAD)


def decoded(text: str) -> list[events.Event]:
    return LineDecoder().feed(text.encode())


@pytest.fixture
def actor() -> TurnActor:
    actor = TurnActor()
    actor.begin(TurnState())
    return actor


@pytest.fixture
def turn(actor: TurnActor) -> Turn:
    return Turn(actor)


def hear(actor: TurnActor, text: str) -> None:
    assert actor.state
    actor.state.apply(decoded(text))


async def test_events_come_one_by_one_in_the_order_they_were_put(actor, turn):
    first, second = decoded(STARTED + said("one")), decoded(said("two") + COMPLETED)
    await actor.put_batch(first)
    await actor.put_batch(second)
    actor.outcome = RESULT
    actor.finish()
    assert [event async for event in turn] == [*first, *second]
    assert turn.result is RESULT


async def test_the_loop_ends_again_however_often_it_is_begun(actor, turn):
    actor.outcome = RESULT
    actor.finish()
    for _ in range(2):
        assert [event async for event in turn] == []


async def test_the_loop_and_the_result_raise_the_same_error(actor, turn):
    error = errors.RuntimeClosedError()
    actor.outcome = error
    await actor.put_batch(decoded(STARTED))
    actor.finish()
    for _ in range(2):
        with pytest.raises(errors.RuntimeClosedError) as caught:
            [event async for event in turn]
        assert caught.value is error
    with pytest.raises(errors.RuntimeClosedError) as caught:
        turn.result  # noqa: B018
    assert caught.value is error
    with pytest.raises(errors.RuntimeClosedError) as caught:
        await turn.wait_result()
    assert caught.value is error


async def test_there_is_no_result_before_the_end(turn):
    with pytest.raises(errors.TurnRunningError, match="wait_result"):
        turn.result  # noqa: B018


async def test_waiting_for_the_result_lets_the_rest_go_by(actor, turn):
    async def act() -> None:
        for _ in range(10):
            await actor.put_batch(decoded(STARTED))
        actor.outcome = RESULT
        actor.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await anext(turn)
        assert await turn.wait_result() is RESULT
    assert [event async for event in turn] == []


async def test_whoever_puts_events_waits_while_nobody_takes_them(actor, turn, nursery):
    put: list[int] = []

    async def act() -> None:
        for number in range(100):
            await actor.put_batch(decoded(said(str(number))))
            put.append(number)

    nursery.start_soon(act)
    await trio.testing.wait_all_tasks_blocked()
    assert put == [0, 1], "two batches wait, and not one more"
    for taken in range(3, 10):
        await anext(turn)
        await trio.testing.wait_all_tasks_blocked()
        assert len(put) == taken


async def test_cancelling_the_loop_loses_no_event(actor, turn):
    seen: list[events.Event] = []

    async def act() -> None:
        for number in range(50):
            await actor.put_batch(decoded(said(f"{number} a") + said(f"{number} b")))
        actor.outcome = RESULT
        actor.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        for deadline in range(1000):
            with trio.CancelScope() as scope:
                scope.deadline = trio.current_time() if deadline % 3 else float("inf")
                async for event in turn:
                    seen.append(event)  # noqa: PERF401 - each is kept as it comes, whatever happens next
            if not scope.cancelled_caught:
                break
    assert texts(seen) == [f"{n} {ab}" for n in range(50) for ab in "ab"]


async def test_an_interrupt_may_be_repeated(actor, turn):
    turn.interrupt()
    turn.interrupt()
    assert actor.interrupted.is_set()


async def test_a_turn_that_was_cut_short_says_what_it_had_done(actor, turn):
    hear(actor, STARTED + said("so far"))
    actor.finish()
    with pytest.raises(errors.TurnInterruptedError) as caught:
        turn.result  # noqa: B018
    assert caught.value.partial.final_response == "so far"


async def test_a_turn_that_had_completed_when_it_was_cut_short_has_completed(actor, turn):
    hear(actor, DONE)
    actor.finish()
    assert turn.result.final_response == "done"
    assert turn.result.returncode is None, "nobody stayed to see it"


async def test_a_turn_that_had_failed_when_it_was_cut_short_has_failed(actor, turn):
    hear(actor, STARTED + line("turn.failed", error={"message": "no"}))
    actor.finish()
    with pytest.raises(errors.TurnFailedError, match="no"):
        turn.result  # noqa: B018


async def test_a_turn_that_never_got_its_thread_was_kept_from_it_by_the_end_of_the_runtime():
    actor = TurnActor()
    actor.finish()
    with pytest.raises(errors.RuntimeClosedError):
        await actor.wait_begun()


async def test_seeing_a_turn_out_waits_only_if_it_has_ended(actor, autojump_clock):
    with trio.fail_after(1):
        await actor.see_out()
    hear(actor, DONE)
    with trio.move_on_after(1) as scope:
        await actor.see_out()
    assert scope.cancelled_caught
    actor.finish()
    await actor.see_out()
