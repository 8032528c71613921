"""What a user does with a thread and its turns, on fake codexes."""

import os
import signal
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, assert_type

import msgspec
import pydantic
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from codex_actors import Codex, Thread, errors, events
from codex_actors.items import AgentMessage
from codex_actors.options import (
    BaseBranch,
    Commit,
    CustomReview,
    Deadlines,
    LocalImage,
    Text,
    ThreadOptions,
    TurnOptions,
    UncommittedChanges,
)
from codex_actors.results import JsonTurnResult, JsonValue, SideEffects, TurnResult
from codex_actors.testing import (
    Act,
    closes_stdout,
    exits,
    hangs,
    ignores,
    leaves_child,
    reads_prompt,
    replays,
    writes,
)
from tests.fakes import (
    COMPLETED,
    DONE,
    STARTED,
    THREAD,
    Gate,
    command_begins,
    completed,
    fake_options,
    gate,
    line,
    lock_files,
    said,
    texts,
)


@pytest.fixture
def open_codex(tmp_path: Path):
    """Opens a runtime whose codex does this."""
    return lambda *acts, **options: Codex(fake_options(tmp_path, *acts, **options))


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Gate]:
    with gate(tmp_path / "gate") as held:
        yield held


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """Where a fake codex notes the child that it leaves behind, for the test to end it."""
    path = tmp_path / "pid"
    yield path
    if path.exists():
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


async def test_a_run_returns_all_that_the_turn_came_to(open_codex):
    many = "".join(said(str(number)) for number in range(50))
    async with open_codex(writes(STARTED + many + COMPLETED)) as codex:
        thread = codex.start_thread()
        result = await thread.run("go")
    assert [item.text for item in result.items if isinstance(item, AgentMessage)] == [
        str(n) for n in range(50)
    ]
    assert (result.final_response, result.thread_id, thread.id) == ("49", THREAD, THREAD)


async def test_a_stream_yields_every_event_and_then_has_a_result(open_codex):
    async with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
        assert turn.thread_id is None
        seen = [event async for event in turn]
        assert turn.thread_id == THREAD
        assert turn.result.final_response == "done"
    assert [type(event) for event in seen] == [
        events.ThreadStarted,
        events.TurnStarted,
        events.ItemCompleted,
        events.TurnCompleted,
    ]
    assert (
        turn.result.usage.turn == turn.result.usage.thread == events.Usage(input_tokens=100, output_tokens=10)
    )


async def test_the_loop_raises_what_the_result_raises(open_codex):
    async with (
        open_codex(writes(STARTED), exits(101)) as codex,
        codex.start_thread().run_streamed("go") as turn,
    ):
        with pytest.raises(errors.CodexPanickedError) as caught:
            [event async for event in turn]
        with pytest.raises(errors.CodexPanickedError) as again:
            turn.result  # noqa: B018
    assert again.value is caught.value


async def test_the_result_can_be_had_without_the_loop(open_codex):
    async with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
        with pytest.raises(errors.TurnRunningError):
            turn.result  # noqa: B018
        assert (await turn.wait_result()).final_response == "done"


async def test_leaving_the_loop_at_the_last_event_costs_nothing(open_codex):
    async with open_codex(writes(DONE)) as codex:
        thread = codex.start_thread()
        async with thread.run_streamed("go") as turn:
            async for event in turn:
                if isinstance(event, events.TurnCompleted):
                    break
        assert turn.result.final_response == "done"
        assert turn.result.returncode == 0, "its process ended by itself"
        assert turn.result.usage.turn is not None
        assert turn.result.timings.exit_seconds > 0


async def test_a_turn_that_is_left_when_it_had_ended_is_seen_out(open_codex, hold):
    async with open_codex(writes(DONE), hold.waits(), writes("a last word\n")) as codex:
        async with codex.start_thread().run_streamed("go") as turn:
            async for event in turn:
                if isinstance(event, events.TurnCompleted):
                    break
            hold.let_pass()
        assert turn.result.noise_lines == 1


async def test_leaving_the_block_early_stops_codex_and_says_so(open_codex):
    async with open_codex(writes(STARTED + said("half")), hangs()) as codex:
        async with codex.start_thread().run_streamed("go") as turn:
            await anext(turn)
        with pytest.raises(errors.TurnInterruptedError) as caught:
            turn.result  # noqa: B018
        assert caught.value.partial.thread_id == THREAD
        assert codex.statistics().turns_running == 0


async def test_leaving_the_block_at_once_is_leaving_it_early(open_codex):
    async with open_codex(hangs()) as codex:
        async with codex.start_thread().run_streamed("go") as turn:
            pass
        with pytest.raises(errors.TurnInterruptedError):
            turn.result  # noqa: B018


@pytest.mark.parametrize(
    "error", [KeyError("mine"), ExceptionGroup("mine", [KeyError("a")]), StopAsyncIteration()]
)
async def test_an_error_of_the_users_own_leaves_every_block_as_it_is(open_codex, error):
    with pytest.raises(type(error)) as caught:
        async with (
            open_codex(writes(STARTED), hangs()) as codex,
            codex.start_thread().run_streamed("go") as turn,
        ):
            async for _ in turn:
                raise error
    assert caught.value is error


async def test_an_error_beside_a_turn_leaves_as_itself(open_codex):
    async with open_codex(writes(STARTED), hangs()) as codex:
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(codex.start_thread().run, "go")
                raise KeyError("mine")
    [only] = caught.value.exceptions
    assert isinstance(only, KeyError), "the turn that was cancelled adds nothing to it"


async def test_cancelling_a_run_is_a_cancellation_and_nothing_else(open_codex, hold):
    async with open_codex(writes(STARTED), hold.waits()) as codex:
        with trio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(trio.Cancelled):
                await codex.start_thread().run("go")
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        with trio.move_on_after(0.1) as scope:
            await codex.start_thread().run("go")
        assert scope.cancelled_caught


async def test_cancelling_while_a_child_of_codex_holds_its_pipes_takes_no_time(open_codex, pid_file):
    codex = open_codex(leaves_child(pid_file), writes(STARTED), hangs())
    async with codex, codex.start_thread().run_streamed("go") as turn:
        await anext(turn)
        began = trio.current_time()
    assert trio.current_time() - began < 1.9, "codex itself stops at once; nobody waits for its child"


async def test_breaking_off_what_ignores_every_polite_signal_takes_its_time_and_no_more(open_codex):
    acts = (ignores(signal.SIGINT, signal.SIGTERM), writes(STARTED), hangs())
    codex = open_codex(*acts, deadlines=Deadlines(interrupt_seconds=0.2))
    async with codex, codex.start_thread().run_streamed("go") as turn:
        await anext(turn)
        began = trio.current_time()
    assert 0.2 <= trio.current_time() - began < 2


async def test_an_interrupt_ends_the_loop_with_its_error(open_codex):
    async with open_codex(writes(STARTED), hangs()) as codex, codex.start_thread().run_streamed("go") as turn:
        seen: list[events.Event] = []
        with trio.fail_after(5), pytest.raises(errors.TurnInterruptedError) as caught:
            async for event in turn:
                seen.append(event)
                turn.interrupt()
        assert len(seen) == 2
        assert caught.value.partial.thread_id == THREAD


async def test_an_interrupt_after_the_end_changes_nothing(open_codex):
    async with open_codex(writes(DONE)) as codex, codex.start_thread().run_streamed("go") as turn:
        result = await turn.wait_result()
        turn.interrupt()
        assert turn.result is result


async def test_interrupted_while_nobody_reads_it_ends_in_time_and_what_was_said_is_there(
    open_codex, tmp_path
):
    recording = tmp_path / "recording.jsonl"
    recording.write_text(STARTED + "".join(said(f"{number} {'x' * 1000}") for number in range(4000)))
    acts = (ignores(signal.SIGINT), replays(recording), hangs())
    seen: list[events.Event] = []
    codex = open_codex(*acts, deadlines=Deadlines(interrupt_seconds=0.5))
    async with codex, codex.start_thread().run_streamed("go") as turn:
        await trio.testing.wait_all_tasks_blocked(0.1)
        turn.interrupt()
        began = trio.current_time()
        with pytest.raises(errors.TurnInterruptedError) as caught:
            async for event in turn:
                seen.append(event)  # noqa: PERF401 - what came before the error counts
        assert trio.current_time() - began < 5
    assert [int(text.split()[0]) for text in texts(seen)] == list(range(4000))
    assert caught.value.partial.dropped_events == 0


async def test_two_hundred_thousand_events_wait_for_a_slow_reader_in_bounded_space(open_codex, tmp_path):
    recording = tmp_path / "recording.jsonl"
    recording.write_text(STARTED + said("x" * 20) * 200_000 + COMPLETED)
    waiting = batch = count = 0
    async with open_codex(replays(recording)) as codex, codex.start_thread().run_streamed("go") as turn:
        async for _ in turn:
            count += 1
            waiting = max(waiting, turn._actor._receive.statistics().current_buffer_used)
            batch = max(batch, turn._batch.__length_hint__())
            if count % 1000 == 0:
                await trio.testing.wait_all_tasks_blocked()  # slow: whatever can be put, is put
    assert count == 200_003
    assert waiting <= 2, "batches"
    assert batch < 256 * 1024 / len(said("x" * 20)), "events"
    assert len(turn.result.items) == 32


async def test_two_runs_on_a_thread_never_overlap(tmp_path, open_codex):
    log = tmp_path / "log"
    acts = (Act(f"echo begins >>{log}"), Act("sleep 0.03"), Act(f"echo ends >>{log}"), writes(DONE))
    async with open_codex(*acts) as codex, open_codex(*acts) as other, trio.open_nursery() as nursery:
        thread = codex.resume_thread(THREAD)
        for each in (thread, thread, codex.resume_thread(THREAD), other.resume_thread(THREAD.upper())):
            nursery.start_soon(each.run, "go")
    assert log.read_text().split() == ["begins", "ends"] * 4


async def test_a_busy_thread_is_refused_at_once_if_that_is_wanted(open_codex, hold, tmp_path):
    async with open_codex(writes(STARTED), hold.waits(), writes(COMPLETED), when_busy="refuse") as codex:
        thread = codex.start_thread()
        async with thread.run_streamed("go") as turn:
            await anext(turn)
            for busy in (thread, codex.resume_thread(THREAD)):
                with pytest.raises(errors.ThreadBusyError, match=THREAD):
                    await busy.run("go")
            hold.let_pass()
            await turn.wait_result()
            hold.let_pass(5)
            for _ in range(5):
                await thread.run("go")
    assert lock_files(fake_options(tmp_path)) == []


async def test_what_one_turn_used_adds_up_to_what_the_thread_used(open_codex, tmp_path):
    counted = Act(f"n=$(cat {tmp_path}/n 2>/dev/null); n=$((n + 100)); echo $n >{tmp_path}/n")
    tail = completed(input_tokens=7).replace("7", "'\"$n\"'")
    says = Act(f"{writes(STARTED)}; printf '%s\\n' '{tail.strip()}'")
    rollout = Act(f"mkdir -p $CODEX_HOME/sessions; echo >>$CODEX_HOME/sessions/rollout-x-{THREAD}.jsonl")
    async with open_codex(counted, rollout, says) as codex:
        thread = codex.start_thread()
        used = [(await thread.run("go")).usage for _ in range(3)]
    assert [usage.thread.input_tokens for usage in used if usage.thread] == [100, 200, 300]
    assert [usage.turn.input_tokens for usage in used if usage.turn] == [100, 100, 100]
    async with open_codex(counted, rollout, says) as codex:
        again = codex.resume_thread(THREAD)
        assert (await again.run("go")).usage.turn is None, "a runtime that never saw the thread cannot know"
        known = (await again.run("go")).usage.turn
        assert known is not None
        assert known.input_tokens == 100


# --- input that cannot work ----------------------------------------------------------------------


@pytest.fixture
def untouched(tmp_path: Path):
    """A runtime whose codex must not be started."""
    asked = tmp_path / "asked"

    @asynccontextmanager
    async def opened():
        async with Codex(fake_options(tmp_path, Act(f"touch {asked}"), writes(DONE))) as codex:
            yield codex
            assert codex.statistics().turns_started == 0
        assert not asked.exists()

    return opened


@pytest.mark.parametrize("empty", ["", " \n", [], [Text(" ")]])
async def test_an_empty_prompt_is_refused(untouched, empty):
    async with untouched() as codex:
        with pytest.raises(errors.OptionError, match="no text"):
            await codex.start_thread().run(empty)
        with pytest.raises(errors.OptionError, match="no text"):
            codex.start_thread().run_streamed(empty)


async def test_more_text_than_codex_takes_is_refused(untouched):
    async with untouched() as codex:
        with pytest.raises(errors.OptionError, match="at most 1048576: put what is long into a file"):
            await codex.start_thread().run([Text("x" * 1_048_574), Text("y")])


@pytest.mark.parametrize("where", ["run", "review"])
async def test_half_a_surrogate_pair_is_refused_and_not_shown(untouched, where):
    text = "secret \ud800"
    async with untouched() as codex:
        with pytest.raises(errors.OptionError, match="surrogate") as caught:
            if where == "run":
                await codex.start_thread().run(text)
            else:
                await codex.start_thread().review(CustomReview(text))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "directory"])
async def test_an_image_that_cannot_be_read_is_refused(untouched, tmp_path, kind):
    path = tmp_path if kind == "directory" else tmp_path / "no.png"
    async with untouched() as codex:
        with pytest.raises(errors.OptionError, match=str(path)) as caught:
            await codex.start_thread().run([Text("look"), LocalImage(path)])
    assert caught.value.field == "LocalImage.path"


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("cwd", ThreadOptions(cwd="/no/such/place")),
        ("additional_directories", ThreadOptions(additional_directories=["/tmp", "/no/such/place"])),
    ],
)
async def test_a_directory_that_is_not_there_is_refused(untouched, field, options):
    async with untouched() as codex:
        thread = codex.start_thread(options)
        with pytest.raises(errors.OptionError, match="/no/such/place") as caught:
            await thread.run("go")
        with pytest.raises(errors.OptionError, match="/no/such/place"):
            await thread.review(UncommittedChanges())
    assert caught.value.field == f"ThreadOptions.{field}"


async def test_images_are_named_by_their_full_path(open_codex, tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    notes = Act(f"printf '%s\\n' \"$@\" >{tmp_path}/arguments")
    async with open_codex(notes, reads_prompt(tmp_path / "prompt"), writes(DONE)) as codex:
        await codex.start_thread().run([Text("look"), LocalImage("a.png"), Text("well")])
    assert f"--image={tmp_path}/a.png" in (tmp_path / "arguments").read_text().splitlines()
    assert (tmp_path / "prompt").read_text() == "look\n\nwell"


@pytest.mark.parametrize(
    ("target", "arguments", "prompt"),
    [
        (UncommittedChanges(), ["--uncommitted"], ""),
        (BaseBranch("main"), ["--base=main"], ""),
        (Commit("abc", title="a fix"), ["--commit=abc", "--title=a fix"], ""),
        (CustomReview("look for races"), ["-"], "look for races"),
    ],
)
async def test_a_review_asks_for_its_target_and_counts_nothing(
    open_codex, tmp_path, target, arguments, prompt
):
    notes = Act(f"printf '%s\\n' \"$@\" >{tmp_path}/arguments")
    async with open_codex(notes, reads_prompt(tmp_path / "prompt"), writes(DONE)) as codex:
        thread = codex.start_thread()
        result = await thread.review(target, TurnOptions())
        assert thread.id is None, "a review is a conversation of its own"
    asked = (tmp_path / "arguments").read_text().splitlines()
    assert asked[asked.index("review") + 1 :] == arguments
    assert (tmp_path / "prompt").read_text() == prompt
    assert (result.usage.thread, result.usage.turn) == (None, None)
    assert result.final_response == "done"


async def test_a_review_can_be_followed_as_it_goes(open_codex):
    async with (
        open_codex(writes(DONE)) as codex,
        codex.start_thread().review_streamed(UncommittedChanges()) as turn,
    ):
        followed = [type(event).__name__ async for event in turn]
    assert followed[-1] == "TurnCompleted"
    assert turn.result.usage.thread is None


async def test_a_turn_says_nothing_that_was_not_said(open_codex):
    async with open_codex(writes(STARTED), closes_stdout(), exits(0)) as codex:
        with pytest.raises(errors.StreamTruncatedError):
            await codex.start_thread().run("go")


async def test_a_failed_turn_leaves_a_thread_that_can_be_asked_again(open_codex, tmp_path):
    first = Act(f"if [ -e {tmp_path}/again ]; then {writes(DONE)}; exit 0; fi; touch {tmp_path}/again")
    failed = line("turn.failed", error={"message": "no"})
    async with open_codex(first, writes(STARTED + failed), exits(1)) as codex:
        thread = codex.start_thread()
        with pytest.raises(errors.TurnFailedError):
            await thread.run("go")
        assert thread.id == THREAD
        assert (await thread.run("go")).usage.turn is None


# What may have changed, if a turn is cut short


async def test_what_codex_had_said_when_its_turn_was_left_counts(open_codex, hold):
    """Also what nobody had taken yet, and the exit status of the process that was stopped."""
    async with open_codex(writes(STARTED), hold.waits(), writes(command_begins()), hangs()) as codex:
        async with codex.start_thread().run_streamed("go") as turn:
            await anext(aiter(turn))
            hold.let_pass()
            await trio.testing.wait_all_tasks_blocked(0.2)
        with pytest.raises(errors.TurnInterruptedError) as caught:
            turn.result  # noqa: B018 - raises
    assert caught.value.partial.side_effects is SideEffects.SEEN
    assert caught.value.returncode == -signal.SIGINT
    assert caught.value.partial.timings.exit_seconds > 0


async def test_of_a_codex_that_was_stopped_before_it_spoke_nothing_is_certain(open_codex):
    limits = Deadlines(first_event_seconds=0.1)
    async with open_codex(hangs(), deadlines=limits) as codex:
        with pytest.raises(errors.TurnTimeoutError) as caught:
            await codex.start_thread().run("go")
    assert caught.value.partial.side_effects is SideEffects.UNKNOWN


async def test_a_thread_left_before_its_first_event_was_taken_has_its_id(open_codex):
    async with open_codex(writes(STARTED), hangs()) as codex:
        thread = codex.start_thread()
        async with thread.run_streamed("go"):
            await trio.testing.wait_all_tasks_blocked(0.2)
    assert thread.id == THREAD


async def test_the_time_that_a_reader_takes_is_not_held_against_codex(open_codex):
    offline = line("error", message="Reconnecting... waiting for network (x)")
    limits = Deadlines(network_seconds=0.2, exit_seconds=0.2)
    padding = said("x" * 300_000) * 4  # more than the batches on the way can hold
    async with (
        open_codex(writes(STARTED + padding + offline + padding + COMPLETED), deadlines=limits) as codex,
        codex.start_thread().run_streamed("go") as turn,
    ):
        seen = []
        async for event in turn:
            seen.append(event)
            await trio.sleep(0.1)
    assert len(seen) == 12
    assert turn.result.returncode == 0


# What no type checker would let through


@pytest.mark.parametrize(
    "ask",
    [
        lambda codex: codex.start_thread().run(None),
        lambda codex: codex.start_thread().run(Text("a")),
        lambda codex: codex.start_thread().run("go", ThreadOptions()),
        lambda codex: codex.start_thread().review("everything"),
        lambda codex: codex.start_thread().review(UncommittedChanges(), ThreadOptions()),
    ],
)
async def test_what_is_of_no_use_is_refused_by_name(open_codex, ask):
    async with open_codex(writes(DONE)) as codex:
        with pytest.raises(errors.OptionError, match="must be "):
            await ask(codex)


@pytest.mark.parametrize(
    "ask",
    [
        lambda codex: codex.start_thread(TurnOptions()),
        lambda codex: codex.resume_thread(None),
        lambda codex: codex.fork_thread(b"019a0000-0000-7000-8000-000000000001"),
        lambda codex: Codex(ThreadOptions()),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_thread_is_refused_by_name(open_codex, ask):
    async with open_codex(writes(DONE)) as codex:
        with pytest.raises(errors.OptionError, match="must be "):
            ask(codex)


async def test_a_runtime_can_be_open_once_at_a_time(open_codex):
    async with open_codex(writes(DONE)) as codex:
        with pytest.raises(trio.BusyResourceError, match="open already"):
            await codex.__aenter__()
        assert (await codex.start_thread().run("go")).final_response == "done"


async def test_two_tasks_cannot_take_one_turns_events(open_codex, nursery, hold):
    async with (
        open_codex(writes(STARTED), hold.waits(), writes(DONE)) as codex,
        codex.start_thread().run_streamed("go") as turn,
    ):
        await anext(turn)
        await anext(turn)
        nursery.start_soon(turn.wait_result)
        nursery.start_soon(anext, turn)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="another task"):
            await anext(turn)
        nursery.cancel_scope.cancel()
        hold.let_pass()


async def test_without_a_named_home_codex_makes_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    options = replace(fake_options(tmp_path, writes(DONE)), codex_home=None)
    async with Codex(options) as codex:
        assert (await codex.start_thread().run("go")).final_response == "done"


@dataclass
class Count:
    count: int


class CountStruct(msgspec.Struct):
    count: int


class CountDict(TypedDict):
    count: int


class CountModel(pydantic.BaseModel):
    count: int


async def test_type_checkers_know_what_is_parsed(open_codex):
    """They check the types that are asserted here; running shows the values."""
    async with open_codex(writes(STARTED + said('{"count": 1}') + COMPLETED)) as codex:
        thread: Thread = codex.start_thread()
        assert assert_type((await thread.run("go", output_type=Count)).parsed, Count).count == 1
        assert assert_type((await thread.run("go", output_type=CountStruct)).parsed, CountStruct).count == 1
        assert assert_type((await thread.run("go", output_type=CountDict)).parsed, CountDict)["count"] == 1
        assert assert_type((await thread.run("go", output_type=CountModel)).parsed, CountModel).count == 1
        async with thread.run_streamed("go", output_type=Count) as turn:
            assert assert_type((await turn.wait_result()).parsed, Count).count == 1
            assert assert_type(turn.result.parsed, Count).count == 1
        schema = {"properties": {"count": {"type": "integer"}}}
        result = assert_type(await thread.run("go", TurnOptions(output_schema=schema)), TurnResult)
        assert isinstance(result, JsonTurnResult)
        assert assert_type(result.parsed, JsonValue) == {"count": 1}
