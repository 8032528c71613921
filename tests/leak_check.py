# Nothing of ours outlives its turn; so nothing outlives a test. Looking is cheap, because only what is new
# since the test began is looked at closely. Without /proc, processes and descriptors are not looked at.

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

# Orphans that were killed need a moment to vanish, and so does a thread that has done its work. What is ours
# (children, descriptors, files) stays until someone ends it, so that waiting hides nothing.
GRACE_SECONDS = 1.0

HAS_PROC = Path("/proc/self/fd").exists()


class Traces(msgspec.Struct, frozen=True):
    """What can be left behind, as seen at one moment."""

    processes: frozenset[int]
    descriptors: frozenset[str]
    files: frozenset[str]
    threads: frozenset[threading.Thread]

    @classmethod
    def now(cls) -> Self:
        return cls(
            processes=frozenset(_processes()),
            descriptors=frozenset(_descriptors()),
            files=frozenset(entry.name for entry in Path(tempfile.gettempdir()).iterdir()),
            threads=frozenset(threading.enumerate()),
        )

    def new_since(self, before: Self, home: Path) -> list[str]:
        """Say what has come since `before`; of processes, our children and those that live below `home`."""
        threads = (t.name for t in self.threads - before.threads)
        return [
            *filter(None, (_describe(pid, home) for pid in self.processes - before.processes)),
            *(f"descriptor {it}" for it in self.descriptors - before.descriptors),
            *(f"temporary file {it}" for it in self.files - before.files),
            # By this name, trio keeps a thread that has nothing to do for whoever needs one next.
            *(f"thread {name}" for name in threads if not name.startswith("Trio thread ")),
        ]


def left_since(before: Traces, home: Path) -> list[str]:
    """Say what is left over that was not there before, once the grace is over."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := Traces.now().new_since(before, home)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _processes() -> Iterator[int]:
    if HAS_PROC:
        yield from (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _descriptors() -> Iterator[str]:
    if HAS_PROC:
        for fd in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # the one that listed them is gone by now
                yield f"{fd.name} -> {fd.readlink()}"


def _describe(pid: int, home: Path) -> str | None:
    with suppress(OSError):  # it has just ended
        name, state, parent = _status(pid)
        if parent == os.getpid():
            return f"child process {pid} ({name}, {state})"
        if f"CODEX_HOME={home}/".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return f"orphaned process {pid} ({name})"
    return None


def _status(pid: int) -> tuple[str, str, int]:
    # The name may hold spaces and brackets: what follows it starts after the last bracket.
    name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    state, parent, *_ = rest.split()
    return name.partition("(")[2], state, int(parent)
