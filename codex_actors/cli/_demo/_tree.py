# The supervision tree, as its supervisors say that it is: at its fullest, and at the end.

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from codex_actors import Child, ChildInfo, Codex, DynamicSupervisor, Supervisor
from codex_actors.telemetry import Event


class Branch(NamedTuple):
    """A supervisor or another child, or several children that are called the same, and what is below.

    Attributes:
        name: Its id.
        restart: When it is restarted; empty for the root.
        state: What it does.
        lives: Those that live.
        branches: What is below, the oldest first.
    """

    name: str
    restart: str
    state: str
    lives: tuple[Child, ...]
    branches: tuple["Branch", ...]

    @property
    def label(self) -> str:
        return self.name if len(self.lives) <= 1 else f"{len(self.lives)} x {self.name}"

    def size(self) -> int:
        """How many live in it."""
        return sum(len(branch.lives) for branch in self.everyone())

    def everyone(self) -> Iterator["Branch"]:
        """All branches of it, itself included."""
        yield self
        for branch in self.branches:
            yield from branch.everyone()


def grown(root: Supervisor) -> Branch:
    """The tree as it is now."""
    return Branch(root.name, "", "running", (), _below(root))


class Growth:
    """Watches a tree, whenever telemetry says that there is something new.

    Attributes:
        fullest: The tree when it had the most children.
    """

    def __init__(self, root: Supervisor) -> None:
        self._root = root
        self.fullest = grown(root)

    def look(self, _event: Event) -> None:
        """See whether there are more."""
        self.fullest = max(self.fullest, grown(self._root), key=Branch.size)


def _below(value: object) -> tuple[Branch, ...]:
    supervisor = value.supervisor if isinstance(value, Codex) else value
    if not isinstance(supervisor, Supervisor | DynamicSupervisor):
        return ()
    oldest_first = reversed(supervisor.which_children())
    same = (list(children) for _, children in groupby(oldest_first, key=lambda info: str(info.id)))
    return tuple(_branch(supervisor, children) for children in same)


def _branch(supervisor: Supervisor | DynamicSupervisor, children: list[ChildInfo]) -> Branch:
    first, lives = children[0], tuple(info.child for info in children if info.child)
    return Branch(
        str(first.id),
        _restart(supervisor, first),
        "restarting" if first.is_restarting else "running" if lives else "down",
        lives,
        tuple(branch for life in lives for branch in _below(life.value)),
    )


def _restart(supervisor: Supervisor | DynamicSupervisor, info: ChildInfo) -> str:
    if isinstance(supervisor, Supervisor):
        return supervisor.get_childspec(info.id).restart.value
    return supervisor.get_childspec(info.child).restart.value if info.child else ""


def drawn(at_work: Branch, at_end: Branch) -> Iterator[Sequence[str]]:
    """Draw a tree, with what has become of each branch of it, in rows of cells."""
    yield " ", "supervision tree", "restart", "at work", "at the end"
    yield from _drawn(at_work, at_end, "", "")


def _drawn(branch: Branch, at_end: Branch | None, first: str, others: str) -> Iterator[Sequence[str]]:
    yield " ", first + branch.label, branch.restart, branch.state, at_end.state if at_end else "gone"
    ends = {below.name: below for below in at_end.branches} if at_end else {}
    for below in branch.branches:
        corner, line = ("└─ ", "   ") if below is branch.branches[-1] else ("├─ ", "│  ")
        yield from _drawn(below, ends.get(below.name), others + corner, others + line)
