"""Records keep the user's text to themselves, however they are shown."""

import io
import pprint
import traceback
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
import pytest
from rich.console import Console
from rich.pretty import pretty_repr
from rich.traceback import Traceback

from codex_actors import events, items, results
from codex_actors._data import Data

CANARY = "canary-of-the-user"

# The fields that may be shown; whatever else holds text belongs to the user.
SHOWN = {
    *("call_id", "id", "kind", "path", "server", "status", "thread_id", "tool", "type"),
    *("receiver_thread_ids", "sender_thread_id", "Noise.reason"),
    *("Leftovers.killed", "Leftovers.kept"),  # names of programs
}

RECORDS = [
    record
    for module in (events, items, results)
    for record in vars(module).values()
    if isinstance(record, type) and issubclass(record, Data) and not record.__name__.startswith(("_", "Data"))
]


def filled(record: type[Data]) -> Data:
    """A record of that type with the canary wherever the user's text can be."""
    return record(
        **{
            field.name: a_value(
                field.type, "shown" if {field.name, f"{record.__name__}.{field.name}"} & SHOWN else CANARY
            )
            for field in msgspec.structs.fields(record)
        }
    )


def a_value(kind: Any, text: str) -> object:
    kind = str if isinstance(kind, TypeVar) else kind
    origin, arguments = get_origin(kind), [kind for kind in get_args(kind) if kind not in {NoneType, ...}]
    if origin in {Union, UnionType}:
        return a_value(arguments[0], text)
    if origin is tuple:
        return (a_value(arguments[0], text),)
    if origin is dict:
        return {"a thread": a_value(arguments[1], text)}
    if issubclass(kind, Data):
        return filled(kind)
    if issubclass(kind, Enum):
        return next(iter(kind))
    return {str: text, bytes: text.encode(), object: {text: [text]}}.get(kind, 1)


def with_rich(renderable: object) -> str:
    output = io.StringIO()
    Console(file=output, width=500).print(renderable)
    return output.getvalue()


def test_there_is_a_record_for_everything():
    assert {items.CommandExecution, items.AgentState, events.TurnFailed, results.TurnResult} <= {*RECORDS}
    assert len(RECORDS) > 25


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.__module__}.{record.__name__}")
def test_no_way_to_show_a_record_shows_what_belongs_to_the_user(record):
    value = filled(record)
    shown = [
        repr(value),
        str(value),
        f"{value}",
        pprint.pformat([value]),
        pretty_repr(value),
        with_rich([value]),
    ]
    assert [text for text in shown if CANARY in text] == []
    assert all(record.__name__ in text for text in shown)


def test_a_traceback_that_shows_locals_does_not_show_what_belongs_to_the_user():
    value = filled(items.AgentMessage)
    try:
        int(value)  # type: ignore[call-overload]
    except TypeError as exc:
        rich = with_rich(Traceback.from_exception(type(exc), exc, exc.__traceback__, show_locals=True))
        plain = "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
    assert "AgentMessage" in rich
    assert "AgentMessage" in plain
    assert CANARY not in rich + plain


def test_a_repr_says_how_much_it_hides():
    assert (
        repr(items.AgentMessage(id="item_0", text="secret")) == "AgentMessage(id='item_0', text=<6 hidden>)"
    )
    assert repr(events.TurnStarted(raw=b"abc")) == "TurnStarted(raw=<3 hidden>)"


def test_a_repr_shows_that_there_is_nothing_to_hide():
    assert repr(items.AgentMessage(id="item_0", text="")) == "AgentMessage(id='item_0', text='')"
    assert repr(events.TurnStarted()) == "TurnStarted(raw=None)"


def test_what_has_no_length_is_hidden_without_one():
    call = items.McpToolCall(id="item_0", server="s", tool="t", arguments={"secret": 1})
    assert "arguments=<hidden>" in repr(call)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.__module__}.{record.__name__}")
def test_a_record_never_changes(record):
    value = filled(record)
    for name in value.__struct_fields__:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(value, name, None)
