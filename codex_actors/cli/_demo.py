# `codex-actors demo`: three turns on the real Codex, and then a look at what they really did. Nothing in
# the verdict is taken from what Codex said: the tests are run by us, and what is left is looked for.

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path

import trio

from codex_actors import Codex, CodexOptions, ThreadOptions, TurnResult, errors
from codex_actors._janitor import open_directory
from codex_actors._nursery import open_private_nursery
from codex_actors.backends._binary import find_codex
from codex_actors.cli._arguments import AskedDemo
from codex_actors.cli._demo_story import FILES, PARTS, TEST, Part
from codex_actors.cli._demo_verdicts import (
    Played,
    Stage,
    is_good,
    judge_changes,
    judge_leaks,
    judge_removal,
    judge_tests,
    judge_turns,
    table,
)
from codex_actors.cli._demo_views import DemoView, open_demo_view
from codex_actors.cli._describe import ASIDE, NOTICE
from codex_actors.cli._stop import Stop
from codex_actors.events import Event, ItemStarted
from codex_actors.items import CommandExecution
from codex_actors.testing import codex_home, open_model_server

# Long enough to be seen at work before it is cancelled.
_WATCHED_SECONDS = 0.8

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
        print(f"codex-actors demo: {exc}", file=sys.stderr)
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
        async with open_demo_view(PARTS) as view:
            with _open_stage(keep=asked.keep) as stage:
                verdicts += await _perform(asked, view, stage)
            verdicts.append(judge_removal(stage, keep=asked.keep))
            for verdict in verdicts:
                await view.say(verdict)
    return 0 if verdicts and all(map(is_good, verdicts)) else 1


@contextmanager
def _open_stage(*, keep: bool) -> Generator[Stage]:
    if keep:  # without an owner in its name, who would be dead soon
        yield Stage(Path(tempfile.mkdtemp(prefix="codex-actors-demo-")))
        return
    with open_directory("demo") as root:
        yield Stage(root)


async def _perform(asked: AskedDemo, view: DemoView, stage: Stage) -> Sequence[str]:
    model = "real" if asked.live else "scripted"
    await view.say(f"{ASIDE} the real Codex, a {model} model, and a project with a bug: {stage.project}")
    await _make_project(stage.project)
    before = await _run_tests(stage.project)
    async with _open_runtime(asked, stage) as codex:
        sandboxed = asked.live or await _sandbox_works(asked, stage)
        if not sandboxed:
            await view.say(f"{NOTICE} Codex's sandbox cannot work on this machine; the turns do without.")
        plays = await _play_all(codex, asked, view, stage, sandboxed=sandboxed)
    await view.end_turns()
    for line in table(plays):
        await view.say(line)
    return [
        *judge_turns(plays),
        judge_tests(before, await _run_tests(stage.project)),
        judge_changes(await _git(stage.project, "status", "--porcelain", "--ignored")),
        await judge_leaks(stage),
    ]


# --- the stage -------------------------------------------------------------------------------------


async def _make_project(project: Path) -> None:
    _write_files(project)
    await _git(project, "init", "--quiet", "--template=")
    await _git(project, "add", ".")
    await _git(project, "commit", "--quiet", "--message", "Add up baskets")


def _write_files(project: Path) -> None:
    project.mkdir()
    for name, content in FILES.items():
        (project / name).write_text(content)


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


async def _run_tests(project: Path) -> int:
    """Run the project's tests, ourselves and outside Codex; returns their exit status."""
    quiet = subprocess.DEVNULL
    return (await trio.run_process(TEST, cwd=project, stdout=quiet, stderr=quiet, check=False)).returncode


@asynccontextmanager
async def _open_runtime(asked: AskedDemo, stage: Stage) -> AsyncGenerator[Codex]:
    if asked.live:
        _write_live_home(stage)
        async with Codex(_options(asked, stage, api_key=None)) as codex:
            yield codex
        return
    async with open_model_server() as model:
        script = model.script("demo", *(part.rule for part in PARTS))
        codex_home(stage.codex_home, script.url)
        async with Codex(_options(asked, stage, api_key="scripted")) as codex:
            yield codex


def _write_live_home(stage: Stage) -> None:
    stage.temporary.mkdir(parents=True)
    (stage.codex_home / "config.toml").write_text(_LIVE_CONFIG)


def _options(asked: AskedDemo, stage: Stage, *, api_key: str | None) -> CodexOptions:
    return CodexOptions(
        codex_path=asked.codex_path,
        codex_home=stage.codex_home,
        api_key=api_key,
        env={"TMPDIR": str(stage.temporary)},
    )


async def _sandbox_works(asked: AskedDemo, stage: Stage) -> bool:
    quiet = subprocess.DEVNULL
    done = await trio.run_process(
        [find_codex(asked.codex_path), "sandbox", "--", "true"],
        cwd=stage.project,
        env={**os.environ, "CODEX_HOME": str(stage.codex_home), "TMPDIR": str(stage.temporary)},
        stdout=quiet,
        stderr=quiet,
        check=False,
    )
    return done.returncode == 0


# --- the turns -------------------------------------------------------------------------------------


async def _play_all(
    codex: Codex, asked: AskedDemo, view: DemoView, stage: Stage, *, sandboxed: bool
) -> dict[str, Played]:
    send, receive = trio.open_memory_channel[tuple[str, Played]](len(PARTS))

    async def play(part: Part) -> None:
        options = ThreadOptions(
            cwd=stage.project,
            sandbox=part.sandbox if sandboxed else "danger-full-access",
            model=asked.model,
        )
        played = await _play(codex, part, options, view)
        await view.settle(part, played.outcome)
        send.send_nowait((part.name, played))

    async with open_private_nursery() as nursery:
        for part in PARTS:
            nursery.start_soon(play, part)
        return dict([await receive.receive() for _ in PARTS])


async def _play(codex: Codex, part: Part, options: ThreadOptions, view: DemoView) -> Played:
    started_at, scope = trio.current_time(), trio.CancelScope()
    try:
        async with codex.start_thread(options).run_streamed(part.prompt) as turn:
            with scope:
                async for event in turn:
                    await view.show(part, event)
                    if _is_time_to_cancel(part, event):
                        scope.deadline = trio.current_time() + _WATCHED_SECONDS
        outcome: TurnResult | errors.CodexError = turn.result
    except errors.CodexError as exc:
        outcome = exc
    ended_at = trio.current_time()
    stop_seconds = ended_at - scope.deadline if scope.cancelled_caught else None
    return Played(outcome, ended_at - started_at, stop_seconds)


def _is_time_to_cancel(part: Part, event: Event) -> bool:
    match event:
        case ItemStarted(item=CommandExecution(command=command)) if part.cancel_at is not None:
            return part.cancel_at in command
        case _:
            return False
