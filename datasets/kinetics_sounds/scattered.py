"""Clips that lie anywhere below a folder: videos, or frames and WAV files, as people keep what has left the web."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmlbench import DataError
from mmlbench.frontends.clips import PICTURES, frame_files
from mmlbench.prepare.task import Item

VIDEOS = (".mp4", ".mkv", ".webm", ".avi")
#: (id of a video, first second of the clip).
Key = tuple[str, int]


@dataclass
class Scattered:
    """Where clips lie below a folder, by their keys: videos, folders of frames, WAV files.

    The first by path counts; `several` holds those that lie in several videos.
    """

    folder: Path
    key: Callable[[str], Key | None]
    videos: dict[Key, str] = field(default_factory=dict)
    frames: dict[Key, str] = field(default_factory=dict)
    sound: dict[Key, str] = field(default_factory=dict)
    several: set[Key] = field(default_factory=set)
    _folded: dict[Key, str] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path, key: Callable[[str], Key | None]) -> Scattered:
        """Look through a folder, however deep.

        Args:
            key: name of a file (without its ending) or folder of frames -> the clip's key, None if it is no clip's.
        """
        found = cls(folder, key)
        for path in sorted(folder.rglob("*")):
            ending = path.suffix.lower()
            if ending in PICTURES:
                kind, path = found.frames, path.parent
                clip = key(path.name)
            elif ending in VIDEOS or ending == ".wav":
                kind = found.sound if ending == ".wav" else found.videos
                clip = key(path.stem)
            else:
                continue
            if clip is not None:
                if kind is found.videos and clip in kind:
                    found.several.add(clip)
                kind.setdefault(clip, str(path.relative_to(folder)))
        return found

    def item(self, name: str, keep: int) -> Item:
        """Return a clip's video, or its frames in their order and the WAV (`about` then says how many frames).

        Of more than `keep` frames only those that are shown are named, evenly spaced, and those that are missing.

        Raises:
            DataError: the name is no clip's.
        """
        clip = self.key(name)
        if clip is None:
            raise DataError(f"the lists name {name!r}", "It is no <YouTube id>_<start>: correct the list")
        if clip in self.videos or (clip not in self.frames and clip not in self.sound):
            return Item(name, (self.videos.get(clip) or self._absent(clip, name),))
        within = self.frames.get(clip, name)
        names = frame_files(self.folder / within) or ["00001.jpg"]
        there = {path.name for path in (self.folder / within).iterdir()} if clip in self.frames else set()
        kept = range(len(names)) if len(names) <= keep else [k * len(names) // keep for k in range(keep)]
        shown = [f"{within}/{one}" for k, one in enumerate(names) if k in kept or one not in there]
        return Item(name, (*shown, self.sound.get(clip, f"{name}.wav")), (len(names),))

    def _absent(self, clip: Key, name: str) -> str:
        """Return what a missing video would be called, beside one whose id is in another case where there is one."""
        if not self._folded:
            self._folded = {(video.casefold(), start): path for (video, start), path in self.videos.items()}
        alike = self._folded.get((clip[0].casefold(), clip[1]))
        if alike is None:
            return f"{name}.mp4"
        return str(Path(alike).with_name(clip[0] + Path(alike).name[len(clip[0]) :]))
