"""What can be asked of Codex, and how it is refused."""

# Much here is wrong on purpose.
# mypy: disable-error-code="arg-type,list-item,dict-item"

import copy
import inspect
import pickle
from pathlib import Path

import msgspec
import pytest

import codex_actors.options
from codex_actors.errors import OptionError
from codex_actors.options import (
    BaseBranch,
    CodexOptions,
    Commit,
    Config,
    CustomReview,
    Deadlines,
    Env,
    Flag,
    HttpMcpServer,
    LastThread,
    LocalImage,
    Options,
    Ours,
    StdioMcpServer,
    Text,
    ThreadName,
    ThreadOptions,
    TurnOptions,
    UncommittedChanges,
    check_thread_id,
    places,
    split_input,
)

ALL = [CodexOptions, ThreadOptions, TurnOptions, Deadlines, StdioMcpServer, HttpMcpServer]
THREAD_ID = "01a1f8d9-1305-7df3-b436-4762163822ac"


def documented(options: type[Options]) -> dict[str, str]:
    """The lines under `Attributes:` by the field they belong to."""
    lines = inspect.cleandoc(options.__doc__ or "").partition("Attributes:\n")[2].splitlines()
    return dict(line.strip().split(": ", 1) for line in lines if line[4:5].strip())


@pytest.mark.parametrize("options", ALL)
def test_every_option_has_a_place_and_a_line_of_documentation(options):
    assert list(documented(options)) == list(options.__struct_fields__) == list(places(options))
    for place in places(options).values():
        assert isinstance(place, Flag | Config | Env | Ours)


def test_no_two_options_share_a_place():
    given_places = [
        place
        for options in (CodexOptions, ThreadOptions, TurnOptions)
        for place in places(options).values()
        if place != Ours()
    ]
    assert len(set(given_places)) == len(given_places)


@pytest.mark.parametrize("options", [CodexOptions, ThreadOptions, TurnOptions, Deadlines])
def test_everything_has_a_default(options):
    assert options() == options()


def test_options_are_frozen_and_can_be_copied_compared_and_pickled():
    options = CodexOptions(config={"a": [1]}, env={"A": "b"})
    with pytest.raises(AttributeError):
        options.api_key = "x"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(options)) == copy.deepcopy(options) == options
    assert msgspec.structs.replace(options, api_key="k").config == options.config
    with pytest.raises(OptionError):
        msgspec.structs.replace(options, api_key=1)


def test_what_the_giver_changes_later_changes_nothing():
    config, directories = {"a": {"b": [1]}}, ["/a"]
    codex, thread = CodexOptions(config=config), ThreadOptions(additional_directories=directories)
    config["a"]["b"].append(2)
    directories.append("/b")
    assert codex.config == {"a": {"b": (1,)}}
    assert thread.additional_directories == ("/a",)


def test_paths_become_strings():
    assert ThreadOptions(cwd=Path("/w"), additional_directories=[Path("/a")]) == ThreadOptions(
        cwd="/w", additional_directories=["/a"]
    )
    assert LocalImage(Path("/i.png")).path == "/i.png"


@pytest.mark.parametrize(
    ("build", "field", "problem"),
    [
        (lambda: ThreadOptions(model=1), "ThreadOptions.model", "must be str or None"),
        (lambda: ThreadOptions(cwd=b"/"), "ThreadOptions.cwd", "must be str or PathLike or None"),
        (lambda: ThreadOptions(cwd=""), "ThreadOptions.cwd", "is empty"),
        (lambda: ThreadOptions(sandbox="all"), "ThreadOptions.sandbox", "must be 'read-only' or "),
        (lambda: ThreadOptions(ephemeral=1), "ThreadOptions.ephemeral", "must be bool"),
        (lambda: ThreadOptions(enable="x"), "ThreadOptions.enable", "must be a sequence of str"),
        (lambda: ThreadOptions(enable=[1]), "ThreadOptions.enable", "must be a sequence of str"),
        (
            lambda: ThreadOptions(mcp_servers={"a": {}}),
            "ThreadOptions.mcp_servers",
            "must be a mapping of str to StdioMcpServer or HttpMcpServer",
        ),
        (
            lambda: ThreadOptions(mcp_servers={"a b": StdioMcpServer(command="x")}),
            "ThreadOptions.mcp_servers.a b",
            "named with",
        ),
        (lambda: ThreadOptions(profile="a/b"), "ThreadOptions.profile", "plain name"),
        (
            lambda: ThreadOptions(profile="a", ignore_user_config=True),
            "ThreadOptions.profile",
            "no effect with `ignore_user_config`",
        ),
        (lambda: ThreadOptions(enable=["a", "b"], disable=["b"]), "ThreadOptions.enable", "too: b"),
        (lambda: ThreadOptions(local_provider="ollama"), "ThreadOptions.local_provider", "oss=True"),
        (lambda: ThreadOptions(approval_policy="untrusted"), "ThreadOptions.approval_policy", "not honoured"),
        (
            lambda: ThreadOptions(approval_policy="on-failure"),
            "ThreadOptions.approval_policy",
            "not honoured",
        ),
        (
            lambda: ThreadOptions(approval_policy="on-request"),
            "ThreadOptions.approval_policy",
            "approve_for_me",
        ),
        (
            lambda: ThreadOptions(approval_policy="never", approve_for_me=True),
            "ThreadOptions.approval_policy",
            "approve_for_me",
        ),
        (
            lambda: ThreadOptions(sandbox="workspace-write", approve_for_me=True),
            "ThreadOptions.sandbox",
            "approve_for_me",
        ),
        (
            lambda: ThreadOptions(sandbox="read-only", network_access=True),
            "ThreadOptions.network_access",
            "no effect",
        ),
        (
            lambda: ThreadOptions(sandbox="danger-full-access", network_access=False),
            "ThreadOptions.network_access",
            "cannot be False",
        ),
        (
            lambda: ThreadOptions(sandbox="read-only", additional_directories=["/a"]),
            "ThreadOptions.additional_directories",
            "no effect",
        ),
        (lambda: CodexOptions(base_url="h/v1"), "CodexOptions.base_url", "http://"),
        (
            lambda: CodexOptions(base_url="https://user:canary@h/v1"),
            "CodexOptions.base_url",
            "a user name or password, and others could read it: use `api_key`",
        ),
        (
            lambda: HttpMcpServer(url="https://canary@h/mcp"),
            "HttpMcpServer.url",
            "use `bearer_token` or `headers`",
        ),
        (lambda: CodexOptions(api_key="a b"), "CodexOptions.api_key", "visible ASCII"),
        (lambda: CodexOptions(api_key=""), "CodexOptions.api_key", "is empty"),
        (lambda: CodexOptions(originator="ü"), "CodexOptions.originator", "visible ASCII"),
        (lambda: CodexOptions(env={"A": 1}), "CodexOptions.env", "a mapping of str to str"),
        (lambda: CodexOptions(env={"A=B": "1"}), "CodexOptions.env", "letters"),
        (lambda: CodexOptions(env={"A": "\0"}), "CodexOptions.env.A", "NUL"),
        (lambda: CodexOptions(config=[]), "CodexOptions.config", "a mapping of str to object"),
        (lambda: CodexOptions(config={"a": {"b": None}}), "CodexOptions.config.a.b", "NoneType"),
        (lambda: CodexOptions(config={"a.b": 1}), "CodexOptions.config", "has the key 'a.b': nest mappings"),
        (lambda: CodexOptions(config={"": 1}), "CodexOptions.config", "has the key ''"),
        (lambda: CodexOptions(config_overrides=["a"]), "CodexOptions.config_overrides[0]", "key=value"),
        (
            lambda: CodexOptions(config_overrides=["a=1", " =1"]),
            "CodexOptions.config_overrides[1]",
            "key=value",
        ),
        (lambda: CodexOptions(max_line_bytes=0), "CodexOptions.max_line_bytes", "at least 1"),
        (lambda: CodexOptions(max_line_bytes=True), "CodexOptions.max_line_bytes", "must be int"),
        (lambda: CodexOptions(deadlines=1), "CodexOptions.deadlines", "must be Deadlines"),
        (
            lambda: CodexOptions(inherit_env="some"),
            "CodexOptions.inherit_env",
            "'allowlist' or 'all' or 'none'",
        ),
        (lambda: CodexOptions(when_busy="run"), "CodexOptions.when_busy", "'wait' or 'refuse'"),
        (lambda: Deadlines(spawn_seconds=None), "Deadlines.spawn_seconds", "must be float"),
        (lambda: Deadlines(spawn_seconds=0), "Deadlines.spawn_seconds", "greater than 0"),
        (lambda: Deadlines(turn_seconds=float("inf")), "Deadlines.turn_seconds", "finite"),
        (lambda: Deadlines(idle_seconds=float("nan")), "Deadlines.idle_seconds", "finite"),
        (lambda: Deadlines(idle_seconds=True), "Deadlines.idle_seconds", "must be float or None"),
        (lambda: StdioMcpServer(command="x", env={"": "y"}), "StdioMcpServer.env", "letters"),
        (
            lambda: StdioMcpServer(command="x", tool_seconds=-1),
            "StdioMcpServer.tool_seconds",
            "greater than 0",
        ),
        (lambda: HttpMcpServer(url="x"), "HttpMcpServer.url", "http://"),
        (lambda: HttpMcpServer(url="http://x", bearer_token="a\n"), "HttpMcpServer.bearer_token", "visible"),
        (
            lambda: HttpMcpServer(url="http://x", startup_seconds=0),
            "HttpMcpServer.startup_seconds",
            "greater",
        ),
        (lambda: TurnOptions(output_schema=[]), "TurnOptions.output_schema", "a mapping of str to object"),
        (lambda: TurnOptions(output_schema={"a": object()}), "TurnOptions.output_schema", "JSON"),
        (lambda: TurnOptions(output_schema={}), "TurnOptions.output_schema", "is empty"),
        (
            lambda: StdioMcpServer(command="x", enabled_tools=[]),
            "StdioMcpServer.enabled_tools",
            "is empty",
        ),
        (lambda: Text(1), "Text.text", "must be str"),
        (lambda: LocalImage("a,b.png"), "LocalImage.path", "comma"),
        (lambda: BaseBranch(""), "BaseBranch.branch", "is empty"),
        (lambda: Commit("a", ""), "Commit.title", "is empty"),
        (lambda: CustomReview(" \n"), "CustomReview.instructions", "is blank"),
        (lambda: ThreadName(""), "ThreadName.name", "is empty"),
        (lambda: LastThread("yes"), "LastThread.any_cwd", "must be bool"),
        (lambda: check_thread_id("last"), "thread_id", "UUID"),
        (lambda: check_thread_id(None), "thread_id", "UUID"),
        (lambda: split_input(" "), "input", "no text"),
        (lambda: split_input([]), "input", "no text"),
        (lambda: split_input([LocalImage("a.png")]), "input", "no text"),
        (lambda: split_input(["hello", Path("a.png")]), "input[1]", "Text or a LocalImage"),
        (lambda: TurnOptions(output_retries=-1), "TurnOptions.output_retries", "at least 0"),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(build, field, problem):
    with pytest.raises(OptionError) as refusal:
        build()
    assert refusal.value.field == field
    assert problem in refusal.value.problem
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("depth", [400, 100_000])
def test_what_is_nested_too_deeply_is_refused(depth):
    nested: dict[str, object] = {}
    for _ in range(depth):
        nested = {"a": nested}
    with pytest.raises(OptionError, match=r"CodexOptions\.config.*nested too deeply"):
        CodexOptions(config=nested)


def test_what_contains_itself_is_refused():
    config: dict[str, object] = {}
    config["a"] = config
    with pytest.raises(OptionError, match=r"CodexOptions\.config: .*contains itself"):
        CodexOptions(config=config)


@pytest.mark.parametrize(
    "thread",
    [
        {"sandbox": "workspace-write", "network_access": True, "additional_directories": ["/a"]},
        {"sandbox": "danger-full-access", "network_access": True},
        {"sandbox": "read-only", "network_access": False},
        {"approve_for_me": True, "approval_policy": "on-request", "network_access": True},
        {"approval_policy": "never"},
        {"mcp_servers": {"a": HttpMcpServer(url="https://h:1/@scope/a?b=@c")}},
        {"oss": True, "local_provider": "a-new-one"},
        {"reasoning_effort": "a-new-word", "web_search": "a-new-word"},
        {"mcp_servers": {"a-B_1": StdioMcpServer(command="x"), "b": HttpMcpServer(url="https://x")}},
    ],
)
def test_what_can_work_is_taken(thread):
    assert isinstance(ThreadOptions(**thread), ThreadOptions)


def _may_be_none(name: str) -> bool:
    try:
        return Deadlines(**{name: None}) is not None
    except OptionError:
        return False


def test_only_a_turn_its_silence_and_its_wait_for_a_network_may_last_for_ever():
    unlimited = {name for name in Deadlines.__struct_fields__ if _may_be_none(name)}
    assert unlimited == {"turn_seconds", "idle_seconds", "network_seconds"}
    assert Deadlines(turn_seconds=None, idle_seconds=None, kill_seconds=1) != Deadlines()


@pytest.mark.parametrize(
    "options",
    [
        CodexOptions(
            api_key="canary", config={"a": "canary"}, config_overrides=["a=canary"], env={"A": "canary"}
        ),
        StdioMcpServer(command="x", args=["canary"], env={"A": "canary"}),
        HttpMcpServer(url="http://x/canary", bearer_token="canary", headers={"A": "canary"}),
        TurnOptions(output_schema={"a": "canary"}),
        Text("canary"),
        CustomReview("canary"),
        ThreadOptions(mcp_servers={"a": StdioMcpServer(command="x", env={"A": "canary"})}),
    ],
)
def test_no_repr_shows_a_secret_or_the_users_text(options):
    assert "canary" not in repr(options)
    assert "canary" not in str(options)


def test_what_is_not_secret_is_seen():
    assert "model='gpt'" in repr(ThreadOptions(model="gpt"))
    assert repr(Commit("abc", "Fix it")) == "Commit(sha='abc', title='Fix it')"
    assert repr(UncommittedChanges()) == "UncommittedChanges()"


@pytest.mark.parametrize(
    ("given", "prompt", "images"),
    [
        ("hello", "hello", ()),
        ([Text("a"), LocalImage("i.png"), Text("b"), LocalImage("j.png")], "a\n\nb", ("i.png", "j.png")),
        ((Text("a"),), "a", ()),
    ],
)
def test_input_is_one_prompt_and_its_images(given, prompt, images):
    assert split_input(given) == (prompt, images)


@pytest.mark.parametrize("thread_id", [THREAD_ID, THREAD_ID.upper()])
def test_a_uuid_is_a_thread_id(thread_id):
    assert check_thread_id(thread_id) == thread_id


def test_every_public_name_is_there():
    assert all(hasattr(codex_actors.options, name) for name in codex_actors.options.__all__)
