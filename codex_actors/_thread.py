# What users ask: a conversation, one turn at a time.
#
# A prompt is kept in no local for longer than need be, because some show tracebacks with locals.

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import NoneType
from typing import TypeVar, get_args, overload

from msgspec.structs import replace

from codex_actors import errors
from codex_actors._output import Output, output_of_schema, output_of_type
from codex_actors._runner import Question, ThreadState, TurnRunner
from codex_actors._turn import ParsedTurn, Turn
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
from codex_actors.results import ParsedTurnResult, TurnResult

_T = TypeVar("_T")

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

    @overload
    async def run(
        self,
        input: Input,
        options: TurnOptions | None = None,
    ) -> TurnResult: ...
    @overload
    async def run(
        self,
        input: Input,
        options: TurnOptions | None = None,
        *,
        output_type: type[_T],
    ) -> ParsedTurnResult[_T]: ...
    async def run(
        self,
        input: Input,  # noqa: A002 - Codex's word
        options: TurnOptions | None = None,
        *,
        output_type: type[object] | None = None,
    ) -> TurnResult:
        """Ask, wait for the turn to complete, and return what it came to, with all of its items.

        Cancelling interrupts Codex, gracefully first, and returns when nothing of the turn lives any more.

        Args:
            input: Text, or parts of text and local images.
            options: What holds for this turn only.
            output_type: What the final response has to be: a dataclass, `msgspec.Struct`, TypedDict or
                pydantic model. The result's `ParsedTurnResult.parsed` is an instance of it. None leaves it
                text, or what `TurnOptions.output_schema` says, and then the result is a `JsonTurnResult`.

        Raises:
            OptionError: The input, an option or the type cannot work; nothing was started.
            ThreadError: The thread is busy, unknown, or another one was started.
            SetupError: This machine or configuration cannot run Codex.
            TurnError: The turn did not complete; the error carries what it had done.
            InvalidOutputError: The turn completed, and its final response is not what was asked for, even
                after `TurnOptions.output_retries`.
        """
        try:
            question = self._question(input, options, None, output_type)
        finally:
            del input
        async with self._runner.open_turn(self._state, question) as turn:
            return await turn.wait_result()

    @overload
    def run_streamed(
        self,
        input: Input,
        options: TurnOptions | None = None,
    ) -> AbstractAsyncContextManager[Turn]: ...
    @overload
    def run_streamed(
        self,
        input: Input,
        options: TurnOptions | None = None,
        *,
        output_type: type[_T],
    ) -> AbstractAsyncContextManager[ParsedTurn[_T]]: ...
    @forgetful
    def run_streamed(
        self,
        input: Input,  # noqa: A002 - Codex's word
        options: TurnOptions | None = None,
        *,
        output_type: type[object] | None = None,
    ) -> AbstractAsyncContextManager[Turn]:
        """Ask and follow the turn: ``async with thread.run_streamed(...) as turn: async for event in turn``.

        Leaving the block early interrupts Codex as cancelling does; when the block is left, nothing of the
        turn lives any more. The result keeps the last 32 items.

        Args:
            input: Text, or parts of text and local images.
            options: What holds for this turn only.
            output_type: What the final response has to be, as for `run`; it is never asked for again.

        Raises:
            OptionError: The input, an option or the type cannot work; nothing was started.
            ThreadBusyError: The thread is busy.
        """
        question = self._question(input, options, _STREAMED_ITEMS, output_type)
        return self._runner.open_turn(self._state, question)

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
    def _question(
        self,
        given: Input,
        options: TurnOptions | None,
        keep_items: int | None,
        output_type: type[object] | None,
    ) -> Question:
        _check_directories(self.options)
        check_kind(given, "input", str, Sequence)
        check_kind(options, "options", TurnOptions, NoneType)
        prompt, images = split_input(given)
        asked = options or _NO_OPTIONS
        output = _output(asked, output_type)
        return Question(
            prompt=_checked_prompt(prompt),
            images=tuple(map(_checked_image, images)),
            options=replace(asked, output_schema=output.strict_schema) if output else asked,
            keep_items=keep_items,
            output=output,
            output_retries=self._output_retries(asked, output, streamed=keep_items is not None),
        )

    def _output_retries(self, options: TurnOptions, output: object, *, streamed: bool) -> int:
        reasons = {
            "has nothing to ask for again: there is neither `output_schema` nor `output_type`": not output,
            "is for `run`: a streamed turn is never asked again": streamed,
            "is not for ephemeral threads, which cannot be resumed": self.options.ephemeral,
        }
        against = [reason for reason, holds in reasons.items() if holds]
        if against and options.output_retries:
            raise errors.OptionError("TurnOptions.output_retries", against[0])
        if options.output_retries is None:
            return 0 if against else 1
        return options.output_retries


def _output(options: TurnOptions, output_type: type[object] | None) -> Output[object] | None:
    if output_type is None:
        return None if options.output_schema is None else output_of_schema(options.output_schema)
    if options.output_schema is not None:
        raise errors.OptionError("output_type", "cannot be given with `TurnOptions.output_schema`")
    return output_of_type(output_type)


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
