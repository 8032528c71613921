"""The documentation says what the code does."""

import inspect
import re
from pathlib import Path

import pytest

from codex_actors import errors
from codex_actors.options import Deadlines
from tests.test_failures import FAILURES

ROOT = Path(__file__).parent.parent
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


def test_every_deadline_stands_in_the_docs_with_its_default():
    documented = {row[0]: row[1] for row in rows("reference/deadlines.md") if len(row) == 4}
    defaults = Deadlines()
    for name in Deadlines.__struct_fields__:
        assert float(documented[f"`{name}`"]) == getattr(defaults, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_python_example_in_the_readme_compiles():
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        compile(example, "README.md", "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
