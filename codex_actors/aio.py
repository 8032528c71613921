"""Supervised Codex turns for programs on asyncio: the same names, to be awaited there.

Example::

    from codex_actors import ThreadOptions
    from codex_actors.aio import Codex

    async with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="read-only"))
        result = await thread.run("What does this repository do?")
        print(result.final_response)

Options, events, results and errors are those of `codex_actors`, and so are the guarantees; trio runs in a
thread of its own. Cancelling a task (`asyncio.timeout` does it too) interrupts the turn that the task waits
for, and the task ends when nothing of the turn lives any more. Several loops may share a runtime.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar, cast, overload

from codex_actors import _codex, _thread, _turn
from codex_actors._bridge import Answer, Events, Host, Job, Work, asking, streaming
from codex_actors._runner import CodexStatistics
from codex_actors.backends import Backend
from codex_actors.events import Event
from codex_actors.options import (
    CodexOptions,
    Input,
    LastThread,
    ReviewTarget,
    ThreadName,
    ThreadOptions,
    TurnOptions,
    forgetful,
)
from codex_actors.results import ParsedTurnResult, TurnResult
from codex_actors.telemetry import Telemetry

__all__ = ["Codex", "ParsedTurn", "Thread", "Turn"]

_T = TypeVar("_T")


class Codex:
    """The runtime: open it with ``async with``, start threads, run turns.

    Leaving the block ends every turn that still runs, gracefully first; when it is left, nothing of any
    turn lives any more. A runtime that is still open when it is forgotten, or when the interpreter exits,
    is closed too.

    Args:
        options: What holds for every turn.
        backend: The way to reach Codex; None is a ``codex exec`` process for each turn.
        telemetry: Who hears of what it does; None is structlog alone. Handlers run in trio's thread.
    """

    def __init__(
        self,
        options: CodexOptions | None = None,
        *,
        backend: Backend | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._codex = _codex.Codex(options, backend=backend, telemetry=telemetry)
        self._host = Host(self._codex)

    async def __aenter__(self) -> Self:
        self._open = self._host.open()
        await _wait(self._open)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.leave()
        if exc_type is GeneratorExit:  # the loop is gone: it closes by itself
            return
        await _wait_over(self._open)
        self._open.join()
        self._open.check()

    def start_thread(self, options: ThreadOptions | None = None) -> "Thread":
        """Begin a conversation. Codex hears of it with the first turn.

        Args:
            options: What holds for every turn of the thread.
        """
        return Thread(self._host, self._codex.start_thread(options))

    def resume_thread(
        self, thread: str | ThreadName | LastThread, options: ThreadOptions | None = None
    ) -> "Thread":
        """Go on with a conversation that is on record in CODEX_HOME. Codex hears of it with the next turn.

        Args:
            thread: Its id (a UUID), its name, or the one used last.
            options: What holds for every turn of the thread from here on.

        Raises:
            OptionError: The id is no UUID.
            ThreadNotFoundError: No thread has that name, or there is none.
        """
        return Thread(self._host, self._codex.resume_thread(thread, options))

    def fork_thread(
        self, thread: str | ThreadName | LastThread, options: ThreadOptions | None = None
    ) -> "Thread":
        """Begin a conversation that remembers another one, which stays as it is.

        Args:
            thread: The other's id (a UUID), its name, or the one used last.
            options: What holds for every turn of the new thread.

        Raises:
            OptionError: The id is no UUID.
            ThreadNotFoundError: No thread has that name, or there is none.
        """
        return Thread(self._host, self._codex.fork_thread(thread, options))

    def statistics(self) -> CodexStatistics:
        """Count the turns of this runtime."""
        return self._codex.statistics()


class Thread:
    """A conversation with Codex; `Codex.start_thread` and its kin hand it out.

    A thread has one turn at a time, whoever asks; a second one waits or is refused, as
    `CodexOptions.when_busy` says.
    """

    def __init__(self, host: Host, thread: _thread.Thread) -> None:
        self._host = host
        self._thread = thread

    @property
    def id(self) -> str | None:
        """The thread's id, by which it can be resumed; None before its first turn has started."""
        return self._thread.id

    @property
    def options(self) -> ThreadOptions:
        """What holds for every turn of the thread."""
        return self._thread.options

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
            RuntimeClosedError: The runtime is not open.
        """
        try:
            job = self._host.call(asking(self._thread, input, options, output_type))
        finally:
            del input
        return await _wait(job)

    @overload
    def run_streamed(
        self,
        input: Input,
        options: TurnOptions | None = None,
    ) -> AbstractAsyncContextManager["Turn"]: ...
    @overload
    def run_streamed(
        self,
        input: Input,
        options: TurnOptions | None = None,
        *,
        output_type: type[_T],
    ) -> AbstractAsyncContextManager["ParsedTurn[_T]"]: ...
    @forgetful
    def run_streamed(
        self,
        input: Input,  # noqa: A002 - Codex's word
        options: TurnOptions | None = None,
        *,
        output_type: type[object] | None = None,
    ) -> AbstractAsyncContextManager["Turn"]:
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
        return _OpenTurn(self._host, streaming(self._thread, input, options, output_type))

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
            RuntimeClosedError: The runtime is not open.
        """
        try:
            job = self._host.call(partial(self._thread.review, target, options))
        finally:
            del target
        return await _wait(job)

    @forgetful
    def review_streamed(
        self, target: ReviewTarget, options: TurnOptions | None = None
    ) -> AbstractAsyncContextManager["Turn"]:
        """Have code reviewed, as `review` does, and follow the turn, as with `run_streamed`.

        Args:
            target: What to review.
            options: What holds for this turn only.

        Raises:
            OptionError: An option cannot work; nothing was started.
        """
        return _OpenTurn(self._host, self._thread.review_streamed(target, options))


class Turn:
    """One prompt and all that it causes; `Thread.run_streamed` hands it out.

    ``async for event in turn`` yields every event as Codex says it. The loop ends when the turn has completed
    and its process is gone; if the turn did not complete, the loop raises the `CodexError` that says why.
    Events that nobody takes wait in bounded space, and then with Codex. Cancelling the loop
    loses no event.
    """

    def __init__(self, host: Host, turn: _turn.Turn, job: Work) -> None:
        self._host = host
        self._turn = turn
        self._events = Events(turn)
        self._job = job

    def __del__(self) -> None:
        self._job.cancel()  # whoever has forgotten a turn cannot leave its block any more

    @property
    def thread_id(self) -> str | None:
        """The thread's id; None until Codex has named it."""
        return self._turn.thread_id

    @property
    def result(self) -> TurnResult:
        """What the turn came to.

        Raises:
            CodexError: The turn did not complete; the same error that the loop raises.
            TurnRunningError: The turn has not ended; take its events, or call `Turn.wait_result`.
        """
        return self._turn.result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while (event := self._events.take()) is None:
            job = self._host.call(self._events.fill)
            if not await _wait(job):
                raise StopAsyncIteration
        return event

    async def wait_result(self) -> TurnResult:
        """Let the remaining events go by and return the result.

        Raises:
            CodexError: The turn did not complete.
        """
        job = self._host.call(self._turn.wait_result)
        return await _wait(job)

    def interrupt(self) -> None:
        """Ask Codex to stop, gracefully; does not wait for it.

        Codex writes down that the turn was interrupted, so that the thread can be resumed. What it still
        says is yielded by the loop, which then raises `TurnInterruptedError`; a turn that completes before
        it hears of the interrupt has completed.
        """
        self._job.soon(self._turn.interrupt)


class ParsedTurn(Turn, Generic[_T]):
    """A turn whose final response is to be an instance of a type; where it is none, the loop raises that."""

    @property
    def result(self) -> ParsedTurnResult[_T]:
        """What the turn came to.

        Raises:
            InvalidOutputError: The turn completed, and its final response is not what was asked for.
            CodexError: The turn did not complete; the same error that the loop raises.
            TurnRunningError: The turn has not ended; take its events, or call `Turn.wait_result`.
        """
        return cast("ParsedTurnResult[_T]", super().result)

    async def wait_result(self) -> ParsedTurnResult[_T]:
        """Let the remaining events go by and return the result.

        Raises:
            InvalidOutputError: The turn completed, and its final response is not what was asked for.
            CodexError: The turn did not complete.
        """
        return cast("ParsedTurnResult[_T]", await super().wait_result())


class _OpenTurn(AbstractAsyncContextManager[Turn]):
    """A turn that runs for as long as its block does."""

    def __init__(self, host: Host, opening: AbstractAsyncContextManager[_turn.Turn]) -> None:
        self._host = host
        self._opening = opening

    async def __aenter__(self) -> Turn:
        self._job = self._host.hold(self._opening)
        self._turn = Turn(self._host, await _wait(self._job), self._job)
        return self._turn

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self._job.leave()
        else:
            self._job.cancel()
        if exc_type is GeneratorExit:  # the loop is gone: it ends by itself
            return
        await _wait_over(self._job)
        self._job.check()


async def _wait(job: Job[_T]) -> _T:
    """Begin a job and wait for what it has to say; whatever ends the wait before that ends the job too."""
    try:
        job.begin()
        await _until(job.value)
    except asyncio.CancelledError:
        job.cancel()
        await _wait_over(job)
        raise
    except GeneratorExit:  # the loop is gone: it ends by itself
        job.cancel()
        raise
    return job.value.get()


async def _wait_over(work: Work) -> None:
    """Wait until nothing of it runs any more; being cancelled makes that sooner, and is raised in the end."""
    if work.is_foreign:  # we are a fork, and what was opened before it is not ours to close
        return
    try:
        await _until(work.over)
    except asyncio.CancelledError:
        work.cancel()
        await _wait_over(work)
        raise


async def _until(answer: Answer[_T]) -> None:
    loop = asyncio.get_running_loop()
    here = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(here.set)

    answer.when_here(wake)
    await here.wait()
