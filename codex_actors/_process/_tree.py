# What every means of containment has to offer: start a tree, signal its root, and in the end clear all of it.

from collections.abc import Mapping, Sequence
from typing import Protocol

from codex_actors._data import Data
from codex_actors.results import Leftovers


class Launch(Data, frozen=True, kw_only=True):
    """What is to be started.

    Attributes:
        command: The executable and its arguments.
        env: Its whole environment.
        fds: Its descriptors, by the numbers they are to have; the first three are always there.
        wrappers: How many processes stand between the root and the one that an interrupt is meant for.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    fds: Mapping[int, int]
    wrappers: int = 0


class Tree(Protocol):
    """One process and all that it caused.

    Attributes:
        pid: The root's process id; 0 until it has one.
    """

    pid: int

    @property
    def returncode(self) -> int | None:
        """The root's exit status; negative is a signal number; None while it runs."""
        ...

    async def watch(self) -> None:
        """Take note of what becomes of it; somebody must, for the others to be told."""
        ...

    async def wait_started(self) -> None:
        """Wait until the root runs.

        Raises:
            OSError: It could not be started.
        """
        ...

    async def wait_exit(self) -> None:
        """Wait until the root is gone, or known never to have been."""
        ...

    def interrupt(self) -> None:
        """Ask the root to stop."""
        ...

    def kill(self) -> None:
        """Kill the root."""
        ...

    async def clear(self, may_stay: Sequence[str]) -> Leftovers:
        """Kill what is left, but for those that match a pattern; returns when they are dead.

        Args:
            may_stay: Patterns, as the shell's, of names and command lines.
        """
        ...

    def close(self) -> None:
        """Let go of the tree."""
        ...


class Means(Protocol):
    """A way to contain trees."""

    async def start(self, launch: Launch) -> Tree:
        """Start a tree; the caller must clear and close it."""
        ...
