"""Nothing outlives its turn, however that ends: a part of the matrix. `nox -s containment` plays all."""

from pathlib import Path

import pytest

from codex_actors.testing import ModelServer
from tests.containment.matrix import CELLS, Cell, play
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")

# A machine that is shared with other tests may take its time; the promise is judged where it is idle.
SECONDS = 5.0
REAL = {"normal end", "surrounding scope cancelled", "watcher SIGKILLed", "host: SIGKILL"}
NAMESPACE = {"normal end", "codex SIGKILLed", "bwrap SIGKILLed", "host, guard and watchers SIGKILLed at once"}


def is_in_the_part(cell: Cell) -> bool:
    match (cell.means, cell.kind, cell.sandbox):
        case ("subreaper", "fake", "danger-full-access"):
            return cell.is_held
        case ("subreaper", "real", _):
            sandboxed = cell.sandbox == "workspace-write"
            return cell.end.name in REAL and sandboxed == (cell.end.name == "host: SIGKILL")
        case ("namespace", "fake", "danger-full-access"):
            return cell.end.name in NAMESPACE
        case _:
            return False


@pytest.mark.parametrize("cell", [cell for cell in CELLS if is_in_the_part(cell)], ids=lambda cell: cell.id)
async def test_nothing_outlives_its_turn_and_nothing_else_is_hit(
    cell: Cell, tmp_path: Path, codex_binary: Path, model_server: ModelServer
):
    if not cell.is_possible(codex_binary):
        pytest.skip("needs user namespaces")
    verdict = await play(cell, tmp_path, codex_binary, model_server, SECONDS)
    assert not [*verdict.problems(cell)]


async def test_what_a_weak_means_cannot_hold_the_judge_sees(
    tmp_path: Path, codex_binary: Path, model_server: ModelServer
):
    [cell] = [it for it in CELLS if it.id == "codex SIGKILLed - process-group - fake - danger-full-access"]
    verdict = await play(cell, tmp_path, codex_binary, model_server, seconds=0.2)
    assert verdict.leaks >= 2
    assert verdict.seconds is None
    assert verdict.neighbour_lives
