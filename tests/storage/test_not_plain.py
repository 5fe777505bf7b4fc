"""Files of state in whose place something else lies: each is named with its kind, and nothing waits for it."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_runs
import pytest

from mmlbench.errors import DataError, LeaseLost, RunError
from mmlbench.registry.index import load_index
from mmlbench.results import arrays
from mmlbench.results import run_folder as runfolder
from mmlbench.results.arrays import read_checked
from mmlbench.storage import atomic
from mmlbench.storage.atomic import NotPlainError, opened, read_arrays, read_bytes, read_json, read_text
from mmlbench.storage.hashing import file_digest, spot_digest
from mmlbench.storage.lease import Lease
from mmlbench.train.complete import completeness, stamp


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:  # its name may have 107 letters
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


#: What lies in the place of a file -> how it is made, and a word of how it is named.
KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "folder"),
    "fifo": (os.mkfifo, "pipe"),
    "socket": (_socket, "socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "device"),
    "loop": (lambda path: path.symlink_to(path), "circle"),
    "dangling": (lambda path: path.symlink_to("nothing"), "nowhere"),
}
#: In the place of a link that leads to no file a rename puts one: it is as if nothing were there.
no_links = pytest.mark.parametrize(("make", "word"), [*KINDS.values()][:4], ids=[*KINDS][:4])
kinds = pytest.mark.parametrize(("make", "word"), KINDS.values(), ids=KINDS)

pytestmark = pytest.mark.usefixtures("not_for_ever")


@pytest.fixture
def not_for_ever() -> Iterator[None]:
    """End the tests where something waits, saying where, rather than to wait with it."""
    import faulthandler

    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def in_place_of(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


@kinds
@pytest.mark.parametrize(
    "read",
    [
        read_json,
        read_bytes,
        read_text,
        read_arrays,
        file_digest,
        spot_digest,
        lambda p: read_checked(p, lambda *_: ""),
    ],
    ids=["json", "bytes", "text", "arrays", "digest", "spot", "checked"],
)
def test_every_reader_names_what_lies_there(read, make, word: str, tmp_path: Path) -> None:
    make(tmp_path / "it")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "it"))) as error:
        read(tmp_path / "it")
    assert word in error.value.what and error.value.fix


@kinds
def test_no_descriptor_is_left_open(make, word: str, tmp_path: Path) -> None:
    make(tmp_path / "it")
    before = len([*Path("/proc/self/fd").iterdir()])
    for flags in (os.O_RDONLY, os.O_RDWR):
        with pytest.raises(NotPlainError):
            opened(tmp_path / "it", flags)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_what_is_missing_is_told_from_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        read_json(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "it.json"
    file.write_text("{}")
    file.chmod(0)
    child = os.fork()
    if not child:
        code = 1
        try:
            if os.geteuid() == 0:  # who may read everything
                os.setuid(65534)
            read_json(file)
        except NotPlainError as error:
            code = 0 if "Permission denied" in error.reason and "chmod" in error.fix else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_line_ends_are_read_as_python_reads_them(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"a\r\nb\n")
    assert read_text(tmp_path / "it") == (tmp_path / "it").read_text()


# ---- the lease -------------------------------------------------------------------------------------------------
@kinds
def test_a_lease_whose_file_is_none(make, word: str, tmp_path: Path) -> None:
    make(tmp_path / "lease.json")
    with pytest.raises(DataError, match=word), Lease(tmp_path, lambda line: None, wait=0):
        pass
    assert not list(tmp_path.glob(".lease.*"))


@kinds
def test_a_lease_whose_file_becomes_none(make, word: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with Lease(tmp_path, lambda line: None) as lease:
        in_place_of(lease.path, make)
        with pytest.raises(DataError, match=word):
            lease.check()
        assert not lease.held()
        assert isinstance(lease._loss(), LeaseLost)
    assert time.monotonic() - began < 5


# ---- run folders -----------------------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path: Path) -> Path:
    group = fake_runs.FakeGroup(counts=(20, 40), epochs=3)
    cell = fake_runs.write_run(tmp_path, group, group.methods[2], seed=0)
    folder = tmp_path / cell["run"]
    (folder / f"done-{'0' * 10}").write_text(f"{file_digest(folder / 'run.json')}\n")
    return folder


@kinds
@pytest.mark.parametrize("name", ["run.json", "provenance.json", "predictions.npz", "history.csv", "done-*"])
def test_verify_names_what_lies_in_the_place_of_a_file(name: str, make, word: str, run: Path) -> None:
    assert runfolder.verify(run) == []
    file = next(run.glob(name))
    in_place_of(file, make)
    faults = runfolder.verify(run)
    assert any(str(file) in fault and word in fault for fault in faults), faults


def test_verify_names_two_at_once(run: Path) -> None:
    for name in ("provenance.json", "predictions.npz"):
        in_place_of(run / name, os.mkfifo)
    assert {Path(fault.split()[0]).name for fault in runfolder.verify(run)} == {"provenance.json", "predictions.npz"}


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """Return the results folder of a real run, its plan and its data's fingerprint."""
    results = tmp_path_factory.mktemp("made")
    done = tiny.run("joint", results)
    return results, done


@no_links
@pytest.mark.parametrize("name", ["run.json", "predictions.npz"])
def test_a_run_is_not_trained_again_where_its_file_cant_be_put_in_place(
    name: str, make, word: str, made, tmp_path: Path
) -> None:
    results, done = made
    other = Path(shutil.copytree(results, tmp_path / "results"))
    folder = other / done.path.relative_to(results)
    spec, fingerprint = _spec(done), done.record.data_fingerprint
    assert completeness(folder, spec, fingerprint).up_to_date
    in_place_of(folder / name, make)
    with pytest.raises(DataError, match=word):
        completeness(folder, spec, fingerprint)


@no_links
def test_a_stamp_that_is_no_file(make, word: str, made, tmp_path: Path) -> None:
    results, done = made
    other, spec = Path(shutil.copytree(results, tmp_path / "results")), _spec(done)
    stamp(other, spec)
    in_place_of(other / spec.stamp, make)
    with pytest.raises(DataError, match=word):
        stamp(other, spec)


def _spec(done):
    from mmlbench.study.run_spec import from_config

    return from_config(done.record.config, load_index())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plan.json", ["verify"]),
        pytest.param("plan.json", ["tables"], marks=pytest.mark.slow),
        pytest.param("all_tables.csv", ["reproduce", "0123456789"], marks=pytest.mark.slow),
        pytest.param("all_tables.csv", ["leaderboard"], marks=pytest.mark.slow),
    ],
)
def test_commands_end_at_once_where_a_pipe_lies_in_the_results(name: str, words: list[str], tmp_path: Path) -> None:
    results = fake_runs.write_study(tmp_path / "results", [fake_runs.FakeGroup(counts=(20, 40), epochs=3)])
    in_place_of(results / name, os.mkfifo)
    command = [sys.executable, "-m", "mmlbench", *words, "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode and len(done.stderr.splitlines()) == 1
    assert str(results / name) in done.stderr and "pipe" in done.stderr


# ---- a file that the disk does not give ----------------------------------------------------------------------
class Failing(io.BytesIO):
    """The bytes of a file, which fails to be read in some way."""

    def __init__(self, error: Exception) -> None:
        super().__init__(bytes(1000))
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        raise self.error


@pytest.mark.parametrize("read", [read_arrays, lambda p: read_checked(p, lambda *_: "")], ids=["arrays", "checked"])
@pytest.mark.parametrize(
    ("error", "wanted", "word"),
    [
        (OSError(errno.EIO, "Input/output error"), RunError, "Input/output error"),
        (OSError(errno.ESTALE, "Stale file handle"), RunError, "Stale"),
        (MemoryError("too little"), MemoryError, "too little"),
        (OSError(errno.EINVAL, "Invalid argument"), DataError, "corrupt"),  # an offset of a damaged zip
        (OSError(errno.ENOTDIR, "Not a directory"), DataError, "corrupt"),
        (ValueError("no zip"), DataError, "corrupt"),
    ],
)
def test_only_a_damaged_file_is_called_corrupt(
    read, error, wanted: type, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads "corrupt" removes the file: a checkpoint would be lost to a disk that fails for a moment."""
    for module in (atomic, arrays):
        monkeypatch.setattr(module, "plain", lambda path: Failing(error))
    with pytest.raises(wanted, match=word) as raised:
        read(tmp_path / "it.npz")
    assert type(raised.value) is wanted
