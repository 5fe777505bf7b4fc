"""Archives of results, read and written by hand: as a careful forger would."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from mmlbench.storage.atomic import json_text
from mmlbench.storage.hashing import digest

Files = dict[str, bytes]


def read_files(path: Path) -> Files:
    """Return the files of an archive."""
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]


def write_archive(path: Path, files: Files, links: dict[str, tuple[bytes, str]] | None = None) -> Path:
    """Write an archive with every hash right."""
    head = json.loads(files["archive.json"])
    head["files"] = {name: hashlib.sha256(text).hexdigest() for name, text in files.items() if name != "archive.json"}
    files = {**files, "archive.json": json.dumps(head).encode()}
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        for name, (kind, target) in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return path


def joint_of(files: Files) -> str:
    """Return the folder of the first run of joint."""
    return next(name for name in files if "/joint/s0-" in name and name.endswith("run.json")).rpartition("/")[0]


def reseal(files: Files, folder: str, listed: Files) -> None:
    """List further files in a run's record as its own; its hash, its stamp and its provenance follow."""
    record = json.loads(files[f"{folder}/run.json"])
    record.pop("record_hash")
    record["files"] |= {name: hashlib.sha256(text).hexdigest() for name, text in listed.items()}
    files[f"{folder}/run.json"] = json_text(record | {"record_hash": digest(record)[:16]}).encode()
    facts = json.loads(files[f"{folder}/provenance.json"])
    facts.pop("record_hash")
    facts["run_record_hash"] = digest(record)[:16]
    files[f"{folder}/provenance.json"] = json_text(facts | {"record_hash": digest(facts)[:16]}).encode()
    stamp = next(name for name in files if name.startswith(f"{folder}/done-"))
    files[stamp] = (hashlib.sha256(files[f"{folder}/run.json"]).hexdigest() + "\n").encode()


def repacked(source: Path, to: Path, change=None, extra: list[tarfile.TarInfo] = (), rehash: bool = True) -> Path:
    """Write an archive anew with changed files and further members."""
    with tarfile.open(source) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}
    if change:
        change(files)
    if rehash:
        head = json.loads(files["archive.json"])
        head["files"] = {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != "archive.json"}
        files["archive.json"] = json.dumps(head).encode()
    with tarfile.open(to, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return to
