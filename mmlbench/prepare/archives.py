"""Zip and tar files: unpacked safely, once, into a folder that a later call takes up again."""

from __future__ import annotations

import contextlib
import errno
import lzma
import math
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from ..errors import DataError, brief
from ..storage.atomic import write_text
from ..storage.hashing import digest
from ..storage.tars import BoundedHeader, RefusedHeader

_Mode = Literal["r:", "r:gz", "r:bz2", "r:xz"]

#: Ends the name of the file beside a folder that was unpacked to the end; in it, a member could pass for that file.
_DONE = ".unpacked"
#: Methods of compression in a zip that Python reads: stored, Deflate, bzip2, LZMA.
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
METHODS = {
    1: "shrinking", 2: "reducing", 3: "reducing", 4: "reducing", 5: "reducing", 6: "imploding", 9: "Deflate64",
    10: "imploding", 93: "Zstandard", 94: "MP3", 95: "xz", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "AES",
}  # fmt: skip
#: Begin archives of kinds that are not read -> what they are.
_OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z file",
    b"Rar!\x1a\x07": "a rar file",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
}
#: Begin a tar that is compressed -> how tarfile opens it.
_COMPRESSED: dict[bytes, _Mode] = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ": "r:xz", b"\x5d\0\0": "r:xz"}
#: Type of a tar's member that is no file, folder or label -> what it is.
_KINDS = {
    tarfile.SYMTYPE: "a link", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe",
}  # fmt: skip
_BACKUPS = {b"D": "a folder's list in an incremental backup", b"M": "the rest of a file of another volume"}
#: Type of the label of a tar (tar -V), which holds no data.
_LABEL = b"V"
#: What a file system says to a name that is a file and a folder, and to one that it can't have.
_CLASHES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_BAD_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_PUBLISHED = "Do not use this file; fetch it from where the dataset is published"
#: Begin in a zip: a member, the end of its directory, what says how many parts it has, the first part of several.
_MEMBER, _END, _LOCATOR, _FIRST_PART = b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x07", b"PK\x07\x08"
_END_BYTES, _LOCATOR_BYTES, _LONGEST_COMMENT = 22, 20, 2**16 - 1
#: No byte of Deflate stands for more than 1032; the rest is for what is short.
_MOST_DEFLATED, _SHORT = 1032, 2**10
#: What the libraries raise of damaged bytes. LookupError and ValueError are of fields that they trust.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, LookupError, ValueError,
)  # fmt: skip
#: What the system says to a place in a file that can't be; Python says OverflowError to larger ones.
_NO_PLACE = (errno.EINVAL, errno.EOVERFLOW)
_TOO_LARGE = "a size or place that is said in it can't be"


@dataclass(frozen=True)
class _Member:
    """A file in an archive: where it goes, its bytes, and what opens it."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class _End:
    """What stands at the end of a zip.

    Attributes:
        part, first: number of this part, and of that in which the directory begins. parts: how many there are, 0
            where that is not said. count: members, modulo 2**16; 2**16 - 1 where it may stand elsewhere.
    """

    part: int
    first: int
    parts: int
    count: int


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive, by its name."""
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def archive_in(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the archive among some names that lies in a folder; None where there is none.

    Raises:
        DataError: there are several.
    """
    found = [folder / name for name in names if is_archive(Path(name)) and (folder / name).is_file()]
    if len(found) > 1:
        shown = " and ".join(path.name for path in found)
        raise DataError(f"{folder} holds {shown}", "Name the one to use: --raw FILE")
    return found[0] if found else None


def _safe(archive: Path, name: str, by_hand: str, is_folder: bool = False) -> PurePosixPath:
    """Return a member's path.

    Raises:
        DataError: it would be written outside its folder, or is none that a file can have.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if is_folder and set(name) <= {"/", "\\"}:  # some programs name the top so
        return PurePosixPath()
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise DataError(f"{archive}: the member {brief(name)} would be written outside its folder", _PUBLISHED)
    if "\0" in name or not (path.parts or is_folder):
        raise DataError(f"{archive}: the member {brief(name)} has a name that no file can have", by_hand)
    return path


def _by_hand(archive: Path, program: str = "7z x") -> str:
    return f"Unpack it by another program ({program} {archive.name}), and name the folder: --raw FOLDER"


@contextlib.contextmanager
def _reading(archive: Path, by_hand: str, member: str = "") -> Iterator[None]:
    """Say of what a library raises while it reads an archive that it is of that; nothing is written meanwhile.

    Raises:
        DataError: the archive, or a member of it, is damaged, can't be read, or is of a kind that is not read.
    """
    try:
        yield
    except RefusedHeader as error:
        what = f"{archive} is not damaged, and of a form that is not read here: {error}"
        raise DataError(what, by_hand) from error
    except (RuntimeError, tarfile.CompressionError) as error:  # NotImplementedError, too; a library that Python lacks
        raise DataError(f"{archive} holds what this Python does not read ({error})", by_hand) from error
    except MemoryError as error:
        raise DataError(f"{archive} takes more memory to read than there is", by_hand) from error
    except OverflowError as error:
        raise _damaged(archive, _TOO_LARGE, member) from error
    except _DAMAGE as error:
        raise _damaged(archive, str(error), member) from error
    except OSError as error:
        if error.errno is None:  # what gzip and bz2 raise for bad data
            raise _damaged(archive, str(error), member) from error
        if error.errno in _NO_PLACE:
            raise _damaged(archive, _TOO_LARGE, member) from error
        what = f"{archive} can't be read ({error.strerror or error})"
        raise DataError(what, "Make it readable, or fetch it again") from error


def _damaged(archive: Path, reason: str, member: str = "") -> DataError:
    if member and member not in reason:
        reason = f"{brief(member)}: {reason or 'it ends early'}"
    return DataError(f"{archive} is damaged or cut short ({reason or 'it ends early'})", "Download it again")


def _end_of_zip(archive: Path) -> _End | None:
    """Return what stands at the end of a zip; None where that is missing, or the file is no zip."""
    with archive.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LONGEST_COMMENT - _END_BYTES - _LOCATOR_BYTES))
        tail = file.read()
    at = tail.rfind(_END, max(0, len(tail) - _LONGEST_COMMENT - _END_BYTES))
    if at < 0 or len(tail) - at < _END_BYTES:
        return None
    part, first, _, count = struct.unpack("<HHHH", tail[at + 4 : at + 12])
    before = tail[max(0, at - _LOCATOR_BYTES) : at]
    parts = struct.unpack("<I", before[-4:])[0] if before.startswith(_LOCATOR) else 0
    return _End(part, first, parts, count)


def _check_whole(archive: Path, head: bytes, end: _End | None) -> None:
    """Refuse one part of a zip that was split, of which Python says that it is damaged; and one without its end.

    Raises:
        DataError: it is such a part; the fix joins them. BadZipFile: its end is missing.
    """
    numbers = (end.part, end.first) if end else (0, 0)
    split = any(numbers) and numbers != (0xFFFF, 0xFFFF)  # those of a large zip stand elsewhere
    if split or (end and end.parts > 1) or (not end and head.startswith(_FIRST_PART)):
        what = f"{archive} is one part of a zip that was split, which Python does not read; it is not damaged"
        raise DataError(what, f"Keep its parts (.z01, .z02 ...) beside it. {_by_hand(archive)}")
    if not end:
        raise zipfile.BadZipFile("its directory, the end of a zip, is missing")


def _check_directory(file: zipfile.ZipFile, head: bytes, end: _End) -> None:
    """Refuse a directory that does not have all members: Python counts none, and takes that of a zip within a zip.

    Raises:
        BadZipFile: it does not.
    """
    found = file.infolist()
    if end.count not in (0xFFFF, len(found) & 0xFFFF):  # who writes more than it can hold lets it run over
        raise zipfile.BadZipFile(f"its directory has {len(found)} members instead of {end.count}")
    if head.startswith(_MEMBER) and min((member.header_offset for member in found), default=-1) != 0:
        raise zipfile.BadZipFile("its directory does not have its first member")


def _zip_members(archive: Path, file: zipfile.ZipFile) -> Iterator[_Member]:
    size = archive.stat().st_size
    for member in file.infolist():
        is_folder = member.filename.endswith(("/", "\\"))
        name = member.orig_filename if "\0" in member.orig_filename else member.filename  # Python cuts a name there
        path = _safe(archive, name, _by_hand(archive), is_folder)
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise DataError(f"{archive}: the member {brief(member.filename)} is a link", _PUBLISHED)
        if is_folder:
            if member.file_size or member.CRC:
                raise zipfile.BadZipFile(f"{brief(member.filename)} is a folder with content")
            continue
        if member.flag_bits & 1:
            raise DataError(f"{archive} is encrypted", _by_hand(archive))
        if member.compress_type not in READABLE:
            how = METHODS.get(member.compress_type, "a method of another kind")
            what = f"{archive}: {member.filename!r} is compressed by {how} (method {member.compress_type})"
            raise DataError(f"{what}, which Python does not read; the file is not damaged", _by_hand(archive))
        if member.compress_size > size or member.file_size > _most_bytes(member):
            raise zipfile.BadZipFile(f"{brief(member.filename)} has a size of {member.file_size} bytes")
        yield _Member(path, member.file_size, partial(file.open, member))


def _most_bytes(member: zipfile.ZipInfo) -> float:
    """Return the most bytes that a member may have; without this an absurd size is told as a full disk."""
    if member.compress_type == zipfile.ZIP_STORED:
        return member.compress_size
    return (
        _MOST_DEFLATED * member.compress_size + _SHORT if member.compress_type == zipfile.ZIP_DEFLATED else math.inf
    )


def _tar_members(
    archive: Path, file: tarfile.TarFile, mode: _Mode | None, target: Path, by_hand: str
) -> Iterator[_Member]:
    sizes: dict[PurePosixPath, int] = {}
    size = math.inf if mode in _COMPRESSED.values() else archive.stat().st_size
    for member in file:
        if member.type == _LABEL and not member.size:
            continue
        path = _safe(archive, member.name, by_hand, member.isdir())
        if member.isdir():
            continue
        if member.size > size:
            raise tarfile.ReadError(f"{brief(member.name)} has a size of {member.size} bytes")
        named = f"{archive}: the member {brief(member.name)}"
        if member.type in _KINDS:
            raise DataError(f"{named} is {_KINDS[member.type]}", _PUBLISHED)
        if member.islnk():  # a second name of a file that came before it
            linked = PurePosixPath(member.linkname.replace("\\", "/"))
            if linked not in sizes:
                what = f"{named} is a hard link to {brief(member.linkname)}, which is no file before it"
                raise DataError(what, by_hand)
            # of the copy that is unpacked by then: a compressed tar would be read from its start for each link
            sizes[path] = sizes[linked]
            yield _Member(path, sizes[path], partial(_opened_copy, target / linked))
            continue
        if not member.isfile():
            kind = _BACKUPS.get(member.type, f"of a kind ({brief(member.type)}) that is not read here")
            raise DataError(f"{named} is {kind}", by_hand)
        sizes[path] = member.size
        yield _Member(path, member.size, partial(_opened_member, file, member))


def _opened_copy(place: Path) -> IO[bytes]:
    return place.open("rb")


def _opened_member(file: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = file.extractfile(member)
    assert opened is not None  # it is a file
    return opened


def unpack(archive: Path, into: Path, log: Callable[[str], None], more: int = 0, purpose: str = "") -> Path:
    """Unpack an archive below `into`, unless that is done; return the folder.

    All names are checked before the first byte is written; a kill leaves no folder that passes for whole.

    Args:
        more: bytes that will be needed on the same disk afterwards, for `purpose`.

    Raises:
        DataError: damaged, cut short, encrypted, of another kind, larger than the disk; it can't be read; with links
            that are not to a file before them in a tar, names outside its folder or that no file can have, or a file
            twice with other content. OSError: of the disk that is written to.
    """
    facts = archive.stat()
    target = into / f"{archive.name}-{digest([facts.st_size, facts.st_mtime_ns])[:10]}"
    done = target.with_name(target.name + _DONE)
    if done.is_file() and target.is_dir():
        return target
    done.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    try:
        _unpack(archive, target, log, more, purpose)
        write_text(done, archive.name + "\n")
    except BaseException:  # Ctrl-C, too; a SIGKILL leaves its half to the next call
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):
            into.rmdir()
        raise
    return target


def _unpack(archive: Path, target: Path, log: Callable[[str], None], more: int, purpose: str) -> None:
    by_hand = _by_hand(archive)
    with _reading(archive, by_hand):
        with archive.open("rb") as begun:
            head = begun.read(tarfile.BLOCKSIZE)
        mode = _begins_a_tar(head)
        begins = not mode and head.startswith((_MEMBER, _END, _FIRST_PART))
        # bytes in front of a zip are passed over, unless it may be the last file of a tar with a damaged header
        named = not mode and archive.suffix.lower() == ".zip"
        end = _end_of_zip(archive) if begins or named else None
        if end or begins:
            _check_whole(archive, head, end)
    if end:
        with contextlib.ExitStack() as stack:
            with _reading(archive, by_hand):
                file = stack.enter_context(zipfile.ZipFile(archive))
                _check_directory(file, head, end)
                members = list(_zip_members(archive, file))
            _write(archive, members, target, log, more, purpose, by_hand)
        return
    with contextlib.ExitStack() as stack:
        by_hand = _by_hand(archive, "tar -xf")  # 7z takes a tar out of its compression, and no more
        with _reading(archive, by_hand):
            tar = stack.enter_context(_opened(archive, head, mode))
            members = list(_tar_members(archive, tar, mode, target, by_hand))
        _write(archive, members, target, log, more, purpose, by_hand)
        with _reading(archive, by_hand):
            _check_end(archive, tar, by_hand)


def _begins_a_tar(head: bytes) -> _Mode | None:
    """Return how a tar is opened that begins with a block, whole or not; None where it begins none.

    The checksum decides: an old tar has no signature, the name of its first member may be that of any other, and a
    file in a zip may have a tar's where that would stand.
    """
    if _is_header(head):
        return "r:"
    for start, mode in _COMPRESSED.items():
        if head.startswith(start):
            return mode
    return "r:" if head[257:262] == b"ustar" and not head.startswith(_MEMBER) else None


def _is_header(block: bytes) -> bool:
    """Tell whether a block is a tar's header, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _opened(archive: Path, head: bytes, mode: _Mode | None) -> tarfile.TarFile:
    """Return a tar.

    Raises:
        DataError: it is none, or nothing came of it yet. ReadError: its first header is damaged. OSError, EOFError,
            LZMAError: its compression.
    """
    if head and not any(head):  # Python takes it for an empty tar
        what = f"{archive} begins with zeros: the download did not end, or it is an empty tar"
        raise DataError(what, "Download it again")
    try:
        return tarfile.open(archive, mode or "r:", tarinfo=BoundedHeader)
    except RefusedHeader:
        raise
    except tarfile.ReadError as error:
        if mode:
            # what tarfile hides as "not a gzip file"
            raise error.__cause__ or tarfile.ReadError(
                f"its first header is damaged, or of no tar: {error}"
            ) from None
        for start, what in _OTHERS.items():
            if head.startswith(start):
                raise DataError(f"{archive} is {what}, which is not read here", _by_hand(archive)) from None
        raise DataError(f"{archive} is neither a zip nor a tar file", "Download it again") from None


def _check_end(archive: Path, tar: tarfile.TarFile, by_hand: str) -> None:
    """Read a tar to its end, where the checksum of the whole is.

    Python takes a header that is damaged for the end, or one in whose place there are zeros, or nothing.

    Raises:
        ReadError: its members end at such a header. DataError: it has no end, or members behind it.
    """
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    end = file.read(2 * tarfile.BLOCKSIZE)
    if any(end):
        raise tarfile.ReadError(f"the header at byte {tar.offset} is damaged")
    again = f"Download it again. If it is the same then, {by_hand[:1].lower()}{by_hand[1:]}"
    if not end:
        what = f"{archive} is cut short: the zeros that end a tar are missing at byte {tar.offset}"
        raise DataError(what, again)
    at = tar.offset + len(end)
    behind, last = False, end
    while block := file.read(2**20):
        filled = any(block)
        for start in range(0, len(block), tarfile.BLOCKSIZE) if filled else ():
            if _is_header(block[start : start + tarfile.BLOCKSIZE]):
                raise _goes_on(archive, tar.offset, at + start, again)
        at, behind, last = at + len(block), behind or filled, (last + block)[-len(end) :]
    if behind and not any(last):  # what is only put behind a tar does not end as one
        raise _goes_on(archive, tar.offset, at, again)


def _goes_on(archive: Path, end: int, at: int, again: str) -> DataError:
    what = f"{archive} ends at byte {end}, and has more up to byte {at}: zeros stand for a part of it"
    return DataError(f"{what}, or it is several tars in one", again.replace("tar -xf", "tar -xif"))


def _write(
    archive: Path,
    members: list[_Member],
    target: Path,
    log: Callable[[str], None],
    more: int,
    purpose: str,
    by_hand: str,
) -> None:
    total = sum(member.size for member in members)
    target.mkdir(parents=True)
    check_space(target, total + more, f"to unpack {archive}" + (f" and {purpose}" if more else ""))
    log(f"unpacking {archive}: {len(members)} files, {total / 2**20:.0f} MiB")
    for member in members:
        name, place = str(member.path), target / member.path
        with _reading(archive, by_hand, name):
            source = member.open()
        with source:
            blocks = _blocks(archive, name, source, by_hand)
            sink = _begun(f"{archive}: the member {brief(name)}", place, by_hand)
            if sink is None:
                if not _same(blocks, place):
                    raise DataError(f"{archive} has {brief(name)} twice, with other content", by_hand)
                continue
            with sink:
                for block in blocks:
                    sink.write(block)


def _begun(named: str, place: Path, by_hand: str) -> IO[bytes] | None:
    """Return a file to write; None where there is one of that name, which some disks take in any case of letters.

    Raises:
        DataError: it can't be there. OSError: of the disk.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return place.open("xb")
    except ValueError as error:  # letters that the disk's encoding has not
        raise DataError(f"{named} can't be unpacked here ({error})", by_hand) from None
    except OSError as error:
        if error.errno == errno.EEXIST and place.is_file():
            return None
        if error.errno in _CLASHES:
            raise DataError(f"{named} makes a folder of a file, or a file of a folder", _PUBLISHED) from None
        if error.errno not in _BAD_NAMES:
            raise
        raise DataError(f"{named} can't be unpacked here ({error.strerror})", by_hand) from None


def _blocks(archive: Path, name: str, source: IO[bytes], by_hand: str) -> Iterator[bytes]:
    """Yield what a member holds, piece by piece."""
    while True:
        with _reading(archive, by_hand, name):
            block = source.read(2**20)
        if not block:
            return
        yield block


def _same(blocks: Iterable[bytes], place: Path) -> bool:
    """Tell whether what is to come is what a file has."""
    with place.open("rb") as there:
        return all(there.read(len(block)) == block for block in blocks) and not there.read(1)


def check_space(
    folder: Path, needed: int, purpose: str, fix: str = "Free some space, or name another folder with --cache"
) -> None:
    """Refuse to start what the disk can't hold (1 % is kept free).

    Raises:
        DataError: naming what is needed and what there is.
    """
    usage = shutil.disk_usage(folder)
    if needed > usage.free - usage.total // 100:
        raise DataError(
            f"{needed / 2**30:.2f} GiB are needed {purpose} and {folder} has {usage.free / 2**30:.2f} GiB left",
            fix,
        )
