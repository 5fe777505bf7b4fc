"""Files that a parameter names: the content counts, where it lies does not.

A parameter that `params.file_field` declares is given as a path and stored as `sha256:<64 hex digits>`. So is a
folder (`params.folder_field`), whose content is that of the files of known kinds that lie in it. That is what
a run's identity holds: two machines with the same bytes under different paths make the same run, and other bytes
under the same path make another one. Where a content lies on this machine is remembered beside the plug-in index (a
cache that may be deleted at any time), so that `reproduce`, `stale` and an interrupted run find it again, and so that
ten thousand runs of a plan hash a file once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .errors import ConfigError, DataError, shorten, visible
from .storage import paths
from .storage.atomic import read_json, write_json
from .storage.hashing import digest

if TYPE_CHECKING:
    from torch import Tensor

_CONTENT = re.compile(r"sha256:[0-9a-f]{64}")
#: Letters of a path that is told: the longest that most file systems take, and no more of a forged one.
LONGEST_PATH = 1024
#: Endings of the files of a folder that count and that a plug-in may read: models, tokenizers; no code, no pickles.
FOLDER_FILES = (".json", ".safetensors", ".txt", ".model")
#: Files, the first of which that a folder has makes its tokenizer.
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model"),
    "sentencepiece.bpe.model",
)
#: A file that was changed so lately may be changed again without any of its times showing it.
_SETTLED_NS = 2_000_000_000
#: Size, times and inode: while these stay, the bytes do.
Stamp = list[int]
_known: dict[str, tuple[Stamp, str]] = {}
#: Content -> where this process has seen it.
_seen: dict[str, list[str]] = {}


@dataclass(frozen=True)
class _Named:
    """What lies on a disk, by its content: `sha256:` and 64 hex digits."""

    content: str

    @classmethod
    def of(cls, value: str | Path | Self) -> Self:
        """Return what has a content, or lies at a path."""
        if isinstance(value, cls):
            return value
        assert isinstance(value, str | Path)
        return cls(str(value)) if is_content(value) else cls(cls.content_at(value))

    @staticmethod
    def content_at(path: str | Path) -> str:
        """Return the content of what lies at a path."""
        raise NotImplementedError

    @property
    def path(self) -> Path:
        """Where it lies on this machine; its bytes may be others by now.

        Raises:
            DataError: nobody knows.
        """
        return find(self.content)


class File(_Named):
    """A file by its content, as a plug-in gets it; `read` makes sure that the bytes are the right ones."""

    @staticmethod
    def content_at(path: str | Path) -> str:
        """Return the content of a file; see `content_of`."""
        return content_of(path)

    def read(self) -> bytes:
        """Return its bytes, which have this very hash.

        Raises:
            DataError: it is not at hand, can't be read, or was changed a moment ago.
        """
        path = self.path
        try:
            found = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} can't be read ({error.strerror or error})", "Make it readable") from None
        if f"sha256:{hashlib.sha256(found).hexdigest()}" != self.content:
            raise DataError(f"{path} was changed while it was being read", "Type the same command again")
        return found

    def open(self) -> io.BytesIO:
        """Return its bytes, checked, as a file that is open for reading."""
        return io.BytesIO(self.read())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a file of weights: safetensors, npz, or what `torch.save` made of a state dict.

        Raises:
            DataError: it is none of these, or holds more than plain tensors.
        """
        from .storage.tensors import read_tensors

        return read_tensors(self.read(), self.path)


class Folder(_Named):
    """A folder by the content of its files (`FOLDER_FILES`), as a plug-in gets it."""

    @staticmethod
    def content_at(path: str | Path) -> str:
        """Return the content of a folder; see `folder_content_of`."""
        return folder_content_of(path)

    def check(self, path: Path) -> None:
        """Make sure, after its files were read, that they were the right ones.

        Raises:
            DataError: another content lies there by now.
        """
        try:
            found = _hash(path)[1]
        except OSError as error:
            raise DataError(f"{path} can't be read ({error.strerror or error})", "Make it readable") from None
        if found != self.content:
            raise DataError(f"{path} was changed while it was being read", "Type the same command again")


def is_content(value: Any) -> bool:
    """Whether a value names a file by its content."""
    return isinstance(value, str) and bool(_CONTENT.fullmatch(value))


def short(content: str) -> str:
    """Return the first ten hex digits, for a label."""
    return content.removeprefix("sha256:")[:10]


def contents(value: Any) -> list[str]:
    """Return the contents that a configuration names anywhere, each once, in order."""
    if is_content(value):
        return [value]
    inner: Iterable[Any] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return list(dict.fromkeys(found for part in inner for found in contents(part)))


def members(folder: Path) -> list[Path]:
    """Return the files of a folder that count, by name.

    Raises:
        OSError: it can't be read, or has none.
    """
    found = sorted(
        path for path in folder.iterdir() if path.suffix in FOLDER_FILES and path.name[0] != "." and not path.is_dir()
    )
    if not found:
        raise OSError(f"it holds no file that ends in {', '.join(FOLDER_FILES)}")
    return found


def _stamp(path: Path) -> Stamp:
    """Return what changes with the bytes of a file, or of the files of a folder.

    Raises:
        OSError: there is no such file, or it is none with bytes of its own.
    """
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        stamps = {one.name: _stamp(one) for one in members(path)}
        sizes, changed, moved, _ = zip(*stamps.values(), strict=True)
        names = [number for name, one in stamps.items() for number in (int(digest(name)[:12], 16), *one)]
        return [sum(sizes), max(changed), max(moved), facts.st_ino, *names]
    if not stat.S_ISREG(facts.st_mode) or str(path).startswith(("/proc/", "/sys/", "/dev/")):
        raise OSError("it is no ordinary file")
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def tokenizer_hash(folder: str | Path) -> str:
    """Return a digest of the tokenizer in a folder, 16 hex digits: what `tokenizer_hash` of a modality declares.

    It is that of the first of `TOKENIZER_FILES`, with merges.txt where that is a vocab.json.

    Raises:
        DataError: it holds no tokenizer, or one that can't be read.
    """
    place = _absolute(folder)
    there = [name for name in TOKENIZER_FILES if (place / name).is_file()][:1]
    if not there:
        names = ", ".join(TOKENIZER_FILES[:3])
        fix = "Save the tokenizer that made the ids: save_pretrained(FOLDER)"
        raise DataError(f"{place} holds no tokenizer ({names})", fix)
    merges = ["merges.txt"] * (there == ["vocab.json"] and (place / "merges.txt").is_file())
    try:
        listed = "".join(f"{_digest(place / name)}  {name}\n" for name in there + merges)
    except OSError as error:
        raise DataError(f"{place} can't be read ({error.strerror or error})", "Make it readable") from None
    return hashlib.sha256(f"tokenizer\n{listed}".encode()).hexdigest()[:16]


#: The threads in which a file is being hashed.
_hashing: set[int] = set()


def is_hashing() -> bool:
    """Whether this thread reads a file only to know its content: nobody gets its bytes."""
    return threading.get_ident() in _hashing


def _digest(path: Path) -> str:
    """Return the hash of a file, or of names and hashes of the files of a folder."""
    if path.is_dir():
        listed = "".join(f"{_digest(one)}  {one.name}\n" for one in members(path))
        return hashlib.sha256(f"folder\n{listed}".encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(path: Path) -> tuple[Stamp, str]:
    for _ in range(3):
        before = _stamp(path)
        _hashing.add(threading.get_ident())
        try:
            found = _digest(path)
        finally:
            _hashing.discard(threading.get_ident())
        if _stamp(path) == before:
            return before, f"sha256:{found}"
    raise OSError("it is being written")


def _folder() -> Path:
    return paths.index_folder() / "files"


def _kept(content: str | None = None, path: str | None = None) -> list[dict[str, Any]]:
    """Return what is remembered of a content or of a path, the latest first."""
    found = []
    name = f"{digest(path)[:16]}-*.json" if path is not None else f"*-{short(content or '')}.json"
    for file in _folder().glob(name):
        with contextlib.suppress(DataError, OSError, KeyError, TypeError):
            kept = read_json(file)
            if kept["path"] == path or kept["content"] == content:
                found.append((file.stat().st_mtime_ns, str(file), kept))
    return [kept for *_, kept in sorted(found, reverse=True)]


def _hashed(path: Path) -> str:
    """Return the content of a file, from memory where its times say that it has not changed.

    Raises:
        OSError: as the system says it.
    """
    place, now = str(path), _stamp(path)
    if place in _known and _known[place][0] == now:
        return _known[place][1]
    content = _hashed_anew(place, now)
    places = _seen.setdefault(content, [])
    places += [place] * (place not in places)
    return content


def _hashed_anew(place: str, now: Stamp) -> str:
    for kept in _kept(path=place):
        if kept["stamp"] == now and is_content(kept["content"]):
            _known[place] = (now, kept["content"])
            return str(kept["content"])
    found, content = _hash(Path(place))
    if time.time_ns() - max(found[1], found[2]) > _SETTLED_NS:
        _known[place] = (found, content)
    facts = {"path": place, "content": content, "stamp": found if place in _known else []}
    with contextlib.suppress(DataError):  # a read-only home costs time, nothing else
        write_json(_folder() / f"{digest(place)[:16]}-{short(content)}.json", facts)
    return content


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 (a link keeps its own name)


def content_of(path: str | Path) -> str:
    """Return the content of a file as `sha256:<hex>`, and remember where it lies.

    Raises:
        ConfigError: it does not exist, is a folder, can't be read, or is being written.
    """
    return _content_of(_absolute(path), folder=False)


def folder_content_of(path: str | Path) -> str:
    """Return the content of a folder as `sha256:<hex>`, and remember where it lies.

    Raises:
        ConfigError: it does not exist, is a file, holds none of `FOLDER_FILES`, can't be read, or is being written.
    """
    return _content_of(_absolute(path), folder=True)


def _content_of(place: Path, folder: bool) -> str:
    kind = "folder" if folder else "file"
    fix = "Correct the path: one in a recipe starts at the recipe's folder, others at the working folder"
    try:
        if stat.S_ISDIR(place.stat().st_mode) != folder:
            raise ConfigError(f"{place} is a {'file, not a folder' if folder else 'folder, not a file'}", fix)
        return _hashed(place)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"the {kind} {place} does not exist", fix) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(
            f"the {kind} {place} can't be read ({reason})", "Make it readable, or name another"
        ) from None


def remember(path: str | Path) -> str:
    """Hash a file or folder that the user names, so that it is found by its content; return that."""
    place = _absolute(path)
    return _content_of(place, place.is_dir())


def _places(content: str) -> list[Path]:
    """Return where a content lies or once lay, as far as this machine remembers."""
    known = [*_seen.get(content, []), *(str(kept["path"]) for kept in _kept(content=content))]
    return list(dict.fromkeys(Path(place) for place in known if Path(place).is_absolute()))


@dataclass(frozen=True)
class Change:
    """A file that a run was made from and that holds something else now.

    Attributes:
        path: of the file. holds: the content that is there now. wanted: the content that the run was made from.
    """

    path: Path
    holds: str
    wanted: str

    @property
    def what(self) -> str:
        """What changed, in words."""
        return f"{self.path} has changed: it holds {short(self.holds)}, the run was made from {short(self.wanted)}"

    @property
    def fix(self) -> str:
        """How to get the runs of either content, and what becomes of those that are there."""
        return (
            f"For the runs that are there put the file with {short(self.wanted)} back at {self.path}; for runs from "
            f"{short(self.holds)} type the snakemake command again: it trains them into folders of their own and "
            "keeps the others"
        )


def look_up(content: str) -> tuple[Path | None, Change | None]:
    """Return (where a content lies, None), or (None, what lies there now, None where nobody knows a place).

    Only paths that the user of this machine has named are looked at. Those in a run's provenance.json are not: it
    may be a stranger's, and data never chooses which file is read.
    """
    change = None
    for place in _places(content):
        try:
            found = _hashed(place)
        except (OSError, ValueError):
            continue
        if found == content:
            return place, None
        change = change or Change(place, found, content)
    return None, change


def find(content: str, recorded: str = "") -> Path:
    """Return where a content lies on this machine.

    Args:
        content: of the file. recorded: where a run's provenance says that it lay, for the message alone.

    Raises:
        DataError: no known place has it (any more).
    """
    place, change = look_up(content)
    if place is None:
        lay = f" (where the run was made it was {shorten(visible(recorded), LONGEST_PATH)})" if recorded else ""
        what = change.what if change else f"no file with {content} is known on this machine{lay}"
        raise DataError(what, f"Bring the file with that content and name it: --file PATH ({content})")
    return place


def places_of(named: Iterable[str]) -> dict[str, str]:
    """Return content -> path of those of some contents that are at hand."""
    found = {content: look_up(content)[0] for content in named}
    return {content: str(path) for content, path in found.items() if path is not None}


def require(named: Iterable[str], recorded: Mapping[str, str] | None = None) -> None:
    """Check that every file that a run names is at hand, before hours are spent.

    Args:
        named: contents. recorded: content -> path, as a run's provenance says; it is shown, never opened.

    Raises:
        DataError: naming the first that is not.
    """
    for content in named:
        find(content, str((recorded or {}).get(content, "")))


def changed(named: Iterable[str]) -> Change | None:
    """Return the first of a run's files, by their contents, that holds something else now, None where none does.

    A file that is gone, or on another machine, is no change.
    """
    for content in named:
        _, change = look_up(content)
        if change:
            return change
    return None
