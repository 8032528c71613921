"""What Codex puts into a turn: messages, commands, patches, tool calls.

One frozen struct per ``type`` that ``codex exec --json`` writes (0.163 to 0.169). Status values are
plain strings because Codex adds new ones; the ones known today stand beside each field. Fields that
a struct does not name are ignored here and stay readable in the event's raw line.
"""

from typing import ClassVar, TypeAlias

import msgspec

from codex_actors._data import Data

__all__ = [
    "AgentMessage",
    "AgentState",
    "CollabToolCall",
    "CommandExecution",
    "Error",
    "FileChange",
    "FileUpdate",
    "Item",
    "McpToolCall",
    "McpToolError",
    "McpToolResult",
    "Reasoning",
    "TodoEntry",
    "TodoList",
    "WebSearch",
    "WebSearchAction",
]

# Whatever JSON a tool exchanges; `object` so that users narrow it before they rely on its shape.
JsonValue: TypeAlias = object


class AgentMessage(Data, frozen=True, kw_only=True, tag="agent_message"):
    """Something the agent said; the last one of a turn is its final response.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        text: The message, or JSON where an output schema was given.
    """

    _private: ClassVar = frozenset({"text"})

    id: str
    text: str


class Reasoning(Data, frozen=True, kw_only=True, tag="reasoning"):
    """A summary of the agent's reasoning (never the reasoning itself).

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        text: The summary, as Markdown.
    """

    _private: ClassVar = frozenset({"text"})

    id: str
    text: str


class CommandExecution(Data, frozen=True, kw_only=True, tag="command_execution"):
    """A shell command that the agent ran.

    Started and completed are two events with the same id; output arrives with the second, in one
    piece. A command still running when the turn ends has no second event.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        command: The command line, as Codex quotes it.
        aggregated_output: stdout and stderr in the order they came, at most 1 MiB (Codex leaves out
            the middle of what is longer).
        exit_code: None while it runs; -1 if it could not be started.
        status: ``in_progress``, ``completed``, ``failed`` (any exit code but 0) or ``declined``.
    """

    _private: ClassVar = frozenset({"command", "aggregated_output"})

    id: str
    command: str
    aggregated_output: str = ""
    exit_code: int | None = None
    status: str = "in_progress"


class FileUpdate(Data, frozen=True, kw_only=True):
    """One file that a patch touches.

    Attributes:
        path: Absolute path; for a move, the old one.
        kind: ``add``, ``update`` or ``delete``.
    """

    path: str
    kind: str


class FileChange(Data, frozen=True, kw_only=True, tag="file_change"):
    """A patch that the agent applied.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        changes: The files in it.
        status: ``in_progress``, ``completed`` or ``failed``.
    """

    id: str
    changes: tuple[FileUpdate, ...] = ()
    status: str = "in_progress"


class McpToolResult(Data, frozen=True, kw_only=True):
    """What an MCP tool answered.

    Attributes:
        content: The content blocks, as the server sent them.
        structured_content: The structured answer; None if there was none.
        meta: The server's ``_meta``; None if there was none.
    """

    _private: ClassVar = frozenset({"content", "structured_content", "meta"})

    content: tuple[JsonValue, ...] = ()
    structured_content: JsonValue = None
    meta: JsonValue = msgspec.field(default=None, name="_meta")


class McpToolError(Data, frozen=True, kw_only=True):
    """Why an MCP tool could not be called.

    Attributes:
        message: Codex's words.
    """

    _private: ClassVar = frozenset({"message"})

    message: str


class McpToolCall(Data, frozen=True, kw_only=True, tag="mcp_tool_call"):
    """A call of a tool on an MCP server.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        server: The server's name in the configuration.
        tool: The tool's name on that server.
        arguments: What the agent passed.
        result: The answer; also set when the tool itself reported a failure. None while it runs.
        error: Set when the call could not be made; None otherwise.
        status: ``in_progress``, ``completed`` or ``failed``.
    """

    _private: ClassVar = frozenset({"arguments"})

    id: str
    server: str
    tool: str
    arguments: JsonValue = None
    result: McpToolResult | None = None
    error: McpToolError | None = None
    status: str = "in_progress"


class WebSearchAction(Data, frozen=True, kw_only=True):
    """What a web search did.

    Attributes:
        type: ``search``, ``open_page`` or ``find_in_page``.
        query: What was searched for, if it was a search.
        queries: All queries of a search that made several; None otherwise.
        url: The page, if one was opened or searched.
        pattern: What was looked for in the page.
    """

    _private: ClassVar = frozenset({"query", "queries", "url", "pattern"})

    type: str
    query: str | None = None
    queries: tuple[str, ...] | None = None
    url: str | None = None
    pattern: str | None = None


class WebSearch(Data, frozen=True, kw_only=True, tag="web_search"):
    """A web search.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        call_id: The service's id of the search (``ws_...``). Codex writes it as a second ``id`` key
            in the same object; None if it did not.
        query: What was searched for.
        action: What was done; None if Codex did not say.
    """

    _private: ClassVar = frozenset({"query"})

    id: str
    call_id: str | None = None
    query: str = ""
    action: WebSearchAction | None = None


class TodoEntry(Data, frozen=True, kw_only=True):
    """One step of the agent's plan.

    Attributes:
        text: The step.
        completed: Whether the agent ticked it off.
    """

    _private: ClassVar = frozenset({"text"})

    text: str
    completed: bool = False


class TodoList(Data, frozen=True, kw_only=True, tag="todo_list"):
    """The agent's plan; updated as it goes, completed when the turn ends, however it ends.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        items: The steps, in order.
    """

    id: str
    items: tuple[TodoEntry, ...] = ()


class AgentState(Data, frozen=True, kw_only=True):
    """How a child agent is doing.

    Attributes:
        status: ``pending_init``, ``running``, ``completed`` and others.
        message: Its last message; None if it has said nothing.
    """

    _private: ClassVar = frozenset({"message"})

    status: str
    message: str | None = None


class CollabToolCall(Data, frozen=True, kw_only=True, tag="collab_tool_call"):
    """A call that concerns child agents. What the children do themselves is not shown.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        tool: ``spawn_agent``, ``send_input``, ``wait`` or ``close_agent``.
        sender_thread_id: The thread that called.
        receiver_thread_ids: The children addressed.
        prompt: What a child was asked; None where there is none.
        agents_states: The children's states by thread id.
        status: ``in_progress``, ``completed`` or ``failed``.
    """

    _private: ClassVar = frozenset({"prompt"})

    id: str
    tool: str
    sender_thread_id: str = ""
    receiver_thread_ids: tuple[str, ...] = ()
    prompt: str | None = None
    agents_states: dict[str, AgentState] = {}  # noqa: RUF012 - msgspec copies it for each instance
    status: str = "in_progress"


class Error(Data, frozen=True, kw_only=True, tag="error"):
    """A warning, in spite of its name: an unknown model, a deprecated setting. It can come before
    the turn starts.

    Attributes:
        id: ``item_N``, counted from 0 in every process.
        message: Codex's words.
    """  # noqa: D205 - two sentences that belong together

    _private: ClassVar = frozenset({"message"})

    id: str
    message: str


Item: TypeAlias = (
    AgentMessage
    | Reasoning
    | CommandExecution
    | FileChange
    | McpToolCall
    | WebSearch
    | TodoList
    | CollabToolCall
    | Error
)
