"""Writes docs/reference/options.md from what the options say of themselves (``-m tests.options_page``)."""

import inspect
import re
from pathlib import Path
from typing import assert_never

import msgspec

from codex_actors.options import (
    CodexOptions,
    Config,
    Env,
    Flag,
    HttpMcpServer,
    Options,
    Ours,
    Place,
    StdioMcpServer,
    ThreadOptions,
    TurnOptions,
    places,
)

PAGE = Path(__file__).parent.parent / "docs/reference/options.md"
SHOWN: tuple[type[Options], ...] = (CodexOptions, ThreadOptions, TurnOptions, StdioMcpServer, HttpMcpServer)
INTRODUCTION = """\
# Options

What can be asked of Codex, and where each option goes: a flag of `codex exec`, a key of Codex's configuration
(given as `--config key=value`; what is secret in it goes through the environment), a variable of its
environment, or this library, and then Codex never hears of it. Every options object is frozen and checked
when it is built; one that cannot work raises `OptionError`, which names the field, before anything starts.
The time limits have [a page of their own](deadlines.md).

`codex-actors run --help` shows what the options are called on its command line, and
`python -m tests.options_page` writes this page.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *map(_table, SHOWN)])


def documentation(options: type[Options]) -> dict[str, str]:
    """What the docstring says of each field, in one line of Markdown."""
    _, _, attributes = (inspect.getdoc(options) or "").partition("Attributes:")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE)
    return {field: " ".join(text.split()).replace("``", "`").replace("|", r"\|") for field, text in entries}


def _table(options: type[Options]) -> str:
    says = documentation(options)
    title = (options.__doc__ or "").partition("\n")[0]
    table = "mcp_servers.NAME." if options in {StdioMcpServer, HttpMcpServer} else ""
    rows = [
        f"| `{name}` | {_default(field)} | {_in_words(places(options)[name], table)} | {says[name]} |"
        for field in msgspec.structs.fields(options)
        for name in [field.name]
    ]
    head = ["| option | default | goes to | what it says |", "|---|---|---|---|"]
    return "\n".join([f"## {options.__name__}", "", title, "", *head, *rows, ""])


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"`{value!r}`" if not isinstance(value, Options) else f"`{type(value).__name__}()`"


def _in_words(place: Place, table: str) -> str:
    match place:
        case Flag(name=name):
            return f"`{name}`"
        case Config(key=key):
            return f"key `{table}{key}`" if key else "keys"
        case Env(name=name):
            return f"variable `{name}`" if name else "variables"
        case Ours():
            return "this library"
        case _:
            assert_never(place)


if __name__ == "__main__":
    PAGE.write_text(page())
