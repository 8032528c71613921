"""What was measured, and how it compares with what we want."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec


class Target(msgspec.Struct, frozen=True):
    """What a figure should be."""

    bound: Literal["at least", "at most"]
    value: float

    def met_by(self, value: float) -> bool:
        return value >= self.value if self.bound == "at least" else value <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.bound == 'at least' else '<='} {_number(self.value)}"


def at_least(value: float) -> Target:
    return Target("at least", value)


def at_most(value: float) -> Target:
    return Target("at most", value)


class Figure(msgspec.Struct, frozen=True):
    """One thing that was measured, in every round.

    Attributes:
        name: What it is.
        unit: Of the values.
        values: One per round; none if it could not be measured.
        target: What the median should be; None if it is only there to compare with.
        missing: Why there are no values.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None
    missing: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        return None if self.target is None or self.median is None else self.target.met_by(self.median)


def table(figures: Iterable[Figure]) -> str:
    """All figures, one to a line."""
    head = ("figure", "median", "min", "max", "n", "unit", "target", "")
    rows = [head, *map(_row, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows) + "\n"


def _row(figure: Figure) -> tuple[str, ...]:
    verdict = {True: "met", False: "NOT MET", None: ""}[figure.met]
    target = str(figure.target or "")
    if figure.median is None:
        return (figure.name, "-", "-", "-", "0", figure.unit, target, figure.missing)
    spread = (figure.median, min(figure.values), max(figure.values))
    return (figure.name, *map(_number, spread), str(len(figure.values)), figure.unit, target, verdict)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    numeric = range(1, 5)
    cells = (
        cell.rjust(width) if at in numeric else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
