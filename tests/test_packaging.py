"""What is uploaded is what was meant: it builds, installs and imports with nothing else around."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

IMPORT_ALL_PUBLIC_MODULES = """
import codex_actors, pkgutil, importlib
for module in pkgutil.iter_modules(codex_actors.__path__, "codex_actors."):
    if module.name not in ("codex_actors.cli", "codex_actors.testing", "codex_actors.integrations"):
        importlib.import_module(module.name)
print(codex_actors.__file__)
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(out), str(pytestconfig.rootpath))
    return out


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path, pytestconfig: pytest.Config):
    [wheel] = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    source = pytestconfig.rootpath / "codex_actors"
    assert {name for name in names if name.endswith(".py")} == {
        path.relative_to(source.parent).as_posix() for path in source.rglob("*.py")
    }
    assert "codex_actors/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"codex_actors"}


def test_the_sdist_holds_what_its_own_tests_need(dist: Path):
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {
        "pyproject.toml",
        "noxfile.py",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "tests/conftest.py",
    } <= names
    assert not {name for name in names if name.startswith((".nox", ".git/", "build/"))}


def test_the_wheel_installs_into_a_bare_environment_and_imports_cleanly(dist: Path, tmp_path: Path):
    [wheel] = dist.glob("*.whl")
    venv.create(tmp_path / "bare", with_pip=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    imported_from = run(python, "-I", "-W", "error", "-c", IMPORT_ALL_PUBLIC_MODULES)
    assert imported_from.startswith(str(tmp_path))
