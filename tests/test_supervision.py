"""What a supervisor decides, without a task: rules by their numbers in docs/explanation/supervision.md."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_actors import errors
from codex_actors._supervision import (
    NORMAL,
    SHUTDOWN,
    AutoShutdown,
    Backoff,
    ChildSpec,
    ChildType,
    ExitKind,
    ExitReason,
    Restart,
    RestartWindow,
    Shutdown,
    Strategy,
    SupervisorFlags,
    check_child_specs,
    check_max_children,
    is_expected,
    is_reported,
    must_restart,
    reason_of,
    shuts_down,
    taken_down,
)

PERMANENT, TRANSIENT, TEMPORARY = Restart
KILLED = ExitReason(kind=ExitKind.KILLED)
CRASH = ExitReason(kind=ExitKind.CRASH, error=ValueError())
WITH_TERM = ExitReason(kind=ExitKind.SHUTDOWN, term="term")
REASONS = (NORMAL, SHUTDOWN, WITH_TERM, KILLED, CRASH)


def spec(**fields):
    return ChildSpec(**{"id": "a", "start": print, **fields})


@pytest.mark.parametrize(
    ("restart", "restarted"),
    [(PERMANENT, REASONS), (TRANSIENT, (KILLED, CRASH)), (TEMPORARY, ())],
)
def test_r1_who_is_restarted_after_what(restart, restarted):
    assert tuple(reason for reason in REASONS if must_restart(restart, reason)) == restarted


@pytest.mark.parametrize(
    ("restart", "reported"),
    [(PERMANENT, REASONS), (TRANSIENT, (KILLED, CRASH)), (TEMPORARY, (KILLED, CRASH))],
)
def test_what_is_reported_when_a_child_ends_by_itself(restart, reported):
    assert tuple(reason for reason in REASONS if is_reported(restart, reason)) == reported


@pytest.mark.parametrize(
    ("restart", "shutdown", "expected"),
    [
        (PERMANENT, 5, (SHUTDOWN,)),
        (TRANSIENT, 5, (NORMAL, SHUTDOWN, WITH_TERM)),
        (TEMPORARY, math.inf, (NORMAL, SHUTDOWN, WITH_TERM)),
        (PERMANENT, "brutal_kill", (KILLED,)),
        (TRANSIENT, "brutal_kill", (NORMAL, SHUTDOWN, WITH_TERM, KILLED)),
    ],
)
def test_r43_which_ends_are_expected_of_a_child_that_is_stopped(restart, shutdown, expected):
    stopped = spec(restart=restart, shutdown=shutdown)
    assert tuple(reason for reason in REASONS if is_expected(stopped, reason)) == expected


LEAVES = st.sampled_from([Shutdown(), Shutdown("term"), errors.RestartLimitError("x", 3, 5), ValueError()])
GROUPS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: ExceptionGroup("g", parts)),
)


def leaves_of(error):
    return (
        [leaf for part in error.exceptions for leaf in leaves_of(part)]
        if hasattr(error, "exceptions")
        else [error]
    )


@given(GROUPS)
def test_a_group_means_what_its_leaves_mean(error):
    reason = reason_of(error)
    assert reason.error is error
    assert reason.abnormal is any(isinstance(leaf, ValueError) for leaf in leaves_of(error))
    assert reason.kind in {ExitKind.SHUTDOWN, ExitKind.CRASH}


def test_shutdown_says_why():
    assert reason_of(Shutdown("done")).term == "done"
    assert reason_of(Shutdown()).term is None
    assert str(Shutdown("done")) == "done"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, (5, 30)),
        ({"type": ChildType.SUPERVISOR}, (math.inf, math.inf)),
        ({"shutdown": 7}, (7, 30)),
        ({"shutdown": "brutal_kill"}, (0, 30)),
        ({"start_timeout": 9}, (5, 9)),
    ],
)
def test_a_child_has_as_long_as_its_spec_says(given, seconds):
    assert (spec(**given).stop_seconds, spec(**given).start_seconds) == seconds


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": {}}, "ChildSpec.id: must be hashable"),
        ({"start": 1}, "ChildSpec.start: must be an async function"),
        ({"args": "ab"}, "ChildSpec.args: must be a tuple, not str"),
        ({"restart": "never"}, "ChildSpec.restart: must be a Restart, not str"),
        ({"type": None}, "ChildSpec.type: must be a ChildType, not NoneType"),
        ({"significant": "yes"}, "ChildSpec.significant: must be a bool, not str"),
        *(
            ({"shutdown": wrong}, "ChildSpec.shutdown: must be seconds")
            for wrong in (-1, math.nan, True, "kill", ["kill"])
        ),
        *(({"start_timeout": wrong}, "ChildSpec.start_timeout: must be seconds") for wrong in (-1, "1")),
        ({"significant": True}, "ChildSpec.significant: a permanent child never ends for good"),
    ],
)
def test_a_wrong_spec_says_which_field_and_what_it_should_be(fields, message):
    with pytest.raises(errors.SpecError) as caught:
        spec(**fields)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("wrong", [-1, 1.5, math.nan, "8", None, True])
def test_a_wrong_number_of_children_is_refused(wrong):
    with pytest.raises(errors.SpecError):
        check_max_children(wrong)
    check_max_children(0)
    check_max_children(math.inf)


def test_specs_that_do_not_go_together_are_refused():
    check_child_specs([spec(id=n) for n in range(3)])
    check_child_specs([spec(restart=TRANSIENT, significant=True)], AutoShutdown.ANY_SIGNIFICANT)
    with pytest.raises(errors.SpecError, match="'a' is there twice"):
        check_child_specs([spec(), spec()])
    with pytest.raises(errors.SpecError, match="must be a ChildSpec, not dict"):
        check_child_specs([{}])  # type: ignore[list-item]
    with pytest.raises(errors.SpecError, match="'a' is significant, but"):
        check_child_specs([spec(restart=TRANSIENT, significant=True)])


def test_a_spec_does_not_show_what_its_child_is_called_with():
    assert "secret" not in repr(spec(args=("secret",)))


def significant(restart=TRANSIENT):
    return spec(restart=restart, significant=True)


def test_r50_when_a_supervisor_shuts_down_by_itself():
    never, any_, all_ = AutoShutdown
    plain = spec(restart=TRANSIENT)
    assert not shuts_down(never, plain, [])
    assert shuts_down(any_, significant(), [significant()])
    assert not shuts_down(any_, plain, [])
    assert shuts_down(all_, significant(), [plain])
    assert not shuts_down(all_, significant(), [plain, significant()])
    assert not shuts_down(all_, plain, [])


ORDERS = st.lists(st.integers(), unique=True, min_size=1, max_size=8)


@given(ORDERS, st.data(), st.sampled_from(Strategy))
def test_r30_to_r32_who_goes_down_with_whom(order, data, strategy):
    ended = data.draw(st.sampled_from(order))
    down = taken_down(strategy, order, ended)
    assert down == sorted(down, key=order.index)
    assert ended not in down
    later = {child for child in order if order.index(child) > order.index(ended)}
    expected = {
        Strategy.ONE_FOR_ONE: set(),
        Strategy.REST_FOR_ONE: later,
        Strategy.ONE_FOR_ALL: set(order) - {ended},
    }
    assert set(down) == expected[strategy]


def allows(times: list[float], max_restarts: int, max_seconds: float) -> list[bool]:
    """The obvious way: look at all that ever happened. Times are whole milliseconds."""
    answers = []
    for n, now in enumerate(times):
        recent = [t for t in times[: n + 1] if round((now - t) * 1_000) <= round(max_seconds * 1_000)]
        answers.append(len(recent) <= max_restarts)
    return answers


@given(
    st.lists(st.integers(0, 4_000), max_size=30),
    st.integers(0, 5),
    st.integers(1, 8_000),
    st.floats(0, 1e6),
)
def test_r20_to_r26_the_budget_is_what_the_last_seconds_have_left_of_it(gaps, max_restarts, period, origin):
    origin = round(origin, 3)
    times = [origin + ms / 1_000 for ms in itertools.accumulate(gaps)]
    window = RestartWindow(max_restarts, period / 1_000)
    assert [window.allow(now) for now in times] == allows(times, max_restarts, period / 1_000)


def test_the_window_says_how_many_restarts_count():
    window = RestartWindow(9, 5)
    assert [window.allow(now) for now in (1, 2, 3)] == [True] * 3
    assert [window.count(now) for now in (3, 6, 6.5, 7.5, 9)] == [3, 3, 2, 1, 0]


def test_waits_double_until_they_are_long_enough():
    backoff = Backoff(first_seconds=0.5, longest_seconds=3, jitter=0)
    assert [backoff.delay(n, 0.3) for n in range(4)] == [0.5, 1, 2, 3]
    assert backoff.delay(10**6, 1) == 3


@given(st.integers(0, 100), st.floats(0, 1), st.floats(0, 1))
def test_chance_shortens_a_wait_by_its_part_at_most(restarts, luck, jitter):
    whole = Backoff(jitter=0).delay(restarts, luck)
    assert whole * (1 - jitter) <= Backoff(jitter=jitter).delay(restarts, luck) + 1e-9 <= whole + 2e-9


@pytest.mark.parametrize(
    "wrong", [{"first_seconds": -1}, {"longest_seconds": math.inf}, {"jitter": 1.1}, {"jitter": "some"}]
)
def test_a_wrong_backoff_is_refused(wrong):
    with pytest.raises(errors.SpecError) as caught:
        Backoff(**wrong)
    assert caught.value.field == f"Backoff.{next(iter(wrong))}"


def test_flags_are_checked_and_frozen():
    flags = SupervisorFlags(backoff=Backoff())
    with pytest.raises(AttributeError):
        flags.max_restarts = 4  # type: ignore[misc]
    with pytest.raises(errors.SpecError):
        SupervisorFlags(max_restarts=-1)
