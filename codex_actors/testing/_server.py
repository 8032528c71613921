# The scripted model: which scenario answers what (`Scenario`), and the loopback server around them.
# One task per connection, all in the server's nursery; a connection whose other side leaves ends at
# once, even in the middle of a reply that is held back, so a killed Codex leaves no socket behind.

import itertools
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias, assert_never

import h11
import msgspec
import trio

from codex_actors._data import Data
from codex_actors.testing import _sse
from codex_actors.testing._http import HttpConnection, Request
from codex_actors.testing._replies import (
    Answer,
    Broken,
    Completed,
    Failed,
    HttpError,
    Incomplete,
    Item,
    Part,
    Pause,
    Reply,
    http_error,
    reply,
)
from codex_actors.testing._requests import ModelRequest, RequestLog

# More than any honest test asks; a client that never stops asking is told so.
MAX_REQUESTS = 100_000

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_TARGET = re.compile(r"/s/(?P<scenario>[A-Za-z0-9._-]+)/v1/(?P<endpoint>\w+)(\?.*)?")

Said: TypeAlias = Item | Reply | HttpError | Failed | Incomplete | Broken
Step: TypeAlias = Said | Callable[[ModelRequest], Said]
Pattern: TypeAlias = str | re.Pattern[str] | Callable[[ModelRequest], bool]


class On(Data, frozen=True, kw_only=True):
    """What the model says when asked something; made by `on`."""

    pattern: Pattern
    steps: tuple[Step, ...]


def on(pattern: Pattern, *steps: Step) -> On:
    """Answers the turns whose prompt matches, each turn from the first step on.

    So any number of turns, also at the same time, may ask for the same.

    Args:
        pattern: Text that the prompt contains, a compiled regular expression that is found in it, or a
            function that looks at the whole request.
        *steps: What is said to the first, second, ... request of one turn.
    """
    return On(pattern=pattern, steps=steps)
