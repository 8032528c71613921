# The demo's turns side by side, for a terminal, or one below the other, as plain lines.

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from codex_actors import TurnResult, errors
from codex_actors.cli._demo_story import Part
from codex_actors.cli._describe import describe_outcome
from codex_actors.cli._output import Output, standard_output
from codex_actors.cli._progress import Progress
from codex_actors.cli._views import can_animate, has_rich, plain_text
from codex_actors.events import Event


class DemoView(Protocol):
    """A way to show turns that run side by side."""

    async def show(self, part: Part, event: Event) -> None:
        """Show that something happened in a turn."""

    async def settle(self, part: Part, outcome: TurnResult | errors.CodexError) -> None:
        """Show what a turn came to."""

    async def end_turns(self) -> None:
        """Take note that all turns are over; what is said from here on stands below them."""

    async def say(self, line: str) -> None:
        """Write a line that belongs to no turn."""


class PlainDemoView:
    """Lines of text without control codes, each with its turn's name in front."""

    def __init__(self, output: Output, parts: Sequence[Part]) -> None:
        self._output = output
        self._width = max(len(part.name) for part in parts)
        self._progress = {part.name: Progress(trio.current_time()) for part in parts}

    async def show(self, part: Part, event: Event) -> None:
        if text := plain_text(self._progress[part.name], event, trio.current_time()):
            await self._write(part, text)

    async def settle(self, part: Part, outcome: TurnResult | errors.CodexError) -> None:
        seconds = trio.current_time() - self._progress[part.name].started_at
        await self._write(part, "\n".join(describe_outcome(outcome, seconds)))

    async def end_turns(self) -> None:
        await self._output.write_text("")

    async def say(self, line: str) -> None:
        await self._output.write_text(line)

    async def _write(self, part: Part, text: str) -> None:
        lines = (f"{part.name:{self._width}} | {line}" for line in text.split("\n"))
        await self._output.write_text("\n".join(lines))


@asynccontextmanager
async def open_demo_view(parts: Sequence[Part]) -> AsyncGenerator[DemoView]:
    """Open the view that suits our standard output."""
    output = standard_output()
    if can_animate() and has_rich():
        from codex_actors.cli._demo_live import open_live_demo_view  # noqa: PLC0415 - rich comes with an extra

        async with open_live_demo_view(parts) as live:
            yield live
    else:
        yield PlainDemoView(output, parts)
