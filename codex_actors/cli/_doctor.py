# `codex-actors doctor`: tries on this machine what a turn needs. One thing after the other, each with its
# time: it is quick, and a machine that is short of something is not to be made shorter.

import os
import platform
import re
import resource
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import trio

from codex_actors import _toml, errors
from codex_actors._janitor import open_directory, sweep
from codex_actors._nursery import open_private_nursery
from codex_actors._process import Containment, open_anonymous_file
from codex_actors.backends._argv import environment
from codex_actors.backends._binary import find_bwrap, find_codex, judge_version
from codex_actors.backends._home import find_home, read_config_files
from codex_actors.cli import _checks
from codex_actors.cli._arguments import AskedDoctor
from codex_actors.cli._checks import Check
from codex_actors.cli._output import standard_output
from codex_actors.cli._stop import Stop
from codex_actors.options import CodexOptions, Deadlines, ThreadOptions
from codex_actors.options import Containment as MeansName

_CHECK_SECONDS = 15.0
_MAX_OUTPUT_BYTES = 64 * 1024
_NEEDED = ("codex-actors", "trio", "msgspec", "structlog")
_KEYS = ("CODEX_API_KEY", "CODEX_ACCESS_TOKEN")
_MEANS: tuple[MeansName, ...] = ("subreaper", "namespace", "process-group")
# Ends by itself and leaves somebody behind, who ignores what can be ignored.
_VICTIM = ("/bin/sh", "-c", "(trap '' TERM INT HUP; sleep 600) & exit 7")
_VICTIM_STATUS = 7


def doctor(asked: AskedDoctor, stop: Stop) -> int:
    """Look at this machine and return the exit status."""
    return trio.run(_doctor, asked, stop)


async def _doctor(asked: AskedDoctor, stop: Stop) -> int:
    output, checks = standard_output(), list[Check]()
    with stop.scope():
        async with open_private_nursery() as nursery:
            machine = _Machine(asked)
            await nursery.start(machine.containment.serve)
            for name, probe in machine.probes().items():
                check = await _in_time(name, probe)
                checks.append(check)
                if not asked.json:
                    lines = *_checks.describe_check(check), *_checks.describe_means(check)
                    await output.write_text("\n".join(lines))
        await output.write_text(_checks.as_json(checks) if asked.json else _checks.describe_verdict(checks))
        return 0 if _checks.can_run_turns(checks) else 1
    return 1


async def _in_time(name: str, probe: Callable[[], Awaitable[Check]]) -> Check:
    problem = f"gave no answer within {_CHECK_SECONDS:g} s"
    advice = "Try again when the machine has less to do; if that changes nothing, look for a disk that hangs."
    with trio.move_on_after(_CHECK_SECONDS):
        try:
            return await probe()
        except errors.CodexNotFoundError as exc:
            problem, advice = (
                str(exc),
                "pip install 'codex-actors[codex]', or put Codex on the PATH or into --codex.",
            )
        except errors.UnsupportedVersionError as exc:
            problem, advice = (
                str(exc),
                "Update it: pip install -U 'codex-actors[codex]', or npm install -g @openai/codex.",
            )
        except errors.ResourceLimitError as exc:
            problem, advice = str(exc), "Raise that limit."
        except (errors.CodexError, OSError) as exc:
            problem, advice = str(exc), "Mend that, and look again."
    return Check(name=name, status="problem", summary=problem, advice=advice)


class _Machine:
    # Looks at one thing after the other; what was found out first is there for those that follow.

    def __init__(self, asked: AskedDoctor) -> None:
        self._options = CodexOptions(codex_path=asked.codex_path, codex_home=asked.codex_home)
        self._env = environment(self._options, os.environ)
        self._home: Path | None = None
        self._codex_path: str | None = None
        # The means that works everywhere, for what Codex is asked here.
        self.containment = _containment("process-group")

    def probes(self) -> Mapping[str, Callable[[], Awaitable[Check]]]:
        return {
            "python": self._python,
            "extras": self._extras,
            "codex": self._codex,
            "CODEX_HOME": self._codex_home,
            "login": self._login,
            "sandbox": self._sandbox,
            "containment": self._means,
            "limits": self._limits,
            "temporary": self._temporary,
            "leftovers": self._leftovers,
        }

    async def _python(self) -> Check:
        await trio.lowlevel.checkpoint()
        return _checks.judge_versions(platform.python_version(), {name: version(name) for name in _NEEDED})

    async def _extras(self) -> Check:
        await trio.lowlevel.checkpoint()
        return _checks.judge_extras(_installed_extras(requires("codex-actors") or []))

    async def _codex(self) -> Check:
        path = find_codex(self._options.codex_path)
        _, answer = await self._run(path, "--version")
        found = judge_version(path, answer.encode())
        self._codex_path = path
        return _checks.judge_codex(path, found)

    async def _codex_home(self) -> Check:
        await trio.lowlevel.checkpoint()
        home = find_home(self._options, os.environ)
        exists = home.is_dir()
        writable = os.access(home if exists else home.parent, os.W_OK | os.X_OK)
        self._home = home if exists else None
        return _checks.judge_home(
            str(home), exists=exists, named="CODEX_HOME" in self._env, writable=writable
        )

    async def _login(self) -> Check:
        config: dict[object, object] = {}
        for table in read_config_files(self._options, ThreadOptions(), os.environ):
            config |= table
        provider = str(config.get("model_provider") or "openai")
        entry = _toml.table(_toml.table(config.get("model_providers")).get(provider))
        key = entry.get("env_key")
        wanted = (str(key),) if key else _KEYS
        how = next((f"the key in {name}" for name in wanted if self._env.get(name)), None)
        if how is None and provider != "openai" and not key:
            how = "its own settings, which name no key"
        if how is None and provider == "openai":
            how = await self._login_status()
        return _checks.judge_login(
            how, provider=provider, missing=wanted[0], has_other_key="OPENAI_API_KEY" in os.environ
        )

    async def _login_status(self) -> str | None:
        if self._codex_path is None:
            return None
        status, said = await self._run(self._codex_path, "login", "status")
        if status != 0:
            return None
        # It goes on with a part of the key, which is not for us to show.
        return "a ChatGPT login" if "ChatGPT" in said else "a key that `codex login` has stored"

    async def _sandbox(self) -> Check:
        if self._codex_path is None:
            return Check(name="sandbox", status="note", summary="not tried without Codex")
        with open_directory("doctor") as elsewhere:
            # Codex leaves notes of its mounts among the temporary files.
            env = {"CODEX_HOME": str(self._home or elsewhere), "TMPDIR": str(elsewhere)}
            status, said = await self._run(self._codex_path, "sandbox", "--", "/bin/true", **env)
        last = [line for line in said.splitlines() if line.strip()][-1:] or [f"exit status {status}"]
        return _checks.judge_sandbox(None if status == 0 else last[0])

    async def _means(self) -> Check:
        return _checks.judge_containment({name: await self._try_means(name) for name in _MEANS})

    async def _try_means(self, name: MeansName) -> str | None:
        try:
            bwrap = find_bwrap(self._codex_path or "/usr/bin/codex") if name == "namespace" else None
            return await _try_to_escape(_containment(name), bwrap, proven=name != "process-group")
        except errors.ContainmentError as exc:
            return exc.problem
        except (errors.CodexError, OSError) as exc:
            return str(exc)

    async def _limits(self) -> Check:
        used = await trio.to_thread.run_sync(_processes_used)
        return _checks.judge_limits(
            descriptors=_limit(resource.RLIMIT_NOFILE),
            used=_descriptors_used(),
            processes=_processes_left(used),
        )

    async def _temporary(self) -> Check:
        await trio.lowlevel.checkpoint()
        directory, problem = None, None
        with suppress(OSError):
            directory = tempfile.gettempdir()
        try:
            with open_anonymous_file(b"prompt"):
                pass
        except errors.CodexError as exc:
            problem = str(exc)
        return _checks.judge_temporary(directory, problem)

    async def _leftovers(self) -> Check:
        home = self._home or Path(os.devnull)
        report = await sweep(home, seconds=Deadlines().janitor_seconds, dry_run=True)
        return _checks.judge_leftovers(len(report.findings))

    async def _run(self, path: str, *arguments: str, **env: str) -> tuple[int | None, str]:
        """Run Codex; returns its exit status and what it has said."""
        said = b""
        with open_anonymous_file(b"") as stdin:
            async with self.containment.open_process(
                (path, *arguments), env={**self._env, **env}, stdin=stdin, interrupt_seconds=0.5
            ) as process:
                while len(said) < _MAX_OUTPUT_BYTES and (data := await process.receive_some()):
                    said += data
                await process.wait()
        return process.returncode, said.decode(errors="replace") + process.stderr_tail


def _containment(means: MeansName) -> Containment:
    limits = Deadlines()
    return Containment(means, spawn_seconds=limits.spawn_seconds, kill_seconds=limits.kill_seconds)


async def _try_to_escape(containment: Containment, bwrap: str | None, *, proven: bool) -> str | None:
    """Let somebody try to outlive a process; returns what is wrong with the means, if anything is."""
    async with open_private_nursery() as nursery:
        await nursery.start(containment.serve)
        with open_anonymous_file(b"") as stdin:
            async with containment.open_process(
                _VICTIM, env=dict(os.environ), stdin=stdin, bwrap=bwrap, interrupt_seconds=0.5
            ) as process:
                await process.wait()
    if process.returncode != _VICTIM_STATUS:
        said = process.stderr_tail.strip().splitlines()[-1:]
        return said[0] if said else f"a command ended with {process.returncode}"
    if proven and not process.leftovers.proven:
        return "what a command left running is not proven dead"
    return None


def _installed_extras(requirements: list[str]) -> dict[str, bool]:
    """For each extra whether all that it wants is there."""
    extras: dict[str, bool] = {}
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*;.*\bextra == ['\"](\w+)['\"]", requirement)
        if found:
            extras[found[2]] = extras.get(found[2], True) and _is_installed(found[1])
    return extras


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _limit(which: int) -> int | None:
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def _descriptors_used() -> int:
    with suppress(OSError):
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a count
    return 0


def _processes_left(used: int) -> int | None:
    limit = _limit(resource.RLIMIT_NPROC)
    return None if limit is None or os.geteuid() == 0 else max(0, limit - used)  # root is not held to it


def _processes_used() -> int:
    """How many processes and threads this user has."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*/task"):
        with suppress(OSError):
            if entry.stat().st_uid == os.geteuid():
                count += entry.stat().st_nlink - 2
    return count
