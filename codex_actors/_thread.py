# What users ask: a conversation, one turn at a time.
#
# A prompt is kept in no local for longer than need be, because some show tracebacks with locals.

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import NoneType
from typing import get_args

from codex_actors import errors
from codex_actors._runner import Question, ThreadState, TurnRunner
from codex_actors._turn import Turn
from codex_actors.backends import ReviewChanges
from codex_actors.options import (
    CustomReview,
    Input,
    ReviewTarget,
    ThreadOptions,
    TurnOptions,
    forgetful,
    split_input,
)
from codex_actors.results import TurnResult

# What a streamed turn's result keeps of its items: enough to see how it ended.
_STREAMED_ITEMS = 32
_NO_OPTIONS = TurnOptions()
# Codex's own limit, 0.163 to 0.169. Beyond it, Codex begins the thread and exits without another event.
_MAX_INPUT_CHARACTERS = 1_048_576


class Thread:
    """A conversation with Codex; `Codex.start_thread` and its kin hand it out.

    A thread has one turn at a time, in this runtime and in every process that uses this library; a
    second one waits or is refused, as `CodexOptions.when_busy` says.
    """

    def __init__(self, runner: TurnRunner, state: ThreadState) -> None:
        self._runner = runner
        self._state = state

    @property
    def id(self) -> str | None:
        """The thread's id, by which it can be resumed; None before its first turn has started."""
        return self._state.thread_id

    @property
    def options(self) -> ThreadOptions:
        """What holds for every turn of the thread."""
        return self._state.options

    async def run(self, input: Input, options: TurnOptions | None = None) -> TurnResult:  # noqa: A002 - Codex's word
        """Ask, wait for the turn to complete, and return what it came to, with all of its items.

        Cancelling interrupts Codex, gracefully first, and returns when nothing of the turn lives any more.

        Args:
            input: Text, or parts of text and local images.
            options: What holds for this turn only.

        Raises:
            OptionError: The input or an option cannot work; nothing was started.
            ThreadError: The thread is busy, unknown, or another one was started.
            SetupError: This machine or configuration cannot run Codex.
            TurnError: The turn did not complete; the error carries what it had done.
        """
        try:
            question = self._question(input, options, None)
        finally:
            del input
        async with self._runner.open_turn(self._state, question) as turn:
            return await turn.wait_result()

    @forgetful
    def run_streamed(
        self,
        input: Input,  # noqa: A002 - Codex's word
        options: TurnOptions | None = None,
    ) -> AbstractAsyncContextManager[Turn]:
        """Ask and follow the turn: ``async with thread.run_streamed(...) as turn: async for event in turn``.

        Leaving the block early interrupts Codex as cancelling does; when the block is left, nothing of the
        turn lives any more. The result keeps the last 32 items.

        Args:
            input: Text, or parts of text and local images.
            options: What holds for this turn only.

        Raises:
            OptionError: The input or an option cannot work; nothing was started.
            ThreadBusyError: The thread is busy.
        """
        return self._runner.open_turn(self._state, self._question(input, options, _STREAMED_ITEMS))

    async def review(self, target: ReviewTarget, options: TurnOptions | None = None) -> TurnResult:
        """Have code reviewed, with this thread's options; the findings are the final response.

        Codex reviews in a conversation of its own: this thread neither knows of the review nor is it
        known to it, and need not be free. Codex counts no tokens for reviews.

        Args:
            target: What to review.
            options: What holds for this turn only.

        Raises:
            OptionError: An option cannot work; nothing was started.
            SetupError: This machine or configuration cannot run Codex.
            TurnError: The review did not complete.
        """
        try:
            opening = self._open_review(target, options, None)
        finally:
            del target
        async with opening as turn:
            return await turn.wait_result()

    @forgetful
    def review_streamed(
        self, target: ReviewTarget, options: TurnOptions | None = None
    ) -> AbstractAsyncContextManager[Turn]:
        """Have code reviewed, as `review` does, and follow the turn, as with `run_streamed`.

        Args:
            target: What to review.
            options: What holds for this turn only.

        Raises:
            OptionError: An option cannot work; nothing was started.
        """
        return self._open_review(target, options, _STREAMED_ITEMS)

    @forgetful
    def _open_review(
        self, target: ReviewTarget, options: TurnOptions | None, keep_items: int | None
    ) -> AbstractAsyncContextManager[Turn]:
        _check_directories(self.options)
        check_kind(target, "target", *get_args(ReviewTarget))
        check_kind(options, "options", TurnOptions, NoneType)
        own = self._runner.thread_state(ReviewChanges(target=target), self.options)
        question = Question(
            prompt=_instructions(target),
            images=(),
            options=options or _NO_OPTIONS,
            keep_items=keep_items,
        )
        return self._runner.open_turn(own, question)

    @forgetful
    def _question(self, given: Input, options: TurnOptions | None, keep_items: int | None) -> Question:
        _check_directories(self.options)
        check_kind(given, "input", str, Sequence)
        check_kind(options, "options", TurnOptions, NoneType)
        prompt, images = split_input(given)
        return Question(
            prompt=_checked_prompt(prompt),
            images=tuple(map(_checked_image, images)),
            options=options or _NO_OPTIONS,
            keep_items=keep_items,
        )


def check_kind(value: object, field: str, *kinds: type) -> None:
    """Refuse what no type checker would let through, before it fails somewhere inside.

    Raises:
        OptionError: It is of none of these kinds.
    """
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise errors.OptionError(field, f"must be {wanted}, not {type(value).__name__}")


def _instructions(target: ReviewTarget) -> str:
    if not isinstance(target, CustomReview):
        return ""
    return _checked_text(target.instructions, "CustomReview.instructions")


def _checked_prompt(prompt: str) -> str:
    if len(prompt) > _MAX_INPUT_CHARACTERS:
        raise errors.OptionError(
            "input",
            f"holds {len(prompt)} characters, and Codex takes at most {_MAX_INPUT_CHARACTERS}: "
            "put what is long into a file and let Codex read that",
        )
    return _checked_text(prompt, "input")


def _checked_text(text: str, field: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise errors.OptionError(field, "holds half a surrogate pair, which is no text") from None
    return text


def _checked_image(path: str) -> str:
    # Codex itself goes on without an image that it cannot read, and says nothing.
    if not os.access(path, os.R_OK) or not Path(path).is_file():
        raise errors.OptionError("LocalImage.path", f"there is no readable file {path}")
    return os.path.abspath(path)  # noqa: PTH100 - the path as it was named, only absolute


def _check_directories(options: ThreadOptions) -> None:
    named = [
        ("cwd", options.cwd),
        *(("additional_directories", path) for path in options.additional_directories),
    ]
    for field, path in named:
        if path is not None and not Path(path).is_dir():
            raise errors.OptionError(f"ThreadOptions.{field}", f"there is no directory {os.fspath(path)}")
