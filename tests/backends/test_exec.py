"""A `codex exec --json` process for each turn, with fake codexes for what the real one does not do."""

import errno
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from codex_actors import errors, events
from codex_actors.backends import ForkThread, ResumeThread
from codex_actors.backends.exec import ExecBackend
from codex_actors.items import AgentMessage
from codex_actors.options import CodexOptions, Deadlines, ThreadOptions, TurnOptions
from codex_actors.results import TurnResult
from codex_actors.testing import (
    Act,
    closes_stdout,
    complains,
    dies,
    exits,
    hangs,
    ignores,
    leaves_child,
    reads_prompt,
    replays,
    writes,
)
from tests.cancel_steps import cancel_at_each_step
from tests.fakes import (
    COMPLETED,
    DONE,
    OTHER_THREAD,
    STARTED,
    THREAD,
    Holder,
    command_begins,
    command_ends,
    fake_options,
    line,
    said,
    serving,
    started,
    texts,
)
from tests.limits import descriptors_left


@pytest.fixture
def holder() -> Holder:
    return Holder()


@pytest.fixture
def play(tmp_path: Path, holder: Holder):
    """Runs a turn on a fake codex that does this."""

    async def play(*acts: Act, deadlines: Deadlines | None = None, **asked: object) -> TurnResult:
        options = fake_options(tmp_path, *acts, deadlines=deadlines)
        return await holder.ask(ExecBackend(), options, **asked)

    return play


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """Where a fake codex notes the child that it leaves behind, for the test to end it."""
    path = tmp_path / "pid"
    yield path
    if path.exists():
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


# --- how a turn can end --------------------------------------------------------------------------


async def test_a_turn_that_completes_has_a_result(play, holder):
    result = await play(reads_prompt(), writes(DONE))
    assert (result.thread_id, result.final_response, result.returncode) == (THREAD, "done", 0)
    assert [type(event) for event in holder.events] == [
        events.ThreadStarted,
        events.TurnStarted,
        events.ItemCompleted,
        events.TurnCompleted,
    ]


async def test_success_of_the_process_is_no_success_of_the_turn(play):
    with pytest.raises(errors.StreamTruncatedError) as caught:
        await play(writes(STARTED + said("half")), exits(0))
    assert caught.value.partial.final_response == "half"
    assert caught.value.returncode == 0


async def test_an_error_event_and_success_of_the_process_are_no_success_of_the_turn(play):
    with pytest.raises(errors.ErrorEventError, match="it went wrong") as caught:
        await play(writes(STARTED + line("error", message="it went wrong")), exits(0))
    assert caught.value.reason == "it went wrong"


async def test_saying_nothing_at_all_is_no_success(play):
    with pytest.raises(errors.StreamTruncatedError):
        await play(exits(0))


async def test_a_turn_that_fails_says_why(play):
    failed = line("turn.failed", error={"message": "unexpected status 401 Unauthorized: no, url: x"})
    with pytest.raises(errors.AuthenticationError) as caught:
        await play(writes(STARTED + failed), complains("details"), exits(1))
    assert caught.value.http_status == 401
    assert (caught.value.returncode, caught.value.stderr_tail) == (1, "details")


async def test_a_panic_is_told_from_other_exits(play):
    with pytest.raises(errors.CodexPanickedError) as caught:
        await play(writes(STARTED), complains("thread 'main' panicked"), exits(101))
    assert "panicked" in caught.value.stderr_tail


@pytest.mark.parametrize("status", [1, 2, 77])
async def test_an_exit_in_the_middle_of_a_turn_says_its_status(play, status):
    with pytest.raises(errors.ProcessExitedError, match=f"status {status}") as caught:
        await play(writes(STARTED), exits(status))
    assert caught.value.returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_a_signal_from_elsewhere_is_named(play, number):
    with pytest.raises(errors.ProcessKilledError, match=number.name) as caught:
        await play(writes(STARTED), dies(number))
    assert caught.value.signal == number
    assert caught.value.returncode == -number


async def test_an_exit_before_anything_was_said_is_a_refusal_with_its_words(play):
    with pytest.raises(errors.ConfigRefusedError, match="Error loading config") as caught:
        await play(complains("Error loading config.toml: no\n"), exits(1))
    assert caught.value.returncode == 1


async def test_a_completed_turn_stays_completed_whatever_the_process_does_then(play):
    assert (await play(writes(DONE), dies(signal.SIGSEGV))).returncode == -signal.SIGSEGV
    assert (await play(writes(DONE), exits(3))).returncode == 3


# --- what may stand on stdout and stderr ---------------------------------------------------------


async def test_a_line_that_is_no_json_is_noise_and_the_turn_lives(play, holder):
    result = await play(writes(STARTED + "WARN: something\n" + said("done") + COMPLETED))
    assert result.noise_lines == 1
    assert [event.sample for event in holder.events if isinstance(event, events.Noise)] == [
        b"WARN: something"
    ]
    assert texts(holder.events) == ["done"]


async def test_noise_before_the_first_event_is_no_other_thread(play):
    result = await play(
        writes("hello\n"), Act("sleep 0.02"), writes(DONE), start=ResumeThread(thread_id=THREAD)
    )
    assert (result.noise_lines, result.thread_id) == (1, THREAD)


async def test_what_a_newer_codex_says_reaches_the_user(play, holder):
    new_event = line("turn.paused", reason="lunch")
    new_item = line("item.completed", item={"id": "item_9", "type": "hologram"})
    result = await play(writes(STARTED + new_event + new_item + COMPLETED))
    assert result.unknown_events == 2
    unknown = [event for event in holder.events if isinstance(event, events.Unknown)]
    assert [json.loads(event.raw) for event in unknown] == [json.loads(new_event), json.loads(new_item)]


@pytest.mark.parametrize("size", [70_000, 9_000_000])
async def test_long_lines_are_fine(play, tmp_path, size):
    recording = tmp_path / "long.jsonl"
    recording.write_text(STARTED + said("x" * size) + COMPLETED)
    assert len((await play(replays(recording))).final_response) == size


async def test_a_line_over_the_limit_is_noise(tmp_path, holder):
    options = fake_options(tmp_path, writes(STARTED + said("x" * 2000) + COMPLETED), max_line_bytes=1000)
    result = await holder.ask(ExecBackend(), options)
    assert result.noise_lines == 1


async def test_a_last_line_without_a_newline_counts(play):
    assert (await play(writes(DONE.rstrip("\n")))).final_response == "done"


async def test_a_last_line_that_was_cut_does_not_count(play, holder):
    with pytest.raises(errors.StreamTruncatedError) as caught:
        await play(writes(DONE[:-5]))
    assert caught.value.partial.noise_lines == 1
    assert isinstance(holder.events[-1], events.Noise)


async def test_events_in_pieces_are_events(play, holder):
    halves = [
        Act(f"{writes(part)}; sleep 0.01") for part in (DONE[:30], DONE[30:31], DONE[31:200], DONE[200:])
    ]
    await play(*halves)
    assert len(holder.events) == 4


async def test_raw_lines_are_there_if_they_are_wanted(play, holder):
    await play(writes(DONE), turn=TurnOptions(keep_raw=True))
    assert b"\n".join(event.raw or b"" for event in holder.events) + b"\n" == DONE.encode()


async def test_a_flood_on_stderr_blocks_nothing_and_its_end_is_kept(play):
    flood = Act("head -c 10000000 /dev/zero | tr '\\0' x >&2")
    with pytest.raises(errors.StreamTruncatedError) as caught:
        await play(flood, complains("the end"), writes(STARTED))
    assert len(caught.value.stderr_tail) == 8192
    assert caught.value.stderr_tail.endswith("xthe end")


# --- what goes in --------------------------------------------------------------------------------


async def test_the_prompt_goes_in_through_stdin_and_nowhere_else(play, tmp_path):
    arguments = Act(f"printf '%s\\n' \"$@\" >{tmp_path}/arguments; env >>{tmp_path}/arguments")
    await play(arguments, reads_prompt(tmp_path / "prompt"), writes(DONE), prompt="zażółć\n")
    assert (tmp_path / "prompt").read_text() == "zażółć\n"
    assert "zażółć" not in (tmp_path / "arguments").read_text()


async def test_four_megabytes_for_a_codex_that_exits_at_once_are_its_error_and_not_ours(play):
    with pytest.raises(errors.ConfigRefusedError, match="exit status 1"):
        await play(exits(1), prompt="x" * 4_000_000)


async def test_four_megabytes_arrive(play, tmp_path):
    await play(reads_prompt(tmp_path / "prompt"), writes(DONE), prompt="x" * 4_000_000)
    assert (tmp_path / "prompt").stat().st_size == 4_000_000


async def test_the_schema_of_the_answer_can_be_read_by_codex(play, tmp_path):
    schema = {"type": "object", "title": "t" * 200_000}
    finds_it = Act(
        f'for arg; do case $arg in --output-schema=*) cat "${{arg#*=}}" >{tmp_path}/schema;; esac; done'
    )
    await play(finds_it, writes(DONE), turn=TurnOptions(output_schema=schema))
    assert json.loads((tmp_path / "schema").read_text()) == schema


async def test_a_setting_that_no_argument_can_hold_is_refused_before_anything_starts(tmp_path, holder):
    asked = tmp_path / "asked"
    options = fake_options(tmp_path, Act(f"touch {asked}"), config={"developer_instructions": "x" * 200_000})
    with pytest.raises(errors.OptionError, match="profile") as caught:
        await holder.ask(ExecBackend(), options)
    assert "developer_instructions" in caught.value.field
    assert not asked.exists()


async def test_all_settings_together_may_be_large(tmp_path, holder):
    options = fake_options(tmp_path, writes(DONE), config={"x": {f"k{n}": "x" * 100_000 for n in range(8)}})
    await holder.ask(ExecBackend(), options)


# --- the thread that was asked for ---------------------------------------------------------------


async def test_another_thread_than_the_one_asked_for_is_stopped_at_once(play, holder):
    with trio.fail_after(5), pytest.raises(errors.ThreadMismatchError) as caught:
        await play(writes(started(OTHER_THREAD)), hangs(), start=ResumeThread(thread_id=THREAD))
    assert (caught.value.thread_id, caught.value.started_thread_id) == (THREAD, OTHER_THREAD)
    assert holder.events == []


async def test_a_fork_that_is_no_other_thread_is_stopped_at_once(play):
    with trio.fail_after(5), pytest.raises(errors.ThreadMismatchError) as caught:
        await play(writes(STARTED), hangs(), start=ForkThread(thread_id=THREAD))
    assert caught.value.started_thread_id == THREAD


@pytest.mark.parametrize(
    ("start", "got"),
    [(ResumeThread(thread_id=THREAD), THREAD), (ForkThread(thread_id=THREAD), OTHER_THREAD)],
)
async def test_the_thread_that_was_asked_for_goes_on(play, start, got):
    assert (await play(writes(started(got) + COMPLETED), start=start)).thread_id == got


async def test_a_thread_that_codex_does_not_know_is_named(play, tmp_path):
    said_by_codex = "Error: thread/resume failed: no rollout found for thread id x (code -32600)\n"
    with pytest.raises(errors.ThreadNotFoundError, match=str(tmp_path / "home")) as caught:
        await play(complains(said_by_codex), exits(1), start=ResumeThread(thread_id=THREAD))
    assert caught.value.thread_id == THREAD


# --- deadlines -----------------------------------------------------------------------------------


async def test_a_codex_that_says_nothing_is_stopped(play):
    with pytest.raises(errors.TurnTimeoutError, match=r"first_event_seconds of 0\.1 s") as caught:
        await play(hangs(), deadlines=Deadlines(first_event_seconds=0.1))
    assert (caught.value.deadline, caught.value.seconds) == ("first_event_seconds", 0.1)
    assert caught.value.partial.thread_id is None
    assert caught.value.returncode == -signal.SIGINT


async def test_a_codex_that_falls_silent_is_stopped(play):
    with pytest.raises(errors.TurnTimeoutError) as caught:
        await play(writes(STARTED + said("half")), hangs(), deadlines=Deadlines(idle_seconds=0.1))
    assert caught.value.deadline == "idle_seconds"
    assert caught.value.partial.final_response == "half"


async def test_a_command_may_be_silent_for_long(play):
    await play(
        writes(STARTED + command_begins()),
        Act("sleep 0.4"),
        writes(command_ends() + said("done") + COMPLETED),
        deadlines=Deadlines(idle_seconds=0.2),
    )


async def test_after_the_command_silence_counts_again(play):
    with pytest.raises(errors.TurnTimeoutError) as caught:
        await play(
            writes(STARTED + command_begins() + command_ends()),
            hangs(),
            deadlines=Deadlines(idle_seconds=0.1),
        )
    assert caught.value.deadline == "idle_seconds"


async def test_silence_may_be_allowed(play):
    with trio.move_on_after(0.3) as scope:
        await play(writes(STARTED), hangs(), deadlines=Deadlines(idle_seconds=None))
    assert scope.cancelled_caught


async def test_waiting_for_the_network_for_ever_is_stopped_whatever_is_said_about_it(play):
    notice = line("error", message="Reconnecting... waiting for network (Connection failed)")
    repeated = Act(f"while :; do {writes(notice)}; sleep 0.02; done")
    with pytest.raises(errors.TurnTimeoutError, match="waiting for network") as caught:
        await play(writes(STARTED), repeated, deadlines=Deadlines(network_seconds=0.15))
    assert caught.value.deadline == "network_seconds"
    assert caught.value.partial.notices


async def test_a_whole_turn_has_its_time(play, holder):
    talk = Act(f"while :; do {writes(said('more'))}; sleep 0.02; done")
    with pytest.raises(errors.TurnTimeoutError) as caught:
        await play(writes(STARTED), talk, deadlines=Deadlines(turn_seconds=0.2))
    assert caught.value.deadline == "turn_seconds"
    assert texts(holder.events) == ["more"] * len(caught.value.partial.items), "all was delivered"


async def test_a_whole_turn_has_its_time_also_when_nobody_takes_its_events(play, holder, nursery):
    async def take_late() -> None:
        await trio.sleep(0.6)  # longer than the turn may take: nobody is there to be waited for
        holder.takes.set()

    holder.takes = trio.Event()
    nursery.start_soon(take_late)
    with pytest.raises(errors.TurnTimeoutError) as caught:
        await play(writes(STARTED + said("one")), hangs(), deadlines=Deadlines(turn_seconds=0.4))
    assert caught.value.deadline == "turn_seconds"
    assert len(holder.events) == 3


async def test_the_result_does_not_wait_for_a_slow_exit(play):
    result = await play(writes(DONE), hangs(), deadlines=Deadlines(exit_seconds=0.1))
    assert result.final_response == "done"
    assert result.returncode == -signal.SIGINT
    assert result.timings.last_event_seconds is not None
    assert 0.1 <= result.timings.exit_seconds - result.timings.last_event_seconds < 1


async def test_a_slow_exit_after_a_failure_holds_nobody_up_either(play):
    failed = line("turn.failed", error={"message": "no"})
    with pytest.raises(errors.TurnFailedError, match="no"):
        await play(writes(STARTED + failed), hangs(), deadlines=Deadlines(exit_seconds=0.1))


async def test_a_closed_stdout_gives_the_process_its_time_to_exit_and_no_more(play):
    with pytest.raises(errors.TurnTimeoutError) as caught:
        await play(writes(STARTED), closes_stdout(), hangs(), deadlines=Deadlines(exit_seconds=0.1))
    assert caught.value.deadline == "exit_seconds"
    result = await play(writes(DONE), closes_stdout(), hangs(), deadlines=Deadlines(exit_seconds=0.1))
    assert result.final_response == "done"


async def test_what_ignores_every_polite_signal_is_killed_in_time(play):
    deadlines = Deadlines(idle_seconds=0.05, interrupt_seconds=0.2)
    began = trio.current_time()
    with pytest.raises(errors.TurnTimeoutError) as caught:
        await play(ignores(signal.SIGINT, signal.SIGTERM), writes(STARTED), hangs(), deadlines=deadlines)
    assert caught.value.returncode == -signal.SIGKILL
    assert 0.2 <= trio.current_time() - began < 2


# --- interrupting, cancelling, leaving nothing ---------------------------------------------------


async def test_an_interrupt_lets_codex_finish_its_sentence(play, holder, nursery):
    async def interrupt() -> None:
        await holder.wait_heard(2)
        holder.interrupted.set()

    nursery.start_soon(interrupt)
    last_words = Act(f"trap '{writes(said('bye')).replace(chr(39), chr(34))}; exit 1' INT")
    waits = Act("while :; do sleep 0.01; done")
    with trio.fail_after(5), pytest.raises(errors.TurnInterruptedError) as caught:
        await play(last_words, writes(STARTED), waits)
    assert texts(holder.events) == ["bye"]
    assert caught.value.partial.final_response == "bye"
    assert caught.value.returncode == 1


async def test_a_turn_that_completes_in_spite_of_an_interrupt_has_completed(play, holder, nursery):
    async def interrupt() -> None:
        await holder.wait_heard(2)
        holder.interrupted.set()

    nursery.start_soon(interrupt)
    last_words = Act(f"trap '{writes(said('done') + COMPLETED).replace(chr(39), chr(34))}; exit 0' INT")
    waits = Act("while :; do sleep 0.01; done")
    assert (await play(last_words, writes(STARTED), waits)).final_response == "done"


async def test_an_interrupt_that_came_too_early_interrupts_the_turn_when_it_starts(play, holder):
    holder.interrupted.set()
    with trio.fail_after(5), pytest.raises(errors.TurnInterruptedError):
        await play(hangs())


async def test_interrupted_while_nobody_takes_what_is_said_it_stops_in_time_and_counts_what_it_drops(
    play, holder, nursery, monkeypatch
):
    """Codex is deaf to SIGINT while its stdout is full, so it is read; and memory stays bounded."""
    monkeypatch.setattr("codex_actors.backends.exec._MAX_BACKLOG_BYTES", 1_000_000)
    holder.takes = trio.Event()

    async def interrupt() -> None:
        await holder.offered.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        holder.interrupted.set()
        holder.takes.set()

    nursery.start_soon(interrupt)
    flood = Act(f"yes '{said('x' * 1000).strip()}' | head -n 10000")
    with trio.fail_after(10), pytest.raises(errors.TurnInterruptedError) as caught:
        await play(ignores(signal.SIGINT), writes(STARTED), flood)
    assert isinstance(holder.events[0], events.ThreadStarted)
    dropped = caught.value.partial.dropped_events
    assert dropped > 0
    assert len(holder.events) + dropped == 10_002


async def test_cancelling_ends_it_also_while_a_child_holds_its_pipes(play, pid_file, holder, nursery):
    began = trio.current_time()
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            await holder.wait_heard(2)
            scope.cancel()

        nursery.start_soon(cancel)
        await play(leaves_child(pid_file), writes(STARTED), hangs())
    assert scope.cancelled_caught
    assert trio.current_time() - began < 5


async def test_a_turn_ends_also_while_a_child_holds_its_pipes(play, pid_file):
    with trio.fail_after(5):
        assert (await play(leaves_child(pid_file), writes(DONE))).returncode == 0


async def test_cancelled_at_any_step_it_leaves_nothing(tmp_path):
    options = fake_options(tmp_path, reads_prompt(), writes(DONE))
    backend = ExecBackend()
    steps = await cancel_at_each_step(lambda: Holder().ask(backend, options))
    assert steps > 10


async def test_too_few_descriptors_are_an_error_that_says_so(tmp_path, holder):
    options, backend = fake_options(tmp_path, writes(DONE)), ExecBackend()
    for count in range(7):
        with descriptors_left(count), pytest.raises(errors.ResourceLimitError, match="ulimit -n") as caught:
            await holder.ask(backend, options)
        assert caught.value.errno == errno.EMFILE
    await holder.ask(backend, options)


# --- what is asked of the machine ----------------------------------------------------------------


async def test_a_binary_that_is_not_there_is_an_error_before_anything_starts(tmp_path, holder):
    with pytest.raises(errors.CodexNotFoundError, match="codex_path"):
        await holder.ask(ExecBackend(), CodexOptions(codex_path=tmp_path / "no", codex_home=tmp_path))


async def test_a_version_is_asked_for_once_per_binary(tmp_path):
    options = fake_options(tmp_path, writes(DONE))
    notes = f'echo "$1" >>{tmp_path}/log'
    script = tmp_path / "bin" / "codex"
    script.write_text(script.read_text().replace("\n", f"\n{notes}\n", 1))
    backend = ExecBackend()
    for _ in range(3):
        await Holder().ask(backend, options)
    assert (tmp_path / "log").read_text().split() == ["--version", "exec", "exec", "exec"]


async def test_codex_works_where_the_thread_is_to_work(play, tmp_path):
    notes = Act(f"printf '%s\\n' \"$@\" >{tmp_path}/arguments")
    await play(notes, writes(DONE), thread=ThreadOptions(cwd=tmp_path))
    assert f"--cd={tmp_path}" in (tmp_path / "arguments").read_text().splitlines()


async def test_how_long_it_took_is_told(play):
    timings = (await play(Act("sleep 0.05"), writes(STARTED), Act("sleep 0.05"), writes(COMPLETED))).timings
    assert timings.first_event_seconds is not None
    assert timings.last_event_seconds is not None
    assert 0.05 <= timings.first_event_seconds <= timings.last_event_seconds
    assert timings.last_event_seconds >= 0.1
    assert timings.last_event_seconds <= timings.exit_seconds < 5


async def test_items_are_kept_in_full_for_who_wants_them_all(play):
    result = await play(writes(STARTED + "".join(said(str(n)) for n in range(100)) + COMPLETED))
    assert [item.text for item in result.items if isinstance(item, AgentMessage)] == [
        str(n) for n in range(100)
    ]


REFUSAL = "bwrap: setting up uid map: Permission denied"


@pytest.mark.parametrize(
    ("script", "problem"),
    [(f"echo '{REFUSAL}' >&2; exit 1", REFUSAL), ("exit 3", "exit status 3"), ("exec sleep 600", "in time")],
    ids=["refused", "silent", "hangs"],
)
async def test_a_namespace_that_cannot_be_had_is_an_error_before_any_turn(tmp_path, script, problem):
    bwrap = tmp_path / "codex-resources" / "bwrap"
    bwrap.parent.mkdir()
    bwrap.write_text(f"#!/bin/sh\n{script}\n")
    bwrap.chmod(0o755)
    options = fake_options(
        tmp_path, containment="namespace", deadlines=Deadlines(spawn_seconds=1, interrupt_seconds=0.1)
    )
    with pytest.raises(errors.ContainmentError) as caught:
        async with serving(ExecBackend(), options):
            pass
    assert (caught.value.means, problem in caught.value.problem) == ("namespace", True)
