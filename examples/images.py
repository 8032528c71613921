"""Ask about pictures: `python images.py screenshot.png another.png`."""

import sys

import trio

from codex_actors import Codex, LocalImage, Text, ThreadOptions
from codex_actors.errors import OptionError


async def main(*paths: str) -> None:
    if not paths:
        sys.exit(f"usage: {sys.argv[0]} PICTURE...")
    parts: list[Text | LocalImage] = [Text("What do these pictures show? One line for each.")]
    parts += map(LocalImage, paths)
    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only", ephemeral=True))
        try:
            print((await thread.run(parts)).final_response)
        except OptionError as error:  # Codex itself would go on without a picture that it cannot read
            sys.exit(f"{error.field}: {error.problem}")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
