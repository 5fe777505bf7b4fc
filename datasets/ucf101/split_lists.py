"""UCF101's lists: its splits, classes and scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mmlbench import DataError
from mmlbench.frontends import lists

#: The official split lists.
LISTS = tuple(f"{part}list0{number}.txt" for number in (1, 2, 3) for part in ("train", "test"))


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
            rows = lists.read_rows(path, " ", 1)
            if not rows:
                raise DataError(f"{path} names nothing", "Fetch the list again")
            lists.once(path, (cells[0] for cells in rows))
            lists.one_number(path, ((PurePosixPath(cells[0]).parent.name, cells[1]) for cells in rows if cells[1:]))
            for cells in rows:
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
