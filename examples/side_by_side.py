"""Three turns at once; one that fails takes none of the others with it."""

import trio

from codex_actors import Codex, CodexError, ThreadOptions

QUESTIONS = ("What is tested here?", "What is documented here?", "What is missing here?")


async def ask(codex: Codex, question: str) -> None:
    thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
    try:
        result = await thread.run(question)
    except CodexError as error:
        print(f"{question} {type(error).__name__}: {error}")
    else:
        print(f"{question} {result.final_response}")


async def main() -> None:
    async with Codex() as codex, trio.open_nursery() as nursery:
        for question in QUESTIONS:
            nursery.start_soon(ask, codex, question)


if __name__ == "__main__":
    trio.run(main)
