# The guard: run as a program of its own, never imported by the host. It forks a watcher for each process
# tree, ahead of need. The watcher is the tree's subreaper: whatever its members do to get away (setsid,
# double fork, a cleared environment), their parent in the end is the watcher, which kills and reaps until
# the kernel says that it has no child left (ECHILD). That is the proof that the tree is dead.
#
# No single SIGKILL gets past this. The host gone: every watcher holds a pidfd of it. A watcher gone: its
# tree falls to the guard, a subreaper too, which kills it. The guard gone: every watcher holds a pidfd of
# it, and kills its tree, for nobody would catch it any more.
#
# Only the standard library's lightest parts, and no threads: a fork then costs half a millisecond and
# shares nearly all of its memory. Nothing here waits for anybody without being ready for everybody else.

import ctypes
import fcntl
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NoReturn

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36
# The host may be deaf to a signal, and that is inherited; whom it starts must not be.
_TO_DEFAULT = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
# SIGKILL and SIGTERM, as bits of /proc/PID/status.
_DEADLY = 1 << signal.SIGKILL - 1 | 1 << signal.SIGTERM - 1
_MAX_MESSAGE = 64 * 1024
_MAX_NAMES = 32
_LIMITS = _MAX_MESSAGE, 64, socket.MSG_CMSG_CLOEXEC
# How long to wait for those just killed before looking again; whoever cannot be killed is asked less often.
_SOON, _LATER = 5, 1000


def main(host: socket.socket, host_pidfd: int) -> None:
    """Serve one host until it is gone."""
    os.chdir("/")
    for fd in (host.fileno(), host_pidfd):
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    for deaf_to in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(deaf_to, signal.SIG_IGN)  # they are for the host, which then ends its turns in order
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a host may ignore it, and its children are reaped unseen
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _become_subreaper()
    _prove_subreaper()
    gc.disable()
    gc.freeze()
    with suppress(BrokenPipeError):  # the host has thought better of it
        host.send(b"ready")
    _Guard(host, host_pidfd).run()


class _Guard:
    # Forks a watcher whenever the host asks for one, ahead of need, and catches the trees of those that die.

    def __init__(self, host: socket.socket, host_pidfd: int) -> None:
        self._host = host
        self._host_pidfd = host_pidfd
        self._pidfd = os.pidfd_open(os.getpid())
        self._children_changed = _watch_children()
        self._watchers: dict[int, int] = {}
        self._number = 0
        self._lost: list[int] = []  # whose watcher has died, and who may still live
        self._kept_read, self._kept_write = os.pipe()
        os.set_blocking(self._kept_read, False)
        self._kept: set[int] = set()

    def run(self) -> None:
        host_lives = True
        while host_lives or self._watchers or self._lost:
            lines = [self._children_changed]
            lines += [self._host.fileno(), self._host_pidfd] if host_lives else []
            ready = _wait_readable(lines, _SOON if self._lost else None)
            if self._host_pidfd in ready:
                host_lives = False
            elif self._host.fileno() in ready:
                match _receive(self._host):
                    case b"watcher":
                        self._fork_watcher()
                    case b"bye" if not self._lost:  # all trees are over; who waits for one sees that we go
                        self._wake_watchers()
                        return
                    case _:
                        host_lives = False
            if not host_lives:
                self._wake_watchers()
            self._look_after_children()

    def _wake_watchers(self) -> None:
        """Continue those that somebody has stopped; they then see that the host has gone."""
        for pid in self._watchers:
            os.kill(pid, signal.SIGCONT)  # its number is nobody else's until we reap it

    def _fork_watcher(self) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                pid = os.fork()
                if pid == 0:
                    theirs.close()
                    self._become_watcher(ours)
                self._number += 1
                self._watchers[pid] = self._number
                self._tell(b"watcher %d" % self._number, theirs.fileno())
        except OSError as exc:
            self._tell(b"failed %d" % (exc.errno or 0))

    def _become_watcher(self, host: socket.socket) -> NoReturn:
        status = 1
        try:
            _close((self._host.detach(), self._kept_read, self._children_changed, signal.set_wakeup_fd(-1)))
            _become_subreaper()
            kept = _Watcher(host, (self._host_pidfd, self._pidfd)).run()
            with suppress(BrokenPipeError):  # the guard has gone, and whoever was kept is nobody's
                os.write(self._kept_write, b"".join(b"%d\n" % pid for pid in kept))
            status = 0
        except BaseException as exc:  # noqa: BLE001 - a bug; said here, and the guard ends the tree
            sys.excepthook(type(exc), exc, exc.__traceback__)
        finally:
            os._exit(status)

    def _look_after_children(self) -> None:
        self._learn_kept()  # first: before one of them can have ended
        for pid, status in _reap(self._children_changed):
            self._kept.discard(pid)
            number = self._watchers.pop(pid, None)
            if number is not None:
                self._learn_kept()  # it may have said so only just now
                if status != 0:
                    self._lost.append(number)
        if self._lost:
            with suppress(OSError):  # nobody can be seen now, which does not mean that nobody is there
                self._end_lost()

    def _end_lost(self) -> None:
        ours = self._watchers.keys() | self._kept
        strays = [pid for pid in _our_children() if pid not in ours]
        if strays:
            _kill_trees(strays)
        else:
            self._tell_lost()

    def _learn_kept(self) -> None:
        with suppress(BlockingIOError):
            self._kept.update(map(int, os.read(self._kept_read, _MAX_MESSAGE).split()))

    def _tell_lost(self) -> None:
        while self._lost:
            self._tell(b"lost %d" % self._lost.pop())

    def _tell(self, message: bytes, *fds: int) -> None:
        with suppress(OSError):  # the host has gone
            socket.send_fds(self._host, [message], fds)


class _Watcher:
    # One tree: its root is our only child at first, and the rest of it become our children as their
    # parents end.

    def __init__(self, host: socket.socket, lifelines: Sequence[int]) -> None:
        self._host = host
        self._lifelines = lifelines
        self._children_changed = _watch_children()
        self._root = 0
        self._wrappers = 0
        self._root_lives = False
        self._interrupt_due = False
        self._clearing = False
        self._may_stay: list[str] = []
        self._killed: dict[int, str] = {}
        self._patience = _SOON

    def run(self) -> list[int]:
        """Wait for a tree to see through, and do so; returns who may stay."""
        while not self._is_over():
            self._attend()
        kept = _our_children() if self._may_stay else []
        names = [*self._killed.values()][:_MAX_NAMES], [_name(pid) for pid in kept][:_MAX_NAMES]
        self._tell(b"over " + b"\0\0".join(b"\0".join(map(os.fsencode, some)) for some in names))
        return kept

    def _start(self, request: int, fds: list[int]) -> None:
        try:
            self._spawn(request, fds)
        except OSError as exc:
            self._tell(b"failed %d" % (exc.errno or 0))
            self._clear(())
        else:
            self._root_lives = True
            self._tell(b"started %d" % self._root)

    def _spawn(self, request: int, fds: list[int]) -> None:
        header, *fields = os.pread(request, os.fstat(request).st_size, 0).split(b"\0")
        os.close(request)
        self._wrappers, argc, *targets = map(int, header.split())
        cwd, *given = fds
        os.fchdir(cwd)
        os.close(cwd)
        # Out of the way of the numbers they are to have.
        high = [_move_above(fd, max(targets)) for fd in given]
        try:
            self._root = os.posix_spawn(
                fields[0],
                fields[:argc],
                dict(field.split(b"=", 1) for field in fields[argc:]),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(high, targets, strict=True)
                ],
                setsid=True,  # a terminal's Ctrl-C is for the host
                setsigmask=(),
                setsigdef=_TO_DEFAULT,
            )
        finally:
            _close(high)

    def _wait(self) -> set[int]:
        if self._clearing:
            patience, self._patience = self._patience, min(2 * self._patience, _LATER)
            return _wait_readable([self._children_changed], patience)
        lines = self._children_changed, self._host.fileno(), *self._lifelines
        return _wait_readable(lines, _SOON if self._interrupt_due else None)

    def _attend(self) -> None:
        ready = self._wait()
        if ready & {*self._lifelines}:
            self._clear(())
        elif self._host.fileno() in ready:
            self._obey()
        if self._interrupt_due:
            self._interrupt()
        for pid, status in _reap(self._children_changed):
            if pid == self._root:
                self._root_lives = False
                self._tell(b"exited %d" % os.waitstatus_to_exitcode(status))
        if self._root and not _has_children():  # nothing is left to be decided
            self._clear(())
        elif self._clearing:
            with suppress(OSError):  # nobody can be seen now
                self._kill()

    def _obey(self) -> None:
        fds: list[int] = []
        verb, *words = _receive(self._host, fds).split(b"\0")
        if verb == b"start":
            self._start(fds[0], fds[1:])
        elif verb == b"interrupt":
            self._interrupt_due = True
        elif verb == b"kill":
            self._signal(self._root, signal.SIGKILL)
        else:  # it wants the tree gone, or has gone itself
            self._clear(words)

    def _interrupt(self) -> None:
        """Interrupt the one that the root only wraps, as soon as it is there."""
        pid = self._root
        for _ in range(self._wrappers):
            pid = next(iter(_children_of(pid)), 0)
        self._interrupt_due = self._root_lives and not pid
        if pid:
            self._signal(pid, signal.SIGINT, signal.SIGCONT)  # a stopped one hears of it only now

    def _signal(self, pid: int, *signals: signal.Signals) -> None:
        for number in signals:
            with suppress(OSError):  # it has just ended, or become another user
                if self._root_lives:  # else its number may be a stranger's
                    os.kill(pid, number)

    def _clear(self, may_stay: Sequence[bytes]) -> None:
        self._clearing = True
        self._may_stay = [os.fsdecode(pattern) for pattern in may_stay]

    def _doomed(self) -> list[int]:
        return [pid for pid in _our_children() if not self._stays(pid)]

    def _stays(self, pid: int) -> bool:
        if not self._may_stay:
            return False
        from fnmatch import fnmatchcase  # noqa: PLC0415 - brings the regular expressions, for the few

        described = _name(pid), _command_line(pid)
        return any(fnmatchcase(text, pattern) for text in described for pattern in self._may_stay)

    def _kill(self) -> None:
        doomed = self._doomed()
        for pid in doomed:
            if pid != self._root and not _is_dying(pid):
                self._killed.setdefault(pid, _name(pid))
        _kill_trees(doomed, self._stays)

    def _is_over(self) -> bool:
        if not self._clearing:
            return False
        with suppress(OSError):  # nobody can be seen now
            return not (self._doomed() if self._may_stay else _has_children())
        return False

    def _tell(self, message: bytes) -> None:
        with suppress(OSError):  # the host has gone
            self._host.send(message)


def _become_subreaper() -> None:
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def _prove_subreaper() -> None:
    """See that orphans really come to us; a sandbox may only pretend."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os._exit(7)
        os._exit(0)
    seen = _children_of(os.getpid())
    statuses = {os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]) for _ in range(2)}
    if child not in seen or statuses != {0, 7}:
        raise ChildProcessError("orphans do not come to us, or /proc does not show them")


def _watch_children() -> int:
    """A descriptor that is readable when a child has ended."""
    signal.signal(signal.SIGCHLD, _note_signal)
    ours, theirs = os.pipe()
    for fd in (ours, theirs):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    return ours


def _note_signal(number: int, frame: object) -> None:
    """Do nothing, where the default would be that not even the descriptor hears of it."""


def _receive(channel: socket.socket, fds: list[int] | None = None) -> bytes:
    """Receive a message, and the descriptors that come with it; empty if the other side has gone."""
    try:
        message, got, flags, _ = socket.recv_fds(channel, *_LIMITS)
    except ConnectionResetError:  # it has gone, with something unread; what it had said comes next
        message, got, flags, _ = socket.recv_fds(channel, *_LIMITS)
    if flags & socket.MSG_CTRUNC:
        raise OSError("too few descriptors are left for what was sent")
    if fds is not None:
        fds += got
    return message


def _wait_readable(fds: Iterable[int], milliseconds: int | None) -> set[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(milliseconds)}


def _reap(children_changed: int) -> Iterator[tuple[int, int]]:
    with suppress(BlockingIOError):
        os.read(children_changed, _MAX_MESSAGE)
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _our_children() -> list[int]:
    """All of them, or an error: whom we only fail to see must not count as dead."""
    return [*map(int, _read(f"/proc/self/task/{os.getpid()}/children").split())]


def _children_of(pid: int) -> list[int]:
    with suppress(OSError):  # it has just ended
        return [
            int(child)
            for thread in os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib weighs too much here
            for child in _read(f"/proc/{pid}/task/{thread}/children").split()
        ]
    return []


def _with_descendants(pids: Iterable[int], stays: Callable[[int], bool]) -> set[int]:
    found: set[int] = set()
    unseen = [*pids]
    while unseen:
        pid = unseen.pop()
        if pid not in found:
            found.add(pid)
            unseen += (child for child in _children_of(pid) if not stays(child))
    return found


def _kill_trees(roots: Sequence[int], stays: Callable[[int], bool] = lambda _: False) -> None:
    """Kill children of ours, and their descendants; some of those may yet become our children."""
    trees = _with_descendants(roots, stays)
    for pid in roots:
        with suppress(PermissionError):  # it has become another user
            os.kill(pid, signal.SIGKILL)  # its number is nobody else's until we reap it
    for pid in trees.difference(roots):
        with suppress(OSError):
            _kill_surely(pid, trees)


def _kill_surely(pid: int, parents: set[int]) -> None:
    """Kill a process, unless it is a stranger who was given the number of one that has ended."""
    pidfd = os.pidfd_open(pid)
    try:
        if _parent_of(pid) in parents:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def _parent_of(pid: int) -> int:
    return int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])


def _name(pid: int) -> str:
    return _read_or_nothing(f"/proc/{pid}/comm").rstrip("\n") or "?"


def _is_dying(pid: int) -> bool:
    """Whether it is on its way out already, killed by Codex a moment ago or by the kernel with its parent."""
    status = dict(line.split(":", 1) for line in _read_or_nothing(f"/proc/{pid}/status").splitlines())
    pending = int(status.get("SigPnd", "0"), 16) | int(status.get("ShdPnd", "0"), 16)
    return not status or status["State"].strip()[0] in "ZX" or bool(pending & _DEADLY)


def _command_line(pid: int) -> str:
    return _read_or_nothing(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")


def _read_or_nothing(path: str) -> str:
    with suppress(OSError):  # the process has ended
        return _read(path)
    return ""


def _read(path: str) -> str:
    with open(path, errors="surrogateescape") as file:  # noqa: PTH123 - as above
        return file.read()


def _move_above(fd: int, limit: int) -> int:
    moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, limit + 1)
    os.close(fd)
    return moved


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
