"""A conversation: each turn knows of those before it, and each has its own share of the tokens."""

import trio

from codex_actors import Codex, ThreadOptions

PROMPTS = (
    "Which file here would you read first?",
    "Why that one?",
    "Say it in one word.",
)


async def main() -> None:
    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
        for prompt in PROMPTS:
            result = await thread.run(prompt)
            print(f"> {prompt}\n{result.final_response}")
            if result.usage.turn and result.usage.thread:
                turn, all_of_it = result.usage.turn, result.usage.thread
                print(f"  {turn.output_tokens} tokens of output, {all_of_it.output_tokens} so far\n")
        print("go on later with thread", thread.id)


if __name__ == "__main__":
    trio.run(main)
