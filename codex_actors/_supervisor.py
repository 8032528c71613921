# The two supervisors: whom they know, what one may ask of them, and in which order they stop. How a child
# lives, ends and is started again is the same for both (_host).

import math
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Literal, TypedDict, Unpack

import trio

from codex_actors._child import Child, ChildStatus, Life
from codex_actors._host import Host, Slot
from codex_actors._supervision import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    ChildType,
    Restart,
    Shutdown,
    Strategy,
    SupervisorFlags,
    check_child_specs,
    check_max_children,
)
from codex_actors.errors import (
    AlreadyPresentError,
    AlreadyStartedError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    MaxChildrenError,
)


class Limits(TypedDict, total=False):
    """The flags that every supervisor has; `SupervisorFlags` says what they mean."""

    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown
    backoff: Backoff | None


class Flags(Limits, total=False):
    """The flags of a `Supervisor`; `SupervisorFlags` says what they mean."""

    strategy: Strategy


class _OwnTurn:
    """A lock taken without a checkpoint if it is free: a pass of trio's loop is a tenth of a restart."""

    def __init__(self, lock: trio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class Supervisor(Host):
    """Runs children known by id, in an order; `open_supervisor` opens one.

    Everything that takes time happens one after another: restarts and the calls that change something
    wait for their turn. Being cancelled while a call waits for a child to stop leaves the child stopping;
    being cancelled while a call starts a child stops it and keeps nothing of it.
    """

    def __init__(self, name: str, flags: SupervisorFlags) -> None:
        super().__init__(name, flags)
        self._turn = trio.Lock()
        self._own_turn = _OwnTurn(self._turn)

    @staticmethod
    def child_spec(
        child_id: Hashable,
        children: Iterable[ChildSpec] = (),
        *,
        restart: Restart = Restart.PERMANENT,
        shutdown: float | Literal["brutal_kill"] = math.inf,
        significant: bool = False,
        **flags: Unpack[Flags],
    ) -> ChildSpec:
        """Describe a supervisor as a child of another one; its `Child.value` is the `Supervisor`.

        Args:
            child_id: The id, and the supervisor's name.
            children: What it starts, in this order, each time it is started.
            restart: As in `ChildSpec`.
            shutdown: As in `ChildSpec`; anything but ``math.inf`` may cut its children's time short.
            significant: As in `ChildSpec`.
            **flags: As for `open_supervisor`.

        Raises:
            SpecError: This cannot work.
        """
        children, checked = tuple(children), SupervisorFlags(**flags)
        check_child_specs(children, checked.auto_shutdown)
        return ChildSpec(
            id=child_id,
            start=_run_supervisor,
            args=(partial(Supervisor, str(child_id), checked), children),
            restart=restart,
            shutdown=shutdown,
            type=ChildType.SUPERVISOR,
            significant=significant,
        )

    @trio.lowlevel.enable_ki_protection
    async def start_child(self, spec: ChildSpec) -> Child | None:
        """Add a child and start it.

        Returns:
            The child once it is ready; None if it ignored.

        Raises:
            AlreadyStartedError: A child with this id runs.
            AlreadyPresentError: A child with this id does not run.
            SpecError: The child is significant, and the supervisor's ``auto_shutdown`` is ``NEVER``.
            StartTimeoutError: It was not ready in time.
            NoSupervisorError: The supervisor does not run.
            Exception: What the child raised before it was ready.
        """
        check_child_specs([spec], self._flags.auto_shutdown)
        async with self._turn:
            self._open_nursery()
            present = self._slots.get(spec.id)
            if present is not None and present.life is not None and not present.is_restarting:
                raise AlreadyStartedError(spec.id, present.life)
            if present is not None:
                raise AlreadyPresentError(spec.id)
            return await self._start_new(spec.id, spec)

    @trio.lowlevel.enable_ki_protection
    async def terminate_child(self, child_id: Hashable) -> None:
        """Stop a child, with the time that its spec gives it; does nothing if it does not run.

        Its spec is kept, unless it is temporary. A child that is being restarted is not, any more.

        Raises:
            ChildNotFoundError: There is no such child.
            NoSupervisorError: The supervisor does not run.
        """
        async with self._turn:
            await self._stop_child(self._find(child_id))

    @trio.lowlevel.enable_ki_protection
    async def restart_child(self, child_id: Hashable) -> Child | None:
        """Start a child that does not run; this is no restart that counts.

        Returns:
            The child once it is ready; None if it ignored.

        Raises:
            ChildNotFoundError: There is no such child.
            ChildRunningError: It runs.
            ChildRestartingError: It is being restarted already.
            StartTimeoutError: It was not ready in time.
            NoSupervisorError: The supervisor does not run.
            Exception: What the child raised before it was ready.
        """
        async with self._turn:
            return await self._start(self._find_down(child_id))

    @trio.lowlevel.enable_ki_protection
    async def delete_child(self, child_id: Hashable) -> None:
        """Forget a child that does not run.

        Raises:
            ChildNotFoundError: There is no such child.
            ChildRunningError: It runs.
            ChildRestartingError: It is being restarted.
            NoSupervisorError: The supervisor does not run.
        """
        async with self._turn:
            del self._slots[self._find_down(child_id).key]

    def get_childspec(self, child_id: Hashable) -> ChildSpec:
        """Show the spec of a child; that of a temporary child that runs has lost its ``args``.

        Raises:
            ChildNotFoundError: There is no such child.
            NoSupervisorError: The supervisor does not run.
        """
        return self._find(child_id).spec

    def _find(self, child_id: Hashable) -> Slot:
        self._open_nursery()
        if child_id not in self._slots:
            raise ChildNotFoundError(child_id)
        return self._slots[child_id]

    def _find_down(self, child_id: Hashable) -> Slot:
        slot = self._find(child_id)
        if slot.is_restarting:
            raise ChildRestartingError(child_id)
        if slot.life is not None:
            raise ChildRunningError(child_id)
        return slot

    async def _stop_in_order(self) -> None:
        for slot in reversed(list(self._slots.values())):
            await self._stop_child(slot)

    def _lose(self, slot: Slot) -> None:
        slot.life = slot.retry = None
        if slot.spec.restart is Restart.TEMPORARY and self._has(slot):
            del self._slots[slot.key]


class DynamicSupervisor(Host):
    """Runs any number of children, started when they are needed; `open_dynamic_supervisor` opens one.

    Children have no order and no names: they start side by side and stop side by side, and a child that
    ends for good is forgotten.
    """

    def __init__(
        self, name: str, flags: SupervisorFlags, max_children: float, extra_arguments: tuple[object, ...]
    ) -> None:
        super().__init__(name, flags)
        check_max_children(max_children)
        self._max_children = max_children
        self._arguments = extra_arguments
        self._keys = count()

    @staticmethod
    def child_spec(
        child_id: Hashable,
        *,
        max_children: float = math.inf,
        extra_arguments: tuple[object, ...] = (),
        restart: Restart = Restart.PERMANENT,
        shutdown: float | Literal["brutal_kill"] = math.inf,
        significant: bool = False,
        **flags: Unpack[Limits],
    ) -> ChildSpec:
        """Describe a dynamic supervisor as a child of another one; its `Child.value` is the supervisor.

        Args:
            child_id: The id, and the supervisor's name.
            max_children: As for `open_dynamic_supervisor`.
            extra_arguments: As for `open_dynamic_supervisor`.
            restart: As in `ChildSpec`.
            shutdown: As in `ChildSpec`; anything but ``math.inf`` may cut its children's time short.
            significant: As in `ChildSpec`.
            **flags: As for `open_dynamic_supervisor`.

        Raises:
            SpecError: This cannot work.
        """
        check_max_children(max_children)
        make = partial(
            DynamicSupervisor,
            str(child_id),
            SupervisorFlags(strategy=Strategy.ONE_FOR_ONE, **flags),
            max_children,
            extra_arguments,
        )
        return ChildSpec(
            id=child_id,
            start=_run_supervisor,
            args=(make, ()),
            restart=restart,
            shutdown=shutdown,
            type=ChildType.SUPERVISOR,
            significant=significant,
        )

    @trio.lowlevel.enable_ki_protection
    async def start_child(self, spec: ChildSpec) -> Child | None:
        """Start a child. Starts do not wait for each other.

        Returns:
            The child once it is ready; None if it ignored.

        Raises:
            MaxChildrenError: There are as many children as there may be.
            SpecError: The child is significant, and the supervisor's ``auto_shutdown`` is ``NEVER``.
            StartTimeoutError: It was not ready in time.
            NoSupervisorError: The supervisor does not run.
            Exception: What the child raised before it was ready.
        """
        check_child_specs([spec], self._flags.auto_shutdown)
        self._open_nursery()
        if len(self._slots) >= self._max_children:
            raise MaxChildrenError(self._max_children)
        return await self._start_new(next(self._keys), spec)

    @trio.lowlevel.enable_ki_protection
    async def terminate_child(self, child: Child) -> None:
        """Stop a child, with the time that its spec gives it, and forget it.

        Args:
            child: Its present life, or its last one if it is being restarted.

        Raises:
            ChildNotFoundError: It is no child of this supervisor, or no longer.
            NoSupervisorError: The supervisor does not run.
        """
        await self._stop_child(self._find(child))

    def get_childspec(self, child: Child) -> ChildSpec:
        """Show the spec of a child; that of a temporary child has lost its ``args``.

        Raises:
            ChildNotFoundError: It is no child of this supervisor, or no longer.
            NoSupervisorError: The supervisor does not run.
        """
        return self._find(child).spec

    def _find(self, child: Child) -> Slot:
        self._open_nursery()
        slot = self._slots.get(child.key) if isinstance(child, Life) else None
        if slot is None or slot.life is not child:
            raise ChildNotFoundError(getattr(child, "id", child))
        return slot

    async def _stop_in_order(self) -> None:
        slots = list(self._slots.values())
        for slot in slots:
            self._ask_to_stop(slot)
        for slot in slots:
            await self._wait_gone(slot)

    def _lose(self, slot: Slot) -> None:
        slot.life = slot.retry = None
        if self._has(slot):
            del self._slots[slot.key]


@asynccontextmanager
async def open_supervisor(
    children: Iterable[ChildSpec] = (), *, name: str = "supervisor", **flags: Unpack[Flags]
) -> AsyncGenerator[Supervisor]:
    """Open a supervisor and start its children, each when the one before it is ready.

    Leaving the block stops them, the last one first, each with the time that its spec gives it. Being
    cancelled does the same, and so does Ctrl-C; the second Ctrl-C kills them. If the supervisor shuts down
    by itself (`AutoShutdown`), what is in the block is cancelled, and the block is left quietly.

    Args:
        children: What to start, in this order.
        name: What its reports call it.
        **flags: ``strategy``, ``max_restarts``, ``max_seconds``, ``auto_shutdown`` and ``backoff``, as
            `SupervisorFlags` describes them.

    Raises:
        SpecError: A spec or a flag cannot work as it is; nothing was started.
        ChildStartError: A child did not start; those before it were stopped.
        RestartLimitError: The supervisor gave up; what is in the block was cancelled. If that raised
            something else, this is in its context.
    """
    children, checked = tuple(children), SupervisorFlags(**flags)
    check_child_specs(children, checked.auto_shutdown)
    supervisor = Supervisor(name, checked)
    async with supervisor.open(children):
        yield supervisor


@asynccontextmanager
async def open_dynamic_supervisor(
    *,
    name: str = "dynamic supervisor",
    max_children: float = math.inf,
    extra_arguments: tuple[object, ...] = (),
    **flags: Unpack[Limits],
) -> AsyncGenerator[DynamicSupervisor]:
    """Open a dynamic supervisor; it has no children yet.

    Leaving the block stops all children at the same time, each with the time that its spec gives it; else
    it ends as `open_supervisor` does.

    Args:
        name: What its reports call it.
        max_children: How many children it may have, those that are being restarted included; a number or
            ``math.inf``.
        extra_arguments: What each child is called with before its own ``args``.
        **flags: ``max_restarts``, ``max_seconds``, ``auto_shutdown`` and ``backoff``, as
            `SupervisorFlags` describes them.

    Raises:
        SpecError: A flag cannot work as it is.
        RestartLimitError: The supervisor gave up; what is in the block was cancelled. If that raised
            something else, this is in its context.
    """
    supervisor = DynamicSupervisor(
        name, SupervisorFlags(strategy=Strategy.ONE_FOR_ONE, **flags), max_children, extra_arguments
    )
    async with supervisor.open(()):
        yield supervisor


async def _run_supervisor(
    make: Callable[[], Host], children: tuple[ChildSpec, ...], *, task_status: ChildStatus[Host]
) -> None:
    """Be a supervisor that is somebody's child."""
    supervisor = make()
    async with supervisor.open(children, task_status):
        task_status.started(supervisor)
        await trio.sleep_forever()
    raise Shutdown  # it has shut down by itself
