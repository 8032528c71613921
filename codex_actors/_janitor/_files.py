# Directories and lock files. Nothing is ever reached through a symbolic link: each is opened by its name in
# the directory that was looked into, judged by its descriptor, and emptied through it.

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from codex_actors._janitor import _facts
from codex_actors._janitor._round import Finding, Round
from codex_actors._locks import FOLDER
from codex_actors._ownership import directory_name, has_gone, owner_of_directory

_LOCK_FILE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.lock")
_AS_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_AS_LOCK = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_directory(purpose: str) -> Generator[Path]:
    """Make a private directory for temporary files; it is removed when the block is left, or by a janitor.

    Args:
        purpose: A word for its name.
    """
    path = Path(tempfile.gettempdir(), directory_name(purpose, _facts.this_owner(token_hex(4))))
    path.mkdir(mode=0o700)
    try:
        with _opened(path, _AS_DIRECTORY) as fd:
            _is_free(fd)  # from here on it is not, where the file system knows locks
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep_directories(this_round: Round) -> None:
    """Remove the directories that dead owners have left among the temporary files."""
    with suppress(OSError), _opened(tempfile.gettempdir(), _AS_DIRECTORY) as parent:
        for name in os.listdir(parent):  # noqa: PTH208 - a descriptor has no path
            this_round.check()
            owner = owner_of_directory(name)
            if owner is None or not has_gone(owner, _facts.here(), _facts.seen(owner.pid)):
                continue
            with suppress(OSError), _opened(name, _AS_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent) as fd:
                if _is_ours(fd) and _is_free(fd):
                    gone = not this_round.dry_run and _remove_directory(name, fd, parent)
                    path = str(Path(tempfile.gettempdir(), name))
                    this_round.findings.append(
                        Finding(kind="directory", name=path, owner_pid=owner.pid, gone=gone)
                    )


def _remove_directory(name: str, fd: int, parent: int) -> bool:
    shutil.rmtree(".", ignore_errors=True, dir_fd=fd)  # all that is in it; not it itself
    with suppress(OSError):
        os.rmdir(name, dir_fd=parent)
        return True
    return False


def sweep_locks(this_round: Round, codex_home: Path) -> None:
    """Remove the lock files that nobody holds."""
    folder_path = codex_home / FOLDER
    with suppress(OSError), _opened(folder_path, _AS_DIRECTORY | os.O_NOFOLLOW) as folder:
        for name in os.listdir(folder):  # noqa: PTH208 - as above
            this_round.check()
            if not _LOCK_FILE.fullmatch(name):
                continue
            with suppress(OSError), _opened(name, _AS_LOCK, dir_fd=folder) as fd:
                if _is_ours(fd) and _is_empty_file(fd) and _is_free(fd) and _is_still(name, fd, folder):
                    if not this_round.dry_run:
                        os.unlink(name, dir_fd=folder)
                    this_round.findings.append(
                        Finding(kind="lock", name=str(folder_path / name), gone=not this_round.dry_run)
                    )


@contextmanager
def _opened(path: str | Path, flags: int, *, dir_fd: int | None = None) -> Generator[int]:
    fd = os.open(path, flags, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_ours(fd: int) -> bool:
    return os.fstat(fd).st_uid == os.geteuid()


def _is_empty_file(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _is_free(fd: int) -> bool:
    """Whether nobody else holds it; then we do, until the descriptor is closed."""
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_still(name: str, fd: int, folder: int) -> bool:
    """Whether the name is still that of the file: who held it before may have removed it."""
    return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=folder, follow_symlinks=False))
