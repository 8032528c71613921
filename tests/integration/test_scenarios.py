"""Every item that Codex emits, on the real binary, as it was recorded."""

from codex_actors.testing import message


async def test_the_real_codex_says_what_the_scripted_model_says(model_server, make_codex_home, run_codex):
    scenario = model_server.script("hello", message("hello"))
    run = await run_codex(make_codex_home(scenario.url), prompt="Say hello.")
    assert [event["type"] for event in run.events] == [
        "thread.started",
        "turn.started",
        "item.completed",
        "turn.completed",
    ]
    assert run.events[2]["item"]["text"] == "hello"
    assert scenario.requests[0].prompt == "Say hello."
