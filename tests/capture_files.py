"""What the real Codex wrote, run by run: stdout, stderr and exit status, as captures/index.tsv lists them."""

import csv
from pathlib import Path
from typing import NamedTuple

_DIRECTORY = Path(__file__).parent / "captures"


class Capture(NamedTuple):
    """One run of the real ``codex exec``; `name` ends with the version, as in ``cmd_fail.0.169.0``."""

    name: str
    returncode: int
    events: tuple[str, ...]  # such as ``item.completed:agent_message``
    stdout: bytes
    stderr: str

    @property
    def story(self) -> str:
        return self.name.split(".", 1)[0]


def _read_all() -> tuple[Capture, ...]:
    with (_DIRECTORY / "index.tsv").open(encoding="utf-8", newline="") as index:
        rows = list(csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE))
    return tuple(
        Capture(
            name=row["name"],
            returncode=int(row["exit"]),
            events=tuple(filter(None, row["events"].split(" > "))),
            stdout=_bytes_of(row["name"], "jsonl"),
            stderr=_bytes_of(row["name"], "stderr").decode(),
        )
        for row in rows
    )


def _bytes_of(name: str, kind: str) -> bytes:
    path = _DIRECTORY / f"{name}.{kind}"
    return path.read_bytes() if path.exists() else b""  # a silent Codex left no file


CAPTURES = _read_all()
# `codex exec` without --json: text, there to be noise.
TEXT_MODE = "text_only_no_json"
# What Codex said as JSON; a run refused before its turn said nothing.
SPOKEN = tuple(capture for capture in CAPTURES if capture.stdout and capture.story != TEXT_MODE)


def capture(name: str) -> Capture:
    """The capture of that name and version."""
    [found] = (one for one in CAPTURES if one.name == name)
    return found
