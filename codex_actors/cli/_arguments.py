# The command line, made from what the options say of themselves: an option that is added there is here
# too, with its name, its kind and its line of documentation. Quick to import: nothing runs yet.

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import (
    ClassVar,
    Literal,
    NamedTuple,
    NoReturn,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from codex_actors._data import Data
from codex_actors.errors import OptionError
from codex_actors.options import (
    BaseBranch,
    CodexOptions,
    Commit,
    Deadlines,
    Flag,
    LastThread,
    LocalImage,
    Options,
    ReviewTarget,
    ThreadName,
    ThreadOptions,
    TurnOptions,
    UncommittedChanges,
    check_thread_id,
    places,
)

# What a command line is no place for: secrets, and what has more than one value.
_NOT_HERE = frozenset(
    {"api_key", "config", "env", "deadlines", "mcp_servers", "output_schema", "output_retries", "keep_raw"}
)

# Names besides, or instead of, the one that an option has in Codex or in the library.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "codex_path": ("--codex",),
    "config_overrides": ("-c", "--config"),
    "cwd": ("-C", "--cd", "--cwd"),
    "model": ("-m", "--model"),
    "network_access": ("--network",),
    "profile": ("-p", "--profile"),
    "sandbox": ("-s", "--sandbox"),
    "output_schema": ("--output-schema",),
    "turn_seconds": ("--deadline",),
    "path": ("--image",),
}
_METAVARS = {
    "approval_policy": "POLICY",
    "codex_home": "DIR",
    "codex_path": "PATH",
    "config_overrides": "KEY=VALUE",
    "cwd": "DIR",
    "disable": "FEATURE",
    "enable": "FEATURE",
    "inherit_env": "WHICH",
    "originator": "NAME",
    "profile": "NAME",
    "sandbox": "MODE",
    "thread_source": "WORD",
    "web_search": "MODE",
    "when_busy": "HOW",
}

_GROUPS: Mapping[type[Options], str] = {
    TurnOptions: "the turn",
    ThreadOptions: "the thread",
    CodexOptions: "Codex",
}

_ABOUT = """\
Run one turn and show it live; the last lines say what it came to. The exit status is 0 only for a turn
that completed, 2 for arguments that cannot work, 130 after Ctrl-C, 1 for everything else.
"""
_ABOUT_DEMO = """\
Watch the real Codex work through five supervised turns side by side: one inspects a repository, one
repairs it, one gives structured output, one is cancelled half-way, and of one the Codex is killed while
the others go on. The model is scripted: no key and no network are needed. The exit status is 0 only if
everything went as it should and nothing is left behind.
"""
_ABOUT_DOCTOR = """\
See whether turns can run on this machine, and what to do where they cannot: Codex, its login and its sandbox
are really tried, and so is what keeps processes from outliving their turn. The exit status is 0 if turns can
run, 1 if not.
"""
_ABOUT_JANITOR = """\
Put away what a crash has left of turns: processes, temporary directories and lock files whose owner is dead.
The next runtime that opens does the same. The exit status is 0 if nothing is left.
"""

_T = TypeVar("_T", bound=Options)


class Asked(Data, frozen=True, kw_only=True):
    """What ``codex-actors run`` was asked to do.

    Attributes:
        prompt: The prompt; None if it comes from stdin, or for a review.
        images: Pictures to go with it.
        json: Whether to write JSON.
        resume: The thread to go on with; None if there is none.
        fork: The thread to begin from; None if there is none.
        review: What to review; None for a turn of any other kind.
        codex: Options of the runtime.
        thread: Options of the thread.
        turn: Options of the turn.
    """

    _private: ClassVar = frozenset({"prompt"})

    prompt: str | None
    images: tuple[LocalImage, ...]
    json: bool
    resume: str | ThreadName | LastThread | None
    fork: str | ThreadName | None
    review: ReviewTarget | None
    codex: CodexOptions
    thread: ThreadOptions
    turn: TurnOptions


class AskedDemo(Data, frozen=True, kw_only=True):
    """What ``codex-actors demo`` was asked to do.

    Attributes:
        live: Whether the real service is the model.
        keep: Whether the demo's directory stays.
        codex_path: The Codex binary; None takes the one that the library finds.
        model: The model, with `live`; None is Codex's choice.
    """

    live: bool
    keep: bool
    codex_path: str | None
    model: str | None


class AskedDoctor(Data, frozen=True, kw_only=True):
    """What ``codex-actors doctor`` was asked to do.

    Attributes:
        json: Whether to write JSON.
        codex_path: The Codex binary; None takes the one that the library finds.
        codex_home: CODEX_HOME; None is where Codex would look.
    """

    json: bool
    codex_path: str | None
    codex_home: str | None


class AskedJanitor(Data, frozen=True, kw_only=True):
    """What ``codex-actors janitor`` was asked to do.

    Attributes:
        json: Whether to write JSON.
        dry_run: Whether only to say what would be done.
        codex_home: CODEX_HOME; None is where Codex would look.
    """

    json: bool
    dry_run: bool
    codex_home: str | None


AskedAny: TypeAlias = Asked | AskedDemo | AskedDoctor | AskedJanitor


class UsageError(SystemExit):
    """The command line cannot work, which has been said on stderr; the exit status is 2.

    Attributes:
        problem: What is wrong with it.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(2)
        self.problem = problem


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise UsageError(message)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - takes longer than all else here

        print(f"codex-actors {version('codex-actors')}")
        parser.exit()


def parse(arguments: Sequence[str] | None) -> AskedAny:
    """Read the command line.

    Raises:
        UsageError: It cannot work.
    """
    parser = _Parser(prog="codex-actors", description="Supervised OpenAI Codex turns.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="run one turn", description=_ABOUT, usage="%(prog)s [options] PROMPT", allow_abbrev=False
    )
    _add_run(run)
    _add_demo(commands.add_parser("demo", help="see it work", description=_ABOUT_DEMO, allow_abbrev=False))
    _add_doctor(
        commands.add_parser(
            "doctor", help="see whether turns can run here", description=_ABOUT_DOCTOR, allow_abbrev=False
        )
    )
    _add_janitor(
        commands.add_parser(
            "janitor", help="clean up after a crash", description=_ABOUT_JANITOR, allow_abbrev=False
        )
    )
    given = parser.parse_args(arguments)
    if given.command == "demo":
        return AskedDemo(live=given.live, keep=given.keep, codex_path=given.codex_path, model=given.model)
    if given.command == "doctor":
        return AskedDoctor(json=given.json, codex_path=given.codex_path, codex_home=given.codex_home)
    if given.command == "janitor":
        return AskedJanitor(json=given.json, dry_run=given.dry_run, codex_home=given.codex_home)
    try:
        return _asked(given)
    except OptionError as exc:
        run.error(explain(exc))


def explain(error: OptionError) -> str:
    """Say what is wrong in the words of the command line."""
    field = error.field.rpartition(".")[2].partition("[")[0]
    problem = re.sub(r"`(\w+?)(?:=True)?`", lambda word: _spelled(word[1]) or word[0], error.problem)
    return f"{_spelled(field) or error.field}: {problem}"


def _spelled(field: str) -> str | None:
    return _option_names(field)[-1] if field in _all_fields() else None


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="what to ask; - reads it from stdin, unseen by `ps`"
    )
    parser.add_argument(
        "--json", action="store_true", help="write each event as a line of JSON, then a result"
    )
    parser.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="how long the turn may take (default: 3600)"
    )
    parser.add_argument(
        "-i", "--image", action="append", default=[], metavar="FILE", help="an image to go with the prompt"
    )
    parser.add_argument(
        "--output-schema", metavar="FILE", help="a JSON Schema that the final response has to follow"
    )
    _add_starts(parser)
    for options, title in _GROUPS.items():
        _add_options(parser, title, options)


def _add_starts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("instead of a new thread", "A review takes no PROMPT.")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--resume", metavar="THREAD", help="go on with a thread, by its id or name")
    one.add_argument("--last", action="store_true", help="go on with the thread used last in this directory")
    one.add_argument("--fork", metavar="THREAD", help="begin a thread that remembers another one")
    one.add_argument(
        "--review-uncommitted", action="store_true", help="review what is staged, changed or untracked"
    )
    one.add_argument("--review-base", metavar="BRANCH", help="review what the current branch adds to another")
    one.add_argument("--review-commit", metavar="SHA", help="review one commit")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--live", action="store_true", help="ask the real service; needs CODEX_API_KEY and costs money"
    )
    parser.add_argument("--keep", action="store_true", help="leave the demo's directory to be looked at")
    parser.add_argument("--codex", dest="codex_path", metavar="PATH", help="the Codex binary")
    parser.add_argument("-m", "--model", metavar="MODEL", help="the model, with --live")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write one object of JSON")
    parser.add_argument("--codex", dest="codex_path", metavar="PATH", help="the Codex binary")
    _add_codex_home(parser)


def _add_janitor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--json", action="store_true", help="write one object of JSON")
    _add_codex_home(parser)


def _add_codex_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--codex-home", metavar="DIR", help="CODEX_HOME (default: where Codex would look)")


# --- options ---------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """How an option is given."""

    action: str | type[argparse.Action]
    choices: tuple[str, ...] | None = None
    convert: type[str | int] = str

    @property
    def takes_value(self) -> bool:
        return self.action in {"store", "append"}


def _add_options(parser: argparse.ArgumentParser, title: str, options: type[Options]) -> None:
    group = parser.add_argument_group(title)
    hints, help_ = get_type_hints(options), _documentation(options)
    for field in _fields(options):
        kind, text = _kind(hints[field]), help_.get(field, "").replace("%", "%%")
        add = partial(group.add_argument, *_option_names(field), dest=field, default=argparse.SUPPRESS)
        if kind.takes_value:
            words = f" ({', '.join(kind.choices)})" if kind.choices else ""
            metavar = _METAVARS.get(field, _option_names(field)[-1].rpartition("-")[2].upper())
            add(
                action=kind.action,
                type=kind.convert,
                choices=kind.choices,
                metavar=metavar,
                help=text + words,
            )
        else:
            add(action=kind.action, help=text)


def _kind(hint: object) -> _Kind:
    """How an option of a type is given: what else may be said of it is said when it is built."""
    [kind, *_] = [arg for arg in _alternatives(hint) if arg is not NoneType]
    if kind is bool:
        return _Kind("store_true" if hint is bool else argparse.BooleanOptionalAction)
    if get_origin(kind) is Literal:
        return _Kind("store", choices=get_args(kind))
    if get_origin(kind) is Sequence:
        return _Kind("append")
    return _Kind("store", convert=int if kind is int else str)


def _alternatives(hint: object) -> tuple[object, ...]:
    return get_args(hint) if NoneType in get_args(hint) else (hint,)


def _fields(options: type[Options]) -> Iterator[str]:
    return (field for field in options.__struct_fields__ if field not in _NOT_HERE)


def _all_fields() -> set[str]:
    return {field for options in _GROUPS for field in _fields(options)} | _NAMES.keys()


def _option_names(field: str) -> tuple[str, ...]:
    """The names of an option on the command line, the most telling one last."""
    if field in _NAMES:
        return _NAMES[field]
    for options in _GROUPS:
        place = places(options).get(field)
        if isinstance(place, Flag):
            return (place.name,)
    return (f"--{field.replace('_', '-')}",)


def _documentation(options: type[Options]) -> Mapping[str, str]:
    """What the docstring says of each field, up to the end of its first sentence."""
    _, _, attributes = inspect.cleandoc(options.__doc__ or "").partition("Attributes:")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE)
    return {field: _first_sentence(text) for field, text in entries}


def _first_sentence(text: str) -> str:
    sentence = re.split(r"[.:;](?:\s|$)", " ".join(text.split()), maxsplit=1)[0]
    return (sentence[:1].lower() + sentence[1:]).replace("`", "")


# --- what was asked --------------------------------------------------------------------------------


def _asked(given: argparse.Namespace) -> Asked:
    review, json = _review(given), bool(given.json)
    return Asked(
        prompt=_prompt(given, review),
        images=tuple(LocalImage(path) for path in given.image),
        json=json,
        resume=LastThread() if given.last else _thread(given.resume),
        fork=_thread(given.fork),
        review=review,
        codex=_built(CodexOptions, given, deadlines=_deadlines(given.deadline)),
        thread=_built(ThreadOptions, given),
        turn=_built(TurnOptions, given, keep_raw=json, output_schema=_schema(given.output_schema)),
    )


def _built(options: type[_T], given: argparse.Namespace, **more: object) -> _T:
    values = {field: getattr(given, field) for field in _fields(options) if hasattr(given, field)}
    return options(**values, **more)


def _deadlines(seconds: float | None) -> Deadlines:
    # Waiting for a thread that is busy is no more welcome than a turn that takes too long.
    return Deadlines() if seconds is None else Deadlines(turn_seconds=seconds, thread_seconds=seconds)


def _prompt(given: argparse.Namespace, review: ReviewTarget | None) -> str | None:
    if review is None and given.prompt is None:
        raise OptionError("PROMPT", "is missing: say what to do, or - to read it from stdin")
    if review is not None and given.prompt is not None:
        raise OptionError("PROMPT", "cannot be given with a review, which says itself what to look at")
    return None if given.prompt == "-" else given.prompt


def _review(given: argparse.Namespace) -> ReviewTarget | None:
    if given.review_uncommitted:
        return UncommittedChanges()
    if given.review_base is not None:
        return BaseBranch(given.review_base)
    if given.review_commit is not None:
        return Commit(given.review_commit)
    return None


def _thread(named: str | None) -> str | ThreadName | None:
    if named is None:
        return None
    try:
        return check_thread_id(named)
    except OptionError:
        return ThreadName(named)


def _schema(file: str | None) -> Mapping[str, object] | None:
    if file is None:
        return None
    try:
        return cast(
            "Mapping[str, object]", msgspec.json.decode(Path(file).read_bytes(), type=dict[str, object])
        )
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise OptionError("TurnOptions.output_schema", f"{file} is no JSON Schema: {exc}") from exc
