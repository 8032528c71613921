# What the demo came to. Nothing here is taken from what Codex said of itself: the tests were run by us, the
# changes are git's, and what is left is looked for.

from collections.abc import Iterator, Mapping, Sequence

from codex_actors import Restart
from codex_actors.cli._demo._outcomes import Played, flaw, parsed
from codex_actors.cli._demo._stage import Stage
from codex_actors.cli._demo._story import CANCEL, KILL, PARTS, REPAIRED_FILE, REPORT
from codex_actors.cli._demo._tree import Branch
from codex_actors.cli._describe import DONE, FAILED, clean
from codex_actors.cli._leaks import can_see_processes, files_left, processes_left


def is_good(verdict: str) -> bool:
    """Whether a verdict is one to be had."""
    return verdict.startswith(DONE)


def _good(text: str) -> str:
    return f"{DONE} {clean(text)}"


def _bad(text: str) -> str:
    return f"{FAILED} {clean(text)}"


def judge_turns(plays: Mapping[str, Played]) -> Iterator[str]:
    """See that each turn ended as it should have."""
    flaws = {part.name: flaw(part, plays[part.name].outcome) for part in PARTS}
    yield from (_bad(f"the turn {name!r} {what}") for name, what in flaws.items() if what)
    if flaws[REPORT.name] is None:
        yield _good(f"structured output: {parsed(plays[REPORT.name].outcome)!r}")
    if flaws[CANCEL.name] is None:
        yield _judge_cancel(plays[CANCEL.name])
    if flaws[KILL.name] is None:
        yield _judge_kill(plays[KILL.name], [plays[part.name] for part in PARTS if part is not KILL])


def _judge_cancel(played: Played) -> str:
    if played.struck is None:
        return _bad(f"the turn {CANCEL.name!r} ended before we had cancelled it")
    return _good(f"the cancelled turn was gone after {played.ended - played.struck:.2f} s")


def _judge_kill(played: Played, others: Sequence[Played]) -> str:
    if played.struck is None:
        return _bad(f"the turn {KILL.name!r} was killed, but not by us")
    went_on = sum(other.ended > played.ended for other in others)
    if not went_on:
        return _bad("no other turn was there to go on when one was killed")
    seconds = played.ended - played.struck
    return _good(f"the killed turn was reported after {seconds:.2f} s; turns that went on: {went_on}")


def judge_tree(at_work: Branch, at_end: Branch) -> str:
    """See that all that should live for ever has had one life, and that no turn is left."""
    ends = {branch.name: branch for branch in at_end.everyone()}
    lasting = [branch for branch in at_work.everyone() if branch.restart != Restart.TEMPORARY.value]
    changed = [it.name for it in lasting if it.name not in ends or ends[it.name].lives != it.lives]
    if changed:
        return _bad(f"restarted, or down: {', '.join(changed)}")
    if left := set(ends) - {branch.name for branch in lasting}:
        return _bad(f"left in the supervision tree: {', '.join(left)}")
    return _good("nothing had to be restarted, and no turn is left in the tree")


def judge_tests(before: int, after: int) -> str:
    """See that the tests failed before and pass now, by their exit statuses."""
    if before == 0:
        return _bad("the project's tests passed before anything was repaired")
    if after != 0:
        return _bad("the project's tests still fail; we ran them outside Codex")
    return _good("the project's tests failed before and pass now; we ran them outside Codex")


def judge_changes(status: str) -> str:
    """See what has changed in the project, by what `git status --porcelain` says."""
    changed = sorted(line[3:] for line in status.splitlines())
    if changed == [REPAIRED_FILE]:
        return _good(f"{REPAIRED_FILE} has changed in the project, and nothing else")
    return _bad(f"changed in the project: {', '.join(changed) or 'nothing'}")


async def judge_leaks(stage: Stage) -> str:
    """Look for what should be gone."""
    processes = await processes_left(stage.codex_home) if can_see_processes() else []
    files = (f"temporary file {name}" for name in files_left(stage.temporary))
    if left := [*processes, *files]:
        return _bad(f"left behind: {', '.join(left)}")
    if not can_see_processes():
        return _good("no temporary file is left; this system does not let us look for processes")
    return _good("no process and no temporary file is left")


def judge_removal(stage: Stage, *, keep: bool) -> str:
    """See that the stage is gone, or still there if that was asked for."""
    if keep:
        return _good(f"kept, as you asked: {stage.root}")
    return (
        _bad(f"{stage.root} cannot be removed") if stage.root.exists() else _good(f"{stage.root} is removed")
    )
