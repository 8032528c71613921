import os
import subprocess
import sys
from pathlib import Path

import pytest

from codex_actors.cli._leaks import can_see_processes, files_left, processes_left

pytestmark = pytest.mark.skipif(not can_see_processes(), reason="needs /proc")


async def test_where_nothing_is_left_nothing_is_found(tmp_path: Path):
    assert await processes_left(tmp_path) == []
    assert files_left(tmp_path) == []


async def test_a_child_of_ours_is_found(tmp_path: Path):
    with subprocess.Popen(["sleep", "60"]) as child:
        assert await processes_left(tmp_path) == [f"process {child.pid} (sleep)"]
        child.kill()


async def test_a_process_that_nobody_is_the_parent_of_is_found_by_its_codex_home(tmp_path: Path):
    pid = int(
        subprocess.check_output(
            ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"],
            env={**os.environ, "CODEX_HOME": str(tmp_path)},
        )
    )
    try:
        [left] = await processes_left(tmp_path)
        assert left == f"process {pid} (sleep)"
        assert await processes_left(tmp_path / "other") == []
    finally:
        os.kill(pid, 9)
    assert await processes_left(tmp_path) == []


async def test_what_is_about_to_end_is_given_the_time(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-c", "import os, time; os.fork() or time.sleep(0.2)"],
        env={**os.environ, "CODEX_HOME": str(tmp_path)},
        check=True,
    )
    assert await processes_left(tmp_path) == []


def test_temporary_files_are_found_but_for_codex_own_note(tmp_path: Path):
    (tmp_path / "left.txt").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / "codex-bwrap-synthetic-mount-targets-0").mkdir()
    assert files_left(tmp_path) == [".git", "left.txt"]
