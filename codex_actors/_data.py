# The base of everything that crosses a room: frozen, keyword-only, cheap. Its repr hides what
# belongs to the user (prompts, replies, keys), because reprs end up in logs and tracebacks.

from typing import ClassVar

import msgspec


class Data(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An immutable record whose repr keeps the user's text to itself."""

    _private: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        fields = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(fields)})"

    # rich asks for this instead of the repr, and structlog shows tracebacks, locals included, through rich.
    def __rich_repr__(self) -> list[tuple[str, object]]:
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [
            (name, _Hidden(value) if value and name in self._private else value) for name, value in fields
        ]


class _Hidden:
    """Stands in a repr for what is not to be read there."""

    def __init__(self, value: object) -> None:
        self._size = f"{len(value)} " if isinstance(value, (str, bytes)) else ""

    def __repr__(self) -> str:
        return f"<{self._size}hidden>"
