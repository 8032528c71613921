"""The programs in the documentation run as they stand, with a scripted model, and print what it says.

All blocks of a page are followed in order, in one directory. A block whose first line is a comment with
a file's name is saved there, for its own page and for those beside it, and run where a page runs it:
``python first.py``. Any other program is run as it is, unless a comment before it says why it cannot be:
``<!-- not run: ... -->``. The block of text after a program or command is what it prints, with ``...``
for whatever differs, with or without what is logged beside it.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from codex_actors.testing import (
    CodexHome,
    ModelServer,
    On,
    Step,
    apply_patch,
    http_error,
    message,
    on,
    shell,
)
from tests.integration.reader import Block, Reader, blocks

DOCS = Path(__file__).parents[2] / "docs"
END = Block("", "", None)
# structlog's own form, which nobody has configured there.
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[\w+ *\] .*\n", re.MULTILINE)
GREETING = "*** Begin Patch\n*** Add File: hello.txt\n+Hello.\n*** End Patch\n"
# What the model says to a page where "Done." will not do.
STORIES: Mapping[str, tuple[Step | On, ...]] = {
    "how-to/stream-and-show-progress.md": (
        on("greeting", apply_patch(GREETING), message("There is a greeting now.")),
        on("Count slowly", shell("sleep 60"), message("Done.")),
        on("", message("Done.")),
    ),
    "how-to/handle-failures.md": (
        http_error(503, "busy"),
        message("It is a library."),
        message("Fixed."),
    ),
    "how-to/structured-output.md": (
        message('{"summary": "One.", "findings": [{"file": "a.py", "problem": "a typo", "line": null}]}'),
        message('{"summary": "Not very.", "risk": null}'),
        *(message("yes"), message("no"), message("They all pass.")),
    ),
    "how-to/debug-a-turn.md": (on("build", http_error(400, "no")), on("", message("Done."))),
}
# Its programs wait for seconds, so tests/test_supervisor.py runs them, on a clock that jumps.
ELSEWHERE = {"explanation/supervision.md"}
PAGES = [
    name
    for page in sorted(DOCS.rglob("*.md"))
    for name in [page.relative_to(DOCS).as_posix()]
    if name not in ELSEWHERE and any(block.language == "python" for block in blocks(page))
]


def test_every_story_belongs_to_a_page():
    assert set(STORIES) <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
async def test_the_programs_of_the_page_run_and_print_what_it_says(
    page: str,
    model_server: ModelServer,
    make_codex_home: Callable[..., CodexHome],
    codex_binary: Path,
    workspace: Path,
):
    await trio.run_process(["git", "init", "--quiet"], cwd=workspace)
    (workspace / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    scenario = model_server.script("page", *STORIES.get(page, [on("", message("Done."))]))
    reader = Reader(scenario, make_codex_home(scenario.url), codex_binary, workspace)
    for beside in files(page):
        await reader.follow(beside)
    for block, following in pairwise([*blocks(DOCS / page), END]):
        printed = await reader.follow(block)
        if printed is not None and following.language == "text":
            shown = re.compile(as_pattern(following.text), re.DOTALL)
            assert shown.fullmatch(printed) or shown.fullmatch(LOGGED.sub("", printed)), printed


def files(page: str) -> list[Block]:
    """The files of a page and of those beside it."""
    return [block for it in sorted((DOCS / page).parent.glob("*.md")) for block in blocks(it) if block.file]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_page_is_used(page: str):
    told = blocks(DOCS / page)
    text = "".join(block.text.removeprefix(f"# {block.file}") for block in told)
    programs = {block.file for block in told if block.file and block.file.endswith(".py")} - {"conftest.py"}
    assert [file for file in programs if not re.search(rf"{file}|from {file[:-3]} import", text)] == []


def as_pattern(text: str) -> str:
    """What a page says that a program prints, with ``...`` for anything."""
    return re.escape(text).replace(re.escape("..."), ".*?")
