"""What befalls a zip or tar file of raw data on its way to a user, and what is in it."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import harmed_files as files
from harmed_files import POINTER, Harm, Harms

#: Signatures of a member's two headers in a zip -> where its flags and its method stand in each.
_HEADS = {b"PK\x03\x04": (6, 8), b"PK\x01\x02": (8, 10)}
#: How a 7z file begins.
#: What is taken of any kind: by its content, and to its end.
TAKEN = frozenset({"the other kind of archive", "bytes behind its end", "a file twice"})
SEVEN = b"7z\xbc\xaf\x27\x1c\x00\x04"


@dataclass
class Content:
    """What an archive holds.

    Attributes:
        files: name -> content. more: names that are there again, or that no writer makes, in their order.
        links: name -> where it leads.
    """

    files: dict[str, bytes]
    more: list[tuple[str, bytes]] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Content:
    """Return the files of an archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            return Content({one.filename: file.read(one) for one in file.infolist() if not one.is_dir()})
    with tarfile.open(path) as tar:
        return Content({one.name: tar.extractfile(one).read() for one in tar if one.isfile()})  # type: ignore[union-attr]


def write(path: Path, found: Content) -> Path:
    """Write an archive of the kind that its name says."""
    every = [*found.files.items(), *found.more]
    if path.suffix == ".zip":
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
            warnings.simplefilter("ignore")  # of a name that is there twice
            for name, content in every:
                file.writestr(_entry(name), content)
            for name, target in found.links.items():
                link = _entry(name)
                link.external_attr = 0o120777 << 16
                file.writestr(link, target)
        return path
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, content in every:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in found.links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def _entry(name: str) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.filename = name  # as it is: an absolute one, too
    made.external_attr = 0o644 << 16
    return made


def packed(folder: Path, archive: Path) -> Path:
    """Write an archive of a folder's content."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return write(archive, Content({str(path.relative_to(folder)): path.read_bytes() for path in paths}))


def rewritten(change: Callable[[Content], object]) -> Harm:
    """Return what writes an archive with other content."""

    def harm(path: Path) -> None:
        found = read(path)
        change(found)
        write(path, found)

    return harm


def below(folders: str) -> Harm:
    """Return what puts all of an archive into folders."""

    def change(found: Content) -> None:
        found.files = {f"{folders}/{name}": content for name, content in found.files.items()}

    return rewritten(change)


def with_flags(flags: int = 0, method: int = 0) -> Harm:
    """Return what writes into the headers of all members of a zip that they are encrypted, or by another method."""

    def harm(path: Path) -> None:
        data = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as file:
            places = [(one.header_offset, b"PK\x03\x04") for one in file.infolist()]
            at = file.start_dir
        while data[at : at + 4] == b"PK\x01\x02":
            places.append((at, b"PK\x01\x02"))
            at += 46 + sum(struct.unpack("<HHH", data[at + 28 : at + 34]))
        for at, sign in places:
            for place, value in zip(_HEADS[sign], (flags, method), strict=True):
                if value:
                    data[at + place : at + place + 2] = struct.pack("<H", value)
        path.write_bytes(data)

    return harm


def as_a_part(path: Path) -> None:
    """Write into a zip's end that it is the last of three parts."""
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    path.write_bytes(data[: end + 4] + struct.pack("<HH", 2, 2) + data[end + 8 :])


def changed_within(member: str) -> Harm:
    """Return what changes bytes of a member's content in an archive that is not compressed."""

    def harm(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = data.index(read(path).files[member][:200]) + 100
        data[at : at + 20] = bytes(255 - one for one in data[at : at + 20])
        path.write_bytes(data)

    return harm


def header_changed(member: str) -> Harm:
    """Return what changes a byte of the header that stands before a member in a tar."""

    def harm(path: Path) -> None:
        data = bytearray(path.read_bytes())
        with tarfile.open(path) as tar:
            at = tar.getmember(member).offset
        data[at] ^= 0xFF
        path.write_bytes(data)

    return harm


def sealed(data: bytes, header: int, at: int, content: bytes) -> bytes:
    """Return a tar with other bytes in one of its headers, which has the checksum of them.

    Args:
        header: where it begins. at: where in it the bytes stand.
    """
    block = bytearray(data[header : header + 512])
    block[at : at + len(content)] = content
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:header] + bytes(block) + data[header + 512 :]


def as_an_old_tar(path: Path) -> Path:
    """Take from a tar of one file what says that it is a tar: those of Unix V7 have no signature."""
    path.write_bytes(sealed(path.read_bytes(), 0, 257, bytes(512 - 257)))
    return path


def cut_before(member: str) -> Harm:
    """Return what ends a tar before the header of a member."""

    def harm(path: Path) -> None:
        with tarfile.open(path) as tar:
            at = tar.getmember(member).offset
        path.write_bytes(path.read_bytes()[:at])

    return harm


def in_the_other_kind(path: Path) -> None:
    """Write a tar under the name of a zip, or a zip under that of a tar."""
    found = read(path)
    other = path.with_name("other.tar.gz" if path.suffix == ".zip" else "other.zip")
    write(other, found).replace(path)


def of_archives(member: str, is_zip: bool = True) -> Harms:
    """Return what may befall an archive and what is in it.

    Args:
        member: a file in it that an item is made of.
    """
    folder, _, name = member.rpartition("/")

    def lowered(found: Content) -> None:
        found.files[f"{folder}/{name.swapcase()}"] = found.files.pop(member)

    made = as_a_file() | {
        "the other kind of archive": (in_the_other_kind, ""),
        "bytes in front of it": (lambda path: path.write_bytes(b"x" * 600 + path.read_bytes()), ""),
        "bytes behind its end": (lambda path: path.write_bytes(path.read_bytes() + b"x" * 600), ""),
        "nothing in it": (rewritten(lambda found: found.files.clear()), "holds no"),
        "another dataset's files": (rewritten(lambda found: found.__init__({"mnist/0.png": b"x"})), "holds no"),  # type: ignore[misc]
        "in one more folder": (below("more"), ""),
        "in three more folders": (below("one/two/three"), "holds no"),
        "a file gone": (rewritten(lambda found: found.files.pop(member)), "is missing"),
        "a file's name in another case": (rewritten(lowered), "another case"),
        "a file that is a Git LFS pointer": (
            rewritten(lambda found: found.files.update({member: POINTER.encode()})),
            "is a Git LFS pointer",
        ),
        "a file twice": (rewritten(lambda found: found.more.append((member, found.files[member]))), ""),
        "a file twice with other content": (rewritten(lambda found: found.more.append((member, b"x"))), "twice"),
        "a file in a file": (rewritten(lambda found: found.more.append((f"{member}/x", b"x"))), ""),
        "a name of 300 letters": (rewritten(lambda found: found.more.append(("x" * 300, b"x"))), ""),
        "a path out of the folder": (
            rewritten(lambda found: found.more.append(("../it_ran", b"x"))),
            "outside its folder",
        ),
        "an absolute path": (rewritten(lambda found: found.more.append(("/tmp/it_ran", b"x"))), "outside its folder"),
        "a link": (rewritten(lambda found: found.links.update({f"{folder}/more": "/etc/passwd"})), "a link"),
    }
    if is_zip:
        return made | {
            "encrypted": (with_flags(flags=1), "is encrypted"),
            "compressed by Deflate64": (with_flags(method=9), "Deflate64"),
            "one part of several": (as_a_part, "one part of a zip"),
            "a file that is damaged": (changed_within(member), "is damaged"),
        }
    return made


def as_a_file() -> Harms:
    """Return what may befall an archive, whatever is in it."""
    return files.OF_ITEMS | {
        "missing": (Path.unlink, ""),
        "name in another case": (files.other_case, "in another case"),
        "cut short": (files.cut, "cut short"),
        "a picture": (files.to_picture, "is a picture"),
        "a 7z file": (lambda path: path.write_bytes(SEVEN + bytes(range(256)) * 20), "7z"),
        "a folder": (files.to_folder, ""),
    }
