"""NVGesture: hand gestures in a car, in colour, optical flow and depth."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmlbench import (
    CacheWriter,
    DataError,
    Dataset,
    DatasetParams,
    Download,
    Listed,
    Modality,
    Sample,
    Split,
    bounded,
    choice,
    register,
)
from mmlbench.decode import video
from mmlbench.decode.fault import Fault
from mmlbench.decode.flow import OFFSET, SCALE, fitted, grey, to_bytes, tvl1
from mmlbench.frontends import lists
from mmlbench.frontends.clips import folder_with, open_raw
from mmlbench.frontends.divide import by_group
from mmlbench.frontends.features import note_shared_groups
from mmlbench.prepare.declared_counts import check_counts
from mmlbench.prepare.items import fill
from mmlbench.prepare.task import PIXELS, Item, Stored

VIDEOS, ANNOTATIONS = "Video_data", "annotations"
#: Version of the lists -> part -> file.
LISTS = {
    version: {part: f"nvgesture_{part}_correct_cvpr2016{end}.lst" for part in ("train", "test")}
    for version, end in (("v2", "_v2"), ("v1", ""))
}
CLASSES = 25
ASPECT = 320 / 240
#: Of the training subjects; which ones is drawn with this seed.
HELD_SHARE, SEED = 1 / 6, 50_161
STORED = {"rgb": PIXELS, "flow": Stored("uint8", SCALE, OFFSET), "depth": PIXELS}
_CLIP = re.compile(r"class_(\d\d)/subject(\d+)_r\d+")
_SENSOR = re.compile(r"(\w+):(\d+):(\d+)")
HOME = (
    "https://research.nvidia.com/publication/"
    "2016-06_online-detection-and-classification-dynamic-hand-gestures-recurrent-3d"
)
HOW = "parts nvGesture_v1.7z.001 and on, linked from that page: join and unpack them by `7z x nvGesture_v1.7z.001`"


@dataclass(frozen=True)
class Clip:
    """A line of a list: 'class_01/subject3_r0', part, class from 0, subject, and frames [start, end) of each file.

    Args:
        sensors: 'color' and 'depth' -> (name of the file without its ending, start, end).
    """

    id: str
    part: str
    label: int
    subject: str
    sensors: dict[str, tuple[str, int, int]]


class NVGestureParams(DatasetParams):
    """How clips are kept."""

    size: int = bounded(240, low=16, high=480, doc="height of the stored frames, in pixels; the width is 4/3 of it")
    frames: int = bounded(
        8, low=1, high=32, doc="frames kept of a gesture, evenly spaced; flow from each to the next"
    )
    labels: str = choice("v2", tuple(LISTS), doc="which of the two official pairs of lists")


def modalities(params: NVGestureParams) -> tuple[Modality, ...]:
    """Return the modalities: frames of one gesture in their order are the views of each."""
    size, views = (params.size, round(params.size * ASPECT)), params.frames
    return (
        Modality("rgb", (3, *size), "image", views, ASPECT),
        Modality("flow", (2, *size), "flow", views, ASPECT),
        Modality("depth", (1, *size), "image", views, ASPECT),
    )


@register
class NVGesture(Dataset):
    """NVGesture: 1,532 clips of 25 hand gestures of 20 people in a car; colour, TV-L1 optical flow and depth.

    The lists say which frames of a video are the gesture (80 of each). Of these `frames` evenly spaced ones are kept
    of both videos, and the flow from each colour frame to the next one of the video is computed at the stored size,
    8 bit over -20..20 pixels a frame. Published codes read all 80 frames into a 3-D network.

    `official` should have no subject in both parts; a note says so where it has. `official_val` holds a sixth of the
    training subjects out. Labels are those of the lists, which differ from the folder's number in places.
    Source: Molchanov et al., CVPR 2016; lists as in breadbread1984/R3DCNN @e5e8ed4.
    """

    Params = NVGestureParams
    params: NVGestureParams
    modalities = modalities(NVGestureParams())  # type: ignore[call-arg]
    class_names = tuple(f"class_{k:02d}" for k in range(1, CLASSES + 1))
    splits = {
        "official": Split("the lists", {"train": 1050, "test": 482}, "subject"),
        "official_val": Split(
            "official, a sixth of the training subjects held out",
            {"train": 875, "val": 175, "test": 482},
            "subject",
            exact=False,
        ),
    }
    licence = "not stated in a source at hand"
    citation = "P. Molchanov et al., Online Detection and Classification of Dynamic Hand Gestures, CVPR 2016"
    origin = "the project's page of NVIDIA Research: Video_data/*/*/sk_color.avi, sk_depth.avi and two lists"
    needs_raw = True
    downloads = (
        Download(VIDEOS, HOME, how=HOW, also=(f"*/{VIDEOS}",)),
        *(
            Download(name, HOME, how="with the videos", also=(f"*/{name}", f"*/*/{name}"))
            for name in LISTS["v2"].values()
        ),
    )

    def __init__(self, params: NVGestureParams | None = None) -> None:
        super().__init__(params)
        self.modalities = modalities(self.params)

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, pick the frames, compute the flow, write the splits."""
        folder = open_raw(raw, out, (VIDEOS,))
        where = out.options.lists or _lists(folder, self._names())
        clips = read_clips(where, self._names(), 2 * self.params.frames)
        lists.note(out, where, self._names().values(), {})
        if out.options.lists is not None:
            files = self._names().values()
            out.use_other_lists({name: hashlib.sha256((where / name).read_bytes()).hexdigest() for name in files})
        samples = samples_of(clips)
        check_counts(out, samples, where)
        note_shared_groups(out, samples["official"], "subject")
        fill(out, folder, [self._item(clip) for clip in clips], self.decode, STORED)
        for split, found in samples.items():
            out.split(split, found)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the splits where the raw folder holds the lists."""
        folder = folder_with(raw, (VIDEOS,))
        if folder is None or not (where := _lists(folder, self._names())).joinpath(self._names()["train"]).exists():
            return {}
        found = samples_of(read_clips(where, self._names(), 2 * self.params.frames))
        hashes = lists.hashes(where, self._names().values(), {})
        return {split: Listed(samples, hashes) for split, samples in found.items()}

    def _names(self) -> dict[str, str]:
        return LISTS[self.params.labels]

    def _item(self, clip: Clip) -> Item:
        files = tuple(f"{VIDEOS}/{clip.id}/{name}.avi" for name, _, _ in clip.sensors.values())
        spans = tuple(one for _, start, end in clip.sensors.values() for one in (start, end))
        return Item(clip.id, files, (*spans, self.params.frames))

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return a clip's frames and flow."""
        size = self.modalities[0].shape[1:]
        start, end, depth_start, depth_end, frames = item.about
        places = evenly(start, end, frames)
        colour = picked(raw / item.files[0], sorted({*places, *(k + 1 for k in places)}))
        shown = {k: fitted(frame, *size) for k, frame in colour.items()}
        depth = picked(raw / item.files[1], evenly(depth_start, depth_end, frames))
        moved = [tvl1([grey(shown[k]), grey(shown[k + 1])])[0] for k in places]
        return {
            "rgb": np.stack([shown[k].transpose(2, 0, 1) for k in places]),
            "flow": to_bytes(np.stack(moved)),
            "depth": np.stack([fitted(grey(frame), *size)[None] for frame in depth.values()]),
        }


def evenly(start: int, end: int, count: int) -> list[int]:
    """Return `count` places in [start, end), each in the middle of an equal stretch."""
    return [start + (2 * k + 1) * (end - start) // (2 * count) for k in range(count)]


def picked(path: Path, places: list[int]) -> dict[int, np.ndarray]:
    """Return place -> frame (h, w, 3) of a video.

    Raises:
        Fault: as `video.pick_frames`; the video ends before the last place.
    """
    wanted = set(places)
    found = video.pick_frames(path, lambda place, time, rate: place in wanted)
    if len(found) < len(places):
        raise Fault(path, f"is too short: it has no frame {places[len(found)]}, which the list calls for")
    return dict(zip(places, found, strict=True))


def _lists(folder: Path, names: dict[str, str]) -> Path:
    """Return the folder of the lists: beside the videos, or `annotations` there."""
    inner = folder / ANNOTATIONS
    return inner if not (folder / names["train"]).exists() and inner.is_dir() else folder


def read_clips(folder: Path, names: dict[str, str], shortest: int) -> list[Clip]:
    """Return the clips of both lists, in the order of their ids.

    Args:
        shortest: frames that a gesture must have.

    Raises:
        DataError: a list is missing or malformed, or names a clip twice; with the line.
    """
    found: dict[str, Clip] = {}
    for part, name in names.items():
        path = folder / name
        for cells in lists.read_rows(path, " ", 4):
            clip = _clip(path, part, [cell for cell in cells if cell], shortest)
            first = found.setdefault(clip.id, clip)
            if first is not clip:
                where = "twice" if first.part == part else "in train and in test"
                raise DataError(f"{path}: {clip.id} is {where}", "Fetch the lists again")
        if not any(clip.part == part for clip in found.values()):
            raise DataError(f"{path} names nothing", "Fetch the list again")
    return [found[name] for name in sorted(found)]


def _clip(path: Path, part: str, cells: list[str], shortest: int) -> Clip:
    """Return the clip of a line: 'path:./Video_data/CLIP depth:FILE:START:END color:FILE:START:END ... label:N'."""
    facts = dict(cell.partition(":")[::2] for cell in cells)
    line, fix = " ".join(cells)[:80], "Fix the line, or fetch the list again"
    name = facts.get("path", "").replace("\\", "/").removeprefix("./").removeprefix(f"{VIDEOS}/").strip("/")
    match = _CLIP.fullmatch(name)
    if match is None:
        raise DataError(f"{path}: {line!r} names no class_NN/subjectN_rN", fix)
    label = facts.get("label", "")
    if not label.isdecimal() or not 1 <= int(label) <= CLASSES:
        raise DataError(f"{path}: {name} has the label {label!r}, not 1 to {CLASSES}", fix)
    sensors = {}
    for sensor in ("color", "depth"):
        span = _SENSOR.fullmatch(facts.get(sensor, ""))
        if span is None:
            raise DataError(f"{path}: {name} has no {sensor}:FILE:START:END", fix)
        start, end = int(span[2]), int(span[3])
        if end - start < shortest or end > 100_000:
            what = f"{path}: {name} has the frames {start} to {end} of {sensor}, and {shortest} are needed"
            raise DataError(what, "Fix the line, or say --dataset-set frames=N")
        sensors[sensor] = (span[1], start, end)
    return Clip(name, part, int(label) - 1, f"subject{match[2]}", sensors)


def samples_of(clips: list[Clip]) -> dict[str, list[Sample]]:
    """Return the samples of `official`, and of `official_val` with a sixth of the training subjects held out."""
    train = [clip for clip in clips if clip.part == "train"]
    shares = {"train": 1 - HELD_SHARE, "val": HELD_SHARE}
    parts = by_group([clip.label for clip in train], [clip.subject for clip in train], shares, SEED)
    held = {clip.id: part for clip, part in zip(train, parts, strict=True)}
    found: dict[str, list[Sample]] = {"official": [], "official_val": []}
    for row, clip in enumerate(clips):
        for split, part in (("official", clip.part), ("official_val", held.get(clip.id, clip.part))):
            found[split].append(Sample(clip.id, part, clip.label, (row,) * 3, clip.subject))
    return found
