"""The door for plain scripts and notebooks, on fake codexes."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from codex_actors import blocking, errors, events
from codex_actors.blocking import Codex
from codex_actors.options import BaseBranch, CodexOptions, CustomReview, Deadlines, LastThread, ThreadOptions
from codex_actors.results import TurnResult
from codex_actors.telemetry import Telemetry
from codex_actors.testing import Act, exits, hangs, ignores, writes
from tests.fakes import (
    COMPLETED,
    DONE,
    STARTED,
    THREAD,
    Gate,
    answers_on_a_thread_of_its_own,
    fake_options,
    gate,
    lock_files,
    said,
    shown_locals,
    texts,
)

HANGS = (writes(STARTED + said("working")), hangs())


@pytest.fixture
def open_codex(tmp_path: Path):
    """A runtime, to be opened, whose codex does this."""
    return lambda *acts, **options: Codex(fake_options(tmp_path, *acts, **options))


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Gate]:
    with gate(tmp_path / "gate") as held:
        yield held


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Presses Ctrl-C, from any thread."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the handler is back in its place"
    signal.signal(signal.SIGINT, before)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def started(codex: Codex, turns: int = 1) -> Callable[[], bool]:
    """Whether that many turns run, and the last of them says something."""
    return lambda: codex.statistics().turns_running == turns


# --- turns ---------------------------------------------------------------------------------------


def test_a_run_returns_what_the_turn_came_to(open_codex):
    with open_codex(writes(DONE)) as codex:
        thread = codex.start_thread(ThreadOptions(model="m"))
        assert (thread.id, thread.options) == (None, ThreadOptions(model="m"))
        result = thread.run("go")
        assert codex.statistics().turns_completed == 1
    assert isinstance(result, TurnResult)
    assert (result.final_response, thread.id) == ("done", THREAD)


def test_a_stream_yields_every_event_and_then_has_a_result(open_codex):
    with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
        with pytest.raises(errors.TurnRunningError):
            turn.result  # noqa: B018 - asking is the test
        seen = list(turn)
        assert turn.thread_id == THREAD
        assert list(turn) == []
    assert [type(event) for event in seen] == [
        events.ThreadStarted,
        events.TurnStarted,
        events.ItemCompleted,
        events.TurnCompleted,
    ]
    assert turn.result.final_response == "done"


def test_the_result_can_be_had_without_the_loop(open_codex):
    with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
        next(turn)
        assert turn.wait_result().final_response == "done"


class Word(msgspec.Struct):
    word: str


def test_an_answer_can_be_an_instance(open_codex):
    with open_codex(writes(STARTED + said('{"word": "yes"}') + COMPLETED)) as codex:
        thread = codex.start_thread()
        assert thread.run("go", output_type=Word).parsed == Word("yes")
        with thread.run_streamed("go", output_type=Word) as turn:
            assert turn.wait_result().parsed == turn.result.parsed == Word("yes")


def test_telemetry_hears_of_turns(tmp_path):
    telemetry, heard = Telemetry(), list[tuple[str, ...]]()
    telemetry.attach(("codex", "turn", "stop"), lambda event: heard.append(event.name))
    with Codex(fake_options(tmp_path, writes(DONE)), telemetry=telemetry) as codex:
        codex.start_thread().run("go")
    assert heard == [("codex", "turn", "stop")]


def test_code_is_reviewed(open_codex):
    with open_codex(writes(DONE)) as codex:
        thread = codex.start_thread()
        assert thread.review(BaseBranch("main")).final_response == "done"
        with thread.review_streamed(BaseBranch("main")) as turn:
            assert texts(turn) == ["done"]


def test_threads_are_resumed_and_forked(open_codex):
    with open_codex(writes(DONE)) as codex:
        assert codex.resume_thread(THREAD).id == THREAD
        assert codex.fork_thread(THREAD).id is None
        for resume_or_fork in (codex.resume_thread, codex.fork_thread):
            with pytest.raises(errors.OptionError, match="UUID"):
                resume_or_fork("mine")
            with pytest.raises(errors.ThreadNotFoundError):
                resume_or_fork(LastThread())


def test_what_goes_wrong_is_the_same_error_as_on_trio(open_codex):
    with open_codex(writes(STARTED), exits(101)) as codex:
        thread = codex.start_thread()
        with pytest.raises(errors.CodexPanickedError) as caught:
            thread.run("go")
        assert caught.value.partial.thread_id == THREAD
        with thread.run_streamed("go") as turn:
            with pytest.raises(errors.CodexPanickedError) as first:
                list(turn)
            with pytest.raises(errors.CodexPanickedError) as second:
                turn.wait_result()
            with pytest.raises(errors.CodexPanickedError) as third:
                turn.result  # noqa: B018 - asking is the test
        assert first.value is second.value is third.value


def test_what_cannot_work_is_refused_before_anything_starts(open_codex):
    with pytest.raises(errors.OptionError):
        Codex(ThreadOptions())  # type: ignore[arg-type]
    with open_codex(writes(DONE)) as codex:
        thread = codex.start_thread()
        for ask in (thread.run, thread.run_streamed):
            with pytest.raises(errors.OptionError, match="no text"):
                ask(" ")
        for review in (thread.review, thread.review_streamed):
            with pytest.raises(errors.OptionError, match="target"):
                review("main")
        assert codex.statistics().turns_started == 0


def test_no_traceback_shows_what_was_asked(open_codex):
    codex = open_codex(writes(STARTED), exits(101))
    thread = codex.start_thread()
    asks = [
        lambda: thread.run("canary"),
        lambda: thread.review(CustomReview("canary")),
        lambda: thread.run_streamed("canary").__enter__().wait_result(),
        lambda: thread.review_streamed(CustomReview("canary")).__enter__().wait_result(),
    ]
    caught: list[errors.CodexError] = []
    for open_or_closed in (codex, nullcontext()):
        with open_or_closed:
            for ask in asks:
                with pytest.raises(errors.CodexError) as failed:
                    ask()
                caught.append(failed.value)
    assert {type(exc) for exc in caught} == {errors.CodexPanickedError, errors.RuntimeClosedError}
    assert [exc for exc in caught if "canary" in shown_locals(exc)] == []


def test_a_busy_thread_is_refused_when_that_is_wanted(open_codex):
    with open_codex(*HANGS, when_busy="refuse") as codex:
        thread = codex.start_thread()
        with thread.run_streamed("go"):
            wait_until(started(codex))
            with pytest.raises(errors.ThreadBusyError), thread.run_streamed("again"):
                pass


# --- the end of a turn ---------------------------------------------------------------------------


def test_a_block_that_is_left_early_ends_its_turn(open_codex):
    with open_codex(*HANGS) as codex:
        with codex.start_thread().run_streamed("go") as turn:
            for event in turn:
                if isinstance(event, events.ItemCompleted):
                    break
        assert codex.statistics().turns_running == 0
        with pytest.raises(errors.TurnInterruptedError):
            turn.result  # noqa: B018 - asking is the test


def test_an_exception_leaves_a_block_as_it_is(open_codex):
    with open_codex(*HANGS) as codex:
        with pytest.raises(KeyError, match="mine"), codex.start_thread().run_streamed("go") as turn:
            next(turn)
            raise KeyError("mine")
        assert codex.statistics().turns_running == 0


def test_an_exception_does_not_wait_for_codex_to_exit_by_itself(open_codex, hold):
    slow = Deadlines(exit_seconds=60)
    with open_codex(writes(DONE), hold.waits(), deadlines=slow) as codex:
        with pytest.raises(KeyError), codex.start_thread().run_streamed("go") as turn:
            for event in turn:
                if isinstance(event, events.TurnCompleted):
                    raise KeyError("mine")
        assert turn.result.returncode == -signal.SIGINT


def test_a_turn_that_has_ended_is_seen_out_when_its_block_is_left(open_codex, hold):
    with open_codex(writes(DONE), hold.waits()) as codex, ThreadPoolExecutor() as pool:
        with codex.start_thread().run_streamed("go") as turn:
            for event in turn:
                if isinstance(event, events.TurnCompleted):
                    break
            pool.submit(hold.let_pass)
        assert turn.result.returncode == 0, "its process ended by itself"


def test_an_interrupt_stops_the_turn_and_the_loop_says_so(open_codex):
    with open_codex(*HANGS) as codex, codex.start_thread().run_streamed("go") as turn:
        with pytest.raises(errors.TurnInterruptedError) as caught:
            for event in turn:
                if isinstance(event, events.ItemCompleted):
                    turn.interrupt()
        assert caught.value.partial.thread_id == THREAD


def test_closing_the_runtime_ends_the_turns_that_others_wait_for(open_codex):
    with ThreadPoolExecutor() as pool:
        with open_codex(*HANGS) as codex:
            runs = [pool.submit(codex.start_thread().run, "go") for _ in range(3)]
            opened = codex.start_thread().run_streamed("go")
            turn = opened.__enter__()
            wait_until(started(codex, 4))
        for run in runs:
            with pytest.raises(errors.TurnInterruptedError):
                run.result()
        with pytest.raises(errors.TurnInterruptedError):
            turn.result  # noqa: B018 - asking is the test
        opened.__exit__(None, None, None)


def test_nobody_taking_events_stops_the_reading_and_not_the_program(open_codex, tmp_path):
    """Two batches wait in the channel and one in Codex's pipe; a megabyte more does not fit."""
    much = said("x" * 300_000)
    acts = [writes(STARTED), *[writes(much)] * 8, Act(f"touch '{tmp_path}/said'"), writes(COMPLETED)]
    with open_codex(*acts) as codex, codex.start_thread().run_streamed("go") as turn:
        next(turn)
        settle(codex)
        assert not (tmp_path / "said").exists()
        assert len(list(turn)) == 1 + 8 + 1
    assert (tmp_path / "said").exists()


def settle(codex: Codex) -> None:
    """Wait until trio has nothing more to do."""
    job = codex._host.call(partial(trio.testing.wait_all_tasks_blocked, 0.2))
    blocking._wait(job)


# --- Ctrl-C --------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_turn_and_then_raises(open_codex, ctrl_c):
    with open_codex(*HANGS) as codex, ThreadPoolExecutor() as pool:
        pool.submit(press_when, started(codex), ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            codex.start_thread().run("go")
        assert codex.statistics().turns_running == 0
        assert codex.start_thread().id is None, "the runtime can still be used"


def test_ctrl_c_again_and_again_changes_nothing(open_codex, ctrl_c):
    presses = [Act(f"kill -INT {os.getpid()}")] * 3
    deaf = (ignores(signal.SIGINT), writes(STARTED), *presses, hangs())
    with open_codex(*deaf, deadlines=Deadlines(interrupt_seconds=1)) as codex:
        with pytest.raises(KeyboardInterrupt):
            codex.start_thread().run("go")
        assert codex.statistics().turns_running == 0


def test_ctrl_c_while_events_are_awaited_ends_the_block(open_codex, ctrl_c):
    with open_codex(*HANGS) as codex, ThreadPoolExecutor() as pool:
        with pytest.raises(KeyboardInterrupt), codex.start_thread().run_streamed("go") as turn:
            pool.submit(press_when, lambda: turn.thread_id is not None, ctrl_c)
            list(turn)
        assert codex.statistics().turns_running == 0


def test_ctrl_c_while_a_thread_is_awaited_leaves_the_turn_that_has_it(open_codex, hold, ctrl_c):
    with (
        ThreadPoolExecutor() as pool,
        open_codex(writes(STARTED), hold.waits(), writes(COMPLETED)) as codex,
    ):
        thread = codex.start_thread()
        first = pool.submit(thread.run, "go")
        wait_until(started(codex))
        pool.submit(press_when, lambda: True, ctrl_c)
        with pytest.raises(KeyboardInterrupt), thread.run_streamed("me too"):
            pytest.fail("it is not free")
        hold.let_pass()
        assert first.result().thread_id == THREAD


def test_ctrl_c_in_the_moment_in_which_a_turn_begins_ends_it_first(open_codex, ctrl_c, monkeypatch):
    sleep_until = blocking._sleep_until

    def press_and_sleep(answer):
        sleep_until(answer)
        if codex.statistics().turns_running:
            ctrl_c()

    with open_codex(*HANGS) as codex:
        opening = codex.start_thread().run_streamed("go")
        monkeypatch.setattr(blocking, "_sleep_until", press_and_sleep)
        with pytest.raises(KeyboardInterrupt):
            opening.__enter__()
        assert codex.statistics().turns_running == 0


def test_ctrl_c_while_a_turn_is_closed_hurries_it(open_codex, hold, ctrl_c):
    deadlines = Deadlines(exit_seconds=30)
    with open_codex(writes(DONE), hold.waits(), deadlines=deadlines) as codex, ThreadPoolExecutor() as pool:
        with pytest.raises(KeyboardInterrupt), codex.start_thread().run_streamed("go") as turn:
            for event in turn:
                if isinstance(event, events.TurnCompleted):
                    pool.submit(press_when, lambda: True, ctrl_c)
                    break
        assert codex.statistics().turns_running == 0


def test_what_another_signal_handler_raises_ends_the_turn_too(open_codex):
    class StopError(Exception):
        pass

    def stop(_number, _frame):
        raise StopError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with open_codex(*HANGS) as codex, ThreadPoolExecutor() as pool:
            pool.submit(press_when, started(codex), lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(StopError):
                codex.start_thread().run("go")
            assert codex.statistics().turns_running == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_ctrl_c_handler_of_the_users_own_is_left_in_its_place(open_codex):
    seen: list[int] = []

    def note(number, _frame):
        seen.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        with open_codex(writes(STARTED), Act(f"kill -INT {os.getpid()}"), writes(COMPLETED)) as codex:
            assert codex.start_thread().run("go").thread_id == THREAD
            assert signal.getsignal(signal.SIGINT) is note
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def press_when(condition: Callable[[], bool], press: Callable[[], None]) -> None:
    """Press when this is so and the main thread waits for the runtime."""
    wait_until(lambda: condition() and signal.getsignal(signal.SIGINT) is not signal.default_int_handler)
    press()


def test_a_handler_that_ends_the_program_ends_it(tmp_path):
    def stop(_event: object) -> None:
        raise SystemExit(3)

    telemetry = Telemetry()
    telemetry.attach(("codex", "turn", "start"), stop)
    with (
        pytest.raises(SystemExit, match="3"),
        Codex(fake_options(tmp_path, *HANGS), telemetry=telemetry) as codex,
        pytest.raises(errors.CodexError),
    ):
        codex.start_thread().run("go")


# --- several threads, and loops ------------------------------------------------------------------


def test_several_threads_share_a_runtime(open_codex):
    with open_codex(answers_on_a_thread_of_its_own()) as codex, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: codex.start_thread().run("go"), range(24)))
        assert codex.statistics().turns_completed == 24
    assert len({result.thread_id for result in results}) == 24


def test_two_threads_cannot_take_the_events_of_one_turn_at_once(open_codex):
    with (
        ThreadPoolExecutor() as pool,
        open_codex(*HANGS) as codex,
        codex.start_thread().run_streamed("go") as turn,
    ):
        for _ in range(3):
            next(turn)
        waits = pool.submit(next, turn)
        settle(codex)
        with pytest.raises(trio.BusyResourceError):
            next(turn)
        turn.interrupt()
        with pytest.raises(errors.TurnInterruptedError):
            waits.result()


def test_it_works_where_a_loop_runs_already_as_in_a_notebook(open_codex):
    async def cell() -> str:
        with open_codex(writes(DONE)) as codex:
            return str(codex.start_thread().run("go").final_response)

    assert asyncio.run(cell()) == "done"
    assert trio.run(cell) == "done"


def test_what_runs_inside_of_the_runtime_cannot_wait_for_it(open_codex):
    with open_codex(writes(DONE)) as codex:

        async def handler() -> None:
            codex.start_thread().run("go")

        job = codex._host.call(handler)
        with pytest.raises(RuntimeError, match="use another thread"):
            blocking._wait(job)


# --- the life of a runtime -----------------------------------------------------------------------


def test_before_and_after_its_block_a_runtime_runs_nothing(open_codex):
    codex = open_codex(writes(DONE))
    thread = codex.start_thread()
    for _ in range(2):
        with pytest.raises(errors.RuntimeClosedError):
            thread.run("go")
        with pytest.raises(errors.RuntimeClosedError), thread.run_streamed("go"):
            pass
        with codex:
            assert thread.run("go").final_response == "done"


def test_a_turn_keeps_its_result_when_the_runtime_is_closed(open_codex):
    with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
        turn.wait_result()
    turn.interrupt()
    assert turn.result.final_response == "done"
    with pytest.raises(errors.RuntimeClosedError):
        next(turn)


def test_a_runtime_that_is_open_cannot_be_opened(open_codex):
    with open_codex(writes(DONE)) as codex:
        with pytest.raises(trio.BusyResourceError, match="open already"), codex:
            pass
        assert codex.start_thread().run("go").final_response == "done"


def test_a_runtime_that_is_forgotten_while_open_closes_by_itself(open_codex):
    codex = open_codex(*HANGS).__enter__()
    turn = codex.start_thread().run_streamed("go").__enter__()
    next(turn)
    [thread] = [each for each in threading.enumerate() if each.name == "codex_actors"]
    with pytest.warns(ResourceWarning, match="left open"):
        del codex, turn
    thread.join(20)
    assert not thread.is_alive()


def test_a_turn_that_is_forgotten_ends_and_one_that_somebody_has_goes_on(open_codex):
    with open_codex(*HANGS) as codex:
        turn = codex.start_thread().run_streamed("go").__enter__()
        next(turn)
        gc.collect()
        assert codex.statistics().turns_running == 1
        del turn
        wait_until(lambda: codex.statistics().turns_running == 0)
        with codex.start_thread().run_streamed("go"):
            gc.collect()
            wait_until(started(codex))


def test_a_runtime_that_cannot_start_says_why(open_codex, monkeypatch):
    monkeypatch.setattr(trio, "run", refuses_to_start)
    with pytest.raises(OSError, match="no descriptors"), open_codex():
        pytest.fail("it did not start")


def refuses_to_start(*_: object) -> None:
    raise OSError("no descriptors")


_FORGETFUL = """
import sys
from codex_actors.blocking import Codex
from codex_actors.options import CodexOptions
codex = Codex(CodexOptions(codex_path=sys.argv[1], codex_home=sys.argv[2])).__enter__()
turn = codex.start_thread().run_streamed("go").__enter__()
print(next(turn).thread_id, flush=True)
"""
_STILL_AT_WORK = """
import sys, threading
from codex_actors.blocking import Codex
from codex_actors.options import CodexOptions
codex = Codex(CodexOptions(codex_path=sys.argv[1], codex_home=sys.argv[2])).__enter__()
begun = threading.Event()

def work():
    with codex.start_thread().run_streamed("go") as turn:
        next(turn)
        begun.set()
        print(turn.wait_result().final_response)

threading.Thread(target=work).start()
begun.wait()
"""
_FORKS = """
import os, sys
from codex_actors.blocking import Codex
from codex_actors.errors import RuntimeClosedError
from codex_actors.options import CodexOptions
with Codex(CodexOptions(codex_path=sys.argv[1], codex_home=sys.argv[2])) as codex:
    thread = codex.start_thread()
    with thread.run_streamed("go") as turn:
        print(next(turn).thread_id, flush=True)
        child = os.fork()
        if child == 0:
            for use in (lambda: list(turn), turn.wait_result, lambda: thread.run("go")):
                try:
                    print(use())
                except RuntimeClosedError as error:
                    print(type(error).__name__)
            turn.interrupt()
        else:
            turn.wait_result()
    if child == 0:
        sys.exit(7)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), turn.result.final_response)
"""


def program(text: str, options: CodexOptions) -> "subprocess.Popen[str]":
    quiet = "ignore:This process:DeprecationWarning"  # of forks, which newer Pythons advise against
    command = [sys.executable, "-W", quiet, "-c", text, str(options.codex_path), str(options.codex_home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_interpreter_closes_what_is_open_when_it_exits(tmp_path):
    options = fake_options(tmp_path, *HANGS)
    output, complaints = program(_FORGETFUL, options).communicate(timeout=60)
    assert (output.split(), complaints) == ([THREAD], "")
    assert lock_files(options) == []


def test_threads_that_the_interpreter_waits_for_have_their_turns(tmp_path):
    options = fake_options(tmp_path, writes(STARTED), Act("sleep 0.3"), writes(said("late") + COMPLETED))
    output, complaints = program(_STILL_AT_WORK, options).communicate(timeout=60)
    assert (output, complaints) == ("late\n", "")


def test_a_fork_has_nothing_of_the_runtime_and_ends_nothing_of_it(tmp_path, hold):
    options = fake_options(tmp_path, writes(STARTED), hold.waits(), writes(said("done") + COMPLETED))
    with program(_FORKS, options) as forking:
        assert forking.stdout
        assert forking.stderr
        assert forking.stdout.readline() == f"{THREAD}\n"
        hold.let_pass()
        assert forking.stdout.read().splitlines() == [*["RuntimeClosedError"] * 3, "7 done"]
        assert forking.stderr.read() == ""
