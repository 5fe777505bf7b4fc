"""What tests of damaged media share: a file read as a dataset reads it, and where the tags of an FLV begin."""

from __future__ import annotations

from pathlib import Path

from mmlbench.decode import sound, video
from mmlbench.decode.image import read_image
from mmlbench.prepare import file_checks as faults


def decode(path: Path) -> None:
    """Read a file as a dataset would, the scan first."""
    faults.check_file(path.parent, path.name)
    if path.suffix in (".flv", ".mp4", ".avi"):
        video.every(path)
    if path.suffix in (".flv", ".mp4", ".wav"):
        sound.read_sound(path, 16000)
    if path.suffix == ".jpg":
        read_image(path)


def tags(path: Path) -> list[int]:
    """Return where the tags of an FLV begin."""
    data, at, found = path.read_bytes(), 13, []
    while at + 11 <= len(data):
        found.append(at)
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    return found
