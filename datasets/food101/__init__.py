"""UPMC Food-101: pictures of dishes and the titles of the pages that showed them."""

from __future__ import annotations

from collections import Counter
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
)
from mmlbench.frontends.text_lists import Row, read_json_lines, unique
from mmlbench.frontends.texts import Written

from .classes import DISHES
from .titles import read_titles

LISTS = Path(__file__).resolve().parent / "lists"
#: Part -> its list of ids and labels, which ships; the train part is what remains.
PARTS = {"val": "dev.csv", "test": "test.csv"}
SHA256 = {
    "dev.csv": "5084b0ef54114f6bbc735130dbe01bd0c0e06837c992c4d76e9d0e220de24107",
    "test.csv": "0fe597df2f0d7cbb2f38b1ebdaa5106768b9f7f91e6a1d880a8089045fd25228",
}
#: Part -> its list of JSON lines, which has the texts and lies with the user.
JSON_LINES = {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}
#: Folder of the pictures -> list of their titles.
TITLED = {"train": "texts/train_titles.csv", "test": "texts/test_titles.csv"}
FIGURES = {
    "rows/val": 5000, "rows/test": 22715, "ids/val": 5000, "ids/test": 22715, "torn/val": 0, "torn/test": 0,
    "ids/val+test": 0,
}  # fmt: skip
TITLES, JSONL = "titles", "jsonl"
HAND = "download it there and unpack it; the host asks for an account"


@register
class Food101(PictureText):
    """UPMC Food-101: pictures of 101 dishes from the web, each with the title of its page; some are wrong.

    Validation (5,000) and test (22,715) are the lists of PDF; the train part is what remains of the archive's
    train titles, about 63,000, which no list at hand counts. Texts are the two lists of titles, or by `source=jsonl`
    those of the JSON lines that the published codes read. What is wrong with rows of titles is counted: repeats,
    commas without quotes, a class that is not the picture's, and pictures that no list names.
    Source: Wang et al., ICME workshops 2015. Lists: datasets/food101/lists.
    """

    class Params(PictureTextParams):
        source: str = choice(TITLES, (TITLES, JSONL), doc="of the texts: the lists of titles, or those of JSON lines")

    params: Params
    modalities = modalities(Params())  # type: ignore[call-arg]
    class_names = DISHES
    splits = {
        "official": Split(
            "the lists of PDF; train is what remains",
            {"train": 63000, "val": 5000, "test": 22715},
            exact=False,
            known=KnownLists(SHA256, FIGURES),
        )
    }
    licence = "unknown; pictures and titles of web pages, for research"
    citation = "X. Wang et al., Recipe recognition with large multimodal food dataset, ICME workshops 2015"
    origin = "images/{train,test}/<dish>/*.jpg and texts/{train,test}_titles.csv"
    downloads = (
        Download("images", "https://www.kaggle.com/datasets/gianmarco96/upmcfood101",
                 "README.md of Yinan-Xia/PDF, commit 034c033", how=HAND, also=("*/images",)),
        Download("texts", "https://www.kaggle.com/datasets/gianmarco96/upmcfood101",
                 "DATA.md of YiLunLee/missing_aware_prompts, commit 4da8cc7", how=HAND,
                 also=("*/texts", "train.jsonl", "*/train.jsonl")),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists and the titles, and the pictures."""
        folder = open_raw(raw, out, ("images",))
        pairs = self._of_titles(folder, out) if self.params.source == TITLES else self._of_json_lines(folder, out)
        check_samples(out, "official", [pair.sample for pair in pairs], out.options.lists or LISTS)
        self.store(out, folder, pairs, "official")

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the lists that ship, without a train part, with the hashes of what the raw folder has of texts."""
        hashes = lists.hashes(LISTS, SHA256, SHA256)
        folder = folder_with(raw, ("images",))
        for where, names in ((folder, JSON_LINES.values()), (folder, TITLED.values())):
            if where is not None and all((where / name).is_file() for name in names):
                hashes |= lists.hashes(where, names, {})
        rows = {name: lists.read_rows(LISTS / name, columns=2) for name in SHA256}
        found = [
            Sample(key, part, _label(kind, name), ())
            for part, name in PARTS.items()
            for key, kind in _rows(rows[name])
        ]
        return {"official": Listed(found, hashes)}

    def _of_titles(self, folder: Path, out: CacheWriter) -> list[Pair]:
        """Return all pairs with the titles of the archive's lists."""
        rows = lists.official(out, LISTS, SHA256, columns=2)
        for name, listed in rows.items():
            lists.once((out.options.lists or LISTS) / name, (row[0] for row in listed))
        counts: Counter[str] = Counter()
        titles = {place: read_titles(folder / name, counts) for place, name in TITLED.items()}
        named = {place: {_id(*key): key for key in found} for place, found in titles.items()}
        pairs, taken = [], set()
        for part, name in PARTS.items():
            place = "train" if part == "val" else "test"
            for key, kind in _rows(rows[name]):
                taken.add(key)
                shown = (kind, key.removeprefix(f"{kind}_"))
                title, fault = titles[place].get(shown), (TITLED[place], "has no title of it")
                picture = check_below(f"images/{place}/{'/'.join(shown)}", name)
                pairs.append(Pair(Sample(key, part, _label(kind, name), ()), picture, title, "", fault))
        for key, (kind, picture) in named["train"].items():
            if key not in taken:
                sample = Sample(key, "train", _label(kind, TITLED["train"]), ())
                place = check_below(f"images/train/{kind}/{picture}", TITLED["train"])
                pairs.append(Pair(sample, place, titles["train"][kind, picture]))
        counts["in no list"] = len(named["test"].keys() - taken)
        lists.note(out, folder, TITLED.values(), {})
        out.raw["titles"] = {name: count for name, count in sorted(counts.items()) if count}
        if out.raw["titles"]:
            said = ", ".join(f"{count} {name}" for name, count in out.raw["titles"].items())
            out.notes.append(f"rows of titles: {said}")
        return sorted(pairs, key=lambda pair: pair.sample.id)

    def _of_json_lines(self, folder: Path, out: CacheWriter) -> list[Pair]:
        """Return all pairs with the texts of the JSON lines; two of the lists have to say what ships."""
        where, pairs = out.options.lists or folder, []
        for part, name in JSON_LINES.items():
            rows = read_json_lines(where / name, ("id", "label", "text", "img"))
            unique(where / name, rows)
            if part in PARTS:
                facts = dict(_rows(lists.read_rows(LISTS / PARTS[part], columns=2)))
                check_facts(out, where, name, {row.cells[0]: row.cells[1] for row in rows}, facts)
            pairs += [_pair(part, row, f"{where / name}, line {row.number}") for row in rows]
        lists.note(out, where, JSON_LINES.values(), {})
        return sorted(pairs, key=lambda pair: pair.sample.id)


def _id(kind: str, picture: str) -> str:
    """Return the id of a picture, as the lists have it."""
    return f"{kind}_{picture}"


def _rows(rows: list[list[str]]) -> list[tuple[str, str]]:
    """Return (id, label) of the rows of a list, without its heading."""
    return [(row[0], row[1]) for row in rows if row[:2] != ["id", "label"]]


def _label(kind: str, where: str) -> int:
    """Return the number of a dish.

    Raises:
        DataError: there is no such dish.
    """
    if kind not in DISHES:
        raise DataError(f"food101: {where} names the class {kind[:40]!r}", "Fetch the list again")
    return DISHES.index(kind)


def _pair(part: str, row: Row, where: str) -> Pair:
    """Return the sample of a line of JSON."""
    key, kind, text, shown = row.cells
    return Pair(Sample(key, part, _label(kind, where), ()), check_below(shown, where), Written(text, bad=row.bad))
