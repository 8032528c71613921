"""Programs for a supervisor: a tree, and what happens to it. Erlang's supervisor and ours can run them."""

import random
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

RESTARTS = ("permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
# One spec for all children, which have no names: to us, a dynamic supervisor.
SIMPLE = "simple_one_for_one"
REASONS = ("normal", "shutdown", "{shutdown,term}", "crash")
STARTS = ("ok", "fail", "ignore")
CHANGES = ("start_child", "terminate_child", "restart_child", "delete_child")
LOOKS = ("which_children", "count_children", "get_childspec")

# How a child that is asked to stop does so; a deaf one never does. "clean" is "stop", a little later.
ON_STOP = ("stop", "stop", "clean", "normal", "{shutdown,term}", "crash", "deaf")

# Milliseconds. The longer one is never used up; waiting for the other one takes part of a burst of steps.
LONG, SHORT = 5_000, 10

# Real seconds are the price of a program.
MAX_WAITS = 2

WORKERS = "abc"
SUBTREES = {1: ["s", "st"], 2: ["u", "uv"], 3: []}


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


class OneMore(msgspec.Struct, frozen=True, tag="one_more"):
    """Another child of a supervisor that has a spec for all of them."""

    path: str
    starts: tuple[str, ...]


class Exit(msgspec.Struct, frozen=True, tag="exit"):
    """The worker at this path ends by itself."""

    path: str
    reason: str


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Somebody calls the supervisor at this path."""

    path: str
    function: str
    argument: Worker | OneMore | str = "none"


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
    """Write any part of a program as an Erlang term. Paths, which start with a slash, are binaries."""
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


class _Writer:
    """Writes programs by dice.

    Not by Hypothesis, which repeats and mutates what it drew: of its programs, 500 left out half of the
    combinations of what they can do. And it would make a program smaller one run after another, of seconds
    each, where Erlang runs hundreds at once.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def program(self) -> Program:
        """A program; not everything it does need make sense."""
        root = self._tree("root", 1, significant=False)
        trees = {path: node for path, node in walk(root) if isinstance(node, Tree)}
        leaves = [path for path, node in walk(root) if isinstance(node, Worker)]
        steps = list[Step]()
        waits = 0
        for _ in range(self._dice.randint(8, 40)):
            path = self._dice.choice(list(trees))
            match self._dice.choices(["exit", "call", "hold", "wait"], [4, 4, 3, 1])[0]:
                case "exit":
                    steps.append(self._exit(leaves))
                case "call":
                    steps.append(self._call(path, trees[path], leaves))
                case "hold":
                    steps.append(self._hold(path, trees[path], leaves))
                case _ if waits < MAX_WAITS:
                    waits += 1
                    steps.append(Wait(self._dice.randint(1, 3)))
                case _:
                    pass
        return Program(root, tuple(steps))

    def simple_program(self) -> Program:
        """A program for a supervisor with one spec for all of its children."""
        flags = replace(self._flags(), strategy=SIMPLE)
        worker = self._worker("x", "ok", significant=self._is_significant(flags))
        paths, steps = list[str](), list[Step]()
        for number in range(self._dice.randint(8, 30)):
            if not paths or self._dice.random() < 0.4:
                paths.append(f"/{number}")
                # Not to be ignored in a restart: then OTP keeps a child without a pid.
                starts = self._dice.choice([("fail",), ("ignore",), ("ok",), ("ok",), ("ok", "fail")])
                steps.append(Call("", "start_child", OneMore(paths[-1], starts)))
            else:
                path = self._dice.choice(paths)
                exits: list[Step] = [self._exit([path])] * 3
                looks: list[Step] = [Call("", "which_children"), Call("", "count_children")]
                steps.append(self._dice.choice([*exits, Call("", "terminate_child", path), *looks]))
        steps.insert(self._dice.randrange(len(steps)), Wait(self._dice.randint(1, 3)))
        return Program(Tree("root", "permanent", False, flags, (worker,)), tuple(steps))

    # ------------------------------------------------------------------ trees

    def _tree(self, tree_id: str, level: int, *, significant: bool) -> Tree:
        flags = self._flags()
        children = [
            self._worker(child_id, self._first_start(), significant=self._is_significant(flags))
            for child_id in WORKERS[: self._dice.randint(1, 3)]
        ]
        subtrees = [
            self._tree(child_id, level + 1, significant=self._is_significant(flags))
            for child_id in self._dice.choice(["", "", *SUBTREES[level]])
        ]
        mixed: list[Worker | Tree] = [*children, *subtrees]
        self._dice.shuffle(mixed)
        return Tree(tree_id, self._restart(significant=significant), significant, flags, tuple(mixed))

    def _flags(self) -> Flags:
        return Flags(
            self._dice.choice(STRATEGIES),
            self._dice.choice([0, 1, 1, 2, 3, 5, 9]),
            self._dice.choice([1, 2]),
            self._dice.choice(["never", "never", "never", "any_significant", "all_significant"]),
        )

    def _worker(self, child_id: str, first_start: str, *, significant: bool) -> Worker:
        on_stop = self._dice.choice(ON_STOP)
        shutdowns: list[int | str] = ["brutal_kill", SHORT if on_stop == "deaf" else LONG]
        return Worker(
            id=child_id,
            restart=self._restart(significant=significant),
            significant=significant,
            shutdown=self._dice.choice(shutdowns),
            starts=(first_start, *self._dice.choices(STARTS, [3, 3, 2], k=self._dice.randint(0, 2))),
            on_stop=on_stop,
        )

    def _restart(self, *, significant: bool) -> str:
        return self._dice.choice(RESTARTS[1:] if significant else RESTARTS)

    def _is_significant(self, flags: Flags) -> bool:
        return flags.auto_shutdown != "never" and self._dice.random() < 0.4

    def _first_start(self) -> str:
        """Mostly a good one: without it there is no tree to go on with."""
        return self._dice.choices(STARTS, [40, 1, 6])[0]

    # ------------------------------------------------------------------ steps

    def _exit(self, paths: Sequence[str]) -> Exit:
        return Exit(self._dice.choice(paths), self._dice.choice(REASONS))

    def _call(self, path: str, tree: Tree, leaves: list[str]) -> Call:
        known = [child.id for child in tree.children]
        function = self._dice.choice(CHANGES + LOOKS)
        return self._call_about([*known, *known, "c", "d"], function, path, tree, leaves, bad=0.1)

    def _call_about(
        self, ids: Sequence[str], function: str, path: str, tree: Tree, leaves: list[str], *, bad: float
    ) -> Call:
        if function in {"which_children", "count_children"}:
            return Call(path, function)
        if function != "start_child":
            return Call(path, function, self._dice.choice(ids))
        child_id = self._dice.choice([*WORKERS, "d", "d"])
        leaves.append(f"{path}/{child_id}")
        in_vain = tree.flags.auto_shutdown == "never" and self._dice.random() < bad
        significant = in_vain or self._is_significant(tree.flags)
        return Call(
            path, function, self._worker(child_id, self._dice.choice(STARTS), significant=significant)
        )

    def _hold(self, path: str, tree: Tree, leaves: list[str]) -> Hold:
        """Mostly about one child, so that calls meet it while it is being restarted."""
        own = [leaf for leaf in leaves if leaf.rpartition("/")[0] == path]
        about = self._dice.choice(own)
        steps: list[Exit | Call] = [self._exit([about])]
        for _ in range(self._dice.randint(1, 3)):
            if self._dice.random() < 0.3:
                steps.append(self._exit(own))
            else:
                ids = [about[-1], about[-1], *WORKERS, "d"]
                # No spec that cannot work: we refuse it at once, and OTP in its turn, if it comes to that.
                steps.append(self._call_about(ids, self._dice.choice(CHANGES), path, tree, leaves, bad=0.0))
        if self._dice.random() < 0.3:
            self._dice.shuffle(steps)
        return Hold(path, tuple(steps))


def write(count: int, seed: int) -> list[Program]:
    """Write programs; the same ones each time for a seed. Some are for a supervisor with one spec for all."""
    writer = _Writer(random.Random(seed))
    return [writer.program() if number % 10 else writer.simple_program() for number in range(1, count + 1)]
