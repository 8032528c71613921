"""Runs ``codex-actors`` as a person or a program would: as a process of its own."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from codex_actors.testing import CodexHome

COMMAND = (sys.executable, "-m", "codex_actors")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of JSON."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        """The last line of JSON."""
        return self.lines[-1]


@dataclass(frozen=True)
class Command:
    """Starts ``codex-actors`` with a home and in a workspace.

    Attributes:
        codex: The real Codex.
        home: Its home.
        workspace: Where the command is run.
    """

    codex: Path
    home: CodexHome
    workspace: Path

    async def run(
        self,
        *arguments: str,
        prompt: str | None = "do it",
        stdin: bytes = b"",
        codex: Path | None = None,
        command: Sequence[str] = COMMAND,
        **env: str,
    ) -> Ended:
        """Run one turn to its end, outside a git repository and without a sandbox."""
        words = (*command, *self.arguments(*arguments, prompt=prompt, codex=codex))
        with trio.fail_after(60):
            done = await trio.run_process(
                words,
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                cwd=self.workspace,
                env={**self.env, **env},
            )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def arguments(
        self, *arguments: str, prompt: str | None = "do it", codex: Path | None = None
    ) -> list[str]:
        fixed = (
            "--codex",
            str(codex or self.codex),
            "--skip-git-repo-check",
            "--sandbox",
            "danger-full-access",
        )
        return ["run", *fixed, *arguments, *(() if prompt is None else (prompt,))]

    @property
    def env(self) -> dict[str, str]:
        """What the command finds in its environment, NO_COLOR and the like not among it."""
        return {**self.bare_env, **_COVERAGE}

    @property
    def bare_env(self) -> dict[str, str]:
        """The same without coverage, which swallows a Ctrl-C that comes while it is imported."""
        home = {"HOME": str(self.home.path), **self.home.environment}
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **home}

    @property
    def locks(self) -> list[Path]:
        """The lock files that are left."""
        return list((self.home.path / "codex-actors-locks").glob("*"))


# Whatever coverage needs to count children of ours.
_COVERAGE = {name: value for name, value in os.environ.items() if name.startswith("COV")}


async def signal_twice(process: trio.Process, number: signal.Signals) -> None:
    """As somebody impatient does."""
    with suppress(ProcessLookupError):
        process.send_signal(number)
        await trio.sleep(0.005)
        process.send_signal(number)
