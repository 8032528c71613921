# What was seen of a machine, judged and put into words. Pure; the looking is done in _doctor. No check holds
# the value of a variable or what a program printed about a login: both may be secret.

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias, cast

import msgspec

from codex_actors._data import Data
from codex_actors.cli._describe import ASIDE, DONE, FAILED, NOTICE, clean

Status: TypeAlias = Literal["ok", "note", "warning", "problem"]

_MARKS: Mapping[Status, str] = {"ok": DONE, "note": ASIDE, "warning": NOTICE, "problem": FAILED}
_WIDTH = 15

# What a turn takes in the host, for pipes, input and its watcher's channel, and what a program needs besides.
DESCRIPTORS_PER_TURN = 6
_DESCRIPTORS_SPARE = 16
# A Codex has some threads, and its commands have processes; Linux counts both.
PROCESSES_PER_TURN = 40
_FEW_TURNS = 10

GUARANTEES: Mapping[str, str] = {
    "subreaper": "all that a turn starts dies with it, for certain, also when your program is killed",
    "namespace": "the same, and a turn sees no other processes; it cannot use sudo",
    "process-group": "what leaves the group escapes, and all does when your program is killed",
}


class Check(Data, frozen=True, kw_only=True):
    """What was found out about one thing.

    Attributes:
        name: What was looked at.
        status: Whether it is as it should be; only with a problem turns cannot run.
        summary: What was found, in a line.
        advice: What to do about it, in a sentence; empty if nothing is to be done.
        facts: The same for programs.
    """

    name: str
    status: Status
    summary: str
    advice: str = ""
    facts: Mapping[str, object] = {}


class MeansFound(Data, frozen=True, kw_only=True):
    """What a means of containment is worth here.

    Attributes:
        works: Whether it does.
        guarantees: What it guarantees where it works.
        problem: Why it does not; None if it does.
    """

    works: bool
    guarantees: str
    problem: str | None


# --- all checks ------------------------------------------------------------------------------------


def can_run_turns(checks: Iterable[Check]) -> bool:
    """Whether nothing keeps turns from running."""
    return all(check.status != "problem" for check in checks)


def as_json(checks: Sequence[Check]) -> str:
    """One object on one line."""
    return msgspec.json.encode({"type": "doctor", "ready": can_run_turns(checks), "checks": checks}).decode()


def describe_check(check: Check) -> Iterator[str]:
    """Say what was found, for people."""
    yield f"{_MARKS[check.status]} {check.name.ljust(_WIDTH)} {clean(check.summary)}"
    if check.advice:
        yield f"  {' ' * _WIDTH} > {clean(check.advice)}"


def describe_verdict(checks: Sequence[Check]) -> str:
    """Say whether turns can run."""
    if problems := _named(checks, "problem"):
        return f"{FAILED} turns cannot run here: see {problems}"
    if warnings := _named(checks, "warning"):
        return f"{DONE} turns can run here; but see {warnings}"
    return f"{DONE} turns can run here"


def _named(checks: Sequence[Check], status: Status) -> str:
    return ", ".join(check.name for check in checks if check.status == status)


# --- one check each --------------------------------------------------------------------------------


def judge_versions(python: str, versions: Mapping[str, str]) -> Check:
    """What is installed of what we need."""
    installed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Check(
        name="python",
        status="ok",
        summary=f"{python}; {installed}",
        facts={"python": python, "packages": dict(versions)},
    )


def judge_extras(extras: Mapping[str, bool]) -> Check:
    """Which extras are installed; a program needs those that it uses."""
    there = ", ".join(name for name, installed in extras.items() if installed) or "none"
    absent = [name for name, installed in extras.items() if not installed]
    return Check(
        name="extras",
        status="note",
        summary=there + (f"; not installed: {', '.join(absent)}" if absent else ""),
        advice=f"What you need of them: pip install 'codex-actors[{','.join(absent)}]'." if absent else "",
        facts={"extras": dict(extras)},
    )


def judge_codex(path: str, version: str | None) -> Check:
    """The binary, which is there and new enough."""
    return Check(
        name="codex",
        status="ok" if version else "warning",
        summary=f"{version or 'of a version that is not understood'}, {path}",
        advice="" if version else "See that it is Codex, or a wrapper that passes everything on to it.",
        facts={"path": path, "version": version},
    )


def judge_home(path: str, *, exists: bool, named: bool, writable: bool) -> Check:
    """The directory that Codex keeps everything in."""
    facts = {"path": path, "exists": exists, "writable": writable}
    if exists and writable:
        return Check(name="CODEX_HOME", status="ok", summary=path, facts=facts)
    if exists:
        advice = "Make it writable for this user, or name another one in CODEX_HOME."
        return Check(
            name="CODEX_HOME",
            status="problem",
            summary=f"{path} cannot be written to",
            advice=advice,
            facts=facts,
        )
    if named or not writable:
        advice = "Make it: Codex does not make a directory that CODEX_HOME names." if named else ""
        return Check(
            name="CODEX_HOME",
            status="problem",
            summary=f"{path} does not exist" + ("" if named else " and cannot be made"),
            advice=advice or "Name a directory that can be written to in CODEX_HOME.",
            facts=facts,
        )
    return Check(name="CODEX_HOME", status="ok", summary=f"{path}, which Codex is going to make", facts=facts)


def judge_login(how: str | None, *, provider: str, missing: str, has_other_key: bool) -> Check:
    """How Codex would show who asks.

    Args:
        how: By what, in words; None if it could not.
        provider: Whom it would ask.
        missing: The variable that should hold the key.
        has_other_key: Whether OPENAI_API_KEY is set, which Codex does not look at.
    """
    facts = {"provider": provider, "how": how}
    if how is not None:
        return Check(name="login", status="ok", summary=f"{provider}, with {how}", facts=facts)
    advice = f"Set {missing}" + (", or run `codex login` once." if provider == "openai" else ".")
    if has_other_key:
        advice += " Codex does not look at OPENAI_API_KEY, which is set."
    summary = f"{provider}: {missing} is not set" + (
        ", and nobody is logged in" if provider == "openai" else ""
    )
    return Check(name="login", status="problem", summary=summary, advice=advice, facts=facts)


def judge_sandbox(problem: str | None) -> Check:
    """Whether Codex's own sandbox works, in which commands run unless they have full access."""
    facts = {"works": problem is None}
    if problem is None:
        return Check(name="sandbox", status="ok", summary="Codex has run a command in it", facts=facts)
    return Check(
        name="sandbox",
        status="warning",
        summary=f"does not work, so that every command fails: {problem}",
        advice="Allow user namespaces (in a container: --security-opt seccomp=unconfined; on Ubuntu: sysctl "
        "kernel.apparmor_restrict_unprivileged_userns=0), or give turns full access to a machine that you "
        "can afford to lose.",
        facts=facts,
    )


def judge_containment(problems: Mapping[str, str | None]) -> Check:
    """What can keep processes from outliving their turn.

    Args:
        problems: For each means, why it does not work here; None if it does.
    """
    auto = "subreaper" if problems["subreaper"] is None else "process-group"
    means = {
        name: MeansFound(works=problem is None, guarantees=GUARANTEES[name], problem=problem)
        for name, problem in problems.items()
    }
    facts = {"auto": auto, "means": means}
    if problems[auto] is not None:
        return Check(
            name="containment",
            status="problem",
            summary="no process can be started and seen to its end",
            advice="Look at the limits below.",
            facts=facts,
        )
    weak = auto == "process-group"
    return Check(
        name="containment",
        status="warning" if weak else "ok",
        summary=f"'auto' takes {auto}",
        advice="Run where a guard can be a subreaper and /proc shows processes: a Linux of 5.9 or newer."
        if weak
        else "",
        facts=facts,
    )


def describe_means(check: Check) -> Iterator[str]:
    """Say of each means of containment what it is worth here, for people."""
    for name, found in cast("Mapping[str, MeansFound]", check.facts.get("means", {})).items():
        worth = found.guarantees if found.works else f"does not work here: {found.problem}"
        yield f"  {ASIDE if found.works else NOTICE} {name.ljust(_WIDTH - 2)} {clean(worth)}"


def judge_limits(*, descriptors: int | None, used: int, processes: int | None) -> Check:
    """How many turns the limits of this process allow at once.

    Args:
        descriptors: How many file descriptors it may have; None is no limit.
        used: How many it has.
        processes: How many processes and threads this user may still start; None is no limit.
    """
    by_descriptors = _turns(descriptors, used + _DESCRIPTORS_SPARE, DESCRIPTORS_PER_TURN)
    by_processes = _turns(processes, 0, PROCESSES_PER_TURN)
    allowed = [turns for turns in (by_descriptors, by_processes) if turns is not None]
    turns = min(allowed) if allowed else None
    facts = {"descriptors": descriptors, "processes_left": processes, "turns_at_once": turns}
    summary = f"{_count(descriptors, 'file descriptors')}, {_count(processes, 'more processes')}: " + (
        "as many turns at once as you like" if turns is None else f"about {turns:,} turns at once"
    )
    if turns is None or turns >= _FEW_TURNS:
        return Check(name="limits", status="ok", summary=summary, facts=facts)
    which = "ulimit -n" if turns == by_descriptors else "ulimit -u"
    advice = f"Raise `{which}` (in a service: {_SERVICE[which]})"
    return Check(
        name="limits",
        status="warning" if turns else "problem",
        summary=summary,
        advice=f"{advice}, or run no more turns than that at once." if turns else f"{advice}.",
        facts=facts,
    )


_SERVICE = {"ulimit -n": "LimitNOFILE", "ulimit -u": "LimitNPROC and TasksMax"}


def _turns(limit: int | None, taken: int, each: int) -> int | None:
    return None if limit is None else max(0, (limit - taken) // each)


def _count(number: int | None, of_what: str) -> str:
    return f"any number of {of_what}" if number is None else f"{number:,} {of_what}"


def judge_temporary(directory: str | None, memory_problem: str | None) -> Check:
    """Where what a turn is given lies.

    Args:
        directory: The directory for temporary files; None if there is none.
        memory_problem: Why there are no anonymous files; None if there are.
    """
    facts = {"directory": directory, "anonymous_files": memory_problem is None}
    if memory_problem is not None:
        return Check(
            name="temporary",
            status="problem",
            summary=f"prompts cannot be handed over: {memory_problem}",
            advice="Raise the limits, or make room for temporary files.",
            facts=facts,
        )
    if directory is None:
        return Check(
            name="temporary",
            status="warning",
            summary="there is no directory for temporary files; what Codex starts may need one",
            advice="Name one that can be written to in TMPDIR.",
            facts=facts,
        )
    return Check(
        name="temporary", status="ok", summary=f"{directory}; prompts are anonymous files", facts=facts
    )


def judge_leftovers(count: int) -> Check:
    """What dead runtimes have left."""
    if not count:
        return Check(
            name="leftovers", status="ok", summary="no dead runtime has left anything", facts={"count": 0}
        )
    return Check(
        name="leftovers",
        status="warning",
        summary=f"dead runtimes have left {count} {'things' if count > 1 else 'thing'}",
        advice="Run `codex-actors janitor`; the next runtime that opens does the same.",
        facts={"count": count},
    )
