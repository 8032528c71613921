"""What a supervisor tells the log."""

import gc
import io
import json
import logging
import sys
import weakref

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from codex_actors._reports import MAX_TEXT, MAX_TRACEBACK
from codex_actors._supervision import ChildSpec
from tests.otp.puppets import TEMPORARY, Crash, open_supervisor

SECRET = "canary-of-the-user"


@pytest.fixture
def written():
    """What is written to the log; the configuration is as it was afterwards."""
    before = structlog.get_config()
    stream = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(stream))
    yield stream
    structlog.configure(**before)


async def crash_once(message: str = "an error", child_id: object = "a") -> None:
    async def fragile(prompt, *, task_status):
        task_status.started()
        await trio.lowlevel.checkpoint()
        raise Crash(message)

    async with open_supervisor() as top:
        await top.start_child(ChildSpec(id=child_id, start=fragile, args=(SECRET,), restart=TEMPORARY))
        await wait_all_tasks_blocked()


async def test_structlog_as_it_is_shows_a_crash_with_its_traceback_but_nothing_of_the_user(written):
    await crash_once()
    assert "supervisor.child_terminated" in written.getvalue()
    assert "Crash: an error" in written.getvalue()
    assert SECRET not in written.getvalue()


async def test_a_report_can_be_written_as_json(written):
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    await crash_once()
    progress, terminated = map(json.loads, written.getvalue().splitlines())
    assert progress["started"] == terminated["offender"]
    assert terminated["traceback"].startswith("Traceback (most recent call last)")


async def test_a_child_with_an_odd_id_and_much_to_say_makes_no_long_line(written):
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    await crash_once("x" * 10**6, ("i" * 10**6, 7))
    assert len(written.getvalue()) < 2 * (MAX_TRACEBACK + 2 * MAX_TEXT)


async def test_what_is_filtered_is_not_written(written):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    await crash_once()
    assert "supervisor.progress" not in written.getvalue()
    assert "supervisor.child_terminated" in written.getvalue()


async def test_a_broken_log_brings_nothing_down(written):
    def broken(*_):
        raise BrokenPipeError

    structlog.configure(processors=[broken])
    await crash_once()
    assert written.getvalue() == ""


async def test_a_report_that_somebody_keeps_holds_no_frames_of_the_child(autojump_clock):
    class Big:
        """Something that a child has in a variable."""

    seen: list[weakref.ref[Big]] = []

    async def fragile(*, task_status):
        big = Big()
        seen.append(weakref.ref(big))
        task_status.started()
        await trio.lowlevel.checkpoint()
        raise Crash("an error")

    with structlog.testing.capture_logs() as logs:
        async with open_supervisor() as top:
            await top.start_child(ChildSpec(id="a", start=fragile, restart=TEMPORARY))
            await wait_all_tasks_blocked()
    gc.collect()
    assert seen[0]() is None
    [entry] = [entry for entry in logs if entry["event"] == "supervisor.child_terminated"]
    assert "Crash: an error" in repr(entry["traceback"])
    assert "in fragile" in repr(entry["traceback"])


async def test_what_nobody_asked_for_is_not_printed(written, capfd):
    """Until it is configured, structlog prints everything."""

    async def child(*, task_status):
        task_status.started()

    structlog.reset_defaults()
    async with open_supervisor() as top:
        await top.start_child(ChildSpec(id="a", start=child, restart=TEMPORARY))
    assert capfd.readouterr() == ("", "")


DAEMON = """
import trio
from codex_actors import open_supervisor

async def main():
    async with open_supervisor([]):
        pass

trio.run(main)
"""


async def test_a_program_without_stdout_is_supervised_all_the_same():
    """As a daemon is; structlog, unless it is configured, would write there."""
    await trio.run_process(("/bin/sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, DAEMON))
