# Runs turns: one actor per turn, each a temporary child of the runtime's supervisor of turns. An actor never
# raises: what became of its turn is told to the turn's holder, on the line they await.

import math
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar, Never

import msgspec
import trio

from codex_actors import errors
from codex_actors._child import ChildStatus
from codex_actors._data import Data
from codex_actors._locks import ThreadLocks
from codex_actors._output import Output, joined, read_only, repair_prompt
from codex_actors._span import ToldState, TurnSpan
from codex_actors._supervision import ChildSpec, Restart, SupervisorFlags
from codex_actors._supervisor import DynamicSupervisor, Supervisor
from codex_actors._turn import Turn, TurnActor
from codex_actors._usage import UsageBook, difference
from codex_actors.backends import Backend, ResumeThread, ReviewChanges, Start, TurnRequest
from codex_actors.backends._argv import environment
from codex_actors.backends._home import (
    find_home,
    find_last_thread,
    find_thread_by_name,
)
from codex_actors.errors import NoSupervisorError
from codex_actors.events import Event, Usage
from codex_actors.options import CodexOptions, LastThread, ThreadName, ThreadOptions, TurnOptions
from codex_actors.results import TurnResult, TurnUsage
from codex_actors.telemetry import Telemetry


class ThreadState:
    """What a `Thread` and its turns share: how the next turn starts, and whose turn it is."""

    def __init__(self, start: Start, options: ThreadOptions, lock: trio.Lock) -> None:
        self.start = start
        self.options = options
        self.lock = lock

    @property
    def thread_id(self) -> str | None:
        """The id by which the next turn resumes the thread; None before its first turn has one."""
        return self.start.thread_id if isinstance(self.start, ResumeThread) else None


class Question(Data, frozen=True, kw_only=True):
    """What a turn is asked."""

    _private: ClassVar = frozenset({"prompt"})

    prompt: str
    images: tuple[str, ...] = ()
    options: TurnOptions
    keep_items: int | None
    output: Output[object] | None = None
    output_retries: int = 0
    is_repair: bool = False

    def repair(self, error: errors.InvalidOutputError) -> "Question":
        """The question that asks only for the final response again."""
        return msgspec.structs.replace(self, prompt=repair_prompt(error), images=(), is_repair=True)


class CodexStatistics(Data, frozen=True, kw_only=True):
    """What a runtime is doing and has done.

    Attributes:
        turns_running: Turns whose actor lives, those that wait for their thread not included.
        turns_started: Turns that had their thread.
        turns_completed: Turns that completed.
        turns_failed: Turns that ended in any other way.
    """

    turns_running: int
    turns_started: int
    turns_completed: int
    turns_failed: int


class TurnRunner:
    """Starts turns and sees them end.

    Args:
        options: The runtime's options.
        backend: The way to Codex.
        telemetry: Who hears of turns.
    """

    def __init__(self, options: CodexOptions, backend: Backend, telemetry: Telemetry) -> None:
        self._root: Supervisor | None = None
        self._options = options
        self._backend = backend
        self._telemetry = telemetry
        self._codex_home = find_home(options, os.environ)
        self._home_is_named = "CODEX_HOME" in environment(options, os.environ)
        self._locks = ThreadLocks(
            self._codex_home,
            when_busy=options.when_busy,
            thread_seconds=options.deadlines.thread_seconds,
        )
        self._usage = UsageBook(self._codex_home)
        self._counts = Counter[str]()

    @asynccontextmanager
    async def open(self, status: ChildStatus[Never] | None = None) -> AsyncGenerator[None]:
        """Open the supervision tree that turns run in; leaving the block ends every turn.

        Args:
            status: The runtime's, if it is a supervisor's child: when that one kills it, it kills.
        """
        if self._root is not None:
            raise trio.BusyResourceError("this runtime is open already")
        root = Supervisor("codex", SupervisorFlags())
        backend = ChildSpec(id="backend", start=self._backend.serve, args=(self._options,), shutdown=math.inf)
        turns = DynamicSupervisor.child_spec("turns")
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(root.open([backend, turns], status))
            except errors.ChildStartError as exc:  # that it has children is no concern of whoever opens it
                raise exc.__cause__ or exc from None
            self._root = root
            stack.callback(setattr, self, "_root", None)
            yield

    @property
    def supervisor(self) -> Supervisor:
        """The supervisor of the backend and of the supervisor of turns.

        Raises:
            RuntimeClosedError: The runtime is not open.
        """
        if self._root is None:
            raise errors.RuntimeClosedError
        return self._root

    def _supervisor_of_turns(self) -> DynamicSupervisor:
        # Looked up each time: a supervisor that was started again is another one.
        for info in self.supervisor.which_children():
            if info.child is not None and isinstance(info.child.value, DynamicSupervisor):
                return info.child.value
        raise errors.RuntimeClosedError

    def statistics(self) -> CodexStatistics:
        """Count turns."""
        ended = self._counts["completed"] + self._counts["failed"]
        return CodexStatistics(
            turns_running=self._counts["started"] - ended,
            turns_started=self._counts["started"],
            turns_completed=self._counts["completed"],
            turns_failed=self._counts["failed"],
        )

    def find_thread(self, thread: ThreadName | LastThread, cwd: Path) -> str:
        """The id of a thread that is on record in CODEX_HOME.

        Raises:
            ThreadNotFoundError: There is none.
        """
        if isinstance(thread, ThreadName):
            found, asked = find_thread_by_name(self._codex_home, thread.name), f"named {thread.name!r}"
        else:
            found = find_last_thread(self._codex_home, None if thread.any_cwd else cwd)
            asked = "at all" if thread.any_cwd else f"that worked in {cwd}"
        if found is None:
            raise errors.ThreadNotFoundError(f"no thread {asked} in CODEX_HOME {self._codex_home}", "")
        return found

    def thread_state(self, start: Start, options: ThreadOptions) -> ThreadState:
        """Begin to keep track of a thread."""
        lock = self._locks.of_thread(start.thread_id) if isinstance(start, ResumeThread) else trio.Lock()
        return ThreadState(start, options, lock)

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def open_turn(self, thread: ThreadState, question: Question) -> AsyncGenerator[Turn]:
        """Start a turn as soon as its thread is free; leaving the block ends it.

        Raises:
            RuntimeClosedError: The runtime is not open.
            ThreadBusyError: The thread was not free in time.
        """
        actor = TurnActor()
        turn = ChildSpec(
            id="turn",
            start=self._run_actor,
            args=(actor, thread, question),
            restart=Restart.TEMPORARY,  # what a turn has done must not be done twice
            shutdown=math.inf,  # each step by which it stops has its own time
        )
        try:
            await self._supervisor_of_turns().start_child(turn)
        except NoSupervisorError:
            raise errors.RuntimeClosedError from None
        try:
            await actor.wait_begun()
            yield Turn(actor)
            await actor.see_out()
        finally:
            actor.scope.cancel()
            with trio.CancelScope(shield=True):  # bounded: the actor's own steps are
                await actor.gone.wait()

    @trio.lowlevel.enable_ki_protection
    async def _run_actor(
        self, actor: TurnActor, thread: ThreadState, question: Question, *, task_status: ChildStatus[None]
    ) -> None:
        task_status.started()
        span = TurnSpan(self._telemetry, thread.thread_id, actor.scope.cancel)
        try:
            span.start(question.prompt, thread.options.model)
            self._check_codex_home()
            with actor.scope:
                async with self._locks.hold(thread.lock, lambda: thread.thread_id) as held:
                    actor.outcome = await self._answer(actor, thread, question, held, span)
        except errors.CodexError as exc:
            # It says all there is to say. The frames it came through have prompts and keys in their locals,
            # and some show those with a traceback.
            actor.outcome = exc.with_traceback(None)
        except Exception as exc:  # noqa: BLE001 - also a bug of ours is the holder's to see, not the runtime's
            actor.outcome = exc
        finally:  # after the thread is free: whoever gets the outcome may ask again at once
            outcome = actor.finish()
            if actor.state is not None:
                self._counts["completed" if isinstance(outcome, TurnResult) else "failed"] += 1
            span.end(outcome)

    def _check_codex_home(self) -> None:
        if not self._codex_home.exists() and not self._home_is_named:
            return  # Codex makes its own where none is named
        if not self._codex_home.is_dir():
            problem = "is no directory: create it, or name another one"
        elif not os.access(self._codex_home, os.W_OK):
            problem = "cannot be written"
        else:
            return
        raise errors.CodexHomeError(str(self._codex_home), problem)

    async def _answer(
        self, actor: TurnActor, thread: ThreadState, question: Question, held: ExitStack, span: TurnSpan
    ) -> TurnResult | errors.InvalidOutputError:
        """Run a turn and read its final response; where that cannot be, have it repaired."""
        result = await self._run_turn(actor, thread, question, held, span)
        if question.output is None:
            return result
        read = question.output.read(result)
        for _ in range(question.output_retries):
            if isinstance(read, TurnResult):
                break
            actor.outcome = read  # what the turn has come to, should its repair be cut short
            try:
                repaired = await self._run_turn(actor, thread, question.repair(read), held, span)
            except errors.CodexError as exc:
                raise read from exc.with_traceback(None)
            read = question.output.read(joined(read.result, repaired))
        return read

    async def _run_turn(
        self, actor: TurnActor, thread: ThreadState, question: Question, held: ExitStack, span: TurnSpan
    ) -> TurnResult:
        state = ToldState(
            span,
            review=isinstance(thread.start, ReviewChanges),
            keep_items=question.keep_items,
        )

        async def deliver(events: list[Event]) -> None:
            if actor.thread_id is None and state.thread_id is not None:
                actor.thread_id = state.thread_id
                self._learn_thread(thread, state.thread_id)
                self._lock_new_thread(thread, held)
            await actor.put_batch(events)

        request = TurnRequest(
            start=thread.start,
            prompt=question.prompt,
            images=question.images,
            codex=self._options,
            thread=read_only(thread.options) if question.is_repair else thread.options,
            turn=question.options,
            emit=span.emit,
            trace_context=span.trace_context(),
        )
        if not question.is_repair:
            self._counts["started"] += 1
        actor.begin(state)
        used_before = self._usage.before(thread.start)
        try:
            result = await self._backend.run_turn(request, state, deliver, actor.interrupted)
        finally:  # also if the turn was left before anybody took an event
            self._learn_thread(thread, state.thread_id)
        return self._with_usage(result, used_before, ephemeral=thread.options.ephemeral)

    def _learn_thread(self, thread: ThreadState, thread_id: str | None) -> None:
        if thread_id is None or isinstance(thread.start, (ResumeThread, ReviewChanges)):
            return
        thread.start = ResumeThread(thread_id=thread_id)
        self._locks.adopt(thread_id, thread.lock)

    def _lock_new_thread(self, thread: ThreadState, held: ExitStack) -> None:
        # For those who wait. It is too late to refuse: should this fail, Codex's own lock keeps them out.
        if thread.thread_id is not None:
            with suppress(errors.SetupError):
                self._locks.hold_file(held, thread.thread_id)

    def _with_usage(self, result: TurnResult, used_before: Usage | None, *, ephemeral: bool) -> TurnResult:
        used = result.usage.thread
        if used is None:
            return result
        if not ephemeral:
            self._usage.after(result.thread_id, used)
        usage = TurnUsage(thread=used, turn=difference(used, used_before))
        return msgspec.structs.replace(result, usage=usage)
