# A turn as `codex exec` takes it: arguments and environment. Pure, so that every string that other
# users of the machine can see in the process list is made here and can be tested without a process.
#
# Wire facts (0.163 to 0.169, checked by the integration tests): options precede the subcommand; a
# `--config` key is split at every dot, quotes or not; what it sets is merged into the configuration
# files table by table, but replaces what an earlier `--config` set at the same key.

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from functools import cache
from itertools import chain
from typing import NamedTuple, assert_never, cast

from codex_actors import _toml
from codex_actors._toml import Table
from codex_actors.backends import (
    ForkThread,
    NewThread,
    ResumeThread,
    ReviewChanges,
    Start,
    TurnRequest,
)
from codex_actors.errors import OptionError
from codex_actors.options import (
    BaseBranch,
    CodexOptions,
    Commit,
    Config,
    CustomReview,
    Env,
    Flag,
    Options,
    Place,
    ReviewTarget,
    ThreadOptions,
    UncommittedChanges,
    check_thread_id,
    places,
)

# Linux's MAX_ARG_STRLEN: what one argument or variable may take, with its closing NUL.
_ARGUMENT_LIMIT = 131_072
# What execve adds to the strings themselves: a pointer for each, the file's name, the auxiliary vector.
_POINTER_SIZE = 8
_EXECVE_MARGIN = 8_192
# Linux takes a quarter of the stack's limit, but never more than this; without a limit, sysconf says more.
_LARGEST_TOTAL = 6 * 1024 * 1024

# What real work needs: without these, git, ssh, proxies and certificates fail inside Codex.
_ALLOWED = (
    *("HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TERM", "TMPDIR", "XDG_*"),
    *("CODEX_HOME", "CODEX_SQLITE_HOME", "CODEX_CA_CERTIFICATE", "SSL_CERT_*", "SSH_AUTH_SOCK"),
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ),
)
_CODEX_READS = (*_ALLOWED, "CODEX_*", "RUST_LOG")
_CODEX_KEYS = frozenset({"CODEX_API_KEY", "CODEX_ACCESS_TOKEN"})

# Keys of an MCP server or model provider whose value is a secret, and those that name a variable instead.
_SECRET_KEYS = {"bearer_token": "bearer_token_env_var", "experimental_bearer_token": "env_key"}
_LOOKS_SECRET = re.compile(
    r"(.*[_-])?((api|access|private)[_-]?key|token|secret|pass|password|passwd|passphrase|credential)s?"
    r"|(.*[_-])?authorization",
    re.IGNORECASE,
)
# Tables in which anything may be one, whatever its name; and tables whose names are the user's choice.
_HOLD_SECRETS = frozenset({"env", "headers", "http_headers", "set"})
_GROUPS = ("mcp_servers", "model_providers")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_HOLDS_USER = re.compile(r"https?://[^/?#]*@")

_SHOWS = (
    "would show a secret in the machine's process list: put it into $CODEX_HOME/config.toml, or into "
    "CodexOptions.env and name the variable here"
)


class Command(NamedTuple):
    """What to execute.

    Attributes:
        argv: The binary and its arguments. The prompt is not among them: it goes to stdin.
        env: The whole environment.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]


def build_command(
    request: TurnRequest,
    codex_path: str,
    host: Mapping[str, str],
    *,
    config_files: Sequence[Table],
    schema_fd: int | None = None,
) -> Command:
    """The command that runs a turn.

    Args:
        request: The turn.
        codex_path: The binary.
        host: Our own environment.
        config_files: What stands in the files that Codex will read: see `_home.read_config_files`.
        schema_fd: The descriptor from which Codex can read the turn's JSON Schema.

    Raises:
        OptionError: The options cannot be put on a command line.
    """
    _check_start(request)
    config, typed = _toml.table(request.codex.config), _typed_config(request)
    layers = (*config_files, config, *_parsed(request.codex.config_overrides))
    keys = _CODEX_KEYS | _provider_keys(layers)
    env = _Environment({**environment(request.codex, host, keys), **_trace(request)}, keys)
    config = env.conceal(config, "CodexOptions.config")
    typed = {**env.conceal(typed, "ThreadOptions"), **env.kept_from_commands(layers)}
    argv = (
        *(codex_path, "exec", "--json"),
        *_config_flags(config),
        *_flags(request.codex),
        *_config_flags(typed),
        *_flags(request.thread),
        *_flags(request.turn, schema_fd),
        *(_string(f"--image={path}", "LocalImage.path") for path in request.images),
        *_subcommand(request.start),
    )
    _check_total(argv, env.variables)
    return Command(argv, env.variables)


def offers_tools(codex: CodexOptions, thread: ThreadOptions, config_files: Sequence[Table]) -> bool:
    """Whether any part of the configuration names MCP servers, whose tools act outside the sandbox.

    Args:
        codex: The runtime's options.
        thread: The thread's options.
        config_files: As for `build_command`.
    """
    layers = (*config_files, _toml.table(codex.config), *_parsed(codex.config_overrides))
    return bool(thread.mcp_servers) or any("mcp_servers" in layer for layer in layers)


def environment(
    codex: CodexOptions, host: Mapping[str, str], keys: frozenset[str] = _CODEX_KEYS
) -> dict[str, str]:
    """Codex's environment, but for what comes out of its configuration.

    Args:
        codex: What is inherited, and what is added.
        host: Our own environment.
        keys: Names of variables that hold keys for models.
    """
    patterns = {"all": ("*",), "allowlist": (*_ALLOWED, *keys), "none": ()}[codex.inherit_env]
    inherited = {name: value for name, value in host.items() if _matches(name, patterns)}
    named = {
        place.name: str(value) for _, place, value in _placed(codex) if isinstance(place, Env) and place.name
    }
    return {**inherited, **codex.env, **named}


def _trace(request: TurnRequest) -> dict[str, str]:
    """The variables by which Codex continues somebody's trace, unless they are set by hand."""
    place = request.trace_context
    if place is None or "TRACEPARENT" in request.codex.env:
        return {}
    # Both, always: a state that was inherited belongs to another trace.
    return {"TRACEPARENT": place.traceparent, "TRACESTATE": place.tracestate}


def total_limit() -> int:
    """How many bytes all arguments and variables together may take on this system."""
    return min(os.sysconf("SC_ARG_MAX"), _LARGEST_TOTAL)


class _Environment:
    """Codex's environment while the secrets of its configuration move in."""

    def __init__(self, variables: dict[str, str], keys: frozenset[str]) -> None:
        self.variables = variables
        self._secrets = {name for name in keys if name in variables}

    def conceal(self, config: Table, path: str) -> dict[object, object]:
        """Moves what others may not see out of a configuration, which then names variables instead."""
        config = dict(config)
        for group in _GROUPS:
            if entries := _toml.table(config.get(group)):
                config[group] = {
                    name: self._conceal_entry(entry, f"{path}.{group}.{name}")
                    for name, entry in entries.items()
                }
        _refuse_secrets(config, path)
        return config

    def kept_from_commands(self, layers: Iterable[Table]) -> Table:
        """The configuration that keeps our secrets from the commands that the model runs.

        Codex would let our list replace the user's, so theirs goes into it.
        """
        if not self._secrets:
            return {}
        theirs = chain.from_iterable(map(_excluded, layers))
        return {
            "shell_environment_policy": {"exclude": list(dict.fromkeys([*theirs, *sorted(self._secrets)]))}
        }

    def _conceal_entry(self, entry: object, path: str) -> object:
        if not (table := dict(_toml.table(entry))):
            return entry
        for key, names_variable in _SECRET_KEYS.items():
            if isinstance(value := table.get(key), str):
                del table[key]
                table[names_variable] = self._hide(value)
        if headers := _toml.table(table.get("http_headers")):
            del table["http_headers"]
            hidden = {name: self._hide(str(value)) for name, value in headers.items()}
            table["env_http_headers"] = {**_toml.table(table.get("env_http_headers")), **hidden}
        if variables := _toml.table(table.get("env")):
            del table["env"]
            for name, value in variables.items():
                self._add(str(name), str(value), f"{path}.env.{name}")
            table["env_vars"] = [*_toml.array(table.get("env_vars")), *variables]
        return table

    def _hide(self, value: str) -> str:
        name = f"CODEX_ACTORS_SECRET_{len(self._secrets)}"
        self.variables[name] = value
        self._secrets.add(name)
        return name

    def _add(self, name: str, value: str, path: str) -> None:
        if self.variables.get(name) == value:
            return
        if name in self.variables or _matches(name, _CODEX_READS):
            raise OptionError(
                path,
                f"travels in Codex's own environment, where {name} already has another value or a meaning: "
                f"give it to the server by another name, or by `env {name}=... command`",
            )
        self.variables[name] = value
        self._secrets.add(name)


def _placed(options: Options) -> Iterator[tuple[str, Place, object]]:
    """The options that were given: name, place and value."""
    for name, place in places(type(options)).items():
        value: object = getattr(options, name)
        if value not in (None, (), {}) and not (value is False and isinstance(place, Flag)):
            yield f"{type(options).__name__}.{name}", place, value


def _flags(options: Options, schema_fd: int | None = None) -> Iterator[str]:
    for name, place, value in _placed(options):
        if not isinstance(place, Flag):
            continue
        if value is True:
            yield place.name
        elif _toml.is_sequence(value):
            yield from (_string(f"{place.name}={item}", name) for item in value)
        else:
            yield _string(
                f"{place.name}={f'/dev/fd/{schema_fd}' if _toml.is_mapping(value) else value}", name
            )


def _typed_config(request: TurnRequest) -> dict[object, object]:
    """The configuration that follows from options with a type of their own."""
    options = (request.codex, request.thread, request.turn)
    placed = chain.from_iterable(map(_placed, options))
    settings = [(place.key, value) for _, place, value in placed if isinstance(place, Config) and place.key]
    if request.thread.sandbox == "read-only":
        # Else a reviewer in the user's configuration could let commands and patches out of the sandbox.
        settings.append(("approval_policy", "never"))
    return _nested(settings)


def _nested(pairs: Iterable[tuple[str, object]]) -> dict[object, object]:
    tree: dict[object, object] = {}
    for key, value in pairs:
        *parents, last = key.split(".")
        table = tree
        for parent in parents:
            table = cast("dict[object, object]", table.setdefault(parent, {}))
        table[last] = _as_config(value)
    return tree


def _as_config(value: object) -> object:
    if isinstance(value, Options):
        return _nested((place.key, item) for _, place, item in _placed(value) if isinstance(place, Config))
    if _toml.is_mapping(value):
        return {key: _as_config(item) for key, item in value.items()}
    return value


def _config_flags(config: Table) -> Iterator[str]:
    for key, value in _leaves(config):
        yield _string(f"--config={key}={value}", f"config.{key}")


def _leaves(table: Table, path: str = "") -> Iterator[tuple[str, str]]:
    """The settings one by one, so that no argument grows with the whole configuration."""
    awkward = {key: value for key, value in table.items() if not _toml.is_bare(str(key))}
    if awkward:
        # Codex splits at every dot, even in quotes: such keys can only stand inside a value. They come
        # first, because a table would replace the single settings before it.
        yield path, _toml.encode(awkward, path)
    for key, value in table.items():
        inner = f"{path}.{key}" if path else str(key)
        if key in awkward:
            continue
        if inside := _toml.table(value):
            yield from _leaves(inside, inner)
        else:
            yield inner, _toml.encode(value, inner)


def _check_start(request: TurnRequest) -> None:
    match request.start:
        case ResumeThread() if request.thread.ephemeral:
            raise OptionError(
                "ThreadOptions.ephemeral", "keeps no record, so such a thread cannot be resumed"
            )
        case ResumeThread() if request.thread.worktree:
            raise OptionError(
                "ThreadOptions.worktree",
                "makes a new worktree, which `codex exec resume` cannot: fork the thread, or resume it with "
                "the worktree that it has as `cwd`",
            )
        case ReviewChanges() if request.thread.worktree:
            raise OptionError("ThreadOptions.worktree", "is not for reviews")
        case ReviewChanges() if request.turn.output_schema is not None:
            raise OptionError("TurnOptions.output_schema", "has no effect on a review")
        case ReviewChanges() if request.turn.cyber_access_program is not None:
            raise OptionError("TurnOptions.cyber_access_program", "is not for reviews")
        case _:
            pass


def _subcommand(start: Start) -> tuple[str, ...]:
    match start:
        case NewThread():
            return ("-",)
        case ResumeThread(thread_id=thread_id):
            return ("resume", check_thread_id(thread_id), "-")
        case ForkThread(thread_id=thread_id):
            return ("fork", check_thread_id(thread_id), "-")
        case ReviewChanges(target=target):
            return ("review", *_review(target))
        case _:
            assert_never(start)


def _review(target: ReviewTarget) -> Iterator[str]:
    match target:
        case UncommittedChanges():
            yield "--uncommitted"
        case BaseBranch():
            yield _string(f"--base={target.branch}", "BaseBranch.branch")
        case Commit():
            yield _string(f"--commit={target.sha}", "Commit.sha")
            if target.title:
                yield _string(f"--title={target.title}", "Commit.title")
        case CustomReview():
            yield "-"
        case _:
            assert_never(target)


def _parsed(overrides: Sequence[str]) -> Iterator[Table]:
    """What raw overrides set, as Codex reads them: a value that is no TOML is a string."""
    for at, text in enumerate(overrides):
        key, _, value = text.partition("=")
        try:
            parsed: object = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        table = _nested([(key.strip(), parsed)])
        if _Environment({}, frozenset()).conceal(table, f"CodexOptions.config_overrides[{at}]") != table:
            raise OptionError(f"CodexOptions.config_overrides[{at}]", _SHOWS)
        yield table


def _provider_keys(layers: Iterable[Table]) -> frozenset[str]:
    providers = chain.from_iterable(_toml.table(layer.get("model_providers")).values() for layer in layers)
    keys = (_toml.table(provider).get("env_key") for provider in providers)
    return frozenset(key for key in keys if isinstance(key, str))


def _excluded(layer: Table) -> Sequence[object]:
    return _toml.array(_toml.table(layer.get("shell_environment_policy")).get("exclude"))


def _refuse_secrets(value: object, path: str, *, secret: bool = False) -> None:
    if isinstance(value, str) and ((secret and value) or _HOLDS_USER.match(value)):
        raise OptionError(path, _SHOWS)
    for at, item in enumerate(_toml.array(value)):
        _refuse_secrets(item, f"{path}[{at}]", secret=secret)
    group = path.rpartition(".")[2]
    for name, item in _toml.table(value).items():
        if name != "env_http_headers":  # there, the names are headers and the values variables
            hides = secret or _hides_secret(str(name), item, group)
            _refuse_secrets(item, f"{path}.{name}", secret=hides)


def _hides_secret(name: str, value: object, group: str) -> bool:
    name = name.strip(" \t\"'")  # raw overrides keep them
    if _toml.is_mapping(value):
        return name in _HOLD_SECRETS and group not in _GROUPS
    return name in _HOLD_SECRETS or _LOOKS_SECRET.fullmatch(_HUMP.sub("_", name)) is not None


def _string(text: str, field: str) -> str:
    """An argument or variable, if the operating system can pass it on."""
    try:
        size = len(os.fsencode(text)) + 1
    except UnicodeEncodeError:
        raise OptionError(field, "holds half a surrogate pair, which is no text") from None
    if "\0" in text:
        raise OptionError(field, "holds a NUL, which ends an argument")
    if size > _ARGUMENT_LIMIT:
        raise OptionError(
            field,
            f"takes {size} bytes on the command line, which holds at most {_ARGUMENT_LIMIT} in one piece: "
            "put it into $CODEX_HOME/config.toml, or into a profile and name that in ThreadOptions.profile",
        )
    return text


def _check_total(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    strings = [*arguments, *(_string(f"{name}={value}", f"env.{name}") for name, value in variables.items())]
    total = sum(len(os.fsencode(text)) + 1 + _POINTER_SIZE for text in strings) + _EXECVE_MARGIN
    if total > (limit := total_limit()):
        raise OptionError(
            "CodexOptions.config",
            f"makes arguments and environment take {total} bytes, and this system allows {limit}: "
            "put it into $CODEX_HOME/config.toml, or into a profile and name that in ThreadOptions.profile",
        )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return _any_of(patterns).match(name) is not None


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # Of no patterns, none matches; an empty expression would match everything.
    return re.compile("|".join(map(translate, patterns)) or "(?!)")
