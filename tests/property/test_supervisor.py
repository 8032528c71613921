"""The running supervisors do what the obvious model does, whatever happens to them and in whatever order."""

import copy
from collections.abc import Hashable, Iterator
from contextlib import suppress

import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st
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


NAMES = st.sampled_from("abcde")


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
        starts={name: ["ok", *draw(outcomes)] for name in "abcde"},
    )


class Run:
    """A running supervisor beside its model."""

    def __init__(
        self, data, model: Model, supervisor: Supervisor | DynamicSupervisor, puppets: Puppets, logs
    ):
        self.data, self.models, self.supervisor = data, [model], supervisor
        self.puppets, self.logs = puppets, logs
        self.lives: dict[Hashable, object] = {}

    def spec(self, child: ModelChild):
        return self.puppets.spec(
            child.name,
            child.restart,
            on_stop=child.stop_seconds,
            shutdown=child.shutdown,
            significant=child.significant,
        )

    async def step(self) -> None:
        """Let something happen to both, and compare."""
        [model] = self.models
        up = [child.name for child in model.children if child.state == "up"]
        steps = ["start_child", "start_child", "terminate_child"]
        steps += [] if model.dynamic else ["restart_child", "delete_child"]
        steps += ["exit"] * 5 if up else []
        before = copy.deepcopy(model)
        match self.data.draw(st.sampled_from(steps), label="step"):
            case "start_child":
                name = self.data.draw(NAMES.filter(lambda n: not model.dynamic or n not in up))
                child = self.data.draw(children(name, model.auto_shutdown))
                answers = [model.start_child(child)]
                answer = await self.ask("start_child", self.spec(child))
            case "exit":
                # Two dynamic children are restarted side by side: which of many orders would be no promise.
                most = 1 if model.dynamic else 2
                names = self.data.draw(st.lists(st.sampled_from(up), min_size=1, max_size=most, unique=True))
                ends = [(name, self.data.draw(st.sampled_from([*EXITS, "crash", "crash"]))) for name in names]
                variants = [before, copy.deepcopy(before)]
                answers = [variants[0].exit(ends), variants[1].exit(ends[::-1])]
                for name, how in ends:
                    self.puppets.live[name].tell(EXITS[how])
                answer = "ok"
                await self.compare(variants)
                return
            case call:
                name = self.data.draw(NAMES)
                answers = [getattr(model, call)(name)]
                answer = await self.ask(call, self.lives.get(name) if model.dynamic else name)
        assert [answer] == answers
        await self.compare([model])

    async def ask(self, call: str, argument: object) -> str:
        try:
            answer = await getattr(self.supervisor, call)(argument)
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
        return "ok" if call in {"terminate_child", "delete_child"} or answer else "ignore"

    async def compare(self, variants: list[Model]) -> None:
        """One of these is what happened; from here on it is the model."""
        started = trio.current_time()
        self.models = variants
        await trio.sleep(STEP_SECONDS)
        self.agree()
        assert not self.models[0].end
        self.models[0].now = started + STEP_SECONDS

    def agree(self) -> None:
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
        return self.in_order(self.puppets.log), states, sorted(entry[:2] for entry in reported(self.logs))

    def pids(self) -> Iterator[tuple[Hashable, object]]:
        for name, pid in pids(self.supervisor).items():
            assert pid != "restarting"
            self.lives[name] = pid
            yield name, pid

    def in_order(self, log: list[str]) -> list[str]:
        return sorted(log) if self.models[0].dynamic else list(log)


async def live_through(data, model: Model) -> None:
    puppets = Puppets()
    puppets.starts.update({n: [OUTCOMES[o] for o in outcomes] for n, outcomes in model.starts.items()})
    flags = {name: getattr(model, name) for name in ("max_restarts", "max_seconds", "auto_shutdown")}
    opened = (
        open_dynamic_supervisor(**flags)
        if model.dynamic
        else open_supervisor(strategy=model.strategy, **flags)
    )
    gave_up = False
    with structlog.testing.capture_logs() as logs:
        try:
            async with opened as supervisor:
                run = Run(data, model, supervisor, puppets, logs)
                for _ in range(data.draw(st.integers(1, 12))):
                    await run.step()
        except errors.RestartLimitError:
            gave_up = True
        for ended in run.models:
            if not ended.end:
                with suppress(Ended):
                    ended.stop_all("left")
        run.agree()
        assert gave_up is (run.models[0].end == "gave up")


def explore(data, dynamic: bool) -> None:
    seed_scheduler(data.draw(st.integers(0, 2**16), label="seed"))
    trio.run(live_through, data, data.draw(models(dynamic)), clock=MockClock(autojump_threshold=0))


@given(st.data())
def test_a_supervisor_does_what_its_model_does(data):
    explore(data, dynamic=False)


@given(st.data())
def test_a_dynamic_supervisor_does_what_its_model_does(data):
    explore(data, dynamic=True)
