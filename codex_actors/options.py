"""What can be asked of Codex: for the whole runtime, for a thread, for one turn.

Every options object is frozen and checked when it is built. One that cannot work raises
`OptionError`, which names the field, before anything is started::

    >>> ThreadOptions(model="gpt-5.5", sandbox="read-only").sandbox
    'read-only'
    >>> ThreadOptions(sandbox="write")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    codex_actors.errors.OptionError: ThreadOptions.sandbox: must be 'read-only' or ...

Mappings and sequences, nested ones too, are copied when the object is built, so that what their giver
changes later changes nothing. The copies are not to be changed either: nothing checks them again.

Beside each field stands its one place in Codex: a `Flag` of ``codex exec``, a `Config` key, a variable
of its environment (`Env`), or `Ours` where the option is for this library.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from math import isfinite
from types import UnionType
from typing import (
    Annotated,
    ClassVar,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from codex_actors import _toml
from codex_actors._data import Data
from codex_actors.errors import CodexError, OptionError

__all__ = [
    "CYBER_ACCESS_PROGRAMS",
    "LOCAL_PROVIDERS",
    "REASONING_EFFORTS",
    "WEB_SEARCH_MODES",
    "BaseBranch",
    "CodexOptions",
    "Commit",
    "Config",
    "Containment",
    "CustomReview",
    "Deadlines",
    "Env",
    "Flag",
    "HttpMcpServer",
    "Input",
    "LastThread",
    "LocalImage",
    "McpServer",
    "Ours",
    "Place",
    "ReviewTarget",
    "StdioMcpServer",
    "StrPath",
    "Text",
    "ThreadName",
    "ThreadOptions",
    "TurnOptions",
    "UncommittedChanges",
    "split_input",
]

REASONING_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max", "ultra", "persistent")
"""The efforts known today; any other word is passed on, for models to come."""

WEB_SEARCH_MODES = ("disabled", "cached", "indexed", "live")
"""The web search modes known today; Codex refuses words it does not know."""

CYBER_ACCESS_PROGRAMS = ("standard", "daybreak_blue", "daybreak_red")
"""The cyber access programs known today; Codex refuses words it does not know."""

LOCAL_PROVIDERS = ("lmstudio", "ollama")
"""The local providers known today; Codex refuses words it does not know."""

# Codex inlines command output in one line (up to 1 MiB of it, JSON-escaped); 64 MiB has room for
# what may come and still stops a runaway child from eating the host.
MAX_LINE_BYTES = 64 * 1024 * 1024

StrPath: TypeAlias = str | os.PathLike[str]
Containment: TypeAlias = Literal["auto", "subreaper", "namespace", "process-group"]


class Flag(Data, frozen=True):
    """The option is a flag of ``codex exec``; a sequence repeats it.

    Attributes:
        name: The flag, such as ``--model``.
    """

    name: str


class Config(Data, frozen=True):
    """The option is a key of Codex's configuration.

    Attributes:
        key: The key, with dots between its parts; empty for all of the configuration.
    """

    key: str


class Env(Data, frozen=True):
    """The option is a variable of Codex's environment.

    Attributes:
        name: The variable; empty for all of the environment.
    """

    name: str


class Ours(Data, frozen=True):
    """The option is for this library; Codex never hears of it."""


Place: TypeAlias = Flag | Config | Env | Ours


_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_URL = re.compile(r"https?://[!-~]+")
_HOLDS_USER = re.compile(r"https?://[^/?#]*@.*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VISIBLE = re.compile(r"[!-~]+")


_P = ParamSpec("_P")
_T = TypeVar("_T")


def forgetful(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Lets the errors of a function come without the frames in which they arose.

    Tracebacks can show the locals of their frames, and those hold what was given, secrets included.
    """

    @wraps(function)
    def without_frames(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except CodexError as exc:
            error = exc.with_traceback(None)
        error.__context__ = None
        del args, kwargs  # this frame is shown
        raise error

    return without_frames


class Options(Data, frozen=True):
    """A record whose fields are checked against their annotations when it is built."""

    @forgetful
    def __post_init__(self) -> None:
        """Checks every field, and keeps a copy of what its giver could still change.

        Raises:
            OptionError: A field is of the wrong type, empty, or cannot work with another one.
        """
        for name, hint in _hints(type(self)).items():
            value = self._copy_of(name)
            if not _fits(value, hint):
                raise self._error(name, f"must be {_in_words(hint)}")
            if value == "" or (value in ((), {}) and _fits(None, hint)):
                raise self._error(name, "is empty")
            msgspec.structs.force_setattr(self, name, value)
        self._check()

    def _check(self) -> None:
        """Refuses what no type can; for a class that has something to refuse."""

    def _copy_of(self, name: str) -> object:
        try:
            return _copied(getattr(self, name))
        except RecursionError:
            raise self._error(name, "is nested too deeply, or contains itself") from None

    def _error(self, name: str, problem: str) -> OptionError:
        return OptionError(f"{type(self).__name__}.{name}", problem)

    def _require(self, name: str, pattern: re.Pattern[str], problem: str) -> None:
        text = getattr(self, name)
        if text is not None and not pattern.fullmatch(text):
            raise self._error(name, problem)

    def _require_url(self, name: str, instead: str) -> None:
        self._require(name, _URL, "must be an http:// or https:// address")
        if _HOLDS_USER.fullmatch(getattr(self, name) or ""):
            raise self._error(name, f"holds a user name or password, and others could read it: use {instead}")

    def _require_seconds(self, *names: str) -> None:
        for name in names:
            seconds: float | None = getattr(self, name)
            if seconds is not None and not (seconds > 0 and isfinite(seconds)):
                raise self._error(name, "must be a finite number of seconds greater than 0")


@cache
def places(options: type[Options]) -> Mapping[str, Place]:
    """The place in Codex of each field of an options class."""
    hints = get_type_hints(options, include_extras=True)
    return {name: get_args(hints[name])[1] for name in options.__struct_fields__}


@cache
def _hints(options: type[Options]) -> Mapping[str, object]:
    hints = get_type_hints(options)
    return {name: hints[name] for name in options.__struct_fields__}


def _copied(value: object) -> object:
    if _toml.is_mapping(value):
        return {key: _copied(item) for key, item in value.items()}
    if _toml.is_sequence(value):
        return tuple(_copied(item) for item in value)
    return os.fspath(cast("StrPath", value)) if isinstance(value, os.PathLike) else value


def _fits(value: object, hint: object) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin in {UnionType, Union}:
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if origin is Sequence:
        return _toml.is_sequence(value) and all(_fits(item, args[0]) for item in value)
    if origin is Mapping:
        return _toml.is_mapping(value) and all(
            _fits(key, args[0]) and _fits(item, args[1]) for key, item in value.items()
        )
    if isinstance(value, bool) and (hint is int or hint is float):
        return False
    return isinstance(value, cast("type", float | int if hint is float else origin or hint))


def _in_words(hint: object) -> str:
    origin, args = get_origin(hint), get_args(hint)
    words = [_in_words(arg) for arg in args]
    if origin in {UnionType, Union}:
        return " or ".join(words)
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is Sequence:
        return f"a sequence of {words[0]}"
    if origin is Mapping:
        return f"a mapping of {words[0]} to {words[1]}"
    return "None" if hint is type(None) else getattr(origin or hint, "__name__", str(hint))


class Deadlines(Options, frozen=True, kw_only=True):
    """The one table of time limits, in seconds.

    Attributes:
        spawn_seconds: Until a process is started, and until a Codex binary that is new to the program has
            said its version. Each takes milliseconds; a loaded machine may take a second or two.
        first_event_seconds: From the turn's start to the first event. Codex needs 0.1 seconds on its own, but
            ``required`` MCP servers start first.
        idle_seconds: Without any event while no item is in progress: a command that runs, honestly
            long, never counts. Codex itself gives up a silent model after 300 seconds and says so in
            an event, so twice that means it is stuck; less would end models that think. None is no
            limit.
        network_seconds: From Codex's notice that it waits for the network to anything else it says.
            Codex alone would wait for ever. None is no limit.
        turn_seconds: A whole turn. None is no limit.
        exit_seconds: From ``turn.completed`` to the end of the process. Its analytics wait 5 seconds
            for a network that is not there; the result does not wait for them.
        interrupt_seconds: From SIGINT to SIGKILL. Codex needs 0.02 seconds to stop its commands and
            write down that the turn was interrupted.
        kill_seconds: From SIGKILL until the process is seen dead. More means a kernel that waits, for
            a network disk for example.
        thread_seconds: Waiting for another turn on the same thread to end.
        janitor_seconds: Clearing away what a crash has left, when a runtime opens. No turn waits for it.
    """

    spawn_seconds: Annotated[float, Ours()] = 10.0
    first_event_seconds: Annotated[float, Ours()] = 60.0
    idle_seconds: Annotated[float | None, Ours()] = 600.0
    network_seconds: Annotated[float | None, Ours()] = 120.0
    turn_seconds: Annotated[float | None, Ours()] = 3600.0
    exit_seconds: Annotated[float, Ours()] = 1.0
    interrupt_seconds: Annotated[float, Ours()] = 2.0
    kill_seconds: Annotated[float, Ours()] = 5.0
    thread_seconds: Annotated[float, Ours()] = 600.0
    janitor_seconds: Annotated[float, Ours()] = 10.0

    def _check(self) -> None:
        self._require_seconds(*self.__struct_fields__)


class CodexOptions(Options, frozen=True, kw_only=True):
    """What holds for every turn of a runtime.

    Attributes:
        codex_path: The Codex binary. None takes the one installed with this package, or on PATH.
        codex_home: Where Codex keeps its configuration, login and threads. None is the
            ``CODEX_HOME`` of the environment, or ``~/.codex``.
        base_url: The address of the model's API, in place of OpenAI's.
        api_key: The key for the model. It travels in Codex's environment (``CODEX_API_KEY``), and the
            commands that the model runs do not see it. None uses the variable of our own environment,
            or Codex's login.
        config: Configuration as in ``config.toml``, over what is there. Values are visible in the
            machine's process list; environments and headers of MCP servers and model providers are
            not, and what is named like a secret elsewhere is refused.
        config_overrides: Further ``key=value`` strings for ``codex --config``, passed on unchanged
            and therefore visible in the machine's process list; they win over `config`.
        env: Variables for Codex and the commands that the model runs, over the inherited ones.
        inherit_env: Which of our own variables Codex gets: ``"allowlist"`` those that work needs
            (paths, locale, proxies, certificates, the model's key), ``"all"``, or ``"none"``.
        originator: What Codex calls itself to the model's API.
        deadlines: All time limits.
        max_line_bytes: The longest line that is read from Codex; a longer one becomes `events.Noise`.
            Codex writes the output of a command in one line, up to 1 MiB of it before escaping.
        when_busy: What a second turn on a busy thread does: ``"wait"`` for the first to end, or
            ``"refuse"`` at once with `ThreadBusyError`.
        containment: What keeps processes from outliving their turn: ``"subreaper"`` is a guard process, for
            Linux, and changes nothing for what the model runs; ``"namespace"`` puts each Codex into a process
            namespace too, where it sees no other processes and cannot use sudo; ``"process-group"`` works
            everywhere and lets escape who wants to. ``"auto"`` takes the first of them that works here,
            namespaces left out.
        leftovers: What becomes of processes that a turn leaves running when Codex has ended by itself:
            ``"kill"``, or ``"keep"`` for dev servers that are meant to stay. After an interrupt or a deadline
            they are killed in any case.
        allowed_leftovers: Patterns, as the shell's, of programs and command lines that are never killed:
            daemons that turns share, such as ``"*GradleDaemon*"`` or ``"tmux*"``.
    """

    _private: ClassVar[frozenset[str]] = frozenset({"api_key", "config", "config_overrides", "env"})

    codex_path: Annotated[StrPath | None, Ours()] = None
    codex_home: Annotated[StrPath | None, Env("CODEX_HOME")] = None
    base_url: Annotated[str | None, Config("openai_base_url")] = None
    api_key: Annotated[str | None, Env("CODEX_API_KEY")] = None
    config: Annotated[Mapping[str, object], Config("")] = {}
    config_overrides: Annotated[Sequence[str], Flag("--config")] = ()
    env: Annotated[Mapping[str, str], Env("")] = {}
    inherit_env: Annotated[Literal["allowlist", "all", "none"], Ours()] = "allowlist"
    originator: Annotated[str, Env("CODEX_INTERNAL_ORIGINATOR_OVERRIDE")] = "codex_actors"
    deadlines: Annotated[Deadlines, Ours()] = Deadlines()
    max_line_bytes: Annotated[int, Ours()] = MAX_LINE_BYTES
    when_busy: Annotated[Literal["wait", "refuse"], Ours()] = "wait"
    containment: Annotated[Containment, Ours()] = "auto"
    leftovers: Annotated[Literal["kill", "keep"], Ours()] = "kill"
    allowed_leftovers: Annotated[Sequence[str], Ours()] = ()

    def _check(self) -> None:
        self._require_url("base_url", "`api_key`")
        self._require("api_key", _VISIBLE, "must be visible ASCII: it travels in an HTTP header")
        self._require("originator", _VISIBLE, "must be visible ASCII: it travels in an HTTP header")
        _check_variables(self.env, "CodexOptions.env")
        self._check_config()
        for at, override in enumerate(self.config_overrides):
            if not override.partition("=")[0].strip() or "=" not in override:
                raise self._error(f"config_overrides[{at}]", "must be of the form key=value")
        if self.max_line_bytes < 1:
            raise self._error("max_line_bytes", "must be at least 1")
        if self.containment == "namespace" and (self.leftovers == "keep" or self.allowed_leftovers):
            raise self._error(
                "containment", "is a namespace, which nothing can outlive: there are no leftovers to keep"
            )

    def _check_config(self) -> None:
        for key, value in self.config.items():
            if not _toml.is_bare(key):
                raise self._error("config", f"has the key {key!r}: nest mappings instead of writing dots")
            try:
                _toml.encode(value, f"CodexOptions.config.{key}")
            except RecursionError:
                raise self._error(f"config.{key}", "is nested too deeply") from None


class StdioMcpServer(Options, frozen=True, kw_only=True):
    """An MCP server that Codex starts and talks to through its standard streams.

    Attributes:
        command: The program.
        args: Its arguments; visible in the machine's process list.
        env: Its variables. They travel in Codex's environment, never on a command line; so two
            servers of one thread cannot give one variable two values.
        cwd: Where it runs. None is where the thread works.
        required: Whether a turn fails that cannot have this server, and waits for it to start.
            Otherwise Codex goes on without it and says nothing.
        startup_seconds: How long it may take to start. None is Codex's default.
        tool_seconds: How long one call may take. None is Codex's default.
        enabled_tools: The only tools offered to the model. None offers all.
        disabled_tools: Tools that are not offered.
        approval: ``"approve"`` lets the model call every tool. None lets it call those that say they
            only read, and in the sandbox ``"danger-full-access"`` all.
    """

    _private: ClassVar[frozenset[str]] = frozenset({"args", "env"})

    command: Annotated[StrPath, Config("command")]
    args: Annotated[Sequence[str], Config("args")] = ()
    env: Annotated[Mapping[str, str], Config("env")] = {}
    cwd: Annotated[StrPath | None, Config("cwd")] = None
    required: Annotated[bool | None, Config("required")] = None
    startup_seconds: Annotated[float | None, Config("startup_timeout_sec")] = None
    tool_seconds: Annotated[float | None, Config("tool_timeout_sec")] = None
    enabled_tools: Annotated[Sequence[str] | None, Config("enabled_tools")] = None
    disabled_tools: Annotated[Sequence[str], Config("disabled_tools")] = ()
    approval: Annotated[str | None, Config("default_tools_approval_mode")] = None

    def _check(self) -> None:
        _check_variables(self.env, "StdioMcpServer.env")
        self._require_seconds("startup_seconds", "tool_seconds")


class HttpMcpServer(Options, frozen=True, kw_only=True):
    """An MCP server that Codex reaches over streamable HTTP.

    Attributes:
        url: Its address; visible in the machine's process list, so no place for a token.
        bearer_token: Sent as ``Authorization: Bearer``. It travels in Codex's environment.
        headers: Further headers. Their values travel in Codex's environment.
        required: Whether a turn fails that cannot have this server, and waits for it to start.
            Otherwise Codex goes on without it and says nothing.
        startup_seconds: How long it may take to answer first. None is Codex's default.
        tool_seconds: How long one call may take. None is Codex's default.
        enabled_tools: The only tools offered to the model. None offers all.
        disabled_tools: Tools that are not offered.
        approval: ``"approve"`` lets the model call every tool. None lets it call those that say they
            only read, and in the sandbox ``"danger-full-access"`` all.
    """

    _private: ClassVar[frozenset[str]] = frozenset({"url", "bearer_token", "headers"})

    url: Annotated[str, Config("url")]
    bearer_token: Annotated[str | None, Config("bearer_token")] = None
    headers: Annotated[Mapping[str, str], Config("http_headers")] = {}
    required: Annotated[bool | None, Config("required")] = None
    startup_seconds: Annotated[float | None, Config("startup_timeout_sec")] = None
    tool_seconds: Annotated[float | None, Config("tool_timeout_sec")] = None
    enabled_tools: Annotated[Sequence[str] | None, Config("enabled_tools")] = None
    disabled_tools: Annotated[Sequence[str], Config("disabled_tools")] = ()
    approval: Annotated[str | None, Config("default_tools_approval_mode")] = None

    def _check(self) -> None:
        self._require_url("url", "`bearer_token` or `headers`")
        self._require("bearer_token", _VISIBLE, "must be visible ASCII: it travels in an HTTP header")
        self._require_seconds("startup_seconds", "tool_seconds")


McpServer: TypeAlias = StdioMcpServer | HttpMcpServer


class ThreadOptions(Options, frozen=True, kw_only=True):
    """What holds for every turn of a thread.

    Attributes:
        model: The model's name. None is Codex's choice.
        reasoning_effort: How long the model may think; see `REASONING_EFFORTS`. Models that do not
            know the word ignore it.
        sandbox: What the model's commands may touch: ``"read-only"``, ``"workspace-write"`` (the
            working directory and temporary files) or ``"danger-full-access"``. None is what Codex's
            configuration says, else ``"read-only"``. Given here, no setting wins over it; but a command
            that a ``.rules`` file allows runs outside any sandbox (see `ignore_rules`), and so do MCP
            servers, hooks and ``notify``.
        cwd: Where the thread works. None is the current directory.
        additional_directories: Further directories that commands may write to, in
            ``"workspace-write"``.
        network_access: Whether commands may use the network, in ``"workspace-write"``.
        web_search: Whether the model may search the web; see `WEB_SEARCH_MODES`.
        approval_policy: ``"never"``, the only one that ``codex exec`` honours, overrides whatever
            Codex's configuration says. ``"on-request"`` is what `approve_for_me` brings.
        approve_for_me: Works in ``"workspace-write"`` and lets a second model decide about commands
            that ask for more.
        mcp_servers: MCP servers by name, besides those of Codex's configuration.
        skip_git_repo_check: Works outside a git repository too.
        worktree: Works in a new git worktree that Codex makes below its home and leaves there, not in
            `cwd`. It is for one turn: a second one forks the thread, or resumes it with that worktree as
            `cwd`.
        ephemeral: Keeps no record of the thread, which then cannot be resumed.
        profile: Lays ``$CODEX_HOME/<profile>.config.toml`` over ``config.toml``.
        ignore_user_config: Does not read ``config.toml``.
        ignore_rules: Does not read ``.rules`` files, which forbid commands, or let them run outside
            the sandbox.
        strict_config: Refuses configuration keys that this Codex does not know, instead of warning.
        enable: Features to switch on.
        disable: Features to switch off.
        oss: Uses a model on this machine.
        local_provider: Who runs that model; see `LOCAL_PROVIDERS`.
        thread_source: A word by which the thread's record says who started it. A resumed thread
            keeps the one it has.
    """

    model: Annotated[str | None, Flag("--model")] = None
    reasoning_effort: Annotated[str | None, Config("model_reasoning_effort")] = None
    sandbox: Annotated[
        Literal["read-only", "workspace-write", "danger-full-access"] | None, Flag("--sandbox")
    ] = None
    cwd: Annotated[StrPath | None, Flag("--cd")] = None
    additional_directories: Annotated[Sequence[StrPath], Flag("--add-dir")] = ()
    network_access: Annotated[bool | None, Config("sandbox_workspace_write.network_access")] = None
    web_search: Annotated[str | None, Config("web_search")] = None
    approval_policy: Annotated[
        Literal["never", "on-request", "on-failure", "untrusted"] | None, Config("approval_policy")
    ] = None
    approve_for_me: Annotated[bool, Flag("--approve-for-me")] = False
    mcp_servers: Annotated[Mapping[str, McpServer], Config("mcp_servers")] = {}
    skip_git_repo_check: Annotated[bool, Flag("--skip-git-repo-check")] = False
    worktree: Annotated[bool, Flag("--worktree")] = False
    ephemeral: Annotated[bool, Flag("--ephemeral")] = False
    profile: Annotated[str | None, Flag("--profile")] = None
    ignore_user_config: Annotated[bool, Flag("--ignore-user-config")] = False
    ignore_rules: Annotated[bool, Flag("--ignore-rules")] = False
    strict_config: Annotated[bool, Flag("--strict-config")] = False
    enable: Annotated[Sequence[str], Flag("--enable")] = ()
    disable: Annotated[Sequence[str], Flag("--disable")] = ()
    oss: Annotated[bool, Flag("--oss")] = False
    local_provider: Annotated[str | None, Flag("--local-provider")] = None
    thread_source: Annotated[str | None, Flag("--thread-source")] = None

    def _check(self) -> None:
        self._require("profile", _PLAIN, "must be a plain name of letters, digits, - and _, as in `work`")
        if self.profile and self.ignore_user_config:
            raise self._error("profile", "has no effect with `ignore_user_config`")
        for name in self.mcp_servers:
            if not _PLAIN.fullmatch(name):
                raise self._error(f"mcp_servers.{name}", "must be named with letters, digits, - and _ only")
        self._check_sandbox()
        self._check_approvals()
        if both := set(self.enable) & set(self.disable):
            raise self._error("enable", f"names what `disable` names too: {', '.join(sorted(both))}")
        if self.local_provider and not self.oss:
            raise self._error("local_provider", "has no effect without `oss=True`")

    def _check_sandbox(self) -> None:
        if self.approve_for_me and self.sandbox:
            raise self._error("sandbox", "cannot be chosen with `approve_for_me`, which is 'workspace-write'")
        if self.sandbox == "read-only" and self.network_access:
            raise self._error("network_access", "has no effect in the sandbox 'read-only'")
        if self.sandbox == "danger-full-access" and self.network_access is False:
            raise self._error("network_access", "cannot be False in the sandbox 'danger-full-access'")
        if self.sandbox == "read-only" and self.additional_directories:
            raise self._error("additional_directories", "have no effect in the sandbox 'read-only'")

    def _check_approvals(self) -> None:
        if self.approval_policy in {"on-failure", "untrusted"}:
            raise self._error("approval_policy", "is not honoured by `codex exec`: only 'never' is")
        if self.approval_policy == "on-request" and not self.approve_for_me:
            raise self._error(
                "approval_policy",
                "would be 'never': `codex exec` has nobody to ask; `approve_for_me=True` lets a model decide",
            )
        if self.approval_policy == "never" and self.approve_for_me:
            raise self._error(
                "approval_policy", "cannot be 'never' with `approve_for_me`, which asks a model"
            )


class TurnOptions(Options, frozen=True, kw_only=True):
    """What holds for one turn.

    Attributes:
        output_schema: A JSON Schema that the final response has to follow. It is sent in the strict form that
            OpenAI wants: every object closed, every property required, and null where one may be missing.
        output_retries: How often `Thread.run` may ask again, on the same thread and read-only, for a final
            response that is not what `output_schema` or ``output_type`` says. None is once, and never for
            ephemeral threads, which cannot be resumed.
        cyber_access_program: An experimental programme of OpenAI's; see `CYBER_ACCESS_PROGRAMS`.
        keep_raw: Whether every event keeps the line it was read from.
    """

    _private: ClassVar[frozenset[str]] = frozenset({"output_schema"})

    output_schema: Annotated[Mapping[str, object] | None, Flag("--output-schema")] = None
    output_retries: Annotated[int | None, Ours()] = None
    cyber_access_program: Annotated[str | None, Flag("--cyber-access-program")] = None
    keep_raw: Annotated[bool, Ours()] = False

    def _check(self) -> None:
        if self.output_retries is not None and self.output_retries < 0:
            raise self._error("output_retries", "must be at least 0")
        try:
            msgspec.json.encode(self.output_schema)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise self._error("output_schema", "must hold what JSON can hold") from None


class Text(Options, frozen=True):
    """A part of the input that is text.

    Attributes:
        text: The text.
    """

    _private: ClassVar[frozenset[str]] = frozenset({"text"})

    text: str


class LocalImage(Options, frozen=True):
    """A part of the input that is an image on this machine.

    Attributes:
        path: The file. A relative path starts from the current directory, not from the thread's; ``~``
            is a name like any other, so call `pathlib.Path.expanduser` if it is to be the home.
    """

    path: StrPath

    def _check(self) -> None:
        if "," in str(self.path):
            raise self._error("path", "holds a comma, at which `codex exec --image` would split it")


Input: TypeAlias = str | Sequence[Text | LocalImage]


@forgetful
def split_input(given: Input) -> tuple[str, tuple[str, ...]]:
    """The prompt and the paths of the images of a turn's input.

    Texts are joined by an empty line, as in Codex's own SDKs.

    Raises:
        OptionError: It is something else, or there is no text in it: Codex starts no turn without.
    """
    parts = (given,) if isinstance(given, str) else given
    texts: list[str] = []
    images: list[str] = []
    for at, part in enumerate(parts):
        match part:
            case str() | Text():
                texts.append(part if isinstance(part, str) else part.text)
            case LocalImage():
                images.append(os.fspath(part.path))
            case _:
                raise OptionError(f"input[{at}]", "must be a Text or a LocalImage")
    prompt = "\n\n".join(texts)
    if not prompt.strip():
        raise OptionError("input", "holds no text: Codex starts no turn without")
    return prompt, tuple(images)


class UncommittedChanges(Options, frozen=True):
    """Review what is staged, changed or untracked."""


class BaseBranch(Options, frozen=True):
    """Review what the current branch adds to another.

    Attributes:
        branch: The other.
    """

    branch: str


class Commit(Options, frozen=True):
    """Review one commit.

    Attributes:
        sha: The commit.
        title: What to call it in the review.
    """

    sha: str
    title: str | None = None


class CustomReview(Options, frozen=True):
    """Review what the instructions say.

    Attributes:
        instructions: What to look at, and for what.
    """

    _private: ClassVar[frozenset[str]] = frozenset({"instructions"})

    instructions: str

    def _check(self) -> None:
        if not self.instructions.strip():
            raise self._error("instructions", "is blank: Codex starts no review without")


ReviewTarget: TypeAlias = UncommittedChanges | BaseBranch | Commit | CustomReview


class ThreadName(Options, frozen=True):
    """A thread by the name it was given.

    Attributes:
        name: Its name.
    """

    name: str


class LastThread(Options, frozen=True):
    """The thread that was used last.

    Attributes:
        any_cwd: Whether threads that worked in other directories count.
    """

    any_cwd: bool = False


def check_thread_id(thread_id: str) -> str:
    """The id of a thread, if it can be one.

    Raises:
        OptionError: It is no UUID.
    """
    if not _UUID.fullmatch(str(thread_id)):
        raise OptionError(
            "thread_id", "must be a UUID: with anything else Codex would silently start another thread"
        )
    return thread_id


def _check_variables(variables: Mapping[str, str], path: str) -> None:
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise OptionError(path, "has a name that is not made of letters, digits and _")
        if "\0" in value:
            raise OptionError(f"{path}.{name}", "holds a NUL, which ends a variable's value")
