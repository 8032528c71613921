"""Hear what turns do: count tokens and seconds over many of them, whoever runs them."""

from collections import Counter
from contextlib import suppress

import trio

from codex_actors import Codex, CodexError, Telemetry, ThreadOptions
from codex_actors.telemetry import Event, ItemCompleted, TurnException, TurnStop

QUESTIONS = ["What is this repository for?", "Which command runs the tests?", "What would you refuse?"]


class Totals:
    """What turns came to, all together."""

    def __init__(self) -> None:
        self.endings = Counter[str]()
        self.items = Counter[str]()
        self.output_tokens = 0
        self.seconds = 0.0

    def hear(self, event: Event) -> None:
        """Count what an event says."""
        match event:
            case TurnStop(duration=seconds, usage=usage):
                self.endings["completed"] += 1
                self.seconds += seconds
                if usage.turn is not None:
                    self.output_tokens += usage.turn.output_tokens
            case TurnException(duration=seconds, error=error):
                self.endings[error] += 1
                self.seconds += seconds
            case ItemCompleted(item_type=item_type):
                self.items[item_type] += 1
            case _:
                pass


async def ask(codex: Codex, question: str) -> None:
    with suppress(CodexError):  # this program only counts them
        await codex.start_thread(ThreadOptions(sandbox="read-only")).run(question)


async def main() -> None:
    totals = Totals()
    telemetry = Telemetry()
    telemetry.attach(("codex",), totals.hear)
    async with Codex(telemetry=telemetry) as codex, trio.open_nursery() as nursery:
        for question in QUESTIONS:
            nursery.start_soon(ask, codex, question)
    print("turns:", dict(totals.endings))
    print("items:", dict(totals.items))
    print(f"output tokens: {totals.output_tokens}, seconds: {totals.seconds:.1f}")


if __name__ == "__main__":
    trio.run(main)
