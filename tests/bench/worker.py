"""What is measured runs in processes of its own, which take turns: a round of one, a round of the next.

So none gains from what another has warmed up, and whatever else the machine does in the meantime hits all
of them alike. A worker answers each line on its stdin with one JSON object on its stdout.
"""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

Numbers = dict[str, float]

_HERE = Path(__file__).parent
PYTHON = (sys.executable, str(_HERE / "contenders.py"))
SUPERVISION = (sys.executable, str(_HERE / "supervision.py"))
NODE = ("node", str(_HERE / "typescript.mjs"))


class Worker:
    """A process that plays a round whenever it is told to."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.rounds: list[Numbers] = []
        self._process = process

    def play(self) -> Numbers:
        """Play a round that does not count, to warm up."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended; what it said is above")
        numbers: Numbers = json.loads(answer)
        return numbers

    def play_round(self) -> None:
        """Play a round that counts."""
        self.rounds.append(self.play())


@contextmanager
def open_worker(
    command: tuple[str, ...], what: str, job: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> Generator[Worker]:
    """Start a worker; leaving ends it.

    Args:
        command: `PYTHON`, `NODE`, or `SUPERVISION`, also with another Python.
        what: Which of the contenders it is.
        job: What it needs to know; ``cwd`` is where it works.
        env: Variables to go with our own.
    """
    with subprocess.Popen(
        [*command, what, json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=job["cwd"],
        env={**os.environ, **(env or {}), "PYTHONPATH": str(_HERE.parents[1])},
        text=True,
    ) as process:
        yield Worker(what, process)
        assert process.stdin
        process.stdin.close()


def play_rounds(workers: Iterable[Worker], rounds: int, *, slow_seconds: float = 3.0) -> None:
    """Let everybody play in turn, first to warm up and then for the record.

    Who begins changes with each round. Who takes longer than `slow_seconds` to warm up has that counted
    as their only round: they are far enough behind.
    """
    quick: list[Worker] = []
    for worker in workers:
        numbers = worker.play()
        if numbers["seconds"] > slow_seconds:
            worker.rounds.append(numbers)
        else:
            quick.append(worker)
    for at in range(rounds):
        first = at % len(quick) if quick else 0
        for worker in quick[first:] + quick[:first]:
            worker.play_round()


class Workers(ExitStack):
    """Workers that end together."""

    def open(
        self,
        command: tuple[str, ...],
        what: str,
        job: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> Worker:
        return self.enter_context(open_worker(command, what, job, env))
