"""Our supervisor, at the times at which Erlang's did the same, under a clock that waits for nobody."""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Any, NoReturn

import structlog
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from codex_actors import errors
from codex_actors._child import Child, ChildStatus
from codex_actors._host import ChildInfo
from codex_actors._supervision import (
    AutoShutdown,
    ChildSpec,
    ChildType,
    Ignore,
    Restart,
    Shutdown,
    Strategy,
)
from codex_actors._supervisor import (
    Flags,
    Supervisor,
    open_dynamic_supervisor,
    open_supervisor,
)
from tests.otp.programs import SIMPLE, Call, Exit, Hold, OneMore, Program, Step, Tree, Wait, Worker

MILLISECONDS = 0.001
MICROSECONDS = 0.000_001

# What OTP calls what we raise.
WORDS: dict[type[errors.SupervisionError], str] = {
    errors.AlreadyPresentError: "already_present",
    errors.AlreadyStartedError: "already_started",
    errors.ChildNotFoundError: "not_found",
    errors.ChildRestartingError: "restarting",
    errors.ChildRunningError: "running",
    errors.NoSupervisorError: "noproc",
}


class Crash(Exception):  # noqa: N818 - OTP's word
    """What a child raises when it is told to crash."""


def replay(program: Program, times: list[int], *, slack: float, seed: int = 0) -> list[tuple[Any, list[Any]]]:
    """Run a program.

    Args:
        program: What to run.
        times: When its start, its steps, the look at the tree and the stop are to begin, in microseconds.
        slack: Seconds that a restart counts for longer than the program says.
        seed: Decides the order in which trio runs tasks where it may choose.

    Returns:
        The result and the events of each step.
    """
    trio._core._run._r.seed(seed)
    play = (_SimplePlay if program.root.flags.strategy == SIMPLE else _Play)(slack)
    with _reports_to(play):
        trio.run(play.run, program, times, clock=MockClock(autojump_threshold=0))
    return [(_plain(result), [_plain(event) for event in events]) for result, events in play.moments]


def _plain(value: Any) -> Any:
    """As it looks in JSON; the reason of a life's end is known once it has ended."""
    match value:
        case Child():
            assert value.exit_reason
            return _reason(value.exit_reason.kind.value, value.exit_reason.term)
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _reason(kind: str, term: object) -> str:
    return kind if term is None else "{shutdown,term}"


@contextmanager
def _reports_to(play: "_Play") -> Iterator[None]:
    before = structlog.get_config()
    wrapper = structlog.make_filtering_bound_logger("warning")
    structlog.configure(processors=[play.report], wrapper_class=wrapper, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


class _Puppet:
    def __init__(self) -> None:
        self.told = trio.Event()
        self.reason = ""


class _Status(ChildStatus[Any]):
    """The status of a child that is a supervisor; it tells the play who that is."""

    def __init__(self, play: "_Play", path: str, status: ChildStatus[Any]) -> None:
        super().__init__(status._life, status._escalate)
        self._play, self._path = play, path

    def started(self, value: Any = None) -> None:
        self._play.supervisors[self._path] = value
        super().started(value)


class _Play:
    def __init__(self, slack: float) -> None:
        self.moments: list[tuple[Any, list[Any]]] = []
        self.supervisors: dict[str, Any] = {}
        self.lives: dict[str, Child] = {}
        self._slack = slack
        self._events: list[Any] = []
        self._puppets: dict[str, _Puppet] = {}
        self._starts = defaultdict[str, int](int)
        self._told_to_stop = trio.Event()

    async def run(self, program: Program, times: list[int]) -> None:
        async with trio.open_nursery() as nursery:
            steps: list[Callable[[], Awaitable[Any]]] = [
                partial(nursery.start, self._root, program.root),
                *(partial(self._step, step) for step in program.steps),
                self._look_at_all,
                self._stop,
            ]
            for at, step in zip(times, steps, strict=True):
                await trio.sleep_until(at * MICROSECONDS)
                self._events = []
                self.moments.append((await step(), self._events))
                await wait_all_tasks_blocked()

    # ------------------------------------------------------------------ steps

    async def _step(self, step: Step) -> Any:
        match step:
            case Wait():
                return "ok"
            case Exit(path, reason):
                return self._exit(path, reason)
            case Hold(path, steps):
                return await self._hold(path, steps)
            case Call():
                return await self._call(step)

    def _exit(self, path: str, reason: str) -> str:
        if path not in self._puppets:
            return "noproc"
        puppet = self._puppets.pop(path)
        puppet.reason = reason
        puppet.told.set()
        return "ok"

    async def _hold(self, path: str, steps: tuple[Exit | Call, ...]) -> Any:
        supervisor = self._running(path)
        if supervisor is None:
            return "noproc"
        results: list[Any] = [None] * len(steps)

        async def carry_out(number: int, step: Step) -> None:
            results[number] = await self._step(step)

        async with trio.open_nursery() as nursery, supervisor._turn:
            for number, step in enumerate(steps):
                nursery.start_soon(carry_out, number, step)
                await wait_all_tasks_blocked()
        return results

    async def _call(self, call: Call) -> Any:
        if call.path not in self.supervisors:
            return "noproc"
        try:
            return await self._ask(self.supervisors[call.path], call)
        except errors.SpecError:
            # We refuse a spec before we ask whether there is a supervisor; Elixir does, and OTP does not.
            return "bad_combination" if self._running(call.path) else "noproc"
        except (Crash, errors.ChildStartError):
            return "failed"
        except errors.SupervisionError as error:
            return WORDS[type(error)]

    async def _ask(self, supervisor: Any, call: Call) -> Any:
        child_id = call.argument
        match call.function:
            case "start_child":
                assert isinstance(call.argument, Worker)
                child = await supervisor.start_child(self._spec(call.path, call.argument))
                return "ok" if child else "ignored"
            case "restart_child":
                return "ok" if await supervisor.restart_child(child_id) else "ignored"
            case "terminate_child":
                await supervisor.terminate_child(child_id)
            case "delete_child":
                await supervisor.delete_child(child_id)
            case _:
                return _look(supervisor, call)
        return "ok"

    async def _look_at_all(self) -> Any:
        return self._tree("")

    async def _stop(self) -> str:
        self._told_to_stop.set()
        return "ok" if self._running("") else "noproc"

    def _running(self, path: str) -> Any:
        supervisor = self.supervisors.get(path)
        return supervisor if supervisor is not None and supervisor._nursery is not None else None

    def _tree(self, path: str) -> Any:
        supervisor = self._running(path)
        if supervisor is None:
            return "noproc"
        return [
            [info.id, self._tree(f"{path}/{info.id}") if _is_tree(info) else _state(info)]
            for info in supervisor.which_children()
        ]

    # ------------------------------------------------------------------ the tree

    async def _root(self, tree: Tree, *, task_status: trio.TaskStatus[Any]) -> None:
        self._events.append(("start", "", tree.restart, "ok"))
        try:
            async with self._open(tree) as self.supervisors[""]:
                task_status.started("ok")
                await self._told_to_stop.wait()
        except errors.ChildStartError as error:
            task_status.started(["failed", error.child_id])
            return
        except errors.RestartLimitError:
            pass
        self._events.append(("end", "", "shutdown"))

    def _open(self, tree: Tree) -> AbstractAsyncContextManager[Any]:
        children = [self._spec("", child) for child in tree.children]
        return open_supervisor(children, name="", **self._flags(tree))

    def _spec(self, path: str, child: Worker | Tree) -> ChildSpec:
        where = f"{path}/{child.id}"
        restart = Restart(child.restart)
        if isinstance(child, Tree):
            return ChildSpec(
                id=child.id,
                start=self._supervisor,
                args=(where, child),
                restart=restart,
                type=ChildType.SUPERVISOR,
                significant=child.significant,
            )
        return ChildSpec(
            id=child.id,
            start=self._worker,
            args=(where, child),
            restart=restart,
            shutdown=child.shutdown * MILLISECONDS if isinstance(child.shutdown, int) else "brutal_kill",
            significant=child.significant,
        )

    def _flags(self, tree: Tree) -> Flags:
        flags = tree.flags
        return {
            "strategy": Strategy.ONE_FOR_ONE if flags.strategy == SIMPLE else Strategy(flags.strategy),
            "max_restarts": flags.intensity,
            "max_seconds": flags.period + self._slack,
            "auto_shutdown": AutoShutdown(flags.auto_shutdown),
        }

    async def _supervisor(self, path: str, tree: Tree, *, task_status: ChildStatus[Any]) -> None:
        self._events.append(("start", path, tree.restart, "ok"))
        children = [self._spec(path, child) for child in tree.children]
        spec = Supervisor.child_spec(path, children, **self._flags(tree))
        try:
            await spec.start(*spec.args, task_status=_Status(self, path, task_status))
        finally:
            if task_status._life.is_started:
                self._events.append(("end", path, task_status._life))

    async def _worker(self, path: str, worker: Worker, *, task_status: ChildStatus[None]) -> None:
        outcome = worker.starts[self._starts[path] % len(worker.starts)]
        self._starts[path] += 1
        self._events.append(("start", path, worker.restart, outcome))
        if outcome == "ignore":
            raise Ignore
        if outcome == "fail":
            raise Crash
        puppet = self._puppets[path] = _Puppet()
        self.lives[path] = task_status._life
        task_status.started()
        try:
            await puppet.told.wait()
            _end(puppet.reason)
        except trio.Cancelled:
            self._puppets.pop(path, None)
            if await _is_killed(worker.on_stop, task_status) or worker.on_stop in {"stop", "clean"}:
                raise
            _end(worker.on_stop)
        finally:
            self._events.append(("end", path, task_status._life))

    def report(self, _: object, __: str, entry: structlog.typing.EventDict) -> NoReturn:
        context = entry["event"].removeprefix("supervisor.")
        if context != "child_gave_up":  # a report of ours alone
            reason = entry["reason"] if context in {"child_terminated", "shutdown_error"} else ""
            kind, _, term = reason.partition(": ")
            reason = _reason(kind, term if kind == "shutdown" and term else None)
            self._events.append(("report", entry["supervisor"], context, entry["offender"]["id"], reason))
        raise structlog.DropEvent


class _SimplePlay(_Play):
    """For a dynamic supervisor. OTP's simple_one_for_one has one spec, by which it starts them all."""

    def _open(self, tree: Tree) -> AbstractAsyncContextManager[Any]:
        self._template = tree.children[0]
        flags = self._flags(tree)
        return open_dynamic_supervisor(
            name="",
            max_restarts=flags["max_restarts"],
            max_seconds=flags["max_seconds"],
            auto_shutdown=flags["auto_shutdown"],
        )

    async def _ask(self, supervisor: Any, call: Call) -> Any:
        match call.argument:
            case OneMore(path, starts):
                assert isinstance(self._template, Worker)
                worker = replace(self._template, starts=starts)
                spec = replace(self._spec("", worker), args=(path, worker))
                return "ok" if await supervisor.start_child(spec) else "ignored"
            case str(path) if call.function == "terminate_child":
                await supervisor.terminate_child(self.lives.get(path, Child("nobody")))
                return "ok"
            case _:
                answer = _look(supervisor, call)
        if call.function == "count_children":
            return [1, *answer[1:]]  # there is that one spec
        return [["undefined", *about] for _, *about in answer]

    def _tree(self, path: str) -> Any:
        nameless = super()._tree(path)
        return nameless if nameless == "noproc" else [["undefined", state] for _, state in nameless]


async def _is_killed(on_stop: str, status: ChildStatus[None]) -> bool:
    """Whether a child that was asked to stop is killed before it gets to do so: then it does nothing."""
    with status.grace() as grace:
        await trio.sleep({"deaf": math.inf, "clean": 2 * MILLISECONDS}.get(on_stop, 0))
    return grace.cancelled_caught


def _end(how: str) -> None:
    match how:
        case "shutdown":
            raise Shutdown
        case "{shutdown,term}":
            raise Shutdown("term")
        case "crash":
            raise Crash
        case _:
            pass


def _look(supervisor: Any, call: Call) -> Any:
    match call.function:
        case "which_children":
            return [[info.id, _state(info), info.type.value] for info in supervisor.which_children()]
        case "count_children":
            counts = supervisor.count_children()
            return [counts.specs, counts.active, counts.supervisors, counts.workers]
        case _:
            spec = supervisor.get_childspec(call.argument)
            return [spec.id, spec.restart.value, _shutdown(spec), spec.type.value, spec.significant]


def _shutdown(spec: ChildSpec) -> object:
    if spec.shutdown == "brutal_kill":
        return spec.shutdown
    return "infinity" if spec.stop_seconds == math.inf else round(spec.stop_seconds / MILLISECONDS)


def _state(info: ChildInfo) -> str:
    if info.is_restarting:
        return "restarting"
    return "running" if info.child else "undefined"


def _is_tree(info: ChildInfo) -> bool:
    return info.type is ChildType.SUPERVISOR and info.child is not None
