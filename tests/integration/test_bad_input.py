"""What bad input gets: a clear error that says what to do, no hang, and nothing left."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from codex_actors import Codex, errors
from codex_actors.options import (
    CodexOptions,
    Deadlines,
    Input,
    LocalImage,
    StdioMcpServer,
    Text,
    ThreadOptions,
    TurnOptions,
)
from codex_actors.testing import Act, ModelServer, Scenario, fake_codex, hangs, message
from tests.fakes import answers_on_a_thread_of_its_own, lock_files

Configure = Callable[..., CodexOptions]


@pytest.fixture
def story(model_server: ModelServer) -> Scenario:
    return model_server.script("story", message("done"))


@pytest.fixture
def thread_options(workspace: Path) -> ThreadOptions:
    return ThreadOptions(cwd=workspace, skip_git_repo_check=True)


async def refused(
    options: CodexOptions,
    thread: ThreadOptions,
    asked: Input = "go",
    turn: TurnOptions | None = None,
) -> errors.CodexError:
    """The error that a turn ends with at once."""
    with trio.fail_after(20), pytest.raises(errors.CodexError) as caught:
        async with Codex(options) as codex:
            await codex.start_thread(thread).run(asked, turn)
    assert lock_files(options) == []
    return caught.value


# --- the binary ----------------------------------------------------------------------------------


async def test_no_binary(configure, story, thread_options, tmp_path):
    error = await refused(configure(story.url, codex_path=tmp_path / "no"), thread_options)
    assert isinstance(error, errors.CodexNotFoundError)
    assert "pip install 'codex-actors[codex]'" in str(error)
    assert "CodexOptions.codex_path" in str(error)


@pytest.mark.parametrize("kind", ["directory", "not executable"])
async def test_what_is_no_executable_file(configure, story, thread_options, tmp_path, kind):
    path = tmp_path / "codex"
    path.mkdir() if kind == "directory" else path.touch()
    error = await refused(configure(story.url, codex_path=path), thread_options)
    assert isinstance(error, errors.CodexNotFoundError)
    assert str(path) in str(error)


async def test_a_file_that_is_no_program(configure, story, thread_options, tmp_path):
    path = tmp_path / "codex"
    path.write_bytes(b"\x7fELF but not really")
    path.chmod(0o755)
    error = await refused(configure(story.url, codex_path=path), thread_options)
    assert isinstance(error, errors.SpawnError)
    assert str(error) == f"cannot start {path}: Exec format error"


async def test_a_version_that_is_too_old(configure, story, thread_options, tmp_path):
    path = fake_codex(tmp_path / "bin", hangs(), version="0.101.0")
    error = await refused(configure(story.url, codex_path=path), thread_options)
    assert isinstance(error, errors.UnsupportedVersionError)
    assert str(error) == f"{path} is Codex 0.101.0; 0.163.0 or newer is needed"


async def test_a_binary_that_does_not_say_its_version(configure, story, thread_options, tmp_path):
    path = tmp_path / "codex"
    path.write_text("#!/bin/sh\nexec sleep 600\n")
    path.chmod(0o755)
    options = configure(story.url, codex_path=path, deadlines=Deadlines(spawn_seconds=0.2))
    error = await refused(options, thread_options)
    assert isinstance(error, errors.SpawnError)
    assert "did not say its version within 0.2 s" in str(error)


# --- places --------------------------------------------------------------------------------------


async def test_no_home(configure, story, thread_options, tmp_path):
    error = await refused(configure(story.url, codex_home=tmp_path / "no"), thread_options)
    assert isinstance(error, errors.CodexHomeError)
    assert error.codex_home == str(tmp_path / "no")
    assert "create it, or name another one" in str(error)


async def test_a_home_that_is_a_file(configure, story, thread_options):
    error = await refused(configure(story.url, codex_home=__file__), thread_options)
    assert isinstance(error, errors.CodexHomeError)
    assert "is no directory" in str(error)


async def test_a_home_that_cannot_be_written(configure, story, thread_options):
    # Permissions mean nothing to root; /proc lets nobody make a file.
    error = await refused(configure(story.url, codex_home="/proc/self"), thread_options)
    assert isinstance(error, errors.CodexHomeError)
    assert "cannot be written" in str(error)


async def test_no_such_working_directory(configure, story):
    error = await refused(configure(story.url), ThreadOptions(cwd="/no/such/place"))
    assert isinstance(error, errors.OptionError)
    assert str(error) == "ThreadOptions.cwd: there is no directory /no/such/place"


async def test_a_directory_that_is_no_git_repository(configure, story, workspace):
    error = await refused(configure(story.url), ThreadOptions(cwd=workspace))
    assert isinstance(error, errors.UntrustedDirectoryError)
    assert "ThreadOptions.skip_git_repo_check" in str(error)
    assert error.returncode == 1


# --- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", " \n\t"])
async def test_an_empty_prompt(configure, story, thread_options, empty):
    error = await refused(configure(story.url), thread_options, empty)
    assert isinstance(error, errors.OptionError)
    assert error.field == "input"


async def test_a_prompt_that_is_no_text(configure, story, thread_options):
    error = await refused(configure(story.url), thread_options, "half a pair: \udc80")
    assert isinstance(error, errors.OptionError)
    assert "surrogate" in str(error)


async def test_an_image_that_is_not_there(configure, story, thread_options, tmp_path):
    asked = (Text("look"), LocalImage(tmp_path / "no.png"))
    error = await refused(configure(story.url), thread_options, asked)
    assert isinstance(error, errors.OptionError)
    assert str(error) == f"LocalImage.path: there is no readable file {tmp_path}/no.png"


async def test_a_setting_that_no_argument_can_hold(configure, story, thread_options):
    options = configure(story.url, config={"developer_instructions": "x" * 200_000})
    error = await refused(options, thread_options)
    assert isinstance(error, errors.OptionError)
    assert "developer_instructions" in str(error)
    assert "ThreadOptions.profile" in str(error)


async def test_a_setting_that_codex_does_not_take(configure, story, thread_options):
    error = await refused(configure(story.url, config={"model_verbosity": "shouting"}), thread_options)
    assert isinstance(error, errors.ConfigRefusedError)
    assert "shouting" in str(error)


async def test_a_setting_that_codex_does_not_know(configure, story, workspace):
    strict = ThreadOptions(cwd=workspace, skip_git_repo_check=True, strict_config=True)
    error = await refused(configure(story.url, config={"modell": "x"}), strict)
    assert isinstance(error, errors.ConfigRefusedError)
    assert "modell" in str(error)


async def test_a_profile_that_is_not_there(configure, story, workspace):
    options = ThreadOptions(cwd=workspace, skip_git_repo_check=True, profile="no-such")
    error = await refused(configure(story.url), options)
    assert isinstance(error, errors.OptionError)
    assert error.field == "ThreadOptions.profile"


async def test_an_mcp_server_that_is_required_and_does_not_start(configure, story, workspace):
    servers = {"gone": StdioMcpServer(command="/no/such/server", required=True)}
    options = ThreadOptions(cwd=workspace, skip_git_repo_check=True, mcp_servers=servers)
    error = await refused(configure(story.url), options)
    assert isinstance(error, errors.ConfigRefusedError)
    assert "gone" in str(error)


async def test_no_key(configure, story, thread_options):
    error = await refused(configure(story.url, api_key=None, inherit_env="none"), thread_options)
    assert isinstance(error, errors.AuthenticationError)
    assert "CODEX_API_KEY" in str(error)


# --- too much at once ----------------------------------------------------------------------------

_MANY_TURNS = """
import resource, sys, trio
from codex_actors import Codex, errors
from codex_actors.options import CodexOptions

async def main(path, home):
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    outcomes = []

    async def run():
        try:
            outcomes.append((await codex.start_thread().run("go")).final_response)
        except errors.CodexError as error:
            outcomes.append(f"{type(error).__name__}: {error}")

    async with Codex(CodexOptions(codex_path=path, codex_home=home)) as codex:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(run)
            outcomes.append((await codex.start_thread().run("go")).final_response)
    print("\\n".join(outcomes))

trio.run(main, *sys.argv[1:])
"""


def test_too_few_descriptors_for_the_turns_that_are_asked(tmp_path):
    """Some turns complete, the others say what ran out, none hangs, and then there are enough again."""
    path = fake_codex(tmp_path / "bin", Act("sleep 0.2"), answers_on_a_thread_of_its_own())
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _MANY_TURNS, path, tmp_path / "home"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    *outcomes, last = done.stdout.splitlines()
    assert len(outcomes) == 40
    failed = {outcome for outcome in outcomes if outcome != "done"}
    advice = "raise `ulimit -n` or run fewer turns at once"
    assert failed == {f"ResourceLimitError: too few file descriptors for this process; {advice}"}
    assert outcomes.count("done") >= 3
    assert last == "done"
