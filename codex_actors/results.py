"""What a turn came to."""

from enum import Enum
from typing import ClassVar, Generic, TypeAlias, TypeVar

from codex_actors._data import Data
from codex_actors.events import Usage
from codex_actors.items import Item

__all__ = [
    "JsonTurnResult",
    "JsonValue",
    "Leftovers",
    "ParsedTurnResult",
    "PartialResult",
    "SideEffects",
    "Timings",
    "TurnResult",
    "TurnUsage",
]

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None
"""What JSON can hold, as Python has it."""

_T_co = TypeVar("_T_co", covariant=True)


class SideEffects(Enum):
    """Whether a turn may have changed anything outside the conversation.

    Attributes:
        NONE: Certainly not: no turn began, or its sandbox was read-only, no rule could let a command out of
            it, and no tool ran outside it.
        SEEN: An item shows a command, a patch or a tool call that could.
        UNKNOWN: No item shows one, which proves nothing: a sandboxed command can write without any item.
    """

    NONE = "none"
    SEEN = "seen"
    UNKNOWN = "unknown"


class TurnUsage(Data, frozen=True, kw_only=True):
    """Tokens, counted two ways.

    Attributes:
        thread: The thread's total so far, over resume and fork, as Codex reports it. None for a review,
            for which Codex reports nothing.
        turn: This turn's share. None wherever the thread's total before it is not known for certain:
            the first turn after a resume by this runtime, after a turn that did not complete, after
            another program used the thread, and for a review.
    """

    thread: Usage | None = None
    turn: Usage | None = None


class Timings(Data, frozen=True, kw_only=True):
    """How long a turn took, in seconds from the moment its process was to be started.

    Attributes:
        first_event_seconds: Until Codex said anything; None if it never did.
        last_event_seconds: Until the last thing it said; None if it said nothing.
        exit_seconds: Until its process was gone.
    """

    first_event_seconds: float | None = None
    last_event_seconds: float | None = None
    exit_seconds: float = 0.0


class Leftovers(Data, frozen=True, kw_only=True):
    """What a turn had left running when its Codex ended, by the names of the programs.

    Attributes:
        killed: Those that were killed, the first ones.
        kept: Those that may stay, the first ones.
        proven: Whether nothing else of the turn lives, for certain. It is not where only a process group
            contains turns, nor while somebody cannot be killed.
    """

    killed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    proven: bool = False


class _Outcome(Data, frozen=True, kw_only=True):
    _private: ClassVar = frozenset({"final_response", "notices"})

    final_response: str = ""
    items: tuple[Item, ...] = ()
    usage: TurnUsage = TurnUsage()
    side_effects: SideEffects = SideEffects.UNKNOWN
    notices: tuple[str, ...] = ()
    unknown_events: int = 0
    noise_lines: int = 0
    dropped_events: int = 0
    timings: Timings = Timings()
    returncode: int | None = None
    leftovers: Leftovers = Leftovers()


class TurnResult(_Outcome, frozen=True, kw_only=True):
    """What a completed turn came to; there is no such thing for any other turn.

    Attributes:
        thread_id: The thread, to be resumed.
        final_response: The last message of the agent; empty if there was none.
        items: The completed items, oldest first: all of them from `Thread.run`, the last ones from
            `Thread.run_streamed`.
        usage: Tokens.
        side_effects: Whether the turn may have changed anything outside the conversation.
        notices: What Codex reported on the way (retries, mostly), the last ones.
        unknown_events: How many events this version did not understand.
        noise_lines: How many lines were no events at all.
        dropped_events: How many events after an interrupt nobody took in time.
        timings: How long it took.
        returncode: Codex's exit status; negative is a signal number, such as ours if it would not exit
            after the turn had completed.
        leftovers: What it had left running.
    """

    thread_id: str


class ParsedTurnResult(TurnResult, Generic[_T_co], frozen=True, kw_only=True):
    """What a completed turn came to, with its final response as an instance of the type asked for.

    Where the response had to be asked for again, `items`, `usage`, `timings` and what is counted are those of
    all attempts, and the rest is that of the last. The ids of items begin anew with each.

    Attributes:
        parsed: The final response, checked.
    """

    _private: ClassVar = frozenset({"final_response", "notices", "parsed"})

    parsed: _T_co


class JsonTurnResult(ParsedTurnResult[JsonValue], frozen=True, kw_only=True):
    """What a turn with `TurnOptions.output_schema` came to; `parsed` is what the schema describes."""


class PartialResult(_Outcome, frozen=True, kw_only=True):
    """What a turn had done when it ended without completing.

    Attributes:
        thread_id: The thread, to be resumed; None if Codex never named one.
        final_response: The last message of the agent so far; empty if there was none.
        items: The items completed so far, oldest first, as in `TurnResult`.
        usage: Tokens.
        side_effects: Whether the turn may have changed anything outside the conversation.
        notices: What Codex reported on the way (retries, mostly), the last ones.
        unknown_events: How many events this version did not understand.
        noise_lines: How many lines were no events at all.
        dropped_events: How many events after an interrupt nobody took in time.
        timings: How long it took.
        returncode: Codex's exit status; negative is a signal number; None if it never ran.
        leftovers: What it had left running.
    """

    thread_id: str | None = None
