"""The tests of supervision are sharp: each bug of a long list turns one of them red."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import codex_actors
from tests.otp.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
TESTS = ("__init__.py", "otp", "test_supervision.py", "test_supervisor.py", "test_child.py")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A clone with nothing but supervision and its tests."""
    shutil.copytree(Path(codex_actors.__file__).parent, tmp_path / "codex_actors")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    for name in TESTS:
        source = ROOT / "tests" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / "tests" / name)
    return tmp_path


def run(copy: Path, selected: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line", "-k"]
    # A bug may well make a test wait for ever; a minute of that is enough to call it seen.
    limit = ["-o", "faulthandler_timeout=20"]
    return subprocess.run([*command, selected, *limit], cwd=copy, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_planted_bug_is_seen(mutant: Mutant, copy: Path):
    mutant.plant(copy / "codex_actors")
    done = run(copy, f"({mutant.seen_by}) and not planted_bug")
    assert done.returncode == 1, f"not seen by {mutant.seen_by}:\n{done.stdout}{done.stderr}"


def test_without_a_bug_what_sees_them_is_green(copy: Path):
    selected = " or ".join(sorted({f"({mutant.seen_by})" for mutant in MUTANTS}))
    done = run(copy, f"({selected}) and not planted_bug")
    assert done.returncode == 0, done.stdout
