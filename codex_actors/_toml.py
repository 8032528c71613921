# Python values as TOML, on one line: the form that `codex --config key=value` takes. The standard
# library reads TOML but does not write it. Beside that, how to look into what it read.

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import TypeAlias, TypeGuard

from codex_actors.errors import OptionError

Table: TypeAlias = Mapping[object, object]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LEAST, _MOST = -(2**63), 2**63 - 1


def encode(value: object, path: str) -> str:
    """Writes a value as TOML.

    Args:
        value: A string, number, boolean, date, time, sequence or mapping, nested to any depth.
        path: Where the value comes from, for the error.

    Raises:
        OptionError: TOML cannot hold the value; its field is the path of the part that does not fit.
    """
    if is_mapping(value):
        return f"{{{', '.join(_pair(key, item, path) for key, item in value.items())}}}"
    if is_sequence(value):
        return f"[{', '.join(encode(item, f'{path}[{at}]') for at, item in enumerate(value))}]"
    return _scalar(value, path)


def is_mapping(value: object) -> TypeGuard[Table]:
    """Whether a value is a table."""
    return isinstance(value, Mapping)


def is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value is an array."""
    return isinstance(value, (list, tuple))


def table(value: object) -> Table:
    """A value if it is a table, else an empty one."""
    return value if is_mapping(value) else {}


def array(value: object) -> Sequence[object]:
    """A value if it is an array, else an empty one."""
    return value if is_sequence(value) else ()


def is_bare(key: str) -> bool:
    """Whether a key needs no quotes, and so may be part of a dotted path."""
    return _BARE_KEY.fullmatch(key) is not None


def _pair(key: object, value: object, path: str) -> str:
    if not isinstance(key, str):
        raise OptionError(path, f"has a key that is a {type(key).__name__}: TOML keys are strings")
    inner = f"{path}.{key}"
    return f"{key if is_bare(key) else _string(key, inner)} = {encode(value, inner)}"


def _scalar(value: object, path: str) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value, path)
        case int() if _LEAST <= value <= _MOST:
            return str(int(value))
        case float():
            return repr(float(value))
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            what = "an integer of more than 64 bits" if isinstance(value, int) else type(value).__name__
            raise OptionError(path, f"is {what}, which TOML does not have")


def _string(text: str, path: str) -> str:
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise OptionError(path, "holds half a surrogate pair, which is no text")
    # JSON's escapes are TOML's; TOML wants DEL escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
