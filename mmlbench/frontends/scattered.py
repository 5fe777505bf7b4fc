"""Clips that lie anywhere below a folder: videos, or frames and WAV files, as people keep what has left the web."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..dataset import CacheWriter
from ..errors import DataError
from ..params import bounded, choice
from ..prepare.items import fill
from ..prepare.task import Item
from .clips import AUDIO, PICTURES, STORED, ClipDataset, ClipParams, decode_clip, frame_files, modalities

VIDEOS = (".mp4", ".mkv", ".webm", ".avi")
ASPECT = 16 / 9
#: (id of a video, first second of the clip).
Key = tuple[str, int]
#: YouTube's id, the first second, perhaps the last: `<id>_<start>` and `<id>_000012_000022` name the same clip.
_CLIP = re.compile(r"(.{11})_(\d+)(?:_(\d+))?")
#: What clips are called, for what `mmlbench fetch` looks for.
ANY = "**/???????????_*.*"


def clip_key(name: str) -> Key | None:
    """Return (YouTube id, first second) of a clip's name, None where it is of another form."""
    found = _CLIP.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def kept(names: list[str], keep: int) -> list[int]:
    """Return which of a clip's frames are shown: all, or `keep` of them, evenly spaced."""
    return list(range(len(names))) if len(names) <= keep else [k * len(names) // keep for k in range(keep)]


def frames_item(name: str, folder: Path, within: str, sound: str, keep: int) -> Item:
    """Return a clip's extracted frames in their order and its sound; `about` says how many frames it has.

    Of more than `keep` frames only those that are shown are named, evenly spaced, and those that are missing.

    Args:
        name: of the item. within: folder of the frames, below `folder`. sound: its WAV file, below `folder`.
    """
    frames = folder / within
    names = frame_files(frames) or ["00001.jpg"]
    there = {path.name for path in frames.iterdir()} if frames.is_dir() else set()
    wanted = kept(names, keep)
    shown = [f"{within}/{one}" for k, one in enumerate(names) if k in wanted or one not in there]
    return Item(name, (*shown, sound), (len(names),))


def _files(folder: Path, within: str = "") -> Iterator[tuple[str, str]]:
    """Yield (folder below `folder`, name) of all files in the order of their paths; links to folders are passed over.

    So a folder of millions of frames is never held in memory as a whole.
    """
    with os.scandir(folder / within) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder, f"{within}/{entry.name}".lstrip("/"))
        elif not entry.is_dir():
            yield within, entry.name


@dataclass
class Scattered:
    """Where clips lie below a folder, by their keys: videos, folders of frames, WAV files.

    The first by path counts; `several` holds those that lie in several videos.
    """

    folder: Path
    videos: dict[Key, str] = field(default_factory=dict)
    frames: dict[Key, str] = field(default_factory=dict)
    sound: dict[Key, str] = field(default_factory=dict)
    several: set[Key] = field(default_factory=set)
    _folded: dict[Key, str] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path) -> Scattered:
        """Look through a folder, however deep. A folder of frames may be called as the video was, `<clip>.mp4`."""
        found = cls(folder)
        for within, name in _files(folder):
            stem, dot, ending = name.rpartition(".")
            ending = dot + ending.lower()
            if ending in PICTURES:
                kind, path = found.frames, within
                last = within.rpartition("/")[2]
                bare, dot, suffix = last.rpartition(".")
                clip = clip_key(bare if dot + suffix.lower() in VIDEOS else last)
            elif ending in VIDEOS or ending == ".wav":
                kind = found.sound if ending == ".wav" else found.videos
                path, clip = f"{within}/{name}".lstrip("/"), clip_key(stem)
            else:
                continue
            if clip is not None:
                if kind is found.videos and clip in kind:
                    found.several.add(clip)
                kind.setdefault(clip, path)
        return found

    def has(self, name: str) -> bool:
        """Tell whether a clip is there, as a video or as frames and sound."""
        clip = clip_key(name)
        return clip in self.videos or (clip in self.frames and clip in self.sound)

    def item(self, name: str, keep: int) -> Item:
        """Return a clip's video, or its frames and the WAV as `frames_item` does.

        Raises:
            DataError: the name is no clip's.
        """
        clip = clip_key(name)
        if clip is None:
            raise DataError(f"the lists name {name!r}", "It is no <YouTube id>_<start>: correct the list")
        if clip in self.videos or (clip not in self.frames and clip not in self.sound):
            return Item(name, (self.videos.get(clip) or self._absent(clip, name),))
        return frames_item(name, self.folder, self.frames.get(clip, name), self.sound.get(clip, f"{name}.wav"), keep)

    def _absent(self, clip: Key, name: str) -> str:
        """Return what a missing video would be called, beside one whose id is in another case where there is one."""
        if not self._folded:
            self._folded = {(video.casefold(), start): path for (video, start), path in self.videos.items()}
        alike = self._folded.get((clip[0].casefold(), clip[1]))
        if alike is None:
            return f"{name}.mp4"
        return str(Path(alike).with_name(clip[0] + Path(alike).name[len(clip[0]) :]))


class FoundParams(ClipParams):
    """How found clips are kept."""

    audio: str = choice("fbank_128", AUDIO, doc="audio front end")
    frames: int = bounded(4, low=1, high=32, doc="most frames kept of a clip, evenly spaced beyond that")


class FoundClips(ClipDataset):
    """A dataset of ten-second clips of YouTube, as videos or as frames and WAV files."""

    class Params(FoundParams):
        pass

    params: Params
    aspect = ASPECT
    modalities = modalities(FoundParams(), ASPECT)  # type: ignore[call-arg]

    def store(self, out: CacheWriter, folder: Path, there: Scattered, names: list[str]) -> None:
        """Decode clips, row k the k-th, and note how many are made of frames and how many lie in several files."""
        items = [there.item(name, self.params.frames) for name in names]
        extracted = sum(bool(item.about) for item in items)
        if extracted:
            out.notes.append(f"{extracted} of {len(items)} clips are made of extracted frames and WAV files")
        several = [name for name in names if clip_key(name) in there.several]
        if several:
            out.notes.append(
                f"{len(several)} clips lie in several files, the first by name is taken ({several[0]}, ...)"
            )
        fill(out, folder, items, self.decode, STORED)

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return a clip's spectrogram and frames."""
        return decode_clip(raw, item, self.params, count=item.about[0] if item.about else 0)
