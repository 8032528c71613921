"""The Python side of every comparison; see worker.py.

A contender is given its job, prepares itself, and returns what a round is; only the round is timed.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import trio

from codex_actors import Codex, CodexOptions, ThreadOptions
from codex_actors._protocol import LineDecoder, _decoder
from codex_actors.backends.exec import ExecBackend
from codex_actors.events import TurnStarted
from tests.bench.worker import Numbers
from tests.fakes import COMPLETED, STARTED

Job = dict[str, Any]
Round = Callable[[], Numbers]


class Memory(NamedTuple):
    """What this process takes, in bytes; `uss` is the part that it shares with nobody."""

    rss: int
    uss: int
    peak_rss: int


_READ_BYTES = 64 * 1024
# A runtime that has just been opened makes the first watcher, and its janitor looks round; one in a service
# has done so long ago.
_WARM_SECONDS = 0.1
# Until Codex has asked the model and waits.
_THINKING_SECONDS = 0.1
_THREAD = ThreadOptions(sandbox="read-only", skip_git_repo_check=True, ephemeral=True)


# Events that reach an `async for`.


def codex_actors_stream(job: Job) -> Round:
    open_codex = _codex(job)

    async def play() -> Numbers:
        events = 0
        async with open_codex() as codex, codex.start_thread(_THREAD).run_streamed("go") as turn:
            async for _ in turn:
                events += 1
        return {"events": events}

    return partial(trio.run, play)


def community_stream(job: Job) -> Round:
    """The community's port of the TypeScript SDK to Python."""
    sdk = import_module("openai_codex_sdk")

    async def play() -> Numbers:
        codex = sdk.Codex({"codexPathOverride": job["codex"]})
        streamed = await codex.start_thread().run_streamed("go")
        events = 0
        async for _ in streamed.events:
            events += 1
        return {"events": events}

    return lambda: asyncio.run(play())


def trio_reader(job: Job) -> Round:
    """What one would write without a library: read, split, decode; no outcome, no deadlines, no stderr."""

    async def play() -> Numbers:
        events, rest = 0, b""
        process = await trio.lowlevel.open_process(
            [job["codex"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert process.stdout
        async with process.stdout:
            async for data in process.stdout:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    _decoder.decode(line)
                    events += 1
        await process.wait()
        return {"events": events}

    return partial(trio.run, play)


def bare_pipe(job: Job) -> Round:
    """Reads to the end and counts newlines."""

    def play() -> Numbers:
        events = 0
        with subprocess.Popen([job["codex"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout
            while data := os.read(process.stdout.fileno(), _READ_BYTES):
                events += data.count(b"\n")
        return {"events": events}

    return play


def msgspec_bytes(job: Job) -> Round:
    """msgspec and the library's own types: bytes that are in memory, split into lines, each line decoded."""
    stream = _stream(job)

    def play() -> Numbers:
        lines = stream.split(b"\n")
        lines.pop()
        for line in lines:
            _decoder.decode(line)
        return {"events": len(lines)}

    return play


def msgspec_lines(job: Job) -> Round:
    """The same, but somebody else has found the lines."""
    lines = _stream(job).splitlines()

    def play() -> Numbers:
        for line in lines:
            _decoder.decode(line)
        return {"events": len(lines)}

    return play


# One turn.


def codex_actors_turn(job: Job) -> Round:
    open_codex = _codex(job)

    async def play() -> Numbers:
        async with open_codex() as codex:
            await trio.sleep(_WARM_SECONDS)
            began = time.perf_counter()
            await codex.start_thread(_THREAD).run("hello")
            return {"seconds": time.perf_counter() - began}

    return partial(trio.run, play)


def codex_actors_warm(job: Job) -> Round:
    """Turn after turn in one runtime, as in a service, each beside the binary by itself."""
    alone, open_codex = bare_binary(job), _codex(job)

    async def play() -> Numbers:
        beyond: list[float] = []
        async with open_codex() as codex:
            await trio.sleep(_WARM_SECONDS)
            for _ in range(job["pairs"]):
                bare = alone()["seconds"]
                began = time.perf_counter()
                await codex.start_thread(_THREAD).run("hello")
                beyond.append(time.perf_counter() - began - bare)
        return {"beyond": statistics.median(beyond)}

    return partial(trio.run, play)


def bare_binary(job: Job) -> Round:
    """The binary by itself, with the arguments and the environment that someone else gave it."""
    _, *arguments = Path(job["recorded"], "cmdline").read_text().split("\0")[1:-1]
    variables = Path(job["recorded"], "environ").read_text().split("\0")[:-1]
    env = dict(variable.split("=", 1) for variable in variables)

    def play() -> Numbers:
        with open(os.memfd_create("prompt"), "w+b") as prompt:  # noqa: PTH123 - a descriptor has no path
            prompt.write(b"hello")
            prompt.seek(0)
            began = time.perf_counter()
            process = subprocess.Popen(
                [job["codex"], *arguments],
                env=env,
                stdin=prompt,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            said, complaint = process.communicate()
            seconds = time.perf_counter() - began
        assert b'"turn.completed"' in said, complaint
        return {"seconds": seconds}

    return play


# Memory.


def codex_actors_memory(job: Job) -> Round:
    """By how much the process grows from the first look at its memory to any later one."""
    open_codex = _codex(job)

    async def play() -> Numbers:
        events, looks = 0, list[Memory]()
        async with open_codex() as codex, codex.start_thread(_THREAD).run_streamed("go") as turn:
            async for _ in turn:
                events += 1
                if events % job["look_every"] == 0:
                    looks.append(_memory())
        return {
            "events": events,
            "rss": max(look.rss for look in looks) - looks[0].rss,
            "uss": max(look.uss for look in looks) - looks[0].uss,
        }

    return partial(trio.run, play)


# Many turns.


def codex_actors_fakes(job: Job) -> Round:
    """Each turn is held half-way until the last has got there."""
    open_codex = _codex(job)

    async def play() -> Numbers:
        with open(job["gate"], "r+b", buffering=0) as gate:  # noqa: ASYNC230, PTH123 - opened for both, it is at once
            return await _crowd(job["turns"], open_codex, partial(gate.write, b"\n" * job["turns"]))

    return partial(trio.run, play)


async def _crowd(turns: int, open_codex: Callable[[], Codex], let_pass: Callable[[], object]) -> Numbers:
    half_way = trio.Semaphore(0)
    before, fds_before = _memory(), _open_fds()

    async def run_turn(codex: Codex) -> None:
        async with codex.start_thread(_THREAD).run_streamed("go") as turn:
            await anext(turn)
            half_way.release()
            await turn.wait_result()

    async with open_codex() as codex:
        async with trio.open_nursery() as nursery:
            for _ in range(turns):
                nursery.start_soon(run_turn, codex)
            for _ in range(turns):
                await half_way.acquire()
            fds = _open_fds() - fds_before
            private = _memory().uss - before.uss + sum(_memory(pid).uss for pid in _watchers())
            let_pass()
        completed = codex.statistics().turns_completed
    return {
        "completed": completed,
        "fds": fds / turns,
        "rss": (_memory().peak_rss - before.rss) / turns,
        "private": private / turns,
    }


def _watchers() -> list[str]:
    """The processes that contain turns: children of the guard, which is our only child that is a Python."""
    return [
        watcher
        for child in _children("self")
        if "guard_program" in Path(f"/proc/{child}/cmdline").read_text()
        for watcher in _children(child)
    ]


def _children(pid: str) -> list[str]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return " ".join(file.read_text() for file in lists).split()


def codex_actors_cancel(job: Job) -> Round:
    """A turn of the real Codex that is cancelled while its model thinks."""
    open_codex = _codex(job)

    async def play() -> Numbers:
        async with open_codex() as codex:
            with trio.CancelScope() as scope:
                async with codex.start_thread(_THREAD).run_streamed("wait") as turn:
                    while not isinstance(await anext(turn), TurnStarted):
                        pass
                    await trio.sleep(_THINKING_SECONDS)
                    began = time.perf_counter()
                    scope.cancel()
                    await anext(turn)
            return {"cancel": time.perf_counter() - began}

    return partial(trio.run, play)


def codex_actors_turns(job: Job) -> Round:
    """Real turns, all at once."""
    open_codex = _codex(job)

    async def play() -> Numbers:
        async with open_codex() as codex:
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(job["turns"]):
                    nursery.start_soon(codex.start_thread(_THREAD).run, "hello")
            return {
                "completed": codex.statistics().turns_completed,
                "seconds": time.perf_counter() - began,
            }

    return partial(trio.run, play)


# One long line.


def codex_actors_line(job: Job) -> Round:
    """One line, as large as asked for, that comes 64 KiB at a time."""
    text = BytesIO(b'{"type":"error","message":"' + b"x" * job["bytes"] + b'"}\n').getvalue()
    pieces = [text[at : at + _READ_BYTES] for at in range(0, len(text), _READ_BYTES)]

    def play() -> Numbers:
        decoder = LineDecoder()
        return {"events": sum(len(decoder.feed(piece)) for piece in pieces)}

    return play


def _codex(job: Job) -> Callable[[], Codex]:
    # With one backend for all rounds, the binary's version is asked while warming up, as it is once in the
    # life of a program.
    options = CodexOptions(codex_path=job["codex"], codex_home=job.get("home"))
    return partial(Codex, options, backend=ExecBackend())


def _stream(job: Job) -> bytes:
    return STARTED.encode() + Path(job["items"]).read_bytes() + COMPLETED.encode()


def _memory(pid: str = "self") -> Memory:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text() + Path(f"/proc/{pid}/status").read_text()
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", rows, re.MULTILINE)}
    return Memory(sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["VmHWM"])


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only how many


CONTENDERS: dict[str, Callable[[Job], Round]] = {
    contender.__name__: contender
    for contender in (
        codex_actors_stream,
        community_stream,
        trio_reader,
        bare_pipe,
        msgspec_bytes,
        msgspec_lines,
        codex_actors_turn,
        codex_actors_warm,
        bare_binary,
        codex_actors_memory,
        codex_actors_fakes,
        codex_actors_turns,
        codex_actors_cancel,
        codex_actors_line,
    )
}


def main() -> None:
    play = CONTENDERS[sys.argv[1]](json.loads(sys.argv[2]))
    for _ in sys.stdin:
        began = time.perf_counter()
        numbers = play()
        sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began, **numbers}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
