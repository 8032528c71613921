"""The default way to reach Codex: a ``codex exec --json`` process for each turn."""

import math
import os
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial

import msgspec
import trio

from codex_actors import errors, telemetry
from codex_actors._janitor import mark, tidy
from codex_actors._nursery import open_private_nursery
from codex_actors._process import Containment, Process, open_anonymous_file
from codex_actors._protocol import Ending, LineDecoder, TurnState
from codex_actors.backends import ForkThread, ResumeThread, TurnRequest
from codex_actors.backends._argv import Command, build_command, offers_tools
from codex_actors.backends._binary import Versions, find_bwrap, find_codex
from codex_actors.backends._home import find_home, is_surely_read_only, read_config_files
from codex_actors.events import Event
from codex_actors.options import CodexOptions
from codex_actors.results import Leftovers, Timings, TurnResult

__all__ = ["ExecBackend"]

# How a Codex ends that has said all it had to say: well, not well, and not at all. Killed, or with its
# stdout closed (101), it takes with it what it had not written yet.
_ORDERLY = frozenset({0, 1, 2})
# After an interrupt, events that nobody takes are held for whoever comes; this much is plenty for what
# Codex still says then.
_MAX_BACKLOG_BYTES = 16 * 1024 * 1024


class ExecBackend:
    """Runs every turn in a process of its own, which is gone when the turn is over."""

    def __init__(self) -> None:
        self._versions = Versions()
        self._codex: CodexOptions | None = None
        self._containment: Containment | None = None
        self._serving = False

    async def serve(self, codex: CodexOptions, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep up what contains the processes of all turns; see `Backend.serve`.

        Raises:
            OptionError: It serves another runtime.
            CodexNotFoundError: A namespace is wanted, and there is no Codex to bring what makes it.
            ContainmentError: The means that the options name is not to be had here.
        """
        if self._serving:
            raise errors.OptionError("backend", "serves another runtime: give each its own")
        self._serving = True
        try:
            await self._serve(codex, task_status)
        finally:
            self._serving = False

    async def _serve(self, codex: CodexOptions, task_status: trio.TaskStatus[None]) -> None:
        if self._codex is not codex:  # else it is only that the guard was lost
            self._codex, self._containment = codex, None
        if first := self._containment is None:
            self._containment = Containment(
                codex.containment,
                spawn_seconds=codex.deadlines.spawn_seconds,
                kill_seconds=codex.deadlines.kill_seconds,
            )
        async with open_private_nursery() as nursery:
            if first:
                home = find_home(codex, os.environ)
                nursery.start_soon(partial(tidy, home, seconds=codex.deadlines.janitor_seconds))
            await nursery.start(self._containment.serve)
            if first and codex.containment == "namespace":
                await _prove_namespace(codex, self._containment)
            task_status.started()
            await trio.sleep_forever()

    async def run_turn(
        self,
        request: TurnRequest,
        state: TurnState,
        deliver: Callable[[list[Event]], Awaitable[None]],
        interrupted: trio.Event,
    ) -> TurnResult:
        """Run one turn; see `Backend.run_turn`.

        Raises:
            SetupError: This machine or configuration cannot run Codex.
            ThreadError: The thread is not to be had, or Codex started another one.
            TurnError: The turn did not complete.
        """
        if self._containment is None:
            raise errors.RuntimeClosedError
        codex_path = find_codex(request.codex.codex_path)
        await self._versions.check(codex_path, request.codex, self._containment)
        actor = _ExecActor(request, state, deliver, interrupted, self._containment)
        await actor.run(codex_path)
        return actor.outcome()


class _ExecActor:
    # Owns one process: reads it, decodes what it says, hands that on, and decides when it has had its
    # time. Events are applied to the state before they are handed on.

    def __init__(
        self,
        request: TurnRequest,
        state: TurnState,
        deliver: Callable[[list[Event]], Awaitable[None]],
        interrupted: trio.Event,
        containment: Containment,
    ) -> None:
        self._containment = containment
        self._request = request
        self._deadlines = request.codex.deadlines
        self._host = dict(os.environ)  # which decodes each variable anew, whenever it is read
        self._home = find_home(request.codex, self._host)
        self._state = state
        self._deliver = deliver
        self._interrupted = interrupted
        self._decoder = LineDecoder(
            max_line_bytes=request.codex.max_line_bytes, keep_raw=request.turn.keep_raw
        )
        self._backlog: deque[tuple[list[Event], int]] = deque()
        self._backlog_bytes = 0
        self._delivering = trio.CancelScope()
        self._dropped_events = 0
        self._started_at = trio.current_time()
        self._first_event_at: float | None = None
        self._last_event_at: float | None = None
        self._ended_at: float | None = None
        self._offline_at: float | None = None
        self._expired: str | None = None
        self._process: Process | None = None

    async def run(self, codex_path: str) -> None:
        turn_seconds = self._deadlines.turn_seconds
        undisturbed = False
        try:
            with trio.move_on_after(math.inf if turn_seconds is None else turn_seconds) as whole_turn:
                await self._run_process(codex_path)
            if whole_turn.cancelled_caught:
                self._expired = "turn_seconds"
            undisturbed = self._expired is None and not self._interrupted.is_set()
        finally:
            self._note_end(undisturbed=undisturbed)
        await self._deliver_backlog()

    async def _run_process(self, codex_path: str) -> None:
        with _files(self._request) as (stdin, schema):
            command, codex = self._command(codex_path, schema), self._request.codex
            async with self._containment.open_process(
                command.argv,
                env={**command.env, **mark(codex, self._home)},
                stdin=stdin,
                pass_fds=() if schema is None else (schema,),
                absorb=self._absorb,
                may_stay=codex.allowed_leftovers,
                keep=codex.leftovers == "keep",
                bwrap=find_bwrap(codex_path) if codex.containment == "namespace" else None,
                interrupt_seconds=self._deadlines.interrupt_seconds,
            ) as self._process:
                self._request.emit(telemetry.ProcessSpawned(pid=self._process.pid))
                await self._attend(self._process)

    def _command(self, codex_path: str, schema_fd: int | None) -> Command:
        codex, thread = self._request.codex, self._request.thread
        config_files = read_config_files(codex, thread, self._host)
        self._state.read_only = is_surely_read_only(self._home, thread)
        self._state.tools = offers_tools(codex, thread, config_files)
        return build_command(
            self._request, codex_path, self._host, config_files=config_files, schema_fd=schema_fd
        )

    async def _attend(self, process: Process) -> None:
        async with open_private_nursery() as nursery:
            nursery.start_soon(self._obey_interrupt, process)
            self._expired = await self._read(process)
            if self._expired is None:
                with trio.move_on_after(self._deadlines.exit_seconds) as exiting:
                    await process.wait()
                if exiting.cancelled_caught:
                    self._expired = "exit_seconds"

    @trio.lowlevel.enable_ki_protection
    async def _obey_interrupt(self, process: Process) -> None:
        await self._interrupted.wait()
        self._delivering.cancel()  # what Codex still says must be read now, or it is deaf to SIGINT
        await process.end()

    async def _read(self, process: Process) -> str | None:
        """Read to the end; returns the deadline that passed before that, if one did."""
        while True:
            name, at = self._next_deadline()
            data: bytes | None = None
            with trio.move_on_at(at):
                data = await process.receive_some()
            if data is None:
                return name
            await self._take(data)
            if not data:
                return None

    def _next_deadline(self) -> tuple[str, float]:
        limits = self._deadlines
        if self._ended_at is not None:
            return "exit_seconds", self._ended_at + limits.exit_seconds
        if self._first_event_at is None:
            return "first_event_seconds", self._started_at + limits.first_event_seconds
        if self._offline_at is not None and limits.network_seconds is not None:
            return "network_seconds", self._offline_at + limits.network_seconds
        if limits.idle_seconds is None or self._state.item_in_progress:
            return "turn_seconds", math.inf
        return "idle_seconds", trio.current_time() + limits.idle_seconds

    async def _take(self, data: bytes) -> None:
        self._absorb(data)
        self._verify_thread()
        if not self._interrupted.is_set():
            paused_at = trio.current_time()
            with trio.CancelScope() as self._delivering:
                await self._deliver_backlog()
            self._forgive(trio.current_time() - paused_at)

    def _absorb(self, data: bytes) -> None:
        events = self._decoder.feed(data) if data else self._decoder.close()
        if not events:
            return
        self._state.apply(events)
        self._note_times()
        if self._backlog_bytes < _MAX_BACKLOG_BYTES:
            self._backlog.append((events, len(data)))
            self._backlog_bytes += len(data)
        else:
            self._dropped_events += len(events)

    def _forgive(self, seconds: float) -> None:
        """Do not hold against Codex what time its events took to be taken."""
        if self._ended_at is not None:
            self._ended_at += seconds
        if self._offline_at is not None:
            self._offline_at += seconds

    async def _deliver_backlog(self) -> None:
        while self._backlog:
            events, size = self._backlog[0]
            await self._deliver(events)
            self._backlog.popleft()  # only now: cancelling loses nothing
            self._backlog_bytes -= size

    def _note_times(self) -> None:
        self._last_event_at = trio.current_time()
        if self._first_event_at is None:
            self._first_event_at = self._last_event_at
        if self._ended_at is None and self._state.ended:
            self._ended_at = self._last_event_at
        if not self._state.waiting_for_network:
            self._offline_at = None
        elif self._offline_at is None:
            self._offline_at = self._last_event_at

    def _verify_thread(self) -> None:
        asked, got = self._request.start, self._state.thread_id
        if got is None:
            return
        if isinstance(asked, ResumeThread) and got != asked.thread_id.lower():
            raise errors.ThreadMismatchError(asked.thread_id, got)
        if isinstance(asked, ForkThread) and got == asked.thread_id.lower():
            raise errors.ThreadMismatchError(asked.thread_id, got)

    def _note_end(self, *, undisturbed: bool) -> None:
        self._absorb(b"")
        gone_at = trio.current_time()
        process = self._process
        returncode = process.returncode if process else None
        self._state.ending = Ending(
            returncode=returncode,
            stderr_tail=process.stderr_tail if process else "",
            timings=Timings(
                first_event_seconds=self._since_start(self._first_event_at),
                last_event_seconds=self._since_start(self._last_event_at),
                exit_seconds=gone_at - self._started_at,
            ),
            dropped_events=self._dropped_events,
            all_heard=process is None or (undisturbed and returncode in _ORDERLY),
            leftovers=process.leftovers if process else Leftovers(),
        )
        if process is not None:
            self._tell_end(process)

    def _tell_end(self, process: Process) -> None:
        left = process.leftovers
        if process.killed:
            self._request.emit(telemetry.ProcessKilled(pid=process.pid))
        if left.killed or left.kept:
            event = telemetry.ProcessLeftovers(pid=process.pid, killed=left.killed, kept=left.kept)
            self._request.emit(event)
        self._request.emit(telemetry.ProcessStopped(pid=process.pid, returncode=process.returncode))

    def outcome(self) -> TurnResult:
        """What became of the turn, now that its process is gone."""
        if not self._state.ended and (self._expired or self._interrupted.is_set()):
            raise self._stopped()
        asked = self._request.start
        return self._state.outcome(
            thread_id=asked.thread_id if isinstance(asked, (ResumeThread, ForkThread)) else "",
            codex_home=str(self._home),
        )

    def _stopped(self) -> errors.TurnError:
        partial, ending = self._state.partial(), self._state.ending
        returncode, stderr_tail = ending.returncode, ending.stderr_tail
        if self._expired is None:
            message = "the turn was interrupted"
            return errors.TurnInterruptedError(
                message, partial=partial, returncode=returncode, stderr_tail=stderr_tail
            )
        seconds: float = getattr(self._deadlines, self._expired)
        return errors.TurnTimeoutError(
            self._expired, seconds, partial=partial, returncode=returncode, stderr_tail=stderr_tail
        )

    def _since_start(self, at: float | None) -> float | None:
        return None if at is None else at - self._started_at


async def _prove_namespace(codex: CodexOptions, containment: Containment) -> None:
    """Really make one; containers and hardened kernels may forbid them."""
    bwrap, limits = find_bwrap(find_codex(codex.codex_path)), codex.deadlines
    with open_anonymous_file(b"") as stdin:
        async with containment.open_process(
            (bwrap, "--version"),
            env={},
            stdin=stdin,
            bwrap=bwrap,
            interrupt_seconds=limits.interrupt_seconds,
        ) as process:
            with trio.move_on_after(limits.spawn_seconds) as proving:
                await process.wait()
    if proving.cancelled_caught:
        raise errors.ContainmentError("namespace", f"{bwrap} did not end in time")
    if process.returncode != 0:
        said = process.stderr_tail.strip().splitlines() or [f"exit status {process.returncode}"]
        raise errors.ContainmentError("namespace", said[-1])


@contextmanager
def _files(request: TurnRequest) -> Generator[tuple[int, int | None]]:
    with ExitStack() as files:
        stdin = files.enter_context(open_anonymous_file(request.prompt.encode()))
        schema = None
        if request.turn.output_schema is not None:
            schema = files.enter_context(open_anonymous_file(msgspec.json.encode(request.turn.output_schema)))
        yield stdin, schema
