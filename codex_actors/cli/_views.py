# Ways to show a turn. A view only writes; what it writes is decided in _describe, _progress, _json_lines.

import importlib.util
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from codex_actors import TurnResult, errors
from codex_actors.cli._describe import ASIDE, RUNNING, describe_outcome, in_progress
from codex_actors.cli._json_lines import event_line, result_line
from codex_actors.cli._output import Output, standard_output
from codex_actors.cli._progress import Progress
from codex_actors.events import Event, ItemStarted


class View(Protocol):
    """A way to show a turn."""

    async def show(self, event: Event) -> None:
        """Show that something happened.

        Raises:
            OutputLostError: Nothing can be shown any more.
        """

    async def finish(self, outcome: TurnResult | errors.CodexError) -> None:
        """Show what the turn came to."""


class JsonView:
    """One line of JSON for each event, and one for the outcome."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began = False

    async def show(self, event: Event) -> None:
        self._began = True
        await self._output.write(event_line(event))

    async def finish(self, outcome: TurnResult | errors.CodexError) -> None:
        await self._output.write(result_line(outcome, began=self._began))


class PlainView:
    """Lines of text without control codes: for files, pipes and terminals that can do no more."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._progress = Progress(trio.current_time())

    async def show(self, event: Event) -> None:
        if text := plain_text(self._progress, event, trio.current_time()):
            await self._output.write_text(text)

    async def finish(self, outcome: TurnResult | errors.CodexError) -> None:
        seconds = trio.current_time() - self._progress.started_at
        await self._output.write_text("\n".join(describe_outcome(outcome, seconds)))


def plain_text(progress: Progress, event: Event, now: float) -> str | None:
    """An event for who only sees lines, and wants to know what is awaited."""
    text = progress.take(event, now)
    if isinstance(event, ItemStarted) and (name := in_progress(event)):
        return f"{RUNNING} {name}"
    return text


@asynccontextmanager
async def open_view(*, json: bool) -> AsyncGenerator[View]:
    """Open the view that suits our standard output."""
    output = standard_output()
    if json:
        yield JsonView(output)
    elif not can_animate():
        yield PlainView(output)
    elif not has_rich():
        await output.write_text(f"{ASIDE} for a live view: pip install 'codex-actors[cli]'")
        yield PlainView(output)
    else:
        from codex_actors.cli._live import open_live_view  # noqa: PLC0415 - rich comes with an extra

        async with open_live_view() as live:
            yield live


def can_animate() -> bool:
    """Whether our standard output is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def has_rich() -> bool:
    """Whether the extra `cli` is installed."""
    return importlib.util.find_spec("rich") is not None
