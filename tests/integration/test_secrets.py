"""What is secret or the user's own appears in no process list, log, repr or traceback."""

import json
import logging
import pwd
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import structlog.testing
import structlog.tracebacks
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import codex_actors
import codex_actors.options
from codex_actors import Codex, Telemetry, Thread, errors, events
from codex_actors.integrations.opentelemetry import trace_turns
from codex_actors.options import (
    CodexOptions,
    CustomReview,
    Deadlines,
    HttpMcpServer,
    Input,
    LocalImage,
    McpServer,
    Options,
    StdioMcpServer,
    Text,
    ThreadOptions,
    TurnOptions,
    split_input,
)
from codex_actors.telemetry import Event
from codex_actors.testing import ModelServer, exits, fake_codex, hangs, message, reply, shell, writes
from tests.fakes import STARTED, line, said
from tests.leak_check import HAS_PROC
from tests.limits import descriptors_left

KEY, PROMPT, REPLY, COMMAND, MCP, CONFIG, ENV, SCHEMA, HEADER = CANARIES = tuple(
    f"canary-{name}-6c1f0a"
    for name in ["key", "prompt", "reply", "command", "mcp", "config", "env", "schema", "header"]
)
PACKAGE = str(Path(codex_actors.__file__).parent)


@pytest.fixture
def options(configure: Callable[..., CodexOptions]) -> Callable[..., CodexOptions]:
    def make(url: str = "http://127.0.0.1:9/v1", **given: object) -> CodexOptions:
        plain = configure(url)
        return configure(
            url,
            api_key=KEY,
            env={**plain.env, "A_TOKEN": ENV},
            config={"model_providers": {"scripted": {"http_headers": {"x-tenant": CONFIG}}}},
            **given,
        )

    return make


@pytest.fixture
def thread_options(workspace: Path) -> ThreadOptions:
    servers: dict[str, McpServer] = {
        "tiny": StdioMcpServer(
            command=sys.executable,
            args=["-I", str(Path(__file__).with_name("mcp_server.py"))],
            env={"TINY_TOKEN": MCP},
            required=True,
        ),
        "far": HttpMcpServer(url="http://127.0.0.1:9/mcp", headers={"x-far": HEADER}, bearer_token=HEADER),
    }
    return ThreadOptions(
        cwd=workspace, skip_git_repo_check=True, sandbox="danger-full-access", mcp_servers=servers
    )


TURN = TurnOptions(
    output_schema={
        "type": "object",
        "properties": {SCHEMA: {"type": "string"}},
        "required": [SCHEMA],
        "additionalProperties": False,
    }
)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[object]]:
    """Everything that is logged, from debug on."""
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as entries:
        captured: list[object] = [entries, caplog.records]
        yield captured


class Ears:
    """All that telemetry tells, in all the forms in which somebody may write it down.

    Attributes:
        telemetry: For a runtime.
    """

    def __init__(self, **at_length: bool) -> None:
        self._heard: list[Event | str] = []
        self._spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        log = {f"log_{what}": wanted for what, wanted in at_length.items()}
        record = {f"record_{what}": wanted for what, wanted in at_length.items()}
        self.telemetry = Telemetry(**log)
        self.telemetry.attach(("codex",), self._heard.append)
        self.telemetry.attach(("clear_text",), lambda event: self._heard.append(repr(event)))
        self.telemetry.attach(("clear_text",), self._fail)
        trace_turns(self.telemetry, provider, **record)

    def _fail(self, event: Event) -> None:
        raise ValueError(event, getattr(event, "text", ""))

    @property
    def heard(self) -> list[str]:
        """What was told; never nothing."""
        spans = [span.to_json() for span in self._spans.get_finished_spans()]
        assert spans
        return [*map(repr, self._heard), msgspec.json.encode(self._heard).decode(), *spans]


@pytest.fixture
def ears() -> Ears:
    return Ears()


def canaries_in(text: object) -> list[str]:
    return [canary for canary in CANARIES if canary in str(text)]


def command_lines() -> str:
    lines = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                lines.append((process / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return "\n".join(lines)


def leaks(exc: BaseException) -> list[str]:
    """Where the usual ways to show an error show a canary, the locals of our own frames included."""
    everywhere = [*_by_the_standard_library(exc), *_by_structlog(exc)]
    return sorted({f"{place}: {canary}" for place, text in everywhere for canary in canaries_in(text)})


def _by_the_standard_library(exc: BaseException) -> Iterator[tuple[str, str]]:
    yield "the traceback", "".join(traceback.format_exception(exc))
    todo = [traceback.TracebackException.from_exception(exc, capture_locals=True)]
    for shown in todo:
        todo += filter(None, (shown.__cause__, shown.__context__, *(shown.exceptions or ())))
        for frame in shown.stack:
            if frame.filename.startswith(PACKAGE):
                yield from ((f"{name} in {frame.name}", text) for name, text in (frame.locals or {}).items())


def _by_structlog(exc: BaseException) -> Iterator[tuple[str, str]]:
    # With rich, if it is installed, which does not ask for reprs.
    trace = structlog.tracebacks.extract(type(exc), exc, exc.__traceback__, show_locals=True)
    for frame in chain.from_iterable(stack.frames for stack in trace.stacks):
        if frame.filename.startswith(PACKAGE):
            yield from ((f"{name} in {frame.name}", text) for name, text in (frame.locals or {}).items())


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_while_a_turn_runs_no_process_list_shows_a_secret(
    model_server: ModelServer, options, thread_options, log, ears
):
    go_on = trio.Event()
    story = model_server.script("story", reply(message(REPLY), go_on, message(json.dumps({SCHEMA: "x"}))))
    codex = Codex(options(story.url), telemetry=ears.telemetry)
    async with codex, codex.start_thread(thread_options).run_streamed(PROMPT, TURN) as turn:
        with trio.fail_after(30):
            await story.requests.wait(1)
        seen = command_lines()
        go_on.set()
        heard = [event async for event in turn]
    assert "exec" in seen
    assert "mcp_server.py" in seen, "the MCP server was running"
    assert canaries_in(seen) == []
    assert turn.result.final_response == json.dumps({SCHEMA: "x"})
    asked = story.requests[0]
    assert asked.headers["authorization"] == f"Bearer {KEY}", "the secrets did get where they belong"
    assert asked.headers["x-tenant"] == CONFIG
    assert PROMPT in asked.prompt
    assert canaries_in([heard, turn, turn.result, log, ears.heard]) == []
    assert "turn.completed" in str(log)
    assert "telemetry.handler_detached" in str(log)


async def test_the_commands_of_the_model_do_not_see_the_key(model_server, options, thread_options):
    story = model_server.script("story", shell("env"), message("done"))
    async with Codex(options(story.url)) as codex:
        await codex.start_thread(thread_options).run(PROMPT)
    [output] = story.requests[1].tool_outputs
    assert canaries_in(output) == [ENV], "what was given to them on purpose, and nothing else"


async def test_no_repr_shows_what_is_secret_or_the_users_own(options, thread_options):
    given = options()
    codex = Codex(given)
    shown = [
        given,
        thread_options,
        TURN,
        Text(PROMPT),
        CustomReview(PROMPT),
        codex,
        codex.start_thread(thread_options),
        codex.__dict__,
        codex._runner.__dict__,
    ]
    assert canaries_in(shown) == []


ITEMS = (
    STARTED
    + said(REPLY)
    + line(
        "item.completed",
        item={
            "id": "item_1",
            "type": "command_execution",
            "command": COMMAND,
            "aggregated_output": REPLY,
            "exit_code": 0,
            "status": "completed",
        },
    )
    + line("item.completed", item={"id": "item_2", "type": "new", "text": REPLY})
    + REPLY
    + "\n"
)

ENDINGS = {
    "panic": (writes(ITEMS), exits(101)),
    "truncated": (writes(ITEMS),),
    "idle": (writes(ITEMS), hangs()),
    "refused": (exits(2),),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_no_failure_of_a_turn_shows_it(options, thread_options, tmp_path, *, ending, log, ears):
    path = fake_codex(tmp_path / "bin", *ENDINGS[ending])
    given = options(codex_path=path, deadlines=Deadlines(idle_seconds=0.2))
    heard: list[events.Event] = []
    codex = Codex(given, telemetry=ears.telemetry)
    with pytest.raises(errors.CodexError) as streamed:
        async with codex, codex.start_thread(thread_options).run_streamed(PROMPT, TURN) as turn:
            async for event in turn:
                heard.append(event)  # noqa: PERF401 - the loop ends with an error
    with pytest.raises(errors.CodexError) as ran:
        async with codex:
            await codex.start_thread(thread_options).run(PROMPT, TURN)
    for error in (streamed.value, ran.value):
        assert canaries_in([error, error.__dict__]) == []
        assert leaks(error) == []
    assert canaries_in([heard, log, ears.heard]) == []


UNSTARTABLE: dict[str, Input] = {
    "no program": PROMPT,
    "no binary": PROMPT,
    "no image": [Text(PROMPT), LocalImage("/no/such.png")],
}


@pytest.mark.parametrize("why", UNSTARTABLE)
async def test_no_turn_that_cannot_start_shows_it(options, thread_options, tmp_path, *, why, log, ears):
    no_program = tmp_path / "codex"
    no_program.write_bytes(bytes(4))
    no_program.chmod(0o755)
    given = options(codex_path="/no/such/codex" if why == "no binary" else no_program)
    with pytest.raises(errors.CodexError) as caught:
        async with Codex(given, telemetry=ears.telemetry) as codex:
            await codex.start_thread(thread_options).run(UNSTARTABLE[why], TURN)
    told = [] if why == "no image" else ears.heard
    assert canaries_in([caught.value, caught.value.__dict__, log, told]) == []
    assert leaks(caught.value) == []


async def test_who_asks_at_length_has_prompts_and_replies_and_still_nothing_else(
    options, thread_options, tmp_path, log
):
    ears = Ears(prompts_and_replies_in_clear_text=True)
    given = options(codex_path=fake_codex(tmp_path / "bin", writes(ITEMS)))
    with pytest.raises(errors.StreamTruncatedError):
        async with Codex(given, telemetry=ears.telemetry) as codex:
            await codex.start_thread(thread_options).run(PROMPT, TURN)
    assert canaries_in(log) == [PROMPT, REPLY]
    assert canaries_in(ears.heard) == [PROMPT, REPLY]


DEEP: list[object] = [CONFIG]
for _ in range(100_000):
    DEEP = [DEEP]


REFUSED: dict[str, Callable[[], object]] = {
    "CodexOptions.api_key": lambda: CodexOptions(api_key=f"{KEY} "),
    "CodexOptions.config": lambda: CodexOptions(config={"a": {"b": CONFIG, "c": object()}}),
    "CodexOptions.config, deep": lambda: CodexOptions(config={"a": DEEP}),
    "CodexOptions.config_overrides": lambda: CodexOptions(config_overrides=[CONFIG]),
    "CodexOptions.env": lambda: CodexOptions(env={"A_TOKEN": f"{ENV}\0"}),
    "StdioMcpServer.args": lambda: StdioMcpServer(command="x", args=[MCP, 1]),  # type: ignore[list-item]
    "StdioMcpServer.env": lambda: StdioMcpServer(command="x", env={"TINY_TOKEN": f"{MCP}\0"}),
    "HttpMcpServer.url": lambda: HttpMcpServer(url=f"ftp://{HEADER}@host"),
    "HttpMcpServer.bearer_token": lambda: HttpMcpServer(url="http://x", bearer_token=f"{HEADER} "),
    "HttpMcpServer.headers": lambda: HttpMcpServer(url="http://x", headers={"x": HEADER, "y": 1}),  # type: ignore[dict-item]
    "ThreadOptions.mcp_servers": lambda: ThreadOptions(mcp_servers={"a": {"env": MCP}}),  # type: ignore[dict-item]
    "TurnOptions.output_schema": lambda: TurnOptions(output_schema={"a": SCHEMA, "b": object()}),
    "Text.text": lambda: Text([PROMPT]),  # type: ignore[arg-type]
    "CustomReview.instructions": lambda: CustomReview([PROMPT]),  # type: ignore[arg-type]
    "input": lambda: split_input([PROMPT, 1]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("why", REFUSED)
def test_nothing_that_is_refused_shows_it(why):
    with pytest.raises(errors.OptionError) as caught:
        REFUSED[why]()
    assert canaries_in([caught.value, caught.value.__dict__]) == []
    assert leaks(caught.value) == []


def test_no_lack_of_a_home_shows_it(monkeypatch):
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(errors.CodexHomeError) as caught:
        Codex(CodexOptions(inherit_env="none", api_key=KEY, env={"A_TOKEN": ENV}))
    assert leaks(caught.value) == []


HALF = f"{PROMPT}\ud800"
ASKED: dict[str, Callable[[Thread], Any]] = {
    "run": lambda thread: thread.run(HALF),
    "run_streamed": lambda thread: thread.run_streamed(HALF),
    "review": lambda thread: thread.review(CustomReview(HALF)),
    "review, no target": lambda thread: thread.review(PROMPT),  # type: ignore[arg-type]
    "review_streamed": lambda thread: thread.review_streamed(CustomReview(HALF)),
    "review_streamed, no target": lambda thread: thread.review_streamed(PROMPT),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("how", ASKED)
async def test_no_question_that_is_refused_shows_it(how):
    thread = Codex().start_thread()
    with pytest.raises(errors.OptionError) as caught:
        await ASKED[how](thread)
    assert leaks(caught.value) == []


SETTINGS = {
    "a secret setting": CodexOptions(api_key=KEY, config={"a": [{"token": CONFIG}]}),
    "a secret override": CodexOptions(env={"A_TOKEN": ENV}, config_overrides=[f"a.token={CONFIG}"]),
    "too long a setting": CodexOptions(config={"a": CONFIG * 10_000}),
}


@pytest.mark.parametrize("why", SETTINGS)
async def test_no_turn_that_is_refused_shows_it(thread_options, tmp_path, why, log):
    given = msgspec.structs.replace(SETTINGS[why], codex_path=fake_codex(tmp_path / "bin", exits(0)))
    with pytest.raises(errors.OptionError) as caught:
        async with Codex(given) as codex:
            await codex.start_thread(thread_options).run(PROMPT, TURN)
    assert canaries_in([caught.value, caught.value.__dict__, log]) == []
    assert leaks(caught.value) == []


def test_every_private_option_has_been_refused_once():
    private = {
        f"{options.__name__}.{name}"
        for options in vars(codex_actors.options).values()
        if isinstance(options, type) and issubclass(options, Options)
        for name in options._private
    }
    assert private - REFUSED.keys() == set()


async def test_no_lack_of_descriptors_shows_it(options, thread_options, tmp_path):
    given = options(codex_path=fake_codex(tmp_path / "bin", exits(0)))
    async with Codex(given) as codex:
        with pytest.raises(errors.StreamTruncatedError):
            await codex.start_thread(thread_options).run(PROMPT, TURN)
        for count in range(8):
            with descriptors_left(count), pytest.raises(errors.ResourceLimitError) as caught:
                await codex.start_thread(thread_options).run(PROMPT, TURN)
            assert leaks(caught.value) == [], f"with {count} descriptors left"
