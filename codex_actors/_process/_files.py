# What a process is given, and what the operating system says when it cannot be.

import errno
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import IO

from codex_actors import errors

_OUT_OF_SOMETHING = {
    errno.EMFILE: "too few file descriptors for this process; raise `ulimit -n` or run fewer turns at once",
    errno.ENFILE: "the machine is out of file descriptors",
    errno.ENOMEM: "the machine is out of memory",
    errno.EAGAIN: "too many processes for this user; raise `ulimit -u` or run fewer turns at once",
    errno.ENOSPC: "no space left for temporary data",
}


@contextmanager
def translate_os_errors(path: str) -> Generator[None]:
    """Turn what the operating system says when a process cannot be started into our errors."""
    try:
        yield
    except OSError as exc:
        # Without the frames inside Popen, whose locals hold the environment.
        raise (resource_limit(exc) or errors.SpawnError(path, exc)) from exc.with_traceback(None)


def resource_limit(error: OSError) -> errors.ResourceLimitError | None:
    """What the machine is out of, if that is what the operating system says."""
    if error.errno not in _OUT_OF_SOMETHING:
        return None
    return errors.ResourceLimitError(_OUT_OF_SOMETHING[error.errno], error.errno)


@contextmanager
def open_anonymous_file(data: bytes) -> Generator[int]:
    """Open a descriptor with `data` behind it that leaves nothing to clean up, even after a crash."""
    with ExitStack() as files:
        with translate_os_errors("a turn"):
            file = files.enter_context(_anonymous_file())
            file.write(data)
            file.seek(0)
        yield file.fileno()


def _anonymous_file() -> IO[bytes]:
    if sys.platform == "linux":
        return open(os.memfd_create("codex_actors"), "w+b")  # noqa: PTH123 - a descriptor has no path
    return tempfile.TemporaryFile()  # pragma: no cover - the tests run on Linux
