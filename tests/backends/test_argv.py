"""A turn as `codex exec` takes it: arguments and environment."""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_actors.backends import (
    ForkThread,
    NewThread,
    ResumeThread,
    ReviewChanges,
    TurnRequest,
)
from codex_actors.backends._argv import build_command, environment, total_limit
from codex_actors.errors import OptionError
from codex_actors.options import (
    BaseBranch,
    CodexOptions,
    Commit,
    CustomReview,
    HttpMcpServer,
    StdioMcpServer,
    ThreadOptions,
    TurnOptions,
    UncommittedChanges,
)

THREAD_ID = "01a1f8d9-1305-7df3-b436-4762163822ac"
CODEX, THREAD, TURN, NEW = CodexOptions(), ThreadOptions(), TurnOptions(), NewThread()


def command(
    codex=CODEX,
    thread=THREAD,
    turn=TURN,
    *,
    start=NEW,
    host: Mapping[str, str] = {},
    images=(),
    config_files=(),
    schema_fd=None,
    codex_path="codex",
):
    request = TurnRequest(start=start, prompt="hello", images=images, codex=codex, thread=thread, turn=turn)
    return build_command(request, codex_path, host, config_files=config_files, schema_fd=schema_fd)


def arguments(*args, **kwargs) -> list[str]:
    """What follows `codex exec --json`."""
    argv = command(*args, **kwargs).argv
    assert argv[:3] == ("codex", "exec", "--json")
    return list(argv[3:])


def settings(*args, **kwargs) -> dict[str, Any]:
    """The configuration as Codex puts it together from `--config`."""
    tree: dict[str, Any] = {}
    for argument in arguments(*args, **kwargs):
        if argument.startswith("--config="):
            key, _, value = argument.removeprefix("--config=").partition("=")
            _put(tree, key.split("."), _read(value))
    return tree


def _read(value: str) -> object:
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _put(table, path, value):
    *parents, last = path
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value


# Ways to start


def test_a_new_thread_takes_its_prompt_from_stdin():
    assert arguments() == ["-"]


@pytest.mark.parametrize(
    ("start", "subcommand"),
    [
        (ResumeThread(thread_id=THREAD_ID), ["resume", THREAD_ID, "-"]),
        (ForkThread(thread_id=THREAD_ID), ["fork", THREAD_ID, "-"]),
        (ReviewChanges(target=UncommittedChanges()), ["review", "--uncommitted"]),
        (ReviewChanges(target=BaseBranch("main")), ["review", "--base=main"]),
        (ReviewChanges(target=Commit("abc")), ["review", "--commit=abc"]),
        (ReviewChanges(target=Commit("abc", "Fix")), ["review", "--commit=abc", "--title=Fix"]),
        (ReviewChanges(target=CustomReview("look")), ["review", "-"]),
    ],
)
def test_every_way_to_start_is_a_subcommand_after_the_options(start, subcommand):
    assert arguments(thread=ThreadOptions(model="m"), start=start) == ["--model=m", *subcommand]


@pytest.mark.parametrize("way", [ResumeThread, ForkThread])
def test_a_thread_id_that_is_no_uuid_is_refused_because_codex_would_start_another_thread(way):
    with pytest.raises(OptionError, match="UUID"):
        command(start=way(thread_id="my-thread"))


def test_an_ephemeral_thread_cannot_be_resumed():
    with pytest.raises(OptionError, match=r"ThreadOptions\.ephemeral"):
        command(thread=ThreadOptions(ephemeral=True), start=ResumeThread(thread_id=THREAD_ID))


def test_an_ephemeral_fork_of_a_recorded_thread_is_fine():
    thread = ThreadOptions(ephemeral=True)
    assert arguments(thread=thread, start=ForkThread(thread_id=THREAD_ID))[0] == "--ephemeral"


@pytest.mark.parametrize(
    ("start", "advice"),
    [
        (ResumeThread(thread_id=THREAD_ID), "fork the thread, or .* as `cwd`"),
        (ReviewChanges(target=UncommittedChanges()), "reviews"),
    ],
)
def test_a_new_worktree_is_refused_where_codex_makes_none(start, advice):
    """A thread resumed without the flag would silently go on outside of its worktree."""
    with pytest.raises(OptionError, match=rf"ThreadOptions\.worktree.*{advice}"):
        command(thread=ThreadOptions(worktree=True), start=start)


def test_a_fork_may_have_a_worktree_of_its_own():
    thread = ThreadOptions(worktree=True)
    assert arguments(thread=thread, start=ForkThread(thread_id=THREAD_ID))[0] == "--worktree"


@pytest.mark.parametrize(
    "turn", [TurnOptions(output_schema={"type": "object"}), TurnOptions(cyber_access_program="standard")]
)
def test_what_has_no_effect_on_a_review_is_refused(turn):
    with pytest.raises(OptionError, match=r"TurnOptions\.(output_schema|cyber_access_program)"):
        command(turn=turn, start=ReviewChanges(target=UncommittedChanges()))


# Flags


@pytest.mark.parametrize(
    ("thread", "flags"),
    [
        (ThreadOptions(model="gpt"), ["--model=gpt"]),
        (ThreadOptions(model="-x"), ["--model=-x"]),
        (ThreadOptions(sandbox="read-only"), ['--config=approval_policy="never"', "--sandbox=read-only"]),
        (ThreadOptions(cwd="/w"), ["--cd=/w"]),
        (ThreadOptions(additional_directories=["/a", "/b"]), ["--add-dir=/a", "--add-dir=/b"]),
        (ThreadOptions(approve_for_me=True), ["--approve-for-me"]),
        (ThreadOptions(skip_git_repo_check=True), ["--skip-git-repo-check"]),
        (ThreadOptions(worktree=True), ["--worktree"]),
        (ThreadOptions(ephemeral=True), ["--ephemeral"]),
        (ThreadOptions(profile="work"), ["--profile=work"]),
        (ThreadOptions(ignore_user_config=True), ["--ignore-user-config"]),
        (ThreadOptions(ignore_rules=True), ["--ignore-rules"]),
        (ThreadOptions(strict_config=True), ["--strict-config"]),
        (ThreadOptions(enable=["a", "b"]), ["--enable=a", "--enable=b"]),
        (ThreadOptions(disable=["a"]), ["--disable=a"]),
        (ThreadOptions(oss=True, local_provider="ollama"), ["--oss", "--local-provider=ollama"]),
        (ThreadOptions(thread_source="bot"), ["--thread-source=bot"]),
    ],
)
def test_an_option_with_a_flag_becomes_that_flag(thread, flags):
    assert arguments(thread=thread) == [*flags, "-"]


def test_the_schema_is_read_from_its_descriptor():
    turn = TurnOptions(output_schema={"type": "object"}, cyber_access_program="standard")
    assert arguments(turn=turn, schema_fd=7) == [
        "--output-schema=/dev/fd/7",
        "--cyber-access-program=standard",
        "-",
    ]


def test_an_image_cannot_swallow_what_follows_it():
    assert arguments(images=("a.png", "-b.png")) == ["--image=a.png", "--image=-b.png", "-"]


# Configuration


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (CodexOptions(base_url="http://h/v1"), {"openai_base_url": "http://h/v1"}),
        (ThreadOptions(reasoning_effort="high"), {"model_reasoning_effort": "high"}),
        (ThreadOptions(network_access=True), {"sandbox_workspace_write": {"network_access": True}}),
        (ThreadOptions(network_access=False), {"sandbox_workspace_write": {"network_access": False}}),
        (ThreadOptions(web_search="live"), {"web_search": "live"}),
        (ThreadOptions(approval_policy="never"), {"approval_policy": "never"}),
    ],
)
def test_an_option_with_a_key_becomes_that_setting(options, expected):
    given_options = {"codex": options} if isinstance(options, CodexOptions) else {"thread": options}
    assert settings(**given_options) == expected


def test_a_table_is_split_into_settings():
    config = {"a": {"b": 1, "c": {"d": [1, {"e": "f"}]}}, "empty": {}}
    assert arguments(CodexOptions(config=config)) == [
        "--config=a.b=1",
        '--config=a.c.d=[1, {e = "f"}]',
        "--config=empty={}",
        "-",
    ]


def test_a_key_with_a_dot_stands_inside_a_value_before_its_siblings():
    """Codex splits a key at every dot, quoted or not, and a later table replaces earlier settings."""
    config = {"projects": {"plain": {"x": 1}, "/a/b.c": {"trust_level": "trusted"}}}
    assert arguments(CodexOptions(config=config)) == [
        '--config=projects={"/a/b.c" = {trust_level = "trusted"}}',
        "--config=projects.plain.x=1",
        "-",
    ]


def test_options_win_over_raw_overrides_and_those_over_config():
    codex = CodexOptions(config={"web_search": "live"}, config_overrides=['web_search="cached"'])
    assert arguments(codex, ThreadOptions(web_search="disabled")) == [
        '--config=web_search="live"',
        '--config=web_search="cached"',
        '--config=web_search="disabled"',
        "-",
    ]


json_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab._-=\"' \n\x7fü"), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.from_regex(r"[a-f_]{1,8}", fullmatch=True), json_values, max_size=4))
def test_codex_reads_the_configuration_that_was_given(config):
    assert settings(CodexOptions(config=config)) == config


# Limits of the kernel


@pytest.mark.parametrize("size", [200_000, 1_000_000])
def test_a_setting_too_large_for_one_argument_is_refused_by_its_path(size):
    with pytest.raises(OptionError, match=r"config\.a\.b.*config\.toml") as refusal:
        command(CodexOptions(config={"a": {"b": "x" * size}}))
    assert "xxx" not in str(refusal.value)


def test_the_largest_argument_that_the_kernel_takes_is_taken():
    room = 131_072 - len('--config=a=""') - 1
    assert len(arguments(CodexOptions(config={"a": "x" * room}))[0]) == 131_071
    with pytest.raises(OptionError, match="131073 bytes"):
        command(CodexOptions(config={"a": "x" * (room + 1)}))


def test_a_large_table_goes_in_pieces():
    config = {"a": {f"k{at}": "x" * 1_000 for at in range(300)}}
    assert len(settings(CodexOptions(config=config))["a"]) == 300


def test_arguments_and_environment_together_have_a_limit():
    many = total_limit() // 100_000 + 1
    with pytest.raises(OptionError, match="this system allows"):
        command(CodexOptions(config={f"k{at}": "x" * 100_000 for at in range(many)}))


def test_a_variable_too_large_is_refused_by_its_name():
    with pytest.raises(OptionError, match=r"env\.BIG"):
        command(CodexOptions(env={"BIG": "x" * 200_000}))


@pytest.mark.parametrize(("text", "problem"), [("a\0b", "NUL"), ("a\ud800", "surrogate")])
def test_what_the_operating_system_cannot_pass_on_is_refused(text, problem):
    with pytest.raises(OptionError, match=rf"ThreadOptions\.model.*{problem}"):
        command(thread=ThreadOptions(model=text))


def test_a_path_that_is_not_utf8_is_passed_on_as_it_is():
    path = os.fsdecode(b"/tmp/\xff")
    assert arguments(thread=ThreadOptions(cwd=path)) == [f"--cd={path}", "-"]


@given(
    st.lists(st.text(min_size=1), max_size=5),
    st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), st.text()),
)
def test_whatever_is_built_the_kernel_takes(models, variables):
    try:
        built = command(CodexOptions(env=variables), ThreadOptions(enable=models))
    except OptionError:
        return
    strings = [*built.argv, *(f"{name}={value}" for name, value in built.env.items())]
    assert all("\0" not in text and len(os.fsencode(text)) < 131_072 for text in strings)


def test_the_kernel_agrees_about_its_limits():
    program = shutil.which("true") or "true"
    pieces = total_limit() // 131_072 - 1
    config = {f"k{at}": "x" * 131_000 for at in range(pieces)} | {"rest": "x" * 100_000}
    argv, env = command(CodexOptions(config=config), codex_path=program)
    subprocess.run(argv, env=env, check=True)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run([program, "x" * 131_072], check=True)


# Environment

HOST = {
    "HOME": "/h",
    "PATH": "/bin",
    "LC_TIME": "C",
    "XDG_DATA_HOME": "/x",
    "https_proxy": "p",
    "SSL_CERT_FILE": "c",
    "CODEX_HOME": "/c",
    "CODEX_API_KEY": "key",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "PROVIDER_KEY": "provider",
    "EDITOR": "vi",
}
OURS = {"CODEX_INTERNAL_ORIGINATOR_OVERRIDE": "codex_actors"}


def test_by_default_codex_gets_what_work_needs_and_nothing_else():
    inherited = {
        name: HOST[name] for name in HOST if name not in {"AWS_SECRET_ACCESS_KEY", "PROVIDER_KEY", "EDITOR"}
    }
    assert command(host=HOST).env == inherited | OURS


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "XDG_RUNTIME_DIR"),
        *("CODEX_HOME", "CODEX_API_KEY", "SSL_CERT_DIR", "SSL_CERT_FILE", "SSH_AUTH_SOCK"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    ],
)
def test_the_allow_list_holds(name):
    assert environment(CodexOptions(), {name: "x"})[name] == "x"


def test_one_word_inherits_everything_and_one_nothing():
    assert command(CodexOptions(inherit_env="all"), host=HOST).env == HOST | OURS
    assert command(CodexOptions(inherit_env="none"), host=HOST).env == OURS


def test_options_win_over_extra_variables_and_those_over_inherited_ones():
    codex = CodexOptions(
        env={"CODEX_HOME": "/env", "PATH": "/env"}, codex_home="/option", api_key="k", originator="me"
    )
    assert command(codex, host={"PATH": "/host"}).env == {
        "PATH": "/env",
        "CODEX_HOME": "/option",
        "CODEX_API_KEY": "k",
        "CODEX_INTERNAL_ORIGINATOR_OVERRIDE": "me",
    }


@pytest.mark.parametrize(
    "where",
    [
        {"config_files": [{"model_providers": {"p": {"env_key": "PROVIDER_KEY"}}}]},
        {"codex": CodexOptions(config={"model_providers": {"p": {"env_key": "PROVIDER_KEY"}}})},
        {"codex": CodexOptions(config_overrides=["model_providers.p.env_key=PROVIDER_KEY"])},
    ],
)
def test_the_key_of_any_configured_provider_comes_along_and_stops_at_codex(where):
    built = command(**where, host=HOST)
    assert built.env["PROVIDER_KEY"] == "provider"
    assert settings(**where, host=HOST)["shell_environment_policy"] == {
        "exclude": ["CODEX_API_KEY", "PROVIDER_KEY"]
    }


# Secrets


def test_the_key_is_in_the_environment_and_kept_from_commands():
    built = command(CodexOptions(api_key="canary"))
    assert built.env["CODEX_API_KEY"] == "canary"
    assert built.argv[3:] == ('--config=shell_environment_policy.exclude=["CODEX_API_KEY"]', "-")


def test_what_the_user_keeps_from_commands_stays_kept():
    """Codex lets an array replace an array."""
    files = [
        {"shell_environment_policy": {"exclude": ["A*"]}},
        {"shell_environment_policy": {"exclude": ["B"]}},
    ]
    codex = CodexOptions(
        api_key="k",
        config={"shell_environment_policy": {"exclude": ["C", "A*"]}},
        config_overrides=[' shell_environment_policy.exclude =["D"]'],
    )
    assert settings(codex, config_files=files)["shell_environment_policy"] == {
        "exclude": ["A*", "B", "C", "D", "CODEX_API_KEY"]
    }


def test_other_settings_for_commands_are_left_alone():
    codex = CodexOptions(api_key="k", config={"shell_environment_policy": {"inherit": "core"}})
    assert settings(codex)["shell_environment_policy"] == {"inherit": "core", "exclude": ["CODEX_API_KEY"]}


def test_a_stdio_server_gets_its_variables_through_codex():
    server = StdioMcpServer(
        command="srv", args=["-x"], env={"TOKEN": "canary", "MODE": "fast"}, required=True
    )
    thread = ThreadOptions(mcp_servers={"tiny": server})
    built = command(thread=thread)
    assert "canary" not in " ".join(built.argv)
    assert built.env == OURS | {"TOKEN": "canary", "MODE": "fast"}
    assert settings(thread=thread) == {
        "mcp_servers": {
            "tiny": {"command": "srv", "args": ["-x"], "required": True, "env_vars": ["TOKEN", "MODE"]}
        },
        "shell_environment_policy": {"exclude": ["MODE", "TOKEN"]},
    }


def test_every_setting_of_a_server_has_a_key():
    server = StdioMcpServer(
        command="srv",
        cwd="/w",
        startup_seconds=1,
        tool_seconds=2.5,
        enabled_tools=["a"],
        disabled_tools=["b"],
        approval="approve",
        required=False,
    )
    assert settings(thread=ThreadOptions(mcp_servers={"s": server}))["mcp_servers"] == {
        "s": {
            "command": "srv",
            "cwd": "/w",
            "required": False,
            "startup_timeout_sec": 1,
            "tool_timeout_sec": 2.5,
            "enabled_tools": ["a"],
            "disabled_tools": ["b"],
            "default_tools_approval_mode": "approve",
        }
    }


def test_an_http_server_gets_its_token_and_headers_through_codex():
    server = HttpMcpServer(url="https://h/mcp", bearer_token="canary1", headers={"X-Key": "canary2"})
    thread = ThreadOptions(mcp_servers={"far": server})
    built = command(thread=thread)
    assert "canary" not in " ".join(built.argv)
    config = settings(thread=thread)
    far = config["mcp_servers"]["far"]
    assert far["url"] == "https://h/mcp"
    assert built.env[far["bearer_token_env_var"]] == "canary1"
    assert built.env[far["env_http_headers"]["X-Key"]] == "canary2"
    assert config["shell_environment_policy"]["exclude"] == [
        "CODEX_ACTORS_SECRET_0",
        "CODEX_ACTORS_SECRET_1",
    ]


def test_secrets_of_plain_configuration_are_hidden_too():
    config: dict[str, Any] = {
        "mcp_servers": {"a": {"command": "x", "env": {"T": "canary"}, "env_vars": ["OLD"]}, "odd": 1},
        "model_providers": {
            "p": {
                "http_headers": {"Authorization": "canary"},
                "env_http_headers": {"X": "VAR"},
                "experimental_bearer_token": "canary",
            }
        },
    }
    built = command(CodexOptions(config=config))
    assert "canary" not in " ".join(built.argv)
    read = settings(CodexOptions(config=config))
    assert read["mcp_servers"] == {"a": {"command": "x", "env_vars": ["OLD", "T"]}, "odd": 1}
    provider = read["model_providers"]["p"]
    assert provider["env_http_headers"]["X"] == "VAR"
    assert built.env[provider["env_http_headers"]["Authorization"]] == "canary"
    assert built.env[provider["env_key"]] == "canary"
    assert config["mcp_servers"]["a"]["env"] == {"T": "canary"}, "the caller's own mapping is untouched"


def test_what_codex_will_refuse_reaches_codex():
    servers = {"a": {"env": 1, "http_headers": [], "bearer_token": 2}}
    assert settings(CodexOptions(config={"mcp_servers": servers}))["mcp_servers"] == servers


@pytest.mark.parametrize(
    "config",
    [
        {"otel": {"exporter": {"api_key": "canary"}}},
        {"shell_environment_policy": {"set": {"GITHUB_TOKEN": "canary"}}},
        {"x": {"PASSWORD": "canary"}},
        {"x": {"client-secret": "canary"}},
        {"x": {"accessToken": "canary"}},
        {"x": {"DB_PASS": "canary"}},
        {"x": {"credentials": "canary"}},
        {"x": {"tokens": ["canary"]}},
        {"mcp_servers": {"token": "canary"}},
        {"x": [{"y": 1}, {"token": "canary"}]},
        {"x": [[{"token": "canary"}]]},
        {"otel": {"exporter": {"otlp-http": {"headers": {"x-tenant": "canary"}}}}},
        {"profiles": {"work": {"model_providers": {"p": {"http_headers": {"x-tenant": "canary"}}}}}},
        {"profiles": {"work": {"mcp_servers": {"s": {"env": {"A": "canary"}}}}}},
        {"shell_environment_policy": {"set": {"A": "canary"}}},
        {"model_providers": {"p": {"base_url": "https://user:canary@host/v1"}}},
    ],
)
def test_a_setting_named_like_a_secret_is_refused(config):
    with pytest.raises(OptionError, match="process list") as refusal:
        command(CodexOptions(config=config))
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    "config",
    [
        {"model_providers": {"p": {"env_key": "KEY", "env_http_headers": {"Authorization": "VAR"}}}},
        {"mcp_servers": {"s": {"bearer_token_env_var": "VAR", "args": ["--token-file", "/t"]}}},
        {"shell_environment_policy": {"exclude": ["A_TOKEN"], "include_only": ["PASSWORD"]}},
        {"model_auto_compact_token_limit": 1000, "cli_auth_credentials_store": "keyring"},
        {"projects": {"/home/a-secret": {"trust_level": "trusted"}}},
        {"mcp_servers": {"env": {"command": "x"}}},
        {"x": {"bypass": "yes", "url": "https://host/@scope", "offset": "1"}},
    ],
)
def test_what_only_names_a_secret_is_taken(config):
    assert settings(CodexOptions(config=config)) == config


@pytest.mark.parametrize(
    "override",
    [
        "mcp_servers.a.env.T=canary",
        'mcp_servers."a.b".env.T=canary',
        "mcp_servers.a.env={T=canary",
        'model_providers.p={http_headers={a="canary"}}',
        'x.api_key="canary"',
        'x."api_key"="canary"',
        'x=[{token="canary"}]',
    ],
)
def test_a_raw_override_that_shows_a_secret_is_refused(override):
    with pytest.raises(OptionError, match=r"config_overrides\[1\].*process list") as refusal:
        command(CodexOptions(config_overrides=["a=1", override]))
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("name", ["PATH", "RUST_LOG", "CODEX_THREAD", "HTTPS_PROXY", "TAKEN"])
def test_a_server_cannot_change_a_variable_of_codex(name):
    server = StdioMcpServer(command="srv", env={name: "other"})
    with pytest.raises(OptionError, match=rf"mcp_servers\.s\.env\.{name}.*another value or a meaning"):
        command(
            CodexOptions(env={"TAKEN": "1"}), ThreadOptions(mcp_servers={"s": server}), host={"PATH": "/bin"}
        )


def test_a_server_may_share_a_variable_of_codex():
    server = StdioMcpServer(command="srv", env={"PATH": "/bin"})
    thread = ThreadOptions(mcp_servers={"s": server})
    assert settings(thread=thread, host={"PATH": "/bin"}) == {
        "mcp_servers": {"s": {"command": "srv", "env_vars": ["PATH"]}}
    }


def test_two_servers_cannot_give_one_variable_two_values():
    servers = {
        "a": StdioMcpServer(command="x", env={"T": "1"}),
        "b": StdioMcpServer(command="y", env={"T": "2"}),
    }
    with pytest.raises(OptionError, match=r"mcp_servers\.b\.env\.T"):
        command(thread=ThreadOptions(mcp_servers=servers))


def test_nobody_sees_the_prompt():
    built = command()
    assert "hello" not in " ".join([*built.argv, *built.env.values()])
