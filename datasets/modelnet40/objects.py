"""ModelNet40's objects: found in the folders of the official archive or of the shaded images, or read from lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from mmlbench import DataError, Sample
from mmlbench.errors import brief
from mmlbench.frontends import lists
from mmlbench.frontends.divide import hold_out_exactly

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


def numbered(counts: str) -> Objects:
    """Return the objects of 'class:train+test ...': each class numbered from 1 through train and test."""
    found: Objects = {}
    for kind, train, test in re.findall(r"(\w+):(\d+)\+(\d+)", counts):
        for number in range(1, int(train) + int(test) + 1):
            found[f"{kind}_{number:04d}"] = kind, "train" if number <= int(train) else "test"
    return found


def check_folders(root: Path, objects: Objects) -> None:
    """Refuse folders that are not those of some objects; single missing files are for `prepare` to list.

    Raises:
        DataError: a class without any object, a file of another name, an object in the folder of the other part.
    """
    for kind in dict.fromkeys(kind for kind, _ in objects.values()):
        empty = True
        for part in ("train", "test"):
            for path in sorted((root / kind / part).glob("[!.]*")):
                match = _NAME.fullmatch(path.name)
                name = f"{match[1]}_{match[2]}" if match else ""
                if objects.get(name) != (kind, part):
                    why = f"belongs to {'/'.join(objects[name])}" if name in objects else f"is no file of {kind}_NNNN"
                    raise DataError(f"{path} {why}", "Unpack the archive again, or give lists with --lists")
                empty = False
        if empty:
            raise DataError(f"{root / kind} holds no objects", "Unpack the whole archive, or give lists with --lists")


def in_lists(rows: dict[str, list[list[str]]], classes: Sequence[str]) -> Objects:
    """Return the objects of `train.txt` and `test.txt`: rows of (path, label), one picture or mesh of each object.

    Raises:
        DataError: a path of no known class, or an object in both lists.
    """
    found: Objects = {}
    for file, lines in rows.items():
        listed = []
        for path, number, *_ in lines:
            parts = PurePosixPath(path.replace("\\", "/")).parts
            name = parts[-1].split(".", 1)[0] if parts else ""
            match = _NAME.fullmatch(name)
            if match is None or match[1] not in classes:
                raise DataError(f"modelnet40: {file} names {brief(path)}, of no known class", "Fetch the list again")
            if len(parts) > 2 and parts[-3] != match[1]:
                what = f"modelnet40: {file} names {brief(path)}, another class's folder"
                raise DataError(what, "Fetch the list again")
            listed.append((name, match[1], number))
            if found.setdefault(name, (match[1], file[:-4])) != (match[1], file[:-4]):
                raise DataError(f"modelnet40: {name} is in train.txt and in test.txt", "Fetch the lists again")
        lists.once(Path(file), (name for name, *_ in listed))
        lists.one_number(Path(file), ((kind, number) for _, kind, number in listed))
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
