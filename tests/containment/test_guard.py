"""The guard process itself, and the watcher that waits for work."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from codex_actors import Codex
from codex_actors._process import _guard, open_anonymous_file
from codex_actors.backends._binary import find_bwrap
from codex_actors.options import Deadlines
from codex_actors.testing import Act, writes
from tests.containment.judge import Victim, kill, until
from tests.containment.stage import namespaces_work
from tests.containment.storm import in_between
from tests.fakes import STARTED, contained, fake_options
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")


def test_a_guard_that_nobody_waits_for_any_more_ends_and_says_nothing():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    host = os.pidfd_open(os.getpid())
    with theirs:
        done = subprocess.run(
            [sys.executable, *_guard._PYTHON_FLAGS, _guard._PROGRAM, str(theirs.fileno()), str(host)],
            pass_fds=(theirs.fileno(), host),
            capture_output=True,
            timeout=30,
            check=False,
        )
    os.close(host)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_watcher_that_is_killed_before_it_has_work_is_not_missed():
    async with contained() as containment:
        await until(lambda: bool(in_between()[1]))
        [spare] = in_between()[1]
        kill(spare)
        await until(lambda: spare not in in_between()[1])
        await trio.testing.wait_all_tasks_blocked(0.05)  # the guard has said so
        with open_anonymous_file(b"") as stdin, trio.fail_after(10):
            async with containment.open_process(
                ("/bin/true",), env={}, stdin=stdin, interrupt_seconds=1
            ) as process:
                await process.wait()
    assert process.returncode == 0
    assert process.leftovers.proven


async def test_an_interrupt_that_comes_before_the_namespace_is_there_waits_for_it(codex_binary: Path):
    if not namespaces_work(codex_binary):
        pytest.skip("needs user namespaces")
    killed = 0
    async with contained() as containment:
        for milliseconds in range(10):
            with open_anonymous_file(b"") as stdin:
                async with containment.open_process(
                    ("/bin/sleep", "600"),
                    env={},
                    stdin=stdin,
                    bwrap=find_bwrap(str(codex_binary)),
                    interrupt_seconds=5,
                ) as process:
                    await trio.sleep(milliseconds / 3000)
            killed += process.killed
    assert killed == 0


async def test_a_watcher_that_was_stopped_clears_its_tree_when_the_runtime_closes_at_the_latest(
    tmp_path: Path,
):
    victim = Victim(tmp_path / "lock")
    deadlines = Deadlines(interrupt_seconds=0.1, kill_seconds=0.2)
    acts = (writes(STARTED), Act(f"{victim.command()} & sleep 60"))
    async with Codex(fake_options(tmp_path, *acts, deadlines=deadlines)) as codex:
        async with codex.start_thread().run_streamed("go"):
            await victim.wait_alive()
            for watcher in in_between()[1]:
                os.kill(watcher, signal.SIGSTOP)
        assert not victim.is_dead(), "nobody can clear it"
    assert await victim.wait_dead(5)
