"""A program that does all it can to outlive whoever started it; standard library only, run by its path.

Each member of its family holds a lock of its own on one file, and has noted its process id there before.
"""

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

LOCK = sys.argv[1]
SHAPE = sys.argv[2] if len(sys.argv) > 2 else "family"
# A test that loses a process must not lose it for ever.
FOR_EVER = 120
PR_SET_CHILD_SUBREAPER = 36


def take_lock(role: str) -> int:
    fd = os.open(LOCK, os.O_RDWR | os.O_APPEND)
    os.write(fd, b"%s %d\n" % (role.encode(), os.getpid()))
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def live() -> NoReturn:
    time.sleep(FOR_EVER)
    os._exit(0)


def member(role: str) -> NoReturn:
    take_lock(role)
    live()


def silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def fork(work: Callable[[], object], *, silent: bool = True) -> int:
    pid = os.fork()
    if pid == 0:
        if silent:
            silence()
        work()
        os._exit(0)
    return pid


def session() -> None:
    os.setsid()
    member("session")


def daemon() -> None:
    os.setsid()
    fork(lambda: member("daemon"))


def without_environment() -> None:
    os.set_inheritable(take_lock("no-environment"), True)
    os.execv("/usr/bin/env", ["env", "-i", "sleep", str(FOR_EVER)])  # the lock goes along


def family() -> None:
    fork(lambda: member("plain"))
    fork(session)
    os.waitpid(fork(daemon), 0)
    fork(without_environment)
    fork(lambda: member("holds-output"), silent=False)


def crowd() -> None:
    for _ in range(199):
        fork(lambda: member("one of many"))


def deep(levels: int = 49) -> None:
    def descend() -> None:
        deep(levels - 1)
        member("one below the other")

    if levels:
        fork(descend)


def daemons() -> None:
    for _ in range(20):
        server()


def alone() -> None:
    pass


def server() -> None:
    os.waitpid(fork(daemon), 0)


def stopped() -> None:
    def stop() -> None:
        os.setsid()
        take_lock("stopped")
        os.kill(os.getpid(), signal.SIGSTOP)
        live()

    fork(stop)


def subreaper() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    family()


def namespace() -> None:
    def enter() -> None:
        os.execvp(
            "unshare",
            ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, __file__, LOCK],
        )

    fork(enter)


def zombies() -> None:
    def breed() -> None:
        for _ in range(50):
            fork(lambda: None)
        member("parent of zombies")

    fork(breed)


def runaway() -> None:
    """Each generation forks the next and ends: whoever is looked at is gone already."""

    def run() -> None:
        os.setsid()
        fd = take_lock("first generation")
        ends = time.monotonic() + FOR_EVER
        while time.monotonic() < ends:
            if os.fork():
                os._exit(0)
            os.write(fd, b".")

    os.waitpid(fork(run), 0)


SHAPES = {
    "family": family,
    "leave": family,
    "mcp": family,
    "crowd": crowd,
    "deep": deep,
    "daemons": daemons,
    "alone": alone,
    "server": server,
    "stopped": stopped,
    "subreaper": subreaper,
    "namespace": namespace,
    "zombies": zombies,
    "runaway": runaway,
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "victim", "version": "1"},
        }
    return {"tools": []}


def serve() -> None:
    """Be an MCP server that stays when its stdin has ended."""
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            result = answer(request["method"], request.get("params") or {})
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")
            sys.stdout.flush()


def main() -> None:
    for deaf_to in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(deaf_to, signal.SIG_IGN)
    SHAPES[SHAPE]()
    if SHAPE in {"leave", "server"}:
        return
    take_lock("root")
    if SHAPE == "mcp":
        serve()
    live()


main()
