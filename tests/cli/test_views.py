import json
import os
from pathlib import Path

import trio

from codex_actors import TurnResult, errors
from codex_actors.cli._output import Output
from codex_actors.cli._views import JsonView, PlainView, can_animate
from codex_actors.events import Event, ItemCompleted, ItemStarted, ThreadStarted, TurnStarted
from codex_actors.items import AgentMessage, CommandExecution

MAKE = CommandExecution(id="item_0", command="make")
EVENTS: list[Event] = [
    ThreadStarted(thread_id="t", raw=b'{"type":"thread.started","thread_id":"t"}'),
    TurnStarted(raw=b'{"type":"turn.started"}'),
    ItemStarted(item=MAKE, raw=b"{}"),
    ItemCompleted(
        item=CommandExecution(id="item_0", command="make", status="completed", exit_code=0), raw=b"{}"
    ),
    ItemCompleted(item=AgentMessage(id="item_1", text="Done.\nAll of it."), raw=b"{}"),
]
RESULT = TurnResult(thread_id="t")


async def shown(view_class: type[JsonView] | type[PlainView], path: Path) -> list[str]:
    with path.open("wb") as file:
        view = view_class(Output(file.fileno()))
        for event in EVENTS:
            await view.show(event)
        await view.finish(RESULT)
    return (await trio.Path(path).read_text()).splitlines()


async def test_the_json_view_writes_a_line_for_each_event_and_one_for_the_outcome(tmp_path: Path):
    lines = [json.loads(line) for line in await shown(JsonView, tmp_path / "out")]
    assert len(lines) == len(EVENTS) + 1
    assert [line.get("type") for line in lines] == [
        "thread.started",
        "turn.started",
        None,
        None,
        None,
        "result",
    ]


async def test_an_event_is_written_before_the_next_one_is_looked_at(tmp_path: Path):
    """Whoever reads us acts on events as they come."""
    reading, writing = os.pipe()
    view = JsonView(Output(writing))
    await view.show(EVENTS[0])
    assert os.read(reading, 1000) == b'{"type":"thread.started","thread_id":"t"}\n'
    os.close(reading)
    os.close(writing)


async def test_the_plain_view_says_what_begins_and_what_ends(tmp_path: Path, autojump_clock):
    assert await shown(PlainView, tmp_path / "out") == [
        "· thread t",
        "… $ make",
        "✓ $ make",
        "● Done.",
        "  All of it.",
        "✓ completed in 0.0 s; tokens: not counted",
        "· side effects: unknown",
    ]


async def test_the_plain_view_shows_a_failure(tmp_path: Path, autojump_clock):
    with (tmp_path / "out").open("wb") as file:
        await PlainView(Output(file.fileno())).finish(errors.CodexHomeError("/h", "is no directory"))
    assert (tmp_path / "out").read_text() == "✗ CodexHomeError after 0.0 s: CODEX_HOME /h is no directory\n"


def test_what_is_no_terminal_is_not_animated():
    assert not can_animate()
