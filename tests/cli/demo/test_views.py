from pathlib import Path

import trio

from codex_actors.cli._demo._story import CANCEL, INSPECT, PARTS
from codex_actors.cli._demo._views import PlainDemoView, open_demo_view
from codex_actors.cli._output import Output
from codex_actors.events import ItemCompleted, ItemStarted, TurnStarted
from codex_actors.items import AgentMessage, CommandExecution
from tests.cli.demo.plays import AS_IT_SHOULD


async def test_each_line_says_when_it_was_and_whose_it_is(tmp_path: Path, autojump_clock):
    with (tmp_path / "out").open("wb") as file:
        view = PlainDemoView(Output(file.fileno()))
        await trio.sleep(5)
        await view.begin_turns(PARTS)
        await view.show(INSPECT, TurnStarted())
        await view.show(CANCEL, ItemStarted(item=CommandExecution(id="item_0", command="ls")))
        await trio.sleep(12)
        await view.show(INSPECT, ItemCompleted(item=AgentMessage(id="item_0", text="one\ntwo")))
        await view.tell(CANCEL, "! we cancel it")
        await view.settle(INSPECT, AS_IT_SHOULD["inspect"])
        await view.end_turns()
        await view.say("")
        await view.tabulate([(" ", "name", "state"), ("✓", "a", ""), ("✗", "longer", "down")])
    assert (tmp_path / "out").read_text().splitlines() == [
        " 0.0 s  cancel  | … $ ls",
        "12.0 s  inspect | ● one",
        "12.0 s  inspect |   two",
        "12.0 s  cancel  | ! we cancel it",
        "12.0 s  inspect | ✓ completed in 2.0 s; tokens: 300 in, 30 out",
        "12.0 s  inspect | · side effects: none",
        "",
        "  name    state",
        "✓ a",
        "✗ longer  down",
    ]


async def test_where_there_is_no_terminal_the_demo_is_plain(capfd):
    async with open_demo_view() as view:
        assert isinstance(view, PlainDemoView)
