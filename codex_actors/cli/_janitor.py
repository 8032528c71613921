# `codex-actors janitor`: what the next runtime would do by itself, now, and said.

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import trio

from codex_actors import errors
from codex_actors._janitor import Finding, Report, sweep
from codex_actors.backends._home import find_home
from codex_actors.cli._arguments import AskedJanitor
from codex_actors.cli._describe import ASIDE, DONE, FAILED, NOTICE, clean
from codex_actors.cli._output import standard_output
from codex_actors.cli._stop import Stop
from codex_actors.options import CodexOptions, Deadlines


def janitor(asked: AskedJanitor, stop: Stop) -> int:
    """Clean up and return the exit status."""
    try:
        home = find_home(CodexOptions(codex_home=asked.codex_home), os.environ)
    except errors.CodexError as exc:
        print(f"codex-actors janitor: {exc}", file=sys.stderr)
        return 1
    return trio.run(_janitor, asked, home, stop)


async def _janitor(asked: AskedJanitor, home: Path, stop: Stop) -> int:
    with stop.scope():
        report = await sweep(home, seconds=Deadlines().janitor_seconds, dry_run=asked.dry_run)
        text = as_json(report, asked) if asked.json else "\n".join(describe_report(report, asked))
        await standard_output().write_text(text)
        return 0 if is_clean(report, asked) else 1
    return 1


def is_clean(report: Report, asked: AskedJanitor) -> bool:
    """Whether all was done that was asked for."""
    return report.complete and (asked.dry_run or all(finding.gone for finding in report.findings))


def as_json(report: Report, asked: AskedJanitor) -> str:
    """One object on one line."""
    return msgspec.json.encode(
        {
            "type": "janitor",
            "dry_run": asked.dry_run,
            "complete": report.complete,
            "findings": report.findings,
        }
    ).decode()


def describe_report(report: Report, asked: AskedJanitor) -> Iterator[str]:
    """Say what was found, for people."""
    for finding in report.findings:
        yield _describe(finding, dry_run=asked.dry_run)
    if not report.complete:
        yield f"{NOTICE} there was no time to look everywhere"
    elif not report.findings:
        yield f"{DONE} nothing is left of a runtime that is dead"


def _describe(finding: Finding, *, dry_run: bool) -> str:
    process = finding.kind == "process"
    what = f"process {finding.pid} ({clean(finding.name)})" if process else f"{finding.kind} {finding.name}"
    owner = f", of process {finding.owner_pid}, which is dead" if finding.owner_pid else ""
    if dry_run:
        return f"{ASIDE} would {'kill' if process else 'remove'} {what}{owner}"
    if finding.gone:
        return f"{DONE} {'killed' if process else 'removed'} {what}{owner}"
    return f"{FAILED} cannot {'kill' if process else 'remove'} {what}{owner}"
