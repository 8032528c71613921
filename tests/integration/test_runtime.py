"""Threads and turns of the real Codex, as users have them."""

import json
import struct
import subprocess
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from codex_actors import Codex, errors, events
from codex_actors.backends._home import find_rollout
from codex_actors.events import Usage
from codex_actors.items import AgentMessage, CommandExecution, WebSearch
from codex_actors.options import (
    CodexOptions,
    CustomReview,
    Deadlines,
    LastThread,
    LocalImage,
    Text,
    ThreadName,
    ThreadOptions,
    TurnOptions,
)
from codex_actors.results import SideEffects
from codex_actors.testing import ModelServer, Scenario, http_error, message, on, reply, shell, web_search
from tests.fakes import THREAD, lock_files


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# One black pixel.
PNG = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(bytes(4)))
    + _chunk(b"IEND", b"")
)


def answer(text: str = "done", *, tokens: int = 100):
    return reply(message(text), usage=Usage(input_tokens=tokens, output_tokens=10))


@pytest.fixture
def thread_options(workspace: Path) -> ThreadOptions:
    return ThreadOptions(cwd=workspace, skip_git_repo_check=True, sandbox="danger-full-access")


@pytest.fixture
def script(model_server: ModelServer) -> Callable[..., Scenario]:
    return lambda *steps: model_server.script("story", *steps)


def recorded(options: CodexOptions, thread_id: str) -> list[str]:
    """What happened in a thread, as Codex has written it down."""
    rollout = find_rollout(Path(str(options.codex_home)), thread_id)
    assert rollout
    return [json.loads(line)["payload"].get("type") for line in rollout.read_text().splitlines()]


async def test_a_turn_runs_and_says_what_it_came_to(script, configure, thread_options):
    story = script(shell("echo out"), answer("It said out."))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        result = await thread.run("Say out.")
    assert result.final_response == "It said out."
    assert [type(item) for item in result.items] == [CommandExecution, AgentMessage]
    assert result.thread_id == thread.id == story.requests[0].thread_id
    assert result.usage.thread == result.usage.turn == Usage(input_tokens=200, output_tokens=20)
    assert result.returncode == 0
    assert result.timings.first_event_seconds is not None
    assert 0 < result.timings.first_event_seconds < result.timings.exit_seconds < 30
    assert story.requests[0].prompt == "Say out."


async def test_a_stream_shows_a_turn_as_it_goes(script, configure, thread_options):
    go_on = trio.Event()
    story = script(reply(message("first"), go_on, message("second")))
    async with Codex(configure(story.url)) as codex:
        async with codex.start_thread(thread_options).run_streamed("go") as turn:
            async for event in turn:
                if isinstance(event, events.ItemCompleted):
                    go_on.set()  # the second is not said before the first was heard
        assert turn.result.final_response == "second"


async def test_text_and_images_reach_the_model(script, configure, thread_options, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    story = script(answer())
    async with Codex(configure(story.url)) as codex:
        await codex.start_thread(thread_options).run(
            [Text("look"), LocalImage(tmp_path / "a.png"), Text("well")]
        )
    assert story.requests[0].images == (f"data:image/png;base64,{b64encode(PNG).decode()}",)
    assert "look\n\nwell" in story.requests[0].prompt


async def test_an_answer_can_be_made_to_follow_a_schema(script, configure, thread_options):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    story = script(answer('{"n": 1}'))
    async with Codex(configure(story.url)) as codex:
        turn = TurnOptions(output_schema={**schema, "additionalProperties": False})
        result = await codex.start_thread(thread_options).run("Count.", turn)
    assert json.loads(result.final_response) == {"n": 1}
    assert story.requests[0].field("text", "format", "schema", "required") == ["n"]


async def test_as_long_a_prompt_as_codex_takes_reaches_the_model(script, configure, thread_options):
    """In characters, however many bytes they are: four megabytes here."""
    story = script(answer())
    async with Codex(configure(story.url)) as codex:
        await codex.start_thread(thread_options).run("\N{GRINNING FACE}" * 1_048_576)
    assert len(story.requests[0].prompt) == 1_048_576


async def test_a_longer_prompt_is_refused_before_anything_starts(script, configure, thread_options):
    async with Codex(configure(script().url)) as codex:
        with pytest.raises(errors.OptionError, match="into a file") as caught:
            await codex.start_thread(thread_options).run("x" * 1_048_577)
        assert codex.statistics().turns_started == 0
    assert caught.value.field == "input"


async def test_a_nul_in_a_prompt_reaches_the_model(script, configure, thread_options):
    story = script(answer())
    async with Codex(configure(story.url)) as codex:
        await codex.start_thread(thread_options).run("a\0b")
    assert story.requests[0].prompt == "a\0b"


# --- threads -------------------------------------------------------------------------------------


async def test_a_thread_goes_on_in_another_runtime_and_remembers(script, configure, thread_options):
    story = script(answer("I keep 42 in mind."), answer("42"), answer("still 42"))
    options = configure(story.url)
    async with Codex(options) as codex:
        first = await codex.start_thread(thread_options).run("Remember 42.")
    async with Codex(options) as codex:
        thread = codex.resume_thread(first.thread_id.upper(), thread_options)
        second = await thread.run("Which number?")
        third = await thread.run("And now?")
    assert first.thread_id == second.thread_id == third.thread_id
    assert "I keep 42 in mind." in json.dumps(story.requests[1].body)
    assert second.usage.thread == Usage(input_tokens=200, output_tokens=20)
    assert second.usage.turn is None, "a runtime that never saw the thread cannot know"
    assert third.usage.turn == Usage(input_tokens=100, output_tokens=10)


async def test_what_the_turns_used_adds_up_to_what_the_thread_used(script, configure, thread_options):
    story = script(*(answer(tokens=tokens) for tokens in (100, 50, 7)))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        used = [(await thread.run("go")).usage for _ in range(3)]
    assert [usage.turn.input_tokens for usage in used if usage.turn] == [100, 50, 7]
    assert used[-1].thread == Usage(input_tokens=157, output_tokens=30)


async def test_after_a_failed_turn_the_next_ones_share_is_not_known_and_then_it_is(
    script, configure, thread_options
):
    story = script(answer(), http_error(400, "no"), answer(), answer())
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        await thread.run("go")
        with pytest.raises(errors.InvalidRequestError):
            await thread.run("go")
        after, then = (await thread.run("go")).usage, (await thread.run("go")).usage
    assert (after.turn, after.thread) == (None, Usage(input_tokens=200, output_tokens=20))
    assert then.turn == Usage(input_tokens=100, output_tokens=10)


async def test_a_turn_of_another_program_makes_the_next_ones_share_unknown(script, configure, thread_options):
    story = script(answer(), answer(), answer())
    options = configure(story.url)
    async with Codex(options) as codex, Codex(options) as another_program:
        thread = codex.start_thread(thread_options)
        await thread.run("go")
        assert thread.id
        await another_program.resume_thread(thread.id, thread_options).run("go")
        assert (await thread.run("go")).usage.turn is None


async def test_a_fork_is_another_thread_that_remembers_and_leaves_the_first_as_it_was(
    script, configure, thread_options
):
    story = script(*(answer(text) for text in ("origin", "forked", "forked again", "origin again")))
    async with Codex(configure(story.url)) as codex:
        origin = codex.start_thread(thread_options)
        await origin.run("one")
        assert origin.id
        fork = codex.fork_thread(origin.id, thread_options)
        forked, again = await fork.run("two"), await fork.run("three")
        back = await origin.run("four")
    assert forked.thread_id == again.thread_id == fork.id != origin.id == back.thread_id
    assert "origin" in json.dumps(story.requests[1].body)
    assert "forked" not in json.dumps(story.requests[3].body)
    shares = [result.usage.turn for result in (forked, again, back)]
    assert shares == [Usage(input_tokens=100, output_tokens=10)] * 3


async def test_a_thread_is_found_by_its_name_and_as_the_last_one(script, configure, thread_options):
    story = script(answer(), answer(), answer())
    options = configure(story.url)
    async with Codex(options) as codex:
        thread = codex.start_thread(thread_options)
        await thread.run("go")
        index = Path(str(options.codex_home)) / "session_index.jsonl"
        index.write_text(
            json.dumps({"id": thread.id, "thread_name": "mine", "updated_at": "2030-01-01"}) + "\n"
        )
        for named in (ThreadName("mine"), LastThread()):
            again = codex.resume_thread(named, thread_options)
            assert (await again.run("go")).thread_id == thread.id


async def test_a_thread_that_codex_does_not_know_is_an_error_that_names_it(script, configure, thread_options):
    options = configure(script().url)
    async with Codex(options) as codex:
        for thread in (
            codex.resume_thread(THREAD, thread_options),
            codex.fork_thread(THREAD, thread_options),
        ):
            with pytest.raises(errors.ThreadNotFoundError, match=str(options.codex_home)) as caught:
                await thread.run("go")
            assert caught.value.thread_id == THREAD


async def test_an_ephemeral_thread_is_not_recorded_and_cannot_go_on(script, configure, workspace):
    options = configure(script(answer()).url)
    ephemeral = ThreadOptions(cwd=workspace, skip_git_repo_check=True, ephemeral=True)
    async with Codex(options) as codex:
        thread = codex.start_thread(ephemeral)
        result = await thread.run("go")
        assert find_rollout(Path(str(options.codex_home)), result.thread_id) is None
        with pytest.raises(errors.OptionError, match="ephemeral"):
            await thread.run("go")


async def test_a_review_has_findings_and_counts_nothing(script, configure, thread_options):
    findings = json.dumps(
        {
            "findings": [],
            "overall_correctness": "patch is correct",
            "overall_explanation": "All is well.",
            "overall_confidence_score": 0.9,
        }
    )
    story = script(answer(findings))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        result = await thread.review(CustomReview("Look for races."))
        assert thread.id is None
    assert "All is well." in result.final_response
    assert (result.usage.thread, result.usage.turn) == (None, None)


async def test_a_turn_that_fails_says_why_and_its_thread_goes_on(script, configure, thread_options):
    story = script(http_error(401, "no such key"), answer("better"))
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        with pytest.raises(errors.AuthenticationError, match="no such key") as caught:
            await thread.run("go")
        assert caught.value.http_status == 401
        assert caught.value.partial.thread_id == thread.id is not None
        assert (await thread.run("go")).final_response == "better"


# --- one turn at a time --------------------------------------------------------------------------


async def test_turns_on_one_thread_wait_for_each_other(script, configure, thread_options):
    story = script(answer("zero"), answer("one"), answer("two"), answer("three"))
    options = configure(story.url)
    async with Codex(options) as codex, Codex(options) as other, trio.open_nursery() as nursery:
        thread = codex.start_thread(thread_options)
        await thread.run("zero")
        assert thread.id
        for each in (thread, codex.resume_thread(thread.id, thread_options)):
            nursery.start_soon(each.run, "go")
        nursery.start_soon(other.resume_thread(thread.id, thread_options).run, "go")
    remembered = [len(list(request.field("input") or ())) for request in story.requests]
    assert remembered == sorted(set(remembered)), "each turn knew of all turns before it"
    assert lock_files(options) == []


_OTHER_PROGRAM = """
import sys, trio
from codex_actors import Codex
from codex_actors.options import CodexOptions, ThreadOptions

async def main(path, home, tmpdir, cwd, thread_id):
    env = {"TMPDIR": tmpdir, "HOME": home}
    options = CodexOptions(codex_path=path, codex_home=home, api_key="scripted", env=env)
    async with Codex(options) as codex:
        thread = codex.resume_thread(thread_id, ThreadOptions(cwd=cwd, skip_git_repo_check=True))
        async with thread.run_streamed("hang") as turn:
            await anext(turn)
            print("running\\n", end="", flush=True)
            await turn.wait_result()

trio.run(main, *sys.argv[1:])
"""


async def test_turns_of_two_programs_wait_for_each_other(script, configure, thread_options):
    go_on = trio.Event()
    story = script(answer(), on("hang", reply(go_on, message("late"))), on("next", message("next")))
    options = configure(story.url)
    async with Codex(options) as codex:
        thread = codex.start_thread(thread_options)
        await thread.run("first")
    assert thread.id
    arguments = (options.codex_path, options.codex_home, options.env["TMPDIR"], thread_options.cwd, thread.id)
    command = [sys.executable, "-c", _OTHER_PROGRAM, *map(str, arguments)]
    impatient = Codex(msgspec.structs.replace(options, when_busy="refuse"))
    with trio.fail_after(60):
        async with impatient, Codex(options) as patient, trio.open_nursery() as nursery:
            run_other = partial(trio.run_process, command, stdout=subprocess.PIPE)
            other = await nursery.start(run_other)
            async with other.stdout as output:
                assert await output.receive_some() == b"running\n"
            with pytest.raises(errors.ThreadBusyError, match="another process"):
                await impatient.resume_thread(thread.id, thread_options).run("next")
            nursery.start_soon(patient.resume_thread(thread.id, thread_options).run, "next")
            await story.requests.wait(2)
            go_on.set()
    assert [request.prompt for request in story.requests] == ["first", "hang", "next"]
    assert lock_files(options) == []


# --- interrupting --------------------------------------------------------------------------------


async def test_an_interrupt_is_graceful_and_the_thread_goes_on(script, configure, thread_options):
    story = script(shell("sleep 60"), answer("back again"))
    options = configure(story.url)
    async with Codex(options) as codex:
        thread = codex.start_thread(thread_options)
        async with thread.run_streamed("go") as turn:
            with trio.fail_after(20), pytest.raises(errors.TurnInterruptedError) as caught:
                async for event in turn:
                    if isinstance(event, events.ItemStarted):
                        began = trio.current_time()
                        turn.interrupt()
        assert trio.current_time() - began < 1.9, "Codex stopped by itself, and was not killed"
        assert caught.value.returncode == 1
        assert thread.id
        assert "turn_aborted" in recorded(options, thread.id)
        assert (await thread.run("go on")).final_response == "back again"


@pytest.mark.parametrize("leave", ["cancel", "break", "error"])
async def test_however_a_turn_is_left_the_thread_goes_on(script, configure, thread_options, leave):
    story = script(shell("sleep 60"), answer("back again"))
    error = KeyError("mine")
    async with Codex(configure(story.url)) as codex:
        thread = codex.start_thread(thread_options)
        with trio.CancelScope() as scope, suppress(KeyError):
            async with thread.run_streamed("go") as turn:
                async for event in turn:
                    if isinstance(event, events.ItemStarted):
                        if leave == "break":
                            break
                        if leave == "error":
                            raise error
                        scope.cancel()
        with pytest.raises(errors.TurnInterruptedError):
            turn.result  # noqa: B018
        assert (await thread.run("go on")).final_response == "back again"


async def test_closing_the_runtime_interrupts_codex_gracefully(script, configure, thread_options, nursery):
    story = script(shell("sleep 60"), answer("back again"))
    options = configure(story.url)
    caught: list[errors.TurnError] = []
    command_runs = trio.Event()

    async def run(codex: Codex) -> None:
        try:
            async with codex.start_thread(thread_options).run_streamed("go") as turn:
                async for event in turn:
                    if isinstance(event, events.ItemStarted):
                        command_runs.set()
        except errors.TurnError as exc:
            caught.append(exc)

    async with Codex(options) as codex:
        nursery.start_soon(run, codex)
        await command_runs.wait()
    await trio.testing.wait_all_tasks_blocked()
    [error] = caught
    assert isinstance(error, errors.TurnInterruptedError)
    assert error.partial.thread_id
    assert "turn_aborted" in recorded(options, error.partial.thread_id)


# --- deadlines -----------------------------------------------------------------------------------


async def test_a_model_that_falls_silent_is_given_up(script, configure, thread_options):
    story = script(reply(message("hm"), trio.Event()))
    options = configure(story.url, deadlines=Deadlines(idle_seconds=0.5))
    async with Codex(options) as codex:
        with pytest.raises(errors.TurnTimeoutError) as caught:
            await codex.start_thread(thread_options).run("go")
    assert caught.value.deadline == "idle_seconds"
    assert caught.value.partial.final_response == "hm"


async def test_a_model_that_cannot_be_reached_is_given_up(configure, thread_options):
    options = configure("http://127.0.0.1:9/v1", deadlines=Deadlines(network_seconds=0.5))
    async with Codex(options) as codex:
        with pytest.raises(errors.TurnTimeoutError, match="waiting for network") as caught:
            await codex.start_thread(thread_options).run("go")
    assert caught.value.deadline == "network_seconds"


async def test_a_silent_command_is_no_silence(script, configure, thread_options):
    story = script(shell("sleep 1"), answer())
    options = configure(story.url, deadlines=Deadlines(idle_seconds=0.7))
    async with Codex(options) as codex:
        assert (await codex.start_thread(thread_options).run("go")).final_response == "done"


async def test_turns_of_one_home_run_side_by_side(model_server, configure, thread_options):
    together = [trio.Event() for _ in range(6)]
    steps = [on(f"turn {n}", reply(gate, message(f"answer {n}"))) for n, gate in enumerate(together)]
    story = model_server.script("crowd", *steps)
    results: dict[int, str] = {}
    async with Codex(configure(story.url)) as codex, trio.open_nursery() as nursery:

        async def run(number: int) -> None:
            thread = codex.start_thread(thread_options)
            results[number] = (await thread.run(f"turn {number}")).final_response

        for number in range(6):
            nursery.start_soon(run, number)
        with trio.fail_after(30):
            await story.requests.wait(6)  # all of them ask before one is answered
        for gate in together:
            gate.set()
    assert results == {number: f"answer {number}" for number in range(6)}


# What a read-only sandbox is worth


async def test_no_reviewer_lets_a_command_out_of_a_read_only_sandbox(script, configure, workspace):
    """The user's own configuration may have one; asked for read-only, nothing is written all the same."""
    story = script(
        shell("touch made", sandbox_permissions="require_escalated", justification="to write"), answer()
    )
    options = configure(
        story.url, config={"approval_policy": "on-request", "approvals_reviewer": "auto_review"}
    )
    read_only = ThreadOptions(cwd=workspace, skip_git_repo_check=True, sandbox="read-only")
    async with Codex(options) as codex:
        result = await codex.start_thread(read_only).run("go")
    assert not (workspace / "made").exists()
    assert result.side_effects is SideEffects.NONE


async def test_a_rule_that_lets_a_command_out_of_its_sandbox_ends_certainty(script, configure, workspace):
    story = script(shell("touch made"), answer())
    options = configure(story.url)
    rules = Path(str(options.codex_home)) / "rules"
    rules.mkdir()
    (rules / "default.rules").write_text('prefix_rule(pattern=["touch"], decision="allow")\n')
    read_only = ThreadOptions(cwd=workspace, skip_git_repo_check=True, sandbox="read-only")
    async with Codex(options) as codex:
        result = await codex.start_thread(read_only).run("go")
    assert (workspace / "made").exists()
    assert result.side_effects is SideEffects.SEEN


# Items that no capture has


@pytest.mark.parametrize(
    "action",
    [
        {"type": "search", "queries": ["trio", "nursery"]},
        {"type": "open_page", "url": "https://example.org/"},
        {"type": "find_in_page", "url": "https://example.org/", "pattern": "trio"},
    ],
    ids=lambda action: action["type"],
)
async def test_a_web_search_says_what_it_did(script, configure, thread_options, action):
    story = script(reply(web_search("trio", **action), message("found")))
    async with Codex(configure(story.url)) as codex:
        result = await codex.start_thread(replace(thread_options, web_search="live")).run("go")
    [search] = [item for item in result.items if isinstance(item, WebSearch)]
    assert search.id == "item_0"
    assert search.call_id is not None
    assert search.call_id.startswith("ws_")
    assert search.action is not None
    said = {name: getattr(search.action, name) for name in action}
    assert said == {name: tuple(value) if name == "queries" else value for name, value in action.items()}
