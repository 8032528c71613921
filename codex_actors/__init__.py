"""Supervised OpenAI Codex turns for trio.

Every turn ends in an outcome you can trust, and leaves nothing behind::

    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
        result = await thread.run("What does this repository do?")
        print(result.final_response)

The same without trio is in `codex_actors.blocking`, for plain scripts, and `codex_actors.aio`, for asyncio.

What keeps tasks running, with Codex or without, is `open_supervisor` and `open_dynamic_supervisor`.

What Codex says is in `codex_actors.events` and `codex_actors.items`, what can go wrong in
`codex_actors.errors`, what can be asked in `codex_actors.options`, what one can listen to in
`codex_actors.telemetry`, and a scripted model for your own tests in `codex_actors.testing`.
"""

# Lowest layer first; a file imports only from its own and from those before it (tests/test_layers.py):
#   data        _data, _lazy, _toml, errors, events, items, options, results   what is said and asked
#   decisions   _failures, _nursery, _output, _ownership, _protocol, _schema, _supervision   what to do
#   telemetry   telemetry   who hears of what happens
#   transport   _janitor/, _locks, _process/, backends/   how Codex is started, read and stopped
#   supervisor  _child, _ending, _host, _reports, _supervisor   tasks that restart tasks
#   actor       _runner, _span, _turn, _usage   one task per turn
#   API         _codex, _thread   what users hold
#   doors       _bridge, aio, blocking   the same for people who are not on trio
#   front door  __init__   the public names
#   edge        __main__, cli/, integrations/, testing/   may know everything

import typing

from codex_actors import _lazy

if typing.TYPE_CHECKING:
    from codex_actors._child import Child, ChildStatus
    from codex_actors._codex import Codex
    from codex_actors._host import ChildCounts, ChildInfo
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
        DynamicSupervisor,
        Supervisor,
        open_dynamic_supervisor,
        open_supervisor,
    )
    from codex_actors._thread import Thread
    from codex_actors._turn import ParsedTurn, Turn
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
    from codex_actors.results import (
        JsonTurnResult,
        JsonValue,
        Leftovers,
        ParsedTurnResult,
        PartialResult,
        SideEffects,
        Timings,
        TurnResult,
        TurnUsage,
    )
    from codex_actors.telemetry import Telemetry

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
    "JsonTurnResult",
    "JsonValue",
    "LastThread",
    "Leftovers",
    "LocalImage",
    "ParsedTurn",
    "ParsedTurnResult",
    "PartialResult",
    "Restart",
    "Shutdown",
    "SideEffects",
    "StdioMcpServer",
    "Strategy",
    "Supervisor",
    "SupervisorFlags",
    "Telemetry",
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

if not typing.TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = _lazy.load_lazily(
        __name__,
        {
            "_child": ("Child", "ChildStatus"),
            "_codex": ("Codex",),
            "_host": ("ChildCounts", "ChildInfo"),
            "_runner": ("CodexStatistics",),
            "_supervision": (
                "AutoShutdown",
                "Backoff",
                "ChildSpec",
                "ChildType",
                "ExitKind",
                "ExitReason",
                "Ignore",
                "Restart",
                "Shutdown",
                "Strategy",
                "SupervisorFlags",
                "check_child_specs",
            ),
            "_supervisor": (
                "DynamicSupervisor",
                "Supervisor",
                "open_dynamic_supervisor",
                "open_supervisor",
            ),
            "_thread": ("Thread",),
            "_turn": ("ParsedTurn", "Turn"),
            "errors": ("CodexError",),
            "options": (
                "BaseBranch",
                "CodexOptions",
                "Commit",
                "CustomReview",
                "Deadlines",
                "HttpMcpServer",
                "LastThread",
                "LocalImage",
                "StdioMcpServer",
                "Text",
                "ThreadName",
                "ThreadOptions",
                "TurnOptions",
                "UncommittedChanges",
            ),
            "results": (
                "JsonTurnResult",
                "JsonValue",
                "Leftovers",
                "ParsedTurnResult",
                "PartialResult",
                "SideEffects",
                "Timings",
                "TurnResult",
                "TurnUsage",
            ),
            "telemetry": ("Telemetry",),
        },
        modules=(
            "aio",
            "backends",
            "blocking",
            "errors",
            "events",
            "items",
            "options",
            "results",
            "telemetry",
        ),
    )
