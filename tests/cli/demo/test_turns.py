from codex_actors.cli._demo._story import CANCEL, KILL, PARTS
from codex_actors.cli._demo._turns import Pids
from codex_actors.telemetry import ProcessSpawned, ProcessStopped, Prompt, Telemetry


def test_a_process_is_found_by_the_turn_it_runs_for():
    telemetry = Telemetry(log=False)
    pids = Pids(telemetry)
    for turn_id, part in enumerate(PARTS):
        telemetry.emit(Prompt(turn_id=str(turn_id), text=part.prompt))
    telemetry.emit(ProcessSpawned(turn_id=str(PARTS.index(CANCEL)), pid=7))
    telemetry.emit(ProcessSpawned(turn_id=str(PARTS.index(KILL)), pid=8))
    assert (pids.of(CANCEL), pids.of(KILL)) == (7, 8)
    assert pids.of(PARTS[0]) is None


def test_a_process_that_is_gone_is_nobodys():
    telemetry = Telemetry(log=False)
    pids = Pids(telemetry)
    telemetry.emit(Prompt(turn_id="t", text=KILL.prompt))
    telemetry.emit(ProcessSpawned(turn_id="t", pid=7))
    telemetry.emit(ProcessStopped(turn_id="t", pid=7, returncode=0))
    assert pids.of(KILL) is None
