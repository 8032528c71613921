"""Who may know whom in this package, read from its source."""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import codex_actors

PACKAGE = Path(codex_actors.__file__).parent

# Lowest first. A file imports only from its own row and from rows above it in this table, of which
# docs/contributing.md and the front door have copies for people.
LAYERS = {
    "data": {"_data", "_lazy", "_toml", "errors", "events", "items", "options", "results"},
    "decisions": {"_failures", "_nursery", "_output", "_ownership", "_protocol", "_schema", "_supervision"},
    "telemetry": {"telemetry"},
    "transport": {"_janitor", "_locks", "_process", "backends"},
    "supervisor": {"_child", "_ending", "_host", "_reports", "_supervisor"},
    "actor": {"_runner", "_span", "_turn", "_usage"},
    "API": {"_codex", "_thread"},
    "doors": {"_bridge", "aio", "blocking"},
    "front door": {"__init__"},
    "edge": {"__main__", "cli", "integrations", "testing"},
}
RANK = {room: rank for rank, rooms in enumerate(LAYERS.values()) for room in rooms}

# What decides needs no clock, no file and no process, and so cannot wait for one.
DECIDES = {"_failures", "_output", "_ownership", "_protocol", "_schema", "_supervision"}
NOT_FOR_DECIDING = {"asyncio", "os", "pathlib", "random", "select", "selectors", "signal", "socket"} | {
    "subprocess", "tempfile", "threading", "time", "trio"
}  # fmt: skip

CORE = {"msgspec", "structlog", "trio", *sys.stdlib_module_names}
EXTRAS = {
    "_output": {"jsonschema"},
    "cli": {"rich"},
    "integrations/opentelemetry.py": {"opentelemetry"},
    "testing": {"h11"},
    "testing/pytest_plugin.py": {"pytest"},
}


def breaches(package: Path) -> list[str]:
    """Say where the source below `package` does what a file in its place may not."""
    return [
        f"{file.relative_to(package).as_posix()}:{line}: {what}"
        for file in sorted(package.rglob("*.py"))
        for line, what in sorted(_breaches_of(file, package))
    ]


def _breaches_of(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(file.read_text())
    room = _room(file, package)
    if room not in RANK:
        yield 1, f"{room} is in no layer: give it one in {Path(__file__).name}"
        return
    for line, module in _imports(tree):
        if what := _wrong_import(file.relative_to(package).as_posix(), room, module):
            yield line, what
    for node in ast.walk(tree):
        if isinstance(node, ast.GeneratorExp | ast.AsyncFunctionDef) and _is_async_generator(node):
            yield node.lineno, "an async generator, whose clean-up runs when nobody waits for it"


def _room(file: Path, package: Path) -> str:
    return file.relative_to(package).parts[0].removesuffix(".py")


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """All that is imported anywhere in a file, by its full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def _wrong_import(path: str, room: str, module: str) -> str | None:
    top, _, rest = module.partition(".")
    if not top:
        return "a relative import: name it in full"
    if top == "codex_actors":
        return _wrong_room(room, rest.partition(".")[0])
    if room in DECIDES and top in NOT_FOR_DECIDING:
        return f"imports {top}, but only decides"
    allowed = CORE | EXTRAS.get(room, set()) | EXTRAS.get(path, set())
    if top not in allowed:
        return f"imports {top}, which may not be installed"
    return None


def _wrong_room(room: str, imported: str) -> str | None:
    imported = imported if imported in RANK else "__init__"  # `from codex_actors import Codex`
    if imported == "integrations":
        return "imports an integration, which is for users to do"
    if RANK[imported] > RANK[room]:
        return f"imports {imported}, which is a layer above it"
    return None


def _is_async_generator(node: ast.GeneratorExp | ast.AsyncFunctionDef) -> bool:
    if isinstance(node, ast.GeneratorExp):
        return any(clause.is_async for clause in node.generators)
    decorators = {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
    return _yields(node) and not decorators & {"asynccontextmanager", "pytest.fixture"}


def _yields(function: ast.AsyncFunctionDef) -> bool:
    """Whether the function itself yields, and not just one that is defined in it."""
    inside: list[ast.AST] = list(function.body)
    while inside:
        node = inside.pop()
        if isinstance(node, ast.Yield):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside.extend(ast.iter_child_nodes(node))
    return False


def test_every_file_imports_only_what_its_layer_may_know():
    assert breaches(PACKAGE) == []


def test_every_room_of_the_table_exists():
    assert {_room(file, PACKAGE) for file in PACKAGE.rglob("*.py")} == set(RANK)


@pytest.mark.parametrize(
    ("copy", "row"),
    [
        (PACKAGE / "__init__.py", r"^#   (\w+(?: \w+)?) {2,}(.+?) {3}"),
        (PACKAGE.parent / "docs/contributing.md", r"^\| (\w+(?: \w+)?) \| (`.+?) \|"),
    ],
    ids=lambda it: getattr(it, "name", ""),
)
def test_the_copies_of_the_table_are_true(copy: Path, row: str):
    rows = re.findall(row, copy.read_text(), re.MULTILINE)
    layers = [(layer, set(re.findall(r"\w+", rooms))) for layer, rooms in rows]
    assert layers == list(LAYERS.items())


@pytest.mark.parametrize(
    ("file", "source", "breach"),
    [
        (
            "events.py",
            "from codex_actors._protocol import LineDecoder",
            "imports _protocol, which is a layer above it",
        ),
        ("_process.py", "from codex_actors import _thread", "imports _thread, which is a layer above it"),
        ("_thread.py", "from codex_actors import Codex", "imports __init__, which is a layer above it"),
        (
            "_codex.py",
            "def late():\n import codex_actors.testing",
            "imports testing, which is a layer above it",
        ),
        (
            "cli/demo.py",
            "import codex_actors.integrations.opentelemetry",
            "imports an integration, which is for users to do",
        ),
        ("_protocol.py", "import trio", "imports trio, but only decides"),
        ("_supervision.py", "from time import monotonic", "imports time, but only decides"),
        ("_process.py", "import h11", "imports h11, which may not be installed"),
        ("testing/server.py", "import pytest", "imports pytest, which may not be installed"),
        ("options.py", "from .errors import OptionError", "a relative import: name it in full"),
        ("utils.py", "", "utils is in no layer: give it one in test_layers.py"),
        ("_thread.py", "async def f():\n yield", "an async generator, *"),
        (
            "_thread.py",
            "async def f():\n @asynccontextmanager\n def g(): yield\n yield",
            "an async generator, *",
        ),
        ("_thread.py", "async def f(x):\n return (e async for e in x)", "an async generator, *"),
    ],
)
def test_a_planted_breach_is_seen(file: str, source: str, breach: str, tmp_path: Path):
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "codex_actors"))
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_text(source)
    [found] = set(breaches(copy)) - set(breaches(PACKAGE))
    assert fnmatch(found, f"{file}:*: {breach}")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("_thread.py", "@asynccontextmanager\nasync def f():\n yield"),
        (
            "testing/pytest_plugin.py",
            "import pytest, h11\n@pytest.fixture(scope='session')\nasync def f():\n yield",
        ),
        ("_thread.py", "async def f():\n def g(): yield\n return [e async for e in x]"),
        ("cli/demo.py", "import rich\nfrom codex_actors import Codex, testing"),
    ],
)
def test_what_a_layer_may_know_is_no_breach(file: str, source: str, tmp_path: Path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(source)
    assert breaches(tmp_path) == []
