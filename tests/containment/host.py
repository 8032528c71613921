"""A host: one runtime under a supervisor, and the two turns of a plan. As a program, until it is ended."""

import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import msgspec
import trio

from codex_actors import Codex, errors, open_supervisor
from codex_actors._nursery import open_private_nursery
from codex_actors._supervisor import Supervisor
from codex_actors.options import CodexOptions, Containment, Deadlines, StdioMcpServer, ThreadOptions
from codex_actors.telemetry import ProcessSpawned, Telemetry

Sandbox = Literal["danger-full-access", "workspace-write"]
Consumer = Literal["reads", "leaves", "takes nothing"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a host is to do.

    Attributes:
        codex_path: The binary.
        home: Its CODEX_HOME.
        tmpdir: Its TMPDIR.
        workspace: Where the turns work.
        containment: The means.
        sandbox: What the model's commands may touch.
        mcp_servers: The command of an MCP server, for each turn that has one.
        consumer: What the holder of the victim's turn does with its events.
        interrupt_seconds: As in `Deadlines`.
        turn_seconds: Likewise.
    """

    codex_path: str
    home: str
    tmpdir: str
    workspace: str
    containment: Containment
    sandbox: Sandbox
    mcp_servers: dict[str, list[str]] = {}
    consumer: Consumer = "reads"
    interrupt_seconds: float = 2.0
    turn_seconds: float | None = None

    def codex_options(self) -> CodexOptions:
        """The options of the runtime."""
        return CodexOptions(
            codex_path=self.codex_path,
            codex_home=self.home,
            api_key="scripted",
            env={"TMPDIR": self.tmpdir, "HOME": self.home},
            containment=self.containment,
            deadlines=Deadlines(interrupt_seconds=self.interrupt_seconds, turn_seconds=self.turn_seconds),
        )

    def thread_options(self, who: str) -> ThreadOptions:
        """The options of a turn's thread."""
        argv = self.mcp_servers.get(who)
        servers = {"victim": StdioMcpServer(command=argv[0], args=argv[1:])} if argv else {}
        return ThreadOptions(
            cwd=self.workspace, skip_git_repo_check=True, sandbox=self.sandbox, mcp_servers=servers
        )


class Host:
    """Has a runtime, and asks it for turns; made by `open_host`.

    Attributes:
        supervisor: The runtime's.
        spawned: Set when the victim's turn has its Codex.
        scopes: What the holder of each turn is in.
        over: Set when the turn's block has been left.
        leave: To be set, for a holder that leaves to do so.
        errors: What became of turns that did not complete.
    """

    def __init__(
        self, plan: Plan, codex: Codex, supervisor: Supervisor, nursery: trio.Nursery, spawned: trio.Event
    ) -> None:
        self.supervisor = supervisor
        self.spawned = spawned
        self.scopes = {who: trio.CancelScope() for who in ("victim", "neighbour")}
        self.over = {who: trio.Event() for who in self.scopes}
        self.leave = trio.Event()
        self.errors: dict[str, errors.CodexError] = {}
        self._plan = plan
        self._codex = codex
        self._nursery = nursery

    def begin(self, who: str) -> None:
        """Ask for a turn."""
        self._nursery.start_soon(self._ask, who)

    async def _ask(self, who: str) -> None:
        thread = self._codex.start_thread(self._plan.thread_options(who))
        consumer = self._plan.consumer if who == "victim" else "reads"
        try:
            with self.scopes[who]:
                async with thread.run_streamed(who) as turn:
                    if consumer == "reads":
                        await turn.wait_result()
                    await self.leave.wait()
        except errors.CodexError as exc:
            self.errors[who] = exc
        finally:
            self.over[who].set()


@asynccontextmanager
async def open_host(plan: Plan) -> AsyncGenerator[Host]:
    """Open a runtime under a supervisor."""
    spawned = trio.Event()

    def note(event: object) -> None:
        if isinstance(event, ProcessSpawned):
            spawned.set()

    telemetry = Telemetry(log=False)
    telemetry.attach(("codex", "process"), note)
    runtime = Codex.child_spec("runtime", plan.codex_options(), telemetry=telemetry)
    async with open_supervisor([runtime]) as supervisor, open_private_nursery() as nursery:
        [info] = supervisor.which_children()
        assert info.child is not None
        assert isinstance(info.child.value, Codex)
        yield Host(plan, info.child.value, supervisor, nursery, spawned)


async def main(plan: Plan) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async with open_host(plan) as host:
        for who in host.scopes:
            host.begin(who)
        await trio.sleep_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in whose background we run ignores it
    with suppress(KeyboardInterrupt):
        trio.run(main, msgspec.json.decode(sys.argv[1], type=Plan))
