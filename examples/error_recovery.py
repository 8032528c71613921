"""Get over failures: ask again where that can do nothing twice, else go on where the turn was cut off."""

import trio

from codex_actors import Codex, CodexError, SideEffects, ThreadOptions, TurnResult
from codex_actors.errors import SetupError, TurnError

OPTIONS = ThreadOptions(sandbox="workspace-write")
GO_ON = "You were cut off. Look at what is done already, and finish it."


async def run(codex: Codex, prompt: str, *, attempts: int = 4, wait_seconds: float = 1) -> TurnResult:
    """Run a turn, over failures that may pass.

    Raises:
        CodexError: The last failure, or one that will not pass by itself.
    """
    thread = codex.start_thread(OPTIONS)
    for attempt in range(1, attempts):
        try:
            return await thread.run(prompt)
        except TurnError as error:
            if not error.retryable:
                raise  # the key, the plan, the request: somebody has to change something
            print(
                f"attempt {attempt}: {type(error).__name__}, side effects {error.partial.side_effects.value}"
            )
            if error.partial.side_effects is SideEffects.NONE or error.partial.thread_id is None:
                thread = codex.start_thread(OPTIONS)  # nothing was done: from the beginning
            else:
                thread = codex.resume_thread(error.partial.thread_id, OPTIONS)
                prompt = GO_ON
        await trio.sleep(wait_seconds * 2 ** (attempt - 1))
    return await thread.run(prompt)


async def main() -> None:
    async with Codex() as codex:
        try:
            result = await run(codex, "Write a greeting to hello.txt.")
        except SetupError as error:
            print("this machine cannot run Codex:", error)
        except CodexError as error:
            print("gave up:", type(error).__name__, error)
        else:
            print(result.final_response)


if __name__ == "__main__":
    trio.run(main)
