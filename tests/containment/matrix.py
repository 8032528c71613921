"""Every end of a turn, under every means: what is left of a victim. As a program, prints the table.

A cell is one turn with a victim, and a neighbour in the same runtime with another: both are seen alive, one
is ended, and the locks say what becomes of both.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog
import trio

from codex_actors.backends._binary import find_codex
from codex_actors.errors import TurnTimeoutError
from codex_actors.testing import ModelServer, open_model_server
from tests.containment.ends import ALL, ENDS, End
from tests.containment.host import Host, open_host
from tests.containment.judge import Victim, kill, until
from tests.containment.stage import ROOT, WHO, Cast, Stage, namespaces_work, open_program, set_stage
from tests.leak_check import GRACE_SECONDS, Traces

PAGE = ROOT / "docs/reference/containment-matrix.md"

KINDS = ("fake", "real")
SANDBOXES = ("danger-full-access", "workspace-write")
# How long after the end of a host, or of somebody in between, all has to be dead.
PROMISED_SECONDS = 1.0
# Whoever takes longer has not heard that it should stop, and was killed.
_GRACEFUL_SECONDS = 5.0
_OVER_SECONDS = 20


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One combination."""

    end: End
    means: str
    kind: str
    sandbox: str

    @property
    def id(self) -> str:
        """Its name."""
        return f"{self.end.name} - {self.means} - {self.kind} - {self.sandbox}"

    @property
    def is_held(self) -> bool:
        """Whether the means claims to hold it."""
        return self.means in self.end.held_by

    def is_possible(self, codex_binary: Path) -> bool:
        """Whether this system has what it needs."""
        needs_namespaces = self.means == "namespace" or self.sandbox == "workspace-write"
        return not needs_namespaces or namespaces_work(codex_binary)

    def cast(self) -> Cast:
        """Who plays."""
        values = {"kind": self.kind, "sandbox": self.sandbox, "containment": self.means, **self.end.cast}
        return msgspec.convert(values, Cast)


CELLS = tuple(
    Cell(end=end, means=means, kind=kind, sandbox=sandbox)
    for means in ALL
    for end in ENDS
    for kind in KINDS
    for sandbox in SANDBOXES
    if means in end.means
)


class Verdict(msgspec.Struct, kw_only=True):
    """What became of it.

    Attributes:
        seconds: From the end to the death of the last one; None if somebody lived on.
        leaks: How many processes lived on.
        neighbour_lives: Whether the neighbour, and all of its victim, did.
        left: What else was left: descriptors, temporary files, children.
    """

    seconds: float | None = None
    leaks: int = 0
    neighbour_lives: bool = False
    left: tuple[str, ...] = ()

    def problems(self, cell: Cell) -> Iterator[str]:
        """What should not be."""
        yield from self.left
        if self.leaks or self.seconds is None:
            yield f"leaks {self.leaks}"
        elif self.seconds > _GRACEFUL_SECONDS:
            yield f"dead only after {self.seconds:.1f} s"
        if self.neighbour_lives == cell.end.all_die:
            yield "the neighbour lives on" if self.neighbour_lives else "the neighbour was hit"

    def in_words(self, cell: Cell) -> str:
        """Its entry in the table."""
        problems = ", ".join(self.problems(cell))
        return problems or f"{1000 * (self.seconds or 0):.0f} ms"


async def play(
    cell: Cell,
    directory: Path,
    codex_binary: Path,
    model: ModelServer,
    seconds: float = PROMISED_SECONDS,
) -> Verdict:
    """Play a cell in an empty directory.

    Args:
        cell: The cell.
        directory: Where.
        codex_binary: The real Codex.
        model: What the real one asks.
        seconds: How long dying may take.

    Raises:
        trio.TooSlowError: The victim did not live, or the turn did not end.
    """
    before = Traces.now()
    verdict = Verdict()
    with set_stage(cell.cast(), directory, codex_binary, model) as stage:
        if cell.end.host_signals:
            await _play_program(cell.end, stage, seconds, verdict)
        else:
            async with open_host(stage.plan) as host:
                await _play_host(cell.end, stage, host, seconds, verdict)
        files = tuple(f"temporary file {name}" for name in stage.files())
    # Not `left_since`, which holds up whoever has still to let go of something here.
    with trio.move_on_after(GRACE_SECONDS):
        await until(lambda: not Traces.now().new_since(before, directory))
    verdict.left = (*files, *Traces.now().new_since(before, directory))
    return verdict


async def _play_host(end: End, stage: Stage, host: Host, seconds: float, verdict: Verdict) -> None:
    victim, neighbour = stage.victims.values()
    assert end.act
    if not end.is_early:
        host.begin("victim")
        await victim.wait_alive()
    host.begin("neighbour")
    await neighbour.wait_alive()
    ended_at = await end.act(stage, host)
    with trio.fail_after(_OVER_SECONDS):
        await host.over["victim"].wait()
    dying = (victim, neighbour) if end.all_die else (victim,)
    if all([await it.wait_dead(seconds) for it in dying]):
        verdict.seconds = trio.current_time() - ended_at
    verdict.neighbour_lives = await _lives(neighbour, host)
    host.scopes["neighbour"].cancel()
    with trio.fail_after(_OVER_SECONDS):
        await host.over["neighbour"].wait()
    await neighbour.wait_dead(seconds)
    verdict.leaks = len(stage.survivors())


async def _lives(neighbour: Victim, host: Host) -> bool:
    if neighbour.has_grown():
        return True
    with trio.fail_after(_OVER_SECONDS):
        await host.over["neighbour"].wait()
    return isinstance(host.errors.get("neighbour"), TurnTimeoutError)  # it has a deadline of its own


async def _play_program(end: End, stage: Stage, seconds: float, verdict: Verdict) -> None:
    victims = stage.victims.values()
    async with open_program(stage.plan) as program:
        for victim in victims:
            await victim.wait_alive()
        between = [getattr(stage.line(who), role) for who in WHO for role in end.roles]
        ended_at = trio.current_time()
        kill(*between)
        for number in end.host_signals:
            program.send_signal(number)
            await trio.sleep(0.005)
        died = [await victim.wait_dead(seconds) for victim in victims]
        if all(died):
            verdict.seconds = trio.current_time() - ended_at
        verdict.leaks = len(stage.survivors())
        with trio.fail_after(_OVER_SECONDS):
            await program.wait()


_HEAD = """\
# Containment, measured

What is left of a turn's processes, for each way in which a turn can end, under each means of
[containment](../explanation/containment.md). Times are from the end to the death of the last process;
for a deadline, from when it had passed. "Leaks" are processes that lived on for a second and more.

In each cell two turns run, and in each of them a victim: a command that is deaf to SIGINT, SIGTERM and
SIGHUP, with a plain child, one in a session of its own, a daemon (forked twice, in a session of its own), one
without an environment, and one that holds the output open. The real Codex runs it twice, as a command of the
model and as an MCP server; the fake one runs it as its child. All of both are seen alive, one turn is ended,
and then it is not asked what we report, but who still holds the lock that each of them took. The neighbour
has to live on, except where the end is everybody's.

Not counted are empty directories that Codex's own sandbox makes in `workspace-write`, and which Codex leaves
when it is interrupted, with this library or without: `.git`, `.codex`, `.agents` and `.aws`, where there were
none, in the directory of the thread and in TMPDIR.

Written by `nox -s containment`, with Codex {version} on Linux {kernel}; do not edit.
"""
_TITLES = {
    "subreaper": "Subreaper, the default",
    "namespace": "PID namespace",
    "process-group": "Process group, where nothing else is to be had",
}


def table(verdicts: Mapping[str, str], means: str) -> str:
    """The table of one means, in Markdown."""
    columns = [(kind, sandbox) for kind in KINDS for sandbox in SANDBOXES]
    lines = [
        f"| | {' | '.join(f'{kind}, {sandbox}' for kind, sandbox in columns)} |",
        f"|---{'|--:' * len(columns)}|",
    ]
    for end in ENDS:
        cells = [Cell(end=end, means=means, kind=kind, sandbox=sandbox) for kind, sandbox in columns]
        if means in end.means:
            lines.append(f"| {end.name} | {' | '.join(verdicts.get(cell.id, '') for cell in cells)} |")
    return "\n".join(lines)


async def judge_all(cells: Sequence[Cell], codex_binary: Path) -> tuple[dict[str, str], int]:
    """Play cells; returns each verdict in words, and in how many there was a problem that must not be."""
    verdicts: dict[str, str] = {}
    bad = 0
    with tempfile.TemporaryDirectory(prefix="containment-") as root:
        tempfile.tempdir = os.environ["TMPDIR"] = root  # what turns up in it is ours
        for number, cell in enumerate(cells):
            directory = Path(root) / f"cell-{number}"
            directory.mkdir()
            async with open_model_server() as model:
                try:
                    verdict = await play(cell, directory, codex_binary, model)
                except trio.TooSlowError:
                    verdict = Verdict(left=("too slow to tell",))
            verdicts[cell.id] = verdict.in_words(cell)
            fails = cell.is_held and any(verdict.problems(cell))
            bad += fails
            sys.stdout.write(f"{'FAIL' if fails else 'ok  '} {verdicts[cell.id]:>10}  {cell.id}\n")
            sys.stdout.flush()
    return verdicts, bad


def main() -> int:
    """Print the table, and write it; returns the status to exit with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name contains this; then nothing is written")
    only: str = parser.parse_args().only
    codex_binary = Path(find_codex(os.environ.get("CODEX_ACTORS_TEST_BINARY")))
    cells = [cell for cell in CELLS if only in cell.id and cell.is_possible(codex_binary)]
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # what dies is news to nobody here
    verdicts, bad = trio.run(judge_all, cells, codex_binary)
    version = subprocess.check_output([codex_binary, "--version"], text=True).split()[-1]
    head = _HEAD.format(version=version, kernel=platform.release().partition("-")[0])
    page = "\n".join(
        [head, *(f"## {title}\n\n{table(verdicts, means)}\n" for means, title in _TITLES.items())]
    )
    sys.stdout.write(f"\n{page}\n{len(cells)} cells, {bad} that leave what their means claims to hold\n")
    if not only:
        PAGE.write_text(page)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
