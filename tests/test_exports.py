"""The public names: each once, all documented."""

import inspect
from types import ModuleType

import codex_actors


def test_public_names_are_sorted_and_there():
    assert codex_actors.__all__ == sorted(set(codex_actors.__all__))
    assert [name for name in codex_actors.__all__ if not hasattr(codex_actors, name)] == []


def test_whatever_can_be_imported_without_an_underscore_is_public():
    visible = {
        name
        for name, value in vars(codex_actors).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert visible <= set(codex_actors.__all__)


def test_no_two_names_mean_the_same():
    by_id: dict[int, list[str]] = {}
    for name in codex_actors.__all__:
        by_id.setdefault(id(getattr(codex_actors, name)), []).append(name)
    assert [names for names in by_id.values() if len(names) > 1] == []


def test_every_public_class_and_function_says_what_it_is():
    undocumented = [
        name
        for name in codex_actors.__all__
        if (inspect.isclass(it := getattr(codex_actors, name)) or inspect.isfunction(it))
        and not (vars(it) if inspect.isclass(it) else {"__doc__": it.__doc__}).get("__doc__")
    ]
    assert undocumented == []
