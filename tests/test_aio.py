"""The door for programs on asyncio, on fake codexes."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from codex_actors import aio, errors, events
from codex_actors.aio import Codex
from codex_actors.options import BaseBranch, CustomReview, Deadlines, LastThread, ThreadOptions
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


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.002)


async def wait_running(codex: Codex, turns: int = 1) -> None:
    await wait_until(lambda: codex.statistics().turns_running == turns)


# --- turns ---------------------------------------------------------------------------------------


def test_a_run_returns_what_the_turn_came_to(open_codex):
    async def main() -> None:
        async with open_codex(writes(DONE)) as codex:
            thread = codex.start_thread(ThreadOptions(model="m"))
            assert (thread.id, thread.options) == (None, ThreadOptions(model="m"))
            assert (await thread.run("go")).final_response == "done"
            assert thread.id == THREAD
            assert codex.statistics().turns_completed == 1

    asyncio.run(main())


def test_a_stream_yields_every_event_and_then_has_a_result(open_codex):
    async def main() -> None:
        async with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
            with pytest.raises(errors.TurnRunningError):
                turn.result  # noqa: B018 - asking is the test
            seen = [event async for event in turn]
            assert turn.thread_id == THREAD
            assert [event async for event in turn] == []
        assert [type(event) for event in seen] == [
            events.ThreadStarted,
            events.TurnStarted,
            events.ItemCompleted,
            events.TurnCompleted,
        ]
        assert turn.result.final_response == "done"

    asyncio.run(main())


def test_the_result_can_be_had_without_the_loop(open_codex):
    async def main() -> str:
        async with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
            await anext(turn)
            return str((await turn.wait_result()).final_response)

    assert asyncio.run(main()) == "done"


class Word(msgspec.Struct):
    word: str


def test_an_answer_can_be_an_instance(open_codex):
    async def main() -> None:
        async with open_codex(writes(STARTED + said('{"word": "yes"}') + COMPLETED)) as codex:
            thread = codex.start_thread()
            assert (await thread.run("go", output_type=Word)).parsed == Word("yes")
            async with thread.run_streamed("go", output_type=Word) as turn:
                assert (await turn.wait_result()).parsed == turn.result.parsed == Word("yes")

    asyncio.run(main())


def test_code_is_reviewed(open_codex):
    async def main() -> None:
        async with open_codex(writes(DONE)) as codex:
            thread = codex.start_thread()
            assert (await thread.review(BaseBranch("main"))).final_response == "done"
            async with thread.review_streamed(BaseBranch("main")) as turn:
                assert texts([event async for event in turn]) == ["done"]

    asyncio.run(main())


def test_threads_are_resumed_and_forked(open_codex):
    async def main() -> None:
        async with open_codex(writes(DONE)) as codex:
            assert codex.resume_thread(THREAD).id == THREAD
            assert codex.fork_thread(THREAD).id is None
            for resume_or_fork in (codex.resume_thread, codex.fork_thread):
                with pytest.raises(errors.OptionError, match="UUID"):
                    resume_or_fork("mine")
                with pytest.raises(errors.ThreadNotFoundError):
                    resume_or_fork(LastThread())

    asyncio.run(main())


def test_what_goes_wrong_is_the_same_error_as_on_trio(open_codex):
    async def main() -> None:
        async with open_codex(writes(STARTED), exits(101)) as codex:
            thread = codex.start_thread()
            with pytest.raises(errors.CodexPanickedError) as caught:
                await thread.run("go")
            assert caught.value.partial.thread_id == THREAD
            async with thread.run_streamed("go") as turn:
                with pytest.raises(errors.CodexPanickedError) as first:
                    [event async for event in turn]
                with pytest.raises(errors.CodexPanickedError) as second:
                    await turn.wait_result()
            assert first.value is second.value

    asyncio.run(main())


def test_what_cannot_work_is_refused_before_anything_starts(open_codex):
    async def main() -> None:
        async with open_codex(writes(DONE)) as codex:
            thread = codex.start_thread()
            with pytest.raises(errors.OptionError, match="no text"):
                await thread.run(" ")
            with pytest.raises(errors.OptionError, match="no text"):
                thread.run_streamed(" ")
            with pytest.raises(errors.OptionError, match="target"):
                await thread.review("main")
            with pytest.raises(errors.OptionError, match="target"):
                thread.review_streamed("main")
            assert codex.statistics().turns_started == 0

    asyncio.run(main())


def test_no_traceback_shows_what_was_asked(open_codex):
    async def caught(ask: Awaitable[object]) -> errors.CodexError:
        with pytest.raises(errors.CodexError) as failed:
            await ask
        return failed.value

    async def stream(opening) -> None:
        async with opening as turn:
            await turn.wait_result()

    async def main() -> None:
        codex = open_codex(writes(STARTED), exits(101))
        thread = codex.start_thread()
        for open_or_closed in (codex, nullcontext()):
            async with open_or_closed:
                for ask in (
                    thread.run("canary"),
                    thread.review(CustomReview("canary")),
                    stream(thread.run_streamed("canary")),
                    stream(thread.review_streamed(CustomReview("canary"))),
                ):
                    assert "canary" not in shown_locals(await caught(ask))

    asyncio.run(main())


def test_turns_run_side_by_side(open_codex, hold):
    async def main() -> None:
        async with open_codex(hold.waits(), answers_on_a_thread_of_its_own()) as codex:
            async with asyncio.TaskGroup() as group:
                runs = [group.create_task(codex.start_thread().run("go")) for _ in range(20)]
                await wait_running(codex, 20)
                hold.let_pass(20)
            assert len({run.result().thread_id for run in runs}) == 20

    asyncio.run(main())


def test_the_loop_runs_on_while_a_turn_does(open_codex, hold):
    async def main() -> None:
        async with open_codex(hold.waits(), writes(DONE)) as codex, asyncio.TaskGroup() as group:
            run = group.create_task(codex.start_thread().run("go"))
            await wait_running(codex)
            hold.let_pass()
            assert (await run).final_response == "done"

    asyncio.run(main())


def test_an_interrupt_stops_the_turn_and_the_loop_says_so(open_codex):
    async def main() -> None:
        async with open_codex(*HANGS) as codex, codex.start_thread().run_streamed("go") as turn:
            with pytest.raises(errors.TurnInterruptedError):
                async for event in turn:
                    if isinstance(event, events.ItemCompleted):
                        turn.interrupt()

    asyncio.run(main())


def test_a_block_that_is_left_early_ends_its_turn(open_codex):
    async def main() -> None:
        async with open_codex(*HANGS) as codex:
            async with codex.start_thread().run_streamed("go") as turn:
                await anext(turn)
            assert codex.statistics().turns_running == 0
            with pytest.raises(KeyError, match="mine"):
                async with codex.start_thread().run_streamed("go"):
                    raise KeyError("mine")
            assert codex.statistics().turns_running == 0

    asyncio.run(main())


def test_an_exception_does_not_wait_for_codex_to_exit_by_itself(open_codex, hold):
    async def main() -> None:
        slow = Deadlines(exit_seconds=60)
        async with open_codex(writes(DONE), hold.waits(), deadlines=slow) as codex:
            with pytest.raises(KeyError, match="mine"):
                async with codex.start_thread().run_streamed("go") as turn:
                    async for event in turn:
                        if isinstance(event, events.TurnCompleted):
                            raise KeyError("mine")
            assert turn.result.returncode == -signal.SIGINT

    asyncio.run(main())


def test_nobody_taking_events_stops_the_reading_and_not_the_program(open_codex, tmp_path):
    """Two batches wait in the channel and one in Codex's pipe; a megabyte more does not fit."""
    much = said("x" * 300_000)
    acts = [writes(STARTED), *[writes(much)] * 8, Act(f"touch '{tmp_path}/said'"), writes(COMPLETED)]

    async def main() -> None:
        async with open_codex(*acts) as codex, codex.start_thread().run_streamed("go") as turn:
            await anext(turn)
            settled = codex._host.call(partial(trio.testing.wait_all_tasks_blocked, 0.2))
            await aio._wait(settled)
            assert not (tmp_path / "said").exists()
            assert len([event async for event in turn]) == 1 + 8 + 1

    asyncio.run(main())


# --- cancelling ----------------------------------------------------------------------------------


def test_a_cancelled_run_has_ended_its_turn_when_it_raises(open_codex):
    async def main() -> None:
        async with open_codex(*HANGS) as codex:
            run = asyncio.create_task(codex.start_thread().run("go"))
            await wait_running(codex)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert codex.statistics().turns_running == 0

    asyncio.run(main())


def test_cancelling_again_and_again_changes_nothing(open_codex):
    deaf = (ignores(signal.SIGINT), *HANGS)

    async def main() -> None:
        async with open_codex(*deaf, deadlines=Deadlines(interrupt_seconds=0.3)) as codex:
            run = asyncio.create_task(codex.start_thread().run("go"))
            await wait_running(codex)
            while not run.done():
                run.cancel()
                await asyncio.sleep(0.05)
            assert run.cancelled()
            assert codex.statistics().turns_running == 0

    asyncio.run(main())


def test_a_timeout_ends_the_turn(open_codex):
    async def main() -> None:
        async with open_codex(*HANGS) as codex:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await codex.start_thread().run("go")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), codex.start_thread().run_streamed("go") as turn:
                    [event async for event in turn]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(codex.start_thread().run("go"), 0.1)
            assert codex.statistics().turns_running == 0

    asyncio.run(main())


def test_a_task_group_that_fails_ends_the_turns_of_its_tasks(open_codex):
    async def main() -> None:
        async with open_codex(*HANGS) as codex:
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(codex.start_thread().run("go"))
                    await wait_running(codex, 3)
                    raise KeyError("mine")
            assert [type(exc) for exc in caught.value.exceptions] == [KeyError]
            assert codex.statistics().turns_running == 0

    asyncio.run(main())


def test_cancelled_while_its_block_is_left_a_turn_ends_sooner(open_codex, hold):
    async def stream(codex: Codex) -> None:
        async with codex.start_thread().run_streamed("go") as turn:
            async for event in turn:
                if isinstance(event, events.TurnCompleted):
                    break

    async def main() -> None:
        slow = Deadlines(exit_seconds=30)
        async with open_codex(writes(DONE), hold.waits(), deadlines=slow) as codex:
            task = asyncio.create_task(stream(codex))
            await wait_running(codex)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert codex.statistics().turns_running == 0

    asyncio.run(main())


def test_cancelled_after_any_number_of_steps_nothing_is_left(open_codex):
    """The fixture that every test has looks for what is left."""

    async def work(codex: Codex) -> None:
        async with codex:
            thread = codex.resume_thread(THREAD)
            async with thread.run_streamed("go") as turn:
                [event async for event in turn]

    async def main(seconds: float) -> bool:
        task = asyncio.create_task(work(open_codex(writes(STARTED), writes(COMPLETED))))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    cancelled = [asyncio.run(main(step / 1000)) for step in range(0, 40, 2)]
    assert cancelled[0]
    assert not asyncio.run(main(20))


def test_cancelling_the_loop_over_events_loses_none(open_codex):
    lines = [said(str(number)) for number in range(100)]
    acts = [writes(STARTED), *map(writes, lines), writes(COMPLETED)]

    async def main() -> None:
        seen: list[events.Event] = []

        async def take_one() -> None:
            seen.append(await anext(turn))

        async with open_codex(*acts) as codex, codex.start_thread().run_streamed("go") as turn:
            while not any(isinstance(event, events.TurnCompleted) for event in seen):
                task = asyncio.create_task(take_one())
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
        assert texts(seen) == [str(number) for number in range(100)]

    asyncio.run(main())


# --- the life of a runtime -----------------------------------------------------------------------


def test_before_and_after_its_block_a_runtime_runs_nothing(open_codex):
    async def main() -> None:
        codex = open_codex(writes(DONE))
        thread = codex.start_thread()
        for _ in range(2):
            with pytest.raises(errors.RuntimeClosedError):
                await thread.run("go")
            with pytest.raises(errors.RuntimeClosedError):
                await thread.review(BaseBranch("main"))
            async with codex:
                assert (await thread.run("go")).final_response == "done"

    asyncio.run(main())


def test_closing_the_runtime_ends_the_turns_that_others_wait_for(open_codex):
    async def main() -> None:
        async with open_codex(*HANGS) as codex:
            runs = [asyncio.create_task(codex.start_thread().run("go")) for _ in range(3)]
            await wait_running(codex, 3)
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [errors.TurnInterruptedError] * 3

    asyncio.run(main())


def test_a_program_that_ends_ends_the_turns_that_still_run(open_codex):
    async def in_background() -> None:
        async with open_codex(*HANGS) as codex:
            running.append(codex)
            await codex.start_thread().run("go")

    async def main() -> None:
        tasks.append(asyncio.create_task(in_background()))
        await wait_until(lambda: bool(running))
        await wait_running(running[0])

    running: list[Codex] = []
    tasks: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert tasks[0].cancelled()
    assert running[0].statistics().turns_running == 0


def test_two_loops_share_a_runtime_and_one_that_opened_it_need_not_close_it(open_codex):
    with asyncio.Runner() as first, asyncio.Runner() as second:
        codex = open_codex(writes(DONE))
        first.run(codex.__aenter__())
        thread = codex.start_thread()
        for runner in (first, second):
            assert runner.run(thread.run("go")).final_response == "done"
        second.run(codex.__aexit__(None, None, None))


def test_a_loop_that_is_closed_inside_of_a_block_closes_the_runtime(open_codex):
    async def hold_open() -> None:
        async with codex, codex.start_thread().run_streamed("go"):
            inside.set()
            await asyncio.Event().wait()

    codex, inside = open_codex(*HANGS), asyncio.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(hold_open())
    loop.run_until_complete(inside.wait())
    [thread] = [each for each in threading.enumerate() if each.name == "codex_actors"]
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is asyncio's business to complain
    del task
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    assert codex.statistics().turns_running == 0


def test_a_loop_that_is_closed_under_a_wait_leaves_the_turn_to_the_end_of_the_program(tmp_path):
    options = fake_options(tmp_path, *HANGS)
    command = [sys.executable, "-c", _LOOP_CLOSED, str(options.codex_path), str(options.codex_home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "closed\n"
    assert "codex_actors" not in done.stderr.replace("codex_actors/aio.py", ""), done.stderr
    assert lock_files(options) == []


_LOOP_CLOSED = """
import asyncio, sys
from codex_actors.aio import Codex
from codex_actors.options import CodexOptions

async def ask():
    async with codex:
        await codex.start_thread().run("go")

async def wait_running():
    while not codex.statistics().turns_running:
        await asyncio.sleep(0.01)

codex = Codex(CodexOptions(codex_path=sys.argv[1], codex_home=sys.argv[2]))
loop = asyncio.new_event_loop()
task = loop.create_task(ask())
loop.run_until_complete(wait_running())
loop.close()
print("closed")
"""


def test_a_coroutine_that_is_closed_ends_its_turn(open_codex):
    async def stream(codex: Codex) -> None:
        async with codex.start_thread().run_streamed("go") as turn:
            [event async for event in turn]

    async def main() -> None:
        async with open_codex(*HANGS) as codex:
            for work in (codex.start_thread().run("go"), stream(codex)):
                task = Stepped(work)
                await wait_running(codex)
                task.close()
                await wait_running(codex, 0)

    asyncio.run(main())


class Stepped:
    """A coroutine that is driven by hand, so that it can be closed while it waits."""

    def __init__(self, work: Coroutine[Any, Any, object]) -> None:
        self._work = work
        self._step()

    def _step(self, *_: object) -> None:
        self._waits_for = self._work.send(None)
        self._waits_for._asyncio_future_blocking = False
        self._waits_for.add_done_callback(self._step)

    def close(self) -> None:
        self._waits_for.remove_done_callback(self._step)
        self._work.close()


def test_a_runtime_that_is_forgotten_while_open_closes_by_itself(open_codex):
    async def main() -> threading.Thread:
        codex = await open_codex(writes(DONE)).__aenter__()
        await codex.start_thread().run("go")
        [thread] = [each for each in threading.enumerate() if each.name == "codex_actors"]
        return thread

    with pytest.warns(ResourceWarning, match="left open"):
        thread = asyncio.run(main())
    thread.join(20)
    assert not thread.is_alive()


def test_what_runs_for_a_task_sees_its_context(open_codex):
    name = ContextVar("name", default="nobody")

    async def whose() -> str:
        return name.get()

    async def ask(codex: Codex, mine: str) -> str:
        name.set(mine)
        job = codex._host.call(whose)
        return await aio._wait(job)

    async def main() -> None:
        async with open_codex() as codex:
            assert await asyncio.gather(*(ask(codex, each) for each in "abc")) == ["a", "b", "c"]

    asyncio.run(main())


def test_asyncio_has_nothing_to_complain_about_in_its_debug_mode(open_codex, caplog):
    async def main() -> None:
        async with open_codex(writes(DONE)) as codex:
            assert (await codex.start_thread().run("go")).final_response == "done"

    with warnings.catch_warnings(action="error"):
        asyncio.run(main(), debug=True)
    assert [record.message for record in caplog.records if record.levelname != "DEBUG"] == []
