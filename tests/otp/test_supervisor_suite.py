"""OTP's own tests of its supervisor (supervisor_SUITE of OTP 25), on ours."""

import gc
import itertools
import math
import weakref
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors import errors
from codex_actors._child import Child
from codex_actors._host import ChildCounts
from codex_actors._supervision import (
    AutoShutdown,
    ChildSpec,
    ChildType,
    ExitKind,
    Restart,
    Shutdown,
    Strategy,
    check_child_specs,
)
from codex_actors._supervisor import Supervisor
from tests.otp.cases import case
from tests.otp.puppets import (
    EXITS,
    FAIL,
    IGNORE,
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Crash,
    Puppets,
    lasting,
    open_dynamic_supervisor,
    open_supervisor,
    pids,
    reported,
    running,
)

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT
ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE = Strategy
QUIET_EXITS = ("normal", "shutdown", "{shutdown,term}")


async def crash_until_it_gives_up(puppets: Puppets, child_id: str, times: int) -> None:
    for _ in range(times):
        await puppets.exit(child_id)


@case("OTP", "sup_start_normal")
async def test_a_supervisor_without_children_starts_and_exits_with_shutdown(autojump_clock, puppets):
    async with open_supervisor() as top:
        child = await top.start_child(Supervisor.child_spec("empty"))
        assert child.value.which_children() == []
        await top.terminate_child("empty")
    assert child.exit_reason.kind is ExitKind.SHUTDOWN


@case("OTP", "sup_start_ignore_init", deviates="a supervisor has no init: a child that raises Ignore")
async def test_a_supervisor_that_ignores_is_no_failure(autojump_clock, puppets, logs):
    async def init(*, task_status):
        raise IGNORE

    async with open_supervisor() as top:
        assert await top.start_child(ChildSpec(id="sup", start=init, type=ChildType.SUPERVISOR)) is None
    assert reported(logs) == []


@case("OTP", "sup_start_ignore_child")
async def test_a_permanent_child_that_ignores_keeps_its_spec(autojump_clock, puppets):
    puppets.starts["a"] = [IGNORE]
    async with open_supervisor(puppets.specs("ab")) as top:
        assert pids(top)["a"] is None
        assert top.count_children() == ChildCounts(specs=2, active=1, supervisors=0, workers=2)


@case("OTP", "sup_start_ignore_temporary_child")
async def test_a_temporary_child_that_ignores_is_forgotten(autojump_clock, puppets):
    puppets.starts["a"] = [IGNORE]
    async with open_supervisor(puppets.specs("ab", TEMPORARY)) as top:
        assert list(pids(top)) == ["b"]


@case("OTP", "sup_start_ignore_temporary_child_start_child")
async def test_a_temporary_child_that_ignores_is_not_added(autojump_clock, puppets):
    puppets.starts["a"] = [IGNORE]
    async with open_supervisor() as top:
        assert await top.start_child(puppets.spec("a", TEMPORARY)) is None
        assert await top.start_child(puppets.spec("b", TEMPORARY))
        assert list(pids(top)) == ["b"]


@case("OTP", "sup_start_ignore_temporary_child_start_child_simple")
@case("OTP", "sup_start_ignore_permanent_child_start_child_simple")
@pytest.mark.parametrize("restart", [TEMPORARY, PERMANENT])
async def test_a_dynamic_child_that_ignores_is_not_kept(autojump_clock, puppets, restart, logs):
    puppets.starts["a"] = [IGNORE]
    async with open_dynamic_supervisor() as top:
        assert await top.start_child(puppets.spec("a", restart)) is None
        assert top.count_children().specs == 0
        assert await top.start_child(puppets.spec("b", restart))
        assert list(pids(top)) == ["b"]
    assert reported(logs) == []


@case("OTP", "sup_start_error_return", deviates="a supervisor has no init: wrong flags raise")
async def test_wrong_flags_and_specs_are_refused_before_any_child_runs(autojump_clock, puppets):
    with pytest.raises(errors.SpecError):
        async with open_supervisor(puppets.specs("ab"), max_restarts=-1):
            pass
    with pytest.raises(errors.SpecError):
        async with open_supervisor(puppets.specs("aba")):
            pass
    assert puppets.log == []


@case("OTP", "sup_start_fail")
async def test_what_a_supervisor_raises_in_its_start_reaches_its_starter_bare(autojump_clock, puppets):
    async def init(*, task_status):
        raise FAIL

    async with open_supervisor() as top:
        with pytest.raises(Crash) as caught:
            await top.start_child(ChildSpec(id="sup", start=init, type=ChildType.SUPERVISOR))
    assert caught.value is FAIL


@case("OTP", "sup_start_child_returns_error")
async def test_a_child_that_fails_to_start_is_not_kept_nor_reported_nor_counted(
    autojump_clock, puppets, logs
):
    puppets.starts["a"] = [FAIL]
    async with open_supervisor(max_restarts=0) as top:
        with pytest.raises(Crash, match="in start"):
            await top.start_child(puppets.spec("a"))
        assert top.which_children() == []
    assert reported(logs) == []


@case("OTP", "sup_start_restart_child_returns_error")
async def test_a_child_that_fails_in_restart_child_stays_down(autojump_clock, puppets, logs):
    puppets.starts["a"] = [None, FAIL]
    async with open_supervisor(puppets.specs("a"), max_restarts=0) as top:
        await top.terminate_child("a")
        with pytest.raises(Crash, match="in start"):
            await top.restart_child("a")
        assert pids(top) == {"a": None}
    assert reported(logs) == []


@case("OTP", "sup_start_child_returns_error_simple")
async def test_a_dynamic_child_that_fails_to_start_is_not_kept(autojump_clock, puppets, logs):
    puppets.starts["a"] = [FAIL]
    async with open_dynamic_supervisor(max_restarts=0) as top:
        with pytest.raises(Crash, match="in start"):
            await top.start_child(puppets.spec("a"))
        assert top.which_children() == []
    assert reported(logs) == []


@case("OTP", "sup_start_map")
async def test_a_spec_has_the_defaults_of_otp_and_can_be_asked_for(autojump_clock, puppets):
    worker = ChildSpec(id="worker", start=puppets.play, args=("worker", None))
    async with open_supervisor([worker, Supervisor.child_spec("sup")]) as top:
        spec = top.get_childspec("worker")
        assert (spec.restart, spec.stop_seconds, spec.type, spec.significant) == (
            *(PERMANENT, 5.0, ChildType.WORKER, False),
        )
        assert top.get_childspec("sup").stop_seconds == math.inf
        with pytest.raises(errors.ChildNotFoundError):
            top.get_childspec("stranger")


@case("OTP", "sup_start_map_simple")
async def test_a_dynamic_child_is_asked_for_by_its_life(autojump_clock, puppets):
    async with open_dynamic_supervisor() as top, open_dynamic_supervisor() as other:
        child = await top.start_child(puppets.spec("a"))
        assert top.get_childspec(child) == puppets.spec("a")
        with pytest.raises(errors.ChildNotFoundError):
            other.get_childspec(child)


@case("OTP", "sup_start_map_faulty_specs", deviates="a field that does not exist is refused, not ignored")
@pytest.mark.parametrize("fields", [{"id": "a"}, {"start": print}, {"id": "a", "start": print, "shutdwn": 1}])
def test_a_spec_lacks_nothing_and_has_nothing_unknown(fields):
    with pytest.raises(TypeError):
        ChildSpec(**fields)


@case("OTP", "sup_stop_infinity")
async def test_a_worker_too_may_have_all_the_time_it_needs(autojump_clock, puppets):
    specs = [puppets.spec("a", shutdown=math.inf, on_stop=3_600), Supervisor.child_spec("sup")]
    async with open_supervisor(specs) as top:
        children = [pids(top)[child_id] for child_id in ("a", "sup")]
        before = trio.current_time()
    assert trio.current_time() == before + 3_600
    assert {child.exit_reason.kind for child in children} == {ExitKind.SHUTDOWN}


@case("OTP", "sup_stop_timeout")
async def test_a_child_that_does_not_stop_in_time_is_killed(autojump_clock, puppets, logs):
    specs = [puppets.spec("a"), puppets.spec("b", on_stop="deaf", shutdown=1)]
    async with open_supervisor(specs) as top:
        a, b = pids(top).values()
        before = trio.current_time()
    assert trio.current_time() == before + 1
    assert (a.exit_reason.kind, b.exit_reason.kind) == (ExitKind.SHUTDOWN, ExitKind.KILLED)
    assert reported(logs) == [("shutdown_error", "b", "killed")]


@case("OTP", "sup_stop_timeout_dynamic")
async def test_a_dynamic_child_that_does_not_stop_in_time_is_killed(autojump_clock, puppets, logs):
    async with open_dynamic_supervisor() as top:
        a = await top.start_child(puppets.spec("a"))
        b = await top.start_child(puppets.spec("b", on_stop="deaf", shutdown=1))
        c = await top.start_child(puppets.spec("c", on_stop="deaf", shutdown=2))
        before = trio.current_time()
    assert trio.current_time() == before + 2
    assert [child.exit_reason.kind.value for child in (a, b, c)] == ["shutdown", "killed", "killed"]
    assert reported(logs) == [("shutdown_error", "b", "killed"), ("shutdown_error", "c", "killed")]


@case("OTP", "sup_stop_brutal_kill")
async def test_a_brutal_kill_asks_nobody(autojump_clock, puppets, logs):
    specs = [puppets.spec("a"), puppets.spec("b", on_stop=60, shutdown="brutal_kill")]
    async with open_supervisor(specs) as top:
        a, b = pids(top).values()
        before = trio.current_time()
    assert trio.current_time() == before
    assert (a.exit_reason.kind, b.exit_reason.kind) == (ExitKind.SHUTDOWN, ExitKind.KILLED)
    assert reported(logs) == []


@case("OTP", "sup_stop_brutal_kill_dynamic")
async def test_dynamic_children_can_be_killed_brutally(autojump_clock, puppets, logs):
    async with open_dynamic_supervisor() as top:
        children = [
            await top.start_child(puppets.spec(n, on_stop=60, shutdown="brutal_kill")) for n in range(10)
        ]
        before = trio.current_time()
    assert trio.current_time() == before
    assert {child.exit_reason.kind for child in children} == {ExitKind.KILLED}
    assert reported(logs) == []


ALL_ENDS = [(r, how) for r in (PERMANENT, TRANSIENT, TEMPORARY) for how in EXITS]


@case("OTP", "sup_stop_race")
@case("OTP", "sup_stop_non_shutdown_exit_dynamic")
@pytest.mark.parametrize("dynamic", [False, True])
async def test_children_that_end_by_themselves_while_they_are_stopped_keep_their_reasons(
    autojump_clock, puppets, dynamic, logs
):
    expected = []
    async with open_dynamic_supervisor() if dynamic else open_supervisor() as top:
        children = []
        for n, (restart, how) in enumerate(ALL_ENDS):
            children.append(await top.start_child(puppets.spec(n, restart, on_stop=EXITS[how] or "return")))
            reason = {"{shutdown,term}": "shutdown: 'term'", "crash": "crash: Crash"}.get(how, how)
            if how == "crash" or (restart is PERMANENT and how != "shutdown"):
                expected.append(("shutdown_error", str(n), reason))
    assert [child.exit_reason.kind.value for child in children] == [
        *("normal", "shutdown", "shutdown", "crash")
    ] * 3
    assert sorted(reported(logs)) == sorted(expected)


@case("OTP", "child_adm")
@case("EXP", "count_children/1 noproc")
async def test_the_calls_that_administer_children_and_all_their_errors(autojump_clock, puppets):
    async with open_supervisor() as top:
        assert (top.which_children(), top.count_children().specs) == ([], 0)
        child = await top.start_child(puppets.spec("a"))
        assert child.value is puppets.live["a"]
        with pytest.raises(errors.AlreadyStartedError) as started:
            await top.start_child(puppets.spec("a"))
        assert started.value.child is child
        with pytest.raises(errors.ChildRunningError):
            await top.delete_child("a")
        with pytest.raises(errors.ChildRunningError):
            await top.restart_child("a")
        await top.terminate_child("a")
        await top.terminate_child("a")
        assert pids(top) == {"a": None}
        with pytest.raises(errors.AlreadyPresentError):
            await top.start_child(puppets.spec("a"))
        again = await top.restart_child("a")
        assert again is not child
        assert pids(top) == {"a": again}
        with pytest.raises(errors.ChildNotFoundError):
            await top.terminate_child(again)  # OTP finds no static child by its pid either
        await top.terminate_child("a")
        await top.delete_child("a")
        for call in (top.delete_child, top.restart_child, top.terminate_child):
            with pytest.raises(errors.ChildNotFoundError) as missing:
                await call("a")
            assert missing.value.child_id == "a"
    for call in (top.delete_child, top.restart_child, top.terminate_child):
        with pytest.raises(errors.NoSupervisorError):
            await call("a")
    with pytest.raises(errors.NoSupervisorError):
        await top.start_child(puppets.spec("a"))
    for look in (top.which_children, top.count_children):
        with pytest.raises(errors.NoSupervisorError):
            look()


@case(
    "OTP", "child_adm_simple", deviates="there is no restart_child or delete_child; a dead child is not found"
)
async def test_a_dynamic_child_is_administered_by_its_life(autojump_clock, puppets):
    async with open_dynamic_supervisor() as top:
        child = await top.start_child(puppets.spec("a", TEMPORARY))
        assert top.which_children()[0].child is child
        with pytest.raises(errors.ChildNotFoundError):
            await top.terminate_child("a")
        await top.terminate_child(child)
        with pytest.raises(errors.ChildNotFoundError):
            await top.terminate_child(child)
        assert not hasattr(top, "restart_child")
        assert not hasattr(top, "delete_child")
    with pytest.raises(errors.NoSupervisorError):
        await top.terminate_child(child)


@case("OTP", "extra_return")
async def test_what_a_child_says_with_started_comes_back_from_every_kind_of_start(autojump_clock, puppets):
    async with open_supervisor(puppets.specs("a")) as top:
        values = [pids(top)["a"].value]
        await top.terminate_child("a")
        values.append((await top.restart_child("a")).value)
        await puppets.exit("a")
        values.append(pids(top)["a"].value)
        assert values[-1] is puppets.live["a"]
    assert len(set(values)) == 3


WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "invalid_id": {"id": []},
    "invalid_start": {"start": "not a function"},
    "invalid_args": {"args": ["a list"]},
    "invalid_restart_type": {"restart": "permanent"},
    "invalid_shutdown": {"shutdown": -1},
    "invalid_child_type": {"type": "worker"},
    "invalid_significant": {"significant": 1},
    "bad_combination": {"significant": True},
    "invalid_start_timeout": {"start_timeout": "soon"},
}


@case("OTP", "child_specs", deviates="specs are structs: there is no tuple form and no field `modules`")
@case("OTP", "child_specs_map")
@pytest.mark.parametrize("kind", WRONG_FIELDS)
def test_each_wrong_field_has_its_own_error(kind):
    right: dict[str, Any] = {"id": "a", "start": print}
    with pytest.raises(errors.SpecError) as caught:
        ChildSpec(**right | WRONG_FIELDS[kind])
    assert caught.value.kind == kind


@case("OTP", "child_specs_map")
def test_every_combination_of_valid_fields_is_valid():
    shutdown: Any
    for restart, shutdown, kind, significant, auto in itertools.product(
        Restart, (None, 0, 7.5, math.inf, "brutal_kill"), ChildType, (False, True), AutoShutdown
    ):
        if significant and restart is PERMANENT:
            continue
        spec = ChildSpec(
            id=1,
            start=trio.sleep_forever,
            restart=restart,
            shutdown=shutdown,
            type=kind,
            significant=significant,
        )
        if significant and auto is AutoShutdown.NEVER:
            with pytest.raises(errors.SpecError, match="auto_shutdown is NEVER"):
                check_child_specs([spec], auto)
        else:
            check_child_specs([spec], auto)


@case("OTP", "child_specs_map")
async def test_a_significant_child_is_refused_where_nobody_looks_at_it(autojump_clock, puppets):
    async with open_supervisor() as top:
        with pytest.raises(errors.SpecError):
            await top.start_child(puppets.spec("a", TRANSIENT, significant=True))
    assert puppets.log == []


@case("OTP", "sup_flags", deviates="a flag that does not exist is refused, not ignored")
@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"strategy": "one_for_one"}, "invalid_strategy"),
        ({"max_restarts": -1}, "invalid_intensity"),
        ({"max_restarts": 1.5}, "invalid_intensity"),
        ({"max_restarts": True}, "invalid_intensity"),
        ({"max_seconds": 0}, "invalid_period"),
        ({"max_seconds": math.nan}, "invalid_period"),
        ({"max_seconds": math.inf}, "invalid_period"),
        ({"auto_shutdown": "never"}, "invalid_auto_shutdown"),
        ({"backoff": 1.0}, "invalid_backoff"),
    ],
)
async def test_each_wrong_flag_has_its_own_error(flags, kind):
    with pytest.raises(errors.SpecError) as caught:
        async with open_supervisor(**flags):
            pass
    assert caught.value.kind == kind
    with pytest.raises(TypeError):
        async with open_supervisor(intensity=3):
            pass


@case("OTP", "multiple_restarts")
async def test_one_restart_in_each_period_is_never_too_many(autojump_clock, puppets):
    async with open_supervisor(puppets.specs("a"), max_restarts=1, max_seconds=1) as top:
        for _ in range(3):
            await puppets.exit("a")
            await trio.sleep(1.1)
        assert running(top) == ["a"]


@case("OTP", "one_for_one")
async def test_one_for_one_replaces_only_the_child_that_crashed(autojump_clock, puppets, logs):
    with pytest.raises(errors.RestartLimitError) as caught:
        async with open_supervisor(puppets.specs("ab"), max_restarts=2) as top:
            before = pids(top)
            await puppets.exit("a")
            assert pids(top)["a"] is not before["a"]
            assert pids(top)["b"] is before["b"]
            await crash_until_it_gives_up(puppets, "a", 2)
    assert isinstance(caught.value.__cause__, Crash)
    assert puppets.log == ["+a", "+b", "-a", "+a", "-a", "+a", "-a", "-b"]
    terminated = ("child_terminated", "a", "crash: Crash")
    assert reported(logs) == [*[terminated] * 3, ("shutdown", "a", "reached_max_restart_intensity")]


@case("OTP", "one_for_one_escalation")
async def test_a_restart_that_always_fails_ends_the_supervisor(autojump_clock, puppets, logs):
    puppets.starts["a"] = [None, FAIL]
    with pytest.raises(errors.RestartLimitError) as caught:
        async with open_supervisor(puppets.specs("ab"), max_restarts=4):
            await puppets.exit("a")
    assert caught.value.__cause__ is FAIL
    assert puppets.log == ["+a", "+b", "-a", *["+a"] * 4, "-b"]
    assert [entry[0] for entry in reported(logs)] == ["child_terminated", *["start_error"] * 4, "shutdown"]


@case("OTP", "one_for_all")
async def test_one_for_all_replaces_all_and_counts_once(autojump_clock, puppets):
    with pytest.raises(errors.RestartLimitError):
        async with open_supervisor(puppets.specs("abc"), strategy=ONE_FOR_ALL, max_restarts=2):
            puppets.clear()
            await puppets.exit("b")
            assert puppets.log == ["-b", "-c", "-a", "+a", "+b", "+c"]
            await puppets.exit("a")
            puppets.clear()
            await puppets.exit("b")
    assert puppets.log == ["-b", "-c", "-a"]


@case("OTP", "one_for_all_escalation")
async def test_one_for_all_gives_up_when_a_sibling_cannot_be_restarted(autojump_clock, puppets):
    puppets.starts["b"] = [None, FAIL]
    with pytest.raises(errors.RestartLimitError) as caught:
        async with open_supervisor(puppets.specs("ab"), strategy=ONE_FOR_ALL, max_restarts=4):
            await puppets.exit("a")
    assert caught.value.child_id == "b"
    assert puppets.log == ["+a", "+b", "-a", "-b", *["+a", "+b", "-a"] * 4]


@case("OTP", "one_for_all_other_child_fails_restart")
async def test_one_for_all_tears_down_again_what_it_had_restarted_before_the_failure(autojump_clock, puppets):
    puppets.starts["b"] = [None, FAIL, None]
    async with open_supervisor(puppets.specs("ab"), strategy=ONE_FOR_ALL) as top:
        puppets.clear()
        await puppets.exit("a")
        assert puppets.log == ["-a", "-b", "+a", "+b", "-a", "+a", "+b"]
        assert running(top) == ["a", "b"]


@case("OTP", "simple_one_for_one")
async def test_a_dynamic_supervisor_replaces_only_the_child_that_crashed(autojump_clock, puppets):
    with pytest.raises(errors.RestartLimitError):
        async with open_dynamic_supervisor(max_restarts=2) as top:
            a, b = [await top.start_child(puppets.spec(child_id)) for child_id in "ab"]
            await puppets.exit("a")
            assert pids(top)["a"] is not a
            assert pids(top)["b"] is b
            await crash_until_it_gives_up(puppets, "a", 2)
    assert (a.exit_reason.kind, b.exit_reason.kind) == (ExitKind.CRASH, ExitKind.SHUTDOWN)


@case("OTP", "simple_one_for_one_shutdown")
async def test_dynamic_children_stop_at_the_same_time(autojump_clock, puppets):
    async with open_dynamic_supervisor() as top:
        for n in range(4):
            await top.start_child(puppets.spec(n, on_stop=2))
        before = trio.current_time()
    assert trio.current_time() == before + 2


@case("OTP", "simple_one_for_one_extra")
async def test_what_a_dynamic_child_says_with_started_comes_back(autojump_clock, puppets):
    async with open_dynamic_supervisor() as top:
        first = (await top.start_child(puppets.spec("a"))).value
        assert first is puppets.live["a"]
        await puppets.exit("a")
        assert pids(top)["a"].value is puppets.live["a"] is not first


@case("OTP", "simple_one_for_one_escalation")
async def test_a_dynamic_restart_that_always_fails_ends_the_supervisor(autojump_clock, puppets):
    puppets.starts["a"] = [None, FAIL]
    with pytest.raises(errors.RestartLimitError):
        async with open_dynamic_supervisor(max_restarts=4) as top:
            for child_id in "ab":
                await top.start_child(puppets.spec(child_id))
            await puppets.exit("a")
    assert puppets.log == ["+a", "+b", "-a", *["+a"] * 4, "-b"]


class Payload:
    """Something that can be watched being let go of."""


async def forgetful(payload, *, task_status):
    task_status.started(crashing := trio.Event())
    del payload
    await crashing.wait()
    raise Crash


@case("OTP", "simple_one_for_one_corruption")
@case("OTP", "do_not_save_start_parameters_for_temporary_children")
@pytest.mark.parametrize("dynamic", [False, True])
async def test_what_a_temporary_child_was_started_with_is_not_kept(autojump_clock, puppets, dynamic):
    async with open_dynamic_supervisor() if dynamic else open_supervisor() as top:

        async def start(child_id: int, restart: Restart) -> tuple[Any, weakref.ref[Payload]]:
            payload = Payload()
            spec = ChildSpec(id=child_id, start=forgetful, args=(payload,), restart=restart)
            return await top.start_child(spec), weakref.ref(payload)

        first, payload = await start(1, TEMPORARY)
        gc.collect()
        assert payload() is None
        first.value.set()
        await wait_all_tasks_blocked()
        _, after_a_crash = await start(2, TEMPORARY)
        _, kept = await start(3, TRANSIENT)
        gc.collect()
        assert after_a_crash() is None
        assert kept() is not None


@case("OTP", "rest_for_one")
async def test_rest_for_one_replaces_the_child_and_those_after_it(autojump_clock, puppets):
    with pytest.raises(errors.RestartLimitError):
        async with open_supervisor(puppets.specs("abcd"), strategy=REST_FOR_ONE, max_restarts=2) as top:
            before = pids(top)
            puppets.clear()
            await puppets.exit("b")
            assert puppets.log == ["-b", "-d", "-c", "+b", "+c", "+d"]
            assert pids(top)["a"] is before["a"]
            await puppets.exit("d")
            puppets.clear()
            await puppets.exit("b")
    assert puppets.log == ["-b", "-d", "-c", "-a"]


@case("OTP", "rest_for_one_escalation")
async def test_rest_for_one_gives_up_when_a_later_child_cannot_be_restarted(autojump_clock, puppets):
    puppets.starts["b"] = [None, FAIL]
    with pytest.raises(errors.RestartLimitError):
        async with open_supervisor(puppets.specs("ab"), strategy=REST_FOR_ONE, max_restarts=4):
            await puppets.exit("a")
    assert puppets.log == ["+a", "+b", "-a", "-b", "+a", *["+b"] * 4, "-a"]


@case("OTP", "rest_for_one_other_child_fails_restart")
async def test_rest_for_one_tries_again_from_the_child_that_failed(autojump_clock, puppets):
    puppets.starts["b"] = [None, FAIL, None]
    async with open_supervisor(puppets.specs("abc"), strategy=REST_FOR_ONE) as top:
        puppets.clear()
        await puppets.exit("a")
        assert puppets.log == ["-a", "-c", "-b", "+a", "+b", "+b", "+c"]
        assert running(top) == ["a", "b", "c"]


@case("OTP", "permanent_normal")
@case("OTP", "permanent_shutdown")
@case("OTP", "permanent_abnormal")
@pytest.mark.parametrize("how", EXITS)
async def test_a_permanent_child_is_always_restarted(autojump_clock, puppets, how, logs):
    async with open_supervisor([puppets.spec("a", PERMANENT)]) as top:
        first = pids(top)["a"]
        await puppets.exit("a", how)
        assert isinstance(pids(top)["a"], Child)
        assert pids(top)["a"] is not first
    assert [entry[0] for entry in reported(logs)] == ["child_terminated"]


@case("OTP", "transient_normal")
@case("OTP", "transient_shutdown")
@pytest.mark.parametrize("how", QUIET_EXITS)
async def test_a_transient_child_that_ends_normally_stays_down_and_keeps_its_spec(
    autojump_clock, puppets, how, logs
):
    async with open_supervisor([puppets.spec("a", TRANSIENT)]) as top:
        await puppets.exit("a", how)
        assert pids(top) == {"a": None}
    assert reported(logs) == []


@case("OTP", "transient_abnormal")
async def test_a_transient_child_that_crashes_is_restarted(autojump_clock, puppets, logs):
    async with open_supervisor([puppets.spec("a", TRANSIENT)]) as top:
        await puppets.exit("a")
        assert running(top) == ["a"]
    assert reported(logs) == [("child_terminated", "a", "crash: Crash")]


@case("OTP", "temporary_normal")
@case("OTP", "temporary_shutdown")
@case("OTP", "temporary_abnormal")
@pytest.mark.parametrize("how", EXITS)
async def test_a_temporary_child_is_forgotten_and_its_id_is_free(autojump_clock, puppets, how, logs):
    async with open_supervisor([puppets.spec("a", TEMPORARY)], max_restarts=0) as top:
        await puppets.exit("a", how)
        assert pids(top) == {}
        assert await top.start_child(puppets.spec("a", TEMPORARY))
    expected = [("child_terminated", "a", "crash: Crash")] if how == "crash" else []
    assert reported(logs) == expected


@case("OTP", "faulty_application_shutdown")
async def test_a_start_that_fails_deep_in_the_tree_is_told_with_its_causes(autojump_clock, puppets, logs):
    puppets.starts["leaf"] = [FAIL]
    inner = Supervisor.child_spec("inner", puppets.specs(["first", "second", "leaf"]))
    with pytest.raises(errors.ChildStartError) as caught:
        async with open_supervisor([puppets.spec("top"), Supervisor.child_spec("middle", [inner])]):
            pass
    chain: list[Any] = [caught.value]
    while chain[-1].__cause__:
        chain.append(chain[-1].__cause__)
    assert [exc.child_id for exc in chain[:-1]] == ["middle", "inner", "leaf"]
    assert chain[-1] is FAIL
    assert puppets.log == ["+top", "+first", "+second", "+leaf", "-second", "-first", "-top"]
    assert reported(logs) == [
        ("start_error", "leaf", "Crash"),
        ("start_error", "inner", "ChildStartError"),
        ("start_error", "middle", "ChildStartError"),
    ]


@case("OTP", "child_unlink", deviates="nothing can be unlinked: a child that does not listen instead")
async def test_a_child_that_does_not_listen_delays_a_call_by_its_own_time_at_most(autojump_clock, puppets):
    specs = [puppets.spec("a", on_stop="deaf", shutdown=3), puppets.spec("b")]
    async with open_supervisor(specs) as top:
        before = trio.current_time()
        await top.terminate_child("a")
        assert trio.current_time() == before + 3
        assert pids(top)["a"] is None


@case("OTP", "tree")
async def test_in_a_tree_only_the_branch_that_fails_restarts(autojump_clock, puppets):
    inner = Supervisor.child_spec(
        "inner", [puppets.spec("b"), puppets.spec("c")], strategy=ONE_FOR_ALL, max_restarts=1
    )
    done = Supervisor.child_spec("done", [puppets.spec("d")], restart=TRANSIENT)
    async with open_supervisor([puppets.spec("a"), inner, done], strategy=ONE_FOR_ALL) as top:
        dynamic = await pids(top)["inner"].value.start_child(puppets.spec("dynamic"))
        a = pids(top)["a"]
        await puppets.exit("b")
        assert pids(top)["a"] is a
        assert running(pids(top)["inner"].value) == ["b", "c", "dynamic"]
        await top.terminate_child("done")
        assert pids(top)["done"] is None
        await puppets.exit("b")
        # Now the inner one has given up: all start anew, from their specs, also what had been stopped.
        assert pids(top)["a"] is not a
        assert running(pids(top)["inner"].value) == ["b", "c"]
        assert running(pids(top)["done"].value) == ["d"]
        assert dynamic.exit_reason


@case("OTP", "nonsignificant_temporary")
@case("OTP", "nonsignificant_transient")
@pytest.mark.parametrize("auto_shutdown", AutoShutdown)
@pytest.mark.parametrize(
    ("restart", "how"),
    [*((TEMPORARY, how) for how in EXITS), *((TRANSIENT, how) for how in QUIET_EXITS)],
)
async def test_a_child_that_is_not_significant_ends_no_supervisor(
    autojump_clock, puppets, auto_shutdown, restart, how
):
    async with lasting(open_supervisor([puppets.spec("a", restart)], auto_shutdown=auto_shutdown)) as top:
        await puppets.exit("a", how)
        assert top.count_children().active == 0
        assert puppets.log == ["+a", "-a"]


def significant(puppets: Puppets, ids: str, restart: Restart) -> list[ChildSpec]:
    return [*puppets.specs(ids, restart, significant=True), puppets.spec("other", PERMANENT)]


@case("OTP", "significant_temporary")
@case("OTP", "significant_transient")
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
@pytest.mark.parametrize(
    ("restart", "how"),
    [*((TEMPORARY, how) for how in EXITS), *((TRANSIENT, how) for how in QUIET_EXITS)],
)
async def test_the_end_for_good_of_significant_children_ends_the_supervisor(
    autojump_clock, puppets, auto_shutdown, restart, how
):
    async with open_supervisor(significant(puppets, "ab", restart), auto_shutdown=auto_shutdown) as top:
        await puppets.exit("a", how)
        if auto_shutdown is ANY:
            pytest.fail("the supervisor goes on")
        assert running(top) == ["b", "other"]
        await puppets.exit("b", how)
        pytest.fail("the supervisor goes on")
    ended = ["-a", "-other", "-b"] if auto_shutdown is ANY else ["-a", "-b", "-other"]
    assert puppets.log == ["+a", "+b", "+other", *ended]


@case("OTP", "significant_temporary")
@case("OTP", "significant_transient")
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
@pytest.mark.parametrize("restart", [TEMPORARY, TRANSIENT])
async def test_terminate_child_is_no_end_that_is_significant(autojump_clock, puppets, auto_shutdown, restart):
    async with lasting(
        open_supervisor(significant(puppets, "ab", restart), auto_shutdown=auto_shutdown)
    ) as top:
        await top.terminate_child("a")
        await top.terminate_child("b")
        await wait_all_tasks_blocked()
        assert running(top) == ["other"]


@case("OTP", "significant_transient")
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
async def test_a_significant_child_that_crashes_and_is_restarted_goes_on(
    autojump_clock, puppets, auto_shutdown
):
    async with lasting(
        open_supervisor(significant(puppets, "a", TRANSIENT), auto_shutdown=auto_shutdown)
    ) as top:
        await puppets.exit("a")
        assert running(top) == ["a", "other"]


@case("OTP", "significant_transient")
async def test_a_significant_child_that_is_being_restarted_counts_as_alive(autojump_clock, puppets):
    puppets.starts["a"] = [None, FAIL]
    specs = significant(puppets, "ab", TRANSIENT)
    async with lasting(open_supervisor(specs, auto_shutdown=ALL, max_restarts=10**9)) as top:
        puppets.live["a"].tell(Crash())
        await until(lambda: pids(top)["a"] == "restarting")
        puppets.live["b"].tell(None)
        await until(lambda: pids(top)["b"] is None)
        await checkpoints(20)
        assert running(top) == ["other"]


@case("OTP", "significant_simple")
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
async def test_a_dynamic_supervisor_too_ends_with_its_significant_children(
    autojump_clock, puppets, auto_shutdown
):
    async with open_dynamic_supervisor(auto_shutdown=auto_shutdown) as top:
        for child_id in "ab":
            await top.start_child(puppets.spec(child_id, TEMPORARY, significant=True))
        await puppets.exit("a")
        if auto_shutdown is ANY:
            pytest.fail("the supervisor goes on")
        await puppets.exit("b")
        pytest.fail("the supervisor goes on")
    assert sorted(puppets.log) == ["+a", "+b", "-a", "-b"]


@case("OTP", "significant_bystander")
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
@pytest.mark.parametrize("strategy", [ONE_FOR_ALL, REST_FOR_ONE])
@pytest.mark.parametrize("restart", [TEMPORARY, TRANSIENT])
async def test_a_significant_child_stopped_for_a_sibling_ends_no_supervisor(
    autojump_clock, puppets, auto_shutdown, strategy, restart
):
    specs = [puppets.spec("a"), puppets.spec("b", restart, significant=True, on_stop="return")]
    async with lasting(open_supervisor(specs, auto_shutdown=auto_shutdown, strategy=strategy)) as top:
        await puppets.exit("a")
        assert running(top) == (["a"] if restart is TEMPORARY else ["a", "b"])


@case("OTP", "significant_bystander")
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
async def test_under_one_for_one_nobody_is_a_bystander(autojump_clock, puppets, auto_shutdown):
    specs = [puppets.spec("a"), puppets.spec("b", TRANSIENT, significant=True)]
    async with lasting(open_supervisor(specs, auto_shutdown=auto_shutdown)) as top:
        await puppets.exit("a")
        assert running(top) == ["a", "b"]


@case("OTP", "significant_escalation")
@pytest.mark.parametrize("is_significant", [False, True])
async def test_a_significant_supervisor_that_shuts_down_takes_its_parent_with_it(
    autojump_clock, puppets, is_significant
):
    inner = Supervisor.child_spec(
        "inner",
        [puppets.spec("a", TRANSIENT, significant=True)],
        restart=TRANSIENT,
        significant=is_significant,
        auto_shutdown=ANY,
    )
    went_on = False
    async with open_supervisor([inner, puppets.spec("b")], auto_shutdown=ANY) as top:
        inner_life = pids(top)["inner"]
        await puppets.exit("a", "normal")
        went_on = True
    assert went_on is not is_significant
    assert inner_life.exit_reason.kind is ExitKind.SHUTDOWN


@case("OTP", "count_children", deviates="`specs` counts dynamic children, as in Elixir")
@case("OTP", "count_children_supervisor", deviates="`specs` counts dynamic children, as in Elixir")
@pytest.mark.parametrize("kind", ChildType)
async def test_dynamic_children_are_counted_by_type(autojump_clock, puppets, kind):
    supervisors = 300 if kind is ChildType.SUPERVISOR else 0
    async with open_dynamic_supervisor() as top:
        for n in range(300):
            await top.start_child(puppets.spec(n, TEMPORARY, type=kind))
        assert top.count_children() == ChildCounts(
            specs=300, active=300, supervisors=supervisors, workers=300 - supervisors
        )
        for n in range(300):
            puppets.live[n].tell(Crash())
        await wait_all_tasks_blocked()
        assert top.count_children() == ChildCounts(specs=0, active=0, supervisors=0, workers=0)


async def checkpoints(number: int) -> None:
    for _ in range(number):
        await trio.lowlevel.checkpoint()


async def until(condition) -> None:
    """Let others run until something is so; for what goes on for ever and never blocks."""
    for _ in range(1_000):
        if condition():
            return
        await trio.lowlevel.checkpoint()
    pytest.fail("it never came to be")


@case("OTP", "count_restarting_children")
async def test_children_that_are_being_restarted_are_not_active(autojump_clock, puppets):
    puppets.starts["a"] = [None, FAIL]
    async with open_dynamic_supervisor(max_restarts=10**9) as top:
        for child_id in "ab":
            await top.start_child(puppets.spec(child_id))
        puppets.live["a"].tell(Crash())
        await until(lambda: pids(top)["a"] == "restarting")
        assert top.count_children() == ChildCounts(specs=2, active=1, supervisors=0, workers=2)
        puppets.starts["a"] = [None]
        await until(lambda: pids(top)["a"] != "restarting")
        assert top.count_children() == ChildCounts(specs=2, active=2, supervisors=0, workers=2)


@case("OTP", "do_not_save_child_specs_for_temporary_children")
@pytest.mark.parametrize("restart", Restart)
@pytest.mark.parametrize("how", ["normal", "crash", "terminate_child"])
async def test_only_the_spec_of_a_temporary_child_ends_with_it(autojump_clock, puppets, restart, how):
    async with open_supervisor([puppets.spec("a", restart)]) as top:
        if how == "terminate_child":
            await top.terminate_child("a")
        else:
            await puppets.exit("a", how)
        if restart is TEMPORARY:
            assert await top.start_child(puppets.spec("a", restart))
            return
        lives = restart is PERMANENT or how == "crash"
        was = errors.AlreadyStartedError if lives and how != "terminate_child" else errors.AlreadyPresentError
        with pytest.raises(was):
            await top.start_child(puppets.spec("a", restart))


async def steps_to(action) -> int:
    """How many task steps something takes: a measure of time that no other program disturbs."""

    class Counter(trio.abc.Instrument):
        steps = 0

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            self.steps += 1

    counter = Counter()
    trio.lowlevel.add_instrument(counter)
    await action()
    trio.lowlevel.remove_instrument(counter)
    return counter.steps


@case("OTP", "simple_one_for_one_scale_many_temporary_children")
@case("OTP", "scale_start_stop_many_children")
@pytest.mark.parametrize("dynamic", [False, True])
async def test_ten_times_the_children_take_ten_times_the_steps(autojump_clock, puppets, dynamic):
    async def start_and_stop(number: int) -> None:
        async with open_dynamic_supervisor() if dynamic else open_supervisor() as top:
            for n in range(number):
                await top.start_child(puppets.spec(n, TEMPORARY))

    few = await steps_to(lambda: start_and_stop(100))
    many = await steps_to(lambda: start_and_stop(1_000))
    assert many < few * 11


@case("OTP", "temporary_bystander")
@pytest.mark.parametrize("strategy", [ONE_FOR_ALL, REST_FOR_ONE])
async def test_a_temporary_child_stopped_for_a_sibling_is_forgotten(autojump_clock, puppets, strategy):
    specs = [puppets.spec("a"), puppets.spec("b", TEMPORARY)]
    async with open_supervisor(specs, strategy=strategy, max_restarts=1) as top:
        await puppets.exit("a")
        assert list(pids(top)) == ["a"]
        assert puppets.log == ["+a", "+b", "-a", "-b", "+a"]


@case("OTP", "hanging_restart_loop")
async def test_while_a_restart_fails_for_ever_calls_are_answered(autojump_clock, puppets):
    puppets.starts["a"] = [None, FAIL]
    async with open_supervisor(puppets.specs("ab"), max_restarts=10**9) as top:
        puppets.live["a"].tell(Crash())
        await until(lambda: pids(top)["a"] == "restarting")
        with pytest.raises(errors.AlreadyPresentError):
            await top.start_child(puppets.spec("a"))
        with pytest.raises(errors.ChildRestartingError):
            await top.restart_child("a")
        with pytest.raises(errors.ChildRestartingError):
            await top.delete_child("a")
        assert await top.start_child(puppets.spec("c"))
        await top.terminate_child("a")
        await wait_all_tasks_blocked()
        assert pids(top)["a"] is None
        await top.delete_child("a")


@case("OTP", "hanging_restart_loop")
@pytest.mark.parametrize("strategy", Strategy)
async def test_a_supervisor_whose_restart_fails_for_ever_can_be_stopped(autojump_clock, puppets, strategy):
    puppets.starts["b"] = [None, FAIL]
    async with open_supervisor(puppets.specs("abc"), strategy=strategy, max_restarts=10**9) as top:
        puppets.live["b"].tell(Crash())
        await until(lambda: pids(top)["b"] == "restarting")
    assert puppets.log.count("+a") == puppets.log.count("-a")


@case("OTP", "hanging_restart_loop_rest_for_one")
async def test_while_a_later_child_fails_for_ever_earlier_ones_run_and_the_rest_is_down(
    autojump_clock, puppets
):
    puppets.starts["b"] = [None, FAIL]
    async with open_supervisor(puppets.specs("abc"), strategy=REST_FOR_ONE, max_restarts=10**9) as top:
        puppets.live["a"].tell(Crash())
        await until(lambda: puppets.log.count("+b") > 5)
        assert running(top) == ["a"]
        assert pids(top)["b"] == "restarting"
        assert pids(top)["c"] is None
        await top.terminate_child("b")
        await wait_all_tasks_blocked()
        assert (pids(top)["b"], pids(top)["c"]) == (None, None)
        assert await top.restart_child("c")


@case("OTP", "hanging_restart_loop_simple")
async def test_while_a_dynamic_restart_fails_for_ever_calls_are_answered(autojump_clock, puppets):
    puppets.starts["a"] = [None, FAIL]
    async with open_dynamic_supervisor(max_restarts=10**9) as top:
        child = await top.start_child(puppets.spec("a"))
        child.value.tell(Crash())
        await until(lambda: pids(top)["a"] == "restarting")
        assert await top.start_child(puppets.spec("b"))
        await top.terminate_child(child)
        await wait_all_tasks_blocked()
        assert running(top) == ["b"]


@case("OTP", "order_of_children")
@pytest.mark.parametrize("strategy", [ONE_FOR_ALL, REST_FOR_ONE])
async def test_children_start_in_order_and_stop_in_reverse_also_after_a_restart(
    autojump_clock, puppets, strategy
):
    async with open_supervisor(puppets.specs("abcde"), strategy=strategy):
        assert puppets.log == ["+a", "+b", "+c", "+d", "+e"]
        puppets.clear()
        await puppets.exit("a")
        assert puppets.log == ["-a", "-e", "-d", "-c", "-b", "+a", "+b", "+c", "+d", "+e"]
        puppets.clear()
    assert puppets.log == ["-e", "-d", "-c", "-b", "-a"]


@case("OTP", "order_of_children")
async def test_a_child_that_one_for_one_restarts_keeps_its_place(autojump_clock, puppets):
    async with open_supervisor(puppets.specs("abc")):
        await puppets.exit("b")
        puppets.clear()
    assert puppets.log == ["-c", "-b", "-a"]


OFFENDER = {
    "id": "a",
    "start": "Puppets.play",
    "restart_type": "permanent",
    "significant": False,
    "shutdown": 5.0,
    "child_type": "worker",
}


@case("OTP", "format_log_1", deviates="structlog events with OTP's keys; a start without its arguments")
async def test_reports_have_the_keys_of_otp(autojump_clock, puppets, logs):
    async with open_supervisor(puppets.specs("a"), name="workers"):
        await puppets.exit("a")
    [started, terminated, again] = logs
    assert (
        started
        == again
        == {
            "event": "supervisor.progress",
            "log_level": "debug",
            "supervisor": "workers",
            "started": OFFENDER,
        }
    )
    assert repr(terminated.pop("traceback")).endswith("Crash\n")
    assert terminated == {
        "event": "supervisor.child_terminated",
        "log_level": "warning",
        "supervisor": "workers",
        "reason": "crash: Crash",
        "offender": OFFENDER,
    }


@case("OTP", "format_log_2", deviates="structlog events with OTP's keys; each dynamic child has its own")
async def test_a_report_is_no_longer_than_a_log_can_take(autojump_clock, puppets, logs):
    async def wordy(*, task_status):
        task_status.started()
        await trio.lowlevel.checkpoint()
        raise ValueError("x" * 1_000_000)

    async with open_dynamic_supervisor(name="z" * 1_000_000) as top:
        await top.start_child(puppets.spec("a", on_stop=Shutdown("y" * 1_000_000)))
        await top.start_child(ChildSpec(id="i" * 1_000_000, start=wordy, restart=TEMPORARY))
        await wait_all_tasks_blocked()
    assert {entry["event"] for entry in logs} == {
        *("supervisor.progress", "supervisor.child_terminated", "supervisor.shutdown_error"),
    }
    assert max(len(repr(entry)) for entry in logs) < 12_000
