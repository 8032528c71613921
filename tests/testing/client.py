"""A client that speaks to the scripted model as Codex does, seen byte by byte."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11
import trio

from codex_actors.testing import Scenario


@dataclass
class Response:
    """What came back; `complete` says whether the body ended as HTTP wants it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    complete: bool = False
    reset: bool = False

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.body.decode().split("\n")
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def texts(self) -> list[str]:
        items = [event["item"] for event in self.events if event["type"] == "response.output_item.done"]
        return [item["content"][0]["text"] for item in items if item["type"] == "message"]

    @property
    def error(self) -> str:
        message = json.loads(self.body)["error"]["message"]
        assert isinstance(message, str)
        return message


@dataclass
class Client:
    """One connection."""

    stream: trio.SocketStream
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    async def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None):
        head = {"host": "127.0.0.1", "content-length": str(len(body)), **(headers or {})}
        data = self.http.send(h11.Request(method=method, target=path, headers=list(head.items())))
        data += self.http.send(h11.Data(data=body)) or b""
        data += self.http.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(data)

    async def next_event(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            with trio.fail_after(10):
                self.http.receive_data(await self.stream.receive_some())
        return event

    async def receive(self) -> Response:
        response = await self.receive_head()
        await self.read(response)
        return response

    async def receive_head(self) -> Response:
        head = await self.next_event()
        assert isinstance(head, h11.Response)
        return Response(head.status_code, {name.decode(): value.decode() for name, value in head.headers})

    async def read(self, response: Response, until: bytes | None = None) -> None:
        """Reads on, to the end of the body or as far as `until`."""
        try:
            while isinstance(event := await self.next_event(), h11.Data):
                response.body += event.data
                if until is not None and until in response.body:
                    return
            response.complete = isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError:
            pass
        except trio.BrokenResourceError:
            response.reset = True

    async def ask(self, scenario: Scenario, prompt: str = "do it", **headers: str) -> Response:
        await self.send_prompt(scenario, prompt, **headers)
        return await self.receive()

    async def send_prompt(self, scenario: Scenario, prompt: str = "do it", **headers: str):
        body = json.dumps({"model": "gpt-5.5", "input": [said(prompt)]}).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.send("POST", urlsplit(scenario.url).path + "/responses", body, names)


@asynccontextmanager
async def open_client(url: str) -> AsyncGenerator[Client]:
    port = urlsplit(url).port
    assert port is not None
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Client(stream)


def said(text: str, role: str = "user") -> dict[str, object]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


async def asked(scenario: Scenario, count: int) -> None:
    """Waits until so many requests have come."""
    with trio.fail_after(10):
        await scenario.requests.wait(count)


async def ask(scenario: Scenario, prompt: str = "do it", **headers: str) -> Response:
    """Asks once, over a connection of its own."""
    async with open_client(scenario.url) as client:
        return await client.ask(scenario, prompt, **headers)
