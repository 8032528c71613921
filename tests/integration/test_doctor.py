"""``codex-actors doctor`` and ``codex-actors janitor`` on this machine, and on worse ones."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from codex_actors._janitor import _facts
from codex_actors._locks import FOLDER
from codex_actors._ownership import VARIABLE, Owner
from codex_actors.cli._describe import ASIDE, DONE, FAILED, NOTICE
from codex_actors.testing import fake_codex, hangs
from tests.fakes import THREAD
from tests.integration.command import COMMAND, Ended
from tests.leak_check import HAS_PROC

KEY = "sk-proj-do-not-show-this-0123456789"
NO_NAMESPACES = ("unshare", "--user", "--map-root-user", "/bin/sh", "-c")
FORBID = (
    'for kind in user pid; do echo 0 >/proc/sys/user/max_${kind}_namespaces || exit; done; exec "$0" "$@"'
)


class Asking:
    """Asks ``codex-actors`` something, with a home of its own."""

    def __init__(self, home: Path, codex: Path) -> None:
        self.home = home
        self.codex = codex

    async def run(self, *arguments: str, wrapper: Sequence[str] = (), **env: str) -> Ended:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX", "OPENAI"))}
        done = await trio.run_process(
            (*wrapper, *COMMAND, *arguments),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**ours, "CODEX_HOME": str(self.home), "HOME": str(self.home), **env},
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def doctor(self, *arguments: str, **options: Any) -> tuple[Ended, Mapping[str, Any]]:
        """Ask the doctor; returns its checks by their names."""
        ended = await self.run("doctor", "--json", "--codex", str(self.codex), *arguments, **options)
        assert ended.result["type"] == "doctor"
        assert ended.result["ready"] == (ended.status == 0)
        return ended, {check["name"]: check for check in ended.result["checks"]}


@pytest.fixture
def asking(tmp_path: Path, codex_binary: Path) -> Asking:
    home = tmp_path / "home"
    home.mkdir()
    return Asking(home, codex_binary)


async def test_on_a_machine_that_is_fit_everything_was_tried_and_turns_can_run(asking: Asking):
    ended, checks = await asking.doctor(CODEX_API_KEY=KEY)
    assert ended.status == 0
    assert not [name for name, check in checks.items() if check["status"] == "problem"]
    assert checks["codex"]["facts"]["path"] == str(asking.codex)
    assert checks["login"]["facts"] == {"provider": "openai", "how": "the key in CODEX_API_KEY"}
    assert set(checks["containment"]["facts"]["means"]) == {"subreaper", "namespace", "process-group"}
    assert checks["limits"]["facts"]["turns_at_once"] != 0


async def test_people_read_the_same_in_lines_without_control_codes(asking: Asking):
    ended = await asking.run("doctor", "--codex", str(asking.codex), CODEX_API_KEY=KEY)
    assert ended.status == 0
    *lines, verdict = ended.stdout.splitlines()
    assert verdict.startswith(f"{DONE} turns can run here")
    assert all(line.isprintable() and line.strip()[0] in f"{DONE}{NOTICE}{ASIDE}>" for line in lines)


async def test_with_no_login_turns_cannot_run(asking: Asking):
    ended, checks = await asking.doctor()
    assert ended.status == 1
    assert checks["login"]["status"] == "problem"
    assert checks["login"]["advice"] == "Set CODEX_API_KEY, or run `codex login` once."
    ended = await asking.run("doctor", "--codex", str(asking.codex), OPENAI_API_KEY=KEY)
    assert f"{FAILED} login" in ended.stdout
    assert "Codex does not look at OPENAI_API_KEY, which is set." in ended.stdout
    assert ended.stdout.splitlines()[-1] == f"{FAILED} turns cannot run here: see login"


@pytest.mark.parametrize("key_in", ["environment", "login", "config"])
async def test_no_secret_is_shown(asking: Asking, key_in: str):
    env: dict[str, str] = {}
    if key_in == "environment":
        env["CODEX_API_KEY"] = KEY
    elif key_in == "login":
        (asking.home / "auth.json").write_text(json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": KEY}))
    else:
        (asking.home / "config.toml").write_text(
            'model_provider = "acme"\n[model_providers.acme]\nname = "Acme"\nenv_key = "ACME_KEY"\n'
            f'base_url = "http://127.0.0.1:1/v1"\nhttp_headers = {{ x = "{KEY}" }}\n'
        )
        env["ACME_KEY"] = KEY
    for how in ([], ["--json"]):
        ended = await asking.run("doctor", "--codex", str(asking.codex), *how, **env)
        assert KEY[3:] not in ended.stdout + ended.stderr
        assert KEY[-5:] not in ended.stdout + ended.stderr


async def test_a_stored_login_is_enough(asking: Asking):
    (asking.home / "auth.json").write_text(json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": KEY}))
    ended, checks = await asking.doctor()
    assert ended.status == 0
    assert checks["login"]["facts"]["how"] == "a key that `codex login` has stored"


@pytest.mark.parametrize(
    ("env_key", "how"),
    [
        ("env_key = 'PATH'", "the key in PATH"),
        ("env_key = 'ACME_KEY'", None),
        ("", "its own settings, which name no key"),
    ],
)
async def test_another_provider_has_a_login_of_its_own(asking: Asking, env_key: str, how: str | None):
    (asking.home / "config.toml").write_text(
        f"model_provider = 'acme'\n[model_providers.acme]\nname = 'Acme'\nbase_url = 'http://127.0.0.1:1'\n{env_key}\n"
    )
    ended, checks = await asking.doctor()
    assert checks["login"]["facts"] == {"provider": "acme", "how": how}
    assert ended.status == (1 if how is None else 0)
    if how is None:
        assert checks["login"]["advice"] == "Set ACME_KEY."


async def test_a_codex_that_is_not_there_is_a_problem(asking: Asking, tmp_path: Path):
    asking.codex = tmp_path / "nowhere"
    ended, checks = await asking.doctor(CODEX_API_KEY=KEY)
    assert ended.status == 1
    assert checks["codex"]["status"] == "problem"
    assert "pip install 'codex-actors[codex]'" in checks["codex"]["advice"]
    assert checks["sandbox"]["summary"] == "not tried without Codex"


@pytest.mark.parametrize(("version", "status"), [("0.100.0", "problem"), ("next", "warning")])
async def test_a_codex_of_another_version_is_told(asking: Asking, tmp_path: Path, version: str, status: str):
    asking.codex = fake_codex(tmp_path / "bin", version=version)
    ended, checks = await asking.doctor(CODEX_API_KEY=KEY)
    assert checks["codex"]["status"] == status
    assert ended.status == (1 if status == "problem" else 0)


@pytest.mark.parametrize("which", ["missing", "a file"])
async def test_a_home_that_codex_would_not_take_is_a_problem(asking: Asking, which: str):
    asking.home.rmdir()
    if which == "a file":
        asking.home.touch()
    ended, checks = await asking.doctor(CODEX_API_KEY=KEY)
    assert ended.status == 1
    assert checks["CODEX_HOME"]["status"] == "problem"


def namespaces_can_be_forbidden() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NO_NAMESPACES, FORBID, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not namespaces_can_be_forbidden(), reason="cannot forbid namespaces")
async def test_without_user_namespaces_turns_can_run_without_a_sandbox(asking: Asking):
    ended, checks = await asking.doctor(wrapper=(*NO_NAMESPACES, FORBID), CODEX_API_KEY=KEY)
    assert ended.status == 0
    assert checks["sandbox"]["status"] == "warning"
    assert "Allow user namespaces" in checks["sandbox"]["advice"]
    means = checks["containment"]["facts"]["means"]
    assert (means["namespace"]["works"], means["subreaper"]["works"]) == (False, True)
    assert checks["containment"]["facts"]["auto"] == "subreaper"


async def test_with_too_few_descriptors_turns_cannot_run(asking: Asking):
    few = ("/bin/sh", "-c", 'ulimit -n 24; exec "$0" "$@"')
    ended, checks = await asking.doctor(wrapper=few, CODEX_API_KEY=KEY)
    assert ended.status == 1
    assert checks["limits"]["facts"]["turns_at_once"] == 0
    assert checks["limits"]["advice"].startswith("Raise `ulimit -n`")


async def test_ctrl_c_ends_a_probe_that_hangs(asking: Asking, tmp_path: Path):
    codex = fake_codex(tmp_path / "bin", hangs())
    async with trio.open_nursery() as nursery:
        start = partial(
            trio.run_process,
            (*COMMAND, "doctor", "--codex", str(codex), "--codex-home", str(asking.home)),
            stdout=subprocess.PIPE,
            check=False,
        )
        process = await nursery.start(start)
        with trio.fail_after(30):
            said = b""
            while b"CODEX_HOME" not in said:  # then comes the login, of which Codex is asked
                said += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            await process.wait()
    assert process.returncode == 128 + signal.SIGINT


async def test_help_names_every_option(asking: Asking):
    for command in ("doctor", "janitor"):
        ended = await asking.run(command, "--help")
        assert ended.status == 0
        assert "--codex-home DIR" in ended.stdout


# --- janitor ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
async def test_the_janitor_tells_and_then_does(asking: Asking):
    lock = asking.home / FOLDER / f"{THREAD}.lock"
    lock.parent.mkdir()
    lock.touch()
    dead = subprocess.Popen([sys.executable, "-c", ""])  # noqa: ASYNC220 - it does nothing
    dead.wait()
    owner = Owner(pid=dead.pid, started=1, place=_facts.here(), tag=_facts.tag_of(asking.home))
    with subprocess.Popen(["sleep", "600"], env={VARIABLE: str(owner)}) as orphan:  # noqa: ASYNC220 - as above
        ended = await asking.run("janitor", "--dry-run")
        assert ended.status == 0
        assert ended.stdout.splitlines() == [
            f"{ASIDE} would kill process {orphan.pid} (sleep), of process {dead.pid}, which is dead",
            f"{ASIDE} would remove lock {lock}",
        ]
        _, checks = await asking.doctor()
        assert checks["leftovers"]["facts"] == {"count": 2}
        assert "codex-actors janitor" in checks["leftovers"]["advice"]

        ended = await asking.run("janitor", "--json")
        assert ended.status == 0
        assert ended.result == {
            "type": "janitor",
            "dry_run": False,
            "complete": True,
            "findings": [
                {"kind": "process", "name": "sleep", "pid": orphan.pid, "owner_pid": dead.pid, "gone": True},
                {"kind": "lock", "name": str(lock), "pid": None, "owner_pid": None, "gone": True},
            ],
        }
    ended = await asking.run("janitor", "--codex-home", str(asking.home))
    assert (ended.status, ended.stdout) == (0, f"{DONE} nothing is left of a runtime that is dead\n")
