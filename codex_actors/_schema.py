# A JSON Schema, read into the few forms that OpenAI's strict mode can say. From those come what is sent
# (every object closed, every field required, null where a field may be missing) and, on the way back, what
# was meant (without those nulls). What strict mode cannot say is refused, by the path of the field: a request
# that the service would refuse anyway must not cost a process and a round trip.
#
# What is supported: https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas

import re
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import ClassVar, Literal, NoReturn, TypeAlias, assert_never

import msgspec

from codex_actors._data import Data
from codex_actors.errors import OptionError
from codex_actors.results import JsonValue

_Words: TypeAlias = dict[str, JsonValue]
_Scalar: TypeAlias = bool | int | float | str | None
_Type: TypeAlias = Literal["null", "boolean", "integer", "number", "string", "array", "object"]

_DEFINITION = re.compile(r"#/(?:\$defs|definitions)/([^/]+)")
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
)  # the only ones it takes
_LOOKS_AROUND = re.compile(r"\(\?<?[=!]")  # its patterns cannot
_QUOTED = re.compile(
    r"^(Invalid (?:enum )?value|Object contains unknown field) .*?(?= - at `\$[^`]*`$|$)", re.DOTALL
)
_ABOUT = frozenset({"title", "description"})
_ABSENT = msgspec.Raw()
_ROOT = ""  # the name of what `#` refers to
_TYPES: Mapping[type, tuple[_Type, ...]] = {
    type(None): ("null",),
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    str: ("string",),
}


class _Said(msgspec.Struct, rename="camel", omit_defaults=True):
    # The keywords that are passed on as they are.
    title: str | None = None
    description: str | None = None
    pattern: str | None = None
    format: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    exclusive_minimum: int | float | None = None
    exclusive_maximum: int | float | None = None
    multiple_of: int | float | None = None
    min_items: int | None = None
    max_items: int | None = None


class _Keywords(_Said, rename="camel", forbid_unknown_fields=True):
    # All the keywords that are understood; schemas in them are read when it is their turn.
    type: _Type | list[_Type] | None = None
    enum: list[_Scalar] | None = None
    const: _Scalar | msgspec.UnsetType = msgspec.UNSET
    properties: dict[str, msgspec.Raw] | None = None
    required: list[str] = []
    additional_properties: msgspec.Raw = _ABSENT
    items: msgspec.Raw = _ABSENT
    prefix_items: msgspec.Raw = _ABSENT
    any_of: list[msgspec.Raw] | None = None
    one_of: list[msgspec.Raw] | None = None
    all_of: list[msgspec.Raw] | None = None
    ref: str | None = msgspec.field(name="$ref", default=None)
    defs: dict[str, msgspec.Raw] = msgspec.field(name="$defs", default_factory=dict[str, msgspec.Raw])
    definitions: dict[str, msgspec.Raw] = {}
    # Said in words, because strict mode has no keyword for them.
    unique_items: bool = False
    content_encoding: str | None = None
    # These bind nobody.
    default: msgspec.Raw = _ABSENT
    schema: str | None = msgspec.field(name="$schema", default=None)
    id: str | None = msgspec.field(name="$id", default=None)  # but deeper down, what refers to `#` means that
    comment: str | None = msgspec.field(name="$comment", default=None)
    discriminator: msgspec.Raw = _ABSENT
    examples: msgspec.Raw = _ABSENT
    content_media_type: str | None = None
    deprecated: bool = False
    read_only: bool = False
    write_only: bool = False


class _Node(Data, frozen=True):
    _private: ClassVar[frozenset[str]] = frozenset({"said", "default"})

    said: _Words
    default: bytes


class _Leaf(_Node, frozen=True):
    _private: ClassVar[frozenset[str]] = frozenset({"said", "default", "values"})

    types: tuple[_Type, ...]
    values: tuple[_Scalar, ...] | None


class _Ref(_Node, frozen=True):
    name: str


class _Union(_Node, frozen=True):
    branches: tuple["_Form", ...]


class _Array(_Node, frozen=True):
    items: "_Form"


class _Object(_Node, frozen=True):
    fields: dict[str, "_Form"]
    required: frozenset[str]


_Form: TypeAlias = _Leaf | _Ref | _Union | _Array | _Object


class Schema:
    """What is asked for, and how what comes back is to be understood.

    Args:
        given: A JSON Schema.
        field: What to call it when it is refused.

    Attributes:
        strict: The schema as strict mode wants it.

    Raises:
        OptionError: Strict mode cannot say this; it names the place.
    """

    def __init__(self, given: Mapping[str, object], field: str) -> None:
        try:
            self._root = self._read_root(msgspec.json.encode(given), field)
            self.strict = self._strict_root()
        except RecursionError:
            raise OptionError(field, "is nested too deeply, or consists of itself") from None

    def _read_root(self, given: bytes, field: str) -> _Object:
        keywords = _keywords(msgspec.Raw(given), field)
        read = _Reader(keywords.definitions | keywords.defs)
        root = read.form(keywords, field)
        self._definitions = {_ROOT: root, **read.definitions}
        for _ in self._definitions:
            root = self.target(root) if isinstance(root, _Ref) else root
        if not isinstance(root, _Object):
            raise OptionError(field, "must be an object at the top: make this a field of one")
        self._definitions[_ROOT] = root
        return root

    def _strict_root(self) -> Mapping[str, object]:
        definitions: _Words = {
            name: self._strict(form) for name, form in self._definitions.items() if form is not self._root
        }
        return {**self._strict(self._root), **({"$defs": definitions} if definitions else {})}

    def restore(self, value: JsonValue, *, fill_defaults: bool) -> JsonValue:
        """What was meant by a value in strict form; what does not fit is left as it is.

        Args:
            value: What came.
            fill_defaults: Whether a field that is not there gets the default that the schema names.
        """
        return _Restorer(self, fill_defaults=fill_defaults).restore(self._root, value)

    def target(self, ref: _Ref) -> _Form:
        """What a reference refers to."""
        return self._definitions[ref.name]

    def is_widened(self, parent: _Object, name: str) -> bool:
        """Whether null stands for a field that is not there."""
        form = parent.fields[name]
        return name not in parent.required and not self._admits_null(form) and not _is_constant(form)

    def _admits_null(self, form: _Form) -> bool:
        match form:
            case _Leaf():
                return _fits_leaf(form, None)
            case _Ref():
                return self._admits_null(self.target(form))
            case _Union(branches=branches):
                return any(map(self._admits_null, branches))
            case _:
                return False

    def _strict(self, form: _Form) -> _Words:
        match form:
            case _Leaf():
                return form.said
            case _Ref(said=said):
                refers: _Words = {"$ref": self._name(form)}
                # Nothing may stand beside a reference, but it may beside `anyOf`.
                return {"anyOf": [refers], **said} if said else refers
            case _Union(branches=branches, said=said):
                return {"anyOf": [self._strict(branch) for branch in branches], **said}
            case _Array(items=items, said=said):
                return {"type": "array", "items": self._strict(items), **said}
            case _Object(fields=fields, said=said):
                return {
                    "type": "object",
                    "properties": {name: self._strict_field(form, name) for name in fields},
                    "required": [*fields],
                    "additionalProperties": False,
                    **said,
                }
            case _:
                assert_never(form)

    def _strict_field(self, parent: _Object, name: str) -> _Words:
        strict = self._strict(parent.fields[name])
        return {"anyOf": [strict, {"type": "null"}]} if self.is_widened(parent, name) else strict

    def _name(self, ref: _Ref) -> str:
        return "#" if self.target(ref) is self._root else f"#/$defs/{ref.name}"


class _Reader:
    # Reads definitions when they are first referred to: a field in one is then named by how it is reached.

    def __init__(self, given: Mapping[str, msgspec.Raw]) -> None:
        self._given = given
        self._begun: set[str] = set()
        self.definitions: dict[str, _Form] = {}

    def form(self, keywords: _Keywords, path: str) -> _Form:
        said, default = _said(keywords), bytes(keywords.default)
        branches = _branches(keywords, path)
        if keywords.ref is not None:
            _check_beside("$ref", keywords, said, path)
            return _Ref(said, default, self._definition(keywords.ref, path))
        if branches is not None:
            _check_beside("anyOf", keywords, said, path)
            return _Union(said, default, tuple(self._read(branch, path) for branch in branches))
        return self._typed(keywords, said, path)

    def _read(self, given: msgspec.Raw, path: str) -> _Form:
        keywords = _keywords(given, path)
        if keywords.id is not None:
            _refuse(path, "uses `$id`, which only the whole schema may have")
        return self.form(keywords, path)

    def _definition(self, ref: str, path: str) -> str:
        if ref == "#":
            return _ROOT
        found = _DEFINITION.fullmatch(ref)
        if found is None or found[1] not in self._given:
            _refuse(path, "refers to something other than `#` and what is in `$defs`")
        name = found[1]
        if name not in self._begun:
            self._begun.add(name)
            self.definitions[name] = self._read(self._given[name], path)
        return name

    def _typed(self, keywords: _Keywords, said: _Words, path: str) -> _Form:
        types, default = _types(keywords, path), bytes(keywords.default)
        if not {"array", "object"} & set(types):
            return _leaf(keywords, types, said)
        [type_, *others] = sorted(types, key=lambda it: it == "null")
        structure = self._structure(keywords, type_, said, path)
        if not others:
            return structure
        if others != ["null"]:
            _refuse(path, "lists types of which one has parts: use `anyOf`")
        return _Union({}, default, (structure, _Leaf({"type": "null"}, b"", ("null",), None)))

    def _structure(self, keywords: _Keywords, type_: _Type, said: _Words, path: str) -> _Form:
        default = bytes(keywords.default)
        if type_ == "array":
            if bytes(keywords.prefix_items):
                _refuse(path, "is a tuple of fixed length: use a list, or an object with named fields")
            return _Array(said, default, self._read(keywords.items, f"{path}[]"))
        _check_object(keywords, path)
        fields = {
            name: self._read(given, f"{path}.{name}") for name, given in (keywords.properties or {}).items()
        }
        return _Object(said, default, fields, frozenset(keywords.required))


class _Restorer:
    # Asks of each pair of form and value only once whether they fit: unions in unions would else take
    # time that doubles with their depth.

    def __init__(self, schema: Schema, *, fill_defaults: bool) -> None:
        self._schema = schema
        self._fill_defaults = fill_defaults
        self._fit: dict[tuple[int, int], bool] = {}

    def restore(self, form: _Form, value: JsonValue) -> JsonValue:
        match form:
            case _Ref():
                return self.restore(self._schema.target(form), value)
            case _Union(branches=branches):
                fitting = (branch for branch in branches if self._fits(branch, value))
                branch = next(fitting, None)
                return value if branch is None else self.restore(branch, value)
            case _Array(items=items) if isinstance(value, list):
                return [self.restore(items, item) for item in value]
            case _Object() if isinstance(value, dict):
                return self._restore_object(form, value)
            case _:
                return value

    def _restore_object(self, form: _Object, value: _Words) -> _Words:
        restored: _Words = {}
        for name, item in value.items():
            if name not in form.fields:
                restored[name] = item
            elif item is not None or not self._schema.is_widened(form, name):
                restored[name] = self.restore(form.fields[name], item)
        if self._fill_defaults:
            restored |= _defaults(form, without=restored)
        return restored

    def _fits(self, form: _Form, value: JsonValue) -> bool:
        pair = (id(form), id(value))
        if pair not in self._fit:
            self._fit[pair] = False  # should the question come up again before it is answered
            self._fit[pair] = self._finds_fit(form, value)
        return self._fit[pair]

    def _finds_fit(self, form: _Form, value: JsonValue) -> bool:
        match form:
            case _Leaf():
                return _fits_leaf(form, value)
            case _Ref():
                return self._fits(self._schema.target(form), value)
            case _Union(branches=branches):
                return any(self._fits(branch, value) for branch in branches)
            case _Array(items=items):
                return isinstance(value, list) and all(self._fits(items, item) for item in value)
            case _Object():
                return isinstance(value, dict) and self._fits_object(form, value)
            case _:
                assert_never(form)

    def _fits_object(self, form: _Object, value: _Words) -> bool:
        return form.required <= value.keys() <= form.fields.keys() and all(
            self._fits(form.fields[name], item) or (item is None and self._schema.is_widened(form, name))
            for name, item in value.items()
        )


def _refuse(path: str, problem: str) -> NoReturn:
    raise OptionError(path, problem)


def _keywords(given: msgspec.Raw, path: str) -> _Keywords:
    if bytes(given) in {b"", b"true"}:
        return _Keywords()
    try:
        return msgspec.json.decode(given, type=_Keywords)
    except msgspec.ValidationError as exc:
        problem = str(exc)
    unknown = re.match(r"Object contains unknown field `(.*)`", problem)
    if unknown:
        _refuse(path, f"uses `{unknown[1]}`, which OpenAI's strict mode does not know")
    _refuse(path, f"is no JSON Schema: {without_values(problem)}")


def without_values(problem: str) -> str:
    """What msgspec says, without what it quotes: that is the user's, or the model's."""
    return _QUOTED.sub(r"\1", problem)


def _said(keywords: _Keywords) -> _Words:
    said = {name: getattr(keywords, name) for name in _Said.__struct_fields__}
    in_words: list[str] = []
    if keywords.unique_items:
        in_words.append("no two alike")
    if keywords.content_encoding:
        in_words.append(f"encoded as {keywords.content_encoding}")
    if keywords.format not in {None, *_FORMATS}:
        in_words.append(f"format: {said.pop('format')}")
    if keywords.pattern and _LOOKS_AROUND.search(keywords.pattern):
        in_words.append(f"pattern: {said.pop('pattern')}")
    description = cleandoc(keywords.description or "")  # it may well be a docstring
    if in_words:
        description = f"{description} ({'; '.join(in_words)})".strip()
    said["description"] = description or None
    words: _Words = msgspec.to_builtins(_Said(**said))
    return words


def _branches(keywords: _Keywords, path: str) -> Sequence[msgspec.Raw] | None:
    given = [it for it in (keywords.any_of, keywords.one_of, keywords.all_of) if it is not None]
    if keywords.all_of is not None and len(keywords.all_of) != 1:
        _refuse(path, "uses `allOf`: put what it says into one schema")
    if len(given) > 1:
        _refuse(path, "joins `anyOf`, `oneOf` or `allOf`: use `anyOf` alone")
    if [] in given:
        _refuse(path, "may hold nothing: `anyOf` and `oneOf` need an entry")
    return given[0] if given else None


def _check_beside(what: str, keywords: _Keywords, said: _Words, path: str) -> None:
    structure = (keywords.items, keywords.prefix_items, keywords.additional_properties)
    beside = said.keys() - _ABOUT
    if what == "$ref" and _branches(keywords, path) is not None:
        beside.add("anyOf")
    if keywords.type or keywords.properties is not None or keywords.required or any(map(bytes, structure)):
        beside.add("type")
    if _values(keywords) is not None:
        beside.add("enum")
    if beside:
        _refuse(path, f"has `{min(beside)}` beside `{what}`: put it into what that leads to")


def _types(keywords: _Keywords, path: str) -> tuple[_Type, ...]:
    if keywords.type:
        return (keywords.type,) if isinstance(keywords.type, str) else tuple(keywords.type)
    if keywords.properties is not None:
        return ("object",)
    if bytes(keywords.items) or bytes(keywords.prefix_items):
        return ("array",)
    values = _values(keywords)
    if not values:
        _refuse(path, "may hold anything: say its type")
    return tuple(dict.fromkeys(_TYPES[type(value)][0] for value in values))


def _values(keywords: _Keywords) -> tuple[_Scalar, ...] | None:
    if keywords.const is not msgspec.UNSET:
        return (keywords.const,)
    return None if keywords.enum is None else tuple(keywords.enum)


def _leaf(keywords: _Keywords, types: tuple[_Type, ...], said: _Words) -> _Leaf:
    values = _values(keywords)
    says: _Words = {"type": types[0] if len(types) == 1 else [*types]}
    if values is not None:
        says["enum"] = [*values]
    return _Leaf({**says, **said}, bytes(keywords.default), types, values)


def _check_object(keywords: _Keywords, path: str) -> None:
    additional, properties = bytes(keywords.additional_properties), keywords.properties
    if additional not in {b"", b"false"} or (properties is None and not additional):
        _refuse(path, "may hold fields that the schema does not name, as a dict does: use a list of pairs")
    if unknown := set(keywords.required) - (properties or {}).keys():
        _refuse(path, f"requires what is not among its properties: {', '.join(sorted(unknown))}")


def _fits_leaf(leaf: _Leaf, value: JsonValue) -> bool:
    types = _TYPES.get(type(value), ())
    if isinstance(value, float) and value.is_integer():
        types = ("integer", *types)
    return not set(types).isdisjoint(leaf.types) and (leaf.values is None or value in leaf.values)


def _is_constant(form: _Form) -> bool:
    # A tag that may be left out is still the same tag: asked for null, a model could leave a union undecided.
    return (
        isinstance(form, _Leaf)
        and form.values is not None
        and len(form.values) == 1
        and form.default == msgspec.json.encode(form.values[0])
    )


def _defaults(form: _Object, *, without: _Words) -> _Words:
    return {
        name: msgspec.json.decode(field.default)
        for name, field in form.fields.items()
        if field.default and name not in without
    }
