# Where a host plays its plan: a Codex, real or fake, whose turns each have a victim, and files of their own.

import shlex
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio

from codex_actors.backends._binary import find_bwrap
from codex_actors.options import Containment
from codex_actors.testing import Act, ModelServer, codex_home, fake_codex, message, on, reply, shell, writes
from tests.containment.host import Consumer, Plan, Sandbox
from tests.containment.judge import FAMILY, Victim, at_home, kill, until, words
from tests.fakes import COMPLETED, OTHER_THREAD, THREAD, command_begins, gate, started

ROOT = Path(__file__).parents[2]
Kind = Literal["real", "fake"]
WHO = ("victim", "neighbour")

# More than all pipes and buffers between a command and whoever takes no events.
_FLOOD, _FLOODS = "head -c 900000 /dev/zero | tr '\\0' x", 5
# How long the real Codex waits for a command before it goes on without its end; the least it knows.
_YIELD_MILLISECONDS = 250
_IGNORES_INTERRUPTS = "trap '' INT"
_WRAPPER = f'#!/bin/sh\n{_IGNORES_INTERRUPTS}\n{{codex}} "$@"\n'
# What Codex's own sandbox does with a command, as far as processes are concerned.
_SANDBOX = ("--dev-bind", "/", "/", "--unshare-user", "--unshare-pid", "--die-with-parent", "--")
# Empty directories that the sandbox makes in every directory to which it lets commands write, and takes away
# when its command has ended. Codex kills it when it is interrupted itself, and leaves them; so without us.
_MOUNT_TARGETS = {".agents", ".aws", ".codex", ".git", "codex-bwrap-synthetic-mount-targets-0"}


@cache
def namespaces_work(codex_binary: Path) -> bool:
    """Whether this system lets us have process namespaces, and Codex its sandbox."""
    words = (find_bwrap(str(codex_binary)), *_SANDBOX, "true")
    return subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who plays.

    Attributes:
        kind: Which Codex.
        sandbox: What the model's commands may touch.
        containment: The means.
        leaves: Whether the victim's command ends by itself, and leaves the others behind.
        floods: Whether Codex says more than anybody takes, once the gate is open.
        ignores_interrupts: Whether Codex does.
        consumer: See `Plan`.
        interrupt_seconds: See `Plan`.
        turn_seconds: See `Plan`.
    """

    kind: Kind
    sandbox: Sandbox
    containment: Containment
    leaves: bool = False
    floods: bool = False
    ignores_interrupts: bool = False
    consumer: Consumer = "reads"
    interrupt_seconds: float = 2.0
    turn_seconds: float | None = None


class Stage:
    """Two victims, and what a host needs to have turns that start them; `set_stage` makes it.

    Attributes:
        plan: What the host is to do.
        victims: The two, by turn.
        let_pass: Lets the victim's turn go on.
    """

    def __init__(self, plan: Plan, victims: dict[str, Victim], let_pass: Callable[[], object]) -> None:
        self.plan = plan
        self.victims = victims
        self.let_pass = let_pass

    def line(self, who: str = "victim") -> "Line":
        """Who stands between the host and a victim."""
        return Line.of(self.victims[who], self.plan.codex_path)

    def break_codex(self) -> None:
        """Make Codex something that the kernel will not run."""
        path = Path(self.plan.codex_path)
        path.unlink()
        path.write_bytes(b"\0\0\0\0")
        path.chmod(0o755)

    async def wait_blocked(self) -> None:
        """Wait until somebody who belongs to this Codex waits for room in a pipe."""
        with trio.fail_after(30):
            await until(lambda: any(map(_waits_for_room, at_home(Path(self.plan.home)))))

    def survivors(self) -> set[int]:
        """Which processes of Codex, or of a victim, still live."""
        members = (pid for victim in self.victims.values() for pid in victim.pids())
        return {*members, *at_home(Path(self.plan.home))}

    def files(self) -> list[str]:
        """What is left in Codex's TMPDIR."""
        return sorted({path.name for path in Path(self.plan.tmpdir).iterdir()} - _MOUNT_TARGETS)

    def clear(self) -> None:
        """Kill whoever is left."""
        for _ in range(3):  # one of them may have been starting another
            kill(*self.survivors())
        for victim in self.victims.values():
            victim.exterminate()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The processes between a host and a victim; 0 where there is none.

    Attributes:
        codex: Codex, or what wraps it.
        wrapper: What makes the namespace.
        watcher: The tree's.
        guard: The host's.
    """

    codex: int
    wrapper: int
    watcher: int
    guard: int

    @classmethod
    def of(cls, victim: Victim, codex_path: str) -> "Line":
        """Look for it above a victim."""
        above = {pid: words(pid) for pid in victim.ancestors()}
        codex = [pid for pid, said in above.items() if codex_path in said[:2] and "exec" in said]
        wrappers = [pid for pid, said in above.items() if said[0].endswith("bwrap")]
        guards = [pid for pid, said in above.items() if any("guard_program" in word for word in said)]
        watcher, guard = guards or (0, 0)
        return cls(codex=(codex or [0])[-1], wrapper=(wrappers or [0])[-1], watcher=watcher, guard=guard)


@contextmanager
def set_stage(cast: Cast, directory: Path, codex_binary: Path, model: ModelServer) -> Generator[Stage]:
    """Make what a host needs.

    Args:
        cast: Who plays.
        directory: An empty place for it.
        codex_binary: The real Codex.
        model: What the real one asks.
    """
    victims = {who: Victim(directory / f"{who}.lock") for who in WHO}
    victims["victim"].size -= cast.leaves
    # As in the wheel, where Codex has its bwrap beside it.
    (directory / "codex-resources").symlink_to(Path(find_bwrap(str(codex_binary))).parent)
    with ExitStack() as gates:
        if cast.kind == "real":
            plan, let_pass = _real(cast, directory, victims, codex_binary, model)
        else:
            plan, let_pass = _fake(cast, directory, victims, codex_binary, gates)
        stage = Stage(plan, victims, let_pass)
        try:
            yield stage
        finally:
            stage.clear()


@asynccontextmanager
async def open_program(plan: Plan, **options: Any) -> AsyncGenerator[trio.Process]:
    """Run a host as a program; it is gone when the block is left."""
    words = (sys.executable, "-m", "tests.containment.host", msgspec.json.encode(plan).decode())
    program = await trio.lowlevel.open_process(words, stdout=subprocess.PIPE, **{"cwd": ROOT, **options})
    assert program.stdout
    try:
        async with program.stdout as output:
            with trio.fail_after(60):
                assert await output.receive_some() == b"ready\n"
            yield program
    finally:
        program.kill()
        with trio.CancelScope(shield=True):
            await program.wait()


def _real(
    cast: Cast,
    directory: Path,
    victims: dict[str, Victim],
    codex_binary: Path,
    model: ModelServer,
) -> tuple[Plan, Callable[[], object]]:
    """The real Codex runs each victim twice: as a command, and as an MCP server."""
    for victim in victims.values():
        victim.size += FAMILY
    held = trio.Event()
    shape = "leave" if cast.leaves else "family"
    runs = shell(victims["victim"].command(shape), yield_time_ms=_YIELD_MILLISECONDS)
    floods = [reply(held, shell(_FLOOD)) for _ in range(_FLOODS if cast.floods else 0)]
    neighbour = shell(victims["neighbour"].command(), yield_time_ms=_YIELD_MILLISECONDS)
    story = model.script(
        directory.name,
        on("victim", runs, *floods, reply(held, message("done"))),
        on("neighbour", neighbour, reply(trio.Event(), message("never"))),
    )
    home = codex_home(directory / "home", story.url)
    path = directory / "bin" / "codex"
    path.parent.mkdir()
    if cast.ignores_interrupts:
        path.write_text(_WRAPPER.format(codex=shlex.quote(str(codex_binary))))
        path.chmod(0o755)
    else:
        path.symlink_to(codex_binary)
    servers = {who: victim.argv("mcp") for who, victim in victims.items()}
    return _plan(cast, directory, path, home.environment["TMPDIR"], servers), held.set


def _fake(
    cast: Cast,
    directory: Path,
    victims: dict[str, Victim],
    codex_binary: Path,
    gates: ExitStack,
) -> tuple[Plan, Callable[[], object]]:
    """The fake Codex starts each victim as the real one's sandbox would, or as it is."""
    held = {who: gates.enter_context(gate(directory / f"{who}.gate")) for who in WHO}
    sandboxed = [find_bwrap(str(codex_binary)), *_SANDBOX] if cast.sandbox == "workspace-write" else []
    tells = {
        "victim": writes(started(THREAD) + command_begins()),
        "neighbour": writes(started(OTHER_THREAD) + command_begins()),
    }
    starts = {
        who: shlex.join([*sandboxed, *victim.argv("leave" if cast.leaves and who == "victim" else "family")])
        for who, victim in victims.items()
    }
    path = fake_codex(
        directory / "bin",
        Act(_IGNORES_INTERRUPTS if cast.ignores_interrupts else ":"),
        Act("read -r who || :"),
        *(
            Act(f"[ $who != {who} ] || {{ {tells[who]}; {starts[who]} & {held[who].waits()}; }}")
            for who in WHO
        ),
        Act(f"yes '{command_begins().strip()}'" if cast.floods else writes(COMPLETED)),
    )
    tmpdir = directory / "home" / "tmpdir"
    tmpdir.mkdir(parents=True)
    return _plan(cast, directory, path, str(tmpdir), {}), held["victim"].let_pass


def _plan(cast: Cast, directory: Path, codex: Path, tmpdir: str, servers: dict[str, list[str]]) -> Plan:
    return Plan(
        codex_path=str(codex),
        home=str(directory / "home"),
        tmpdir=tmpdir,
        # Victims lock files in it, and Codex's sandbox lets commands write nowhere else.
        workspace=str(directory),
        containment=cast.containment,
        sandbox=cast.sandbox,
        mcp_servers=servers,
        consumer=cast.consumer,
        interrupt_seconds=cast.interrupt_seconds,
        turn_seconds=cast.turn_seconds,
    )


def _waits_for_room(pid: int) -> bool:
    with suppress(OSError):  # it has just ended
        threads = [*Path(f"/proc/{pid}/task").iterdir()]
        return any("pipe_write" in (thread / "wchan").read_text() for thread in threads)
    return False
