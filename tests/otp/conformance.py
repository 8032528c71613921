"""Where we stand against OTP's own tests and Elixir's. As a program, writes the page that says so."""

import importlib
import re
from collections import Counter, defaultdict
from pathlib import Path

from tests.otp.cases import Row, rows

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/otp-conformance.md"

SUITES = {
    "OTP": "OTP: supervisor_SUITE",
    "EXS": "Elixir: supervisor_test",
    "EXD": "Elixir: dynamic_supervisor_test",
    "EXP": "Elixir: partition_supervisor_test",
    "EXT": "Elixir: task/supervisor_test",
    "GS": "OTP: gen_server_SUITE",
    "SYS": "OTP: sys_SUITE",
    "PL": "OTP: proc_lib_SUITE",
    "REG": "Elixir: registry tests",
    "TRIO": "What trio makes us add",
}

# Rows that no test in tests/otp carries, by the first pattern that fits "suite: case".
OTHERS = (
    (r"OTP: .*(upgrade|code_change)", "does not apply", "code is not changed while it runs"),
    (r"OTP: get_callback_module", "does not apply", "a supervisor has no callback module"),
    (r"(OTP: simple_global|EXS: start_link/2 with via|EXS: start_link/3 with local)", "later", "registry"),
    (r"(EXS: start_link/2$|EXD: .*registered)", "later", "registry"),
    (r"EX.: .*\bold\b", "does not apply", "there is one form of a spec"),
    (r"EXS: .*global", "does not apply", "no distribution"),
    (r"EX.: .*spawn_opt", "does not apply", "tasks have no priorities"),
    (r"EXD: .*initial call", "later", "introspection"),
    (r"EXD: code_change/3 with ok", "later", "limits that change while it runs"),
    (r"EXD: code_change/3 with non-ok", "does not apply", "code is not changed while it runs"),
    (r"EXP: (resize!/1|start_link/1 with_arguments)", "later", "pool"),
    (r"EXP: stop/1 is synchronous", "later", "registry"),
    (r"EXP: ", "does not apply", "no partitions: all children share one thread"),
    (r"EXT: ", "later", "tasks"),
    (r"GS: (stop5|abcast)", "does not apply", "no distribution"),
    (r"GS: (spec_init|hibernate)", "does not apply", "a task is no process of a virtual machine"),
    (r"(GS|PL): ", "later", "actors"),
    (r"SYS: ", "later", "introspection"),
    (r"REG: match patterns", "does not apply", "no query language, no partitions"),
    (r"REG: ", "later", "registry"),
    (r"TRIO: (call |caller |server dies|mailbox)", "later", "actors"),
    (
        r"TRIO: hostile lines", "deviates",
        ("an event of its own each, no error; "
        "`tests/test_protocol.py::test_what_is_no_json_object_is_noise_with_a_reason`, "
        "`tests/test_protocol.py::test_nesting_too_deep_to_read_is_noise`"),
    ),
    (
        r"TRIO: oversized line", "deviates",
        ("an event of its own, no error; "
        "`tests/test_protocol.py::test_memory_is_bounded_however_long_a_line_is`"),
    ),
    (
        r"TRIO: EOF before exit", "passes",
        "`tests/backends/test_exec.py::test_a_closed_stdout_gives_the_process_its_time_to_exit_and_no_more`",
    ),
    (
        r"TRIO: exit before EOF", "deviates",
        ("no grace: what the pipe holds is read, and no more; "
        "`tests/test_process.py::test_a_child_of_its_own_that_holds_the_pipes_holds_nobody_up`, "
        "`tests/test_process.py::test_all_that_it_wrote_is_read_when_it_is_long_gone`"),
    ),
    (
        r"TRIO: SIGTERM ignored", "passes",
        "`tests/test_process.py::test_what_ignores_interrupt_and_terminate_is_killed`",
    ),
    (
        r"TRIO: spawn errors", "passes",
        ("`tests/test_process.py::test_what_cannot_be_started_is_named_with_the_reason`, and what is wrong "
        "before: `tests/integration/test_bad_input.py`"),
    ),
    (
        r"TRIO: stderr flood", "passes",
        "`tests/test_process.py::test_a_flood_on_stderr_blocks_nobody_and_only_its_end_is_kept`",
    ),
    (
        r"TRIO: stdin not read", "deviates",
        ("stdin is a file, so nobody writes; "
        "`tests/test_process.py::test_four_megabytes_for_a_process_that_reads_nothing_are_no_trouble`"),
    ),
    (
        r"TRIO: no leaks under random SIGINT", "deviates",
        ("at 20 instants of one turn, twice each; "
        "`tests/integration/test_cli.py::test_a_signal_at_any_instant_twice_leaves_nothing_behind`"),
    ),
    (r"TRIO: (grandchildren|setsid|SIGSTOPped|PDEATHSIG)", "later", "containment"),
    (r"TRIO: guest mode", "later", "interoperation"),
)  # fmt: skip

HEAD = """\
# Conformance to OTP

Which test cases of OTP's and Elixir's own suites hold here. The names are theirs; each row that passes or
deviates has a test in `tests/otp` that runs the case on our supervisor, or elsewhere where it says so.

These cases are what others thought of. Beside them, thousands of programs that nobody thought of run on a
real Erlang's supervisor and on ours, and have to do the same:
[how](../explanation/supervision.md#beside-a-real-erlang).

Written by `python -m tests.otp.conformance`; do not edit.

| suite | passes | deviates | later | does not apply |
|---|--:|--:|--:|--:|
"""

STATUSES = ("passes", "deviates", "later", "does not apply")


def marked() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Per row, the tests that say they are it, each with its deviation."""
    found = defaultdict[tuple[str, str], list[tuple[str, str]]](list)
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.otp.{file.stem}")
        for name, test in vars(module).items():
            for suite, case, deviates in getattr(test, "otp_cases", []):
                found[suite, case].append((name, deviates))
    return found


def judge(row: Row, tests: list[tuple[str, str]]) -> tuple[str, str]:
    """The status of a row, and what there is to say about it."""
    if tests:
        deviations = [deviates for _, deviates in tests if deviates]
        return ("deviates", deviations[0]) if deviations else ("passes", "")
    for pattern, status, remark in OTHERS:
        if re.match(pattern, f"{row.suite}: {row.name}"):
            return status, remark
    return "missing", ""


def verdicts() -> list[tuple[Row, str, str]]:
    tests = marked()
    return [(row, *judge(row, tests.get((row.suite, row.name), []))) for row in rows()]


def page() -> str:
    judged = verdicts()
    counts = Counter((row.suite, status) for row, status, _ in judged)
    totals = Counter(status for _, status, _ in judged)
    lines = [
        f"| {title} | " + " | ".join(str(counts[suite, status]) for status in STATUSES) + " |"
        for suite, title in SUITES.items()
    ]
    lines.append(f"| all {len(judged)} | " + " | ".join(str(totals[status]) for status in STATUSES) + " |")
    for suite, title in SUITES.items():
        lines += ["", f"## {title}", "", "| case | checks | status |", "|---|---|---|"]
        lines += [
            f"| {_cell(row.name)} | {_cell(row.checks)} | {status}{f': {remark}' if remark else ''} |"
            for row, status, remark in judged
            if row.suite == suite
        ]
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
