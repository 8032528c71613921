"""Every kind of item that a turn may consist of, and what of it is worth a line."""

from typing import assert_never

import trio

from codex_actors import Codex, CodexOptions, ThreadOptions
from codex_actors.events import Error, ItemCompleted, Noise, Unknown
from codex_actors.items import (
    AgentMessage,
    CollabToolCall,
    CommandExecution,
    FileChange,
    Item,
    McpToolCall,
    Reasoning,
    TodoList,
    WebSearch,
)
from codex_actors.items import Error as ErrorItem

# Codex plans only where it is told to.
PLANNING = CodexOptions(config={"tools": {"update_plan": {"enabled": True}}})


def line_for(item: Item) -> str:  # noqa: C901, PLR0911 - one case for each kind
    match item:
        case Reasoning(text=text):
            return f"thought      {text}"
        case CommandExecution(command=command, exit_code=status):
            return f"ran          {command} -> {status}"
        case FileChange(changes=changes, status=status):
            return f"files        {', '.join(f'{it.kind} {it.path}' for it in changes)} ({status})"
        case TodoList(items=steps):
            return f"plan         {sum(step.completed for step in steps)} of {len(steps)} done"
        case WebSearch(query=query):
            return f"searched     {query}"
        case McpToolCall(server=server, tool=tool, status=status):
            return f"called       {server}.{tool} ({status})"
        case CollabToolCall(tool=tool, receiver_thread_ids=others):
            return f"other agents {tool} ({len(others)})"
        case ErrorItem(message=message):  # a warning: the turn goes on
            return f"warning      {message}"
        case AgentMessage(text=text):
            return f"said         {text}"
        case _:
            assert_never(item)  # a checker says so here when there is a new kind


async def main() -> None:
    async with Codex(PLANNING) as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="workspace-write"))
        async with thread.run_streamed("Plan how to greet the world, then do it.") as turn:
            async for event in turn:
                match event:
                    case ItemCompleted(item=item):
                        print(line_for(item))
                    case Error(message=message):
                        print("retries     ", message)
                    case Unknown(reason=reason) | Noise(reason=reason):  # of a newer Codex, perhaps
                        print("not known   ", reason)
                    case _:
                        pass


if __name__ == "__main__":
    trio.run(main)
