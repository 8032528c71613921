"""What strict mode can say, what becomes of it, and what is refused."""

from typing import Any

import pytest

from codex_actors._schema import Schema, without_values
from codex_actors.errors import OptionError

FIELD = "output"
NULL = {"type": "null"}


def strict(properties: dict[str, Any], *, required: list[str] | None = None, defs: Any = None) -> Any:
    """The strict form of an object, all of whose properties are required unless one says otherwise."""
    names = [*properties] if required is None else required
    schema = {"type": "object", "properties": properties, "required": names, "$defs": defs or {}}
    return Schema(schema, FIELD).strict


def strict_of(schema: dict[str, Any]) -> Any:
    """The strict form of a property that is required."""
    return strict({"it": schema})["properties"]["it"]


def restored(schema: dict[str, Any], value: Any, *, fill_defaults: bool = False) -> Any:
    return Schema(schema, FIELD).restore(value, fill_defaults=fill_defaults)


def test_an_object_is_closed_and_all_its_fields_are_required():
    assert strict({"a": {"type": "string"}, "b": {"type": "integer"}}, required=["a"]) == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"anyOf": [{"type": "integer"}, NULL]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }


def test_objects_in_lists_unions_and_definitions_are_closed_too():
    inner = {"type": "object", "properties": {"x": {"type": "string"}}}
    closed = {
        "type": "object",
        "properties": {"x": {"anyOf": [{"type": "string"}, NULL]}},
        "required": ["x"],
        "additionalProperties": False,
    }
    said = strict(
        {
            "list": {"type": "array", "items": inner},
            "union": {"anyOf": [inner, {"type": "array", "items": inner}]},
            "there": {"$ref": "#/$defs/Inner"},
        },
        defs={"Inner": inner},
    )
    assert said["properties"] == {
        "list": {"type": "array", "items": closed},
        "union": {"anyOf": [closed, {"type": "array", "items": closed}]},
        "there": {"$ref": "#/$defs/Inner"},
    }
    assert said["$defs"] == {"Inner": closed}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "description": "it", "pattern": "^a", "minLength": 1, "maxLength": 3},
        {"type": "string", "format": "date-time", "title": "It"},
        {"type": "number", "minimum": 1, "maximum": 2.5, "multipleOf": 0.5},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        {"type": ["string", "null"]},
        {"type": "string", "enum": ["a", "b"]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "it"},
        NULL,
    ],
)
def test_what_strict_mode_knows_is_sent_as_it_is(schema):
    assert strict_of(schema) == schema


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"enum": ["a", 1, 2.5, None]}, ["string", "integer", "number", "null"]),
        ({"enum": [1, 2]}, "integer"),
        ({"const": True}, "boolean"),
        ({"const": None}, "null"),
    ],
)
def test_values_without_a_type_get_theirs(schema, sent):
    values = schema.get("enum", [schema.get("const")])
    assert strict_of(schema) == {"type": sent, "enum": values}


def test_structures_without_a_type_get_theirs():
    assert strict_of({"items": {"type": "string"}})["type"] == "array"
    assert strict_of({"properties": {}})["type"] == "object"


@pytest.mark.parametrize("keyword", ["oneOf", "allOf"])
def test_other_unions_are_sent_as_the_one_that_strict_mode_knows(keyword):
    assert strict_of({keyword: [{"type": "string"}]}) == {"anyOf": [{"type": "string"}]}


def test_a_structure_that_may_be_null_becomes_a_union():
    schema = {"type": ["null", "array"], "items": {"type": "string"}, "description": "it"}
    assert strict_of(schema) == {
        "anyOf": [{"type": "array", "items": {"type": "string"}, "description": "it"}, NULL]
    }


@pytest.mark.parametrize(
    ("schema", "description"),
    [
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "(no two alike)"),
        ({"type": "string", "contentEncoding": "base64"}, "(encoded as base64)"),
        ({"type": "string", "format": "uri", "description": "Where."}, "Where. (format: uri)"),
        ({"type": "string", "pattern": "^(?!a)"}, "(pattern: ^(?!a))"),
    ],
)
def test_what_strict_mode_has_no_word_for_is_said_in_the_description(schema, description):
    assert strict_of(schema)["description"] == description
    assert not {"uniqueItems", "contentEncoding", "format", "pattern"} & strict_of(schema).keys()


def test_what_binds_nobody_is_not_sent():
    notes = {"default": 1, "examples": [1], "$comment": "x", "deprecated": True, "readOnly": True}
    assert strict_of({"type": "integer", **notes}) == {"type": "integer"}


def test_a_schema_may_have_a_name():
    named = {"$id": "https://example.org/it.json", "$schema": "https://json-schema.org/draft/2020-12/schema"}
    assert Schema({**named, "properties": {}}, FIELD).strict == Schema({"properties": {}}, FIELD).strict


def test_a_docstring_is_sent_without_its_indentation():
    assert strict_of({"type": "string", "description": "It.\n\n    Really.\n    "}) == {
        "type": "string",
        "description": "It.\n\nReally.",
    }


def test_nothing_stands_beside_a_reference():
    said = strict(
        {"a": {"$ref": "#/$defs/It", "default": "x"}, "b": {"$ref": "#/$defs/It", "description": "it"}},
        defs={"It": {"type": "string"}},
    )
    assert said["properties"] == {
        "a": {"$ref": "#/$defs/It"},
        "b": {"anyOf": [{"$ref": "#/$defs/It"}], "description": "it"},
    }


def test_the_older_place_of_definitions_is_known_and_unused_ones_are_not_sent():
    definitions = {"It": {"type": "string"}, "Unused": {"not": {}}}
    schema = {
        "properties": {"a": {"$ref": "#/definitions/It"}},
        "required": ["a"],
        "definitions": definitions,
    }
    said = Schema(schema, FIELD).strict
    assert said["properties"] == {"a": {"$ref": "#/$defs/It"}}
    assert said["$defs"] == {"It": {"type": "string"}}


def test_a_root_that_is_a_reference_takes_the_place_of_what_it_refers_to():
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, NULL]}},
        "required": ["next"],
    }
    assert Schema({"$ref": "#/$defs/Node", "$defs": {"Node": node}}, FIELD).strict == {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, NULL]}},
        "required": ["next"],
        "additionalProperties": False,
    }


def test_types_may_be_made_of_each_other():
    a = {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}, "required": []}
    b = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}
    said = Schema({"$ref": "#/$defs/A", "$defs": {"A": a, "B": b}}, FIELD).strict
    assert said["properties"] == {"b": {"anyOf": [{"$ref": "#/$defs/B"}, NULL]}}
    assert said["$defs"]["B"]["properties"] == {"a": {"$ref": "#"}}  # type: ignore[index]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a dict": ({"type": "object", "additionalProperties": {"type": "integer"}}, "as a dict does"),
    "any object": ({"type": "object"}, "as a dict does"),
    "an open object": ({"type": "object", "properties": {}, "additionalProperties": True}, "as a dict does"),
    "a tuple": ({"type": "array", "prefixItems": [{"type": "string"}]}, "tuple of fixed length"),
    "an old tuple": ({"type": "array", "items": [{"type": "string"}]}, "is no JSON Schema"),
    "anything": ({}, "say its type"),
    "a list of anything": ({"type": "array"}, "say its type"),
    "a list of anything, in a word": ({"type": "array", "items": True}, "say its type"),
    "no types": ({"type": []}, "say its type"),
    "no branches": ({"anyOf": []}, "may hold nothing"),
    "a name of its own": ({"type": "string", "$id": "it"}, "`$id`"),
    "no values": ({"enum": []}, "say its type"),
    "not": ({"not": {"type": "string"}}, "`not`"),
    "patternProperties": ({"type": "object", "patternProperties": {}}, "`patternProperties`"),
    "allOf": ({"allOf": [{"type": "string"}, {"minLength": 1}]}, "`allOf`"),
    "two unions": ({"anyOf": [{"type": "string"}], "oneOf": [{"type": "string"}]}, "`anyOf` alone"),
    "beside anyOf": ({"anyOf": [{"type": "string"}], "minLength": 1}, "`minLength` beside `anyOf`"),
    "a type beside anyOf": ({"anyOf": [{"type": "string"}], "type": "string"}, "`type` beside `anyOf`"),
    "items beside anyOf": ({"anyOf": [{"type": "string"}], "items": {}}, "`type` beside `anyOf`"),
    "values beside anyOf": ({"anyOf": [{"type": "string"}], "enum": ["a"]}, "`enum` beside `anyOf`"),
    "beside $ref": ({"$ref": "#", "minimum": 1}, "`minimum` beside `$ref`"),
    "anyOf beside $ref": ({"$ref": "#", "anyOf": [{"type": "string"}]}, "`anyOf` beside `$ref`"),
    "another document": ({"$ref": "https://example.org/it.json"}, "refers to"),
    "no definition": ({"$ref": "#/$defs/Nothing"}, "refers to"),
    "a place in itself": ({"$ref": "#/properties/it"}, "refers to"),
    "no type": ({"type": "strng"}, "is no JSON Schema: Invalid enum value - at `$.type`"),
    "no schema": ({"type": "array", "items": False}, "is no JSON Schema"),
    "two structures": ({"type": ["array", "object"], "items": {"type": "string"}}, "use `anyOf`"),
    "required, not there": (
        {"type": "object", "properties": {}, "required": ["x", "a"]},
        "not among its properties: a, x",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_strict_mode_cannot_say_is_refused_by_its_path(why):
    schema, problem = REFUSED[why]
    with pytest.raises(OptionError) as caught:
        strict(
            {"tests": {"type": "array", "items": {"$ref": "#/$defs/Test"}}},
            defs={"Test": {"type": "object", "properties": {"it": schema}}},
        )
    assert caught.value.field.removesuffix("[]") == "output.tests[].it"
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "array", "items": {"type": "string"}}, "an object at the top"),
        ({"anyOf": [{"type": "string"}]}, "an object at the top"),
        ({"$ref": "#"}, "an object at the top"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, "an object at the top"),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/A"}},
                "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, NULL]}},
            },
            "consists of itself",
        ),
        ({"$defs": 3}, "is no JSON Schema"),
    ],
)
def test_a_root_that_cannot_be_is_refused(schema, problem):
    with pytest.raises(OptionError, match=problem) as caught:
        Schema(schema, FIELD)
    assert caught.value.field == FIELD


def test_a_schema_nested_too_deeply_is_refused():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(600):
        schema = {"type": "array", "items": schema}
    with pytest.raises(OptionError, match="nested too deeply"):
        Schema({"type": "object", "properties": {"it": schema}}, FIELD)


SUB = {"type": "object", "properties": {"x": {"type": "integer"}}}
MEANT: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "a null that stands for nothing": (SUB, {"x": None}, {}),
    "a value": (SUB, {"x": 1}, {"x": 1}),
    "a null of its own": ({"properties": {"x": {"type": ["integer", "null"]}}}, {"x": None}, {"x": None}),
    "a null of its own, in a union": (
        {"properties": {"x": {"anyOf": [{"type": "integer"}, NULL]}}},
        {"x": None},
        {"x": None},
    ),
    "a null of its own, behind a reference": (
        {"properties": {"x": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"enum": ["a", None]}}},
        {"x": None},
        {"x": None},
    ),
    "a null that must not be": ({**SUB, "required": ["x"]}, {"x": None}, {"x": None}),
    "in a list": (
        {"properties": {"l": {"type": "array", "items": SUB}}},
        {"l": [{"x": None}, {"x": 2}]},
        {"l": [{}, {"x": 2}]},
    ),
    "behind a reference": (
        {"properties": {"r": {"$ref": "#/$defs/S"}}, "$defs": {"S": SUB}},
        {"r": {"x": None}},
        {"r": {}},
    ),
    "in the branch that fits": (
        {
            "properties": {
                "u": {
                    "anyOf": [
                        {"properties": {"t": {"const": "a"}, "x": {"type": "integer"}}, "required": ["t"]},
                        {
                            "properties": {"t": {"const": "b"}, "x": {"type": ["integer", "null"]}},
                            "required": ["t"],
                        },
                        {"type": "array", "items": SUB},
                        {"type": "string"},
                    ]
                }
            }
        },
        {"u": {"t": "b", "x": None}},
        {"u": {"t": "b", "x": None}},
    ),
    "what fits no branch": (
        {"properties": {"u": {"anyOf": [SUB, {"type": "number"}]}}},
        {"u": {"y": None}},
        {"u": {"y": None}},
    ),
    "what nobody asked for": (SUB, {"x": None, "y": None}, {"y": None}),
    "no object": (SUB, [None], [None]),
    "no list": ({"properties": {"l": {"type": "array", "items": SUB}}}, {"l": 1}, {"l": 1}),
}


@pytest.mark.parametrize("what", MEANT)
def test_what_was_meant_is_what_comes_back(what):
    schema, value, meant = MEANT[what]
    assert restored(schema, value) == meant


UNION = MEANT["in the branch that fits"][0]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ({"t": "a", "x": None}, {"t": "a"}),
        ([{"x": None}], [{}]),
        ("a", "a"),
        (1, 1),
    ],
)
def test_each_branch_of_a_union_is_told_by_what_is_in_it(value, meant):
    assert restored(UNION, {"u": value}) == {"u": meant}


@pytest.mark.parametrize(
    ("kind", "value"), [("integer", 2.0), ("number", 2), ("number", 2.5), ("boolean", True), ("null", None)]
)
def test_a_value_is_told_by_its_type(kind, value):
    tagged = {"properties": {"v": {"type": kind}, "x": {"type": "string"}}, "required": ["v"]}
    other = {"properties": {"v": {"type": "string"}, "x": {"type": ["string", "null"]}}, "required": ["v"]}
    schema = {"properties": {"u": {"anyOf": [other, tagged]}}}
    assert restored(schema, {"u": {"v": value, "x": None}}) == {"u": {"v": value}}


def test_a_missing_field_gets_its_default_where_the_schema_is_all_there_is():
    schema = {"properties": {"a": {"type": "integer", "default": 3}, "b": {"type": "string"}}}
    assert restored(schema, {"a": None, "b": None}, fill_defaults=True) == {"a": 3}
    assert restored(schema, {}, fill_defaults=True) == {"a": 3}
    assert restored(schema, {"a": 1}, fill_defaults=True) == {"a": 1}
    assert restored(schema, {"a": None}) == {}


def test_a_tag_is_asked_for_even_if_it_may_be_left_out():
    tag = {"const": "a", "default": "a"}
    assert strict({"t": tag}, required=[])["properties"] == {"t": {"type": "string", "enum": ["a"]}}
    assert strict({"t": {"const": "a"}}, required=[])["properties"]["t"]["anyOf"][1] == NULL


def test_unions_in_unions_take_no_more_time_than_they_have_parts():
    def branch(tag: str) -> dict[str, Any]:
        properties = {"child": {"$ref": "#/$defs/Any"}, "tag": {"const": tag}, "x": {"type": "string"}}
        return {"type": "object", "properties": properties, "required": ["tag"]}

    schema = {
        "properties": {"it": {"$ref": "#/$defs/Any"}},
        "$defs": {"Any": {"anyOf": [branch("a"), branch("b"), {"type": "integer"}]}},
    }
    value: Any = 1
    for _ in range(50):
        value = {"child": value, "tag": "b", "x": None}
    meant = restored(schema, {"it": value})["it"]
    assert meant["child"].keys() == {"child", "tag"}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Invalid enum value 'it - at `$.x`' - at `$.c`", "Invalid enum value - at `$.c`"),
        ("Invalid enum value 3", "Invalid enum value"),
        ("Invalid value 'a\nb'", "Invalid value"),
        (
            "Object contains unknown field `secret` - at `$.a`",
            "Object contains unknown field - at `$.a`",
        ),
        ("Expected `int`, got `str` - at `$.x`", "Expected `int`, got `str` - at `$.x`"),
        ("this value is mine", "this value is mine"),
    ],
)
def test_what_is_wrong_is_said_without_what_was_said(said, kept):
    assert without_values(said) == kept
