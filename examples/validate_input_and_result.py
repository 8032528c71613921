"""Believe neither what goes in nor what comes out: check both, and say what is wrong with each."""

import re
import sys
from dataclasses import dataclass

import trio

from codex_actors import Codex, Thread, ThreadOptions
from codex_actors.errors import InvalidOutputError, OptionError

VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass
class Release:
    """What comes next, as Codex sees it."""

    version: str
    reason: str
    is_breaking: bool


def problem_of(release: Release, current: str) -> str | None:
    """What a schema cannot say. None if all is well."""
    if not VERSION.fullmatch(release.version):
        return f"{release.version!r} is not of the form 1.2.3"
    if release.is_breaking and release.version.partition(".")[0] == current.partition(".")[0]:
        return "a breaking change needs a new first number"
    return None


async def next_release(thread: Thread, current: str, *, attempts: int = 3) -> Release:
    """Ask, and say what is wrong with the answer until nothing is."""
    prompt = f"This is version {current}. Which one should come next?"
    for _ in range(attempts):
        release = (await thread.run(prompt, output_type=Release)).parsed
        problem = problem_of(release, current)
        if problem is None:
            return release
        print("not accepted:", problem)
        prompt = f"That cannot be: {problem}. Answer again."
    raise ValueError(f"no usable answer in {attempts} attempts")


async def main(current: str) -> None:
    if not VERSION.fullmatch(current):
        sys.exit(f"{current!r} is no version")  # checked before it is put into a prompt
    async with Codex() as codex:
        for directory in ("no-such-directory", "."):
            try:
                thread = codex.start_thread(ThreadOptions(sandbox="read-only", cwd=directory))
                print(await next_release(thread, current))
            except OptionError as error:  # nothing was started, and it says which field is wrong
                print("refused:", error.field, "-", error.problem)
            except InvalidOutputError as error:
                print("not what was asked for:", error.problem)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "1.2.3")
