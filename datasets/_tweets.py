"""What Twitter-15 and Twitter-17 share: tweets with a picture, and in them targets of a mood."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mmlbench import CacheWriter, DataError, Listed, Sample
from mmlbench.frontends import lists
from mmlbench.frontends.clips import folder_with, open_raw
from mmlbench.frontends.picture_text import Pair, PictureText, check_below, check_facts, check_samples
from mmlbench.frontends.text_lists import Row, folder_of, read_tabbed
from mmlbench.frontends.texts import MARK, Written

#: Part -> name of its lists, `.csv` of the facts that ship, `.tsv` of the user's own with the texts.
STEMS = {"train": "train", "val": "dev", "test": "test"}
MOODS = ("negative", "neutral", "positive")
#: The repository of the texts, and how the pictures are had from there.
TEXTS = "https://github.com/jefferyYu/TomBERT"
HAND = "follow the link to a Google Drive in its README"
#: Cells of a line of the user's list: number, mood, picture, sentence with `MARK`, target.
CELLS = 5


class Tweets(PictureText):
    """A dataset of targets in tweets: a sample is a target, and the samples of one tweet share its picture."""

    class_names = MOODS
    licence = "unknown; tweets of their authors, for research"
    citation = "J. Yu et al., Adapting BERT for target-oriented multimodal sentiment classification, IJCAI 2019"
    #: Folder of the pictures, and folders in which the lists may lie beside it; '': the raw folder itself.
    pictures: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]

    def facts(self) -> tuple[Path, Mapping[str, str]]:
        """Return the folder of the facts that ship, and name -> SHA-256 of its lists."""
        raise NotImplementedError

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists with the texts, compare them with the facts that ship, read the pictures."""
        folder = open_raw(raw, out, (self.pictures,))
        where, rows = out.options.lists or folder_of(folder, self.folders, "train.tsv"), {}
        for part, stem in STEMS.items():
            rows[part] = _read(where / f"{stem}.tsv")
            found = {row.cells[0]: f"{row.cells[2]}, {row.cells[1]}" for row in rows[part]}
            check_facts(out, where, f"{stem}.tsv", found, self._shipped(stem))
        lists.note(out, where, [f"{stem}.tsv" for stem in STEMS.values()], {})
        pairs = [
            _pair(part, row, self.pictures, where / f"{STEMS[part]}.tsv") for part in STEMS for row in rows[part]
        ]
        check_samples(out, "official", [pair.sample for pair in pairs], where)
        unmarked = sum(pair.text is not None and MARK not in pair.text.text for pair in pairs)
        if unmarked:
            out.notes.append(f"{unmarked} of {len(pairs)} sentences have no {MARK}: their target stands at the end")
        self.store(out, folder, pairs, "official")

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the lists that ship, with the hashes of those in the raw folder where they are there."""
        shipped, sha256 = self.facts()
        hashes = lists.hashes(shipped, sha256, sha256)
        folder = folder_with(raw, (self.pictures,))
        where = folder_of(folder, self.folders, "train.tsv") if folder is not None else None
        names = [f"{stem}.tsv" for stem in STEMS.values()]
        if where is not None and all((where / name).is_file() for name in names):
            hashes |= lists.hashes(where, names, {})
        found = []
        for part, stem in STEMS.items():
            for number, shown in self._shipped(stem).items():
                picture, mood = shown.rsplit(", ", 1)
                found.append(Sample(f"{stem}-{number}", part, int(mood), (), picture))
        return {"official": Listed(found, hashes)}

    def _shipped(self, stem: str) -> dict[str, str]:
        """Return number -> picture and mood of the lines of a list, as the facts that ship have it."""
        rows = lists.read_rows(self.facts()[0] / f"{stem}.csv", columns=3)
        return {row[0]: f"{row[1]}, {row[2]}" for row in rows if row[0] != "index"}


def _read(path: Path) -> list[Row]:
    """Return the lines of a list with texts, without its heading.

    Raises:
        DataError: as `read_tabbed`; a number or a mood is none, or a number stands twice.
    """
    rows = [row for row in read_tabbed(path, CELLS) if row.cells[0] != "index"]
    seen: set[str] = set()
    for row in rows:
        number, mood = row.cells[:2]
        if not number.isdecimal() or number in seen:
            raise DataError(f"{path}, line {row.number} has no number of its own", "Fetch the list again")
        if mood not in map(str, range(len(MOODS))):
            raise DataError(f"{path}, line {row.number} has another mood than 0, 1 or 2", "Fetch it again")
        seen.add(number)
    return sorted(rows, key=lambda row: int(row.cells[0]))


def _pair(part: str, row: Row, pictures: str, where: Path) -> Pair:
    """Return the sample of a line."""
    number, mood, picture, text, target = row.cells
    sample = Sample(f"{STEMS[part]}-{number}", part, int(mood), (), picture)
    return Pair(sample, check_below(f"{pictures}/{picture}", str(where)), Written(text, target, row.bad, apart=True))
