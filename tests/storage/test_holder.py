"""Who holds a lease: a process that lives, one that does not, and what is no process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from mmlbench.storage.holder import alive, near, start_of


def test_this_process_lives_and_another_of_its_number_did_not() -> None:
    me = os.getpid()
    assert alive(me, start_of(me)) and alive(me, None)
    assert not alive(me, "1")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")  # noqa: PTH110
def test_a_killed_process_that_nobody_waits_for_is_dead() -> None:
    """As in a container without an init, where the parent of a killed training never asks how it ended."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        start = start_of(child.pid)
        assert alive(child.pid, start)
        child.kill()
        end = time.monotonic() + 20
        while alive(child.pid, start):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert start_of(child.pid) == start, "it is still there, as a zombie"


@pytest.mark.parametrize("pid", [0, -1, True, 10**20, 2**31, "7", None, 1.0])
def test_what_is_no_process_id_is_nobody_near(pid: object) -> None:
    assert not near({"host": socket.gethostname(), "pid": pid})
    assert near({"host": socket.gethostname(), "pid": os.getpid()})
