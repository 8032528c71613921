"""Programs for a supervisor: a tree, and what happens to it. Both Erlang's supervisor and ours can run them."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st

RESTARTS = ("permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
REASONS = ("normal", "shutdown", "{shutdown,term}", "crash")
STARTS = ("ok", "fail", "ignore")
CHANGES = ("start_child", "terminate_child", "restart_child", "delete_child")
LOOKS = ("which_children", "count_children", "get_childspec")

# How a child that is asked to stop does so; a deaf one never does. "clean" is "stop", a little later.
ON_STOP = ("stop", "stop", "clean", "normal", "{shutdown,term}", "crash", "deaf")

# Milliseconds. The longer one is never used up; waiting for the other one takes part of a burst of steps.
LONG, SHORT = 5_000, 10


class Worker(msgspec.Struct, frozen=True, tag="worker"):
    """A child that does what it is told.

    Attributes:
        shutdown: Milliseconds, or ``brutal_kill``.
        starts: What becomes of its starts, over and over.
        on_stop: How it ends when it is asked to stop.
    """

    id: str
    restart: str
    significant: bool
    shutdown: int | str
    starts: tuple[str, ...]
    on_stop: str


class Flags(msgspec.Struct, frozen=True, array_like=True):
    """How a supervisor treats its children; `period` is in seconds."""

    strategy: str
    intensity: int
    period: int
    auto_shutdown: str


class Tree(msgspec.Struct, frozen=True, tag="supervisor"):
    """A supervisor and its children."""

    id: str
    restart: str
    significant: bool
    flags: Flags
    children: "tuple[Worker | Tree, ...]"


class Exit(msgspec.Struct, frozen=True, tag="exit"):
    """The worker at this path ends by itself."""

    path: str
    reason: str


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Somebody calls the supervisor at this path."""

    path: str
    function: str
    argument: Worker | Tree | str = "none"


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """All this has happened when the supervisor at this path gets to see any of it."""

    path: str
    steps: tuple[Exit | Call, ...]


class Wait(msgspec.Struct, frozen=True, tag="wait"):
    """Time passes: so many seconds from the last wait to this one."""

    seconds: int


Step = Exit | Call | Hold | Wait


class Program(msgspec.Struct, frozen=True, array_like=True):
    """A tree and what happens to it, one step when nothing comes of the one before any more."""

    root: Tree
    steps: tuple[Step, ...]


def to_erlang(value: object) -> str:
    """Write anything a program consists of as an Erlang term. Paths, which start with a slash, are binaries."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return f'<<"{value}">>' if not value or value.startswith("/") else f"'{value}'"
        case tuple():
            return f"[{','.join(map(to_erlang, value))}]"
        case msgspec.Struct():
            tag = value.__struct_config__.tag
            fields = [getattr(value, name) for name in value.__struct_fields__]
            return f"{{{','.join(map(to_erlang, [tag, *fields] if tag else fields))}}}"
        case _:
            raise TypeError(value)


def walk(tree: Tree, path: str = "") -> Iterator[tuple[str, Worker | Tree]]:
    """Everything in a tree, with its path."""
    yield path, tree
    for child in tree.children:
        where = f"{path}/{child.id}"
        if isinstance(child, Tree):
            yield from walk(child, where)
        else:
            yield where, child


_Draw = Callable[[st.SearchStrategy[Any]], Any]

_FIRST_STARTS = st.sampled_from([*["ok"] * 30, "ignore", "ignore", "fail"])


@st.composite
def workers(draw: _Draw, child_id: str, first_starts: st.SearchStrategy[str], auto_shutdown: str) -> Worker:
    """A worker that can be the child of a supervisor with this `auto_shutdown`; now and then one that cannot."""
    restart = draw(st.sampled_from(RESTARTS))
    on_stop = draw(st.sampled_from(ON_STOP))
    in_vain = auto_shutdown == "never" and first_starts is _FIRST_STARTS
    return Worker(
        id=child_id,
        restart=restart,
        significant=restart != "permanent"
        and not in_vain
        and draw(st.integers(0, 9)) >= 5 + 4 * (auto_shutdown == "never"),
        shutdown=draw(st.sampled_from(["brutal_kill", SHORT if on_stop == "deaf" else LONG])),
        starts=(draw(first_starts), *draw(st.lists(st.sampled_from(STARTS), max_size=2))),
        on_stop=on_stop,
    )


_FLAGS = st.builds(
    Flags,
    st.sampled_from(STRATEGIES),
    st.sampled_from([0, 1, 1, 2, 3, 4]),
    st.sampled_from([1, 2]),
    st.sampled_from(["never", "never", "any_significant", "all_significant"]),
)
_SUBTREES = {1: "st", 2: "uv", 3: ""}
_WORKERS = "abc"


@st.composite
def trees(draw: _Draw, tree_id: str = "root", level: int = 1, *, significant: bool = False) -> Tree:
    """A tree of up to three levels."""
    flags = draw(_FLAGS)
    ids = [*_WORKERS[: draw(st.integers(1, 3))], *draw(st.sampled_from([*["", "", ""], *_SUBTREES[level]]))]
    children = []
    for child_id in draw(st.permutations(ids)):
        if child_id in _WORKERS:
            children.append(draw(workers(child_id, _FIRST_STARTS, flags.auto_shutdown)))
        else:
            matters = flags.auto_shutdown != "never" and draw(st.booleans())
            children.append(draw(trees(child_id, level + 1, significant=matters)))
    restart = draw(st.sampled_from(RESTARTS[significant:]))
    return Tree(tree_id, restart, significant, flags, tuple(children))


@st.composite
def programs(draw: _Draw) -> Program:
    """A program; not everything it does need make sense."""
    root = draw(trees())
    supervisors = {path: node for path, node in walk(root) if isinstance(node, Tree)}
    leaves = [path for path, node in walk(root) if isinstance(node, Worker)]

    def call(path: str, functions: tuple[str, ...]) -> Call:
        function = draw(st.sampled_from(functions))
        if function in {"which_children", "count_children"}:
            return Call(path, function)
        tree = supervisors[path]
        child_id = draw(st.sampled_from([*(child.id for child in tree.children), *_WORKERS, "d", "d"]))
        if function != "start_child":
            return Call(path, function, child_id)
        if child_id not in {*_WORKERS, "d"}:  # a subtree: only ever asked for where there is one
            child_id = "d"
        leaves.append(f"{path}/{child_id}")
        return Call(
            path, function, draw(workers(child_id, st.sampled_from(STARTS), tree.flags.auto_shutdown))
        )

    def exit_(paths: list[str]) -> Exit:
        return Exit(draw(st.sampled_from(paths)), draw(st.sampled_from(REASONS)))

    def hold(path: str) -> Hold:
        own = [leaf for leaf in leaves if leaf.rpartition("/")[0] == path]
        return Hold(
            path,
            tuple(
                exit_(own) if draw(st.booleans()) else call(path, CHANGES)
                for _ in range(draw(st.integers(2, 4)))
            ),
        )

    steps: list[Step] = []
    waits = 0
    for _ in range(draw(st.integers(2, 12))):
        kind = draw(st.sampled_from(["exit"] * 4 + ["call"] * 4 + ["hold"] + ["wait"] * (waits < 2)))
        path = draw(st.sampled_from(sorted(supervisors)))
        if kind == "exit":
            steps.append(exit_(leaves))
        elif kind == "call":
            steps.append(call(path, CHANGES + LOOKS))
        elif kind == "hold":
            steps.append(hold(path))
        else:
            waits += 1
            steps.append(Wait(draw(st.integers(1, 3))))
    return Program(root, tuple(steps))
