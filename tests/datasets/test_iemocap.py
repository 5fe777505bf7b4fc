"""IEMOCAP from a miniature of the pickle that circulates, with six classes and with four."""

from __future__ import annotations

from pathlib import Path

import mini_features as mini
import numpy as np
import pytest
from bad_input import left_over, refused
from harmed_files import Call, of_pickles
from prepared import prepared
from quick import quick_first

from mmlbench.cli import main
from mmlbench.prepare.cache import Cache

NAMES = ("iemocap", "iemocap_4")
IDS, SPEAKERS, LABELS, TEXT, AUDIO, VISUAL, SENTENCES, TRAIN, TEST = range(9)


def written(folder: Path, found: object, protocol: int = 2) -> Path:
    """Write the pickle where it circulates; return the folder."""
    mini.write(folder / "raw" / "IEMOCAP_features_raw.pkl", found, protocol)
    return folder


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("iemocap")
    return prepared("iemocap", written(folder / "raw", mini.iemocap()), folder / "cache")


def sizes(cache: Cache, split: str) -> list[int]:
    return [len(cache.part(split, part)) for part in ("train", "val", "test")]


def test_splits_are_by_session_and_no_speaker_is_in_two_parts(six):
    assert sizes(six, "official") == [96, 0, 24]
    assert sizes(six, "official_val") == [72, 24, 24]
    for split in six.manifest["splits"]:
        groups = [set(six.part(split, part).groups) for part in ("train", "val", "test")]
        assert not (groups[0] & groups[2] or groups[0] & groups[1] or groups[1] & groups[2])
    tested = [one for k in range(1, 6) for one in six.part(f"session.{k}", "test").ids]
    assert len(tested) == len(set(tested)) == 120
    assert set(six.part("session.3", "test").groups) == {"Ses03F", "Ses03M"}
    assert set(six.part("official_val", "val").groups) == {"Ses04F", "Ses04M"}


def test_what_is_stored_is_what_the_file_has(six):
    found = mini.iemocap()
    part = six.part("official", "test")
    row = list(part.ids).index("Ses05M_impro02_M003")
    assert six.manifest["class_names"][part.label[row]] == "angry"
    for modality, place in (("text", TEXT), ("audio", AUDIO), ("visual", VISUAL)):
        stored = six.array(modality)[part.rows[modality][row], 0]
        assert np.array_equal(stored, found[place]["Ses05M_impro02"][3].astype(np.float32))
    assert not six.notes


@pytest.mark.parametrize("happy, count", [("with_excited", 100), ("alone", 80)])
def test_four_classes(tmp_path, happy, count):
    cache = prepared("iemocap_4", written(tmp_path / "raw", mini.iemocap()), tmp_path / "cache", f"happy={happy}")
    assert sum(sizes(cache, "official")) == count
    assert cache.manifest["class_names"] == ["happy", "sad", "neutral", "angry"]
    labels = np.bincount(cache.part("official", "train").label)
    assert labels.tolist() == [32 if happy == "with_excited" else 16, 16, 16, 16]


def test_other_forms_of_the_same_content_are_read(tmp_path):
    found = list(mini.iemocap((30, 40, 50)))
    sets = ("text_features=30", "audio_features=40", "visual_features=50")
    one = prepared("iemocap", written(tmp_path / "a", found), tmp_path / "one", *sets)
    found[TEXT] = {name: np.array(own) for name, own in found[TEXT].items()}
    found[AUDIO] = {name: [vector.tolist() for vector in own] for name, own in found[AUDIO].items()}
    found[TRAIN], found[TEST] = sorted(found[TRAIN]), tuple(found[TEST])
    two = prepared("iemocap", written(tmp_path / "b", tuple(found), 4), tmp_path / "two", *sets)
    for modality in ("text", "audio", "visual"):
        assert np.array_equal(one.array(modality), two.array(modality))


def test_what_is_not_finite_becomes_zero_and_is_counted(tmp_path):
    found = mini.iemocap()
    found[AUDIO]["Ses01F_impro01"][2][:3] = [np.nan, -np.inf, 1e300]
    cache = prepared("iemocap", written(tmp_path / "raw", found), tmp_path / "cache")
    assert any("audio: 3 values in 1 sample" in note for note in cache.notes)


def test_what_is_left_out_is_not_counted_as_not_finite(tmp_path):
    found = mini.iemocap()
    found[AUDIO]["Ses01F_impro01"][0][:3] = [np.nan, -np.inf, 1e300]
    (tmp_path / "out.csv").write_text("id\nSes01F_impro01_F000\n")
    more = ("--allow-missing", str(tmp_path / "out.csv"))
    cache = prepared("iemocap", written(tmp_path / "raw", found), tmp_path / "cache", more=more)
    assert not any("not finite" in note for note in cache.notes)
    assert any("left out" in note for note in cache.notes) and not cache.array("audio")[0].any()


def test_ids_that_occur_again_and_what_is_left_out_are_counted(tmp_path):
    found = mini.iemocap()
    found[IDS]["Ses02F_impro01"][1] = found[IDS]["Ses02F_impro01"][0]
    (tmp_path / "out.csv").write_text("id\nSes01F_impro01_F000\n")
    more = ("--allow-missing", str(tmp_path / "out.csv"))
    cache = prepared("iemocap", written(tmp_path / "raw", found), tmp_path / "cache", more=more)
    assert any("1 sample kept whose id was there before" in note for note in cache.notes)
    assert sum(sizes(cache, "official")) == 119


def test_a_speaker_in_both_parts_is_said(tmp_path):
    found = list(mini.iemocap())
    found[TRAIN] = found[TRAIN] | {"Ses05F_impro01"}
    found[TEST] = found[TEST] - {"Ses05F_impro01"}
    cache = prepared("iemocap", written(tmp_path / "raw", tuple(found)), tmp_path / "cache")
    assert any("2 speakers in more than one part" in note for note in cache.notes)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_methods_run_on_the_miniature(tmp_path, name):
    prepared(name, written(tmp_path / "raw", mini.iemocap()), tmp_path / "cache")
    small = ["--recipe-set", "epochs=1", "--recipe-set", "batch_size=8", "--cache", str(tmp_path / "cache")]
    for method in ("joint", "unimodal"):
        words = ["train", "--dataset", name, "--split", "official_val", "--method", method, *small]
        assert main([*words, "--results", str(tmp_path / "results")]) == 0
    assert len(list((tmp_path / "results").rglob("run.json"))) == 2


# ---- bad input -------------------------------------------------------------------------------------------------
def hostile(path: Path) -> None:
    found = list(mini.iemocap())
    found[SENTENCES] = {"Ses01F_impro01": [Call(path.parent)]}
    mini.write(path, found)


FILE = of_pickles("IEMOCAP_features.pkl", hostile)


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
@pytest.mark.parametrize("fault", FILE)
def test_a_bad_file_is_refused_in_one_line_and_leaves_nothing(tmp_path, capsys, name, fault):
    raw, (harm, named) = written(tmp_path / "raw", mini.iemocap((3, 4, 5))), FILE[fault]
    harm(raw / "raw" / "IEMOCAP_features_raw.pkl")
    assert named in refused(capsys, "prepare", name, "--raw", raw, "--cache", tmp_path / "cache")
    assert not left_over(tmp_path / "cache") and not list(tmp_path.rglob("it_ran"))


def changed(place: int, value: object):
    """Return what gives another value at a place of the pickle; a dict is laid over the one there."""

    def harm(found: list) -> object:
        found[place] = found[place] | value if isinstance(value, dict) else value
        return tuple(found)

    return harm


FIRST = "Ses01F_impro01"
CONTENT = {
    "a dict": (lambda found: {"train": {}}, "not the nine"),
    "ten values": (lambda found: (*found, 1), "10 values"),
    "no dicts": (changed(LABELS, [1]), "no dicts"),
    "no test": (changed(TEST, set()), "for test"),
    "a dialogue in both parts": (changed(TEST, {FIRST}), f"{FIRST} in train and in test"),
    "a dialogue of no session": (changed(TEST, {"dialogue"}), "no session"),
    "fewer labels": (changed(LABELS, {FIRST: [1]}), "12, 12, 1"),
    "a label of 6": (changed(LABELS, {FIRST: [6] * 12}), "another label than 0 to 5"),
    "a label that is no number": (changed(LABELS, {FIRST: ["hap"] * 12}), "another label than 0 to 5"),
    "a speaker of another name": (changed(SPEAKERS, {FIRST: ["X"] * 12}), "another speaker than M or F"),
    "an id that is none": (changed(IDS, {FIRST: [None] * 12}), "no name"),
    "a dialogue without audio": (changed(AUDIO, {FIRST: None}), f"audio of {FIRST}"),
    "fewer vectors": (changed(TEXT, {FIRST: np.ones((3, 100))}), "3 utterances"),
    "other vectors": (changed(VISUAL, {FIRST: np.ones((12, 342))}), "visual_features=342"),
    "lists of several widths": (changed(TEXT, {FIRST: [[1.0] * 100] * 11 + [[1.0, [2.0]]]}), "no vector of numbers"),
    "a list of words": (changed(TEXT, {FIRST: [["word"] * 100] * 12}), "no vector of numbers"),
    "a vector of texts": (changed(TEXT, {FIRST: [np.ones(100)] * 11 + [np.full(100, "a")]}), "holds no numbers"),
    "vectors of several widths": (changed(TEXT, {FIRST: [np.ones(100)] * 11 + [np.ones(9)]}), "2 shapes"),
}


@pytest.mark.parametrize("fault", CONTENT)
def test_a_file_of_another_form_is_refused_in_one_line(tmp_path, capsys, fault):
    harm, named = CONTENT[fault]
    raw = written(tmp_path / "raw", harm(list(mini.iemocap())))
    assert named in refused(capsys, "prepare", "iemocap", "--raw", raw, "--cache", tmp_path / "cache")
    assert not left_over(tmp_path / "cache")
