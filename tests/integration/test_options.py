"""Each option is set once on the real Codex, and its effect read back."""

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest

from codex_actors.backends import ForkThread, ResumeThread, ReviewChanges
from codex_actors.backends._home import find_last_thread
from codex_actors.options import (
    BaseBranch,
    CodexOptions,
    Commit,
    CustomReview,
    HttpMcpServer,
    Ours,
    StdioMcpServer,
    ThreadOptions,
    TurnOptions,
    UncommittedChanges,
    places,
)
from codex_actors.testing import CodexHome, ModelServer, Step, mcp_call, message, shell
from tests.integration.asking import OK, Asking, git

MCP_SERVER = str(Path(__file__).with_name("mcp_server.py"))
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TRIED: set[str] = set()

Make = Callable[..., Asking]


def tries(*options: str) -> Any:
    """Marks a test as the one that tries these options."""
    TRIED.update(options)
    return lambda test: test


@pytest.fixture
def asking(
    codex_binary: Path,
    model_server: ModelServer,
    make_codex_home: Callable[..., CodexHome],
    workspace: Path,
) -> Make:
    """A model that says the steps, and a Codex to ask it; keywords are those of `codex_home`."""

    def make(*steps: Step, **home: Any) -> Asking:
        scenario = model_server.script(uuid4().hex, *(steps or (OK,)))
        return Asking(codex_binary, model_server, scenario, make_codex_home(scenario.url, **home), workspace)

    return make


def use_openai(asking: Asking) -> CodexOptions:
    """The built-in provider, led to the scripted model."""
    return CodexOptions(config={"model_provider": "openai"}, base_url=asking.scenario.url)


@pytest.fixture
def repository(workspace: Path) -> Path:
    """The workspace as a git repository: a commit on main, one more on a branch, and a changed file."""
    git("init", "-q", "-b", "main", cwd=workspace)
    git("commit", "-q", "--allow-empty", "-m", "Begin", cwd=workspace)
    git("checkout", "-q", "-b", "feature", cwd=workspace)
    git("commit", "-q", "--allow-empty", "-m", "Go on", cwd=workspace)
    (workspace / "new.txt").write_text("new\n")
    return workspace


# The model


@tries("ThreadOptions.model", "ThreadOptions.reasoning_effort")
async def test_the_model_is_the_one_asked_for_and_thinks_as_hard_as_asked(asking):
    answer = await asking().ask(model="gpt-5.4", reasoning_effort="a-new-word")
    assert answer.asked.model == "gpt-5.4"
    assert answer.asked.field("reasoning", "effort") == "a-new-word"


@tries("TurnOptions.output_schema")
async def test_the_schema_reaches_the_model(asking):
    schema = {"type": "object", "properties": {"a": {"type": "string", "enum": ["ü"]}}}
    answer = await asking().ask(turn=TurnOptions(output_schema=schema))
    assert answer.asked.field("text", "format", "schema") == schema


@tries("CodexOptions.base_url", "TurnOptions.cyber_access_program")
async def test_the_base_url_is_where_openai_is_asked(asking):
    asking = asking()
    answer = await asking.ask(use_openai(asking), TurnOptions(cyber_access_program="daybreak_blue"))
    assert answer.exit_code == 0
    assert answer.asked.field("access_programs") == {"cyber": "daybreak_blue"}


@tries("CodexOptions.api_key", "CodexOptions.originator")
async def test_the_model_sees_the_key_and_who_asks(asking):
    answer = await asking().ask(CodexOptions(api_key="sk-given", originator="somebody"))
    assert answer.asked.headers["authorization"] == "Bearer sk-given"
    assert answer.asked.headers["originator"] == "somebody"


@tries("ThreadOptions.oss", "ThreadOptions.local_provider")
async def test_a_local_model_is_looked_for_where_it_should_run(asking):
    """Nothing runs there: the refusal says what was looked for."""
    codex = CodexOptions(env={"CODEX_OSS_BASE_URL": "http://127.0.0.1:9/v1"})
    answer = await asking().ask(codex, oss=True, local_provider="ollama")
    assert answer.exit_code == 1
    assert "No running Ollama server" in answer.stderr


@pytest.mark.parametrize(("mode", "access"), [("live", [True]), ("cached", [False]), ("disabled", [])])
@tries("ThreadOptions.web_search")
async def test_the_web_is_searched_as_asked(asking, mode, access):
    answer = await asking().ask(web_search=mode)
    tools = [tool for tool in answer.asked.field("tools") if tool["type"] == "web_search"]
    assert [tool["external_web_access"] for tool in tools] == access


async def test_images_come_before_the_prompt_and_swallow_nothing(asking, workspace):
    for name in ("a.png", "-b.png"):
        (workspace / name).write_bytes(PNG)
    answer = await asking().ask(images=("a.png", str(workspace / "-b.png")), prompt="look")
    assert len(answer.asked.images) == 2
    assert answer.asked.prompt.endswith("look")


# What commands may do


@pytest.mark.parametrize("sandbox", ["read-only", "workspace-write", "danger-full-access"])
@tries("ThreadOptions.sandbox")
async def test_nothing_in_any_configuration_wins_over_the_sandbox(asking, sandbox):
    other = "danger-full-access" if sandbox == "read-only" else "read-only"
    codex = CodexOptions(
        config={"sandbox_mode": other}, config_overrides=[f'sandbox_mode="{other}"', "sandbox_mode=" + other]
    )
    answer = await asking(settings=f'sandbox_mode = "{other}"').ask(codex, sandbox=sandbox)
    assert answer.recorded("turn_context")["sandbox_policy"]["type"] == sandbox


@tries("ThreadOptions.cwd")
async def test_the_thread_works_where_it_should(asking, tmp_path):
    elsewhere = tmp_path / "else where, ü"
    elsewhere.mkdir()
    answer = await asking(shell("pwd"), OK).ask(cwd=elsewhere)
    assert answer.recorded("turn_context")["cwd"] == str(elsewhere)
    assert str(elsewhere) in answer.output


@tries("ThreadOptions.additional_directories", "ThreadOptions.network_access")
async def test_a_thread_may_write_and_talk_where_it_is_allowed_to(asking, tmp_path):
    extra = [tmp_path / "one, two", tmp_path / "-three"]
    answer = await asking().ask(sandbox="workspace-write", additional_directories=extra, network_access=True)
    policy = answer.recorded("turn_context")["sandbox_policy"]
    assert policy["writable_roots"] == [str(directory) for directory in extra]
    assert policy["network_access"] is True


@tries("ThreadOptions.approval_policy")
async def test_never_asking_overrides_a_configuration_that_codex_refuses(asking):
    settings = 'approval_policy = "untrusted"'
    refused = await asking(settings=settings).ask()
    assert refused.exit_code == 1
    assert "no longer supported" in refused.stderr
    answer = await asking(settings=settings).ask(approval_policy="never")
    assert answer.recorded("turn_context")["approval_policy"] == "never"


@tries("ThreadOptions.approve_for_me")
async def test_a_second_model_may_decide(asking):
    answer = await asking().ask(approve_for_me=True, approval_policy="on-request")
    context = answer.recorded("turn_context")
    assert (context["approval_policy"], context["approvals_reviewer"]) == ("on-request", "auto_review")
    assert context["sandbox_policy"]["type"] == "workspace-write"


@pytest.mark.parametrize("ignored", [False, True])
@tries("ThreadOptions.ignore_rules")
async def test_rules_about_commands_can_be_ignored(asking, ignored):
    asking = asking(shell("touch made"), OK)
    asking.write_rule("touch", "forbidden")
    await asking.ask(sandbox="danger-full-access", ignore_rules=ignored)
    assert (asking.workspace / "made").exists() is ignored


@pytest.mark.parametrize("ignored", [False, True])
async def test_a_rule_that_allows_a_command_takes_it_out_of_the_sandbox(asking, ignored):
    """So a read-only sandbox alone does not promise that nothing was changed."""
    asking = asking(shell("touch made"), OK)
    asking.write_rule("touch", "allow")
    await asking.ask(sandbox="read-only", ignore_rules=ignored)
    assert (asking.workspace / "made").exists() is not ignored


# Where and how threads are kept


@tries("CodexOptions.codex_home", "ThreadOptions.thread_source")
async def test_the_record_lies_in_the_home_and_says_who_began(asking, tmp_path):
    asking = asking()
    answer = await asking.ask(
        CodexOptions(codex_home=asking.home.path), thread_source="robot", host={"CODEX_HOME": str(tmp_path)}
    )
    assert answer.record
    assert answer.record.is_relative_to(asking.home.path)
    assert answer.recorded("session_meta")["thread_source"] == "robot"


@tries("ThreadOptions.ephemeral")
async def test_an_ephemeral_thread_leaves_no_record(asking):
    answer = await asking().ask(ephemeral=True)
    assert answer.exit_code == 0
    assert answer.record is None


@pytest.mark.parametrize("skipped", [False, True])
@tries("ThreadOptions.skip_git_repo_check")
async def test_outside_a_repository_codex_must_be_told(asking, skipped):
    answer = await asking().ask(skip_git_repo_check=skipped)
    assert answer.exit_code == (0 if skipped else 1)
    assert ("--skip-git-repo-check was not specified" in answer.stderr) is not skipped


@tries("ThreadOptions.worktree")
async def test_a_worktree_is_below_the_home(asking, repository):
    answer = await asking().ask(worktree=True)
    assert Path(answer.recorded("turn_context")["cwd"]).is_relative_to(answer.home / "worktrees")


@pytest.mark.parametrize("named", [False, True])
async def test_a_resumed_thread_is_in_its_worktree_only_if_that_is_named(asking, repository, named):
    """Codex takes no --worktree on resume; this is why we refuse it, and what we advise instead."""
    asking = asking(OK, OK)
    begun = await asking.ask(worktree=True)
    worktree = begun.recorded("turn_context")["cwd"]
    start = ResumeThread(thread_id=begun.thread_id)
    answer = await asking.ask(start=start, cwd=worktree if named else repository)
    assert (answer.recorded("turn_context")["cwd"] == worktree) is named


# Configuration


@tries("ThreadOptions.profile")
async def test_a_profile_lies_over_the_users_configuration(asking):
    asking = asking()
    (asking.home.path / "work.config.toml").write_text('model = "gpt-5.4"\n')
    answer = await asking.ask(profile="work")
    assert answer.asked.model == "gpt-5.4"


@tries("ThreadOptions.ignore_user_config")
async def test_the_users_configuration_can_be_ignored(asking):
    asking = asking(model="from-the-file")
    provider = {"name": "x", "base_url": asking.scenario.url, "env_key": "CODEX_API_KEY"}
    config = {
        "model_provider": "x",
        "model_providers": {"x": provider},
        "analytics": {"enabled": False},
        "features": {"plugins": False, "apps": False},
    }
    answer = await asking.ask(CodexOptions(config=config), ignore_user_config=True)
    assert answer.asked.model != "from-the-file"


@pytest.mark.parametrize("strict", [False, True])
@tries("ThreadOptions.strict_config")
async def test_unknown_settings_are_refused_only_if_that_was_asked_for(asking, strict):
    answer = await asking().ask(CodexOptions(config={"no_such_setting": 1}), strict_config=strict)
    assert answer.exit_code == (1 if strict else 0)
    assert ("unknown configuration field `no_such_setting`" in answer.stderr) is strict


@tries("ThreadOptions.enable", "ThreadOptions.disable")
async def test_features_are_switched_on_and_off(asking):
    on = await asking().ask(enable=["shell_tool"], disable=["goals"])
    off = await asking().ask(disable=["shell_tool"], enable=["goals"])
    assert "exec_command" in on.asked.tools
    assert "get_goal" not in on.asked.tools
    assert "exec_command" not in off.asked.tools
    assert "get_goal" in off.asked.tools


@tries("CodexOptions.config", "CodexOptions.config_overrides")
async def test_settings_of_any_depth_are_merged_into_what_is_there(asking):
    parameters = {"a.b": "1", 'c"d': "2", "e f": "3", "g": "x\x7f\x01y", "": "5", "h": "config"}
    provider = {"query_params": parameters, "http_headers": {"X-Ours": "ours"}}
    codex = CodexOptions(
        config={"model_providers": {"scripted": provider}},
        config_overrides=["model_providers.scripted.query_params.h=raw"],
    )
    answer = await asking(settings='[model_providers.scripted.http_headers]\nX-Theirs = "theirs"').ask(codex)
    assert answer.exit_code == 0
    assert dict(parse_qsl(urlsplit(answer.asked.path).query)) == {**parameters, "h": "raw"}
    assert answer.asked.headers["x-ours"] == "ours"
    assert answer.asked.headers["x-theirs"] == "theirs"


async def test_a_large_configuration_arrives_in_pieces(asking):
    variables = {f"X-{at}": f"V{at}_{'x' * 500}" for at in range(400)}
    codex = CodexOptions(
        config={"model_providers": {"scripted": {"env_http_headers": variables}}},
        env={variables["X-0"]: "first", variables["X-399"]: "last"},
    )
    answer = await asking().ask(codex)
    assert answer.exit_code == 0
    assert answer.asked.headers["x-0"] == "first"
    assert answer.asked.headers["x-399"] == "last"


# Environment and secrets


@pytest.mark.parametrize(("inherit", "seen"), [("allowlist", "no"), ("all", "yes")])
@tries("CodexOptions.env")
async def test_commands_see_what_codex_was_given(asking, inherit, seen):
    command = shell("echo run=$RUN_ID inherited=${OTHER:-no}")
    answer = await asking(command, OK).ask(
        CodexOptions(env={"RUN_ID": "7"}, inherit_env=inherit),
        sandbox="danger-full-access",
        host={"OTHER": "yes"},
    )
    assert f"run=7 inherited={seen}" in answer.output


async def test_commands_see_neither_our_secrets_nor_what_the_user_keeps_from_them(asking):
    server = StdioMcpServer(command=sys.executable, args=[MCP_SERVER], env={"MCP_TOKEN": "secret"})
    settings = '[shell_environment_policy]\nexclude = ["USERS_*"]\nset = { KEPT = "kept" }'
    answer = await asking(shell("env"), OK, settings=settings).ask(
        CodexOptions(api_key="sk-secret", env={"USERS_OWN": "secret", "SEEN": "seen"}),
        sandbox="danger-full-access",
        mcp_servers={"tiny": server, "far": HttpMcpServer(url="http://127.0.0.1:9/", bearer_token="secret")},
    )
    seen = {line.partition("=")[0] for line in answer.output.splitlines()}
    assert {"SEEN", "KEPT", "PATH"} <= seen
    assert not seen & {"CODEX_API_KEY", "MCP_TOKEN", "USERS_OWN", "CODEX_ACTORS_SECRET_2"}
    assert "secret" not in answer.output


async def test_no_secret_shows_in_any_process(asking, repository):
    """Looked for by a command of the model's while Codex and its servers run."""
    canary = f"canary{uuid4().hex}"
    server = StdioMcpServer(
        command=sys.executable, args=[MCP_SERVER], env={"MCP_TOKEN": f"{canary}1"}, required=True
    )
    provider = {"http_headers": {"X-Secret": f"{canary}2"}}
    look = f"grep -alE '[c]{canary[1:]}' /proc/[0-9]*/cmdline | wc -l; echo looked"
    answer = await asking(shell(look), OK).ask(
        CodexOptions(
            api_key=f"{canary}3",
            env={"OTHER": f"{canary}4"},
            config={"model_providers": {"scripted": provider}},
        ),
        TurnOptions(output_schema={"description": f"{canary}5"}),
        prompt=f"{canary}6",
        sandbox="danger-full-access",
        mcp_servers={"tiny": server},
    )
    assert "\n0\nlooked" in answer.output
    assert answer.scenario.requests[0].headers["x-secret"] == f"{canary}2"
    assert answer.scenario.requests[0].prompt == f"{canary}6"


# MCP servers


def stdio(**options: Any) -> StdioMcpServer:
    return StdioMcpServer(command=sys.executable, args=[MCP_SERVER], required=True, **options)


@tries("ThreadOptions.mcp_servers", "StdioMcpServer.command", "StdioMcpServer.args", "StdioMcpServer.env")
@tries("StdioMcpServer.cwd", "StdioMcpServer.required")
async def test_a_server_gets_its_variables_and_its_directory(asking, tmp_path):
    seen, where = tmp_path / "seen", tmp_path / "where"
    where.mkdir()
    server = StdioMcpServer(
        command="sh",
        args=["-c", 'pwd > "$0"; env >> "$0"; exec "$@"', str(seen), sys.executable, MCP_SERVER],
        env={"TOKEN": "secret", "MODE": "fast"},
        cwd=where,
        required=True,
    )
    answer = await asking().ask(CodexOptions(env={"OTHER": "1"}), mcp_servers={"tiny": server})
    assert answer.exit_code == 0
    lines = seen.read_text().splitlines()
    assert lines[0] == str(where)
    assert {"TOKEN=secret", "MODE=fast"} <= set(lines)
    assert not any(line.startswith(("CODEX_API_KEY=", "OTHER=")) for line in lines)


@tries("HttpMcpServer.url", "HttpMcpServer.bearer_token", "HttpMcpServer.headers", "HttpMcpServer.required")
async def test_a_server_on_the_web_sees_token_and_headers(asking):
    asking = asking()
    server = HttpMcpServer(
        url=f"{asking.model.origin}/mcp", bearer_token="secret", headers={"X-Key": "other"}, required=True
    )
    answer = await asking.ask(mcp_servers={"far": server})
    first = asking.model.requests[0]
    assert (first.path, first.headers["authorization"], first.headers["x-key"]) == (
        "/mcp",
        "Bearer secret",
        "other",
    )
    assert answer.exit_code == 1
    assert "required MCP servers failed to initialize: far" in answer.stderr


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({}, "MCP tool call requires approval"),
        ({"approval": "approve"}, "echo: hello"),
        ({"approval": "approve", "enabled_tools": ["boom"]}, "unsupported call"),
        ({"approval": "approve", "disabled_tools": ["echo"]}, "unsupported call"),
    ],
)
@tries("StdioMcpServer.approval", "StdioMcpServer.enabled_tools", "StdioMcpServer.disabled_tools")
async def test_the_model_calls_the_tools_it_may(asking, options, outcome):
    answer = await asking(mcp_call("tiny", "echo", text="hello"), OK).ask(
        mcp_servers={"tiny": stdio(**options)}
    )
    assert outcome in answer.output


@tries("StdioMcpServer.tool_seconds")
async def test_a_tool_has_its_time(asking):
    server = stdio(approval="approve", tool_seconds=0.1)
    answer = await asking(mcp_call("tiny", "slow", seconds=5), OK).ask(mcp_servers={"tiny": server})
    assert "timed out awaiting tools/call after 100ms" in answer.output


@tries("StdioMcpServer.startup_seconds")
async def test_a_server_has_its_time_to_start(asking):
    server = StdioMcpServer(command="sleep", args=["30"], required=True, startup_seconds=0.1)
    answer = await asking().ask(mcp_servers={"tiny": server})
    assert answer.exit_code == 1
    assert "required MCP servers failed to initialize: tiny" in answer.stderr


# Ways to start


async def test_a_thread_goes_on_and_another_branches_off(asking):
    asking = asking(message("one"), message("two"), message("three"))
    began = await asking.ask(prompt="first")
    resumed = await asking.ask(prompt="second", start=ResumeThread(thread_id=began.thread_id))
    assert find_last_thread(resumed.home, asking.workspace) == began.thread_id
    forked = await asking.ask(prompt="third", start=ForkThread(thread_id=began.thread_id))
    assert began.thread_id == resumed.thread_id != forked.thread_id
    assert find_last_thread(forked.home, asking.workspace) == forked.thread_id
    said = [item["content"][0]["text"] for item in forked.asked.field("input") if item.get("role") == "user"]
    assert [text for text in said if text in {"first", "second", "third"}] == ["first", "second", "third"]


async def test_the_last_thread_may_be_one_of_another_directory(asking, tmp_path):
    began = await asking().ask(cwd=tmp_path)
    assert find_last_thread(began.home) == find_last_thread(began.home, tmp_path) == began.thread_id
    assert find_last_thread(began.home, began.home) is None


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (UncommittedChanges(), "current code changes (staged, unstaged, and untracked files)"),
        (BaseBranch("main"), "against the base branch 'main'"),
        (Commit("HEAD", "Go on"), '("Go on")'),
        (CustomReview("look for typos"), "look for typos"),
    ],
)
async def test_what_is_reviewed_is_what_was_asked_for(asking, repository, target, asked):
    prompt = target.instructions if isinstance(target, CustomReview) else ""
    answer = await asking().ask(start=ReviewChanges(target=target), prompt=prompt)
    assert answer.exit_code == 0
    assert asked in answer.asked.prompt


# All of them


def test_every_option_is_tried_here():
    """Those of an HTTP server that a stdio server has too have the same keys."""
    shared = {f"HttpMcpServer.{name}": f"StdioMcpServer.{name}" for name in places(StdioMcpServer)}
    for options in (CodexOptions, ThreadOptions, TurnOptions, StdioMcpServer, HttpMcpServer):
        for name, place in places(options).items():
            option = f"{options.__name__}.{name}"
            assert place == Ours() or TRIED & {option, shared.get(option)}, option
