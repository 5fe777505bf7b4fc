"""What lies in place of a raw file or a list: pointers, links to nothing, web pages, files of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import harmed_files as harmed
import harmed_lists as dressed
import mini_av
import mini_features
import mini_texts
import mini_views
import numpy as np
import pytest
from bad_input import refused
from prepared import prepared
from raw_forms import FORMS

from mmlbench.cli import main
from mmlbench.datasets.ucf101 import split_lists
from mmlbench.decode.fault import Fault, FaultKind
from mmlbench.decode.image import read_image
from mmlbench.errors import DataError
from mmlbench.frontends import lists
from mmlbench.prepare.file_checks import check_file


# ---- raw files ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("harm", [harmed.annex_link, lambda path: path.write_text(harmed.ANNEXED)])
def test_what_git_annex_leaves_is_fetched_by_its_own_command(harm: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "a.flv").write_bytes(b"FLV")
    harm(tmp_path / "a.flv")
    with pytest.raises(Fault, match="git-annex") as caught:
        check_file(tmp_path, "a.flv")
    assert caught.value.kind is FaultKind.POINTER and "git annex get" in caught.value.fix


def test_another_link_to_nothing_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.flv").symlink_to("b.flv")
    with pytest.raises(Fault, match="is missing"):
        check_file(tmp_path, "a.flv")


@pytest.mark.parametrize("name", ["a.flv", "a.wav", "a.off", "a.pkl", "a.txt", "A.MP4"])
def test_a_picture_under_another_files_name_is_said_to_be_one(name: str, tmp_path: Path) -> None:
    harmed.to_picture(tmp_path / name)
    with pytest.raises(Fault, match=r"is a picture \(JPEG\)"):
        check_file(tmp_path, name)


def test_a_sound_under_a_pictures_name_is_said_to_be_one(tmp_path: Path) -> None:
    harmed.to_sound(tmp_path / "a.jpg")
    with pytest.raises(Fault, match=r"is a sound \(WAV\)"):
        check_file(tmp_path, "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.PNG", "a", "a.data"])
def test_a_picture_under_any_name_of_pictures_or_an_unknown_one_is_no_fault(name: str, tmp_path: Path) -> None:
    harmed.to_picture(tmp_path / name)
    check_file(tmp_path, name)
    harmed.to_sound(tmp_path / "b.wav")
    check_file(tmp_path, "b.wav")


def test_a_name_that_is_put_right_while_a_session_lasts_is_seen(tmp_path: Path) -> None:
    (tmp_path / "A.flv").write_bytes(b"x")
    with pytest.raises(Fault, match="another case"):
        check_file(tmp_path, "a.flv")
    (tmp_path / "A.flv").rename(tmp_path / "b.flv")
    with pytest.raises(Fault, match="is missing"):
        check_file(tmp_path, "a.flv")


def test_the_reason_of_a_picture_that_can_not_be_read_stands_there_once(tmp_path: Path) -> None:
    mini_texts.write_picture(tmp_path / "a.jpg", 1, 1)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Fault) as caught:
        read_image(tmp_path / "a.jpg")
    assert caught.value.what.count("cut short") == 1
    (tmp_path / "a.jpg").write_bytes(b"nothing" * 30)
    with pytest.raises(Fault) as caught:
        read_image(tmp_path / "a.jpg")
    assert caught.value.what.count("can't be read") == 1 and "known" in caught.value.what


# ---- lists -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", ["Git LFS pointer", "git-annex pointer", "git-annex link", "a web page", "missing"])
def test_what_is_no_list_is_named_and_not_shown(fault: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,x\n")
    harm, words = dressed.OF_LISTS[fault]
    harm(tmp_path / "a.csv")
    with pytest.raises(DataError, match=words) as caught:
        lists.read_rows(tmp_path / "a.csv", columns=2)
    assert "Google" not in str(caught.value) and "oid" not in str(caught.value) and caught.value.fix


def test_a_list_in_another_case_is_named_and_one_of_another_name_is_not(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text("1,x\n")
    (tmp_path / "b.csv").write_text("<html is a word here>,x\n")
    with pytest.raises(DataError, match=r"'A\.CSV', a name in another case"):
        lists.read_rows(tmp_path / "a.csv")
    with pytest.raises(DataError) as caught:
        lists.read_rows(tmp_path / "c.csv")
    assert "another case" not in str(caught.value)


def test_a_long_line_is_not_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("word " * 400 + "\n")
    with pytest.raises(DataError, match="line 1") as caught:
        lists.read_rows(tmp_path / "a.csv", columns=2)
    assert len(str(caught.value)) < 500


def test_a_name_twice_and_numbers_that_contradict_are_refused(tmp_path: Path) -> None:
    lists.once(tmp_path, ["a", "b"])
    lists.one_number(tmp_path, [("a", "1"), ("b", "2"), ("a", "1")])
    with pytest.raises(DataError, match="names a twice"):
        lists.once(tmp_path, ["a", "b", "a"])
    with pytest.raises(DataError, match="gives a the numbers '1' and '2'"):
        lists.one_number(tmp_path, [("a", "1"), ("a", "2")])
    with pytest.raises(DataError, match="gives a and b the number '1'"):
        lists.one_number(tmp_path, [("a", "1"), ("b", "1")])


@pytest.mark.parametrize("fault", ["another label", "a line twice", "empty"])
def test_lists_of_ucf101_that_can_not_be_are_refused(fault: str, tmp_path: Path) -> None:
    folder = mini_views.ucf_lists(tmp_path, mini_views.ucf_paths())
    split_lists.read_splits(folder)
    victim = next(one for one in FORMS["ucf101"][0].victims if one.what == "trainlist01.txt")
    victim.faults()[fault][0](folder / victim.path)
    with pytest.raises(DataError, match=r"trainlist01\.txt"):
        split_lists.read_splits(folder)


def test_validation_clips_of_cremad_have_to_be_training_clips(tmp_path: Path, capsys) -> None:
    raw, given = mini_av.cremad(tmp_path, 5)
    (given / "validation.txt").write_text("1001_IEO_XXX_XX\n")
    words = ["prepare", "cremad", "--raw", raw, "--lists", given, "--cache", tmp_path / "c"]
    assert "validation.txt names '1001_IEO_XXX_XX'" in refused(capsys, *words)


# ---- prepared again ----------------------------------------------------------------------------------------------
def test_sequences_of_the_sdk_that_are_prepared_are_known_again(tmp_path: Path, capsys) -> None:
    pytest.importorskip("h5py")
    raw = mini_features.sequences(tmp_path / "raw", "mosi")
    form = FORMS["mosi"][-1]
    words = form.words(raw, None, tmp_path / "c")
    assert main(words) == 0 and main(words) == 0
    harmed.altered(raw / "CMU_MOSI_COVAREP.csd")
    assert "was changed after" in refused(capsys, *words)


def test_titles_that_changed_are_told_though_the_lists_are_given(tmp_path: Path, capsys) -> None:
    raw, given = mini_texts.food101(tmp_path)
    words = FORMS["food101"][0].words(raw, given, tmp_path / "c")
    assert main(words) == 0 and main(words) == 0
    path = raw / "texts" / "train_titles.csv"
    path.write_bytes(path.read_bytes().replace(b"lovely", b"other"))
    assert "train_titles.csv differs" in refused(capsys, *words)


def test_videos_of_the_folds_that_have_no_labels_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    raw = mini_features.sequences(tmp_path / "raw", "mosi")
    folds = raw / "cmu_mosi_std_folds.py"
    folds.write_text(folds.read_text().replace("['train0'", "['other', 'train0'"))
    cache = prepared("mosi", raw, tmp_path / "c", *FORMS["mosi"][-1].params)
    assert any("1 video of the folds without labels" in note for note in cache.notes)
    assert np.isfinite(cache.array("audio")).all()
