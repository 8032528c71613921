"""However a program ends, nothing of its turns is left: the real Codex, stopped at any moment."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from codex_actors import Codex
from codex_actors.options import CodexOptions, ThreadOptions
from codex_actors.testing import ModelServer, Scenario, message, on, reply, shell
from tests.fakes import lock_files

Configure = Callable[..., CodexOptions]


@pytest.fixture
def thread_options(workspace: Path) -> ThreadOptions:
    return ThreadOptions(cwd=workspace, skip_git_repo_check=True, sandbox="danger-full-access")


@pytest.fixture
def story(model_server: ModelServer) -> Scenario:
    steps = (shell("sleep 0.1; echo one"), reply(message("two"), shell("echo three")), message("four"))
    return model_server.script("story", on("go", *steps))


@pytest.mark.parametrize("milliseconds", range(0, 420, 60))
async def test_cancelled_after_a_while_nothing_is_left(story, configure, thread_options, milliseconds):
    """The fixture that every test has looks for what is left of processes, descriptors and files."""
    options = configure(story.url)
    with trio.move_on_after(milliseconds / 1000):
        async with Codex(options) as codex, trio.open_nursery() as nursery:
            nursery.start_soon(codex.start_thread(thread_options).run, "go")
            nursery.start_soon(codex.start_thread(thread_options).run, "go")
    assert lock_files(options) == []


async def test_cancelled_at_each_request_to_the_model_nothing_is_left(
    model_server, configure, thread_options
):
    hold = trio.Event()
    stories = {
        1: (reply(hold, message("never")),),
        2: (shell("echo one"), reply(hold, message("never"))),
        3: (shell("echo one"), shell("echo two"), reply(hold, message("never"))),
    }
    for count, steps in stories.items():
        story = model_server.script(f"story-{count}", *steps)
        options = configure(story.url)
        async with Codex(options) as codex:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(codex.start_thread(thread_options).run, "go")
                    with trio.fail_after(30):
                        await story.requests.wait(count)
                    scope.cancel()
            assert scope.cancelled_caught
            assert codex.statistics().turns_running == 0
        assert lock_files(options) == []


async def test_one_turn_that_is_cancelled_leaves_the_others_alone(model_server, configure, thread_options):
    hold = trio.Event()
    waits, goes_on = reply(hold, message("never")), reply(hold, message("done"))
    story = model_server.script("story", on("waits", waits), on("goes on", goes_on))
    results: list[str] = []
    async with Codex(configure(story.url)) as codex, trio.open_nursery() as nursery:

        async def go_on() -> None:
            results.append((await codex.start_thread(thread_options).run("goes on")).final_response)

        nursery.start_soon(go_on)
        with trio.CancelScope() as scope:
            async with codex.start_thread(thread_options).run_streamed("waits"):
                with trio.fail_after(30):
                    await story.requests.wait(2)
                scope.cancel()
                await trio.sleep_forever()
        hold.set()
    assert results == ["done"]


async def test_an_error_in_one_task_ends_the_turns_of_its_nursery(model_server, configure, thread_options):
    story = model_server.script("story", on("go", reply(trio.Event(), message("never"))))
    with pytest.raises(ExceptionGroup) as caught:
        async with Codex(configure(story.url)) as codex, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(codex.start_thread(thread_options).run, "go")
            with trio.fail_after(30):
                await story.requests.wait(3)
            raise KeyError("mine")
    assert [type(exc) for exc in caught.value.exceptions] == [KeyError]


_PROGRAM = """
import sys, trio
from codex_actors import Codex
from codex_actors.options import CodexOptions, ThreadOptions

async def main(path, home, tmpdir, cwd):
    env = {"TMPDIR": tmpdir, "HOME": home}
    options = CodexOptions(codex_path=path, codex_home=home, api_key="scripted", env=env)
    async with Codex(options) as codex:
        thread_options = ThreadOptions(cwd=cwd, skip_git_repo_check=True, sandbox="danger-full-access")
        print("running\\n", end="", flush=True)
        await codex.start_thread(thread_options).run("go")
        await trio.sleep_forever()

try:
    trio.run(main, *sys.argv[1:])
except BaseException as error:
    print(f"ended by {type(error).__name__}\\n", end="")
"""


@pytest.mark.parametrize("milliseconds", [0, 20, 100, 250])
async def test_a_program_that_is_interrupted_at_the_keyboard_leaves_nothing(
    story, configure, thread_options, milliseconds
):
    options = configure(story.url)
    arguments = (options.codex_path, options.codex_home, options.env["TMPDIR"], thread_options.cwd)
    program = await trio.lowlevel.open_process(
        [sys.executable, "-c", _PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE
    )
    assert program.stdout
    async with program.stdout as output:
        try:
            with trio.fail_after(60):
                assert await output.receive_some() == b"running\n"
                await trio.sleep(milliseconds / 1000)
                program.send_signal(signal.SIGINT)
                assert b"".join([data async for data in output]) == b"ended by KeyboardInterrupt\n"
                await program.wait()
        finally:
            program.kill()
            with trio.CancelScope(shield=True):
                await program.wait()
    assert lock_files(options) == []
