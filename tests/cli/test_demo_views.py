from pathlib import Path

from codex_actors import TurnResult
from codex_actors.cli._demo_story import CANCEL, INSPECT, PARTS
from codex_actors.cli._demo_views import PlainDemoView, open_demo_view
from codex_actors.cli._output import Output
from codex_actors.events import ItemCompleted, ItemStarted, TurnStarted
from codex_actors.items import AgentMessage, CommandExecution


async def test_each_line_says_whose_it_is(tmp_path: Path, autojump_clock):
    with (tmp_path / "out").open("wb") as file:
        view = PlainDemoView(Output(file.fileno()), PARTS)
        await view.show(INSPECT, TurnStarted())
        await view.show(CANCEL, ItemStarted(item=CommandExecution(id="item_0", command="ls")))
        await view.show(INSPECT, ItemCompleted(item=AgentMessage(id="item_0", text="one\ntwo")))
        await view.settle(INSPECT, TurnResult(thread_id="t"))
        await view.end_turns()
        await view.say("✓ all is well")
    assert (tmp_path / "out").read_text().splitlines() == [
        "cancel  | … $ ls",
        "inspect | ● one",
        "inspect |   two",
        "inspect | ✓ completed in 0.0 s; tokens: not counted",
        "inspect | · side effects: unknown",
        "",
        "✓ all is well",
    ]


async def test_where_there_is_no_terminal_the_demo_is_plain(capfd):
    async with open_demo_view(PARTS) as view:
        assert isinstance(view, PlainDemoView)
