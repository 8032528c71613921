# Replies -> the bytes of a server-sent event stream, the smallest that Codex accepts:
# response.created, one response.output_item.done per item, then an ending. Deltas are optional
# for Codex and left out.

from typing import assert_never

import msgspec

from codex_actors.events import Usage
from codex_actors.testing._replies import Broken, Completed, Failed, Incomplete, Item, Reply

_CALL_TYPES = frozenset({"function_call", "custom_tool_call", "tool_search_call"})


def created(response_id: str) -> bytes:
    """The first event of every stream."""
    return _event("response.created", {"response": {"id": response_id}})


def item_done(item: Item, serial: int) -> bytes:
    """One finished item; ids that the script left out are made from `serial`."""
    return _event("response.output_item.done", {"item": _identified(item, serial)})


def ending(reply: Reply, response_id: str) -> bytes:
    """The last event of a stream; nothing for one that breaks off."""
    response: dict[str, object] = {"id": response_id, "usage": _usage(reply.usage)}
    match reply.ending:
        case Completed(end_turn=end_turn):
            if end_turn is not None:
                response["end_turn"] = end_turn
            return _event("response.completed", {"response": response})
        case Failed(code=code, message=message):
            error = {"code": code, "message": message}
            return _event("response.failed", {"response": {**response, "status": "failed", "error": error}})
        case Incomplete(reason=reason):
            details = {"reason": reason}
            return _event(
                "response.incomplete",
                {"response": {**response, "status": "incomplete", "incomplete_details": details}},
            )
        case Broken():
            return b""
        case _:
            assert_never(reply.ending)


def _event(kind: str, data: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **data}))


def _identified(item: Item, serial: int) -> Item:
    kind = item.get("type")
    if kind in _CALL_TYPES:
        return {"call_id": f"call_{serial}", **item}
    if kind == "web_search_call":
        return {"id": f"ws_{serial}", **item}
    return item


def _usage(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
