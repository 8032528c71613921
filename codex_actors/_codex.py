# The runtime people open: a supervision tree, and the door to it.

import math
from collections.abc import Hashable
from contextlib import AsyncExitStack
from types import NoneType, TracebackType
from typing import Self

import trio

from codex_actors._child import ChildStatus
from codex_actors._runner import CodexStatistics, TurnRunner
from codex_actors._supervision import ChildSpec, ChildType, Restart
from codex_actors._supervisor import Supervisor
from codex_actors._thread import Thread, check_kind
from codex_actors.backends import Backend, ForkThread, NewThread, ResumeThread, Start
from codex_actors.backends._home import absolute_cwd
from codex_actors.backends.exec import ExecBackend
from codex_actors.options import CodexOptions, LastThread, ThreadName, ThreadOptions, check_thread_id
from codex_actors.telemetry import Telemetry

_DEFAULTS = CodexOptions()
_THREAD_DEFAULTS = ThreadOptions()


class Codex:
    """The runtime: open it with ``async with``, start threads, run turns.

    Leaving the block ends every turn that still runs, gracefully first; when it is left, nothing of any
    turn lives any more. Your own exceptions leave the block as they are.

    Args:
        options: What holds for every turn.
        backend: The way to reach Codex; None is a ``codex exec`` process for each turn.
        telemetry: Who hears of what it does; None is structlog alone.
    """

    def __init__(
        self,
        options: CodexOptions | None = None,
        *,
        backend: Backend | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        check_kind(options, "options", CodexOptions, NoneType)
        check_kind(telemetry, "telemetry", Telemetry, NoneType)
        self._runner = TurnRunner(options or _DEFAULTS, backend or ExecBackend(), telemetry or Telemetry())
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        _check_on_trio()
        await self._exit.enter_async_context(self._runner.open())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._exit.__aexit__(exc_type, exc, traceback)

    @staticmethod
    def child_spec(
        child_id: Hashable = "codex",
        options: CodexOptions | None = None,
        *,
        backend: Backend | None = None,
        telemetry: Telemetry | None = None,
        restart: Restart = Restart.PERMANENT,
        significant: bool = False,
    ) -> ChildSpec:
        """Describe a runtime as a child of a supervisor of yours; its `Child.value` is the `Codex`.

        Stopping the child ends its turns, gracefully first, and takes the time that they need for that.

        Args:
            child_id: The id among its siblings.
            options: As for `Codex`.
            backend: As for `Codex`.
            telemetry: As for `Codex`.
            restart: As in `ChildSpec`. What a turn did is never done again, whatever is restarted.
            significant: As in `ChildSpec`.

        Raises:
            OptionError: The options or the telemetry are none.
        """
        check_kind(options, "options", CodexOptions, NoneType)
        check_kind(telemetry, "telemetry", Telemetry, NoneType)
        return ChildSpec(
            id=child_id,
            start=Codex._be_child,
            args=(options, backend, telemetry),
            restart=restart,
            shutdown=math.inf,
            type=ChildType.SUPERVISOR,
            significant=significant,
        )

    def start_thread(self, options: ThreadOptions | None = None) -> Thread:
        """Begin a conversation. Codex hears of it with the first turn.

        Args:
            options: What holds for every turn of the thread.
        """
        return self._thread(NewThread(), options)

    def resume_thread(
        self, thread: str | ThreadName | LastThread, options: ThreadOptions | None = None
    ) -> Thread:
        """Go on with a conversation that is on record in CODEX_HOME. Codex hears of it with the next turn.

        Args:
            thread: Its id (a UUID), its name, or the one used last.
            options: What holds for every turn of the thread from here on.

        Raises:
            OptionError: The id is no UUID.
            ThreadNotFoundError: No thread has that name, or there is none.
        """
        return self._thread(ResumeThread(thread_id=self._thread_id(thread, options)), options)

    def fork_thread(
        self, thread: str | ThreadName | LastThread, options: ThreadOptions | None = None
    ) -> Thread:
        """Begin a conversation that remembers another one, which stays as it is.

        Args:
            thread: The other's id (a UUID), its name, or the one used last.
            options: What holds for every turn of the new thread.

        Raises:
            OptionError: The id is no UUID.
            ThreadNotFoundError: No thread has that name, or there is none.
        """
        return self._thread(ForkThread(thread_id=self._thread_id(thread, options)), options)

    def statistics(self) -> CodexStatistics:
        """Count the turns of this runtime."""
        return self._runner.statistics()

    @property
    def supervisor(self) -> Supervisor:
        """The supervisor that the runtime consists of, to be looked at: a backend, and a supervisor of turns.

        Raises:
            RuntimeClosedError: The runtime is not open.
        """
        return self._runner.supervisor

    def _thread(self, start: Start, options: ThreadOptions | None) -> Thread:
        check_kind(options, "options", ThreadOptions, NoneType)
        return Thread(self._runner, self._runner.thread_state(start, options or _THREAD_DEFAULTS))

    def _thread_id(self, thread: str | ThreadName | LastThread, options: ThreadOptions | None) -> str:
        if isinstance(thread, str):
            return check_thread_id(thread).lower()  # one thread has one id, and one lock
        check_kind(thread, "thread", str, ThreadName, LastThread)
        return self._runner.find_thread(thread, absolute_cwd(options or _THREAD_DEFAULTS))

    @staticmethod
    async def _be_child(
        options: CodexOptions | None,
        backend: Backend | None,
        telemetry: Telemetry | None,
        *,
        task_status: ChildStatus["Codex"],
    ) -> None:
        codex = Codex(options, backend=backend, telemetry=telemetry)
        async with codex._runner.open(task_status):
            task_status.started(codex)
            await trio.sleep_forever()


def _check_on_trio() -> None:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        message = "this is for trio: take `Codex` from `codex_actors.aio` if you are on asyncio"
        raise RuntimeError(message) from None
