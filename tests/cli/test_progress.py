from codex_actors.cli._progress import Progress
from codex_actors.events import ItemCompleted, ItemStarted, ThreadStarted, TurnCompleted, TurnStarted, Usage
from codex_actors.items import AgentMessage, CommandExecution


def command(status: str = "in_progress", id_: str = "item_0") -> CommandExecution:
    return CommandExecution(id=id_, command=f"make {id_}", status=status)


def test_it_says_what_is_going_on_at_every_stage():
    progress, said = Progress(0), []
    for event in (
        ThreadStarted(thread_id="t"),
        TurnStarted(),
        ItemStarted(item=command()),
        ItemStarted(item=command(id_="item_1")),
        ItemCompleted(item=command("completed")),
        ItemCompleted(item=command("completed", "item_1")),
        TurnCompleted(usage=Usage()),
    ):
        progress.take(event, 0)
        said.append(progress.now_doing)
    assert said == [
        "starting Codex",
        "thinking",
        "$ make item_0",
        "$ make item_0, $ make item_1",
        "$ make item_1",
        "thinking",
        "ending",
    ]


def test_what_took_long_says_how_long_on_its_first_line():
    progress = Progress(0)
    progress.take(ItemStarted(item=command()), 10)
    failed = CommandExecution(
        id="item_0", command="make", status="failed", exit_code=1, aggregated_output="bad"
    )
    assert progress.take(ItemCompleted(item=failed), 12.5) == "✗ $ make (exit 1)  2.5 s\n    bad"


def test_what_took_no_time_says_nothing_of_it():
    progress = Progress(0)
    progress.take(ItemStarted(item=command()), 10)
    assert progress.take(ItemCompleted(item=command("completed")), 10.2) == "✓ $ make item_0"


def test_an_item_that_never_began_took_no_time():
    assert Progress(0).take(ItemCompleted(item=command("completed")), 99) == "✓ $ make item_0"


def test_what_has_no_name_is_not_going_on():
    progress = Progress(0)
    progress.take(ItemStarted(item=AgentMessage(id="item_0", text="")), 0)
    assert progress.now_doing == "starting Codex"
