"""What a crash leaves is put away at the next start; what may still be somebody's is not."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs

from codex_actors._janitor import Report, _facts, mark, open_directory, sweep, tidy
from codex_actors._locks import FOLDER
from codex_actors._ownership import (
    VARIABLE,
    Owner,
    Place,
    directory_name,
    has_gone,
    is_orphan,
    owner_of_directory,
    owner_of_process,
    parse_owner,
)
from codex_actors.options import CodexOptions
from tests.fakes import OTHER_THREAD, THREAD
from tests.leak_check import HAS_PROC

needs_proc = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be another user too")

HERE = Place(boot="0123456789ab", view="01234567")
PLACES = st.builds(
    Place,
    boot=st.sampled_from([HERE.boot, "ba9876543210"]),
    view=st.sampled_from([HERE.view, "76543210"]),
)
OWNERS = st.builds(
    Owner,
    pid=st.integers(1, 2**22),
    started=st.integers(0, 5) | st.integers(0, 10**18),
    place=PLACES,
    tag=st.from_regex("[0-9a-f]{8}", fullmatch=True),
)
SEEN = st.just("nobody") | st.just("somebody") | st.integers(0, 5)

# --- whose it is, and whether its owner is dead -----------------------------------------------------


@given(OWNERS)
def test_what_an_owner_writes_is_read_again(owner):
    assert parse_owner(str(owner)) == owner
    assert owner_of_directory(directory_name("demo", owner)) == owner
    assert owner_of_process(f"A=b\0{VARIABLE}={owner}\0C=\0".encode()) == owner


@given(OWNERS.map(str), st.integers(0, 60), st.text(max_size=3))
def test_nothing_else_is_read_as_an_owner(text, at, inserted):
    for changed in (text[:at] + inserted + text[at:], text[:at] + text[at + 1 :], inserted):
        owner = parse_owner(changed)
        assert owner is None or str(owner) == changed


@given(st.text())
def test_only_a_name_of_ours_has_an_owner(name):
    owner = owner_of_directory(f"codex-actors-{name}")
    assert owner is None or name.endswith(str(owner))


@given(OWNERS, OWNERS)
def test_a_process_that_two_claim_is_nobodys(one, other):
    assert owner_of_process(f"{VARIABLE}={one}\0{VARIABLE}={other}\0".encode()) is None


@given(OWNERS, SEEN)
def test_only_an_owner_whose_absence_is_seen_has_gone(owner, seen):
    rebooted = owner.place.boot != HERE.boot
    visible = owner.place == HERE
    replaced = seen == "nobody" or seen not in {"somebody", owner.started}
    assert has_gone(owner, HERE, seen) == (rebooted or (visible and replaced))
    assert is_orphan(owner, HERE, seen) == (visible and replaced)


# --- processes --------------------------------------------------------------------------------------


async def sweep_all(home: Path, *, dry_run: bool = False) -> Report:
    return await sweep(home, seconds=20, dry_run=dry_run)


def owner_like(pid: int, home: Path) -> Owner:
    return Owner(pid=pid, started=_facts.status(pid).started, place=_facts.here(), tag=_facts.tag_of(home))


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process that would live on."""
    started = []

    def start(
        owner: object = None, command: tuple[str, ...] = ("sleep", "600"), **options: Any
    ) -> subprocess.Popen[bytes]:
        env = {"PATH": os.environ["PATH"], **({} if owner is None else {VARIABLE: str(owner)})}
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, env=env, start_new_session=True, **options
        )
        started.append(process)
        # The kernel tells Popen a little before that it has the new program.
        while HAS_PROC and b"PATH=" not in Path(f"/proc/{process.pid}/environ").read_bytes():
            time.sleep(0.001)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def dead_owner(tmp_path: Path) -> Owner:
    process = subprocess.Popen(["sleep", "600"])
    owner = owner_like(process.pid, tmp_path)
    process.kill()
    process.wait()
    return owner


@needs_proc
async def test_a_process_whose_owner_is_dead_is_killed(start, dead_owner, tmp_path):
    orphan = start(dead_owner)
    report = await sweep_all(tmp_path)
    assert orphan.wait(10) == -signal.SIGKILL
    [finding] = report.findings
    assert (finding.kind, finding.name, finding.pid) == ("process", "sleep", orphan.pid)
    assert (finding.owner_pid, finding.gone, report.complete) == (dead_owner.pid, True, True)


@needs_proc
async def test_a_dry_run_only_tells(start, dead_owner, tmp_path):
    orphan = start(dead_owner)
    for _ in range(2):
        [finding] = (await sweep_all(tmp_path, dry_run=True)).findings
        assert (finding.pid, finding.gone) == (orphan.pid, False)
    assert orphan.poll() is None


@needs_proc
async def test_orphans_that_go_on_starting_others_are_killed_with_them(start, dead_owner, tmp_path):
    script = "trap '' TERM INT; while :; do (sleep 600 &); sleep 0.002; done"
    start(dead_owner, ("/bin/sh", "-c", script))
    with trio.fail_after(20):
        while len((await sweep_all(tmp_path, dry_run=True)).findings) < 5:
            await trio.lowlevel.checkpoint()
    assert all(finding.gone for finding in (await sweep_all(tmp_path)).findings)
    assert (await sweep_all(tmp_path)).findings == ()


@needs_proc
async def test_who_lives_spares_what_is_theirs(start, tmp_path):
    owner = start()
    processes = [start(owner_like(owner.pid, tmp_path)), start(owner_like(os.getpid(), tmp_path))]
    assert (await sweep_all(tmp_path)).findings == ()
    assert [process.poll() for process in processes] == [None, None]


@needs_proc
async def test_a_stranger_with_the_number_of_a_dead_owner_lives_and_does_not_keep_its_orphans(
    start, tmp_path
):
    stranger = start()
    owner = owner_like(stranger.pid, tmp_path)
    orphan = start(replace(owner, started=owner.started - 1))
    await sweep_all(tmp_path)
    assert (orphan.wait(10), stranger.poll()) == (-signal.SIGKILL, None)


@needs_proc
async def test_an_owner_that_nobody_has_reaped_is_dead(start, tmp_path):
    process = start()
    orphan = start(owner_like(process.pid, tmp_path))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - killed, but not reaped
    await sweep_all(tmp_path)
    assert orphan.wait(10) == -signal.SIGKILL


@needs_proc
@pytest.mark.parametrize(
    "elsewhere", [{"boot": "ba9876543210"}, {"view": "76543210"}], ids=["boot", "namespace"]
)
async def test_a_process_of_another_machine_or_namespace_is_spared(
    start, dead_owner, tmp_path, elsewhere: Mapping[str, str]
):
    process = start(replace(dead_owner, place=replace(dead_owner.place, **elsewhere)))
    assert (await sweep_all(tmp_path)).findings == ()
    assert process.poll() is None


@needs_proc
@pytest.mark.parametrize("mark", [None, "", "1-2-3", "0-0-000000000000-00000000-00000000"])
async def test_a_process_without_a_mark_is_spared(start, tmp_path, mark: str | None):
    process = start(mark)
    assert (await sweep_all(tmp_path)).findings == ()
    assert process.poll() is None


@needs_proc
async def test_an_orphan_of_a_program_with_another_codex_home_is_spared(start, dead_owner, tmp_path):
    process = start(dead_owner)
    assert (await sweep_all(tmp_path / "other")).findings == ()
    assert process.poll() is None


@needs_proc
@needs_root
async def test_a_process_of_another_user_is_spared(start, dead_owner, tmp_path):
    process = start(dead_owner, user=65534)
    assert (await sweep_all(tmp_path)).findings == ()
    assert process.poll() is None


@needs_proc
@needs_root
async def test_a_process_that_has_become_another_user_in_part_is_spared(start, dead_owner, tmp_path):
    program = "import os, time; os.seteuid(65534); print(flush=True); time.sleep(600)"
    process = start(dead_owner, (sys.executable, "-c", program), stdout=subprocess.PIPE)
    with process.stdout as ready:
        ready.readline()
        assert (await sweep_all(tmp_path)).findings == ()
    assert process.poll() is None


@needs_proc
async def test_who_cleans_up_spares_itself_and_who_started_it(start, dead_owner, tmp_path):
    program = (
        "import subprocess, sys; subprocess.run(sys.argv[1:], check=True); print('both live', flush=True)"
    )
    janitor = (
        "import trio; from pathlib import Path; from functools import partial\n"
        "from codex_actors._janitor import sweep\n"
        f"trio.run(partial(sweep, Path({str(tmp_path)!r}), seconds=20))"
    )
    process = start(
        dead_owner,
        (sys.executable, "-c", program, sys.executable, "-c", janitor),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    with process.stdout as said:
        assert said.read() == b"both live\n"


@needs_proc
def test_turns_that_may_leave_nothing_mark_their_processes_as_ours():
    home = Path("/home/of/codex")
    assert parse_owner(mark(CodexOptions(), home)[VARIABLE]) == owner_like(os.getpid(), home)


@pytest.mark.parametrize("options", [{"leftovers": "keep"}, {"allowed_leftovers": ["tmux*"]}])
def test_what_may_stay_is_nobodys_whatever_it_inherits(options):
    codex = CodexOptions(**options, inherit_env="all")
    assert owner_of_process(f"{VARIABLE}={mark(codex, Path())[VARIABLE]}\0".encode()) is None
    assert mark(codex, Path()) == {VARIABLE: ""}


@needs_proc
async def test_where_proc_shows_others_than_we_know_nothing_is_killed(
    start, dead_owner, tmp_path, monkeypatch
):
    process = start(dead_owner)
    for name in (tmp_path / "self", tmp_path / str(process.pid)):
        name.symlink_to(f"/proc/{process.pid}")
    monkeypatch.setattr(_facts, "PROC", tmp_path)
    assert (await sweep_all(tmp_path)).findings == ()
    assert _facts.seen(os.getpid()) == "somebody"
    assert process.poll() is None


@needs_proc
def test_of_somebody_hidden_nothing_more_is_known(tmp_path, monkeypatch):
    (tmp_path / "self").symlink_to(str(os.getpid()))
    monkeypatch.setattr(_facts, "PROC", tmp_path)
    assert _facts.seen(1) == "somebody"


# --- directories ------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def left(temporary: Path, dead_owner: Owner) -> Path:
    """A directory that a dead owner has left."""
    path = temporary / directory_name("demo", dead_owner)
    (path / "deep" / "er").mkdir(parents=True)
    (path / "deep" / "file").write_text("text")
    return path


async def test_a_directory_tells_its_owner_is_private_and_is_gone_in_the_end(temporary):
    with open_directory("demo") as path, open_directory("demo") as other:
        assert path != other
        owner = owner_of_directory(path.name)
        assert owner is not None
        assert owner == _facts.this_owner(owner.tag)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "file").touch()
    assert list(temporary.iterdir()) == []


async def test_a_directory_is_held_as_long_as_it_is_used(temporary):
    with open_directory("demo") as path:
        fd = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)


async def test_a_directory_whose_owner_is_dead_is_removed_and_what_it_points_to_is_not(left, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("mine")
    (left / "link").symlink_to(kept)
    [finding] = (await sweep_all(tmp_path)).findings
    assert (finding.kind, finding.name, finding.gone) == ("directory", str(left), True)
    assert not left.exists()
    assert (kept / "file").read_text() == "mine"


async def test_a_dry_run_leaves_directories(left, tmp_path):
    [finding] = (await sweep_all(tmp_path, dry_run=True)).findings
    assert (finding.name, finding.gone) == (str(left), False)
    assert (left / "deep" / "file").exists()


async def test_a_directory_is_left_from_before_a_reboot(left, dead_owner, tmp_path):
    before = replace(dead_owner, place=replace(dead_owner.place, boot="ba9876543210"))
    left.rename(left.with_name(directory_name("demo", before)))
    assert [finding.gone for finding in (await sweep_all(tmp_path)).findings] == [True]


async def test_a_directory_that_somebody_holds_is_spared(left, tmp_path):
    fd = os.open(left, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert (await sweep_all(tmp_path)).findings == ()
    finally:
        os.close(fd)
    assert (left / "deep" / "file").exists()


async def test_a_directory_of_a_live_owner_is_spared_held_or_not(left, tmp_path):
    mine = left.with_name(directory_name("demo", owner_like(os.getpid(), tmp_path)))
    left.rename(mine)
    assert (await sweep_all(tmp_path)).findings == ()
    assert mine.exists()


async def test_a_directory_of_another_namespace_is_spared(left, dead_owner, tmp_path):
    theirs = replace(dead_owner, place=replace(dead_owner.place, view="76543210"))
    left.rename(left.with_name(directory_name("demo", theirs)))
    assert (await sweep_all(tmp_path)).findings == ()


async def test_a_planted_link_is_not_followed(left, tmp_path):
    target = left.rename(tmp_path / "target")
    left.symlink_to(target)
    assert (await sweep_all(tmp_path)).findings == ()
    assert (target / "deep" / "file").exists()
    assert left.is_symlink()


async def test_what_only_looks_like_a_directory_of_ours_is_spared(left, tmp_path):
    names = ["codex-actors-demo-abc", f"{left.name}-", f"x{left.name}", "codex-actors-"]
    others = [left.with_name(name) for name in names]
    for path in others:
        path.mkdir()
    left.rename(left.with_name("elsewhere"))
    left.write_text("a file")
    assert (await sweep_all(tmp_path)).findings == ()
    assert all(path.exists() for path in (left, *others))


@needs_root
async def test_a_directory_of_another_user_is_spared(left, tmp_path):
    os.chown(left, 65534, -1)
    assert (await sweep_all(tmp_path)).findings == ()
    assert left.exists()


async def test_what_cannot_be_removed_is_told(left, tmp_path, monkeypatch):
    monkeypatch.setattr("codex_actors._janitor._files._remove_directory", lambda *_: False)
    with capture_logs() as logs:
        await tidy(tmp_path, seconds=20)
    assert [entry["event"] for entry in logs] == ["janitor.stuck"]
    assert logs[0]["name"] == str(left)


# --- lock files -------------------------------------------------------------------------------------


@pytest.fixture
def lock_file(tmp_path: Path, temporary: Path) -> Path:
    path = tmp_path / FOLDER / f"{THREAD}.lock"
    path.parent.mkdir()
    path.touch()
    return path


async def test_a_lock_file_that_nobody_holds_is_removed(lock_file, tmp_path):
    [finding] = (await sweep_all(tmp_path)).findings
    assert (finding.kind, finding.name, finding.gone) == ("lock", str(lock_file), True)
    assert not lock_file.exists()


async def test_a_dry_run_leaves_lock_files(lock_file, tmp_path):
    [finding] = (await sweep_all(tmp_path, dry_run=True)).findings
    assert not finding.gone
    assert lock_file.exists()


async def test_a_lock_file_that_somebody_holds_is_spared(lock_file, tmp_path):
    with lock_file.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (await sweep_all(tmp_path)).findings == ()
    assert lock_file.exists()


async def test_what_only_looks_like_a_lock_file_is_spared(lock_file, tmp_path):
    folder = lock_file.parent
    target = tmp_path / "target"
    target.touch()
    (folder / f"{OTHER_THREAD}.lock").symlink_to(target)
    os.mkfifo(folder / f"{OTHER_THREAD[:-1]}3.lock")
    (folder / "notes.lock").touch()
    lock_file.write_text("not empty")
    assert (await sweep_all(tmp_path)).findings == ()
    assert len(list(folder.iterdir())) == 4
    assert target.exists()


async def test_a_planted_folder_of_locks_is_not_followed(lock_file, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / FOLDER).symlink_to(lock_file.parent)
    assert (await sweep_all(home)).findings == ()
    assert lock_file.exists()


# --- a round ----------------------------------------------------------------------------------------


async def test_a_round_that_runs_out_of_time_says_so(left, tmp_path):
    with capture_logs() as logs:
        await tidy(tmp_path, seconds=-1)
    assert logs == [{"event": "janitor.unfinished", "log_level": "warning", "wait_seconds": -1}]
    assert left.exists()


async def test_who_cancels_a_round_does_not_wait_for_it(left, tmp_path):
    with trio.move_on_after(0) as scope:
        await sweep_all(tmp_path)
    assert scope.cancelled_caught


@needs_proc
async def test_the_log_hears_what_was_done(start, dead_owner, left, lock_file, tmp_path):
    orphan = start(dead_owner)
    with capture_logs() as logs:
        await tidy(tmp_path, seconds=20)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("janitor.killed", "warning"),
        ("janitor.removed", "info"),
        ("janitor.removed", "info"),
    ]
    assert (logs[0]["pid"], logs[0]["program"], logs[0]["owner_pid"]) == (
        orphan.pid,
        "sleep",
        dead_owner.pid,
    )
    assert [entry["path"] for entry in logs[1:]] == [str(left), str(lock_file)]


async def test_whatever_a_round_meets_fails_nobody(tmp_path, monkeypatch):
    def fail() -> Place:
        raise ValueError("a bug")

    monkeypatch.setattr("codex_actors._janitor.sweep_processes", lambda *_: fail())
    with capture_logs() as logs:
        await tidy(tmp_path, seconds=20)
    assert logs == [{"event": "janitor.failed", "log_level": "error", "error": "ValueError"}]
