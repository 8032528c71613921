# Bytes in, events out, and what a turn's events add up to. This file must never import trio: that
# is what lets its tests run without a clock, a process, or a single await.

import re
from collections import deque
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, NamedTuple, assert_never

import msgspec

from codex_actors import errors
from codex_actors._failures import refusal, turn_failure, waits_for_network
from codex_actors.events import (
    Error,
    Event,
    ItemCompleted,
    ItemStarted,
    ItemUpdated,
    Noise,
    ThreadStarted,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    Unknown,
    Usage,
    WireEvent,
)
from codex_actors.items import AgentMessage, CollabToolCall, CommandExecution, FileChange, Item, McpToolCall
from codex_actors.options import MAX_LINE_BYTES
from codex_actors.results import Leftovers, PartialResult, SideEffects, Timings, TurnResult, TurnUsage

MAX_SAMPLE_BYTES = 200
MAX_NOTICES = 20
MAX_IN_PROGRESS = 1024
PANIC_STATUS = 101  # Rust's, such as when Codex finds its stdout closed

# msgspec lets two things through that are not its own DecodeError: text that is not UTF-8, and
# nesting deeper than the interpreter's stack.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Codex writes a web search's own id as a second "id" key, and a JSON parser keeps only the last.
_DOUBLED_ID = re.compile(rb'^(\{"type":"item\.\w+","item":\{"id":"[^"\\]*","type":"web_search"),"id":')
_DOUBLED_ID_HINT = b'"type":"web_search","id":'
_RENAMED_ID = rb'\1,"call_id":'

_decoder: msgspec.json.Decoder[WireEvent] = msgspec.json.Decoder(WireEvent)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

# Items whose work can reach beyond the conversation.
_ACTING = frozenset({CommandExecution, FileChange, McpToolCall, CollabToolCall})


class LineDecoder:
    """Turns the bytes of Codex's stdout into events, however the pipe cuts them.

    Args:
        max_line_bytes: A longer line becomes `Noise`; no more than this is ever held back.
        keep_raw: Whether every event carries its line.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES, keep_raw: bool = False) -> None:
        self._max_line_bytes = max_line_bytes
        self._keep_raw = keep_raw
        self._held = bytearray()  # a line that has not ended yet, or a sample of one over the limit
        self._held_bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        """Take what one read brought and return an event for each line that it completed."""
        rest = data[data.rfind(b"\n") + 1 :]
        events: list[Event] = []
        if len(rest) < len(data):
            source = BytesIO(data)
            if self._held_bytes:
                events.append(self._end_held_line(source.readline()[:-1]))
            events += self._decode_lines(source, rest)
        self._hold(rest)
        return events

    def close(self) -> list[Event]:
        """Take the end of the stream and return the event of a last line without a newline, if any."""
        return [self._end_held_line(b"")] if self._held_bytes else []

    def _hold(self, data: bytes) -> None:
        self._held_bytes += len(data)
        if self._held_bytes <= self._max_line_bytes:
            self._held += data
        else:  # of a line over the limit, a sample is all that is kept
            self._held += data[:MAX_SAMPLE_BYTES]
            del self._held[MAX_SAMPLE_BYTES:]

    def _end_held_line(self, rest: bytes) -> Event:
        self._hold(rest)
        line, size = bytes(self._held), self._held_bytes
        self._held.clear()
        self._held_bytes = 0
        return self._decode_line(line, size)

    def _decode_lines(self, source: BytesIO, rest: bytes) -> list[Event]:
        """Decode the lines from here to the rest, which is the only one without an end."""
        start, data = source.tell(), source.getvalue()
        if not self._keep_raw and len(data) <= self._max_line_bytes:
            # One line after the other, from where they are: copies of all of them, or of the whole, do not
            # stay in the processor's cache, and have malloc give memory back after each read.
            events = _decode_at_once(iter(source.readline, rest), data)
            if events is not None:
                return events
            source.seek(start)
        return [self._decode_line(line[:-1], len(line) - 1) for line in iter(source.readline, rest)]

    def _decode_line(self, line: bytes, size: int) -> Event:
        if size > self._max_line_bytes:
            return _noise(line, f"longer than {self._max_line_bytes} bytes", size)
        try:
            event = _decoder.decode(_mended(line))
        except msgspec.ValidationError as exc:
            return _unknown(line, str(exc))
        except _UNREADABLE as exc:
            return _noise(line, str(exc), size)
        if self._keep_raw:
            msgspec.structs.force_setattr(event, "raw", line)
        return event


def _decode_at_once(lines: Iterable[bytes], data: bytes) -> list[Event] | None:
    """Decode lines that are all well, in a third of the time; None if one of them wants a closer look.

    Args:
        lines: The lines.
        data: What they are part of: what is nowhere in it need not be looked for in each of them.
    """
    plain = data.isascii() and _DOUBLED_ID_HINT not in data
    try:
        return [*map(_decoder.decode, lines if plain else map(_mended, lines))]
    except _UNREADABLE:
        return None


def _mended(line: bytes) -> bytes:
    """A line in a form that says to msgspec what it would miss.

    Raises:
        UnicodeDecodeError: It is not UTF-8; msgspec does not look into what it skips.
    """
    if not line.isascii():
        line.decode()
    if _DOUBLED_ID_HINT in line:  # the pattern alone is slow where it does not match
        return _DOUBLED_ID.sub(_RENAMED_ID, line)
    return line


def _unknown(line: bytes, reason: str) -> Event:
    try:
        _object_decoder.decode(line)
    except msgspec.ValidationError:
        return _noise(line, "not a JSON object", len(line))
    except _UNREADABLE as exc:
        return _noise(line, str(exc), len(line))
    return Unknown(raw=line, reason=reason[:MAX_SAMPLE_BYTES])  # it quotes an unknown tag, however long


def _noise(line: bytes, reason: str, size: int) -> Noise:
    return Noise(reason=reason, sample=line[:MAX_SAMPLE_BYTES], size=size)


class Ending(NamedTuple):
    """What the end of a turn's process adds to what it had said.

    Attributes:
        returncode: Its exit status; negative is a signal number; None if it never ran.
        stderr_tail: The last of its stderr.
        timings: How long it took.
        dropped_events: How many events nobody took.
        all_heard: Whether it surely had nothing more to say: it never ran, or ended by itself and in order.
        leftovers: What it had left running.
    """

    returncode: int | None = None
    stderr_tail: str = ""
    timings: Timings = Timings()
    dropped_events: int = 0
    all_heard: bool = False
    leftovers: Leftovers = Leftovers()


class TurnState:
    """What the events of one turn add up to.

    A turn succeeds if and only if a ``turn.completed`` was decoded; whatever else may be said before
    or after it, and however the process ends, changes nothing about that.

    Args:
        review: Whether the turn is a review, for which Codex counts no tokens.
        keep_items: How many completed items to keep; None keeps all.

    Attributes:
        thread_id: The thread, once Codex has named it.
        read_only: Whether the turn's sandbox is known to let no command write anything.
        tools: Whether the turn may have tools outside its sandbox.
        ending: What is known of the end; whoever saw it sets this.
    """

    def __init__(self, *, review: bool = False, keep_items: int | None = None) -> None:
        self.thread_id: str | None = None
        self._completed: TurnCompleted | None = None
        self._failed: TurnFailed | None = None
        self.ending: Ending = Ending()
        self.read_only: bool = False
        self.tools: bool = True
        self._review = review
        self._turn_started = False
        self._last: Event | None = None
        self._acted: set[type[Item]] = set()
        self._acted_outside = False
        self._items: deque[Item] = deque(maxlen=keep_items)
        self._in_progress: set[str] = set()
        self._notices: deque[str] = deque(maxlen=MAX_NOTICES)
        self._notice_count = 0
        self._final_response = ""
        self._unknown_events = 0
        self._noise_lines = 0

    @property
    def ended(self) -> bool:
        """Whether Codex has said how the turn ended."""
        return self._completed is not None or self._failed is not None

    @property
    def item_in_progress(self) -> bool:
        """Whether something is running that may honestly be silent for long."""
        return bool(self._in_progress)

    @property
    def waiting_for_network(self) -> bool:
        """Whether the last thing Codex said is that it cannot reach the model service."""
        return isinstance(self._last, Error) and waits_for_network(self._last.message)

    @property
    def oddities(self) -> int:
        """How many events a turn that goes well does not have, which are notices, unknown ones and noise."""
        return self._notice_count + self._unknown_events + self._noise_lines

    def apply(self, events: Sequence[Event]) -> None:  # noqa: C901 - one case per kind of event
        """Take events in the order they came."""
        self._last = events[-1] if events else self._last
        for event in events:
            # Most of a long stream; a pattern that looks inside takes three times as long.
            if isinstance(event, ItemCompleted):
                self._note_completion(event.item)
                continue
            match event:
                case ItemStarted(item=item) | ItemUpdated(item=item):
                    self._note_start(item)
                case TurnCompleted():
                    self._completed = event
                case TurnFailed():
                    self._failed = event
                case ThreadStarted(thread_id=thread_id):
                    self.thread_id = thread_id
                case TurnStarted():
                    self._turn_started = True
                case Error(message=message):
                    self._notices.append(message)
                    self._notice_count += 1
                case Unknown():
                    self._unknown_events += 1
                case Noise():
                    self._noise_lines += 1
                case _:
                    assert_never(event)

    def _note_start(self, item: Item) -> None:
        if type(item) in _ACTING:
            self._acted.add(type(item))
            self._acted_outside |= isinstance(item, McpToolCall)
            if len(self._in_progress) < MAX_IN_PROGRESS:
                self._in_progress.add(item.id)

    def _note_completion(self, item: Item) -> None:
        self._items.append(item)
        if type(item) is AgentMessage:
            self._final_response = item.text
        elif type(item) in _ACTING:
            self._acted.add(type(item))
            # No read-only sandbox was around a tool, nor around a patch that succeeded.
            patched = isinstance(item, FileChange) and item.status == "completed"
            self._acted_outside |= patched or isinstance(item, McpToolCall)
            self._in_progress.discard(item.id)

    def partial(self) -> PartialResult:
        """What the turn has done so far."""
        return PartialResult(
            thread_id=self.thread_id,
            final_response=self._final_response,
            items=tuple(self._items),
            usage=TurnUsage(thread=self._thread_usage()),
            side_effects=self._side_effects(),
            notices=tuple(self._notices),
            unknown_events=self._unknown_events,
            noise_lines=self._noise_lines,
            dropped_events=self.ending.dropped_events,
            timings=self.ending.timings,
            returncode=self.ending.returncode,
            leftovers=self.ending.leftovers,
        )

    def outcome(self, *, thread_id: str = "", codex_home: str = "") -> TurnResult:
        """Decide what became of the turn, once it has an `ending`.

        Args:
            thread_id: The thread that was asked for; empty if it was a new one.
            codex_home: The CODEX_HOME it was asked for in.

        Raises:
            TurnError: The turn did not complete.
            SetupError: It never began, because of the machine or the configuration.
            ThreadError: It never began, because of the thread.
        """
        partial, stderr_tail = self.partial(), self.ending.stderr_tail
        if self._completed is not None:
            facts: dict[str, Any] = msgspec.structs.asdict(partial)
            facts["thread_id"] = self.thread_id or thread_id
            return TurnResult(**facts)
        if self._failed is not None:
            reason = self._failed.error.message
            raise turn_failure(
                reason, partial=partial, returncode=partial.returncode, stderr_tail=stderr_tail
            )
        status = self.ending.returncode or 0
        if status > 0 and status != PANIC_STATUS and self._last is None:
            raise refusal(
                returncode=status, stderr_tail=stderr_tail, thread_id=thread_id, codex_home=codex_home
            )
        if status < 0:
            raise errors.ProcessKilledError(partial=partial, returncode=status, stderr_tail=stderr_tail)
        kind, message = self._silent_end(status)
        raise kind(message, partial=partial, returncode=status, stderr_tail=stderr_tail)

    def _silent_end(self, returncode: int) -> tuple[type[errors.TurnError], str]:
        if returncode == PANIC_STATUS:
            return errors.CodexPanickedError, "Codex panicked (exit status 101) before its turn ended"
        if returncode:
            return errors.ProcessExitedError, f"Codex exited with status {returncode} before its turn ended"
        if self._notices:
            return errors.ErrorEventError, self._notices[-1]
        return (
            errors.StreamTruncatedError,
            "Codex exited with status 0 and never said that the turn completed",
        )

    def _thread_usage(self) -> Usage | None:
        # For a review Codex writes zeros, which say nothing about the thread.
        return None if self._completed is None or self._review else self._completed.usage

    def _side_effects(self) -> SideEffects:
        if self._acted_outside or (self._acted and not self.read_only):
            return SideEffects.SEEN
        if self._unknown_events or self._noise_lines:  # they may have been anything
            return SideEffects.UNKNOWN
        began = self._turn_started or self._items or self._acted or self.ended
        if self.ending.all_heard and not began:
            return SideEffects.NONE
        # Tools and child agents act outside the sandbox, and the children's doings are never shown.
        sealed = not self.tools or (self.ending.all_heard and CollabToolCall not in self._acted)
        return SideEffects.NONE if self.read_only and sealed else SideEffects.UNKNOWN
