"""`mmlbench doctor --data`: what is prepared of a study's datasets, and what is there of their raw files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mini_av
import pytest
import yaml

from mmlbench.api.making import ensure_cache, ensure_shard
from mmlbench.cli import doctor
from mmlbench.cli.doctor import study_findings
from mmlbench.cli.doctor_data import data_findings
from mmlbench.cli.parser import make_parser
from mmlbench.dataset import Options
from mmlbench.prepare.shards import Shard
from mmlbench.registry.index import load_index
from mmlbench.study.config import read_study

BLOCK = {"dataset": "cremad", "dataset_set": {"size": 24}, "seeds": [0], "methods": ["joint"]}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return raw files and lists of a miniature, to be read."""
    return mini_av.cremad(tmp_path_factory.mktemp("mini"), 5)


def found(tmp_path: Path, raw: Any = None, grid: list[Any] | None = None, **keys: Any) -> list[tuple[str, str, str]]:
    """Return verdict, about and what of each finding."""
    config = {"grid": grid or [BLOCK]} | ({"raw": {"cremad": raw}} if raw else {}) | keys
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    findings = data_findings(read_study(path), tmp_path / "cache")
    return [(one.verdict, one.about, f"{one.what} {one.fix}") for one in findings]


def of(mini: tuple[Path, Path], **more: Any) -> dict[str, Any]:
    """Return what a config says of the miniature's raw files."""
    return {"folder": str(mini[0]), "lists": str(mini[1])} | more


def test_what_is_not_prepared_and_nobody_knows_where_its_files_are(tmp_path: Path) -> None:
    ((verdict, about, text),) = found(tmp_path)
    assert (verdict, about) == ("wrong", "cremad") and "mmlbench prepare cremad --raw FOLDER" in text
    ((verdict, _, _),) = found(tmp_path, grid=[{"dataset": "gabor_tones", "seeds": [0], "methods": ["joint"]}])
    assert verdict == "ok"


def test_raw_files_that_are_all_there(tmp_path: Path, mini: tuple[Path, Path]) -> None:
    state, raw = found(tmp_path, of(mini))
    assert state[0] == "note" and raw[0] == "ok" and str(mini[0]) in raw[2]
    assert not (tmp_path / "cache").exists(), "it only looks"


def test_raw_files_that_are_missing_or_left_out(tmp_path: Path, mini: tuple[Path, Path]) -> None:
    mini = Path(shutil.copytree(mini[0], tmp_path / "raw")), mini[1]
    first, second = sorted((mini[0] / "VideoFlash").glob("*.flv"))[:2]
    first.unlink()
    second.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    _, (verdict, _, text) = found(tmp_path, of(mini))
    assert verdict == "wrong" and first.stem in text and second.stem in text and "2 of" in text
    listed = tmp_path / "missing.csv"
    listed.write_text(f"{first.stem}\n{second.stem}\n")
    _, (verdict, _, text) = found(tmp_path, of(mini, allow_missing=str(listed)))
    assert verdict == "ok" and "2 left out" in text
    listed.write_text("nobody\n")
    assert found(tmp_path, of(mini, allow_missing=str(listed)))[1][0] == "wrong"


def test_a_raw_folder_that_is_not_there_or_another_or_an_archive(tmp_path: Path, mini: tuple[Path, Path]) -> None:
    (tmp_path / "empty").mkdir()
    for folder, wanted in ((tmp_path / "gone", "wrong"), (tmp_path / "empty", "wrong")):
        assert found(tmp_path, of(mini, folder=str(folder)))[1][0] == wanted
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", mini[0])
    assert found(tmp_path, of(mini, folder=archive))[1][0] == "note"


def test_what_is_prepared_whole_in_part_otherwise_or_damaged(
    tmp_path: Path, mini: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, lists = mini
    cache, options = tmp_path / "cache", Options(lists=lists)
    ensure_shard("cremad", {"size": 24}, cache, load_index(), raw, None, options, Shard(1, 2))
    assert "1 of 2 shards" in found(tmp_path, of(mini), prepare_shards=2)[1][2]
    ensure_cache("cremad", {"size": 16}, cache, load_index(), raw, options=options)
    notes = [one for one in found(tmp_path) if one[0] == "note"]
    assert len(notes) == 1 and "other" in notes[0][2]
    opened = ensure_cache("cremad", {"size": 24}, cache, load_index(), raw, options=options)
    assert found(tmp_path)[0][0] == "ok" and str(opened.folder) in found(tmp_path)[0][2]
    shutil.copytree(opened.folder, tmp_path / "group" / opened.folder.name)
    with (opened.folder / "visual.npy").open("r+b") as file:
        file.truncate(200)
    assert found(tmp_path)[0][0] == "wrong"
    monkeypatch.setenv("MMLBENCH_CACHE", str(tmp_path / "group"))
    passed_over, taken = found(tmp_path)[:2]
    assert passed_over[0] == "note" and str(opened.folder) in passed_over[2]
    assert taken[0] == "ok" and str(tmp_path / "group") in taken[2]


def test_the_study_is_read_once_and_a_bad_one_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(doctor, "read_study", lambda path: read.append(path) or read_study(path))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"grid": [BLOCK]}), encoding="utf-8")
    shown = [list(study_findings(path, tmp_path, tmp_path / "cache", data)) for data in (False, True)]
    assert len(read) == 2 and shown[1][: len(shown[0])] == shown[0]
    assert {one.about for one in shown[1]} - {one.about for one in shown[0]} == {"cremad"}
    path.write_text("grid: 3\n", encoding="utf-8")
    (finding,) = study_findings(path, tmp_path, tmp_path / "cache", True)
    assert finding.verdict == "wrong" and finding.about == "config"


def test_the_option_is_off_by_default() -> None:
    parser = make_parser()
    assert parser.parse_args(["doctor", "--data"]).data and not parser.parse_args(["doctor"]).data
