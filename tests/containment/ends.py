# The ways in which a turn can end, each from the moment when all of its victim lives.

import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import trio

from tests.containment.host import Host
from tests.containment.stage import Stage

ALL = ("subreaper", "namespace", "process-group")
GUARDED = ("subreaper", "namespace")


class End(msgspec.Struct, frozen=True, kw_only=True):
    """A way for a turn to end.

    Attributes:
        name: What to call it.
        act: What brings it about; returns when it did. None if it is what the host is sent.
        host_signals: What the host is sent, which then is a program of its own.
        cast: What is special about who plays, as in `Cast`.
        all_die: Whether it ends every turn of the host.
        is_early: Whether it comes before all of the victim can live.
        means: The means under which there can be such an end.
        roles: Who of each turn's line is SIGKILLed together with the host.
        held_by: The means that claim to hold it.
    """

    name: str
    act: Callable[[Stage, Host], Awaitable[float]] | None = None
    host_signals: tuple[signal.Signals, ...] = ()
    cast: Mapping[str, object] = {}
    all_die: bool = False
    is_early: bool = False
    means: tuple[str, ...] = ALL
    roles: tuple[str, ...] = ()
    held_by: tuple[str, ...] = GUARDED


async def _completes(stage: Stage, host: Host) -> float:
    host.leave.set()
    stage.let_pass()
    return trio.current_time()


async def _leaves(stage: Stage, host: Host) -> float:
    host.leave.set()
    return trio.current_time()


async def _is_cancelled(stage: Stage, host: Host) -> float:
    host.scopes["victim"].cancel()
    return trio.current_time()


async def _has_no_time_left(stage: Stage, host: Host) -> float:
    await host.over["victim"].wait()
    return trio.current_time()


async def _is_shut_down(stage: Stage, host: Host) -> float:
    began = trio.current_time()
    await host.supervisor.terminate_child("runtime")
    return began


async def _cannot_start(stage: Stage, host: Host) -> float:
    stage.break_codex()
    host.begin("victim")
    return trio.current_time()


async def _is_blocked(stage: Stage, host: Host) -> float:
    stage.let_pass()
    await stage.wait_blocked()
    return await _is_cancelled(stage, host)


async def _is_new(stage: Stage, host: Host) -> float:
    host.begin("victim")
    await host.spawned.wait()
    await trio.sleep(random.Random(stage.plan.home).uniform(0, 0.1))
    return await _is_cancelled(stage, host)


def _gets(role: str, *numbers: signal.Signals, cancelled: bool = False) -> Callable[..., Awaitable[float]]:
    """One of those between the host and the victim gets a signal."""

    async def act(stage: Stage, host: Host) -> float:
        pid: int = getattr(stage.line(), role)
        for number in numbers:
            os.kill(pid, number)
        if cancelled:
            host.scopes["victim"].cancel()
        return trio.current_time()

    return act


ENDS = (
    End(name="normal end", act=_completes, cast={"leaves": True}),
    End(name="consumer leaves early", act=_leaves, cast={"consumer": "leaves"}),
    End(name="surrounding scope cancelled", act=_is_cancelled),
    End(name="deadline", act=_has_no_time_left, cast={"turn_seconds": 3.0}),
    End(name="codex crashes", act=_gets("codex", signal.SIGABRT)),
    End(name="codex SIGKILLed", act=_gets("codex", signal.SIGKILL)),
    End(
        name="codex SIGSTOPped, cancelled",
        act=_gets("codex", signal.SIGSTOP, cancelled=True),
        cast={"interrupt_seconds": 6.0},
    ),
    End(
        name="codex ignores SIGINT, cancelled",
        act=_is_cancelled,
        cast={"ignores_interrupts": True, "interrupt_seconds": 0.3},
    ),
    End(
        name="stdout blocked, cancelled",
        act=_is_blocked,
        cast={"floods": True, "consumer": "takes nothing", "interrupt_seconds": 0.5},
    ),
    End(name="cancelled in the first 100 ms", act=_is_new, is_early=True),
    End(name="spawn fails half-way", act=_cannot_start, is_early=True),
    End(name="supervisor shuts down", act=_is_shut_down, all_die=True),
    End(name="guard SIGKILLed", act=_gets("guard", signal.SIGKILL), all_die=True, means=GUARDED),
    End(name="watcher SIGKILLed", act=_gets("watcher", signal.SIGKILL), means=GUARDED),
    End(name="bwrap SIGKILLed", act=_gets("wrapper", signal.SIGKILL), means=("namespace",)),
    End(name="host: Ctrl-C", host_signals=(signal.SIGINT,), all_die=True),
    End(name="host: Ctrl-C, twice", host_signals=(signal.SIGINT, signal.SIGINT), all_die=True),
    End(name="host: SIGTERM", host_signals=(signal.SIGTERM,), all_die=True),
    End(name="host: SIGKILL", host_signals=(signal.SIGKILL,), all_die=True),
    End(
        name="host, guard and watchers SIGKILLed at once",
        host_signals=(signal.SIGKILL,),
        roles=("guard", "watcher"),
        all_die=True,
        means=GUARDED,
        held_by=("namespace",),
    ),
)
