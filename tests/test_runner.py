"""Actors that run turns on any backend, and never harm each other."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from codex_actors import Codex, errors, events
from codex_actors._protocol import Ending, LineDecoder, TurnState
from codex_actors.backends import ForkThread, NewThread, ResumeThread, ReviewChanges, TurnRequest
from codex_actors.options import CodexOptions, Deadlines, TurnOptions, UncommittedChanges
from codex_actors.results import TurnResult
from tests.fakes import COMPLETED, DONE, OTHER_THREAD, STARTED, THREAD, lock_files, said, started, texts

Deliver = Callable[[list[events.Event]], Awaitable[None]]


class Scripted:
    """A backend without a process; what it does stands in the prompt.

    Attributes:
        requests: What it was asked.
        running: How many turns run.
        most_running: How many ever ran side by side.
    """

    def __init__(self) -> None:
        self.requests: list[TurnRequest] = []
        self.running = self.most_running = 0

    async def serve(self, codex: CodexOptions, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def run_turn(
        self, request: TurnRequest, state: TurnState, deliver: Deliver, interrupted: trio.Event
    ) -> TurnResult:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await getattr(self, request.prompt)(request, state, deliver)
        finally:
            self.running -= 1
        state.ending = Ending(returncode=0)
        return state.outcome()

    async def say(self, text: str, state: TurnState, deliver: Deliver) -> None:
        batch = LineDecoder().feed(text.encode())
        state.apply(batch)
        await deliver(batch)

    async def answer(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
        await self.say(DONE, state, deliver)

    async def take_a_second(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
        await trio.sleep(1)
        await self.say(DONE, state, deliver)

    async def hang(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
        await self.say(STARTED + said("so far"), state, deliver)
        await trio.sleep_forever()

    async def stumble(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
        await self.say(STARTED, state, deliver)
        raise RuntimeError("a bug")

    async def stumble_twice(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
        raise ExceptionGroup("two bugs", [RuntimeError("one"), ValueError("two")])

    async def stumble_when_cancelled(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
        await self.say(STARTED, state, deliver)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise RuntimeError("a bug in the clean-up")

    async def fork(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
        thread_id = OTHER_THREAD if isinstance(request.start, ForkThread) else THREAD
        await self.say(started(thread_id) + COMPLETED, state, deliver)


@pytest.fixture
def backend() -> Scripted:
    return Scripted()


@pytest.fixture
def options(tmp_path) -> CodexOptions:
    return CodexOptions(codex_home=tmp_path)


async def test_the_backend_is_asked_for_all_that_was_given(options, backend):
    async with Codex(options, backend=backend) as codex:
        turn_options = TurnOptions(keep_raw=True)
        thread = codex.start_thread()
        await thread.run("answer", turn_options)
    [request] = backend.requests
    assert (request.start, request.codex, request.thread, request.turn) == (
        NewThread(),
        options,
        thread.options,
        turn_options,
    )


async def test_the_second_turn_resumes_what_the_first_began(options, backend):
    async with Codex(options, backend=backend) as codex:
        thread = codex.start_thread()
        assert thread.id is None
        await thread.run("answer")
        assert thread.id == THREAD
        await thread.run("answer")
    assert [request.start for request in backend.requests] == [NewThread(), ResumeThread(thread_id=THREAD)]


async def test_a_thread_whose_first_turn_failed_is_resumed_too(options, backend):
    async with Codex(options, backend=backend) as codex:
        thread = codex.start_thread()
        with pytest.raises(RuntimeError):
            await thread.run("stumble")
        assert thread.id == THREAD
        await thread.run("answer")
    assert backend.requests[1].start == ResumeThread(thread_id=THREAD)


async def test_a_fork_forks_once_and_is_then_resumed(options, backend):
    async with Codex(options, backend=backend) as codex:
        origin = codex.resume_thread(THREAD)
        fork = codex.fork_thread(THREAD)
        await fork.run("fork")
        await fork.run("fork")
        assert (fork.id, origin.id) == (OTHER_THREAD, THREAD)
    assert [request.start for request in backend.requests] == [
        ForkThread(thread_id=THREAD),
        ResumeThread(thread_id=OTHER_THREAD),
    ]


async def test_a_review_leaves_the_thread_alone(options, backend):
    async with Codex(options, backend=backend) as codex:
        thread = codex.start_thread()
        async with thread.run_streamed("hang"):
            with pytest.raises(AttributeError):  # our scripted backend finds no word in an empty prompt
                await thread.review(UncommittedChanges())
    assert backend.requests[1].start == ReviewChanges(target=UncommittedChanges())


async def test_a_bug_in_a_backend_reaches_the_holder_and_nobody_else(options, backend):
    async with Codex(options, backend=backend) as codex:
        async with codex.start_thread().run_streamed("answer") as other:
            with pytest.raises(RuntimeError, match="a bug"):
                await codex.start_thread().run("stumble")
            assert (await other.wait_result()).final_response == "done"
        async with codex.resume_thread(OTHER_THREAD).run_streamed("stumble") as turn:
            with pytest.raises(RuntimeError) as caught:
                [event async for event in turn]
            with pytest.raises(RuntimeError) as again:
                turn.result  # noqa: B018
            assert again.value is caught.value
        assert codex.statistics().turns_failed == 2


async def test_two_causes_reach_the_holder_as_a_group(options, backend):
    async with Codex(options, backend=backend) as codex:
        with pytest.raises(ExceptionGroup, match="two bugs") as caught:
            await codex.start_thread().run("stumble_twice")
    assert [type(exc) for exc in caught.value.exceptions] == [RuntimeError, ValueError]


async def test_a_bug_in_the_clean_up_of_a_turn_that_was_left_harms_nobody(options, backend):
    async with Codex(options, backend=backend) as codex:
        async with codex.start_thread().run_streamed("stumble_when_cancelled") as turn:
            await anext(turn)
        assert (await codex.start_thread().run("answer")).final_response == "done"


async def test_an_outcome_cannot_be_had_early(options, backend):
    async with Codex(options, backend=backend) as codex:
        async with codex.start_thread().run_streamed("hang") as turn:
            with pytest.raises(errors.TurnRunningError):
                turn.result  # noqa: B018
        with pytest.raises(errors.TurnInterruptedError) as caught:
            turn.result  # noqa: B018
    assert caught.value.partial.final_response == "so far"
    assert caught.value.partial.thread_id == THREAD


async def test_turns_of_one_thread_run_one_after_the_other_and_of_several_side_by_side(
    options, backend, autojump_clock
):
    async with Codex(options, backend=backend) as codex, trio.open_nursery() as nursery:
        one, same = codex.resume_thread(THREAD), codex.resume_thread(THREAD.upper())
        for thread in (one, one, same):
            nursery.start_soon(thread.run, "take_a_second")
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert codex.statistics().turns_running == 1
        nursery.start_soon(codex.resume_thread(OTHER_THREAD).run, "take_a_second")
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert codex.statistics().turns_running == 2
    assert backend.most_running == 2
    assert trio.current_time() >= 3


async def test_two_runs_on_a_new_thread_are_one_conversation(options, backend, autojump_clock):
    async with Codex(options, backend=backend) as codex, trio.open_nursery() as nursery:
        thread = codex.start_thread()
        nursery.start_soon(thread.run, "take_a_second")
        nursery.start_soon(thread.run, "take_a_second")
    assert [request.start for request in backend.requests] == [NewThread(), ResumeThread(thread_id=THREAD)]
    assert backend.most_running == 1


async def test_a_busy_thread_refuses_at_once_and_a_free_one_never(tmp_path, backend):
    options = CodexOptions(codex_home=tmp_path, when_busy="refuse")
    async with Codex(options, backend=backend) as codex, Codex(options, backend=backend) as other:
        thread = codex.start_thread()
        async with thread.run_streamed("hang") as turn:
            await anext(turn)
            same, elsewhere = codex.resume_thread(THREAD), other.resume_thread(THREAD)
            for rival, holder in (
                (thread, "this runtime"),
                (same, "this runtime"),
                (elsewhere, "another process"),
            ):
                with pytest.raises(errors.ThreadBusyError, match=holder) as caught:
                    await rival.run("answer")
                assert caught.value.thread_id == THREAD
        for rival in (thread, same, elsewhere) * 20:
            await rival.run("answer")
    assert lock_files(options) == []


async def test_a_turn_gives_up_waiting_for_its_thread_in_time(tmp_path, backend, autojump_clock):
    options = CodexOptions(codex_home=tmp_path, deadlines=Deadlines(thread_seconds=30))
    async with Codex(options, backend=backend) as codex, Codex(options, backend=backend) as other:
        async with codex.resume_thread(THREAD).run_streamed("hang"):
            for rival in (codex, other):
                began = trio.current_time()
                with pytest.raises(errors.ThreadBusyError):
                    await rival.resume_thread(THREAD).run("answer")
                assert trio.current_time() - began == pytest.approx(30, abs=0.1)
        statistics = codex.statistics()
    assert (statistics.turns_started, statistics.turns_failed) == (1, 1), "what waited was no turn yet"


async def test_closing_the_runtime_ends_turns_and_those_who_wait(options, backend, nursery, autojump_clock):
    caught: list[type[BaseException]] = []

    async def run(codex: Codex, thread_id: str) -> None:
        try:
            await codex.resume_thread(thread_id).run("hang")
        except errors.CodexError as exc:
            caught.append(type(exc))

    elsewhere = Codex(options, backend=backend)
    async with elsewhere, elsewhere.resume_thread(OTHER_THREAD).run_streamed("hang"):
        began = trio.current_time()
        async with Codex(options, backend=backend) as codex:
            for thread_id in (THREAD, THREAD, OTHER_THREAD):  # runs, waits for ours, waits for theirs
                nursery.start_soon(run, codex, thread_id)
            await trio.sleep(0.2)
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert trio.current_time() - began < 1
    assert sorted(caught, key=str) == [
        errors.RuntimeClosedError,
        errors.RuntimeClosedError,
        errors.TurnInterruptedError,
    ]


async def test_a_closed_runtime_runs_nothing(options, backend):
    codex = Codex(options, backend=backend)
    thread = codex.start_thread()
    for _ in range(2):
        with pytest.raises(errors.RuntimeClosedError, match="async with"):
            await thread.run("answer")
        async with codex:
            await thread.run("answer")
    assert len(backend.requests) == 2


async def test_a_turn_is_counted_once(options, backend):
    async with Codex(options, backend=backend) as codex:
        await codex.start_thread().run("answer")
        with pytest.raises(RuntimeError):
            await codex.start_thread().run("stumble")
        async with codex.resume_thread(OTHER_THREAD).run_streamed("hang"):
            during = codex.statistics()
        after = codex.statistics()
    assert (during.turns_started, during.turns_running) == (3, 1)
    assert (after.turns_running, after.turns_completed, after.turns_failed) == (0, 1, 2)


async def test_a_slow_reader_holds_the_backend_up(options, backend):
    class Floods(Scripted):
        said = 0

        async def flood(self, request: TurnRequest, state: TurnState, deliver: Deliver) -> None:
            for number in range(1000):
                await self.say(said(str(number)), state, deliver)
                self.said += 1
            await self.say(COMPLETED, state, deliver)

    floods = Floods()
    async with Codex(options, backend=floods) as codex, codex.start_thread().run_streamed("flood") as turn:
        await trio.testing.wait_all_tasks_blocked()
        assert floods.said == 2, "two batches wait, and not one more"
        assert texts([event async for event in turn]) == [str(number) for number in range(1000)]
    assert len(turn.result.items) == 32, "a streamed turn keeps its last items"


async def test_a_home_that_goes_away_under_a_turn_harms_nobody(tmp_path, backend):
    home = tmp_path / "home"
    home.mkdir()
    async with Codex(CodexOptions(codex_home=home), backend=backend) as codex:
        async with codex.start_thread().run_streamed("hang") as turn:
            await anext(turn)
            home.rename(tmp_path / "elsewhere")
        with pytest.raises(errors.CodexHomeError, match="no directory"):
            await codex.start_thread().run("answer")
        (tmp_path / "elsewhere").rename(home)
        await codex.start_thread().run("answer")
