# A stand-in for the `codex` executable, for what the real one cannot be made to do: a story told in
# acts, each of them a line of POSIX shell. Shell and not Python, because a shell starts in a
# millisecond and weighs a megabyte, and some tests start hundreds.

import shlex
import signal
from pathlib import Path
from typing import NewType

Act = NewType("Act", str)

# A test that loses a process must not lose it for ever.
_FOR_EVER_SECONDS = 600

_SCRIPT = """\
#!/bin/sh
if [ "$1" = --version ]; then echo 'codex-cli {version}'; exit; fi
{acts}
"""


def fake_codex(directory: Path, *acts: Act, version: str = "0.169.0") -> Path:
    """Makes an executable called ``codex`` that does what it is told, whatever its arguments.

    Args:
        directory: Where to put it; made if it is missing.
        *acts: What it does, in this order; at the end it exits with 0. Nothing reads its stdin unless
            `reads_prompt` is among them.
        version: What it answers to ``--version``.

    Returns:
        The path of the executable.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "codex"
    path.write_text(_SCRIPT.format(version=version, acts="\n".join(acts)))
    path.chmod(0o755)
    return path


def reads_prompt(save_to: Path | None = None) -> Act:
    """Reads stdin to its end, as the real one does first; into a file if asked to."""
    return Act(f"cat >{_quote(save_to or '/dev/null')}")


def replays(recording: Path) -> Act:
    """Writes a file, such as a recorded run, to stdout."""
    return Act(f"cat {_quote(recording)}")


def writes(output: str | bytes) -> Act:
    """Writes to stdout exactly this, valid or not; a newline only where there is one."""
    return Act(f"printf '{_octal(output)}'")


def complains(output: str | bytes) -> Act:
    """Writes to stderr exactly this."""
    return Act(f"printf '{_octal(output)}' >&2")


def ignores(*signals: signal.Signals) -> Act:
    """Is deaf to these signals from here on."""
    return Act(f"trap '' {' '.join(str(int(number)) for number in signals)}")


def closes_stdout() -> Act:
    """Closes stdout but lives on."""
    return Act("exec >&-")


def leaves_child(pid_file: Path) -> Act:
    """Starts a child that holds stdout and stderr open; its pid goes to a file, for the test to end it."""
    return Act(f"sleep {_FOR_EVER_SECONDS} & echo $! >{_quote(pid_file)}")


def exits(code: int) -> Act:
    """Exits at once."""
    return Act(f"exit {code}")


def dies(number: signal.Signals) -> Act:
    """Dies by a signal."""
    return Act(f"kill -{int(number)} $$")


def hangs() -> Act:
    """Does nothing more and does not end (for ten minutes)."""
    return Act(f"exec sleep {_FOR_EVER_SECONDS}")


def _quote(path: Path | str) -> str:
    return shlex.quote(str(path))


def _octal(output: str | bytes) -> str:
    # Every byte escaped: nothing can be special to the shell, to printf, or to an encoding.
    data = output.encode() if isinstance(output, str) else output
    return "".join(f"\\{byte:03o}" for byte in data)
