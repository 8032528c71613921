"""Supervisors, each doing the same; see worker.py.

Imports nothing but trio and what is measured: triotp has a Python of its own, without us. Nothing waits for
anything but other tasks, so processor time says it all; and that does not depend on what else is running.
"""

import gc
import json
import math
import re
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import trio

Job = dict[str, int]
Numbers = dict[str, float]
Started = Any  # a task status: trio's or ours

ENOUGH = 1_000_000_000


class Crash(Exception):  # noqa: N818 - OTP's word
    """What a child falls with."""


class Faller:
    """A child that falls when it is told to."""

    def __init__(self) -> None:
        self._told = trio.Event()
        self._up = trio.Event()

    async def run(self, *, task_status: Started = trio.TASK_STATUS_IGNORED) -> None:
        self._told = trio.Event()
        task_status.started()
        self._up.set()
        await self._told.wait()
        raise Crash

    async def fall(self) -> None:
        """Fall, and wait until it is up again."""
        self._up = trio.Event()
        self._told.set()
        await self._up.wait()

    async def fall_often(self, times: int) -> float:
        """Say how many seconds it takes from one fall to being up again."""
        await self._up.wait()
        began = time.process_time()
        for _ in range(times):
            await self.fall()
        return (time.process_time() - began) / times


class Idlers:
    """Children that wait to be stopped."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.stopped: list[int] = []

    async def run(self, number: int, *, task_status: Started = trio.TASK_STATUS_IGNORED) -> None:
        self.started.append(number)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.stopped.append(number)

    @property
    def in_order(self) -> bool:
        return self.stopped == self.started[::-1]


# Without a supervisor.


async def bare(job: Job) -> Numbers:
    """A nursery; a task that starts over by itself; one cancellation for all."""
    idlers, faller = Idlers(), Faller()
    began = time.process_time()
    async with trio.open_nursery() as nursery:
        for number in range(job["children"]):
            await nursery.start(idlers.run, number)
        start = (time.process_time() - began) / job["children"]
        nursery.start_soon(_over_and_over, faller)
        restart = await faller.fall_often(job["children"])
        began = time.process_time()
        nursery.cancel_scope.cancel()
    stop = time.process_time() - began
    began = time.process_time()
    async with trio.open_nursery() as nursery:
        for number in range(job["many"]):
            await nursery.start(idlers.run, number)
        many = time.process_time() - began
        nursery.cancel_scope.cancel()
    return {"start": start, "restart": restart, "stop": stop, "many": many}


async def _over_and_over(faller: Faller) -> None:
    while True:
        with suppress(Crash):
            await faller.run()


async def bare_memory(job: Job) -> Numbers:
    idlers = Idlers()
    async with trio.open_nursery() as nursery:
        before = _own_memory()
        for number in range(job["many"]):
            await nursery.start(idlers.run, number)
        each = (_own_memory() - before) / job["many"]
        nursery.cancel_scope.cancel()
    return {"each": each}


# codex_actors


async def ours(job: Job) -> Numbers:
    actors = _codex_actors()
    idlers, faller = Idlers(), Faller()
    async with AsyncExitStack() as block:
        top = await block.enter_async_context(actors.open_supervisor(max_restarts=ENOUGH))
        began = time.process_time()
        for number in range(job["children"]):
            await top.start_child(actors.ChildSpec(id=number, start=idlers.run, args=(number,)))
        start = (time.process_time() - began) / job["children"]
        await top.start_child(actors.ChildSpec(id="faller", start=faller.run))
        restart = await faller.fall_often(job["children"])
        began = time.process_time()
    stop = time.process_time() - began
    idle = Idlers()
    async with actors.open_dynamic_supervisor() as dynamic:
        began = time.process_time()
        for number in range(job["many"]):
            await dynamic.start_child(actors.ChildSpec(id=number, start=idle.run, args=(number,)))
        many = time.process_time() - began
    return {"start": start, "restart": restart, "stop": stop, "many": many, "in_order": idlers.in_order}


async def ours_memory(job: Job) -> Numbers:
    actors = _codex_actors()
    idlers = Idlers()
    async with actors.open_dynamic_supervisor() as dynamic:
        before = _own_memory()
        for number in range(job["many"]):
            await dynamic.start_child(actors.ChildSpec(id=number, start=idlers.run, args=(number,)))
        return {"each": (_own_memory() - before) / job["many"]}


def _codex_actors() -> Any:
    # A report is made for every fall. What it costs to write that down is not ours to say.
    structlog = import_module("structlog")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    return import_module("codex_actors")


# triotp: one_for_one; does not wait until a child is ready, and stops all at once.


async def triotp(job: Job) -> Numbers:
    supervisor, dynamic = _triotp()
    idlers, faller = Idlers(), Faller()
    options = supervisor.options(max_restarts=ENOUGH, max_seconds=math.inf)
    specs = [supervisor.child_spec(str(number), idlers.run, [number]) for number in range(job["children"])]
    async with trio.open_nursery() as nursery:
        began = time.process_time()
        await nursery.start(supervisor.start, specs, options)
        await _until(idlers, job["children"])
        start = (time.process_time() - began) / job["children"]
        nursery.start_soon(supervisor.start, [supervisor.child_spec("faller", faller.run, [])], options)
        restart = await faller.fall_often(job["children"])
        began = time.process_time()
        nursery.cancel_scope.cancel()
    stop = time.process_time() - began
    idle = Idlers()
    async with trio.open_nursery() as nursery:
        began = time.process_time()
        await _start_many(nursery, supervisor, dynamic, idle, job["many"])
        many = time.process_time() - began
        nursery.cancel_scope.cancel()
    return {"start": start, "restart": restart, "stop": stop, "many": many, "in_order": idlers.in_order}


async def triotp_memory(job: Job) -> Numbers:
    supervisor, dynamic = _triotp()
    idlers = Idlers()
    async with trio.open_nursery() as nursery:
        before = _own_memory()
        await _start_many(nursery, supervisor, dynamic, idlers, job["many"])
        each = (_own_memory() - before) / job["many"]
        nursery.cancel_scope.cancel()
    return {"each": each}


async def _start_many(
    nursery: trio.Nursery, supervisor: Any, dynamic: Any, idlers: Idlers, many: int
) -> None:
    mailbox = await nursery.start(dynamic.start, supervisor.options())
    for number in range(many):
        await dynamic.start_child(mailbox, supervisor.child_spec(str(number), idlers.run, [number]))
    await _until(idlers, many)


async def _until(idlers: Idlers, started: int) -> None:
    while len(idlers.started) < started:
        await trio.lowlevel.checkpoint()


def _triotp() -> Any:
    import_module("logbook").NullHandler().push_application()
    import_module("triotp.mailbox")._init()
    return import_module("triotp.supervisor"), import_module("triotp.dynamic_supervisor")


def _own_memory() -> int:
    """What this process has to itself, in bytes."""
    gc.collect()
    rows = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(map(int, re.findall(r"^Private_\w+:\s+(\d+) kB$", rows, re.MULTILINE)))


CONTENDERS: dict[str, Callable[[Job], Awaitable[Numbers]]] = {
    contender.__name__: contender
    for contender in (bare, bare_memory, ours, ours_memory, triotp, triotp_memory)
}


def main() -> None:
    """Play a round for each line of stdin."""
    play = partial(trio.run, CONTENDERS[sys.argv[1]], json.loads(sys.argv[2]))
    for _ in sys.stdin:
        began = time.perf_counter()
        numbers = play()
        sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began, **numbers}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
