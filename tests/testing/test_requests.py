import pytest

from codex_actors.testing import ModelRequest
from tests.testing.client import said

BODY = {
    "model": "gpt-5.5",
    "instructions": "You are an old model.",
    "input": [
        said("You are Codex.", role="developer"),
        said("<environment_context>", role="user"),
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_text", "text": "this?"},
            ],
        },
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "x"},
        {"type": "function_call", "name": "exec_command", "arguments": "{}", "call_id": "c1"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": "Process running with session ID 11",
        },
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "Process running with session ID 22"}],
        },
        {"type": "function_call_output", "call_id": "c3", "output": "Process exited with code 0"},
        {"type": "invented_tomorrow", "content": "?"},
    ],
    "tools": [{"type": "function", "name": "exec_command"}, {"type": "web_search"}],
    "reasoning": {"effort": "high"},
}

REQUEST = ModelRequest(
    method="POST",
    path="/s/fix/v1/responses?x=1",
    headers={
        "authorization": "Bearer canary-key",
        "thread-id": "t1",
        "x-codex-turn-metadata": '{"turn_id": "u1", "new": []}',
    },
    body=BODY,
)
EMPTY = ModelRequest(method="GET", path="/elsewhere", headers={})


def test_the_path_says_which_scenario_is_asked_for_what():
    assert (REQUEST.scenario, REQUEST.endpoint) == ("fix", "responses")
    assert (EMPTY.scenario, EMPTY.endpoint) == ("", "")


def test_the_prompt_is_what_the_user_said_last():
    assert REQUEST.prompt == "What is\nthis?"
    assert EMPTY.prompt == ""


def test_images_are_those_of_the_prompt():
    assert REQUEST.images == ("data:image/png;base64,AAAA",)
    assert EMPTY.images == ()


def test_tool_outputs_come_in_order_whatever_kind_of_tool():
    assert REQUEST.tool_outputs == (
        "Process running with session ID 11",
        "Process running with session ID 22",
        "Process exited with code 0",
    )


def test_the_session_is_that_of_the_command_left_running_last():
    assert REQUEST.session_id == 22


def test_without_a_command_left_running_there_is_no_session_to_type_into():
    with pytest.raises(ValueError, match="no tool output so far"):
        _ = EMPTY.session_id


def test_instructions_are_the_field_of_old_models_and_the_developer_messages_of_new_ones():
    assert REQUEST.instructions == "You are an old model.\nYou are Codex."
    assert EMPTY.instructions == ""


def test_model_tools_thread_and_turn_are_named():
    named = (REQUEST.model, REQUEST.tools, REQUEST.thread_id, REQUEST.turn_id)
    assert named == ("gpt-5.5", ("exec_command", "web_search"), "t1", "u1")
    assert (EMPTY.model, EMPTY.tools, EMPTY.thread_id, EMPTY.turn_id) == ("", (), "", "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("reasoning", "effort"), "high"),
        (("input", 0, "role"), "developer"),
        (("input", 99), None),
        (("no", "such"), None),
        (("model", "is a string"), None),
    ],
)
def test_any_field_of_the_body_can_be_looked_up(path, value):
    assert REQUEST.field(*path) == value


def test_neither_key_nor_prompt_is_in_the_repr():
    assert repr(REQUEST) == (
        "ModelRequest(method='POST', path='/s/fix/v1/responses?x=1', headers=<hidden>, body=<hidden>)"
    )
