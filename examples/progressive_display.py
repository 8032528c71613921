"""Show how far a turn is, in one line that changes, with a clock beside it."""

import sys

import trio

from codex_actors import Codex, CodexOptions, ThreadOptions
from codex_actors.events import Event, ItemCompleted, ItemStarted, ItemUpdated
from codex_actors.items import CommandExecution, FileChange, TodoList

PLANNING = CodexOptions(config={"tools": {"update_plan": {"enabled": True}}})
WIDTH = 20


class Display:
    """One line: a bar for the plan, what is being done, and the seconds."""

    def __init__(self) -> None:
        self._began = trio.current_time()
        self._done = 0.0
        self._doing = "thinking"

    def hear(self, event: Event) -> None:
        """Learn from an event, and show it."""
        match event:
            case ItemStarted(item=TodoList(items=steps)) | ItemUpdated(item=TodoList(items=steps)) if steps:
                self._done = sum(step.completed for step in steps) / len(steps)
                self._doing = next((step.text for step in steps if not step.completed), "finishing")
            case ItemStarted(item=CommandExecution(command=command)):
                self._doing = f"$ {command}"
            case ItemCompleted(item=FileChange(changes=changes)):
                self._doing = f"{len(changes)} files changed"
            case _:
                return
        self.show()

    def show(self) -> None:
        """Show the line, over the one before where that can be."""
        bar = ("#" * round(self._done * WIDTH)).ljust(WIDTH, ".")
        line = f"[{bar}] {trio.current_time() - self._began:3.0f} s  {self._doing}"
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line[:78]}", end="", flush=True)
        else:  # a log keeps every line
            print(line)

    async def tick(self) -> None:
        """Let the clock go on while Codex says nothing."""
        while True:
            await trio.sleep(1)
            self.show()


async def main() -> None:
    async with Codex(PLANNING) as codex, trio.open_nursery() as nursery:
        thread = codex.start_thread(ThreadOptions(sandbox="workspace-write"))
        display = Display()
        nursery.start_soon(display.tick)
        async with thread.run_streamed("Plan how to greet the world, then do it.") as turn:
            async for event in turn:
                display.hear(event)
        nursery.cancel_scope.cancel()
    print(f"\n{turn.result.final_response}")


if __name__ == "__main__":
    trio.run(main)
