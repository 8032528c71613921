# Final responses that have to be instances of something: what is sent to get them, how they are read, and how
# they are asked for again. Of pydantic's models this knows two methods, and imports nothing.

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Generic,
    NamedTuple,
    NoReturn,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    runtime_checkable,
)

import msgspec

from codex_actors._schema import Schema, without_values
from codex_actors.errors import InvalidOutputError, OptionError
from codex_actors.events import Usage
from codex_actors.options import ThreadOptions
from codex_actors.results import (
    JsonTurnResult,
    JsonValue,
    Leftovers,
    ParsedTurnResult,
    SideEffects,
    Timings,
    TurnResult,
    TurnUsage,
)

if TYPE_CHECKING:
    from jsonschema import ValidationError

    _Faults: TypeAlias = Iterator[ValidationError]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

_TYPE, _SCHEMA = "output_type", "TurnOptions.output_schema"
_MAX_PROBLEMS = 5  # of one reply: enough to put it right, few enough to read
_BY_SEVERITY = (SideEffects.NONE, SideEffects.UNKNOWN, SideEffects.SEEN)
_AT = re.compile(r" - at `(\$[^`]*)`$")
# pydantic quotes the reply in one of its messages.
_QUOTED_TAG = re.compile(r"^Input tag .* found using", re.DOTALL)


class _Misfit(NamedTuple):
    problem: str
    path: str = "$"


class _MisfitError(ValueError):
    def __init__(self, found: Sequence[_Misfit]) -> None:
        super().__init__()
        self.found = found


class Output(Generic[_T_co]):
    """What a final response has to be.

    Args:
        schema: What is asked for.
        read: Makes an instance of some JSON; a ValueError says that the JSON is not fit for that.
        result: The class of the turn's result.
        fill_defaults: Whether the schema says what a field is that is not there, and not `read`.
    """

    def __init__(
        self,
        schema: Schema,
        read: Callable[[bytes], _T_co],
        *,
        result: type[ParsedTurnResult[_T_co]],
        fill_defaults: bool = False,
    ) -> None:
        self._schema = schema
        self._read = read
        self._result = result
        self._fill_defaults = fill_defaults

    @property
    def strict_schema(self) -> Mapping[str, object]:
        """The schema to be sent."""
        return self._schema.strict

    def read(self, result: TurnResult) -> ParsedTurnResult[_T_co] | InvalidOutputError:
        """Read a turn's final response."""
        try:
            # The text is in no local: the user's own code may raise here, and be shown with this frame.
            parsed = self._read(msgspec.json.encode(self._restored(result)))
        except (ValueError, RecursionError) as exc:
            found = _misfits(exc)[:_MAX_PROBLEMS]
        else:
            return self._result(**msgspec.structs.asdict(result), parsed=parsed)
        problem = "; ".join(f"{misfit.problem} at {misfit.path}" for misfit in found)
        return InvalidOutputError(problem, path=found[0].path, result=result)

    def _restored(self, result: TurnResult) -> JsonValue:
        value: JsonValue = msgspec.json.decode(result.final_response)
        return self._schema.restore(value, fill_defaults=self._fill_defaults)


@runtime_checkable
class _ModelClass(Protocol):
    # A class of pydantic's, seen from outside.
    def model_json_schema(self) -> dict[str, object]: ...
    def model_validate_json(self, json_data: bytes) -> object: ...


class _ModelProblem(msgspec.Struct):
    type: str
    loc: list[int | str]
    msg: str


def output_of_type(output_type: type[_T]) -> Output[_T]:
    """A final response that is an instance of a type.

    Raises:
        OptionError: There is no JSON for the type, or none that strict mode can say.
    """
    try:
        schema, read = _schema_of(output_type)
    except (TypeError, ValueError, NameError, RuntimeError) as exc:
        problem = str(exc)
    else:
        return Output(Schema(schema, _TYPE), read, result=ParsedTurnResult)
    raise OptionError(_TYPE, f"is no type that JSON can be made of: {problem}")


def _schema_of(output_type: type[_T]) -> tuple[Mapping[str, object], Callable[[bytes], _T]]:
    if hasattr(output_type, "__is_pydantic_dataclass__"):
        # It would be taken for a plain dataclass, and none of its validators be asked.
        raise TypeError("it is a dataclass of pydantic's, and has to be a model or a plain one")
    if isinstance(output_type, _ModelClass):
        return output_type.model_json_schema(), cast("Callable[[bytes], _T]", output_type.model_validate_json)
    [schema], definitions = msgspec.json.schema_components(
        [output_type], schema_hook=_refuse, ref_template="#/$defs/{name}"
    )
    return {**schema, "$defs": definitions}, msgspec.json.Decoder(output_type).decode


def _refuse(unknown: type[object]) -> NoReturn:
    # Also where its schema is in the annotation: the decoder would still refuse each reply.
    raise TypeError(f"it holds a `{unknown.__qualname__}`")


def output_of_schema(schema: Mapping[str, object]) -> Output[JsonValue]:
    """A final response that follows a JSON Schema; without the extra that can tell, any JSON does.

    Raises:
        OptionError: It is no JSON Schema, or one that strict mode cannot say.
    """
    plain: dict[str, JsonValue] = msgspec.json.decode(msgspec.json.encode(schema))
    try:
        read = _validator(plain)
    except RecursionError:
        raise OptionError(_SCHEMA, "is nested too deeply") from None
    return Output(Schema(plain, _SCHEMA), read, result=JsonTurnResult, fill_defaults=True)


class _Validator(Protocol):
    # A validator of jsonschema's, whose own types leave out what is used here.
    def evolve(self, *, schema: object) -> "_Validator": ...
    def is_valid(self, instance: object) -> bool: ...
    def iter_errors(self, instance: object) -> "_Faults": ...


class _Library(Protocol):
    def extend(self, validator: object, validators: object) -> Callable[[object], _Validator]: ...


def _validator(schema: dict[str, JsonValue]) -> Callable[[bytes], JsonValue]:
    try:
        from jsonschema import Draft202012Validator, SchemaError, validators  # noqa: PLC0415 - an extra
    except ImportError:
        return msgspec.json.decode
    kind = validators.validator_for(schema, default=Draft202012Validator)
    place = None
    try:
        kind.check_schema(schema)
    except SchemaError as exc:
        place = exc.json_path
    if place is not None:
        raise OptionError(_SCHEMA, f"is no JSON Schema, because of {place}")
    library = cast("_Library", validators)

    def read(given: bytes) -> JsonValue:
        value: JsonValue = msgspec.json.decode(given)
        errors = library.extend(kind, _unions())(schema).iter_errors(value)
        found = [
            _Misfit(f"`{it.validator}` is not kept", it.json_path) for it in islice(errors, _MAX_PROBLEMS)
        ]
        if found:
            raise _MisfitError(found)
        return value

    return read


def _unions() -> "Mapping[str, Callable[[_Validator, list[JsonValue], JsonValue, object], _Faults]]":
    # The library's own take time that multiplies with the depth of unions in unions: they try each branch,
    # and in it all that is below. These ask of each pair of branch and value only once whether they fit.
    from jsonschema import ValidationError  # noqa: PLC0415 - an extra

    known: dict[tuple[int, int], bool] = {}

    def fits(validator: _Validator, branch: JsonValue, value: JsonValue) -> bool:
        pair = (id(branch), id(value))
        if pair not in known:
            known[pair] = validator.evolve(schema=branch).is_valid(value)
        return known[pair]

    def any_of(validator: _Validator, branches: list[JsonValue], value: JsonValue, _: object) -> "_Faults":
        if not any(fits(validator, branch, value) for branch in branches):
            yield ValidationError("fits none")

    def one_of(validator: _Validator, branches: list[JsonValue], value: JsonValue, _: object) -> "_Faults":
        if sum(fits(validator, branch, value) for branch in branches) != 1:
            yield ValidationError("does not fit exactly one")

    return {"anyOf": any_of, "oneOf": one_of}


def _misfits(error: Exception) -> Sequence[_Misfit]:
    match error:
        case _MisfitError(found=found):
            return found
        case msgspec.ValidationError():
            at = _AT.search(str(error))
            return [_Misfit(without_values(_AT.sub("", str(error))), at[1] if at else "$")]
        case msgspec.DecodeError() | UnicodeError():
            return [_Misfit("not JSON")]
        case RecursionError():
            return [_Misfit("nested too deeply")]
        case _:
            return _model_misfits(error)


def _model_misfits(error: Exception) -> Sequence[_Misfit]:
    errors: object = getattr(error, "errors", None)
    if not callable(errors):
        return [_Misfit(str(error))]
    told: object = errors(include_url=False, include_context=False, include_input=False)
    return [_misfit(problem) for problem in msgspec.convert(told, list[_ModelProblem])]


def _misfit(problem: _ModelProblem) -> _Misfit:
    # A field that nobody asked for has a name of the model's own making.
    places = problem.loc[:-1] if problem.type == "extra_forbidden" else problem.loc
    path = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return _Misfit(_QUOTED_TAG.sub("Input tag found using", problem.msg), f"${path}")


def repair_prompt(error: InvalidOutputError) -> str:
    """How to ask for a final response again."""
    return (
        f"Your last message cannot be used: {error.problem}. Answer again, in full, with JSON that follows "
        "the schema and nothing else. The work itself is done: run no commands and change no files."
    )


def read_only(options: ThreadOptions) -> ThreadOptions:
    """The options of a thread for a turn that must not change anything."""
    return msgspec.structs.replace(
        options,
        sandbox="read-only",
        # What the sandbox has no use for, or would not go with it.
        additional_directories=(),
        network_access=None,
        approve_for_me=False,
        approval_policy=None if options.approve_for_me else options.approval_policy,
        worktree=False,
    )


def joined(first: TurnResult, second: TurnResult) -> TurnResult:
    """What two turns came to of which the second repeated the end of the first."""
    ran, more = first.timings, second.timings
    last_event_seconds = more.last_event_seconds
    return msgspec.structs.replace(
        second,
        items=first.items + second.items,
        usage=TurnUsage(thread=second.usage.thread, turn=_sum(first.usage.turn, second.usage.turn)),
        side_effects=max(first.side_effects, second.side_effects, key=_BY_SEVERITY.index),
        notices=first.notices + second.notices,
        unknown_events=first.unknown_events + second.unknown_events,
        noise_lines=first.noise_lines + second.noise_lines,
        dropped_events=first.dropped_events + second.dropped_events,
        timings=Timings(
            first_event_seconds=ran.first_event_seconds,
            last_event_seconds=None if last_event_seconds is None else ran.exit_seconds + last_event_seconds,
            exit_seconds=ran.exit_seconds + more.exit_seconds,
        ),
        leftovers=Leftovers(
            killed=first.leftovers.killed + second.leftovers.killed,
            kept=first.leftovers.kept + second.leftovers.kept,
            proven=first.leftovers.proven and second.leftovers.proven,
        ),
    )


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return None
    used = {name: getattr(one, name) + getattr(other, name) for name in Usage.__struct_fields__}
    return Usage(**used)
