# One life of one child: a task that starts, says that it is ready, is asked to stop, is killed, and ends
# for a reason. Whether it lives again is not decided here. Two things carry it:
#
# - The task runs in a shielded scope of its own. Whoever cancels what is around a supervisor cancels the
#   supervisor, which then stops its children in order; the cancellation never reaches them all at once.
# - Asking to stop cancels that scope, killing cancels what the child still does under `grace`. trio keeps
#   the time in between, by the deadlines of the graces: nobody needs to watch.

import math
from collections.abc import Awaitable, Callable, Generator, Hashable
from contextlib import contextmanager
from typing import Generic, TypeAlias, TypeVar

import trio

from codex_actors._supervision import (
    NORMAL,
    SHUTDOWN,
    ChildSpec,
    ExitKind,
    ExitReason,
    reason_of,
)

# How long a killed child may go on before somebody hears of it, and how often they do. A task that shields
# itself cannot be killed, only waited for.
STUCK_SECONDS = 5.0

T_contra = TypeVar("T_contra", contravariant=True)

# Is given what is to end the whole tree.
Escalate: TypeAlias = Callable[[BaseException], None]
# Is given the seconds since the kill, and the child's task.
ReportStuck: TypeAlias = Callable[[float, trio.lowlevel.Task], None]


class Child:
    """One life of a supervised child, handed out by its supervisor; a restart begins another one.

    Attributes:
        id: The id in its spec.
        value: What it gave to ``task_status.started``.
        exit_reason: Why it ended; None while it lives.
    """

    __slots__ = ("_gone", "exit_reason", "id", "value")

    def __init__(self, child_id: Hashable) -> None:
        self.id: Hashable = child_id
        self.value: object = None
        self.exit_reason: ExitReason | None = None
        self._gone = trio.Event()

    def __repr__(self) -> str:
        state = self.exit_reason.kind.value if self.exit_reason else "running"
        return f"<Child {self.id!r} {state}>"

    async def wait_exit(self) -> ExitReason:
        """Wait until this life has ended, and say why it did."""
        await self._gone.wait()
        assert self.exit_reason is not None  # noqa: S101 - it is what the event stands for
        return self.exit_reason

    def _conclude(self, reason: ExitReason) -> None:
        self.exit_reason = reason
        self._gone.set()


class ChildStatus(Generic[T_contra]):
    """What a child is called with as ``task_status``: its word to its supervisor."""

    __slots__ = ("_escalate", "_life")

    def __init__(self, life: "Life", escalate: Escalate) -> None:
        self._life = life
        self._escalate = escalate

    @trio.lowlevel.enable_ki_protection
    def started(self, value: T_contra | None = None) -> None:
        """Say that the child is ready; whoever starts it waits for this.

        Args:
            value: What whoever starts it is to have; becomes `Child.value`.
        """
        self._life.acknowledge(value)

    @contextmanager
    @trio.lowlevel.enable_ki_protection
    def grace(self) -> Generator[trio.CancelScope]:
        """Do what is not to be cut short when the child is asked to stop.

        Being asked to stop is being cancelled. What is in this block is not cancelled by that; it has the
        time that the spec's ``shutdown`` gives, and is cancelled when that is over, or at once by a brutal
        kill. For cleaning up in a ``finally``, or for a piece of work that is to be finished.
        """
        with self._life.grace() as scope:
            yield scope

    def escalate(self, error: BaseException) -> None:
        """Let all supervisors above end, now, and raise this; for what is no child's own affair, as Ctrl-C.

        A child that is a supervisor of ours does it; what any other child raises is found out anyway.
        """
        self._escalate(error)


class Life(Child):
    """A `Child` as its supervisor sees it.

    Args:
        child_id: The id in its spec.
        key: What its supervisor knows it by.
    """

    __slots__ = (
        "_answered", "_brutal", "_graces", "_is_late", "_kill_at", "_patiences", "_scope", "_stuck_at",
        "_task", "error", "is_started", "is_stopping", "key",
    )  # fmt: skip

    def __init__(self, child_id: Hashable, key: Hashable) -> None:
        super().__init__(child_id)
        self.key: Hashable = key
        self.is_started: bool = False
        self.is_stopping: bool = False
        self.error: BaseException | None = None
        self._scope = trio.CancelScope(shield=True)
        self._answered = trio.Event()
        self._graces: tuple[trio.CancelScope, ...] = ()
        self._patiences: tuple[trio.CancelScope, ...] = ()
        self._kill_at = self._stuck_at = math.inf
        self._brutal = False
        self._is_late = False
        self._task: trio.lowlevel.Task | None = None

    @trio.lowlevel.enable_ki_protection
    async def run(self, body: Awaitable[object]) -> ExitReason:
        """Live; returns when the child has ended, however it did, and says how."""
        self._task = trio.lowlevel.current_task()
        try:
            with self._scope:
                await _interruptible(body)
        except BaseException as error:  # noqa: BLE001 - it ends this child and nothing else; others judge it
            self.error = error
        reason = self._judge()
        self._task = None
        self._answered.set()
        self._conclude(reason)
        return reason

    def _judge(self) -> ExitReason:
        was_cut = self._scope.cancelled_caught
        overran = not self._brutal and trio.current_time() > self._kill_at
        error = self.error if isinstance(self.error, Exception) else None
        if self.error and not error:  # it ends more than this child
            return ExitReason(kind=ExitKind.CRASH)
        if overran or (was_cut and not error and (self._brutal or self._is_late)):
            return ExitReason(kind=ExitKind.KILLED, error=error)
        if error:
            return reason_of(error)
        return SHUTDOWN if was_cut else NORMAL

    async def wait_answer(self, seconds: float) -> bool:
        """Wait until the child is ready or has ended; False if it took too long."""
        with trio.move_on_after(seconds) as time:
            await self._answered.wait()
        return not time.cancelled_caught

    def acknowledge(self, value: object) -> None:
        """Take the child's word that it is ready, unless that comes too late."""
        if self.is_started:
            raise RuntimeError("called 'started' twice on the same task status")
        if not self._scope.cancel_called:
            self.is_started = True
            self.value = value
            self._answered.set()

    @contextmanager
    def grace(self) -> Generator[trio.CancelScope]:
        """See `ChildStatus.grace`."""
        with trio.CancelScope(shield=True, deadline=self._kill_at) as scope:
            self._graces = (*self._graces, scope)
            if self._brutal:
                scope.cancel()
            try:
                yield scope
            finally:
                self._graces = tuple(other for other in self._graces if other is not scope)
        self._is_late = self._is_late or scope.cancelled_caught

    def ask_to_stop(self, spec: ChildSpec) -> None:
        """Ask the child to stop, and arrange for its kill. Once asked, its time runs."""
        if spec.shutdown == "brutal_kill":
            self.kill()
        elif not self.is_stopping:
            self.is_stopping = True
            self._kill_by(trio.current_time() + spec.stop_seconds)
            self._scope.cancel()

    def kill(self) -> None:
        """Cancel all that can be cancelled. A task that shields itself goes on, and so it may be reported."""
        self.is_stopping = self._brutal = True
        if trio.current_time() < self._kill_at:
            self._kill_by(trio.current_time())
        self._scope.cancel()

    def _kill_by(self, at: float) -> None:
        self._kill_at = at
        self._stuck_at = at + STUCK_SECONDS
        for scope in self._graces:
            scope.deadline = at
        for scope in self._patiences:
            scope.deadline = self._stuck_at

    async def wait_gone(self, report_stuck: ReportStuck) -> None:
        """Wait until the child has ended, and report it as often as it should have long ago.

        Once for each time, however many wait.
        """
        while self.exit_reason is None:
            with trio.CancelScope(deadline=self._stuck_at) as patience:
                self._patiences = (*self._patiences, patience)
                try:
                    await self._gone.wait()
                finally:
                    self._patiences = tuple(other for other in self._patiences if other is not patience)
            now = trio.current_time()
            if self._task is not None and now >= self._stuck_at:
                self._stuck_at = now + STUCK_SECONDS
                report_stuck(now - self._kill_at, self._task)


@trio.lowlevel.disable_ki_protection
async def _interruptible(body: Awaitable[object]) -> None:
    # What a child does is the user's, and Ctrl-C may stop it wherever it is; our own steps around it not.
    await body
