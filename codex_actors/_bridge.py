# trio in a thread of its own: what the doors share that are for people who are not on trio. All that runs on
# trio for them is here; a door adds its way to wait.
#
# A thread, and not trio's guest mode, which would spare asyncio a hop of 0.1 ms: a guest lives by its host's
# loop, so a loop that ends first abandons it, its processes with it, and leaves a thread in which no trio can
# run. A thread serves one loop, several of them, or none.

import atexit
import os
import threading
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Generic, NoReturn, TypeVar

import trio

from codex_actors._nursery import open_private_nursery
from codex_actors._thread import Thread
from codex_actors._turn import Turn, take_batch
from codex_actors.errors import RuntimeClosedError
from codex_actors.events import Event
from codex_actors.options import Input, TurnOptions
from codex_actors.results import TurnResult

_T = TypeVar("_T")
_Start = Callable[[], Awaitable[None]]


class Answer(Generic[_T]):
    """What work has to say, once, to threads that wait for it.

    Without the locks of `concurrent.futures`: Ctrl-C raises anywhere, also where one was just taken and not
    yet in the care of its `with`, and then trio would wait for that lock for ever.

    Attributes:
        is_here: Whether it was said.
    """

    def __init__(self) -> None:
        self.is_here: bool = False
        self._get: Callable[[], _T]
        self._to_wake: deque[Callable[[], object]] = deque()

    def give(self, value: _T) -> None:
        """Say it."""
        self._settle(lambda: value)

    def fail(self, failure: BaseException) -> None:
        """Say that something went wrong."""
        self._settle(partial(_fail, failure))

    def get(self) -> _T:
        """Return it, or raise what went wrong; only when it is here."""
        return self._get()

    def when_here(self, wake: Callable[[], object]) -> None:
        """Have a function called, in any thread, when it is here; at once if it is."""
        self._to_wake.append(wake)
        if self.is_here:
            _call_all(self._to_wake)

    def _settle(self, get: Callable[[], _T]) -> None:
        self._get = get
        self.is_here = True
        _call_all(self._to_wake)


class Work:
    """Something that runs on trio, as other threads see it.

    Attributes:
        over: Comes when nothing of it runs any more; fails with what went wrong at its end.
    """

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._scope = trio.CancelScope()
        self._left = trio.Event()
        self.over: Answer[None] = Answer()

    @property
    def is_foreign(self) -> bool:
        """Whether it is in another process, of which this one is a fork: nobody says here that it is over."""
        return self._run.is_foreign

    def soon(self, function: Callable[[], object]) -> None:
        """Have a function called on trio, without waiting for it."""
        self._run.soon(function)

    def leave(self) -> None:
        """Have what it holds open closed, in peace."""
        self._run.soon(self._left.set)

    def cancel(self) -> None:
        """Have it stopped. Any thread may ask, and a signal handler or a finalizer too."""
        self._run.soon(self._scope.cancel)

    def join(self) -> None:
        """Wait for trio to end, which takes no time when the runtime is closed."""
        self._run.thread.join()

    def check(self) -> None:
        """Raise what went wrong at its end, if it is over and anything did."""
        if self.over.is_here:
            self.over.get()

    async def serve(self, start: _Start) -> None:
        """Do it, on trio."""
        failure: BaseException | None = None
        try:
            with self._scope:
                await start()
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001 - a handler's SystemExit too is for the one who waits
            failure = exc
        finally:
            self.end(failure)

    def end(self, failure: BaseException | None) -> None:
        """Let those who wait know that it is over."""
        if failure is None:
            self.over.give(None)
        else:
            self.over.fail(failure)


class Job(Work, Generic[_T]):
    """Work that has something to say; begins when it is told to.

    Attributes:
        value: What came of it, or what it holds open.
    """

    def __init__(self, run: "_Run", begin: "Callable[[Job[_T]], None]") -> None:
        super().__init__(run)
        self._begin = begin
        self.value: Answer[_T] = Answer()

    def begin(self) -> None:
        """Have it done."""
        self._begin(self)

    async def call(self, function: Callable[[], Awaitable[_T]]) -> None:
        """Run a function for what it returns."""
        self.value.give(await function())

    async def hold(self, opening: AbstractAsyncContextManager[_T]) -> None:
        """Hold something open until it is left."""
        async with opening as opened:
            self.value.give(opened)
            await self._left.wait()

    def end(self, failure: BaseException | None) -> None:
        """Let those who wait know that it is over, and that nothing was said if nothing was."""
        if not self.value.is_here:
            self.value.fail(failure or RuntimeClosedError())
            failure = None
        super().end(failure)


class _Run:
    """One time that a runtime is open: trio, and the thread in which it runs."""

    def __init__(self, runtime: AbstractAsyncContextManager[object]) -> None:
        self._runtime = runtime
        self._pid = os.getpid()
        self._token: trio.lowlevel.TrioToken | None = None
        self._to_do: deque[Callable[[], object]] = deque()
        self.calls: trio.Nursery | None = None
        self.holds: trio.Nursery | None = None
        self.main: Job[None] = Job(self, self._start)
        # A daemon: Python waits for other threads before it would let us say that it is time to end.
        self.thread: threading.Thread = threading.Thread(
            target=copy_context().run, args=(self._run_trio,), name="codex_actors", daemon=True
        )

    @property
    def is_foreign(self) -> bool:
        """Whether it is another process's, of which this one is a fork; then its thread is not here."""
        return os.getpid() != self._pid

    @property
    def is_open(self) -> bool:
        """Whether the runtime is open, in this process."""
        return not self.is_foreign and not self.main.over.is_here

    def spawn(self, work: Work, start: _Start, nursery: Callable[[], trio.Nursery | None]) -> None:
        """Have work done on trio, in a nursery that is there as long as the work makes sense."""
        context = copy_context()  # what runs for somebody sees their context variables

        def begin() -> None:
            if (place := nursery()) is None:
                work.end(None)
            else:
                context.run(place.start_soon, work.serve, start)

        self.soon(begin)

    def soon(self, function: Callable[[], object]) -> None:
        """Have a function called on trio, or here if trio has ended. A finalizer may ask for it too."""
        if self.is_foreign:
            return
        self._to_do.append(function)  # first: trio looks here when it has started
        if self._token is not None:
            try:
                self._token.run_sync_soon(_call_all, self._to_do)
            except trio.RunFinishedError:
                _call_all(self._to_do)
        elif self.main.over.is_here:
            _call_all(self._to_do)

    def _start(self, _main: Job[None]) -> None:
        _runs.add(self)
        try:
            self.thread.start()
        except RuntimeError as exc:  # there are as many threads as there may be
            _runs.discard(self)
            self.main.end(exc)

    def _run_trio(self) -> None:
        try:
            trio.run(self._serve)
        except Exception as exc:
            if self.main.over.is_here:
                raise
            self.main.end(exc)  # trio could not even start, for want of descriptors most likely
        finally:
            _call_all(self._to_do)
            _runs.discard(self)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        # Calls outlive the runtime: who waits for a turn when it closes is to hear how the turn ended.
        async with trio.open_nursery() as calls:
            self.calls = calls
            _call_all(self._to_do)
            await self.main.serve(partial(self.main.hold, self._open()))
            self.calls = None

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        async with self._runtime, open_private_nursery() as holds:
            self.holds = holds
            try:
                yield
            finally:
                self.holds = None


_runs: set[_Run] = set()


class Host:
    """Keeps a runtime open on trio, in a thread of its own.

    A runtime that is forgotten while it is open closes by itself; so does each when the interpreter exits.

    Args:
        runtime: The runtime. It can be opened again after it was closed.
    """

    def __init__(self, runtime: AbstractAsyncContextManager[object]) -> None:
        self._runtime = runtime
        self._run: _Run | None = None

    def __del__(self) -> None:
        if self._run is not None and self._run.is_open:
            message = "a Codex runtime was left open: use it in a `with` block"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            self._run.main.leave()

    def open(self) -> Job[None]:
        """The job that opens the runtime; leaving it closes it.

        Raises:
            trio.BusyResourceError: It is open.
        """
        if self._run is not None and self._run.is_open:
            raise trio.BusyResourceError("this runtime is open already")
        self._run = _Run(self._runtime)
        return self._run.main

    def call(self, function: Callable[[], Awaitable[_T]]) -> Job[_T]:
        """The job that runs a function.

        Raises:
            RuntimeClosedError: The runtime is not open.
        """
        run = self._open_run()
        return Job(run, lambda job: run.spawn(job, partial(job.call, function), lambda: run.calls))

    def hold(self, opening: AbstractAsyncContextManager[_T]) -> Job[_T]:
        """The job that holds something open until it is left.

        Raises:
            RuntimeClosedError: The runtime is not open.
        """
        run = self._open_run()
        return Job(run, lambda job: run.spawn(job, partial(job.hold, opening), lambda: run.holds))

    def _open_run(self) -> _Run:
        if self._run is None or not self._run.is_open:
            raise RuntimeClosedError
        if self._run.thread is threading.current_thread():
            raise RuntimeError("what runs inside of the runtime cannot wait for it: use another thread")
        return self._run


def _call_all(functions: deque[Callable[[], object]]) -> None:
    while functions:
        with suppress(IndexError):  # another thread has taken the last one
            functions.popleft()()


def _fail(failure: BaseException) -> NoReturn:
    raise failure


def asking(
    thread: Thread, asked: Input, options: TurnOptions | None, output_type: type[object] | None
) -> Callable[[], Awaitable[TurnResult]]:
    """`Thread.run`, whose types know of no `output_type` that is None."""
    if output_type is None:
        return lambda: thread.run(asked, options)
    return lambda: thread.run(asked, options, output_type=output_type)


def streaming(
    thread: Thread, asked: Input, options: TurnOptions | None, output_type: type[object] | None
) -> AbstractAsyncContextManager[Turn]:
    """`Thread.run_streamed`, in the same way."""
    if output_type is None:
        return thread.run_streamed(asked, options)
    return thread.run_streamed(asked, options, output_type=output_type)


class Events:
    """The events of a turn, a batch of them at a time, for those whose every call is a hop.

    Args:
        turn: The turn.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._batch: deque[Event] = deque()

    def take(self) -> Event | None:
        """An event that is here; None if there is none."""
        return self._batch.popleft() if self._batch else None

    async def fill(self) -> bool:
        """Wait, on trio, until there is an event to take; False if no more will come."""
        # Kept here and not returned: a waiter who leaves at this moment loses nothing.
        try:
            self._batch.extend(await take_batch(self._turn))
        except StopAsyncIteration:
            return False
        return True


@atexit.register
def _close_all() -> None:
    # After Python has waited for all threads that are no daemons: those may have used a runtime to the end.
    still_open = [run for run in list(_runs) if run.is_open]
    for run in still_open:
        run.main.leave()
    for run in still_open:
        run.thread.join()
