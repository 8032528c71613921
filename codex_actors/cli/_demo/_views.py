# The demo as it goes on: what each turn does, line by line, and on a terminal a table of how all of them do.

import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from codex_actors.cli._demo._outcomes import Played, describe_end
from codex_actors.cli._demo._story import Part
from codex_actors.cli._describe import duration
from codex_actors.cli._output import Output, standard_output
from codex_actors.cli._progress import Progress
from codex_actors.cli._views import can_animate, has_rich, plain_text
from codex_actors.events import Event


class DemoView(Protocol):
    """A way to show turns that run side by side."""

    async def begin_turns(self, parts: Sequence[Part]) -> None:
        """Take note that turns begin, before anything is shown of them."""

    async def show(self, part: Part, event: Event) -> None:
        """Show that something happened in a turn."""

    async def tell(self, part: Part, line: str) -> None:
        """Show what we have to say of a turn."""

    async def settle(self, part: Part, played: Played) -> None:
        """Show what a turn came to."""

    async def end_turns(self) -> None:
        """Take note that all turns are over; what is said from here on stands below them."""

    async def say(self, line: str) -> None:
        """Write a line that belongs to no turn."""

    async def tabulate(self, rows: Iterable[Sequence[str]]) -> None:
        """Write a table: its head, and its rows, each with a mark in front."""


class PlainDemoView:
    """Lines of text without control codes, each with the time and its turn's name in front."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began = math.nan
        self._progress: dict[str, Progress] = {}

    async def begin_turns(self, parts: Sequence[Part]) -> None:
        self._began = trio.current_time()
        self._progress = {part.name: Progress(self._began) for part in parts}

    async def show(self, part: Part, event: Event) -> None:
        if text := plain_text(self._progress[part.name], event, trio.current_time()):
            await self.tell(part, text)

    async def tell(self, part: Part, line: str) -> None:
        time = duration(trio.current_time() - self._began)
        width = max(map(len, self._progress))
        lines = (f"{time:>6}  {part.name:{width}} | {it}" for it in line.split("\n"))
        await self._output.write_text("\n".join(lines))

    async def settle(self, part: Part, played: Played) -> None:
        await self.tell(part, "\n".join(describe_end(part, played)))

    async def end_turns(self) -> None:
        pass

    async def say(self, line: str) -> None:
        await self._output.write_text(line)

    async def tabulate(self, rows: Iterable[Sequence[str]]) -> None:
        rows = list(rows)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for mark, *cells in rows:
            padded = (cell.ljust(width) for cell, width in zip(cells, widths[1:], strict=True))
            await self.say(f"{mark} {'  '.join(padded)}".rstrip())


@asynccontextmanager
async def open_demo_view() -> AsyncGenerator[DemoView]:
    """Open the view that suits our standard output."""
    output = standard_output()
    if can_animate() and has_rich():
        from codex_actors.cli._demo._live import open_live_demo_view  # noqa: PLC0415 - rich comes with an extra

        async with open_live_demo_view() as live:
            yield live
    else:
        yield PlainDemoView(output)
