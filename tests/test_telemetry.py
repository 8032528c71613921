"""Who hears of what, and that nobody is harmed by it."""

import contextvars
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
import pytest
import structlog
import structlog.testing
import trio
from hypothesis import given
from hypothesis import strategies as st

from codex_actors import Codex, Telemetry, errors, open_supervisor, telemetry
from codex_actors.events import Usage
from codex_actors.options import CodexOptions, Deadlines, ThreadOptions
from codex_actors.results import TurnResult, TurnUsage
from codex_actors.telemetry import (
    Event,
    ItemCompleted,
    NoiseReceived,
    ProcessKilled,
    ProcessLeftovers,
    ProcessSpawned,
    ProcessStopped,
    Prompt,
    Reply,
    RetryNotice,
    TraceContext,
    TurnException,
    TurnStart,
    TurnStop,
    UnknownReceived,
)
from codex_actors.testing import Act, exits, hangs, writes
from tests.fakes import (
    COMPLETED,
    DONE,
    OTHER_THREAD,
    STARTED,
    THREAD,
    command_begins,
    command_ends,
    fake_options,
    gate,
    line,
    said,
)

SECRET = "canary-of-the-user"
EXAMPLES: list[Event] = [
    TurnStart(input_length=12, model="m"),
    TurnStop(duration=1.5, usage=TurnUsage(turn=Usage(input_tokens=3, output_tokens=4))),
    TurnException(duration=1.5, error="TurnFailedError", category="turn", retryable=False),
    RetryNotice(attempt=1, max_attempts=5),
    ItemCompleted(item_type="agent_message", item_id="item_0"),
    UnknownReceived(size=10),
    NoiseReceived(size=10),
    ProcessSpawned(pid=7),
    ProcessStopped(pid=7, returncode=0),
    ProcessKilled(pid=7),
    ProcessLeftovers(pid=8, killed=("sleep",), kept=("tmux",)),
    Prompt(text=SECRET),
    Reply(text=SECRET),
]
FACTS = EXAMPLES[:-2]


def quiet() -> Telemetry:
    """Telemetry that nobody hears yet."""
    return Telemetry(log=False)


def fail(*_: object) -> str:
    raise ValueError(SECRET)


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[str]]]:
    """The lines that structlog has printed; nobody has configured it yet."""
    structlog.reset_defaults()
    yield lambda: capsys.readouterr().out.splitlines()  # noqa: PLW0108 - asks anew each time
    structlog.reset_defaults()


def test_an_example_of_every_event_is_tested():
    assert [type(example) for example in EXAMPLES] == list(get_args(Event))


def test_every_event_has_a_name_of_its_own():
    names = [event.name for event in EXAMPLES]
    assert len(set(names)) == len(names)
    assert {name[0] for name in names} == {"codex", "clear_text"}


@pytest.mark.parametrize(
    ("prefix", "heard"),
    [
        (("codex",), FACTS),
        (("codex", "turn"), EXAMPLES[:4]),
        (("codex", "turn", "stop"), EXAMPLES[1:2]),
        (("clear_text",), EXAMPLES[-2:]),
    ],
)
def test_a_handler_hears_the_events_whose_names_begin_with_its_prefix(prefix, heard):
    to, seen = quiet(), list[Event]()
    to.attach(prefix, seen.append)
    for event in EXAMPLES:
        assert to.wants(event.name) == (event in heard)
        to.emit(event)
    assert seen == heard


@pytest.mark.parametrize(
    "prefix", [(), "codex", ("codex", "trun"), ("codex", "turn", "stop", "it"), ("code",)]
)
def test_a_prefix_by_which_nothing_would_be_heard_or_clear_text_by_accident_is_refused(prefix):
    with pytest.raises(errors.OptionError, match="prefix: no event has a name that begins with"):
        quiet().attach(prefix, print)


class Waits:
    async def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize("handler", [None, "print", Waits().__call__, Waits()])
def test_what_cannot_be_called_or_would_have_to_be_awaited_is_refused(handler):
    with pytest.raises(errors.OptionError, match="handler: must be a plain function"):
        quiet().attach(("codex",), handler)
    with pytest.raises(errors.OptionError, match="tracer: must be a plain function"):
        quiet().attach_tracer(handler)


def test_a_handler_that_is_detached_hears_nothing_more():
    to, seen = quiet(), list[Event]()
    first, second = (to.attach(("codex",), seen.append) for _ in range(2))
    to.emit(EXAMPLES[0])
    first.detach()
    first.detach()
    to.emit(EXAMPLES[1])
    second.detach()
    to.emit(EXAMPLES[2])
    assert seen == [EXAMPLES[0], EXAMPLES[0], EXAMPLES[1]]
    assert not to.wants(TurnStart.name)


def test_handlers_may_come_and_go_while_an_event_is_told():
    to, seen = quiet(), list[str]()

    def replace_the_others(event: Event) -> None:
        seen.append("first")
        second.detach()
        to.attach(("codex",), lambda _: seen.append("third"))

    first = to.attach(("codex",), replace_the_others)
    second = to.attach(("codex",), lambda _: seen.append("second"))
    to.emit(EXAMPLES[0])
    assert seen == ["first"], "who was detached meanwhile is not called, and who came hears of the next one"
    first.detach()
    to.emit(EXAMPLES[0])
    assert seen == ["first", "third"]


def test_a_handler_that_fails_is_detached_and_reported_without_a_word_of_what_it_had():
    to = quiet()
    to.attach(("clear_text",), fail)
    with structlog.testing.capture_logs() as logged:
        to.emit(Prompt(text=SECRET))
        to.emit(Prompt(text=SECRET))
    [report] = logged
    assert (report["event"], report["log_level"]) == ("telemetry.handler_detached", "error")
    assert (report["handler"], report["error"]) == ("fail", "ValueError")
    assert re.fullmatch(r"test_telemetry\.py:\d+", report["raised_at"]), "not even a path"
    assert SECRET not in str(logged)


def test_a_handler_without_a_name_is_reported_by_its_kind_and_a_broken_log_does_no_harm(written):
    to = quiet()
    to.attach(("codex",), partial(fail))
    to.emit(EXAMPLES[0])
    [report] = written()
    assert "handler=partial" in report
    structlog.configure(processors=[fail])
    to.attach(("codex",), fail)
    to.emit(EXAMPLES[0])
    assert not to.wants(TurnStart.name)


FAILURES: list[type[BaseException]] = [ValueError, ExceptionGroup, KeyboardInterrupt, SystemExit]
TOLD = [EXAMPLES[0], EXAMPLES[1], EXAMPLES[4]]
PREFIXES = [("codex",), ("codex", "turn"), TurnStop.name, ItemCompleted.name]


class Handler:
    """Hears events until it fails, if it does."""

    def __init__(self, prefix: telemetry.Name, lives: int | None, failure: type[BaseException]) -> None:
        self.prefix = prefix
        self.seen: list[Event] = []
        self.lives = lives
        self.failure = failure

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        if len(self.seen) == self.lives:
            raise self.failure("no", [OSError()]) if self.failure is ExceptionGroup else self.failure

    def expected(self, told: list[Event]) -> list[Event]:
        mine = [event for event in told if event.name[: len(self.prefix)] == self.prefix]
        return mine[: self.lives]


HANDLERS = st.builds(
    Handler,
    st.sampled_from(PREFIXES),
    st.none() | st.integers(1, 3),
    st.sampled_from(FAILURES),
)


@given(st.lists(HANDLERS, min_size=1, max_size=5), st.lists(st.sampled_from(TOLD), min_size=1, max_size=12))
def test_whatever_some_handlers_do_every_other_one_gets_every_event_in_order(handlers, told):
    to = quiet()
    for handler in handlers:
        to.attach(handler.prefix, handler)
    with structlog.testing.capture_logs() as logged:
        for event in told:
            failing = [it for it in handlers if len(it.seen) + 1 == it.lives and it.expected([event])]
            fatal = [it.failure for it in failing if not issubclass(it.failure, Exception)]
            # The first of them is raised: nothing is swallowed that ends the program.
            with pytest.raises(fatal[0]) if fatal else nullcontext():
                to.emit(event)
    assert [handler.seen for handler in handlers] == [handler.expected(told) for handler in handlers]
    failed = [it for it in handlers if len(it.seen) == it.lives and issubclass(it.failure, Exception)]
    assert len(logged) == len(failed)


def test_the_first_tracer_that_has_a_place_is_heard_and_one_that_fails_is_detached():
    to, place = quiet(), TraceContext(traceparent="00-a-b-01")
    assert to.trace_context("x") is None
    to.attach_tracer(lambda turn_id: None)
    to.attach_tracer({"x": place}.__getitem__)
    last = to.attach_tracer(lambda turn_id: TraceContext(traceparent=turn_id))
    assert to.trace_context("x") is place
    with structlog.testing.capture_logs() as logged:
        assert to.trace_context("y") == TraceContext(traceparent="y")
    assert [(report["error"], report["raised_at"]) for report in logged] == [
        ("KeyError", logged[0]["raised_at"])
    ]
    last.detach()
    assert to.trace_context("x") is None


def test_to_import_it_loads_no_event_loop():
    program = "import sys, codex_actors.telemetry; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


# The log


def test_structlog_is_told_of_every_event_with_its_facts():
    with structlog.testing.capture_logs() as logged:
        for event in EXAMPLES:
            Telemetry().emit(event)
    assert len(logged) == len(FACTS)
    assert SECRET not in str(logged)
    assert logged[1] == {
        "event": "turn.completed",
        "log_level": "info",
        "turn_id": "",
        "thread_id": None,
        "duration_seconds": 1.5,
        "input_tokens": 3,
        "output_tokens": 4,
    }


def test_a_structlog_that_nobody_has_configured_is_told_of_warnings_only(written):
    to = Telemetry()
    for event in EXAMPLES:
        assert to.wants(event.name) == isinstance(event, ProcessKilled | ProcessLeftovers)
        to.emit(event)
    printed = written()
    assert [it.split()[4] for it in printed] == ["process.killed", "process.leftovers"], printed


def test_prompts_and_replies_are_logged_for_those_who_say_so_at_length(written):
    to = Telemetry(log=False, log_prompts_and_replies_in_clear_text=True)
    for event in EXAMPLES:
        to.emit(event)
    assert [SECRET in line for line in written()] == [True, True]


def test_events_can_be_logged_as_json(written):
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    for event in FACTS:
        Telemetry().emit(event)
    assert len([json.loads(line) for line in written()]) == len(FACTS)


def test_what_is_filtered_is_not_written(written):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    for event in FACTS:
        Telemetry().emit(event)
    lines = "".join(written())
    assert "turn.started" in lines
    assert "item.completed" not in lines


def test_a_log_that_was_broken_for_a_while_is_used_again(written):
    to = Telemetry()

    structlog.configure(processors=[fail])
    to.emit(EXAMPLES[0])
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    to.emit(EXAMPLES[0])
    assert [json.loads(line)["event"] for line in written()] == ["turn.started"]


def test_no_repr_shows_what_was_asked_or_answered():
    assert SECRET not in repr(EXAMPLES)
    assert "text=<18 hidden>" in repr(EXAMPLES[-1])


# The turns


Kind = TypeVar("Kind", bound=telemetry.TurnEvent)


class Listener:
    """Keeps what a runtime tells."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.telemetry = quiet()
        self.telemetry.attach(("codex",), self.events.append)

    def of(self, *kinds: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kinds)]

    def names(self) -> list[str]:
        return [".".join(event.name[1:]) for event in self.events]

    def spans(self) -> list[tuple[TurnStart, TurnStop | TurnException]]:
        """The turns that began, each with its end; fails if one has not exactly one."""
        ends = {event.turn_id: event for event in self.events if isinstance(event, TurnStop | TurnException)}
        starts = [event for event in self.events if isinstance(event, TurnStart)]
        assert [event.turn_id for event in starts if event.turn_id not in ends] == []
        assert len(ends) == len(starts) == len(self.of(TurnStart, TurnStop, TurnException)) / 2
        for start in starts:
            own = [event for event in self.events if event.turn_id == start.turn_id]
            assert (own[0], own[-1]) == (start, ends[start.turn_id])
        return [(start, ends[start.turn_id]) for start in starts]

    def ending(self) -> TurnStop | TurnException:
        [(_, end)] = self.spans()
        return end


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def open_codex(tmp_path: Path, heard: Listener) -> Callable[..., Codex]:
    """Opens a runtime whose codex does this, and whom the listener hears."""
    return lambda *acts, **options: Codex(fake_options(tmp_path, *acts, **options), telemetry=heard.telemetry)


async def test_a_turn_that_completes_is_told_from_beginning_to_end(open_codex, heard):
    async with open_codex(writes(DONE)) as codex:
        result = await codex.start_thread(ThreadOptions(model="m")).run("a prompt")
        assert heard.names() == [
            "turn.start", "process.spawned", "item.completed", "process.stopped", "turn.stop",
        ]  # fmt: skip
    start, spawned, item, stopped, end = heard.events
    assert (start.input_length, start.model, start.thread_id) == (8, "m", None)
    assert (item.item_type, item.item_id) == ("agent_message", "item_0")
    assert (stopped.pid, stopped.returncode) == (spawned.pid, 0)
    assert (end.usage, end.thread_id) == (result.usage, THREAD)
    assert len({event.turn_id for event in heard.events}) == 1
    times = [event.system_time for event in heard.events]
    assert times == sorted(times)
    assert end.duration == pytest.approx(times[-1] - times[0], abs=0.05)


FAILED = line("turn.failed", error={"message": f"{SECRET} hit your usage limit"})
UNHAPPY: dict[str, tuple[tuple[Act, ...], dict[str, Any], type[errors.CodexError]]] = {
    "fails": ((writes(STARTED + FAILED),), {}, errors.UsageLimitError),
    "is truncated": ((writes(STARTED),), {}, errors.StreamTruncatedError),
    "is refused": ((exits(2),), {}, errors.ConfigRefusedError),
    "panics": ((writes(STARTED), exits(101)), {}, errors.CodexPanickedError),
    "times out": (
        (writes(STARTED), hangs()),
        {"deadlines": Deadlines(idle_seconds=0.1)},
        errors.TurnTimeoutError,
    ),
    "cannot start": ((), {"codex_path": "/no/such/codex"}, errors.CodexNotFoundError),
    "has no home": ((), {"codex_home": "/no/such/home"}, errors.CodexHomeError),
}


@pytest.mark.parametrize("how", UNHAPPY)
async def test_a_turn_that_does_not_complete_is_told_as_an_exception(tmp_path, heard, how):
    acts, options, error = UNHAPPY[how]
    runtime = msgspec.structs.replace(fake_options(tmp_path, *acts), **options)
    with pytest.raises(error) as caught:
        async with Codex(runtime, telemetry=heard.telemetry) as codex:
            await codex.start_thread().run("go")
    end = heard.ending()
    assert isinstance(end, TurnException)
    assert (end.error, end.category, end.retryable) == (
        error.__name__,
        caught.value.category,
        caught.value.retryable,
    )
    assert SECRET not in repr(heard.events)


async def test_a_turn_that_is_left_is_told_as_an_exception_before_its_block_is_left(open_codex, heard):
    async with open_codex(writes(STARTED), hangs()) as codex:
        async with codex.start_thread().run_streamed("go") as turn:
            await anext(turn)
        assert heard.ending().error == "TurnInterruptedError"
        with trio.move_on_after(0.1):
            await codex.start_thread().run("go")
        async with codex.start_thread().run_streamed("go") as turn:
            turn.interrupt()
    assert [end.error for _, end in heard.spans()] == ["TurnInterruptedError"] * 3
    assert {it.returncode for it in heard.of(ProcessStopped)} == {-2}
    assert len(heard.of(ProcessStopped)) == len(heard.of(ProcessSpawned))


async def test_a_turn_that_never_gets_its_thread_is_told_too(tmp_path, heard):
    options = fake_options(tmp_path, writes(STARTED), hangs(), when_busy="refuse")
    codex = Codex(options, telemetry=heard.telemetry)
    async with codex, codex.resume_thread(THREAD).run_streamed("go"):
        with pytest.raises(errors.ThreadBusyError):
            await codex.resume_thread(THREAD).run("go")
    assert sorted((end.error, end.thread_id) for _, end in heard.spans()) == [
        ("ThreadBusyError", THREAD),
        ("TurnInterruptedError", THREAD),
    ]


async def test_turns_whose_runtime_is_closed_are_told_each_with_its_own_id(tmp_path, heard, nursery):
    options = fake_options(tmp_path, writes(STARTED), hangs())

    async def run(codex: Codex, thread_id: str) -> None:
        with suppress(errors.CodexError):
            await codex.resume_thread(thread_id).run("go")

    async with Codex(options, telemetry=heard.telemetry) as codex:
        for thread_id in (THREAD, THREAD, OTHER_THREAD):
            nursery.start_soon(run, codex, thread_id)
        await trio.testing.wait_all_tasks_blocked(0.1)
    assert sorted(end.error for _, end in heard.spans()) == [
        "RuntimeClosedError", "ThreadMismatchError", "TurnInterruptedError",
    ]  # fmt: skip


async def test_what_is_refused_starts_nothing_and_is_not_told(open_codex, heard):
    codex = open_codex(hangs())
    with pytest.raises(errors.RuntimeClosedError):
        await codex.start_thread().run("go")
    async with codex:
        with pytest.raises(errors.OptionError):
            await codex.start_thread().run("\ud800")
    assert heard.events == []


async def test_a_bug_in_a_backend_is_told_by_its_class(tmp_path, heard):
    class Stumbles:
        async def serve(self, codex: CodexOptions, *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await trio.sleep_forever()

        async def run_turn(self, *_: object) -> TurnResult:
            raise ExceptionGroup(SECRET, [KeyError(SECRET)])

    async with Codex(
        CodexOptions(codex_home=tmp_path), backend=Stumbles(), telemetry=heard.telemetry
    ) as codex:
        with pytest.raises(ExceptionGroup):
            await codex.start_thread().run("go")
    end = heard.ending()
    assert (end.error, end.category, end.retryable) == ("ExceptionGroup", None, False)
    assert SECRET not in repr(heard.events)


ODD = (
    line("error", message=f"Reconnecting... 2/5 ({SECRET})")
    + line("error", message="Reconnecting... waiting for network (x)")
    + line("error", message=SECRET)
    + line("new.kind", text=SECRET)
    + f"{SECRET}\n"
)


async def test_retries_unknown_events_and_noise_are_told_without_their_words(open_codex, heard):
    async with open_codex(writes(STARTED + ODD + COMPLETED)) as codex:
        await codex.start_thread().run("go")
    retries = [(it.attempt, it.max_attempts) for it in heard.of(RetryNotice)]
    assert retries == [(2, 5), (None, None)], "a notice of anything else is no retry"
    assert [it.size for it in heard.of(UnknownReceived, NoiseReceived)] == [
        len(it) for it in ODD.splitlines()[3:]
    ]
    assert SECRET not in repr(heard.events)


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        *zip(
            ODD.splitlines(keepends=True)[1:],
            [RetryNotice, None, UnknownReceived, NoiseReceived],
            strict=True,
        )
    ],
)
async def test_what_is_odd_is_told_to_those_who_do_not_listen_to_items(tmp_path, odd, kind):
    to, seen = quiet(), list[Event]()
    to.attach(("codex", "turn"), seen.append)
    to.attach(("codex", "line"), seen.append)
    async with Codex(
        fake_options(tmp_path, writes(STARTED + said("x") + odd + COMPLETED)), telemetry=to
    ) as codex:
        await codex.start_thread().run("go")
    assert [type(event) for event in seen[1:-1]] == ([kind] if kind else [])


async def test_items_are_told_when_they_are_read_also_if_nobody_takes_them(open_codex, heard, tmp_path):
    with gate(tmp_path / "gate") as door:
        acts = (writes(STARTED + said("a")), door.waits(), writes(command_begins() + command_ends()), hangs())
        async with open_codex(*acts) as codex, codex.start_thread().run_streamed("go") as turn:
            while not heard.of(ItemCompleted):
                await anext(turn)
            told = trio.Event()
            heard.telemetry.attach(ItemCompleted.name, lambda _: told.set())
            door.let_pass()
            with trio.fail_after(10):
                await told.wait()
    assert [(it.item_type, it.item_id) for it in heard.of(ItemCompleted)] == [
        ("agent_message", "item_0"),
        ("command_execution", "item_1"),
    ]


async def test_who_asks_for_clear_text_hears_the_prompt_and_the_last_reply(tmp_path):
    to, seen = quiet(), list[Event]()
    to.attach(("clear_text",), seen.append)
    for acts in ((writes(DONE),), (writes(STARTED + said("so far")),), (exits(2),)):
        async with Codex(fake_options(tmp_path, *acts), telemetry=to) as codex:
            with suppress(errors.CodexError):
                await codex.start_thread().run("a prompt")
    texts = [event.text for event in seen if isinstance(event, Prompt | Reply)]
    assert texts == ["a prompt", "done", "a prompt", "so far", "a prompt"]


async def test_the_turn_of_a_handler_that_fails_goes_on(tmp_path):
    to = quiet()
    for prefix in (("codex", "turn"), ("codex", "item"), ("codex", "process")):
        to.attach(prefix, fail)
    with structlog.testing.capture_logs() as logged:
        async with Codex(fake_options(tmp_path, writes(DONE)), telemetry=to) as codex:
            assert (await codex.start_thread().run("go")).final_response == "done"
    reports = [report for report in logged if report["event"].startswith("telemetry.")]
    assert [report["error"] for report in reports] == ["ValueError"] * 3


@pytest.mark.parametrize(
    ("kind", "acts"),
    [
        *[
            (kind, (writes(STARTED + said("x")), hangs()))
            for kind in (TurnStart, ProcessSpawned, ItemCompleted)
        ],
        *[(kind, (writes(DONE),)) for kind in (ProcessStopped, TurnStop)],
    ],
)
async def test_what_ends_the_program_is_raised_when_the_turn_was_stopped_in_good_order(
    tmp_path, heard, kind, acts
):
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    heard.telemetry.attach(kind.name, interrupt)
    with trio.move_on_after(10) as long_enough, pytest.raises(KeyboardInterrupt):
        async with Codex(fake_options(tmp_path, *acts), telemetry=heard.telemetry) as codex:
            with suppress(errors.CodexError):
                await codex.start_thread().run("go")
    assert not long_enough.cancel_called
    heard.spans()


async def test_what_ends_the_program_is_raised_also_while_codex_is_being_stopped(tmp_path, heard):
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    heard.telemetry.attach(ItemCompleted.name, interrupt)
    last_words = Act(f"last_words() {{ {writes(said('x'))}; }}; trap last_words INT")
    goes_on = Act("while :; do sleep 0.05; done")
    options = fake_options(tmp_path, last_words, writes(STARTED), goes_on)
    with pytest.raises(KeyboardInterrupt):
        async with Codex(options, telemetry=heard.telemetry) as codex:
            with suppress(errors.CodexError):
                async with codex.start_thread().run_streamed("go") as turn:
                    await anext(turn)
    heard.spans()


async def test_handlers_see_the_context_of_whoever_asked(open_codex, heard):
    request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")
    seen: list[str] = []
    heard.telemetry.attach(("codex",), lambda _: seen.append(request_id.get()))
    async with open_codex(writes(DONE)) as codex:
        request_id.set("mine")
        await codex.start_thread().run("go")
    assert set(seen) == {"mine"}


async def test_a_runtime_that_is_a_child_tells_too(tmp_path, heard):
    options = fake_options(tmp_path, writes(DONE))
    async with open_supervisor() as top:
        child = await top.start_child(Codex.child_spec(options=options, telemetry=heard.telemetry))
        assert child is not None
        assert isinstance(child.value, Codex)
        await child.value.start_thread().run("go")
    assert isinstance(heard.ending(), TurnStop)


def test_what_is_no_telemetry_is_refused():
    for make in (Codex, Codex.child_spec):
        with pytest.raises(errors.OptionError, match="telemetry: must be Telemetry"):
            make(telemetry=print)  # type: ignore[arg-type]


SHOWS_TRACE = Act('printf \'%s|%s\' "$TRACEPARENT" "$TRACESTATE" >"$CODEX_HOME/trace"')


async def test_codex_is_told_its_place_in_the_trace(tmp_path, heard):
    seen: list[str] = []

    def trace(turn_id: str) -> TraceContext:
        seen.append(turn_id)
        return TraceContext(traceparent=f"00-{turn_id}", tracestate="v=1")

    heard.telemetry.attach_tracer(trace)
    options = fake_options(tmp_path, SHOWS_TRACE, writes(DONE))
    async with Codex(options, telemetry=heard.telemetry) as codex:
        await codex.start_thread().run("go")
    [(start, _)] = heard.spans()
    assert seen == [start.turn_id]
    assert (tmp_path / "home/trace").read_text() == f"00-{start.turn_id}|v=1"


@pytest.mark.parametrize(
    ("place", "env", "shown"),
    [
        (None, {}, "inherited|theirs=1"),
        (TraceContext(traceparent="ours"), {}, "ours|"),
        (TraceContext(traceparent="ours"), {"TRACEPARENT": "by hand"}, "by hand|theirs=1"),
    ],
)
async def test_a_trace_that_is_set_by_hand_stays_and_one_that_is_inherited_gives_way(
    tmp_path, monkeypatch, place, env, shown
):
    monkeypatch.setenv("TRACEPARENT", "inherited")
    monkeypatch.setenv("TRACESTATE", "theirs=1")
    to = quiet()
    to.attach_tracer(lambda _: place)
    options = fake_options(tmp_path, SHOWS_TRACE, writes(DONE), inherit_env="all", env=env)
    async with Codex(options, telemetry=to) as codex:
        await codex.start_thread().run("go")
    assert (tmp_path / "home/trace").read_text() == shown
