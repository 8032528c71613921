"""The public names: each once, all documented, and none loaded before it is used."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import codex_actors
import codex_actors.testing
from codex_actors import aio, blocking

HEAVY = {"structlog", "trio"}


@pytest.fixture(params=[codex_actors, codex_actors.testing], ids=lambda package: package.__name__)
def package(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def source_of(package: ModuleType) -> ast.Module:
    return ast.parse(Path(inspect.getfile(package)).read_text())


def test_public_names_are_sorted_and_there(package: ModuleType):
    assert package.__all__ == sorted(set(package.__all__))
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_what_is_loaded_is_what_type_checkers_see_and_what_is_public(package: ModuleType):
    [table] = [
        ast.literal_eval(node.args[1])
        for node in ast.walk(source_of(package))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "_lazy.load_lazily"
    ]
    seen = {
        (node.module, alias.name)
        for node in ast.walk(source_of(package))
        if isinstance(node, ast.ImportFrom) and node.module != "codex_actors"
        for alias in node.names
    }
    assert {(f"{package.__name__}.{module}", name) for module in table for name in table[module]} == seen
    assert {name for _, name in seen} == set(package.__all__)


def test_whatever_can_be_imported_without_an_underscore_is_public(package: ModuleType):
    visible = {
        name
        for name in dir(package)
        if not name.startswith("_") and not isinstance(getattr(package, name), ModuleType)
    }
    assert visible == set(package.__all__)


def test_no_two_names_mean_the_same(package: ModuleType):
    by_id: dict[int, list[str]] = {}
    for name in package.__all__:
        by_id.setdefault(id(getattr(package, name)), []).append(name)
    assert [names for names in by_id.values() if len(names) > 1] == []


def test_every_public_class_and_function_says_what_it_is(package: ModuleType):
    undocumented = [
        name
        for name in package.__all__
        if (inspect.isclass(it := getattr(package, name)) or inspect.isfunction(it))
        and not (vars(it) if inspect.isclass(it) else {"__doc__": it.__doc__}).get("__doc__")
    ]
    assert undocumented == []


def test_a_name_that_is_not_there_is_an_attribute_error(package: ModuleType):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Codecs'"):
        package.Codecs  # noqa: B018 - asking is the test


@pytest.mark.parametrize(
    "program",
    [
        "import codex_actors",
        "import codex_actors.testing.pytest_plugin",
        "import codex_actors.cli; codex_actors.cli.parse(['run', 'x'])",
        "import codex_actors.errors, codex_actors.events, codex_actors.options, codex_actors.results",
    ],
)
def test_what_needs_no_event_loop_does_not_load_one(program: str):
    assert HEAVY & set(loaded_by(program)) == set()


def test_a_name_is_loaded_when_it_is_used():
    assert set(loaded_by("import codex_actors; codex_actors.Codex; from codex_actors import Thread")) >= HEAVY


@pytest.mark.parametrize(
    "module",
    ["aio", "backends", "blocking", "errors", "events", "items", "options", "results", "telemetry"],
)
def test_a_public_module_is_there_without_an_import_of_its_own(module: str):
    assert f"codex_actors.{module}" in loaded_by(f"import codex_actors; codex_actors.{module}.__name__")
    assert getattr(codex_actors, module) is importlib.import_module(f"codex_actors.{module}")


@pytest.mark.parametrize("door", [aio, blocking], ids=lambda door: door.__name__)
@pytest.mark.parametrize("name", ["Codex", "ParsedTurn", "Thread", "Turn"])
def test_a_door_has_the_names_of_the_runtime_with_the_same_parameters(door: ModuleType, name: str):
    here, there = getattr(codex_actors, name), getattr(door, name)
    only_on_trio = {"child_spec", "supervisor"}  # supervision is
    assert public(there) == public(here) - only_on_trio
    for each in public(there):
        assert parameters(there, each) == parameters(here, each), each


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def parameters(kind: type, name: str) -> list[inspect.Parameter] | None:
    member = getattr(kind, name)
    if isinstance(member, property):
        return None
    return [it.replace(annotation="") for it in inspect.signature(member).parameters.values()]


def test_a_door_is_a_way_to_wait_and_no_more():
    assert aio.__all__ == blocking.__all__ == ["Codex", "ParsedTurn", "Thread", "Turn"]


def loaded_by(program: str) -> list[str]:
    """The modules that a program has loaded in the end."""
    show = "import sys; print(*sys.modules)"
    command = [sys.executable, "-c", f"{program}\n{show}"]
    return subprocess.check_output(command, text=True, timeout=60).split()
