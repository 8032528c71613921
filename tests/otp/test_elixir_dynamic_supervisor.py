"""Elixir's own tests of its DynamicSupervisor, on ours."""

import math
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors import errors
from codex_actors._host import ChildCounts
from codex_actors._supervision import AutoShutdown, ChildSpec, ChildType, ExitKind, Shutdown, Strategy
from codex_actors._supervisor import DynamicSupervisor
from tests.otp.cases import case
from tests.otp.puppets import (
    EXITS,
    FAIL,
    IGNORE,
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Crash,
    open_dynamic_supervisor,
    open_supervisor,
    pids,
    reported,
    running,
)


@case("EXD", "can be supervised directly")
async def test_a_dynamic_supervisor_is_a_child_like_any_other(autojump_clock, puppets):
    async with open_supervisor([DynamicSupervisor.child_spec("workers")]) as top:
        workers = pids(top)["workers"].value
        assert await workers.start_child(puppets.spec("a"))
        assert top.count_children() == ChildCounts(specs=1, active=1, supervisors=1, workers=0)
    assert puppets.log == ["+a", "-a"]


@case("EXD", "multiple supervisors ... simple child spec")
async def test_dynamic_supervisors_are_told_apart_by_their_ids(autojump_clock):
    async with open_supervisor([DynamicSupervisor.child_spec(n) for n in "ab"]) as top:
        assert running(top) == ["a", "b"]
        assert [pids(top)[n].value.name for n in "ab"] == ["a", "b"]
        with pytest.raises(errors.AlreadyStartedError):
            await top.start_child(DynamicSupervisor.child_spec("a"))


@case("EXD", "use/2 generates child_spec/1", deviates="a static method of the supervisor")
def test_a_dynamic_supervisor_describes_itself_as_a_child():
    spec = DynamicSupervisor.child_spec("workers")
    assert (spec.restart, spec.shutdown, spec.type) == (PERMANENT, math.inf, ChildType.SUPERVISOR)
    spec = DynamicSupervisor.child_spec("workers", restart=TEMPORARY, shutdown=1, max_seconds=9)
    assert (spec.restart, spec.shutdown) == (TEMPORARY, 1)


@case("EXD", "init/1 set default options")
async def test_a_dynamic_supervisor_takes_any_number_of_children_by_default(autojump_clock, puppets):
    with pytest.raises(errors.RestartLimitError) as caught:
        async with open_dynamic_supervisor() as top:
            for n in range(50):
                await top.start_child(puppets.spec(n))
            for n in range(4):
                await puppets.exit(n)
    assert (caught.value.max_restarts, caught.value.max_seconds) == (3, 5)
    assert set(puppets.extra) == {()}


@case("EXD", "start_link/3 with non-ok init", deviates="auto_shutdown is supported, as OTP does")
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"max_restarts": -1}, "invalid_intensity"),
        ({"max_seconds": -1}, "invalid_period"),
        ({"max_children": -1}, "invalid_max_children"),
        ({"max_children": 1.5}, "invalid_max_children"),
        ({"auto_shutdown": "any_significant"}, "invalid_auto_shutdown"),
    ],
)
async def test_each_wrong_option_is_named(options, kind):
    with pytest.raises(errors.SpecError) as caught:
        async with open_dynamic_supervisor(**options):
            pass
    assert caught.value.kind == kind
    with pytest.raises(errors.SpecError):
        DynamicSupervisor.child_spec("workers", **options)
    with pytest.raises(TypeError):
        DynamicSupervisor.child_spec("workers", strategy=Strategy.ONE_FOR_ONE)  # type: ignore[call-arg]


@case("EXD", "start_child/2 supports new child spec as tuple")
@case("EXD", "start_child/2 supports new child spec", deviates="one struct is the only form")
async def test_a_dynamic_supervisor_takes_a_spec_any_number_of_times(autojump_clock, puppets):
    async with open_dynamic_supervisor() as top:
        spec = puppets.spec("same")
        first, second = await top.start_child(spec), await top.start_child(spec)
        assert first is not second
        assert [info.child for info in top.which_children()] == [second, first]


@case("EXD", "start_child/2 supports extra arguments")
@case("EXD", "start_child/2 restarting a child with extra_arguments")
async def test_extra_arguments_come_first_at_each_start(autojump_clock, puppets):
    async with open_dynamic_supervisor(extra_arguments=("x", 1)) as top:
        await top.start_child(puppets.spec("a"))
        await puppets.exit("a")
    assert puppets.extra == [("x", 1), ("x", 1)]
    assert puppets.log == ["+a", "-a", "+a", "-a"]


@case("EXD", "start_child/2 with invalid child spec")
async def test_a_wrong_spec_is_refused_before_anything_starts(autojump_clock, puppets):
    async with open_dynamic_supervisor() as top:
        with pytest.raises(errors.SpecError):
            await top.start_child({"id": "a"})
        with pytest.raises(errors.SpecError):
            await top.start_child(puppets.spec("a", TRANSIENT, significant=True))
        assert top.which_children() == []
    assert puppets.log == []


async def returns_nothing(*, task_status):
    pass


@case("EXD", "start_child/2 with different returns")
async def test_a_start_has_one_of_four_ends(autojump_clock, puppets):
    async with open_dynamic_supervisor() as top:
        assert (await top.start_child(puppets.spec("a"))).value is puppets.live["a"]
        puppets.starts["a"] = [IGNORE]
        assert await top.start_child(puppets.spec("a")) is None
        puppets.starts["a"] = [FAIL]
        with pytest.raises(Crash):
            await top.start_child(puppets.spec("a"))
        with pytest.raises(RuntimeError, match=r"without calling task_status\.started"):
            await top.start_child(ChildSpec(id="b", start=returns_nothing))
        assert running(top) == ["a"]


@case("EXD", "start_child/2 with throw/error/exit", deviates="there is one way to raise, not three")
@pytest.mark.parametrize("error", [ValueError("no"), Shutdown("no"), errors.CodexError("no")])
async def test_what_a_start_raises_is_raised_with_its_traceback(autojump_clock, puppets, error):
    puppets.starts["a"] = [error]
    async with open_dynamic_supervisor() as top:
        with pytest.raises(type(error)) as caught:
            await top.start_child(puppets.spec("a"))
    assert caught.value is error
    assert "play" in [entry.name for entry in caught.traceback]


@case("EXD", "start_child/2 with max_children")
async def test_there_are_no_more_children_than_there_may_be(autojump_clock, puppets):
    async with open_dynamic_supervisor(max_children=0) as top:
        with pytest.raises(errors.MaxChildrenError):
            await top.start_child(puppets.spec("a"))
    async with open_dynamic_supervisor(max_children=1) as top:
        child = await top.start_child(puppets.spec("a"))
        with pytest.raises(errors.MaxChildrenError) as caught:
            await top.start_child(puppets.spec("b"))
        assert caught.value.max_children == 1
        await top.terminate_child(child)
        assert await top.start_child(puppets.spec("b"))


@case("EXD", "start_child/2 temporary not restarted")
@pytest.mark.parametrize("how", EXITS)
async def test_a_temporary_dynamic_child_is_forgotten(autojump_clock, puppets, how, logs):
    async with open_dynamic_supervisor(max_restarts=0) as top:
        await top.start_child(puppets.spec("a", TEMPORARY))
        await puppets.exit("a", how)
        assert top.count_children().specs == 0
    assert bool(reported(logs)) is (how == "crash")


@case("EXD", "start_child/2 transient restarted unless normal/shutdown/{shutdown,_}")
@pytest.mark.parametrize("how", EXITS)
async def test_a_transient_dynamic_child_is_restarted_after_a_crash_only(autojump_clock, puppets, how, logs):
    async with open_dynamic_supervisor() as top:
        await top.start_child(puppets.spec("a", TRANSIENT))
        await puppets.exit("a", how)
        assert running(top) == (["a"] if how == "crash" else [])
        assert top.count_children().specs == (how == "crash")
    assert bool(reported(logs)) is (how == "crash")


@case("EXD", "start_child/2 permanent restarted regardless")
@pytest.mark.parametrize("how", EXITS)
async def test_a_permanent_dynamic_child_is_always_restarted(autojump_clock, puppets, how, logs):
    async with open_dynamic_supervisor() as top:
        child = await top.start_child(puppets.spec("a", PERMANENT))
        await puppets.exit("a", how)
        assert running(top) == ["a"]
        assert top.which_children()[0].child is not child
    assert [entry[0] for entry in reported(logs)] == ["child_terminated"]


async def start_one(top: Any, puppets, *starts) -> Any:
    puppets.starts["a"] = [None, *starts]
    return await top.start_child(puppets.spec("a"))


@case("EXD", "start_child/2 child is restarted with different values")
async def test_a_restart_has_one_of_three_ends(autojump_clock, puppets, logs):
    async with open_dynamic_supervisor(max_restarts=10) as top:
        await start_one(top, puppets, None)
        await puppets.exit("a")
        assert running(top) == ["a"]
        puppets.starts["a"] = [FAIL, FAIL, None]
        await puppets.exit("a")
        assert running(top) == ["a"]
        assert [entry[0] for entry in reported(logs, "start_error")] == ["start_error"] * 2
        puppets.starts["a"] = [IGNORE]
        await puppets.exit("a")
        assert top.which_children() == []


@case("EXD", "start_child/2 restarting on init children counted in max_children")
async def test_a_child_that_is_being_restarted_holds_its_place(autojump_clock, puppets):
    async with open_dynamic_supervisor(max_children=1, max_restarts=10**9) as top:
        child = await start_one(top, puppets, FAIL)
        child.value.tell(Crash())
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert pids(top) == {"a": "restarting"}
        with pytest.raises(errors.MaxChildrenError):
            await top.start_child(puppets.spec("b"))


@case("EXD", "start_child/2 restarting on exit children counted in max_children")
async def test_a_child_that_was_restarted_holds_its_place(autojump_clock, puppets):
    async with open_dynamic_supervisor(max_children=1) as top:
        await start_one(top, puppets)
        await puppets.exit("a")
        with pytest.raises(errors.MaxChildrenError):
            await top.start_child(puppets.spec("b"))


@case("EXD", "start_child/2 child is restarted when trying again")
async def test_a_restart_that_fails_is_tried_again(autojump_clock, puppets):
    async with open_dynamic_supervisor(max_restarts=2) as top:
        await start_one(top, puppets, FAIL, None)
        await puppets.exit("a")
        assert running(top) == ["a"]
        assert puppets.log == ["+a", "-a", "+a", "+a"]


@case("EXD", "start_child/2 child triggers maximum restarts")
@case("EXD", "start_child/2 child triggers maximum intensity when trying again")
@pytest.mark.parametrize(("max_restarts", "starts"), [(1, 2), (10, 11)])
async def test_restarts_that_fail_count_until_there_are_too_many(
    autojump_clock, puppets, max_restarts, starts
):
    spec = DynamicSupervisor.child_spec("workers", max_restarts=max_restarts, restart=TEMPORARY)
    async with open_supervisor([spec]) as top:
        child = pids(top)["workers"]
        await start_one(child.value, puppets, FAIL)
        await puppets.exit("a")
        assert child.exit_reason.kind is ExitKind.SHUTDOWN
    assert puppets.log.count("+a") == starts


@case("EXD", "start_child/2 with valid shutdown")
@pytest.mark.parametrize("shutdown", [0, 0.001])
async def test_a_dynamic_child_may_have_no_time_to_stop(autojump_clock, puppets, shutdown):
    async with open_dynamic_supervisor() as top:
        assert await top.start_child(puppets.spec("a", shutdown=shutdown))


@case("EXD", "start_child/2 with invalid valid shutdown")
def test_no_child_has_less_than_no_time_to_stop(puppets):
    with pytest.raises(errors.SpecError) as caught:
        puppets.spec("a", shutdown=-1)
    assert caught.value.kind == "invalid_shutdown"


async def stop_all(puppets, *fields, **same) -> tuple[list[str], float]:
    """How children end, and how long it takes, when their supervisor is stopped."""
    async with open_dynamic_supervisor() as top:
        children = [await top.start_child(puppets.spec(n, **f, **same)) for n, f in enumerate(fields)]
        before = trio.current_time()
    return [child.exit_reason.kind.value for child in children], trio.current_time() - before


@case("EXD", "terminate/2 brutal kill")
async def test_brutal_kill_at_the_end(autojump_clock, puppets):
    assert await stop_all(puppets, {}, {}, {}, shutdown="brutal_kill", on_stop=9) == (["killed"] * 3, 0)


@case("EXD", "terminate/2 infinity")
@case("EXD", "terminate/2 integer")
@pytest.mark.parametrize("shutdown", [math.inf, 5])
async def test_orderly_children_at_the_end(autojump_clock, puppets, shutdown, logs):
    assert await stop_all(puppets, {}, {}, {}, shutdown=shutdown) == (["shutdown"] * 3, 0)
    assert reported(logs) == []


@case("EXD", "terminate/2 infinity and abnormal reason")
@case("EXD", "terminate/2 integer and abnormal reason")
@pytest.mark.parametrize("shutdown", [math.inf, 5])
async def test_children_with_a_reason_of_their_own_at_the_end(autojump_clock, puppets, shutdown):
    async with open_dynamic_supervisor() as top:
        child = await top.start_child(puppets.spec("a", shutdown=shutdown, on_stop=Shutdown("oops")))
    assert (child.exit_reason.kind, child.exit_reason.term) == (ExitKind.SHUTDOWN, "oops")


@case("EXD", "terminate/2 expired integer")
async def test_a_child_that_does_not_listen_at_the_end(autojump_clock, puppets, logs):
    deaf = {"on_stop": "deaf", "shutdown": 0.001}
    kinds, _ = await stop_all(puppets, {}, deaf, {"shutdown": 0.001})
    assert kinds == ["shutdown", "killed", "shutdown"]
    assert reported(logs) == [("shutdown_error", "1", "killed")]


@case("EXD", "terminate/2 permanent restart and normal reason")
async def test_permanent_children_that_return_at_the_end_are_reported(autojump_clock, puppets, logs):
    assert await stop_all(puppets, {}, {}, on_stop="return") == (["normal"] * 2, 0)
    assert sorted(reported(logs)) == [("shutdown_error", "0", "normal"), ("shutdown_error", "1", "normal")]


@case("EXD", "terminate/2 mixed children")
async def test_all_kinds_of_children_at_the_end(autojump_clock, puppets):
    fields = (
        {"shutdown": math.inf, "on_stop": 7},
        {"shutdown": "brutal_kill"},
        {"shutdown": 3, "on_stop": 9},
    )
    assert await stop_all(puppets, *fields) == (["shutdown", "killed", "killed"], 7)


@case("EXD", "terminate_child/2 brutal kill")
@case("EXD", "terminate_child/2 integer")
@pytest.mark.parametrize(("shutdown", "kind"), [("brutal_kill", "killed"), (1, "shutdown")])
async def test_a_child_can_be_terminated_once(autojump_clock, puppets, shutdown, kind):
    async with open_dynamic_supervisor() as top:
        child = await top.start_child(puppets.spec("a", shutdown=shutdown))
        await top.terminate_child(child)
        assert child.exit_reason.kind.value == kind
        with pytest.raises(errors.ChildNotFoundError):
            await top.terminate_child(child)
        assert top.count_children() == ChildCounts(specs=0, active=0, supervisors=0, workers=0)


@case("EXD", "terminate_child/2 restarting child")
async def test_a_child_that_is_being_restarted_can_be_terminated(autojump_clock, puppets):
    async with open_dynamic_supervisor(max_restarts=10**9) as top:
        child = await start_one(top, puppets, FAIL)
        child.value.tell(Crash())
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert pids(top) == {"a": "restarting"}
        await top.terminate_child(child)
        await wait_all_tasks_blocked()
        assert top.which_children() == []


async def test_an_auto_shutdown_that_nobody_asked_for_does_not_happen(autojump_clock, puppets):
    async with open_dynamic_supervisor(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT) as top:
        await top.start_child(puppets.spec("a", TEMPORARY))
        await puppets.exit("a")
        assert await top.start_child(puppets.spec("b", TEMPORARY))
