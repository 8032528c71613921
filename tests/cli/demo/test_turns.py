import pytest

from codex_actors.cli._demo._story import CANCEL, KILL, PARTS
from codex_actors.cli._demo._turns import Pids
from codex_actors.telemetry import ProcessSpawned, Prompt, Telemetry


def test_a_process_is_found_by_the_turn_it_runs_for():
    telemetry = Telemetry(log=False)
    pids = Pids(telemetry)
    for turn_id, part in enumerate(PARTS):
        telemetry.emit(Prompt(turn_id=str(turn_id), text=part.prompt))
    telemetry.emit(ProcessSpawned(turn_id=str(PARTS.index(CANCEL)), pid=7))
    telemetry.emit(ProcessSpawned(turn_id=str(PARTS.index(KILL)), pid=8))
    assert (pids.of(CANCEL), pids.of(KILL)) == (7, 8)
    with pytest.raises(KeyError):
        pids.of(PARTS[0])
