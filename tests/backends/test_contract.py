"""What every backend promises; a new backend gets a line in the fixture and passes all of it."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from codex_actors import errors
from codex_actors.backends import Backend
from codex_actors.backends.exec import ExecBackend
from codex_actors.events import Event, ItemCompleted, TurnCompleted
from codex_actors.options import Deadlines
from codex_actors.testing import Act, exits, hangs, ignores, writes
from tests.cancel_steps import cancel_at_each_step
from tests.fakes import COMPLETED, DONE, STARTED, Holder, fake_options, gate, line, said, serving, texts


@pytest.fixture(params=[ExecBackend])
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.param()
    return made


@pytest.fixture
def holder() -> Holder:
    return Holder()


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., object]:
    """Options for a Codex that does this."""
    return lambda *acts, **given: fake_options(tmp_path, *acts, **given)


async def test_a_completed_turn_returns_its_result_after_all_was_delivered(backend, holder, options):
    result = await holder.ask(backend, options(writes(DONE)))
    assert isinstance(holder.events[-1], TurnCompleted)
    assert result.final_response == "done"


async def test_events_count_before_they_are_delivered(backend, holder, options):
    ended_by_then: list[bool] = []

    class Looks(Holder):
        async def deliver(self, events: list[Event]) -> None:
            ended_by_then.extend(self.state.ended for event in events if isinstance(event, TurnCompleted))

    await Looks().ask(backend, options(writes(DONE)))
    assert ended_by_then == [True]


async def test_events_are_delivered_once_and_in_order(backend, holder, options):
    numbered = "".join(said(str(number)) for number in range(2000))
    recording = Act(f"cat <<'END'\n{STARTED}{numbered}{COMPLETED}END")
    await holder.ask(backend, options(recording))
    assert texts(holder.events) == [str(number) for number in range(2000)]


async def test_events_are_delivered_as_they_come(backend, holder, options, tmp_path):
    with gate(tmp_path / "gate") as hold:
        async with trio.open_nursery() as nursery:
            acts = (writes(STARTED), hold.waits(), writes(COMPLETED))
            nursery.start_soon(holder.ask, backend, options(*acts))
            await holder.wait_heard(2)
            hold.let_pass()
    assert len(holder.events) == 3


async def test_a_failed_turn_raises_after_all_was_delivered(backend, holder, options):
    failed = line("turn.failed", error={"message": "no"})
    with pytest.raises(errors.TurnFailedError) as caught:
        await holder.ask(backend, options(writes(STARTED + said("half") + failed), exits(1)))
    assert len(holder.events) == 4
    assert caught.value.partial.final_response == "half"


async def test_while_delivery_blocks_what_is_kept_is_bounded(backend, holder, options):
    class Slow(Holder):
        largest = 0

        async def deliver(self, events: list[Event]) -> None:
            self.largest = max(self.largest, len(events))
            await trio.lowlevel.checkpoint()

    slow = Slow()
    flood = Act(f"yes '{said('x' * 100).strip()}' | head -n 20000")
    await slow.ask(backend, options(writes(STARTED), flood, writes(COMPLETED)))
    assert slow.largest < 4000, "a batch is what one read brought"


async def test_an_interrupt_ends_the_turn_and_what_was_said_is_delivered(backend, holder, options):
    async def interrupt() -> None:
        await holder.wait_heard(3)
        holder.interrupted.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt)
        with trio.fail_after(5), pytest.raises(errors.TurnInterruptedError) as caught:
            await holder.ask(backend, options(writes(STARTED + said("half")), hangs()))
    assert caught.value.partial.final_response == "half"
    assert len(holder.events) == 3


async def test_an_interrupt_frees_a_delivery_that_is_stuck_and_loses_nothing_of_it(backend, options):
    class Stuck(Holder):
        stuck = trio.Event()

        async def deliver(self, events: list[Event]) -> None:
            if isinstance(events[-1], ItemCompleted) and not self.stuck.is_set():
                self.stuck.set()
                await trio.sleep_forever()
            await super().deliver(events)

    holder = Stuck()

    async def interrupt() -> None:
        await holder.stuck.wait()
        holder.interrupted.set()

    # The shell hears of the signal only when its child has ended, and that is blocked on a full pipe.
    talks = Act(f"yes '{said('x' * 1000).strip()}' | head -n 2000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt)
        with trio.fail_after(10), pytest.raises(errors.TurnInterruptedError) as caught:
            await holder.ask(backend, options(Act("trap 'exit 5' INT"), writes(STARTED), talks, hangs()))
    assert caught.value.returncode == 5, "it was read until it heard of the signal"
    assert len(holder.events) == 2002


async def test_an_error_of_the_one_who_takes_comes_back_as_itself(backend, options):
    class Fails(Holder):
        async def deliver(self, events: list[Event]) -> None:
            raise KeyError("mine")

    with trio.fail_after(5), pytest.raises(KeyError, match="mine"):
        await Fails().ask(backend, options(writes(STARTED), hangs()))


async def test_cancelling_stops_what_will_not_stop_by_itself(backend, holder, options):
    acts = (ignores(signal.SIGINT, signal.SIGTERM), writes(STARTED), hangs())
    asked = options(*acts, deadlines=Deadlines(interrupt_seconds=0.1))
    with trio.fail_after(5), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holder.ask, backend, asked)
            await holder.wait_heard(2)
            scope.cancel()
    assert scope.cancelled_caught


async def test_cancelled_at_any_step_it_leaves_nothing_and_can_be_asked_again(backend, options):
    asked = options(writes(STARTED), writes(COMPLETED))
    assert await cancel_at_each_step(lambda: Holder().ask(backend, asked)) > 5
    await Holder().ask(backend, asked)


async def test_it_serves_one_runtime_at_a_time_and_any_number_after_each_other(backend, options):
    asked = options(writes(DONE))
    async with serving(backend, asked):
        with pytest.raises(errors.OptionError, match="give each its own"):
            async with serving(backend, options(writes(DONE))):
                pass
        await Holder().ask_serving(backend, asked)
    await Holder().ask(backend, options(writes(DONE)))


async def test_turns_side_by_side_do_not_mix(backend, options, tmp_path):
    before, after = (STARTED + said("WORD") + COMPLETED).split("WORD")
    echo = Act(f"read -r word; {writes(before)}; printf %s $word; {writes(after)}")
    asked = options(echo)
    holders = {word: Holder() for word in ("one", "two", "three")}
    async with serving(backend, asked), trio.open_nursery() as nursery:
        for word, holder in holders.items():
            nursery.start_soon(partial(holder.ask_serving, backend, asked, prompt=f"{word}\n"))
    assert {word: texts(holder.events) for word, holder in holders.items()} == {
        word: [word] for word in holders
    }
