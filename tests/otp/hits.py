"""How often the programs of a differential test did what programs can do, all by what Erlang said."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from tests.otp.erlang_side import Moment, Recorded
from tests.otp.programs import (
    CHANGES,
    LOOKS,
    REASONS,
    RESTARTS,
    SIMPLE,
    STARTS,
    STRATEGIES,
    Call,
    Exit,
    Hold,
    Tree,
    walk,
)

ALL_STRATEGIES = (*STRATEGIES, SIMPLE)
EVERYTHING = list(product(STRATEGIES, RESTARTS, REASONS, CHANGES + LOOKS, STARTS))

# Children without names have fewer calls.
SIMPLE_EXITS = list(product([SIMPLE], RESTARTS, REASONS))
SIMPLE_STARTS = list(product([SIMPLE], RESTARTS, STARTS))
SIMPLE_CALLS = [
    (SIMPLE, "start_child", "ok"),
    (SIMPLE, "start_child", "ignored"),
    (SIMPLE, "start_child", "failed"),
    (SIMPLE, "terminate_child", "ok"),
    (SIMPLE, "terminate_child", "not_found"),
    (SIMPLE, "which_children", "answer"),
    (SIMPLE, "count_children", "answer"),
]


class Hits:
    """Counts.

    Attributes:
        exits: By strategy, restart type, reason.
        starts: By strategy, restart type, result; of workers.
        calls: By strategy, function, result.
        combined: By strategy, restart type and reason of an exit, function of a call and result of a start,
            all met by one supervisor within one program.
    """

    def __init__(self) -> None:
        self.exits = Counter[tuple[str, ...]]()
        self.starts = Counter[tuple[str, ...]]()
        self.calls = Counter[tuple[str, ...]]()
        self.combined = Counter[tuple[str, ...]]()

    def count(self, recorded: Recorded) -> None:
        """Count what a program did."""
        trees = {path: tree for path, tree in walk(recorded.program.root) if isinstance(tree, Tree)}
        own = {path: _Own(tree.flags.strategy) for path, tree in trees.items()}
        restarts: dict[str, str] = {}
        for step, moment in recorded.steps():
            for single, result in _singly(step, moment):
                match single:
                    case Exit(path, reason) if result == "ok":
                        own[_parent(path)].exits.append((restarts[path], reason))
                    case Call(path, function) if result != "noproc":
                        own[path].calls.append((function, result if isinstance(result, str) else "answer"))
                    case _:
                        pass
            for what, path, *about in moment.events:
                if what == "start" and path not in trees:
                    restarts[path] = about[0]
                    own[_parent(path)].starts.append((about[0], about[1]))
        for each in own.values():
            self._add(each)

    def _add(self, own: "_Own") -> None:
        self.exits.update((own.strategy, *each) for each in own.exits)
        self.starts.update((own.strategy, *each) for each in own.starts)
        self.calls.update((own.strategy, *each) for each in own.calls)
        functions, starts = {function for function, _ in own.calls}, {outcome for _, outcome in own.starts}
        for (restart, reason), function, outcome in product(set(own.exits), functions, starts):
            self.combined[own.strategy, restart, reason, function, outcome] += 1

    def never(self) -> list[tuple[str, ...]]:
        """The combinations that no program had, and what none had with children without names."""
        return [
            *(each for each in EVERYTHING if not self.combined[each]),
            *(each for each in SIMPLE_EXITS if not self.exits[each]),
            *(each for each in SIMPLE_STARTS if not self.starts[each]),
            *(each for each in SIMPLE_CALLS if not self.calls[each]),
        ]

    def table(self) -> str:
        """All of it, to be read."""
        lines = [
            *_grid("ends", self.exits, RESTARTS, REASONS),
            *_grid("starts", self.starts, RESTARTS, STARTS),
            _row("calls", "", ALL_STRATEGIES),
            *(
                _row(
                    function, result, (self.calls[strategy, function, result] for strategy in ALL_STRATEGIES)
                )
                for function, result in sorted({key[1:] for key in self.calls})
            ),
        ]
        return "\n".join([*lines, self._rarest()])

    def _rarest(self) -> str:
        counts = sorted(self.combined[each] for each in EVERYTHING)
        return (
            "strategy x restart type x exit reason x admin call x start result, met by one supervisor: "
            f"{len(counts)} combinations, {counts.count(0)} of them never, the rarest {counts[0]} times, "
            f"half of them {counts[len(counts) // 2]} times or more"
        )


class _Own:
    """What happened to one supervisor of a program, and to the children that it had of its own."""

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy
        self.exits: list[tuple[str, str]] = []
        self.starts: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str]] = []


def _singly(step: object, moment: Moment) -> Iterable[tuple[object, Any]]:
    if isinstance(step, Hold):
        return () if moment.result == "noproc" else zip(step.steps, moment.result, strict=True)
    return [(step, moment.result)]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _grid(
    title: str, counts: Counter[tuple[str, ...]], restarts: Sequence[str], columns: Sequence[str]
) -> Iterator[str]:
    yield _row(title, "", columns)
    for strategy, restart in product(ALL_STRATEGIES, restarts):
        yield _row(strategy, restart, (counts[strategy, restart, column] for column in columns))


def _row(title: str, second: str, cells: Iterable[object]) -> str:
    return f"{title:19} {second:16}" + "".join(f"{cell!s:>20}" for cell in cells)
