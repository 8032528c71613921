# The scripted model: which scenario answers what. All of it is decided without I/O; the connections
# are in _http.py, which is imported only when a server is opened, because h11 comes with an extra.

import itertools
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import trio

from codex_actors._data import Data
from codex_actors._nursery import open_private_nursery
from codex_actors.testing._replies import (
    Answer,
    Broken,
    Completed,
    Ending,
    Failed,
    HttpAnswer,
    Incomplete,
    Item,
    Reply,
    http_error,
    reply,
)
from codex_actors.testing._requests import ModelRequest, RequestLog

_NAME = re.compile(r"[A-Za-z0-9._-]+")

Said: TypeAlias = Item | Answer | Ending
Step: TypeAlias = Said | Callable[[ModelRequest], Said]
Pattern: TypeAlias = str | re.Pattern[str] | Callable[[ModelRequest], bool]


class On(Data, frozen=True, kw_only=True):
    """What the model says when asked something; made by `on`.

    Attributes:
        pattern: What the prompt has to contain, or the request to be.
        steps: What is said to the first, second, ... request of a turn.
    """

    pattern: Pattern
    steps: tuple[Step, ...]

    def matches(self, request: ModelRequest) -> bool:
        """Whether this is what the request asks."""
        if isinstance(self.pattern, str):
            return self.pattern in request.prompt
        if isinstance(self.pattern, re.Pattern):
            return self.pattern.search(request.prompt) is not None
        return self.pattern(request)


def on(pattern: Pattern, *steps: Step) -> On:
    """Answers the turns whose prompt matches; every turn hears the steps from the first one on.

    So any number of turns may ask for the same, also at the same time.

    Args:
        pattern: Text that the prompt contains, a compiled regular expression that is found in it, or a
            function that looks at the whole request.
        *steps: What is said to the first, second, ... request of a turn.
    """
    return On(pattern=pattern, steps=steps)


class Scenario:
    """A script under a URL of its own; made by `ModelServer.script`.

    Attributes:
        name: Its name, which is part of the URL.
        url: The base URL to give to Codex.
        requests: What the model was asked here, in order; kept until the server closes.
    """

    def __init__(self, name: str, url: str, steps: tuple[Step | On, ...]) -> None:
        self.name = name
        self.url = url
        self.requests: RequestLog = RequestLog()
        self._rules = [step for step in steps if isinstance(step, On)]
        self._steps = tuple(step for step in steps if not isinstance(step, On))
        self._said: Counter[tuple[int, str]] = Counter()

    def answer(self, request: ModelRequest) -> Answer:
        """Takes the next step of the script."""
        self.requests.append(request)
        place, steps = self._find(request)
        said = self._said[place]
        self._said[place] += 1
        if said >= len(steps):
            return http_error(
                400, f"scenario {self.name!r} ran out: {len(steps)} replies were scripted, this is one more"
            )
        return _as_answer(steps[said], request)

    def _find(self, request: ModelRequest) -> tuple[tuple[int, str], tuple[Step, ...]]:
        for number, rule in enumerate(self._rules):
            if rule.matches(request):
                return (number, request.turn_id), rule.steps
        return (-1, ""), self._steps


class ModelServer:
    """A model that says what a test wants it to say, at a URL that Codex can be pointed to.

    Attributes:
        origin: Scheme, host and port.
        requests: Every HTTP request to any scenario, also those that asked for no reply.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.requests: RequestLog = RequestLog()
        self._scenarios: dict[str, Scenario] = {}

    def script(self, name: str, *steps: Step | On) -> Scenario:
        """Writes what the model says under one URL.

        Every step is one reply, and a reply that calls no tool ends the turn: what belongs together, such
        as `reasoning` and the command it leads to, goes into one `reply`.

        Args:
            name: Letters, digits, dot, dash, underscore; each name once.
            *steps: What is said to the first, second, ... request: an item, several items or pauses in a
                `reply`, an `http_error`, an ending such as `failed` or `cut`, or a function of the
                request that returns one of these. Turns whose prompt matches an `on` hear its steps
                instead. When the steps run out, Codex gets an HTTP 400 that says so.

        Raises:
            ValueError: The name is taken or is no name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"scenario name {name!r}: use letters, digits, dot, dash and underscore only")
        if name in self._scenarios:
            raise ValueError(f"scenario {name!r} is already scripted: choose another name")
        scenario = Scenario(name, f"{self.origin}/s/{name}/v1", steps)
        self._scenarios[name] = scenario
        return scenario

    def answer(self, request: ModelRequest) -> Answer:
        """Decides what a request gets; the connections ask this."""
        self.requests.append(request)
        scenario = self._scenarios.get(request.scenario)
        if scenario is None:
            return http_error(
                400, f"no scenario is scripted at {request.path}; there are {sorted(self._scenarios)}"
            )
        if "upgrade" in request.headers:
            return http_error(426, "the scripted model has no WebSocket, use plain HTTP")
        if "content-encoding" in request.headers:
            return http_error(
                415, "the scripted model reads no compressed bodies: use an API key, not a ChatGPT login"
            )
        match request.method, request.endpoint:
            case "GET", "models":
                return _NO_MODELS
            case "POST", "responses" if request.body:
                return scenario.answer(request)
            case _:
                return http_error(400, f"the scripted model cannot answer {request.method} {request.path}")


@asynccontextmanager
async def open_model_server() -> AsyncGenerator[ModelServer]:
    """Opens a scripted model on a free port of 127.0.0.1; leaving closes it and every connection.

    Raises:
        ModuleNotFoundError: h11 is not installed; it comes with ``codex-actors[testing]``.

    Example::

        async with open_model_server() as model:
            fix = model.script("fix", shell("cat bug.py"), message("It is a typo."))
            home = codex_home(path, fix.url)
    """
    try:
        from codex_actors.testing._http import serve  # noqa: PLC0415 - see the head of this file
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "the scripted model needs h11: pip install 'codex-actors[testing]'"
        ) from missing
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = ModelServer(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
    handler = partial(serve, server.answer, itertools.count(1))
    async with open_private_nursery() as nursery:
        # Not serve_listeners' own nursery: what goes wrong in a script should come out as itself.
        await nursery.start(partial(trio.serve_listeners, handler, [listener], handler_nursery=nursery))
        yield server


def _as_answer(step: Step, request: ModelRequest) -> Answer:
    if callable(step):
        return _as_answer(step(request), request)
    if isinstance(step, Reply | HttpAnswer):
        return step
    if isinstance(step, Completed | Failed | Incomplete | Broken):
        return reply(ending=step)
    return reply(step)


# Codex asks for the models only under a ChatGPT login, and then also accepts that there are none.
_NO_MODELS = HttpAnswer(status=200, body='{"object": "list", "data": [], "models": []}')
