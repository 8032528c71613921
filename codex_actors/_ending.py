# What makes a supervisor end, and so leaves by its block. Much can go wrong at the same time, and one
# exception leaves: the gravest, of those that are as grave the first. The others are in its context.

from collections.abc import Iterator
from typing import TypeGuard, cast

import trio

from codex_actors.errors import RestartLimitError


class Ending:
    """All that a supervisor met that is to make it end.

    Attributes:
        error: What its block is to raise; None is nothing.
    """

    __slots__ = ("_interrupts", "error")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._interrupts = dict[int, KeyboardInterrupt]()

    def meet(self, error: BaseException) -> None:
        """Take an exception into account, however often it comes by."""
        self._interrupts |= {id(leaf): leaf for leaf in _leaves(error) if isinstance(leaf, KeyboardInterrupt)}
        first = self.error
        if any(leaf is first for leaf in _leaves(error)):  # in a group of the user's, perhaps
            self.error = error
        elif _gravity(error) > _gravity(first):
            self.error = error
            _remember(first, by=error)
        elif first is not None:
            _remember(error, by=first)

    @property
    def is_urgent(self) -> bool:
        """Whether Ctrl-C was pressed a second time: whoever is at the keyboard means it."""
        return len(self._interrupts) > 1


def ends_program(error: BaseException | None) -> TypeGuard[BaseException]:
    """Whether an exception is no failure of whoever raised it, but the end of all, such as Ctrl-C."""
    return not isinstance(error, Exception) and _gravity(error) == 3  # noqa: PLR2004 - the gravest there is


def _gravity(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, RestartLimitError):
        return 1  # it only says why the block was cancelled
    return max(map(_gravity_of_leaf, _leaves(error)))


def _gravity_of_leaf(error: BaseException) -> int:
    if isinstance(error, trio.Cancelled):
        return 0
    return 2 if isinstance(error, Exception) else 3


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(part)
    else:
        yield error


def _remember(other: BaseException | None, *, by: BaseException) -> None:
    """Put an exception into the context of another one, where that has room; never in a circle."""
    known = list(_context(by))
    if _gravity(other) and not any(one is two for one in known for two in _context(other)):
        known[-1].__context__ = other


def _context(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__
