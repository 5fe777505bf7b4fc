"""HMDB51's lists: split 1 as it is shipped, and the official files, one a class, of its clips and their parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mmlbench import DataError
from mmlbench.frontends import lists
from mmlbench.frontends.divide import by_group

#: Share of each class's training clips that `split1_val` holds out, by their sources; and the seed.
SHARES, SEED = {"train": 0.9, "val": 0.1}, 50_601
#: What the number behind a clip says in an official file; clips of 0 are in neither part.
PARTS = {"1": "train", "2": "test", "0": ""}
#: Clips of a class in a part of each split.
COUNTS = {"train": 70, "test": 30}
_LINE = re.compile(r'"?(?P<name>[^/]+?\.avi)"?[\s;,]+"?(?P<number>[012])"?(?:[\s;,]+(?:"")?)*')
#: What follows the source and the class in a clip's name: body, camera, people, view, quality, number.
_ABOUT = r"[fhlu]_(?:cm|nm)_np\d+_(?:fr|ri|le|ba)_(?:goo|med|bad)_\d+"


def file_names(number: int, classes: Iterable[str]) -> list[str]:
    """Return the official files of a split."""
    return [f"{kind}_test_split{number}.txt" for kind in classes]


def identify(path: str) -> tuple[str, str, str]:
    """Return (id, class, source) of 'wave/winKen_wave_u_cm_np1_ba_bad_0.avi'; sources are within a class.

    The id has the class in front: some names begin with #, which lists take for a remark. A clip whose name is of
    another form is a source of its own.
    """
    kind, stem = PurePosixPath(path).parent.name, PurePosixPath(path).stem
    return f"{kind}/{stem}", kind, f"{kind}/{_source(kind, stem) or stem}"


def _source(kind: str, stem: str) -> str:
    """Return the recording that a clip was cut from, '' where its name does not tell."""
    found = re.fullmatch(rf"(.+)_{re.escape(kind)}_{_ABOUT}", stem)
    return found[1] if found else ""


def without_source(paths: Iterable[str]) -> list[str]:
    """Return the videos whose names do not tell their source."""
    return [path for path in paths if not _source(PurePosixPath(path).parent.name, PurePosixPath(path).stem)]


def read_split1(rows: Mapping[str, list[list[str]]], classes: Sequence[str]) -> dict[str, str]:
    """Return video -> part of split 1.

    Args:
        rows: of `train_list1.txt` and `test_list1.txt`: video and number of its class.

    Raises:
        DataError: a line is malformed, or a video is in both.
    """
    found: dict[str, str] = {}
    for file, lines in rows.items():
        lists.once(Path(file), (path for path, *_ in lines))
        for path, number, *_ in lines:
            kind = PurePosixPath(path).parent.name
            if kind not in classes or number != str(classes.index(kind)):
                what = f"hmdb51: {file} gives {path} the class {number!r}"
                raise DataError(what, "A line is CLASS/CLIP.avi and the class's number from 0; fetch the list again")
            if found.setdefault(path, file.partition("_")[0]) != file.partition("_")[0]:
                raise DataError(f"hmdb51: {path} is in train and in test of split 1", "Fetch the lists again")
    return found


def read_class(path: Path) -> dict[str, str]:
    """Return clip -> part ('' for neither) of an official file, `<class>_test_split<n>.txt`.

    Raises:
        DataError: it is missing or no text; a line is no clip and 0, 1 or 2; a clip stands there twice.
    """
    lists.read_rows(path)  # says what is wrong with the file; it leaves out names that begin with #
    found: dict[str, str] = {}
    for place, line in enumerate(lists.decoded(path.read_bytes()).splitlines(), 1):
        if not line.strip():
            continue
        cells = _LINE.fullmatch(line.strip())
        if cells is None:
            raise DataError(f"{path}, line {place}: {line.strip()!r} is no clip.avi and 0, 1 or 2",
                            "Fix the line, or fetch the list again")  # fmt: skip
        if cells["name"] in found:
            raise DataError(f"{path}, line {place}: {cells['name']} stands there twice", "Fetch the list again")
        found[cells["name"]] = PARTS[cells["number"]]
    if not found:
        raise DataError(f"{path} names nothing", "Fetch the list again")
    return found


def read_splits(split1: dict[str, str], folder: Path, exact: bool) -> dict[str, dict[str, str]]:
    """Return split -> video -> part: split 1, with and without a validation part, and splits 2 and 3 of a folder.

    Args:
        split1: see `read_split1`; its classes are those whose files are read.
        exact: each file of a class must have as many clips as published.

    Raises:
        DataError: as `read_class`; a file has other numbers of clips; the folder's files of split 1 say otherwise.
    """
    classes = sorted({PurePosixPath(path).parent.name for path in split1})
    further = {}
    for number in (2, 3):
        parts: dict[str, str] = {}
        for kind, file in zip(classes, file_names(number, classes), strict=True):
            own = read_class(folder / file)
            counts = {part: list(own.values()).count(part) for part in COUNTS}
            if exact and counts != COUNTS:
                what = f"{folder / file} has {counts['train']} train and {counts['test']} test clips"
                raise DataError(what, "Each class has 70 and 30: fetch the lists again")
            parts |= {f"{kind}/{name}": part for name, part in own.items() if part}
        further[f"split{number}"] = parts
    for kind, file in zip(classes, file_names(1, classes), strict=True):
        if (folder / file).exists():
            _compare(folder / file, kind, split1)
    return {"split1": split1, "split1_val": split1 | hold_out(split1)} | further


def _compare(path: Path, kind: str, split1: Mapping[str, str]) -> None:
    """Refuse a file of split 1 that says otherwise than the list of it that is used."""
    own = {f"{kind}/{name}": part for name, part in read_class(path).items() if part}
    used = {video: part for video, part in split1.items() if PurePosixPath(video).parent.name == kind}
    other = sorted(video for video in own.keys() | used.keys() if own.get(video) != used.get(video))
    if other:
        has, wants = (found.get(other[0], "neither part") for found in (own, used))
        what = f"{path} has {other[0]} in {has}, the list of split 1 that is used in {wants}"
        raise DataError(what, "Fetch the lists again, or give both as lists of your own with --lists")


def hold_out(split1: Mapping[str, str]) -> dict[str, str]:
    """Return video -> 'val' for a tenth of the training clips of each class, no source in two parts."""
    held: dict[str, str] = {}
    train = sorted(path for path, part in split1.items() if part == "train")
    for kind in sorted({PurePosixPath(path).parent.name for path in train}):
        own = [path for path in train if PurePosixPath(path).parent.name == kind]
        sources = [identify(path)[2] for path in own]
        if len(set(sources)) > 1:
            parts = by_group([0] * len(own), sources, SHARES, SEED)
            held |= {path: part for path, part in zip(own, parts, strict=True) if part == "val"}
    return held
