"""The benchmarks work. How fast anything is, is not for tests to say."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.bench.report import Figure, at_least, at_most, table

RUN = Path(__file__).with_name("run.py")


def test_it_measures_everything_that_can_be_measured_here(tmp_path, codex_binary):
    values = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, RUN, "--smoke", "--json", values, "--codex", codex_binary],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    figures = msgspec.json.decode(values.read_bytes(), type=list[Figure])
    assert all(figure.name in done.stdout for figure in figures)
    assert [figure.name for figure in figures if not figure.values and not figure.missing] == []
    completed = [figure for figure in figures if figure.name.endswith("completed")]
    assert [figure.met for figure in completed] == [True, True]


def test_what_nobody_could_measure_says_why():
    figure = Figure("speed", "m/s", (), at_least(1), "no road")
    assert (figure.median, figure.met) == (None, None)
    assert table([figure]).splitlines()[1].endswith("no road")


@pytest.mark.parametrize(
    ("target", "verdict"), [(at_least(2), "met"), (at_least(2.1), "NOT MET"), (at_most(1.9), "NOT MET")]
)
def test_the_median_is_what_counts(target, verdict):
    [_, row] = table([Figure("speed", "m/s", (1.0, 2.0, 9.0), target)]).splitlines()
    assert row.endswith(f"  {verdict}")
    assert row.split()[1:5] == ["2", "1", "9", "3"]
