"""Every exception of codex_actors, sorted by who has to act.

::

    CodexError
    ├── OptionError (also a ValueError)   the caller's code: an argument that cannot work
    │   └── SpecError                     a child spec or the flags of a supervisor
    ├── SetupError                        the operator: this machine or configuration
    │   ├── CodexNotFoundError
    │   ├── UnsupportedVersionError
    │   ├── CodexHomeError
    │   ├── ConfigRefusedError
    │   ├── UntrustedDirectoryError
    │   ├── SpawnError
    │   ├── ContainmentError
    │   └── ResourceLimitError
    ├── ThreadError                       the caller: the conversation is not to be had
    │   ├── ThreadNotFoundError
    │   ├── ThreadBusyError
    │   └── ThreadMismatchError
    ├── TurnError                         the asker: a turn began and did not complete
    │   ├── TurnFailedError               Codex said why
    │   │   ├── AuthenticationError, InvalidRequestError, ModelNotFoundError,
    │   │   ├── RateLimitError, UsageLimitError, QuotaExceededError,
    │   │   ├── OverloadedError, ConnectionLostError,
    │   │   └── ContextWindowExceededError, IncompleteResponseError
    │   ├── ProcessExitedError            the supervisor: Codex's process ended before its turn did
    │   │   ├── ProcessKilledError        by a signal
    │   │   └── CodexPanickedError        by a bug of its own (exit status 101)
    │   ├── StreamTruncatedError          exit status 0 and no terminal event
    │   ├── ErrorEventError               an error event, exit status 0 and no terminal event
    │   ├── TurnTimeoutError              a deadline of ours
    │   └── TurnInterruptedError          its holder interrupted or left it
    ├── InvalidOutputError                the asker: a turn completed, but not with what was asked for
    ├── SupervisionError                  the supervisor's caller: it cannot do that
    │   ├── AlreadyStartedError           a child with this id runs
    │   ├── AlreadyPresentError           a child with this id is known, but does not run
    │   ├── ChildNotFoundError            there is no such child
    │   ├── ChildRunningError             the child runs
    │   ├── ChildRestartingError          the child is being restarted
    │   ├── MaxChildrenError              there are as many children as there may be
    │   ├── NoSupervisorError             the supervisor does not run
    │   ├── StartTimeoutError             the child was not ready in time
    │   ├── ChildStartError               the supervisor did not start, for a child did not
    │   └── RestartLimitError             the parent supervisor: this one gave up
    ├── RuntimeClosedError                the caller: the runtime is not open
    └── TurnRunningError                  the caller: the turn has no result yet

Every error has a `CodexError.category` (``config``, ``process``, ``communication`` or ``turn``) and says
whether repeating the same call may help (`CodexError.retryable`). What the message says is in attributes too.
"""

import signal
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable

    from codex_actors.results import PartialResult, TurnResult

__all__ = [
    "AlreadyPresentError",
    "AlreadyStartedError",
    "AuthenticationError",
    "Category",
    "ChildNotFoundError",
    "ChildRestartingError",
    "ChildRunningError",
    "ChildStartError",
    "CodexError",
    "CodexHomeError",
    "CodexNotFoundError",
    "CodexPanickedError",
    "ConfigRefusedError",
    "ConnectionLostError",
    "ContainmentError",
    "ContextWindowExceededError",
    "ErrorEventError",
    "IncompleteResponseError",
    "InvalidOutputError",
    "InvalidRequestError",
    "MaxChildrenError",
    "ModelNotFoundError",
    "NoSupervisorError",
    "OptionError",
    "OverloadedError",
    "ProcessExitedError",
    "ProcessKilledError",
    "QuotaExceededError",
    "RateLimitError",
    "ResourceLimitError",
    "RestartLimitError",
    "RuntimeClosedError",
    "SetupError",
    "SpawnError",
    "SpecError",
    "StartTimeoutError",
    "StreamTruncatedError",
    "SupervisionError",
    "ThreadBusyError",
    "ThreadError",
    "ThreadMismatchError",
    "ThreadNotFoundError",
    "TurnError",
    "TurnFailedError",
    "TurnInterruptedError",
    "TurnRunningError",
    "TurnTimeoutError",
    "UnsupportedVersionError",
    "UntrustedDirectoryError",
    "UsageLimitError",
]

Category: TypeAlias = Literal["config", "process", "communication", "turn"]

# Most real-time signals have no name, but kill all the same.
_SIGNAL_NAMES = {known.value: known.name for known in signal.Signals}


class CodexError(Exception):
    """Anything that codex_actors raises.

    Attributes:
        category: What kind of trouble it is: ``config``, ``process``, ``communication`` or ``turn``.
        retryable: Whether the same call may succeed later without anybody changing anything. Ask
            `TurnError.partial` for side effects before repeating a turn.
    """

    category: ClassVar[Category] = "config"
    retryable: ClassVar[bool] = False

    def __reduce__(self) -> tuple[object, ...]:
        # Python would build the copy from its message alone, and a process pool break at the TypeError.
        return Exception.__new__, (type(self), *self.args), vars(self)


class OptionError(CodexError, ValueError):
    """An option or argument cannot work as given; nothing was started.

    Attributes:
        field: The field, as in ``ThreadOptions.cwd``.
        problem: What is wrong with it and what to do.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class SpecError(OptionError):
    """A child spec or the flags of a supervisor cannot work as given; nothing was started.

    Attributes:
        kind: OTP's word for it, such as ``invalid_restart_type``, ``invalid_intensity``,
            ``duplicate_child_name`` or ``bad_combination``.
    """

    def __init__(self, field: str, problem: str, kind: str) -> None:
        super().__init__(field, problem)
        self.kind = kind


class SetupError(CodexError):
    """Codex cannot run here until the operator changes something."""


class CodexNotFoundError(SetupError):
    """There is no Codex binary where it was looked for.

    Attributes:
        searched: The places looked at, in order.
    """

    def __init__(self, searched: tuple[str, ...]) -> None:
        super().__init__(
            f"no Codex binary found (looked at: {', '.join(searched)}); install one with "
            "`pip install 'codex-actors[codex]'` or name it in CodexOptions.codex_path"
        )
        self.searched = searched


class UnsupportedVersionError(SetupError):
    """The Codex binary is older than this library can rely on.

    Attributes:
        codex_path: The binary.
        version: What it says it is.
        minimum: The oldest version that works.
    """

    def __init__(self, codex_path: str, version: str, minimum: str) -> None:
        super().__init__(f"{codex_path} is Codex {version}; {minimum} or newer is needed")
        self.codex_path = codex_path
        self.version = version
        self.minimum = minimum


class CodexHomeError(SetupError):
    """CODEX_HOME is missing or cannot be written.

    Attributes:
        codex_home: The directory.
    """

    def __init__(self, codex_home: str, problem: str) -> None:
        super().__init__(f"CODEX_HOME {codex_home} {problem}")
        self.codex_home = codex_home


class _RefusedBeforeTurnError(SetupError):
    def __init__(self, message: str, *, returncode: int, stderr_tail: str) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr_tail = stderr_tail


class ConfigRefusedError(_RefusedBeforeTurnError):
    """Codex refused its configuration or arguments and started no turn.

    Attributes:
        returncode: 1 for configuration, 2 for arguments.
        stderr_tail: What Codex said, at most 8 KiB.
    """


class UntrustedDirectoryError(_RefusedBeforeTurnError):
    """The working directory is neither a git repository nor trusted by the configuration.

    Attributes:
        returncode: Codex's exit status.
        stderr_tail: What Codex said, at most 8 KiB.
    """


class SpawnError(SetupError):
    """The operating system would not start the binary.

    Attributes:
        codex_path: The binary.
        errno: The operating system's number for the reason.
    """

    category: ClassVar[Category] = "process"

    def __init__(self, codex_path: str, error: OSError) -> None:
        super().__init__(f"cannot start {codex_path}: {error.strerror or error}")
        self.codex_path = codex_path
        self.errno: int | None = error.errno


class ContainmentError(SetupError):
    """The way of containing process trees that was asked for is not to be had here.

    Attributes:
        means: The way.
        problem: What stands against it.
    """

    category: ClassVar[Category] = "process"

    def __init__(self, means: str, problem: str) -> None:
        super().__init__(f"process trees cannot be contained by {means} here: {problem}")
        self.means = means
        self.problem = problem


class ResourceLimitError(SetupError):
    """The machine is out of something that a turn needs.

    Attributes:
        errno: The operating system's number for what ran out.
    """

    category: ClassVar[Category] = "process"
    retryable: ClassVar[bool] = True

    def __init__(self, problem: str, errno: int | None) -> None:
        super().__init__(problem)
        self.errno = errno


class ThreadError(CodexError):
    """The thread cannot be used.

    Attributes:
        thread_id: The id of the thread asked for; empty if it was a new one or one without a known id.
    """

    category: ClassVar[Category] = "turn"

    def __init__(self, message: str, thread_id: str) -> None:
        super().__init__(message)
        self.thread_id = thread_id


class ThreadNotFoundError(ThreadError):
    """There is no such thread in this CODEX_HOME."""


class ThreadBusyError(ThreadError):
    """Another turn holds the thread: in this runtime, in another process, or in another program."""

    retryable: ClassVar[bool] = True


class ThreadMismatchError(ThreadError):
    """Codex answered with another thread than the one asked for; it was stopped at once.

    Attributes:
        started_thread_id: The thread that Codex started instead.
    """

    category: ClassVar[Category] = "communication"

    def __init__(self, thread_id: str, started_thread_id: str) -> None:
        asked = "a fork of thread" if thread_id == started_thread_id else "thread"
        super().__init__(f"asked for {asked} {thread_id}, Codex started {started_thread_id}", thread_id)
        self.started_thread_id = started_thread_id


class TurnError(CodexError):
    """A turn ended without completing.

    Attributes:
        partial: What the turn had done by then, with `PartialResult.side_effects` to decide whether
            it may be repeated.
        returncode: Codex's exit status; negative is a signal number; None if it never ran.
        stderr_tail: The last of its stderr, at most 8 KiB, decoded leniently.
    """

    category: ClassVar[Category] = "turn"

    def __init__(
        self, message: str, *, partial: "PartialResult", returncode: int | None = None, stderr_tail: str = ""
    ) -> None:
        super().__init__(message)
        self.partial = partial
        self.returncode = returncode
        self.stderr_tail = stderr_tail


class TurnFailedError(TurnError):
    """Codex reported that the turn failed.

    Subclasses name the reasons that Codex words recognisably; this class itself is for the rest.

    Attributes:
        reason: Codex's message, unchanged.
        http_status: The model service's answer where the message gives it; None otherwise.
        resets_at: When a limit ends, in Codex's words; None where it does not say.
    """

    def __init__(
        self,
        reason: str,
        *,
        partial: "PartialResult",
        http_status: int | None = None,
        resets_at: str | None = None,
        returncode: int | None = None,
        stderr_tail: str = "",
    ) -> None:
        super().__init__(reason, partial=partial, returncode=returncode, stderr_tail=stderr_tail)
        self.reason = reason
        self.http_status = http_status
        self.resets_at = resets_at


class AuthenticationError(TurnFailedError):
    """The model service refused the key (401, 403), or there is none."""

    category: ClassVar[Category] = "config"


class InvalidRequestError(TurnFailedError):
    """The model service refused the request itself (400, ``invalid_prompt``)."""


class ModelNotFoundError(TurnFailedError):
    """The model service does not know the model (404)."""

    category: ClassVar[Category] = "config"


class RateLimitError(TurnFailedError):
    """Too many requests (429); may pass by itself."""

    category: ClassVar[Category] = "communication"
    retryable: ClassVar[bool] = True


class UsageLimitError(TurnFailedError):
    """The plan's usage limit is reached; `resets_at` says until when."""


class QuotaExceededError(TurnFailedError):
    """The account's quota or credit is used up."""

    category: ClassVar[Category] = "config"


class OverloadedError(TurnFailedError):
    """The model service has no capacity just now (500 to 503)."""

    category: ClassVar[Category] = "communication"
    retryable: ClassVar[bool] = True


class ConnectionLostError(TurnFailedError):
    """The connection to the model service was lost once too often."""

    category: ClassVar[Category] = "communication"
    retryable: ClassVar[bool] = True


class ContextWindowExceededError(TurnFailedError):
    """The thread has outgrown the model's context window; start a new one."""


class IncompleteResponseError(TurnFailedError):
    """The model stopped before its answer was whole, such as at ``max_output_tokens``."""


class ProcessExitedError(TurnError):
    """Codex's process ended with an error before its turn did."""

    category: ClassVar[Category] = "process"
    retryable: ClassVar[bool] = True


class ProcessKilledError(ProcessExitedError):
    """A signal ended Codex's process before its turn did; not one of ours.

    Attributes:
        signal: Its number; compares equal to `signal.SIGKILL` and the like.
    """

    def __init__(self, *, partial: "PartialResult", returncode: int, stderr_tail: str = "") -> None:
        self.signal: int = -returncode
        name = _SIGNAL_NAMES.get(self.signal, f"signal {self.signal}")
        super().__init__(
            f"Codex was killed by {name} before its turn ended",
            partial=partial,
            returncode=returncode,
            stderr_tail=stderr_tail,
        )


class CodexPanickedError(ProcessExitedError):
    """Codex's process ended by a bug of its own (exit status 101)."""


class StreamTruncatedError(TurnError):
    """Codex exited as if all were well, but never said that the turn completed."""

    category: ClassVar[Category] = "communication"
    retryable: ClassVar[bool] = True


class ErrorEventError(TurnError):
    """Codex reported an error, exited as if all were well, and never ended the turn.

    Attributes:
        reason: The error's message, unchanged.
    """

    category: ClassVar[Category] = "communication"
    retryable: ClassVar[bool] = True

    def __init__(
        self, reason: str, *, partial: "PartialResult", returncode: int | None = None, stderr_tail: str = ""
    ) -> None:
        super().__init__(reason, partial=partial, returncode=returncode, stderr_tail=stderr_tail)
        self.reason = reason


class TurnTimeoutError(TurnError):
    """A deadline passed; the turn was stopped.

    Attributes:
        deadline: The field of `Deadlines` that it was.
        seconds: Its value.
    """

    category: ClassVar[Category] = "communication"
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        deadline: str,
        seconds: float,
        *,
        partial: "PartialResult",
        returncode: int | None = None,
        stderr_tail: str = "",
    ) -> None:
        notice = f"; Codex's last notice: {partial.notices[-1]}" if partial.notices else ""
        super().__init__(
            f"the turn passed its {deadline} of {seconds:g} s{notice}",
            partial=partial,
            returncode=returncode,
            stderr_tail=stderr_tail,
        )
        self.deadline = deadline
        self.seconds = seconds


class TurnInterruptedError(TurnError):
    """The turn's holder called `Turn.interrupt` or left its block; the thread can be resumed."""


class InvalidOutputError(CodexError):
    """A turn completed with a response that does not follow ``output_type`` or `TurnOptions.output_schema`.

    Where it was to be asked for again and that turn did not complete, its error is the ``__cause__``.

    Attributes:
        problem: What is wrong with the response, without quoting it.
        path: Where in it, as in ``$.tests[0].name``; ``$`` is all of it.
        result: What the turn came to, over all its attempts.
    """

    category: ClassVar[Category] = "turn"
    retryable: ClassVar[bool] = True

    def __init__(self, problem: str, *, path: str, result: "TurnResult") -> None:
        super().__init__(f"the final response is not what was asked for: {problem}")
        self.problem = problem
        self.path = path
        self.result = result

    @property
    def text(self) -> str:
        """The response as it came."""
        return self.result.final_response


class SupervisionError(CodexError):
    """A supervisor cannot do what it was asked to."""

    category: ClassVar[Category] = "process"


class _ChildError(SupervisionError):
    """What is about one child.

    Attributes:
        child_id: The id in its spec.
    """

    def __init__(self, message: str, child_id: "Hashable") -> None:
        super().__init__(message)
        self.child_id = child_id


class AlreadyStartedError(_ChildError):
    """There is a child with this id, and it runs (OTP's ``already_started``).

    Attributes:
        child: The child that runs, a `Child`.
    """

    def __init__(self, child_id: "Hashable", child: object) -> None:
        super().__init__(f"child {child_id!r} already runs", child_id)
        self.child = child


class AlreadyPresentError(_ChildError):
    """There is a child with this id that does not run (OTP's ``already_present``)."""

    def __init__(self, child_id: "Hashable") -> None:
        super().__init__(
            f"child {child_id!r} is present: restart_child starts it, delete_child forgets it", child_id
        )


class ChildNotFoundError(_ChildError):
    """The supervisor has no such child (OTP's ``not_found``)."""

    def __init__(self, child_id: "Hashable") -> None:
        super().__init__(f"there is no child {child_id!r} here", child_id)


class ChildRunningError(_ChildError):
    """The child runs, so that it can be neither restarted nor deleted (OTP's ``running``)."""

    def __init__(self, child_id: "Hashable") -> None:
        super().__init__(f"child {child_id!r} runs: terminate_child stops it", child_id)


class ChildRestartingError(_ChildError):
    """The child is being restarted just now (OTP's ``restarting``)."""

    retryable: ClassVar[bool] = True

    def __init__(self, child_id: "Hashable") -> None:
        super().__init__(f"child {child_id!r} is being restarted: terminate_child gives that up", child_id)


class MaxChildrenError(SupervisionError):
    """A dynamic supervisor has as many children as it may have (OTP's ``max_children``).

    Attributes:
        max_children: How many that is. Children that are being restarted hold their place.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, max_children: float) -> None:
        super().__init__(f"the supervisor has all the {max_children:g} children that it may have")
        self.max_children = max_children


class NoSupervisorError(SupervisionError):
    """The supervisor does not run, or is about to end (OTP's ``noproc``).

    Attributes:
        supervisor: Its name.
    """

    def __init__(self, supervisor: str) -> None:
        super().__init__(f"supervisor {supervisor} does not run, or no longer")
        self.supervisor = supervisor


class StartTimeoutError(_ChildError):
    """A child was not ready in time (OTP's ``timeout``); it was cancelled.

    Attributes:
        seconds: How long it had: the spec's ``start_timeout``.
    """

    def __init__(self, child_id: "Hashable", seconds: float) -> None:
        super().__init__(f"child {child_id!r} did not call started within {seconds:g} s", child_id)
        self.seconds = seconds


class ChildStartError(_ChildError):
    """A supervisor did not start, because one of its children did not (OTP's ``failed_to_start_child``).

    Its ``__cause__`` is what the child raised.
    """

    def __init__(self, child_id: "Hashable") -> None:
        super().__init__(f"child {child_id!r} did not start", child_id)


class RestartLimitError(_ChildError):
    """A supervisor gave up: its children needed more restarts than its flags allow.

    Its ``__cause__`` is what the last of them raised. To the supervisor above it, this is a shutdown.

    Attributes:
        max_restarts: How many restarts are allowed
        max_seconds: within this many seconds.
    """

    def __init__(self, child_id: "Hashable", max_restarts: int, max_seconds: float) -> None:
        super().__init__(
            f"child {child_id!r} needed more than {max_restarts} restarts within {max_seconds:g} s", child_id
        )
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds


class RuntimeClosedError(CodexError):
    """The runtime is not open."""

    def __init__(self) -> None:
        super().__init__("the runtime is not open: use it inside its block, `async with Codex() as codex:`")


class TurnRunningError(CodexError):
    """The turn's result was asked for before there was one."""

    def __init__(self) -> None:
        super().__init__("the turn has not ended: take its events first, or call `turn.wait_result()`")
