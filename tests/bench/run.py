"""Measure how fast we are and how much memory that takes: ``python tests/bench/run.py``.

Figures are only good for what they are compared with in the same run, on the same machine: so everything
takes turns, and what counts are ratios and differences within a round.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from codex_actors.backends._binary import find_codex  # noqa: E402 - started as a script, we are not on the path
from codex_actors.errors import CodexNotFoundError  # noqa: E402
from codex_actors.testing import Act, codex_home, fake_codex, reads_prompt, writes  # noqa: E402
from tests.bench.replay import AROUND, replaying, write_items  # noqa: E402
from tests.bench.report import Figure, at_least, at_most, table  # noqa: E402
from tests.bench.worker import NODE, PYTHON, SUPERVISION, Numbers, Worker, Workers, play_rounds  # noqa: E402
from tests.fakes import DONE, gate  # noqa: E402


class Sizes(msgspec.Struct, frozen=True):
    """How much is measured.

    Attributes:
        events: Lines of the replayed stream.
        stream_rounds: How often each contender reads it.
        turn_rounds: How many real turns each contender runs.
        memory_events: Events of the turn whose memory is watched.
        fakes: Turns at once, with a fake codex.
        reals: Turns at once, with the real one.
        crowd_rounds: How often there is such a crowd.
        line_bytes: The long line.
        children: Children that a supervisor starts, restarts and stops.
        many: Children that a dynamic supervisor starts.
        supervision_rounds: How often they do.
    """

    events: int
    stream_rounds: int
    turn_rounds: int
    memory_events: int
    fakes: int
    reals: int
    crowd_rounds: int
    line_bytes: int
    children: int
    many: int
    supervision_rounds: int


MIB = 1024 * 1024
SIZES = {
    "smoke": Sizes(2_000, 1, 1, 20_000, 3, 2, 1, MIB, 50, 100, 1),
    "quick": Sizes(400_000, 9, 40, 1_000_000, 100, 16, 3, 32 * MIB, 1_000, 10_000, 5),
    "full": Sizes(400_000, 31, 200, 5_000_000, 100, 16, 9, 32 * MIB, 1_000, 10_000, 25),
}

NO_TYPESCRIPT = "not here: name its node_modules with --typescript, or use `nox -s bench`"
NO_COMMUNITY = "not here: pip install openai-codex-sdk, or use `nox -s bench`"
NO_TRIOTP = "not here: name a Python that has it with --triotp; it needs Python 3.13"
NO_BINARY = "no real Codex here: name one with --codex, or pip install 'codex-actors[codex]'"


class Bench(msgspec.Struct, frozen=True):
    """One run of the benchmarks.

    Attributes:
        sizes: How much is measured.
        directory: A place for files.
        codex: The real binary, if there is one.
        node_modules: Where the TypeScript SDK is installed, if it is.
        triotp: A Python with triotp, if there is one.
    """

    sizes: Sizes
    directory: Path
    codex: str | None
    node_modules: str | None
    triotp: str | None

    def job(self, codex: Path | str, **facts: object) -> dict[str, Any]:
        """What a worker has to know."""
        cwd = self.place("project")
        return {"codex": str(codex), "cwd": str(cwd), "node_modules": self.node_modules, **facts}

    def place(self, name: str) -> Path:
        """A directory."""
        path = self.directory / name
        path.mkdir(exist_ok=True)
        return path


def stream(bench: Bench) -> Iterator[Figure]:
    """How fast events reach an ``async for``: the same executable says the same lines to everybody."""
    items = write_items(bench.directory / "items.jsonl", bench.sizes.events - AROUND)
    codex = replaying(bench.place("stream"), items)
    job = bench.job(codex, items=str(items), home=str(bench.place("home")))
    names = {
        "codex_actors_stream": "codex_actors, run_streamed",
        "typescript_stream": "TypeScript SDK, runStreamed",
        "community_stream": "community port (asyncio)",
        "trio_reader": "a trio reader that decodes, by hand",
        "bare_pipe": "the pipe alone, newlines counted",
        "msgspec_bytes": "msgspec alone, on bytes in memory",
        "msgspec_lines": "msgspec alone, on lines in memory",
    }
    absent = {
        **({} if bench.node_modules else {"typescript_stream": NO_TYPESCRIPT}),
        **({} if find_spec("openai_codex_sdk") else {"community_stream": NO_COMMUNITY}),
    }
    with Workers() as workers:
        playing = {
            what: workers.open(NODE if what == "typescript_stream" else PYTHON, what, job)
            for what in names
            if what not in absent
        }
        play_rounds(playing.values(), bench.sizes.stream_rounds)
    speeds = {what: _speeds(worker, bench.sizes.events) for what, worker in playing.items()}
    for what, name in names.items():
        yield Figure(name, "events/s", speeds.get(what, ()), missing=absent.get(what, ""))
    for what, target in (
        ("typescript_stream", at_least(2)),
        ("community_stream", None),
        ("trio_reader", None),
        ("msgspec_bytes", at_least(0.4)),
        ("msgspec_lines", None),
    ):
        ratios = _ratios(speeds["codex_actors_stream"], speeds.get(what, ()))
        yield Figure(f"codex_actors / {names[what]}", "", ratios, target, absent.get(what, ""))


def turn(bench: Bench) -> Iterator[Figure]:
    """What a library adds to the wall time of a turn, over the binary started in the same way.

    With a fake binary, which answers at once, this can be seen to a tenth of a millisecond. A turn of the
    real one takes a hundred, and never the same.
    """
    fake = fake_codex(bench.place("fake"), reads_prompt(), writes(DONE))
    with _model_home(bench, "home-turn") as env:
        yield from _beyond(bench, "a fake binary", str(fake), env, bench.sizes.turn_rounds * 5)
        yield from _beyond(bench, "the real binary", bench.codex, env, bench.sizes.turn_rounds)


def _beyond(
    bench: Bench, binary: str, codex: str | None, env: dict[str, str], rounds: int
) -> Iterator[Figure]:
    absent = {
        "codex_actors_turn": "" if codex else NO_BINARY,
        "typescript_turn": NO_TYPESCRIPT if bench.node_modules is None else "" if codex else NO_BINARY,
    }
    pairs: dict[str, tuple[Worker, Worker]] = {}
    with Workers() as workers:
        for what, command in (("codex_actors_turn", PYTHON), ("typescript_turn", NODE)):
            if not absent[what]:
                recorded = _record(bench, command, what, env)
                job = bench.job(str(codex), recorded=str(recorded))
                library = workers.open(command, what, job, env)
                pairs[what] = (library, workers.open(PYTHON, "bare_binary", job, env))
        play_rounds([worker for pair in pairs.values() for worker in pair], rounds)
    seconds = {
        what: [_column(worker.rounds, "seconds", 1e-3) for worker in pair] for what, pair in pairs.items()
    }
    ours, bare = seconds.get("codex_actors_turn", ((), ()))
    yield Figure(f"{binary}, one turn", "ms", bare, missing=absent["codex_actors_turn"])
    yield Figure(
        f"codex_actors, beyond {binary}",
        "ms",
        _differences(ours, bare),
        at_most(3),
        absent["codex_actors_turn"],
    )
    yield _warm(bench, binary, codex, env, rounds)
    theirs, bare = seconds.get("typescript_turn", ((), ()))
    yield Figure(
        f"TypeScript SDK, beyond {binary}", "ms", _differences(theirs, bare), None, absent["typescript_turn"]
    )


def _warm(bench: Bench, binary: str, codex: str | None, env: dict[str, str], rounds: int) -> Figure:
    name = f"codex_actors, beyond {binary}, in one warm runtime"
    if codex is None:
        return Figure(name, "ms", (), at_most(3), NO_BINARY)
    recorded = bench.place("codex_actors_turn")
    job = bench.job(codex, recorded=str(recorded), pairs=max(1, rounds // 4))
    with Workers() as workers:
        worker = workers.open(PYTHON, "codex_actors_warm", job, env)
        play_rounds([worker], 4, slow_seconds=600)
    return Figure(name, "ms", _column(worker.rounds, "beyond", 1e-3), at_most(3))


def _record(bench: Bench, command: tuple[str, ...], what: str, env: dict[str, str]) -> Path:
    """Write down how a contender starts Codex: with these arguments and environment, the bare binary runs."""
    directory = bench.place(what)
    kept = (f"cat /proc/$$/{name} >{shlex.quote(str(directory / name))}" for name in ("cmdline", "environ"))
    recorder = fake_codex(directory, *map(Act, kept), reads_prompt(), writes(DONE))
    with Workers() as workers:
        workers.open(command, what, bench.job(recorder), env).play()
    return directory


def memory(bench: Bench) -> Iterator[Figure]:
    """By how much a process grows while one turn says very much."""
    look_every = bench.sizes.memory_events // 10
    items = write_items(bench.directory / "look.jsonl", look_every)
    codex = replaying(bench.place("memory"), items, times=10)
    job = bench.job(codex, home=str(bench.place("home")), look_every=look_every)
    rounds = [_fresh("codex_actors_memory", job)]
    what = f"growth from {look_every:,} events to {look_every * 10:,}"
    yield Figure(f"{what}, own memory", "MB", _column(rounds, "uss", 1e6), at_most(1))
    yield Figure(f"{what}, resident", "MB", _column(rounds, "rss", 1e6), at_most(1))


def crowd(bench: Bench) -> Iterator[Figure]:
    """Many turns at once, in one process of ours."""
    sizes = bench.sizes
    items = write_items(bench.directory / "few.jsonl", 100)
    with gate(bench.directory / "gate") as held:
        codex = replaying(bench.place("crowd"), items, times=2, halfway=held.waits())
        job = bench.job(
            codex, home=str(bench.place("home")), turns=sizes.fakes, gate=str(bench.directory / "gate")
        )
        rounds = [_fresh("codex_actors_fakes", job) for _ in range(sizes.crowd_rounds)]
    what = f"{sizes.fakes} turns at once"
    yield Figure(f"{what}: completed", "turns", _column(rounds, "completed"), at_least(sizes.fakes))
    yield Figure(f"{what}: wall time", "s", _column(rounds, "seconds"))
    yield Figure(f"{what}: our peak memory", "kB/turn", _column(rounds, "rss", 1e3))
    yield Figure(f"{what}: our descriptors", "/turn", _column(rounds, "fds"))
    private = _column(rounds, "private", 1e6)
    yield Figure(f"{what}: private memory, watchers included", "MB/turn", private, at_most(2))
    what = f"{sizes.reals} real turns at once"
    if bench.codex is None:
        yield Figure(f"{what}: completed", "turns", (), at_least(sizes.reals), NO_BINARY)
        return
    with _model_home(bench, "home-reals") as env, Workers() as workers:
        worker = workers.open(PYTHON, "codex_actors_turns", bench.job(bench.codex, turns=sizes.reals), env)
        play_rounds([worker], sizes.crowd_rounds, slow_seconds=60)
    yield Figure(f"{what}: completed", "turns", _column(worker.rounds, "completed"), at_least(sizes.reals))
    yield Figure(f"{what}: wall time", "s", _column(worker.rounds, "seconds"))


def line(bench: Bench) -> Iterator[Figure]:
    """Whether a byte of a long line costs as much as one of a shorter line, both in pieces of 64 KiB."""
    sizes = (bench.sizes.line_bytes // 4, bench.sizes.line_bytes)
    seconds: dict[int, list[float]] = {line_bytes: [] for line_bytes in sizes}
    for _ in range(bench.sizes.crowd_rounds):
        for line_bytes in sizes:  # in fresh processes: to the first line, however long, all memory is new
            numbers = _fresh("codex_actors_line", bench.job("", bytes=line_bytes))
            seconds[line_bytes].append(numbers["seconds"] / line_bytes * 1e9)
    shorter, longer = map(tuple, seconds.values())
    names = [f"one line of {line_bytes / MIB:g} MiB" for line_bytes in sizes]
    yield Figure(names[0], "ns/byte", shorter)
    yield Figure(names[1], "ns/byte", longer)
    # Four, if the cost grew with the square; a little over one, because less of it stays in a cache.
    yield Figure("the longer / the shorter, for each byte", "", _ratios(longer, shorter), at_most(2))


def supervision(bench: Bench) -> Iterator[Figure]:
    """What a supervisor takes beyond a nursery; none of it has to do with Codex."""
    sizes = bench.sizes
    job = bench.job("", children=sizes.children, many=sizes.many)
    names = {"ours": "codex_actors", "bare": "trio alone", "triotp": "triotp"}
    with Workers() as workers:
        playing = {what: workers.open(SUPERVISION, what, job) for what in ("ours", "bare")}
        play_rounds(playing.values(), sizes.supervision_rounds, slow_seconds=60)
    rounds = {what: worker.rounds for what, worker in playing.items()}
    memory = {what: [_fresh(f"{what}_memory", job, SUPERVISION)] for what in playing}
    if bench.triotp:
        triotp = (bench.triotp, *SUPERVISION[1:])
        rounds["triotp"] = [_fresh("triotp", job, triotp)]  # one takes half a minute
        memory["triotp"] = [_fresh("triotp_memory", {**job, "many": sizes.children}, triotp)]
    if not all(numbers["in_order"] for numbers in rounds["ours"]):
        raise RuntimeError("children were not stopped in order")
    for figure, unit, size, taken in (
        ("start", "us", 1e-6, "a child started"),
        ("restart", "us", 1e-6, "from a crash to restarted"),
        ("stop", "ms", 1e-3, f"{sizes.children:,} idle children stopped"),
        ("many", "s", 1, f"{sizes.many:,} dynamic children started"),
    ):
        for what, name in names.items():
            values = _column(rounds.get(what, ()), figure, size)
            yield Figure(f"{taken}, {name}", unit, values, missing="" if values else NO_TRIOTP)
    bare = _column(rounds["bare"], "start")
    for figure, taken in (("start", "start_child"), ("restart", "from a crash to restarted")):
        ratios = _ratios(_column(rounds["ours"], figure), bare)
        yield Figure(f"{taken} / a bare nursery.start", "", ratios, at_most(3))
    for what, name in names.items():
        values = _column(memory.get(what, ()), "each")
        yield Figure(f"an idle child, {name}", "bytes", values, missing="" if values else NO_TRIOTP)


def cancel(bench: Bench) -> Iterator[Figure]:
    """From cancelling a turn of the real Codex to the proof that its whole process tree is dead."""
    if bench.codex is None:
        yield Figure("cancelled to proven dead", "ms", (), at_most(50), NO_BINARY)
        return
    with _model_home(bench, "home-cancel") as env, Workers() as workers:
        worker = workers.open(PYTHON, "codex_actors_cancel", bench.job(bench.codex), env)
        play_rounds([worker], bench.sizes.turn_rounds * 3)
    taken = _column(worker.rounds, "cancel", 1e-3)
    yield Figure("cancelled to proven dead", "ms", taken)
    worst = sorted(taken)[int(len(taken) * 0.99)]
    yield Figure("cancelled to proven dead, 99th percentile", "ms", (worst,), at_most(50))


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    part.__name__: part for part in (stream, turn, cancel, memory, crowd, line, supervision)
}


def _fresh(what: str, job: dict[str, Any], command: tuple[str, ...] = PYTHON) -> Numbers:
    """A round of a process that has done nothing before."""
    with Workers() as workers:
        return workers.open(command, what, job).play()


@contextmanager
def _model_home(bench: Bench, name: str) -> Generator[dict[str, str]]:
    """A scripted model, and the environment in which the real Codex asks it."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("model.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as model:
        assert model.stdin
        assert model.stdout
        home = codex_home(bench.directory / name, model.stdout.readline().strip())
        yield {"HOME": str(home.path), **home.environment}
        model.stdin.close()


def _speeds(worker: Worker, events: int) -> tuple[float, ...]:
    for numbers in worker.rounds:
        if numbers["events"] != events:
            raise RuntimeError(f"{worker.name} saw {numbers['events']} events of {events}")
    return tuple(events / seconds for seconds in _column(worker.rounds, "seconds"))


def _column(rounds: Iterable[Numbers], name: str, unit: float = 1) -> tuple[float, ...]:
    return tuple(numbers[name] / unit for numbers in rounds)


def _ratios(ours: Iterable[float], theirs: Iterable[float]) -> tuple[float, ...]:
    # Whoever was too slow to play on has fewer rounds.
    return tuple(a / b for a, b in zip(ours, theirs, strict=False))


def _differences(ours: Iterable[float], theirs: Iterable[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(ours, theirs, strict=True))


def _find_binary(named: str | None) -> str | None:
    try:
        return find_codex(named)
    except CodexNotFoundError:
        if named:
            raise
        return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    for name, what in (
        ("quick", "under two minutes"),
        ("full", "many rounds"),
        ("smoke", "only to see it work"),
    ):
        size.add_argument(f"--{name}", action="store_const", const=name, dest="size", help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values of all rounds there, too")
    parser.add_argument(
        "--typescript",
        metavar="DIR",
        default=os.environ.get("CODEX_ACTORS_NODE_MODULES"),
        help="node_modules with @openai/codex-sdk in it (or CODEX_ACTORS_NODE_MODULES)",
    )
    parser.add_argument(
        "--codex",
        metavar="PATH",
        default=os.environ.get("CODEX_ACTORS_TEST_BINARY"),
        help="the real Codex (or CODEX_ACTORS_TEST_BINARY)",
    )
    parser.add_argument(
        "--triotp",
        metavar="PYTHON",
        default=os.environ.get("CODEX_ACTORS_TRIOTP_PYTHON"),
        help="a Python with triotp (or CODEX_ACTORS_TRIOTP_PYTHON)",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(
            SIZES[arguments.size or "quick"],
            Path(directory),
            _find_binary(arguments.codex),
            arguments.typescript,
            arguments.triotp,
        )
        for name in arguments.parts or PARTS:
            began = time.monotonic()
            figures += PARTS[name](bench)
            sys.stderr.write(f"measured: {name}, in {time.monotonic() - began:.0f} s\n")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    sys.stdout.write(
        f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}\n{table(figures)}"
    )
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))


if __name__ == "__main__":
    main()
