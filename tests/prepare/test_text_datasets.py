"""The datasets of pictures and texts, from miniatures in the official layout: counts, lists, faults, equal bytes."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mini_texts
import pytest
from bad_input import refused
from harmed_files import OF_ITEMS, OF_PICTURES, POINTER, Harms
from harmed_lists import a_line_twice, with_a_bare_line
from quick import quick_first

from mmlbench.cli import main
from mmlbench.dataset import KnownLists
from mmlbench.frontends.lists import hashes
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.official_lists import check_known
from mmlbench.registry.index import load_index


@dataclass(frozen=True)
class Case:
    """A miniature: its dataset, and a list that it reads.

    Attributes:
        build: writes raw files and lists. victim: a list, below the lists' folder. params: of the preparation.
        texts: a file of one text, below the raw folder, where texts lie in files of their own.
    """

    name: str
    build: Callable[[Path], tuple[Path, Path]]
    victim: str
    params: tuple[str, ...] = ()
    texts: str = ""

    def words(self, raw: Path, root: Path, *more: object) -> list[str]:
        """Return the command."""
        words = ["prepare", self.name, "--raw", str(raw), "--cache", str(root)]
        words += [word for pair in ("size=16", "least=1", *self.params) for word in ("--dataset-set", pair)]
        return [*words, *map(str, more)]


CASES = {
    "mvsa_single": Case("mvsa_single", mini_texts.mvsa_single, "train.csv", texts="data/10.txt"),
    "mvsa_single jsonl": Case("mvsa_single", mini_texts.mvsa_single, "train.jsonl", ("source=jsonl",)),
    "twitter15": Case("twitter15", mini_texts.twitter15, "train.tsv"),
    "twitter17": Case("twitter17", mini_texts.twitter17, "train.tsv"),
    "food101": Case("food101", mini_texts.food101, "dev.csv"),
    "food101 jsonl": Case("food101", mini_texts.food101, "dev.jsonl", ("source=jsonl",)),
    "sarcasm": Case("sarcasm", mini_texts.sarcasm, "train.txt"),
}
#: Dataset -> counts of its official split.
OFFICIAL = {
    "mvsa_single": {"train": 1555, "val": 518, "test": 519},
    "food101": {"val": 5000, "test": 22715},
    "twitter15": {"train": 3179, "val": 1122, "test": 1037},
    "twitter17": {"train": 3562, "val": 1176, "test": 1234},
}


@dataclass(frozen=True)
class Mini:
    """A miniature that was written."""

    case: Case
    raw: Path
    lists: Path


@pytest.fixture(scope="module")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """Write a miniature once."""
    case = CASES[request.param]
    return Mini(case, *case.build(tmp_path_factory.mktemp("mini")))


@pytest.fixture
def mini(written: Mini, tmp_path: Path) -> Mini:
    """Return a copy of a miniature, to be changed."""
    raw = Path(shutil.copytree(written.raw, tmp_path / "mini" / written.raw.name))
    return replace(written, raw=raw, lists=Path(shutil.copytree(written.lists, tmp_path / "mini" / "given")))


def kind_of(name: str) -> Any:
    return load_index().load("dataset", name)


def make_official(mini: Mini, monkeypatch: pytest.MonkeyPatch, figures: dict[str, int] | None = None) -> None:
    """Let the miniature's lists of facts be those that ship."""
    kind = kind_of(mini.case.name)
    module = sys.modules[kind.__module__]
    monkeypatch.setattr(module, "LISTS", mini.lists)
    found = hashes(mini.lists, module.SHA256, {})
    monkeypatch.setattr(module, "SHA256", found)
    samples = kind().listed(mini.raw)["official"].samples
    counts = Counter(sample.part for sample in samples)
    old = kind.splits["official"]
    known = KnownLists(found, {f"rows/{part}": n for part, n in counts.items()} if figures is None else figures)
    monkeypatch.setitem(kind.splits, "official", replace(old, counts=dict(counts), known=known))


def cache_in(root: Path) -> Cache:
    (folder,) = (path for path in root.glob("*/") if not path.name.startswith("."))
    return Cache.open(folder)


each = pytest.mark.parametrize("written", CASES, indirect=True)
#: One of each dataset's readers.
QUICK = ("mvsa_single jsonl", "twitter15", "food101", "sarcasm")


# ---- the official lists ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_shipped_lists_have_the_official_counts_and_figures(name: str) -> None:
    kind = kind_of(name)
    split = kind.splits["official"]
    listed = kind().listed(None)["official"]
    counts = Counter(sample.part for sample in listed.samples)
    assert {part: counts[part] for part in split.counts if counts[part]} == OFFICIAL[name]
    assert check_known(split.known, listed.samples, listed.hashes, name, "official")
    assert {f"rows/{part}" for part in OFFICIAL[name]} <= set(split.known.figures)
    assert any("+" in figure for figure in split.known.figures)


@pytest.mark.slow
@each
def test_official_lists_need_no_word_and_others_do(mini: Mini, tmp_path: Path, monkeypatch, capsys) -> None:
    case = mini.case
    line = refused(capsys, *case.words(mini.raw, tmp_path / "a"))
    assert "official" in line or "names" in line or "items can't be used" in line
    make_official(mini, monkeypatch)
    assert main(case.words(mini.raw, tmp_path / "a")) == 0
    cache = cache_in(tmp_path / "a")
    assert not any("lists" in note for note in cache.notes)
    make_official(mini, monkeypatch, {"rows/train": 1})
    line = refused(capsys, *case.words(mini.raw, tmp_path / "b"))
    assert "the official ones, yet rows/train" in line


# ---- lists -------------------------------------------------------------------------------------------------------
def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="ignore")


DRESSES: dict[str, Callable[[str], bytes]] = {
    "CRLF and BOM": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "blank lines": lambda text: (text.replace("\n", "\n\n") + "\n").encode(),
}


@pytest.mark.slow
@each
def test_lists_in_another_dress_give_the_same_cache(mini: Mini, tmp_path: Path) -> None:
    whole = text_of(mini.lists / mini.case.victim)
    (mini.lists / mini.case.victim).write_text(whole, encoding="utf-8")
    assert main(mini.case.words(mini.raw, tmp_path / "plain", "--lists", mini.lists)) == 0
    plain = cache_in(tmp_path / "plain")
    for dress, put_on in DRESSES.items():
        (mini.lists / mini.case.victim).write_bytes(put_on(whole))
        assert main(mini.case.words(mini.raw, tmp_path / dress, "--lists", mini.lists)) == 0, dress
        other = cache_in(tmp_path / dress)
        for name in ("split-official.csv", "text.npy", "visual.npy"):
            assert (plain.folder / name).read_bytes() == (other.folder / name).read_bytes(), (dress, name)


HARMS: Harms = {
    "a line cut short": (with_a_bare_line, ""),
    "an LFS pointer": (lambda path: path.write_text(POINTER, encoding="utf-8"), "Git LFS pointer"),
    "gone": (Path.unlink, "no such list"),
    "empty": (lambda path: path.write_bytes(b""), "names nothing"),
    "no text": (lambda path: path.write_bytes(bytes(range(256)) * 4), "is no text"),
    "an id twice": (a_line_twice, ""),
}


@pytest.mark.slow
@each
def test_a_bad_list_is_one_line_that_shows_no_text(mini: Mini, tmp_path: Path, capsys) -> None:
    path = mini.lists / mini.case.victim
    whole = path.read_bytes()
    for harm, words in HARMS.values():
        harm(path)
        line = refused(capsys, *mini.case.words(mini.raw, tmp_path / "c", "--lists", mini.lists))
        assert words in line and (path.name in line or "repeat" in line)
        assert not any(telling in line for telling in mini_texts.TELLING)
        assert not list((tmp_path / "c").glob("[!.]*")), "no cache is left"
        path.write_bytes(whole)
    assert main(mini.case.words(mini.raw, tmp_path / "c", "--lists", mini.lists)) == 0


@pytest.mark.slow
@each
def test_a_list_that_changed_since_is_named(mini: Mini, tmp_path: Path, capsys) -> None:
    given = mini.case.words(mini.raw, tmp_path / "c", "--lists", mini.lists)
    assert main(given) == 0 and main(given) == 0
    path = mini.lists / mini.case.victim
    lines = text_of(path).splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    assert f"made of other split lists: {path.name} differs" in refused(capsys, *given)


# ---- raw files ---------------------------------------------------------------------------------------------------
OF_SHOWN = OF_PICTURES | {
    "a text": (lambda path: path.write_text("a text", encoding="utf-8"), "can't be read as a picture"),
}
OF_TEXTS = {
    "a picture": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256))), "is a picture"),
    "other bytes": (lambda path: path.write_bytes(bytes(range(128, 256))), "is no text"),
}


@pytest.mark.slow
@each
def test_each_fault_of_a_file_is_one_line_and_the_mended_file_is_enough(mini: Mini, tmp_path: Path, capsys) -> None:
    root, spare = tmp_path / "c", tmp_path / "spare"
    given = mini.case.words(mini.raw, root, "--lists", mini.lists)
    faults = [(sorted(mini.raw.rglob("*.jpg"))[0], OF_SHOWN)]
    faults += [(mini.raw / mini.case.texts, OF_ITEMS | OF_TEXTS)] if mini.case.texts else []
    for path, harms in faults:
        shutil.copy2(path, spare)
        for fault, (harm, words) in harms.items():
            harm(path)
            line = refused(capsys, *given)
            assert "1 of" in line and words in line and path.name.casefold() in line.casefold(), (fault, line)
            for other in path.parent.iterdir():
                if other.name.casefold() == path.name.casefold():
                    other.unlink()
            shutil.copy2(spare, path)
    assert main(given) == 0 and main(given) == 0
    path, _ = faults[-1]
    path.write_bytes(path.read_bytes() + b" ")
    assert f"{path.name}" in (line := refused(capsys, *given)) and "was changed after" in line


# ---- what is prepared --------------------------------------------------------------------------------------------
@pytest.mark.slow
@each
def test_two_workers_give_the_bytes_of_one(written: Mini, tmp_path: Path) -> None:
    for count in (1, 2):
        words = written.case.words(written.raw, tmp_path / str(count), "--lists", written.lists, "--workers", count)
        assert main(words) == 0
    one, two = (cache_in(tmp_path / str(count)) for count in (1, 2))
    assert one.manifest == two.manifest


@pytest.mark.parametrize("written", quick_first(CASES, QUICK), indirect=True)
def test_texts_become_ids_of_words_that_the_train_part_has(written: Mini, tmp_path: Path, capsys) -> None:
    assert main(written.case.words(written.raw, tmp_path, "--lists", written.lists)) == 0
    log = capsys.readouterr().err
    cache = cache_in(tmp_path)
    declared = cache.modality("text")
    assert declared.tokenizer == "words" and len(declared.tokenizer_hash) == 16
    train = cache.part("official", "train").rows["text"]
    ids, lengths = cache.array("text"), cache.lengths("text")
    assert lengths is not None and lengths.min() >= 1
    used = {int(one) for row in train for one in ids[row, 0, : lengths[row, 0]]}
    words = {one for one in range(declared.vocabulary) if one > 5}
    assert words <= used, "each word of the vocabulary is one of the train part"
    assert ids.max() < declared.vocabulary
    facts = cache.manifest["raw"]["texts"]
    assert facts["user"] and any("are empty" in note for note in cache.notes)
    stored = b"".join(path.read_bytes() for path in cache.folder.iterdir())
    for telling in ("awful", "lovely", "somebody"):
        assert telling.encode() not in stored and telling not in log


@pytest.mark.slow
@each
def test_what_is_left_out_makes_no_word(mini: Mini, tmp_path: Path, capsys) -> None:
    assert main(mini.case.words(mini.raw, tmp_path / "all", "--lists", mini.lists)) == 0
    whole = cache_in(tmp_path / "all")
    with (whole.folder / "split-official.csv").open(newline="", encoding="utf-8") as file:
        first = next(row for row in csv.DictReader(file) if row["part"] == "train")
    with (whole.folder / "raw.csv").open(newline="", encoding="utf-8") as file:
        picture = next(row["file"] for row in csv.DictReader(file) if row["id"] == first["id"])
    (mini.raw / picture).unlink()
    given = mini.case.words(mini.raw, tmp_path / "less", "--lists", mini.lists)
    assert f"{first['id']}: {picture} is missing" in refused(capsys, *given)
    (report,) = (tmp_path / "less").glob("*.faults.csv")
    assert main([*given, "--allow-missing", str(report)]) == 0
    less = cache_in(tmp_path / "less")
    assert len(less.part("official", "train")) == len(whole.part("official", "train")) - 1
    assert any("left out on purpose" in note for note in less.notes)
    assert less.manifest["raw"]["texts"]["texts"] == whole.manifest["raw"]["texts"]["texts"] - 1


@pytest.mark.parametrize("written", ["mvsa_single", "mvsa_single jsonl", "food101 jsonl"], indirect=True)
def test_an_id_in_two_parts_of_other_lists_is_refused(mini: Mini, tmp_path: Path, capsys) -> None:
    name = Path(mini.case.victim).suffix
    second, other = [line for line in text_of(mini.lists / f"train{name}").splitlines() if line][1:3]
    path = mini.lists / f"dev{name}"
    path.write_text("\n".join([*text_of(path).splitlines(), second, other]) + "\n", encoding="utf-8")
    key = json.loads(second)["id"] if name == ".jsonl" else second.split(",")[0]
    line = refused(capsys, *mini.case.words(mini.raw, tmp_path / "c", "--lists", mini.lists))
    assert key in line and not list((tmp_path / "c").glob("[!.]*"))
