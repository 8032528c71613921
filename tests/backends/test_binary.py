"""Which Codex is run, and what version it has to be."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog.testing
import trio
import trio.testing

from codex_actors import errors
from codex_actors._process import Containment
from codex_actors.backends._binary import MINIMUM_VERSION, Versions, find_codex
from codex_actors.options import CodexOptions, Deadlines
from codex_actors.testing import fake_codex
from tests.cancel_steps import cancel_at_each_step
from tests.fakes import contained

OPTIONS = CodexOptions(deadlines=Deadlines(spawn_seconds=20))


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    return tmp_path / "bin"


def asked(directory: Path, answer: str = "echo codex-cli 0.169.0") -> Path:
    """A codex that notes every question for its version."""
    directory.mkdir(exist_ok=True)
    path = directory / "codex"
    path.write_text(f"#!/bin/sh\necho asked >>{directory}/log\n{answer}\n")
    path.chmod(0o755)
    return path


def questions(directory: Path) -> int:
    return len((directory / "log").read_text().splitlines())


def test_the_binary_that_is_named_is_taken(bin_directory):
    path = fake_codex(bin_directory)
    assert find_codex(path) == str(path)


def test_a_relative_path_starts_from_the_current_directory(bin_directory, monkeypatch):
    path = fake_codex(bin_directory)
    monkeypatch.chdir(bin_directory.parent)
    assert find_codex("bin/codex") == str(path)


def test_a_name_is_looked_up_on_path(bin_directory, monkeypatch):
    path = fake_codex(bin_directory)
    monkeypatch.setenv("PATH", str(bin_directory))
    assert find_codex("codex") == str(path)


def test_a_link_stays_a_link(bin_directory):
    """Codex finds what belongs to it beside the path it was started by."""
    link = bin_directory / "link"
    path = fake_codex(bin_directory)
    link.symlink_to(path)
    assert find_codex(link) == str(link)


def test_without_a_name_the_one_of_the_extra_comes_first(bin_directory, monkeypatch):
    bundled = pytest.importorskip("codex_cli_bin").bundled_codex_path()
    fake_codex(bin_directory)
    monkeypatch.setenv("PATH", str(bin_directory))
    assert find_codex(None) == str(bundled)


def test_without_the_extra_the_one_on_path_is_taken(bin_directory, monkeypatch):
    path = fake_codex(bin_directory)
    monkeypatch.setenv("PATH", str(bin_directory))
    monkeypatch.setitem(sys.modules, "codex_cli_bin", None)
    assert find_codex(None) == str(path)


def test_where_there_is_none_the_error_says_where_it_was_looked_for_and_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "codex_cli_bin", None)
    with pytest.raises(errors.CodexNotFoundError, match=r"pip install 'codex-actors\[codex\]'") as caught:
        find_codex(None)
    assert caught.value.searched == ("the package openai-codex-cli-bin", "codex on PATH")


@pytest.mark.parametrize("kind", ["missing", "directory", "not executable"])
def test_what_is_named_has_to_be_an_executable_file(kind, tmp_path):
    path = tmp_path / "codex"
    if kind == "directory":
        path.mkdir()
    if kind == "not executable":
        path.touch()
    with pytest.raises(errors.CodexNotFoundError, match="codex_path") as caught:
        find_codex(path)
    assert caught.value.searched == (str(path),)


@pytest.fixture
async def containment() -> AsyncIterator[Containment]:
    async with contained() as containment:
        yield containment


async def test_a_binary_is_asked_once_however_many_turns_want_to_know(containment, bin_directory):
    path, versions = asked(bin_directory), Versions()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(versions.check, str(path), OPTIONS, containment)
    await versions.check(str(path), OPTIONS, containment)
    assert questions(bin_directory) == 1


async def test_each_binary_is_asked(containment, tmp_path):
    versions = Versions()
    for name in "ab":
        await versions.check(str(asked(tmp_path / name)), OPTIONS, containment)
    assert [questions(tmp_path / name) for name in "ab"] == [1, 1]


async def test_a_binary_that_changed_is_asked_again(containment, bin_directory):
    path, versions = asked(bin_directory), Versions()
    await versions.check(str(path), OPTIONS, containment)
    os.utime(path, (1, 1))
    await versions.check(str(path), OPTIONS, containment)
    assert questions(bin_directory) == 2


async def test_who_gives_up_asking_leaves_it_to_the_next_one(containment, bin_directory, tmp_path):
    os.mkfifo(tmp_path / "runs")
    path = asked(bin_directory, f"echo it does >{tmp_path}/runs; exec sleep 600")
    versions, impatient = Versions(), trio.CancelScope()

    async def first() -> None:
        with impatient:
            await versions.check(str(path), OPTIONS, containment)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.to_thread.run_sync((tmp_path / "runs").read_text)
        asked(bin_directory)
        nursery.start_soon(versions.check, str(path), OPTIONS, containment)
        await trio.testing.wait_all_tasks_blocked()
        impatient.cancel()
    assert impatient.cancelled_caught
    await versions.check(str(path), OPTIONS, containment)


async def test_cancelled_at_any_step_it_leaves_nothing(containment, bin_directory):
    path = asked(bin_directory)
    assert await cancel_at_each_step(lambda: Versions().check(str(path), OPTIONS, containment)) > 5


@pytest.mark.parametrize("version", ["0.101.0", "0.162.9"])
async def test_a_version_that_is_too_old_is_refused(containment, bin_directory, version):
    path = fake_codex(bin_directory, version=version)
    versions = Versions()
    for _ in range(2):
        with pytest.raises(errors.UnsupportedVersionError, match=r"0\.163\.0 or newer") as caught:
            await versions.check(str(path), OPTIONS, containment)
    assert (caught.value.codex_path, caught.value.version, caught.value.minimum) == (
        str(path),
        version,
        ".".join(map(str, MINIMUM_VERSION)),
    )


@pytest.mark.parametrize("version", ["0.163.0", "0.999.1", "1.0.0", "0.170.0-alpha.3"])
async def test_a_version_that_is_new_enough_is_taken(containment, bin_directory, version):
    await Versions().check(str(fake_codex(bin_directory, version=version)), OPTIONS, containment)


@pytest.mark.parametrize(
    "answer", ["echo my own wrapper", "exit 3", "kill -9 $$", "head -c 100000 /dev/zero"]
)
async def test_what_is_no_version_is_let_through_with_a_warning(containment, bin_directory, answer):
    path = asked(bin_directory, answer)
    with structlog.testing.capture_logs() as log:
        await Versions().check(str(path), OPTIONS, containment)
    assert log == [{"event": "codex.version_unknown", "codex_path": str(path), "log_level": "warning"}]


async def test_a_version_in_pieces_is_read_to_its_end(containment, bin_directory):
    path = asked(bin_directory, "printf 'codex-cli 0.1'; sleep 0.02; echo 01.0")
    with pytest.raises(errors.UnsupportedVersionError):
        await Versions().check(str(path), OPTIONS, containment)


async def test_a_binary_that_does_not_answer_keeps_all_who_ask_waiting_no_longer_than_one(
    containment, bin_directory
):
    path, versions = asked(bin_directory, "exec sleep 600"), Versions()
    caught: list[errors.SpawnError] = []

    async def ask() -> None:
        try:
            await versions.check(str(path), CodexOptions(deadlines=Deadlines(spawn_seconds=0.2)), containment)
        except errors.SpawnError as exc:
            caught.append(exc)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert trio.current_time() - began < 1.5
    assert len(caught) == 10
    assert "did not say its version within 0.2 s" in str(caught[0])


async def test_a_binary_that_went_away_is_an_error_that_names_it(containment, bin_directory):
    with pytest.raises(errors.SpawnError, match="No such file"):
        await Versions().check(str(bin_directory / "codex"), OPTIONS, containment)


async def test_what_is_no_program_is_an_error_that_says_so(containment, tmp_path):
    path = tmp_path / "codex"
    path.write_bytes(b"\0\0")
    path.chmod(0o755)
    with pytest.raises(errors.SpawnError, match="Exec format error"):
        await Versions().check(str(path), OPTIONS, containment)


async def test_the_real_codex_says_its_version(containment, codex_binary):
    with structlog.testing.capture_logs() as log:
        await Versions().check(str(codex_binary), OPTIONS, containment)
    assert log == []
