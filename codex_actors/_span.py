# What telemetry is told of one turn. It begins when somebody asks for the turn, ends when nothing of it
# lives any more, and always ends. What the turn's events say is told when they are applied to its state,
# not when they are taken: a holder who is slow, or has left, changes nothing about what has happened.
#
# Some of it is told while a process is being stopped, which nothing may cut short. So what a handler raises
# to end the program (Telemetry passes on nothing else) cancels the turn, and is raised at its end.

import time
from collections.abc import Callable, Sequence
from uuid import uuid4

import msgspec
import trio

from codex_actors import telemetry
from codex_actors._failures import retry_count
from codex_actors._protocol import TurnState
from codex_actors.errors import CodexError, InvalidOutputError, TurnError
from codex_actors.events import Error, Event, ItemCompleted, Noise, Unknown
from codex_actors.results import TurnResult
from codex_actors.telemetry import Telemetry, TraceContext


class TurnSpan:
    """Tells the events of one turn.

    Args:
        to: Who hears of them.
        thread_id: The turn's thread, if it is known.
        cancel: Ends the turn before its time.

    Attributes:
        thread_id: The turn's thread, once it is known.
    """

    def __init__(self, to: Telemetry, thread_id: str | None, cancel: Callable[[], object]) -> None:
        self.thread_id = thread_id
        self._to = to
        self._cancel = cancel
        self._ends_program: BaseException | None = None
        self._turn_id = uuid4().hex
        self._began = trio.current_time()

    def emit(self, event: telemetry.Event) -> None:
        """Tell an event, of this turn and of now."""
        told = msgspec.structs.replace(
            event, turn_id=self._turn_id, thread_id=self.thread_id, system_time=time.time()
        )
        try:
            self._to.emit(told)
        except BaseException as exc:  # noqa: BLE001 - raised by `end`
            self._ends_program = self._ends_program or exc
            self._cancel()

    def start(self, prompt: str, model: str | None) -> None:
        """Tell that the turn was asked for."""
        self.emit(telemetry.TurnStart(input_length=len(prompt), model=model))
        if self._to.wants(telemetry.Prompt.name):
            self.emit(telemetry.Prompt(text=prompt))

    def trace_context(self) -> TraceContext | None:
        """Where the turn belongs in somebody's trace."""
        return self._to.trace_context(self._turn_id)

    def hear(self, heard: Sequence[Event], *, all_ordinary: bool) -> None:
        """Tell what Codex has said.

        Args:
            heard: Its events.
            all_ordinary: Whether they hold no notice, nothing unknown and no noise.
        """
        if all_ordinary and not self._to.wants(telemetry.ItemCompleted.name):
            return  # a long stream: a look at each of its events is more than this costs
        for event in heard:
            match event:
                case ItemCompleted(item=item):
                    tag = str(item.__struct_config__.tag)
                    self.emit(telemetry.ItemCompleted(item_type=tag, item_id=item.id))
                case Error(message=message):
                    self._tell_retry(message)
                case Unknown(raw=raw):
                    self.emit(telemetry.UnknownReceived(size=len(raw)))
                case Noise(size=size):
                    self.emit(telemetry.NoiseReceived(size=size))
                case _:
                    pass

    def _tell_retry(self, notice: str) -> None:
        if (count := retry_count(notice)) is not None:
            attempt, max_attempts = count
            self.emit(telemetry.RetryNotice(attempt=attempt, max_attempts=max_attempts))

    def end(self, outcome: TurnResult | Exception) -> None:
        """Tell what became of the turn; raises what a handler has raised to end the program."""
        if self._to.wants(telemetry.Reply.name) and (reply := _reply(outcome)):
            self.emit(telemetry.Reply(text=reply))
        duration = trio.current_time() - self._began
        if isinstance(outcome, TurnResult):
            self.emit(telemetry.TurnStop(duration=duration, usage=outcome.usage))
        else:
            self.emit(_exception(outcome, duration))
        if self._ends_program is not None:
            raise self._ends_program


def _exception(error: Exception, duration: float) -> telemetry.TurnException:
    ours = error if isinstance(error, CodexError) else None
    return telemetry.TurnException(
        duration=duration,
        error=type(error).__name__,
        category=ours.category if ours else None,
        retryable=ours.retryable if ours else False,
    )


def _reply(outcome: TurnResult | Exception) -> str:
    if isinstance(outcome, TurnError):
        return outcome.partial.final_response
    if isinstance(outcome, InvalidOutputError):
        return outcome.text
    return outcome.final_response if isinstance(outcome, TurnResult) else ""


class ToldState(TurnState):
    """A turn's state that telemetry is told of."""

    def __init__(self, span: TurnSpan, *, review: bool, keep_items: int | None) -> None:
        super().__init__(review=review, keep_items=keep_items)
        self._span = span

    def apply(self, events: Sequence[Event]) -> None:
        """Take events in the order they came, and tell of them."""
        oddities = self.oddities
        super().apply(events)
        self._span.thread_id = self.thread_id or self._span.thread_id
        self._span.hear(events, all_ordinary=self.oddities == oddities)
