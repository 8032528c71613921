"""Bad weather: random ends, random signals, and Ctrl-C at random moments; `nox -s containment` has more."""

import random
from pathlib import Path

import pytest

from codex_actors import Codex
from codex_actors.options import CodexOptions
from codex_actors.testing import Act, writes
from tests.cancel_steps import cancel_at_each_step
from tests.containment.judge import Victim
from tests.containment.storm import in_between, interrupt_host, open_storm
from tests.fakes import COMPLETED, STARTED, fake_options
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")


async def test_however_thirty_turns_end_and_whoever_is_hit_nothing_is_left(tmp_path: Path):
    async with open_storm(2026, tmp_path, None, seconds=5.0) as storm:
        await storm.run(30)
    assert storm.report.leaks == []
    assert storm.report.outcomes.total() == 30
    assert storm.report.signals.total() > 0
    assert storm.report.growth() == []


@pytest.mark.parametrize("seed", range(6))
async def test_whenever_somebody_presses_ctrl_c_once_or_twice_nothing_is_left(
    seed: int, tmp_path: Path, codex_binary: Path
):
    assert await interrupt_host(random.Random(seed), tmp_path, codex_binary) == []


@pytest.fixture
def daemon(tmp_path: Path) -> Victim:
    return Victim(tmp_path / "lock", 1)


@pytest.fixture
def options(tmp_path: Path, daemon: Victim) -> CodexOptions:
    """Those of a Codex that starts a daemon, and then ends well."""
    return fake_options(tmp_path, writes(STARTED), Act(daemon.command("server")), writes(COMPLETED))


async def test_cancelled_at_any_step_of_its_start_or_end_a_turn_leaves_nothing(daemon, options):
    died: list[bool] = []
    async with Codex(options) as codex:

        async def work() -> None:
            try:
                await codex.start_thread().run("go")
            finally:
                died.append(daemon.is_dead())

        assert await cancel_at_each_step(work) > 20
    assert all(died)


async def test_cancelled_at_any_step_of_its_life_a_runtime_leaves_nothing(daemon, options):
    died: list[bool] = []

    async def work() -> None:
        try:
            async with Codex(options) as codex:
                await codex.start_thread().run("go")
        finally:
            died.append(daemon.is_dead() and in_between() == ([], [], []))

    assert await cancel_at_each_step(work) > 50
    assert all(died)
