"""Supervised OpenAI Codex turns for trio.

Every turn ends in an outcome you can trust, and leaves nothing behind::

    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
        result = await thread.run("What does this repository do?")
        print(result.final_response)

What keeps tasks running, with Codex or without, is `open_supervisor` and `open_dynamic_supervisor`.

What Codex says is in `codex_actors.events` and `codex_actors.items`, what can go wrong in
`codex_actors.errors`, what can be asked in `codex_actors.options`, and a scripted model for your own
tests in `codex_actors.testing`.
"""

# Lowest layer first; a file imports only from those before its own:
#   data       _data, items, events, results, errors, options   what is said and asked; no behaviour
#   decisions  _protocol, _failures, _supervision, _nursery     bytes to events to an outcome; no waiting
#   transport  _process, backends/                              how Codex is started, read and stopped
#   supervisor _child, _reports, _supervisor                    tasks that restart tasks
#   actors     _locks, _usage, _turn, _runner                   one task per turn
#   API        _thread, _codex                                  what users hold
#   edge       testing/, cli/                                   may know everything

from codex_actors._child import Child, ChildStatus
from codex_actors._codex import Codex
from codex_actors._runner import CodexStatistics
from codex_actors._supervision import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    ChildType,
    ExitKind,
    ExitReason,
    Ignore,
    Restart,
    Shutdown,
    Strategy,
    SupervisorFlags,
    check_child_specs,
)
from codex_actors._supervisor import (
    ChildCounts,
    ChildInfo,
    DynamicSupervisor,
    Supervisor,
    open_dynamic_supervisor,
    open_supervisor,
)
from codex_actors._thread import Thread
from codex_actors._turn import Turn
from codex_actors.errors import CodexError
from codex_actors.options import (
    BaseBranch,
    CodexOptions,
    Commit,
    CustomReview,
    Deadlines,
    HttpMcpServer,
    LastThread,
    LocalImage,
    StdioMcpServer,
    Text,
    ThreadName,
    ThreadOptions,
    TurnOptions,
    UncommittedChanges,
)
from codex_actors.results import PartialResult, SideEffects, Timings, TurnResult, TurnUsage

__all__ = [
    "AutoShutdown",
    "Backoff",
    "BaseBranch",
    "Child",
    "ChildCounts",
    "ChildInfo",
    "ChildSpec",
    "ChildStatus",
    "ChildType",
    "Codex",
    "CodexError",
    "CodexOptions",
    "CodexStatistics",
    "Commit",
    "CustomReview",
    "Deadlines",
    "DynamicSupervisor",
    "ExitKind",
    "ExitReason",
    "HttpMcpServer",
    "Ignore",
    "LastThread",
    "LocalImage",
    "PartialResult",
    "Restart",
    "Shutdown",
    "SideEffects",
    "StdioMcpServer",
    "Strategy",
    "Supervisor",
    "SupervisorFlags",
    "Text",
    "Thread",
    "ThreadName",
    "ThreadOptions",
    "Timings",
    "Turn",
    "TurnOptions",
    "TurnResult",
    "TurnUsage",
    "UncommittedChanges",
    "check_child_specs",
    "open_dynamic_supervisor",
    "open_supervisor",
]
