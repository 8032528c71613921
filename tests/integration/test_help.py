"""The flags that we use are flags that Codex has, and the others are left out for a reason."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_actors.options import CodexOptions, Flag, ThreadOptions, TurnOptions, places

# By subcommand of `codex exec`; the first has those that precede every subcommand.
OURS = {
    "": {
        "--json",
        "--image",
        *(
            place.name
            for options in (CodexOptions, ThreadOptions, TurnOptions)
            for place in places(options).values()
            if isinstance(place, Flag)
        ),
    },
    "resume": {"--last", "--all"},
    "fork": set(),
    "review": {"--uncommitted", "--base", "--commit", "--title"},
}

NOT_OURS = {
    "--color": "colours only what is not JSON",
    "--dangerously-bypass-approvals-and-sandbox": "the sandbox danger-full-access, as exec never asks",
    "--dangerously-bypass-hook-trust": "hooks that nobody has looked at are not for a library to run",
    "--help": "for people",
    "--output-last-message": "the events hold the last message",
    "--trust": "only from 0.169 on, and it changes what Codex trusts in future chats too",
    "--version": "asked of `codex` itself",
}


@pytest.fixture(scope="module", params=OURS, ids=lambda subcommand: subcommand or "exec")
def subcommand(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def flags(codex_binary: Path, subcommand: str) -> set[str]:
    """The flags in the help of a subcommand."""
    command = [str(codex_binary), "exec", *filter(None, [subcommand]), "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return set(flags_of(text))


def flags_of(text: str) -> Iterator[str]:
    """The flags in a help text, one at the head of each paragraph of options."""
    for line in text.splitlines():
        if found := re.match(r" {2,6}(?:-\w, )?(--[a-z-]+)", line):
            yield found[1]


def test_codex_has_every_flag_that_we_use(flags, subcommand):
    assert OURS[subcommand] <= flags


def test_every_other_flag_is_left_out_for_a_reason(flags, subcommand):
    assert flags - OURS[subcommand] - OURS[""] - set(NOT_OURS) == set()


def test_a_flag_is_not_both_ours_and_left_out():
    assert not set().union(*OURS.values()) & set(NOT_OURS)


def test_flags_are_read_from_help_texts():
    text = "Options:\n  -c, --config <key=value>\n          Like `--other`\n      --last\n"
    assert list(flags_of(text)) == ["--config", "--last"]
