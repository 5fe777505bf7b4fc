"""What the datasets of a picture and a text share: their parameters, modalities, and how both are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from ..dataset import CacheWriter, Dataset, Sample
from ..decode.fault import Fault, FaultKind
from ..decode.image import read_image, square
from ..decode.words import decoded
from ..errors import DataError
from ..modality import Modality
from ..params import DatasetParams, bounded
from ..prepare.declared_counts import check_counts
from ..prepare.items import fill
from ..prepare.official_lists import check_known
from ..prepare.task import PIXELS, Item
from . import lists
from .texts import FEATURES, NAME, Counts, Reader, TextParams, Written, planned, reader_of

#: A longer path of a picture is a text that stands in its place.
LONGEST_PATH = 240
#: Name of the pictures' modality.
VISUAL = "visual"


class PictureTextParams(TextParams):
    """How pictures and texts are kept."""

    size: int = bounded(224, low=16, high=1024, doc="side of the stored pictures, in pixels")


@dataclass(frozen=True)
class Pair:
    """A sample's picture and text.

    Args:
        sample: its rows are filled in when it is stored. picture: file below the raw folder.
        text: None where it can't be read; `fault` then says where it was looked for and what is wrong.
        file: of the text below the raw folder, where it has one of its own.
    """

    sample: Sample
    picture: str
    text: Written | None
    file: str = ""
    fault: tuple[str, str] = ("", "")


def modalities(params: PictureTextParams) -> tuple[Modality, ...]:
    """Return both modalities as far as they are known before a text is read."""
    return (Modality(VISUAL, (3, params.size, params.size), "image"), planned(params))


class PictureText(Dataset):
    """A dataset of pictures and texts; a sub-class reads the lists, and hands its pairs to `store`."""

    Params: ClassVar[type[DatasetParams]] = PictureTextParams
    params: PictureTextParams
    needs_raw = True

    def __init__(self, params: PictureTextParams | None = None) -> None:
        super().__init__(params)
        self.modalities = modalities(self.params)
        self._reader: Reader | None = None

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Return the dataset's facts; planning has to know that features are no ids before any text is read."""
        vector = Modality(NAME, (1,), "vector").facts()
        return super().describe() | {"other_kinds": [{"param": "text", "value": FEATURES, "modality": vector}]}

    def store(self, out: CacheWriter, raw: Path, pairs: Sequence[Pair], split: str) -> None:
        """Read all texts, decode all pictures, and store a split; row k of both arrays is pair k.

        Raises:
            DataError: an id stands twice; files or texts can't be used (all of them are listed).
        """
        twice = [name for name, count in Counter(pair.sample.id for pair in pairs).items() if count > 1]
        if twice:
            others = f" and {len(twice) - 1} others" if len(twice) > 1 else ""
            what = f"{self.name}: the lists repeat the id {twice[0]}{others}"
            raise DataError(what, "Give each sample to one part")
        left_out = set(out.options.allow_missing)
        used = [pair for pair in pairs if pair.sample.id not in left_out]
        train = [pair.text for pair in used if pair.sample.part == "train" and pair.text is not None]
        self._reader = reader = reader_of(self.params, train)
        declared = reader.modality
        self.modalities = (self.modalities[0], declared)
        counts, items, lengths = Counts(self.params), [], []
        for pair in pairs:
            files = (pair.picture, pair.file) if pair.file else (pair.picture,)
            if pair.text is None:
                items.append(Item(pair.sample.id, files, pair.fault))
                lengths.append(1)
                continue
            ids, whole = reader.ids(pair.text)
            if pair.sample.id not in left_out:
                counts.add(pair.text, len(ids), whole)
            items.append(Item(pair.sample.id, files, ids))
            lengths.append(len(ids))
        fill(out, raw, items, self.decode, {VISUAL: PIXELS, NAME: reader.stored}, reader.made_by())
        if declared.type.has_length:
            out.lengths(NAME, np.array([1 if k in out.left_out else n for k, n in enumerate(lengths)]))
        out.raw["texts"] = counts.facts() | reader.made_by()
        out.notes += [counts.note()] * bool(counts.note())
        out.options.log(f"{self.name}: {counts.line()}")
        out.split(split, [replace(pair.sample, rows=(k, k)) for k, pair in enumerate(pairs)])

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return a sample's picture and text.

        Raises:
            Fault: the picture can't be read, or the text could not.
        """
        if item.about and isinstance(item.about[0], str):
            own = len(item.files) > 1  # the text has a file of its own, and stands in no table
            raise Fault(item.about[0], item.about[1], FaultKind.OTHER if own else FaultKind.CELL)
        assert self._reader is not None
        picture = square(read_image(raw / item.files[0]), self.params.size)[None]
        return {VISUAL: picture, NAME: self._reader.view(item.about)}


def check_samples(out: CacheWriter, split: str, samples: Sequence[Sample], where: object) -> None:
    """Refuse other counts than are declared and, of official lists, other figures than are known.

    Lists whose texts lie with the user are official where they say what the shipped facts say (`check_facts`).

    Raises:
        DataError: naming the split and what differs.
    """
    check_counts(out, {split: samples}, where)
    known = out.dataset.splits[split].known
    if known is not None and "other_lists" not in out.raw:
        check_known(known, samples, known.files, out.dataset.name, split)


def text_file(raw: Path, name: str, apart: bool = False) -> tuple[Written | None, tuple[str, str]]:
    """Return the text of a file below the raw folder, or None and what is wrong with it."""
    if (raw / name).exists() and not (raw / name).is_file():  # a pipe would be waited for
        return None, (name, "is no file")
    try:
        text, bad = decoded((raw / name).read_bytes())
    except OSError as error:
        return None, (name, f"can't be read ({error.strerror})")  # a missing one is named by the scan of all files
    except ValueError as error:
        return None, (name, f"is no text ({error})")
    return Written(text, bad=bad, apart=apart), ("", "")


def check_below(name: str, where: str) -> str:
    """Return a path that a list gives of a picture.

    Raises:
        DataError: it would leave the raw folder, or looks like a text.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts or "\0" in name:
        raise DataError(f"{where}: the list names a picture outside the raw folder", "Fetch the list again")
    if len(name) > LONGEST_PATH or any(map(str.isspace, name)):  # it would be shown
        raise DataError(f"{where}: the list names no picture, but what looks like a text", "Fetch the list again")
    return str(path)


def check_facts(
    out: CacheWriter, folder: Path, name: str, found: Mapping[str, str], facts: Mapping[str, str]
) -> None:
    """Compare what a user's list says with the facts that are shipped of the official one: id -> label, picture.

    Another list is taken from --lists alone, and a note says so in every table.

    Raises:
        DataError: it differs and --lists was not given; with the first id at which it does.
    """
    if found == facts:
        return
    if out.options.lists is not None:
        lists.other_lists(out, folder, [name])
        return
    odd = next(one for one in (*facts, *found) if found.get(one) != facts.get(one))
    how = "is not in it" if odd not in found else "is not in the official one" if odd not in facts else "differs"
    what = f"{out.dataset.name}: {folder / name} is not the official list: {odd} {how}"
    raise DataError(what, f"Fetch it again, or use it on purpose with --lists {folder} (the tables will say so)")
