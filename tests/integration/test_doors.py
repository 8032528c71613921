"""Programs that are not on trio run the real Codex, and however they end, nothing of their turns is left."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from codex_actors import aio, blocking, errors
from codex_actors.events import ItemCompleted
from codex_actors.items import CommandExecution
from codex_actors.options import CodexOptions, ThreadOptions, UncommittedChanges
from codex_actors.testing import ModelServer, Scenario, http_error, message, on, reply, shell
from tests.fakes import lock_files

Configure = Callable[..., CodexOptions]


@pytest.fixture
def thread_options(workspace: Path) -> ThreadOptions:
    return ThreadOptions(cwd=workspace, skip_git_repo_check=True, sandbox="danger-full-access")


@pytest.fixture
def story(model_server: ModelServer) -> Scenario:
    return model_server.script(
        "story",
        on("first", message("one")),
        on("second", shell("echo two"), message("three")),
        on("wrong", http_error(400, "odd")),
        on("go", shell("sleep 0.1; echo one"), reply(shell("echo two")), reply(shell("sleep 60"))),
    )


async def test_a_script_has_a_conversation(story, configure: Configure, thread_options):
    """The model is on this thread's trio, so the script has a thread of its own, as any other may."""

    def script() -> None:
        with blocking.Codex(configure(story.url)) as codex:
            thread = codex.start_thread(thread_options)
            assert thread.run("first").final_response == "one"
            with thread.run_streamed("second") as turn:
                ran = [event.item.command for event in turn if isinstance(event, ItemCompleted)
                       and isinstance(event.item, CommandExecution)]  # fmt: skip
            assert [command.endswith("echo two'") for command in ran] == [True]
            assert turn.result.final_response == "three"
            with pytest.raises(errors.InvalidRequestError, match="odd"):
                codex.start_thread(thread_options).run("wrong")
            assert codex.resume_thread(str(thread.id), thread_options).run("first").thread_id == thread.id

    await trio.to_thread.run_sync(script)


async def test_an_asyncio_program_has_several_conversations_at_once(story, configure, thread_options):
    async def main() -> None:
        async with aio.Codex(configure(story.url)) as codex, asyncio.TaskGroup() as group:
            turns = [group.create_task(codex.start_thread(thread_options).run("second")) for _ in range(3)]
        assert [turn.result().final_response for turn in turns] == ["three"] * 3

    await trio.to_thread.run_sync(asyncio.run, main())


async def test_an_asyncio_program_has_code_reviewed(model_server, configure, workspace):
    review = model_server.script("review", message("Looks fine."))
    for command in (["init", "--quiet"], ["config", "user.name", "x"], ["config", "user.email", "x@x"]):
        await trio.run_process(["git", *command], cwd=workspace)
    (workspace / "new.txt").write_text("new")

    async def main() -> None:
        async with aio.Codex(configure(review.url)) as codex:
            thread = codex.start_thread(ThreadOptions(cwd=workspace, sandbox="read-only"))
            assert "Looks fine." in (await thread.review(UncommittedChanges())).final_response

    await trio.to_thread.run_sync(asyncio.run, main())


_BEGINNING = """
import asyncio, sys
from codex_actors import {door}
from codex_actors.options import CodexOptions, ThreadOptions

path, home, tmpdir, cwd = sys.argv[1:]
env = {{"TMPDIR": tmpdir, "HOME": home}}
options = CodexOptions(codex_path=path, codex_home=home, api_key="scripted", env=env)
thread_options = ThreadOptions(cwd=cwd, skip_git_repo_check=True, sandbox="danger-full-access")
try:
    print("running\\n", end="", flush=True)
    {main}
except BaseException as error:
    print(f"ended by {{type(error).__name__}}\\n", end="")
"""
_RUN = """
    with blocking.Codex(options) as codex:
        codex.start_thread(thread_options).run("go")
"""
_STREAM = """
    with blocking.Codex(options) as codex:
        with codex.start_thread(thread_options).run_streamed("go") as turn:
            for event in turn:
                print(type(event).__name__ + "\\n", end="", flush=True)
"""
_ASYNCIO = """
    async def main():
        async with aio.Codex(options) as codex:
            async with codex.start_thread(thread_options).run_streamed("go") as turn:
                async for event in turn:
                    print(type(event).__name__ + "\\n", end="", flush=True)
    asyncio.run(main())
"""
PROGRAMS = {
    "run": _BEGINNING.format(door="blocking", main=_RUN.strip()),
    "stream": _BEGINNING.format(door="blocking", main=_STREAM.strip()),
    "asyncio": _BEGINNING.format(door="aio", main=_ASYNCIO.strip()),
}


async def interrupted(program: str, options: CodexOptions, cwd: Path, milliseconds: float, times: int) -> str:
    """What a program writes that is interrupted some time after it has begun."""
    arguments = (options.codex_path, options.codex_home, options.env["TMPDIR"], cwd)
    command = [sys.executable, "-c", PROGRAMS[program], *map(str, arguments)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout
    async with process.stdout as output:
        try:
            with trio.fail_after(60):
                written = bytes(await output.receive_some())
                await trio.sleep(milliseconds / 1000)
                for _ in range(times):
                    process.send_signal(signal.SIGINT)
                    await trio.sleep(0.005)
                written += b"".join([bytes(data) async for data in output])
                await process.wait()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
    return written.decode()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("milliseconds", [0, 5, 20, 100, 250, 500])
async def test_ctrl_c_ends_a_program_and_all_of_its_turn(
    story, configure, thread_options, program, milliseconds
):
    """The fixture that every test has looks for what is left of processes, descriptors and files."""
    options = configure(story.url)
    written = await interrupted(program, options, thread_options.cwd, milliseconds, 1)
    assert written.splitlines()[-1] == "ended by KeyboardInterrupt"
    assert lock_files(options) == []


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("milliseconds", [20, 250])
async def test_ctrl_c_three_times_does_the_same(story, configure, thread_options, program, milliseconds):
    options = configure(story.url)
    written = await interrupted(program, options, thread_options.cwd, milliseconds, 3)
    assert written.splitlines()[-1] == "ended by KeyboardInterrupt"
    assert lock_files(options) == []
