"""Full and read-only disks, and two writers in one folder: real ones, where the right to mount is there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mini_av
import numpy as np
import pytest
from bad_input import ROOT, left_over, refused, run
from interrupted import content

from mmlbench.errors import DataError, RunError
from mmlbench.prepare import archives
from mmlbench.prepare import items as work
from mmlbench.registry.index import load_index
from mmlbench.storage import atomic as store
from mmlbench.storage import lease
from mmlbench.testing import PLUGINS

# --- disks -----------------------------------------------------------------------------------------------

MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Mount a real disk of 256 KiB that has about 60 KiB left; where that is not allowed, the test is not run."""
    place = tmp_path / "disk"
    place.mkdir()
    if LIBC.mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=256k"):
        pytest.skip(f"not run: no right to mount a small disk ({os.strerror(ctypes.get_errno())})")
    (place / "ballast").write_bytes(b"x" * 200_000)
    try:
        yield place
    finally:
        LIBC.umount2(bytes(place), MNT_DETACH)


def remount(place: Path, flags: int = 0, options: bytes = b"") -> None:
    assert LIBC.mount(b"tmpfs", bytes(place), b"tmpfs", MS_REMOUNT | flags, options) == 0


def test_a_full_disk_while_preparing(small_disk, capsys):
    """A page of a memory map without room would end the process by SIGBUS, without a word."""
    line = refused(capsys, "prepare", "tiny", "--cache", small_disk / "cache", "--plugins", PLUGINS)
    assert "no space left while writing" in line and str(small_disk / "cache") in line
    assert "Free some space, then type the same command again" in line
    assert not list(small_disk.rglob("*.npy")) and left_over(small_disk) == []


def test_without_taking_the_room_first_the_process_would_be_killed(small_disk):
    """The counter-test: this is why CacheWriter.array allocates."""
    words = ["prepare", "tiny", "--cache", str(small_disk / "cache"), "--plugins", str(PLUGINS)]
    code = f"import os; del os.posix_fallocate; from mmlbench.cli import main; main({words!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGBUS and "no space" not in done.stderr


@pytest.fixture(scope="module")
def cremad(tmp_path_factory) -> list[str]:
    """Return the command that prepares a miniature of CREMA-D; its cache takes 4.9 MB."""
    raw, lists = mini_av.cremad(tmp_path_factory.mktemp("cremad"), 5)
    return ["prepare", "cremad", "--raw", str(raw), "--lists", str(lists), *SMALL]


SMALL = ["--dataset-set", "size=24", "--workers", "1"]
#: What the small disk holds beside its ballast: six tenths of that cache; and all of it.
SIX_TENTHS, ENOUGH = b"size=3200k", b"size=16m"


@pytest.mark.parametrize("checked", [True, False], ids=["seen before the start", "taken by another after that"])
def test_a_disk_with_room_for_six_tenths_of_a_cache(checked, small_disk, cremad, monkeypatch, capsys):
    remount(small_disk, options=SIX_TENTHS)
    if not checked:
        monkeypatch.setattr(work, "check_space", lambda *about: None)
    line = refused(capsys, *cremad, "--cache", small_disk / "cache")
    assert ("are needed for the cache of cremad" if checked else "no space left while writing") in line
    assert "Free some space" in line and str(small_disk / "cache") in line
    assert not list(small_disk.rglob("*.npy")) and left_over(small_disk) == []
    remount(small_disk, options=ENOUGH)
    assert run(capsys, *cremad, "--cache", small_disk / "cache") == (0, [])


def test_a_disk_that_another_fills_while_clips_are_decoded(small_disk, cremad, tmp_path, monkeypatch, capsys):
    """The arrays have their room; the journal of what is done has none left. What is in it is kept."""
    remount(small_disk, options=ENOUGH)
    add = work.Journal.add

    def filling(journal: work.Journal, done: work.Done) -> None:
        if done.row == 18:
            with contextlib.suppress(OSError), (small_disk / "more").open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        add(journal, done)

    with monkeypatch.context() as patch:
        patch.setattr(work.Journal, "add", filling)
        line = refused(capsys, *cremad, "--cache", small_disk / "cache")
    assert "no space left while writing" in line and "Free some space" in line
    assert not list((small_disk / "cache").glob("cremad-*/"))
    (small_disk / "more").unlink()
    assert run(capsys, *cremad, "--cache", small_disk / "cache")[0] == 0
    assert run(capsys, *cremad, "--cache", tmp_path)[0] == 0
    (one,), (other,) = (place.glob("cremad-*/") for place in (small_disk / "cache", tmp_path))
    assert content(one) == content(other) and left_over(small_disk) == []


@pytest.mark.slow
def test_a_disk_that_fills_up_while_an_archive_is_unpacked(small_disk, tmp_path, monkeypatch, capsys):
    archive = mini_av.ave(tmp_path, 6, zipped=True)
    words = ["prepare", "ave", "--raw", archive, "--lists", tmp_path / "AVE_Dataset", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(archives, "check_space", lambda *about: None)
        line = refused(capsys, *words, "--cache", small_disk / "cache")
    assert "no space left while writing" in line and "Free some space" in line
    assert not list(small_disk.rglob("*.mp4")) and left_over(small_disk) == []
    remount(small_disk, options=b"size=64m")
    assert run(capsys, *words, "--cache", small_disk / "cache") == (0, [])


def test_a_full_disk_while_training(small_disk, tiny, capsys):
    line = refused(capsys, "train", *tiny.words("joint", small_disk / "results"))
    assert "no space left while writing" in line and "results/runs/tiny/speaker/joint" in line
    assert not list(small_disk.rglob("run.json")) and left_over(small_disk) == []
    remount(small_disk, options=b"size=16m")
    assert run(capsys, "train", *tiny.words("joint", small_disk / "results")) == (0, [])  # the fix


def test_a_disk_that_is_full_to_the_last_byte(small_disk, tiny, capsys):
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "more").write_bytes(b"x" * 400_000)
    line = refused(capsys, "train", *tiny.words("joint", small_disk / "results"))
    assert "no space left" in line


def test_a_read_only_results_folder(small_disk, tiny, capsys):
    remount(small_disk, MS_RDONLY)
    line = refused(capsys, "train", *tiny.words("joint", small_disk / "results"))
    assert "can't be written (Read-only file system). Make the folder writable or name another" in line
    line = refused(capsys, "prepare", "tiny", "--cache", small_disk / "cache", "--plugins", PLUGINS)
    assert "Read-only file system" in line


def test_a_complete_run_on_a_read_only_disk_is_still_complete(small_disk, tiny, capsys):
    remount(small_disk, options=b"size=16m")
    words = ["train", *tiny.words("joint", small_disk / "results")]
    assert run(capsys, *words) == (0, [])
    remount(small_disk, MS_RDONLY)
    assert run(capsys, *words) == (0, [])
    assert run(capsys, "score", next(small_disk.glob("results/runs/*/*/*/*"))) == (0, [])


def test_a_results_folder_whose_rights_forbid_writing(tmp_path):
    """The same for a user who is not root, to whom modes mean something."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    code = (
        "import os, sys; from pathlib import Path; from mmlbench.storage import atomic as store\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: store.write_text(Path(sys.argv[1]) / 'a' / 'b', 'text')\n"
        "except store.DataError as error: print(error)\n"
    )
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    if "PermissionError" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("not run: another user can't read this Python")
    assert "can't be written (Permission denied). Make the folder writable or name another" in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_write_that_fails_late_leaves_the_old_file_and_nothing_else(number, tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    store.write_json(path, {"old": 1})

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for write in (lambda: store.write_json(path, {"new": 1}), lambda: store.write_arrays(path, {"a": np.zeros(3)})):
        with pytest.raises(DataError) as caught:
            write()
        assert str(path) in str(caught.value) and caught.value.fix
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"] and store.read_json(path) == {"old": 1}


def test_results_that_are_a_file(tmp_path, tiny, capsys):
    (tmp_path / "results").write_text("mine")
    line = refused(capsys, "train", *tiny.words("joint", tmp_path / "results"))
    assert "can't be written (Not a directory)" in line or "can't be written (File exists)" in line
    assert (tmp_path / "results").read_text() == "mine"


# --- two writers -----------------------------------------------------------------------------------------


def holder_of(folder: Path, **facts: object) -> Path:
    """Write the lease of another process."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {"token": "other", "host": socket.gethostname(), "pid": os.getppid(), "start": None, **facts}
    (folder / "lease.json").write_text(json.dumps(known))
    return folder


def test_a_folder_that_another_process_works_in(tmp_path):
    message: list[str] = []
    folder = holder_of(tmp_path / "run")
    with pytest.raises(RunError, match=rf"is held by process {os.getppid()} on .*\. Wait for it to end, or stop it"):
        lease.Lease(folder, message.append, wait=0).__enter__()
    with pytest.raises(RunError, match="is held by"):
        lease.Lease(folder, message.append, wait=0.1).__enter__()
    assert len(message) == 1 and message[0].startswith(f"waiting for {folder}: process {os.getppid()}")
    assert json.loads((folder / "lease.json").read_text())["token"] == "other" and left_over(folder) == []


def gone() -> int:
    """Return the id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    "case", ["process gone", "id used again", "silent elsewhere", "garbage", "empty", "no mapping"]
)
def test_a_dead_holder_is_taken_over_and_that_is_said(case, tmp_path):
    message: list[str] = []
    facts = {
        "process gone": {"pid": gone()},
        "id used again": {"start": "1"},
        "silent elsewhere": {"host": "elsewhere"},
    }.get(case, {})
    folder = holder_of(tmp_path / "run", **facts)
    path = folder / "lease.json"
    if case in ("garbage", "empty", "no mapping"):
        path.write_text({"garbage": "{", "empty": "", "no mapping": "[1]"}[case])
        with pytest.raises(RunError, match=r"is held by somebody whose lease\.json can't be read"):
            lease.Lease(folder, message.append, wait=0).__enter__()  # it may be half of what is being written
    if case not in ("process gone", "id used again"):
        os.utime(path, (time.time() - lease.EXPIRY_S - 5,) * 2)
    with lease.Lease(folder, message.append, wait=0):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert len(message) == 1 and message[0].startswith(f"taking over {folder}: its holder")
    assert list(folder.iterdir()) == []


def test_one_who_is_silent_for_a_moment_elsewhere_or_in_another_container_is_not_dead(tmp_path):
    for facts in ({"host": "elsewhere", "pid": gone()}, {"space": "pid:[1]", "pid": gone()}):
        folder = holder_of(tmp_path / "run", **facts)
        with pytest.raises(RunError, match="is held by"):
            lease.Lease(folder, lambda line: None, wait=0).__enter__()


def test_a_clock_that_is_an_hour_off_makes_nobody_dead(tmp_path, monkeypatch):
    folder = holder_of(tmp_path / "run", host="elsewhere")
    clock = time.time
    monkeypatch.setattr(lease.time, "time", lambda: clock() + 3600)
    with pytest.raises(RunError, match="is held by"):
        lease.Lease(folder, lambda line: None, wait=0).__enter__()


@pytest.mark.slow
def test_two_writers_make_cache_and_run_once_and_both_end_well(tiny, tmp_path):
    options = tiny.words("joint", tmp_path / "results", cache=tmp_path / "cache")
    words = [sys.executable, "-m", "mmlbench", "train", *options]
    load_index()
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    output = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert sum("is complete\n" in text for text in output) == 1
    assert sum("is complete already\n" in text for text in output) == 1
    assert "Traceback" not in "".join(output) and left_over(tmp_path) == []
    assert not list(tmp_path.rglob("lease.json"))
    assert len(list(tmp_path.glob("cache/tiny-*/manifest.json"))) == 1


def test_a_stop_signal_ends_with_a_checkpoint_and_its_own_exit_code(tiny, tmp_path, capsys):
    words = ["train", *tiny.words("joint", tmp_path, dataset="tiny3")]
    words[words.index("epochs=2")] = "epochs=500"
    process = subprocess.Popen(
        [sys.executable, "-m", "mmlbench", *words, "--save-every", "0"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    limit = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/*/*/*/checkpoint.npz")) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "was asked to stop by signal 15" in output and "Traceback" not in output
    folder = next(tmp_path.glob("runs/*/*/*/*"))
    assert (folder / "checkpoint.npz").exists() and not (folder / "lease.json").exists()
