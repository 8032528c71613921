import io

import pytest
import trio
from rich.console import Console
from rich.live import Live

from codex_actors import TurnResult
from codex_actors._nursery import open_private_nursery
from codex_actors.cli._live import LiveView, styled
from codex_actors.events import ItemCompleted, ItemStarted, ThreadStarted
from codex_actors.items import AgentMessage, CommandExecution

LONG = "a message that is longer than a narrow terminal is wide"


def terminal(width: int) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=40, force_terminal=True, color_system=None, highlight=False
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_that_wraps_stays_right_of_its_mark():
    console = terminal(30)
    console.print(styled(f"● {LONG}\n  second"))
    first, *others = written(console).rstrip("\n").split("\n")
    assert first.startswith("● a message")
    assert all(line.startswith("  ") for line in others)
    assert others[-1].strip() == "second"


def test_a_line_without_a_mark_stands_where_texts_stand():
    console = terminal(40)
    console.print(styled("  turn  outcome"))
    assert written(console) == "  turn  outcome\n"


@pytest.mark.parametrize("width", [20, 80])
async def test_what_is_done_scrolls_by_above_what_is_going_on(width: int, autojump_clock):
    console = terminal(width)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        view = LiveView(live)
        async with open_private_nursery() as nursery:
            nursery.start_soon(view.animate)
            await view.show(ThreadStarted(thread_id="t"))
            await view.show(ItemStarted(item=CommandExecution(id="item_0", command="sleep 5")))
            await trio.sleep(5)
            await view.show(ItemCompleted(item=AgentMessage(id="item_1", text="done")))
            await view.finish(TurnResult(thread_id="t"))
    text = written(console)
    assert text.index("· thread t") < text.index("5.0 s") < text.index("● done") < text.index("✓ completed")
    assert "$ sl" in text
    assert all(len(line) <= width for line in text.replace("\r", "\n").split("\n") if "\x1b" not in line)
