"""One tree of errors, sorted by who has to act."""

import inspect
import pickle
import re
import traceback

import pytest

from codex_actors import errors
from codex_actors.events import Usage
from codex_actors.items import AgentMessage
from codex_actors.results import PartialResult, TurnResult, TurnUsage

ALL = [getattr(errors, name) for name in errors.__all__ if name != "Category"]

CANARY = "canary-of-the-user"
PARTIAL = PartialResult(
    thread_id="a thread",
    final_response=CANARY,
    items=(AgentMessage(id="item_0", text=CANARY),),
    usage=TurnUsage(thread=Usage(input_tokens=1)),
)
# What each argument of each error is called, and a value for it.
ARGUMENTS = {
    "child": "a child",
    "child_id": "db",
    "codex_home": "/home/dev/.codex",
    "codex_path": "/usr/bin/codex",
    "deadline": "idle_seconds",
    "errno": 24,
    "error": FileNotFoundError(2, "No such file or directory"),
    "field": "TurnOptions.images",
    "http_status": 500,
    "kind": "invalid_shutdown",
    "max_children": 8,
    "max_restarts": 3,
    "max_seconds": 5.0,
    "means": "subreaper",
    "message": "a message",
    "minimum": "0.163.0",
    "partial": PARTIAL,
    "path": "$.title",
    "problem": "a problem",
    "reason": "a reason",
    "resets_at": "noon",
    "result": TurnResult(thread_id="a thread", final_response=CANARY),
    "returncode": -9,
    "searched": ("CodexOptions.codex_path", "PATH"),
    "seconds": 1.5,
    "started_thread_id": "another thread",
    "stderr_tail": CANARY,
    "supervisor": "workers",
    "thread_id": "a thread",
    "version": "0.1.0",
}


def built(error: type[errors.CodexError]) -> errors.CodexError:
    names = inspect.signature(error.__init__).parameters.keys() & ARGUMENTS.keys()
    return error(**{name: ARGUMENTS[name] for name in names})


def drawn_tree() -> dict[str, str]:
    """The tree in the docstring: each error's name, and its parent's."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r"    ([│ ]*)(?:├── |└── )?((?:\w+Error(?:, |,$)?)+)", line)
        if not drawn:
            continue
        depth = len(drawn[1]) // 4 + 1 if "── " in line else 0
        for name in re.findall(r"\w+Error", drawn[2]):
            del above[depth:]
            parents[name] = above[-1] if above else ""
            above.append(name)
    return parents


def real_tree() -> dict[str, str]:
    return {
        error.__name__: next((base.__name__ for base in error.__mro__[1:] if base in ALL), "")
        for error in ALL
    }


def test_the_tree_that_is_drawn_is_the_tree_there_is():
    assert drawn_tree() == real_tree()


def test_every_error_of_the_module_is_public():
    defined = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert {name for name in defined if not name.startswith("_")} == {error.__name__ for error in ALL}


@pytest.mark.parametrize("error", ALL)
def test_an_error_says_what_kind_of_trouble_it_is_and_whether_to_try_again(error):
    assert error.category in {"config", "process", "communication", "turn"}
    assert isinstance(error.retryable, bool)


def test_only_what_can_pass_by_itself_is_retryable():
    assert {error.__name__ for error in ALL if error.retryable} == {
        *("RateLimitError", "OverloadedError", "ConnectionLostError"),
        *("ProcessExitedError", "ProcessKilledError", "CodexPanickedError"),
        *("StreamTruncatedError", "ErrorEventError", "TurnTimeoutError"),
        *("ResourceLimitError", "ThreadBusyError", "InvalidOutputError"),
        *("ChildRestartingError", "MaxChildrenError"),
    }


@pytest.mark.parametrize("error", ALL)
def test_what_an_error_was_told_is_in_its_attributes(error):
    attributes = vars(built(error))
    told = ARGUMENTS | {"errno": attributes.get("errno"), "signal": 9}
    assert attributes == {name: told[name] for name in attributes}


@pytest.mark.parametrize("error", ALL)
def test_an_error_gets_through_to_another_process_whole(error):
    told = built(error)
    arrived = pickle.loads(pickle.dumps(told))
    assert (type(arrived), str(arrived)) == (error, str(told))
    assert repr(vars(arrived)) == repr(vars(told))


@pytest.mark.parametrize("error", ALL)
def test_no_error_shows_what_belongs_to_the_user(error):
    exc = built(error)
    assert CANARY not in f"{exc}{exc!r}" + "".join(traceback.format_exception(exc))


@pytest.mark.parametrize("error", ALL)
def test_the_docstring_names_every_attribute(error):
    documented = "".join(
        inspect.cleandoc(base.__doc__ or "") for base in error.__mro__ if base.__module__ == errors.__name__
    )
    assert [name for name in vars(built(error)) if f"\n    {name}: " not in documented] == []


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (errors.OptionError, "TurnOptions.images: a problem"),
        (errors.CodexNotFoundError, "pip install"),
        (errors.CodexNotFoundError, "looked at: CodexOptions.codex_path, PATH"),
        (errors.UnsupportedVersionError, "/usr/bin/codex is Codex 0.1.0; 0.163.0 or newer is needed"),
        (errors.CodexHomeError, "CODEX_HOME /home/dev/.codex a problem"),
        (errors.SpawnError, "cannot start /usr/bin/codex: No such file or directory"),
        (errors.ContainmentError, "cannot be contained by subreaper here: a problem"),
        (errors.ThreadMismatchError, "asked for thread a thread, Codex started another thread"),
        (errors.TurnTimeoutError, "the turn passed its idle_seconds of 1.5 s"),
        (errors.ProcessKilledError, "Codex was killed by SIGKILL before its turn ended"),
        (errors.AlreadyPresentError, "child 'db' is present: restart_child starts it"),
        (errors.RestartLimitError, "child 'db' needed more than 3 restarts within 5 s"),
        (errors.StartTimeoutError, "child 'db' did not call started within 1.5 s"),
    ],
)
def test_the_message_says_what_to_look_at(error, hint):
    assert hint in str(built(error))


def test_an_option_that_cannot_work_is_a_value_error():
    assert issubclass(errors.OptionError, ValueError)


def test_an_operating_system_without_words_is_quoted_as_it_is():
    assert str(errors.SpawnError("codex", OSError("odd"))) == "cannot start codex: odd"


def test_a_timeout_repeats_the_last_notice_because_that_is_what_codex_waits_for():
    partial = PartialResult(notices=("Reconnecting... 1/5 (x)", "Reconnecting... waiting for network"))
    exc = errors.TurnTimeoutError("turn_seconds", 3600, partial=partial)
    assert str(exc) == (
        "the turn passed its turn_seconds of 3600 s; Codex's last notice: Reconnecting... waiting for network"
    )


@pytest.mark.parametrize(
    ("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (35, "signal 35"), (40, "signal 40")]
)
def test_every_signal_can_kill_codex_also_one_without_a_name(number, name):
    exc = errors.ProcessKilledError(partial=PARTIAL, returncode=-number)
    assert (exc.signal, exc.returncode) == (number, -number)
    assert str(exc) == f"Codex was killed by {name} before its turn ended"
