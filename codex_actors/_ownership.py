# Whose is it, and is its owner gone? What a runtime leaves when its machine or it is killed says whose it
# was: in the name of a directory, or in a variable of a process. Pure: the facts are seen by _janitor.
#
# A process is known by its number and its start, and both only mean something at one boot of one machine,
# among those who see the same processes by the same clock (`view`: the PID and time namespaces). Whatever
# cannot be judged from here counts as alive.

import re
from typing import Literal, TypeAlias

from codex_actors._data import Data

VARIABLE = "CODEX_ACTORS_OWNER"
"""The variable of a turn's processes that says whose they are."""

Seen: TypeAlias = int | Literal["nobody", "somebody"]
"""Who has a process number now: one who started then, nobody, or somebody of whom no more can be seen."""

_OWNER = re.compile(r"([1-9][0-9]{0,6})-([0-9]{1,19})-([0-9a-f]{12})-([0-9a-f]{8})-([0-9a-f]{8})")
_DIRECTORY = re.compile(r"codex-actors-[a-z]+-(.*)")


class Place(Data, frozen=True, kw_only=True):
    """Where processes are known by their numbers.

    Attributes:
        boot: The machine, as long as it runs.
        view: Which processes are seen, and by which clock.
    """

    boot: str
    view: str


class Owner(Data, frozen=True, kw_only=True):
    """A process whose runtime something belongs to.

    Attributes:
        pid: Its number.
        started: When it started, in ticks since the boot.
        place: Where that number is its own.
        tag: Of a directory, what no other has; of a process, which CODEX_HOME its turn works with.
    """

    pid: int
    started: int
    place: Place
    tag: str

    def __str__(self) -> str:
        return f"{self.pid}-{self.started}-{self.place.boot}-{self.place.view}-{self.tag}"


def parse_owner(text: str) -> Owner | None:
    """Read what an owner writes; None if it is anything else."""
    if found := _OWNER.fullmatch(text):
        pid, started, boot, view, tag = found.groups()
        return Owner(pid=int(pid), started=int(started), place=Place(boot=boot, view=view), tag=tag)
    return None


def directory_name(purpose: str, owner: Owner) -> str:
    """The name of a directory of its owner."""
    return f"codex-actors-{purpose}-{owner}"


def owner_of_directory(name: str) -> Owner | None:
    """Whose directory it is, by its name; None if no owner gave it that."""
    found = _DIRECTORY.fullmatch(name)
    return parse_owner(found[1]) if found else None


def owner_of_process(environment: bytes) -> Owner | None:
    """Whose process it is, by its environment; None if nobody's, or more than one's."""
    prefix = f"{VARIABLE}=".encode()
    marks = [entry for entry in environment.split(b"\0") if entry.startswith(prefix)]
    return parse_owner(marks[0].removeprefix(prefix).decode(errors="replace")) if len(marks) == 1 else None


def has_gone(owner: Owner, here: Place, seen: Seen) -> bool:
    """Whether an owner is dead for certain.

    Args:
        owner: The owner.
        here: Where we are.
        seen: Who has its number, as seen from here.
    """
    if owner.place.boot != here.boot:
        return True
    if owner.place.view != here.view:
        return False
    return seen == "nobody" or (isinstance(seen, int) and seen != owner.started)


def is_orphan(owner: Owner, here: Place, seen: Seen) -> bool:
    """Whether a process has outlived its owner for certain.

    None outlives its machine: who seems to was given the variable by somebody else.
    """
    return owner.place.boot == here.boot and has_gone(owner, here, seen)
