"""MOSI and MOSEI from miniature files in the layouts that circulate, by the documented commands."""

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
from mmlbench.registry.index import load_index

NAMES = ("mosi", "mosei")
PARTS = ("train", "val", "test")


def real(cache: Cache, modality: str, row: int) -> np.ndarray:
    """Return the real steps of a row."""
    lengths = cache.lengths(modality)
    assert lengths is not None
    return cache.array(modality)[row, 0, : lengths[row, 0]]


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("family", ["mmsa", "mult"])
def test_what_is_stored_is_what_the_file_has(tmp_path, name, family, aligned):
    raw = mini.sentiment(tmp_path / "raw", name, family, aligned)
    sets = [f"form={'aligned' if aligned else 'unaligned'}", f"text={'bert' if family == 'mmsa' else 'glove'}"]
    cache = prepared(name, raw, tmp_path / "cache", *sets)
    found, row = mini.content(name, family, aligned), 0
    assert not cache.notes
    for part, key in zip(PARTS, mini.COUNTS, strict=True):
        samples, own = cache.part("standard", part), found[key]
        assert len(samples) == mini.COUNTS[key]
        label = own["regression_labels" if family == "mmsa" else "labels"].reshape(-1)
        assert samples.label.tolist() == pytest.approx(label.tolist())
        for k in range(len(samples)):
            assert samples.groups[k] == f"{key}{k // 4}"
            for modality, array in (("text", "text"), ("audio", "audio"), ("visual", "vision")):
                steps = own[array][k].astype(np.float32)
                steps = steps[(steps != 0).any(axis=1)]
                assert np.array_equal(real(cache, modality, row), steps)
                assert not cache.array(modality)[row, 0, len(steps) :].any()
            row += 1
    if family == "mmsa":
        assert cache.part("standard", "train").ids[5] == "train1$_$1"
    else:
        assert cache.part("standard", "train").ids[5] == "train1/5/6"


def test_aligned_modalities_keep_the_steps_of_the_words(tmp_path):
    found = mini.content("mosi")
    audio = found["train"]["audio"].copy()
    audio[0, :2] = 0  # a word without sound
    raw = mini.write(tmp_path / "aligned_50.pkl", mini.changed(found, "train", audio=audio))
    cache = prepared("mosi", raw, tmp_path / "cache")
    assert len(real(cache, "audio", 0)) == len(real(cache, "text", 0))
    assert not real(cache, "audio", 0)[:2].any()


def test_ids_for_bert(tmp_path):
    cache = prepared("mosi", mini.sentiment(tmp_path / "raw", "mosi"), tmp_path / "cache", "text=bert_ids")
    ids = mini.content("mosi")["train"]["text_bert"][3]
    count = int(ids[1].sum())
    assert real(cache, "text", 3).tolist() == ids[0, :count].astype(int).tolist()
    assert cache.modality("text").tokenizer == "bert-base-uncased"


def test_what_is_not_finite_becomes_zero_and_is_counted(tmp_path):
    found = mini.content("mosei")
    audio, vision = found["train"]["audio"].copy(), found["test"]["vision"].copy()
    audio[2, 0, :3], audio[4, 1, 0], vision[1, 0, 0], vision[1, 1, 1] = -np.inf, np.nan, 1e300, np.inf
    found = mini.changed(mini.changed(found, "train", audio=audio), "test", vision=vision)
    cache = prepared("mosei", mini.write(tmp_path / "aligned_50.pkl", found), tmp_path / "cache")
    assert not cache.array("audio")[2, 0, 0, :3].any()
    assert any("audio: 4 values in 2 samples" in note for note in cache.notes)
    assert any("visual: 2 values in 1 sample " in note for note in cache.notes)


def test_what_is_left_out_is_counted_neither_as_not_finite_nor_as_empty(tmp_path):
    found = mini.content("mosi", aligned=False)
    audio, vision = found["train"]["audio"].copy(), found["test"]["vision"].copy()
    audio[2, 0, :3], audio[4, 1, 0], vision[[1, 5]] = np.inf, np.nan, 0
    found = mini.changed(mini.changed(found, "train", audio=audio), "test", vision=vision)
    raw = mini.write(tmp_path / "unaligned_50.pkl", found)
    ids = [found["train"]["id"][2], found["test"]["id"][5]]
    (tmp_path / "out.csv").write_text("\n".join(["id", *ids]) + "\n")
    more = ("--allow-missing", str(tmp_path / "out.csv"))
    cache = prepared("mosi", raw, tmp_path / "cache", "form=unaligned", more=more)
    assert any("audio: 1 value in 1 sample " in note for note in cache.notes)
    assert any("visual: 1 sample " in note for note in cache.notes)
    assert not cache.array("audio")[2].any()


def test_samples_without_any_step_are_kept_and_counted(tmp_path):
    found = mini.content("mosi", aligned=False)
    vision = found["test"]["vision"].copy()
    vision[[1, 5]] = 0
    raw = mini.write(tmp_path / "unaligned_50.pkl", mini.changed(found, "test", vision=vision))
    cache = prepared("mosi", raw, tmp_path / "cache", "form=unaligned")
    row = mini.COUNTS["train"] + mini.COUNTS["valid"] + 1
    assert real(cache, "visual", row).shape == (1, 20)
    assert any("visual: 2 samples" in note for note in cache.notes)


def test_ids_that_occur_again_and_videos_in_two_parts_are_counted(tmp_path):
    found = mini.content("mosi")
    ids = list(found["test"]["id"])
    ids[3], ids[4] = ids[2], found["train"]["id"][0]
    raw = mini.write(tmp_path / "aligned_50.pkl", mini.changed(found, "test", id=ids))
    cache = prepared("mosi", raw, tmp_path / "cache")
    assert f"{ids[2]}#2" in cache.part("standard", "test").ids
    assert any("2 samples kept whose id was there before" in note for note in cache.notes)
    assert any("1 video in more than one part" in note for note in cache.notes)


def test_files_without_ids_are_read(tmp_path):
    found = mini.content("mosei", "mult")
    for part in mini.COUNTS:
        found = mini.changed(found, part, id=None)
    cache = prepared(
        "mosei", mini.write(tmp_path / "mosei_senti_data.pkl", found, 2), tmp_path / "cache", "text=glove"
    )
    assert cache.part("standard", "val").ids[1] == "val-00001"


def test_samples_are_left_out_on_purpose_alone(tmp_path, capsys):
    raw = mini.sentiment(tmp_path / "raw", "mosi")
    (tmp_path / "out.csv").write_text("id\ntrain0$_$1\ntest1$_$0\n")
    more = ("--allow-missing", str(tmp_path / "out.csv"))
    cache = prepared("mosi", raw, tmp_path / "cache", more=more)
    assert len(cache.part("standard", "train")) == mini.COUNTS["train"] - 1
    assert any("left out on purpose" in note for note in cache.notes)
    assert prepared("mosi", raw, tmp_path / "cache", more=more).manifest == cache.manifest
    (tmp_path / "out.csv").write_text("id\nnone\n")
    line = refused(capsys, "prepare", "mosi", "--raw", raw, "--cache", tmp_path / "b", *more)
    assert "'none'" in line


def test_the_same_file_makes_the_same_bytes_and_a_change_is_noticed(tmp_path, capsys):
    raw = mini.sentiment(tmp_path / "raw", "mosi")
    one, two = (prepared("mosi", raw, tmp_path / root) for root in ("one", "two"))
    assert one.manifest["fingerprint"] == two.manifest["fingerprint"]
    prepared("mosi", raw, tmp_path / "one")
    text = mini.content("mosi")["train"]["text"] + 1
    other = mini.changed(mini.content("mosi"), "train", text=text)
    mini.write(raw / "MOSI" / "Processed" / "aligned_50.pkl", other)
    assert "was changed after" in refused(capsys, "prepare", "mosi", "--raw", raw, "--cache", tmp_path / "one")


def test_the_list_is_audited_before_anything_is_prepared(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = mini.sentiment(tmp_path / "raw", "mosi")
    assert main(["audit", "mosi", "--raw", str(raw), "--cache", str(tmp_path / "cache")]) == 0
    assert "mosi" in capsys.readouterr().out + capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("recipe", ["embedded", "mult"])
def test_two_methods_run_on_the_miniature(tmp_path, name, recipe):
    of_mult = recipe == "mult"
    raw = mini.sentiment(tmp_path / "raw", name, "mult" if of_mult else "mmsa", not of_mult)
    prepared(name, raw, tmp_path / "cache", *(("form=unaligned", "text=glove") if of_mult else ()))
    small = [
        "--recipe",
        recipe,
        "--recipe-set",
        "epochs=1",
        "--recipe-set",
        "batch_size=8",
        "--cache",
        str(tmp_path / "cache"),
    ]
    for method in ("joint", "unimodal"):
        words = ["train", "--dataset", name, "--method", method, *small, "--results", str(tmp_path / "results")]
        assert main(words) == 0
    assert len(list((tmp_path / "results").rglob("run.json"))) == 2


def test_metrics_of_two_and_seven_classes_belong_to_the_task():
    for name in NAMES:
        metrics = load_index().load("dataset", name).asks().metrics
        assert {"mae", "pearson", "acc2", "acc2_nonzero", "acc7"} <= set(metrics)


# ---- two and seven classes -------------------------------------------------------------------------------------
def moods() -> list[float]:
    """Return the sentiments of the train part; some are 0."""
    return [mini.mood("train", k) for k in range(mini.COUNTS["train"])]


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
def test_two_classes_are_negative_or_not(tmp_path, name):
    raw = mini.sentiment(tmp_path / "raw", name)
    part = prepared(f"{name}_2", raw, tmp_path / "kept").part("standard", "train")
    assert part.label.tolist() == [int(mood >= 0) for mood in moods()]
    assert 0 in moods()
    cache = prepared(f"{name}_2", raw, tmp_path / "left", "zero=left_out")
    part = cache.part("standard", "train")
    assert part.label.tolist() == [int(mood > 0) for mood in moods() if mood]
    row = int(part.rows["audio"][-1])
    assert np.array_equal(real(cache, "audio", row), real(prepared(name, raw, tmp_path / "one"), "audio", row))


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
def test_seven_classes_are_those_of_the_metric(tmp_path, name):
    from mmlbench.task.numeric import seven_class_accuracy

    part = prepared(f"{name}_7", mini.sentiment(tmp_path / "raw", name), tmp_path / "cache").part("standard", "train")
    shown = (part.label - 3).astype(float)
    assert seven_class_accuracy(shown[:, None], np.array(moods())) == 1
    assert set(part.label) > {0, 6}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mosi_2", "mosei_2", "mosi_7", "mosei_7"])
def test_methods_of_classification_run_on_the_miniature(tmp_path, name):
    raw = mini.sentiment(tmp_path / "raw", name.partition("_")[0])
    prepared(name, raw, tmp_path / "cache")
    small = ["--recipe-set", "epochs=1", "--recipe-set", "batch_size=8", "--cache", str(tmp_path / "cache")]
    for method in ("joint", "unimodal"):
        words = ["train", "--dataset", name, "--method", method, *small, "--results", str(tmp_path / "results")]
        assert main(words) == 0


# ---- bad input -------------------------------------------------------------------------------------------------
def hostile(path: Path) -> None:
    mini.write(path, mini.content("mosi") | {"more": Call(path.parent)})


FILE = of_pickles("aligned_50.pkl", hostile) | {
    "trailing bytes": (lambda path: path.write_bytes(path.read_bytes() + b"xx"), "2 bytes behind"),
}


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
@pytest.mark.parametrize("fault", FILE)
def test_a_bad_file_is_refused_in_one_line_and_leaves_nothing(tmp_path, capsys, name, fault):
    raw, (harm, named) = mini.sentiment(tmp_path / "raw", name), FILE[fault]
    harm(raw / name.upper() / "Processed" / "aligned_50.pkl")
    assert named in refused(capsys, "prepare", name, "--raw", raw, "--cache", tmp_path / "cache")
    assert not left_over(tmp_path / "cache") and not list(tmp_path.rglob("it_ran"))
    assert not list((tmp_path / "cache").glob("*/manifest.json"))


def nan_label(found):
    label = found["test"]["regression_labels"].copy()
    label[2] = np.nan
    return mini.changed(found, "test", regression_labels=label)


def far_label(found):
    return mini.changed(found, "train", regression_labels=found["train"]["regression_labels"] * 4)


CONTENT = {
    "a list": (lambda found: [1, 2], "no dict"),
    "no part": (lambda found: {"train": found["train"]}, "'valid'"),
    "a part that is no dict": (lambda found: found | {"test": [1]}, "'test'"),
    "no audio": (lambda found: mini.changed(found, "valid", audio=None), "'audio'"),
    "no labels": (lambda found: mini.changed(found, "valid", regression_labels=None), "regression_labels"),
    "fewer labels": (lambda found: mini.changed(found, "test", regression_labels=[0.0]), "label"),
    "fewer ids": (lambda found: mini.changed(found, "test", id=["a"]), "1 id and 12 labels"),
    "an id that is none": (lambda found: mini.changed(found, "test", id=[None] * 12), "None"),
    "an id with line ends": (lambda found: mini.changed(found, "test", id=["a\nb"] * 12), "no id"),
    "one array as ids": (lambda found: mini.changed(found, "test", id=np.array("a")), "no list"),
    "one text as ids": (lambda found: mini.changed(found, "test", id="abc"), "no list"),
    "a text as an id": (lambda found: mini.changed(found, "test", id=["a whole sentence"] * 12), "no id"),
    "a label that is NaN": (nan_label, "sample 2"),
    "a label out of range": (far_label, "not from -3"),
    "labels of emotions": (
        lambda found: mini.changed(found, "test", regression_labels=np.zeros((12, 7))),
        "7 numbers a sample",
    ),
    "text as words": (lambda found: mini.changed(found, "train", text=["a"] * 24), "holds no numbers"),
    "other features": (
        lambda found: mini.changed(found, "train", audio=np.ones((24, 50, 9))),
        "audio_features=9",
    ),
    "more steps": (lambda found: mini.changed(found, "train", audio=np.ones((24, 60, 5))), "steps"),
    "not aligned": (lambda found: mini.changed(found, "train", audio=np.ones((24, 40, 5))), "form=unaligned"),
    "two axes": (lambda found: mini.changed(found, "train", audio=np.ones((24, 5))), "not numbers of 3 axes"),
}


@pytest.mark.parametrize("fault", CONTENT)
def test_a_file_of_another_form_is_refused_in_one_line(tmp_path, capsys, fault):
    harm, named = CONTENT[fault]
    raw = mini.write(tmp_path / "aligned_50.pkl", harm(mini.content("mosi")))
    assert named in refused(capsys, "prepare", "mosi", "--raw", raw, "--cache", tmp_path / "cache")
    assert not left_over(tmp_path / "cache")


ROWS = mini.COUNTS["test"]
RAGGED = {
    "a list": [["v", str(k), "x"] if k % 2 else ["v", str(k)] for k in range(ROWS)],
    "arrays": [np.array(["v", str(k), "x"] if k % 2 else ["v", str(k)]) for k in range(ROWS)],
    "some alone": [["v", str(k)] if k % 2 else f"v{k}" for k in range(ROWS)],
}


@pytest.mark.parametrize("case", RAGGED)
def test_ids_of_several_numbers_of_parts_are_read(tmp_path, case):
    raw = mini.write(tmp_path / "aligned_50.pkl", mini.changed(mini.content("mosi"), "test", id=RAGGED[case]))
    ids = prepared("mosi", raw, tmp_path / "cache").part("standard", "test").ids
    assert ids[3] == ("v/3" if case == "some alone" else "v/3/x")


def test_a_sample_without_words_keeps_its_sound(tmp_path):
    found = mini.content("mosi", "mult")
    text = found["train"]["text"].copy()
    text[2] = 0
    raw = mini.write(tmp_path / "mosi_data.pkl", mini.changed(found, "train", text=text), 2)
    cache = prepared("mosi", raw, tmp_path / "cache", "text=glove")
    heard = found["train"]["audio"].astype(np.float32)
    for row in (2, 3):  # 3 has words
        assert np.array_equal(real(cache, "audio", row), heard[row][(heard[row] != 0).any(axis=1)])
    assert len(real(cache, "text", 2)) == 1 and any("text: 1 sample without any step" in one for one in cache.notes)


def test_a_file_without_ids_is_noted_and_one_with_ids_is_not(tmp_path):
    found = mini.content("mosi")
    for name, change, noted in (("without", {"id": None}, True), ("with", {}, False)):
        raw = mini.write(tmp_path / name / "aligned_50.pkl", mini.changed(found, "test", **change))
        cache = prepared("mosi", raw, tmp_path / f"cache {name}")
        assert any("no ids in test" in note for note in cache.notes) is noted


@pytest.mark.parametrize("family", ["mmsa", "mult"])
@pytest.mark.parametrize("aligned", [True, False])
def test_a_file_of_another_form_is_read_by_what_the_fix_says(tmp_path, capsys, family, aligned):
    """Of another source, and of the other form: the words of the fix, with the file named, prepare it."""
    raw = mini.write(tmp_path / "any.pkl", mini.content("mosi", family, aligned), 2)
    text = {"mmsa": "bert", "mult": "glove"}
    form = {True: "aligned", False: "unaligned"}
    own = [f"form={form[aligned]}", f"text={text[family]}"]
    for wrong, fix in (
        ([f"form={form[not aligned]}", own[1]], own[0]),
        ([own[0], f"text={text['mult' if family == 'mmsa' else 'mmsa']}"], own[1]),
    ):
        words = ["--cache", tmp_path / "cache", *(word for one in wrong for word in ("--dataset-set", one))]
        line = refused(capsys, "prepare", "mosi", "--raw", raw, *words)
        assert f"--dataset-set {fix}, and name this file: --raw FILE" in line
    assert len(prepared("mosi", raw, tmp_path / "right", *own).part("standard", "train")) == 24


@pytest.mark.parametrize(("steps", "words"), [(50, ("steps=50",)), (40, ())])
def test_an_unaligned_file_of_equal_steps_is_read(tmp_path, capsys, steps, words):
    """Of as many steps as the aligned files have it is asked for by `steps`; else nothing has to be said."""
    found = mini.content("mosi", "mmsa")
    for part, count in mini.COUNTS.items():
        rng = np.random.default_rng(count)
        arrays = {"text": 768, "audio": 5, "vision": 20}
        drawn = {key: rng.standard_normal((count, steps, width)) for key, width in arrays.items()}
        drawn["audio"][:, steps // 2 :] = 0  # shorter than the words: aligned, it would be cut as they are
        found = mini.changed(found, part, **drawn)
    raw = mini.write(tmp_path / "any.pkl", found)
    if words:
        shown = ["--dataset-set", "form=unaligned", "--cache", tmp_path / "cache"]
        assert f"--dataset-set {words[0]}" in refused(capsys, "prepare", "mosi", "--raw", raw, *shown)
    cache = prepared("mosi", raw, tmp_path / "cache", "form=unaligned", *words)
    assert len(real(cache, "audio", 0)) == steps // 2 and len(real(cache, "text", 0)) == steps


def test_more_steps_are_declared_where_a_parameter_says_so(tmp_path, capsys):
    found = mini.content("mosi", "mult", aligned=False)
    raw = mini.write(tmp_path / "any.pkl", mini.changed(found, "train", audio=np.ones((24, 501, 5))), 2)
    words = ["form=unaligned", "text=glove"]
    shown = [word for one in words for word in ("--dataset-set", one)]
    line = refused(capsys, "prepare", "mosi", "--raw", raw, *shown, "--cache", tmp_path / "cache")
    assert "--dataset-set steps=501" in line
    assert len(prepared("mosi", raw, tmp_path / "right", *words, "steps=501").part("standard", "train")) == 24
    for part in mini.COUNTS:  # of words no parameter says how many there are
        found = mini.changed(found, part, text=np.ones((mini.COUNTS[part], 51, 300), np.float32))
    raw = mini.write(tmp_path / "words.pkl", found, 2)
    line = refused(capsys, "prepare", "mosi", "--raw", raw, *shown, "--cache", tmp_path / "cache")
    assert "text has 51 steps" in line and "steps=" not in line


def test_ids_that_are_none_of_berts_are_refused(tmp_path, capsys):
    found = mini.content("mosi")
    for value, place in ((40_000, (1, 0, 0)), (0.5, (1, 0, 1)), (0, (1, 1, 0))):
        ids = found["train"]["text_bert"].copy()
        ids[place] = value
        raw = mini.write(tmp_path / "aligned_50.pkl", mini.changed(found, "train", text_bert=ids))
        words = ["--dataset-set", "text=bert_ids", "--cache", tmp_path / "cache"]
        assert "sample 1" in refused(capsys, "prepare", "mosi", "--raw", raw, *words)


def test_two_files_of_one_name_lists_and_no_folder_are_refused(tmp_path, capsys):
    raw = mini.sentiment(tmp_path / "raw", "mosi")
    mini.sentiment(raw / "more", "mosi")
    mini.write(raw / "other" / "aligned_50.pkl", 1)
    cache = ["--cache", tmp_path / "cache"]
    assert "--raw FILE" in refused(capsys, "prepare", "mosi", "--raw", raw, *cache)
    one = raw / "MOSI"
    assert "--lists" in refused(capsys, "prepare", "mosi", "--raw", one, "--lists", tmp_path, *cache)
    assert "not prepared" in refused(capsys, "prepare", "mosi", *cache)


# ---- the SDK's computational sequences -------------------------------------------------------------------------
WIDE = ("form=csd", "text=glove", "audio_features=74", "visual_features=35")
SETS = [word for one in WIDE for word in ("--dataset-set", one)]


@pytest.mark.parametrize("name", NAMES)
def test_computational_sequences_are_cut_into_sentences(tmp_path, name):
    h5py = pytest.importorskip("h5py")
    raw = mini.sequences(tmp_path / "raw", name)
    cache = prepared(name, raw, tmp_path / "cache", *WIDE)
    assert [len(cache.part("standard", part)) for part in PARTS] == [24, 8, 12]
    samples = cache.part("standard", "test")
    assert samples.ids[5] == "test1[1]" and samples.groups[5] == "test1"
    assert samples.label[5] == pytest.approx(mini.mood("test1", 1), abs=1e-6)
    row = int(samples.rows["audio"][5])
    with h5py.File(raw / f"CMU_{name.upper()}_COVAREP.csd") as file:
        expected = file["COVAREP/data/test1/features"][20:40]
    assert np.array_equal(real(cache, "audio", row), expected)
    assert len(real(cache, "text", row)) == 5 and len(real(cache, "visual", row)) == 8
    assert any("1 video in no fold" in note for note in cache.notes)


def edited(raw: Path, kind: str, change) -> None:
    """Change a file of sequences."""
    import h5py

    with h5py.File(raw / f"CMU_MOSI_{kind}.csd", "r+") as file:
        change(file[f"{kind}/data"])


def test_videos_that_lack_a_modality_and_long_sentences_are_counted(tmp_path):
    pytest.importorskip("h5py")
    raw = mini.sequences(tmp_path / "raw", "mosi")
    edited(raw, "COVAREP", lambda data: data.__delitem__("test0"))
    edited(raw, "Visual_Facet_42", lambda data: data["train0/features"].__setitem__((0, 0), np.inf))
    cache = prepared("mosi", raw, tmp_path / "cache", *WIDE, "steps=10")
    assert any("audio: 4 samples without any step" in note for note in cache.notes)
    assert any("audio: 40 samples cut to 10 steps" in note for note in cache.notes)
    assert any("visual: 1 value in 1 sample" in note for note in cache.notes)


def elsewhere(raw: Path) -> None:
    import h5py

    edited(raw, "COVAREP", lambda data: data.__setitem__("more", h5py.ExternalLink("other.h5", "/x")))


def folds(text: str):
    return lambda raw: (raw / "cmu_mosi_std_folds.py").write_text(text)


RUNS = "import pathlib; pathlib.Path('it_ran').touch()\nstandard_train_fold = [open('it_ran', 'w').name]\n"
SEQUENCES = {
    "external link": (elsewhere, "leads into another file"),
    "no labels": (lambda raw: (raw / "CMU_MOSI_Opinion_Labels.csd").unlink(), "holds no CMU_MOSI_Opinion_Labels.csd"),
    "a pointer": (
        lambda raw: (raw / "CMU_MOSI_COVAREP.csd").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "pointer",
    ),
    "no folds": (folds("x = 1\n"), "standard_train_fold"),
    "folds that would run": (folds(RUNS), "standard_train_fold"),
    "folds that are no Python": (folds("standard_train_fold = [\n"), "no list of folds"),
    "a video in two folds": (
        folds("standard_train_fold = ['a']\nstandard_valid_fold = ['a']\nstandard_test_fold = ['b']\n"),
        "'a' in the folds",
    ),
    "a label that is NaN": (
        lambda raw: edited(raw, "Opinion_Labels", lambda data: data["train0/features"].__setitem__((0, 0), np.nan)),
        "sentence 0 of train0",
    ),
    "other features": (
        lambda raw: (raw / "CMU_MOSI_COVAREP.csd").write_bytes((raw / "CMU_MOSI_Visual_Facet_42.csd").read_bytes()),
        "audio_features=35",
    ),
}


@pytest.mark.parametrize("fault", SEQUENCES)
def test_bad_sequences_are_refused_in_one_line(tmp_path, capsys, monkeypatch, fault):
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    raw, (harm, named) = mini.sequences(tmp_path / "raw", "mosi"), SEQUENCES[fault]
    harm(raw)
    assert named in refused(capsys, "prepare", "mosi", "--raw", raw, "--cache", tmp_path / "cache", *SETS)
    assert not left_over(tmp_path / "cache") and not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_folds_in_another_dress_are_read(tmp_path, encoding):
    pytest.importorskip("h5py")
    raw = mini.sequences(tmp_path / "raw", "mosi")
    path = raw / "cmu_mosi_std_folds.py"
    path.write_text(path.read_text(), encoding=encoding)
    assert len(prepared("mosi", raw, tmp_path / "cache", *WIDE).part("standard", "train")) == 24


def test_other_text_than_the_sequences_have_is_refused(tmp_path, capsys):
    pytest.importorskip("h5py")
    raw = mini.sequences(tmp_path / "raw", "mosi")
    words = ["--dataset-set", "form=csd", "--cache", tmp_path / "cache"]
    assert "text=glove" in refused(capsys, "prepare", "mosi", "--raw", raw, *words)
