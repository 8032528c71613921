# HTTP/1.1 on one accepted connection: h11 knows the protocol, this file moves its bytes. It also
# knows how to break a connection, which is what a scripted model is sometimes asked to do.

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

import h11
import trio

from codex_actors._data import Data

# A prompt of several megabytes with images fits; a runaway sender does not.
MAX_BODY_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class Request(Data, frozen=True, kw_only=True):
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    _private = frozenset({"headers", "body"})


class HttpConnection:
    """The server's side of one connection.

    Every method raises `trio.BrokenResourceError` when the other side has left and
    `h11.RemoteProtocolError` when it does not speak HTTP.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER)

    async def receive_request(self) -> Request | None:
        """Waits for the next request; None when the other side is done."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        return Request(
            method=head.method.decode("ascii"),
            target=head.target.decode("ascii"),
            headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
            body=await self._receive_body(),
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

    async def wait_or_lose(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Awaits something that cannot fail, but no longer than the other side stays."""
        left = False

        async def watch() -> None:
            nonlocal left
            left = await self._wait_left()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await wait()
            nursery.cancel_scope.cancel()
        if left:
            raise trio.BrokenResourceError

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

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._stream.receive_some(_CHUNK_BYTES))
        return event

    async def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            await self._stream.send_all(data)

    async def _wait_left(self) -> bool:
        try:
            while data := await self._stream.receive_some(_CHUNK_BYTES):
                self._h11.receive_data(data)
        except trio.BrokenResourceError:
            pass
        return True
