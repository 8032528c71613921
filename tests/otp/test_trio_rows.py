"""What OTP has no test for, because there a process is killed and a task can only be cancelled."""

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from codex_actors import errors
from codex_actors._child import STUCK_SECONDS
from codex_actors._supervision import ChildSpec, ExitKind, RestartWindow, Shutdown, Strategy, reason_of
from codex_actors._supervisor import DynamicSupervisor, Supervisor
from tests.otp.cases import case
from tests.otp.puppets import (
    FAIL,
    TEMPORARY,
    TRANSIENT,
    Crash,
    Puppets,
    open_dynamic_supervisor,
    open_supervisor,
    pids,
    reported,
    running,
)
from tests.schedule import seed_scheduler


@case("TRIO", "outer cancel, ordered")
async def test_being_cancelled_stops_children_in_reverse_each_with_its_own_time(
    autojump_clock, puppets, logs
):
    specs = [
        puppets.spec("a", on_stop=1),
        puppets.spec("b", on_stop="deaf", shutdown=2),
        Supervisor.child_spec(
            "inner", [puppets.spec("c", on_stop=4), puppets.spec("d", on_stop=8, shutdown=9)]
        ),
    ]
    with trio.CancelScope() as scope:
        async with open_supervisor(specs):
            before = trio.current_time()
            puppets.clear()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == before + 8 + 4 + 2 + 1
    assert puppets.log == ["-d", "-c", "-b", "-a"]
    assert reported(logs) == [("shutdown_error", "b", "killed")]


PROGRAM = """
import sys, trio, structlog
from codex_actors._supervision import ChildSpec
from codex_actors._supervisor import Supervisor, open_supervisor

structlog.configure(processors=[structlog.processors.JSONRenderer()],
                    logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def child(name, clean_up, *, task_status):
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        with task_status.grace():
            print("stopping", name, flush=True)
            await trio.sleep(clean_up)
        print("-" + name, flush=True)

async def main():
    seconds = float(sys.argv[1])
    inner = Supervisor.child_spec("inner", [ChildSpec(id=n, start=child, args=(n, seconds)) for n in "bc"])
    async with open_supervisor([ChildSpec(id="a", start=child, args=("a", seconds)), inner]):
        print("ready", flush=True)
        await trio.sleep_forever()

try:
    trio.run(main)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
except BaseException as exc:
    print("something else:", repr(exc))
"""


@pytest.fixture
def program(tmp_path: Path):
    """Runs PROGRAM in a process of its own, so that Ctrl-C reaches nothing else."""
    (tmp_path / "program.py").write_text(PROGRAM)
    repository = Path(__file__).parents[2]
    programs: list[subprocess.Popen[str]] = []

    def run(seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, str(tmp_path / "program.py"), str(seconds)]
        env = {**os.environ, "PYTHONPATH": str(repository)}
        programs.append(
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return programs[0]

    yield run
    for each in programs:
        each.kill()
        each.communicate()


def read_until(program: subprocess.Popen[str], line: str) -> None:
    assert program.stdout
    while program.stdout.readline() != f"{line}\n":
        assert program.poll() is None


def rest_of(program: subprocess.Popen[str]) -> tuple[list[str], str]:
    """What it still says, and its reports; `communicate` would lose what `readline` has read ahead."""
    assert program.stdout
    assert program.stderr
    return program.stdout.read().splitlines(), program.stderr.read()


@case("TRIO", "Ctrl-C, ordered")
def test_ctrl_c_stops_children_in_reverse_and_is_no_crash(program):
    running = program(0.01)
    read_until(running, "ready")
    running.send_signal(signal.SIGINT)
    out, reports = rest_of(running)
    order = [line for line in out if not line.startswith("stopping")]
    assert order == ["-c", "-b", "-a", "KeyboardInterrupt"]
    assert "child_terminated" not in reports
    assert "error" not in reports


def test_a_second_ctrl_c_kills_what_is_left(program):
    running = program(3_600)
    read_until(running, "ready")
    running.send_signal(signal.SIGINT)
    read_until(running, "stopping c")
    before = time.monotonic()
    running.send_signal(signal.SIGINT)
    out, _ = rest_of(running)
    assert out[-1] == "KeyboardInterrupt"
    # If it strikes in the code of the child itself, that says nothing more.
    assert sorted(line for line in out if line.startswith("-")) in (["-a", "-b"], ["-a", "-b", "-c"])
    assert time.monotonic() < before + 4


@case("TRIO", "SystemExit in a child")
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
async def test_what_ends_the_program_is_no_crash_and_leaves_bare(
    autojump_clock, puppets, error, opened, logs
):
    async def exits(*, task_status):
        task_status.started()
        await trio.sleep(1)
        raise error

    with pytest.raises(type(error)) as caught:
        async with opened() as top:
            for spec in [*puppets.specs("ab"), ChildSpec(id="x", start=exits), *puppets.specs("c")]:
                await top.start_child(spec)
            await trio.sleep_forever()
    assert caught.value is error
    if opened is open_supervisor:
        assert puppets.log[3:] == ["-c", "-b", "-a"]
    assert reported(logs) == []


async def test_what_ends_the_program_passes_through_all_supervisors(autojump_clock, puppets, logs):
    async def exits(*, task_status):
        task_status.started()
        await trio.sleep(1)
        raise SystemExit(3)

    inner = Supervisor.child_spec("inner", [puppets.spec("b"), ChildSpec(id="x", start=exits)])
    with pytest.raises(SystemExit):
        async with open_supervisor([puppets.spec("a"), Supervisor.child_spec("middle", [inner])]):
            await trio.sleep_forever()
    assert puppets.log == ["+a", "+b", "-b", "-a"]
    assert reported(logs) == []


@pytest.mark.parametrize("life", ["first", "second"])
async def test_what_ends_the_program_in_a_start_is_no_failed_start(autojump_clock, puppets, life, logs):
    puppets.starts["b"] = [SystemExit(3)] if life == "first" else [None, SystemExit(3)]
    with pytest.raises(SystemExit):
        async with open_supervisor(puppets.specs("ab")):
            await puppets.exit("b")
            await trio.sleep_forever()
    assert puppets.log[-1] == "-a"
    assert reported(logs, "start_error", "shutdown") == []


async def slow(seconds, log, *, task_status):
    log.append("begun")
    try:
        await trio.sleep(seconds)
        task_status.started()
        log.append("started")
        await trio.sleep_forever()
    finally:
        log.append("gone")


@case("TRIO", "cancel during a child's start")
@case("TRIO", "late started() after the starter was cancelled")
@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
async def test_cancelling_start_child_leaves_nothing_of_the_child(autojump_clock, puppets, opened):
    async with opened() as top:
        log: list[str] = []
        await top.start_child(puppets.spec("a"))
        with trio.move_on_after(1):
            await top.start_child(ChildSpec(id="slow", start=slow, args=(2, log)))
        assert log == ["begun", "gone"]
        assert running(top) == ["a"]
        await top.start_child(puppets.spec("b"))
        assert running(top) == ["a", "b"]


@case("TRIO", "late started() after the starter was cancelled")
async def test_a_child_that_says_started_after_its_starter_left_is_not_taken(autojump_clock, puppets):
    async def late(*, task_status):
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        task_status.started()
        await trio.sleep_forever()

    async with open_supervisor() as top:
        with trio.move_on_after(1):
            await top.start_child(ChildSpec(id="late", start=late))
        assert trio.current_time() == 2
        assert top.which_children() == []


async def test_a_child_that_crashes_while_its_start_is_cancelled_is_heard(autojump_clock):
    async def clumsy(*, task_status):
        try:
            await trio.sleep_forever()
        finally:
            raise Crash

    async with open_supervisor() as top:
        with pytest.raises(Crash), trio.move_on_after(1):
            await top.start_child(ChildSpec(id="clumsy", start=clumsy))


@case("TRIO", "cancel during a child's start")
async def test_cancelling_a_supervisor_that_starts_stops_what_is_up(autojump_clock, puppets, logs):
    log: list[str] = []
    specs = [*puppets.specs("ab"), ChildSpec(id="slow", start=slow, args=(2, log)), puppets.spec("c")]
    with trio.move_on_after(1):
        async with open_supervisor(specs):
            pytest.fail("it was not up yet")
    assert log == ["begun", "gone"]
    assert puppets.log == ["+a", "+b", "-b", "-a"]
    assert reported(logs) == []


@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
async def test_a_supervisor_that_ends_takes_a_start_with_it_that_another_task_waits_for(
    autojump_clock, opened
):
    log: list[str] = []

    async def start(top):
        with pytest.raises(errors.NoSupervisorError):
            await top.start_child(ChildSpec(id="slow", start=slow, args=(9, log)))

    async with trio.open_nursery() as nursery:
        async with opened() as top:
            nursery.start_soon(start, top)
            await wait_all_tasks_blocked()
        assert log == ["begun", "gone"]


async def test_a_child_that_says_started_after_it_was_stopped_has_not_started(autojump_clock):
    async def late(*, task_status):
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
            task_status.started()
            await trio.sleep(2)

    async def start(top):
        with pytest.raises(errors.NoSupervisorError):
            await top.start_child(ChildSpec(id="late", start=late))

    async with trio.open_nursery() as nursery, open_supervisor() as top:
        nursery.start_soon(start, top)
        await wait_all_tasks_blocked()


@case("TRIO", "start timeout")
async def test_a_child_that_is_not_ready_in_time_is_cancelled(autojump_clock, puppets, logs):
    log: list[str] = []
    spec = ChildSpec(id="slow", start=slow, args=(9, log), start_timeout=4)
    async with open_supervisor() as top:
        with pytest.raises(errors.StartTimeoutError, match="did not call started within 4 s"):
            await top.start_child(spec)
        assert log == ["begun", "gone"]
    assert (trio.current_time(), log) == (4, ["begun", "gone"])
    with pytest.raises(errors.ChildStartError) as caught:
        async with open_supervisor([spec]):
            pass
    assert isinstance(caught.value.__cause__, errors.StartTimeoutError)
    assert reported(logs) == [("start_error", "slow", "StartTimeoutError")]


async def test_a_child_that_says_started_too_late_has_not_started(autojump_clock):
    async def late(*, task_status):
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        task_status.started()
        await trio.sleep_forever()

    async with open_supervisor() as top:
        with pytest.raises(errors.StartTimeoutError):
            await top.start_child(ChildSpec(id="late", start=late, start_timeout=1))
        assert top.which_children() == []


async def test_a_child_that_was_ready_in_time_is_not_cut_off_later(autojump_clock, puppets):
    async with open_supervisor([puppets.spec("a", start_timeout=1)]) as top:
        await trio.sleep(100)
        assert running(top) == ["a"]


@case("TRIO", "child returns without started()")
async def test_a_child_that_returns_too_early_has_not_started(autojump_clock, logs):
    async def hasty(*, task_status):
        pass

    with pytest.raises(errors.ChildStartError) as caught:
        async with open_supervisor([ChildSpec(id="hasty", start=hasty)]):
            pass
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert reported(logs) == [("start_error", "hasty", "RuntimeError")]


async def test_a_start_that_cannot_even_be_called_has_failed(autojump_clock):
    async def child(argument, *, task_status):
        pass

    async with open_supervisor() as top:
        with pytest.raises(TypeError, match="argument"):
            await top.start_child(ChildSpec(id="a", start=child))
        assert top.which_children() == []


@case("TRIO", "started() called twice")
async def test_saying_started_twice_crashes_the_child(autojump_clock, logs):
    async def eager(*, task_status):
        task_status.started()
        task_status.started()

    async with open_supervisor() as top:
        await top.start_child(ChildSpec(id="eager", start=eager, restart=TEMPORARY))
        await wait_all_tasks_blocked()
        assert top.which_children() == []
    assert reported(logs) == [("child_terminated", "eager", "crash: RuntimeError")]


@case("TRIO", "sibling crash isolation")
@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
async def test_a_crash_cancels_no_sibling(autojump_clock, puppets, opened):
    async with opened() as top:
        for spec in [puppets.spec("a", TEMPORARY), puppets.spec("b")]:
            await top.start_child(spec)
        b = pids(top)["b"]
        await puppets.exit("a")
        assert pids(top) == {"b": b}


def group(*errors_: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("a nursery's", errors_)


@case("TRIO", "exit reason from group")
@pytest.mark.parametrize(
    ("error", "kind", "term"),
    [
        (group(Shutdown("a")), ExitKind.SHUTDOWN, "a"),
        (group(Shutdown(), group(Shutdown("b"))), ExitKind.SHUTDOWN, None),
        (group(errors.RestartLimitError("x", 3, 5)), ExitKind.SHUTDOWN, None),
        (group(Shutdown(), group(Shutdown(), Crash())), ExitKind.CRASH, None),
        (group(Crash()), ExitKind.CRASH, None),
    ],
)
async def test_a_group_ends_a_child_as_its_leaves_say(autojump_clock, error, kind, term):
    async def child(*, task_status):
        task_status.started()
        await trio.lowlevel.checkpoint()
        raise error

    async with open_supervisor() as top:
        life = await top.start_child(ChildSpec(id="a", start=child, restart=TEMPORARY))
        reason = await life.wait_exit()
    assert (reason.kind, reason.term, reason.error) == (kind, term, error)
    assert reason_of(error) == reason


async def test_a_nursery_of_the_childs_own_hides_no_shutdown(autojump_clock, puppets):
    async def child(*, task_status):
        async with trio.open_nursery():
            task_status.started()
            await trio.lowlevel.checkpoint()
            raise Shutdown("from inside")

    async with open_supervisor([ChildSpec(id="a", start=child, restart=TRANSIENT)]) as top:
        await wait_all_tasks_blocked()
        assert pids(top) == {"a": None}


@case("TRIO", "crash while being cancelled")
async def test_a_crash_in_the_clean_up_is_reported(autojump_clock, puppets, logs):
    async with open_supervisor([puppets.spec("a", on_stop=Crash("in clean-up"))]) as top:
        child = pids(top)["a"]
    assert child.exit_reason.kind is ExitKind.CRASH
    assert reported(logs) == [("shutdown_error", "a", "crash: Crash")]


@case("TRIO", "child swallows Cancelled and returns")
async def test_a_child_that_returns_when_cancelled_has_ended(autojump_clock, puppets, logs):
    async with open_supervisor([puppets.spec("a", TRANSIENT, on_stop="return"), puppets.spec("b")]) as top:
        child = pids(top)["a"]
        await top.terminate_child("a")
        assert child.exit_reason.kind is ExitKind.NORMAL
        assert running(top) == ["b"]
    assert reported(logs) == []


@case("TRIO", "stuck child")
async def test_a_child_that_cannot_be_killed_is_waited_for_and_reported(autojump_clock, puppets, logs):
    async with open_supervisor([puppets.spec("a", on_stop="shielded", shutdown=2)]) as top:
        child = pids(top)["a"]
        before = trio.current_time()
    assert trio.current_time() == before + 1_000
    assert child.exit_reason.kind is ExitKind.KILLED
    stuck = [entry for entry in logs if entry["event"] == "supervisor.stuck"]
    assert [entry["waited_seconds"] for entry in stuck] == [
        STUCK_SECONDS * n for n in range(1, 1 + int(998 // STUCK_SECONDS))
    ]
    [stack] = stuck[0]["await_stacks"]
    assert any(line.endswith(" _stop") for line in stack)


async def test_a_stuck_report_shows_also_the_tasks_that_the_child_waits_for(autojump_clock, puppets, logs):
    async def hangs():
        with trio.CancelScope(shield=True):
            await trio.sleep(10)

    async def child(*, task_status):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hangs)
            task_status.started()

    async with open_supervisor([ChildSpec(id="a", start=child, shutdown="brutal_kill")]):
        pass
    [_, stuck] = logs[:2]
    assert [stack[-1] for stack in stuck["await_stacks"]] != []
    assert any(line.endswith(" hangs") for stack in stuck["await_stacks"] for line in stack)


@case("TRIO", "restart budget under virtual time")
@pytest.mark.parametrize(("gap", "too_many"), [(5.0, True), (5.000000002, False), (4.9, True)])
async def test_a_restart_counts_for_a_period_and_its_last_instant(autojump_clock, puppets, gap, too_many):
    gave_up = True
    with pytest.raises(errors.RestartLimitError) if too_many else trio.CancelScope():
        async with open_supervisor(puppets.specs("a"), max_restarts=1, max_seconds=5):
            await trio.sleep(0.1)  # so that sums of floats are not exact
            await puppets.exit("a")
            await trio.sleep(gap)
            await puppets.exit("a")
            gave_up = False
    assert gave_up is too_many


def test_no_sum_of_floats_moves_the_boundary():
    for origin, period in itertools.product(range(40), range(1, 40)):
        window = RestartWindow(1, 0.1 * period)
        assert window.allow(0.1 * origin)
        assert not window.allow(0.1 * origin + 0.1 * period)


@case("TRIO", "transient nested supervisor")
async def test_a_transient_supervisor_that_gave_up_stays_down_but_not_silently(autojump_clock, puppets, logs):
    inner = Supervisor.child_spec("inner", [puppets.spec("a")], restart=TRANSIENT, max_restarts=0)
    async with open_supervisor([inner, puppets.spec("b")]) as top:
        await puppets.exit("a")
        assert pids(top)["inner"] is None
        assert running(top) == ["b"]
    assert reported(logs) == [
        ("child_terminated", "a", "crash: Crash"),
        ("shutdown", "a", "reached_max_restart_intensity"),
        ("child_gave_up", "inner", "shutdown"),
    ]
    assert logs[-1]["log_level"] == "warning"


@case("TRIO", "root escalation")
async def test_a_supervisor_that_gives_up_raises_at_its_block(autojump_clock, puppets):
    inner = Supervisor.child_spec("inner", [puppets.spec("a")], max_restarts=1)
    with pytest.raises(errors.RestartLimitError) as caught:
        async with open_supervisor([puppets.spec("b"), inner], max_restarts=1):
            for _ in range(4):
                await puppets.exit("a")
            pytest.fail("it goes on")
    assert caught.value.child_id == "inner"
    assert isinstance(caught.value.__cause__, errors.RestartLimitError)
    assert isinstance(caught.value.__cause__.__cause__, Crash)
    assert puppets.lives == {"a": 4, "b": 1}


@case(
    "TRIO", "async generator misuse", deviates="supervision has no streams: both doors are context managers"
)
async def test_leaving_a_block_early_stops_its_children(autojump_clock, puppets):
    for _ in range(2):
        async with open_supervisor(puppets.specs("a")):
            break
    assert puppets.log == ["+a", "-a"]


class Steps(trio.abc.Instrument):
    """Does something before the nth step of any task."""

    def __init__(self, action: Callable[[], None], at: int) -> None:
        self.action, self.left = action, at

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


@case(
    "TRIO", "no leaks under cancel-at-every-step", deviates="here of supervised tasks; of processes elsewhere"
)
def test_cancelled_at_whatever_step_a_tree_leaves_no_task():
    async def story(at: int) -> bool:
        puppets = Puppets()
        puppets.starts["b"] = [None, FAIL, None]
        inner = Supervisor.child_spec("inner", puppets.specs("cd", on_stop=1), strategy=Strategy.ONE_FOR_ALL)
        with trio.CancelScope() as scope:
            steps = Steps(scope.cancel, at)
            trio.lowlevel.add_instrument(steps)
            async with open_supervisor(
                [puppets.spec("a"), puppets.spec("b"), inner, DynamicSupervisor.child_spec("dynamic")],
                strategy=Strategy.REST_FOR_ONE,
            ) as top:
                await pids(top)["dynamic"].value.start_child(puppets.spec("e", TEMPORARY))
                await puppets.exit("b")
                await puppets.exit("c")
                await top.terminate_child("a")
                await top.restart_child("a")
        trio.lowlevel.remove_instrument(steps)  # an error if it broke
        for child_id in "abcde":
            assert puppets.lives[child_id] == puppets.log.count(f"-{child_id}")
        return steps.left <= 0

    at = 1
    while trio.run(story, at, clock=MockClock(autojump_threshold=0)):
        at += 1
    assert at > 50


@case("TRIO", "determinism", deviates="of supervised tasks; the backend's simulation has its own")
def test_the_same_seed_gives_the_same_story():
    def story(seed: int) -> list[str]:
        async def main() -> list[str]:
            puppets = Puppets()
            async with open_supervisor(
                puppets.specs("abcd"), strategy=Strategy.REST_FOR_ONE, max_restarts=9
            ) as top:
                for child_id in "cab":
                    puppets.live[child_id].tell(Crash())
                await wait_all_tasks_blocked()
                await top.terminate_child("b")
            return puppets.log

        trio._core._run._r.seed(seed)
        return trio.run(main, clock=MockClock(autojump_threshold=0))

    stories = [tuple(story(seed)) for seed in range(20)]
    assert stories == [tuple(story(seed)) for seed in range(20)]
    assert len(set(stories)) > 1


@case("TRIO", "10 000 idle actors", deviates="children that idle; measured in tests/bench")
async def test_ten_thousand_children_start_and_stop(autojump_clock, puppets):
    async def idle(*, task_status):
        task_status.started()
        await trio.sleep_forever()

    async with open_dynamic_supervisor() as top:
        spec = ChildSpec(id="idle", start=idle, restart=TEMPORARY)
        for _ in range(10_000):
            await top.start_child(spec)
        assert top.count_children().active == 10_000
        [*infos] = top.which_children()
    assert {info.child.exit_reason.kind for info in infos} == {ExitKind.SHUTDOWN}


async def test_what_the_user_raises_in_the_block_leaves_as_it_is(autojump_clock, puppets):
    for error in (KeyError("mine"), ExceptionGroup("mine", [KeyError()])):
        with pytest.raises(type(error)) as caught:
            async with open_supervisor(puppets.specs("a")):
                raise error
        assert caught.value is error
    assert puppets.log == ["+a", "-a"] * 2


async def test_what_the_user_raises_is_not_hidden_by_a_supervisor_that_gives_up(autojump_clock, puppets):
    with pytest.raises(KeyError):
        async with open_supervisor(puppets.specs("a"), max_restarts=0):
            try:
                await puppets.exit("a")
            finally:
                raise KeyError("mine")


async def test_a_supervisor_that_gives_up_is_not_hidden_by_being_cancelled(autojump_clock, puppets):
    with pytest.raises(errors.RestartLimitError), trio.CancelScope() as scope:
        async with open_supervisor(puppets.specs("a", on_stop=1), max_restarts=0):
            puppets.live["a"].tell(Crash())
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            scope.cancel()
            await trio.sleep_forever()


async def test_math_inf_is_no_time_that_passes(autojump_clock, puppets):
    async with open_supervisor([puppets.spec("a", shutdown=math.inf, on_stop=10**6)]):
        pass
    assert trio.current_time() == 10**6


async def start_quick(top: Supervisor | DynamicSupervisor, answers: list[str]) -> None:
    async def quick(*, task_status):
        task_status.started()

    try:
        await top.start_child(ChildSpec(id="quick", start=quick, restart=TEMPORARY))
    except errors.NoSupervisorError:
        answers.append("none")
    else:
        answers.append("started")


@pytest.mark.parametrize("opened", [open_supervisor, open_dynamic_supervisor])
def test_a_quick_child_that_meets_a_supervisor_that_ends_finds_none(opened):
    async def story(checkpoints: int) -> list[str]:
        answers: list[str] = []
        async with trio.open_nursery() as nursery, opened() as top:
            nursery.start_soon(start_quick, top, answers)
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
        return answers

    seen = set[str]()
    for seed, checkpoints in itertools.product(range(10), range(6)):
        seed_scheduler(seed)
        [answer] = trio.run(story, checkpoints)
        seen.add(answer)
    assert seen == {"none", "started"}
