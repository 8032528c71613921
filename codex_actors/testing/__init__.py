"""Test what is built on Codex without a key, a network or luck: the real binary, a scripted model.

`open_model_server` opens the model, scripted with `message`, `shell`, `apply_patch` and the like;
`codex_home` writes a CODEX_HOME that points the real Codex to it; `fake_codex` is for what the real one
cannot be made to do. In pytest the fixtures `model_server`, `make_codex_home` and `codex_binary` are
there by themselves. The model needs the extra ``codex-actors[testing]``.

Example::

    async def test_the_bug_is_found(model_server, make_codex_home):
        fix = model_server.script("fix", shell("cat bug.py"), message("It is a typo."))
        home = make_codex_home(fix.url)
        ...  # run Codex with home.environment
        assert "def bug" in fix.requests[1].tool_outputs[0]
"""

import typing

from codex_actors import _lazy

if typing.TYPE_CHECKING:
    from codex_actors.testing._fake import (
        Act,
        closes_stdout,
        complains,
        dies,
        exits,
        fake_codex,
        hangs,
        ignores,
        leaves_child,
        reads_prompt,
        replays,
        writes,
    )
    from codex_actors.testing._home import CodexHome, codex_home
    from codex_actors.testing._model import (
        ModelServer,
        On,
        Pattern,
        Said,
        Scenario,
        Step,
        on,
        open_model_server,
    )
    from codex_actors.testing._replies import (
        Answer,
        Broken,
        Completed,
        Ending,
        Failed,
        HttpAnswer,
        Incomplete,
        Item,
        Part,
        Pause,
        Reply,
        apply_patch,
        completed,
        cut,
        early_eof,
        failed,
        function_call,
        hang,
        http_error,
        incomplete,
        mcp_call,
        message,
        pause,
        rate_limit_headers,
        reasoning,
        reply,
        reset,
        shell,
        tool_call,
        update_plan,
        web_search,
        write_stdin,
    )
    from codex_actors.testing._requests import ModelRequest, RequestLog

__all__ = [
    "Act",
    "Answer",
    "Broken",
    "CodexHome",
    "Completed",
    "Ending",
    "Failed",
    "HttpAnswer",
    "Incomplete",
    "Item",
    "ModelRequest",
    "ModelServer",
    "On",
    "Part",
    "Pattern",
    "Pause",
    "Reply",
    "RequestLog",
    "Said",
    "Scenario",
    "Step",
    "apply_patch",
    "closes_stdout",
    "codex_home",
    "complains",
    "completed",
    "cut",
    "dies",
    "early_eof",
    "exits",
    "failed",
    "fake_codex",
    "function_call",
    "hang",
    "hangs",
    "http_error",
    "ignores",
    "incomplete",
    "leaves_child",
    "mcp_call",
    "message",
    "on",
    "open_model_server",
    "pause",
    "rate_limit_headers",
    "reads_prompt",
    "reasoning",
    "replays",
    "reply",
    "reset",
    "shell",
    "tool_call",
    "update_plan",
    "web_search",
    "write_stdin",
    "writes",
]

if not typing.TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = _lazy.load_lazily(
        __name__,
        {
            "_fake": (
                "Act",
                "closes_stdout",
                "complains",
                "dies",
                "exits",
                "fake_codex",
                "hangs",
                "ignores",
                "leaves_child",
                "reads_prompt",
                "replays",
                "writes",
            ),
            "_home": ("CodexHome", "codex_home"),
            "_model": ("ModelServer", "On", "Pattern", "Said", "Scenario", "Step", "on", "open_model_server"),
            "_replies": (
                "Answer",
                "Broken",
                "Completed",
                "Ending",
                "Failed",
                "HttpAnswer",
                "Incomplete",
                "Item",
                "Part",
                "Pause",
                "Reply",
                "apply_patch",
                "completed",
                "cut",
                "early_eof",
                "failed",
                "function_call",
                "hang",
                "http_error",
                "incomplete",
                "mcp_call",
                "message",
                "pause",
                "rate_limit_headers",
                "reasoning",
                "reply",
                "reset",
                "shell",
                "tool_call",
                "update_plan",
                "web_search",
                "write_stdin",
            ),
            "_requests": ("ModelRequest", "RequestLog"),
        },
    )
