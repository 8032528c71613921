"""Children that do what a test says, and a record of what became of them."""

from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Hashable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors import _supervisor
from codex_actors._child import Child, ChildStatus
from codex_actors._host import ChildInfo
from codex_actors._supervision import ChildSpec, Ignore, Restart, Shutdown
from codex_actors._supervisor import DynamicSupervisor, Supervisor

T = TypeVar("T")

# What children and supervisors hand out is of many types, and may be None; tests do not narrow each time.
open_supervisor: Any = _supervisor.open_supervisor
open_dynamic_supervisor: Any = _supervisor.open_dynamic_supervisor

PERMANENT, TRANSIENT, TEMPORARY = Restart


class Crash(Exception):  # noqa: N818 - OTP's word
    """What a puppet raises when it is told to crash."""


# How a child can end by itself: with an exception, or by returning.
EXITS: dict[str, Exception | None] = {
    "normal": None,
    "shutdown": Shutdown(),
    "{shutdown,term}": Shutdown("term"),
    "crash": Crash(),
}
IGNORE, FAIL = Ignore(), Crash("in start")


class Puppet:
    """One life of a puppet."""

    def __init__(self) -> None:
        self.orders = deque[Exception | None]()
        self.told = trio.Event()

    def tell(self, end: Exception | None) -> None:
        self.orders.append(end)
        self.told.set()


class Puppets:
    """Makes puppets.

    Attributes:
        log: ``+id`` for each start that is asked for, ``-id`` for each end of a life that had started.
        live: The present life of each.
        starts: What is to come of the next starts of each: None is a life; an exception is raised. The
            last entry stays.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.live: dict[Hashable, Puppet] = {}
        self.starts: dict[Hashable, list[Exception | None]] = defaultdict(list)
        self.extra: list[tuple[object, ...]] = []
        self.lives = defaultdict[Hashable, int](int)

    def spec(
        self, child_id: Hashable, restart: Restart = PERMANENT, *, on_stop: object = None, **fields: Any
    ) -> ChildSpec:
        """A puppet's spec.

        Args:
            child_id: Its id.
            restart: Its restart type.
            on_stop: What it does when it is asked to stop: nothing (None), clean up for so many seconds
                (a number), not listen until it is killed ("deaf"), not even then, for 1,000 seconds
                ("shielded"), return ("return"), or raise this.
            **fields: Fields of the spec.
        """
        return ChildSpec(id=child_id, start=self.play, args=(child_id, on_stop), restart=restart, **fields)

    def specs(self, ids: Iterable[Hashable], restart: Restart = PERMANENT, **fields: Any) -> list[ChildSpec]:
        return [self.spec(child_id, restart, **fields) for child_id in ids]

    async def play(self, *args: object, task_status: ChildStatus[Puppet]) -> None:
        *extra, child_id, on_stop = args
        self.extra.append(tuple(extra))
        self.log.append(f"+{child_id}")
        coming = self.starts[child_id]
        if coming and (failure := coming.pop(0) if len(coming) > 1 else coming[0]) is not None:
            raise failure
        puppet = self.live[child_id] = Puppet()
        self.lives[child_id] += 1
        task_status.started(puppet)
        try:
            await _obey(puppet)
        except trio.Cancelled:
            await _stop(on_stop, task_status)
            if on_stop != "return":
                raise
        finally:
            self.log.append(f"-{child_id}")

    async def exit(self, child_id: Hashable, how: str = "crash") -> None:
        """Let a puppet end, and wait until all that this causes has happened."""
        self.live[child_id].tell(EXITS[how])
        await wait_all_tasks_blocked()

    def clear(self) -> None:
        self.log.clear()


async def _obey(puppet: Puppet) -> None:
    await puppet.told.wait()
    if end := puppet.orders.popleft():
        # A new one each time: a traceback must not grow from test to test.
        raise type(end)(*end.args)


async def _stop(on_stop: object, status: ChildStatus[Puppet]) -> None:
    match on_stop:
        case "deaf":
            with status.grace():
                await trio.sleep_forever()
        case "shielded":
            with trio.CancelScope(shield=True):
                await trio.sleep(1_000)
        case int() | float():
            with status.grace():
                await trio.sleep(on_stop)
        case Exception():
            raise on_stop
        case _:
            pass


@asynccontextmanager
async def lasting(opened: AbstractAsyncContextManager[T]) -> AsyncGenerator[T]:
    """Fail if a supervisor ends by itself, which looks from inside like being cancelled and no more."""
    async with opened as supervisor:
        try:
            yield supervisor
        except trio.Cancelled:
            pytest.fail("the supervisor has ended")


def pids(supervisor: Supervisor | DynamicSupervisor) -> dict[Hashable, Any]:
    """What OTP's which_children shows: each child's pid, ``undefined`` (None) or ``restarting``."""
    return {info.id: _pid(info) for info in reversed(supervisor.which_children())}


def _pid(info: ChildInfo) -> Child | str | None:
    return "restarting" if info.is_restarting else info.child


def running(supervisor: Supervisor | DynamicSupervisor) -> list[Hashable]:
    """The ids of the children that run, in start order."""
    return [child_id for child_id, pid in pids(supervisor).items() if isinstance(pid, Child)]


def reported(logs: list[structlog.typing.EventDict], *contexts: str) -> list[tuple[str, str, str]]:
    """Reports other than progress as (context, child, reason); all of them, or those of these contexts."""
    return [
        (context, entry["offender"]["id"], entry["reason"])
        for entry in logs
        if (context := entry["event"].removeprefix("supervisor.")) != "progress"
        and (not contexts or context in contexts)
    ]
