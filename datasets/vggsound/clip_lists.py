"""VGGSound's lists: `vggsound.csv`, or a list of each part; labels have commas, quoted or not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from mmlbench import DataError, Sample
from mmlbench.errors import nearest
from mmlbench.frontends.scattered import clip_key

SEED, TENTH = "50_801", 10
FIX = "Fix the line, or fetch the list again"


class Clip(NamedTuple):
    """A line of a list."""

    name: str
    label: str
    part: str


def canonical(name: str) -> str:
    """Return a clip's name with six digits, `<YouTube id>_000030`, as all lists and folders mean it; '' for none."""
    found = clip_key(PurePosixPath(name).stem if name.endswith(".mp4") else name)
    return f"{found[0]}_{found[1]:06d}" if found else ""


def read_whole(rows: Sequence[Sequence[str]], classes: Sequence[str]) -> list[Clip]:
    """Return the clips of `vggsound.csv`: YouTube id, first second, label, train or test.

    Raises:
        DataError: a line is of another form, or has an unknown class.
    """
    found = []
    for cells in rows:
        name = canonical(f"{cells[0]}_{cells[1]}") if len(cells) > 1 else ""
        if len(cells) < 4 or not name or cells[-1] not in ("train", "test"):
            what = f"vggsound: vggsound.csv has the line {','.join(cells)!r}"
            raise DataError(what, f"A line is YouTube id, seconds, label, train or test. {FIX}")
        found.append(Clip(name, _label(", ".join(cells[2:-1]), classes, "vggsound.csv"), cells[-1]))
    return found


def read_part(rows: Sequence[Sequence[str]], classes: Sequence[str], file: str) -> list[Clip]:
    """Return the clips of `train.csv` or `test.csv`: file of the clip, label.

    Raises:
        DataError: as `read_whole`.
    """
    found = []
    for cells in rows:
        name = canonical(cells[0])
        if not name:
            raise DataError(f"vggsound: {file} has the line {','.join(cells)!r}", f"A line is clip.mp4, label. {FIX}")
        found.append(Clip(name, _label(", ".join(cells[1:]), classes, file), file.partition(".")[0]))
    return found


def _label(label: str, classes: Sequence[str], file: str) -> str:
    if label not in classes:
        raise DataError(f"vggsound: {file} names the class {label!r}", nearest(label, classes))
    return label


def join(train: Sequence[Clip], test: Sequence[Clip]) -> list[Clip]:
    """Return all clips in the order of their names; of `vggsound.csv` the test lines must be the test list's.

    Args:
        train: of `train.csv` or `vggsound.csv`. test: of `test.csv`.

    Raises:
        DataError: a clip stands twice or in both parts; the two lists name other test clips.
    """
    own = {clip.name: clip for clip in train if clip.part == "test"}
    wanted = {clip.name: clip for clip in test}
    other = sorted(name for name in own.keys() | wanted.keys() if own.get(name) != wanted.get(name))
    if own and other:
        what = f"vggsound: vggsound.csv and test.csv differ in {len(other)} test clips, such as {other[0]}"
        raise DataError(what, "Fetch vggsound.csv again, or give both as lists of your own with --lists")
    clips = sorted([*(clip for clip in train if clip.part == "train"), *test])
    for one, following in pairwise(clips):
        if one.name == following.name:
            where = f"in {one.part} and in {following.part}" if one.part != following.part else f"twice in {one.part}"
            raise DataError(f"vggsound: {one.name} stands {where}", "Fetch the lists again")
    return clips


def held_out(video: str) -> bool:
    """Tell whether a training video validates in `official_val`: one in ten, by a hash of its id.

    So it does not depend on which other videos are listed or still there.
    """
    return int(hashlib.sha256(f"{SEED}:{video}".encode()).hexdigest(), 16) % TENTH == 0


def samples(clips: Sequence[Clip], classes: Sequence[str]) -> dict[str, list[Sample]]:
    """Return split -> samples in the order of the clips; their group is the YouTube video."""
    number = {name: k for k, name in enumerate(classes)}
    made: dict[str, list[Sample]] = {"official": [], "official_val": []}
    for k, clip in enumerate(clips):
        video = clip.name[:11]
        val = "val" if clip.part == "train" and held_out(video) else clip.part
        for split, part in (("official", clip.part), ("official_val", val)):
            made[split].append(Sample(clip.name, part, number[clip.label], (k, k), video))
    return made
