"""Rules of OTP's that its own tests do not state, by their numbers in docs/explanation/supervision.md."""

import contextvars
import random
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from codex_actors import errors
from codex_actors._child import Child, ChildStatus
from codex_actors._supervision import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    ExitKind,
    Ignore,
    Restart,
    Shutdown,
    Strategy,
)
from codex_actors._supervisor import DynamicSupervisor, Supervisor
from tests.otp.conftest import logs, puppets
from tests.otp.puppets import (
    FAIL,
    IGNORE,
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Crash,
    lasting,
    open_dynamic_supervisor,
    open_supervisor,
    pids,
    reported,
    running,
)

__all__ = ["logs", "puppets"]  # fixtures

ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE = Strategy


async def test_r10_children_start_one_after_another(autojump_clock):
    times = []

    async def slow(*, task_status):
        times.append(trio.current_time())
        await trio.sleep(1)
        task_status.started()
        await trio.sleep_forever()

    async with open_supervisor([ChildSpec(id=n, start=slow) for n in range(3)]):
        assert times == [0, 1, 2]


async def test_r17_calls_that_change_something_wait_for_a_child_that_starts_and_looking_does_not(
    autojump_clock, puppets
):
    async def slow(*, task_status):
        await trio.sleep(3)
        task_status.started()
        await trio.sleep_forever()

    async with open_supervisor(puppets.specs("a")) as top, trio.open_nursery() as nursery:
        nursery.start_soon(top.start_child, ChildSpec(id="slow", start=slow))
        await wait_all_tasks_blocked()
        assert pids(top) == {"a": pids(top)["a"], "slow": None}
        assert trio.current_time() == 0
        await top.terminate_child("a")
        assert trio.current_time() == 3


async def test_r17_a_dynamic_supervisor_starts_children_side_by_side(autojump_clock, puppets):
    async def slow(*, task_status):
        await trio.sleep(3)
        task_status.started()
        await trio.sleep_forever()

    async with open_dynamic_supervisor(max_children=3) as top:
        async with trio.open_nursery() as nursery:
            for n in range(2):
                nursery.start_soon(top.start_child, ChildSpec(id=n, start=slow))
            await wait_all_tasks_blocked()
            assert await top.start_child(puppets.spec("quick"))
            assert top.count_children().specs == 3
            with pytest.raises(errors.MaxChildrenError):
                await top.start_child(puppets.spec("one more"))
        assert trio.current_time() == 3


async def test_r17_a_dynamic_child_that_restarts_slowly_delays_no_other_restart(autojump_clock, puppets):
    starts = []

    async def slow_again(*, task_status):
        starts.append(trio.current_time())
        if len(starts) > 1:
            await trio.sleep(9)
        task_status.started()
        await trio.sleep(1)
        raise Crash

    async with open_dynamic_supervisor() as top:
        await top.start_child(ChildSpec(id="slow", start=slow_again))
        await top.start_child(puppets.spec("a"))
        await trio.sleep(1.5)
        await puppets.exit("a")
        assert running(top) == ["a"]
        assert trio.current_time() == 1.5


async def test_r22_without_restarts_the_first_crash_is_the_end(autojump_clock, puppets):
    with pytest.raises(errors.RestartLimitError):
        async with open_supervisor(puppets.specs("ab"), max_restarts=0):
            await puppets.exit("a")
    assert puppets.log == ["+a", "+b", "-a", "-b"]


@pytest.mark.parametrize(("strategy", "too_many"), [(ONE_FOR_ONE, True), (ONE_FOR_ALL, False)])
async def test_r23_two_that_crash_together_count_once_where_they_go_down_together(
    autojump_clock, puppets, strategy, too_many, logs
):
    with pytest.raises(errors.RestartLimitError) if too_many else trio.CancelScope():
        async with open_supervisor(puppets.specs("abc"), strategy=strategy, max_restarts=2) as top:
            puppets.live["a"].tell(Crash())
            puppets.live["b"].tell(Crash())
            await wait_all_tasks_blocked()
            if strategy is ONE_FOR_ALL:
                assert sorted(entry[0] for entry in reported(logs)) == ["child_terminated", "shutdown_error"]
            await puppets.exit("c")
            assert running(top) == ["a", "b", "c"]


async def test_r25_the_normal_end_of_a_permanent_child_counts(autojump_clock, puppets):
    with pytest.raises(errors.RestartLimitError) as caught:
        async with open_supervisor(puppets.specs("a"), max_restarts=1):
            await puppets.exit("a", "normal")
            await puppets.exit("a", "normal")
    assert caught.value.__cause__ is None


async def test_r26_calls_are_free(autojump_clock, puppets):
    async with open_supervisor(max_restarts=1) as top:
        for _ in range(5):
            await top.start_child(puppets.spec("a"))
            await top.terminate_child("a")
            await top.restart_child("a")
            await top.terminate_child("a")
            await top.delete_child("a")
        await top.start_child(puppets.spec("a"))
        await puppets.exit("a")
        assert running(top) == ["a"]


@pytest.mark.parametrize(
    ("restart", "restarted"), [(PERMANENT, True), (TRANSIENT, False), (TEMPORARY, False)]
)
async def test_r28_only_a_permanent_supervisor_is_restarted_after_it_gave_up(
    autojump_clock, puppets, restart, restarted
):
    inner = Supervisor.child_spec("inner", [puppets.spec("a")], restart=restart, max_restarts=0)
    async with open_supervisor([inner]) as top:
        first = pids(top)["inner"]
        await puppets.exit("a")
        assert first.exit_reason.kind is ExitKind.SHUTDOWN
        assert (running(top) == ["inner"]) is restarted


@pytest.mark.parametrize(
    ("strategy", "back"), [(ONE_FOR_ONE, "c"), (ONE_FOR_ALL, "abcd"), (REST_FOR_ONE, "cd")]
)
async def test_r33_a_group_restart_brings_back_who_was_down(autojump_clock, puppets, strategy, back):
    specs = [puppets.spec(child_id, TRANSIENT) for child_id in "abcd"]
    async with open_supervisor(specs, strategy=strategy) as top:
        await puppets.exit("a", "normal")
        await top.terminate_child("b")
        await top.terminate_child("d")
        await puppets.exit("c")
        assert running(top) == list(back)


async def test_r34_what_a_bystander_does_wrong_is_reported_and_nothing_else(autojump_clock, puppets, logs):
    specs = [puppets.spec("a"), puppets.spec("b", on_stop=Crash("in clean-up"))]
    async with open_supervisor(specs, strategy=ONE_FOR_ALL, max_restarts=1) as top:
        await puppets.exit("a")
        assert running(top) == ["a", "b"]
    assert reported(logs)[:2] == [
        ("child_terminated", "a", "crash: Crash"),
        ("shutdown_error", "b", "crash: Crash"),
    ]


async def test_r36_one_for_all_starts_nobody_after_the_child_that_fails(autojump_clock, puppets):
    puppets.starts["b"] = [None, FAIL, FAIL, None]
    async with open_supervisor(puppets.specs("abc"), strategy=ONE_FOR_ALL) as top:
        puppets.clear()
        await puppets.exit("c")
        assert puppets.log == ["-c", "-b", "-a", "+a", "+b", "-a", "+a", "+b", "-a", "+a", "+b", "+c"]
        assert running(top) == ["a", "b", "c"]


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT])
async def test_r37_a_child_that_ignores_its_restart_stays_down(autojump_clock, puppets, restart, logs):
    puppets.starts["a"] = [None, IGNORE]
    async with open_supervisor([puppets.spec("a", restart)]) as top:
        await puppets.exit("a")
        assert pids(top) == {"a": None}
        with pytest.raises(errors.AlreadyPresentError):
            await top.start_child(puppets.spec("a", restart))
    assert reported(logs) == [("child_terminated", "a", "crash: Crash")]


@pytest.mark.parametrize("restart", Restart)
@pytest.mark.parametrize(
    "ends", ["shutdown", "return", "{shutdown,term}", "crash", "deaf", "brutal", "brutal return"]
)
async def test_r43_only_an_end_that_was_not_asked_for_is_reported(
    autojump_clock, puppets, restart, ends, logs
):
    on_stop = {
        "{shutdown,term}": Shutdown("t"),
        "crash": Crash(),
        "brutal return": "return",
        "shutdown": None,
    }
    shutdown = "brutal_kill" if "brutal" in ends else 1
    async with open_supervisor(
        [puppets.spec("a", restart, on_stop=on_stop.get(ends, ends), shutdown=shutdown)]
    ):
        pass
    quiet = {"shutdown", "brutal"} | (
        {"return", "{shutdown,term}", "brutal return"} - {""} if restart is not PERMANENT else set()
    )
    assert (reported(logs) == []) is (ends in quiet)


async def test_r45_terminate_child_waits_for_the_child(autojump_clock, puppets):
    async with open_supervisor([puppets.spec("a", on_stop=3)]) as top:
        await top.terminate_child("a")
        assert trio.current_time() == 3


async def test_what_is_no_async_function_is_refused_when_it_is_to_start():
    def forgot_async(*, task_status: ChildStatus[None]) -> None:
        task_status.started()

    async with open_supervisor([]) as supervisor:
        spec = ChildSpec(id="forgetful", start=forgot_async)  # type: ignore[arg-type]
        with pytest.raises(errors.SpecError, match="must be an async function: it returned NoneType"):
            await supervisor.start_child(spec)
        assert supervisor.which_children() == []


async def test_a_call_that_is_cancelled_while_a_child_stops_leaves_it_stopping(autojump_clock, puppets, logs):
    async with open_supervisor([puppets.spec("a", on_stop=3), puppets.spec("b")]) as top:
        with trio.move_on_after(1):
            await top.terminate_child("a")
        with pytest.raises(errors.ChildRunningError):
            await top.restart_child("a")
        await top.terminate_child("a")
        assert trio.current_time() == 3
        assert pids(top)["a"] is None
    assert reported(logs) == []


async def test_a_child_may_stop_itself_and_start_others(autojump_clock, puppets):
    async def busy(*, task_status):
        task_status.started()
        [top] = tops
        await top.start_child(puppets.spec("b"))
        await top.terminate_child("busy")

    tops = []
    async with open_supervisor() as top:
        tops.append(top)
        await top.start_child(ChildSpec(id="busy", start=busy))
        await wait_all_tasks_blocked()
        assert (pids(top)["busy"], running(top)) == (None, ["b"])
        await top.terminate_child("b")


async def test_a_dynamic_child_can_be_stopped_while_its_restart_is_under_way(autojump_clock, puppets, logs):
    starts = []

    async def slow_again(*, task_status):
        starts.append(1)
        if len(starts) > 1:
            await trio.sleep(9)
        task_status.started(event := trio.Event())
        await event.wait()
        raise Crash

    async with open_dynamic_supervisor() as top:
        child = await top.start_child(ChildSpec(id="a", start=slow_again))
        child.value.set()
        await wait_all_tasks_blocked()
        assert len(starts) == 2
        await top.terminate_child(child)
        assert (trio.current_time(), top.which_children()) == (0, [])
        await trio.sleep(100)
    assert [entry[0] for entry in reported(logs)] == ["child_terminated"]


async def test_a_child_that_nobody_waits_for_any_more_has_its_time_all_the_same(autojump_clock, logs):
    log: list[str] = []

    async def hard_to_start_again(*, task_status: ChildStatus[trio.Event]) -> None:
        if log:
            with task_status.grace():
                await trio.sleep(10)
                log.append("cleaned up")
        log.append("started")
        task_status.started(event := trio.Event())
        await event.wait()
        raise Crash

    async with open_dynamic_supervisor() as top:
        child = await top.start_child(ChildSpec(id="a", start=hard_to_start_again, shutdown=99))
        child.value.set()
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await top.terminate_child(child)
    assert log[:2] == ["started", "cleaned up"]


async def test_the_supervisor_waits_between_restarts_if_it_is_told_to(autojump_clock, puppets):
    backoff = Backoff(first_seconds=1, longest_seconds=3, jitter=0)
    with pytest.raises(errors.RestartLimitError):
        async with open_supervisor(
            puppets.specs("ab"), backoff=backoff, max_restarts=3, max_seconds=60
        ) as top:
            puppets.starts["a"] = [FAIL]
            await puppets.exit("a")
            assert pids(top)["a"] == "restarting"
            for seconds in (1, 2, 3):
                before = puppets.log.count("+a")
                await trio.sleep(seconds - 0.5)
                assert puppets.log.count("+a") == before
                await trio.sleep(0.5)
                await wait_all_tasks_blocked()
                assert puppets.log.count("+a") == before + 1
            await trio.sleep_forever()
    assert trio.current_time() == 1 + 2 + 3  # it gives up at once: nobody waits for what is not to be
    assert puppets.log[-1] == "-b"


async def test_siblings_go_down_before_the_wait_for_a_restart_and_come_back_after_it(autojump_clock, puppets):
    async with open_supervisor(
        puppets.specs("abc"), strategy=Strategy.REST_FOR_ONE, backoff=Backoff(first_seconds=5, jitter=0)
    ) as top:
        puppets.clear()
        await puppets.exit("b")
        assert puppets.log == ["-b", "-c"]
        assert running(top) == ["a"]
        await trio.sleep(5)
        await wait_all_tasks_blocked()
        assert puppets.log == ["-b", "-c", "+b", "+c"]


async def test_siblings_that_wait_for_a_restart_are_alive_to_auto_shutdown(autojump_clock, puppets):
    specs = [
        puppets.spec("a", TRANSIENT, significant=True),
        puppets.spec("b"),
        puppets.spec("c", TRANSIENT, significant=True),
    ]
    flags = {"strategy": Strategy.REST_FOR_ONE, "auto_shutdown": AutoShutdown.ALL_SIGNIFICANT}
    async with lasting(open_supervisor(specs, backoff=Backoff(first_seconds=5), **flags)) as top:
        await puppets.exit("b")
        await puppets.exit("a", "normal")
        await trio.sleep(5)
        assert running(top) == ["b", "c"]


async def test_siblings_that_crash_together_count_once_also_if_the_restart_waits(autojump_clock, puppets):
    async with lasting(
        open_supervisor(
            puppets.specs("abc"), strategy=Strategy.ONE_FOR_ALL, max_restarts=1, backoff=Backoff()
        )
    ) as top:
        for child_id in "abc":
            puppets.live[child_id].tell(FAIL)
        await trio.sleep(5)
        assert running(top) == ["a", "b", "c"]


async def test_a_wait_for_a_restart_is_over_when_the_child_is_stopped(autojump_clock, puppets, logs):
    async with open_dynamic_supervisor(backoff=Backoff(first_seconds=5, jitter=0)) as top:
        child = await top.start_child(puppets.spec("a"))
        await puppets.exit("a")
        assert pids(top) == {"a": "restarting"}
        await top.terminate_child(child)
        await trio.sleep(60)
        assert puppets.log == ["+a", "-a"]
    assert reported(logs) == [("child_terminated", "a", "crash: Crash")]


async def test_a_wait_for_a_restart_ends_no_other_wait(autojump_clock, puppets):
    backoff = Backoff(first_seconds=10, longest_seconds=99, jitter=0)
    async with open_supervisor(puppets.specs("a"), backoff=backoff, max_seconds=99) as top:
        await puppets.exit("a")
        await trio.sleep(1)
        await top.terminate_child("a")
        await top.restart_child("a")
        await trio.sleep(1)
        await puppets.exit("a")
        await trio.sleep(9)
        assert pids(top) == {"a": "restarting"}  # at 11 s; the first wait was over at 10 s
        await trio.sleep(12)
        assert running(top) == ["a"]


async def test_what_is_left_to_chance_throws_nobody_elses_dice(autojump_clock, puppets):
    dice = random.getstate()
    async with open_supervisor(puppets.specs("a"), backoff=Backoff(first_seconds=10, jitter=1)) as top:
        await puppets.exit("a")
        await trio.sleep(10)
        assert running(top) == ["a"]
    assert random.getstate() == dice


MARK = contextvars.ContextVar("MARK", default="nobody")


async def test_each_life_begins_in_the_context_of_whoever_added_the_child(autojump_clock):
    seen = []

    async def child(*, task_status):
        seen.append(MARK.get())
        MARK.set("a former life")
        task_status.started(event := trio.Event())
        await event.wait()
        raise Crash

    async with open_supervisor() as top:
        MARK.set("the caller")
        life = await top.start_child(ChildSpec(id="a", start=child))
        MARK.set("later")
        life.value.set()
        await wait_all_tasks_blocked()
    assert seen == ["the caller", "the caller"]


@pytest.mark.parametrize("dynamic", [False, True])
async def test_a_child_that_crashes_as_it_says_started_has_started(autojump_clock, dynamic, logs):
    async def quick(*, task_status):
        task_status.started()
        raise Crash

    with pytest.raises(errors.RestartLimitError):
        async with open_dynamic_supervisor() if dynamic else open_supervisor() as top:
            assert isinstance(await top.start_child(ChildSpec(id="quick", start=quick)), Child)
            await trio.sleep_forever()
    assert [entry[0] for entry in reported(logs)] == ["child_terminated"] * 4 + ["shutdown"]


async def test_a_supervisor_that_is_killed_kills(autojump_clock, puppets):
    specs = [puppets.spec("a", on_stop=60), puppets.spec("b", on_stop="deaf", shutdown=30)]
    inner = Supervisor.child_spec("inner", specs, shutdown=2)
    brutal = Supervisor.child_spec("brutal", puppets.specs("cd", on_stop=60), shutdown="brutal_kill")
    async with open_supervisor([inner, brutal]) as top:
        lives = [info.child for child in pids(top).values() for info in child.value.which_children()]
        outer = list(pids(top).values())
    assert trio.current_time() == 2
    assert {life.exit_reason.kind for life in lives} == {ExitKind.KILLED}
    assert {life.exit_reason.kind for life in outer} == {ExitKind.KILLED}


async def test_a_supervisor_stops_its_children_in_their_own_time_however_long(autojump_clock, puppets, logs):
    inner = Supervisor.child_spec("inner", [puppets.spec("a", on_stop=60, shutdown=90)])
    async with open_supervisor([inner, DynamicSupervisor.child_spec("dynamic")]) as top:
        await pids(top)["dynamic"].value.start_child(puppets.spec("b", on_stop=7, shutdown=9))
    assert trio.current_time() == 67
    assert reported(logs) == []


async def test_a_supervisor_says_what_it_is(autojump_clock, puppets):
    async with open_supervisor(puppets.specs("ab"), name="workers") as top:
        assert repr(top) == "<Supervisor 'workers', 2 children>"


@pytest.mark.parametrize("dynamic", [False, True])
async def test_a_supervisor_gives_up_once_however_many_crash_together(autojump_clock, puppets, dynamic, logs):
    with pytest.raises(errors.RestartLimitError):
        async with (
            open_dynamic_supervisor(max_restarts=0) if dynamic else open_supervisor(max_restarts=0) as top
        ):
            for child_id in "abc":
                await top.start_child(puppets.spec(child_id))
            for child_id in "abc":
                puppets.live[child_id].tell(Crash())
            await trio.sleep_forever()
    contexts = sorted(entry[0] for entry in reported(logs))
    assert contexts == ["child_terminated", "shutdown", "shutdown_error", "shutdown_error"]


async def test_a_child_that_stops_itself_as_it_says_started_again_is_gone(autojump_clock, logs):
    lives: list[Any] = []

    async def suicidal(*, task_status):
        task_status.started(event := trio.Event())
        if lives:
            await top.terminate_child(lives[0])
        await event.wait()
        raise Crash

    async with open_dynamic_supervisor() as top:
        lives.append(await top.start_child(ChildSpec(id="a", start=suicidal)))
        lives[0].value.set()
        await wait_all_tasks_blocked()
        assert top.which_children() == []
    assert [entry[0] for entry in reported(logs)] == ["child_terminated"]


EXPLANATION = Path(__file__).parent.parent / "docs/explanation/supervision.md"


@pytest.mark.parametrize("program", re.findall(r"```python\n(.*?)```", EXPLANATION.read_text(), re.DOTALL))
def test_the_programs_of_the_explanation_run(program, logs):
    names: dict[str, Any] = {}
    exec(compile(program, "supervision.md", "exec", dont_inherit=True), names)
    trio.run(names["main"], clock=MockClock(autojump_threshold=0))


# What a child says while its start is given up


@pytest.mark.parametrize("last_words", [Ignore(), Shutdown()], ids=repr)
async def test_who_gives_up_a_start_is_cancelled_whatever_the_child_asks_for(last_words, autojump_clock):
    async def slow(*, task_status: ChildStatus[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise last_words

    async with open_supervisor() as supervisor:
        with pytest.raises(trio.TooSlowError), trio.fail_after(1):
            await supervisor.start_child(ChildSpec(id="slow", start=slow))
        with pytest.raises(errors.StartTimeoutError):
            await supervisor.start_child(ChildSpec(id="slow", start=slow, start_timeout=1))
        assert supervisor.which_children() == []


async def test_a_reason_that_cannot_be_shown_brings_nothing_down(autojump_clock):
    class Unspeakable:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    lives = []

    async def ends_once(*, task_status: ChildStatus[None]) -> None:
        lives.append(1)
        task_status.started()
        if len(lives) == 1:
            raise Shutdown(Unspeakable())
        await trio.sleep_forever()

    async with open_supervisor([ChildSpec(id="odd", start=ends_once)]):
        await trio.sleep(1)
    assert len(lives) == 2


@pytest.mark.parametrize("last_words", [Ignore(), Shutdown(), ValueError("late")], ids=repr)
def test_ctrl_c_leaves_a_supervisor_whatever_the_child_says_that_was_starting(last_words):
    begun = []

    async def slow(*, task_status: ChildStatus[None]) -> None:
        begun.append("slow")
        signal.raise_signal(signal.SIGINT)
        try:
            await trio.sleep_forever()
        finally:
            raise last_words

    async def next_one(*, task_status: ChildStatus[None]) -> None:
        begun.append("next")
        task_status.started()

    async def main() -> None:
        async with open_supervisor([ChildSpec(id="slow", start=slow), ChildSpec(id="next", start=next_one)]):
            begun.append("block")

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert begun == ["slow"]
