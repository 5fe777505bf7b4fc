"""Sarcasm: tweets with a picture, meant as they say or not."""

from __future__ import annotations

from pathlib import Path

from mmlbench import CacheWriter, DataError, Download, KnownLists, Listed, Sample, Split, register
from mmlbench.frontends import lists
from mmlbench.frontends.clips import folder_with, open_raw
from mmlbench.frontends.picture_text import (
    Pair,
    PictureText,
    PictureTextParams,
    check_facts,
    check_samples,
    modalities,
)
from mmlbench.frontends.text_lists import Row, folder_of, read_python_lists, unique
from mmlbench.frontends.texts import Written

LISTS = Path(__file__).resolve().parent / "lists"
#: Part -> name of its lists, `.csv` of the facts that ship, `.txt` of the user's own with the texts.
STEMS = {"train": "train", "val": "valid2", "test": "test2"}
TEXTS = {part: f"{stem}.txt" for part, stem in STEMS.items()}
SHA256 = {
    "train.csv": "47358dec575f0f89151443243e3e2980de8681028174d833c365caba284911f9",
    "valid2.csv": "6b8f9cc718478d1d22557f25a1b0800ec38e09543b589c3bdaf45e1c5ad1439c",
    "test2.csv": "05dcb284c24e6ef2b1281851e0f1446f223f638211d304b7066e5f02cd8fe75e",
}
#: Of what is left by the filter.
FIGURES = {
    "rows/train": 19816, "rows/val": 2410, "rows/test": 2409, "ids/train": 19816, "ids/val": 2410, "ids/test": 2409,
    "ids/train+val": 0, "ids/train+test": 0, "ids/val+test": 0,
}  # fmt: skip
#: Words by which the published code leaves a line out, in every part: they name the answer, or an advertisement.
FILTER = frozenset(
    ("sarcasm", "sarcastic", "reposting", "<url>", "joke", "humour", "humor", "jokes", "irony", "ironic", "exgag")
)
#: Folder of the pictures, and where the lists may lie beside it.
PICTURES, FOLDERS = "dataset_image", ("text", "")
HOME = "https://github.com/headacheboy/data-of-multimodal-sarcasm-detection"
#: Cells of a line: id, text, then labels; of two the hashtag's comes first and the annotator's last.
ONE, TWO = (str, str, int), (str, str, int, int)


@register
class Sarcasm(PictureText):
    """Sarcasm in tweets with pictures: 19,816 of train, 2,410 and 2,409; two classes.

    Lines with a word of the published code's filter, such as `sarcasm` or `<url>`, are left out in every part, as
    that code leaves them out: 9,224 of the 29,040 lines of train. Of the two labels of a line the last counts, as
    there: the annotator's, not the hashtag's. A picture that is missing stops `prepare`.
    Source: Cai et al., ACL 2019. Lists: those of its repository (datasets/sarcasm/lists).
    """

    params: PictureTextParams
    modalities = modalities(PictureTextParams())  # type: ignore[call-arg]
    class_names = ("not sarcastic", "sarcastic")
    splits = {
        "official": Split(
            "the published lists with their filter",
            {"train": 19816, "val": 2410, "test": 2409},
            known=KnownLists(SHA256, FIGURES),
        )
    }
    licence = "unknown; tweets of their authors, for research"
    citation = "Y. Cai et al., Multi-modal sarcasm detection in Twitter with hierarchical fusion model, ACL 2019"
    origin = (
        "text/*.txt of the repository headacheboy/data-of-multimodal-sarcasm-detection, and dataset_image/<id>.jpg"
    )
    downloads = (
        Download("text", HOME, "the repository at commit c924a91: text/train.txt, valid2.txt, test2.txt",
                 how="clone it, and take its folder text", also=("*/text", "train.txt", "*/train.txt")),
        Download(PICTURES, HOME, "the repository at commit f42b165", how="see what its README links, where it does",
                 also=(f"*/{PICTURES}",)),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists with the texts, compare them with the facts that ship, filter them, read the pictures."""
        folder = open_raw(raw, out, (PICTURES,))
        where = out.options.lists or folder_of(folder, FOLDERS, TEXTS["train"])
        rows = _read_all(where)
        for part, name in TEXTS.items():
            check_facts(out, where, name, _facts(rows[part]), _shipped(part))
        lists.note(out, where, TEXTS.values(), {})
        kept = {part: _filtered(found) for part, found in rows.items()}
        pairs = [_pair(part, row) for part, found in kept.items() for row in found]
        check_samples(out, "official", [pair.sample for pair in pairs], where)
        out.raw["filtered"] = {part: len(rows[part]) - len(kept[part]) for part in STEMS}
        said = ", ".join(f"{out.raw['filtered'][part]} of {len(rows[part])} of {part}" for part in STEMS)
        out.options.log(f"sarcasm: lines that the filter leaves out: {said}")
        self.store(out, folder, pairs, "official")

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the lists of the raw folder: without their texts nobody knows what the filter leaves."""
        folder = folder_with(raw, (PICTURES,))
        where = folder_of(folder, FOLDERS, TEXTS["train"]) if folder is not None else None
        if where is None or not all((where / name).is_file() for name in TEXTS.values()):
            return {}
        rows = _read_all(where)
        found = [_pair(part, row).sample for part in STEMS for row in _filtered(rows[part])]
        hashes = lists.hashes(where, TEXTS.values(), {})
        if all(_facts(rows[part]) == _shipped(part) for part in STEMS):
            hashes |= lists.hashes(LISTS, SHA256, SHA256)
        return {"official": Listed(found, hashes)}


def _shipped(part: str) -> dict[str, str]:
    """Return id -> labels of the lines of a part's list, as the facts that ship have it."""
    rows = lists.read_rows(LISTS / f"{STEMS[part]}.csv", columns=2)
    return {row[0]: ", ".join(row[1:]) for row in rows if row[0] != "id"}


def _facts(rows: list[Row]) -> dict[str, str]:
    """Return id -> labels of lines with texts."""
    return {row.cells[0]: ", ".join(map(str, row.cells[2:])) for row in rows}


def _read_all(where: Path) -> dict[str, list[Row]]:
    """Return part -> the lines of its list with texts."""
    return {part: _read(where / name, part) for part, name in TEXTS.items()}


def _read(path: Path, part: str) -> list[Row]:
    """Return the lines of a list with texts, in the order of their ids.

    Raises:
        DataError: as `read_python_lists`; an id is none or stands twice, a label is neither 0 nor 1.
    """
    rows = read_python_lists(path, ONE if part == "train" else TWO)
    unique(path, rows)
    for row in rows:
        if not (row.cells[0].isascii() and row.cells[0].isdecimal()) or not {0, 1}.issuperset(row.cells[2:]):
            raise DataError(f"{path}, line {row.number} has no id, or a label other than 0 and 1", "Fetch it again")
    return sorted(rows, key=lambda row: (len(row.cells[0]), row.cells[0]))


def _filtered(rows: list[Row]) -> list[Row]:
    """Return the lines without a word of the filter."""
    return [row for row in rows if not FILTER.intersection(row.cells[1].split())]


def _pair(part: str, row: Row) -> Pair:
    """Return the sample of a line."""
    key, text, *labels = row.cells
    return Pair(Sample(key, part, labels[-1], ()), f"{PICTURES}/{key}.jpg", Written(text, bad=row.bad, apart=True))
