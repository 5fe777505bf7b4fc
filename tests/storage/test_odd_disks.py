"""File systems without hard links, shared memory maps or locks: the same bytes, and still one writer."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import mini_av
import numpy as np
import pytest
from bad_input import ROOT, left_over
from interrupted import content
from quick import quick_first
from refusing import environment

from mmlbench.errors import RunError
from mmlbench.storage import atomic as store
from mmlbench.storage import lease, mapped

NO_LINKS = [errno.EPERM, errno.ENOTSUP, errno.ENOSYS]
NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
LOCKS = [0, *NO_LOCKS]


def said_by(words: list[str], env: dict[str, str], code: int = 0) -> str:
    """Run a command of ours; return what it says."""
    command = [sys.executable, "-m", "mmlbench", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# --- hard links ----------------------------------------------------------------------------------------------
@pytest.fixture(params=NO_LINKS, ids=errno.errorcode.get)
def no_links(request, monkeypatch):
    """Have no hard links, with each of the answers that file systems give."""

    def refuse(*about: object, **options: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", refuse)


def test_a_lease_without_hard_links_lets_one_in(no_links, tmp_path, monkeypatch):
    message: list[str] = []
    with lease.Lease(tmp_path, message.append, wait=0) as first:
        with pytest.raises(RunError, match="is held by process"):
            lease.Lease(tmp_path, message.append, wait=0).__enter__()
        store.write_text(tmp_path / "a", "mine", first.whole)
        first.path.unlink()  # by mistake
        first.check()
        assert json.loads(first.path.read_text())["token"] == first.token
    assert (tmp_path / "a").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "lease.json").write_text('{"token": "x", "host": "elsewh')  # half of it is written
    with pytest.raises(RunError, match="can't be read"):
        lease.Lease(tmp_path, message.append, wait=0).__enter__()
    os.utime(tmp_path / "lease.json", (time.time() - lease.EXPIRY_S - 5,) * 2)
    with lease.Lease(tmp_path, message.append, wait=0):
        assert "taking over" in message[-1]


def test_a_lease_that_is_lost_without_hard_links_is_noticed(no_links, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "EXPIRY_S", -1.0)
    host = socket.gethostname()
    with pytest.raises(lease.LeaseLost), lease.Lease(tmp_path, lambda line: None) as first:
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        with lease.Lease(tmp_path, lambda line: None):
            monkeypatch.setattr(socket, "gethostname", lambda: host)
            store.write_text(tmp_path / "a", "late", first.whole)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_writers_without_hard_links(tiny, tmp_path):
    env = environment(tmp_path, link=errno.EPERM)
    words = tiny.words("joint", tmp_path / "results", cache=tmp_path / "cache")
    command = [sys.executable, "-m", "mmlbench", "train", *words]
    both = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    output = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert sum("is complete\n" in text for text in output) == 1 and left_over(tmp_path) == []
    tiny.run("joint", tmp_path / "plain", cache=tmp_path / "cache")
    for made in (tmp_path / "plain").glob("runs/*/*/*/*/run.json"):
        assert made.read_bytes() == (tmp_path / "results" / made.relative_to(tmp_path / "plain")).read_bytes()


def test_a_file_system_that_can_flush_nothing_still_takes_whole_files(tmp_path, monkeypatch):
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    store.write_text(tmp_path / "a", "whole")
    assert (tmp_path / "a").read_text() == "whole"


def test_a_file_system_whose_times_cant_be_set_keeps_a_lease_by_writing_it_again(tmp_path, monkeypatch):
    def refuse(*about: object, **options: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with lease.Lease(tmp_path, lambda line: None) as held:
        os.utime(held.path, (1, 1))
        monkeypatch.setattr(os, "utime", refuse)
        held.check()
        assert time.time() - held.path.stat().st_mtime < 60


# --- memory maps ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "refused",
    [{"mmap": errno.ENODEV}, {"mmap": errno.EINVAL, "every_mmap": errno.EINVAL}],
    ids=["no shared maps", "none that could be written"],
)
@pytest.mark.slow
def test_a_cache_without_shared_memory_maps_has_the_same_bytes(refused, tiny, tmp_path):
    raw, lists = mini_av.cremad(tmp_path / "raw", 5)
    words = ["prepare", "cremad", "--raw", str(raw), "--lists", str(lists), "--dataset-set", "size=16"]
    env = environment(tmp_path, **refused)
    message = said_by([*words, "--workers", "2", "--cache", str(tmp_path / "odd")], env)
    assert "can't be mapped into memory on this file system: it is written row by row" in message
    said_by([*words, "--workers", "1", "--cache", str(tmp_path / "plain")], dict(os.environ))
    (odd,), (plain,) = ((tmp_path / name).glob("cremad-*/") for name in ("odd", "plain"))
    assert content(odd) == content(plain)
    run = ["train", *tiny.words("joint", tmp_path / "results", cache=tmp_path / "cache")]
    said_by(run, env | {"MMLBENCH_STREAM": "1"})
    tiny.run("joint", tmp_path / "undisturbed")
    for made in (tmp_path / "undisturbed").glob("runs/*/*/*/*/run.json"):
        assert made.read_bytes() == (tmp_path / "results" / made.relative_to(tmp_path / "undisturbed")).read_bytes()


def test_rows_of_a_file_are_read_and_written_as_those_of_a_map(tmp_path):
    rng = np.random.default_rng(0)
    wanted = np.zeros((7, 2, 3), np.float32)
    np.lib.format.open_memmap(tmp_path / "b.npy", mode="w+", dtype=wanted.dtype, shape=wanted.shape).flush()
    assert isinstance(mapped.create(tmp_path / "a.npy", wanted.dtype, wanted.shape), np.memmap)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    rows = mapped.RowFile(tmp_path / "a.npy")
    indices = [3, -1, slice(1, 4), (2, 1), (slice(0, 2), 1), np.array([0, 5]), (..., 2), np.int64(6), ...]
    for index in indices:
        value = rng.standard_normal(wanted[index].shape)
        rows[index] = value
        wanted[index] = value
        assert np.array_equal(np.asarray(rows), wanted) and np.array_equal(rows[index], wanted[index])
    rows[4] = 1
    wanted[4] = 1
    rows.flush()
    assert np.array_equal(np.load(tmp_path / "a.npy"), wanted) and len(rows) == 7
    with pytest.raises(IndexError):
        rows[7]


# --- locks ---------------------------------------------------------------------------------------------------
START = """
import sys, time
from mmlbench.study import workflow
workflow.free_stale_lock(sys.argv[1])
sys.stdout.write("ready\\n")
sys.stdout.flush()
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("number", quick_first(LOCKS, 1), ids=lambda number: errno.errorcode.get(number, "locks"))
def test_locks_of_a_killed_snakemake_are_removed_and_those_of_a_living_one_are_not(number, tmp_path):
    env = environment(tmp_path, flock=number) if number else dict(os.environ)
    folder = tmp_path / ".snakemake"
    stale = folder / "locks" / "0.input.lock"

    def start(seconds: float) -> subprocess.Popen:
        command = [sys.executable, "-c", START, str(folder), str(seconds)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=env, text=True, cwd=ROOT, **pipes)
        assert process.stdout is not None and process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    first = start(600)
    stale.parent.mkdir()
    stale.touch()
    second = start(0)
    second.communicate()
    assert stale.exists()  # the first one lives
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    third = start(0)
    assert "An earlier snakemake was killed here" in third.communicate()[1]
    assert not stale.exists()
    assert not (folder / "mmlbench.lease" / "lease.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, errno.ENOLCK], ids=["locks", "no locks"])
def test_a_start_beside_a_dry_run_keeps_its_locks_after_the_dry_run_has_ended(number, tmp_path):
    env = environment(tmp_path, flock=number) if number else dict(os.environ)
    env.pop("MMLBENCH_SNAKEMAKE", None)
    folder = tmp_path / ".snakemake"
    started = []

    def start(seconds: float, more: dict[str, str] | None = None) -> subprocess.Popen:
        command = [sys.executable, "-c", START, str(folder), str(seconds)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=env | (more or {}), text=True, cwd=ROOT, **pipes))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    try:
        dry_run = start(600)
        start(600)
        (folder / "locks").mkdir()
        lock = folder / "locks" / "0.input.lock"
        lock.touch()
        assert "mmlbench: " in start(0).communicate()[1] and lock.exists()
        child = {"MMLBENCH_SNAKEMAKE": f"1 {folder}"}
        assert start(0, child).communicate()[1] == "" and lock.exists()
        dry_run.kill()
        dry_run.wait()
        time.sleep(2)  # a lease is looked at twice a second
        message = start(0).communicate()[1]
        assert lock.exists() and "killed here" not in message and message.count("\n") == 1
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_flock_is_what_is_refused(tmp_path):
    """The counter-test: the library does refuse, at the system call."""
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'a'), fcntl.LOCK_EX)"
    words = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(words, env=environment(tmp_path, flock=errno.ENOLCK), capture_output=True, text=True)
    assert done.returncode == 1 and "No locks available" in done.stderr
