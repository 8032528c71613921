"""The check that nothing is left behind is worth something only as long as it sees what is left behind."""

import time
from pathlib import Path

import pytest

from tests.leak_check import Traces

CONFTEST = """
from tests import leak_check
from tests.conftest import nothing_is_left_behind, private_temp_dir

leak_check.GRACE_SECONDS = 0
"""

# Whatever is planted here ends with the pytest that runs it: processes wait for the end of a pipe it holds.
LEAKS = """
import os, subprocess, sys, tempfile, threading
import pytest, trio

THE_END, _ = os.pipe()

def test_leaves_a_running_child():
    subprocess.Popen(["cat"], stdin=THE_END).returncode = 0

def test_leaves_a_zombie():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.returncode = 0

def test_leaves_an_orphan(tmp_path):
    env = {**os.environ, "CODEX_HOME": str(tmp_path)}
    subprocess.run(["sh", "-c", "exec 3<&0; cat <&3 & :"], stdin=THE_END, env=env, check=True)

def test_leaves_a_descriptor():
    os.open(os.devnull, os.O_RDONLY)

def test_leaves_a_temporary_file():
    tempfile.mkdtemp(prefix="codex-actors-")

def test_leaves_a_thread():
    threading.Thread(target=os.read, args=(THE_END, 1), name="forgotten", daemon=True).start()

async def test_leaves_a_child_from_within_trio():
    process = await trio.lowlevel.open_process(["cat"], stdin=THE_END)
    process._pidfd.close()
    process._pidfd = None

@pytest.fixture
async def careless():
    yield
    os.open(os.devnull, os.O_RDONLY)

async def test_leaves_a_descriptor_in_an_async_fixture(careless):
    pass
"""

CLEAN = """
import os, subprocess, tempfile
import trio
from hypothesis import given, strategies as st

def test_cleans_up_after_itself(tmp_path):
    subprocess.run(["true"], check=True)
    with tempfile.TemporaryFile():
        pass

async def test_cleans_up_on_trio():
    await trio.run_process(["true"])
    await trio.to_thread.run_sync(os.getpid)

@given(st.binary())
def test_cleans_up_after_every_example(data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config):
    """Run some tests under our fixtures in a pytest of its own, so that what they leak ends with it."""
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    pytester.makeconftest(CONFTEST)

    def run(source: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "no:codex_actors", "-p", "no:cacheprovider")

    return run


def test_a_test_that_leaves_something_behind_is_red_and_is_told_what(run):
    result = run(LEAKS)
    result.assert_outcomes(passed=8, errors=8)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaves_a_running_child*",
            "left behind: child process * (cat, ?)",
            "*ERROR at teardown of test_leaves_a_zombie*",
            "left behind: child process * (true, Z)",
            "*ERROR at teardown of test_leaves_an_orphan*",
            "left behind: orphaned process * (*)",
            "*ERROR at teardown of test_leaves_a_descriptor *",
            "left behind: descriptor * -> /dev/null",
            "*ERROR at teardown of test_leaves_a_temporary_file*",
            "left behind: temporary file codex-actors-*",
            "*ERROR at teardown of test_leaves_a_thread*",
            "left behind: thread forgotten",
            "*ERROR at teardown of test_leaves_a_child_from_within_trio*",
            "left behind: child process * (cat, ?)",
            "*ERROR at teardown of test_leaves_a_descriptor_in_an_async_fixture*",
            "left behind: descriptor * -> /dev/null",
        ],
        consecutive=True,
    )


def test_tests_that_clean_up_after_themselves_are_green(run):
    run(CLEAN).assert_outcomes(passed=3)


def test_looking_costs_next_to_nothing(tmp_path: Path):
    """So that every test can afford it: some hundred microseconds here, and twice per test."""

    def look() -> float:
        start = time.perf_counter()
        Traces.now().new_since(Traces.now(), tmp_path)
        return time.perf_counter() - start

    assert min(look() for _ in range(10)) < 0.003
