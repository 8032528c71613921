# A nursery of ours is an implementation detail: what leaves it must look as if it were not there. So
# one cause leaves bare, several leave as the group they are, and the user's own exceptions (groups of
# their own making included) are never wrapped.

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_private_nursery() -> AsyncGenerator[trio.Nursery]:
    """Open a nursery that leaves no trace in exceptions; leaving the block cancels what still runs in it."""
    cause: BaseException | None = None
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        cause = group.exceptions[0]
    if cause is not None:  # raised out here, so that the group is not its context
        raise cause
