"""What befalls raw files and lists on their way to a user, and what `prepare` says of each."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import mini_av
import mini_texts
import numpy as np

#: What git-annex leaves in place of a file whose content was not fetched.
ANNEXED = "/annex/objects/SHA256E-s12345--4d7a.dat\n"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = "<!DOCTYPE html><html>Google Drive can't scan this file for viruses</html>"
#: What changes a file.
Harm = Callable[[Path], object]
#: Name -> (how, what the line says).
Harms = dict[str, tuple[Harm, str]]


def cut(path: Path) -> None:
    """Leave six tenths of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


def other_case(path: Path) -> None:
    """Give a file its name in capitals."""
    path.rename(path.with_name(path.name.swapcase()))


def annex_link(path: Path) -> None:
    """Leave the link of git-annex, whose content was not fetched."""
    path.unlink()
    path.symlink_to("../.git/annex/objects/4d/7a/SHA256E-s12345--4d7a.dat")


def noise(path: Path) -> None:
    """Write bytes that are nothing."""
    path.write_bytes(np.random.default_rng(7).bytes(20_000))


def altered(path: Path) -> None:
    """Change some bytes in the middle of a file, whose size stays."""
    whole = bytearray(path.read_bytes())
    at = len(whole) // 2
    whole[at : at + 20] = bytes(255 - one for one in whole[at : at + 20])
    path.write_bytes(whole)


def to_picture(path: Path) -> None:
    """Put a whole picture in a file's place."""
    shown = path.with_name("shown.jpg")
    mini_texts.write_picture(shown, 1, 1)
    shown.replace(path)


def to_sound(path: Path) -> None:
    """Put a whole sound in a file's place."""
    mini_av.write_wav(path, mini_av.tone(1, 1.4, 16000, np.random.default_rng(7)))


def without(stream: str) -> Harm:
    """Return what writes a video anew without its sound or its picture."""

    def harm(path: Path) -> None:
        video, sound = {".flv": mini_av.FLV, ".mp4": mini_av.MP4, ".avi": ("mpeg4", "libmp3lame")}[path.suffix]
        codecs = (video, None) if stream == "audio" else (None, sound)
        mini_av.write_video(path, 1, 1.4, codecs, rate=25)

    return harm


def quiet(path: Path) -> None:
    """Write a recording of silence."""
    mini_av.write_wav(path, np.zeros(16000, np.float32))


def corrupt(path: Path) -> None:
    """Damage a frame in the middle; of a picture so large that noise is no frame by chance, as real ones are."""
    codecs = {".flv": mini_av.FLV, ".mp4": mini_av.MP4, ".avi": ("mpeg4", None)}[path.suffix]
    mini_av.write_video(path, 1, 1.4, codecs, (160, 120), 25)
    mini_av.damage(path)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


#: What may befall any file, however it is read.
_COMMON: Harms = {
    "Git LFS pointer": (lambda path: path.write_text(POINTER), "is a Git LFS pointer"),
    "git-annex pointer": (lambda path: path.write_text(ANNEXED), "is a git-annex pointer"),
    "git-annex link": (annex_link, "is a link of git-annex"),
    "empty": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "a web page": (lambda path: path.write_text(PAGE), "is a web page"),
    "random bytes": (noise, ""),
}
#: What may befall a file that decodes or is a text, one of many.
OF_ITEMS: Harms = _COMMON | {
    "missing": (Path.unlink, "is missing"),
    "name in another case": (other_case, "a name in another case: rename it"),
}
CUT: Harms = {"cut short": (cut, "is cut short")}
STREAMS: Harms = {
    "no video stream": (without("video"), "has no video stream"),
    "no sound stream": (without("audio"), "has no audio stream"),
}
OF_VIDEOS: Harms = OF_ITEMS | CUT | {
    "a picture": (to_picture, "is a picture"),
    "a corrupt frame": (corrupt, "corrupt frame"),
    "no video stream": STREAMS["no video stream"],
}  # fmt: skip
OF_VIDEOS_WITH_SOUND: Harms = OF_VIDEOS | STREAMS
OF_SOUNDS: Harms = OF_ITEMS | CUT | {"a picture": (to_picture, "is a picture"), "silent": (quiet, "is silent")}
OF_PICTURES: Harms = OF_ITEMS | CUT | {"a sound": (to_sound, "is a sound")}
OF_MESHES: Harms = OF_ITEMS | CUT | {"a picture": (to_picture, "is a picture")}


class Call:
    """What Python's own unpickling would run: it makes the file `it_ran` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.folder / 'it_ran'}",)


def of_pickles(wanted: str, hostile: Harm) -> Harms:
    """Return what may befall the one pickle of a dataset.

    Args:
        wanted: the name that an error asks for where no file has it. hostile: writes a pickle with a `Call` in it.
    """
    return _COMMON | {
        "cut short": (cut, "no whole pickle"),
        "missing": (Path.unlink, f"holds no {wanted}"),
        "name in another case": (other_case, "another case"),
        "a picture": (to_picture, "is a picture"),
        "compressed": (lambda path: path.write_bytes(gzip.compress(path.read_bytes())), "gzip"),
        "hostile": (hostile, "posix.system"),
        "a folder": (to_folder, "is a folder"),
    }
