"""Which row of OTP's acceptance table a test is."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., object])


class Row(NamedTuple):
    """A test case of OTP or Elixir, or one that trio makes us add."""

    suite: str
    name: str
    checks: str
    kind: str


def rows() -> list[Row]:
    with (Path(__file__).parent / "otp-acceptance.tsv").open(newline="") as table:
        return [Row(*fields) for fields in csv.reader(table, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]


def case(suite: str, name: str, *, deviates: str = "") -> Callable[[F], F]:
    """Say that a test is this row, and where it checks something else than OTP does."""

    def mark(test: F) -> F:
        test.__dict__.setdefault("otp_cases", []).append((suite, name, deviates))
        return test

    return mark
