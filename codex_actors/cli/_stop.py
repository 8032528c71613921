# Ctrl-C at any instant. A signal raises nothing, for an exception between two lines of ours could lose
# what stands between them; it is noted, and cancels the scope that was told to it, if there is one
# already. So a second and a third one change nothing, and what cancelling does is all that happens.

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether the command was asked to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._cancel: Callable[[], None] | None = None

    @property
    def status(self) -> int:
        """The exit status of a command that was stopped, as shells have it; 0 for one that was not."""
        return 0 if self.signal is None else 128 + self.signal

    def watch(self) -> None:
        """Begin to heed signals, but for those that our parent told us to ignore, as `nohup` does."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def ignore(self) -> None:
        """Heed no signal any more, so that the exit status is what it is."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def scope(self) -> "trio.CancelScope":
        """A scope, to be entered, that is cancelled when the command is to stop; one at a time."""
        import trio  # noqa: PLC0415 - signals are heeded before there is time for this

        token, scope = trio.lowlevel.current_trio_token(), trio.CancelScope()

        def cancel() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel, idempotent=True)

        self._cancel = cancel
        if self.signal is not None:
            scope.cancel()
        return scope

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        if self._cancel is not None:
            self._cancel()
