"""The guard process, as one that is started on its own."""

import os
import socket
import subprocess
import sys

import pytest

from codex_actors._process import _guard
from tests.leak_check import HAS_PROC

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")


def test_a_guard_that_nobody_waits_for_any_more_ends_and_says_nothing():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    host = os.pidfd_open(os.getpid())
    with theirs:
        done = subprocess.run(
            [sys.executable, *_guard._PYTHON_FLAGS, _guard._PROGRAM, str(theirs.fileno()), str(host)],
            pass_fds=(theirs.fileno(), host),
            capture_output=True,
            timeout=30,
            check=False,
        )
    os.close(host)
    assert (done.returncode, done.stderr) == (0, b"")
