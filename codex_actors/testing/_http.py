# HTTP/1.1 on one accepted connection: h11 knows the protocol, this file moves its bytes and sends the
# model's answers, broken ones included. A connection whose other side leaves ends at once, even while
# a reply is held back, so that a killed Codex leaves no socket behind.

import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial

import h11
import msgspec
import trio

from codex_actors.testing import _sse
from codex_actors.testing._replies import Answer, Broken, Ending, Pause, Reply
from codex_actors.testing._requests import ModelRequest

# A prompt of several megabytes with images fits; a runaway sender does not.
MAX_BODY_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


async def serve(
    answer: Callable[[ModelRequest], Answer], serials: Iterator[int], stream: trio.SocketStream
) -> None:
    """Answers the requests of one connection until one side ends it."""
    connection = HttpConnection(stream)
    async with stream:
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            while request := await connection.receive_request():
                await _send(connection, answer(request), serials)
                if not connection.can_go_on:
                    return


class HttpConnection:
    """The server's side of one connection.

    Every method raises `trio.BrokenResourceError` when the other side has left and
    `h11.RemoteProtocolError` when it does not speak HTTP.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER)

    async def receive_request(self) -> ModelRequest | None:
        """Waits for the next request; None when the other side is done."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        return ModelRequest(
            method=head.method.decode("ascii"),
            path=head.target.decode("ascii"),
            headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
            body=_json_object(await self._receive_body()),
        )

    async def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Begins an answer."""
        await self._send(h11.Response(status_code=status, headers=list(headers.items())))

    async def send_body(self, data: bytes) -> None:
        """Sends a part of the answer's body, at once."""
        await self._send(h11.Data(data=data))

    async def send_end(self) -> None:
        """Ends the answer; the connection may be used again."""
        await self._send(h11.EndOfMessage())

    async def wait_connected(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Awaits something that cannot fail, but no longer than the other side stays."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_left, nursery.cancel_scope)
            await wait()
            nursery.cancel_scope.cancel()

    def reset(self) -> None:
        """Makes closing the connection a TCP reset."""
        linger_not_at_all = struct.pack("ii", 1, 0)
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not_at_all)

    @property
    def can_go_on(self) -> bool:
        """Whether another request may follow the answer just sent."""
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _receive_body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise h11.RemoteProtocolError("request body too large", error_status_hint=413)
        return bytes(body)

    async def _next_event(self) -> object:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._h11.receive_data(await self._stream.receive_some(_CHUNK_BYTES))

    async def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            await self._stream.send_all(data)

    async def _cancel_when_left(self, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            while data := await self._stream.receive_some(_CHUNK_BYTES):
                self._h11.receive_data(data)
        scope.cancel()


async def _send(connection: HttpConnection, answer: Answer, serials: Iterator[int]) -> None:
    if isinstance(answer, Reply):
        await _stream(connection, answer, serials)
        return
    body = answer.body.encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **answer.headers}
    await connection.send_head(answer.status, headers)
    await connection.send_body(body)
    await connection.send_end()


async def _stream(connection: HttpConnection, reply: Reply, serials: Iterator[int]) -> None:
    response_id = f"resp_{next(serials)}"
    await connection.send_head(200, {"content-type": "text/event-stream", **reply.headers})
    await connection.send_body(_sse.created(response_id))
    for part in reply.parts:
        if isinstance(part, Pause):
            await connection.wait_connected(partial(trio.sleep, part.seconds))
        elif isinstance(part, trio.Event):
            await connection.wait_connected(part.wait)
        else:
            await connection.send_body(_sse.item_done(part, next(serials)))
    await connection.send_body(_sse.ending(reply, response_id))
    await _finish(connection, reply.ending)


async def _finish(connection: HttpConnection, ending: Ending) -> None:
    match ending:
        case Broken(how="cut"):
            pass
        case Broken(how="reset"):
            connection.reset()
        case Broken(how="hang"):
            await connection.wait_connected(trio.sleep_forever)
        case _:
            await connection.send_end()


def _json_object(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
