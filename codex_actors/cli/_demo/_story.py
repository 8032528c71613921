# What the demo is about: a project with a bug, and what is asked of five turns. The scripted model says
# what a good one would; the real one gets the same prompts.

import shlex
import sys
from dataclasses import dataclass
from typing import Literal

import msgspec

from codex_actors._data import Data
from codex_actors.testing import Item, On, Step, apply_patch, message, on, pause, reply, shell

PRICES = '''\
"""What a basket costs."""


def total(prices):
    """Add up prices, given in cents."""
    result = 0
    for price in prices[1:]:
        result += price
    return result
'''

TEST_PRICES = """\
import unittest

from prices import total


class TotalTest(unittest.TestCase):
    def test_an_empty_basket_costs_nothing(self):
        self.assertEqual(total([]), 0)

    def test_every_price_counts(self):
        self.assertEqual(total([250, 100, 50]), 400)


if __name__ == "__main__":
    unittest.main()
"""

FILES = {"prices.py": PRICES, "test_prices.py": TEST_PRICES}
REPAIRED_FILE = "prices.py"

# -B: what a test run leaves behind should not be taken for what a turn did.
TEST = (sys.executable, "-B", "-m", "unittest", "-q")
_TEST = shlex.join(TEST)

_PATCH = """\
*** Begin Patch
*** Update File: prices.py
@@
-    for price in prices[1:]:
+    for price in prices:
*** End Patch"""

# As long as it takes to be cancelled or killed; far more than that, so that nothing else can end it.
_FOR_EVER = "sleep 600"

Fate = Literal["completes", "is cancelled", "is killed"]


@dataclass
class Finding:
    """A bug."""

    file: str
    line: int
    severity: Literal["low", "medium", "high"]


class Part(Data, frozen=True, kw_only=True):
    """One of the demo's turns.

    Attributes:
        name: What it is called.
        sandbox: What it may touch.
        prompt: What it is asked.
        script: What the scripted model says.
        fate: How it is to end.
        output_type: What its final response has to be; None is any text.
    """

    name: str
    sandbox: Literal["read-only", "workspace-write"]
    prompt: str
    script: tuple[Step, ...]
    fate: Fate = "completes"
    output_type: type[object] | None = None

    @property
    def rule(self) -> On:
        """The script, for the turn that asks for it."""
        return on(self.prompt, *self.script)

    def strikes_at(self, command: str) -> bool:
        """Whether this is the command at which it is to be cancelled or killed."""
        return self.fate != "completes" and _FOR_EVER in command


def _after(seconds: float, *said: Item) -> Step:
    # The real model takes its time as well, and people want to see what is going on.
    return reply(pause(seconds), *said)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


INSPECT = Part(
    name="inspect",
    sandbox="read-only",
    prompt="Look at prices.py and test_prices.py and say in two sentences why a test fails. Change nothing.",
    script=(
        _after(0.3, shell("cat prices.py")),
        _after(0.5, shell("git log --oneline")),
        _after(
            0.7,
            message("total() loops over prices[1:], so the first price never counts. Drop the slice."),
        ),
    ),
)
REPAIR = Part(
    name="repair",
    sandbox="workspace-write",
    prompt=f"Run `{_TEST}`, repair prices.py so that the tests pass, and run them again to make sure.",
    script=(
        _after(0.3, shell(_TEST)),
        _after(0.7, apply_patch(_PATCH)),
        _after(0.5, shell(_TEST)),
        _after(0.4, message("The first price was left out; now every price counts and the tests pass.")),
    ),
)
REPORT = Part(
    name="report",
    sandbox="read-only",
    prompt="Find the line of prices.py that has the bug. Report the file as it is named, and the line.",
    script=(
        _after(0.5, shell("grep -n for prices.py")),
        _after(1.2, message(_json(Finding(file="prices.py", line=7, severity="high")))),
    ),
    output_type=Finding,
)
CANCEL = Part(
    name="cancel",
    sandbox="read-only",
    prompt=f"Run `ls`, then `{_FOR_EVER}`, and say what happened.",
    script=(_after(0.4, shell("ls")), _after(0.9, shell(_FOR_EVER)), message("It took ten minutes.")),
    fate="is cancelled",
)
KILL = Part(
    name="kill",
    sandbox="read-only",
    prompt=f"Run `date`, then `{_FOR_EVER}`, and say how you slept.",
    script=(
        _after(0.2, message("First I look at the clock."), shell("date")),
        _after(0.3, shell(_FOR_EVER)),
        message("Like a log."),
    ),
    fate="is killed",
)
PARTS = (INSPECT, REPAIR, REPORT, CANCEL, KILL)
