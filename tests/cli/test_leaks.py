import os
import signal
from functools import partial
from pathlib import Path

import pytest
import trio

from codex_actors.cli._leaks import can_see_processes, files_left, processes_left

pytestmark = pytest.mark.skipif(not can_see_processes(), reason="needs /proc")


async def test_where_nothing_is_left_nothing_is_found(tmp_path: Path):
    assert await processes_left(tmp_path) == []
    assert files_left(tmp_path) == []


async def test_a_child_of_ours_is_found(tmp_path: Path):
    async with trio.open_nursery() as nursery:
        child = await nursery.start(partial(trio.run_process, ["sleep", "60"], check=False))
        assert await processes_left(tmp_path) == [f"process {child.pid} (sleep)"]
        child.kill()


async def test_a_process_that_nobody_is_the_parent_of_is_found_by_its_codex_home(tmp_path: Path):
    pid = int(await run_with_home(tmp_path, "sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"))
    try:
        assert await processes_left(tmp_path) == [f"process {pid} (sleep)"]
        assert await processes_left(tmp_path / "other") == []
    finally:
        os.kill(pid, signal.SIGKILL)
    assert await processes_left(tmp_path) == []


async def test_what_is_about_to_end_is_given_the_time(tmp_path: Path):
    await run_with_home(tmp_path, "sh", "-c", "setsid sleep 0.2 >/dev/null 2>&1 &")
    assert await processes_left(tmp_path) == []


async def run_with_home(codex_home: Path, *command: str) -> bytes:
    env = {**os.environ, "CODEX_HOME": str(codex_home)}
    return (await trio.run_process(command, env=env, capture_stdout=True)).stdout


def test_temporary_files_are_found_but_for_codex_own_note(tmp_path: Path):
    (tmp_path / "left.txt").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / "codex-bwrap-synthetic-mount-targets-0").mkdir()
    assert files_left(tmp_path) == [".git", "left.txt"]
