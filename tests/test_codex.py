"""The runtime that people open."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from msgspec.structs import replace

from codex_actors import (
    ChildSpec,
    ChildStatus,
    Codex,
    DynamicSupervisor,
    Strategy,
    Supervisor,
    errors,
    open_supervisor,
)
from codex_actors.options import CodexOptions, LastThread, ThreadName, ThreadOptions
from codex_actors.results import TurnResult
from codex_actors.testing import Act, hangs, writes
from tests.cancel_steps import cancel_at_each_step
from tests.fakes import (
    COMPLETED,
    DONE,
    OTHER_THREAD,
    STARTED,
    THREAD,
    answers_on_a_thread_of_its_own,
    fake_options,
    gate,
    lock_files,
)


@pytest.fixture
def open_codex(tmp_path: Path):
    """Opens a runtime whose codex does this."""
    return lambda *acts, **options: Codex(fake_options(tmp_path, *acts, **options))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def remember(home: Path, thread_id: str, *, cwd: Path, used_at: int) -> None:
    """Put a thread on record."""
    folder = home / "sessions" / "2025" / "01" / "02"
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"rollout-2025-01-02T03-04-05-{thread_id}.jsonl"
    record.write_text(json.dumps({"type": "session_meta", "payload": {"cwd": str(cwd), "source": "exec"}}))
    os.utime(record, (used_at, used_at))


async def test_a_new_thread_has_no_id_and_costs_nothing(open_codex):
    async with open_codex(hangs()) as codex:
        threads = [codex.start_thread(), codex.start_thread(ThreadOptions(model="m"))]
    assert [thread.id for thread in threads] == [None, None]
    assert [thread.options for thread in threads] == [ThreadOptions(), ThreadOptions(model="m")]


async def test_a_thread_is_resumed_by_its_id(open_codex, tmp_path):
    notes = Act(f"printf '%s\\n' \"$@\" >{tmp_path}/arguments")
    async with open_codex(notes, writes(DONE)) as codex:
        thread = codex.resume_thread(THREAD.upper())
        assert thread.id == THREAD
        await thread.run("go")
    assert (tmp_path / "arguments").read_text().split()[-3:] == ["resume", THREAD, "-"]


@pytest.mark.parametrize("thread_id", ["", "my-thread", THREAD[:-1], THREAD + " ", "--last"])
async def test_what_is_no_thread_id_is_refused_and_not_passed_on(open_codex, thread_id):
    async with open_codex(hangs()) as codex:
        for resume_or_fork in (codex.resume_thread, codex.fork_thread):
            with pytest.raises(errors.OptionError, match="UUID"):
                resume_or_fork(thread_id)


async def test_a_thread_is_resumed_by_its_name(home):
    index = [{"id": OTHER_THREAD, "thread_name": "other"}, {"id": THREAD, "thread_name": "mine"}]
    (home / "session_index.jsonl").write_text("\n".join(map(json.dumps, index)))
    async with Codex(CodexOptions(codex_home=home)) as codex:
        assert codex.resume_thread(ThreadName("mine")).id == THREAD
        assert codex.fork_thread(ThreadName("mine")).id is None
        with pytest.raises(errors.ThreadNotFoundError, match=f"named 'no such' in CODEX_HOME {home}"):
            codex.resume_thread(ThreadName("no such"))


async def test_the_last_thread_is_the_last_one_of_the_directory_or_of_all(home, tmp_path, monkeypatch):
    async with Codex(CodexOptions(codex_home=home)) as codex:
        with pytest.raises(errors.ThreadNotFoundError, match="no thread at all"):
            codex.resume_thread(LastThread(any_cwd=True))
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        remember(home, THREAD, cwd=here, used_at=1)
        remember(home, OTHER_THREAD, cwd=there, used_at=2)
        assert codex.resume_thread(LastThread(any_cwd=True)).id == OTHER_THREAD
        assert codex.resume_thread(LastThread(), ThreadOptions(cwd=here)).id == THREAD
        monkeypatch.chdir(here)
        assert codex.resume_thread(LastThread()).id == THREAD
        monkeypatch.chdir(tmp_path)
        with pytest.raises(errors.ThreadNotFoundError, match=f"no thread that worked in {tmp_path}"):
            codex.resume_thread(LastThread())


async def test_before_and_after_its_block_a_runtime_runs_nothing(open_codex):
    codex = open_codex(writes(DONE))
    thread = codex.start_thread()
    for _ in range(2):
        with pytest.raises(errors.RuntimeClosedError, match="async with"):
            await thread.run("go")
        async with codex:
            await thread.run("go")


async def test_closing_it_ends_the_turns_that_run(open_codex, nursery):
    caught: list[BaseException] = []

    async def run(codex: Codex) -> None:
        try:
            await codex.start_thread().run("go")
        except errors.CodexError as exc:
            caught.append(exc)

    async with open_codex(writes(STARTED), hangs()) as codex:
        for _ in range(5):
            nursery.start_soon(run, codex)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert codex.statistics().turns_running == 5
    statistics = codex.statistics()
    assert (statistics.turns_running, statistics.turns_failed) == (0, 5)
    await trio.testing.wait_all_tasks_blocked()
    assert [type(exc) for exc in caught] == [errors.TurnInterruptedError] * 5


async def test_a_missing_home_is_an_error_that_says_what_to_do(tmp_path):
    for home, problem in (
        (tmp_path / "no", "create it, or name another"),
        (Path(__file__), "is no directory"),
    ):
        async with Codex(CodexOptions(codex_home=home, codex_path="/bin/false")) as codex:
            with pytest.raises(errors.CodexHomeError, match=problem) as caught:
                await codex.start_thread().run("go")
        assert caught.value.codex_home == str(home)


async def test_a_home_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    # Permissions mean nothing to root; /proc lets nobody make a directory.
    options = fake_options(tmp_path, writes(DONE))
    async with Codex(CodexOptions(codex_path=options.codex_path, codex_home="/proc/self")) as codex:
        with pytest.raises(errors.CodexHomeError, match="cannot be written"):
            await codex.start_thread().run("go")
        with pytest.raises(errors.CodexHomeError, match="cannot be written"):
            await codex.resume_thread(THREAD).run("go")


async def test_a_hundred_turns_side_by_side_leave_nothing(open_codex, tmp_path):
    with gate(tmp_path / "gate") as hold:
        async with open_codex(hold.waits(), answers_on_a_thread_of_its_own()) as codex:
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(codex.start_thread().run, "go")
                while codex.statistics().turns_running < 100:  # noqa: ASYNC110 - nothing else tells
                    await trio.sleep(0.01)
                hold.let_pass(100)
            assert codex.statistics().turns_completed == 100
            assert trio.lowlevel.current_statistics().tasks_living < 20
    assert lock_files(fake_options(tmp_path)) == []


async def test_cancelled_at_any_step_a_runtime_and_its_turns_leave_nothing(tmp_path):
    options = fake_options(tmp_path, writes(STARTED), writes(COMPLETED))

    async def work() -> None:
        async with Codex(options) as codex, trio.open_nursery() as nursery:
            thread = codex.resume_thread(THREAD)
            nursery.start_soon(thread.run, "go")
            async with thread.run_streamed("go") as turn:
                async for _ in turn:
                    pass

    assert await cancel_at_each_step(work) > 20
    assert lock_files(options) == []
    await work()


# As a child of somebody's supervisor


async def test_a_runtime_is_a_child_of_anybodys_tree(tmp_path):
    options = fake_options(tmp_path, writes(DONE))
    async with open_supervisor([Codex.child_spec("agents", options)]) as root:
        [info] = root.which_children()
        assert info.child is not None
        assert isinstance(info.child.value, Codex)
        assert (await info.child.value.start_thread().run("go")).final_response == "done"
        await root.terminate_child("agents")
        with pytest.raises(errors.RuntimeClosedError):
            await info.child.value.start_thread().run("go")


async def test_the_tree_of_a_runtime_can_be_looked_at(tmp_path):
    codex = Codex(fake_options(tmp_path, writes(STARTED), hangs()))
    with pytest.raises(errors.RuntimeClosedError):
        codex.supervisor  # noqa: B018 - it raises
    async with codex, codex.start_thread().run_streamed("go"):
        turns, backend = codex.supervisor.which_children()
        assert (turns.id, backend.id) == ("turns", "backend")
        assert turns.child is not None
        assert isinstance(turns.child.value, DynamicSupervisor)
        assert turns.child.value.count_children().active == 1
    with pytest.raises(errors.RuntimeClosedError):
        codex.supervisor  # noqa: B018 - as above


async def test_a_runtime_that_is_started_again_does_no_turn_again(tmp_path):
    """What a turn has done must not be done twice by a supervisor."""
    log = tmp_path / "log"
    options = fake_options(tmp_path, Act(f"echo asked >>{log}"), writes(STARTED), hangs())
    crashes, all_restarted = [crash := trio.Event()], trio.Event()

    async def sibling(*, task_status: ChildStatus[None]) -> None:
        task_status.started()
        if crashes:
            await crashes.pop().wait()
            raise RuntimeError("down with everyone")
        all_restarted.set()
        await trio.sleep_forever()

    children = [Codex.child_spec("agents", options), ChildSpec(id="sibling", start=sibling)]
    async with open_supervisor(children, strategy=Strategy.ONE_FOR_ALL) as root:
        first = child_of(root, "agents")
        with pytest.raises(errors.TurnInterruptedError) as caught:
            async with first.start_thread().run_streamed("go") as turn:
                await anext(turn)
                crash.set()
                async for _ in turn:
                    pass
        await all_restarted.wait()
        second = child_of(root, "agents")
        assert second is not first
        assert second.statistics().turns_started == 0
    assert caught.value.partial.thread_id == THREAD
    assert log.read_text() == "asked\n"


async def test_a_runtime_that_is_killed_from_above_kills_its_turns(autojump_clock):
    class HardToStop:
        """Has begun what cannot be broken off."""

        async def serve(self, codex: CodexOptions, *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await trio.sleep_forever()

        async def run_turn(self, request: Any, state: Any, deliver: Any, interrupted: Any) -> TurnResult:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)
            raise AssertionError

    agents = replace(Codex.child_spec("agents", backend=HardToStop()), shutdown=2)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery, open_supervisor([agents]) as root:

            async def ask(codex: Codex) -> None:
                with pytest.raises(AssertionError):
                    await codex.start_thread().run("go")

            nursery.start_soon(ask, child_of(root, "agents"))
            await trio.testing.wait_all_tasks_blocked()
            assert child_of(root, "agents").statistics().turns_running == 1
    stuck = {entry["supervisor"]: entry for entry in reversed(logs) if entry["event"] == "supervisor.stuck"}
    assert stuck.keys() == {"supervisor", "codex", "turns"}
    assert stuck["turns"]["waited_seconds"] == 5


def child_of(supervisor: Supervisor, child_id: str) -> Codex:
    [codex] = [info.child.value for info in supervisor.which_children() if info.id == child_id and info.child]
    assert isinstance(codex, Codex)
    return codex


def test_a_runtime_for_trio_says_on_asyncio_where_the_one_for_asyncio_is():
    async def main() -> None:
        async with Codex():
            pass

    with pytest.raises(RuntimeError, match=r"`codex_actors\.aio`"):
        asyncio.run(main())


def test_what_is_no_runtime_is_no_child():
    with pytest.raises(errors.OptionError, match="must be CodexOptions"):
        Codex.child_spec("agents", ThreadOptions())  # type: ignore[arg-type]
