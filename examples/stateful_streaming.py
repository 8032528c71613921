"""Keep what matters of many events in a state of your own, over all turns of a thread."""

from dataclasses import dataclass, field

import trio

from codex_actors import Codex, Thread, ThreadOptions
from codex_actors.events import Event, ItemCompleted, ItemStarted, TurnCompleted
from codex_actors.items import AgentMessage, CommandExecution, FileChange


@dataclass
class Work:
    """What was done so far, and what is being done now."""

    running: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    output_tokens: int = 0

    def apply(self, event: Event) -> None:
        """Take an event in. No I/O: so it can be tested with a list of events."""
        match event:
            case ItemStarted(item=CommandExecution(id=item_id, command=command)):
                self.running[item_id] = command
            case ItemCompleted(item=CommandExecution(id=item_id, command=command, exit_code=status)):
                self.running.pop(item_id, None)
                if status != 0:
                    self.failed.append(f"{command} -> {status}")
            case ItemCompleted(item=FileChange(changes=changes, status="completed")):
                self.files.update(change.path for change in changes)
            case ItemCompleted(item=AgentMessage(text=text)):
                self.said.append(text)
            case TurnCompleted(usage=usage):  # Codex counts over the whole thread
                self.output_tokens = usage.output_tokens
            case _:
                pass


async def follow(thread: Thread, prompt: str, work: Work) -> None:
    async with thread.run_streamed(prompt) as turn:
        async for event in turn:
            work.apply(event)
            if work.running:
                print("running:", *work.running.values())


async def main() -> None:
    work = Work()
    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="workspace-write"))
        await follow(thread, "Write a greeting to hello.txt.", work)
        await follow(thread, "Check it with a command.", work)
    print("files:", *sorted(path.rpartition("/")[2] for path in work.files))
    print("failed:", work.failed or "nothing")
    print(f"said: {' / '.join(work.said)}  ({work.output_tokens} tokens)")


if __name__ == "__main__":
    trio.run(main)
