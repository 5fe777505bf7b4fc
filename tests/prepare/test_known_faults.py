"""Faults that the official copies of datasets have are named as such: nobody downloads them again for that."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import mini_av
import numpy as np
import pytest
from bad_input import refused

from mmlbench.cli import main
from mmlbench.registry.index import load_index

OFFICIAL = {
    "1001_IEO_ANG_XX": "1076_MTI_SAD_XX",
    "1001_IEO_DIS_XX": "1076_MTI_NEU_XX",
    "1002_IEO_ANG_XX": "1064_IEO_DIS_MD",
    "1002_IEO_DIS_XX": "1064_TIE_SAD_XX",
}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return CREMA-D in miniature with the faults of its official copy, and its lists."""
    raw, lists = mini_av.cremad(tmp_path_factory.mktemp("official"), 5)
    for path in lists.iterdir():
        text = path.read_text()
        for old, new in OFFICIAL.items():
            text = text.replace(old, new)
        path.write_text(text)
    listed = (lists / "train.csv").read_text() + (lists / "test.csv").read_text()
    mini_av.cremad_folds(lists, (line[:4] for line in listed.split()))
    for old, new in OFFICIAL.items():
        for path in raw.rglob(f"{old}.*"):
            path.rename(path.with_stem(new))
    mini_av.write_wav(raw / "AudioWAV" / "1076_MTI_SAD_XX.wav", np.zeros(32000, np.float32))
    (raw / "VideoFlash" / "1076_MTI_NEU_XX.flv").write_bytes(b"nothing that plays" * 900)
    mini_av.write_video(raw / "VideoFlash" / "1064_IEO_DIS_MD.flv", 1, 12.0, mini_av.FLV)
    return raw, lists


def words(official: tuple[Path, Path], root: Path) -> list[str]:
    """Return the command."""
    raw, lists = official
    return ["prepare", "cremad", "--raw", str(raw), "--lists", str(lists), "--dataset-set", "size=16",
            "--workers", "1", "--cache", str(root)]  # fmt: skip


def test_the_official_copys_faults_are_named_and_their_list_is_taken(official, tmp_path, capsys):
    line = refused(capsys, *words(official, tmp_path))
    assert "3 of 30 items can't be used" in line and "known faults of the official copy: 3 of 3" in line
    assert "To fetch them again is no use: leave them out on purpose with --allow-missing" in line
    (report,) = tmp_path.glob("*.faults.csv")
    with report.open(newline="") as file:
        reasons = {row["id"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons["1076_MTI_SAD_XX"].startswith("is silent (a known fault of the official copy: it is silent")
    assert "12.0 s of picture beside 1.4 s of sound (a known fault" in reasons["1064_IEO_DIS_MD"]
    assert "can't be opened" in reasons["1076_MTI_NEU_XX"] and "a known fault" in reasons["1076_MTI_NEU_XX"]
    assert main([*words(official, tmp_path), "--allow-missing", str(report)]) == 0
    message = capsys.readouterr().err
    assert (
        "1064_TIE_SAD_XX: the official copy has a known fault (its video names no duration); what is here" in message
    )


def test_what_is_not_there_is_no_known_fault(official, tmp_path, capsys):
    raw = Path(shutil.copytree(official[0], tmp_path / "raw"))
    for name in ("1076_MTI_NEU_XX", "1064_IEO_DIS_MD"):
        (raw / "VideoFlash" / f"{name}.flv").unlink()
    (raw / "VideoFlash" / "1003_IEO_ANG_XX.flv").write_text("version https://git-lfs.github.com/spec/v1\n")
    line = refused(capsys, *words((raw, official[1]), tmp_path / "c"))
    assert "4 of 30 items" in line and "known faults of the official copy: 1 of 4" in line
    assert "Fetch them again, or leave them out on purpose" in line and "gitlab.com/cs-cooper-lab" in line


def test_a_clip_of_ave_without_sound_is_one(tmp_path, capsys):
    raw = mini_av.ave(tmp_path, 3)
    name = sorted(path.stem for path in (raw / "AVE").iterdir())[4]
    mini_av.write_video(raw / "AVE" / f"{name}.mp4", 1, 3.1, ("libx264", None), rate=25)
    line = refused(capsys, "prepare", "ave", "--raw", raw, "--lists", raw, "--cache", tmp_path / "c",
                   "--dataset-set", "size=16", "--workers", "1")  # fmt: skip
    assert "has no audio stream (a known fault of the official copy: some of its clips have no sound)" in line
    assert (
        "Fetch them again, or leave them out on purpose with --allow-missing" in line
    )  # it may be this copy's alone


def test_fetch_names_the_mirror(capsys):
    assert main(["fetch", "cremad"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("mirror   https://gitlab.com/cs-cooper-lab/crema-d-mirror (where GitHub says") == 2


def test_known_faults_name_clips_of_the_lists():
    lists = (Path(__file__).parents[2] / "datasets" / "cremad" / "lists").glob("t*.csv")
    listed = {line.split(",")[0] for path in lists for line in path.read_text().split()}
    known = load_index().load("dataset", "cremad").known_faults
    assert len(known) == 4 and {one.id for one in known} <= listed
