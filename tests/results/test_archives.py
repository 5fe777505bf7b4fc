"""Archives that want the memory or the disk, zips that Python does not read, and what killed processes leave."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused
from fake_runs import small
from halted import halted, killed
from made_archives import joint_of, read_files, reseal, write_archive

from mmlbench.analysis.all_tables import make_frame
from mmlbench.errors import DataError
from mmlbench.prepare import archives
from mmlbench.results import archive, packed
from mmlbench.results.arrays import predictions
from mmlbench.results.record import read_record
from mmlbench.storage import temporaries
from mmlbench.storage.atomic import whole
from mmlbench.storage.temporaries import dead, owned, temporary_folder, tidy


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive of a study, beside its results."""
    results = tmp_path_factory.mktemp("archives") / "results"
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint")]
    fake_runs.write_study(results, [small(methods=methods, seeds=(0,))])
    (results / "all_tables.csv").write_text(make_frame(results, results)[0])
    archive.pack(results, results.parent / "study.tar.gz")
    return results.parent / "study.tar.gz"


# ---- archives of studies ---------------------------------------------------------------------------------------
def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def zeros(count: int) -> Iterator[bytes]:
    block = bytes(2**20)
    for _ in range(count >> 20):
        yield block


def pax(size: int, kind: bytes = tarfile.XHDTYPE) -> Iterator[bytes]:
    """Yield a header that announces `size` bytes of further header."""
    yield header("PaxHeader", size, kind)
    yield from zeros(size)


GIB = 2**28  # a quarter is enough to be seen
BOMBS = {
    "pax header": lambda: pax(GIB),
    "pax header of all members": lambda: pax(GIB, tarfile.XGLTYPE),
    "long name": lambda: pax(GIB, tarfile.GNUTYPE_LONGNAME),
    "long link": lambda: pax(GIB, tarfile.GNUTYPE_LONGLINK),
    "many small headers": lambda: (header("x", 0, tarfile.XHDTYPE) for _ in range(60_000)),
    "headers of all members": lambda: (header("x", 0, tarfile.XGLTYPE) for _ in range(60_000)),
    "sparse": lambda: iter([header("plan.json", 2**40, tarfile.GNUTYPE_SPARSE), bytes(512)]),
    "one large member": lambda: iter([header("all_tables.csv", 2**30), *zeros(2**21)]),
    "many members of one name": lambda: (header("plan.json", 0) for _ in range(60_000)),
    "a terabyte": lambda: iter([header("robustness/a/b/c/s0-0123456789.npz", 2**40)]),
    "large members": lambda: (part for k in range(40) for part in (header(f"tables/t{k}.csv", 2**25), *zeros(2**25))),
    "large JSON": lambda: iter([header("plan.json", 2**27), *zeros(2**27)]),
    "negative size": lambda: iter([b"plan.json".ljust(124, b"\0") + b"\xff" * 12 + bytes(376)]),
}
#: Imports an archive with a bound on the memory; prints the line, and what was really used at most.
CHILD = """
import resource, sys
from pathlib import Path
from mmlbench.results.archive import unpack
from mmlbench.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
except DataError as error:
    print(str(error)[:300])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


#: Those whose many members or bytes take seconds to write and to read.
LARGE = ("large members", "many small headers", "headers of all members", "many members of one name")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in BOMBS]
)
def test_a_small_archive_takes_neither_memory_nor_disk(tmp_path: Path, name: str) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    with gzip.open(bomb, "wb", compresslevel=6) as file:
        for part in BOMBS[name]():
            file.write(part)
        file.write(bytes(1024))
    assert bomb.stat().st_size < 12 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", CHILD, bomb, tmp_path / "in"], capture_output=True, text=True, check=True, timeout=200
    )
    message, used = done.stdout.strip().splitlines()
    assert str(bomb) in message and "nothing of it was taken over" in message, message
    assert int(used) < 64 * 1024, f"{int(used) / 1024:.0f} MiB"
    assert not (tmp_path / "in").exists()


def test_nothing_is_written_where_the_disk_has_no_room(study: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**4))
    line = refused(capsys, "import", study, "--results", tmp_path / "in")
    assert "GiB are needed to unpack" in line and "Free some space" in line
    assert not list((tmp_path / "in").iterdir())


def test_an_archive_in_an_older_format_is_read(study: Path, tmp_path: Path) -> None:
    """GNU and ustar headers: what other tar programs make of the same files."""
    files = read_files(study)
    for kind in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "again.tar.gz", "w:gz", format=kind) as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
        results = tmp_path / str(kind)
        assert archive.unpack(tmp_path / "again.tar.gz", results) == archive.Imported(2, 0)


def test_names_longer_than_a_tar_header_are_taken() -> None:
    long = f"runs/{'d' * 40}/{'s' * 40}/{'m' * 40}/s2147483647-0123456789/predictions.npz"
    assert packed.most_bytes(long) and len(long) > 150
    assert not packed.most_bytes(long.replace("/predictions", "x/predictions"))


@pytest.mark.parametrize("claim", ["counts", "shape", "header", "packed bits", "method of compression"])
def test_arrays_that_unpack_to_more_than_their_record_says(study: Path, tmp_path: Path, capsys, claim: str) -> None:
    """A few kilobytes of predictions.npz would fill the memory; every hash is right."""
    files = read_files(study)
    folder = joint_of(files)
    name = "epochs.npz" if claim == "packed bits" else "predictions.npz"
    with np.load(io.BytesIO(files[f"{folder}/{name}"])) as found:
        arrays = dict(found)
    text = io.BytesIO()
    if claim == "shape":
        arrays["last/test/fused"] = np.zeros((300_000, 100), np.float32)
    if claim == "packed bits":
        arrays["train/test/fused"] = np.zeros((100_000, 1000), np.uint8)
    np.savez_compressed(text, **arrays)  # type: ignore[arg-type]
    if claim in ("header", "method of compression"):
        text = io.BytesIO()
        with zipfile.ZipFile(text, "w", zipfile.ZIP_LZMA if claim[0] == "m" else zipfile.ZIP_DEFLATED) as made:
            for key, value in arrays.items():
                one = io.BytesIO()
                np.save(one, value)
                blob = one.getvalue()
                if claim == "header":  # the header's own length: 200 MiB of nothing
                    blob = b"\x93NUMPY\x02\x00" + struct.pack("<I", 200 * 2**20) + bytes(200 * 2**20)
                    made.writestr(f"{key}.npy", blob)
                    break
                made.writestr(f"{key}.npy", blob)
    reseal(files, folder, {name: text.getvalue()})
    files[f"{folder}/{name}"] = text.getvalue()
    if claim == "counts":
        record = json.loads(files[f"{folder}/run.json"])
        record["counts"]["test"] = 10**8
        files[f"{folder}/run.json"] = json.dumps(record).encode()
        reseal(files, folder, {})
    bad = write_archive(tmp_path / "bad.tar.gz", files)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert name in refused(capsys, "import", bad, "--results", tmp_path / "in")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024


def test_a_run_of_the_present_form_is_read(study: Path) -> None:
    folder = next((study.parent / "results").glob("runs/*/*/joint/*"))
    assert "last/test/fused" in predictions(folder / "predictions.npz", read_record(folder))


# ---- zips of raw data ------------------------------------------------------------------------------------------
def zip_by(path: Path, method: int) -> Path:
    """Write a zip whose headers name another method of compression."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("folder/a.txt", "text " * 100)
    text = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = text.index(sign) + place
        text[at : at + 2] = struct.pack("<H", method)
    path.write_bytes(text)
    return path


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (9, "Deflate64"),
        (95, "xz"),
        (1, "shrinking"),
        (6, "imploding"),
        (93, "Zstandard"),
        (98, "PPMd"),
        (77, "another"),
    ],
)
def test_a_zip_by_a_method_that_python_does_not_read(tmp_path: Path, method: int, name: str) -> None:
    path = zip_by(tmp_path / "a.zip", method)
    with pytest.raises(DataError) as error:
        archives.unpack(path, tmp_path / "in", lambda line: None)
    assert f"(method {method})" in error.value.what and name in error.value.what
    assert "is not damaged" in error.value.what and "7z x a.zip" in error.value.fix and "--raw" in error.value.fix
    assert "ownload" not in str(error.value) and not (tmp_path / "in").exists()


def test_a_part_of_a_split_zip(tmp_path: Path) -> None:
    path = zip_by(tmp_path / "a.zip", 8)
    text = path.read_bytes()
    end = text.rindex(b"PK\x05\x06")
    last = text[: end + 4] + struct.pack("<HH", 2, 2) + text[end + 8 :]
    first = b"PK\x07\x08" + text[: end // 2]
    for part in (last, first):
        path.write_bytes(part)
        with pytest.raises(DataError, match=r"part of a zip that was split.*it is not damaged.*7z x a\.zip"):
            archives.unpack(path, tmp_path / "in", lambda line: None)


@pytest.mark.skipif(not shutil.which("zip"), reason="not run: no program zip here")
def test_a_zip_that_the_program_zip_has_split(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(os.urandom(200_000))
    subprocess.run(["zip", "-q", "-s", "64k", "a.zip", "a.bin"], cwd=tmp_path, check=True)
    with pytest.raises(DataError, match="part of a zip that was split"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "in", lambda line: None)


@pytest.mark.parametrize("name", ["pax header", "long name", "many small headers"])
def test_a_tar_of_raw_data_with_headers_that_fill_the_memory(tmp_path: Path, name: str) -> None:
    with gzip.open(tmp_path / "raw.tar.gz", "wb") as file:
        for part in BOMBS[name]():
            file.write(part)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"raw\.tar\.gz is .*header.*stand"):
        archives.unpack(tmp_path / "raw.tar.gz", tmp_path / "in", lambda line: None)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


# ---- what killed processes leave -------------------------------------------------------------------------------
def tmp_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.name.endswith(".tmp"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results.packed:shutil.copyfileobj", ["import", "STUDY", "--results", "IN"]),
        ("results.archive:verify_run", ["import", "STUDY", "--results", "IN"]),
        ("results.archive:_write", ["export", "--results", "RESULTS", "--to", "TO"]),
        ("results.packed:shutil.copyfileobj", ["diff", "STUDY", "STUDY"]),
    ],
    ids=["import, unpacking", "import, verifying", "export", "diff"],
)
def test_what_a_killed_command_left_goes_at_the_next_start_and_a_living_ones_stays(
    study: Path, tmp_path: Path, monkeypatch, capsys, target: str, words: list[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    meant = {"STUDY": study, "IN": tmp_path / "in", "RESULTS": study.parent / "results", "TO": tmp_path / "to.tar.gz"}
    typed = [meant.get(word, word) for word in words]
    if words[0] == "export":  # the whole of the file is there when it is killed
        target = "storage.atomic:os.fsync"
    killed(f"mmlbench.{target}", tmp_path / "flag", *typed)
    left = tmp_files(tmp_path)
    assert len(left) >= 1, "the kill left something"
    living = halted(f"mmlbench.{target}", tmp_path / "flag", *typed)
    try:
        now = [path for path in tmp_files(tmp_path) if path.parent in (tmp_path, tmp_path / "in")]
        assert not set(now) & set(left), "the next start removed what the dead one left"
        assert now
        tidy(tmp_path, again=True)
        if (tmp_path / "in").exists():
            tidy(tmp_path / "in", again=True)
        assert all(path.exists() for path in now), "what a living one works on stays"
    finally:
        living.kill()
        living.wait(30)
    from mmlbench.cli import main

    temporaries._tidied.clear()
    assert main([str(word) for word in typed]) == 0
    assert tmp_files(tmp_path) == []


def test_whose_a_temporary_is(tmp_path: Path, monkeypatch) -> None:
    mine = tmp_path / owned("x.json")
    mine.touch()
    assert not dead(mine)
    os.utime(mine, (1, 1))
    assert not dead(mine), "however long it is silent"
    machine, _ = mine.name.split(".")[-2].split("-", 1)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone = tmp_path / f".x.json.{machine}-{child.pid}-1-abcd.tmp"
    reused = tmp_path / f".x.json.{machine}-{os.getpid()}-1-abcd.tmp"
    there, stranger = tmp_path / ".x.json.0a0a0a0a-1-1-abcd.tmp", tmp_path / ".x.json.0b0b0b0b-1-1-abcd.tmp"
    older, foreign = tmp_path / ".x.json.0123abcd.tmp", tmp_path / ".y.json.0123abcd.tmp"
    kept = tmp_path / ".profile.tmp"
    for path in (gone, reused, there, stranger, older, foreign, kept):
        path.touch()
    for path in (stranger, older, foreign, kept):
        os.utime(path, (1, 1))
    assert dead(gone) and dead(reused), "the number of a process is used again"
    assert not dead(there), "another machine's, touched just now"
    assert dead(stranger), "another machine's, silent for a day"
    with whole(tmp_path / "x.json") as temporary:
        assert not dead(temporary)
        temporary.write_text("{}")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"x.json", mine.name, there.name, foreign.name, kept.name}, "nobody else's file is touched"


def test_a_temporary_folder_is_private_and_goes(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), temporary_folder(tmp_path, "import") as held:
        assert held.stat().st_mode & 0o777 == 0o700
        (held / "x").touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_has_a_temporary(tmp_path: Path) -> None:
    with whole(tmp_path / ("n" * 250)) as temporary:
        temporary.write_text("x")
    assert (tmp_path / ("n" * 250)).exists()
