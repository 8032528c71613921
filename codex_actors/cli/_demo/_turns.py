# The five turns, side by side. One is cancelled and one has its Codex killed, each in the middle of a
# command; which process belongs to which turn is known from telemetry.

import os
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress

import trio

from codex_actors import Codex, Thread, ThreadOptions, Turn, TurnResult, errors
from codex_actors._nursery import open_private_nursery
from codex_actors.cli._demo._outcomes import Played
from codex_actors.cli._demo._stage import Stage
from codex_actors.cli._demo._story import PARTS, Part
from codex_actors.cli._demo._views import DemoView
from codex_actors.cli._describe import ASIDE, NOTICE
from codex_actors.cli._output import OutputLostError
from codex_actors.events import Event, ItemStarted, ThreadStarted
from codex_actors.items import CommandExecution
from codex_actors.telemetry import Event as Told
from codex_actors.telemetry import ProcessSpawned, ProcessStopped, Prompt, Telemetry

# Long enough to be seen at work before it is struck.
_WATCHED_SECONDS = 0.8


class Pids:
    """Which process each turn has, by its prompt; listens to telemetry."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._prompts: dict[str, str] = {}
        self._pids: dict[str, int] = {}
        telemetry.attach(("clear_text", "prompt"), self._note)
        telemetry.attach(("codex", "process"), self._note)

    def _note(self, event: Told) -> None:
        match event:
            case Prompt(turn_id=turn_id, text=text):
                self._prompts[turn_id] = text
            case ProcessSpawned(turn_id=turn_id, pid=pid):
                self._pids[self._prompts[turn_id]] = pid
            case ProcessStopped(turn_id=turn_id):
                del self._pids[self._prompts[turn_id]]
            case _:
                pass

    def of(self, part: Part) -> int | None:
        """The process of a turn; None if it has none, or no longer."""
        return self._pids.get(part.prompt)


class Turns:
    """Plays the parts.

    Args:
        codex: The runtime.
        pids: Listens to its telemetry.
        view: Shows what goes on.
        stage: Where to play.
        model: As in `ThreadOptions`.
        sandboxed: Whether the turns have their sandbox.
    """

    def __init__(
        self, codex: Codex, pids: Pids, view: DemoView, stage: Stage, *, model: str | None, sandboxed: bool
    ) -> None:
        self._codex = codex
        self._pids = pids
        self._view = view
        self._stage = stage
        self._model = model
        self._sandboxed = sandboxed
        self._killed_is_over = trio.Event()
        self._send, self._receive = trio.open_memory_channel[tuple[str, Played]](len(PARTS))

    async def play(self) -> Mapping[str, Played]:
        """Play all parts side by side, and say what became of each.

        Raises:
            OutputLostError: Nobody can be shown anything any more.
        """
        await self._view.begin_turns(PARTS)
        try:
            async with open_private_nursery() as nursery:
                for part in PARTS:
                    nursery.start_soon(self._play, part)
                return dict([await self._receive.receive() for _ in PARTS])
        except ExceptionGroup as group:
            lost, others = group.split(OutputLostError)
            if lost is None or others is not None:
                raise
            raise lost.exceptions[0] from None  # each turn has found out for itself

    async def _play(self, part: Part) -> None:
        began, struck = trio.current_time(), None
        thread = self._codex.start_thread(self._options(part))
        try:
            async with _streamed(thread, part) as turn:
                with trio.CancelScope() as scope:
                    async for event in turn:
                        await self._show(part, event)
                        if _is_time_to_strike(part, event):
                            await trio.sleep(_WATCHED_SECONDS)
                            await self._strike(part, scope)
                            struck = trio.current_time()
            outcome: TurnResult | errors.CodexError = turn.result
        except errors.CodexError as exc:
            outcome = exc
        played = Played(outcome, began, trio.current_time(), struck)
        if part.fate == "is killed":
            self._killed_is_over.set()
        await self._view.settle(part, played)
        self._send.send_nowait((part.name, played))

    def _options(self, part: Part) -> ThreadOptions:
        return ThreadOptions(
            cwd=self._stage.project,
            sandbox=part.sandbox if self._sandboxed else "danger-full-access",
            model=self._model,
        )

    async def _show(self, part: Part, event: Event) -> None:
        if not isinstance(event, ThreadStarted):  # whose id is of no use to anybody here
            await self._view.show(part, event)
        elif pid := self._pids.of(part):
            await self._view.tell(part, f"{ASIDE} codex is process {pid}")

    async def _strike(self, part: Part, scope: trio.CancelScope) -> None:
        if part.fate == "is cancelled":
            await self._killed_is_over.wait()  # so that at least this turn is there to go on meanwhile
            await self._view.tell(part, f"{NOTICE} we cancel it")
            scope.cancel()
        elif pid := self._pids.of(part):
            await self._view.tell(part, f"{NOTICE} we send SIGKILL to process {pid}")
            with suppress(ProcessLookupError):  # it has just ended by itself, which its outcome will say
                os.kill(pid, signal.SIGKILL)


def _streamed(thread: Thread, part: Part) -> AbstractAsyncContextManager[Turn]:
    if part.output_type is None:
        return thread.run_streamed(part.prompt)
    return thread.run_streamed(part.prompt, output_type=part.output_type)


def _is_time_to_strike(part: Part, event: Event) -> bool:
    match event:
        case ItemStarted(item=CommandExecution(command=command)):
            return part.strikes_at(command)
        case _:
            return False
