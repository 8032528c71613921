"""Have a repository reviewed, and get the review as objects."""

from dataclasses import dataclass, field
from typing import Literal

import trio

from codex_actors import Codex, ThreadOptions
from codex_actors.errors import InvalidOutputError


@dataclass
class Finding:
    """Something that is wrong."""

    file: str
    problem: str
    severity: Literal["low", "medium", "high"]
    line: int | None = None


@dataclass
class Review:
    """A code review."""

    summary: str
    findings: list[Finding] = field(default_factory=list)


async def main() -> None:
    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
        try:
            review = (await thread.run("Review this repository.", output_type=Review)).parsed
        except InvalidOutputError as error:
            print("no review:", error.problem)
            return
        print(review.summary)
        for finding in sorted(review.findings, key=lambda it: ("high", "medium", "low").index(it.severity)):
            print(f"{finding.severity}: {finding.file}:{finding.line or '-'} {finding.problem}")


if __name__ == "__main__":
    trio.run(main)
