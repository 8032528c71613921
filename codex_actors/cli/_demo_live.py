# The demo on a terminal: a pane for each turn, side by side where there is room. A pane is as high as it
# is, and shows the end of what its turn has said.

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager

import trio
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from codex_actors import TurnResult, errors
from codex_actors._nursery import open_private_nursery
from codex_actors.cli._demo_story import Part
from codex_actors.cli._describe import DONE, NOTICE, RUNNING, describe_outcome, duration
from codex_actors.cli._live import FRAME_SECONDS, spinner, styled
from codex_actors.cli._progress import Progress
from codex_actors.events import Event, ThreadStarted

# Narrower panes than these show more borders than text.
_SIDE_BY_SIDE_COLUMNS = 72
_HIGH, _LOW = 14, 5
_MAX_LINES = 50


class _End:
    """The last lines of a text, however it wraps; always equally high."""

    def __init__(self, lines: Sequence[str], height: int) -> None:
        self._lines = lines
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        text = Group(*map(styled, self._lines))
        rendered = console.render_lines(text, options.update(height=None)) if self._lines else []
        last = rendered[-self._height :]
        for line in [*last, *[[Segment("")]] * (self._height - len(last))]:
            yield from line
            yield Segment.line()


class _Pane:
    """One turn's pane."""

    def __init__(self, part: Part, now: float) -> None:
        self._part = part
        self._progress = Progress(now)
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._state = ""
        self._style = "cyan"

    def take(self, event: Event, now: float) -> None:
        text = self._progress.take(event, now)
        if text and not isinstance(event, ThreadStarted):  # an id takes up half a narrow pane
            self._lines.append(text)

    def settle(self, outcome: TurnResult | errors.CodexError, now: float) -> None:
        seconds = now - self._progress.started_at
        cancelled = isinstance(outcome, errors.TurnInterruptedError)
        line = next(describe_outcome(outcome, seconds))
        if cancelled:
            line = f"{NOTICE} cancelled while at {self._progress.now_doing}"
        self._lines.append(line)
        self._style = "yellow" if cancelled else "green" if line.startswith(DONE) else "red"
        self._state = duration(seconds)

    def draw(self, now: float, height: int) -> RenderableType:
        lines, state = list(self._lines), self._state
        if not state:
            lines.append(f"{RUNNING} {self._progress.now_doing}")
            state = f"{spinner(now)} {duration(now - self._progress.started_at)}"
        title = Text.assemble((self._part.name, "bold"), f" {self._part.sandbox}")
        return Panel(
            _End(lines, height),
            title=title,
            subtitle=Text(state),
            title_align="left",
            subtitle_align="right",
            border_style=self._style,
            height=height + 2,
        )


class LiveDemoView:
    """A pane for each turn."""

    def __init__(self, live: Live, parts: Sequence[Part]) -> None:
        self._live = live
        self._panes = {part.name: _Pane(part, trio.current_time()) for part in parts}

    async def show(self, part: Part, event: Event) -> None:
        self._panes[part.name].take(event, trio.current_time())

    async def settle(self, part: Part, outcome: TurnResult | errors.CodexError) -> None:
        self._panes[part.name].settle(outcome, trio.current_time())

    async def end_turns(self) -> None:
        self._draw()
        self._live.stop()

    async def say(self, line: str) -> None:
        self._live.console.print(styled(line))

    async def animate(self) -> None:
        """Keep the panes up to date."""
        while True:
            self._draw()
            await trio.sleep(FRAME_SECONDS)

    def _draw(self) -> None:
        now, console = trio.current_time(), self._live.console
        panes = self._panes.values()
        if console.width < _SIDE_BY_SIDE_COLUMNS:
            self._live.update(Group(*(pane.draw(now, _LOW) for pane in panes)), refresh=True)
            return
        row = Table.grid(expand=True)
        for _ in panes:
            row.add_column(ratio=1)
        row.add_row(*(pane.draw(now, _HIGH) for pane in panes))
        self._live.update(row, refresh=True)


@asynccontextmanager
async def open_live_demo_view(parts: Sequence[Part]) -> AsyncGenerator[LiveDemoView]:
    """Open the view; leaving the block gives the terminal back as it was."""
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        view = LiveDemoView(live, parts)
        async with open_private_nursery() as nursery:
            nursery.start_soon(view.animate)
            yield view
