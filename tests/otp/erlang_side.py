"""Erlang's own supervisor: one VM that runs many programs at once."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from tests.otp.programs import Program, to_erlang

DRIVER = Path(__file__).parent / "erlang" / "driver.escript"
AT_ONCE = 250
# A machine that is busy may well make a program late, again and again.
TRIES = 4
# Nothing takes that long; a VM that is silent for a minute hangs.
SILENCE_SECONDS = 60.0


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """What came of a step.

    Attributes:
        at: When it began, in microseconds.
        result: What it gave to whoever asked.
        events: What happened, in order.
    """

    at: int
    result: Any
    events: list[list[Any]]


class Trace(msgspec.Struct, frozen=True, array_like=True):
    """What became of a program: of its start, of each step, a look at the tree, and its stop.

    Attributes:
        number: The program's.
        late: A burst of steps took too long to be sure what it shows.
        moments: One after another.
    """

    number: int
    late: bool
    moments: list[Moment]


class Recorded(msgspec.Struct, frozen=True, array_like=True):
    """A program, and what Erlang made of it."""

    program: Program
    trace: Trace

    def steps(self) -> Iterator[tuple[Any, Moment]]:
        """Each step, those that every program has included, with what came of it."""
        return zip(["open", *self.program.steps, "tree", "stop"], self.trace.moments, strict=True)


def is_here() -> bool:
    """Whether there is an Erlang to ask."""
    return shutil.which("escript") is not None


class Erlang:
    """A running VM; closing it ends it."""

    def __init__(self) -> None:
        self._vm = subprocess.Popen(
            ["escript", str(DRIVER), str(AT_ONCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "ERL_CRASH_DUMP_BYTES": "0"},  # else a crash leaves a file
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._vm.kill()
        self._vm.communicate()

    def run(self, programs: Sequence[Program]) -> list[Recorded]:
        """Run programs side by side.

        Returns:
            What became of each, but for those that were late each time.
        """
        missing = dict(enumerate(programs))
        recorded: dict[int, Recorded] = {}
        for _ in range(TRIES):
            for trace in self._run(missing):
                if not trace.late:
                    recorded[trace.number] = Recorded(programs[trace.number], trace)
            missing = {number: each for number, each in missing.items() if number not in recorded}
        return [recorded[number] for number in sorted(recorded)]

    def _run(self, programs: dict[int, Program]) -> Iterator[Trace]:
        assert self._vm.stdin
        assert self._vm.stdout
        lines = [f"{{{number},{to_erlang(program)[1:]}.\n" for number, program in programs.items()]
        # Beside us: the VM does not read while nobody reads what it has to say.
        writer = threading.Thread(target=_write, args=(self._vm.stdin, lines))
        writer.start()
        for _ in programs:
            with _kills_after(SILENCE_SECONDS, self._vm):
                line = self._vm.stdout.readline()
            yield msgspec.json.decode(line, type=Trace)
        writer.join()


def _write(stdin: IO[str], lines: list[str]) -> None:
    for line in lines:
        stdin.write(line)
    stdin.flush()


@contextmanager
def _kills_after(seconds: float, vm: subprocess.Popen[str]) -> Iterator[None]:
    timer = threading.Timer(seconds, vm.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
