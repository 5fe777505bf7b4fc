"""Kinetics-Sounds in 34 class folders: frames and WAV files, as DGL reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlbench import CacheWriter, DataError, Download, Listed, Sample, Split, register
from mmlbench.frontends.clips import STORED, open_raw
from mmlbench.frontends.divide import hold_out
from mmlbench.frontends.scattered import FoundClips, clip_key, frames_item
from mmlbench.prepare.items import fill
from mmlbench.prepare.task import Item

CLASSES = 34
#: Part -> folders of the frames and of the sound, with a folder for each class.
LAYOUT = {
    "train": ("visual/train_img/Image-01-FPS", "audio/train"),
    "test": ("visual/val_img/Image-01-FPS", "audio/test"),
}
VAL_SHARE, SEED = 0.1, 50_701
DGL = "https://github.com/shicaiwei123/ICCV2025-GDL"
HOW = "its README links processed folders; or sort frames and WAV files of your own clips into such folders"


@register
class KineticsSounds34(FoundClips):
    """Kinetics-Sounds in 34 class folders; audio and video. Another data set than the 31 classes of kinetics_sounds.

    No list is published with the folders: which clips there are is what lies there, so no count is asserted, and the
    declared ones are about those that papers quote. A clip that has frames and no WAV, or a WAV and no frames, stops
    `prepare`. Classes are the folders in the order of their names; the manifest has the names. DGL's loader pairs
    frames and sound by their places in two lists, and leaves clips of fewer than 3 frames out of one of them.

    Splits: `folders` as they lie, no validation part; `folders_val` holds out a tenth of train, class by class.
    Source: Arandjelovic and Zisserman, ICCV 2017; layout: dataset/KSDataset.py of shicaiwei123/ICCV2025-GDL.
    """

    class_names = tuple(f"folder {k:02d}" for k in range(CLASSES))
    splits = {
        "folders": Split("as the folders lie", {"train": 15000, "test": 1900}, "video", exact=False),
        "folders_val": Split(
            "the folders, a tenth of train held out",
            {"train": 13500, "val": 1500, "test": 1900},
            "video",
            exact=False,
        ),
    }
    licence = "annotations CC BY 4.0; videos from YouTube, each under its own terms"
    citation = "R. Arandjelovic and A. Zisserman, Look, Listen and Learn, ICCV 2017; W. Kay et al., arXiv:1705.06950"
    origin = "34 class folders of frames and WAV files, as the repository shicaiwei123/ICCV2025-GDL reads them"
    needs_raw = True
    downloads = tuple(Download(top, DGL, how=HOW, licence="each video's own", also=(f"*/{top}",))
                      for top in ("visual", "audio"))  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Look through the folders, decode the clips, write the splits."""
        folder = open_raw(raw, out, [LAYOUT["train"][0]])
        classes, clips = read_folders(folder)
        out.raw["classes"] = classes
        fill(out, folder, [self._item(folder, clip) for clip in clips], self.decode, STORED)
        for split, found in _samples(classes, clips).items():
            out.split(split, found)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return what lies in the folders, where the raw folder has them."""
        if raw is None or not (raw / LAYOUT["train"][0]).is_dir():
            return {}
        return {split: Listed(found) for split, found in _samples(*read_folders(raw)).items()}

    def _item(self, folder: Path, clip: tuple[str, str, str]) -> Item:
        """Return a clip's frames that are shown, and those that are missing, and its WAV."""
        part, kind, name = clip
        frames, sound = (f"{top}/{kind}/{name}" for top in LAYOUT[part])
        return frames_item("/".join(clip), folder, frames, f"{sound}.wav", self.params.frames)


def read_folders(folder: Path) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Return the class folders in the order of their names, and (part, class, clip) of all clips, sorted.

    Raises:
        DataError: a folder is missing; there are other than 34 classes, or one of them lacks in a folder.
    """
    tops = [top for pair in LAYOUT.values() for top in pair]
    within = {top: _names(folder / top) for top in tops}
    classes = sorted(set().union(*within.values()))
    for top, names in within.items():
        lacking = [kind for kind in classes if kind not in names]
        if lacking:
            what = f"{folder / top} has no folder {lacking[0]!r}, which another part or modality has"
            raise DataError(what, "Each class has a folder of one name in all four places")
    if len(classes) != CLASSES:
        what = f"kinetics_sounds_34: {folder} has {len(classes)} class folders instead of {CLASSES}"
        raise DataError(what, "Take the 34 folders; the 31 classes of the lists are the dataset kinetics_sounds")
    clips = set()
    for part, (frames, sound) in LAYOUT.items():
        for kind in classes:
            clips |= {(part, kind, path.name) for path in (folder / frames / kind).iterdir() if path.is_dir()}
            clips |= {(part, kind, path.stem) for path in (folder / sound / kind).iterdir() if path.suffix == ".wav"}
    return classes, sorted(clips)


def _names(folder: Path) -> set[str]:
    """Return the folders in a folder.

    Raises:
        DataError: it is not there.
    """
    if not folder.is_dir():
        raise DataError(f"kinetics_sounds_34: no folder {folder}", "See `mmlbench fetch kinetics_sounds_34`")
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _samples(classes: list[str], clips: list[tuple[str, str, str]]) -> dict[str, list[Sample]]:
    """Return split -> samples in the order of the clips; their group is the YouTube video where the name tells it."""
    label = [classes.index(kind) for _, kind, _ in clips]
    train = [k for k, (part, _, _) in enumerate(clips) if part == "train"]
    held = set(np.array(train)[hold_out([label[k] for k in train], VAL_SHARE, SEED)].tolist())
    made: dict[str, list[Sample]] = {"folders": [], "folders_val": []}
    for k, (part, _, name) in enumerate(clips):
        found = clip_key(name)
        video = found[0] if found else name
        made["folders"].append(Sample("/".join(clips[k]), part, label[k], (k, k), video))
        val = "val" if k in held else part
        made["folders_val"].append(Sample("/".join(clips[k]), val, label[k], (k, k), video))
    return made
