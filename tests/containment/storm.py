"""Many short turns with random ends, and random signals to whoever is in between: nothing may be left.

As a program, plays a thousand turns, and then hosts that hear Ctrl-C at random moments.
"""

import argparse
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import structlog
import trio

from codex_actors import Codex, errors
from codex_actors._nursery import open_private_nursery
from codex_actors.backends._binary import find_codex
from codex_actors.options import CodexOptions, Deadlines, ThreadOptions
from codex_actors.testing import Act, ModelServer, codex_home, message, on, open_model_server, shell, writes
from codex_actors.testing._requests import ModelRequest
from tests.containment.judge import Victim, all_processes, parent_of, words
from tests.containment.stage import Cast, open_program, set_stage
from tests.fakes import COMPLETED, STARTED, fake_options

# How a turn is left by its holder, and what a fake Codex does when it has started its victim.
HOLDERS = ("waits", "cancels", "interrupts", "leaves")
CODEXES = ("completes", "crashes", "hangs", "is deaf")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGABRT)
AT_ONCE = 4
_DEADLINES = Deadlines(interrupt_seconds=0.2, exit_seconds=0.3, turn_seconds=3.0)
_PAUSE_SECONDS = 0.15
# A runtime bears a guard that dies now and then; one that dies at once again and again it gives up.
_GUARD_LIVES_SECONDS = 6.0


# Allocators keep what they have, and the scripted model, which lives here too, all that it was asked.
_NOISE_KILOBYTES = 4096
_DIE_SECONDS = 1.0


class Report(msgspec.Struct, kw_only=True):
    """What came of a storm.

    Attributes:
        outcomes: How many turns ended in which way, by the names of errors.
        signals: How many signals were sent, by whom they met.
        leaks: What outlived its turn.
        descriptors: How many the host had open, at its start, now and then, and at its end.
        kilobytes: Its memory, likewise.
    """

    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    signals: Counter[str] = msgspec.field(default_factory=Counter)
    leaks: list[str] = []
    descriptors: list[int] = []
    kilobytes: list[int] = []

    def growth(self) -> list[str]:
        """What has grown since the first few turns, beyond what is noise."""
        problems = []
        if self.descriptors[-1] > max(self.descriptors[:2]):
            problems.append(f"descriptors: {self.descriptors}")
        if self.kilobytes[-1] > self.kilobytes[1] + _NOISE_KILOBYTES:
            problems.append(f"memory: {self.kilobytes}")
        return problems

    def measure(self) -> None:
        """Note what the host has now."""
        self.descriptors.append(len([*Path("/proc/self/fd").iterdir()]))
        status = Path("/proc/self/status").read_text()
        self.kilobytes.append(int(status.partition("VmRSS:")[2].split()[0]))


class Storm:
    """Turns of two runtimes, one with a fake Codex and one with the real one; `open_storm` makes it.

    Args:
        chance: Where randomness comes from.
        directory: Where victims have their files.
        fake: The runtime with the fake Codex.
        real: The one with the real one; None for none.
        seconds: How long a victim may outlive its turn.
    """

    def __init__(
        self, chance: random.Random, directory: Path, fake: Codex, real: Codex | None, seconds: float
    ) -> None:
        self.report = Report()
        self._chance = chance
        self._directory = directory
        self._fake = fake
        self._real = real
        self._seconds = seconds
        self._thread_options = ThreadOptions(
            cwd=directory, skip_git_repo_check=True, sandbox="danger-full-access"
        )

    async def run(self, turns: int) -> None:
        """Run so many turns, a few at once, in bad weather."""
        self.report.measure()
        async with open_private_nursery() as nursery:
            nursery.start_soon(self._hit)
            for first in range(0, turns, AT_ONCE):
                async with trio.open_nursery() as some:
                    for number in range(first, min(first + AT_ONCE, turns)):
                        some.start_soon(self._play, number)
                if first % 20 == 0:
                    self.report.measure()
            nursery.cancel_scope.cancel()
        await self._be_fine()
        self.report.measure()

    async def _be_fine(self) -> None:
        """See that the runtimes still work."""
        for codex in filter(None, (self._fake, self._real)):
            with trio.fail_after(30):
                await codex.start_thread(self._thread_options).run("- completes")

    async def _play(self, number: int) -> None:
        victim = Victim(self._directory / f"{number}.lock")
        codex = self._real if self._real and self._chance.random() < 0.05 else self._fake
        holder = self._chance.choice(HOLDERS)
        prompt = f"{victim.lock} {self._chance.choice(CODEXES)}"
        try:
            with trio.CancelScope() as scope:
                await self._ask(codex, prompt, holder, scope)
            outcome = "cancelled" if scope.cancelled_caught else "completed or left"
        except errors.CodexError as exc:
            outcome = type(exc).__name__
        self.report.outcomes[outcome] += 1
        if not await victim.wait_dead(self._seconds):
            self.report.leaks.append(f"turn {number} ({holder}, {prompt}): {victim.count()}")
            victim.exterminate()
        victim.lock.unlink()

    async def _ask(self, codex: Codex, prompt: str, holder: str, scope: trio.CancelScope) -> None:
        pause = self._chance.uniform(0, _PAUSE_SECONDS)
        if holder == "cancels":
            scope.deadline = trio.current_time() + pause
        async with codex.start_thread(self._thread_options).run_streamed(prompt) as turn:
            if holder in {"interrupts", "leaves"}:
                await trio.sleep(pause)
            if holder == "leaves":
                return
            if holder == "interrupts":
                turn.interrupt()
            await turn.wait_result()

    async def _hit(self) -> None:
        """Send random signals to guards, watchers, and Codex."""
        guard_hit_at = trio.current_time()
        while True:
            await trio.sleep(self._chance.expovariate(10))
            guards, watchers, codexes = in_between()
            if guards and trio.current_time() - guard_hit_at > _GUARD_LIVES_SECONDS:
                guard_hit_at = trio.current_time()
                self._send("guard", guards, signal.SIGKILL)
            elif watchers and self._chance.random() < 0.3:
                self._send("watcher", watchers, signal.SIGKILL)
            elif codexes:
                self._send("codex", codexes, self._chance.choice(SIGNALS))

    def _send(self, role: str, pids: Sequence[int], number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._chance.choice(pids), number)
            self.report.signals[role] += 1


def in_between() -> tuple[list[int], list[int], list[int]]:
    """The guards of this process, their watchers, and what those watch."""
    parents: dict[int, int] = {}
    for pid in all_processes():
        with suppress(OSError):
            parents[pid] = parent_of(pid)
    guards = [pid for pid in _children(parents, os.getpid()) if _is_guard(pid)]
    watchers = [child for guard in guards for child in _children(parents, guard) if _is_guard(child)]
    return guards, watchers, [child for watcher in watchers for child in _children(parents, watcher)]


def _children(parents: dict[int, int], pid: int) -> list[int]:
    return [child for child, parent in parents.items() if parent == pid]


def _is_guard(pid: int) -> bool:
    return any(word.endswith("guard_program.py") for word in words(pid))


@asynccontextmanager
async def open_storm(
    seed: int, directory: Path, codex_binary: Path | None, *, seconds: float
) -> AsyncGenerator[Storm]:
    """Open the runtimes.

    Args:
        seed: Where chance begins.
        directory: An empty place.
        codex_binary: The real Codex; None for none.
        seconds: How long a victim may outlive its turn.
    """
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(Codex(_fake(directory)))
        real = None
        if codex_binary:
            model = await stack.enter_async_context(open_model_server())
            real = await stack.enter_async_context(Codex(_real(directory, codex_binary, model)))
        yield Storm(random.Random(seed), directory, fake, real, seconds)


def _fake(directory: Path) -> CodexOptions:
    victim = shlex.join(Victim(directory / "nobody.lock").argv()[:-2])
    return fake_options(
        directory,
        Act("read -r lock what || :"),
        writes(STARTED),
        Act(f'[ "$what" != "is deaf" ] || trap "" INT; [ "$lock" = - ] || {victim} "$lock" &'),
        Act(
            'case "$what" in crashes) sleep 0.05; kill -9 $$ ;; hangs|"is deaf") sleep 60 ;;'
            " *) sleep 0.05 ;; esac"
        ),
        writes(COMPLETED),
        deadlines=_DEADLINES,
    )


def _real(directory: Path, codex_binary: Path, model: ModelServer) -> CodexOptions:
    def start(request: ModelRequest) -> object:
        lock = request.prompt.split()[0]
        victim = Victim(directory / "nobody.lock").argv()[:-2]
        return shell("true" if lock == "-" else shlex.join([*victim, lock]), yield_time_ms=250)

    story = model.script("storm", on("", start, message("done")))  # type: ignore[arg-type]
    home = codex_home(directory / "real-home", story.url)
    env = {"TMPDIR": home.environment["TMPDIR"], "HOME": str(home.path)}
    return CodexOptions(
        codex_path=codex_binary, codex_home=home.path, api_key="scripted", env=env, deadlines=_DEADLINES
    )


async def interrupt_host(chance: random.Random, directory: Path, codex_binary: Path) -> list[str]:
    """Press Ctrl-C at a random moment, once or twice; returns what is left of the host's turns.

    Args:
        chance: Where randomness comes from.
        directory: An empty place.
        codex_binary: The real Codex.
    """
    cast = Cast(kind="fake", sandbox="danger-full-access", containment="subreaper")
    async with open_model_server() as model:
        with set_stage(cast, directory, codex_binary, model) as stage:
            async with open_program(stage.plan, stderr=subprocess.DEVNULL) as program:
                await trio.sleep(chance.uniform(0, 0.6))
                for _ in range(chance.choice((1, 2))):
                    program.send_signal(signal.SIGINT)
                    await trio.sleep(chance.uniform(0, 0.05))
                with trio.fail_after(20):
                    await program.wait()
                died = [await victim.wait_dead(_DIE_SECONDS) for victim in stage.victims.values()]
                files = stage.files()
                return [
                    *(f"process {pid}" for pid in stage.survivors()),
                    *files,
                    *(["leaks"] if not all(died) else []),
                ]


async def main(seed: int, turns: int, hosts: int, codex_binary: Path, directory: Path) -> list[str]:
    """Play all; returns what is wrong."""
    (directory / "storm").mkdir()
    async with open_storm(seed, directory / "storm", codex_binary, seconds=_DIE_SECONDS) as storm:
        await storm.run(turns)
    report = storm.report
    say(f"{turns} turns, seed {seed}")
    say(f"  ended:       {dict(report.outcomes)}")
    say(f"  signals:     {dict(report.signals)}")
    say(f"  descriptors: {report.descriptors[1]} after a few, {report.descriptors[-1]} at the end")
    say(f"  memory:      {report.kilobytes[1]} kB after a few, {report.kilobytes[-1]} kB at the end")
    problems = [*report.leaks, *report.growth()]
    chance = random.Random(seed)
    for number in range(hosts):
        (directory / f"host-{number}").mkdir()
        problems += await interrupt_host(chance, directory / f"host-{number}", codex_binary)
    say(f"{hosts} hosts heard Ctrl-C at a random moment, once or twice")
    return problems


def say(line: str) -> None:
    """Tell whoever started us."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run() -> int:
    """Play all; returns the status to exit with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1000, help="how many turns")
    parser.add_argument("--hosts", type=int, default=50, help="how many hosts hear Ctrl-C")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="where chance begins")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # what dies is news to nobody here
    codex_binary = Path(find_codex(os.environ.get("CODEX_ACTORS_TEST_BINARY")))
    with tempfile.TemporaryDirectory(prefix="containment-") as root:
        tempfile.tempdir = os.environ["TMPDIR"] = root
        problems = trio.run(main, given.seed, given.turns, given.hosts, codex_binary, Path(root))
    for problem in problems:
        say(f"FAIL {problem}")
    say("nothing is left" if not problems else f"{len(problems)} problems; --seed {given.seed}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(run())
