"""One process of the operating system, from its start to its certain end."""

import errno
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from codex_actors import errors
from codex_actors._process import MAX_STDERR_BYTES, STDOUT_BYTES, Containment, Process, open_anonymous_file
from codex_actors.backends._binary import find_bwrap
from codex_actors.results import Leftovers
from tests.cancel_steps import cancel_at_each_step
from tests.containment.judge import Victim, kill, parent_of, until
from tests.containment.stage import namespaces_work
from tests.containment.storm import in_between
from tests.fakes import contained
from tests.leak_check import HAS_PROC
from tests.limits import descriptors_left

FOR_EVER = "exec sleep 600"  # exec: a shell hears of a signal only when its child has ended


@pytest.fixture(params=["subreaper", "process-group"])
async def containment(request, nursery) -> Containment:
    containment = Containment(request.param, spawn_seconds=10, kill_seconds=10)
    await nursery.start(containment.serve)
    return containment


@pytest.fixture
def shell(containment):
    """Runs a script."""

    @asynccontextmanager
    async def shell(
        script: str, *, given: bytes = b"", interrupt_seconds: float = 10.0, **options: Any
    ) -> AsyncIterator[Process]:
        with open_anonymous_file(given) as stdin:
            async with containment.open_process(
                ("/bin/sh", "-c", script),
                env={"PATH": os.environ["PATH"]},
                stdin=stdin,
                interrupt_seconds=interrupt_seconds,
                **options,
            ) as process:
                yield process

    return shell


async def read_all(process: Process) -> bytes:
    output = b""
    while data := await process.receive_some():
        output += data
    return output


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """Where a script notes a child that it leaves behind, for the test to end it."""
    path = tmp_path / "pid"
    yield path
    if path.exists():
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


async def test_what_it_is_given_it_reads_and_what_it_writes_we_read(shell):
    async with shell("cat; echo gone wrong >&2; exit 3", given=b"hello") as process:
        assert await read_all(process) == b"hello"
        await process.wait()
    assert process.returncode == 3
    assert process.stderr_tail == "gone wrong\n"


async def test_it_is_over_when_the_block_is_left_and_not_before(shell):
    async with shell(FOR_EVER) as process:
        assert process.returncode is None
    assert process.returncode == -signal.SIGINT


async def test_leaving_the_block_lets_it_stop_by_itself(shell):
    async with shell("trap 'echo bye >&2; exit 5' INT; echo ready; while :; do sleep 0.01; done") as process:
        await process.receive_some()
    assert process.returncode == 5
    assert process.stderr_tail == "bye\n"


async def test_what_ignores_interrupt_and_terminate_is_killed(shell):
    script = f"trap '' INT TERM; echo ready; {FOR_EVER}"
    with trio.fail_after(5):
        async with shell(script, interrupt_seconds=0.05) as process:
            await process.receive_some()
    assert process.returncode == -signal.SIGKILL


async def test_a_stopped_one_is_continued_to_hear_that_it_should_stop(shell):
    async with shell(FOR_EVER) as process:
        os.kill(process.pid, signal.SIGSTOP)
    assert process.returncode == -signal.SIGINT
    assert not process.killed


async def test_the_kill_comes_when_the_time_is_over_and_not_before(shell):
    async with shell(f"trap '' INT; echo ready; {FOR_EVER}", interrupt_seconds=0.3) as process:
        await process.receive_some()
        began = trio.current_time()
    assert 0.3 <= trio.current_time() - began < 3


async def test_its_output_is_read_while_it_is_being_stopped(shell):
    # The shell hears of the signal only when its child has ended, and that is blocked on a full pipe.
    script = "trap 'exit 5' INT; echo ready; head -c 3000000 /dev/zero; while :; do sleep 0.01; done"
    async with shell(script) as process:
        await process.receive_some()
    assert process.returncode == 5


async def test_being_cancelled_ends_it_too(shell):
    with trio.CancelScope() as scope:
        async with shell(f"echo ready; {FOR_EVER}") as process:
            await process.receive_some()
            scope.cancel()
            await process.receive_some()
    assert scope.cancelled_caught
    assert process.returncode == -signal.SIGINT


async def test_an_error_in_the_block_ends_it_and_leaves_bare(shell):
    with pytest.raises(KeyError):
        async with shell(FOR_EVER) as process:
            raise KeyError
    assert process.returncode == -signal.SIGINT


async def test_ending_it_twice_gives_it_no_second_grace(shell):
    async with shell(f"trap '' INT; echo ready; {FOR_EVER}", interrupt_seconds=1) as process:
        await process.receive_some()
        began = trio.current_time()
        with trio.move_on_after(0.9):
            await process.end()
    assert trio.current_time() - began < 1.8


async def test_four_megabytes_for_a_process_that_reads_nothing_are_no_trouble(shell):
    async with shell("exit 7", given=b"x" * 4_000_000) as process:
        assert await read_all(process) == b""
        await process.wait()
    assert process.returncode == 7


async def test_a_flood_on_stderr_blocks_nobody_and_only_its_end_is_kept(shell):
    script = "head -c 10000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; echo done"
    async with shell(script) as process:
        assert await read_all(process) == b"done\n"
        await process.wait()
    assert process.stderr_tail.endswith("xxx\nthe end\n".replace("\n", "", 1))
    assert len(process.stderr_tail) == MAX_STDERR_BYTES


async def test_an_endless_flood_on_stderr_leaves_the_other_tasks_their_turn(shell):
    with trio.fail_after(10):
        async with shell("exec cat /dev/zero >&2") as process:
            for _ in range(100):
                await trio.lowlevel.checkpoint()
    assert process.returncode == -signal.SIGINT


async def test_stderr_that_is_no_utf8_is_read_leniently(shell):
    async with shell(r"printf 'bad \377' >&2") as process:
        await process.wait()
    assert process.stderr_tail == "bad \N{REPLACEMENT CHARACTER}"


async def test_a_closed_stdout_is_not_the_end_of_the_process(shell):
    async with shell(f"exec >&-; {FOR_EVER}") as process:
        assert await process.receive_some() == b""
        assert process.returncode is None


async def test_no_byte_is_lost_when_reading_is_cancelled(shell):
    async with shell("echo one; sleep 0.05; echo two") as process:
        output = b""
        while not output.endswith(b"two\n"):
            with trio.move_on_after(0.001):
                output += await process.receive_some()
    assert output == b"one\ntwo\n"


async def test_a_child_of_its_own_that_holds_the_pipes_holds_nobody_up(shell, pid_file):
    with trio.fail_after(5):
        async with shell(f"{FOR_EVER} & echo $! >{pid_file}; echo said") as process:
            assert await read_all(process) == b"said\n"
    assert process.returncode == 0


@pytest.mark.parametrize("stream", [1, 2])
async def test_a_child_of_its_own_that_floods_the_pipes_holds_nobody_up(shell, pid_file, stream):
    with trio.fail_after(5):
        async with shell(f"cat /dev/zero >&{stream} & echo $! >{pid_file}; echo said") as process:
            assert b"said\n" in await read_all(process)
    assert process.returncode == 0


async def test_all_that_it_wrote_is_read_when_it_is_long_gone(shell):
    async with shell(f"head -c {STDOUT_BYTES} /dev/zero") as process:
        await process.wait()
        assert len(await read_all(process)) == STDOUT_BYTES


async def test_it_leads_a_session_of_its_own(shell):
    async with shell(FOR_EVER) as process:
        assert os.getsid(process.pid) == process.pid


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_it_has_the_descriptors_it_was_given_and_no_others(shell, tmp_path):
    with open_anonymous_file(b"a schema") as given:
        # Without a pipe of the shell's own, which would come and go.
        script = f"cat /dev/fd/{given}; echo; for fd in /proc/$$/fd/*; do readlink $fd; done"
        async with shell(script, pass_fds=(given,)) as process:
            content, *targets = (await read_all(process)).splitlines()
    assert content == b"a schema"
    kinds = sorted(target.partition(b":")[0] for target in targets)
    assert kinds == [b"/memfd", b"/memfd", b"pipe", b"pipe"]


def test_a_file_without_a_name_is_read_from_its_start():
    with open_anonymous_file(b"hello") as fd:
        assert os.read(fd, 100) == b"hello"
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


@pytest.fixture
def not_executable(tmp_path: Path) -> str:
    path = tmp_path / "codex"
    path.write_text("#!/bin/sh\n")
    return str(path)


@pytest.fixture
def not_a_program(tmp_path: Path) -> str:
    path = tmp_path / "codex"
    path.write_bytes(b"\0\0\0\0")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_a_leftover_may_have_any_name(tmp_path: Path):
    program = tmp_path / "two\nlines"
    program.symlink_to("/bin/sleep")
    async with contained() as containment:
        with open_anonymous_file(b"") as stdin:
            script = f"'{program}' 600 & until grep -qs lines /proc/$!/comm; do :; done"
            async with containment.open_process(
                ("/bin/sh", "-c", script), env=dict(os.environ), stdin=stdin, interrupt_seconds=1
            ) as process:
                await process.wait()
    assert process.leftovers == Leftovers(killed=("two\nlines",), proven=True)


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_a_start_that_hangs_is_an_error_in_time():
    async with contained(spawn_seconds=1, kill_seconds=0.1) as containment:
        await until(lambda: bool(in_between()[1]))
        [watcher] = in_between()[1]
        os.kill(watcher, signal.SIGSTOP)
        try:
            with pytest.raises(errors.SpawnError, match="not started within 1 s"), trio.fail_after(10):
                await start(containment, "/bin/true")
        finally:
            os.kill(watcher, signal.SIGCONT)


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_a_guard_that_cannot_look_does_not_say_that_all_are_dead(tmp_path: Path):
    victim = Victim(tmp_path / "lock")
    async with contained(kill_seconds=0.3) as containment:
        with open_anonymous_file(b"") as stdin:
            async with containment.open_process(
                victim.argv(), env=dict(os.environ), stdin=stdin, interrupt_seconds=1
            ) as process:
                await victim.wait_alive()
                [guard], watchers, _ = in_between()
                limits = resource.prlimit(guard, resource.RLIMIT_NOFILE)
                resource.prlimit(guard, resource.RLIMIT_NOFILE, (3, limits[1]))
                kill(*(pid for pid in watchers if pid == parent_of(process.pid)))
        assert not process.leftovers.proven
        resource.prlimit(guard, resource.RLIMIT_NOFILE, limits)
        assert await victim.wait_dead(5)


async def test_in_a_namespace_an_end_by_a_signal_is_seen_as_one(codex_binary: Path):
    if not namespaces_work(codex_binary):
        pytest.skip("needs user namespaces")
    async with contained() as containment:
        with open_anonymous_file(b"") as stdin:
            async with containment.open_process(
                ("/bin/sh", "-c", "kill -9 $$"),
                env={},
                stdin=stdin,
                bwrap=find_bwrap(str(codex_binary)),
                interrupt_seconds=1,
            ) as process:
                await process.wait()
    assert process.returncode == -signal.SIGKILL


async def test_what_cannot_be_encoded_is_refused_without_showing_the_rest(containment):
    with open_anonymous_file(b"") as stdin, pytest.raises(ValueError, match="surrogate") as caught:
        async with containment.open_process(
            ("/bin/true",), env={"KEY": "a-secret", "BAD": "\ud800"}, stdin=stdin, interrupt_seconds=1
        ):
            pass
    assert "a-secret" not in repr(caught.value) + repr(caught.value.__context__)


@pytest.mark.parametrize("executable", [None, "", "/bin/false", "/no/such/python"])
async def test_a_host_without_a_python_to_run_cannot_have_a_guard(executable, monkeypatch):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(errors.ContainmentError):
        async with contained():
            pass


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_a_program_that_carries_its_python_in_itself_is_not_started_as_one(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(errors.ContainmentError, match="no Python interpreter"):
        async with contained():
            pass


async def start(containment: Containment, path: str) -> None:
    with open_anonymous_file(b"") as stdin:
        async with containment.open_process((path,), env={}, stdin=stdin, interrupt_seconds=1):
            pass


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/no/such/codex", errno.ENOENT),
        ("/usr", errno.EACCES),
        ("not_executable", errno.EACCES),
        ("not_a_program", errno.ENOEXEC),
    ],
)
async def test_what_cannot_be_started_is_named_with_the_reason(containment, path, number, request):
    path = path if path.startswith("/") else request.getfixturevalue(path)
    with pytest.raises(errors.SpawnError, match=os.strerror(number)) as caught:
        await start(containment, path)
    assert (caught.value.codex_path, caught.value.errno) == (path, number)


@pytest.mark.parametrize("count", range(6))
async def test_too_few_descriptors_are_an_error_that_says_so_and_leaves_nothing(shell, count):
    with descriptors_left(count), pytest.raises(errors.ResourceLimitError, match="ulimit -n") as caught:
        async with shell("exit 0"):
            pass
    assert caught.value.errno == errno.EMFILE


async def test_cancelled_at_any_step_it_leaves_nothing(shell):
    async def work() -> None:
        async with shell("echo ready; exec cat") as process:
            await process.receive_some()
            await process.wait()

    assert await cancel_at_each_step(work) > 5


def open_sockets() -> list[int]:
    return [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.is_socket()]


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_a_forked_child_that_holds_copies_of_its_channels_holds_nobody_up():
    began = trio.current_time()
    with ExitStack() as forked:
        async with contained():
            for copy in map(os.dup, open_sockets()):
                forked.callback(os.close, copy)
    assert trio.current_time() - began < 8, "the guard had to be killed, after kill_seconds"


BECOMES_ANOTHER_USER = """
import os
import trio
from codex_actors import Codex, errors
from codex_actors.options import CodexOptions

async def main():
    async with Codex(CodexOptions(codex_home="/tmp", codex_path="/bin/true")) as codex:
        os.seteuid(65534)
        try:
            await codex.start_thread().run("go")
        except errors.ContainmentError as error:
            print(error.problem)
        os.seteuid(0)

trio.run(main)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_who_has_become_another_user_starts_nothing_as_the_one_before():
    ended = await trio.run_process((sys.executable, "-c", BECOMES_ANOTHER_USER), capture_stdout=True)
    assert b"become another user" in ended.stdout
