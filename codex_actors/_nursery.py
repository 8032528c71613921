# A nursery of ours is an implementation detail: what leaves it must look as if it were not there. So
# one cause leaves bare, several leave as a group, being cancelled is one cause however many tasks it
# hits, and the user's own exceptions (groups of their own making included) are never wrapped.

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_private_nursery() -> AsyncGenerator[trio.Nursery]:
    """Open a nursery that leaves no trace in exceptions; leaving the block cancels what still runs in it."""
    causes: list[BaseException] = []
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            try:
                yield nursery
            except Exception as exc:  # noqa: BLE001 - raised below; the nursery would rebuild a group
                causes.append(exc)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failures = [exc for exc in group.exceptions if not isinstance(exc, trio.Cancelled)]
        causes += failures if failures or causes else group.exceptions[:1]
    # Raised out here, so that the nursery's group is not the context of what is raised.
    if len(causes) > 1:
        raise BaseExceptionGroup("more than one cause", causes)
    if causes:
        raise causes[0]
