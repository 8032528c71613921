"""What a turn leaves running when its Codex has ended by itself: killed, kept or allowed to stay."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from codex_actors import Codex, errors
from codex_actors.options import CodexOptions
from codex_actors.results import TurnResult
from codex_actors.telemetry import ProcessLeftovers, Telemetry
from codex_actors.testing import Act, writes
from tests.containment.judge import FAMILY, Victim, kill
from tests.containment.stage import Line
from tests.fakes import COMPLETED, DONE, STARTED, Gate, fake_options, gate
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    """A family without its root, which has ended by itself."""
    return Victim(tmp_path / "victim.lock", FAMILY - 1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Victim]:
    """A daemon that is meant to stay."""
    server = Victim(tmp_path / "server.lock", 1)
    yield server
    server.exterminate()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Gate]:
    """Where the fake Codex waits until all of them are there."""
    with gate(tmp_path / "door") as door:
        yield door


@pytest.fixture
def starts_both(victim: Victim, server: Victim, door: Gate) -> tuple[Act, ...]:
    return (
        writes(STARTED),
        Act(victim.command("leave")),
        Act(server.command("server")),
        door.waits(),
        writes(DONE.removeprefix(STARTED)),
    )


async def run(codex: Codex, door: Gate, *victims: Victim) -> TurnResult:
    """Run a turn that ends by itself when its victims live."""
    async with codex.start_thread().run_streamed("go") as turn:
        for victim in victims:
            await victim.wait_alive()
        door.let_pass()
        return await turn.wait_result()


async def test_what_is_left_is_killed_and_reported(victim, server, door, starts_both, tmp_path):
    seen: list[object] = []
    telemetry = Telemetry(log=False)
    telemetry.attach(("codex", "process", "leftovers"), seen.append)
    async with Codex(fake_options(tmp_path, *starts_both), telemetry=telemetry) as codex:
        result = await run(codex, door, victim, server)
        assert victim.is_dead()
        assert server.is_dead()
    assert result.leftovers.proven
    assert len(result.leftovers.killed) == FAMILY
    assert "sleep" in result.leftovers.killed
    assert result.leftovers.kept == ()
    [event] = seen
    assert isinstance(event, ProcessLeftovers)
    assert (event.killed, event.kept) == (result.leftovers.killed, ())


async def test_a_turn_that_leaves_nothing_has_nothing_reported(door, tmp_path):
    async with Codex(fake_options(tmp_path, door.waits(), writes(DONE))) as codex:
        result = await run(codex, door)
    assert result.leftovers.proven
    assert (result.leftovers.killed, result.leftovers.kept) == ((), ())


@pytest.fixture
def allows_server(tmp_path, starts_both, server) -> CodexOptions:
    return fake_options(tmp_path, *starts_both, allowed_leftovers=[f"*{server.lock}*"])


async def test_what_may_stay_does_and_its_neighbours_die(victim, server, door, allows_server):
    async with Codex(allows_server) as codex:
        result = await run(codex, door, victim, server)
        assert victim.is_dead()
        assert server.has_grown()
    assert len(result.leftovers.killed) == FAMILY - 1
    assert len(result.leftovers.kept) == 1
    assert result.leftovers.proven
    assert server.has_grown(), "it outlives the runtime too"


async def test_later_turns_find_it_and_leave_it_alone(victim, server, door, tmp_path):
    # Like a build daemon's client: the first turn starts it, the others find it.
    finds = f"[ -s {server.lock} ] || {server.command('server')}"
    acts = (writes(STARTED), Act(finds), door.waits(), writes(DONE.removeprefix(STARTED)))
    options = fake_options(tmp_path, *acts, allowed_leftovers=[f"*{server.lock}*"])
    async with Codex(options) as codex:
        kept = [len((await run(codex, door, server)).leftovers.kept) for _ in range(3)]
    assert kept == [1, 0, 0], "it is no longer the later turns'"
    assert server.has_grown()


async def test_what_may_stay_does_after_an_interrupt_too(victim, server, allows_server):
    async with Codex(allows_server) as codex:
        async with codex.start_thread().run_streamed("go"):
            await victim.wait_alive()
            await server.wait_alive()
        assert victim.is_dead()
        assert server.has_grown()


async def test_what_may_stay_does_even_if_who_started_it_has_to_go(victim, server, tmp_path):
    """As a build daemon, while the build that started it still runs."""
    build = f"{victim.command('leave')}; {server.command('alone')} & wait"
    acts = (writes(STARTED), Act(f"sh -c {shlex.quote(build)} & wait"))
    options = fake_options(tmp_path, *acts, allowed_leftovers=[f"{sys.executable} *{server.lock}*"])
    async with Codex(options) as codex:
        async with codex.start_thread().run_streamed("go"):
            await victim.wait_alive()
            await server.wait_alive()
        assert victim.is_dead()
        assert server.has_grown()


async def test_all_that_is_left_can_be_kept(victim, server, door, starts_both, tmp_path):
    async with Codex(fake_options(tmp_path, *starts_both, leftovers="keep")) as codex:
        result = await run(codex, door, victim, server)
    assert (victim.has_grown(), server.has_grown()) == (True, True)
    assert result.leftovers.killed == ()
    assert len(result.leftovers.kept) == FAMILY
    victim.exterminate()


@pytest.mark.parametrize("leave", ["interrupt", "cancel"])
async def test_after_an_interrupt_nothing_is_kept(victim, server, starts_both, tmp_path, leave):
    async with Codex(fake_options(tmp_path, *starts_both, leftovers="keep")) as codex:
        with trio.CancelScope() as scope:
            async with codex.start_thread().run_streamed("go") as turn:
                await victim.wait_alive()
                await server.wait_alive()
                if leave == "cancel":
                    scope.cancel()
                turn.interrupt()
                with pytest.raises(errors.TurnInterruptedError):
                    await turn.wait_result()
        assert (victim.is_dead(), server.is_dead()) == (True, True)


@pytest.mark.parametrize("keeps", [{"leftovers": "keep"}, {"allowed_leftovers": ["tmux*"]}])
def test_what_nothing_can_outlive_keeps_nothing(keeps):
    with pytest.raises(errors.OptionError, match="namespace"):
        CodexOptions(containment="namespace", **keeps)


async def test_what_was_kept_is_not_hit_when_a_watcher_is_killed(victim, server, door, tmp_path, nursery):
    acts = (
        Act("read -r who || :"),
        writes(STARTED),
        Act(f"[ $who != other ] || {{ {victim.command('leave')}; sleep 60; }}"),
        Act(server.command("server")),
        door.waits(),
        writes(COMPLETED),
    )
    options = fake_options(tmp_path, *acts, allowed_leftovers=[f"*{server.lock}*"])
    async with Codex(options) as codex, codex.start_thread().run_streamed("keeps") as keeping:
        await server.wait_alive()
        door.let_pass()
        await keeping.wait_result()
        async with codex.start_thread().run_streamed("other") as other:
            await victim.wait_alive()
            kill(Line.of(victim, str(options.codex_path)).watcher)
            with pytest.raises(errors.ProcessKilledError):
                await other.wait_result()
        assert victim.is_dead()
        assert server.has_grown()
