"""Two agents, one that writes and one that reviews, until the reviewer has nothing against it.

Each has a thread of its own, and so a memory of its own. What they say to each other goes through the
program, which also decides when it is enough.
"""

from dataclasses import dataclass

import trio

from codex_actors import Codex, ThreadOptions

ROUNDS = 3


@dataclass
class Verdict:
    """What the reviewer says."""

    approved: bool
    objections: list[str]


async def main() -> None:
    async with Codex() as codex:
        author = codex.start_thread(ThreadOptions(sandbox="workspace-write"))
        reviewer = codex.start_thread(ThreadOptions(sandbox="read-only"))
        task = "Write a function fizzbuzz(n) in fizzbuzz.py."
        for round_number in range(1, ROUNDS + 1):
            written = await author.run(task)
            print(f"author    {written.final_response}")
            verdict = (await reviewer.run("Review fizzbuzz.py as it is now.", output_type=Verdict)).parsed
            if verdict.approved:
                print(f"reviewer  approved, in round {round_number}")
                return
            print("reviewer ", *verdict.objections)
            task = "The reviewer objects:\n" + "\n".join(verdict.objections)
        print("no agreement: somebody should look at fizzbuzz.py")


if __name__ == "__main__":
    trio.run(main)
