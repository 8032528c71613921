# The only place that knows how trio shuffles: tasks that could run next run in an order that hangs on this.

import trio


def seed_scheduler(seed: int) -> None:
    """Make trio's choices follow from a number. Needs Hypothesis, which makes them repeatable."""
    trio._core._run._r.seed(seed)
