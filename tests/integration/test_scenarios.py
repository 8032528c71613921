"""Every item that Codex emits, on the real binary, as it was recorded.

The names are those of tests/captures.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from codex_actors.events import Usage
from codex_actors.testing import (
    ModelRequest,
    Step,
    apply_patch,
    completed,
    function_call,
    http_error,
    mcp_call,
    message,
    on,
    rate_limit_headers,
    reasoning,
    reply,
    shell,
    tool_call,
    update_plan,
    web_search,
    write_stdin,
)
from tests.integration.stories import Story, recorded, recorded_events

DONE = message("done")
CODE_MODE_MODEL = "gpt-6.1-sol"


def story(*steps: Step, sandbox: str | None = "danger-full-access", **home: object) -> Story:
    return Story(steps, sandbox=sandbox, home=home)


THOUGHT = reply(reasoning("**Thinking**\n\nabout it"), message("answer"))

TALK = {
    "plain_unknown_model": story(message("hello"), model="scripted-model"),
    "plain_default_model": story(message("hello"), model=CODE_MODE_MODEL),
    "empty_message": story(message("")),
    "empty_response": story(reply()),
    "multi_message": story(reply(message("first, working"), shell("true")), message("final")),
    "end_turn_false": story(reply(message("part 1"), ending=completed(end_turn=False)), message("part 2")),
    "unknown_item": story(reply({"type": "invented_tomorrow", "x": 1}, message("after"))),
    "reasoning": story(THOUGHT, settings='model_reasoning_summary = "auto"'),
    "reasoning_default_cfg": story(THOUGHT),
    "reasoning_hidden": story(THOUGHT, settings="hide_agent_reasoning = true"),
    "reasoning_empty_summary": story(reply(reasoning(), message("answer"))),
    "web_search": story(reply(web_search("what is trio"), message("found")), settings='web_search = "live"'),
    "deprecated_feature": story(DONE, settings="features.web_search_request = true"),
    "mcp_broken_server": story(DONE, settings='[mcp_servers.bad]\ncommand = "/no/such/cmd"'),
}

COMMANDS = {
    "cmd_success": story(shell("echo out; echo err >&2; pwd"), DONE),
    "cmd_fail": story(shell("echo bad >&2; exit 3"), DONE),
    "cmd_not_found": story(shell("nosuchcmd_xyz"), DONE),
    "cmd_bad_workdir": story(shell("pwd", workdir="/no/such/directory"), DONE),
    "cmd_binary_output": story(shell(r"printf '\377\376\000\001 x\n'"), DONE),
    "cmd_unicode_newlines": story(
        shell(r"printf 'a\xe2\x80\xa8b\xe2\x80\xa9c\xc2\x85d\n'"), message("uni \u2028 \u2029 \x85 end")
    ),
    "cmd_tty_stdin": story(
        shell("read x; echo got $x", tty=True, yield_time_ms=300),
        lambda request: write_stdin("abc\n", request.session_id),
        DONE,
    ),
    "cmd_timeout_none": story(
        shell("sleep 1.2; echo end", yield_time_ms=250), message("finished without waiting")
    ),
    "cmd_left_running": story(shell("echo started; sleep 300", yield_time_ms=300), DONE),
    "cmd_shell_fn": story(function_call("shell", {"command": ["echo", "hi"]}), DONE),
    "cmd_local_shell": story({"type": "local_shell_call", "status": "completed", "action": {"type": "exec"}}),
    "cmd_malformed_json": story(function_call("exec_command", '{"cmd": '), DONE),
    "codemode_exec": story(
        tool_call("exec", "text(await tools.exec_command({cmd: 'echo from js; exit 2'}))"),
        DONE,
        model=CODE_MODE_MODEL,
    ),
    "codemode_exec_throw": story(tool_call("exec", "throw new Error('no')"), DONE, model=CODE_MODE_MODEL),
}


def patch(*lines: str) -> str:
    return "\n".join(["*** Begin Patch", *lines, "*** End Patch"])


ADD_JS = patch("*** Add File: js.txt", "+x")
FILES = {"a.txt": "one\ntwo\n", "b.txt": "gone\n"}

PATCHES = {
    "patch_multi": Story(
        (
            apply_patch(
                patch(
                    *("*** Update File: a.txt", "@@", "-one", "+eins"),
                    "*** Delete File: b.txt",
                    *("*** Add File: sub/new.txt", "+new"),
                )
            ),
            DONE,
        ),
        files=FILES,
    ),
    "patch_delete": Story((apply_patch(patch("*** Delete File: b.txt")), DONE), files=FILES),
    "patch_fail_context": Story(
        (apply_patch(patch("*** Update File: a.txt", "@@", "-no such line", "+x")), DONE), files=FILES
    ),
    "patch_fail_parse": story(apply_patch("this is no patch"), DONE),
    "patch_readonly": story(apply_patch(patch("*** Add File: new.txt", "+x")), DONE, sandbox="read-only"),
    "patch_wsw": story(apply_patch(patch("*** Add File: new.txt", "+x")), DONE, sandbox="workspace-write"),
    "patch_wsw_outside": story(
        apply_patch(patch("*** Add File: /no/such/outside.txt", "+x")), DONE, sandbox="workspace-write"
    ),
    "patch_via_shell": story(
        shell(f"apply_patch <<'EOF'\n{patch('*** Add File: viashell.txt', '+x')}\nEOF"), DONE
    ),
    "codemode_patch": story(
        tool_call(
            "exec", f"text(await tools.apply_patch({json.dumps(patch('*** Add File: js.txt', '+x'))}))"
        ),
        DONE,
        model=CODE_MODE_MODEL,
    ),
}

MCP_SERVER = f"""
[mcp_servers.tiny]
command = {json.dumps(sys.executable)}
args = ["-I", {json.dumps(str(Path(__file__).with_name("mcp_server.py")))}]
required = true
"""
ECHO = mcp_call("tiny", "echo", text="hi")

MCP = {
    "mcp_success": story(ECHO, DONE, settings=MCP_SERVER),
    "mcp_tool_error": story(mcp_call("tiny", "boom"), DONE, settings=MCP_SERVER),
    "mcp_slow_progress": story(mcp_call("tiny", "slow", seconds=1.0), DONE, settings=MCP_SERVER),
    "mcp_die": story(
        mcp_call("tiny", "die"), mcp_call("tiny", "echo", text="again"), DONE, settings=MCP_SERVER
    ),
    "mcp_unknown_tool": story(mcp_call("tiny", "nope"), DONE, settings=MCP_SERVER),
    "mcp_never": story(ECHO, DONE, settings=MCP_SERVER, sandbox="read-only"),
    "mcp_approved_mode": story(
        ECHO, DONE, settings=MCP_SERVER + 'default_tools_approval_mode = "approve"', sandbox="read-only"
    ),
}


def child_of(request: ModelRequest) -> str:
    child: str = json.loads(request.tool_outputs[0])["agent_id"]
    return child


def multi_agent(tool: str, **arguments: object) -> Any:
    return function_call(tool, arguments, namespace="multi_agent_v1")


PLAN = "tools.update_plan.enabled = true"
FIRST_PLAN = update_plan({"one": "in_progress", "two": "pending"})

LONGER = {
    "plan_enabled": story(
        FIRST_PLAN,
        update_plan({"one": "completed", "two": "in_progress"}),
        update_plan({"one": "completed", "two": "completed"}),
        DONE,
        settings=PLAN,
    ),
    "plan_enabled_fail": story(
        FIRST_PLAN, http_error(400, "bad", type="invalid_request_error"), settings=PLAN
    ),
    "collab_v1": Story(
        (
            on("CHILDTASK", message("child result")),
            multi_agent("spawn_agent", message="CHILDTASK-XYZ do"),
            lambda request: multi_agent("wait_agent", targets=[child_of(request)]),
            lambda request: multi_agent("close_agent", target=child_of(request)),
            DONE,
        ),
        home={"model": "gpt-5.4"},
    ),
    "auto_compact_local": story(
        reply(shell("echo a"), usage=Usage(input_tokens=250_000, output_tokens=10)),
        message("what happened so far"),
        message("after compaction"),
        settings="model_auto_compact_token_limit = 1000",
    ),
    "output_schema": Story(
        (message('{"answer": 42}'),),
        arguments=("--output-schema", "s.json"),
        files={"s.json": '{"type": "object", "properties": {"answer": {"type": "integer"}}}'},
    ),
    "output_schema_nonconforming": Story(
        (message("not json at all"),), arguments=("--output-schema", "s.json"), files={"s.json": "{}"}
    ),
}

RUNNING = b'"type":"item.started"'
AT_WORK = reply(message("working"), shell("sleep 300"))
STOPPED = {
    f"signal_{number.name}": Story((AT_WORK,), stop=(RUNNING, number))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
}

STORIES = {**TALK, **COMMANDS, **PATCHES, **MCP, **LONGER, **STOPPED}


@pytest.mark.parametrize("name", STORIES)
async def test_the_real_codex_says_what_was_recorded(name, play, codex_version):
    run = await play(name, STORIES[name])
    assert run.masked == recorded_events(name, codex_version)
    assert run.exit_code == recorded(name, codex_version).returncode


async def test_two_commands_at_once_are_two_items_in_whatever_order(play, codex_version):
    at_once = reply(shell("echo a; sleep 0.5"), shell("echo b; sleep 0.2"))
    run = await play("cmd_parallel", story(at_once, DONE))

    def in_any_order(events):
        for event in events:
            event.get("item", {}).pop("id", None)
        return sorted(json.dumps(event) for event in events)

    assert in_any_order(run.masked) == in_any_order(recorded_events("cmd_parallel", codex_version))


async def test_a_sandboxed_command_cannot_write(play, codex_version):
    run = await play("default_sandbox_no_flag", story(shell("touch a; echo rc=$?"), DONE, sandbox=None))
    if "bwrap: " in run.stdout.decode():
        pytest.skip("no user namespaces here, so no sandbox")
    assert run.masked == recorded_events("default_sandbox_no_flag", codex_version)


async def test_resumed_and_forked_threads_are_told_apart_by_their_id(
    model_server, make_codex_home, codex, codex_version
):
    scenario = model_server.script(
        "resume",
        message("turn1"),
        reply(message("turn2"), usage=Usage(input_tokens=200, output_tokens=20)),
        message("turn5"),
    )
    home = make_codex_home(scenario.url)
    first = await codex.run(home, prompt="one")
    thread_id = first.events[0]["thread_id"]
    resumed = await codex.run(home, "resume", thread_id, prompt="two")
    forked = await codex.run(home, "fork", thread_id, prompt="")
    new = await codex.run(home, "resume", "not-a-uuid", prompt="x")

    runs = {
        "resume_1_first": first,
        "resume_2_by_id": resumed,
        "fork_2_no_prompt": forked,
        "resume_6_bad_id": new,
    }
    assert {name: run.masked for name, run in runs.items()} == {
        name: recorded_events(name, codex_version) for name in runs
    }
    ids = [run.events[0]["thread_id"] for run in runs.values()]
    assert ids[1] == ids[0]
    assert len(set(ids)) == 3


async def test_a_review_renders_what_was_found_and_counts_no_tokens(
    model_server, make_codex_home, codex, codex_version
):
    await trio.run_process(["git", "init", "--quiet"], cwd=codex.workspace)
    (codex.workspace / "f.py").write_text("x = 1\n")
    place = {"absolute_file_path": f"{codex.workspace}/f.py", "line_range": {"start": 1, "end": 1}}
    finding = {"title": "[P1] bug", "body": "it is a bug", "confidence_score": 0.9, "priority": 1}
    found = {
        "findings": [{**finding, "code_location": place}],
        "overall_correctness": "patch is incorrect",
        "overall_explanation": "because",
        "overall_confidence_score": 0.9,
    }
    scenario = model_server.script(
        "review", shell("git diff"), message(json.dumps(found)), message("free text review")
    )
    home = make_codex_home(scenario.url)

    uncommitted = await codex.run(home, "review", "--uncommitted", prompt="")
    assert uncommitted.masked == recorded_events("review_uncommitted", codex_version)
    free_text = await codex.run(home, "review", "check the thing", prompt="")
    assert free_text.masked == recorded_events("review_freetext", codex_version)
    assert "check the thing" in scenario.requests[2].prompt


async def test_a_command_that_is_killed_has_the_exit_code_of_a_shell(play):
    run = await play("killed", story(shell("kill -9 $$"), DONE))
    item = run.events[3]["item"]
    assert (item["exit_code"], item["status"]) == (137, "failed")


async def test_long_output_comes_as_its_head_and_its_tail(play):
    run = await play("long", story(shell("seq 400000"), DONE))
    output = run.events[3]["item"]["aggregated_output"]
    assert len(output) < 1_100_000
    assert output.startswith("1\n2\n")
    assert " bytes omitted " in output
    assert output.endswith("399999\n400000\n")


async def test_what_codex_refuses_to_run_is_told_to_the_model_only(model_server, make_codex_home, codex):
    scenario = model_server.script("refused", shell("rm -rf ./nothing"), DONE)
    run = await codex.run(make_codex_home(scenario.url))
    assert [event["type"] for event in run.events if "item" in event] == ["item.completed"]
    assert "rejected: rm -f style commands are not permitted" in scenario.requests[1].tool_outputs[0]


async def test_a_patch_that_cannot_be_written_is_a_failed_file_change(play):
    under_a_file = apply_patch(patch("*** Add File: a.txt/below.txt", "+x"))
    run = await play("unwritable", Story((under_a_file, DONE), files=FILES))
    assert [event["item"]["status"] for event in run.events[2:4]] == ["in_progress", "failed"]
    assert run.events[3]["item"]["type"] == "file_change"


async def test_a_websocket_that_is_refused_costs_nothing_but_a_line_on_stderr(
    model_server, make_codex_home, codex, codex_version
):
    """Codex's built-in provider tries one first."""
    scenario = model_server.script("ws_reject", shell("echo out; echo err >&2; pwd"), DONE)
    home = make_codex_home("http://127.0.0.1:9/not-used")
    url = f"openai_base_url={json.dumps(scenario.url)}"
    run = await codex.run(home, "-c", url, "-c", 'model_provider="openai"')
    assert run.masked == recorded_events("ws_reject", codex_version)
    assert "426" in run.stderr or "stage=Unknown" in run.stderr
    assert model_server.requests[0].method == "GET"
    assert [request.method for request in scenario.requests] == ["POST", "POST"]


async def test_a_tool_that_takes_too_long_fails_the_call_and_not_the_turn(play):
    settings = MCP_SERVER + "tool_timeout_sec = 0.3"
    run = await play("timeout", story(mcp_call("tiny", "slow", seconds=5), DONE, settings=settings))
    item = run.events[3]["item"]
    assert (item["status"], item["result"]) == ("failed", None)
    assert item["error"]["message"].endswith("Caused by:\n    timed out awaiting tools/call after 300ms")
    assert run.events[-1]["type"] == "turn.completed"


async def test_a_required_tool_server_that_is_broken_ends_everything_before_the_first_event(play):
    settings = '[mcp_servers.bad]\ncommand = "/no/such/cmd"\nrequired = true'
    run = await play("broken", story(DONE, settings=settings))
    assert (run.stdout, run.exit_code) == (b"", 1)
    assert "required MCP servers failed to initialize" in run.stderr


async def test_tokens_are_counted_as_the_model_counted_them(play):
    usage = Usage(
        input_tokens=70,
        cached_input_tokens=20,
        cache_write_input_tokens=30,
        output_tokens=10,
        reasoning_output_tokens=4,
    )
    run = await play("usage", story(reply(shell("true"), usage=usage), reply(DONE, usage=usage)))
    assert run.events[-1]["usage"] == {name: 2 * getattr(usage, name) for name in usage.__struct_fields__}


async def test_rate_limits_reach_codex_through_the_headers_of_a_reply(model_server, make_codex_home, codex):
    scenario = model_server.script("limits", reply(DONE, headers=rate_limit_headers(42.5)))
    home = make_codex_home(scenario.url)
    await codex.run(home)
    [rollout] = home.path.glob("sessions/**/rollout-*.jsonl")
    payloads = [json.loads(line)["payload"] for line in rollout.read_text().splitlines()]
    [counted] = [payload for payload in payloads if payload.get("type") == "token_count"]
    primary = {"used_percent": 42.5, "window_minutes": 300, "resets_at": 1893456000}
    assert counted["rate_limits"]["primary"] == primary


async def test_the_model_sees_the_image_that_was_attached(model_server, make_codex_home, codex):
    picture = codex.workspace / "dot.gif"
    picture.write_bytes(
        bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")
    )
    scenario = model_server.script("image", DONE)
    await codex.run(make_codex_home(scenario.url), "--image", str(picture), prompt="What is this?")
    [image] = scenario.requests[0].images
    assert image.startswith("data:image/")
    assert "What is this?" in scenario.requests[0].prompt


async def test_turns_side_by_side_get_each_what_is_theirs(model_server, make_codex_home, codex):
    scenario = model_server.script(
        "shared", on("left", shell("echo l"), message("left done")), on("right", message("right done"))
    )
    home = make_codex_home(scenario.url)
    said = {}

    async def ask(prompt: str) -> None:
        run = await codex.run(home, prompt=prompt)
        said[prompt] = run.events[-2]["item"]["text"]

    async with trio.open_nursery() as nursery:
        for prompt in ("go left", "go right", "left again"):
            nursery.start_soon(ask, prompt)
    assert said == {"go left": "left done", "go right": "right done", "left again": "left done"}


async def test_a_held_reply_holds_codex(model_server, make_codex_home, codex):
    gate = trio.Event()
    scenario = model_server.script("held", reply(gate, DONE))
    home = make_codex_home(scenario.url)
    runs = []

    async def run() -> None:
        runs.append(await codex.run(home))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with trio.fail_after(30):
            await scenario.requests.wait(1)
        assert not runs
        gate.set()
    assert runs[0].events[-1]["type"] == "turn.completed"


async def test_a_script_that_ran_out_fails_the_turn_and_names_the_scenario(play):
    run = await play("short", story(shell("true")))
    assert run.events[-1]["type"] == "turn.failed"
    assert "scenario 'short' ran out" in run.events[-1]["error"]["message"]
