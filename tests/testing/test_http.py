import socket
import struct
from contextlib import AsyncExitStack

import h11
import pytest
import trio
import trio.testing

from codex_actors.testing import (
    _http,
    cut,
    early_eof,
    hang,
    http_error,
    message,
    on,
    open_model_server,
    pause,
    rate_limit_headers,
    reply,
    reset,
)
from tests.testing.client import ask, asked, open_client


async def test_one_connection_carries_many_requests(model_server):
    scenario = model_server.script("all", message("1"), http_error(500), message("3"))
    async with open_client(scenario.url) as client:
        statuses = []
        for turn in range(3):
            if turn:
                client.http.start_next_cycle()
            statuses.append((await client.ask(scenario)).status)
    assert statuses == [200, 500, 200]


async def test_many_connections_are_answered_at_once(model_server):
    gate = trio.Event()
    scenario = model_server.script("crowd", on("", reply(gate, message("all here"))))
    texts = []

    async def one(number: int) -> None:
        response = await ask(scenario, x_codex_turn_metadata=f'{{"turn_id": "{number}"}}')
        texts.extend(response.texts)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, number)
        await asked(scenario, 50)
        gate.set()
    assert texts == ["all here"] * 50


async def test_a_body_that_comes_in_pieces_is_read_whole(model_server):
    scenario = model_server.script("slow", lambda request: message(request.model))
    head = b"POST /s/slow/v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 17\r\n\r\n"
    async with open_client(scenario.url) as client:
        client.http.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
        for piece in (head[:9], head[9:], b'{"model":', b'"gpt-9"}'):
            await client.stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.receive()).texts == ["gpt-9"]


async def test_headers_come_with_a_reply(model_server):
    scenario = model_server.script("limited", reply(message("x"), headers=rate_limit_headers(42.5)))
    headers = (await ask(scenario)).headers
    assert headers["x-codex-primary-used-percent"] == "42.5"
    assert headers["x-codex-primary-window-minutes"] == "300"
    assert headers["x-codex-primary-reset-at"] == "1893456000"


@pytest.mark.parametrize(
    ("ending", "complete", "was_reset"),
    [(cut(), False, False), (early_eof(), True, False), (reset(), False, True)],
    ids=["cut", "eof", "reset"],
)
async def test_a_reply_can_break_off_after_its_items(model_server, ending, complete, was_reset):
    gate = trio.Event()
    scenario = model_server.script("broken", reply(message("half"), gate, ending=ending))
    async with open_client(scenario.url) as client:
        await client.send_prompt(scenario)
        response = await client.receive_head()
        await client.read(response, until=b"half")  # what a reset overtakes would be lost
        gate.set()
        await client.read(response)
    assert response.kinds == ["response.created", "response.output_item.done"]
    assert (response.complete, response.reset) == (complete, was_reset)


async def test_a_reply_that_hangs_says_nothing_more(model_server, autojump_clock):
    scenario = model_server.script("hangs", reply(message("half"), ending=hang()))
    async with open_client(scenario.url) as client:
        await client.send_prompt(scenario)
        response = await client.receive_head()
        with trio.move_on_after(5) as patience:
            await client.read(response)
    assert patience.cancelled_caught
    assert response.texts == ["half"]


async def test_a_pause_is_silence_between_two_items(model_server, autojump_clock):
    scenario = model_server.script("thinks", reply(message("one"), pause(5), message("two")))
    async with open_client(scenario.url) as client:
        await client.send_prompt(scenario)
        response = await client.receive_head()
        await client.read(response, until=b"one")
        began = trio.current_time()
        await client.read(response, until=b"two")
        assert trio.current_time() - began == pytest.approx(5, abs=0.5)


async def test_an_event_holds_a_reply_back_until_it_is_set(model_server):
    gate = trio.Event()
    scenario = model_server.script("held", reply(gate, message("free")))
    async with open_client(scenario.url) as client:
        await client.send_prompt(scenario)
        response = await client.receive_head()
        await client.read(response, until=b"response.created")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert response.texts == []
        gate.set()
        await client.read(response)
    assert response.texts == ["free"]


async def test_a_request_that_comes_while_a_reply_is_held_waits_its_turn(model_server):
    gate = trio.Event()
    scenario = model_server.script("early", reply(gate, message("first")), message("second"))
    request = b'POST /s/early/v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n{"input":[]}'
    async with open_client(scenario.url) as client:
        await client.stream.send_all(request)
        await asked(scenario, 1)
        await client.stream.send_all(request)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(scenario.requests) == 1
        gate.set()
        received = b""
        with trio.fail_after(10):
            while b"second" not in received:
                received += await client.stream.receive_some()
    assert received.index(b"first") < received.index(b"second")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("part", [trio.Event(), pause(3600)], ids=["event", "pause"])
async def test_a_client_that_leaves_a_held_reply_leaves_nothing_behind(model_server, part, how):
    """Else every Codex that a test kills would leave a socket in the test's own process."""
    scenario = model_server.script("held", reply(part, message("too late")))
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_client(scenario.url) as client:
        await client.send_prompt(scenario)
        await asked(scenario, 1)
        if how == "reset":
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with trio.fail_after(10):
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"POST /"])
async def test_a_client_that_speaks_no_http_is_hung_up_on(model_server, garbage):
    async with open_client(model_server.origin) as client:
        await client.stream.send_all(garbage + b"\r\n\r\n")
        assert await client.stream.receive_some() == b""
    assert (await ask(model_server.script("next", message("still there")))).texts == ["still there"]


async def test_a_request_that_is_too_large_is_hung_up_on(model_server, monkeypatch):
    monkeypatch.setattr(_http, "MAX_BODY_BYTES", 1000)
    scenario = model_server.script("large", message("never said"))
    async with open_client(scenario.url) as client:
        await client.send_prompt(scenario, "x" * 1000)
        assert await client.stream.receive_some() == b""
    assert not list(scenario.requests)


async def test_leaving_the_server_ends_every_connection_at_once():
    with trio.fail_after(5):
        async with AsyncExitStack() as stack:
            async with open_model_server() as model:
                scenario = model.script("hangs", hang(), hang(), hang())
                clients = [await stack.enter_async_context(open_client(scenario.url)) for _ in range(3)]
                for client in clients:
                    await client.send_prompt(scenario)
                await asked(scenario, 3)
            responses = [await client.receive() for client in clients]
    assert [response.complete for response in responses] == [False] * 3


async def test_what_goes_wrong_around_a_server_comes_out_as_itself():
    with pytest.raises(KeyError, match="mine"):
        async with open_model_server():
            raise KeyError("mine")


async def test_a_server_that_was_left_listens_no_more():
    async with open_model_server() as model:
        url = model.origin
    with pytest.raises(OSError, match="connect"):
        async with open_client(url):
            pass
