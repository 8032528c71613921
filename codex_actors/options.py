"""What can be asked of Codex: for the whole runtime, for a thread, for one turn.

Every options object is frozen and checked when it is built. One that cannot work raises
`OptionError`, which names the field, before anything is started::

    >>> ThreadOptions(model="gpt-5.5", sandbox="read-only").sandbox
    'read-only'
    >>> ThreadOptions(sandbox="write")
    Traceback (most recent call last):
        ...
    codex_actors.errors.OptionError: ThreadOptions.sandbox: must be 'read-only', 'workspace-write', 'danger-full-access' or None

Beside each field stands its one place in Codex: a `Flag` of ``codex exec``, a `Config` key, a variable
of its environment (`Env`), or `Ours` where the option is for this library.
"""

import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import isfinite
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from codex_actors import _toml
from codex_actors._data import Data
from codex_actors.errors import OptionError

__all__ = [
    "CYBER_ACCESS_PROGRAMS",
    "LOCAL_PROVIDERS",
    "REASONING_EFFORTS",
    "WEB_SEARCH_MODES",
    "BaseBranch",
    "CodexOptions",
    "Commit",
    "Config",
    "CustomReview",
    "Deadlines",
    "Env",
    "Flag",
    "HttpMcpServer",
    "Input",
    "LastThread",
    "LocalImage",
    "McpServer",
    "Ours",
    "Place",
    "ReviewTarget",
    "StdioMcpServer",
    "StrPath",
    "Text",
    "ThreadName",
    "ThreadOptions",
    "TurnOptions",
    "UncommittedChanges",
    "split_input",
]

REASONING_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max", "ultra", "persistent")
"""The efforts known today; any other word is passed on, for models to come."""

WEB_SEARCH_MODES = ("disabled", "cached", "live")
"""The web search modes known today; Codex refuses words it does not know."""

CYBER_ACCESS_PROGRAMS = ("standard", "daybreak_blue", "daybreak_red")
"""The cyber access programs known today; Codex refuses words it does not know."""

LOCAL_PROVIDERS = ("lmstudio", "ollama")
"""The local providers known today; Codex refuses words it does not know."""

StrPath: TypeAlias = str | os.PathLike[str]


class Flag(NamedTuple):
    """The option is this flag of ``codex exec``; a sequence repeats it."""

    name: str


class Config(NamedTuple):
    """The option is this key of Codex's configuration; an empty key is the root."""

    key: str


class Env(NamedTuple):
    """The option is this variable of Codex's environment; an empty name is all of it."""

    name: str


class Ours(NamedTuple):
    """The option is for this library; Codex never hears of it."""


Place: TypeAlias = Flag | Config | Env | Ours


class Options(Data):
    """A record whose fields are checked against their annotations when it is built."""

    def __post_init__(self) -> None:
        """Checks every field and keeps its own copy of what could change.

        Raises:
            OptionError: A field is of the wrong type, empty, or cannot work with another one.
        """
        for name, hint in _hints(type(self)).items():
            value = self._copied(name)
            if not _fits(value, hint):
                raise self._error(name, f"must be {_in_words(hint)}")
            if value == "" and name not in self._may_be_empty:
                raise self._error(name, "is empty: leave it out, or pass None")
            msgspec.structs.force_setattr(self, name, value)
        self._check()

    _may_be_empty: ClassVar[frozenset[str]] = frozenset()

    def _check(self) -> None:
        """What no type can say; overridden where there is something to say."""

    def _copied(self, name: str) -> object:
        try:
            return _copied(getattr(self, name))
        except RecursionError:
            raise self._error(name, "is nested too deeply, or contains itself") from None

    def _error(self, name: str, problem: str) -> OptionError:
        return OptionError(f"{type(self).__name__}.{name}", problem)

    def _match(self, name: str, text: str | None, pattern: re.Pattern[str], problem: str) -> None:
        if text is not None and not pattern.fullmatch(text):
            raise self._error(name, problem)


def places(options: type[Options]) -> Iterator[tuple[str, Place]]:
    """The fields of an options class, each with its place in Codex."""
    for name, hint in get_type_hints(options, include_extras=True).items():
        if name in options.__struct_fields__:
            yield name, get_args(hint)[1]


@cache
def _hints(options: type[Options]) -> dict[str, object]:
    hints = get_type_hints(options)
    return {name: hints[name] for name in options.__struct_fields__}


def _copied(value: object) -> object:
    match value:
        case Mapping():
            return {key: _copied(item) for key, item in value.items()}
        case list() | tuple():
            return tuple(_copied(item) for item in value)
        case os.PathLike():
            return os.fspath(value)
        case _:
            return value


def _fits(value: object, hint: object) -> bool:
    args = get_args(hint)
    match get_origin(hint):
        case types.UnionType | Union:
            return any(_fits(value, arg) for arg in args)
        case origin if origin is Literal:
            return value in args
        case origin if origin is tuple:
            return isinstance(value, tuple) and all(_fits(item, args[0]) for item in value)
        case origin if origin is Mapping:
            return isinstance(value, dict) and all(
                _fits(key, args[0]) and _fits(item, args[1]) for key, item in value.items()
            )
        case _:
            return _is_a(value, hint)
