"""The scripted model in a process of its own: says its URL, ends with its stdin."""

import sys

import trio

from codex_actors.testing import hang, message, on, open_model_server


async def main() -> None:
    async with open_model_server() as model:
        scenario = model.script("bench", on("hello", message("hi")), on("wait", hang()))
        sys.stdout.write(scenario.url + "\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    trio.run(main)
