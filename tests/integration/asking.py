"""Runs the command line that options become on the real Codex, and keeps what came of it."""

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from codex_actors._process import open_anonymous_file
from codex_actors.backends import NewThread, Start, TurnRequest
from codex_actors.backends._argv import build_command
from codex_actors.backends._home import find_rollout, read_config_files
from codex_actors.options import CodexOptions, ThreadOptions, TurnOptions
from codex_actors.testing import CodexHome, ModelServer, Scenario, Step, message


@dataclass(frozen=True)
class Answer:
    """What came of one turn.

    Attributes:
        exit_code: Codex's exit status.
        events: What it wrote to stdout.
        stderr: What it wrote to stderr.
        scenario: What the model was asked.
        home: Codex's home.
    """

    exit_code: int
    events: list[dict[str, Any]]
    stderr: str
    scenario: Scenario
    home: Path

    @property
    def asked(self) -> Any:
        """The request to the model that came last."""
        return self.scenario.requests[-1]

    @property
    def output(self) -> str:
        """What the model's last command wrote."""
        return str(self.asked.tool_outputs[-1])

    @property
    def thread_id(self) -> str:
        """The thread that it was."""
        return str(self.events[0]["thread_id"])

    @property
    def record(self) -> Path | None:
        """The file that Codex keeps about the thread."""
        return find_rollout(self.home, self.thread_id)

    def recorded(self, kind: str) -> dict[str, Any]:
        """What the record says last of a kind, as in ``turn_context``."""
        assert self.record
        lines = map(json.loads, self.record.read_text().splitlines())
        payloads: list[dict[str, Any]] = [line["payload"] for line in lines if line["type"] == kind]
        return payloads[-1]


@dataclass
class Asking:
    """Asks the real Codex, in one workspace and one home.

    Attributes:
        binary: Codex.
        model: The scripted model.
        scenario: What the model says.
        home: A home that leads to it.
        workspace: Where the threads work, and Codex is started.
    """

    binary: Path
    model: ModelServer
    scenario: Scenario
    home: CodexHome
    workspace: Path

    def write_rule(self, command: str, decision: str) -> None:
        """Writes the user's rule about a command."""
        rules = self.home.path / "rules" / "default.rules"
        rules.parent.mkdir()
        rules.write_text(f'prefix_rule(pattern=["{command}"], decision="{decision}")\n')

    async def ask(
        self,
        codex: CodexOptions | None = None,
        turn: TurnOptions | None = None,
        *,
        start: Start | None = None,
        prompt: str = "do it",
        images: tuple[str, ...] = (),
        host: Mapping[str, str] | None = None,
        **thread: Any,
    ) -> Answer:
        """Runs one turn; keywords without a name here are those of `ThreadOptions`."""
        options = ThreadOptions(**{"skip_git_repo_check": True, "cwd": self.workspace, **thread})
        request = TurnRequest(
            start=start or NewThread(),
            prompt=prompt,
            images=images,
            codex=codex or CodexOptions(),
            thread=options,
            turn=turn or TurnOptions(),
        )
        return await self._run(request, {"PATH": os.environ["PATH"], **self.home.environment, **(host or {})})

    async def _run(self, request: TurnRequest, host: Mapping[str, str]) -> Answer:
        with ExitStack() as files, trio.fail_after(60):
            schema = None
            if request.turn.output_schema is not None:
                schema = files.enter_context(
                    open_anonymous_file(json.dumps(request.turn.output_schema).encode())
                )
            command = build_command(
                request,
                str(self.binary),
                host,
                config_files=read_config_files(request.codex, request.thread, host),
                schema_fd=schema,
            )
            done = await trio.run_process(
                command.argv,
                env=command.env,
                stdin=request.prompt.encode(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                cwd=self.workspace,
                pass_fds=() if schema is None else (schema,),
            )
        return Answer(
            done.returncode,
            [json.loads(line) for line in done.stdout.split(b"\n") if line],
            done.stderr.decode(),
            self.scenario,
            Path(command.env["CODEX_HOME"]),
        )


def git(*arguments: str, cwd: Path) -> None:
    """Runs git as somebody."""
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


OK: Step = message("ok")
