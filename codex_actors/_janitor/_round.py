# One round of the janitor: what it has found, and how long it may go on.

import time
from typing import Literal

import trio

from codex_actors._data import Data


class Finding(Data, frozen=True, kw_only=True):
    """Something whose owner is dead.

    Attributes:
        kind: What it is.
        name: The name of a process's program, or a path.
        pid: The process; None if it is a file.
        owner_pid: Who owned it; None if that is not known, only that nobody does.
        gone: Whether it was put away; never in a dry run.
    """

    kind: Literal["process", "directory", "lock"]
    name: str
    pid: int | None = None
    owner_pid: int | None = None
    gone: bool = False


class Report(Data, frozen=True, kw_only=True):
    """What a round came to.

    Attributes:
        findings: What was found.
        complete: Whether there was time to look everywhere.
    """

    findings: tuple[Finding, ...]
    complete: bool


class OutOfTimeError(Exception):
    """The round has had its time."""


class Round:
    """What has been found so far, for how long it may go on, and whether anything is to be changed."""

    def __init__(self, *, seconds: float, dry_run: bool) -> None:
        self.findings: list[Finding] = []
        self.dry_run = dry_run
        self._ends_at = time.monotonic() + seconds

    def check(self) -> None:
        """See whether to go on; asked before each step.

        Raises:
            OutOfTimeError: The time is over.
            Cancelled: Whoever wanted the round does not any more.
        """
        trio.from_thread.check_cancelled()
        if time.monotonic() > self._ends_at:
            raise OutOfTimeError

    def pause(self, seconds: float) -> None:
        """Let time pass for those who were killed to vanish."""
        self.check()
        time.sleep(seconds)
