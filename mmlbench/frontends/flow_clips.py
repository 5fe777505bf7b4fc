"""What datasets of actions share: optical flow and colour frames of a clip, from videos or from published frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..dataset import CacheWriter, Dataset, Sample
from ..decode import video
from ..decode.fault import Fault
from ..decode.flow import OFFSET, SCALE, cover, fitted, grey, rescaled, to_bytes, tvl1
from ..decode.image import read_image
from ..errors import DataError
from ..modality import Modality
from ..params import DatasetParams, bounded, choice
from ..prepare.file_checks import spelt
from ..prepare.items import fill
from ..prepare.task import PIXELS, Item, Stored

#: Folders of the published pictures and of the published flow (Feichtenhofer et al., CVPR 2016).
PUBLISHED = FRAMES, FLOW = "jpegs_256", "tvl1_flow"
PUBLIC = "https://github.com/feichtenhofer/twostreamfusion"
#: How the two modalities are kept.
STORED = {"flow": Stored("uint8", SCALE, OFFSET), "rgb": PIXELS}
#: Seed that the released loaders set before every draw, so that a clip's length alone decides.
SEED = 999
#: A clip with fewer flow frames is too short for any published recipe.
LEAST = 10
_FRAME = re.compile(r"frame(\d{6})\.jpg")


# ---- which frames of a clip ------------------------------------------------------------------------------------
def window(length: int, count: int, released: bool) -> int:
    """Return the first of `count` neighbouring flow frames of a video with `length` of them.

    DI-MML: `seed(999)`, then `randint(0, length - 10)` in training, the same clip in every epoch; the middle one,
    `length // 2 - 5`, for evaluation.

    Args:
        released: as DI-MML draws it in training; else the middle.
    """
    if length <= count:
        return 0
    if released:
        return int(np.random.RandomState(SEED).randint(0, length - count))
    return max(0, length // 2 - count // 2)


def chosen(count: int, wanted: int) -> list[int]:
    """Return which of `count` neighbouring frames are shown, drawn with seed 999 and sorted, as DI-MML does.

    Where `wanted` is as many or more, all of them.
    """
    if wanted >= count:
        return list(range(count))
    return sorted(np.random.RandomState(SEED).choice(count, wanted, replace=False).tolist())


def plan(length: int, frames: int, rgb: int, released: bool) -> tuple[range, list[int]] | None:
    """Return the places (from 0) of the flow and of the RGB frames to keep; None where the clip is too short."""
    if length < min(frames, LEAST):
        return None
    start = window(length, frames, released)
    kept = range(start, start + min(frames, length))
    return kept, [start + k for k in chosen(len(kept), rgb)]


# ---- a clip's arrays -------------------------------------------------------------------------------------------
def from_video(path: Path, frames: int, rgb: int, released: bool, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return flow (n, 2, h, w) and RGB (m, 3, h, w) of a video, uint8; only the wanted flow is computed.

    Flow k leads from frame k to frame k + 1, both at the stored size, so a video of N frames has N - 1.

    Raises:
        Fault: as `video.pick_frames`; the clip is too short.
    """
    length = video.count(path) - 1
    places = plan(length, frames, rgb, released)
    if places is None:
        raise Fault(path, f"is too short: {length + 1} frames, {min(frames, LEAST) + 1} are needed")
    flow, shown = places
    wanted = range(flow.start, flow.stop + 1)
    found = [fitted(frame, *size) for frame in video.pick_frames(path, lambda place, time, rate: place in wanted)]
    pictures = np.stack([found[k - flow.start].transpose(2, 0, 1) for k in shown])
    return {"flow": to_bytes(tvl1([grey(frame) for frame in found])), "rgb": pictures}


def from_frames(raw: Path, files: tuple[str, ...], flows: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the same from published frames: `files` are the u frames, the v frames (`flows` each), the pictures.

    Raises:
        Fault: a frame can't be read.
    """
    planes = []
    for group in (files[:flows], files[flows : 2 * flows]):
        pictures = [read_image(raw / name, "L") for name in group]
        planes.append([rescaled(fitted(one, *size), cover(one.shape, *size)) for one in pictures])
    rgb = [fitted(read_image(raw / name), *size).transpose(2, 0, 1) for name in files[2 * flows :]]
    return {"flow": np.stack(planes, axis=1), "rgb": np.stack(rgb)}


def published(folder: Path, video_id: str, request: tuple[int, int, bool]) -> tuple[str, ...]:
    """Return the published files of one clip: its u frames, its v frames, its pictures, below `folder`.

    The length is that of the u frames (their last number), as in the released loaders. Folders are found in any
    case: UCF101's published sets disagree about HandstandPushups and HandStandPushups.

    Args:
        request: (flow frames, pictures, released), see `plan`.
    """
    rgb, u, v = (spelt(folder / top, video_id) or video_id for top in (FRAMES, f"{FLOW}/u", f"{FLOW}/v"))
    there = folder / FLOW / "u" / u
    numbers = (_FRAME.fullmatch(path.name) for path in there.iterdir()) if there.is_dir() else ()
    length = max((int(match[1]) for match in numbers if match), default=0)  # a gap is then a missing file
    places = plan(length, *request)
    flow, shown = places if places is not None else (range(request[0]), [0])  # too short: the missing one is named
    return (
        *(f"{FLOW}/u/{u}/frame{k + 1:06d}.jpg" for k in flow),
        *(f"{FLOW}/v/{v}/frame{k + 1:06d}.jpg" for k in flow),
        *(f"{FRAMES}/{rgb}/frame{k + 1:06d}.jpg" for k in shown),
    )


# ---- lists -----------------------------------------------------------------------------------------------------
#: Path of a video below the folder of videos -> (id, class, what clips of one source have in common).
Identify = Callable[[str], tuple[str, str, str]]


def read_samples(
    dataset: str, splits: Mapping[str, Mapping[str, str]], classes: Sequence[str], identify: Identify
) -> dict[str, list[Sample]]:
    """Return split -> samples in the order of their paths, without rows.

    Args:
        dataset: for messages. splits: split -> path -> part.

    Raises:
        DataError: a path is of no known class.
    """
    found: dict[str, list[Sample]] = {}
    for split, parts in splits.items():
        for path, part in sorted(parts.items()):
            name, kind, group = identify(path)
            if kind not in classes:
                raise DataError(f"{dataset}: the lists name {path}, of no known class", "Fetch the lists again")
            found.setdefault(split, []).append(Sample(name, part, classes.index(kind), (), group))
    return found


# ---- a dataset of such clips -----------------------------------------------------------------------------------
class FlowClipDataset(Dataset):
    """A dataset of the modalities flow and rgb; each of its splits may train on what another one tests.

    Where training shows other frames of a clip than evaluation does, a clip that trains in one split and tests in
    another has two rows, `NAME+train` and `NAME`.
    """

    class Params(DatasetParams):
        size: int = bounded(256, low=16, high=512, doc="height of the stored frames, in pixels")
        clip: str = choice("released", ("released", "middle"), doc="training clips by seed 999, or the middle ones")
        frames: int = bounded(10, low=1, high=2000, doc="flow frames kept of a clip; 2000 keeps all of every video")
        rgb_frames: int = bounded(1, low=1, high=2000, doc="colour frames kept of these")

    params: Params
    modalities = (
        Modality("flow", (2, 256, 340), "flow", views=10, aspect=340 / 256),
        Modality("rgb", (3, 256, 340), "image", aspect=340 / 256),
    )
    #: Names that the folder of videos may have, below the raw folder.
    videos: ClassVar[tuple[str, ...]]

    def __init__(self, params: Params | None = None) -> None:
        super().__init__(params)
        flow, rgb = type(self).modalities
        height, width = self._size = (self.params.size, round(self.params.size * 340 / 256))
        views = (self.params.frames, min(self.params.rgb_frames, self.params.frames))
        self.modalities = (
            Modality("flow", (2, height, width), "flow", views[0], flow.aspect),
            Modality("rgb", (3, height, width), "image", views[1], rgb.aspect),
        )

    def released(self, part: str) -> bool:
        """Tell whether a part has rows of its own, the clips that the released loader draws in training."""
        return part == "train" and self.params.clip == "released" and self.params.frames < 2000

    def store(
        self, out: CacheWriter, folder: Path, samples: Mapping[str, list[Sample]], paths: Mapping[str, str]
    ) -> None:
        """Decode the clips of all splits and write the splits.

        Args:
            folder: with the videos or the published frames. samples: split -> its samples, without rows.
            paths: id -> the video below the folder of videos.
        """
        keys = sorted({(one.id, self.released(one.part)) for found in samples.values() for one in found})
        items = [self._item(folder, paths[name], name, released) for name, released in keys]
        fill(out, folder, items, self.decode, STORED)
        row = {key: k for k, key in enumerate(keys)}
        for split, found in samples.items():
            out.split(split, [replace(s, rows=(row[s.id, self.released(s.part)],) * 2) for s in found])

    def _item(self, folder: Path, path: str, name: str, released: bool) -> Item:
        request = (self.params.frames, self.params.rgb_frames, released)
        own = name + ("+train" if released else "")
        for top in self.videos:
            if (folder / top).is_dir():
                return Item(own, (f"{top}/{path}",), request)
        return Item(own, published(folder, Path(path).stem, request))

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return a clip's flow and colour frames."""
        if item.about:
            frames, rgb, released = item.about
            return from_video(raw / item.files[0], frames, rgb, released, self._size)
        return from_frames(raw, item.files, sum(f"{FLOW}/u/" in name for name in item.files), self._size)
