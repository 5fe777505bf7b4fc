"""A command that no server takes runs by itself, and says nothing of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from mmlbench.system import handover

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are run servers on Linux alone")
WORDS = ["train", "--dataset", "tiny"]


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return the socket to which this process would hand a command over."""
    monkeypatch.setattr(handover, "is_program", lambda: True)
    monkeypatch.setattr(handover, "PATIENCE_S", 0.2)
    monkeypatch.setattr(handover, "_HARMLESS", handover._HARMLESS | {"PYTEST_CURRENT_TEST"})
    monkeypatch.setenv(handover.VARIABLE, f"test-{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(handover.address(os.environ[handover.VARIABLE]))
        found.listen()
        found.settimeout(20)
        yield found


def answering(listener: socket.socket, answer: Callable[[socket.socket], object]) -> threading.Thread:
    """Take one connection beside this thread and do something with it."""

    def take() -> None:
        line, _ = listener.accept()
        with line:
            answer(line)

    thread = threading.Thread(target=take)
    thread.start()
    return thread


def speak(line: socket.socket, process: int, word: bytes = b"") -> None:
    """Be a server that hands a command to a process, and says a word of how that ended."""
    _, descriptors, _, _ = socket.recv_fds(line, 1, 5)
    with socket.socket(fileno=descriptors[-1]) as other:
        other.settimeout(20)
        (length,) = handover.LENGTH.unpack(handover.received(other, handover.LENGTH.size))
        assert len(handover.received(other, length)) == length
        other.sendall(handover.READY + handover.ENDED.pack(process))
        assert handover.received(other, 1) == handover.GO
    for one in descriptors[:-1]:
        os.close(one)
    line.sendall(word)


@pytest.mark.parametrize("what", ["silent", "closing", "gone"])
def test_a_server_that_does_not_answer_leaves_the_command_to_itself(what, listener):
    if what == "gone":
        listener.close()
        assert handover.hand_over(WORDS) is None
        return
    held = threading.Event()
    thread = answering(listener, lambda line: held.wait(20) if what == "silent" else None)
    assert handover.hand_over(WORDS) is None
    held.set()
    thread.join()


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_that_of_the_process(code, listener):
    thread = answering(listener, lambda line: speak(line, 1, handover.ENDED.pack(code)))
    assert handover.hand_over(WORDS) == code
    thread.join()


def test_a_lost_process_leaves_the_command_to_itself_once_it_has_ended(listener):
    process = subprocess.Popen(["sleep", "1"])
    thread = answering(listener, lambda line: speak(line, process.pid))
    assert handover.hand_over(WORDS) is None
    assert process.poll() is not None or not handover.alive(process.pid, None)
    process.wait()
    thread.join()


def test_a_process_that_ends_without_a_word_is_given_up(listener, monkeypatch):
    monkeypatch.setattr(handover, "LOST_S", 0.1)
    process = subprocess.Popen(["true"])
    process.wait()
    held = threading.Event()

    def answer(line: socket.socket) -> None:
        speak(line, process.pid)
        held.wait(20)

    thread = answering(listener, answer)
    assert handover.hand_over(WORDS) is None
    held.set()
    thread.join()


def test_the_server_of_another_user_gets_nothing(listener, monkeypatch):
    uid = os.geteuid()
    heard: list[bytes] = []
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    thread = answering(listener, lambda line: heard.append(line.recv(10)))
    assert handover.hand_over(WORDS) is None
    thread.join()
    assert heard == [b""]


@pytest.mark.parametrize(
    ("variable", "words", "program"),
    [
        (handover.OFF, WORDS, True),
        ("", WORDS, True),
        (None, ["tables"], True),
        (None, ["prepare", "tiny"], True),
        (None, [], True),
        (None, WORDS, False),
    ],
)
def test_nothing_is_handed_over_that_is_not_meant_to_be(variable, words, program, listener, monkeypatch):
    monkeypatch.setattr(handover, "is_program", lambda: program)
    if variable is not None:
        monkeypatch.setenv(handover.VARIABLE, variable)
    listener.setblocking(False)
    assert handover.hand_over(words) is None
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_CBWR", "PYTHONPATH", "LD_PRELOAD", "ANYTHING"])
def test_every_variable_counts(name, monkeypatch):
    before = handover.circumstances()
    monkeypatch.setenv(name, "something else")
    assert handover.circumstances() != before
    monkeypatch.undo()
    assert handover.circumstances() == before


@pytest.mark.parametrize("name", ["TMPDIR", "SHLVL", "PWD", "_", handover.VARIABLE])
def test_but_those_that_no_import_reads(name, monkeypatch):
    before = handover.circumstances()
    monkeypatch.setenv(name, "something else")
    assert handover.circumstances() == before


def test_what_is_inherited_counts_and_the_folder_of_the_script_does_not(monkeypatch):
    before = handover.circumstances()
    mask = os.umask(0o123)
    try:
        assert handover.circumstances() != before
    finally:
        os.umask(mask)
    assert handover.circumstances() == before
    monkeypatch.setattr(sys, "argv", ["/somewhere/mmlbench"])
    monkeypatch.setattr(sys, "path", ["/somewhere", *sys.path])
    assert handover.circumstances() == before
    monkeypatch.setattr(sys, "path", ["/elsewhere", *sys.path[1:]])
    assert handover.circumstances() != before
