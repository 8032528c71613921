"""Ways to reach Codex, one file each.

A backend runs one turn at a time on behalf of an actor; it knows Codex, but neither threads' locks nor
users. Write your own by giving a class the two methods of `Backend`.
"""

from collections.abc import Awaitable, Callable
from typing import ClassVar, Protocol, TypeAlias

import trio

from codex_actors._data import Data
from codex_actors._protocol import TurnState
from codex_actors.events import Event
from codex_actors.options import CodexOptions, ReviewTarget, ThreadOptions, TurnOptions
from codex_actors.results import TurnResult
from codex_actors.telemetry import Handler, TraceContext

__all__ = [
    "Backend",
    "ForkThread",
    "NewThread",
    "ResumeThread",
    "ReviewChanges",
    "Start",
    "TurnRequest",
    "TurnState",
]


class NewThread(Data, frozen=True, kw_only=True):
    """Begin a conversation."""


class ResumeThread(Data, frozen=True, kw_only=True):
    """Go on with a conversation.

    Attributes:
        thread_id: Its UUID.
    """

    thread_id: str


class ForkThread(Data, frozen=True, kw_only=True):
    """Begin a conversation with the history of another.

    Attributes:
        thread_id: The other's UUID.
    """

    thread_id: str


class ReviewChanges(Data, frozen=True, kw_only=True):
    """Review code, in a conversation of its own.

    Attributes:
        target: What to review.
    """

    target: ReviewTarget


Start: TypeAlias = NewThread | ResumeThread | ForkThread | ReviewChanges


class TurnRequest(Data, frozen=True, kw_only=True):
    """One turn, asked for completely.

    Attributes:
        start: How its thread begins.
        prompt: What the agent is asked; empty only for a review whose target says it all.
        images: Paths of local images to go with the prompt.
        codex: The runtime's options.
        thread: The thread's options.
        turn: The turn's own options.
        emit: Takes what telemetry is to hear of the turn, besides its start, its end and what its state
            takes: events of the turn's process, such as `telemetry.ProcessSpawned`.
        trace_context: Where the turn belongs in somebody's trace, for Codex to continue it; None if nowhere.
    """

    _private: ClassVar = frozenset({"prompt"})

    start: Start
    prompt: str
    images: tuple[str, ...] = ()
    codex: CodexOptions
    thread: ThreadOptions
    turn: TurnOptions
    emit: Handler = id
    trace_context: TraceContext | None = None


class Backend(Protocol):
    """A way to run turns."""

    async def serve(self, codex: CodexOptions, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep up what all turns of a runtime share, until cancelled.

        It is a permanent child of the runtime's supervisor: where it fails, it is called again, while turns
        go on or not, as the backend can.

        Args:
            codex: The runtime's options.
            task_status: To be told when turns can be run.

        Raises:
            SetupError: Turns cannot be run here; the runtime does not open.
        """
        ...

    async def run_turn(
        self,
        request: TurnRequest,
        state: TurnState,
        deliver: Callable[[list[Event]], Awaitable[None]],
        interrupted: trio.Event,
    ) -> TurnResult:
        """Run one turn to its end and leave nothing behind.

        Cancelling stops the turn; when this returns or raises, nothing of it lives any more.

        Args:
            request: What to run.
            state: Takes every event before it is delivered, and decides the outcome.
            deliver: Takes the events in the order they came, in batches; it may block, and then the
                turn's output waits in bounded space.
            interrupted: Set when the turn is to be stopped gracefully. Everything said by then is
                delivered before the call raises.

        Raises:
            TurnError: The turn did not complete; it says how and carries what was done.
            CodexError: The turn could not be started.
        """
        ...
