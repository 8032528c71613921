"""What the doctor makes of what it has seen."""

from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from codex_actors import errors
from codex_actors.cli import _checks
from codex_actors.cli._checks import Check
from codex_actors.cli._doctor import _in_time, _installed_extras

CHECKS = st.builds(
    Check,
    name=st.text(min_size=1, max_size=20),
    status=st.sampled_from(["ok", "note", "warning", "problem"]),
    summary=st.text(),
    advice=st.text(),
)


@given(st.lists(CHECKS))
def test_only_a_problem_keeps_turns_from_running(checks):
    problems = [check.name for check in checks if check.status == "problem"]
    warnings = [check.name for check in checks if check.status == "warning"]
    assert _checks.can_run_turns(checks) == (not problems)
    verdict = _checks.describe_verdict(checks)
    assert verdict.startswith("✗" if problems else "✓")
    assert all(name in verdict for name in problems or warnings)


@given(CHECKS)
def test_nothing_that_was_found_moves_the_cursor(check):
    assert "\x1b" not in "".join(_checks.describe_check(check)).replace(check.name, "")


@given(st.none() | st.integers(0, 10**6), st.integers(0, 1000), st.none() | st.integers(0, 10**6))
def test_limits_allow_as_many_turns_as_the_narrower_of_them(descriptors, used, processes):
    check = _checks.judge_limits(descriptors=descriptors, used=used, processes=processes)
    turns: Any = check.facts["turns_at_once"]
    assert (turns is None) == (descriptors is None and processes is None)
    if turns is not None:
        assert turns >= 0
        assert descriptors is None or turns * _checks.DESCRIPTORS_PER_TURN <= descriptors
        assert processes is None or turns * _checks.PROCESSES_PER_TURN <= processes
        assert check.status == ("problem" if turns == 0 else "warning" if turns < 10 else "ok")
    assert bool(check.advice) == (check.status != "ok")


def test_the_limit_that_is_narrow_is_the_one_to_raise():
    few_processes = _checks.judge_limits(descriptors=1024, used=10, processes=100)
    assert "`ulimit -u` (in a service: LimitNPROC and TasksMax)" in few_processes.advice
    few_files = _checks.judge_limits(descriptors=64, used=10, processes=None)
    assert "`ulimit -n` (in a service: LimitNOFILE)" in few_files.advice
    assert "64 file descriptors, any number of more processes: about 6 turns" in few_files.summary


@pytest.mark.parametrize(
    ("subreaper", "group", "status", "auto"),
    [
        (None, None, "ok", "subreaper"),
        ("no", None, "warning", "process-group"),
        ("no", "no", "problem", "process-group"),
    ],
)
def test_auto_is_the_strongest_means_that_changes_nothing(subreaper, group, status, auto):
    check = _checks.judge_containment({"subreaper": subreaper, "namespace": "no", "process-group": group})
    assert (check.status, check.facts["auto"]) == (status, auto)
    assert bool(check.advice) == (status != "ok")
    assert sum("does not work here: no" in line for line in _checks.describe_means(check)) == sum(
        problem is not None for problem in (subreaper, "no", group)
    )


@pytest.mark.parametrize(
    ("seen", "status", "says"),
    [
        ({"exists": True, "named": True, "writable": True}, "ok", "/h"),
        ({"exists": True, "named": False, "writable": False}, "problem", "cannot be written to"),
        ({"exists": False, "named": True, "writable": True}, "problem", "does not exist"),
        ({"exists": False, "named": False, "writable": False}, "problem", "and cannot be made"),
        ({"exists": False, "named": False, "writable": True}, "ok", "which Codex is going to make"),
    ],
)
def test_a_home_must_be_there_or_be_makeable(seen, status, says):
    check = _checks.judge_home("/h", **seen)
    assert check.status == status
    assert says in check.summary
    assert bool(check.advice) == (status != "ok")


def test_what_is_left_or_missing_comes_with_advice():
    assert _checks.judge_leftovers(0).advice == ""
    assert "left 1 thing" in _checks.judge_leftovers(1).summary
    assert "left 2 things" in _checks.judge_leftovers(2).summary
    assert _checks.judge_temporary("/tmp", None).status == "ok"
    assert "TMPDIR" in _checks.judge_temporary(None, None).advice
    assert _checks.judge_temporary("/tmp", "no space").status == "problem"
    extras = _checks.judge_extras({"cli": True, "schema": False, "testing": False})
    assert extras.summary == "cli; not installed: schema, testing"
    assert "codex-actors[schema,testing]" in extras.advice
    assert _checks.judge_extras({"cli": True}).advice == ""


def test_an_extra_is_installed_if_all_that_it_wants_is():
    wants = ["trio>=0.27", "pytest>=8; extra == 'testing'", "no-such-package; extra == 'testing'"]
    assert _installed_extras([*wants, 'pytest>=8; extra == "cli"']) == {"testing": False, "cli": True}


async def test_what_gives_no_answer_is_a_problem_in_finite_time(autojump_clock):
    check = await _in_time("disk", partial(trio.sleep_forever))
    assert (check.name, check.status, check.summary) == ("disk", "problem", "gave no answer within 15 s")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errors.CodexNotFoundError(("x",)), "pip install"),
        (errors.UnsupportedVersionError("c", "0.1.0", "0.163.0"), "Update it"),
        (errors.ResourceLimitError("too few", 24), "Raise that limit."),
        (errors.CodexHomeError("/h", "is odd"), "Mend that"),
        (OSError("odd"), "Mend that"),
    ],
)
async def test_whatever_a_probe_meets_is_a_problem_with_advice(error, advice):
    async def probe() -> Check:
        raise error

    check = await _in_time("it", probe)
    assert (check.status, check.summary) == ("problem", str(error))
    assert advice in check.advice
