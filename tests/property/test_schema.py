"""Whatever type is asked for: its schema can be sent, and each of its values comes back as it was."""

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from itertools import count
from typing import Any, Literal, NotRequired, TypedDict, get_args

import jsonschema
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from codex_actors._output import output_of_schema, output_of_type
from codex_actors._schema import Schema
from codex_actors.results import JsonTurnResult, ParsedTurnResult, TurnResult

NAMES = st.sampled_from(["a", "b", "c", "d"])
MISSING: Any = dataclasses.MISSING
numbers = count()


class Asked:
    """A type, its values, and how strict mode writes those.

    Args:
        type_: The type.
        values: Its values.
        encode: Writes one in strict form.
    """

    def __init__(
        self, type_: Any, values: st.SearchStrategy[Any], encode: Callable[[Any], Any] = msgspec.to_builtins
    ) -> None:
        self.type = type_
        self.values = values
        self.encode = encode
        self.may_be_null = type(None) in get_args(type_)

    def __repr__(self) -> str:
        return f"Asked({self.type})"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


SCALARS = [
    Asked(int, st.integers(-(2**53), 2**53)),
    Asked(str, st.text(max_size=5)),
    Asked(bool, st.booleans()),
    Asked(float, st.floats(allow_nan=False, allow_infinity=False)),
    Asked(Literal["x", "y"], st.sampled_from(["x", "y"])),
    Asked(Colour, st.sampled_from(Colour)),
    Asked(bytes, st.binary(max_size=4)),
]


def list_of(inner: Asked) -> Asked:
    values = st.lists(inner.values, max_size=3)
    return Asked(list[inner.type], values, lambda items: [*map(inner.encode, items)])  # type: ignore[name-defined]


def optional(inner: Asked) -> Asked:
    values = st.none() | inner.values
    return Asked(inner.type | None, values, lambda it: None if it is None else inner.encode(it))


class Field:
    """What an object has by a name.

    Args:
        asked: What it holds.
        default: What it is if nobody says; `MISSING` if somebody has to.
    """

    def __init__(self, asked: Asked, default: Any) -> None:
        self.asked = asked
        self.default = default

    @property
    def factory(self) -> dict[str, Any]:
        """The default, as the constructors of fields want it."""
        return {} if self.default is MISSING else {"default_factory": lambda: self.default}

    def encode(self, value: Any, *, leave_out: bool) -> Any:
        """Writes the field; null if it is left out, where that is not a value of its own."""
        left_out = value is MISSING or (leave_out and repr(value) == repr(self.default))
        can_be = self.default is not MISSING and not self.asked.may_be_null
        return None if left_out and can_be else self.asked.encode(value)


def by_name(fields: Mapping[str, Field], get: Callable[[Any, str], Any], *, leave_out: bool) -> Any:
    return lambda value: {
        name: field.encode(get(value, name), leave_out=leave_out) for name, field in fields.items()
    }


def builds(type_: Any, fields: Mapping[str, Field]) -> st.SearchStrategy[Any]:
    return st.builds(type_, **{name: field.asked.values for name, field in fields.items()})


def struct(fields: Mapping[str, Field], *, leave_out: bool, tagged: bool = False) -> Asked:
    name = f"Struct{next(numbers)}"
    made = [(it, field.asked.type, msgspec.field(**field.factory)) for it, field in fields.items()]
    type_ = msgspec.defstruct(name, made, kw_only=True, tag=name if tagged else None)
    encode = by_name(fields, getattr, leave_out=leave_out)
    return Asked(type_, builds(type_, fields), lambda it: ({"type": name} if tagged else {}) | encode(it))


def dataclass(fields: Mapping[str, Field], *, leave_out: bool) -> Asked:
    made = [(it, field.asked.type, dataclasses.field(**field.factory)) for it, field in fields.items()]
    type_: Any = dataclasses.make_dataclass(f"Data{next(numbers)}", made, kw_only=True)
    return Asked(type_, builds(type_, fields), by_name(fields, getattr, leave_out=leave_out))


def typed_dict(fields: Mapping[str, Field], *, leave_out: bool) -> Asked:
    hints = {
        name: field.asked.type if field.default is MISSING else NotRequired[field.asked.type]
        for name, field in fields.items()
    }
    type_: Any = TypedDict(f"Dict{next(numbers)}", hints)  # type: ignore[misc]
    values = {name: field.asked.values for name, field in fields.items()}
    # Strict mode has no way to leave out what may be null.
    said = {it for it, field in fields.items() if field.default is MISSING or field.asked.may_be_null}
    return Asked(
        type_,
        st.fixed_dictionaries(
            {name: values[name] for name in said},
            optional={name: values[name] for name in values.keys() - said},
        ),
        by_name(fields, lambda it, name: it.get(name, MISSING), leave_out=False),
    )


@st.composite
def fields_of(draw: st.DrawFn, inner: st.SearchStrategy[Asked]) -> Field:
    asked = draw(inner)
    return Field(asked, draw(st.just(MISSING) | asked.values))


def objects(inner: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    fields = st.dictionaries(NAMES, fields_of(inner), max_size=4)
    return st.one_of(
        *(st.builds(make, fields, leave_out=st.booleans()) for make in (struct, dataclass, typed_dict))
    )


@st.composite
def unions(draw: st.DrawFn, inner: st.SearchStrategy[Asked]) -> Asked:
    fields = st.dictionaries(NAMES, fields_of(inner), max_size=3)
    structs = [struct(draw(fields), leave_out=draw(st.booleans()), tagged=True) for _ in range(2)]
    branches = {it.type: it for it in [*structs, *draw(st.lists(st.sampled_from(SCALARS[:2]), max_size=1))]}
    first, *others = branches
    union: Any = first
    for other in others:
        union |= other
    values = st.one_of([branch.values for branch in branches.values()])
    return Asked(union, values, lambda it: branches[type(it)].encode(it))


ASKED = objects(
    st.recursive(
        st.sampled_from(SCALARS),
        lambda inner: inner.map(list_of) | inner.map(optional) | objects(inner) | unions(inner),
        max_leaves=6,
    )
)


def said(value: Any) -> TurnResult:
    return TurnResult(thread_id="a thread", final_response=msgspec.json.encode(value).decode())


def breaches(schema: Any, root: Any, path: str = "$") -> list[str]:
    """Where a schema breaks the rules of strict mode, as OpenAI's guide states them."""
    parts = {**schema.get("properties", {}), **schema.get("$defs", {})}
    parts |= {f"anyOf[{at}]": branch for at, branch in enumerate(schema.get("anyOf", []))}
    parts |= {"items": schema["items"]} if "items" in schema else {}
    return [
        *(f"{path}: {what}" for what, broken in rules(schema, root, path).items() if broken),
        *(breach for name, part in parts.items() for breach in breaches(part, root, f"{path}.{name}")),
    ]


def rules(schema: Any, root: Any, path: str) -> dict[str, bool]:
    says = {"type", "enum", "properties", "required", "additionalProperties", "items", "anyOf", "$ref"}
    ref = schema.get("$ref", "#")
    return {
        "a word that is not known": not schema.keys() <= says | {"title", "description", "$defs"},
        "no type": not schema.keys() & {"type", "anyOf", "$ref"},
        "not alone": "$ref" in schema and len(schema) > 1,
        "refers to nothing": ref != "#" and ref.removeprefix("#/$defs/") not in root["$defs"],
        "no object at the top": path == "$" and schema.get("type") != "object",
        "a list of anything": schema.get("type") == "array" and not schema.get("items"),
        "open": schema.get("type") == "object" and schema.get("additionalProperties") is not False,
        "optional": schema.get("type") == "object" and {*schema["required"]} != schema["properties"].keys(),
    }


@given(ASKED, st.data())
def test_a_value_in_strict_form_is_read_back_as_it_was(asked: Asked, data: st.DataObject):
    output = output_of_type(asked.type)
    value = data.draw(asked.values)
    written = asked.encode(value)
    jsonschema.validate(written, output.strict_schema, jsonschema.Draft202012Validator)
    result = output.read(said(written))
    assert isinstance(result, ParsedTurnResult), result
    assert type(result.parsed) is type(value)
    assert result.parsed == value


@given(ASKED)
def test_every_schema_keeps_the_rules_of_strict_mode(asked: Asked):
    strict = output_of_type(asked.type).strict_schema
    assert breaches(strict, strict) == []


@given(ASKED)
def test_a_schema_in_strict_form_stays_as_it_is(asked: Asked):
    strict = output_of_type(asked.type).strict_schema
    assert Schema(strict, "again").strict == strict


@given(ASKED, st.data())
def test_what_fits_the_strict_schema_fits_the_one_that_was_given(asked: Asked, data: st.DataObject):
    [given], definitions = msgspec.json.schema_components([asked.type], ref_template="#/$defs/{name}")
    output = output_of_schema({**given, "$defs": definitions})
    result = output.read(said(asked.encode(data.draw(asked.values))))
    assert isinstance(result, JsonTurnResult), result


class Node(msgspec.Struct):
    name: str = "a node"
    left: "Node | None" = None
    others: list["Node"] = []


nodes: st.SearchStrategy[Node] = st.deferred(
    lambda: st.builds(
        Node,
        name=st.just("a node") | st.text(max_size=3),
        left=st.none() | nodes,
        others=st.lists(nodes, max_size=2),
    )
)


def write_node(node: Node) -> dict[str, Any]:
    return {
        "name": None if node.name == "a node" else node.name,
        "left": None if node.left is None else write_node(node.left),
        "others": [*map(write_node, node.others)] or None,
    }


@given(nodes)
def test_a_type_made_of_itself_is_read_back_as_it_was(node: Node):
    result = output_of_type(Node).read(said(write_node(node)))
    assert isinstance(result, ParsedTurnResult), result
    assert result.parsed == node


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.just("type"), inner),
    max_leaves=6,
)


@given(ASKED, anything)
def test_whatever_is_replied_fits_or_does_not(asked: Asked, value: Any):
    result = output_of_type(asked.type).read(said(value))
    assert isinstance(result, ParsedTurnResult) or result.path.startswith("$")
