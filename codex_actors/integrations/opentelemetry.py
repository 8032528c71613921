"""Turns as OpenTelemetry spans; needs the extra ``codex-actors[opentelemetry]``.

::

    telemetry = Telemetry()
    trace_turns(telemetry)
    async with Codex(telemetry=telemetry) as codex:
        ...

A span begins where the turn was asked for, below whatever span is current there. Codex is told of it, by
the variables ``TRACEPARENT`` and ``TRACESTATE``; if a ``trace_exporter`` is set in its configuration, its own
spans, its requests to the model and its commands belong to the same trace.
"""

import json
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TraceFlags, TracerProvider

from codex_actors.telemetry import (
    Event,
    Prompt,
    Reply,
    Telemetry,
    TraceContext,
    TurnEvent,
    TurnException,
    TurnStart,
    TurnStop,
)

__all__ = ["trace_turns"]

_Value: TypeAlias = str | bool | int | float | tuple[int, ...]

# Whoever ends a turn before its time has not seen it fail.
_INTERRUPTED = "TurnInterruptedError"
# What all events have, and so the span itself.
_OF_ALL = frozenset(TurnEvent.__struct_fields__)


def trace_turns(
    telemetry: Telemetry,
    provider: TracerProvider | None = None,
    *,
    record_prompts_and_replies_in_clear_text: bool = False,
) -> None:
    """Make a span of each turn, and have Codex continue its trace.

    Names are those of the semantic conventions for generative AI (which are not stable yet): the span is
    ``invoke_agent codex``, with the attributes ``gen_ai.*`` for model, conversation and tokens, and
    ``error.type``. What they have no word for is in ``codex.*``. All other events are events of the span.

    Args:
        telemetry: Of the runtimes whose turns are meant.
        provider: Where the spans go; None is the global provider.
        record_prompts_and_replies_in_clear_text: Whether the spans get ``gen_ai.input.messages`` and
            ``gen_ai.output.messages``. Whoever sees the traces reads them, too.
    """
    turns = _Turns(provider)
    telemetry.attach(("codex",), turns.take)
    telemetry.attach_tracer(turns.trace_context)
    if record_prompts_and_replies_in_clear_text:
        telemetry.attach(("clear_text",), turns.take)


class _Turns:
    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer = trace.get_tracer("codex_actors", tracer_provider=provider)
        self._spans: dict[str, Span] = {}

    def take(self, event: Event) -> None:
        if isinstance(event, TurnStart):
            self._spans[event.turn_id] = self._begin(event)
        span = self._spans.get(event.turn_id)
        if span is None:  # attached while the turn was running
            return
        match event:
            case TurnStart():
                pass
            case TurnStop() | TurnException():
                _end(self._spans.pop(event.turn_id), event)
            case Prompt(text=text):
                span.set_attribute("gen_ai.input.messages", _messages("user", text))
            case Reply(text=text):
                span.set_attribute(
                    "gen_ai.output.messages", _messages("assistant", text, finish_reason="stop")
                )
            case _:
                span.add_event(".".join(event.name), _attributes(event))

    def trace_context(self, turn_id: str) -> TraceContext | None:
        place = self._spans.get(turn_id, trace.INVALID_SPAN).get_span_context()
        if not place.is_valid:
            return None
        # OpenTelemetry's own propagator may set the flag "random", too, and Codex then takes it for no
        # place at all (0.163 to 0.169).
        sampled = place.trace_flags & TraceFlags.SAMPLED
        return TraceContext(
            traceparent=f"00-{place.trace_id:032x}-{place.span_id:016x}-{sampled:02x}",
            tracestate=place.trace_state.to_header(),
        )

    def _begin(self, event: TurnStart) -> Span:
        attributes: dict[str, _Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "openai",
            "gen_ai.agent.name": "codex",
            "codex.turn.id": event.turn_id,
            "codex.turn.input_length": event.input_length,
        }
        if event.model is not None:
            attributes["gen_ai.request.model"] = event.model
        return self._tracer.start_span(
            "invoke_agent codex",
            kind=SpanKind.CLIENT,  # Codex is another process, which can go on with the trace
            attributes=attributes,
        )


def _end(span: Span, event: TurnStop | TurnException) -> None:
    if event.thread_id is not None:
        span.set_attribute("gen_ai.conversation.id", event.thread_id)
    if isinstance(event, TurnStop):
        span.set_attribute("codex.turn.outcome", "completed")
        span.set_attributes(_tokens(event))
    elif event.error == _INTERRUPTED:
        span.set_attribute("codex.turn.outcome", "interrupted")
    else:
        span.set_attribute("codex.turn.outcome", "failed")
        span.set_attribute("error.type", event.error)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def _tokens(event: TurnStop) -> dict[str, int]:
    spent = event.usage.turn
    if spent is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": spent.input_tokens,
        "gen_ai.usage.cache_read.input_tokens": spent.cached_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": spent.cache_write_input_tokens,
        "gen_ai.usage.output_tokens": spent.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": spent.reasoning_output_tokens,
    }


def _attributes(event: Event) -> dict[str, _Value]:
    """What only this kind of event has, under names of ours."""
    own = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _OF_ALL}
    return {f"codex.{name}": value for name, value in own.items() if value is not None}


def _messages(role: str, text: str, **more: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}], **more}])
