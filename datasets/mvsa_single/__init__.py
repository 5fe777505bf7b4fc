"""MVSA-Single: pictures and texts of tweets, and the mood of both."""

from __future__ import annotations

from pathlib import Path

from mmlbench import CacheWriter, DataError, Download, KnownLists, Listed, Sample, Split, choice, register
from mmlbench.frontends import lists
from mmlbench.frontends.clips import folder_with, open_raw
from mmlbench.frontends.picture_text import (
    Pair,
    PictureText,
    PictureTextParams,
    check_below,
    check_facts,
    check_samples,
    modalities,
    text_file,
)
from mmlbench.frontends.text_lists import read_json_lines, read_tabbed, unique
from mmlbench.frontends.texts import Written

LISTS = Path(__file__).resolve().parent / "lists"
#: Part -> its list: ids and labels, which ship.
PARTS = {"train": "train.csv", "val": "dev.csv", "test": "test.csv"}
SHA256 = {
    "train.csv": "08e73fdeb0f88af86792c08b30aad5c39949943e54e83d897bbb116a938b4636",
    "dev.csv": "373b25c3e7ada949f727fc5e0f56698b3eed29ce16292e63fc0eb66895cf4338",
    "test.csv": "4a9af6c66ccd44165ed0e3dbd2bbbb7ca47d91bd00a75991af97080281a63690",
}
#: Part -> its list of JSON lines, which has the texts and lies with the user.
JSON_LINES = {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}
FIGURES = {
    "rows/train": 1555, "rows/val": 518, "rows/test": 519, "ids/train": 1555, "ids/val": 518, "ids/test": 519,
    "ids/train+val": 0, "ids/train+test": 0, "ids/val+test": 0,
}  # fmt: skip
MOODS = ("negative", "neutral", "positive")
#: Of every tweet what somebody thought of its text and of its picture, each by itself.
JUDGED = "labelResultAll.txt"
FILES, JSONL = "files", "jsonl"
HAND = "download it there and unpack it; the host asks for an account"


@register
class MVSASingle(PictureText):
    """MVSA-Single: 2,592 tweets, a picture and a text each, whose moods were judged to be the same; 3 classes.

    Texts come from `data/<id>.txt`, or by `source=jsonl` from the JSON lines that the published codes read. Of the
    tweets in the archive the lists name those of which text and picture were judged alike; `prepare` compares them
    with `labelResultAll.txt` where it is there. Bytes that are no UTF-8 are left out of a text and counted.
    Source: Niu et al., MMM 2016. Lists: PDF's (datasets/mvsa_single/lists).
    """

    class Params(PictureTextParams):
        source: str = choice(FILES, (FILES, JSONL), doc="of the texts: a file each, or the lists of JSON lines")

    params: Params
    modalities = modalities(Params())  # type: ignore[call-arg]
    class_names = MOODS
    splits = {
        "official": Split(
            "the lists of PDF", {"train": 1555, "val": 518, "test": 519}, known=KnownLists(SHA256, FIGURES)
        )
    }
    licence = "unknown; tweets of their authors, for research"
    citation = "T. Niu et al., Sentiment analysis on multi-view social data, MMM 2016"
    origin = "MVSA_Single: data/<id>.jpg, data/<id>.txt and labelResultAll.txt"
    downloads = (
        Download("MVSA_Single", "https://www.kaggle.com/datasets/vincemarcs/mvsasingle",
                 "README.md of Yinan-Xia/PDF, commit 034c033", how=HAND, also=("data", "*/data", JUDGED)),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, compare them with what was judged, read texts and pictures."""
        folder = open_raw(raw, out, ("data", JUDGED))
        pairs = self._of_files(folder, out) if self.params.source == FILES else self._of_json_lines(folder, out)
        samples = [pair.sample for pair in pairs]
        if "other_lists" not in out.raw:
            _check_judged(folder / JUDGED, samples)
        check_samples(out, "official", samples, out.options.lists or LISTS)
        self.store(out, folder, pairs, "official")

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the shipped lists, with the hashes of the JSON lines in the raw folder where they are there."""
        hashes = lists.hashes(LISTS, SHA256, SHA256)
        folder = folder_with(raw, ("data", JUDGED))
        if folder is not None and all((folder / name).is_file() for name in JSON_LINES.values()):
            hashes |= lists.hashes(folder, JSON_LINES.values(), {})
        rows = {name: lists.read_rows(LISTS / name, columns=2) for name in SHA256}
        return {"official": Listed(_samples(rows), hashes)}

    def _of_files(self, folder: Path, out: CacheWriter) -> list[Pair]:
        """Return all pairs, each with a text in a file of its own."""
        pairs, rows = [], lists.official(out, LISTS, SHA256, columns=2)
        for name, found in rows.items():
            lists.once((out.options.lists or LISTS) / name, (row[0] for row in found))
        for sample in _samples(rows):
            name = f"data/{sample.id}.txt"
            pairs.append(Pair(sample, f"data/{sample.id}.jpg", *_read(folder, name)))
        return pairs

    def _of_json_lines(self, folder: Path, out: CacheWriter) -> list[Pair]:
        """Return all pairs with the texts of the JSON lines, whose ids and labels have to be those of the lists."""
        where, pairs = out.options.lists or folder, []
        for part, name in JSON_LINES.items():
            rows = read_json_lines(where / name, ("id", "label", "text", "img"))
            unique(where / name, rows)
            facts = {row[0]: row[1] for row in _rows(lists.read_rows(LISTS / PARTS[part], columns=2))}
            check_facts(out, where, name, {row.cells[0]: row.cells[1] for row in rows}, facts)
            for row in rows:
                key, label, text, shown = row.cells
                sample = Sample(key, part, _label(label, f"{where / name}, line {row.number}"), ())
                pairs.append(Pair(sample, check_below(shown, str(where / name)), Written(text, bad=row.bad)))
        lists.note(out, where, JSON_LINES.values(), {})
        return sorted(pairs, key=lambda pair: _order(pair.sample))


def _read(folder: Path, name: str) -> tuple[Written | None, str, tuple[str, str]]:
    text, fault = text_file(folder, name)
    return text, name, fault


def _rows(rows: list[list[str]]) -> list[list[str]]:
    """Return the rows of a list without its heading."""
    return [row for row in rows if row[:2] != ["id", "label"]]


def _label(word: str, where: str) -> int:
    """Return the number of a class.

    Raises:
        DataError: there is no such class.
    """
    if word not in MOODS:
        raise DataError(f"{where} gives another label", f"It takes {', '.join(MOODS)}")
    return MOODS.index(word)


def _order(sample: Sample) -> tuple[int, str]:
    """Return what sorts samples by their number."""
    return (int(sample.id) if sample.id.isdecimal() else -1, sample.id)


def _samples(rows: dict[str, list[list[str]]]) -> list[Sample]:
    """Return all samples in the order of their numbers."""
    found = [
        Sample(row[0], part, _label(row[1], f"mvsa_single: {name}"), ())
        for part, name in PARTS.items()
        for row in _rows(rows[name])
    ]
    return sorted(found, key=_order)


def _check_judged(path: Path, samples: list[Sample]) -> None:
    """Refuse labels other than both judgements, where these are there.

    Raises:
        DataError: a tweet was judged otherwise, or not at all.
    """
    if not path.is_file():
        return
    judged = {row.cells[0]: row.cells[1] for row in read_tabbed(path, 2)}
    wrong = [s.id for s in samples if judged.get(s.id) != f"{MOODS[int(s.label)]},{MOODS[int(s.label)]}"]  # type: ignore[arg-type]
    if wrong:
        what = f"{path} does not judge text and picture of {wrong[0]} as the official lists do ({len(wrong)} such)"
        raise DataError(what, "Fetch it again; lists of your own are given by --lists")
