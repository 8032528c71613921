# `codex-actors run`: one turn, from the command line to the exit status.

import os
import sys
from contextlib import AbstractAsyncContextManager

import trio

from codex_actors import Codex, Thread, Turn, TurnResult, errors
from codex_actors.cli._arguments import Asked
from codex_actors.cli._stop import Stop
from codex_actors.cli._views import View, open_view
from codex_actors.options import Text
from codex_actors.results import PartialResult

# How long a reader that has stopped reading may keep us from saying how it ended.
_LAST_WORDS_SECONDS = 2.0
_READ_BYTES = 64 * 1024


def run(asked: Asked, stop: Stop) -> int:
    """Run a turn and return the exit status."""
    return trio.run(_run, asked, stop)


async def _run(asked: Asked, stop: Stop) -> int:
    async with open_view(json=asked.json) as view:
        outcome = await follow(asked, view, stop)
        with trio.move_on_after(_LAST_WORDS_SECONDS):
            await view.finish(outcome)
    if isinstance(outcome, TurnResult):
        return 0
    return 2 if isinstance(outcome, errors.OptionError) else 1


async def follow(asked: Asked, view: View, stop: Stop) -> TurnResult | errors.CodexError:
    """Run a turn and show it; returns what it came to, when nothing of it lives any more."""
    turn: Turn | None = None
    try:
        with stop.scope():
            prompt = await _prompt(asked)
            async with Codex(asked.codex) as codex, _turn(_thread(codex, asked), asked, prompt) as turn:
                async for event in turn:
                    await view.show(event)
        return _interrupted() if turn is None else turn.result
    except errors.CodexError as exc:
        return exc


def _interrupted() -> errors.CodexError:
    return errors.TurnInterruptedError("stopped before the turn began", partial=PartialResult())


def _thread(codex: Codex, asked: Asked) -> Thread:
    if asked.resume is not None:
        return codex.resume_thread(asked.resume, asked.thread)
    if asked.fork is not None:
        return codex.fork_thread(asked.fork, asked.thread)
    return codex.start_thread(asked.thread)


def _turn(thread: Thread, asked: Asked, prompt: str) -> AbstractAsyncContextManager[Turn]:
    if asked.review is not None:
        return thread.review_streamed(asked.review, asked.turn)
    return thread.run_streamed([Text(prompt), *asked.images], asked.turn)


async def _prompt(asked: Asked) -> str:
    if asked.review is not None:
        return ""
    if asked.prompt is not None:
        return asked.prompt
    if sys.stdin.isatty():
        print("Type the prompt; Ctrl-D on a line of its own ends it.", file=sys.stderr)
    # In a thread that may be left behind: a terminal or a pipe can keep us waiting for ever.
    data = await trio.to_thread.run_sync(_read_stdin, abandon_on_cancel=True)
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise errors.OptionError("PROMPT", f"on stdin is not UTF-8: {exc}") from exc


def _read_stdin() -> bytes:
    # Not sys.stdin.read(): the lock that it holds would block the interpreter's end.
    data = bytearray()
    while some := os.read(sys.stdin.fileno(), _READ_BYTES):
        data += some
    return bytes(data)
