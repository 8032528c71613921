"""What a fake codex says and does, and the options of a runtime that uses it."""

import json
import os
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

import codex_actors
from codex_actors._nursery import open_private_nursery
from codex_actors._process import Containment
from codex_actors._protocol import TurnState
from codex_actors.backends import Backend, NewThread, Start, TurnRequest
from codex_actors.events import Event, ItemCompleted
from codex_actors.items import AgentMessage
from codex_actors.options import CodexOptions, Deadlines, ThreadOptions, TurnOptions
from codex_actors.results import TurnResult
from codex_actors.testing import Act, fake_codex, writes

THREAD = "019a0000-0000-7000-8000-000000000001"
OTHER_THREAD = "019a0000-0000-7000-8000-000000000002"


def line(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields}) + "\n"


def started(thread_id: str = THREAD) -> str:
    return line("thread.started", thread_id=thread_id) + line("turn.started")


def said(text: str) -> str:
    return line("item.completed", item={"id": "item_0", "type": "agent_message", "text": text})


def command_begins(item_id: str = "item_1") -> str:
    return line("item.started", item=_command(item_id, exit_code=None, status="in_progress"))


def command_ends(item_id: str = "item_1") -> str:
    return line("item.completed", item=_command(item_id, exit_code=0, status="completed"))


def _command(item_id: str, **ending: object) -> dict[str, object]:
    command = {"type": "command_execution", "command": "sleep 1", "aggregated_output": ""}
    return {"id": item_id, **command, **ending}


def completed(input_tokens: int = 100, output_tokens: int = 10) -> str:
    usage = {"input_tokens": input_tokens, "cached_input_tokens": 0, "output_tokens": output_tokens}
    return line("turn.completed", usage=usage)


STARTED = started()
COMPLETED = completed()
DONE = STARTED + said("done") + COMPLETED


def texts(seen: Iterable[Event]) -> list[str]:
    """What the agent said in these events."""
    items = [event.item for event in seen if isinstance(event, ItemCompleted)]
    return [item.text for item in items if isinstance(item, AgentMessage)]


def fake_options(
    directory: Path,
    *acts: Act,
    version: str = "0.169.0",
    deadlines: Deadlines | None = None,
    **options: Any,
) -> CodexOptions:
    """A fake codex that does as it is told, and a home for it."""
    home = directory / "home"
    home.mkdir(exist_ok=True)
    path = fake_codex(directory / "bin", *acts, version=version)
    return CodexOptions(codex_path=path, codex_home=home, deadlines=deadlines or Deadlines(), **options)


def shown_locals(exc: BaseException) -> str:
    """The locals of our own frames, as a traceback with locals shows them."""
    package = str(Path(codex_actors.__file__).parent)
    frames = traceback.TracebackException.from_exception(exc, capture_locals=True).stack
    return str([frame.locals for frame in frames if frame.filename.startswith(package)])


class Holder:
    """Asks a backend for a turn and keeps what it delivers.

    Attributes:
        events: What was delivered so far.
        state: What the backend applied them to.
        interrupted: To be set.
        takes: While this is not set, nothing is taken.
        offered: Set when the first events are to be taken.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.state = TurnState()
        self.interrupted = trio.Event()
        self.takes = trio.Event()
        self.takes.set()
        self.offered = trio.Event()
        self._heard = trio.Event()

    async def deliver(self, events: list[Event]) -> None:
        self.offered.set()
        await self.takes.wait()
        self.events += events
        self._heard.set()
        self._heard = trio.Event()

    async def wait_heard(self, count: int) -> None:
        """Wait until that many events were delivered."""
        while len(self.events) < count:
            await self._heard.wait()

    async def ask(self, backend: Backend, codex: CodexOptions, **asked: Any) -> TurnResult:
        """Ask a backend that serves for this turn only."""
        async with serving(backend, codex):
            return await self.ask_serving(backend, codex, **asked)

    async def ask_serving(
        self,
        backend: Backend,
        codex: CodexOptions,
        *,
        start: Start | None = None,
        prompt: str = "go",
        thread: ThreadOptions | None = None,
        turn: TurnOptions | None = None,
    ) -> TurnResult:
        request = TurnRequest(
            start=start or NewThread(),
            prompt=prompt,
            codex=codex,
            thread=thread or ThreadOptions(),
            turn=turn or TurnOptions(),
        )
        return await backend.run_turn(request, self.state, self.deliver, self.interrupted)


@asynccontextmanager
async def serving(backend: Backend, codex: CodexOptions) -> AsyncIterator[None]:
    """Let a backend serve, as the runtime does."""
    async with open_private_nursery() as nursery:
        await nursery.start(partial(backend.serve, codex))
        yield


@asynccontextmanager
async def contained(*, spawn_seconds: float = 10, kill_seconds: float = 10) -> AsyncIterator[Containment]:
    """What a backend starts its processes with."""
    containment = Containment("subreaper", spawn_seconds=spawn_seconds, kill_seconds=kill_seconds)
    async with open_private_nursery() as nursery:
        await nursery.start(containment.serve)
        yield containment


def answers_on_a_thread_of_its_own() -> Act:
    """Completes its turn; no two processes say the same thread id."""
    before, after = DONE.replace(THREAD, f"{THREAD[:-12]}PID").split("PID")
    return Act(f"{writes(before)}; printf %012d $$; {writes(after)}")


class Gate:
    """Holds fake codexes up until the test lets them pass, one after the other."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def waits(self) -> Act:
        """Waits here until it may pass."""
        return Act(f"read _ <'{self._path}'")

    def let_pass(self, count: int = 1) -> None:
        os.write(self._fd, b"\n" * count)


@contextmanager
def gate(path: Path) -> Iterator[Gate]:
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # open for both, so that no side waits for the other
    try:
        yield Gate(path, fd)
    finally:
        os.close(fd)


def lock_files(options: CodexOptions) -> list[str]:
    """What is left of the locks of threads."""
    folder = Path(str(options.codex_home)) / "codex-actors-locks"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
