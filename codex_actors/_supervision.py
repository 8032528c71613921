# What a supervisor decides: what a child's end means, who is restarted, who goes down with whom, when to
# give up. In OTP's words and to OTP's letter; docs/explanation/supervision.md has the rules one by one.
# Plain functions of plain values: no task, no clock, no luck, so that a test can ask them anything.

import enum
import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from types import UnionType
from typing import Literal, TypeGuard, assert_never, cast

from codex_actors._data import Data
from codex_actors.errors import RestartLimitError, SpecError

_NS = 1_000_000_000


class Restart(enum.Enum):
    """When a child that ended by itself is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """After a crash or a kill; not after it returned or raised `Shutdown`."""
    TEMPORARY = "temporary"
    """Never, not even when a sibling's end took it down."""


class Strategy(enum.Enum):
    """Who goes down, and is started again, with a child that is restarted."""

    ONE_FOR_ONE = "one_for_one"
    """Nobody."""
    ONE_FOR_ALL = "one_for_all"
    """All its siblings."""
    REST_FOR_ONE = "rest_for_one"
    """The siblings that were started after it."""


class AutoShutdown(enum.Enum):
    """Whether a supervisor shuts down by itself when significant children have ended for good."""

    NEVER = "never"
    """No, and no child may be significant."""
    ANY_SIGNIFICANT = "any_significant"
    """With the first of them."""
    ALL_SIGNIFICANT = "all_significant"
    """With the last of them."""


class ChildType(enum.Enum):
    """What a child is; decides about defaults and is counted."""

    WORKER = "worker"
    """A task that works."""
    SUPERVISOR = "supervisor"
    """A supervisor; its defaults leave it all the time it needs to start and to stop its own children."""


class Ignore(Exception):  # noqa: N818 - a word to the supervisor, not an error
    """Raised by a child before `started`: it is not to run this time, and that is no failure.

    The supervisor goes on as if the child had started and ended for good.
    """


class Shutdown(Exception):  # noqa: N818 - a word to the supervisor, not an error
    """Raised by a child: it ends in an orderly way, and on purpose.

    Only a permanent child is restarted after it.

    Attributes:
        term: Anything that says more; appears in reports.
    """

    def __init__(self, term: object = None) -> None:
        super().__init__(*([] if term is None else [term]))
        self.term = term


class ExitKind(enum.Enum):
    """How a child ended."""

    NORMAL = "normal"
    """It returned."""
    SHUTDOWN = "shutdown"
    """It was asked to stop and did, or raised `Shutdown`, or is a supervisor that gave up."""
    KILLED = "killed"
    """It was to be killed at once, or its time to stop was over."""
    CRASH = "crash"
    """It raised anything else."""


class ExitReason(Data, gc=True, frozen=True, kw_only=True):
    """Why a child ended.

    Attributes:
        kind: How it ended.
        term: What `Shutdown` was given; None otherwise.
        error: What it raised; None if nothing.
    """

    kind: ExitKind
    term: object = None
    error: Exception | None = None

    @property
    def abnormal(self) -> bool:
        """Whether this is a crash or a kill."""
        return self.kind in {ExitKind.CRASH, ExitKind.KILLED}


NORMAL = ExitReason(kind=ExitKind.NORMAL)
SHUTDOWN = ExitReason(kind=ExitKind.SHUTDOWN)


def reason_of(error: Exception) -> ExitReason:
    """Say what an exception means as the end of a child.

    A nursery of the child's wraps whatever leaves it: a group says what its leaves say.
    """
    leaves = list(_leaves(error))
    if not all(isinstance(leaf, Shutdown | RestartLimitError) for leaf in leaves):
        return ExitReason(kind=ExitKind.CRASH, error=error)
    terms = (leaf.term for leaf in leaves if isinstance(leaf, Shutdown))
    return ExitReason(kind=ExitKind.SHUTDOWN, term=next(terms, None), error=error)


def is_ignored(error: BaseException | None) -> bool:
    """Whether what kept a child from starting is its wish not to run."""
    return isinstance(error, Exception) and all(isinstance(leaf, Ignore) for leaf in _leaves(error))


def is_crash(error: BaseException | None) -> TypeGuard[BaseException]:
    """Whether what kept a child from starting is more than a word to its supervisor."""
    if not isinstance(error, Exception):
        return error is not None
    return not all(isinstance(leaf, Ignore | Shutdown) for leaf in _leaves(error))


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for part in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaves(part)
    else:
        yield error


class ChildSpec(Data, gc=True, frozen=True, kw_only=True):
    """How a supervisor starts a child, when it restarts it, and how it stops it.

    Attributes:
        id: Names the child among its siblings; anything hashable. A `DynamicSupervisor` shows it in
            reports only.
        start: An async function. It is called with `args` and ``task_status``, a `ChildStatus`, calls
            ``task_status.started(value)`` once it is truly ready, and goes on for as long as the child
            lives. What it raises before that is a failed start; `Ignore` is none.
        args: What `start` is called with. Not kept for a temporary child once it runs.
        restart: When the child is started again.
        shutdown: Seconds that the child has to stop once it is asked to, by cancelling it; then it is
            killed. ``math.inf`` is as long as it takes; ``"brutal_kill"`` does not ask. None is 5 seconds
            for a worker and ``math.inf`` for a supervisor.
        type: Whether the child is a supervisor.
        significant: Whether the supervisor's `AutoShutdown` looks at this child. Not for permanent ones.
        start_timeout: Seconds that the child has to call ``started``, or its start has failed. None is 30
            seconds for a worker and ``math.inf`` for a supervisor.

    Raises:
        SpecError: A field cannot work as it is.
    """

    id: Hashable
    start: Callable[..., Awaitable[object]]
    args: tuple[object, ...] = ()
    restart: Restart = Restart.PERMANENT
    shutdown: float | Literal["brutal_kill"] | None = None
    type: ChildType = ChildType.WORKER
    significant: bool = False
    start_timeout: float | None = None

    # A child's arguments may hold what belongs to the user, such as a prompt.
    _private = frozenset({"args"})

    def __post_init__(self) -> None:
        _check(_is_hashable(self.id), "ChildSpec.id", "invalid_id", "must be hashable")
        _check(callable(self.start), "ChildSpec.start", "invalid_start", "must be an async function")
        _check_type(self.args, tuple, "ChildSpec.args", "invalid_args")
        _check_type(self.restart, Restart, "ChildSpec.restart", "invalid_restart_type")
        _check_type(self.type, ChildType, "ChildSpec.type", "invalid_child_type")
        _check_type(self.significant, bool, "ChildSpec.significant", "invalid_significant")
        _check(
            self.shutdown is None or self.shutdown == "brutal_kill" or _is_seconds(self.shutdown),
            "ChildSpec.shutdown",
            "invalid_shutdown",
            "must be seconds (0 or more, or math.inf), 'brutal_kill' or None",
        )
        _check(
            self.start_timeout is None or _is_seconds(self.start_timeout),
            "ChildSpec.start_timeout",
            "invalid_start_timeout",
            "must be seconds (0 or more, or math.inf) or None",
        )
        _check(
            not (self.significant and self.restart is Restart.PERMANENT),
            "ChildSpec.significant",
            "bad_combination",
            "a permanent child never ends for good: make it transient or temporary, or not significant",
        )

    @property
    def stop_seconds(self) -> float:
        """Seconds between asking and killing; 0 for a brutal kill."""
        if self.shutdown is None:
            return 5.0 if self.type is ChildType.WORKER else math.inf
        return 0.0 if self.shutdown == "brutal_kill" else self.shutdown

    @property
    def start_seconds(self) -> float:
        """Seconds that a start may take."""
        if self.start_timeout is None:
            return 30.0 if self.type is ChildType.WORKER else math.inf
        return self.start_timeout


def check_child_specs(specs: Iterable[ChildSpec], auto_shutdown: AutoShutdown = AutoShutdown.NEVER) -> None:
    """Check that these specs can be the children of one supervisor.

    Args:
        specs: The children, in start order.
        auto_shutdown: What the supervisor's flags say.

    Raises:
        SpecError: They cannot: an id is there twice, or a child is significant to no one.
    """
    seen = set[Hashable]()
    for spec in specs:
        _check_type(spec, ChildSpec, "children", "invalid_child_spec")
        _check(spec.id not in seen, "ChildSpec.id", "duplicate_child_name", f"{spec.id!r} is there twice")
        seen.add(spec.id)
        _check(
            not spec.significant or auto_shutdown is not AutoShutdown.NEVER,
            "ChildSpec.significant",
            "bad_combination",
            f"{spec.id!r} is significant, but the supervisor's auto_shutdown is NEVER",
        )


class Backoff(Data, frozen=True, kw_only=True):
    """How long a supervisor waits before it restarts: longer with every restart that the budget remembers.

    Siblings that go down with the child do so before the wait.

    Attributes:
        first_seconds: The wait before the first restart; each further one waits twice as long.
        longest_seconds: No wait is longer.
        jitter: The part of each wait, from 0 to 1, that is left to chance, so that what fell together
            does not come back together.

    Raises:
        SpecError: A field cannot work as it is.
    """

    first_seconds: float = 0.1
    longest_seconds: float = 5.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        for name in ("first_seconds", "longest_seconds"):
            value: float = getattr(self, name)
            finite = _is_seconds(value) and value < math.inf
            _check(finite, f"Backoff.{name}", "invalid_backoff", "must be finite seconds, 0 or more")
        _check(
            _is_seconds(self.jitter) and self.jitter <= 1,
            "Backoff.jitter",
            "invalid_backoff",
            "must be between 0 and 1",
        )

    def delay(self, restarts: int, luck: float) -> float:
        """Say how long to wait.

        Args:
            restarts: How many restarts the budget remembers.
            luck: From 0 to 1; 1 waits the whole time.

        Returns:
            Seconds.
        """
        # The exponent is capped: 2.0 ** 1024 is an OverflowError, and nobody waits that long.
        whole = min(self.first_seconds * 2.0 ** min(restarts, 64), self.longest_seconds)
        return whole * (1 - self.jitter * (1 - luck))


class SupervisorFlags(Data, frozen=True, kw_only=True):
    """How a supervisor treats its children as a whole.

    Attributes:
        strategy: Who is restarted together.
        max_restarts: Restarts that the supervisor allows within `max_seconds`; the next one ends it.
        max_seconds: How long a restart counts.
        auto_shutdown: Whether it shuts down by itself when significant children have ended.
        backoff: How long it waits before a restart; None, like OTP, does not wait at all.

    Raises:
        SpecError: A field cannot work as it is.
    """

    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        _check_type(self.strategy, Strategy, "strategy", "invalid_strategy")
        _check_type(self.auto_shutdown, AutoShutdown, "auto_shutdown", "invalid_auto_shutdown")
        _check_type(self.backoff, Backoff | None, "backoff", "invalid_backoff")
        _check(_is_count(self.max_restarts), "max_restarts", "invalid_intensity", "must be 0 or more")
        _check(
            _is_seconds(self.max_seconds) and 0 < self.max_seconds < math.inf,
            "max_seconds",
            "invalid_period",
            "must be finite seconds, more than 0",
        )


def check_max_children(max_children: float) -> None:
    """Check the limit of a dynamic supervisor; raises `SpecError`."""
    _check(
        max_children == math.inf or _is_count(max_children),
        "max_children",
        "invalid_max_children",
        "must be 0 or more, or math.inf",
    )


def _check(fine: bool, field: str, kind: str, problem: str) -> None:  # noqa: FBT001 - reads as `assert` does
    if not fine:
        raise SpecError(field, problem, kind)


def _check_type(value: object, of: type | UnionType, field: str, kind: str) -> None:
    name = getattr(of, "__name__", of)
    _check(isinstance(value, of), field, kind, f"must be a {name}, not {type(value).__name__}")


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_seconds(value: object) -> bool:
    # Not a number is neither less than 0 nor more.
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def must_restart(restart: Restart, reason: ExitReason) -> bool:
    """Whether a child that ended by itself is to be started again."""
    match restart:
        case Restart.PERMANENT:
            return True
        case Restart.TRANSIENT:
            return reason.abnormal
        case Restart.TEMPORARY:
            return False
        case _:
            assert_never(restart)


def is_reported(restart: Restart, reason: ExitReason) -> bool:
    """Whether the end of a child that ended by itself is worth a report."""
    return restart is Restart.PERMANENT or reason.abnormal


def is_expected(spec: ChildSpec, reason: ExitReason) -> bool:
    """Whether a child that was asked to stop ended as it should."""
    asked_to = ExitKind.KILLED if spec.shutdown == "brutal_kill" else ExitKind.SHUTDOWN
    if reason.kind is asked_to and reason.term is None:
        return True
    return spec.restart is not Restart.PERMANENT and not reason.abnormal


def shuts_down(auto_shutdown: AutoShutdown, ended: ChildSpec, others: Iterable[ChildSpec]) -> bool:
    """Whether the end for good of a child is the end of its supervisor.

    Args:
        auto_shutdown: What the supervisor's flags say.
        ended: The child; it ended by itself and is not restarted.
        others: Those that live or are being restarted.
    """
    match auto_shutdown:
        case AutoShutdown.NEVER:
            return False
        case AutoShutdown.ANY_SIGNIFICANT:
            return ended.significant
        case AutoShutdown.ALL_SIGNIFICANT:
            return ended.significant and not any(other.significant for other in others)
        case _:
            assert_never(auto_shutdown)


def taken_down(strategy: Strategy, order: Iterable[Hashable], ended: Hashable) -> list[Hashable]:
    """Say which siblings go down with a child that is restarted.

    They are stopped in reverse; then those of them that are not temporary are started in order, the
    child in its own place among them. If one of these starts fails, it is the failed child that is to be
    restarted next, by the same rule: so ``ONE_FOR_ALL`` tears all down again, and ``REST_FOR_ONE`` leaves
    alone what came up before it.

    >>> taken_down(Strategy.REST_FOR_ONE, ["db", "cache", "web"], ended="cache")
    ['web']

    Args:
        strategy: What the supervisor's flags say.
        order: All children, in start order.
        ended: The child.

    Returns:
        The siblings, in start order.
    """
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return []
        case Strategy.ONE_FOR_ALL:
            return [child for child in order if child != ended]
        case Strategy.REST_FOR_ONE:
            children = list(order)
            return children[children.index(ended) + 1 :]
        case _:
            assert_never(strategy)


class RestartWindow:
    """The restarts that still count: a supervisor's budget, which nothing but time renews.

    Args:
        max_restarts: How many the budget has room for.
        max_seconds: How long a restart counts, the last instant included.
    """

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._max_restarts = max_restarts
        # Whole nanoseconds: sums of floats drift, and the boundary is part of the promise.
        self._period_ns = round(max_seconds * _NS)
        self._restarts = deque[int]()

    def count(self, now: float) -> int:
        """How many restarts still count at `now`, in seconds on any clock that does not go back."""
        oldest = round(now * _NS) - self._period_ns
        while self._restarts and self._restarts[0] < oldest:
            self._restarts.popleft()
        return len(self._restarts)

    def allow(self, now: float) -> bool:
        """Count an attempt to restart; False is that the budget is used up."""
        self._restarts.append(round(now * _NS))
        return self.count(now) <= self._max_restarts
