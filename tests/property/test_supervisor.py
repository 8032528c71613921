"""The running supervisors do what the obvious model does, whatever happens to them and in whatever order."""

import copy
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import nullcontext, suppress
from functools import partial

import pytest
import structlog
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from outcome import Outcome
from trio.testing import MockClock

from codex_actors import errors
from codex_actors._supervision import AutoShutdown, Restart, Strategy
from codex_actors._supervisor import DynamicSupervisor, Supervisor
from tests.otp.puppets import (
    EXITS,
    FAIL,
    IGNORE,
    Puppets,
    open_dynamic_supervisor,
    open_supervisor,
    pids,
    reported,
)
from tests.schedule import seed_scheduler

PERMANENT, TRANSIENT, TEMPORARY = Restart
OUTCOMES = {"ok": None, "ignore": IGNORE, "fail": FAIL}

# Each step is given more time than everything that it can cause takes.
STEP_SECONDS = 10_000


class Ended(Exception):  # noqa: N818 - no error: the model's supervisor is no more
    """The supervisor has given up or shut down."""


class ModelChild:
    """A child: up, down, dead (and nobody has looked yet), or restarting (its last start failed)."""

    def __init__(self, name, restart, significant, stop_seconds, shutdown):
        self.name, self.restart, self.significant = name, restart, significant
        self.stop_seconds, self.shutdown = stop_seconds, shutdown
        self.state = "down"
        self.how = ""


class Model:
    """A supervisor as the manual describes it: one thing after another, in lists."""

    def __init__(self, *, strategy, max_restarts, max_seconds, auto_shutdown, dynamic, starts):
        self.strategy, self.dynamic, self.auto_shutdown = strategy, dynamic, auto_shutdown
        self.max_restarts, self.max_seconds = max_restarts, max_seconds
        self.starts = {name: list(outcomes) for name, outcomes in starts.items()}
        self.children: list[ModelChild] = []
        self.restarts: list[float] = []
        self.now = 0.0
        self.log: list[str] = []
        self.reports: list[tuple[str, str]] = []
        self.end = ""
        self.mailbox: list[ModelChild] = []

    def find(self, name):
        return next((child for child in self.children if child.name == name), None)

    # ---- what is asked of it; returns the name of OTP's answer

    def start_child(self, child):
        present = self.find(child.name)
        if present and not self.dynamic:
            return "already_started" if present.state == "up" else "already_present"
        self.children.append(child)
        outcome = self.start(child)
        if outcome == "fail":
            self.children.remove(child)
        return outcome

    def terminate_child(self, name):
        child = self.find(name)
        if child is None:
            return "not_found"
        self.stop(child)
        self.forget(child)
        return "ok"

    def restart_child(self, name):
        child = self.find(name)
        if child is None or child.state != "down":
            return "not_found" if child is None else "running"
        outcome = self.start(child)
        if outcome == "ignore":
            self.forget(child)
        return outcome

    def delete_child(self, name):
        child = self.find(name)
        if child is None or child.state != "down":
            return "not_found" if child is None else "running"
        self.children.remove(child)
        return "ok"

    def exit(self, ends: list[tuple[str, str]]):
        """Children end by themselves at the same time; the supervisor looks at them in this order."""
        for name, how in ends:
            child = self.find(name)
            child.state, child.how = "dead", how
            self.log.append(f"-{name}")
        self.mailbox = [self.find(name) for name, _ in ends]
        with suppress(Ended):
            while self.mailbox:
                child = self.mailbox.pop(0)
                if child.state == "dead":
                    self.handle_exit(child)
                elif child.state == "restarting":
                    self.restart(child)
        return "ok"

    # ---- what it does by itself

    def handle_exit(self, child):
        crashed = child.how == "crash"
        if crashed or child.restart is PERMANENT:
            self.reports.append(("child_terminated", child.name))
        if child.restart is PERMANENT or (child.restart is TRANSIENT and crashed):
            self.restart(child)
            return
        self.forget(child)
        alive = any(other.significant and other.state != "down" for other in self.children)
        if child.significant and (self.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not alive):
            self.stop_all("shut down")

    def restart(self, child):
        self.restarts.append(self.now)
        if sum(self.now - then <= self.max_seconds for then in self.restarts) > self.max_restarts:
            self.reports.append(("shutdown", child.name))
            self.forget(child)
            self.stop_all("gave up")
        failed = self.try_restart(child)
        if failed is not None:
            failed.state = "restarting"
            self.mailbox.append(failed)  # whoever wrote before has its turn first

    def try_restart(self, child):
        index = self.children.index(child)
        group = {
            Strategy.ONE_FOR_ONE: [child],
            Strategy.REST_FOR_ONE: self.children[index:],
            Strategy.ONE_FOR_ALL: self.children[:],
        }[self.strategy]
        child.state = "down"
        for each in reversed(group):
            if each is not child:
                self.stop(each)
                self.forget(each)
        for each in group:
            if each not in self.children:
                continue
            outcome = self.start(each)
            if outcome == "fail":
                self.reports.append(("start_error", each.name))
                return each
            if outcome == "ignore":
                self.forget(each)
        return None

    def start(self, child):
        self.log.append(f"+{child.name}")
        coming = self.starts.get(child.name, ["ok"])
        outcome = coming.pop(0) if len(coming) > 1 else coming[0]
        child.state = "up" if outcome == "ok" else "down"
        if outcome == "ignore" and (self.dynamic or child.restart is TEMPORARY):
            self.children.remove(child)
        return outcome

    def stop(self, child):
        if child.state == "up":
            if child.shutdown != "brutal_kill":
                self.now += min(child.stop_seconds, child.shutdown)
                if child.stop_seconds > child.shutdown:
                    self.reports.append(("shutdown_error", child.name))
            self.log.append(f"-{child.name}")
        if child.state == "dead" and self.is_unexpected(child):
            self.reports.append(("shutdown_error", child.name))
        child.state = "down"

    def is_unexpected(self, child):
        if child.restart is not PERMANENT:
            return child.how == "crash"
        return child.how != "shutdown" or child.shutdown == "brutal_kill"

    def forget(self, child):
        child.state = "down"
        if child in self.children and (self.dynamic or child.restart is TEMPORARY):
            self.children.remove(child)

    def stop_all(self, why):
        self.end = why
        if self.dynamic:
            start = self.now
            for child in self.children:
                self.now = start
                self.stop(child)
        else:
            for child in reversed(self.children):
                self.stop(child)
        self.children = []
        raise Ended


NAMES = "abcde"


@st.composite
def children(draw, name, auto_shutdown):
    restart = draw(st.sampled_from(Restart))
    can_be_significant = restart is not PERMANENT and auto_shutdown is not AutoShutdown.NEVER
    return ModelChild(
        name,
        restart,
        can_be_significant and draw(st.booleans()),
        draw(st.sampled_from([0, 0, 1, 30])),
        draw(st.sampled_from([0.5, 5, 60, "brutal_kill"])),
    )


@st.composite
def models(draw, dynamic):
    auto_shutdown = draw(st.sampled_from(AutoShutdown))
    # A temporary or transient child whose supervisor ends a test early says little: keep that rare.
    outcomes = st.lists(st.sampled_from(["ok", "ok", "ok", "fail", "ignore"]), min_size=1, max_size=6)
    return Model(
        strategy=Strategy.ONE_FOR_ONE if dynamic else draw(st.sampled_from(Strategy)),
        max_restarts=draw(st.integers(0, 6)),
        max_seconds=draw(st.sampled_from([1, STEP_SECONDS, 3 * STEP_SECONDS, 50 * STEP_SECONDS])),
        auto_shutdown=auto_shutdown,
        dynamic=dynamic,
        starts={name: ["ok", *draw(outcomes)] for name in NAMES},
    )


class Run:
    """A running supervisor that stands still while nobody lets it go on.

    Its trio is a guest, and goes on tick by tick when it is told to: so Hypothesis has the word in between.
    """

    supervisor: Supervisor | DynamicSupervisor

    def __init__(self, model: Model, seed: int):
        self.puppets = Puppets()
        self.puppets.starts.update({n: [OUTCOMES[o] for o in all_of] for n, all_of in model.starts.items()})
        self.now = 0.0
        self._steps = deque[Callable[[], Awaitable[object]]]()
        self._answer: object = None
        self._is_left = False
        self._outcome: Outcome[None] | None = None
        self._ticks = deque[Callable[[], object]]()
        seed_scheduler(seed)
        trio.lowlevel.start_guest_run(
            self._live,
            model,
            run_sync_soon_threadsafe=self._ticks.append,
            done_callback=self._end,
            clock=MockClock(autojump_threshold=0),
            host_uses_signal_set_wakeup_fd=True,
        )
        self.take(trio.lowlevel.checkpoint)

    def take(self, step: Callable[[], Awaitable[object]]) -> object:
        """Let something happen, with all that it causes; returns the answer, None if the supervisor ended."""
        self._steps.append(step)
        self._answer = None
        while self._steps and not self.has_ended:
            self._ticks.popleft()()
        return self._answer

    def leave(self) -> Outcome[None]:
        """Leave the supervisor's block, unless that has happened; returns what came of it."""
        self._is_left = True
        while self._outcome is None:
            self._ticks.popleft()()
        return self._outcome

    @property
    def has_ended(self) -> bool:
        return self._outcome is not None

    def _end(self, outcome: Outcome[None]) -> None:
        self._outcome = outcome

    async def _live(self, model: Model) -> None:
        flags = {name: getattr(model, name) for name in ("max_restarts", "max_seconds", "auto_shutdown")}
        if model.dynamic:
            opened = open_dynamic_supervisor(**flags)
        else:
            opened = open_supervisor(strategy=model.strategy, **flags)
        async with opened as self.supervisor:
            while not self._is_left:
                if self._steps:
                    self._answer = await self._steps[0]()
                    self.now = trio.current_time()
                    await trio.sleep(STEP_SECONDS)
                    self._steps.popleft()
                await trio.lowlevel.checkpoint()


class SupervisorMachine(RuleBasedStateMachine):
    """What may happen to a supervisor, and its model."""

    dynamic = False
    run: Run

    def __init__(self):
        super().__init__()
        self.models: list[Model] = []
        self.lives: dict[Hashable, object] = {}
        self.reports: list[structlog.typing.EventDict] = []

    @initialize(data=st.data(), seed=st.integers(0, 2**16))
    def open(self, data, seed):
        model = data.draw(models(self.dynamic))
        self.run = Run(model, seed)
        self.models = [model]

    @property
    def up(self) -> list[str]:
        return [child.name for child in self.models[0].children if child.state == "up"]

    @precondition(lambda self: not self.dynamic or len(self.up) < len(NAMES))
    @rule(data=st.data())
    def start_child(self, data):
        [model] = self.models
        name = data.draw(st.sampled_from([n for n in NAMES if not model.dynamic or n not in self.up]))
        child = data.draw(children(name, model.auto_shutdown))
        spec = self.run.puppets.spec(
            child.name,
            child.restart,
            on_stop=child.stop_seconds,
            shutdown=child.shutdown,
            significant=child.significant,
        )
        self.call("start_child", spec, child)

    @rule(name=st.sampled_from(NAMES))
    def terminate_child(self, name):
        [model] = self.models
        argument = self.lives.get(name) if model.dynamic else name
        self.call("terminate_child", argument, name)

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def exit(self, data):
        # Two dynamic children are restarted side by side: which of many orders would be no promise.
        most = 1 if self.dynamic else 2
        names = data.draw(st.lists(st.sampled_from(self.up), min_size=1, max_size=most, unique=True))
        ends = [(name, data.draw(st.sampled_from([*EXITS, "crash", "crash"]))) for name in names]
        [one] = self.models
        other = copy.deepcopy(one)
        one.exit(ends)
        other.exit(ends[::-1])
        self.models = [one, other]

        async def tell() -> None:
            for name, how in ends:
                self.run.puppets.live[name].tell(EXITS[how])

        self.take(tell)

    def call(self, function: str, argument: object, of_model: ModelChild | str) -> None:
        if not self.run.has_ended:
            expected = getattr(self.models[0], function)(of_model)
            assert self.take(partial(ask, getattr(self.run.supervisor, function), argument)) == expected

    def take(self, step: Callable[[], Awaitable[object]]) -> object:
        """Let something happen to the supervisor, and compare."""
        with structlog.testing.capture_logs() as logs:
            answer = self.run.take(step)
        self.reports += logs
        self.agree()
        assert bool(self.models[0].end) is self.run.has_ended
        self.models[0].now = self.run.now + STEP_SECONDS
        return answer

    def agree(self) -> None:
        """One of the models is what happened; from here on it is the only one."""
        seen = self.seen()
        expected = [self.expected(model) for model in self.models]
        assert seen in expected
        self.models = [self.models[expected.index(seen)]]

    def expected(self, model: Model) -> tuple[object, ...]:
        states = [] if model.end else [(c.name, c.state) for c in model.children]
        return self.in_order(model.log), states, sorted(model.reports)

    def seen(self) -> tuple[object, ...]:
        try:
            states = [(name, "down" if pid is None else "up") for name, pid in self.pids()]
        except errors.NoSupervisorError:
            states = []
        reports = sorted(entry[:2] for entry in reported(self.reports))
        return self.in_order(self.run.puppets.log), states, reports

    def pids(self) -> Iterator[tuple[Hashable, object]]:
        for name, pid in pids(self.run.supervisor).items():
            assert pid != "restarting"
            self.lives[name] = pid
            yield name, pid

    def in_order(self, log: list[str]) -> list[str]:
        return sorted(log) if self.dynamic else list(log)

    def teardown(self):
        if not self.models:
            return
        with structlog.testing.capture_logs() as logs:
            outcome = self.run.leave()
        self.reports += logs
        for model in self.models:
            if not model.end:
                with suppress(Ended):
                    model.stop_all("left")
        self.agree()
        with pytest.raises(errors.RestartLimitError) if self.models[0].end == "gave up" else nullcontext():
            outcome.unwrap()


class StaticSupervisorMachine(SupervisorMachine):
    @rule(name=st.sampled_from(NAMES), function=st.sampled_from(["restart_child", "delete_child"]))
    def change(self, name, function):
        self.call(function, name, name)


class DynamicSupervisorMachine(SupervisorMachine):
    dynamic = True


async def ask(call: Callable[[object], Awaitable[object]], argument: object) -> str:
    try:
        with trio.fail_after(STEP_SECONDS):
            answer = await call(argument)
    except errors.AlreadyStartedError:
        return "already_started"
    except errors.AlreadyPresentError:
        return "already_present"
    except errors.ChildNotFoundError:
        return "not_found"
    except errors.ChildRunningError:
        return "running"
    except type(FAIL):
        return "fail"
    return "ok" if call.__name__ in {"terminate_child", "delete_child"} or answer else "ignore"


test_a_supervisor_does_what_its_model_does = StaticSupervisorMachine.TestCase
test_a_dynamic_supervisor_does_what_its_model_does = DynamicSupervisorMachine.TestCase
