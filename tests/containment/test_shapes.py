"""Trees of every shape: however they are made, their means clears them, and the locks prove it."""

import os
from pathlib import Path

import pytest

from codex_actors import Codex, errors
from codex_actors._process import open_anonymous_file
from codex_actors.backends._binary import find_bwrap
from codex_actors.testing import Act, writes
from tests.containment.judge import FAMILY, Victim, kill, until
from tests.containment.stage import namespaces_work
from tests.containment.storm import in_between
from tests.fakes import STARTED, contained, fake_options
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")

SIZES = {
    "family": FAMILY,
    "crowd": 200,
    "deep": 50,
    "daemons": 21,
    "stopped": 2,
    "subreaper": FAMILY,
    "namespace": FAMILY + 1,
    "zombies": 2,
    "runaway": 2,
}


@pytest.fixture(params=["subreaper", "namespace"])
def bwrap(request: pytest.FixtureRequest, shape: str, codex_binary: Path) -> str | None:
    if "namespace" in {request.param, shape} and not namespaces_work(codex_binary):
        pytest.skip("needs user namespaces")
    return find_bwrap(str(codex_binary)) if request.param == "namespace" else None


@pytest.mark.parametrize("shape", SIZES)
async def test_no_tree_has_a_shape_that_gets_away(shape: str, bwrap: str | None, tmp_path: Path):
    victim = Victim(tmp_path / "lock", SIZES[shape])
    with open_anonymous_file(b"") as stdin:
        async with (
            contained() as containment,
            containment.open_process(
                victim.argv(shape),
                env={"PATH": os.environ["PATH"]},
                stdin=stdin,
                bwrap=bwrap,
                interrupt_seconds=0.05,
            ) as process,
        ):
            await victim.wait_alive()
            if shape == "runaway":
                await until(lambda: victim.lock.stat().st_size > 100)
    assert victim.is_dead()
    assert victim.pids() == []
    assert process.leftovers.proven
    assert process.killed


async def test_a_tree_that_runs_away_is_caught_after_its_root_has_ended_well(tmp_path: Path):
    victim = Victim(tmp_path / "lock", 2)
    script = f"{victim.command('runaway')} & read -r _ <'{tmp_path}/gate'"
    os.mkfifo(tmp_path / "gate")
    with open_anonymous_file(b"") as stdin:
        async with (
            contained() as containment,
            containment.open_process(
                ("/bin/sh", "-c", script),
                env={"PATH": os.environ["PATH"]},
                stdin=stdin,
                interrupt_seconds=1,
            ) as process,
        ):
            await victim.wait_alive()
            (tmp_path / "gate").write_text("\n")
            await process.wait()
    assert process.returncode == 0
    assert victim.is_dead()
    assert process.leftovers.proven


@pytest.mark.parametrize("shape", ["runaway", "deep", "daemons", "stopped", "subreaper"])
@pytest.mark.parametrize("role", ["guard", "watcher"])
async def test_whoever_keeps_it_is_killed_somebody_else_clears_it(shape: str, role: str, tmp_path: Path):
    victim = Victim(tmp_path / "lock", SIZES[shape])
    options = fake_options(tmp_path, writes(STARTED), Act(f"{victim.command(shape)} & sleep 60"))
    async with Codex(options) as codex:
        with pytest.raises(errors.ProcessKilledError):
            async with codex.start_thread().run_streamed("go") as turn:
                await victim.wait_alive()
                guards, watchers, _ = in_between()
                kill(*(guards if role == "guard" else watchers))
                await turn.wait_result()
        assert await victim.wait_dead(5)
        assert victim.pids() == []
