import re
import sys
from urllib.parse import urlsplit

import pytest
import trio

from codex_actors.testing import (
    failed,
    http_error,
    incomplete,
    message,
    on,
    open_model_server,
    reply,
    shell,
)
from tests.testing.client import ask, open_client


async def test_replies_are_given_in_the_order_of_the_script_whichever_turn_asks(model_server):
    scenario = model_server.script("three", message("one"), message("two"), message("three"))
    turns = ['{"turn_id": "a"}', '{"turn_id": "b"}', "{}"]
    heard = [(await ask(scenario, x_codex_turn_metadata=turn)).texts for turn in turns]
    assert heard == [["one"], ["two"], ["three"]]


async def test_a_scenario_that_ran_out_refuses_and_says_which_it_was(model_server):
    scenario = model_server.script("short", message("only"))
    await ask(scenario)
    response = await ask(scenario)
    assert response.status == 400
    assert response.error == "scenario 'short' ran out: 1 replies were scripted, this is one more"


async def test_a_scenario_nobody_scripted_refuses_and_says_which_there_are(model_server):
    scenario = model_server.script("real", message("never asked"))
    async with open_client(scenario.url) as client:
        await client.send("POST", "/s/imagined/v1/responses", b'{"input": []}')
        response = await client.receive()
    assert response.status == 400
    assert response.error == "no scenario is scripted at /s/imagined/v1/responses; there are ['real']"
    assert [request.scenario for request in model_server.requests] == ["imagined"]


async def test_scenarios_do_not_hear_of_each_other(model_server):
    left = model_server.script("left", message("l1"), message("l2"))
    right = model_server.script("right", message("r1"))
    assert [(await ask(scenario)).texts for scenario in (left, right, left)] == [["l1"], ["r1"], ["l2"]]
    assert (len(left.requests), len(right.requests), len(model_server.requests)) == (2, 1, 3)


@pytest.mark.parametrize(
    ("pattern", "prompt", "matches"),
    [
        ("bug (now)", "fix the bug (now), please", True),
        ("bug.*now", "fix the bug now", False),
        (re.compile("bug.*now"), "fix the bug, now", True),
        (re.compile("^bug"), "fix the bug", False),
        (lambda request: request.model == "gpt-5.5", "anything", True),
        (lambda request: "compact" in request.instructions, "anything", False),
    ],
)
async def test_prompts_are_matched_by_text_by_expression_or_by_anything_in_the_request(
    model_server, pattern, prompt, matches
):
    scenario = model_server.script("chat", on(pattern, message("matched")), message("not matched"))
    assert (await ask(scenario, prompt)).texts == ["matched" if matches else "not matched"]


async def test_the_first_rule_that_matches_answers(model_server):
    scenario = model_server.script("chat", on("bug", message("first")), on("a bug", message("second")))
    assert (await ask(scenario, "fix a bug")).texts == ["first"]


async def test_every_turn_hears_what_matches_it_from_the_beginning(model_server):
    """So a hundred turns with one prompt can run side by side."""
    scenario = model_server.script("many", on("", message("1"), message("2")))
    heard = [
        (await ask(scenario, x_codex_turn_metadata=f'{{"turn_id": "{turn}"}}')).texts[0]
        for turn in ("a", "b", "a", "b")
    ]
    assert heard == ["1", "1", "2", "2"]


async def test_what_matches_no_rule_goes_through_the_plain_steps(model_server):
    scenario = model_server.script("chat", message("one"), on("special", message("!")), message("two"))
    prompts = ["a", "special", "b"]
    assert [(await ask(scenario, prompt)).texts for prompt in prompts] == [["one"], ["!"], ["two"]]


async def test_a_step_may_depend_on_what_was_asked(model_server):
    scenario = model_server.script("echo", lambda request: message(request.prompt.upper()))
    assert (await ask(scenario, "hello")).texts == ["HELLO"]


async def test_a_bug_in_a_step_ends_the_test_that_wrote_it():
    async def test():
        async with open_model_server() as model:
            scenario = model.script("bug", lambda _: message(str(1 / 0)))
            async with open_client(scenario.url) as client:
                await client.send_prompt(scenario)
                await trio.sleep(10)

    with pytest.raises(ZeroDivisionError):
        await test()


@pytest.mark.parametrize(
    ("step", "kinds"),
    [
        (message("x"), ["response.created", "response.output_item.done", "response.completed"]),
        (reply(), ["response.created", "response.completed"]),
        (failed("server_error"), ["response.created", "response.failed"]),
        (incomplete("max_output_tokens"), ["response.created", "response.incomplete"]),
        (
            reply(message("x"), shell("ls"), ending=failed("server_error")),
            ["response.created", "response.output_item.done", "response.output_item.done", "response.failed"],
        ),
    ],
)
async def test_an_item_a_reply_and_an_ending_are_steps(model_server, step, kinds):
    response = await ask(model_server.script("any", step))
    assert (response.status, response.kinds, response.complete) == (200, kinds, True)
    assert response.headers["content-type"] == "text/event-stream"


async def test_an_http_error_is_a_step(model_server):
    scenario = model_server.script(
        "busy", http_error(429, "slow down", code="rate_limit", headers={"retry-after": "1"})
    )
    response = await ask(scenario)
    assert (response.status, response.headers["retry-after"]) == (429, "1")
    assert response.body == b'{"error": {"message": "slow down", "code": "rate_limit"}}'


@pytest.mark.parametrize("name", ["", "a/b", "ä", "a b", "a?b"])
async def test_a_name_that_is_no_part_of_a_url_is_refused(model_server, name):
    with pytest.raises(ValueError, match="letters, digits"):
        model_server.script(name, message("x"))


async def test_a_name_is_given_once(model_server):
    model_server.script("one", message("x"))
    with pytest.raises(ValueError, match="'one' is already scripted"):
        model_server.script("one", message("y"))


async def test_the_second_request_can_be_waited_for_while_it_is_on_its_way(model_server):
    gate = trio.Event()
    scenario = model_server.script("two", reply(gate, message("1")), message("2"))

    async def ask_twice():
        await ask(scenario, "first")
        await ask(scenario, "second")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_twice)
        with trio.fail_after(10):
            assert (await scenario.requests.wait(1)).prompt == "first"
            assert len(scenario.requests) == 1
            gate.set()
            assert (await scenario.requests.wait(2)).prompt == "second"
    assert [request.prompt for request in scenario.requests] == ["first", "second"]
    assert scenario.requests[-1].prompt == "second"


@pytest.mark.parametrize(
    ("request_line", "header", "status", "says"),
    [
        ("GET responses", ("upgrade", "websocket"), 426, "no WebSocket"),
        ("POST responses", ("content-encoding", "zstd"), 415, "no compressed bodies: use an API key"),
        ("POST responses", ("content-type", "text/plain"), 400, "cannot answer POST"),
        ("POST responses/compact", ("accept", "*/*"), 400, "cannot answer POST"),
        ("DELETE responses", ("accept", "*/*"), 400, "cannot answer DELETE"),
    ],
)
async def test_what_the_model_cannot_do_it_refuses_and_logs(model_server, request_line, header, status, says):
    scenario = model_server.script("any", message("never said"))
    method, endpoint = request_line.split()
    async with open_client(scenario.url) as client:
        await client.send(method, f"{urlsplit(scenario.url).path}/{endpoint}", b"no JSON", dict([header]))
        response = await client.receive()
    assert response.status == status
    assert says in response.error
    assert model_server.requests[0].endpoint == endpoint
    assert not list(scenario.requests)


async def test_asked_for_its_models_it_has_none(model_server):
    scenario = model_server.script("any")
    async with open_client(scenario.url) as client:
        await client.send("GET", f"{urlsplit(scenario.url).path}/models?client_version=0.169.0")
        response = await client.receive()
    assert (response.status, response.body) == (200, b'{"object": "list", "data": [], "models": []}')


async def test_without_h11_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "codex_actors.testing._http", raising=False)
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'codex-actors\[testing\]'"):
        async with open_model_server():
            pass
