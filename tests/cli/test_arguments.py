import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from codex_actors import BaseBranch, Commit, LastThread, LocalImage, ThreadName, UncommittedChanges
from codex_actors.cli._arguments import Asked, AskedDemo, AskedDoctor, AskedJanitor, explain, parse
from codex_actors.errors import OptionError
from codex_actors.options import CodexOptions, Options, ThreadOptions, TurnOptions

THREAD_ID = "01999999-1111-7222-8333-444444444444"

# Not on the command line: what is secret, or has more than one value; `--config` reaches the latter.
ABSENT = {"api_key", "config", "env", "mcp_servers", "deadlines", "output_retries"}


def run(*arguments: str) -> Asked:
    asked = parse(["run", *arguments])
    assert isinstance(asked, Asked)
    return asked


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parse(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.rpartition("error: ")[2].strip()


def test_a_prompt_is_enough():
    asked = run("do it")
    assert (asked.prompt, asked.json, asked.images) == ("do it", False, ())
    assert (asked.codex, asked.thread, asked.turn) == (CodexOptions(), ThreadOptions(), TurnOptions())


def test_a_dash_leaves_the_prompt_to_stdin():
    assert run("-").prompt is None


def test_options_may_stand_before_and_after_the_prompt():
    assert run("--ephemeral", "do it", "--model", "m").thread == ThreadOptions(ephemeral=True, model="m")


@pytest.mark.parametrize("options", [CodexOptions, ThreadOptions, TurnOptions])
def test_every_option_is_on_the_command_line_with_a_line_of_help(
    options: type[Options], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """An option that is added to the library is here without anybody thinking of it."""
    actions: dict[str, argparse.Action] = {}
    add = argparse._ActionsContainer.add_argument

    def noted(self, *args, **kwargs):
        action = add(self, *args, **kwargs)
        actions[action.dest] = action
        return action

    monkeypatch.setattr(argparse._ActionsContainer, "add_argument", noted)
    run("x")
    for field in set(options.__struct_fields__) - ABSENT - {"keep_raw"}:
        assert actions[field].help, field


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sandbox", "read-only"], {"sandbox": "read-only"}),
        (
            ["-s", "read-only", "-m", "m", "-p", "work"],
            {"sandbox": "read-only", "model": "m", "profile": "work"},
        ),
        (["--cd", "/x"], {"cwd": "/x"}),
        (["--cwd", "/x"], {"cwd": "/x"}),
        (["--add-dir", "/x", "--add-dir", "/y"], {"additional_directories": ["/x", "/y"]}),
        (["--network"], {"network_access": True}),
        (["--no-network"], {"network_access": False}),
        (["--skip-git-repo-check"], {"skip_git_repo_check": True}),
        (
            ["--reasoning-effort", "high", "--web-search", "live"],
            {"reasoning_effort": "high", "web_search": "live"},
        ),
        (["--enable", "a", "--disable", "b"], {"enable": ["a"], "disable": ["b"]}),
    ],
)
def test_options_of_the_thread(arguments: list[str], expected: dict[str, Any]):
    assert run(*arguments, "x").thread == ThreadOptions(**expected)


def test_options_of_the_runtime():
    asked = run(
        "--codex", "/bin/codex", "--codex-home", "/h", "-c", "a=1", "-c", "b=2", "--when-busy", "refuse", "x"
    )
    assert asked.codex == CodexOptions(
        codex_path="/bin/codex", codex_home="/h", config_overrides=["a=1", "b=2"], when_busy="refuse"
    )


def test_a_deadline_is_for_the_turn_and_for_waiting_for_its_thread():
    deadlines = run("--deadline", "2.5", "x").codex.deadlines
    assert (deadlines.turn_seconds, deadlines.thread_seconds) == (2.5, 2.5)


def test_json_needs_the_lines_that_codex_wrote():
    assert run("--json", "x").turn.keep_raw


def test_images_go_with_the_prompt():
    assert run("-i", "a.png", "--image", "b.png", "x").images == (LocalImage("a.png"), LocalImage("b.png"))


def test_a_thread_is_named_by_its_id_or_by_its_name():
    assert run("--resume", THREAD_ID, "x").resume == THREAD_ID
    assert run("--resume", "my thread", "x").resume == ThreadName("my thread")
    assert run("--last", "x").resume == LastThread()
    assert run("--fork", THREAD_ID, "x").fork == THREAD_ID
    assert run("x").resume is run("x").fork is None


def test_reviews_say_themselves_what_to_look_at():
    assert run("--review-uncommitted").review == UncommittedChanges()
    assert run("--review-base", "main").review == BaseBranch("main")
    assert run("--review-commit", "abc").review == Commit("abc")


def test_an_output_schema_is_read_from_its_file(tmp_path: Path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps({"type": "object"}))
    assert run("--output-schema", str(file), "x").turn.output_schema == {"type": "object"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "PROMPT: is missing: say what to do, or - to read it from stdin"),
        (["run", "--deadline", "-1", "x"], "--deadline: must be a finite number of seconds greater than 0"),
        (
            ["run", "--profile", "../x", "x"],
            "--profile: must be a plain name of letters, digits, - and _, as in `work`",
        ),
        (["run", "--local-provider", "ollama", "x"], "--local-provider: has no effect without --oss"),
        (
            ["run", "--image", "a,b", "x"],
            "--image: holds a comma, at which `codex exec --image` would split it",
        ),
        (["run", "-c", "nonsense", "x"], "--config: must be of the form key=value"),
        (["run", "--model", "", "x"], "--model: is empty"),
        (
            ["run", "--review-uncommitted", "x"],
            "PROMPT: cannot be given with a review, which says itself what to look at",
        ),
        (["run", "--nonsense", "x"], "unrecognized arguments: --nonsense"),
        (["run", "--last", "--fork", "y", "x"], "argument --fork: not allowed with argument --last"),
        (["run", "--mod", "m", "x"], "unrecognized arguments: --mod"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_what_cannot_work_is_said_in_the_words_of_the_command_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert refusal(capsys, *arguments).startswith(message)


@pytest.mark.parametrize("content", [None, "no JSON", "[1]", "\xff"])
def test_what_is_no_schema_is_refused(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "schema.json"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    message = refusal(capsys, "run", "--output-schema", str(file), "x")
    assert message.startswith(f"--output-schema: {file} is no JSON Schema")


def test_a_field_that_is_not_on_the_command_line_keeps_its_name():
    assert explain(OptionError("CodexOptions.env.A", "is odd")) == "CodexOptions.env.A: is odd"


def test_a_prompt_is_not_to_be_read_in_a_repr():
    assert "secret" not in repr(run("secret plan"))


def test_the_demo_has_options_of_its_own():
    asked = parse(["demo", "--live", "--keep", "--codex", "/c", "--model", "m"])
    assert asked == AskedDemo(live=True, keep=True, codex_path="/c", model="m")


def test_the_doctor_and_the_janitor_have_options_of_their_own():
    asked = parse(["doctor", "--json", "--codex", "/c", "--codex-home", "/h"])
    assert asked == AskedDoctor(json=True, codex_path="/c", codex_home="/h")
    assert parse(["janitor"]) == AskedJanitor(json=False, dry_run=False, codex_home=None)
    asked = parse(["janitor", "--json", "--dry-run", "--codex-home", "/h"])
    assert asked == AskedJanitor(json=True, dry_run=True, codex_home="/h")


def test_help_and_version_are_there(capsys: pytest.CaptureFixture[str]):
    for arguments in (["--help"], ["run", "--help"], ["demo", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stopped:
            parse(arguments)
        assert stopped.value.code == 0
    assert "codex-actors 0." in capsys.readouterr().out
