"""Ctrl-C, and whatever else is to end the program, under supervisors."""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from codex_actors import errors
from codex_actors._child import ChildStatus
from codex_actors._supervision import Backoff, ChildSpec, ExitKind, Strategy
from codex_actors._supervisor import DynamicSupervisor, Supervisor
from tests.otp.conftest import logs, puppets
from tests.otp.puppets import Puppets, open_dynamic_supervisor, open_supervisor, pids
from tests.otp.test_trio_rows import Steps

__all__ = ["logs", "puppets"]  # fixtures

Main = Callable[[Puppets], Awaitable[None]]


@trio.lowlevel.enable_ki_protection
def press() -> None:
    """Press Ctrl-C while nothing of the user's runs: it strikes where the main task waits."""
    signal.raise_signal(signal.SIGINT)


@asynccontextmanager
async def pressing(*times: float) -> AsyncGenerator[None]:
    """Press Ctrl-C at these times, from beside the block."""

    async def press_at(seconds: float) -> None:
        await trio.sleep_until(seconds + began)
        press()

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for seconds in times:
            nursery.start_soon(press_at, seconds)
        yield
        nursery.cancel_scope.cancel()


def run(main: Main) -> tuple[float, list[str]]:
    """Run in a main task; returns how long that took, and what the puppets did."""
    puppets = Puppets()

    async def timed() -> float:
        began = trio.current_time()
        await main(puppets)
        return trio.current_time() - began

    return trio.run(timed, clock=MockClock(autojump_threshold=0)), puppets.log


SLOW: dict[str, Any] = {"on_stop": 10, "shutdown": 99}


@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
@pytest.mark.parametrize(("times", "seconds"), [([3], 20), ([3, 4], 4), ([3, 13], 13)])
def test_the_first_ctrl_c_while_children_stop_is_noted_and_the_second_kills(opened, times, seconds):
    async def main(puppets: Puppets) -> None:
        async with pressing(*times):
            with pytest.raises(KeyboardInterrupt):
                async with opened() as top:
                    for child_id in "ab":
                        await top.start_child(puppets.spec(child_id, **SLOW))

    took, log = run(main)
    if opened is open_supervisor:
        assert (took, log[2:]) == (seconds, ["-b", "-a"])
    else:
        assert took == min(seconds, 10)


@pytest.mark.parametrize(("times", "seconds"), [([3], 23), ([3, 4], 4), ([3, 4, 4, 4], 4)])
def test_ctrl_c_in_the_block_stops_and_the_next_one_kills(times, seconds):
    async def main(puppets: Puppets) -> None:
        inner = Supervisor.child_spec("inner", [puppets.spec("b", **SLOW)])
        async with pressing(*times):
            with pytest.raises(KeyboardInterrupt):
                async with open_supervisor([puppets.spec("a", **SLOW), inner]):
                    await trio.sleep_forever()

    took, log = run(main)
    assert took == seconds
    assert log == ["+a", "+b", "-b", "-a"] if len(times) == 1 else sorted(log) == ["+a", "+b", "-a", "-b"]


async def hard_to_start(*, task_status: ChildStatus[None]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with task_status.grace():
            await trio.sleep(10)


@pytest.mark.parametrize(("times", "seconds"), [([3], 23), ([3, 4], 4), ([3, 13], 13)])
@pytest.mark.parametrize("how", ["with its supervisor", "start_child", "dynamic"])
def test_ctrl_c_while_a_child_starts_gives_it_its_time_and_the_next_one_kills(how, times, seconds):
    spec = ChildSpec(id="slow", start=hard_to_start, shutdown=99)

    async def main(puppets: Puppets) -> None:
        elder = puppets.spec("a", **SLOW)
        async with pressing(*times):
            with pytest.raises(KeyboardInterrupt):
                match how:
                    case "with its supervisor":
                        async with open_supervisor([elder, spec]):
                            pytest.fail("it has not started")
                    case "start_child":
                        async with open_supervisor([elder]) as top:
                            await top.start_child(spec)
                    case _:
                        async with open_dynamic_supervisor() as top:
                            await top.start_child(elder)
                            await top.start_child(spec)

    assert run(main) == (seconds, ["+a", "-a"])


def test_ctrl_c_that_the_block_takes_for_itself_ends_the_supervisor_all_the_same():
    async def main(puppets: Puppets) -> None:
        async with pressing(3):
            with pytest.raises(KeyboardInterrupt):
                async with open_supervisor() as top:
                    with pytest.raises(KeyboardInterrupt):
                        await top.start_child(ChildSpec(id="slow", start=hard_to_start))
                    with pytest.raises(errors.NoSupervisorError):
                        await top.start_child(puppets.spec("a"))

    assert run(main) == (8, [])


def test_ctrl_c_in_a_nursery_of_the_blocks_own_counts_as_one():
    async def main(puppets: Puppets) -> None:
        async with pressing(3):
            with pytest.raises(BaseExceptionGroup) as caught:
                async with open_supervisor([puppets.spec("a", **SLOW)]) as top, trio.open_nursery():
                    await top.start_child(ChildSpec(id="slow", start=hard_to_start, shutdown=99))
            assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]

    assert run(main) == (23, ["+a", "-a"])


async def interrupted(in_seconds: float, and_again: float | None, *, task_status: ChildStatus[None]) -> None:
    """A child in whose own code Ctrl-C strikes, perhaps once more while it stops."""
    task_status.started()
    try:
        await trio.sleep(in_seconds)
        signal.raise_signal(signal.SIGINT)
    except trio.Cancelled:
        with task_status.grace():
            assert and_again is not None
            await trio.sleep(and_again)
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("second", ["beside", "in another child", "never"])
def test_wherever_in_a_tree_ctrl_c_strikes_the_second_one_kills_all_of_it(second):
    async def main(puppets: Puppets) -> None:
        children = [
            puppets.spec("b", **SLOW),
            ChildSpec(id="x", start=interrupted, args=(3, None), shutdown=99),
        ]
        if second == "in another child":
            children.append(ChildSpec(id="y", start=interrupted, args=(99, 1), shutdown=99))
        inner = Supervisor.child_spec("inner", [Supervisor.child_spec("innermost", children)])
        async with pressing(*[4] if second == "beside" else []):
            with pytest.raises(KeyboardInterrupt):
                async with open_supervisor([puppets.spec("a", **SLOW), inner]):
                    await trio.sleep_forever()

    took, log = run(main)
    assert took == (23 if second == "never" else 4)
    assert sorted(log[2:]) == ["-a", "-b"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_what_ends_the_program_in_one_clean_up_lets_the_others_have_theirs(
    autojump_clock, puppets, error
):
    async def exits(*, task_status: ChildStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.raises(type(error)) as caught:
        async with open_supervisor([puppets.spec("a", **SLOW), puppets.spec("b", **SLOW)]) as top:
            await top.start_child(ChildSpec(id="x", start=exits))
            lives = [child for child in pids(top).values() if child.id != "x"]
    assert caught.value is error
    assert trio.current_time() == 20
    assert {life.exit_reason.kind for life in lives} == {ExitKind.SHUTDOWN}


def context(error: BaseException) -> Iterator[BaseException]:
    while error.__context__ is not None:
        yield (error := error.__context__)


def exits_with(status: int) -> ChildSpec:
    async def exits(*, task_status: ChildStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise SystemExit(status)

    return ChildSpec(id=status, start=exits)


async def test_of_two_errors_that_end_the_program_the_first_leaves(autojump_clock):
    with pytest.raises(SystemExit) as caught:
        async with open_supervisor([exits_with(1), exits_with(2)]):
            pass
    assert caught.value.code == 2
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([exits_with(1)]):
            raise KeyboardInterrupt
    with pytest.raises(SystemExit) as caught:
        async with open_supervisor([exits_with(1)]):
            raise KeyError
    assert KeyError in [type(error) for error in context(caught.value)]


async def test_ctrl_c_while_a_restart_is_under_way_is_no_failed_start(autojump_clock, puppets, logs):
    puppets.starts["a"] = [None, KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([Supervisor.child_spec("inner", [puppets.spec("a")]), puppets.spec("b")]):
            await puppets.exit("a")
            await trio.sleep_forever()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == []


async def test_a_dynamic_supervisor_passes_on_what_ends_the_program_from_below(autojump_clock, puppets):
    with pytest.raises(SystemExit):
        async with open_supervisor([DynamicSupervisor.child_spec("dynamic"), puppets.spec("a")]) as top:
            await pids(top)["dynamic"].value.start_child(exits_with(3))
            await wait_all_tasks_blocked()
    assert puppets.log == ["+a", "-a"]


async def test_a_supervisor_that_gave_up_is_in_the_context_of_what_the_block_raises_then(
    autojump_clock, puppets
):
    with pytest.raises(KeyError) as caught:
        async with open_supervisor(puppets.specs("a"), max_restarts=0):
            try:
                await puppets.exit("a")
                await trio.sleep_forever()
            finally:
                raise KeyError("in clean-up")
    why = [error for error in context(caught.value) if isinstance(error, errors.RestartLimitError)]
    assert [error.child_id for error in why] == ["a"]


async def test_a_group_of_the_blocks_own_keeps_its_shape_and_says_that_the_supervisor_gave_up(
    autojump_clock, puppets
):
    with pytest.raises(ExceptionGroup) as caught:
        async with open_supervisor(puppets.specs("a"), max_restarts=0), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await puppets.exit("a")
                await trio.sleep_forever()
            finally:
                raise KeyError("in clean-up")
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    assert errors.RestartLimitError in [type(error) for error in context(caught.value)]


async def busy(puppets: Puppets) -> None:
    inner = Supervisor.child_spec("inner", puppets.specs("bc", on_stop=1), strategy=Strategy.ONE_FOR_ALL)
    async with open_supervisor([puppets.spec("a"), inner]) as top:
        await puppets.exit("b")
        await top.start_child(puppets.spec("d"))
        await puppets.exit("a")
        await top.terminate_child("d")
        await top.restart_child("d")


async def waiting_for_a_restart(puppets: Puppets) -> None:
    async with open_supervisor(puppets.specs("a"), backoff=Backoff(first_seconds=5)):
        await puppets.exit("a")


@pytest.mark.parametrize("story", [busy, waiting_for_a_restart])
def test_ctrl_c_at_whatever_step_leaves_no_task_and_is_not_lost(story):
    async def main(puppets: Puppets, steps: Steps) -> None:
        trio.lowlevel.add_instrument(steps)
        await story(puppets)
        await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(steps)

    def interrupted_at(step: int) -> bool:
        puppets, steps = Puppets(), Steps(press, step)
        try:
            trio.run(main, puppets, steps, clock=MockClock(autojump_threshold=0))
        except KeyboardInterrupt:
            assert steps.left <= 0
        else:
            assert steps.left > -2  # later than its last checkpoint, or never
        for child_id in "abcd":
            assert puppets.lives[child_id] == puppets.log.count(f"-{child_id}")
        return steps.left <= 0

    step = 1
    while interrupted_at(step):
        step += 1
    assert step > 5


async def test_what_ends_the_program_is_no_late_start(autojump_clock):
    async def exits_late(*, task_status: ChildStatus[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        async with open_supervisor() as top:
            await top.start_child(ChildSpec(id="a", start=exits_late, start_timeout=1))
