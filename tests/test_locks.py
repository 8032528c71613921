"""One turn at a time per thread, within a runtime and across processes."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from codex_actors import errors
from codex_actors._locks import ThreadLocks, _locked
from tests.cancel_steps import cancel_at_each_step
from tests.fakes import OTHER_THREAD, THREAD
from tests.limits import descriptors_left


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "codex-actors-locks"


@asynccontextmanager
async def holding(locks: ThreadLocks, thread_id: str | None = THREAD) -> AsyncIterator[ExitStack]:
    lock = locks.of_thread(thread_id) if thread_id else trio.Lock()
    async with locks.hold(lock, lambda: thread_id) as held:
        yield held


def waiting(home: Path, seconds: float = 60) -> ThreadLocks:
    return ThreadLocks(home, when_busy="wait", thread_seconds=seconds)


def refusing(home: Path) -> ThreadLocks:
    return ThreadLocks(home, when_busy="refuse", thread_seconds=60)


async def hold_for_ever(locks: ThreadLocks, *, task_status: trio.TaskStatus[None]) -> None:
    async with holding(locks):
        task_status.started()
        await trio.sleep_forever()


def lock_is_free(locks: ThreadLocks) -> bool:
    with ExitStack() as held:
        return locks.hold_file(held, THREAD)


async def test_a_janitor_that_looks_at_a_file_makes_no_thread_busy(folder, tmp_path, autojump_clock):
    folder.mkdir()
    janitor = os.open(folder / f"{THREAD}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(janitor, fcntl.LOCK_EX)

    async def put_away() -> None:
        await trio.sleep(0.01)
        (folder / f"{THREAD}.lock").unlink()
        os.close(janitor)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_away)
        async with holding(refusing(tmp_path)):
            assert (folder / f"{THREAD}.lock").exists()


async def test_within_a_runtime_turns_on_a_thread_wait_for_each_other_in_order(tmp_path, autojump_clock):
    locks = waiting(tmp_path)
    log: list[str] = []

    async def turn(name: str) -> None:
        async with holding(locks):
            log.append(f"{name} begins")
            await trio.sleep(1)
            log.append(f"{name} ends")

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(turn, name)
            await trio.testing.wait_all_tasks_blocked()
    assert log == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


async def test_threads_do_not_wait_for_other_threads(tmp_path):
    locks = refusing(tmp_path)
    async with holding(locks), holding(locks, OTHER_THREAD):
        pass


async def test_a_second_turn_is_refused_at_once_if_that_is_wanted(tmp_path, nursery):
    locks = refusing(tmp_path)
    await nursery.start(hold_for_ever, locks)
    with pytest.raises(errors.ThreadBusyError, match="this runtime") as caught:
        async with holding(locks):
            pass
    assert caught.value.thread_id == THREAD
    assert caught.value.retryable


async def test_a_thread_is_free_as_soon_as_its_turn_is_over(tmp_path):
    locks = refusing(tmp_path)
    for _ in range(3):
        async with holding(locks):
            pass


async def test_a_turn_waits_for_its_thread_only_so_long(tmp_path, nursery, autojump_clock):
    locks = waiting(tmp_path, seconds=30)
    await nursery.start(hold_for_ever, locks)
    began = trio.current_time()
    with pytest.raises(errors.ThreadBusyError):
        async with holding(locks):
            pass
    assert trio.current_time() - began == pytest.approx(30)


async def test_a_thread_that_gets_its_id_later_keeps_its_lock(tmp_path):
    locks = waiting(tmp_path)
    lock = trio.Lock()
    locks.adopt(THREAD, lock)
    assert locks.of_thread(THREAD) is lock


async def test_a_lock_is_forgotten_when_nobody_holds_it_any_more(tmp_path):
    locks = waiting(tmp_path)
    for number in range(100):
        locks.of_thread(str(number))
    assert len(locks._locks) == 0


async def test_two_runtimes_wait_for_each_other(tmp_path, autojump_clock):
    ours, theirs = waiting(tmp_path), waiting(tmp_path)
    log: list[str] = []

    async def turn(name: str, locks: ThreadLocks) -> None:
        async with holding(locks):
            log.append(f"{name} begins")
            await trio.sleep(1)
            log.append(f"{name} ends")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn, "ours", ours)
        nursery.start_soon(turn, "theirs", theirs)
    first, second = log[0].split()[0], log[2].split()[0]
    assert log == [f"{first} begins", f"{first} ends", f"{second} begins", f"{second} ends"]


async def test_one_runtime_refuses_what_another_holds(tmp_path):
    async with holding(waiting(tmp_path)):
        with pytest.raises(errors.ThreadBusyError, match="another process") as caught:
            async with holding(refusing(tmp_path)):
                pass
    assert caught.value.thread_id == THREAD
    async with holding(refusing(tmp_path)):
        pass


async def test_another_runtime_is_waited_for_only_so_long(tmp_path, autojump_clock):
    async with holding(waiting(tmp_path)):
        began = trio.current_time()
        with pytest.raises(errors.ThreadBusyError):
            async with holding(waiting(tmp_path, seconds=30)):
                pass
        assert trio.current_time() - began == pytest.approx(30, abs=0.1)


async def test_waiting_for_our_own_and_then_for_others_takes_no_longer_than_one_of_them(
    tmp_path, autojump_clock
):
    ours, theirs = waiting(tmp_path, seconds=30), waiting(tmp_path)
    lock = ours.of_thread(THREAD)
    async with holding(theirs), trio.open_nursery() as nursery:
        await lock.acquire()
        began = trio.current_time()

        async def second() -> None:
            with pytest.raises(errors.ThreadBusyError):
                async with holding(ours):
                    pass
            assert trio.current_time() - began == pytest.approx(30, abs=0.1)

        nursery.start_soon(second)
        await trio.sleep(20)
        lock.release()


async def test_a_thread_without_an_id_yet_is_held_against_others_as_soon_as_it_has_one(tmp_path):
    ours, theirs = refusing(tmp_path), refusing(tmp_path)
    async with holding(ours, None) as held:
        assert ours.hold_file(held, THREAD)
        assert not theirs.hold_file(ExitStack(), THREAD)
    assert lock_is_free(theirs)


async def test_no_file_is_left_of_a_lock(tmp_path, folder):
    async with holding(waiting(tmp_path)):
        assert [path.name for path in folder.iterdir()] == [f"{THREAD}.lock"]
    assert list(folder.iterdir()) == []


def test_a_lock_file_of_a_dead_process_blocks_nobody(tmp_path, folder):
    script = (
        "import fcntl, os, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    folder.mkdir()
    lock_file = folder / f"{THREAD}.lock"
    with subprocess.Popen([sys.executable, "-I", "-c", script, lock_file], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout
            other.stdout.readline()
            assert not lock_is_free(refusing(tmp_path))
        finally:
            other.kill()
            other.wait()
    assert lock_file.exists()
    assert lock_is_free(refusing(tmp_path))
    assert list(folder.iterdir()) == []


async def test_a_lock_on_a_file_that_its_last_holder_has_removed_is_no_lock(tmp_path, folder):
    # As when a holder lets go between our opening of its file and our locking of it.
    fd = os.open(tmp_path / "removed", os.O_RDWR | os.O_CREAT)
    try:
        (tmp_path / "other").touch()
        assert not _locked(fd, tmp_path / "other")
        assert not _locked(fd, tmp_path / "nowhere")
        assert _locked(fd, tmp_path / "removed")
    finally:
        os.close(fd)


async def test_a_home_that_went_away_meanwhile_is_no_trouble_when_letting_go(tmp_path, folder):
    async with holding(waiting(tmp_path)):
        (folder / f"{THREAD}.lock").unlink()
        folder.rmdir()


async def test_a_home_that_cannot_be_written_is_named(tmp_path):
    home = tmp_path / "home"
    home.write_text("a file where the directory should be")
    with pytest.raises(errors.CodexHomeError, match="cannot be written") as caught:
        async with holding(waiting(home)):
            pass
    assert caught.value.codex_home == str(home)


async def test_too_few_descriptors_are_not_blamed_on_the_home(tmp_path):
    with descriptors_left(0), pytest.raises(errors.ResourceLimitError) as caught:
        async with holding(waiting(tmp_path)):
            pass
    assert caught.value.errno == errno.EMFILE


async def test_giving_up_or_being_cancelled_leaves_nothing_held(tmp_path):
    locks = waiting(tmp_path)

    async def work() -> None:
        async with holding(locks):
            await trio.lowlevel.checkpoint()

    async with holding(waiting(tmp_path)):
        with trio.move_on_after(0.12):
            await work()
    await cancel_at_each_step(work)
    async with holding(refusing(tmp_path)), holding(refusing(tmp_path), OTHER_THREAD):
        pass
    await work()
