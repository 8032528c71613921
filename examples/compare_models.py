"""Ask several models the same at once, and compare: `python compare_models.py gpt-5.5 gpt-5.5-mini`."""

import sys

import trio

from codex_actors import Codex, CodexError, ThreadOptions

QUESTION = "In one sentence: what does this repository do?"
MODELS = ("gpt-5.5", "gpt-5.5-mini")


async def ask(codex: Codex, model: str, lines: dict[str, str]) -> None:
    thread = codex.start_thread(ThreadOptions(sandbox="read-only", ephemeral=True, model=model))
    try:
        result = await thread.run(QUESTION)
    except CodexError as error:  # one that is not to be had takes none of the others with it
        lines[model] = f"{type(error).__name__}: {error}"
        return
    tokens = result.usage.turn.output_tokens if result.usage.turn else 0
    lines[model] = f"{result.timings.exit_seconds:5.1f} s {tokens:6} tokens  {result.final_response}"


async def main(*models: str) -> None:
    lines: dict[str, str] = {}
    async with Codex() as codex, trio.open_nursery() as nursery:
        for model in models:
            nursery.start_soon(ask, codex, model, lines)
    for model in models:
        print(f"{model:16} {lines[model]}")


if __name__ == "__main__":
    trio.run(main, *(sys.argv[1:] or MODELS))
