"""ModelNet40's objects: found in the folders of the official archive or of the shaded images, or read from lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ..dataset import Sample
from ..errors import DataError
from .divide import hold_out_exactly

#: Object -> (class, part), in the order of class and object.
Objects = dict[str, tuple[str, str]]
_NAME = re.compile(r"([a-z_]+)_(\d+)(\.off|\.obj\.shaded_v\d+\.png)?")


def root_of(folder: Path | None, classes: Iterable[str], inner: Sequence[str] = ()) -> Path | None:
    """Return the folder that holds the class folders: this one, or one of some names in it; None where none does."""
    if folder is None or not folder.is_dir():
        return None
    places = [folder, *(folder / name for name in inner)]
    return next((place for place in places if any((place / kind).is_dir() for kind in classes)), None)


def is_shaded(root: Path) -> bool:
    """Tell whether the folders hold pictures, not meshes."""
    return next(root.glob("*/train/*.png"), None) is not None


def in_folders(root: Path, classes: Sequence[str], left_out: Sequence[str] = ()) -> Objects:
    """Return the objects below `root`, and those that their numbers say are missing.

    The objects of a class are numbered from 1 through train and test, so a gap is a missing file; so is what is left
    out on purpose at the end.

    Raises:
        DataError: a class has no objects, or a file has a name of another kind.
    """
    objects: Objects = {}
    for kind in classes:
        there: dict[int, str] = {}
        for part in ("train", "test"):
            for path in sorted((root / kind / part).glob("[!.]*")):
                match = _NAME.fullmatch(path.name)
                if match is None or match[1] != kind:
                    raise DataError(f"{path} is no file of {kind}_NNNN", "Remove it, or unpack the archive again")
                there[int(match[2])] = part
        if not there:
            raise DataError(f"{root / kind} holds no objects", "Unpack the whole archive, or give lists with --lists")
        last = max((number for number, part in there.items() if part == "train"), default=0)
        numbers = {*range(1, max(there) + 1), *_numbers(kind, left_out)}
        for number in sorted(numbers):
            objects[f"{kind}_{number:04d}"] = kind, "train" if number <= last else "test"
    return objects


def _numbers(kind: str, names: Iterable[str]) -> list[int]:
    matches = (_NAME.fullmatch(name) for name in names)
    return [int(match[2]) for match in matches if match is not None and match[1] == kind]


def in_lists(rows: dict[str, list[list[str]]], classes: Sequence[str]) -> Objects:
    """Return the objects of `train.txt` and `test.txt`: rows of (path, label), one picture or mesh of each object.

    Raises:
        DataError: a path of no known class, or an object in both lists.
    """
    found: Objects = {}
    for file, lines in rows.items():
        for path, *_ in lines:
            name = PurePosixPath(path.replace("\\", "/")).name.split(".", 1)[0]
            match = _NAME.fullmatch(name)
            if match is None or match[1] not in classes:
                raise DataError(f"modelnet40: {file} names {path}, of no known class", "Fetch the list again")
            if found.setdefault(name, (match[1], file[:-4])) != (match[1], file[:-4]):
                raise DataError(f"modelnet40: {name} is in train.txt and in test.txt", "Fetch the lists again")
    return dict(sorted(found.items(), key=lambda one: (classes.index(one[1][0]), one[0])))


def samples(objects: Objects, classes: Sequence[str], held: int, seed: int) -> dict[str, list[Sample]]:
    """Return the samples of `official`, and of `official_val` with `held` training objects as validation part."""
    label = [classes.index(kind) for kind, _ in objects.values()]
    train = [row for row, (_, part) in enumerate(objects.values()) if part == "train"]
    chosen = hold_out_exactly([label[row] for row in train], min(held, len(train) // 4), seed)
    val = {row for row, out in zip(train, chosen, strict=True) if out}
    found: dict[str, list[Sample]] = {"official": [], "official_val": []}
    for row, (name, (_, part)) in enumerate(objects.items()):
        for split, where in (("official", part), ("official_val", "val" if row in val else part)):
            found[split].append(Sample(name, where, label[row], (row, row)))
    return found
