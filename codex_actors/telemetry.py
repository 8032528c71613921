"""What a runtime tells those who listen: named events, each a frozen struct of facts.

A handler is attached to all names that begin with a prefix, and the `Telemetry` is given to a runtime::

    telemetry = Telemetry()
    telemetry.attach(("codex", "turn"), print)
    async with Codex(telemetry=telemetry) as codex:
        ...

Every `TurnStart` is followed by exactly one `TurnStop` or `TurnException` with the same ``turn_id``. Events
hold ids, counts and names of classes, never what was asked or answered: that is in `Prompt` and `Reply`,
which only a handler for ``("clear_text",)`` hears.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from typing import ClassVar, TypeAlias, get_args

import structlog

from codex_actors._data import Data
from codex_actors.errors import Category, OptionError
from codex_actors.results import TurnUsage

__all__ = [
    "Attachment",
    "Event",
    "Handler",
    "ItemCompleted",
    "Name",
    "NoiseReceived",
    "ProcessKilled",
    "ProcessLeftovers",
    "ProcessSpawned",
    "ProcessStopped",
    "Prompt",
    "Reply",
    "RetryNotice",
    "Telemetry",
    "TraceContext",
    "Tracer",
    "TurnEvent",
    "TurnException",
    "TurnStart",
    "TurnStop",
    "UnknownReceived",
]

Name: TypeAlias = tuple[str, ...]

_log = structlog.get_logger("codex_actors")


class TurnEvent(Data, frozen=True, kw_only=True):
    """What all events have; the runtime fills it in.

    Attributes:
        name: What handlers are attached by.
        turn_id: The same in all events of a turn, and in those of no other one.
        thread_id: The turn's thread; None as long as Codex has not named it.
        system_time: When it was, in seconds since the epoch.
    """

    name: ClassVar[Name] = ()

    turn_id: str = ""
    thread_id: str | None = None
    system_time: float = 0.0


class TurnStart(TurnEvent, frozen=True, kw_only=True):
    """Somebody asked for a turn. It may yet have to wait for its thread.

    Attributes:
        input_length: The length of the prompt in characters.
        model: The model that its `ThreadOptions` name; None if they name none.
    """

    name: ClassVar[Name] = ("codex", "turn", "start")

    input_length: int
    model: str | None


class TurnStop(TurnEvent, frozen=True, kw_only=True):
    """A turn completed, and nothing of it lives any more.

    Attributes:
        duration: Seconds since its `TurnStart`.
        usage: Tokens.
    """

    name: ClassVar[Name] = ("codex", "turn", "stop")

    duration: float
    usage: TurnUsage


class TurnException(TurnEvent, frozen=True, kw_only=True):
    """A turn ended in any other way: it could not start, failed, or was left. Nothing of it lives any more.

    Attributes:
        duration: Seconds since its `TurnStart`.
        error: The class of the error that its holder gets, such as ``TurnTimeoutError``.
        category: The error's `CodexError.category`; None if it is none of ours.
        retryable: The error's `CodexError.retryable`.
    """

    name: ClassVar[Name] = ("codex", "turn", "exception")

    duration: float
    error: str
    category: Category | None
    retryable: bool


class RetryNotice(TurnEvent, frozen=True, kw_only=True):
    """Codex asks the model service once more, because it was cut off or refused.

    Attributes:
        attempt: Which attempt this is, from 1; None while Codex waits for a network, and does not count.
        max_attempts: How many there may be; None as above.
    """

    name: ClassVar[Name] = ("codex", "turn", "retry")

    attempt: int | None
    max_attempts: int | None


class ItemCompleted(TurnEvent, frozen=True, kw_only=True):
    """An item is final.

    Attributes:
        item_type: Its tag, such as ``command_execution``.
        item_id: ``item_N``, counted from 0 in every turn.
    """

    name: ClassVar[Name] = ("codex", "item", "completed")

    item_type: str
    item_id: str


class UnknownReceived(TurnEvent, frozen=True, kw_only=True):
    """Codex said something that this version does not understand.

    Attributes:
        size: The length of the line in bytes.
    """

    name: ClassVar[Name] = ("codex", "line", "unknown")

    size: int


class NoiseReceived(TurnEvent, frozen=True, kw_only=True):
    """A line on Codex's stdout is no JSON object.

    Attributes:
        size: The length of the line in bytes.
    """

    name: ClassVar[Name] = ("codex", "line", "noise")

    size: int


class ProcessSpawned(TurnEvent, frozen=True, kw_only=True):
    """A turn has its Codex process.

    Attributes:
        pid: Its process id.
    """

    name: ClassVar[Name] = ("codex", "process", "spawned")

    pid: int


class ProcessStopped(TurnEvent, frozen=True, kw_only=True):
    """A turn's Codex process is gone.

    Attributes:
        pid: Its process id.
        returncode: Its exit status; negative is a signal number; None if the kernel does not let it go.
    """

    name: ClassVar[Name] = ("codex", "process", "stopped")

    pid: int
    returncode: int | None


class ProcessKilled(TurnEvent, frozen=True, kw_only=True):
    """A Codex process was asked to stop, did not do so in time, and was sent SIGKILL.

    Attributes:
        pid: Its process id.
    """

    name: ClassVar[Name] = ("codex", "process", "killed")

    pid: int


class ProcessLeftovers(TurnEvent, frozen=True, kw_only=True):
    """A Codex process is gone, and processes that it had started were not.

    Attributes:
        pid: Its process id.
        killed: Those that were killed, by the names of their programs.
        kept: Those that may stay, likewise.
    """

    name: ClassVar[Name] = ("codex", "process", "leftovers")

    pid: int
    killed: tuple[str, ...]
    kept: tuple[str, ...]


class Prompt(TurnEvent, frozen=True, kw_only=True):
    """What a turn is asked, in clear text; comes after its `TurnStart`.

    Attributes:
        text: The prompt.
    """

    name: ClassVar[Name] = ("clear_text", "prompt")
    _private: ClassVar = frozenset({"text"})

    text: str


class Reply(TurnEvent, frozen=True, kw_only=True):
    """What a turn's agent said last, if anything, in clear text; its `TurnStop` or `TurnException` follows.

    Attributes:
        text: The final response.
    """

    name: ClassVar[Name] = ("clear_text", "reply")
    _private: ClassVar = frozenset({"text"})

    text: str


Event: TypeAlias = (
    TurnStart
    | TurnStop
    | TurnException
    | RetryNotice
    | ItemCompleted
    | UnknownReceived
    | NoiseReceived
    | ProcessSpawned
    | ProcessStopped
    | ProcessKilled
    | ProcessLeftovers
    | Prompt
    | Reply
)
Handler: TypeAlias = Callable[[Event], object]

_NAMES: tuple[Name, ...] = tuple(kind.name for kind in get_args(Event))


class TraceContext(Data, frozen=True, kw_only=True):
    """A place in a distributed trace, as the W3C writes it.

    Attributes:
        traceparent: The header of that name.
        tracestate: The header of that name; empty if there is none.
    """

    traceparent: str
    tracestate: str = ""


Tracer: TypeAlias = Callable[[str], TraceContext | None]


class Attachment:
    """What was attached to a `Telemetry`, which hands this out."""

    def __init__(self, detach: Callable[["Attachment"], None]) -> None:
        self._detach = detach

    def detach(self) -> None:
        """Have it called no more; does nothing if it is detached already."""
        self._detach(self)


class Telemetry:
    """Who hears of what a runtime does. Several runtimes may share one.

    Handlers are called in the order in which they were attached, by the task that has something to tell;
    nothing else runs meanwhile. A handler that raises is detached, and the log says so; nobody else hears
    of it. Only what is no ``Exception``, KeyboardInterrupt for one, is raised, when all have been called.

    Args:
        log: Whether structlog is told of the events. As long as it is not configured, and prints
            everything, it is only told of those that are warnings.
        log_prompts_and_replies_in_clear_text: Whether structlog is told every prompt and every reply. Whoever
            reads the log reads them, too.
    """

    def __init__(self, *, log: bool = True, log_prompts_and_replies_in_clear_text: bool = False) -> None:
        self._handlers: dict[Attachment, tuple[Name, Handler]] = {}
        self._tracers: dict[Attachment, Tracer] = {}
        if log:
            self.attach(("codex",), _log_facts)
        if log_prompts_and_replies_in_clear_text:
            self.attach(("clear_text",), _log_clear_text)

    def attach(self, prefix: Name, handler: Handler) -> Attachment:
        """Have a handler called with every event whose name begins with a prefix.

        Args:
            prefix: One or more words, such as ``("codex", "turn")``.
            handler: A plain function; what it returns is ignored. What takes time belongs into a task of
                yours.

        Raises:
            OptionError: No event has such a name, or the handler is no plain function.
        """
        if not prefix or not any(_begins(name, prefix) for name in _NAMES):
            raise OptionError("prefix", f"no event has a name that begins with {prefix!r}")
        _check_plain(handler, "handler")
        attachment = Attachment(self._detach)
        self._handlers[attachment] = (prefix, handler)
        return attachment

    def attach_tracer(self, tracer: Tracer) -> Attachment:
        """Have a function say where each turn belongs in a trace, so that Codex can continue that.

        Args:
            tracer: Takes the ``turn_id``, after the turn's `TurnStart`; None is no place. Of several
                tracers, the first one counts that has a place.

        Raises:
            OptionError: The tracer is no plain function.
        """
        _check_plain(tracer, "tracer")
        attachment = Attachment(self._detach)
        self._tracers[attachment] = tracer
        return attachment

    def wants(self, name: Name) -> bool:
        """Whether anybody hears of events of this name."""
        return any(_hears(handler, prefix, name) for prefix, handler in self._handlers.values())

    def emit(self, event: Event) -> None:
        """Call the handlers that hear of this event."""
        worse: BaseException | None = None
        for attachment, (prefix, handler) in tuple(self._handlers.items()):
            if attachment in self._handlers and _hears(handler, prefix, event.name):
                try:
                    handler(event)
                except Exception as exc:  # noqa: BLE001 - a handler may raise anything, and harms nobody by it
                    self._give_up(attachment, handler, exc)
                except BaseException as exc:  # noqa: BLE001 - raised when the others have been called
                    attachment.detach()
                    worse = worse or exc
        if worse is not None:
            raise worse

    def trace_context(self, turn_id: str) -> TraceContext | None:
        """Where a turn belongs in a trace; None if no tracer has a place for it."""
        for attachment, tracer in tuple(self._tracers.items()):
            try:
                if (place := tracer(turn_id)) is not None:
                    return place
            except Exception as exc:  # noqa: BLE001 - as for a handler
                self._give_up(attachment, tracer, exc)
        return None

    def _detach(self, attachment: Attachment) -> None:
        self._handlers.pop(attachment, None)
        self._tracers.pop(attachment, None)

    def _give_up(self, attachment: Attachment, function: Handler | Tracer, error: Exception) -> None:
        attachment.detach()
        # Neither its message nor a traceback: a handler of clear text may well put that into them.
        with suppress(Exception):
            _log.error(
                "telemetry.handler_detached",
                handler=getattr(function, "__qualname__", type(function).__name__),
                error=type(error).__name__,
                raised_at=_where(error),
            )


def _check_plain(function: object, field: str) -> None:
    call = getattr(function, "__call__", None)  # noqa: B004 - which may be async, too
    if call is None or inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        raise OptionError(field, "must be a plain function: nobody awaits what it returns")


def _begins(name: Name, prefix: Name) -> bool:
    return name[: len(prefix)] == prefix


def _hears(handler: Handler, prefix: Name, name: Name) -> bool:
    return _begins(name, prefix) and (handler is not _log_facts or _is_worth_a_line(name))


def _where(error: Exception) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{PurePath(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""


# The log: what lives is info, traffic is debug, and a warning is what somebody should look into.
_LOGGED: dict[Name, tuple[str, str]] = {
    TurnStart.name: ("info", "turn.started"),
    TurnStop.name: ("info", "turn.completed"),
    TurnException.name: ("info", "turn.failed"),  # its holder has the error, and may well warn of it
    RetryNotice.name: ("info", "turn.retried"),
    ItemCompleted.name: ("debug", "item.completed"),
    UnknownReceived.name: ("debug", "unknown.received"),
    NoiseReceived.name: ("debug", "noise.received"),
    ProcessSpawned.name: ("debug", "process.spawned"),
    ProcessStopped.name: ("debug", "process.stopped"),
    ProcessKilled.name: ("warning", "process.killed"),
    ProcessLeftovers.name: ("warning", "process.leftovers"),
    Prompt.name: ("info", "prompt.sent"),
    Reply.name: ("info", "reply.received"),
}
_RENAMED = {"size": "size_bytes"}
_TOLD_OTHERWISE = frozenset({"system_time", "duration", "usage"})  # structlog has a clock of its own


def _is_worth_a_line(name: Name) -> bool:
    # Until structlog is configured, it prints everything, and nobody has asked for that.
    return structlog.is_configured() or _LOGGED[name][0] == "warning"


def _log_facts(event: Event) -> None:
    level, name = _LOGGED[event.name]
    # A log that is broken (a closed pipe, say) may be mended.
    with suppress(Exception):
        getattr(_log, level)(name, **_fields(event))


def _log_clear_text(event: Event) -> None:
    _log_facts(event)


def _fields(event: Event) -> dict[str, object]:
    fields = {
        _RENAMED.get(name, name): getattr(event, name)
        for name in event.__struct_fields__
        if name not in _TOLD_OTHERWISE
    }
    if isinstance(event, TurnStop | TurnException):
        fields["duration_seconds"] = round(event.duration, 3)
    if isinstance(event, TurnStop):
        spent = event.usage.turn
        fields["input_tokens"] = spent.input_tokens if spent else None
        fields["output_tokens"] = spent.output_tokens if spent else None
    return fields
