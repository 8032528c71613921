"""The tests of supervision are sharp: each bug of a long list turns one of them red."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.otp.mutants import MUTANTS


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """What its test says of each bug."""
    command = [sys.executable, "-m", "tests.otp.mutants"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    lines = (line.split("\t") for line in done.stdout.splitlines())
    return {bug: verdict for verdict, bug in lines}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_planted_bug_turns_its_test_red(mutant, verdicts):
    assert verdicts[mutant.bug] == "red", mutant.seen_by
