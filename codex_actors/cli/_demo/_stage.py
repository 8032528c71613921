# Where the demo is played: one directory that holds a project with a bug, a home for Codex and all
# temporary files, so that what is left can be looked for.

import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from codex_actors._janitor import open_directory
from codex_actors.cli._demo._story import FILES, TEST


class Stage(NamedTuple):
    """Its places."""

    root: Path

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def codex_home(self) -> Path:
        return self.root / "codex-home"

    @property
    def temporary(self) -> Path:
        """For temporary files of Codex and whatever it starts."""
        return self.codex_home / "tmpdir"


@contextmanager
def open_stage(*, keep: bool) -> Generator[Stage]:
    """Make the directory; leaving removes it, unless it is to be kept."""
    if keep:  # without an owner in its name, who would be dead soon
        yield Stage(Path(tempfile.mkdtemp(prefix="codex-actors-demo-")))
        return
    with open_directory("demo") as root:
        yield Stage(root)


async def make_project(stage: Stage) -> None:
    """Make the project, a git repository."""
    stage.project.mkdir()
    for name, content in FILES.items():
        (stage.project / name).write_text(content)
    await _git(stage.project, "init", "--quiet", "--template=")
    await _git(stage.project, "add", ".")
    await _git(stage.project, "commit", "--quiet", "--message", "Add up baskets")


async def changes(stage: Stage) -> str:
    """What has changed in the project, as ``git status --porcelain`` says it."""
    return await _git(stage.project, "status", "--porcelain", "--ignored")


async def _git(project: Path, *arguments: str) -> str:
    """Run git as if nobody had configured it: no hooks, no signatures, no names to be asked for."""
    settings = ("user.name=demo", "user.email=demo@example.invalid", "commit.gpgsign=false")
    options = [word for setting in settings for word in ("-c", setting)]
    done = await trio.run_process(
        ["git", *options, *arguments],
        cwd=project,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        capture_stdout=True,
    )
    return done.stdout.decode()


async def run_tests(stage: Stage) -> int:
    """Run the project's tests, ourselves and outside Codex; returns their exit status."""
    quiet = subprocess.DEVNULL
    done = await trio.run_process(TEST, cwd=stage.project, stdout=quiet, stderr=quiet, check=False)
    return done.returncode


async def sandbox_works(stage: Stage, codex: str) -> bool:
    """Whether Codex's sandbox can work on this machine."""
    quiet = subprocess.DEVNULL
    done = await trio.run_process(
        [codex, "sandbox", "--", "true"],
        cwd=stage.project,
        env={**os.environ, "CODEX_HOME": str(stage.codex_home), "TMPDIR": str(stage.temporary)},
        stdout=quiet,
        stderr=quiet,
        check=False,
    )
    return done.returncode == 0
