# What Codex asked: one record per HTTP request. The questions tests ask of it are answered on
# demand, through structs that name only what they need, so a request of a newer Codex is no error.

import re
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import ClassVar, cast

import msgspec
import trio

from codex_actors._data import Data

_PATH = re.compile(r"/s/(?P<scenario>[^/?]+)/v1/(?P<endpoint>[^?]*)")

# Codex's own words to the model about a command that was left running.
_LEFT_RUNNING = re.compile(r"session ID (\d+)")


class _Content(msgspec.Struct):
    text: str = ""
    image_url: str = ""


class _InputItem(msgspec.Struct):
    type: str = ""
    role: str = ""
    content: list[_Content] | str | None = None
    output: list[_Content] | str | None = None


class _Tool(msgspec.Struct):
    type: str = ""
    name: str = ""


class _Body(msgspec.Struct):
    model: str = ""
    instructions: str | None = None
    input: list[_InputItem] = []
    tools: list[_Tool] = []


class _TurnMetadata(msgspec.Struct):
    turn_id: str = ""


class ModelRequest(Data, frozen=True, kw_only=True):
    """One HTTP request that Codex made; its repr shows neither key nor prompt.

    Attributes:
        method: The HTTP method.
        path: The path with its query: ``/s/SCENARIO/v1/ENDPOINT``.
        headers: The request headers, names in lower case.
        body: The JSON body; empty for a request without one.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, object] = msgspec.field(default_factory=dict[str, object])

    _private: ClassVar = frozenset({"headers", "body"})

    @property
    def scenario(self) -> str:
        """The name of the scenario that is asked; empty if the path has none."""
        found = _PATH.match(self.path)
        return found["scenario"] if found else ""

    @property
    def endpoint(self) -> str:
        """What is asked for, such as ``responses`` or ``models``; empty if the path names no scenario."""
        found = _PATH.match(self.path)
        return found["endpoint"] if found else ""

    @property
    def prompt(self) -> str:
        """The latest text that a user said, which is the prompt of the turn that asks."""
        said = [item for item in self._read.input if item.role == "user"]
        return _text(said[-1].content) if said else ""

    @property
    def images(self) -> tuple[str, ...]:
        """The images of the latest user message, as ``data:`` URLs."""
        said = [item for item in self._read.input if item.role == "user"]
        parts = said[-1].content if said else None
        return tuple(part.image_url for part in parts or () if isinstance(part, _Content) and part.image_url)

    @property
    def tool_outputs(self) -> tuple[str, ...]:
        """What the tools answered so far, in the whole conversation."""
        return tuple(_text(item.output) for item in self._read.input if item.type.endswith("_output"))

    @property
    def session_id(self) -> int:
        """The number of the command that was last left running, as `write_stdin` wants it."""
        numbers = [match[1] for output in self.tool_outputs for match in _LEFT_RUNNING.finditer(output)]
        if not numbers:
            raise ValueError("no tool output so far says that a command still runs")
        return int(numbers[-1])

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return self._read.model

    @property
    def instructions(self) -> str:
        """All that the developer says to the model, such as the system prompt, skills, permissions.

        Newer models get it as input messages, older ones as a field of its own.
        """
        said = [_text(item.content) for item in self._read.input if item.role == "developer"]
        return "\n".join([self._read.instructions or "", *said]).strip()

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools offered to the model; for tools without a name, their type."""
        return tuple(tool.name or tool.type for tool in self._read.tools)

    @property
    def thread_id(self) -> str:
        """The thread that asks; empty if the request does not say."""
        return self.headers.get("thread-id", "")

    @property
    def turn_id(self) -> str:
        """The turn that asks; empty if the request does not say."""
        return msgspec.json.decode(
            self.headers.get("x-codex-turn-metadata", "{}"), type=_TurnMetadata
        ).turn_id

    def field(self, *path: str | int) -> object:
        """Looks up a value of the body, such as ``field("reasoning", "effort")``; None if it is not there."""
        return reduce(_member, path, cast("object", self.body))

    @property
    def _read(self) -> _Body:
        return msgspec.convert(self.body, _Body)


class RequestLog:
    """Requests in the order they came; grows while the server is open."""

    def __init__(self) -> None:
        self._requests: list[ModelRequest] = []
        self._waiting = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[ModelRequest]:
        return iter(self._requests)

    def __getitem__(self, index: int) -> ModelRequest:
        return self._requests[index]

    async def wait(self, count: int) -> ModelRequest:
        """Waits until `count` requests have come and returns that one; put a deadline around it."""
        await trio.lowlevel.checkpoint()
        while len(self._requests) < count:
            await self._waiting.park()
        return self._requests[count - 1]

    def append(self, request: ModelRequest) -> None:
        """Adds a request and wakes who waits for it."""
        self._requests.append(request)
        self._waiting.unpark_all()


def _text(content: list[_Content] | str | None) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content or () if part.text)


def _member(value: object, name: str | int) -> object:
    try:
        return cast("Mapping[str | int, object]", value)[name]
    except (LookupError, TypeError):
        return None
