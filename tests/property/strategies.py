"""Streams as Codex writes them, as it never should, and cut as pipes cut them."""

import json
from itertools import pairwise

from hypothesis import strategies as st

from tests.capture_files import SPOKEN

# Deep enough that no interpreter reads it, and so much deeper than one can that every call of it agrees.
TOO_DEEP = b"[" * 100_000 + b"]" * 100_000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
event_tags = st.sampled_from(
    [
        *("thread.started", "turn.started", "turn.completed", "turn.failed", "error"),
        *("item.started", "item.updated", "item.completed"),
    ]
)
item_tags = st.sampled_from(
    [
        *("agent_message", "reasoning", "command_execution", "file_change", "mcp_tool_call"),
        *("web_search", "todo_list", "collab_tool_call", "error"),
    ]
)
# The names that Codex uses, so that known structs meet unknown shapes.
field_names = st.sampled_from(
    [
        *("thread_id", "usage", "message", "id", "text", "status", "changes", "arguments", "result"),
        *("action", "items", "agents_states", "exit_code", "raw", "", "new"),
    ]
)
fields = st.dictionaries(field_names, json_values, max_size=5)
items = st.builds(lambda tag, more: {"type": tag, **more}, item_tags | json_values, fields)
objects = st.one_of(
    st.builds(lambda tag, more: {"type": tag, **more}, event_tags | json_values, fields),
    st.builds(lambda tag, item: {"type": tag, "item": item}, event_tags, items),
    st.builds(lambda more: more, fields),
)
json_lines = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode(errors="replace"),
    objects | json_values,
    st.booleans(),
)

recorded_lines = st.sampled_from(sorted({line for run in SPOKEN for line in run.stdout.splitlines()}))


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    """A recorded line with one byte changed, or cut short."""
    line = bytearray(draw(recorded_lines))
    position = draw(st.integers(0, len(line) - 1))
    line[position] = draw(st.integers(0, 255))
    return bytes(line[: draw(st.just(len(line)) | st.integers(0, len(line)))])


odd_lines = st.one_of(
    st.sampled_from([b"", b" ", b"\r", b"{}", b"[]", b"null", b"1", b'"{"', b"}", b"{", TOO_DEEP]),
    st.builds(b'{"type":"turn.started","x":%b}'.__mod__, st.just(TOO_DEEP)),
    st.builds(lambda line: line + b"\r", recorded_lines),
    st.builds(lambda line: b"\xef\xbb\xbf" + line, recorded_lines),
    st.builds(lambda line: line + b"\x00", recorded_lines),
    st.builds(lambda line: b"\t" + line + b" ", recorded_lines),
    st.builds(lambda one, two: one + two, recorded_lines, recorded_lines),
    st.builds(lambda one, two: one + b" " + two, recorded_lines, recorded_lines),
    st.builds(lambda line: b"[" + line + b"]", recorded_lines),
    st.builds(lambda line: line.replace(b",", b",\n", 1), recorded_lines),
    st.builds(lambda line: line.replace(b'":', b'":\n{', 1), recorded_lines),
    st.builds(
        b'{"type":"error","message":"%b"}'.__mod__,
        st.sampled_from(["\u2028", "é\u2029", "\x85", "😀", "}\n{", "\x01"]).map(str.encode)
        | st.binary(max_size=8),
    ),
    st.binary(max_size=40),
)
lines = recorded_lines | damaged_lines() | json_lines | odd_lines

streams = st.builds(
    lambda body, end: b"\n".join(body) + end, st.lists(lines, max_size=8), st.sampled_from([b"", b"\n"])
)
recordings = st.sampled_from([run.stdout for run in SPOKEN])


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream in pieces, mostly cut near its newlines, which is where reading can go wrong."""
    near = [n + shift for n, byte in enumerate(stream) if byte == 0x0A for shift in (0, 1)]
    places = st.integers(0, len(stream)) | (st.sampled_from(near) if near else st.nothing())
    edges = sorted({0, *draw(st.lists(places, max_size=8)), len(stream)})
    return [stream[a:b] for a, b in pairwise(edges)]
