"""What Codex keeps on disk, read only."""

import json
import os
import pwd
from pathlib import Path

import pytest

from codex_actors.backends import _home
from codex_actors.backends._home import (
    find_home,
    find_last_thread,
    find_rollout,
    find_thread_by_name,
    is_surely_read_only,
    read_config_files,
    thread_id_of,
)
from codex_actors.errors import CodexHomeError, OptionError
from codex_actors.options import CodexOptions, ThreadOptions

OLD = "019f0000-0000-7000-8000-00000000000a"
NEW = "01a1f8d9-1305-7df3-b436-4762163822ac"  # begun on 2026-11-20, UTC


def write(file: Path, *lines: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def rollout(home, thread_id, day="2026/11/20", *, cwd="/w", source="exec", used_at=0.0, folder="sessions"):
    file = write(
        home / folder / day / f"rollout-2026-11-20T12-00-00-{thread_id}.jsonl",
        {"type": "session_meta", "payload": {"id": thread_id, "cwd": str(cwd), "source": source}},
    )
    os.utime(file, (used_at, used_at))
    return file


@pytest.fixture(autouse=True)
def no_system_configuration(monkeypatch, tmp_path):
    monkeypatch.setattr(_home, "_SYSTEM_CONFIG", tmp_path / "etc" / "config.toml")


# Where it is


@pytest.mark.parametrize(
    ("codex", "host", "home"),
    [
        (CodexOptions(codex_home="/o"), {"CODEX_HOME": "/c", "HOME": "/h"}, "/o"),
        (CodexOptions(env={"CODEX_HOME": "/e"}), {"CODEX_HOME": "/c", "HOME": "/h"}, "/e"),
        (CodexOptions(), {"CODEX_HOME": "/c", "HOME": "/h"}, "/c"),
        (CodexOptions(), {"HOME": "/h"}, "/h/.codex"),
        (CodexOptions(), {"CODEX_HOME": "", "HOME": "/h"}, "/h/.codex"),
        (CodexOptions(), {}, "/of-the-user/.codex"),
        (CodexOptions(), {"HOME": ""}, "/of-the-user/.codex"),
        (CodexOptions(inherit_env="none"), {"CODEX_HOME": "/c", "HOME": "/h"}, "/of-the-user/.codex"),
    ],
)
def test_the_home_is_the_one_that_codex_will_find(codex, host, home, monkeypatch):
    entry = pwd.struct_passwd(("user", "x", 1, 1, "", "/of-the-user", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", {os.getuid(): entry}.__getitem__)
    monkeypatch.setenv("HOME", "/ours-which-codex-does-not-get")
    assert find_home(codex, host) == Path(home)


@pytest.mark.parametrize("entries", [{}, {os.getuid(): pwd.struct_passwd(("user", "x", 1, 1, "", "", ""))}])
def test_a_user_without_a_home_is_told_to_name_one(entries, monkeypatch):
    """As in a container that runs under a number of its own."""
    monkeypatch.setattr(pwd, "getpwuid", entries.__getitem__)
    with pytest.raises(CodexHomeError, match=r"CODEX_HOME ~/\.codex .*CodexOptions\.codex_home"):
        find_home(CodexOptions(), {"HOME": ""})


@pytest.fixture
def no_current_directory(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()


@pytest.mark.usefixtures("no_current_directory")
@pytest.mark.parametrize("cwd", [None, "sub"])
def test_without_a_current_directory_the_thread_needs_an_absolute_one(tmp_path, cwd):
    thread = ThreadOptions(cwd=cwd, sandbox="read-only")
    with pytest.raises(OptionError, match=r"ThreadOptions\.cwd.*absolute"):
        read_config_files(CodexOptions(codex_home=tmp_path), thread, {})
    with pytest.raises(OptionError, match=r"ThreadOptions\.cwd.*absolute"):
        is_surely_read_only(tmp_path, thread)


@pytest.mark.usefixtures("no_current_directory")
def test_an_absolute_directory_does_without_a_current_one(tmp_path):
    assert read(tmp_path, cwd=tmp_path) == []


# Configuration files


def read(home, **thread):
    thread.setdefault("cwd", home)
    return read_config_files(CodexOptions(codex_home=home), ThreadOptions(**thread), {})


def test_all_files_are_read_the_strongest_last(tmp_path):
    home, project = tmp_path / "home", tmp_path / "project"
    write(tmp_path / "etc/config.toml", "model = 'system'")
    write(home / "config.toml", "model = 'user'")
    write(home / "work.config.toml", "model = 'profile'")
    write(project / ".codex/config.toml", "model = 'project'")
    write(project / "sub/.codex/config.toml", "model = 'sub'")
    models = [table["model"] for table in read(home, profile="work", cwd=project / "sub")]
    assert models == ["system", "user", "profile", "project", "sub"]


def test_the_users_file_can_be_left_out(tmp_path):
    write(tmp_path / "config.toml", "model = 'user'")
    assert read(tmp_path, ignore_user_config=True) == []


@pytest.mark.parametrize("content", [b"model = ", b"\xff", b"a = " + b"[" * 100_000])
def test_what_cannot_be_read_is_left_to_codex(tmp_path, content):
    (tmp_path / "config.toml").write_bytes(content)
    assert read(tmp_path) == []


def test_a_profile_without_a_file_is_refused_because_codex_would_do_without(tmp_path):
    with pytest.raises(OptionError, match=r"ThreadOptions\.profile.*nosuch\.config\.toml"):
        read(tmp_path, profile="nosuch")


# Names


def test_a_thread_is_found_by_the_name_it_has_now(tmp_path):
    write(
        tmp_path / "session_index.jsonl",
        {"id": OLD, "thread_name": "first"},
        {"id": NEW, "thread_name": "second"},
        {"id": OLD, "thread_name": "renamed"},
    )
    assert find_thread_by_name(tmp_path, "renamed") == OLD
    assert find_thread_by_name(tmp_path, "second") == NEW
    assert find_thread_by_name(tmp_path, "first") is None
    assert find_thread_by_name(tmp_path, "SECOND") is None


def test_of_several_threads_of_one_name_the_latest_named_is_meant(tmp_path):
    """A fork takes its parent's name along."""
    index = write(
        tmp_path / "session_index.jsonl", {"id": OLD, "thread_name": "n"}, {"id": NEW, "thread_name": "n"}
    )
    assert find_thread_by_name(tmp_path, "n") == NEW
    write(
        index,
        {"id": OLD, "thread_name": "x"},
        {"id": NEW, "thread_name": "n"},
        {"id": OLD, "thread_name": "n"},
    )
    assert find_thread_by_name(tmp_path, "n") == OLD


def test_a_damaged_index_is_read_as_far_as_it_goes(tmp_path):
    write(
        tmp_path / "session_index.jsonl",
        "{",
        "[]",
        "[" * 100_000,
        {"id": NEW, "thread_name": "n"},
        '{"id": "',
    )
    assert find_thread_by_name(tmp_path, "n") == NEW


def test_without_an_index_there_are_no_names(tmp_path):
    assert find_thread_by_name(tmp_path, "n") is None


# The last thread


def test_the_last_thread_is_the_one_last_used(tmp_path):
    rollout(tmp_path, OLD, used_at=20)
    rollout(tmp_path, NEW, used_at=10)
    assert find_last_thread(tmp_path) == OLD


def test_the_last_thread_of_a_directory_was_begun_there(tmp_path):
    here, link = tmp_path / "here", tmp_path / "link"
    here.mkdir()
    link.symlink_to(here)
    rollout(tmp_path, OLD, cwd=here, used_at=10)
    rollout(tmp_path, NEW, cwd="/elsewhere", used_at=20)
    assert find_last_thread(tmp_path, link) == OLD
    assert find_last_thread(tmp_path, tmp_path) is None


def test_a_subagents_thread_is_nobodys_last(tmp_path):
    rollout(tmp_path, OLD, source={"subagent": {}})
    assert find_last_thread(tmp_path) is None


def test_damaged_records_are_passed_over(tmp_path):
    rollout(tmp_path, NEW)
    folder = tmp_path / "sessions/2026/11/20"
    (folder / f"rollout-x-{OLD}.jsonl").write_text("")
    (folder / f"rollout-y-{OLD}.jsonl").write_text('{"payload": 1}\n')
    (folder / f"rollout-z-{OLD}.jsonl").symlink_to(tmp_path / "gone")
    assert find_last_thread(tmp_path) == NEW


def test_an_empty_home_has_no_last_thread(tmp_path):
    assert find_last_thread(tmp_path) is None


# Records


@pytest.mark.parametrize("day", ["2026/11/20", "2026/11/19", "2026/11/21", "2020/01/01"])
def test_a_record_is_found_wherever_its_day_put_it(tmp_path, day):
    file = rollout(tmp_path, NEW, day)
    rollout(tmp_path, OLD, day)
    assert find_rollout(tmp_path, NEW) == find_rollout(tmp_path, NEW.upper()) == file


def test_an_archived_or_compressed_record_is_found(tmp_path):
    archived = rollout(tmp_path, NEW, ".", folder="archived_sessions")
    assert find_rollout(tmp_path, NEW) == archived
    compressed = archived.rename(archived.with_name(archived.name + ".zst"))
    assert find_rollout(tmp_path, NEW) == compressed


@pytest.mark.parametrize("thread_id", [NEW, "ffffffff-ffff-ffff-ffff-ffffffffffff", "no id"])
def test_a_thread_without_a_record_is_not_found(tmp_path, thread_id):
    rollout(tmp_path, OLD)
    assert find_rollout(tmp_path, thread_id) is None


def test_other_files_are_nobodys_record():
    assert thread_id_of(Path("rollout-2026.jsonl")) is None


# What its sandbox is worth


@pytest.mark.parametrize("folder", ["etc", "home", "project/.codex", "project/sub/.codex"])
def test_a_read_only_sandbox_is_certain_only_where_no_rule_can_let_a_command_out(tmp_path, folder):
    home, cwd = tmp_path / "home", tmp_path / "project" / "sub"
    cwd.mkdir(parents=True)
    strict = ThreadOptions(sandbox="read-only", cwd=cwd)
    assert is_surely_read_only(home, strict)
    write(tmp_path / folder / "rules" / "default.rules", 'prefix_rule(pattern=["make"], decision="allow")')
    assert not is_surely_read_only(home, strict)
    assert is_surely_read_only(home, ThreadOptions(sandbox="read-only", cwd=cwd, ignore_rules=True))


@pytest.mark.parametrize("sandbox", [None, "workspace-write", "danger-full-access"])
def test_no_other_sandbox_is_surely_read_only(tmp_path, sandbox):
    assert not is_surely_read_only(tmp_path, ThreadOptions(sandbox=sandbox, cwd=tmp_path, ignore_rules=True))


def test_a_configuration_file_that_changed_is_read_again(tmp_path):
    codex = CodexOptions(codex_home=tmp_path)
    strict = ThreadOptions(cwd=tmp_path)
    write(tmp_path / "config.toml", "a = 1")
    assert {"a": 1} in read_config_files(codex, strict, {})
    write(tmp_path / "config.toml", "a = 22")
    assert {"a": 22} in read_config_files(codex, strict, {})
