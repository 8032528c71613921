import io
import re

import pytest
import trio
from rich.console import Console
from rich.live import Live

from codex_actors._nursery import open_private_nursery
from codex_actors.cli._demo._live import LiveDemoView
from codex_actors.cli._demo._outcomes import Played
from codex_actors.cli._demo._story import CANCEL, INSPECT, KILL, PARTS, REPAIR
from codex_actors.events import ItemCompleted, ItemStarted, TurnStarted
from codex_actors.items import AgentMessage, CommandExecution
from tests.cli.demo.plays import AS_IT_SHOULD, CUT_SHORT


def terminal(width: int) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=40, force_terminal=True, color_system=None, highlight=False
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [44, 80, 120])
async def test_it_shows_at_any_width_what_is_done_and_how_all_turns_do(width: int, autojump_clock):
    console = terminal(width)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        view = LiveDemoView(live)
        async with open_private_nursery() as nursery:
            nursery.start_soon(view.animate)
            await trio.sleep(5)
            assert "╭" not in written(console), "there is nothing to be seen yet"
            await view.begin_turns(PARTS)
            await view.show(KILL, TurnStarted())
            await view.show(INSPECT, ItemCompleted(item=AgentMessage(id="item_0", text="I inspect")))
            await view.show(CANCEL, ItemStarted(item=CommandExecution(id="item_1", command="sleep 600")))
            await trio.sleep(1)
            await view.settle(INSPECT, AS_IT_SHOULD["inspect"])
            await view.settle(REPAIR, Played(CUT_SHORT, 0.0, 1.0, None))
            await trio.sleep(1)
            await view.end_turns()
        table = written(console).rpartition("╭─")[2]
        await view.say("✓ all is well")
        await view.tabulate(
            [(" ", "a long name", "one", "other", "state"), ("✗", "x" * 20, "y" * 12, "z" * 12, "gone")]
        )
    text = written(console)
    assert all(len(line) <= width for line in text.replace("\r", "\n").split("\n") if "\x1b" not in line)
    assert " 0.0 s inspect ● I inspect" in text
    assert " 1.0 s inspect ✓ completed in" in text
    inspect, repair, report, cancel, kill, summary, *_ = table.split("\n")[1:]
    is_wide = width > 44
    assert ("● completed" in re.sub(" +", " ", inspect), "300 in, 30 out" in inspect) == (is_wide, is_wide)
    assert "2.0 s" in inspect
    assert "✗ repair" in repair
    assert "StreamTruncated" in repair
    assert "starting Codex" in report
    assert "$ sleep 600" in cancel
    assert "thinking" in kill
    assert "2 of 5 over; 300 in, 30 out; " in summary
    assert "✓ all is well" in text
    [row] = re.findall(r"✗ x{20} .*gone", text)
    assert row
