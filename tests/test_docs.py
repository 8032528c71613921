"""The documentation says what the code does."""

import ast
import enum
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints
from urllib.parse import urlsplit

import msgspec
import pytest

import codex_actors
from codex_actors import errors, options
from codex_actors.backends._binary import MINIMUM_VERSION
from codex_actors.options import Deadlines
from codex_actors.telemetry import _LOGGED, TurnEvent, _fields
from tests import options_page
from tests.test_failures import FAILURES
from tests.test_telemetry import EXAMPLES

ROOT = Path(__file__).parent.parent
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
PUBLIC = [
    "codex_actors",
    *(
        module.name
        for module in pkgutil.walk_packages(codex_actors.__path__, "codex_actors.")
        if not re.search(r"\._|\.cli\b|\.pytest_plugin$", module.name)
    ),
]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def rows(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_error_tree_in_the_docs_is_that_of_the_module():
    tree = (inspect.getdoc(errors) or "").split("::\n\n")[1].split("\n\nEvery error")[0]
    assert inspect.cleandoc(tree) in (ROOT / "docs/reference/errors.md").read_text()


def test_every_error_stands_in_the_docs_with_its_category():
    documented = {row[0]: row[1:3] for row in rows("reference/errors.md") if len(row) == 3}
    for name in errors.__all__:
        error = getattr(errors, name)
        if isinstance(error, type) and issubclass(error, errors.CodexError):
            assert documented[f"`{name}`"] == [error.category, "yes" if error.retryable else "no"], name


def test_every_failure_that_is_recognised_stands_in_the_docs():
    documented = {(row[0], row[2]) for row in rows("reference/errors.md") if len(row) == 5}
    assert {(failure.service, f"`{failure.error.__name__}`") for failure in FAILURES} <= documented


def test_every_option_stands_in_the_docs_with_its_place_and_what_it_says():
    assert options_page.PAGE.read_text() == options_page.page(), "python -m tests.options_page"


def test_every_option_is_on_the_page_of_options():
    public = [getattr(options, name) for name in options.__all__]
    configurable = {
        it for it in public if isinstance(it, type) and issubclass(it, options.Options) and has_places(it)
    }
    assert set(options_page.SHOWN) == configurable - {Deadlines}
    for each in options_page.SHOWN:
        assert options_page.documentation(each).keys() == options.places(each).keys()


def has_places(kind: type[options.Options]) -> bool:
    hints = get_type_hints(kind, include_extras=True)
    return any(hasattr(hints[name], "__metadata__") for name in kind.__struct_fields__)


def test_every_deadline_stands_in_the_docs_with_its_default():
    documented = {row[0]: row[1] for row in rows("reference/deadlines.md") if len(row) == 4}
    defaults = Deadlines()
    for name in Deadlines.__struct_fields__:
        assert float(documented[f"`{name}`"]) == getattr(defaults, name)


LOG_CALLS = """
_log.error("a.b", pid=1)
class Reporter:
    def __init__(self, name):
        self._log = structlog.get_logger("it", supervisor=name)
    def progress(self):
        self._say("debug", "progress", started=1)
    def failed(self):
        self._say_exit("error", "failed", spec, reason)
    def _say_exit(self, level, context, spec, reason):
        crash = {"traceback": 1} if reason else {}
        self._say(level, context, reason=1, **crash)
"""


def log_events(module: ast.Module) -> Iterator[tuple[str, str, frozenset[str]]]:
    """The log events of a module: name, level and fields."""
    reporting = {node.name: node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
    bound = {word for call in calls_in(module, "get_logger") for word in words_of(call)}
    for call in [it for level in LEVELS for it in calls_in(module, level)]:
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "_log":
            yield ast.literal_eval(call.args[0]), call.func.attr, frozenset(words_of(call))
    for name in ("_say", "_say_exit"):
        for call in calls_in(module, name):
            if isinstance(call.args[0], ast.Constant):
                level, context = map(ast.literal_eval, call.args[:2])
                more = fields_in(reporting[name]) if name == "_say_exit" else set()
                yield f"supervisor.{context}", level, frozenset({*words_of(call), *bound, *more})


def calls_in(tree: ast.AST, method: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
    ]


def words_of(call: ast.Call) -> set[str]:
    return {keyword.arg for keyword in call.keywords if keyword.arg}


def fields_in(function: ast.FunctionDef) -> set[str]:
    """The fields that a function adds by itself, those that it does not always add included."""
    tables = [node for node in ast.walk(function) if isinstance(node, ast.Dict)]
    sometimes = {ast.literal_eval(key) for table in tables for key in table.keys if key}
    return sometimes.union(*map(words_of, calls_in(function, "_say")))


def test_every_log_event_stands_in_the_docs_with_its_level_and_fields():
    documented = {
        (row[0].strip("`"), row[1], frozenset(re.findall(r"`(\w+)`", row[2])))
        for row in rows("reference/log-events.md")[2:]
    }
    source = [ast.parse(file.read_text()) for file in (ROOT / "codex_actors").rglob("*.py")]
    told = {
        (name, level, frozenset(_fields(event)))
        for event in EXAMPLES
        for level, name in [_LOGGED[event.name]]
    }
    assert documented == told | {event for module in source for event in log_events(module)}


def test_log_events_are_found_in_source():
    assert set(log_events(ast.parse(LOG_CALLS))) == {
        ("a.b", "error", frozenset({"pid"})),
        ("supervisor.progress", "debug", frozenset({"supervisor", "started"})),
        ("supervisor.failed", "error", frozenset({"supervisor", "reason", "traceback"})),
    }


def test_every_telemetry_event_stands_in_the_docs_with_its_name_and_fields():
    table = [row for row in rows("reference/telemetry.md")[2:] if len(row) == 4]
    documented = {row[1].strip("`"): (row[0], row[2]) for row in table}
    assert documented.keys() == {type(event).__name__ for event in EXAMPLES}
    for event in EXAMPLES:
        own = [name for name in event.__struct_fields__ if name not in TurnEvent.__struct_fields__]
        expected = (f"`{event.name}`".replace("'", '"'), ", ".join(f"`{name}`" for name in own))
        assert documented[type(event).__name__] == expected


def prose(page: Path) -> str:
    """What a page says, without the code in it."""
    return re.sub(r"^```.*?^```$|`[^`\n]+`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> list[str]:
    """What GitHub calls the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", prose(page)):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_address_of_another_site_can_be_one(page: Path):
    for address in re.findall(r"\]\((https?:[^)\s]*)\)", prose(page)):
        parts = urlsplit(address)
        assert parts.scheme == "https", address
        assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]+", parts.netloc), address


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_extra_is_quoted_because_some_shells_take_brackets_for_a_pattern(page: Path):
    assert not re.findall(r"pip install [^\n`'\"]*\[", page.read_text())


def public_names() -> Iterator[tuple[str, object]]:
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def test_every_public_name_is_in_the_reference_of_the_api():
    pages = "".join(page.read_text() for page in (ROOT / "docs/reference/api").glob("*.md"))
    shown = set(re.findall(r"^\.\. auto(?:class|function|data):: (\S+)$", pages, re.MULTILINE))
    for module in re.findall(r"^\.\. automodule:: (\S+)$", pages, re.MULTILINE):
        shown.update(f"{module}.{name}" for name in importlib.import_module(module).__all__)
    objects = [pkgutil.resolve_name(name) for name in shown]
    missing = [name for name, it in public_names() if name not in shown and not any(it is o for o in objects)]
    assert missing == []


def test_every_public_name_says_what_it_is_down_to_its_fields_and_methods():
    silent = [
        f"{name}.{part}" for name, it in public_names() if isinstance(it, type) for part in undocumented(it)
    ]
    assert silent == []


def undocumented(kind: type) -> Iterator[str]:
    says = "\n".join(inspect.getdoc(base) or "" for base in kind.__mro__)
    fields = kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else ()
    yield from (field for field in fields if not re.search(rf"^ {{4}}{field}: ", says, re.MULTILINE))
    if issubclass(kind, enum.Enum):
        source = inspect.getsource(kind)
        yield from (it for it in kind.__members__ if not re.search(rf'{it}(: | = .*\n    """)', source))
    else:
        public = {name: it for name, it in vars(kind).items() if not name.startswith("_")}
        yield from (
            name
            for name, it in public.items()
            if isinstance(it, (property, staticmethod, classmethod)) or inspect.isfunction(it)
            if not inspect.getdoc(it)
        )


def test_the_oldest_supported_codex_is_the_same_everywhere():
    oldest = ".".join(map(str, MINIMUM_VERSION[:2]))
    assert f"**Which Codex.** {oldest} to " in (ROOT / "README.md").read_text()
    assert f"openai-codex-cli-bin>={oldest}" in (ROOT / "pyproject.toml").read_text()
    assert f"openai-codex-cli-bin=={oldest}" in (ROOT / "noxfile.py").read_text()
