"""What the janitor's command says of a round."""

import pytest
from msgspec.structs import replace

from codex_actors._janitor import Finding, Report
from codex_actors.cli._arguments import AskedJanitor
from codex_actors.cli._janitor import describe_report, is_clean

NOW = AskedJanitor(json=False, dry_run=False, codex_home=None)
DRY = AskedJanitor(json=False, dry_run=True, codex_home=None)
SLEEP = Finding(kind="process", name="sleep\x1b[2J", pid=7, owner_pid=5)
LOCK = Finding(kind="lock", name="/h/l.lock")


@pytest.mark.parametrize(
    ("asked", "gone", "lines"),
    [
        (
            DRY,
            False,
            ["· would kill process 7 (sleep), of process 5, which is dead", "· would remove lock /h/l.lock"],
        ),
        (NOW, True, ["✓ killed process 7 (sleep), of process 5, which is dead", "✓ removed lock /h/l.lock"]),
        (
            NOW,
            False,
            [
                "✗ cannot kill process 7 (sleep), of process 5, which is dead",
                "✗ cannot remove lock /h/l.lock",
            ],
        ),
    ],
)
def test_each_finding_has_a_line(asked: AskedJanitor, gone: bool, lines: list[str]):
    findings = tuple(replace(finding, gone=gone) for finding in (SLEEP, LOCK))
    report = Report(findings=findings, complete=True)
    assert list(describe_report(report, asked)) == lines
    assert is_clean(report, asked) == (gone or asked.dry_run)


def test_a_round_without_findings_or_time_says_so():
    assert list(describe_report(Report(findings=(), complete=True), NOW)) == [
        "✓ nothing is left of a runtime that is dead"
    ]
    late = Report(findings=(), complete=False)
    assert list(describe_report(late, NOW)) == ["! there was no time to look everywhere"]
    assert not is_clean(late, DRY)
