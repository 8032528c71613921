# The turn on a terminal: what is done scrolls by, and the last line says what is going on. rich draws;
# we say when, from trio's own loop: a thread of rich's would have to be stopped too.

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from codex_actors import TurnResult, errors
from codex_actors._nursery import open_private_nursery
from codex_actors.cli._describe import (
    ASIDE,
    DONE,
    FAILED,
    NOTICE,
    RUNNING,
    SAYS,
    describe_outcome,
    duration,
)
from codex_actors.cli._progress import Progress
from codex_actors.events import Event

FRAME_SECONDS = 0.1
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MARK_STYLES = {
    DONE: ("green", ""),
    FAILED: ("bold red", ""),
    SAYS: ("cyan", ""),
    NOTICE: ("yellow", "yellow"),
    ASIDE: ("dim", "dim"),
    RUNNING: ("cyan", ""),
}


def styled(line: str) -> RenderableType:
    """A described line for rich: its mark in colour, its text beside it, however often it wraps."""
    mark, _, text = line.partition(" ")
    text = text if mark else text.removeprefix(" ")
    mark_style, text_style = MARK_STYLES.get(mark, ("", ""))
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(mark or " ", mark_style), Text(text.replace("\n  ", "\n"), text_style, overflow="fold"))
    return grid


def spinner(now: float) -> str:
    """The picture of something going on."""
    return _FRAMES[int(now / FRAME_SECONDS) % len(_FRAMES)]


class LiveView:
    """Lines that scroll by, above one that says what is going on."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._progress = Progress(trio.current_time())

    async def show(self, event: Event) -> None:
        text = self._progress.take(event, trio.current_time())
        if text:
            self._live.console.print(styled(text))

    async def finish(self, outcome: TurnResult | errors.CodexError) -> None:
        self._live.stop()
        for line in describe_outcome(outcome, trio.current_time() - self._progress.started_at):
            self._live.console.print(styled(line))

    async def animate(self) -> None:
        """Keep the last line up to date."""
        while True:
            now = trio.current_time()
            state = Text(f"{spinner(now)} ", "cyan", no_wrap=True, overflow="ellipsis")
            state.append(f"{duration(now - self._progress.started_at)}  ", "dim")
            self._live.update(state.append(self._progress.now_doing, "default"), refresh=True)
            await trio.sleep(FRAME_SECONDS)


@asynccontextmanager
async def open_live_view() -> AsyncGenerator[LiveView]:
    """Open the view; leaving the block gives the terminal back as it was."""
    with Live(console=Console(highlight=False), auto_refresh=False, transient=True) as live:
        view = LiveView(live)
        async with open_private_nursery() as nursery:
            nursery.start_soon(view.animate)
            yield view
