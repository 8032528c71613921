# What a machine crash, or a kill of everybody at once, can leave is found at the next start and put away:
# processes, directories and lock files whose owner is dead. Whatever is in doubt is spared.
#
# - A process says whose it is in its environment, and with which CODEX_HOME its turn worked: the orphans of
#   programs that have another one are theirs. Only turns that may leave nothing running tell that to
#   their processes (`mark`): so none that was kept on purpose can ever look like an orphan.
# - A directory says it in its name, and its owner holds it by flock. Both have to say that the owner is dead:
#   the name where the lock was not taken yet, the lock where the owner cannot be seen from here.
# - A lock file says it by its lock, which dies with its holder: there is no better proof.
#
# It runs in a thread, sees between any two steps whether it is to stop, and waits for nobody but for those
# whom it has killed.

from collections.abc import Mapping
from pathlib import Path

import structlog
import trio

from codex_actors._janitor import _facts
from codex_actors._janitor._files import open_directory, sweep_directories, sweep_locks
from codex_actors._janitor._processes import sweep_processes
from codex_actors._janitor._round import Finding, OutOfTimeError, Report, Round
from codex_actors._ownership import VARIABLE
from codex_actors.options import CodexOptions

__all__ = ["Finding", "Report", "mark", "open_directory", "sweep", "tidy"]

_log = structlog.get_logger("codex_actors")


def mark(codex: CodexOptions, codex_home: Path) -> Mapping[str, str]:
    """The variable that tells a turn's processes whose they are.

    It is empty, and they are nobody's, where some of them may outlive the turn.

    Args:
        codex: Says what may stay.
        codex_home: What the turn works with.
    """
    may_stay = codex.leftovers == "keep" or codex.allowed_leftovers
    return {VARIABLE: "" if may_stay else str(_facts.this_owner(_facts.tag_of(codex_home)))}


async def sweep(codex_home: Path, *, seconds: float, dry_run: bool = False) -> Report:
    """Put away what dead owners have left; being cancelled waits for the step that is being done.

    Args:
        codex_home: Whose processes and lock files are looked for.
        seconds: How long it may take.
        dry_run: Whether only to say what would be put away.
    """
    # Not abandoned: a thread that still runs while the interpreter ends can crash it.
    return await trio.to_thread.run_sync(_sweep, codex_home, seconds, dry_run)


def _sweep(codex_home: Path, seconds: float, dry_run: bool) -> Report:  # noqa: FBT001 - from a thread's call
    this_round = Round(seconds=seconds, dry_run=dry_run)
    try:
        sweep_processes(this_round, codex_home)  # first: they could still write into what follows
        sweep_directories(this_round)
        sweep_locks(this_round, codex_home)
    except OutOfTimeError:
        return Report(findings=tuple(this_round.findings), complete=False)
    return Report(findings=tuple(this_round.findings), complete=True)


async def tidy(codex_home: Path, *, seconds: float) -> None:
    """`sweep`, and tell the log; for the background, because whatever it meets is nobody's failure.

    Args:
        codex_home: As for `sweep`.
        seconds: As for `sweep`.
    """
    try:
        report = await sweep(codex_home, seconds=seconds)
    except Exception as exc:  # noqa: BLE001 - a turn is not to fail for what another one left
        _log.error("janitor.failed", error=type(exc).__name__)
        return
    for finding in report.findings:
        _tell(finding)
    if not report.complete:
        _log.warning("janitor.unfinished", wait_seconds=seconds)


def _tell(finding: Finding) -> None:
    if not finding.gone:
        _log.warning("janitor.stuck", kind=finding.kind, name=finding.name, pid=finding.pid)
    elif finding.kind == "process":
        _log.warning("janitor.killed", pid=finding.pid, program=finding.name, owner_pid=finding.owner_pid)
    else:
        _log.info("janitor.removed", kind=finding.kind, path=finding.name)
