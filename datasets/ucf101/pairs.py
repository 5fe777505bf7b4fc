"""UCF101's pair of modalities: its lists, which frames a recipe can draw, how flow and frames are stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mmlbench import DataError, Sample
from mmlbench.decode import video
from mmlbench.decode.fault import Fault
from mmlbench.decode.flow import cover, fitted, grey, rescaled, to_bytes, tvl1
from mmlbench.decode.image import read_image
from mmlbench.frontends import lists
from mmlbench.prepare.file_checks import spelt

#: Seed that the released loaders set before every draw, so that a clip's length alone decides.
SEED = 999
#: A clip with fewer flow frames is too short for any published recipe.
LEAST = 10
#: The official split lists.
LISTS = tuple(f"{part}list0{number}.txt" for number in (1, 2, 3) for part in ("train", "test"))
_FRAME = re.compile(r"frame(\d{6})\.jpg")


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


def identify(path: str) -> tuple[str, str, str]:
    """Return (id, class, scene) of a line of a list, 'Archery/v_Archery_g08_c01.avi'; scenes are within a class."""
    name = PurePosixPath(path)
    return name.stem, name.parent.name, f"{name.parent.name}_{name.stem.split('_')[-2]}"


def read_splits(folder: Path) -> dict[str, dict[str, str]]:
    """Return split -> path -> part from `trainlist01.txt` ... `testlist03.txt`, with `split1_val` made of split 1.

    Its validation part is what no test list names: a quarter of the groups of a class.

    Raises:
        DataError: a list is missing or malformed, or names a video in train and in test.
    """
    found: dict[str, dict[str, str]] = {}
    for number in (1, 2, 3):
        parts: dict[str, str] = {}
        for part in ("train", "test"):
            path = folder / f"{part}list0{number}.txt"
            for cells in lists.read_rows(path, " ", 1):
                if len(PurePosixPath(cells[0]).parts) < 2 or cells[0].count("_") < 3:
                    raise DataError(f"{path}: {cells[0]!r} is no Class/v_Class_gNN_cNN.avi", "Fetch the list again")
                if parts.setdefault(cells[0], part) != part:
                    raise DataError(f"{folder}: {cells[0]} is in train and in test", "Fetch the lists again")
        found[f"split{number}"] = parts
    scenes = {identify(path)[2] for parts in found.values() for path, part in parts.items() if part == "test"}
    held = {path: "val" for path in found["split1"] if identify(path)[2] not in scenes}
    return {"split1": found["split1"], "split1_val": found["split1"] | held} | {
        name: found[name] for name in ("split2", "split3")
    }


def is_labelled(path: Path, classes: Sequence[str], sha256: str) -> bool:
    """Tell whether a test list, with the numbers of its classes (from 1) behind its lines, has a hash.

    So DI-MML holds the first one (`testlist001.txt`); the order of the lines is left out of it.
    """
    number = {kind: k for k, kind in enumerate(classes, 1)}
    rows = [(number.get(identify(cells[0])[1], 0), cells[0]) for cells in lists.read_rows(path, " ", 1)]
    texts = ("".join(f"{name} {k}\n" for k, name in order) for order in (rows, sorted(rows)))
    return any(hashlib.sha256(text.encode()).hexdigest() == sha256 for text in texts)


def samples(splits: dict[str, dict[str, str]], classes: Sequence[str]) -> dict[str, list[Sample]]:
    """Return split -> samples, without rows; the class is that of the folder.

    Raises:
        DataError: the folder is of no known class.
    """
    found: dict[str, list[Sample]] = {}
    for split, parts in splits.items():
        for path, part in sorted(parts.items()):
            name, kind, scene = identify(path)
            if kind not in classes:
                raise DataError(f"ucf101: the lists name {path}, of no known class", "Fetch the lists again")
            found.setdefault(split, []).append(Sample(name, part, classes.index(kind), (), scene))
    return found


def published(folder: Path, names: tuple[str, str], video_id: str, request: tuple[int, int, bool]) -> tuple[str, ...]:
    """Return the published files of one clip: its u frames, its v frames, its pictures, below `folder`.

    The length is that of the u frames (their last number), as in the released loaders. Folders are found in any
    case: the published sets disagree about HandstandPushups and HandStandPushups.

    Args:
        names: of the folders of pictures and of flow. request: (flow frames, pictures, released), see `plan`.
    """
    rgb, u, v = (spelt(folder / top, video_id) or video_id for top in (names[0], f"{names[1]}/u", f"{names[1]}/v"))
    there = folder / names[1] / "u" / u
    numbers = (_FRAME.fullmatch(path.name) for path in there.iterdir()) if there.is_dir() else ()
    length = max((int(match[1]) for match in numbers if match), default=0)  # a gap is then a missing file
    places = plan(length, *request)
    flow, shown = places if places is not None else (range(request[0]), [0])  # too short: the missing one is named
    return (
        *(f"{names[1]}/u/{u}/frame{k + 1:06d}.jpg" for k in flow),
        *(f"{names[1]}/v/{v}/frame{k + 1:06d}.jpg" for k in flow),
        *(f"{names[0]}/{rgb}/frame{k + 1:06d}.jpg" for k in shown),
    )
