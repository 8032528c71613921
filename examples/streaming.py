"""Follow a turn as it goes, and stop it after its first command."""

import trio

from codex_actors import Codex, ThreadOptions
from codex_actors.errors import TurnInterruptedError
from codex_actors.events import ItemCompleted, ItemStarted
from codex_actors.items import AgentMessage, CommandExecution


async def main() -> None:
    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
        try:
            async with thread.run_streamed("Look around.") as turn:
                async for event in turn:
                    match event:
                        case ItemStarted(item=CommandExecution(command=command)):
                            print("$", command)
                        case ItemCompleted(item=CommandExecution(exit_code=status)):
                            print("->", status)
                            turn.interrupt()
                        case ItemCompleted(item=AgentMessage(text=text)):
                            print(text)
                        case _:
                            pass
        except TurnInterruptedError as error:
            print("stopped; go on with thread", error.partial.thread_id)


if __name__ == "__main__":
    trio.run(main)
