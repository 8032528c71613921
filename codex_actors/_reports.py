# What a supervisor tells the log, in OTP's words and with OTP's keys. It never logs a child's arguments:
# those may be the user's prompts. docs/explanation/supervision.md lists the events.

import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

import structlog
import trio

from codex_actors._supervision import ChildSpec, ExitReason

# An id or a reason may be anything, and its repr of any size; a log line may not.
MAX_TEXT = 500
# The end says what went wrong, the beginning who called: of a longer text, the end is kept.
MAX_TRACEBACK = 8_192
# Enough to see where a task hangs and who called it there; a deeper stack is cut at its outer end.
MAX_FRAMES = 20
MAX_TASKS = 20


class Reporter:
    """Writes the reports of one supervisor.

    Args:
        supervisor: Its name.
    """

    def __init__(self, supervisor: str) -> None:
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger(
            "codex_actors", supervisor=shown(supervisor)
        )
        self._bound: structlog.typing.FilteringBoundLogger | None = None
        self._last_text: weakref.ref[_Traceback] | None = None

    def progress(self, spec: ChildSpec) -> None:
        """A child started."""
        # A dynamic supervisor may start thousands; who wants to hear of each asks for debug.
        self._say("debug", "progress", started=_offender(spec))

    def child_terminated(self, spec: ChildSpec, reason: ExitReason) -> None:
        """A child ended by itself in a way that is worth a line."""
        self._say_exit("warning", "child_terminated", spec, reason)

    def child_gave_up(self, spec: ChildSpec, reason: ExitReason) -> None:
        """A child supervisor used up its restarts and stays down, as its spec has it."""
        self._say_exit("warning", "child_gave_up", spec, reason)

    def shutdown_error(self, spec: ChildSpec, reason: ExitReason) -> None:
        """A child that was asked to stop ended in another way than it should."""
        self._say_exit("error", "shutdown_error", spec, reason)

    def start_error(self, spec: ChildSpec, error: Exception) -> None:
        """A child did not start."""
        name, text = type(error).__name__, self._text_of(error)
        self._say("error", "start_error", reason=name, offender=_offender(spec), traceback=text)
        del text
        self._let_go()

    def shutdown(self, spec: ChildSpec) -> None:
        """The supervisor gives up."""
        self._say("error", "shutdown", reason="reached_max_restart_intensity", offender=_offender(spec))

    def stuck(self, spec: ChildSpec, waited_seconds: float, task: trio.lowlevel.Task) -> None:
        """A child goes on although it was killed."""
        stacks = [_await_stack(each) for each in islice(_below(task), MAX_TASKS)]
        seconds = round(waited_seconds, 3)
        self._say(
            "error",
            "stuck",
            reason="killed",
            offender=_offender(spec),
            waited_seconds=seconds,
            await_stacks=stacks,
        )

    def _say_exit(self, level: str, context: str, spec: ChildSpec, reason: ExitReason) -> None:
        crash = {"traceback": self._text_of(reason.error)} if reason.abnormal and reason.error else {}
        self._say(level, context, reason=_described(reason), offender=_offender(spec), **crash)
        crash.clear()
        self._let_go()

    def _text_of(self, error: Exception) -> "_Traceback":
        text = _Traceback(error)
        self._last_text = weakref.ref(text)
        return text

    def _let_go(self) -> None:
        """Whoever keeps a report is to keep text; most do not, and the text need not be made."""
        if self._last_text and (text := self._last_text()):
            with suppress(Exception):
                text.let_go()

    def _say(self, level: str, context: str, **fields: object) -> None:
        if level == "debug" and not structlog.is_configured():
            return  # until it is configured, structlog prints everything, and nobody has asked for this
        # A log that is broken (a closed pipe, say) must not bring down what it is about.
        with suppress(Exception):
            if self._bound is None:  # not before: where there is no stdout, there may be nothing to bind to
                self._bound = self._log.bind()
            getattr(self._bound, level)(f"supervisor.{context}", **fields)


class _Traceback:
    """An exception as text, once it is rendered: most are not, and formatting costs more than a restart.

    No ``exc_info``, because structlog may show that with the values of all variables: the user's text.
    """

    __slots__ = ("__weakref__", "_error", "_text")

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = error
        self._text = ""

    def let_go(self) -> None:
        """Keep the text only: an exception keeps all variables of the child."""
        self._text, self._error = repr(self), None

    def __repr__(self) -> str:
        if self._error is None:
            return self._text
        text = "".join(traceback.format_exception(self._error))
        return text if len(text) <= MAX_TRACEBACK else f"({len(text)} characters) ...{text[-MAX_TRACEBACK:]}"


def _described(reason: ExitReason) -> str:
    if reason.term is not None:
        return f"{reason.kind.value}: {shown(reason.term, repr)}"
    error = f": {type(reason.error).__name__}" if reason.abnormal and reason.error else ""
    return reason.kind.value + error


def _offender(spec: ChildSpec) -> dict[str, object]:
    return {
        "id": shown(spec.id),
        "start": getattr(spec.start, "__qualname__", type(spec.start).__name__),
        "restart_type": spec.restart.value,
        "significant": spec.significant,
        "shutdown": spec.shutdown if spec.shutdown == "brutal_kill" else spec.stop_seconds,
        "child_type": spec.type.value,
    }


def shown(value: object, form: Callable[[object], str] = str) -> str:
    """A value as text that fits a log line, whatever it is: what cannot be shown brings nothing down."""
    try:
        text = form(value)
    except Exception:  # noqa: BLE001 - anybody's __repr__ may raise anything
        return f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """The task and all that it waits for: it may hang in any of them."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _below(child)


def _await_stack(task: trio.lowlevel.Task) -> list[str]:
    """Where a task waits, the innermost place last."""
    stack = traceback.StackSummary.extract(task.iter_await_frames(), lookup_lines=False)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack[-MAX_FRAMES:]]
