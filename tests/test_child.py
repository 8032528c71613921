"""One life of a child."""

import math
from collections.abc import Awaitable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors._child import STUCK_SECONDS, ChildStatus
from codex_actors._supervision import ChildSpec, ExitKind, Ignore
from codex_actors.errors import StartTimeoutError
from tests.otp.conftest import logs, puppets
from tests.otp.puppets import TEMPORARY, Crash, open_dynamic_supervisor, open_supervisor

__all__ = ["logs", "puppets"]  # fixtures


async def test_whoever_holds_a_child_can_wait_for_its_end_and_learn_why(autojump_clock):
    async def child(*, task_status):
        task_status.started("a value")
        await trio.sleep(1)
        raise Crash

    async with open_supervisor() as top:
        life = await top.start_child(ChildSpec(id="a", start=child, restart=TEMPORARY))
        assert (life.value, life.exit_reason, repr(life)) == ("a value", None, "<Child 'a' running>")
        reason = await life.wait_exit()
        assert trio.current_time() == 1
        assert reason is life.exit_reason
        assert isinstance(reason.error, Crash)
        assert repr(life) == "<Child 'a' crash>"


def worker(log, seconds):
    """A worker that is to finish what it has begun, and takes so many seconds for it."""

    async def work(*, task_status):
        task_status.started()
        with task_status.grace() as scope:
            await trio.sleep(seconds)
            log.append("done")
        log.append("cut" if scope.cancelled_caught else "whole")
        await trio.sleep_forever()

    return work


@pytest.mark.parametrize(
    ("seconds", "log", "kind"), [(3, ["done", "whole"], ExitKind.SHUTDOWN), (9, ["cut"], ExitKind.KILLED)]
)
async def test_work_that_is_going_on_under_grace_is_finished_if_it_ends_in_time(
    autojump_clock, seconds, log, kind
):
    seen: list[str] = []
    async with open_supervisor() as top:
        child = await top.start_child(ChildSpec(id="a", start=worker(seen, seconds)))
        await wait_all_tasks_blocked()
    assert trio.current_time() == min(seconds, 5)
    assert (seen, child.exit_reason.kind) == (log, kind)


async def test_graces_may_lie_within_each_other_and_side_by_side(autojump_clock):
    log = []

    async def task(status, seconds):
        with status.grace():
            await trio.sleep(seconds)
            with status.grace():
                await trio.sleep(seconds)
                log.append(seconds)

    async def child(*, task_status):
        async with trio.open_nursery() as nursery:
            for seconds in (1, 2, 4):
                nursery.start_soon(task, task_status, seconds)
            task_status.started()

    async with open_supervisor() as top:
        await top.start_child(ChildSpec(id="a", start=child))
        await wait_all_tasks_blocked()
    assert log == [1, 2]
    assert trio.current_time() == 5


async def test_under_a_brutal_kill_there_is_no_grace(autojump_clock):
    log = []

    async def child(*, task_status):
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            with task_status.grace():
                await trio.lowlevel.checkpoint()
                log.append("cleaned up")

    async with open_supervisor([ChildSpec(id="a", start=child, shutdown="brutal_kill")]):
        pass
    assert log == []


async def test_a_child_that_takes_too_long_was_killed_whatever_it_does_then(autojump_clock):
    async def child(*, task_status):
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(6)
            raise Crash

    async with open_supervisor() as top:
        life = await top.start_child(ChildSpec(id="a", start=child))
    assert life.exit_reason.kind is ExitKind.KILLED
    assert isinstance(life.exit_reason.error, Crash)


@pytest.mark.parametrize("too_slow", [True, False])
async def test_a_child_whose_start_is_given_up_has_its_time_to_clean_up(autojump_clock, too_slow):
    log = []

    async def child(*, task_status):
        try:
            await trio.sleep_forever()
        finally:
            with task_status.grace():
                await trio.sleep(3)
                log.append("cleaned up")
                await trio.sleep_forever()

    async with open_supervisor() as top:
        spec = ChildSpec(id="a", start=child, start_timeout=1 if too_slow else 99)
        with pytest.raises(StartTimeoutError) if too_slow else trio.move_on_after(1):
            await top.start_child(spec)
        assert log == ["cleaned up"]
        assert trio.current_time() == 1 + 5
        assert top.which_children() == []


async def test_a_child_that_is_killed_while_it_had_all_the_time_is_reported_as_stuck(
    autojump_clock, puppets, logs
):
    async def end_all(*, task_status: ChildStatus[None]) -> None:
        task_status.started()
        for _ in range(2):  # as when Ctrl-C strikes in its code, and again
            await trio.sleep(1)
            task_status.escalate(KeyboardInterrupt())

    deaf = puppets.spec("deaf", on_stop="shielded", shutdown=math.inf)
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([ChildSpec(id="x", start=end_all, shutdown=60), deaf]):
            await trio.sleep_forever()
    stuck = [entry for entry in logs if entry["event"] == "supervisor.stuck"]
    assert [entry["waited_seconds"] for entry in stuck[:2]] == [STUCK_SECONDS, 2 * STUCK_SECONDS]


@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
async def test_a_stuck_child_is_reported_once_each_time_however_many_wait_for_it(
    autojump_clock, puppets, logs, opened
):
    async with trio.open_nursery() as nursery, opened() as top:
        child = await top.start_child(puppets.spec("a", on_stop="shielded", shutdown="brutal_kill"))
        for _ in range(2):
            nursery.start_soon(top.terminate_child, "a" if opened is open_supervisor else child)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.deadline = 12
    stuck = [entry for entry in logs if entry["event"] == "supervisor.stuck"]
    assert [entry["waited_seconds"] for entry in stuck[:3]] == [STUCK_SECONDS * n for n in (1, 2, 3)]


@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
async def test_a_nursery_of_the_childs_own_hides_no_ignore(autojump_clock, opened):
    async def child(*, task_status: ChildStatus[None]) -> None:
        async with trio.open_nursery():
            raise Ignore

    async with opened() as top:
        assert await top.start_child(ChildSpec(id="a", start=child)) is None


async def test_a_wish_not_to_run_beside_a_crash_is_a_failed_start(autojump_clock):
    async def child(*, task_status: ChildStatus[None]) -> None:
        raise ExceptionGroup("both", [Ignore(), Crash()])

    async with open_supervisor() as top:
        with pytest.raises(ExceptionGroup, match="both"):
            await top.start_child(ChildSpec(id="a", start=child))


async def test_ctrl_c_spares_the_steps_of_supervision_but_not_those_of_a_child(autojump_clock):
    protected = dict[str, bool]()

    async def child(*, task_status: ChildStatus[None]) -> None:
        protected["child"] = trio.lowlevel.currently_ki_protected()
        task_status.started()
        await trio.sleep_forever()

    def start(*, task_status: ChildStatus[None]) -> Awaitable[None]:
        protected["start"] = trio.lowlevel.currently_ki_protected()
        return child(task_status=task_status)

    async with open_supervisor() as top:
        await top.start_child(ChildSpec(id="a", start=start))
    assert protected == {"start": True, "child": False}
