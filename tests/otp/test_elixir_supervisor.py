"""Elixir's own tests of its Supervisor, on ours."""

import math

import pytest
import trio
from msgspec.structs import replace

from codex_actors import errors
from codex_actors._child import Child
from codex_actors._host import ChildCounts
from codex_actors._supervision import AutoShutdown, ChildSpec, ChildType, Strategy, SupervisorFlags
from codex_actors._supervisor import Supervisor
from tests.otp.cases import case
from tests.otp.puppets import PERMANENT, TEMPORARY, open_supervisor, pids, running


@case("EXS", "generates child_spec/1")
def test_a_supervisor_describes_itself_as_a_child(puppets):
    spec = Supervisor.child_spec("sup", puppets.specs("a"), restart=TEMPORARY, max_restarts=7)
    assert (spec.id, spec.type, spec.restart, spec.shutdown) == (
        "sup",
        ChildType.SUPERVISOR,
        TEMPORARY,
        math.inf,
    )


@case("EXS", "child_spec/2", deviates="one struct is the only form; msgspec.structs.replace overrides")
def test_a_spec_is_made_of_another_and_checked_again(puppets):
    spec = replace(puppets.spec("a"), id="b", shutdown=1)
    assert (spec.id, spec.shutdown, spec.start) == ("b", 1, puppets.play)
    with pytest.raises(errors.SpecError, match=r"ChildSpec.shutdown: must be seconds"):
        replace(spec, shutdown="soon")


@case("EXS", "init/2", deviates="the strategy has a default, OTP's one_for_one")
def test_the_flags_have_the_defaults_of_elixir():
    flags = SupervisorFlags()
    assert (flags.max_restarts, flags.max_seconds) == (3, 5)
    assert (flags.strategy, flags.auto_shutdown) == (Strategy.ONE_FOR_ONE, AutoShutdown.NEVER)


@case("EXS", "start_link/3", deviates="no modules: a function that opens a supervisor")
async def test_a_function_of_ones_own_is_a_supervisor_once_it_opens_one(autojump_clock, puppets):
    async def workers(count, *, task_status):
        async with open_supervisor(puppets.specs(range(count))) as supervisor:
            task_status.started(supervisor)
            await trio.sleep_forever()

    async with open_supervisor() as top:
        child = await top.start_child(ChildSpec(id="workers", start=workers, args=(2,)))
        assert running(child.value) == [0, 1]
    assert puppets.log == ["+0", "+1", "-1", "-0"]


@case("EXS", "start_child/2 supports new child spec as tuple")
@case("EXS", "start_child/2 supports new child spec", deviates="one struct is the only form")
async def test_start_child_takes_a_spec(autojump_clock, puppets):
    async with open_supervisor() as top:
        child = await top.start_child(puppets.spec("a"))
        assert isinstance(child, Child)
        assert (child.id, child.value) == ("a", puppets.live["a"])


@case("EXS", "start_child/2 with invalid child spec", deviates="what is missing is a TypeError of the struct")
async def test_start_child_refuses_what_is_no_spec(autojump_clock):
    async with open_supervisor() as top:
        for nonsense in ({"id": "a"}, "a", ["a"]):
            with pytest.raises(errors.SpecError) as caught:
                await top.start_child(nonsense)
            assert caught.value.kind == "invalid_child_spec"
        with pytest.raises(TypeError, match="start"):
            ChildSpec(id="a")  # type: ignore[call-arg]
        with pytest.raises(errors.SpecError, match="must be an async function"):
            ChildSpec(id="a", start=None)  # type: ignore[arg-type]
        with pytest.raises(errors.SpecError, match="shutdown"):
            ChildSpec(id="a", start=trio.sleep_forever, shutdown=-1)


@case("EXS", "start_child/2 with valid child spec")
@pytest.mark.parametrize("shutdown", [0, 0.001, 5, math.inf, "brutal_kill"])
async def test_a_child_may_have_no_time_to_stop(autojump_clock, puppets, shutdown):
    async with open_supervisor() as top:
        assert await top.start_child(puppets.spec("a", shutdown=shutdown))
    assert puppets.log == ["+a", "-a"]


@case("EXS", "child life cycle")
async def test_the_life_of_a_child_from_start_child_to_delete_child(autojump_clock, puppets):
    async with open_supervisor() as top:
        assert (top.which_children(), top.count_children().specs) == ([], 0)
        child = await top.start_child(puppets.spec("a", PERMANENT))
        [info] = top.which_children()
        assert (info.id, info.child, info.type) == ("a", child, ChildType.WORKER)
        assert top.count_children() == ChildCounts(specs=1, active=1, supervisors=0, workers=1)
        with pytest.raises(errors.ChildRunningError):
            await top.delete_child("a")
        await top.terminate_child("a")
        assert top.count_children() == ChildCounts(specs=1, active=0, supervisors=0, workers=1)
        assert isinstance(await top.restart_child("a"), Child)
        await top.terminate_child("a")
        await top.delete_child("a")
        assert pids(top) == {}
