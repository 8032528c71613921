import os
import signal
from collections.abc import Iterator

import pytest
import trio

from codex_actors.cli._stop import Stop


@pytest.fixture
def stop() -> Iterator[Stop]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    stop = Stop()
    stop.watch()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_command_that_nobody_stopped_has_no_status_of_its_own(stop: Stop):
    assert (stop.signal, stop.status) == (None, 0)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_raises_nothing_and_is_kept_as_shells_have_it(
    stop: Stop, number: signal.Signals, status: int
):
    os.kill(os.getpid(), number)
    assert (stop.signal, stop.status) == (number, status)


async def test_a_signal_cancels_what_runs(stop: Stop):
    with stop.scope() as scope:
        os.kill(os.getpid(), signal.SIGINT)
        await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_signal_that_came_before_there_was_anything_to_cancel_is_not_lost(stop: Stop):
    os.kill(os.getpid(), signal.SIGTERM)
    with stop.scope() as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_second_signal_does_not_disturb_the_clean_up_and_the_first_one_counts(stop: Stop):
    cleaned_up = False
    with stop.scope():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                os.kill(os.getpid(), signal.SIGTERM)
                await trio.sleep(0.01)
                cleaned_up = True
    assert cleaned_up
    assert stop.status == 130


def test_a_signal_after_the_end_is_no_error(stop: Stop):
    async def scope() -> None:
        with stop.scope():
            pass

    trio.run(scope)
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.status == 130


def test_what_our_parent_told_us_to_ignore_stays_ignored(stop: Stop):
    """As `nohup` does with SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop.watch()
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop.signal is None


def test_when_all_is_over_no_signal_changes_the_exit_status(stop: Stop):
    stop.ignore()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.status == 0
