"""Somebody who does what the documentation says."""

import os
import re
import sys
from pathlib import Path

import msgspec
import trio

from codex_actors.testing import CodexHome, Scenario

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
RUN_BY_HAND = re.compile(r"python (\w+\.py|-m pytest)")


class Block(msgspec.Struct, frozen=True):
    """A piece of a page that is set apart.

    Attributes:
        language: What it is written in.
        text: What is in it.
        reason: Why it is not run; None if it is.
    """

    language: str
    text: str
    reason: str | None

    @property
    def file(self) -> str | None:
        """The file that its first line names, as in ``# reviewer.py``."""
        named = re.match(r"# ([\w.]+\.\w+)\n", self.text)
        return named[1] if named else None


def blocks(page: Path) -> list[Block]:
    """What a page sets apart, in order."""
    found = BLOCK.finditer(page.read_text())
    return [Block(it["language"], it["text"], it["reason"]) for it in found]


class Reader:
    """Somebody who does what a page says, in a git repository, with `codex` on their PATH.

    Args:
        model: What answers them.
        home: Their CODEX_HOME.
        codex: The real Codex.
        workspace: Their repository.
    """

    def __init__(self, model: Scenario, home: CodexHome, codex: Path, workspace: Path) -> None:
        self.model = model
        self.workspace = workspace
        ours = f"{codex.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {
            **os.environ,
            **home.environment,
            "HOME": str(home.path),
            "PATH": ours,
            "CODEX_ACTORS_TEST_BINARY": str(codex),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    async def run(self, *command: str) -> str:
        """Run a command and return what it wrote."""
        with trio.fail_after(60):
            done = await trio.run_process(
                command, cwd=self.workspace, env=self.env, capture_stdout=True, check=False
            )
        output = done.stdout.decode()
        assert done.returncode == 0, output  # its stderr is in the test's own
        return output

    async def run_program(self, program: str) -> str:
        """Run a Python program and return what it wrote."""
        return await self.run(sys.executable, "-c", program)

    async def follow(self, block: Block) -> str | None:
        """Save what is a file; run a program, or a command that runs one; return what was written."""
        if block.file:
            (self.workspace / block.file).write_text(block.text)
        elif block.language == "python" and not block.reason:
            return await self.run_program(block.text)
        elif block.language == "sh" and RUN_BY_HAND.match(block.text):
            return await self.run("bash", "-ec", block.text)
        return None
