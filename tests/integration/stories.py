"""Plays a story on the real Codex, and compares what it said with what was recorded.

A story has the name of a capture. The model's part is scripted; Codex's part is the real binary.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from codex_actors.testing import CodexHome, On, Step
from tests.capture_files import CAPTURES, Capture

Event = dict[str, Any]

# The captures that stand for a version which has none of its own.
REFERENCE_VERSION = "0.169.0"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SEARCH_ID = re.compile(r"ws_\w+")
_MODEL_URL = re.compile(r"http://127\.0\.0\.1:\d+/s/[^/]+/v1")
_RECORDED_DIRECTORIES = re.compile(r"/home/dev/(project|tools/run/work/\w+)")


@dataclass(frozen=True)
class Story:
    """What is played.

    Attributes:
        steps: What the model says.
        arguments: More arguments of ``codex exec``.
        sandbox: What ``--sandbox`` gets; None leaves it out.
        files: What lies in the workspace.
        home: More keywords of `codex_home`.
        prompt: What Codex is asked.
        stop: As soon as stdout holds these bytes, Codex gets this signal.
    """

    steps: tuple[Step | On, ...]
    arguments: tuple[str, ...] = ()
    sandbox: str | None = "danger-full-access"
    files: Mapping[str, str] = field(default_factory=dict)
    home: Mapping[str, object] = field(default_factory=dict)
    prompt: str = "do it"
    stop: tuple[bytes, signal.Signals] | None = None


@dataclass(frozen=True)
class Run:
    """One finished ``codex exec --json``."""

    stdout: bytes
    exit_code: int
    stderr: str
    workspace: Path

    @property
    def events(self) -> list[Event]:
        return read_events(self.stdout)

    @property
    def masked(self) -> list[Event]:
        return read_events(mask(self.stdout, str(self.workspace)))


@dataclass(frozen=True)
class Codex:
    """The real binary, at work in a workspace."""

    binary: Path
    workspace: Path

    async def run(
        self,
        home: CodexHome,
        *arguments: str,
        sandbox: str | None = "danger-full-access",
        prompt: str = "do it",
        stop: tuple[bytes, signal.Signals] | None = None,
    ) -> Run:
        """Runs ``codex exec --json`` from prompt to exit; cancelling kills it.

        Args:
            home: Its CODEX_HOME.
            *arguments: More arguments.
            sandbox: What ``--sandbox`` gets; None leaves it out.
            prompt: What its stdin gets.
            stop: As soon as its stdout holds these bytes, it gets this signal.
        """
        options = ("--json", "--skip-git-repo-check", *(() if sandbox is None else ("--sandbox", sandbox)))
        command = [str(self.binary), "exec", *options, *arguments]
        start = partial(
            trio.run_process,
            command,
            stdin=prompt.encode(),
            stdout=subprocess.PIPE,
            capture_stderr=True,
            check=False,
            cwd=self.workspace,
            env={"PATH": os.environ["PATH"], "HOME": str(home.path), **home.environment},
        )
        stdout = bytearray()
        done: list[subprocess.CompletedProcess[bytes]] = []

        async def run(task_status: trio.TaskStatus[trio.Process]) -> None:
            done.append(await start(task_status=task_status))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                process = await nursery.start(run)
                async for chunk in process.stdout:
                    stdout += chunk
                    if stop is not None and stop[0] in stdout:
                        process.send_signal(stop[1])
        return Run(bytes(stdout), done[0].returncode, done[0].stderr.decode(), self.workspace)


def read_events(stdout: bytes) -> list[Event]:
    return [json.loads(line) for line in stdout.split(b"\n") if line]


def mask(stdout: bytes, workspace: str) -> bytes:
    """Replaces what two runs of one story can never have in common, and nothing else.

    Thread ids and web search ids become the number of their first appearance, so that equal stays equal
    and different stays different. The model's URL (port and scenario) and the workspace's path become a
    word. Of a command's output the lines are sorted: which of stdout and stderr comes first is chance.
    """
    text = stdout.decode().replace(workspace, "<workspace>")
    text = _RECORDED_DIRECTORIES.sub("<workspace>", text)
    text = _MODEL_URL.sub("<model>", text)
    text = _numbered(_UUID, "thread", text)
    text = _numbered(_SEARCH_ID, "search", text)
    return b"\n".join(json.dumps(_sorted_output(event)).encode() for event in read_events(text.encode()))


def _numbered(pattern: re.Pattern[str], word: str, text: str) -> str:
    found = list(dict.fromkeys(pattern.findall(text)))
    return pattern.sub(lambda match: f"<{word} {found.index(match[0])}>", text)


def _sorted_output(event: Event) -> Event:
    item = event.get("item", {})
    if "aggregated_output" in item:
        item["aggregated_output"] = "".join(sorted(item["aggregated_output"].splitlines(keepends=True)))
    return event


def recorded(name: str, version: str) -> Capture:
    """The capture of a story, of this version if there is one."""
    captures = {capture.name: capture for capture in CAPTURES}
    return captures.get(f"{name}.{version}") or captures[f"{name}.{REFERENCE_VERSION}"]


def recorded_events(name: str, version: str) -> list[Event]:
    return read_events(mask(recorded(name, version).stdout, "<workspace>"))
