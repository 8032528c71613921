# Codex counts tokens per thread, over resume and fork. What one turn used is the difference to the count
# before it, and that is only known while nobody else has used the thread since: not another program, and
# no turn of ours that ended without a count. Where it is not certain, there is no answer.

from pathlib import Path
from typing import NamedTuple

import msgspec

from codex_actors.backends import ForkThread, NewThread, ResumeThread, Start
from codex_actors.backends._home import find_rollout
from codex_actors.events import Usage

_MAX_THREADS = 4096  # counts are remembered for that many threads, the latest


class _Count(NamedTuple):
    usage: Usage
    rollout: Path
    size: int  # a rollout is only ever appended to


class UsageBook:
    """What the threads of one CODEX_HOME had used when their last turn here completed."""

    def __init__(self, codex_home: Path) -> None:
        self._codex_home = codex_home
        self._counts: dict[str, _Count] = {}

    def before(self, start: Start) -> Usage | None:
        """What the thread of a turn about to start has used so far; None if that is not certain."""
        match start:
            case NewThread():
                return Usage()
            case ForkThread(thread_id=thread_id):
                return _still_valid(self._counts.get(thread_id))
            case ResumeThread(thread_id=thread_id):
                return _still_valid(self._counts.pop(thread_id, None))
            case _:
                return None

    def after(self, thread_id: str, usage: Usage) -> None:
        """Note what a thread has used, now that its turn has completed and its process is gone."""
        try:
            rollout = find_rollout(self._codex_home, thread_id)
            if rollout is None:
                return
            self._counts[thread_id] = _Count(usage, rollout, rollout.stat().st_size)
        except OSError:  # archived just now, or no descriptor is left: a count is lost, not a turn
            return
        if len(self._counts) > _MAX_THREADS:
            del self._counts[next(iter(self._counts))]


def _still_valid(count: _Count | None) -> Usage | None:
    if count is None:
        return None
    try:
        unchanged = count.rollout.stat().st_size == count.size
    except OSError:  # archived, deleted
        return None
    return count.usage if unchanged else None


def difference(after: Usage | None, before: Usage | None) -> Usage | None:
    """What was used between two counts; None unless both are known and neither number went down."""
    if after is None or before is None:
        return None
    pairs = zip(msgspec.structs.astuple(after), msgspec.structs.astuple(before), strict=True)
    used: list[int] = [now - then for now, then in pairs]
    if min(used) < 0:
        return None
    return Usage(**dict(zip(Usage.__struct_fields__, used, strict=True)))
