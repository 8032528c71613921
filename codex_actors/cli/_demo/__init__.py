# `codex-actors demo`: five turns on the real Codex, supervised, and then a look at what they really did.
# The stage is where it is played, the story what is asked, the turns play it, the views show it, and the
# verdicts say whether all is as it should be.

import os
import shutil
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec

import trio

from codex_actors import (
    ChildSpec,
    ChildStatus,
    Codex,
    CodexOptions,
    Strategy,
    Supervisor,
    errors,
    open_supervisor,
)
from codex_actors.backends._binary import find_codex
from codex_actors.cli._arguments import AskedDemo
from codex_actors.cli._demo._outcomes import table
from codex_actors.cli._demo._stage import Stage, changes, make_project, open_stage, run_tests, sandbox_works
from codex_actors.cli._demo._story import PARTS
from codex_actors.cli._demo._tree import Growth, drawn, grown
from codex_actors.cli._demo._turns import Pids, Turns
from codex_actors.cli._demo._verdicts import (
    is_good,
    judge_changes,
    judge_leaks,
    judge_removal,
    judge_tests,
    judge_tree,
    judge_turns,
)
from codex_actors.cli._demo._views import DemoView, open_demo_view
from codex_actors.cli._describe import ASIDE, NOTICE
from codex_actors.cli._stop import Stop
from codex_actors.options import Deadlines
from codex_actors.telemetry import Telemetry
from codex_actors.testing import codex_home, open_model_server

# Two turns are asked to sleep for ten minutes; should they not be struck, they are not to be waited for.
_DEADLINES = Deadlines(turn_seconds=120)

# The least that makes Codex start and end without looking elsewhere first.
_LIVE_CONFIG = "analytics.enabled = false\nfeatures.plugins = false\nfeatures.apps = false\n"


def demo(asked: AskedDemo, stop: Stop) -> int:
    """Play the demo and return the exit status."""
    missing = _missing(asked)
    if missing:
        print(f"codex-actors demo: {missing}", file=sys.stderr)
        return 2
    try:
        return trio.run(_demo, asked, stop)
    except errors.CodexError as exc:
        print(f"codex-actors demo: {exc.__cause__ or exc}", file=sys.stderr)
        return 1


def _missing(asked: AskedDemo) -> str | None:
    if asked.live and not os.environ.get("CODEX_API_KEY"):
        return "--live needs a key in CODEX_API_KEY"
    if asked.model and not asked.live:
        return "--model needs --live: the scripted model is what it is"
    if not asked.live and find_spec("h11") is None:
        return "the scripted model needs h11: pip install 'codex-actors[testing]'"
    return None if shutil.which("git") else "git is needed, and not installed"


async def _demo(asked: AskedDemo, stop: Stop) -> int:
    verdicts: list[str] = []
    with stop.scope():
        async with open_demo_view() as view:
            with open_stage(keep=asked.keep) as stage:
                verdicts += await _perform(asked, view, stage)
            verdicts.append(judge_removal(stage, keep=asked.keep))
            await view.say("")
            for verdict in verdicts:
                await view.say(verdict)
    return 0 if verdicts and all(map(is_good, verdicts)) else 1


async def _perform(asked: AskedDemo, view: DemoView, stage: Stage) -> Sequence[str]:
    model = "real" if asked.live else "scripted"
    await view.say(f"{ASIDE} the real Codex, a {model} model, a project with a bug, and five turns at once")
    await make_project(stage)
    before = await run_tests(stage)
    telemetry = Telemetry(log=False)
    pids = Pids(telemetry)
    async with _open_tree(asked, stage, telemetry) as root:
        growth = Growth(root)
        telemetry.attach(("codex", "process", "spawned"), growth.look)
        sandboxed = await _check_sandbox(asked, view, stage)
        turns = Turns(_codex(root), pids, view, stage, model=asked.model, sandboxed=sandboxed)
        plays = await turns.play()
        after, status = await run_tests(stage), await changes(stage)
        at_end = grown(root)
    await view.end_turns()
    for rows in table(plays), drawn(growth.fullest, at_end):
        await view.say("")
        await view.tabulate(rows)
    return [
        *judge_turns(plays),
        judge_tree(growth.fullest, at_end),
        judge_tests(before, after),
        judge_changes(status),
        await judge_leaks(stage),
    ]


async def _check_sandbox(asked: AskedDemo, view: DemoView, stage: Stage) -> bool:
    if asked.live or await sandbox_works(stage, find_codex(asked.codex_path)):
        return True
    await view.say(f"{NOTICE} Codex's sandbox cannot work on this machine; the turns do without.")
    return False


# --- the supervision tree --------------------------------------------------------------------------


@asynccontextmanager
async def _open_tree(asked: AskedDemo, stage: Stage, telemetry: Telemetry) -> AsyncGenerator[Supervisor]:
    """Open what anybody would who needs Codex and something else: a supervisor of one's own above both."""
    if asked.live:
        children = [_codex_spec(asked, stage, telemetry, api_key=None)]
        _write_live_home(stage)
    else:
        model = ChildSpec(id="model", start=_serve_model, args=(stage,))
        children = [model, _codex_spec(asked, stage, telemetry, api_key="scripted")]
    async with open_supervisor(children, name="demo", strategy=Strategy.REST_FOR_ONE) as root:
        yield root


async def _serve_model(stage: Stage, *, task_status: ChildStatus[None]) -> None:
    async with open_model_server() as model:
        script = model.script("demo", *(part.rule for part in PARTS))
        codex_home(stage.codex_home, script.url)
        task_status.started()
        await trio.sleep_forever()


def _write_live_home(stage: Stage) -> None:
    stage.temporary.mkdir(parents=True)
    (stage.codex_home / "config.toml").write_text(_LIVE_CONFIG)


def _codex_spec(asked: AskedDemo, stage: Stage, telemetry: Telemetry, *, api_key: str | None) -> ChildSpec:
    options = CodexOptions(
        deadlines=_DEADLINES,
        codex_path=asked.codex_path,
        codex_home=stage.codex_home,
        api_key=api_key,
        # Commands run in a login shell: whatever a profile does would be done with each of them.
        env={"TMPDIR": str(stage.temporary), "HOME": str(stage.root)},
    )
    return Codex.child_spec(options=options, telemetry=telemetry)


def _codex(root: Supervisor) -> Codex:
    [codex] = [info.child.value for info in root.which_children() if info.id == "codex" and info.child]
    assert isinstance(codex, Codex)  # noqa: S101 - it is what its spec starts
    return codex
