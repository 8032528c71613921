"""What leaves a nursery of ours, and what does not."""

import pytest
import trio
import trio.testing

from codex_actors._nursery import open_private_nursery


async def fail(exc: BaseException) -> None:
    raise exc


async def test_leaving_the_block_ends_what_still_runs_in_it():
    ended = trio.Event()

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_private_nursery() as nursery:
        nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
    assert ended.is_set()


async def test_an_error_of_the_block_leaves_as_itself():
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with open_private_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error
    assert caught.value is error
    assert caught.value.__context__ is None, "the group that the nursery made must not show"


async def test_an_error_of_a_task_leaves_as_itself_and_ends_the_others():
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with open_private_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail, error)
            await trio.sleep_forever()
    assert caught.value is error


async def test_a_group_of_the_users_own_is_left_as_it_is():
    group = ExceptionGroup("mine", [KeyError("a")])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_private_nursery():
            raise group
    assert caught.value is group
    assert group.message == "mine"


async def test_two_causes_leave_as_a_group():
    with pytest.raises(ExceptionGroup) as caught:
        async with open_private_nursery() as nursery:
            nursery.start_soon(fail, KeyError("a"))
            nursery.start_soon(fail, ValueError("b"))
            await trio.sleep_forever()
    assert {type(exc) for exc in caught.value.exceptions} == {KeyError, ValueError}


async def test_cancelling_from_outside_is_one_cancellation_however_many_tasks_it_hits():
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled):
            async with open_private_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_an_error_while_being_cancelled_leaves_alone():
    async def fail_in_cleanup() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("mine")

    with trio.CancelScope() as scope, pytest.raises(KeyError):
        async with open_private_nursery() as nursery:
            nursery.start_soon(fail_in_cleanup)
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
