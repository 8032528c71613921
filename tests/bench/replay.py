"""Streams that are as long as one likes, and a codex that says them."""

import json
from itertools import cycle, islice
from pathlib import Path

from codex_actors.testing import Act, fake_codex, reads_prompt, replays, writes
from tests.fakes import COMPLETED, STARTED

LINE_BYTES = 235  # its newline counted; about the size of a message or a short command
AROUND = STARTED.count("\n") + COMPLETED.count("\n")

_TEXT = "All of the tests pass now. The off-by-one was in the loop that reads the last page. "
_Fields = dict[str, object]
_ITEMS: tuple[tuple[str, _Fields], ...] = (
    ("text", {"type": "agent_message"}),
    ("text", {"type": "reasoning"}),
    (
        "aggregated_output",
        {
            "type": "command_execution",
            "command": "/bin/bash -lc 'make'",
            "exit_code": 0,
            "status": "completed",
        },
    ),
)


def write_items(path: Path, count: int) -> Path:
    """Write lines that each complete an item: a message, a thought, a command, and so on."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(_line(at, *item) for at, item in enumerate(islice(cycle(_ITEMS), count)))
    return path


def _line(at: int, padded: str, fields: _Fields) -> str:
    item = {"id": f"item_{at}", **fields, padded: ""}
    item[padded] = (_TEXT * 3)[: LINE_BYTES - len(_encode(item))]
    return _encode(item)


def _encode(item: _Fields) -> str:
    return json.dumps({"type": "item.completed", "item": item}, separators=(",", ":")) + "\n"


def replaying(directory: Path, items: Path, *, times: int = 1, halfway: Act | None = None) -> Path:
    """A codex that says a whole turn with these items in it, however often.

    Args:
        directory: Where to put it.
        items: From `write_items`.
        times: How often it says them.
        halfway: What it does between the first time and the others.
    """
    first, *others = [replays(items)] * times
    between = [] if halfway is None else [halfway]
    return fake_codex(directory, reads_prompt(), writes(STARTED), first, *between, *others, writes(COMPLETED))
