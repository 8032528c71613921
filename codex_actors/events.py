"""What Codex says while it works, one event per line of ``codex exec --json``.

Every event but `Noise` can carry the line it came from (its ``raw``), which holds whatever the structs do
not name. Two events are ours: `Unknown`, for JSON that this version does not understand, and `Noise`,
for what is not JSON at all, of which a sample is kept. Neither ends the stream.
"""

from typing import ClassVar, TypeAlias

import msgspec

from codex_actors._data import Data
from codex_actors.items import Item

__all__ = [
    "Error",
    "Event",
    "FailureMessage",
    "ItemCompleted",
    "ItemStarted",
    "ItemUpdated",
    "Noise",
    "ThreadStarted",
    "TurnCompleted",
    "TurnFailed",
    "TurnStarted",
    "Unknown",
    "Usage",
]


class Usage(Data, frozen=True, kw_only=True):
    """Tokens counted by the model service.

    Attributes:
        input_tokens: Tokens sent, cached ones included.
        cached_input_tokens: Of those, how many the service had cached.
        cache_write_input_tokens: Of those, how many were written to the cache.
        output_tokens: Tokens received, reasoning included.
        reasoning_output_tokens: Of those, how many were reasoning.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0


class _WireEvent(Data, frozen=True, kw_only=True):
    # "" is the one name that no JSON key of Codex's can have by accident: `raw` is never read from the wire.
    raw: bytes | None = msgspec.field(default=None, name="")

    _private: ClassVar = frozenset({"raw"})


class ThreadStarted(_WireEvent, frozen=True, kw_only=True, tag="thread.started"):
    """The conversation has an id: the first event of every turn.

    Attributes:
        thread_id: UUIDv7; the same one on resume, a new one on fork.
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """

    thread_id: str


class TurnStarted(_WireEvent, frozen=True, kw_only=True, tag="turn.started"):
    """Codex has taken the prompt and goes to work.

    Attributes:
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """


class TurnCompleted(_WireEvent, frozen=True, kw_only=True, tag="turn.completed"):
    """The turn succeeded; no other event says so.

    Attributes:
        usage: Tokens of the whole *thread* so far, over resume and fork; all 0 for a review.
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """

    usage: Usage


class FailureMessage(Data, frozen=True, kw_only=True):
    """Why a turn failed.

    Attributes:
        message: Codex's words.
    """

    _private: ClassVar = frozenset({"message"})

    message: str


class TurnFailed(_WireEvent, frozen=True, kw_only=True, tag="turn.failed"):
    """The turn failed and Codex said why.

    Attributes:
        error: The reason.
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """

    error: FailureMessage


class ItemStarted(_WireEvent, frozen=True, kw_only=True, tag="item.started"):
    """An item began. Not every item that begins is completed.

    Attributes:
        item: The item as far as it is known.
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """

    item: Item


class ItemUpdated(_WireEvent, frozen=True, kw_only=True, tag="item.updated"):
    """An item changed (only plans do).

    Attributes:
        item: The item as it is now.
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """

    item: Item


class ItemCompleted(_WireEvent, frozen=True, kw_only=True, tag="item.completed"):
    """An item is final.

    Attributes:
        item: The item.
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """

    item: Item


class Error(_WireEvent, frozen=True, kw_only=True, tag="error"):
    """A notice, mostly that Codex retries a request; fatal only if the turn then fails.

    Attributes:
        message: Codex's words, such as ``Reconnecting... 1/5 (...)``.
        raw: The line as Codex wrote it; None unless raw lines were asked for.
    """

    _private: ClassVar = frozenset({"message", "raw"})

    message: str


class Unknown(Data, frozen=True, kw_only=True):
    """A JSON object that this version has no struct for.

    Attributes:
        raw: The line as Codex wrote it.
        reason: What did not fit; it may quote a word of the line.
    """

    _private: ClassVar = frozenset({"raw", "reason"})

    raw: bytes
    reason: str


class Noise(Data, frozen=True, kw_only=True):
    """A line on Codex's stdout that is no JSON object.

    Attributes:
        reason: What is wrong with it.
        sample: Its first bytes, at most 200.
        size: Its length in bytes.
    """

    _private: ClassVar = frozenset({"sample"})

    reason: str
    sample: bytes
    size: int


WireEvent: TypeAlias = (
    ThreadStarted
    | TurnStarted
    | TurnCompleted
    | TurnFailed
    | ItemStarted
    | ItemUpdated
    | ItemCompleted
    | Error
)
Event: TypeAlias = WireEvent | Unknown | Noise
