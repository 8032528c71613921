# Finds the Codex binary and asks it once what version it is.

import os
import re
import shutil
from importlib import import_module
from pathlib import Path

import structlog
import trio

from codex_actors import errors
from codex_actors._process import Containment, open_anonymous_file, translate_os_errors
from codex_actors.backends._argv import environment
from codex_actors.options import CodexOptions

_log = structlog.get_logger("codex_actors")

MINIMUM_VERSION = (0, 163, 0)
_VERSION = re.compile(rb"codex-cli (\d+)\.(\d+)\.(\d+)")
_MAX_ANSWER_BYTES = 4096


def find_codex(codex_path: str | os.PathLike[str] | None) -> str:
    """Find the binary: the one named, else the one of the `codex` extra, else the one on PATH.

    The extra comes before PATH because it was installed beside this library, in a known version, on
    purpose.

    Raises:
        CodexNotFoundError: There is none.
    """
    if codex_path is not None:
        found = shutil.which(os.fspath(codex_path))
        searched: tuple[str, ...] = (os.fspath(codex_path),)
    else:
        found = _bundled() or shutil.which("codex")
        searched = ("the package openai-codex-cli-bin", "codex on PATH")
    if found is None:
        raise errors.CodexNotFoundError(searched)
    return os.path.abspath(found)  # noqa: PTH100 - a link stays a link: Codex looks beside its own path


def _bundled() -> str | None:
    try:
        package = import_module("codex_cli_bin")
        path: Path = package.bundled_codex_path()
    except (ImportError, FileNotFoundError):
        return None
    return str(path)


def find_bwrap(codex_path: str) -> str:
    """Find the program that makes namespaces: the one that came with Codex, else the one on PATH.

    Raises:
        ContainmentError: There is none.
    """
    bundled = Path(codex_path).resolve().parents[1] / "codex-resources" / "bwrap"
    found = shutil.which(str(bundled)) or shutil.which("bwrap")
    if found is None:
        raise errors.ContainmentError("namespace", f"there is neither {bundled} nor a bwrap on PATH")
    return found


# The binaries that are new enough, each by its path and what changes with its file: a fact about this
# machine, which every runtime of the program shares.
_checked: set[tuple[str, int, int]] = set()


class Versions:
    """Asks each binary what it is, once, until its file changes."""

    def __init__(self) -> None:
        self._asking = trio.Lock()

    async def check(self, codex_path: str, codex: CodexOptions, containment: Containment) -> None:
        """See that the binary is one we can rely on.

        What does not look like a version is let through with a warning: it may be a wrapper, and no
        turn succeeds without the event that says so.

        Raises:
            UnsupportedVersionError: It is too old.
            SpawnError: It cannot be started, or does not answer in time.
        """
        deadlines = codex.deadlines
        identity = _identity(codex_path)
        if identity in _checked:
            return
        with trio.move_on_after(deadlines.spawn_seconds) as asking:
            async with self._asking:
                if identity not in _checked:
                    if judge_version(codex_path, await _ask_version(codex_path, codex, containment)) is None:
                        _log.warning("codex.version_unknown", codex_path=codex_path)
                    _checked.add(identity)
        if asking.cancelled_caught:
            late = TimeoutError(f"it did not say its version within {deadlines.spawn_seconds:g} s")
            raise errors.SpawnError(codex_path, late)


def _identity(codex_path: str) -> tuple[str, int, int]:
    with translate_os_errors(codex_path):
        status = Path(codex_path).stat()
    return codex_path, status.st_mtime_ns, status.st_size


async def _ask_version(codex_path: str, codex: CodexOptions, containment: Containment) -> bytes:
    answer = b""
    with open_anonymous_file(b"") as stdin:
        async with containment.open_process(
            (codex_path, "--version"),
            env=environment(codex, os.environ),
            stdin=stdin,
            interrupt_seconds=0.1,
        ) as process:
            while len(answer) < _MAX_ANSWER_BYTES and (data := await process.receive_some()):
                answer += data
    return answer


def judge_version(codex_path: str, answer: bytes) -> str | None:
    """Read the version out of what a Codex binary says; None if it does not look like one.

    Raises:
        UnsupportedVersionError: It is too old.
    """
    found = _VERSION.search(answer)
    if found is None:
        return None
    version = b".".join(found.groups()).decode()
    if tuple(map(int, found.groups())) < MINIMUM_VERSION:
        raise errors.UnsupportedVersionError(codex_path, version, ".".join(map(str, MINIMUM_VERSION)))
    return version
