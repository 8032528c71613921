"""Runs the same programs on Erlang's supervisor and on ours, and compares what happens.

``python -m tests.otp.differential --programs 500``, or ``nox -s otp``. It tells how often the programs did
what programs can do, and shows that each of some planted bugs is found.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from tests.otp.erlang_side import Erlang, Recorded
from tests.otp.hits import Hits
from tests.otp.mutants import MUTANTS, Mutant
from tests.otp.our_side import replay
from tests.otp.programs import SIMPLE, Exit, Hold, Program, Step, Tree, Worker, to_erlang, walk, write

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000  # in microseconds

# OTP's clock of restarts has whole seconds, ours is exact. Whatever a program does begins in the same half of
# a second, so that there, seen from OTP, a period is half a second longer.
HALF_A_SECOND = 0.5

# An accident of timing on Erlang's side does not happen again. It is rare: of so many programs, one.
CONFIRMATIONS = 2
ACCIDENTS = 200

# Other programs take the place of those that were too slow to tell; they come from seeds of their own.
TOP_UP_SEED = 1_000_000

# Programs are made, run and compared by so many at a time.
ROUND = 500

# With a bug planted, ours may never come to an end.
HANG_SECONDS = 60.0

PLANTED = (
    "one restart too many",
    "no restart is ever forgotten",
    "a group restart counts for each child",
    "a transient child is restarted after Shutdown",
    "to give up is to crash",
    "rest_for_one takes all down",
    "a group is stopped in start order",
    "a temporary sibling is revived",
    "a sibling that was down stays down",
    "rest_for_one tries again from the first child that fell",
    "a crash of a sibling that is taken down counts too",
    "a child that is being restarted cannot be stopped",
    "the first significant child counts for all",
    "a child that failed to start is kept",
)


T = TypeVar("T")


class Tally:
    """What came of comparing.

    Attributes:
        hits: What the programs did.
        ran: How many were compared.
        late: How many others took Erlang too long to be sure what they show.
        modelled: How many needed its clock of whole seconds modelled.
        vanished: Differences that were not there any more when the program ran again.
    """

    def __init__(self) -> None:
        self.hits = Hits()
        self.ran = self.late = self.modelled = 0
        self.vanished: list[str] = []

    def count(self, recorded: Recorded) -> None:
        """Count a program on which both agree."""
        self.ran += 1
        self.modelled += needs_model(recorded)
        self.hits.count(recorded)

    def __str__(self) -> str:
        return (
            f"{self.ran:,} programs do on ours what they do on Erlang's supervisor, {self.modelled:,} of "
            f"them with its clock of whole seconds modelled; {len(self.vanished)} differed the first time "
            f"only; {self.late} more were too slow to tell"
        )


# ---------------------------------------------------------------------- programs


def smaller(program: Program) -> Iterator[Program]:
    """All programs with a bit less in them."""
    steps = program.steps
    for start, end in combinations(range(len(steps) + 1), 2):
        yield replace(program, steps=steps[:start] + steps[end:])
    for number, step in enumerate(steps):
        for less in _smaller_holds(step):
            yield replace(program, steps=(*steps[:number], less, *steps[number + 1 :]))
    for root in _smaller_trees(program.root):
        yield replace(program, root=root)


def _smaller_holds(step: Step) -> Iterator[Hold]:
    if isinstance(step, Hold):
        yield from (Hold(step.path, rest) for rest in _without_one(step.steps))


def _smaller_trees(tree: Tree) -> Iterator[Tree]:
    for rest in _without_one(tree.children) if tree.flags.strategy != SIMPLE else ():
        yield replace(tree, children=rest)
    for number, child in enumerate(tree.children):
        for less in _smaller_trees(child) if isinstance(child, Tree) else _smaller_workers(child):
            yield replace(tree, children=(*tree.children[:number], less, *tree.children[number + 1 :]))


def _smaller_workers(worker: Worker) -> Iterator[Worker]:
    if worker.on_stop != "stop":
        yield replace(worker, on_stop="stop")
    for rest in _without_one(worker.starts):
        if rest:
            yield replace(worker, starts=rest)


def _without_one(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    return (items[:number] + items[number + 1 :] for number in range(len(items)))


def smallest(erlang: Erlang, program: Program, seed: int) -> str:
    """Make a program that differs as small as can be, and show where it differs."""
    shown = difference_seen_again(erlang, program, seed)
    while found := {
        each.program: text for each in erlang.run(list(smaller(program))) if (text := difference(each, seed))
    }:
        program = min(found, key=lambda each: len(to_erlang(each)))
        shown = found[program]
    return shown


# ---------------------------------------------------------------------- comparing


def needs_model(recorded: Recorded) -> bool:
    """Whether OTP's clock may matter: of exits a whole period apart, some are apart for longer than that."""
    seconds = {moment.at // SECOND for step, moment in recorded.steps() if isinstance(step, Exit | Hold)}
    periods = {tree.flags.period for _, tree in walk(recorded.program.root) if isinstance(tree, Tree)}
    return any(abs(one - other) in periods for one, other in combinations(seconds, 2))


def difference(recorded: Recorded, seed: int | None = None) -> str:
    """Say where the two part; nothing if they never do.

    Args:
        recorded: What Erlang did.
        seed: Decides what trio leaves to chance; None is the program's number.
    """
    times = [moment.at for _, moment in recorded.steps()]
    slack = HALF_A_SECOND if needs_model(recorded) else 0.0
    try:
        ours = replay(
            recorded.program, times, slack=slack, seed=recorded.trace.number if seed is None else seed
        )
    except Exception:  # noqa: BLE001 - whatever it is, OTP did not raise it
        return f"{_show(recorded.program)}\nours raised\n{traceback.format_exc()}"
    in_order = _side_by_side if recorded.program.root.flags.strategy == SIMPLE else list
    for (step, moment), (result, events) in zip(recorded.steps(), ours, strict=True):
        theirs = (moment.result, in_order(moment.events))
        if theirs != (result, in_order(events)):
            lines = (f"  OTP  {moment.result} {moment.events}", f"  ours {result} {events}")
            return "\n".join([_show(recorded.program), f"differ in {to_erlang(step)}:", *lines])
    return ""


def _side_by_side(events: list[Any]) -> list[Any]:
    """Children without an order stop in any; OTP then reports at once all that stopped in the same way."""
    kept: list[Any] = []
    for event in sorted(events):
        if "shutdown_error" not in event or event not in kept:
            kept.append(event)
    return kept


def difference_seen_again(erlang: Erlang, program: Program, seed: int) -> str:
    """Run a program anew, until there is no difference, or that has been seen often enough."""
    found = ""
    for _ in range(CONFIRMATIONS):
        found = next((difference(each, seed) for each in erlang.run([program])), "")
        if not found:
            break
    return found


def _show(program: Program) -> str:
    lines = (f"    {to_erlang(step)}" for step in program.steps)
    return "\n".join([to_erlang(program.root), *lines])


# ---------------------------------------------------------------------- planted bugs


def find(mutant: Mutant | None, recorded: Path) -> str:
    """Say how many recorded programs it takes to find a bug planted in a copy; nothing if they do not."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        shutil.copytree(ROOT / "codex_actors", copy / "codex_actors")
        shutil.copytree(ROOT / "tests" / "otp", copy / "tests" / "otp")
        shutil.copy(ROOT / "tests" / "__init__.py", copy / "tests")
        if mutant:
            (copy / "codex_actors" / f"{mutant.room}.py").write_text(mutant.source())
        command = [sys.executable, "-B", "-m", "tests.otp.differential", "--judge", str(recorded)]
        found = "found by program"
        with subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE, text=True) as judging:
            try:
                numbers, _ = judging.communicate(timeout=HANG_SECONDS)
            except subprocess.TimeoutExpired:  # so that is what the bug does
                judging.kill()
                numbers, _ = judging.communicate()
                found = "HANGS in program"
        return f"{found} {numbers.split()[-1]}" if judging.returncode else ""


def judge(recorded: Path) -> bool:
    """Compare recorded programs, each announced by its number, up to the first that differs."""
    for number, each in enumerate(msgspec.json.decode(recorded.read_bytes(), type=list[Recorded]), 1):
        _say(number)
        if difference(each):
            return False
    return True


# ---------------------------------------------------------------------- the command


def compare(erlang: Erlang, count: int, number: int, tally: Tally) -> list[Recorded]:
    """Run so many programs on both.

    Raises:
        AssertionError: With the smallest that differs; or too many differed, and then did not.
    """
    recorded = _run(erlang, count, number, tally)
    for each in recorded:
        if found := difference(each):
            if difference_seen_again(erlang, each.program, each.trace.number):
                raise AssertionError(smallest(erlang, each.program, each.trace.number))
            tally.vanished.append(found)
        tally.count(each)
    if len(tally.vanished) > 1 + tally.ran // ACCIDENTS:
        raise AssertionError("\n".join(["these differed, and then did not:", *tally.vanished]))
    return recorded


def _run(erlang: Erlang, count: int, number: int, tally: Tally) -> list[Recorded]:
    recorded = erlang.run(write(count, number))
    seed = number + TOP_UP_SEED
    while missing := count - len(recorded):
        tally.late += missing
        recorded += erlang.run(write(missing, seed))
        seed += TOP_UP_SEED
    return recorded


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=ROUND, metavar="N", help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default: 0)")
    parser.add_argument("--judge", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.judge:
        return 0 if judge(arguments.judge) else 1
    tally, first = _compare_all(arguments.programs, arguments.seed)
    _say(tally.hits.table())
    # The default programs have them all; of others, only very many surely do.
    enough = arguments.programs >= (10 * ROUND if arguments.seed else ROUND)
    missed = tally.hits.never() if enough else []
    for combination in missed:
        _say(f"never: {' '.join(combination)}")
    return 0 if _find_planted(first) and not missed else 1


def _compare_all(count: int, number: int) -> tuple[Tally, list[Recorded]]:
    """Compare round by round; returns what came of it, and the first round."""
    tally, began = Tally(), time.monotonic()
    first: list[Recorded] = []
    with Erlang() as erlang:
        for start in range(0, count, ROUND):
            end = min(start + ROUND, count)
            recorded = compare(erlang, end - start, number + start // ROUND, tally)
            first = first or recorded
            _say(f"{tally}; {time.monotonic() - began:.0f} s")
    for found in tally.vanished:
        _say(f"differed the first time only:\n{found}")
    return tally, first


def _find_planted(recorded: list[Recorded]) -> bool:
    """Plant each bug; whether all are found, and nothing is where there is none."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "recorded.json"
        file.write_bytes(msgspec.json.encode(recorded))
        all_found = not find(None, file)
        for each in (each for each in MUTANTS if each.bug in PLANTED):
            verdict = find(each, file)
            all_found = all_found and bool(verdict)
            _say(f"planted: {each.bug}: {verdict or 'NOT FOUND'}")
        return all_found


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
