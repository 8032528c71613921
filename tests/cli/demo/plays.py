"""How the turns of the demo may end."""

from codex_actors import ParsedTurnResult, PartialResult, SideEffects, TurnResult, TurnUsage, errors
from codex_actors.cli._demo._outcomes import Played
from codex_actors.cli._demo._story import Finding
from codex_actors.events import Usage

COMPLETED = TurnResult(
    thread_id="t",
    usage=TurnUsage(turn=Usage(input_tokens=300, output_tokens=30)),
    side_effects=SideEffects.NONE,
)
FOUND = ParsedTurnResult(thread_id="t", parsed=Finding(file="prices.py", line=7, severity="high"))
INTERRUPTED = errors.TurnInterruptedError("left", partial=PartialResult())
KILLED = errors.ProcessKilledError(partial=PartialResult(), returncode=-9)
TERMINATED = errors.ProcessKilledError(partial=PartialResult(), returncode=-15)
CUT_SHORT = errors.StreamTruncatedError("cut short", partial=PartialResult())

AS_IT_SHOULD = {
    "inspect": Played(COMPLETED, 0.0, 2.0, None),
    "repair": Played(COMPLETED, 0.0, 3.0, None),
    "report": Played(FOUND, 0.0, 1.2, None),
    "cancel": Played(INTERRUPTED, 0.0, 1.7, 1.68),
    "kill": Played(KILLED, 0.0, 1.5, 1.45),
}
