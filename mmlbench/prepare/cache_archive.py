"""A prepared cache in one file: written whole, and listed, bounded and compared with its hashes when it is read.

The archive is a plain tar, for features hardly shrink; equal caches, packed by one version, give equal bytes::

    archive.json      what it is of, what its licence allows, bytes and sha256 of every other file
    manifest.json     that of the cache
    *.npy  *.csv      the files that the manifest names, in the order of their names; no others

Every name in it is one that the manifest names, so no file of it can come to lie anywhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from ..errors import DataError, brief
from ..storage.atomic import json_text, plain, read_bytes, storage_error, whole
from ..storage.cache_files import computed_fingerprint, listed_files
from ..storage.form import HEX10, HEX16, SHA256, WORD, Item, mostly_brackets
from ..storage.tars import StudyHeader, members
from .archives import check_space
from .cache import Cache
from .sharing import Sharing

SCHEMA, KIND = 1, "data"
#: The file that says what an archive is; an archive of data begins with its name.
HEAD, MANIFEST = "archive.json", "manifest.json"
FIX = "Ask for the archive again; nothing of it was taken over"
#: Most files, and bytes of the JSON ones, which are read into memory. No sensible cache has more.
MOST_FILES, MOST_JSON = 10_000, 64 * 2**20
#: Names of a cache's files.
NAME = r"(valid-|length-|extra-)?[A-Za-z0-9_]{1,80}\.npy|split-[A-Za-z0-9_.-]{1,40}\.csv|raw\.csv|manifest\.json"
_CHUNK = 2**20
#: A tar ends in two empty blocks, and is padded to whole records.
_ENDS, _RECORD = 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE


@dataclass(frozen=True)
class Member:
    """A file of an archive: its size and its sha256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class About:
    """What an archive is of.

    Attributes:
        dataset, key: name the cache. params: of the preparation, as the key holds them: files by their content.
        code: fingerprint of the dataset's code. version: of the mmlbench that packed it.
        sharing, source: what the licence allows, and where that was read. licence, citation, origin: the dataset's.
    """

    dataset: str
    key: str
    params: dict[str, Any]
    code: str
    version: str
    sharing: Sharing
    source: str
    licence: str
    citation: str
    origin: str

    @property
    def cache(self) -> str:
        """The name of the cache's folder."""
        return f"{self.dataset}-{self.key}"


@dataclass(frozen=True)
class Contents:
    """What an archive holds, as far as it can be known without reading the arrays.

    Attributes:
        files: name -> size and hash, without archive.json. manifest: of the cache, its form not yet looked at.
    """

    archive: Path
    about: About
    files: dict[str, Member]
    manifest: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Bytes of all its files."""
        return sum(one.bytes for one in self.files.values())


# ---- writing ---------------------------------------------------------------------------------------------------
class _Hashed:
    """A file of a known size that is hashed while it is read."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path, self._hash = file, path, hashlib.sha256()

    def read(self, size: int = 0) -> bytes:
        """Return so many of the next bytes; a tar always says how many.

        Raises:
            DataError: there are not so many left; the file was longer a moment ago.
        """
        found = self._file.read(size)
        if len(found) < size:
            raise _changed(self._path)
        self._hash.update(found)
        return found

    @property
    def sha256(self) -> str:
        """The hash of what was read."""
        return self._hash.hexdigest()


def _changed(path: Path) -> DataError:
    return DataError(
        f"{path} was changed after the cache was made", f"Remove {path.parent} and prepare the dataset again"
    )


def _header(name: str, size: int) -> tarfile.TarInfo:
    """Return the header of a file, without the time, owner and rights that it happens to have."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


def pack(cache: Cache, about: About, to: Path) -> int:
    """Write a cache into an archive, whole or not at all; return the bytes of its files.

    Raises:
        DataError: a file of the cache is not as its manifest says; the disk has no room or can't be written.
    """
    manifest = read_bytes(cache.folder / MANIFEST)
    files = {MANIFEST: Member(len(manifest), hashlib.sha256(manifest).hexdigest())}
    listed = listed_files(cache.manifest)
    files |= {name: Member(listed[name]["bytes"], listed[name]["sha256"]) for name in sorted(listed)}
    facts = {name: vars(one) for name, one in files.items()}
    head = json_text({"schema": SCHEMA, "kind": KIND, **vars(about), "files": facts}).encode()
    total = sum(one.bytes for one in files.values())
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        check_space(to.parent, total, f"for {to}", "Free some space, or name another place by --to")
    except OSError as error:
        raise storage_error(error, to) from error
    with (
        whole(to) as temporary,
        temporary.open("wb") as raw,
        tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        tar.addfile(_header(HEAD, len(head)), io.BytesIO(head))
        for name, one in files.items():
            with plain(cache.folder / name) as file:
                source = _Hashed(file, cache.folder / name)
                tar.addfile(_header(name, one.bytes), source)
            if source.sha256 != one.sha256:
                raise _changed(cache.folder / name)
    return total


# ---- reading ---------------------------------------------------------------------------------------------------
def is_archive_of_data(path: Path) -> bool:
    """Tell by its first bytes whether a file is an archive of a prepared cache; that of a study is compressed."""
    wanted = f"{HEAD}\0".encode()
    try:
        with plain(path) as file:
            return file.read(len(wanted)) == wanted
    except (OSError, DataError):
        return False


def _fail(archive: Path, what: str) -> NoReturn:
    """Refuse an archive; what begins with a colon is about one of its files."""
    raise DataError(f"{archive}{'' if what[:1] == ':' else ' '}{what}", FIX)


def _walk(archive: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], IO[bytes] | None]]]:
    """Yield each member of an archive with what opens it.

    Raises:
        DataError: no archive, cut short, damaged, with headers that no cache needs, or with something behind its end.
    """
    size = archive.stat().st_size if archive.is_file() else 0
    try:
        with tarfile.open(archive, "r:", tarinfo=StudyHeader) as tar:
            for member in members(tar):
                if member.offset_data + member.size > size:
                    _fail(archive, f"is cut short: {brief(member.name)} has {member.size} bytes there")
                yield member, lambda member=member: tar.extractfile(member)  # type: ignore[misc]
            end = tar.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        why = " ".join(str(error).split())[:120]
        raise DataError(f"{archive} is no archive of prepared data, or is damaged ({why})", FIX) from None
    with plain(archive) as file:
        file.seek(end)
        behind = file.read(_ENDS + _RECORD)
    if end + len(behind) != size or size != -(-(end + _ENDS) // _RECORD) * _RECORD or behind.strip(b"\0"):
        _fail(archive, "is cut short or damaged: it does not end where its last file does")


def _json(archive: Path, name: str, text: bytes) -> dict[str, Any]:
    """Return the mapping of a JSON file.

    Raises:
        DataError: it is none, holds NaN, or nothing but brackets.
    """
    if mostly_brackets(text):
        _fail(archive, f": {name} holds more brackets than text")

    def refuse(number: str) -> NoReturn:
        raise ValueError(f"it holds {number}")

    try:
        found = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        _fail(archive, f": {name} can't be read ({' '.join(str(error).split())[:120]})")
    if not isinstance(found, dict):
        _fail(archive, f": {name} is no mapping")
    return found


def _about(archive: Path, found: dict[str, Any]) -> tuple[About, dict[str, Member]]:
    """Return what archive.json says."""
    top = Item(found, f"{archive}: {HEAD}", fix=FIX)
    top.check_schema(SCHEMA)
    fields = top.fields(("schema", "kind", "files", *About.__dataclass_fields__))
    fields["kind"].one_of((KIND,))
    about = About(
        fields["dataset"].text("the name of a dataset", WORD),
        fields["key"].text("the key of a cache", HEX10),
        {name: one.scalar() for name, one in fields["params"].named(r"[A-Za-z_]\w{0,79}", "a parameter").items()},
        fields["code"].text("a fingerprint", SHA256),
        fields["version"].text("a version", r"[\w.+-]{1,40}"),
        Sharing(fields["sharing"].one_of(tuple(Sharing))),
        *(fields[name].text(empty=True, most=10_000) for name in ("source", "licence", "citation", "origin")),
    )
    files = {}
    for name, one in fields["files"].named(NAME, "the name of a cache's file").items():
        facts = one.fields(("bytes", "sha256"))
        files[name] = Member(facts["bytes"].integer(), facts["sha256"].text("a sha256", SHA256))
    return about, files


def contents_of(archive: Path) -> Contents:
    """List an archive; nothing is written, and no array is read.

    Raises:
        DataError: no archive of prepared data, or damaged; a member that is no plain file, is there twice, is
            missing, in no list, or of another size; archive.json or manifest.json is not of the form; the
            manifest's fingerprint is not that of what it says.
    """
    held: dict[str, bytes] = {}
    there: dict[str, int] = {}
    for member, opened in _walk(archive):
        name = member.name
        if not member.isreg():
            _fail(archive, f": {brief(name)} is no plain file")
        if name != HEAD and not re.fullmatch(NAME, name):
            _fail(archive, f": the name {brief(name)} leads outside or belongs to no cache")
        if name in there:
            _fail(archive, f": {brief(name)} is there twice")
        if not there and name != HEAD:
            _fail(archive, f": it begins with {brief(name)}, not with {HEAD}")
        if len(there) >= MOST_FILES or (name.endswith(".json") and member.size > MOST_JSON):
            _fail(archive, f"holds more than any cache does ({brief(name)}: {member.size} bytes)")
        there[name] = member.size
        if name.endswith(".json"):
            file = opened()
            held[name] = file.read() if file is not None else b""
    if HEAD not in there:
        _fail(archive, f"has no {HEAD}: it is no archive of prepared data")
    about, files = _about(archive, _json(archive, HEAD, held[HEAD]))
    for name in sorted(set(files) ^ (set(there) - {HEAD}) | ({MANIFEST} - set(files))):
        _fail(archive, f": {name} {'is in no list of the archive' if name in there else 'is missing'}")
    for name, one in files.items():
        if there[name] != one.bytes:
            _fail(archive, f": {name} has {there[name]} bytes, not {one.bytes}")
    return Contents(archive, about, files, _manifest(archive, about, files, held[MANIFEST]))


def _manifest(archive: Path, about: About, files: dict[str, Member], text: bytes) -> dict[str, Any]:
    """Return the manifest of an archive, whose fingerprint is that of what it says.

    Raises:
        DataError: it was changed, is written otherwise than mmlbench does, is that of another cache, or claims a
            fingerprint that is another one.
    """
    if hashlib.sha256(text).hexdigest() != files[MANIFEST].sha256:
        _fail(archive, f": {MANIFEST} was changed after it was packed")
    found = _json(archive, MANIFEST, text)
    claimed = Item(found.get("fingerprint"), f"{archive}: {MANIFEST}", "fingerprint", FIX).text("a hash", HEX16)
    if computed_fingerprint(found) != claimed:
        _fail(archive, f": {MANIFEST} claims the fingerprint {claimed}, which is not that of what it says")
    if json_text(found).encode() != text:
        _fail(archive, f": {MANIFEST} is not written as mmlbench writes it")
    if (found.get("dataset"), found.get("key")) != (about.dataset, about.key):
        _fail(archive, f": {MANIFEST} is that of another cache than {HEAD} names")
    return found


def check_files(contents: Contents, into: Path | None = None) -> None:
    """Compare every file of an archive with its hash; where a folder is named, write the files there.

    Args:
        into: an empty folder; the manifest is not written.

    Raises:
        DataError: naming the file that was changed. OSError: of the disk.
    """
    archive = contents.archive
    for member, opened in _walk(archive):
        if member.name in (HEAD, MANIFEST):
            continue
        source, one = opened(), contents.files.get(member.name)
        if source is None or one is None or member.size != one.bytes:
            raise DataError(f"{archive} was changed while it was read", "Type the same command again")
        found = hashlib.sha256()
        with contextlib.ExitStack() as stack:
            sink = stack.enter_context((into / member.name).open("xb")) if into is not None else None
            while piece := source.read(_CHUNK):
                found.update(piece)
                if sink is not None:
                    sink.write(piece)
        if found.hexdigest() != one.sha256:
            _fail(archive, f": {member.name} was changed after it was packed")
