"""One turn: ask, and print the answer and what it cost."""

import trio

from codex_actors import Codex, ThreadOptions


async def main() -> None:
    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
        result = await thread.run("What does this repository do?")
    print(result.final_response)
    print("tokens:", result.usage.turn)


if __name__ == "__main__":
    trio.run(main)
