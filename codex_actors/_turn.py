# A turn seen from both ends: its actor puts batches in and settles the outcome, its holder takes events
# out. One hop through the channel costs twenty times a decode, so a hop carries a batch.

from collections.abc import Iterator
from typing import Generic, Self, TypeVar, cast

import trio

from codex_actors import errors
from codex_actors._protocol import TurnState
from codex_actors.events import Event
from codex_actors.results import ParsedTurnResult, TurnResult

_T = TypeVar("_T")

# A batch is what one read brought, at most 256 KiB of lines. Two let reading and taking overlap.
_MAX_BATCHES = 2


class Turn:
    """One prompt and all that it causes; `Thread.run_streamed` hands it out.

    ``async for event in turn`` yields every event as Codex says it. The loop ends when the turn has
    completed and its process is gone; if the turn did not complete, the loop raises the `CodexError` that
    says why. Events that nobody takes wait in bounded space, and then with Codex. Cancelling the loop
    loses no event. Taking an event passes a checkpoint only where it has to wait for a new batch.
    """

    def __init__(self, actor: "TurnActor") -> None:
        self._actor = actor
        self._batch: Iterator[Event] = iter(())
        self._taking = False

    @property
    def thread_id(self) -> str | None:
        """The thread's id; None until Codex has named it."""
        return self._actor.thread_id

    @property
    def result(self) -> TurnResult:
        """What the turn came to.

        Raises:
            CodexError: The turn did not complete; the same error that the loop raises.
            TurnRunningError: The turn has not ended; take its events, or `wait_result`.
        """
        match self._actor.outcome:
            case TurnResult() as result:
                return result
            case None:
                raise errors.TurnRunningError
            case error:
                # Each time as if it were the first: frames would pile up, and ours hold the user's text.
                raise error.with_traceback(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        for event in self._batch:
            return event
        if self._taking:
            raise trio.BusyResourceError("another task is taking this turn's events")
        self._taking = True
        try:
            return await self._next_event()
        finally:
            self._taking = False

    async def _next_event(self) -> Event:
        batch = await self._actor.next_batch()
        if batch is None:
            self.result  # noqa: B018 - raises what there is to raise
            raise StopAsyncIteration
        self._batch = iter(batch)
        return next(self._batch)

    async def wait_result(self) -> TurnResult:
        """Let the remaining events go by and return the result.

        Raises:
            CodexError: The turn did not complete.
        """
        self._batch = iter(())
        while await self._actor.next_batch() is not None:
            pass
        return self.result

    def interrupt(self) -> None:
        """Ask Codex to stop, gracefully; does not wait for it.

        Codex writes down that the turn was interrupted, so that the thread can be resumed. What it still
        says is yielded by the loop, which then raises `TurnInterruptedError`; a turn that completes before
        it hears of the interrupt has completed.
        """
        self._actor.interrupted.set()


class ParsedTurn(Turn, Generic[_T]):
    """A turn whose final response is to be an instance of a type; where it is none, the loop raises that."""

    @property
    def result(self) -> ParsedTurnResult[_T]:
        """What the turn came to.

        Raises:
            InvalidOutputError: The turn completed, and its final response is not what was asked for.
            CodexError: The turn did not complete; the same error that the loop raises.
            TurnRunningError: The turn has not ended; take its events, or `wait_result`.
        """
        return cast("ParsedTurnResult[_T]", super().result)

    async def wait_result(self) -> ParsedTurnResult[_T]:
        """Let the remaining events go by and return the result.

        Raises:
            InvalidOutputError: The turn completed, and its final response is not what was asked for.
            CodexError: The turn did not complete.
        """
        return cast("ParsedTurnResult[_T]", await super().wait_result())


async def take_batch(turn: Turn) -> list[Event]:
    """Take what one read has brought, for those to whom every wait is dear.

    Raises:
        StopAsyncIteration: No more will come.
    """
    return [await anext(turn), *turn._batch]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class TurnActor:
    """The mailbox and the fate of one turn, shared by the task that runs it and the `Turn` that shows it."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[list[Event]](_MAX_BATCHES)
        self._begun = trio.Event()
        self.state: TurnState | None = None
        self.thread_id: str | None = None
        self.outcome: TurnResult | Exception | None = None
        self.interrupted: trio.Event = trio.Event()
        self.scope: trio.CancelScope = trio.CancelScope()
        self.gone: trio.Event = trio.Event()

    def begin(self, state: TurnState) -> None:
        """Let the holder know that the turn has its thread and is about to run."""
        self.state = state
        self._begun.set()

    async def wait_begun(self) -> None:
        """Wait until the turn has its thread; raises what kept it from having it."""
        await self._begun.wait()
        if self.state is None and isinstance(self.outcome, Exception):
            raise self.outcome

    async def put_batch(self, batch: list[Event]) -> None:
        """Hand events on; waits while their taker is behind."""
        await self._send.send(batch)

    async def next_batch(self) -> list[Event] | None:
        """Take events; None when no more will come and the turn's process is gone."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return None

    async def see_out(self) -> None:
        """If the turn has ended, let its process end too, by itself: then all is known about the turn."""
        while self.state and self.state.ended and await self.next_batch() is not None:
            pass

    def finish(self) -> TurnResult | Exception:
        """Let the holder see the outcome, now that nothing of the turn lives any more."""
        self.outcome = self.outcome or self._cut_short()
        self._send.close()
        self._begun.set()
        self.gone.set()
        return self.outcome

    def _cut_short(self) -> TurnResult | Exception:
        """What became of a turn that was cancelled."""
        if self.state is None:
            return errors.RuntimeClosedError()
        if not self.state.ended:
            ending = self.state.ending
            return errors.TurnInterruptedError(
                "the turn was left, or its runtime closed, before it ended",
                partial=self.state.partial(),
                returncode=ending.returncode,
                stderr_tail=ending.stderr_tail,
            )
        try:
            return self.state.outcome()
        except errors.CodexError as exc:
            return exc
