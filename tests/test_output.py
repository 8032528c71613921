"""How a final response becomes an instance, and what is said of one that cannot."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from codex_actors._output import joined, output_of_schema, output_of_type, read_only, repair_prompt
from codex_actors.errors import InvalidOutputError, OptionError
from codex_actors.events import Usage
from codex_actors.items import AgentMessage
from codex_actors.options import ThreadOptions
from codex_actors.results import (
    JsonTurnResult,
    Leftovers,
    ParsedTurnResult,
    SideEffects,
    Timings,
    TurnResult,
    TurnUsage,
)

T = TypeVar("T")


def said(text: str) -> TurnResult:
    return TurnResult(thread_id="a thread", final_response=text, notices=("noted",), noise_lines=1)


def read(output_type: type[T], text: str) -> T:
    result = output_of_type(output_type).read(said(text))
    assert isinstance(result, ParsedTurnResult), result
    return result.parsed


def misread(output_type: type[Any], text: str) -> InvalidOutputError:
    result = output_of_type(output_type).read(said(text))
    assert isinstance(result, InvalidOutputError), result
    return result


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Leaf(msgspec.Struct, tag="leaf"):
    level: Level = Level.LOW
    size: Annotated[int, msgspec.Meta(ge=0)] = 3


class Branch(msgspec.Struct, tag="branch"):
    left: "Branch | Leaf"
    right: "Branch | Leaf | None" = None


class Tree(msgspec.Struct):
    root: Branch | Leaf
    names: set[str] = set()
    data: bytes = b""
    left_out: int | msgspec.UnsetType = msgspec.UNSET


@dataclass
class Data:
    name: str
    tags: list[str] = field(default_factory=lambda: ["default"])
    note: str | None = "noted"


class Fields(TypedDict):
    name: str
    note: NotRequired[str]
    level: NotRequired[int | None]


class Sub(pydantic.BaseModel):
    kind: Literal["sub"] = "sub"
    size: int = 3


class Other(pydantic.BaseModel):
    kind: Literal["other"] = "other"
    size: int | None = 4


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    one: Annotated[Sub | Other, pydantic.Field(discriminator="kind")]
    many: list[Sub] = []
    level: int = pydantic.Field(alias="Level", default=1, ge=0)

    @pydantic.field_validator("many")
    @classmethod
    def few(cls, many: list[Sub]) -> list[Sub]:
        if len(many) > 1:
            raise ValueError("too many")
        return many


class Box(msgspec.Struct, Generic[T]):
    it: T


def test_nulls_become_the_defaults_of_a_struct_deep_in_unions_and_recursive_types():
    leaf = '{"type": "leaf", "level": null, "size": null}'
    tree = (
        f'{{"type": "branch", "left": {{"type": "branch", "left": {leaf}, "right": null}}, "right": {leaf}}}'
    )
    text = f'{{"root": {tree}, "names": null, "data": null, "left_out": null}}'
    assert read(Tree, text) == Tree(Branch(Branch(Leaf()), Leaf()))


def test_what_json_has_no_type_for_is_read_by_the_type():
    leaf = '{"type": "leaf", "level": "high", "size": 1}'
    text = f'{{"root": {leaf}, "names": ["a"], "data": "AAE=", "left_out": 2}}'
    assert read(Tree, text) == Tree(Leaf(Level.HIGH, 1), {"a"}, b"\0\1", 2)


def test_a_null_of_its_own_stays_null_whatever_the_default_is():
    assert read(Data, '{"name": "it", "tags": null, "note": null}') == Data("it", ["default"], None)


def test_a_field_that_a_typed_dict_does_not_require_is_not_there():
    assert read(Fields, '{"name": "it", "note": null, "level": null}') == {"name": "it", "level": None}


def test_a_model_is_read_as_json_by_its_aliases():
    text = '{"one": {"kind": "other", "size": null}, "many": [{"kind": "sub", "size": null}], "Level": null}'
    assert read(Model, text) == Model(one=Other(size=None), many=[Sub()])


def test_a_generic_type_is_taken_too():
    assert read(Box[int], '{"it": 1}') == Box(1)


def test_a_result_keeps_all_that_the_turn_came_to_and_hides_what_was_said():
    result = output_of_type(Data).read(said('{"name": "a canary"}'))
    assert isinstance(result, ParsedTurnResult)
    assert (result.thread_id, result.notices, result.noise_lines) == ("a thread", ("noted",), 1)
    assert "canary" not in repr(result)


NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
PROBLEMS: dict[str, tuple[type[Any], str, str, str]] = {
    "no JSON": (Data, "I will not.", "not JSON at $", "$"),
    "nothing": (Data, "", "not JSON at $", "$"),
    "half": (Data, '{"name": "i', "not JSON at $", "$"),
    "half a surrogate pair": (Data, '{"name": "\ud800"}', "not JSON at $", "$"),
    "too deep": (Data, "[" * 100_000, "nested too deeply at $", "$"),
    "another type": (Data, '{"name": 1}', "Expected `str`, got `int` at $.name", "$.name"),
    "a value that is none": (
        Tree,
        '{"root": {"type": "leaf", "level": "canary"}}',
        "Invalid enum value at $.root.level",
        "$.root.level",
    ),
    "all of it": (Data, "[]", "Expected `object`, got `array` at $", "$"),
    "a model's tag": (
        Model,
        '{"one": {"kind": "canary"}}',
        "Input tag found using 'kind' does not match any of the expected tags: 'sub', 'other' at $.one",
        "$.one",
    ),
    "a model's field": (
        Model,
        '{"one": {"kind": "sub"}, "canary": 1}',
        "Extra inputs are not permitted at $",
        "$",
    ),
    "two of a model's": (
        Model,
        '{"one": {"kind": "sub"}, "many": [{"size": "canary"}], "Level": -1}',
        f"{NO_INTEGER} at $.many[0].size; Input should be greater than or equal to 0 at $.Level",
        "$.many[0].size",
    ),
    "a validator of the user's": (
        Model,
        '{"one": {"kind": "sub"}, "many": [{}, {}]}',
        "Value error, too many at $.many",
        "$.many",
    ),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_what_is_wrong_is_said_and_where_but_never_quoted(what):
    output_type, text, problem, path = PROBLEMS[what]
    error = misread(output_type, text)
    assert (error.problem, error.path, error.text) == (problem, path, text)
    assert problem in str(error)
    assert "canary" not in str([error, error.__dict__])
    assert (error.__context__, error.__traceback__) == (None, None)


def test_at_most_five_problems_are_told():
    text = f'{{"one": {{"kind": "sub"}}, "many": [{", ".join(["1"] * 9)}]}}'
    assert misread(Model, text).problem.count(" at $.many[") == 5


def test_an_error_that_is_no_fault_of_the_reply_is_not_hidden():
    class Broken(pydantic.BaseModel):
        name: str

        @pydantic.field_validator("name")
        @classmethod
        def look(cls, name: str) -> str:
            raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        output_of_type(Broken).read(said('{"name": "it"}'))


def test_anything_with_the_two_methods_of_a_model_is_one():
    class Duck:
        @classmethod
        def model_json_schema(cls) -> dict[str, object]:
            return {"properties": {"name": {"type": "string"}}}

        @classmethod
        def model_validate_json(cls, json_data: bytes) -> "Duck":
            raise ValueError("no duck")

    assert misread(Duck, "{}").problem == "no duck at $"


class Counts(msgspec.Struct):
    counts: dict[str, int]


class Held(msgspec.Struct):
    all: list[Counts]


class Pair(NamedTuple):
    a: int


class Odd(msgspec.Struct):
    odd: complex


class Described(msgspec.Struct):
    file: Annotated[Path, msgspec.Meta(extra_json_schema={"type": "string"})]


class Unknown(msgspec.Struct):
    it: "Nowhere"  # type: ignore[name-defined] # noqa: F821


class Free(pydantic.BaseModel):
    free: list[Any]


@pydantic.dataclasses.dataclass
class Checked:
    it: int


class Calling(pydantic.BaseModel):
    call: Callable[[], int]


@pytest.mark.parametrize(
    ("output_type", "field_"),
    [
        (Held, "output_type.all[].counts"),
        (Free, "output_type.free[]"),
        (Pair, "output_type"),
        (int, "output_type"),
        (Odd, "output_type"),
        (Described, "output_type"),
        (Unknown, "output_type"),
        (Calling, "output_type"),
        (Checked, "output_type"),
        (Data("an instance"), "output_type"),
    ],
)
def test_a_type_that_cannot_be_asked_for_is_refused_by_the_path_of_its_field(output_type, field_):
    with pytest.raises(OptionError) as caught:
        output_of_type(output_type)
    assert caught.value.field == field_


@pytest.mark.parametrize(("output_type", "held"), [(Odd, "complex"), (Described, "Path")])
def test_a_type_without_json_is_named_in_one_line_without_advice_that_cannot_be_taken(output_type, held):
    with pytest.raises(OptionError, match=rf"^[^\n]*: it holds a `{held}`$"):
        output_of_type(output_type)


SCHEMA = {"properties": {"n": {"type": "integer", "minimum": 1, "default": 2}, "s": {"enum": ["a"]}}}


def json_of(text: str) -> object:
    result = output_of_schema(SCHEMA).read(said(text))
    return result.parsed if isinstance(result, JsonTurnResult) else result


def test_a_reply_to_a_schema_is_its_json_with_the_defaults_of_the_schema():
    assert json_of('{"n": null, "s": null}') == {"n": 2}
    assert json_of('{"n": 3, "s": "a"}') == {"n": 3, "s": "a"}


def test_a_reply_is_held_against_all_that_the_schema_says():
    error = json_of('{"n": 0, "s": "canary"}')
    assert isinstance(error, InvalidOutputError)
    assert error.problem == "`minimum` is not kept at $.n; `enum` is not kept at $.s"
    assert error.path == "$.n"


def nested(depth: int) -> dict[str, Any]:
    value: Any = "a leaf"
    for _ in range(depth):
        value = {"child": value, "tag": "b"}
    return {"it": value}


def test_unions_in_unions_are_held_against_the_schema_in_little_time():
    def branch(tag: str) -> dict[str, Any]:
        return {"properties": {"child": {"$ref": "#/$defs/Any"}, "tag": {"const": tag}}, "required": ["tag"]}

    branches = [branch("a"), branch("b"), {"type": "string", "pattern": "^a"}]
    definitions = {"Any": {"anyOf": branches}, "One": {"oneOf": branches}}
    schema = {"properties": {"it": {"$ref": "#/$defs/One"}}, "$defs": definitions}
    output = output_of_schema(schema)
    result = output.read(said(msgspec.json.encode(nested(50)).decode()))
    assert isinstance(result, JsonTurnResult)
    assert result.parsed == nested(50)


@pytest.mark.parametrize(
    ("keyword", "value"), [("anyOf", '"c"'), ("anyOf", "1"), ("oneOf", '"c"'), ("oneOf", '"ab"')]
)
def test_what_fits_no_branch_or_too_many_is_told(keyword, value):
    branches = [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]
    error = output_of_schema({"properties": {"it": {keyword: branches}}}).read(said(f'{{"it": {value}}}'))
    assert isinstance(error, InvalidOutputError)
    assert error.problem == f"`{keyword}` is not kept at $.it"


def test_without_the_library_a_reply_to_a_schema_has_to_be_json(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert json_of('{"n": 0}') == {"n": 0}
    assert isinstance(json_of("canary"), InvalidOutputError)


@pytest.mark.parametrize("library", [True, False])
def test_what_is_no_schema_is_refused_by_its_place(library, monkeypatch):
    if not library:
        monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(OptionError) as caught:
        output_of_schema({"properties": {"a": {"type": "canary"}}})
    assert "$.properties.a.type" in str(caught.value) if library else caught.value.field.endswith(".a")
    assert "canary" not in str(caught.value)


def test_a_schema_nested_too_deeply_is_refused():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(600):
        schema = {"type": "array", "items": schema}
    with pytest.raises(OptionError, match="nested too deeply"):
        output_of_schema({"properties": {"it": schema}})


def test_a_schema_may_hold_tuples_as_options_do():
    output = output_of_schema({"properties": {"a": {"type": ("string", "null")}}, "required": ("a",)})
    assert output.strict_schema["required"] == ["a"]


def test_a_reply_is_asked_for_again_with_what_is_wrong_and_without_quoting_it():
    prompt = repair_prompt(misread(Tree, '{"root": {"type": "leaf", "level": "canary"}}'))
    assert "Invalid enum value at $.root.level" in prompt
    assert "canary" not in prompt


@pytest.mark.parametrize(
    "options",
    [
        ThreadOptions(),
        ThreadOptions(sandbox="danger-full-access", network_access=True, additional_directories=["/tmp"]),
        ThreadOptions(approve_for_me=True, approval_policy="on-request", network_access=True),
        ThreadOptions(approval_policy="never", worktree=True),
    ],
)
def test_whatever_a_thread_may_do_its_repair_may_only_read(options):
    repair = read_only(options)
    assert (repair.sandbox, repair.approve_for_me, repair.worktree) == ("read-only", False, False)
    assert repair.approval_policy == ("never" if options.approval_policy == "never" else None)


def a_result(number: int, effects: SideEffects, last: float | None) -> TurnResult:
    return TurnResult(
        thread_id="a thread",
        final_response=str(number),
        items=(AgentMessage(id="item_0", text=str(number)),),
        usage=TurnUsage(thread=Usage(input_tokens=10 * number), turn=Usage(input_tokens=number)),
        side_effects=effects,
        notices=(f"notice {number}",),
        unknown_events=number,
        noise_lines=number,
        dropped_events=number,
        timings=Timings(first_event_seconds=0.1, last_event_seconds=last, exit_seconds=2.0),
        returncode=number,
        leftovers=Leftovers(killed=(f"killed {number}",), kept=(f"kept {number}",), proven=number == 1),
    )


def test_two_attempts_are_one_turn():
    first, second = a_result(1, SideEffects.SEEN, 1.5), a_result(2, SideEffects.NONE, 1.75)
    assert joined(first, second) == TurnResult(
        thread_id="a thread",
        final_response="2",
        items=(*first.items, *second.items),
        usage=TurnUsage(thread=Usage(input_tokens=20), turn=Usage(input_tokens=3)),
        side_effects=SideEffects.SEEN,
        notices=("notice 1", "notice 2"),
        unknown_events=3,
        noise_lines=3,
        dropped_events=3,
        timings=Timings(first_event_seconds=0.1, last_event_seconds=3.75, exit_seconds=4.0),
        returncode=2,
        leftovers=Leftovers(killed=("killed 1", "killed 2"), kept=("kept 1", "kept 2"), proven=False),
    )


def test_no_field_of_a_result_is_forgotten_when_two_attempts_are_joined():
    first, second = a_result(1, SideEffects.SEEN, 1.5), a_result(2, SideEffects.NONE, 1.75)
    both = joined(first, second)
    of_the_second = {
        name for name in TurnResult.__struct_fields__ if getattr(both, name) == getattr(second, name)
    }
    assert of_the_second == {"thread_id", "final_response", "returncode"}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (SideEffects.NONE, SideEffects.NONE, SideEffects.NONE),
        (SideEffects.NONE, SideEffects.UNKNOWN, SideEffects.UNKNOWN),
        (SideEffects.UNKNOWN, SideEffects.SEEN, SideEffects.SEEN),
    ],
)
def test_two_attempts_may_have_done_what_each_may_have_done(one, other, both):
    assert joined(a_result(1, one, None), a_result(2, other, None)).side_effects is both
    assert joined(a_result(1, other, None), a_result(2, one, None)).side_effects is both


def test_what_is_not_known_of_one_attempt_is_not_known_of_both():
    unknown = msgspec.structs.replace(a_result(2, SideEffects.NONE, None), usage=TurnUsage())
    both = joined(a_result(1, SideEffects.NONE, 1.0), unknown)
    assert (both.usage, both.timings.last_event_seconds) == (TurnUsage(), None)
    assert joined(unknown, a_result(1, SideEffects.NONE, 1.0)).usage.turn is None
