# Processes of turns whose runtime is gone. A process number may be a stranger's at any moment: so a process
# is held by a descriptor first, then looked at again, and the signal goes to the descriptor.

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from codex_actors._data import Data
from codex_actors._janitor import _facts
from codex_actors._janitor._round import Finding, Round
from codex_actors._ownership import Owner, is_orphan, owner_of_process

# Those who were killed need a moment to vanish, and may have started others just before.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05


class _Orphan(Data, frozen=True):
    pid: int
    name: str
    owner: Owner


def sweep_processes(this_round: Round, codex_home: Path) -> None:
    """Kill the orphans of turns that worked with a CODEX_HOME, until there are none."""
    if not _facts.proc_is_ours():
        return
    tag = _facts.tag_of(codex_home)
    known: dict[_Orphan, bool] = {}
    pause = _FIRST_PAUSE
    try:
        while orphans := list(_orphans(this_round, tag)):
            known.update(dict.fromkeys(orphans, False))
            if this_round.dry_run:
                break
            for orphan in orphans:
                _kill(orphan)
            this_round.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            known = dict.fromkeys(known, True)
    finally:
        this_round.findings += (
            Finding(kind="process", name=it.name, pid=it.pid, owner_pid=it.owner.pid, gone=gone)
            for it, gone in known.items()
        )


def _orphans(this_round: Round, tag: str) -> Iterator[_Orphan]:
    spared = _facts.ancestors()
    for entry in _facts.PROC.iterdir():
        this_round.check()
        if (
            entry.name.isdecimal()
            and (pid := int(entry.name)) not in spared
            and (orphan := _as_orphan(pid, tag))
        ):
            yield orphan


def _as_orphan(pid: int, tag: str) -> _Orphan | None:
    process = _facts.PROC / str(pid)
    with suppress(OSError):  # it has just ended, or is not ours to look at
        owner = owner_of_process((process / "environ").read_bytes())
        if owner is None or owner.tag != tag or not _is_ours(pid):
            return None
        if is_orphan(owner, _facts.here(), _facts.seen(owner.pid)):
            return _Orphan(pid=pid, name=(process / "comm").read_text(errors="replace").strip(), owner=owner)
    return None


def _is_ours(pid: int) -> bool:
    """Whether it runs as us in every respect, whoever may look at it."""
    lines = (_facts.PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    [uids] = [line.split()[1:] for line in lines if line.startswith("Uid:")]
    return {*uids} == {str(os.geteuid())}


def _kill(orphan: _Orphan) -> None:
    if sys.platform != "linux":
        return
    with suppress(OSError):  # it has just ended, or may not be killed
        pidfd = os.pidfd_open(orphan.pid)
        try:
            if _as_orphan(orphan.pid, orphan.owner.tag) is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
