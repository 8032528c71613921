"""Runs the real Codex against a scripted model, and compares what it says with what was recorded."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from codex_actors.testing import CodexHome

Event = dict[str, Any]

CAPTURES = Path(__file__).parent.parent / "captures"


@dataclass(frozen=True)
class Run:
    """One finished ``codex exec --json``."""

    events: list[Event]
    exit_code: int
    stderr: str


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty directory for the model to work in."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def run_codex(codex_binary: Path, workspace: Path) -> Callable[..., Any]:
    """Runs one turn in the workspace; see `_run_codex`."""
    return partial(_run_codex, codex_binary, workspace)


async def _run_codex(
    binary: Path,
    workspace: Path,
    home: CodexHome,
    *arguments: str,
    prompt: str = "do it",
    sandbox: str = "danger-full-access",
) -> Run:
    options = ["--json", "--skip-git-repo-check", "--sandbox", sandbox]
    with trio.fail_after(60):
        done = await trio.run_process(
            [str(binary), "exec", *options, *arguments],
            stdin=prompt.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=workspace,
            env=child_environment(home),
        )
    return Run(read_events(done.stdout), done.returncode, done.stderr.decode())


def child_environment(home: CodexHome) -> dict[str, str]:
    """The least that Codex and its commands need."""
    return {"PATH": os.environ["PATH"], "HOME": str(home.path), **home.environment}


def read_events(stdout: bytes) -> list[Event]:
    return [json.loads(line) for line in stdout.split(b"\n") if line]
