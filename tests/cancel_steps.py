"""Cancels a piece of work at each of its steps in turn."""

from collections.abc import Awaitable, Callable

import trio


class _CancelsAt(trio.abc.Instrument):
    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self.steps_left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            self._scope.cancel()


async def cancel_at_each_step(work: Callable[[], Awaitable[object]]) -> int:
    """Run `work` again and again, cancelled one step later each time, until it ends before that.

    A step is what one task does between two checkpoints; which of them the scheduler takes first is
    chance, so that no two runs try exactly the same.

    Returns:
        How many times it was cancelled.
    """
    step = 0
    while True:
        step += 1
        with trio.CancelScope() as scope:
            instrument = _CancelsAt(scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                await work()
            finally:
                trio.lowlevel.remove_instrument(instrument)  # fails if trio had to throw it out
        if instrument.steps_left > 0:
            return step - 1
