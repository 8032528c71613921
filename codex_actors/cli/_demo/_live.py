# The demo on a terminal: what is done scrolls by, and below stands a table of the turns: what each has done,
# an item a mark, and what it is about now.

import math
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle

import trio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from codex_actors._nursery import open_private_nursery
from codex_actors.cli._demo._outcomes import Played, describe_end, flaw
from codex_actors.cli._demo._story import Part
from codex_actors.cli._describe import DONE, FAILED, duration, outcome_name, token_count
from codex_actors.cli._live import FRAME_SECONDS, MARK_STYLES, spinner, styled
from codex_actors.cli._progress import Progress
from codex_actors.events import Event, Usage

_COLUMNS = ("state", "name", "done", "doing", "tokens", "time")
_COLUMNS_NEEDED = ("state", "name", "doing", "time")
# On a terminal that is narrower, a table with all columns shows nothing of what is going on.
_ALL_COLUMNS_WIDTH = 64
_NAME_STYLES = ("cyan", "green", "magenta", "yellow", "blue")
_STATE_STYLES = {"running": "green", "restarting": "yellow", "down": "bold red", "gone": "dim"}
_MAX_MARKS = 10


class _Row:
    """One turn in the table."""

    def __init__(self, part: Part, style: str, now: float) -> None:
        self.name = Text(part.name, f"bold {style}")
        self._part = part
        self._progress = Progress(now)
        self._marks = Text()
        self._played: Played | None = None

    def take(self, event: Event, now: float) -> str | None:
        """Take an event and return its text; None if it is worth none."""
        text = self._progress.take(event, now)
        if text:
            self._marks.append(text[0], MARK_STYLES[text[0]][0])
        return text

    def settle(self, played: Played) -> Sequence[str]:
        """Take the end and return its text."""
        self._played = played
        return list(describe_end(self._part, played))

    def cells(self, now: float) -> Mapping[str, Text]:
        """What the table says of it, by column."""
        if self._played is None:
            state, doing, tokens = Text(spinner(now), "cyan"), Text(self._progress.now_doing), ""
            seconds = now - self._progress.started_at
        else:
            outcome, seconds = self._played.outcome, self._played.seconds
            mark = FAILED if flaw(self._part, outcome) else DONE
            style = MARK_STYLES[mark][0]
            state, doing = Text(mark, style), Text(outcome_name(outcome), style)
            tokens = token_count(self.used)
        return {
            "state": state,
            "name": self.name,
            "done": self._marks[-_MAX_MARKS:],
            "doing": doing,
            "tokens": Text(tokens, "dim"),
            "time": Text(duration(seconds), "dim"),
        }

    @property
    def used(self) -> Usage | None:
        """The tokens, once they are known."""
        return self._played.done.usage.turn if self._played else None

    @property
    def is_over(self) -> bool:
        """Whether its turn has ended."""
        return self._played is not None


class LiveDemoView:
    """Lines that scroll by, above a table of the turns."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._began = math.nan
        self._rows: dict[str, _Row] = {}

    async def begin_turns(self, parts: Sequence[Part]) -> None:
        self._began = trio.current_time()
        styled_parts = zip(parts, cycle(_NAME_STYLES), strict=False)
        self._rows = {part.name: _Row(part, style, self._began) for part, style in styled_parts}

    async def show(self, part: Part, event: Event) -> None:
        if text := self._rows[part.name].take(event, trio.current_time()):
            await self.tell(part, text)

    async def tell(self, part: Part, line: str) -> None:
        time = Text(duration(trio.current_time() - self._began), "dim")
        grid = Table.grid(padding=(0, 1))
        grid.add_column(min_width=6, justify="right")
        grid.add_column(min_width=max(map(len, self._rows)))
        grid.add_row(time, self._rows[part.name].name, styled(line))
        self._live.console.print(grid)

    async def settle(self, part: Part, played: Played) -> None:
        for line in self._rows[part.name].settle(played):
            await self.tell(part, line)

    async def end_turns(self) -> None:
        self._live.stop()

    async def say(self, line: str) -> None:
        self._live.console.print(styled(line))

    async def tabulate(self, rows: Iterable[Sequence[str]]) -> None:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)  # where there is no room, other columns give way
        for number, (mark, first, *others) in enumerate(rows):
            name = Text.assemble((mark, MARK_STYLES.get(mark, ("", ""))[0]), f" {first}")
            cells = (Text(cell, _STATE_STYLES.get(cell, ""), overflow="fold") for cell in others)
            grid.add_row(name, *cells, style="bold" if number == 0 else None)
        self._live.console.print(grid)

    async def animate(self) -> None:
        """Keep the table up to date."""
        while True:
            if self._rows:
                self._live.update(self._table(trio.current_time()), refresh=True)
            await trio.sleep(FRAME_SECONDS)

    def _table(self, now: float) -> RenderableType:
        columns = _COLUMNS if self._live.console.width >= _ALL_COLUMNS_WIDTH else _COLUMNS_NEEDED
        grid = Table.grid(padding=(0, 1), expand=True)
        for column in columns:
            grid.add_column(no_wrap=True, ratio=1 if column == "doing" else None)
        for row in self._rows.values():
            cells = row.cells(now)
            grid.add_row(*(cells[column] for column in columns))
        return Panel(grid, subtitle=self._summary(now), subtitle_align="right", border_style="dim")

    def _summary(self, now: float) -> Text:
        rows = self._rows.values()
        words = [f"{sum(row.is_over for row in rows)} of {len(rows)} over", duration(now - self._began)]
        if used := [row.used for row in rows if row.used]:  # before that, nobody has counted
            sums = Usage(
                input_tokens=sum(it.input_tokens for it in used),
                output_tokens=sum(it.output_tokens for it in used),
            )
            words.insert(1, token_count(sums))
        return Text("; ".join(words))


@asynccontextmanager
async def open_live_demo_view() -> AsyncGenerator[LiveDemoView]:
    """Open the view; leaving the block gives the terminal back as it was."""
    with Live(console=Console(highlight=False), auto_refresh=False, transient=True) as live:
        view = LiveDemoView(live)
        async with open_private_nursery() as nursery:
            nursery.start_soon(view.animate)
            yield view
