# What both supervisors have in common: the tasks that carry out what _supervision decides. A supervisor is
# no task: it is a nursery, the children in it, and the order in which things happen to them.
#
# - All lives are tasks of one nursery, each behind a shield of its own (_child). Whatever ends the
#   supervisor (its block is left, it gives up, Cancelled, Ctrl-C) cancels that nursery; the shields hold,
#   and `_stop` stops the children in their order.
# - Nobody waits for exits: the task of a child that has ended goes on to do what its end asks for. In a
#   `Supervisor` it takes its turn with the callers for that, so that everything happens one after another,
#   as in OTP. In a `DynamicSupervisor` nothing has to wait for anything else.
# - What ends a supervisor is noted in `_ending`, never raised in the nursery: no groups.
# - Ctrl-C strikes where the main task waits, shielded or not: what must be waited for is waited for again.

import contextvars
import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Never

import trio
from msgspec.structs import replace

from codex_actors._child import Child, ChildStatus, Life
from codex_actors._data import Data
from codex_actors._ending import Ending, ends_program
from codex_actors._nursery import open_private_nursery
from codex_actors._reports import Reporter, shown
from codex_actors._supervision import (
    ChildSpec,
    ChildType,
    ExitReason,
    Restart,
    RestartWindow,
    SupervisorFlags,
    is_crash,
    is_expected,
    is_ignored,
    is_reported,
    must_restart,
    shuts_down,
    taken_down,
)
from codex_actors.errors import (
    ChildStartError,
    NoSupervisorError,
    RestartLimitError,
    SpecError,
    StartTimeoutError,
)


class ChildInfo(Data, gc=True, frozen=True, kw_only=True):
    """What a supervisor knows of a child.

    Attributes:
        id: The id in its spec.
        child: Its life, or None if it does not run (yet, or any more).
        is_restarting: Whether it is about to be started again.
        type: Whether it is a supervisor.
    """

    id: Hashable
    child: Child | None
    is_restarting: bool
    type: ChildType


class ChildCounts(Data, frozen=True, kw_only=True):
    """How many children a supervisor has.

    Attributes:
        specs: Those it knows, running or not.
        active: Those that run.
        supervisors: Those of `specs` that are supervisors.
        workers: Those that are not.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


class Retry:
    """A child that is to be restarted, from the moment on that this is clear."""

    __slots__ = ("is_allowed", "seconds", "slot")

    def __init__(self, slot: "Slot") -> None:
        self.slot = slot
        self.seconds = 0.0
        self.is_allowed = False


class Slot:
    """A child through all its lives. Without a `life` it is down; with a `retry`, it will have a new one."""

    __slots__ = ("context", "error", "key", "life", "retry", "spec", "starting")

    def __init__(self, key: Hashable, spec: ChildSpec) -> None:
        self.key = key
        self.spec = spec
        # Whoever adds a child may have bound what its log lines are to say: each life starts from there.
        self.context = contextvars.copy_context()
        self.life: Life | None = None
        self.starting: Life | None = None
        self.retry: Retry | None = None
        self.error: Exception | None = None

    @property
    def is_restarting(self) -> bool:
        return self.retry is not None

    @property
    def running(self) -> Life | None:
        """The life, if it is one that goes on."""
        alive = self.life is not None and self.life.exit_reason is None
        return self.life if alive else None

    @property
    def counts_as_alive(self) -> bool:
        return self.life is not None or self.starting is not None or self.is_restarting

    def fail(self, error: Exception | None) -> Retry:
        """Note what it ended or failed to start with, and that it is to be restarted."""
        self.error = error
        self.retry = Retry(self)
        return self.retry

    def lives(self) -> Iterator[Life]:
        """What has to end before the supervisor can, the youngest first."""
        return (life for life in (self.starting, self.running) if life is not None)

    def adopt(self, life: Life) -> None:
        """Take a life that has started for the child's."""
        self.life = life
        self.retry = self.error = None
        if self.spec.restart is Restart.TEMPORARY:  # there will be no other life: let go of what began it
            self.context = contextvars.Context()
            self.spec = replace(self.spec, args=())


class Host(ABC):
    """What both supervisors have in common: lives, and a budget of restarts."""

    def __init__(self, name: str, flags: SupervisorFlags) -> None:
        self.name = name
        self._flags = flags
        self._window = RestartWindow(flags.max_restarts, flags.max_seconds)
        self._dice = random.Random()  # noqa: S311 - nobody gains from guessing when a child starts again
        self._report = Reporter(name)
        self._slots: dict[Hashable, Slot] = {}
        self._arguments: tuple[object, ...] = ()
        # Taken for everything that has to wait for its turn: by callers, and by its own tasks.
        self._turn: AbstractAsyncContextManager[object] = nullcontext()
        self._own_turn: AbstractAsyncContextManager[object] = nullcontext()
        self._nursery: trio.Nursery | None = None
        self._lives: dict[Life, Slot] = {}
        self._ending = Ending()
        self._status: ChildStatus[Never] | None = None
        self._escalate = self._end

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {len(self._slots)} children>"

    def count_children(self) -> ChildCounts:
        """Count the children, those that are being started included.

        Raises:
            NoSupervisorError: The supervisor does not run.
        """
        self._open_nursery()
        slots = self._slots.values()
        supervisors = sum(slot.spec.type is ChildType.SUPERVISOR for slot in slots)
        return ChildCounts(
            specs=len(slots),
            active=sum(slot.running is not None for slot in slots),
            supervisors=supervisors,
            workers=len(slots) - supervisors,
        )

    def which_children(self) -> list[ChildInfo]:
        """List the children, the youngest first.

        Raises:
            NoSupervisorError: The supervisor does not run.
        """
        self._open_nursery()
        return [
            ChildInfo(
                id=slot.spec.id,
                child=None if slot.is_restarting else slot.life,
                is_restarting=slot.is_restarting,
                type=slot.spec.type,
            )
            for slot in reversed(self._slots.values())
        ]

    # ------------------------------------------------------------------ beginning and end of the supervisor

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def open(
        self, children: Iterable[ChildSpec], status: ChildStatus[Never] | None = None
    ) -> AsyncGenerator[None]:
        """Run, from the start of the children to the end of the last of them.

        Args:
            children: What to start, in this order.
            status: Its own, if it is a supervisor's child: when that one kills it, it kills.
        """
        self._status, theirs = status, None
        try:
            async with open_private_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._start_all(children)
                    yield
                except BaseException as error:
                    theirs = error
                    raise
                finally:
                    self._end(theirs)
                    await self._stop()
        except BaseException as error:
            if theirs is None:  # pragma: no cover - Ctrl-C in the one step of the nursery's own wait
                self._ending.meet(theirs := error)
            if self._ending.error is None or self._ending.error is theirs:
                raise
        finally:
            ours, self._ending, theirs = self._ending.error, Ending(), None  # an exception holds its frames
        if ours is not None:
            raise ours

    def _end(self, error: BaseException | None) -> None:
        """Let the supervisor end, and its block raise `error`; does not wait for it."""
        if error is not None:
            self._ending.meet(error)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            self._nursery = None
        if self._ending.is_urgent:
            self._kill()
        if error is not None and self._status is not None and ends_program(error):
            self._status.escalate(error)

    def _open_nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise NoSupervisorError(self.name)
        return self._nursery

    async def _start_all(self, children: Iterable[ChildSpec]) -> None:
        async with self._turn:
            for spec in children:
                slot = self._add(spec.id, spec)
                try:
                    await self._start(slot)
                except Exception as error:
                    self._report.start_error(spec, error)
                    raise ChildStartError(spec.id) from error

    async def _stop(self) -> None:
        try:
            with self._status.grace() if self._status else trio.CancelScope(shield=True):
                await self._insist(self._stop_all)
        finally:
            self._kill()
            with trio.CancelScope(shield=True):
                await self._insist(self._wait_all_gone)

    async def _insist(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait for an end that must come. Ctrl-C, which strikes where the main task waits, keeps nobody."""
        while True:
            try:
                return await wait()
            except KeyboardInterrupt as error:
                self._end(error)

    async def _stop_all(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # a supervisor that is killed kills
        await self._stop_in_order()
        await self._wait_all_gone()  # also those that were forgotten while they stop

    async def _wait_all_gone(self) -> None:
        for life, slot in list(self._lives.items()):
            life.ask_to_stop(slot.spec)
            await life.wait_gone(partial(self._report.stuck, slot.spec))

    def _kill(self) -> None:
        for life in self._lives:
            life.kill()

    @abstractmethod
    async def _stop_in_order(self) -> None:
        """Stop all children, each with its own time."""

    # ------------------------------------------------------------------------- one child: start, stop, exit

    def _add(self, key: Hashable, spec: ChildSpec) -> Slot:
        slot = self._slots[key] = Slot(key, spec)
        return slot

    async def _start_new(self, key: Hashable, spec: ChildSpec) -> Child | None:
        slot = self._add(key, spec)
        try:
            return await self._start(slot)
        except BaseException:
            del self._slots[key]
            raise

    @trio.lowlevel.enable_ki_protection
    async def _start(self, slot: Slot) -> Life | None:
        """Begin a life and wait until it is ready; None is that it was not to be.

        What keeps the child from being ready is raised as it is.
        """
        nursery, spec = self._open_nursery(), slot.spec
        life = slot.starting = Life(spec.id, slot.key)
        status: ChildStatus[Never] = ChildStatus(life, self._escalate)
        try:
            body = self._call(spec, status)
            self._lives[life] = slot
            slot.context.run(lambda: nursery.start_soon(self._live, slot, life, body, name=shown(spec.id)))
            await self._wait_started(life, spec)
        except Exception as error:
            if not is_ignored(error):
                raise
            self._lose(slot)
            return None
        finally:
            slot.starting = None
        slot.adopt(life)
        self._report.progress(spec)
        if life.exit_reason is not None:  # it was quick
            nursery.start_soon(self._see_out, slot, life, life.exit_reason)
        return life

    def _call(self, spec: ChildSpec, status: ChildStatus[Never]) -> Awaitable[object]:
        body = spec.start(*self._arguments, *spec.args, task_status=status)
        if inspect.isawaitable(body):
            return body
        problem = f"must be an async function: it returned {type(body).__name__}"
        raise SpecError("ChildSpec.start", problem, "invalid_start")

    async def _wait_started(self, life: Life, spec: ChildSpec) -> None:
        """Wait until a child is ready; being cancelled stops it, and waits until it is gone."""
        try:
            in_time = await life.wait_answer(spec.start_seconds)
        except BaseException as reason:  # also Ctrl-C, which strikes where the main task waits
            if isinstance(reason, KeyboardInterrupt):
                self._end(reason)
            await self._abandon(life, spec)
            # As in any nursery, a crash is worse than being cancelled; but a word to the supervisor is none.
            if isinstance(reason, trio.Cancelled) and is_crash(life.error):
                raise life.error from None
            raise
        if not in_time:
            await self._abandon(life, spec)
            if not ends_program(life.error):
                raise StartTimeoutError(spec.id, spec.start_seconds) from life.error
        self._check_started(life)

    def _check_started(self, life: Life) -> None:
        """Raise what kept a child that has answered from starting."""
        is_late = life.exit_reason is not None and self._nursery is None  # nobody would see it out
        if life.error is not None and (not life.is_started or (is_late and ends_program(life.error))):
            raise life.error
        if is_late or (not life.is_started and life.is_stopping):
            raise NoSupervisorError(self.name) from life.error
        if not life.is_started:
            raise RuntimeError("child exited without calling task_status.started()")

    async def _abandon(self, life: Life, spec: ChildSpec) -> None:
        life.ask_to_stop(spec)
        with trio.CancelScope(shield=True):
            await self._insist(partial(life.wait_gone, partial(self._report.stuck, spec)))

    @trio.lowlevel.enable_ki_protection
    async def _live(self, slot: Slot, life: Life, body: Awaitable[object]) -> None:
        reason = await life.run(body)
        del self._lives[life]
        if slot.life is life:  # else it is for whoever waits for its start
            await self._see_out(slot, life, reason)

    async def _see_out(self, slot: Slot, life: Life, reason: ExitReason) -> None:
        """Do what the end of a child that had started asks for."""
        if ends_program(life.error):
            self._lose(slot)
            self._end(life.error)
        elif slot.life is life and life.is_stopping:
            self._lay_to_rest(slot, reason)
        else:
            await self._after_exit(slot, life, reason)

    def _lay_to_rest(self, slot: Slot, reason: ExitReason) -> None:
        """Note the end of a child that was to stop."""
        if not is_expected(slot.spec, reason):
            self._report.shutdown_error(slot.spec, reason)
        self._lose(slot)

    def _ask_to_stop(self, slot: Slot) -> None:
        """Ask a child to stop, if it lives; it is not started again."""
        was_restarting, slot.retry = slot.is_restarting, None
        for life in slot.lives():
            life.ask_to_stop(slot.spec)
        if was_restarting:
            self._lose(slot)
        elif slot.life is not None and slot.life.exit_reason is not None:  # it fell before its turn came
            self._lay_to_rest(slot, slot.life.exit_reason)

    async def _wait_gone(self, slot: Slot) -> None:
        for life in slot.lives():
            await life.wait_gone(partial(self._report.stuck, slot.spec))

    async def _stop_child(self, slot: Slot) -> None:
        self._ask_to_stop(slot)
        await self._wait_gone(slot)

    @abstractmethod
    def _lose(self, slot: Slot) -> None:
        """Note that a child does not live; forget it, if it never will."""

    # -------------------------------------------------------------------------------- restarts

    async def _after_exit(self, slot: Slot, life: Life, reason: ExitReason) -> None:
        """Restart the child, if it is to be. If a start fails, let others have their turn, then try again."""
        async with self._own_turn:
            if slot.life is not life or self._nursery is None:
                return
            retry = self._judge(slot, reason)
            retry = await self._restart(retry) if retry else None
        while retry is not None:
            await trio.sleep(retry.seconds)
            async with self._own_turn:
                is_due = retry.slot.retry is retry  # else it was stopped, and whatever came then is no matter
                retry = await self._restart(retry) if is_due else None

    def _judge(self, slot: Slot, reason: ExitReason) -> Retry | None:
        """Note the end of a child that ended by itself; None is that it is not to be restarted."""
        spec = slot.spec
        if is_reported(spec.restart, reason):
            self._report.child_terminated(spec, reason)
        if must_restart(spec.restart, reason):
            return slot.fail(reason.error)
        if isinstance(reason.error, RestartLimitError):
            self._report.child_gave_up(spec, reason)
        self._lose(slot)
        if shuts_down(self._flags.auto_shutdown, spec, self._alive()):
            self._end(None)
        return None

    def _alive(self) -> Iterator[ChildSpec]:
        """Those that live, are being restarted, or wait with a sibling for its restart."""
        for slot in self._slots.values():
            if slot.counts_as_alive:
                yield slot.spec
            if slot.retry is not None and slot.retry.is_allowed:
                down = taken_down(self._flags.strategy, self._slots, slot.key)
                yield from (self._slots[key].spec for key in down)

    async def _restart(self, retry: Retry) -> Retry | None:
        """Restart a child, and those that its strategy takes down; returns what is left to do later."""
        if not retry.is_allowed:
            if not self._allow(retry):
                self._give_up(retry.slot)
                return None
            if self._flags.backoff:
                await self._take_down(retry.slot)  # siblings rely on it: they do not go on without it
                return retry
        for slot in await self._take_down(retry.slot):
            failed = await self._revive(slot) if self._nursery else None
            if failed is not None:
                if slot is not retry.slot and retry.slot.is_restarting:  # from now on it waits for the other
                    self._lose(retry.slot)
                return failed
        return None

    def _allow(self, retry: Retry) -> bool:
        """Count a restart, and say how long to wait for it; False is that there is to be none."""
        now = trio.current_time()
        if self._flags.backoff:
            retry.seconds = self._flags.backoff.delay(self._window.count(now), self._dice.random())
        retry.is_allowed = self._window.allow(now)
        return retry.is_allowed

    async def _take_down(self, slot: Slot) -> list[Slot]:
        """Stop those that go down with a child; returns all that are to be started for it, in order."""
        down = [self._slots[key] for key in taken_down(self._flags.strategy, self._slots, slot.key)]
        for sibling in reversed(down):
            await self._stop_child(sibling)
        if not down:
            return [slot]
        again = {slot.key, *(sibling.key for sibling in down)}
        return [other for key, other in self._slots.items() if key in again]  # the temporary ones are gone

    async def _revive(self, slot: Slot) -> Retry | None:
        """Begin another life; returns what is to be tried again if it did not start."""
        try:
            await self._start(slot)
        except trio.Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and tried again
            if self._has(slot) and self._nursery is not None:  # else it was stopped meanwhile
                self._report.start_error(slot.spec, error)
                return slot.fail(error)
        except BaseException as fatal:  # noqa: BLE001 - leaves by the block
            self._end(fatal)
        return None

    def _give_up(self, slot: Slot) -> None:
        self._report.shutdown(slot.spec)
        error = RestartLimitError(slot.spec.id, self._flags.max_restarts, self._flags.max_seconds)
        error.__cause__ = slot.error
        self._lose(slot)
        self._end(error)

    def _has(self, slot: Slot) -> bool:
        return self._slots.get(slot.key) is slot
