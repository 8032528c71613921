import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from codex_actors._process import _guard
from tests.leak_check import Traces, left_since

# No deadline and no complaint about slowness: machines are shared. `steady` tries the same inputs every
# time, so that no one meets a failure that is not theirs; `nox -s property` goes looking for new ones.
SLOW_IS_FINE = (HealthCheck.too_slow,)
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile(
    "thorough", max_examples=2_000, deadline=None, suppress_health_check=SLOW_IS_FINE, print_blob=True
)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def private_temp_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary directory of this run's own: what turns up in it is ours, whatever else runs."""
    path = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(path))
        patch.setattr(tempfile, "tempdir", str(path))
        yield path


@pytest.fixture(scope="session", autouse=True)
def measured_guard() -> Iterator[None]:
    """Let coverage into the guard, which without site-packages would know nothing of it."""
    with pytest.MonkeyPatch.context() as patch:
        if variables := [name for name in os.environ if name.startswith("COVERAGE_")]:
            patch.setattr(_guard, "_PYTHON_FLAGS", ())
            patch.setattr(_guard, "_VARIABLES", variables)
        yield


@pytest.fixture(autouse=True)
def nothing_is_left_behind(private_temp_dir: Path) -> Iterator[None]:
    """Fail the test that leaves a process, a descriptor, a temporary file or a busy thread."""
    before = Traces.now()
    yield
    if left := left_since(before, home=private_temp_dir.parent):
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)
