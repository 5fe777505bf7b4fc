"""The split lists that a cache is made of: checked wherever they lie, and compared when it is prepared again."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mini_av
import mini_views
import pytest
from bad_input import refused
from quick import quick_first

from mmlbench.cli import main
from mmlbench.dataset import KnownLists, Split
from mmlbench.frontends.lists import hashes
from mmlbench.prepare import source_check as seen
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.list_counts import list_counts
from mmlbench.registry.index import load_index

SMALL = ["--dataset-set", "size=24", "--workers", "1"]
FEW = ["--dataset-set", "size=16", "--dataset-set", "frames=2", "--workers", "1"]


@pytest.fixture(scope="module")
def ave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return AVE as its zip; the unpacked folder lies beside it."""
    return mini_av.ave(tmp_path_factory.mktemp("ave"), 3, zipped=True)


@pytest.fixture(scope="module")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini_views.ucf_videos(tmp_path_factory.mktemp("ucf"))[0]


def official(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> Mapping[str, str]:
    """Make a miniature's lists the official ones: hashes and counts; return the hashes."""
    kind: Any = load_index().load("dataset", name)
    module = sys.modules[kind.__module__]
    found = hashes(folder, module.SHA256, {})
    monkeypatch.setattr(module, "SHA256", found)
    for split, listed in kind().listed(folder).items():
        counts = Counter(sample.part for sample in listed.samples)
        old = kind.splits[split]
        monkeypatch.setitem(kind.splits, split, Split(old.doc, counts, old.group, old.exact))
    if name == "ucf101":
        rows = [path.strip() for path in (folder / "testlist01.txt").read_text().splitlines()]
        text = "".join(f"{path} {module.CLASSES.index(path.split('/')[0]) + 1}\n" for path in rows)
        monkeypatch.setattr(module, "LABELLED", hashlib.sha256(text.encode()).hexdigest())
    return found


def knows(monkeypatch: pytest.MonkeyPatch, name: str, known: KnownLists) -> None:
    """Let this be what is known of a dataset's official lists."""
    kind: Any = load_index().load("dataset", name)
    monkeypatch.setitem(kind.splits, "official", replace(kind.splits["official"], known=known))


def words(name: str, raw: Path, root: Path, *more: str) -> list[str]:
    return ["prepare", name, "--raw", str(raw), "--cache", str(root), *(FEW if name == "ucf101" else SMALL), *more]


# ---- what is known of official lists -----------------------------------------------------------------------------
@pytest.mark.parametrize("way", quick_first(["the zip", "--lists with CRLF and BOM", "the folder"], 2))
def test_known_figures_are_asserted_however_the_lists_come(way, ave, tmp_path, monkeypatch, capsys):
    folder = ave.parent / "AVE_Dataset"
    files = official(monkeypatch, "ave", folder)
    figures = list_counts(load_index().load("dataset", "ave")().listed(folder)["official"].samples)  # type: ignore[attr-defined]
    more: list[str] = []
    if way.startswith("--lists"):
        (tmp_path / "lists").mkdir()
        for name in files:
            data = (folder / name).read_bytes().replace(b"\r\n", b"\n")
            (tmp_path / "lists" / name).write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
        more = ["--lists", str(tmp_path / "lists")]
    given = words("ave", ave if way == "the zip" else folder, tmp_path / "cache", *more)
    right = {"rows/train": figures["rows/train"], "torn/train": 1, "ids/train+test": 1}
    knows(monkeypatch, "ave", KnownLists(files, right | {"torn/train": 27}))
    assert "the official ones, yet torn/train is 1 instead of 27" in refused(capsys, *given)
    knows(monkeypatch, "ave", KnownLists(files, right))
    assert main(given) == 0
    (cache,) = (tmp_path / "cache").glob("ave-*/")
    assert Cache.open(cache).notes == [] and Cache.open(cache).manifest["raw"]["lists"] == files


def test_the_audit_knows_official_lists_in_any_dress(ave, tmp_path, monkeypatch, capsys):
    raw = shutil.copytree(ave.parent / "AVE_Dataset", tmp_path / "above" / "AVE")
    files = official(monkeypatch, "ave", raw)
    knows(monkeypatch, "ave", KnownLists(files, {}))
    for name in files:
        (raw / name).write_bytes((raw / name).read_bytes().replace(b"\r\n", b"\n"))
    folders = ["--cache", str(tmp_path), "--results", str(tmp_path)]
    assert main(["audit", "ave", "--raw", str(raw.parent), *folders]) == 0
    assert "ave / official: the official lists" in capsys.readouterr().err


def test_lists_in_the_folder_of_modelnet40_are_read_and_known(tmp_path, monkeypatch, capsys):
    raw, lists = mini_views.modelnet_meshes(tmp_path)
    for path in lists.iterdir():
        shutil.copy(path, raw / "ModelNet40")
    module = sys.modules[load_index().load("dataset", "modelnet40").__module__]
    knows(monkeypatch, "modelnet40", KnownLists(hashes(lists, module.SHA256, {}), {}))
    folders = ["--cache", str(tmp_path), "--results", str(tmp_path)]
    assert main(["audit", "modelnet40", "--raw", str(raw), *folders]) == 0
    assert "modelnet40 / official: the official lists" in capsys.readouterr().err


# ---- prepared again ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["ave", "ucf101"])
def test_other_lists_are_not_passed_over_once_a_cache_is_there(name, ave, ucf, tmp_path, monkeypatch, capsys):
    raw = ave.parent / "AVE_Dataset" if name == "ave" else ucf
    own = raw if name == "ave" else raw / "ucfTrainTestlist"
    message = refused(capsys, *words(name, raw, tmp_path / "a"))  # not the official ones yet
    assert "is not the official list" in message and f"--lists {own}" in message
    official(monkeypatch, name, own)
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in own.glob("*.txt"):
        shutil.copy(path, mine)
    changed = "valSet.txt" if name == "ave" else "testlist02.txt"
    lines = (mine / changed).read_text().splitlines()
    plain, given = words(name, raw, tmp_path / "a"), words(name, raw, tmp_path / "a", "--lists", str(mine))
    assert main(plain) == 0 and main(given) == 0  # the same lists, be they named or not
    assert main(plain) == 0
    (manifest,) = (tmp_path / "a").glob(f"{name}-*/manifest.json")
    cache = Cache.open(manifest.parent)
    assert cache.notes == []
    for split, listed in load_index().load("dataset", name)().listed(raw).items():  # type: ignore[operator]
        wanted = Counter(sample.part for sample in listed.samples)
        assert {part: len(cache.part(split, part)) for part in wanted} == wanted
    (mine / changed).write_text("\n".join(lines[::-1]) + "\n")
    assert f"made of other split lists: {changed} differs" in refused(capsys, *given)
    (mine / changed).write_text("\r\n".join(lines))
    assert main(given) == 0  # another dress


def test_a_cache_of_my_own_lists_is_not_taken_for_the_official_one(ave, tmp_path, monkeypatch, capsys):
    raw = ave.parent / "AVE_Dataset"
    own = words("ave", raw, tmp_path, "--lists", str(raw))  # not the official ones: the miniature's
    assert main(own) == 0 and main(own) == 0
    official(monkeypatch, "ave", raw)
    assert "--lists is not given" in refused(capsys, *words("ave", raw, tmp_path))
    assert "--lists is not given" in refused(capsys, *words("ave", ave, tmp_path))


def test_lists_of_the_raw_folder_that_changed_since_are_told(ucf, tmp_path, monkeypatch, capsys):
    above = tmp_path / "above"
    raw = shutil.copytree(ucf, above / "raw")
    official(monkeypatch, "ucf101", raw / "ucfTrainTestlist")
    given = words("ucf101", above, tmp_path / "c")  # the folder above: found again below it
    assert main(given) == 0 and main(given) == 0
    path = raw / "ucfTrainTestlist" / "trainlist03.txt"
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
    assert "trainlist03.txt differs" in refused(capsys, *given)


def test_a_test_list_of_ucf101_that_was_changed_is_refused(ucf, tmp_path, monkeypatch, capsys):
    """Its counts are right and trainlist01.txt is the official one: another scene's video stands in a line."""
    raw = Path(shutil.copytree(ucf, tmp_path / "raw"))
    own = raw / "ucfTrainTestlist"
    official(monkeypatch, "ucf101", own)
    path = own / "testlist01.txt"
    lines = path.read_text().splitlines()
    path.write_bytes("\r\n".join(reversed(lines)).encode())  # another dress and order: the same list
    assert main(words("ucf101", raw, tmp_path / "a")) == 0
    path.write_text("\n".join([*lines[:-1], "YoYo/v_YoYo_g99_c01.avi"]) + "\n")
    assert "testlist01.txt in" in refused(capsys, *words("ucf101", raw, tmp_path / "b"))


# ---- raw files that changed since --------------------------------------------------------------------------------
def test_another_archive_than_before_is_told(ave, tmp_path, capsys):
    (tmp_path / "into").mkdir()
    archive = Path(shutil.copy(ave, tmp_path / "into"))
    lists = ["--lists", str(ave.parent / "AVE_Dataset")]
    given = words("ave", archive, tmp_path / "c", *lists)
    for one in (given, given, words("ave", archive.parent, tmp_path / "c", *lists)):
        assert main(one) == 0
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    for one in (given, words("ave", archive.parent, tmp_path / "c", *lists)):
        assert "is not the archive that" in refused(capsys, *one)
    (beside,) = (tmp_path / "c").glob("*.source.json")
    beside.unlink()  # made before it was remembered
    assert main(given) == 0 and "is not compared" in capsys.readouterr().err


def test_a_late_file_that_changed_is_seen_without_reading_all(tmp_path, monkeypatch, capsys):
    raw, lists = mini_av.cremad(tmp_path, 5)
    given = words("cremad", raw, tmp_path / "c", "--lists", str(lists))
    assert main(given) == 0
    monkeypatch.setattr(seen, "READ_BYTES", 1)
    read: list[Path] = []
    signature = seen.signature
    monkeypatch.setattr(seen, "signature", lambda path: read.append(path) or signature(path))
    assert main(given) == 0 and len(read) == 1
    last = sorted((raw / "VideoFlash").iterdir())[-1]
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    assert f"VideoFlash/{last.name}" in refused(capsys, *given) and len(read) == 3
    data[len(data) // 2] ^= 1
    last.write_bytes(data)  # as it was, only written later
    assert main(given) == 0
    (beside,) = (tmp_path / "c").glob("*.source.json")
    beside.unlink()
    read.clear()
    assert main(given) == 0 and len(read) == 60  # nothing is known: all are read
