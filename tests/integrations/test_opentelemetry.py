"""Turns as OpenTelemetry spans, of the real OpenTelemetry."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

from codex_actors import Codex, Telemetry, errors
from codex_actors.integrations.opentelemetry import trace_turns
from codex_actors.options import ThreadOptions
from codex_actors.testing import Act, exits, hangs, writes
from tests.fakes import (
    COMPLETED,
    DONE,
    STARTED,
    THREAD,
    answers_on_a_thread_of_its_own,
    fake_options,
    line,
    said,
)
from tests.test_telemetry import EXAMPLES

SECRET = "canary-of-the-user"
SHOWS_TRACE = Act('printf \'%s|%s\' "$TRACEPARENT" "$TRACESTATE" >"$CODEX_HOME/trace"')


class Traced:
    """Where spans end up.

    Attributes:
        provider: Makes them.
        telemetry: What they are made of.
    """

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.telemetry = Telemetry(log=False)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        """The only one there is."""
        [span] = self.spans
        return span


@pytest.fixture
def traced() -> Traced:
    traced = Traced()
    trace_turns(traced.telemetry, traced.provider)
    return traced


@pytest.fixture
def open_codex(tmp_path: Path, traced: Traced) -> Callable[..., Codex]:
    """Opens a runtime whose codex does this, and whose turns are traced."""
    return lambda *acts: Codex(fake_options(tmp_path, *acts), telemetry=traced.telemetry)


async def test_a_turn_that_completes_is_a_span_with_the_words_of_the_conventions(open_codex, traced):
    async with open_codex(writes(DONE)) as codex:
        result = await codex.start_thread(ThreadOptions(model="m")).run("go")
    span = traced.span
    assert (span.name, span.kind, span.status.status_code) == (
        "invoke_agent codex",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    attributes = dict(span.attributes or {})
    assert len(attributes.pop("codex.turn.id")) == 32
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.agent.name": "codex",
        "gen_ai.request.model": "m",
        "gen_ai.conversation.id": THREAD,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "codex.turn.input_length": 2,
        "codex.turn.outcome": "completed",
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 < (span.end_time - span.start_time) / 1e9 - result.timings.exit_seconds < 1


async def test_what_happens_in_a_turn_is_an_event_of_its_span(open_codex, traced):
    retry = line("error", message=f"Reconnecting... 2/5 ({SECRET})")
    async with open_codex(writes(STARTED + retry + "noise\n" + said(SECRET) + COMPLETED)) as codex:
        await codex.start_thread().run("go")
    events = [(event.name, dict(event.attributes or {})) for event in traced.span.events]
    pid = events[0][1]["codex.pid"]
    assert events == [
        ("codex.process.spawned", {"codex.pid": pid}),
        ("codex.turn.retry", {"codex.attempt": 2, "codex.max_attempts": 5}),
        ("codex.line.noise", {"codex.size": 5}),
        ("codex.item.completed", {"codex.item_type": "agent_message", "codex.item_id": "item_0"}),
        ("codex.process.stopped", {"codex.pid": pid, "codex.returncode": 0}),
    ]
    times = [event.timestamp for event in traced.span.events]
    assert times == sorted(times)


async def test_a_turn_that_fails_is_a_span_with_an_error(open_codex, traced):
    async with open_codex(writes(STARTED), exits(101)) as codex:
        with pytest.raises(errors.CodexPanickedError):
            await codex.start_thread().run("go")
    assert traced.span.status.status_code is StatusCode.ERROR
    attributes = traced.span.attributes or {}
    assert (attributes["error.type"], attributes["codex.turn.outcome"]) == ("CodexPanickedError", "failed")


async def test_a_turn_that_could_not_start_is_a_span_without_a_conversation(open_codex, traced):
    async with open_codex(exits(2)) as codex:
        with pytest.raises(errors.ConfigRefusedError):
            await codex.start_thread().run("go")
    attributes = traced.span.attributes or {}
    assert attributes["error.type"] == "ConfigRefusedError"
    assert "gen_ai.conversation.id" not in attributes
    assert "gen_ai.usage.input_tokens" not in attributes


async def test_a_turn_that_its_holder_leaves_is_no_error(open_codex, traced):
    codex = open_codex(writes(STARTED), hangs())
    async with codex, codex.start_thread().run_streamed("go") as turn:
        await anext(turn)
    attributes = traced.span.attributes or {}
    assert traced.span.status.status_code is StatusCode.UNSET
    assert attributes["codex.turn.outcome"] == "interrupted"
    assert "error.type" not in attributes


async def test_a_turn_whose_tokens_are_not_known_has_none(open_codex, traced):
    async with open_codex(writes(DONE)) as codex:
        await codex.resume_thread(THREAD).run("go")
    assert [name for name in traced.span.attributes or {} if "usage" in name] == []


async def test_the_span_of_a_turn_is_below_the_one_that_is_current_where_it_was_asked_for(open_codex, traced):
    tracer = traced.provider.get_tracer("mine")

    async def ask(codex: Codex, name: str) -> None:
        with tracer.start_as_current_span(name):
            await codex.start_thread().run("go")

    async with open_codex(answers_on_a_thread_of_its_own()) as codex, trio.open_nursery() as both:
        both.start_soon(ask, codex, "one")
        both.start_soon(ask, codex, "two")
    mine = {span.context.span_id for span in traced.spans if span.name != "invoke_agent codex"}
    turns = [span for span in traced.spans if span.name == "invoke_agent codex"]
    assert {span.parent.span_id for span in turns if span.parent} == mine
    assert len(turns) == len(mine) == 2


async def test_codex_is_told_of_the_span_of_its_turn(tmp_path, open_codex, traced):
    async with open_codex(SHOWS_TRACE, writes(DONE)) as codex:
        await codex.start_thread().run("go")
    context = traced.span.context
    shown = f"00-{context.trace_id:032x}-{context.span_id:016x}-01|"
    assert (tmp_path / "home/trace").read_text() == shown


@pytest.mark.parametrize(
    ("provider", "shown"),
    [(NoOpTracerProvider(), r"\|"), (TracerProvider(sampler=ALWAYS_OFF), r"00-\w{32}-\w{16}-00\|")],
)
async def test_a_turn_that_is_not_sampled_is_run_all_the_same(tmp_path, provider, shown):
    to = Telemetry(log=False)
    trace_turns(to, provider)
    async with Codex(fake_options(tmp_path, SHOWS_TRACE, writes(DONE)), telemetry=to) as codex:
        await codex.start_thread().run("go")
    assert re.fullmatch(shown, (tmp_path / "home/trace").read_text())


async def test_what_is_attached_in_the_middle_of_a_turn_begins_with_the_next_one(tmp_path):
    traced = Traced()
    options = fake_options(tmp_path, writes(STARTED + said("x")), writes(COMPLETED))
    async with Codex(options, telemetry=traced.telemetry) as codex:
        async with codex.start_thread().run_streamed("go") as turn:
            trace_turns(traced.telemetry, traced.provider)
            await turn.wait_result()
        assert traced.spans == ()
        await codex.start_thread().run("go")
    assert traced.span.name == "invoke_agent codex"


async def test_no_span_says_what_was_asked_or_answered_unless_somebody_wants_that_at_length(tmp_path):
    said_so, silent = Traced(), Traced()
    trace_turns(silent.telemetry, silent.provider)
    trace_turns(said_so.telemetry, said_so.provider, record_prompts_and_replies_in_clear_text=True)
    for traced in (silent, said_so):
        options = fake_options(tmp_path, writes(STARTED + said(SECRET) + COMPLETED))
        async with Codex(options, telemetry=traced.telemetry) as codex:
            await codex.start_thread().run(f"{SECRET}?")
    assert SECRET not in silent.span.to_json()
    attributes = said_so.span.attributes or {}
    messages = [json.loads(str(attributes[f"gen_ai.{way}.messages"])) for way in ("input", "output")]
    assert messages == [
        [{"role": "user", "parts": [{"type": "text", "content": f"{SECRET}?"}]}],
        [{"role": "assistant", "parts": [{"type": "text", "content": SECRET}], "finish_reason": "stop"}],
    ]


def test_without_a_provider_the_global_one_is_used(monkeypatch):
    traced = Traced()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: traced.provider)
    trace_turns(traced.telemetry)
    for event in EXAMPLES:
        traced.telemetry.emit(event)
    assert traced.span.name == "invoke_agent codex"
