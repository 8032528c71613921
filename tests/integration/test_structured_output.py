"""Final responses as instances: what the real Codex sends for them, and how they are asked for again."""

import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
import structlog
import trio
import trio.testing
from msgspec.structs import replace

from codex_actors import Codex, CodexStatistics, JsonTurnResult, Thread, errors
from codex_actors.events import Usage
from codex_actors.items import AgentMessage, CommandExecution
from codex_actors.options import ThreadOptions, TurnOptions
from codex_actors.results import SideEffects
from codex_actors.testing import (
    ModelRequest,
    ModelServer,
    Scenario,
    hang,
    http_error,
    message,
    reply,
    shell,
)


class Finding(msgspec.Struct):
    file: str
    line: int | None = None
    severity: str = "low"


class Report(msgspec.Struct):
    """What was found."""

    title: str
    findings: list[Finding] = []


@dataclass
class DataReport:
    title: str
    findings: list[Finding] = field(default_factory=list)


class DictReport(TypedDict):
    title: str
    findings: list[Finding]


class ModelFinding(pydantic.BaseModel):
    file: str
    line: int | None = None
    severity: str = "low"


class ModelReport(pydantic.BaseModel):
    title: str
    findings: list[ModelFinding] = []


class Counts(msgspec.Struct):
    counts: dict[str, int]


SENT = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "findings": {
            "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Finding"}}, {"type": "null"}],
        },
    },
    "required": ["title", "findings"],
    "additionalProperties": False,
    "title": "Report",
    "description": "What was found.",
    "$defs": {
        "Finding": {
            "type": "object",
            "properties": {
                "file": {"type": "string"},
                "line": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "severity": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["file", "line", "severity"],
            "additionalProperties": False,
            "title": "Finding",
        }
    },
}
REPLY = '{"title": "one", "findings": [{"file": "a.py", "line": null, "severity": null}]}'
WRONG = '{"title": "one", "findings": "secret-of-the-reply"}'


@pytest.fixture
def script(model_server: ModelServer) -> Callable[..., Scenario]:
    return lambda *steps: model_server.script("structured", *steps)


@pytest.fixture
def thread_options(workspace: Path) -> ThreadOptions:
    return ThreadOptions(cwd=workspace, skip_git_repo_check=True, sandbox="workspace-write")


async def test_a_struct_is_asked_for_in_strict_form_and_read_back(script, configure, thread_options):
    story = script(message(REPLY))
    async with Codex(configure(story.url)) as codex:
        result = await codex.start_thread(thread_options).run("Report.", output_type=Report)
    assert result.parsed == Report("one", [Finding("a.py", None, "low")])
    assert result.final_response == REPLY
    assert story.requests[0].field("text", "format") == {
        "type": "json_schema",
        "strict": True,
        "name": "codex_output_schema",
        "schema": SENT,
    }


@pytest.mark.parametrize(
    ("output_type", "parsed"),
    [
        (DataReport, DataReport("one", [Finding("a.py", None, "low")])),
        (DictReport, {"title": "one", "findings": [Finding("a.py", None, "low")]}),
        (ModelReport, ModelReport(title="one", findings=[ModelFinding(file="a.py", line=None)])),
    ],
)
async def test_every_kind_of_type_is_read_back(script, configure, thread_options, output_type, parsed):
    story = script(message(REPLY))
    async with Codex(configure(story.url)) as codex:
        result = await codex.start_thread(thread_options).run("Report.", output_type=output_type)
    assert result.parsed == parsed
    assert type(result.parsed) is type(parsed)
    assert story.requests[0].field("text", "format", "schema", "additionalProperties") is False


async def test_a_streamed_turn_has_its_instance_too(script, configure, thread_options):
    story = script(message(REPLY))
    async with Codex(configure(story.url)) as codex:
        async with codex.start_thread(thread_options).run_streamed("Report.", output_type=Report) as turn:
            assert [event async for event in turn]
        assert turn.result.parsed.title == (await turn.wait_result()).parsed.title == "one"


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "level": {"type": "integer", "minimum": 1, "default": 3}},
    "required": ["name"],
}


async def test_a_schema_is_sent_in_strict_form_and_null_becomes_its_default(
    script, configure, thread_options
):
    story = script(message('{"name": "it", "level": null}'))
    async with Codex(configure(story.url)) as codex:
        turn = TurnOptions(output_schema=SCHEMA)
        result = await codex.start_thread(thread_options).run("Report.", turn)
    assert isinstance(result, JsonTurnResult)
    assert result.parsed == {"name": "it", "level": 3}
    assert story.requests[0].field("text", "format", "schema") == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "level": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        },
        "required": ["name", "level"],
        "additionalProperties": False,
    }


async def test_a_reply_that_breaks_a_keyword_of_the_schema_is_asked_for_again(
    script, configure, thread_options
):
    story = script(message('{"name": "it", "level": 0}'), message('{"name": "it", "level": 1}'))
    async with Codex(configure(story.url)) as codex:
        turn = TurnOptions(output_schema=SCHEMA)
        result = await codex.start_thread(thread_options).run("Report.", turn)
    assert isinstance(result, JsonTurnResult)
    assert result.parsed == {"name": "it", "level": 1}
    assert "`minimum` is not kept at $.level" in story.requests[1].prompt


def sandbox_of(request: ModelRequest) -> str:
    """The sandbox that the model was told about last."""
    told: list[str] = re.findall(r"`sandbox_mode` is `([a-z-]+)`", request.instructions)
    return told[-1]


async def test_a_reply_that_does_not_fit_is_asked_for_again_on_its_thread_and_read_only(
    script, configure, thread_options
):
    story = script(shell("true"), message(WRONG), message(REPLY))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        result = await thread.run("Report.", output_type=Report)
        assert codex.statistics() == CodexStatistics(
            turns_running=0, turns_started=1, turns_completed=1, turns_failed=0
        )
    *_, before, again = story.requests
    assert len(story.requests) == 3
    assert result.parsed.title == "one"
    assert (before.thread_id, again.thread_id) == (thread.id, thread.id)
    assert (sandbox_of(before), sandbox_of(again)) == ("workspace-write", "read-only")
    assert "at $.findings" in again.prompt
    assert again.field("text", "format", "schema") == SENT
    assert [type(item) for item in result.items] == [CommandExecution, AgentMessage, AgentMessage]
    assert result.side_effects is SideEffects.SEEN
    assert result.usage.turn == result.usage.thread == Usage(input_tokens=300, output_tokens=30)


async def test_a_reply_that_never_fits_is_an_error_that_carries_it(script, configure, thread_options):
    story = script(message(WRONG), message("[1]"))
    async with Codex(configure(story.url)) as codex:
        with pytest.raises(errors.InvalidOutputError) as caught:
            await codex.start_thread(thread_options).run("Report.", output_type=Report)
    error = caught.value
    assert len(story.requests) == 2
    assert (error.text, error.path, error.problem) == ("[1]", "$", "Expected `object`, got `array` at $")
    assert [item.text for item in error.result.items if isinstance(item, AgentMessage)] == [WRONG, "[1]"]
    assert error.result.usage.turn == Usage(input_tokens=200, output_tokens=20)
    assert error.__cause__ is None


async def test_it_is_asked_for_as_often_as_one_says(script, configure, thread_options):
    story = script(message(WRONG), message(WRONG), message(WRONG), message(REPLY))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        result = await thread.run("Report.", TurnOptions(output_retries=3), output_type=Report)
        assert len(result.items) == len(story.requests) == 4
        assert result.usage.turn == Usage(input_tokens=400, output_tokens=40)


async def test_it_is_not_asked_for_again_where_nobody_wants_that(script, configure, thread_options):
    story = script(message(WRONG))
    async with Codex(configure(story.url)) as codex:
        with pytest.raises(errors.InvalidOutputError):
            await codex.start_thread(thread_options).run(
                "Report.", TurnOptions(output_retries=0), output_type=Report
            )
    assert len(story.requests) == 1


async def test_an_ephemeral_thread_is_not_asked_again(script, configure, thread_options):
    story = script(message(WRONG))
    ephemeral = replace(thread_options, ephemeral=True)
    async with Codex(configure(story.url)) as codex:
        with pytest.raises(errors.InvalidOutputError):
            await codex.start_thread(ephemeral).run("Report.", output_type=Report)
    assert len(story.requests) == 1


async def test_a_streamed_reply_that_does_not_fit_is_an_error_at_the_end_of_the_loop(
    script, configure, thread_options
):
    story = script(message(WRONG))
    async with Codex(configure(story.url)) as codex:
        async with codex.start_thread(thread_options).run_streamed("Report.", output_type=Report) as turn:
            with pytest.raises(errors.InvalidOutputError) as caught:
                [event async for event in turn]
        with pytest.raises(errors.InvalidOutputError):
            turn.result  # noqa: B018
    assert caught.value.text == WRONG
    assert len(story.requests) == 1


async def test_a_repair_that_fails_leaves_the_reply_and_says_why(script, configure, thread_options):
    story = script(message(WRONG), http_error(429, "limit", type="usage_limit_reached", plan_type="plus"))
    async with Codex(configure(story.url)) as codex:
        with pytest.raises(errors.InvalidOutputError) as caught:
            await codex.start_thread(thread_options).run("Report.", output_type=Report)
    assert caught.value.text == WRONG
    assert isinstance(caught.value.__cause__, errors.UsageLimitError)


async def test_a_thread_goes_on_after_a_repair_and_after_one_that_was_cancelled(
    script, configure, thread_options
):
    story = script(message(WRONG), message(REPLY), message(WRONG), hang(), message("well"), message("yes"))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        await thread.run("Report.", output_type=Report)
        with trio.fail_after(60), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(thread.run, "Again.", output_type=Report))
                await story.requests.wait(4)
                scope.cancel()
        assert scope.cancelled_caught
        assert (await thread.run("And now?")).final_response == "well"
        resumed = await codex.resume_thread(str(thread.id), thread_options).run("Really?")
    assert (resumed.thread_id, resumed.final_response) == (thread.id, "yes")
    assert codex.statistics().turns_failed == 1


async def test_nobody_comes_between_a_reply_and_its_repair(script, configure, thread_options):
    go_on = trio.Event()
    story = script(reply(go_on, message(WRONG)), message(REPLY), message("well"))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(thread.run, "Report.", output_type=Report))
            await story.requests.wait(1)
            nursery.start_soon(thread.run, "And now?")
            await trio.testing.wait_all_tasks_blocked(0.01)
            go_on.set()
    assert [request.prompt[:10] for request in story.requests] == ["Report.", "Your last ", "And now?"]


async def test_a_runtime_that_closes_during_a_repair_leaves_the_reply(script, configure, thread_options):
    story = script(message(WRONG), hang())
    caught: list[errors.CodexError] = []

    async def ask(thread: Thread) -> None:
        try:
            await thread.run("Report.", output_type=Report)
        except errors.CodexError as exc:
            caught.append(exc)

    async with trio.open_nursery() as nursery, Codex(configure(story.url)) as codex:
        nursery.start_soon(ask, codex.start_thread(thread_options))
        await story.requests.wait(2)
    [error] = caught
    assert isinstance(error, errors.InvalidOutputError)
    assert error.text == WRONG


async def test_no_file_holds_the_schema_while_a_turn_runs(
    script, configure, thread_options, workspace, private_temp_dir
):
    """So none can be left, however the turn or its host ends."""
    story = script(hang())
    options = configure(story.url)
    schema = {**SCHEMA, "description": "a-canary-in-the-schema"}
    async with (
        Codex(options) as codex,
        codex.start_thread(thread_options).run_streamed("Report.", TurnOptions(output_schema=schema)),
    ):
        with trio.fail_after(60):
            request = await story.requests.wait(1)
        places = [workspace, private_temp_dir, Path(str(options.codex_home))]
        files = [file for place in places for file in place.rglob("*") if file.is_file()]
        holding = [file for file in files if b"a-canary-in-the-schema" in file.read_bytes()]
    assert request.field("text", "format", "schema", "description") == "a-canary-in-the-schema"
    assert len(files) > 1
    assert holding == []


async def test_neither_reply_nor_repair_are_shown(script, configure, thread_options, caplog):
    story = script(message(WRONG), message(WRONG))
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logged:
        async with Codex(configure(story.url)) as codex:
            with pytest.raises(errors.InvalidOutputError) as caught:
                await codex.start_thread(thread_options).run("Report.", output_type=Report)
    told = [caught.value, caught.value.__dict__, caplog.records, logged]
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "secret-of-the-reply" not in f"{told}{shown}"
    assert "Your last message" not in f"{told}{shown}"


REFUSED: dict[str, tuple[TurnOptions, dict[str, Any], dict[str, Any]]] = {
    "output_type": (TurnOptions(output_schema=SCHEMA), {}, {"output_type": Report}),
    "output_type.counts": (TurnOptions(), {}, {"output_type": Counts}),
    "TurnOptions.output_schema": (TurnOptions(output_schema={"type": "strng"}), {}, {}),
    "TurnOptions.output_retries": (TurnOptions(output_retries=1), {}, {}),
}


@pytest.mark.parametrize("field", REFUSED)
async def test_what_cannot_work_is_refused_before_anything_starts(script, configure, thread_options, field):
    turn, thread, more = REFUSED[field]
    async with Codex(configure(script().url)) as codex:
        asked = codex.start_thread(replace(thread_options, **thread))
        with pytest.raises(errors.OptionError) as caught:
            await asked.run("Report.", turn, **more)
        with pytest.raises(errors.OptionError) as streamed:
            asked.run_streamed("Report.", turn, **more)
        assert caught.value.field == streamed.value.field == field
        assert codex.statistics().turns_started == 0


async def test_retries_that_cannot_be_had_are_refused(script, configure, thread_options):
    turn = TurnOptions(output_retries=1)
    async with Codex(configure(script().url)) as codex:
        with pytest.raises(errors.OptionError, match="streamed"):
            codex.start_thread(thread_options).run_streamed("Report.", turn, output_type=Report)
        ephemeral = codex.start_thread(replace(thread_options, ephemeral=True))
        with pytest.raises(errors.OptionError, match="ephemeral"):
            await ephemeral.run("Report.", turn, output_type=Report)
