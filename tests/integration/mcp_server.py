"""A tiny MCP server on stdio, of the standard library alone: the tools `echo`, `boom`, `slow`, `die`."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Result = dict[str, Any]

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
SECONDS = {"type": "object", "properties": {"seconds": {"type": "number"}}}
NOTHING: Result = {"type": "object", "properties": {}}


def said(text: str) -> Result:
    return {
        "content": [{"type": "text", "text": text}],
        "structuredContent": {"result": text},
        "isError": False,
    }


def echo(arguments: Result) -> Result:
    return said(f"echo: {arguments['text']}")


def boom(_: Result) -> Result:
    return {"content": [{"type": "text", "text": "Error executing tool boom"}], "isError": True}


def slow(arguments: Result) -> Result:
    time.sleep(arguments["seconds"])
    return said("slept")


def die(_: Result) -> Result:
    sys.exit(3)


TOOLS: dict[str, tuple[Callable[[Result], Result], Result]] = {
    "echo": (echo, TEXT),
    "boom": (boom, NOTHING),
    "slow": (slow, SECONDS),
    "die": (die, NOTHING),
}


def answer(method: str, params: Result) -> Result:
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "tiny", "version": "1"},
            }
        case "tools/list":
            return {"tools": [{"name": name, "inputSchema": schema} for name, (_, schema) in TOOLS.items()]}
        case "tools/call":
            return TOOLS[params["name"]][0](params.get("arguments") or {})
        case _:
            return {}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request and "method" in request:
        result = answer(request["method"], request.get("params") or {})
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")
        sys.stdout.flush()
