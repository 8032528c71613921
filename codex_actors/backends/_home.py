# What Codex keeps on disk, only read. Its formats are its own and undocumented: what does not look as
# expected counts as absent here, and Codex itself has the last word.

import json
import os
import pwd
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from codex_actors import _toml
from codex_actors._toml import Table
from codex_actors.backends._argv import environment
from codex_actors.errors import CodexHomeError, OptionError
from codex_actors.options import CodexOptions, ThreadOptions, forgetful

_SYSTEM_CONFIG = Path("/etc/codex/config.toml")
_ROLLOUT = re.compile(r"rollout-.*-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl(?:\.zst)?")
# Who may have started a thread that a person would call their last one; the others are subagents.
_SOURCES = frozenset({"cli", "exec", "vscode"})


@forgetful
def find_home(codex: CodexOptions, host: Mapping[str, str]) -> Path:
    """CODEX_HOME, as Codex will find it.

    Args:
        codex: The options, which may name it.
        host: Our own environment.

    Raises:
        CodexHomeError: Nothing says where it is.
    """
    variables = environment(codex, host)
    if named := variables.get("CODEX_HOME"):
        return Path(named)
    return Path(variables.get("HOME") or _home_of_user(), ".codex")


def read_config_files(codex: CodexOptions, thread: ThreadOptions, host: Mapping[str, str]) -> list[Table]:
    """What stands in the configuration files that Codex may read for a thread, strongest last.

    Args:
        codex: The options, which may name CODEX_HOME.
        thread: Its directory and profile.
        host: Our own environment.

    Raises:
        OptionError: The profile has no file; Codex would silently do without. Or the thread's directory
            starts from a current one that is gone.
        CodexHomeError: Nothing says where CODEX_HOME is.
    """
    home, cwd = find_home(codex, host), absolute_cwd(thread)
    files = [_SYSTEM_CONFIG]
    if not thread.ignore_user_config:
        files.append(home / "config.toml")
    if thread.profile:
        files.append(_profile(home, thread.profile))
    files += [directory / ".codex" / "config.toml" for directory in reversed((cwd, *cwd.parents))]
    return [table for file in files if (table := _read_toml(file))]


def is_surely_read_only(home: Path, thread: ThreadOptions) -> bool:
    """Whether no command that the model runs on a thread can write anything.

    The sandbox alone does not say so: a command that a ``.rules`` file allows runs outside of it, and a
    worktree is made before it.

    Args:
        home: CODEX_HOME.
        thread: Its sandbox and directory.
    """
    if thread.sandbox != "read-only" or thread.worktree:
        return False
    cwd = absolute_cwd(thread)
    above = (directory / ".codex" for directory in (cwd, *cwd.parents))
    folders = (_SYSTEM_CONFIG.parent, home, *above)
    return thread.ignore_rules or not any(any((folder / "rules").glob("*.rules")) for folder in folders)


def absolute_cwd(thread: ThreadOptions) -> Path:
    """The directory of a thread.

    Args:
        thread: Which may name it.

    Raises:
        OptionError: It starts from the current one, and that is gone.
    """
    try:
        return Path(thread.cwd or ".").absolute()
    except FileNotFoundError:
        raise OptionError(
            "ThreadOptions.cwd", "starts from the current directory, which is gone: name an absolute path"
        ) from None


def find_thread_by_name(home: Path, name: str) -> str | None:
    """The id of the thread that was given a name; the latest, if several were.

    Args:
        home: CODEX_HOME.
        name: The name, exactly.
    """
    names: dict[str, object] = {}
    for entry in _read_lines(home / "session_index.jsonl"):
        thread_id = str(entry.get("id"))
        names.pop(thread_id, None)
        names[thread_id] = entry.get("thread_name")
    return next((thread_id for thread_id, its_name in reversed(names.items()) if its_name == name), None)


def find_last_thread(home: Path, cwd: Path | None = None) -> str | None:
    """The id of the thread that was used last.

    Args:
        home: CODEX_HOME.
        cwd: The directory in which it was begun. None is any.
    """
    for rollout in sorted((home / "sessions").rglob("rollout-*"), key=_used_at, reverse=True):
        begun = _first_payload(rollout)
        here = cwd is None or Path(str(begun.get("cwd"))).resolve() == cwd.resolve()
        if here and str(begun.get("source")) in _SOURCES:
            return thread_id_of(rollout)
    return None


def find_rollout(home: Path, thread_id: str) -> Path | None:
    """The record of a thread.

    Args:
        home: CODEX_HOME.
        thread_id: The thread's UUID.
    """
    wanted = thread_id.lower()
    for directory in _likely_directories(home, wanted):
        for file in directory.glob("rollout-*"):
            if thread_id_of(file) == wanted:
                return file
    everywhere = (
        file for part in ("sessions", "archived_sessions") for file in (home / part).rglob("rollout-*")
    )
    return next((file for file in everywhere if thread_id_of(file) == wanted), None)


def thread_id_of(rollout: Path) -> str | None:
    """The thread that a file is the record of, by its name."""
    match = _ROLLOUT.fullmatch(rollout.name)
    return match[1] if match else None


def _likely_directories(home: Path, thread_id: str) -> Iterator[Path]:
    # The first 48 bits of a UUIDv7 are milliseconds; directories are named by a local date.
    try:
        begun = datetime.fromtimestamp(int(thread_id.replace("-", "")[:12], 16) / 1000, UTC)
        days = [begun + timedelta(days=shift) for shift in (0, -1, 1)]
    except (ValueError, OverflowError, OSError):
        return
    for day in days:
        yield home / "sessions" / day.strftime("%Y/%m/%d")


def _home_of_user() -> str:
    # Not Path.home(): that reads our own HOME, which Codex need not have.
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = ""
    if not home:
        raise CodexHomeError(
            "~/.codex",
            "is nowhere: HOME is not set, and this user has no home; name one in CodexOptions.codex_home",
        )
    return home


def _profile(home: Path, name: str) -> Path:
    file = home / f"{name}.config.toml"
    if not file.is_file():
        raise OptionError("ThreadOptions.profile", f"has no file {file}, and Codex would silently do without")
    return file


def _read_toml(file: Path) -> Table:
    try:
        status = file.stat()
        return _parsed(file, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError, RecursionError):
        return {}


@lru_cache(maxsize=64)  # every turn asks, and reading them anew takes as long as starting a task
def _parsed(file: Path, _mtime_ns: int, _size: int) -> Table:
    return _toml.table(tomllib.loads(file.read_text(encoding="utf-8")))


def _read_lines(file: Path) -> Iterator[Table]:
    try:
        with file.open("rb") as lines:
            yield from map(_read_json, lines)
    except OSError:
        return


def _read_json(line: bytes) -> Table:
    try:
        return _toml.table(json.loads(line))
    except (ValueError, RecursionError):
        return {}


def _first_payload(rollout: Path) -> Table:
    for line in _read_lines(rollout):
        return _toml.table(line.get("payload"))
    return {}


def _used_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
