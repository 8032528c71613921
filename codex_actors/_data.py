# The base of everything that crosses a room: frozen, keyword-only, cheap. Its repr hides what
# belongs to the user (prompts, replies, keys), because reprs end up in logs and tracebacks.

from typing import ClassVar

import msgspec


class Data(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An immutable record whose repr keeps the user's text to itself."""

    _private: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        fields = (f"{name}={self._shown(name)}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(fields)})"

    def _shown(self, name: str) -> str:
        value: object = getattr(self, name)
        if name not in self._private or not value:
            return repr(value)
        if isinstance(value, (str, bytes)):
            return f"<{len(value)} hidden>"
        return "<hidden>"
