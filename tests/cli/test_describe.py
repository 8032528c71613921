from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_actors import PartialResult, SideEffects, TurnResult, TurnUsage, errors
from codex_actors._protocol import LineDecoder
from codex_actors.cli._describe import clean, describe, describe_outcome, duration, in_progress, token_count
from codex_actors.events import Error, ItemCompleted, ItemStarted, Noise, Unknown, Usage
from codex_actors.items import CommandExecution, FileChange, FileUpdate
from tests.capture_files import CAPTURES, Capture


def captured(story: str) -> list[str]:
    [stdout] = [it.stdout for it in CAPTURES if it.name == f"{story}.0.169.0"]
    return [line for event in LineDecoder().feed(stdout) if (line := describe(event))]


def ran(command: str, **fields) -> str | None:
    item = CommandExecution(id="item_0", command=command, **{"status": "completed", "exit_code": 0, **fields})
    return describe(ItemCompleted(item=item))


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda it: it.name)
def test_whatever_codex_said_can_be_shown_without_moving_the_cursor(capture: Capture):
    for event in LineDecoder().feed(capture.stdout):
        for text in (describe(event), in_progress(event)):
            assert text is None or all(line.isprintable() for line in text.split("\n"))


@given(st.text())
def test_no_text_keeps_what_a_terminal_would_obey(text: str):
    assert all(line.isprintable() for line in clean(text).split("\n"))


def test_colours_and_titles_are_taken_out_whole():
    assert (
        clean("\x1b[1;31mred\x1b[0m \x1b]0;title\x07bell\x07 a\tb")
        == "red bell\N{REPLACEMENT CHARACTER} a    b"
    )


def test_a_command_is_shown_as_the_model_wrote_it():
    assert ran("/bin/bash -lc 'echo hi; pwd'") == "✓ $ echo hi; pwd"
    assert ran("/bin/zsh -lc ls") == "✓ $ ls"
    assert ran("/bin/bash -lc '/opt/very/long/python -m unittest'") == "✓ $ python -m unittest"
    assert ran("'not closed") == "✓ $ 'not closed"


def test_of_a_command_of_several_lines_the_first_is_shown():
    assert ran("/bin/bash -lc 'cat <<EOF\nmuch\nEOF'") == "✓ $ cat <<EOF ..."


def test_a_failed_command_shows_how_and_its_last_words():
    output = "one\ntwo\nthree\nfour\n-----\n"
    lines = ["✗ $ make (exit 2)", "    two", "    three", "    four"]
    assert ran("make", status="failed", exit_code=2, aggregated_output=output) == "\n".join(lines)


def test_a_command_that_was_declined_has_no_exit_status_to_show():
    assert ran("make", status="declined", exit_code=None) == "✗ $ make (declined)"


def test_messages_are_shown_whole_and_indented():
    assert captured("multi_message") == [
        captured("multi_message")[0],
        "● first, working",
        "✓ $ true",
        "● final",
    ]
    assert captured("reasoning")[1:] == ["· **Thinking**\n\n  about it", "● answer"]


@pytest.mark.parametrize(
    ("story", "line"),
    [
        ("patch_multi", "✓ patch M a.txt, D b.txt, A new.txt"),
        ("web_search", "✓ search what is trio"),
        ("mcp_success", "✓ tool tiny/echo"),
        ("mcp_tool_error", "✗ tool tiny/boom (failed)"),
        ("plan_enabled", "✓ plan\n    [x] one\n    [x] two"),
        ("plain_unknown_model", None),
    ],
)
def test_items_are_shown_by_what_they_are(story: str, line: str | None):
    shown = captured(story)
    assert any(it.startswith("! ") for it in shown) if line is None else line in shown


def test_a_patch_that_failed_says_so():
    item = FileChange(id="item_0", changes=(FileUpdate(path="/x/a.py", kind="add"),), status="failed")
    assert describe(ItemCompleted(item=item)) == "✗ patch A a.py (failed)"


def test_a_file_below_the_current_directory_is_shown_with_its_path(monkeypatch: pytest.MonkeyPatch):
    [stdout] = [it.stdout for it in CAPTURES if it.name == "patch_multi.0.169.0"]
    monkeypatch.chdir("/")
    assert f"A {Path('/home/dev').relative_to('/')}".encode() not in stdout  # seen from here, not as written
    assert any("patch M home/dev/" in (describe(event) or "") for event in LineDecoder().feed(stdout))


def test_what_was_not_understood_is_shown_with_its_reason():
    assert (
        describe(Unknown(raw=b'{"type":"new"}', reason="Invalid value 'new'"))
        == "! not understood: Invalid value 'new'"
    )
    noise = Noise(reason="not a JSON object", sample=b"hel\x1b[1mlo\xff", size=300)
    assert (
        describe(noise) == "! 300 bytes that are no event (not a JSON object): hello\N{REPLACEMENT CHARACTER}"
    )
    assert describe(Error(message="Reconnecting... 1/5")) == "! Reconnecting... 1/5"


def test_what_is_going_on_has_a_name_only_while_it_can_take_time():
    item = CommandExecution(id="item_0", command="/bin/bash -lc 'sleep 5'")
    assert in_progress(ItemStarted(item=item)) == "$ sleep 5"
    assert in_progress(ItemCompleted(item=item)) is None


def test_the_outcome_says_how_long_and_how_much():
    used = Usage(input_tokens=1200, cached_input_tokens=800, output_tokens=90, reasoning_output_tokens=40)
    result = TurnResult(thread_id="t", usage=TurnUsage(thread=used, turn=used), side_effects=SideEffects.SEEN)
    assert list(describe_outcome(result, 3.14)) == [
        "✓ completed in 3.1 s; tokens: 1,200 in (800 cached), 90 out (40 reasoning)",
        "· side effects: seen",
    ]


def test_a_reply_that_does_not_fit_says_what_the_turn_may_have_done():
    result = TurnResult(thread_id="t", final_response="a canary", side_effects=SideEffects.SEEN)
    said = list(describe_outcome(errors.InvalidOutputError("not JSON at $", path="$", result=result), 2))
    assert said[0].startswith("✗ InvalidOutputError after 2.0 s: ")
    assert said[-1] == "· side effects: seen"
    assert "canary" not in str(said)


def test_a_failure_says_its_name_its_reason_and_codex_last_words():
    failed = errors.StreamTruncatedError(
        "it never said so", partial=PartialResult(side_effects=SideEffects.NONE), stderr_tail="a\nb\n"
    )
    assert list(describe_outcome(failed, 61)) == [
        "✗ StreamTruncatedError after 1 min 01 s: it never said so",
        "    a",
        "    b",
        "· side effects: none",
    ]


def test_an_option_that_cannot_work_is_named_as_on_the_command_line():
    wrong = errors.OptionError("ThreadOptions.cwd", "there is no directory /nope")
    assert list(describe_outcome(wrong, 0)) == ["✗ --cwd: there is no directory /nope"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.6, "60 min 00 s")],
)
def test_durations_are_no_more_precise_than_people_read(seconds: float, words: str):
    assert duration(seconds) == words


def test_tokens_that_nobody_counted_are_not_zero():
    assert token_count(None) == "not counted"
    assert token_count(Usage()) == "0 in, 0 out"
