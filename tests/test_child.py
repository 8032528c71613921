"""One life of a child."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors._supervision import ChildSpec, ExitKind
from codex_actors.errors import StartTimeoutError
from tests.otp.puppets import TEMPORARY, Crash, open_supervisor


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
