"""What the real Codex makes a runtime tell."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider

from codex_actors import Codex, Telemetry, errors
from codex_actors.integrations.opentelemetry import trace_turns
from codex_actors.options import CodexOptions, Deadlines, ThreadOptions
from codex_actors.telemetry import (
    ItemCompleted,
    ProcessSpawned,
    ProcessStopped,
    RetryNotice,
    TraceContext,
    TurnException,
    TurnStop,
)
from codex_actors.testing import ModelServer, early_eof, hang, message, shell
from tests.test_telemetry import Listener

Configure = Callable[..., CodexOptions]

# Codex exports its spans if it is told where to; nobody listens there.
EXPORTS = """[otel]
trace_exporter = { otlp-http = { endpoint = "http://127.0.0.1:9/v1/traces", protocol = "json" } }
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def here(workspace: Path) -> ThreadOptions:
    return ThreadOptions(cwd=workspace, skip_git_repo_check=True, sandbox="danger-full-access")


async def test_a_turn_is_told_from_its_start_to_its_end(
    model_server: ModelServer, configure: Configure, heard, here
):
    story = model_server.script("story", shell("true"), message("done"))
    async with Codex(configure(story.url), telemetry=heard.telemetry) as codex:
        result = await codex.start_thread(here).run("go")
    assert heard.names() == [
        "turn.start",
        "process.spawned",
        "item.completed",
        "item.completed",
        "process.stopped",
        "turn.stop",
    ]
    items = [(it.item_type, it.item_id) for it in heard.of(ItemCompleted)]
    assert items == [("command_execution", "item_0"), ("agent_message", "item_1")]
    stop = heard.ending()
    assert isinstance(stop, TurnStop)
    assert (stop.thread_id, stop.usage) == (result.thread_id, result.usage)
    assert stop.duration >= result.timings.exit_seconds


async def test_a_second_turn_is_another_one_on_the_same_thread(
    model_server: ModelServer, configure: Configure, heard, here
):
    story = model_server.script("story", message("one"), message("two"))
    async with Codex(configure(story.url), telemetry=heard.telemetry) as codex:
        thread = codex.start_thread(here)
        await thread.run("go")
        await thread.run("go on")
    assert [start.thread_id for start, _ in heard.spans()] == [None, thread.id]


async def test_each_time_that_codex_asks_the_model_again_is_told(
    model_server: ModelServer, configure: Configure, heard, here
):
    story = model_server.script("story", *[early_eof()] * 2, message("yes"))
    twice = {"model_providers": {"scripted": {"stream_max_retries": 2}}}
    async with Codex(configure(story.url, config=twice), telemetry=heard.telemetry) as codex:
        await codex.start_thread(here).run("go")
    retries = [(it.attempt, it.max_attempts) for it in heard.of(RetryNotice)]
    assert retries == [(1, 2), (2, 2)]


@pytest.mark.parametrize("how", ["left", "out of time"])
async def test_a_turn_that_is_stopped_is_told_when_its_process_is_gone(
    model_server: ModelServer, configure: Configure, heard, here, how
):
    story = model_server.script("story", hang())
    deadlines = Deadlines(idle_seconds=0.3) if how == "out of time" else Deadlines()
    options = configure(story.url, deadlines=deadlines)
    async with Codex(options, telemetry=heard.telemetry) as codex:
        with trio.move_on_after(0.5 if how == "left" else 30):
            with pytest.raises(errors.TurnTimeoutError):
                await codex.start_thread(here).run("go")
        [spawned], [stopped] = heard.of(ProcessSpawned), heard.of(ProcessStopped)
        assert stopped.pid == spawned.pid
        with pytest.raises(ProcessLookupError):
            os.kill(spawned.pid, 0)
        end = heard.ending()
        assert isinstance(end, TurnException)
        assert end.error == ("TurnInterruptedError" if how == "left" else "TurnTimeoutError")


@pytest.mark.parametrize("exports", [True, False])
async def test_requests_to_the_model_continue_the_trace_if_codex_exports_its_own(
    model_server: ModelServer, configure: Configure, here, exports
):
    story = model_server.script("story", shell("echo $TRACEPARENT $TRACESTATE"), message("done"))
    place = TraceContext(traceparent=f"00-{TRACE}-b7ad6b7169203331-01", tracestate="v=1")
    to = Telemetry()
    to.attach_tracer(lambda _: place)
    options = configure(story.url, settings=EXPORTS if exports else "")
    async with Codex(options, telemetry=to) as codex:
        await codex.start_thread(here).run("go")
    assert f"{place.traceparent} v=1" in story.requests[1].tool_outputs[0]
    for request in story.requests:
        traceparent = request.headers.get("traceparent", "")
        assert traceparent.startswith(f"00-{TRACE}-") == exports
        assert request.headers.get("tracestate") == ("v=1" if exports else None)


async def test_a_request_to_the_model_belongs_to_the_trace_of_whoever_asked(
    model_server: ModelServer, configure: Configure, here
):
    story = model_server.script("story", message("done"))
    provider, to = TracerProvider(), Telemetry()
    trace_turns(to, provider)
    async with Codex(configure(story.url, settings=EXPORTS), telemetry=to) as codex:
        with provider.get_tracer("mine").start_as_current_span("mine") as span:
            await codex.start_thread(here).run("go")
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert story.requests[0].headers["traceparent"].startswith(f"00-{trace_id}-")
