"""Zip and tar files: unpacked safely, once, into a folder that a later call takes up again."""

from __future__ import annotations

import contextlib
import errno
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import DataError, brief
from ..storage.atomic import write_text
from ..storage.hashing import digest
from ..storage.tars import BoundedHeader

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
#: Begin a tar that is compressed.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
#: What a file system says to a name that is a file and a folder, and to one that it can't have.
_CLASHES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_BAD_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_PUBLISHED = "Do not use this file; fetch it from where the dataset is published"
#: The end of a zip's directory: signature, number of this part, of the part where the directory begins.
_END, _FIRST_PART = b"PK\x05\x06", b"PK\x07\x08"


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


def _safe(archive: Path, name: str) -> PurePosixPath:
    """Return a member's path.

    Raises:
        DataError: it would be written outside its folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise DataError(f"{archive}: the member {brief(name)} would be written outside its folder", _PUBLISHED)
    return path


def _by_hand(archive: Path) -> str:
    return f"Unpack it by another program (7z x {archive.name}), and name the folder: --raw FOLDER"


def _check_whole(archive: Path) -> None:
    """Refuse one part of a zip that was split: Python says of it that it is damaged.

    Raises:
        DataError: it is such a part; the fix joins them.
    """
    with archive.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, archive.stat().st_size - 2**16 - 22))
        tail = file.read()
    end = tail.rfind(_END)
    part, first = struct.unpack("<HH", tail[end + 4 : end + 8]) if 0 <= end <= len(tail) - 8 else (0, 0)
    split = (part or first) and (part, first) != (0xFFFF, 0xFFFF)  # those of a large zip stand elsewhere
    if split or (start == _FIRST_PART and end < 0):
        what = f"{archive} is one part of a zip that was split, which Python does not read; it is not damaged"
        raise DataError(what, f"Keep its parts (.z01, .z02 ...) beside it. {_by_hand(archive)}")


def _zip_members(
    archive: Path, file: zipfile.ZipFile
) -> Iterator[tuple[PurePosixPath, int, Callable[[], IO[bytes]]]]:
    for member in file.infolist():
        path = _safe(archive, member.filename)
        if member.is_dir():
            continue
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise DataError(f"{archive}: the member {brief(member.filename)} is a link", _PUBLISHED)
        if member.flag_bits & 1:
            raise DataError(f"{archive} is encrypted", _by_hand(archive))
        if member.compress_type not in READABLE:
            how = METHODS.get(member.compress_type, "a method of another kind")
            what = f"{archive}: {member.filename!r} is compressed by {how} (method {member.compress_type})"
            raise DataError(f"{what}, which Python does not read; the file is not damaged", _by_hand(archive))

        def read(member: zipfile.ZipInfo = member) -> IO[bytes]:
            return file.open(member)

        yield path, member.file_size, read


def _tar_members(
    archive: Path, file: tarfile.TarFile
) -> Iterator[tuple[PurePosixPath, int, Callable[[], IO[bytes]]]]:
    for member in file:
        path = _safe(archive, member.name)
        if member.isdir():
            continue
        if not member.isfile():
            raise DataError(f"{archive}: the member {brief(member.name)} is a link or a device", _PUBLISHED)

        def read(member: tarfile.TarInfo = member) -> IO[bytes]:
            opened = file.extractfile(member)
            assert opened is not None  # it is a file
            return opened

        yield path, member.size, read


def unpack(archive: Path, into: Path, log: Callable[[str], None], more: int = 0, purpose: str = "") -> Path:
    """Unpack an archive below `into`, unless that is done; return the folder.

    All names are checked before the first byte is written; a kill leaves no folder that passes for whole.

    Args:
        more: bytes that will be needed on the same disk afterwards, for `purpose`.

    Raises:
        DataError: damaged, encrypted, of another kind, larger than the disk; with links, names outside its folder or
            that no file can have, or a file twice with other content.
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
    with archive.open("rb") as begun:
        head = begun.read(tarfile.BLOCKSIZE)
    is_tar = _begins_a_tar(head)
    try:
        if not is_tar and (head.startswith(b"PK") or archive.suffix.lower() == ".zip"):
            _check_whole(archive)
        if not is_tar and zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                _write(archive, list(_zip_members(archive, file)), target, log, more, purpose)
        elif head.startswith(b"PK"):
            raise zipfile.BadZipFile("its directory, the end of a zip, is missing")
        else:
            with _opened(archive, head) as tar:
                _write(archive, list(_tar_members(archive, tar)), target, log, more, purpose)
                _check_end(tar)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is not None:  # of the disk; what gzip and bz2 raise for bad data has no number
            raise
        raise _damaged(archive, error) from error


def _begins_a_tar(head: bytes) -> bool:
    """Tell whether a file is a tar by its first block, whole or not; of an old one it does not show."""
    return head.startswith(_COMPRESSED) or head[257:262] == b"ustar"


def _opened(archive: Path, head: bytes) -> tarfile.TarFile:
    """Return a tar.

    Raises:
        DataError: it is none. ReadError: its first header is damaged.
    """
    try:
        return tarfile.open(archive, tarinfo=BoundedHeader)
    except tarfile.ReadError:
        for start, what in _OTHERS.items():
            if head.startswith(start):
                raise DataError(f"{archive} is {what}, which is not read here", _by_hand(archive)) from None
        if _begins_a_tar(head):
            raise tarfile.ReadError("its first header is damaged, or of no tar") from None
        raise DataError(f"{archive} is neither a zip nor a tar file", "Download it again") from None


def _check_end(tar: tarfile.TarFile) -> None:
    """Read a tar to its end, where the checksum of the whole is.

    Raises:
        ReadError: its members end at a header that is damaged: Python takes that for the end.
    """
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"the header at byte {tar.offset} is damaged")
    while file.read(2**20):
        pass


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive} is damaged or cut short ({error})", "Download it again")


def _write(
    archive: Path,
    members: list[tuple[PurePosixPath, int, Callable[[], IO[bytes]]]],
    target: Path,
    log: Callable[[str], None],
    more: int,
    purpose: str,
) -> None:
    total = sum(size for _, size, _ in members)
    target.mkdir(parents=True)
    check_space(target, total + more, f"to unpack {archive}" + (f" and {purpose}" if more else ""))
    log(f"unpacking {archive}: {len(members)} files, {total / 2**20:.0f} MiB")
    written: set[PurePosixPath] = set()
    for path, _, read in members:
        place = target / path
        with read() as source:
            if path in written:
                if not _same(source, place):
                    what = f"{archive} has {brief(str(path))} twice, with other content"
                    raise DataError(what, _by_hand(archive))
                continue
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                sink = place.open("wb")
            except OSError as error:
                what = f"{archive}: the member {brief(str(path))}"
                if error.errno in _CLASHES:
                    raise DataError(f"{what} makes a folder of a file, or a file of a folder", _PUBLISHED) from None
                if error.errno not in _BAD_NAMES:
                    raise
                raise DataError(f"{what} can't be unpacked here ({error.strerror})", _by_hand(archive)) from None
            with sink:
                shutil.copyfileobj(source, sink, 2**20)
        written.add(path)


def _same(source: IO[bytes], place: Path) -> bool:
    """Tell whether what is to come is what a file has."""
    with place.open("rb") as there:
        while True:
            found, known = source.read(2**20), there.read(2**20)
            if found != known:
                return False
            if not found:
                return True


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
