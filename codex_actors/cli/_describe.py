# What a person reads of a turn, line by line. Pure: text in, text out, no colour and no width; those are
# the views'. Every line begins with a mark that says what it is, also where there is no colour.

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from codex_actors import errors
from codex_actors.cli._arguments import explain
from codex_actors.events import (
    Error,
    Event,
    ItemCompleted,
    ItemStarted,
    ItemUpdated,
    Noise,
    ThreadStarted,
    Unknown,
    Usage,
)
from codex_actors.items import (
    AgentMessage,
    CollabToolCall,
    CommandExecution,
    FileChange,
    Item,
    McpToolCall,
    McpToolError,
    Reasoning,
    TodoList,
    WebSearch,
)
from codex_actors.items import Error as Warning_
from codex_actors.results import PartialResult, TurnResult

DONE, FAILED, RUNNING, SAYS, NOTICE, ASIDE = "✓", "✗", "…", "●", "!", "·"

_MAX_LINE = 300
_OUTPUT_LINES = 3  # of a failed command: what went wrong stands last
_FILE_MARKS: Mapping[str, str] = {"add": "A", "update": "M", "delete": "D"}
# Of the turn's output, nothing may move the cursor, ring a bell or rename the window.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


def describe(event: Event) -> str | None:
    """Say what happened, in one line or several; None if it is not worth one."""
    match event:
        case ThreadStarted(thread_id=thread_id):
            return f"{ASIDE} thread {clean(thread_id)}"
        case ItemCompleted(item=item):
            return _describe_item(item)
        case Error(message=message):
            return f"{NOTICE} {_indented(message)}"
        case Unknown(reason=reason):
            return f"{NOTICE} not understood: {_one_line(reason)}"
        case Noise(reason=reason, sample=sample, size=size):
            text = _one_line(sample.decode(errors="replace"))
            return f"{NOTICE} {size} bytes that are no event ({_one_line(reason)}): {text}"
        case _:
            return None


def in_progress(event: Event) -> str | None:
    """Say what is going on since the event; None if it is not worth saying."""
    match event:
        case ItemStarted(item=item) | ItemUpdated(item=item):
            return _name(item)
        case _:
            return None


def _describe_item(item: Item) -> str:
    match item:
        case AgentMessage(text=text):
            return f"{SAYS} {_indented(text)}"
        case Reasoning(text=text):
            return f"{ASIDE} {_indented(text)}"
        case Warning_(message=message):
            return f"{NOTICE} {_indented(message)}"
        case TodoList(items=steps):
            ticks = (f"    [{'x' if step.completed else ' '}] {_one_line(step.text)}" for step in steps)
            return "\n".join([f"{DONE} plan", *ticks])
        case WebSearch():
            return f"{DONE} {_name(item)}"
        case _:
            return _describe_work(item)


def _describe_work(item: CommandExecution | FileChange | McpToolCall | CollabToolCall) -> str:
    name = _name(item)
    if item.status == "completed":
        return f"{DONE} {name}"
    match item:
        case CommandExecution(exit_code=exit_code, aggregated_output=output):
            status = item.status if exit_code is None else f"exit {exit_code}"
            return "\n".join([f"{FAILED} {name} ({status})", *_last_lines(output)])
        case McpToolCall(error=McpToolError(message=message)):
            return f"{FAILED} {name} ({_one_line(message)})"
        case _:
            return f"{FAILED} {name} ({item.status})"


def _name(item: Item) -> str | None:
    match item:
        case CommandExecution(command=command):
            words = ["$", _bare_command(command)]
        case FileChange(changes=changes):
            files = (f"{_FILE_MARKS.get(it.kind, it.kind)} {_near_path(it.path)}" for it in changes)
            words = ["patch", ", ".join(files)]
        case McpToolCall(server=server, tool=tool):
            words = ["tool", f"{server}/{tool}"]
        case WebSearch(query=query):
            words = ["search", query]
        case CollabToolCall(tool=tool):
            words = ["agents:", tool]
        case TodoList(items=steps):
            words = ["plan:", *(step.text for step in steps if not step.completed)][:2]
        case _:
            return None
    return _one_line(" ".join(words))


def describe_outcome(outcome: TurnResult | errors.CodexError, seconds: float) -> Iterator[str]:
    """Say what a turn came to."""
    if isinstance(outcome, errors.OptionError):
        yield f"{FAILED} {explain(outcome)}"
    elif isinstance(outcome, TurnResult):
        used = token_count(outcome.usage.turn or outcome.usage.thread)
        yield f"{DONE} completed in {duration(seconds)}; tokens: {used}"
    else:
        yield f"{FAILED} {outcome_name(outcome)} after {duration(seconds)}: {_indented(str(outcome))}"
        yield from _last_lines(getattr(outcome, "stderr_tail", ""))
    done = getattr(outcome, "partial", getattr(outcome, "result", outcome))
    if isinstance(done, TurnResult | PartialResult):
        yield f"{ASIDE} side effects: {done.side_effects.value}"


def outcome_name(outcome: TurnResult | errors.CodexError) -> str:
    """Name what a turn came to."""
    return "completed" if isinstance(outcome, TurnResult) else type(outcome).__name__


def token_count(usage: Usage | None) -> str:
    """Say how many tokens were used."""
    if usage is None:
        return "not counted"
    cached = f" ({usage.cached_input_tokens:,} cached)" if usage.cached_input_tokens else ""
    reasoning = f" ({usage.reasoning_output_tokens:,} reasoning)" if usage.reasoning_output_tokens else ""
    return f"{usage.input_tokens:,} in{cached}, {usage.output_tokens:,} out{reasoning}"


def duration(seconds: float) -> str:
    """Say how long something took, no more precisely than people read."""
    if seconds < 59.95:  # noqa: PLR2004 - what would be rounded to 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def clean(text: str) -> str:
    """Take out of a text what would not be printed but obeyed."""
    text = _ESCAPES.sub("", text).replace("\t", "    ").replace("\r\n", "\n")
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _one_line(text: str) -> str:
    lines = clean(text).strip().split("\n")
    cut = lines[0][:_MAX_LINE]
    return cut if cut == lines[0] and len(lines) == 1 else f"{cut} ..."


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in clean(text).strip().split("\n")).strip()


def _last_lines(output: str) -> Sequence[str]:
    # Without a letter or digit, a line is a rule between others.
    lines = [line[:_MAX_LINE] for line in clean(output).split("\n") if any(map(str.isalnum, line))]
    return [f"    {line}" for line in lines[-_OUTPUT_LINES:]]


def _near_path(path: str) -> str:
    """A path as seen from here, or its name alone if it is elsewhere."""
    here = os.path.relpath(path)
    return os.path.basename(path) if here.startswith("..") else here  # noqa: PTH119


def _bare_command(command: str) -> str:
    """The command as the model wrote it: without the shell around it and the program's directory."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    if len(words) == 3 and words[1] == "-lc":  # noqa: PLR2004 - bash -lc script
        command = words[2]
    program, space, arguments = command.partition(" ")
    return f"{os.path.basename(program)}{space}{arguments}" if program.startswith("/") else command  # noqa: PTH119
