"""The ``codex-actors`` command: ``run`` for one turn, ``demo`` to see some, ``doctor`` and ``janitor``.

The live view needs ``pip install 'codex-actors[cli]'``; without it, or where the output is no terminal,
the command writes plain lines.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from codex_actors.cli._arguments import Asked, AskedAny, AskedDemo, AskedDoctor, UsageError, parse
from codex_actors.cli._stop import Stop

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    The status is 0 for a completed turn, a demo without a flaw, a machine that is fit for turns and one that
    is clean, 2 for arguments that cannot work, 128 plus the number of the signal that stopped it (130 for
    Ctrl-C), and 1 for everything else.

    Args:
        arguments: What stands behind the command's name; None takes it from the process.
    """
    stop = Stop()
    stop.watch()
    try:
        status = _main(arguments, stop)
    finally:
        stop.ignore()
    return stop.status or status


def _main(arguments: Sequence[str] | None, stop: Stop) -> int:
    asked = _parsed(arguments)
    from codex_actors.cli._output import OutputLostError  # noqa: PLC0415 - `--help` is to be quick

    _log_to_stderr()
    try:
        return _start(asked, stop)
    except OutputLostError as exc:  # the turn was stopped for it
        if not exc.nobody_reads:
            print(f"codex-actors: {exc}", file=sys.stderr)
        return 1


def _parsed(arguments: Sequence[str] | None) -> AskedAny:
    try:
        return parse(arguments)
    except UsageError as exc:
        # Nothing is parsed, but who asks for JSON in vain gets no other result than this one.
        if "--json" in (sys.argv if arguments is None else arguments):
            _write_refusal(exc.problem)
        raise


def _write_refusal(problem: str) -> None:
    from codex_actors.cli._json_lines import result_line  # noqa: PLC0415 - `--help` is to be quick
    from codex_actors.errors import OptionError  # noqa: PLC0415 - `--help` is to be quick

    if sys.__stdout__ is not None:
        with suppress(OSError):  # nobody reads
            os.write(sys.__stdout__.fileno(), result_line(OptionError("command line", problem), began=False))


def _start(asked: AskedAny, stop: Stop) -> int:
    if isinstance(asked, Asked):
        from codex_actors.cli._run import run  # noqa: PLC0415 - as above

        return run(asked, stop)
    if isinstance(asked, AskedDemo):
        from codex_actors.cli._demo import demo  # noqa: PLC0415 - as above

        return demo(asked, stop)
    if isinstance(asked, AskedDoctor):
        from codex_actors.cli._doctor import doctor  # noqa: PLC0415 - as above

        return doctor(asked, stop)
    from codex_actors.cli._janitor import janitor  # noqa: PLC0415 - as above

    return janitor(asked, stop)


def _log_to_stderr() -> None:
    """Keep what the library logs out of our output; below a warning it is of no use here."""
    import logging  # noqa: PLC0415 - as above

    import structlog  # noqa: PLC0415 - as above

    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
