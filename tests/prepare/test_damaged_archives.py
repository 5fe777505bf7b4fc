"""Archives with bytes that are not as they should be: the same files come out, or a line that names the archive."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import random
import shutil
import struct
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harmed_archives import Content, as_an_old_tar, sealed, with_flags, write

from mmlbench.errors import DataError
from mmlbench.prepare import archives
from mmlbench.storage.tars import MOST_HEADERS, StudyHeader, members

FILES = {
    "a/x": b"hello " * 100,
    "a/y": bytes(range(256)) * 6,
    "b" * 60 + "/" + "n" * 90: b"long",
    "c": b"",
    "z": b"1" * 513,
}


def out_of(path: Path) -> dict[str, bytes]:
    """Return the files that come out of an archive, and leave nothing."""
    into = path.with_name("into")
    made = archives.unpack(path, into, lambda line: None)
    found = {str(one.relative_to(made)): one.read_bytes() for one in made.rglob("*") if one.is_file()}
    shutil.rmtree(into)
    return found


def refusal(path: Path) -> DataError:
    """Return why an archive is refused, which names it; nothing of it is left."""
    with pytest.raises(DataError) as error:
        out_of(path)
    assert str(path) in error.value.what and not path.with_name("into").exists()
    return error.value


def tar(
    path: Path, every: list[tuple[str, bytes, dict[str, Any]]], form: int = tarfile.PAX_FORMAT, **more: Any
) -> Path:
    """Write a tar of names, contents and what else a header says."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w", format=form, **more) as file:
        for name, content, told in every:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in told.items():
                setattr(member, key, value)
            file.addfile(member, io.BytesIO(content))
    return path


def patched(path: Path, at: int, content: bytes) -> Path:
    """Write bytes over those of a file."""
    data = bytearray(path.read_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(data)
    return path


# --- what an archive is -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", ["PKU/x", "PK\x03\x04", "PK\x05\x06", "BZh9", "Rar!\x1a\x07", "7z\xbc\xaf'\x1c"])
def test_a_tar_whose_first_member_is_named_as_another_kind_begins(name: str, old: bool, tmp_path: Path) -> None:
    for ending in ("tar", "zip"):
        path = tar(tmp_path / f"a.{ending}", [(name, b"1", {})], tarfile.GNU_FORMAT, encoding="latin-1")
        if old:
            as_an_old_tar(path)
        assert list(out_of(path).values()) == [b"1"]


def test_an_old_tar_that_ends_in_a_zip_is_not_taken_for_it(tmp_path: Path) -> None:
    inner = write(tmp_path / "inner.zip", Content({"of the inner one": b"1"})).read_bytes()
    path = as_an_old_tar(write(tmp_path / "a.tar", Content({"z.zip": inner})))
    assert out_of(path) == {"z.zip": inner}
    for at in (0, 150, 258):  # its first header is damaged, and in it what says that it is a tar
        refusal(patched(write(tmp_path / "a.tar", Content({"z.zip": inner})), at, b"\xff\xff"))


def test_a_zip_whose_member_has_the_signature_of_a_tar_in_its_place(tmp_path: Path) -> None:
    files = {"a.txt": b"." * (257 - 30 - 5) + b"ustar" + b"." * 500}
    path = write(tmp_path / "a.zip", Content(files))
    assert path.read_bytes()[257:262] == b"ustar"
    assert out_of(path) == files


# --- zips -------------------------------------------------------------------------------------------------------
def end_of(path: Path) -> int:
    return path.read_bytes().rindex(b"PK\x05\x06")


def test_a_zip_that_is_cut_within_is_not_taken_for_a_zip_within_it(tmp_path: Path) -> None:
    for within in ({"inner": b"1"}, {}):
        inner = write(tmp_path / "inner.zip", Content(within)).read_bytes()
        path = write(tmp_path / "a.zip", Content({"x": b"1", "z.zip": inner, "y": b"2"}))
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.index(inner) + len(inner) + 10])
        assert "damaged" in refusal(path).what
    for front in (b"#!/bin/sh\n" * 90, b"MZ" + bytes(600)):  # what unpacks itself
        path.write_bytes(front + whole)
        assert len(out_of(path)) == 3


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_a_directory_with_another_number_of_members_is_damaged(count: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", Content({"x": b"1", "y": b"2"}))
    patched(path, end_of(path) + 8, struct.pack("<HH", count, count))
    assert "damaged" in refusal(path).what
    assert out_of(patched(path, end_of(path) + 8, b"\xff" * 4)) == {"x": b"1", "y": b"2"}  # it stands elsewhere


def test_an_empty_directory_before_the_end_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", Content({"x": b"1"}))
    refusal(patched(path, end_of(path) + 12, bytes(4)))
    assert out_of(write(tmp_path / "b.zip", Content({}))) == {}


@pytest.mark.parametrize("place", [1, 99_999_999, 2**32 - 2])
def test_a_directory_in_a_place_that_is_not_there_is_damaged(place: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", Content(FILES))
    patched(path, end_of(path) + 16, struct.pack("<I", place))
    for front in (b"", b"MZ" + bytes(600)):
        path.write_bytes(front + path.read_bytes())
        assert "damaged" in refusal(path).what


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_of_an_absurd_size_is_damage_and_no_full_disk(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x", bytes(10**7))  # as small as it gets
    assert out_of(path) == {"x": bytes(10**7)}
    refused = refusal(patched(path, path.read_bytes().index(b"PK\x01\x02") + 24, b"\xfe\xff\xff\xff"))
    assert "damaged" in refused.what and "'x'" in refused.what and "GiB" not in str(refused)


def test_a_file_whose_name_ends_as_a_folders_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", Content({"x": b"1", "a/yy": b"2"}))
    patched(path, path.read_bytes().rindex(b"a/yy") + 3, b"/")
    assert "damaged" in refusal(path).what
    assert out_of(write(path, Content({"x": b"1", "a/y/": b""}))) == {"x": b"1"}


def test_a_link_that_is_named_as_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a link" in refusal(write(tmp_path / "a.zip", Content({}, links={"x/": "/etc"}))).what


def test_a_part_of_a_large_zip_that_was_split(tmp_path: Path) -> None:
    """The number of parts of one beyond 4 GiB stands in front of its end."""
    path = write(tmp_path / "a.zip", Content({"x": b"1"}))
    data, end = path.read_bytes(), end_of(path)
    for parts in (1, 3):
        locator = struct.pack("<4sIQI", b"PK\x06\x07", parts - 1, 0, parts)
        path.write_bytes(data[:end] + locator + data[end : end + 4] + b"\xff" * 4 + data[end + 8 :])
        assert ("one part of a zip" in refusal(path).what) == (parts > 1)


# --- tars -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("front", [[], [("first", b"1", {})]], ids=["first", "second"])
@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("h/" * 40_000 + "x", b"x", {}), "header of"),
        (("sparse", b"", {"type": tarfile.GNUTYPE_SPARSE}), "'sparse' is a sparse file"),
        (("x", b"", {"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.name": "sparse"}}), "'sparse' is a sparse"),
    ],
    ids=["long name", "sparse", "sparse in a header of its own"],
)
def test_what_is_not_read_keeps_its_reason(member: Any, words: str, front: Any, ending: str, tmp_path: Path) -> None:
    form = tarfile.PAX_FORMAT if "pax_headers" in member[2] else tarfile.GNU_FORMAT
    refused = refusal(tar(tmp_path / f"a.{ending}", [*front, member], form))
    assert words in refused.what and "not damaged" in refused.what
    assert f"tar -xf a.{ending}" in refused.fix and "ownload" not in str(refused)


def test_many_headers_before_one_member_keep_their_reason(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("x", b"1", {})], pax_headers={"comment": "1"})
    data = path.read_bytes()
    path.write_bytes(data[:1024] * MOST_HEADERS + data[1024:])
    assert out_of(path) == {"x": b"1"}
    path.write_bytes(data[:1024] * (MOST_HEADERS + 1) + data[1024:])
    assert f"more than {MOST_HEADERS}" in refusal(path).what


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("size", ["-1", "-512", "-1536", "1e3", "x", "99999999999999", "9" * 30, "9" * 5000])
def test_an_absurd_size_in_a_tar_is_damage(size: str, ending: str, tmp_path: Path) -> None:
    """A negative one leads back to the header that says it."""
    for front in ([], [("first", b"1", {})]):
        refused = refusal(tar(tmp_path / f"a.{ending}", [*front, ("y", bytes(600), {"pax_headers": {"size": size}})]))
        assert "damaged" in refused.what and "GiB" not in str(refused) and "ownload" in refused.fix


def test_an_absurd_size_names_its_member(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("first", b"1", {}), ("second", b"2", {})])
    huge = b"\x80" + (1 << 60).to_bytes(11, "big")
    path.write_bytes(sealed(path.read_bytes(), 1024, 124, huge))
    assert "'second' has a size of 1152921504606846976" in refusal(path).what


def test_a_size_for_all_members_is_not_taken(tmp_path: Path) -> None:
    assert "size" in refusal(tar(tmp_path / "a.tar", [("x", b"123", {})], pax_headers={"size": "2"})).what
    assert out_of(tar(tmp_path / "a.tar", [("x", b"123", {})], pax_headers={"comment": "2"})) == {"x": b"123"}


def test_a_negative_size_does_not_keep_an_import_for_ever(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("x", bytes(600), {"pax_headers": {"size": "-1536"}})])
    with pytest.raises(tarfile.ReadError), tarfile.open(path, "r:", tarinfo=StudyHeader) as file:
        for number, _ in enumerate(members(file)):
            assert number < 3


def test_a_label_is_passed_over(tmp_path: Path) -> None:
    label = ("../LABEL", b"", {"type": b"V"})
    assert out_of(tar(tmp_path / "a.tar", [label, ("x", b"1", {})])) == {"x": b"1"}
    assert "b'V'" in refusal(tar(tmp_path / "a.tar", [("LABEL", b"1", {"type": b"V"}), ("x", b"1", {})])).what


def test_links_do_not_read_the_archive_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed tar would be read from its start for each of them."""
    read: list[str] = []
    was = archives._opened_member
    monkeypatch.setattr(archives, "_opened_member", lambda file, one: read.append(one.name) or was(file, one))
    links = [(f"y{k}", b"", {"type": tarfile.LNKTYPE, "linkname": "x"}) for k in range(5)]
    path = tar(tmp_path / "a.tar.gz", [("x", b"1", {}), ("z", b"2", {}), *links])
    assert out_of(path) == {"x": b"1", "z": b"2", **{f"y{k}": b"1" for k in range(5)}} and read == ["x", "z"]


@pytest.mark.parametrize("top", ["/", "\\", "./"])
def test_the_top_and_folders_with_backslashes_are_folders(top: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in ((top, b""), ("d\\", b""), ("d\\x", b"1")):
            archive.writestr(zipfile.ZipInfo(name), content)
    assert out_of(tmp_path / "a.zip") == {"d/x": b"1"}


@pytest.mark.parametrize("top", ["/etc/", "../", "\\..\\"])
def test_a_folder_outside_is_refused(top: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(top), b"")
    assert "outside its folder" in refusal(tmp_path / "a.zip").what


def test_a_tar_in_the_older_format_of_xz_is_read(tmp_path: Path) -> None:
    content = tar(tmp_path / "a.tar", [("x", b"1", {})]).read_bytes()
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(content, lzma.FORMAT_ALONE))
    assert out_of(tmp_path / "a.tar.xz") == {"x": b"1"}


def test_a_hard_link_is_a_copy_of_the_file_before_it(tmp_path: Path) -> None:
    def link(name: str, to: str) -> tuple[str, bytes, dict[str, Any]]:
        return name, b"", {"type": tarfile.LNKTYPE, "linkname": to}

    for ending in ("tar", "tar.gz"):
        path = tar(
            tmp_path / f"a.{ending}", [("a/x", b"12", {}), link("y", "./a/x"), link("z", "y"), ("x", b"3", {})]
        )
        assert out_of(path) == {"a/x": b"12", "y": b"12", "z": b"12", "x": b"3"}
    deep = [("x0", b"1", {}), *(link(f"x{n + 1}", f"x{n}") for n in range(1500))]
    assert set(out_of(tar(tmp_path / "a.tar", deep)).values()) == {b"1"}
    for to in ("after", "/etc/passwd", "../x", "y"):
        refused = refusal(tar(tmp_path / "a.tar", [link("y", to), ("after", b"1", {})]))
        assert f"'y' is a hard link to {to!r}" in refused.what and "tar -xf a.tar" in refused.fix


@pytest.mark.parametrize(
    ("kind", "words", "by_hand"),
    [
        (tarfile.SYMTYPE, "is a link", False),
        (tarfile.FIFOTYPE, "is a pipe", False),
        (tarfile.CHRTYPE, "is a device", False),
        (b"D", "incremental backup", True),
        (b"M", "another volume", True),
        (b"Z", "b'Z'", True),
    ],
)
def test_a_member_that_is_no_file_is_called_what_it_is(
    kind: bytes, words: str, by_hand: bool, tmp_path: Path
) -> None:
    refused = refusal(tar(tmp_path / "a.tar", [("x", b"", {"type": kind, "linkname": "y"})]))
    assert "'x'" in refused.what and words in refused.what and ("tar -xf" in refused.fix) == by_hand


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_tar_without_its_end_is_cut_short(ending: str, tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", [(name, content, {}) for name, content in FILES.items()]).read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    path = tmp_path / f"a.{ending}"
    for behind, taken in ((0, False), (100, True), (512, True), (1024, True)):
        part = whole[: end + behind]
        path.write_bytes(part if ending == "tar" else gzip.compress(part))
        if taken:
            assert out_of(path) == FILES
        else:
            assert "cut short" in refusal(path).what


@pytest.mark.parametrize("name", [*FILES][1:])
def test_zeros_in_place_of_a_header_are_no_end(name: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [(n, FILES[n], {}) for n in FILES], tarfile.USTAR_FORMAT)
    with tarfile.open(path) as file:
        member = file.getmember(name)
    whole = path.read_bytes()
    refusal(patched(path, member.offset, bytes(512)))
    path.write_bytes(whole)
    if member.size > 512:
        refusal(patched(path, member.offset, bytes(1024)))
    path.write_bytes(whole)
    refusal(patched(path, 0, bytes(member.offset_data)))


def test_several_tars_in_one_are_not_taken_for_the_first(tmp_path: Path) -> None:
    first = tar(tmp_path / "a.tar", [("x", b"1", {})]).read_bytes()
    path = tar(tmp_path / "a.tar", [("y", b"1", {})])
    for second in (path.read_bytes(), path.read_bytes()[:1024]):
        path.write_bytes(first + second)
        assert "tar -xif a.tar" in refusal(path).fix


def test_zeros_alone_are_no_empty_tar(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [])
    assert "zeros" in refusal(path).what
    assert out_of(tar(tmp_path / "a.tar.gz", [])) == {}


# --- names, disks, libraries ------------------------------------------------------------------------------------
def test_a_name_that_no_file_can_have_names_its_member(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("x", b"1", {"pax_headers": {"path": "a\0b"}})])
    assert r"'a\x00b'" in refusal(path).what
    path = write(tmp_path / "a.zip", Content({"aXb": b"1"}))
    path.write_bytes(path.read_bytes().replace(b"aXb", b"a\0b"))
    assert r"'a\x00b'" in refusal(path).what
    path = write(tmp_path / "a.zip", Content({"x": b"1", ".": b"2"}))
    assert "'.' has a name" in refusal(path).what
    path = write(tmp_path / "a.zip", Content({"x": b"1", "": b"2"}))
    assert "'' has a name" in refusal(path).what


def test_letters_that_the_disk_has_not_name_their_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def ascii_only(self: Path, *args: Any, **more: Any) -> Any:
        self.name.encode("ascii")
        return opened(self, *args, **more)

    monkeypatch.setattr(Path, "open", ascii_only)
    assert "'ü' can't be unpacked here" in refusal(write(tmp_path / "a.zip", Content({"x": b"", "ü": b""}))).what


def test_names_that_a_disk_takes_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of macOS take any case of letters; the later file took the place of the earlier without a word."""
    opened = Path.open

    def lower(self: Path, *args: Any, **more: Any) -> Any:
        return opened(self.with_name(self.name.lower()), *args, **more)

    path = write(tmp_path / "a.zip", Content({"x": b"1", "X": b"2"}))
    same = write(tmp_path / "b.zip", Content({"x": b"1", "X": b"1"}))
    assert len(out_of(path)) == 2
    monkeypatch.setattr(Path, "open", lower)
    monkeypatch.setattr(Path, "is_file", lambda self: self.name.lower() in ("x", "a.zip", "b.zip"))
    assert "'X' twice, with other content" in refusal(path).what
    assert archives.unpack(same, tmp_path / "into", lambda line: None).is_dir()


class Bad(io.BytesIO):
    """A file of a disk that fails."""

    number = errno.EIO

    def read(self, *_: Any) -> bytes:
        raise OSError(self.number, "Input/output error")

    def write(self, *_: Any) -> int:
        raise OSError(self.number, "Input/output error")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_disk_from_which_an_archive_can_t_be_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name, Content({"x": b"1"}))
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: Bad() if self == path else opened(self, *a, **k))
    refused = refusal(path)
    assert "can't be read (Input/output error)" in refused.what and "damaged" not in refused.what


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_disk_to_which_can_t_be_written_is_no_fault_of_an_archive(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name, Content({"x": b"1"}))
    opened = Path.open
    monkeypatch.setattr(Bad, "number", number)
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", *a, **k: Bad() if "x" in mode else opened(self, mode, *a, **k)
    )
    with pytest.raises(OSError) as error:
        out_of(path)
    assert error.value.errno == number


def test_what_a_python_does_not_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.zip", Content({"x": b"1"}))
    with_flags(flags=0x20)(path)  # Deflate with patches
    refused = refusal(path)
    assert "damaged" not in refused.what and "7z x" in refused.fix
    with tarfile.open(tmp_path / "a.tar.bz2", "w:bz2"):
        pass
    assert out_of(tmp_path / "a.tar.bz2") == {}
    monkeypatch.setitem(sys.modules, "bz2", None)
    refused = refusal(tmp_path / "a.tar.bz2")
    assert "bz2" in refused.what and "damaged" not in refused.what and "tar -xf" in refused.fix


# --- at random --------------------------------------------------------------------------------------------------
def kinds() -> Iterator[tuple[str, bytes]]:
    """Yield archives of `FILES` and of a zip that they end in, of each kind."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("inner", "1" * 50)
    every = FILES | {"z.zip": inner.getvalue()}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as file:
            for name, content in every.items():
                file.writestr(name, content)
        yield f"{method}.zip", out.getvalue()
    forms = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    for ending in ("", ".gz", ".bz2", ".xz"):
        for form, number in forms.items():
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode=f"w:{ending[1:]}", format=number) as file:
                for name, content in every.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))
            yield f"{form}.tar{ending}", out.getvalue()


def flip(data: bytearray, at: int, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 5))):
        data[at] = rng.randrange(256)
        at = rng.randrange(len(data))


def cut(data: bytearray, at: int, rng: random.Random) -> None:
    del data[rng.choice((at, at // 512 * 512)) :]


def more(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.randbytes(rng.choice((1, 4, 512)))


def zeros(data: bytearray, at: int, rng: random.Random) -> None:
    end = min(len(data), at + rng.choice((4, 512, 4096)))
    data[at:end] = bytes(end - at)


def ones(data: bytearray, at: int, rng: random.Random) -> None:
    end = min(len(data), at + rng.choice((2, 4, 8)))
    data[at:end] = b"\xff" * (end - at)


HARMS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (flip, cut, more, zeros, ones)


#: Kinds whose damage `make test` tries; the others are slow tests.
QUICK = ("pax.tar", "ustar.tar.gz", "8.zip")


@pytest.mark.parametrize(
    ("name", "whole"),
    [pytest.param(*one, id=one[0], marks=() if one[0] in QUICK else pytest.mark.slow) for one in kinds()],
)
def test_damage_at_random_is_found_or_does_no_harm(name: str, whole: bytes, tmp_path: Path) -> None:
    """Only headers of a tar have a checksum: contents may differ, and the long names of GNU and pax.

    Nor can zeros from a header to the end be told from the end of a tar that has fewer files.
    """
    path, rng = tmp_path / name, random.Random(name)
    path.write_bytes(whole)
    right = out_of(path)
    assert len(right) == len(FILES) + 1
    same = 0
    for number in range(100):
        data = bytearray(whole)
        start = data.rfind(b"PK\x01\x02") if name.endswith(".zip") and number % 2 else 0  # where its directory ends
        at = rng.randrange(start, len(data))
        HARMS[number % len(HARMS)](data, at, rng)
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = out_of(path)
        except DataError as error:
            assert str(path) in error.what, (number, at)
            continue
        same += 1
        if name.endswith(".tar"):
            assert len(found) == len(right) or not any(data[at:]), (number, at)
            assert "ustar" not in name or found.keys() <= right.keys(), (number, at)
        else:
            assert found == right, (number, at)
    assert same < 80
