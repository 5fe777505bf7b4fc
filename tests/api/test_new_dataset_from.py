"""`mmlbench new dataset NAME --from PLACE`: a working dataset from arrays or from a table of files."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmlbench import prepare_dataset
from mmlbench.cli import main, new, parser
from mmlbench.errors import ConfigError, DataError
from mmlbench.frontends.arrays import Arrays
from mmlbench.frontends.tables import Table
from mmlbench.task import ALL_TASKS, Classification, Multilabel, Regression, Task
from mmlbench.testing import arrays_like

ROWS = 60
PART = np.repeat(["train", "val", "test"], [36, 9, 15])


def lab(**changed: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a small laboratory: words, motion, facts and pictures; None leaves one out."""
    rng = np.random.default_rng(5)
    label = np.arange(ROWS) % 3
    arrays: dict[str, Any] = {
        "id": np.array([f"clip {k}" for k in range(ROWS)]),
        "label": np.array(["calm", "glad", "sad"])[label],
        "part": PART,
        "group": np.array([f"speaker {k % 7}" for k in range(ROWS)]),
        "words": rng.integers(1, 20, (ROWS, 9)) * (np.arange(9) < 5),
        "words_length": rng.integers(1, 6, ROWS),
        "motion": rng.normal(0, 1, (ROWS, 6, 4)) + label[:, None, None],
        "motion_length": rng.integers(1, 7, ROWS),
        "facts": rng.normal(0, 1, (ROWS, 5)) + label[:, None],
        "face": rng.integers(0, 256, (ROWS, 16, 12, 3), dtype=np.uint8),
    }
    return {name: value for name, value in {**arrays, **changed}.items() if value is not None}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin_folder: Path) -> Path:
    """A folder that is no checkout, in which commands are typed."""
    monkeypatch.setattr(
        new,
        "places",
        lambda kind, name, here: (here / "plugins" / f"{name}.py", here / "tests" / f"test_{kind}_{name}.py"),
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words: str | Path) -> int:
    return main(list(map(str, words)))


@pytest.mark.parametrize("form", ["npz", pytest.param("folder", marks=pytest.mark.slow)])
def test_arrays_become_a_dataset_that_trains(form: str, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = outside / "lab.npz"
    if form == "npz":
        np.savez(place, **lab())
    else:
        place = outside / "lab_arrays"
        place.mkdir()
        for name, values in lab().items():
            np.save(place / f"{name}.npy", values)
    assert typed("new", "dataset", "my_lab", "--from", place) == 0
    assert typed("prepare", "my_lab", "--raw", place, "--plugins", "plugins") == 0
    cache = prepare_dataset("my_lab", place, plugins=["plugins"])
    words = cache.modality("words")
    assert (words.kind, words.vocabulary, cache.modality("face").shape) == ("tokens", 20, (3, 16, 12))
    assert [cache.modality(m).kind for m in ("motion", "facts")] == ["sequence", "vector"]
    assert np.array_equal(np.moveaxis(lab()["face"], -1, 1), cache.array("face")[:, 0])
    assert cache.part("given", "test").groups[0] == "speaker 3"
    few = ["--recipe-set", "epochs=1", "--recipe-set", "batch_size=16"]
    assert typed("train", "--dataset", "my_lab", "--method", "joint", "--plugins", "plugins", *few) == 0, (
        capsys.readouterr()
    )


def test_the_written_test_passes(outside: Path) -> None:
    np.savez(outside / "lab.npz", **lab())
    assert typed("new", "dataset", "my_lab", "--from", outside / "lab.npz") == 0
    written = (outside / "tests" / "test_dataset_my_lab.py").read_text()
    compile(written, "test", "exec")
    like = arrays_like("my_lab", outside, plugins=["plugins"])
    assert prepare_dataset("my_lab", like, plugins=["plugins"]).manifest["splits"]["given"]["counts"]["train"] == 36


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"label": None}, "no array 'label'"), ({"part": None}, "no array 'part'"),
        ({"part": np.array(["train"] * ROWS)}, "part holds"), ({"part": np.array(["dev", *PART[1:]])}, "part holds"),
        ({"facts": np.zeros((ROWS - 1, 5))}, "facts has the shape"),
        ({"wrods_length": np.ones(ROWS)}, "wrods_length"),
        ({"label": np.full(ROWS, -1)}, "the label of row 0"),
        ({"label": np.where(PART == "test", np.nan, 0.5)}, "the label of row 45 is nan"),
        ({"label": np.full(ROWS, 0.5), "class_names": np.array(["a"])}, "a number has no class_names"),
        ({"label": np.eye(ROWS, 3)}, "the label of row 3 names no label"),
        ({"label": np.full((ROWS, 2), 2)}, "the label of row 0 is [2, 2]"),
        ({"label": np.ones((ROWS, 2)), "class_names": np.array(["a"])}, "2 columns"),
        ({"label": np.ones((ROWS, 2, 2))}, "takes another shape"),
        ({"class_names": np.array(["calm", "sad"])}, "the label of row 1 is 'glad'"),
        ({"label": np.full(ROWS, np.nan)}, "the label of row 0"),
        ({"label": np.arange(ROWS) % 3, "class_names": np.array(["a", "b"])}, "3 classes and 2 class_names"),
        ({"id": np.array(["same"] * ROWS)}, "ids repeat"),
        ({"words_length": np.full(ROWS, 10)}, "length 10"), ({"words_length": np.zeros(ROWS, int)}, "length 0"),
        ({"facts": np.full((ROWS, 5), np.inf)}, "row 0 is NaN or infinite"),
        ({"words_length": None}, "Add words_length"), ({"motion_length": None}, "Add motion_length"),
        ({"words_len": np.ones(ROWS, int)}, "both words_length and words_len"),
        ({"words": np.zeros((ROWS, 9), int) + (np.arange(9) != 0)}, "row 0 has the id 0 within its length of"),
        ({"speaker": np.array(["a"] * ROWS)}, "--group speaker"), ({"age": np.arange(ROWS)}, "shape (n, 1)"),
        ({"said": np.array([["a", "b"]] * ROWS)}, "said holds text"),
    ],
)  # fmt: skip
def test_arrays_that_can_not_be_used_are_one_line(
    changed: dict[str, Any], word: str, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(outside / "lab.npz", **lab(**changed))
    code = typed("new", "dataset", "my_lab", "--from", "lab.npz")
    if code == 0:
        code = typed("prepare", "my_lab", "--raw", "lab.npz", "--plugins", "plugins")
    said = capsys.readouterr().err.splitlines()
    assert code == 2 and word in said[-1], said


@pytest.mark.parametrize("name", ["words_length", "facts", "id"])
def test_values_that_prepare_refuses_are_refused_at_once(name: str, outside: Path) -> None:
    changed = {
        "words_length": np.full(ROWS, 10),
        "facts": np.full((ROWS, 5), np.nan),
        "id": np.array(["same"] * ROWS),
    }
    np.savez(outside / "lab.npz", **lab(**{name: changed[name]}))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 2
    assert not (outside / "plugins").exists()


def other_names() -> dict[str, np.ndarray]:
    """Return the arrays of the laboratory, a number as target, under names of somebody else."""
    arrays = lab(label=np.linspace(-2.5, 3, ROWS), words_len=lab()["words_length"], words_length=None)
    return {{"label": "sentiment", "group": "speaker"}.get(name, name): value for name, value in arrays.items()}


NAMED = ("--label", "sentiment", "--group", "speaker", "--range", "-3", "3")


def test_arrays_of_other_names_need_no_renaming(outside: Path) -> None:
    np.savez(outside / "lab.npz", **other_names())
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", *NAMED) == 0
    assert 'Arrays.open(raw, label="sentiment", group="speaker")' in (outside / "plugins" / "my_lab.py").read_text()
    cache = prepare_dataset("my_lab", "lab.npz", plugins=["plugins"])
    assert cache.task == Regression("sentiment", low=-3.0, high=3.0)
    lengths = cache.lengths("words")
    assert lengths is not None and np.array_equal(lengths[:, 0], lab()["words_length"])
    assert cache.part("given", "test").groups[0] == "speaker 3"
    written = (outside / "tests" / "test_dataset_my_lab.py").read_text()
    assert 'label="sentiment", group="speaker"' in written
    like = arrays_like("my_lab", outside / "plugins", plugins=["plugins"], label="sentiment", group="speaker")
    assert prepare_dataset("my_lab", like, cache=outside / "other", plugins=["plugins"]).task == cache.task


def test_columns_of_other_names_need_no_renaming(outside: Path) -> None:
    lines = ["mood,part,who,words", "-2,train,a,yes", "2,train,b,no", "1,test,c,well"]
    (outside / "t.csv").write_text("\n".join(lines) + "\n")
    words = ("--label", "mood", "--group", "who", "--range", "-3", "3")
    assert typed("new", "dataset", "my_table", "--from", "t.csv", *words) == 0
    cache = prepare_dataset("my_table", outside, plugins=["plugins"])
    assert cache.task == Regression("mood", low=-3.0, high=3.0) and list(cache.modalities) == ["words"]
    assert list(cache.part("given", "test").groups) == ["c"]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("--label", "sentimnt", "--group", "speaker"), "Did you mean sentiment?"),
        (("--label", "sentiment", "--group", "speeker"), "Did you mean speaker?"),
        (("--label", "part"), "means something else"), (("--label", "speaker", "--group", "speaker"), "Name two"),
        ((*NAMED, "--task", "classification"), "--range is of a number"),
        ((*NAMED[:4], "--range", "3", "-3"), "is empty"),
        ((*NAMED[:4], "--range", "-1", "1"), "row 0 is -2.5, beyond -1 to 1"),
        (NAMED[2:], "--label NAME"), (NAMED[:2], "--group speaker"),
    ],
)  # fmt: skip
def test_names_and_ranges_that_do_not_fit_are_refused(
    words: tuple[str, ...], word: str, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(outside / "lab.npz", **other_names())
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", *words) == 2
    said = capsys.readouterr().err.splitlines()
    assert word in said[-1] and not (outside / "plugins").exists(), said


SEVERAL = np.stack([np.arange(ROWS) % 2, np.arange(ROWS) % 3 == 0, np.ones(ROWS)], axis=1).astype(np.uint8)


@pytest.mark.parametrize(
    ("label", "more", "words", "task"),
    [
        (np.linspace(-3, 3, ROWS), {}, [], Regression("label")),
        pytest.param(np.arange(ROWS) % 7, {}, ["--task", "regression"], Regression("label"), marks=pytest.mark.slow),
        (SEVERAL, {}, [], Multilabel(("label 0", "label 1", "label 2"))),
        pytest.param(
            SEVERAL > 0,
            {"class_names": np.array(["a", "b", "c"])},
            [],
            Multilabel(("a", "b", "c")),
            marks=pytest.mark.slow,
        ),
        (np.array(["b; a", "b"] * (ROWS // 2)), {}, ["--task", "multilabel"], Multilabel(("a", "b"))),
        (np.arange(ROWS) % 2 * 1.0, {}, [], Classification(("class 0", "class 1"))),
        pytest.param(
            np.array(["0.5", "1.5"] * (ROWS // 2)),
            {},
            ["--task", "classification"],
            Classification(("0.5", "1.5")),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_labels_tell_the_task_or_task_says_it(
    label: np.ndarray, more: dict[str, Any], words: list[str], task: Task, outside: Path
) -> None:
    np.savez(outside / "lab.npz", **lab(label=label, **more))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", *words) == 0
    cache = prepare_dataset("my_lab", "lab.npz", plugins=["plugins"])
    assert cache.task == task
    stored = cache.part("given", "test").label
    if isinstance(task, Regression):
        assert np.array_equal(stored, label[PART == "test"].astype(np.float32))
    elif isinstance(task, Multilabel):
        wanted = label if label.ndim == 2 else np.array([["a" in cell, "b" in cell] for cell in label])
        assert np.array_equal(stored, wanted[PART == "test"])
    else:
        names = label if label.dtype.kind == "U" else [f"class {int(one)}" for one in label]
        assert [task.names[k] for k in stored] == list(np.array(names)[PART == "test"])
    like = arrays_like("my_lab", outside / "plugins", plugins=["plugins"])
    assert prepare_dataset("my_lab", like, cache=outside / "other", plugins=["plugins"]).task == task


@pytest.mark.parametrize(
    ("task", "label", "word"),
    [
        ("regression", np.array(["high"] * ROWS), "is 'high', no number"),
        ("regression", SEVERAL, "takes another shape"),
        ("classification", SEVERAL, "takes another shape"),
        ("multilabel", np.arange(ROWS) % 2, "takes another shape"),
        ("classification", np.full(ROWS, 0.5), "the label of row 0 is 0.5"),
        ("multilabel", np.array(["a", ""] * (ROWS // 2)), "the label of row 1 names no label"),
    ],
)
def test_labels_of_another_task_are_refused(
    task: str, label: np.ndarray, word: str, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(outside / "lab.npz", **lab(label=label))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", "--task", task) == 2
    said = capsys.readouterr().err.splitlines()
    assert word in said[-1] and not (outside / "plugins").exists()


def test_classes_keep_their_numbers_when_the_file_orders_them_anew(outside: Path) -> None:
    np.savez(outside / "lab.npz", **lab())
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 0
    file = outside / "plugins" / "my_lab.py"
    written = "('calm', 'glad', 'sad')"
    assert written in file.read_text()
    file.write_text(file.read_text().replace(written, "('sad', 'calm', 'glad')"))
    part = prepare_dataset("my_lab", "lab.npz", plugins=["plugins"]).part("given", "test")
    assert [("sad", "calm", "glad")[k] for k in part.label] == list(lab()["label"][PART == "test"])


def test_what_an_array_does_not_tell_is_asked_for(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = lab(wave=np.zeros((ROWS, 1, 40), np.float32), words=None, words_length=None)
    arrays["wave"] += np.random.default_rng(2).normal(0, 1, arrays["wave"].shape)
    np.savez(outside / "lab.npz", **arrays)
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 2
    assert "--kind wave=TYPE" in capsys.readouterr().err
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", "--kind", "wave=sequence") == 2
    assert "no wave_length" in capsys.readouterr().err
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", "--kind", "wav=signal") == 2
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", "--kind", "wave=signal") == 0
    assert prepare_dataset("my_lab", outside / "lab.npz", plugins=["plugins"]).modality("wave").kind == "signal"


@pytest.mark.parametrize(
    "words",
    [("method", "m", "--from", "lab.npz"), ("dataset", "d", "--kind", "a=signal"),
     ("dataset", "d", "--from", "gone.npz"),
     ("dataset", "d", "--label", "a"), ("method", "m", "--range", "0", "1"),
     ("dataset", "d", "--from", "gone.csv")],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(words: tuple[str, ...], outside: Path) -> None:
    assert typed("new", *words) == 2
    assert not (outside / "plugins").exists()


def test_other_arrays_than_those_of_the_cache_are_noticed(outside: Path) -> None:
    np.savez(outside / "lab.npz", **lab())
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 0
    prepare_dataset("my_lab", outside / "lab.npz", plugins=["plugins"])
    prepare_dataset("my_lab", outside / "lab.npz", plugins=["plugins"])
    np.savez(outside / "lab.npz", **lab(facts=lab()["facts"] + 1))
    with pytest.raises(DataError, match=r"lab\.npz"):
        prepare_dataset("my_lab", outside / "lab.npz", plugins=["plugins"])


def test_damaged_arrays_are_named(tmp_path: Path) -> None:
    (tmp_path / "label.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"label\.npy"):
        Arrays.open(tmp_path)
    np.savez(tmp_path / "pickled.npz", label=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"pickled\.npz"):
        Arrays.open(tmp_path / "pickled.npz")


# ---- tables ----------------------------------------------------------------------------------------------------
def table(folder: Path, **changed: Any) -> Path:
    """Write pictures, sound, sequences and a table that names them; return the table."""
    import soundfile

    rng = np.random.default_rng(6)
    folder.mkdir()
    lines = []
    for k in range(24):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"p{k}.png")
        soundfile.write(folder / f"s{k}.wav", rng.normal(0, 0.1, 8000), 16000)
        np.save(folder / f"m{k}.npy", rng.normal(0, 1, (1 + k % 5, 3)).astype(np.float32))
        part = "train" if k < 14 else "val" if k < 18 else "test"
        line = {"label": "ab"[k % 2], "part": part, "face": f"p{k}.png", "voice": f"s{k}.wav", "motion": f"m{k}.npy",
                "words": f"Ça va, {'oui' * (1 + k % 3)} {k}"}  # fmt: skip
        lines.append(line | {name: value(k) for name, value in changed.items()})
    path = folder / "samples.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


@pytest.mark.slow
def test_a_table_becomes_a_dataset_that_trains(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(outside / "data")
    assert typed("new", "dataset", "my_table", "--from", path) == 0
    assert typed("prepare", "my_table", "--raw", path.parent, "--plugins", "plugins", "--workers", "1") == 0
    cache = prepare_dataset("my_table", path.parent, plugins=["plugins"])
    kinds = {name: cache.modality(name).kind for name in cache.modalities}
    assert kinds == {"face": "image", "voice": "spectrogram", "motion": "sequence", "words": "tokens"}
    lengths = cache.lengths("words")
    assert lengths is not None and lengths[:, 0].tolist() == [len(text) for text in Table.open(path).cells["words"]]
    steps = cache.lengths("motion")
    assert steps is not None and steps[:, 0].tolist() == [1 + k % 5 for k in range(24)]
    assert cache.modality("words").tokenizer == "characters"
    few = ["--recipe-set", "epochs=1", "--recipe-set", "batch_size=8"]
    assert typed("train", "--dataset", "my_table", "--method", "joint", "--plugins", "plugins", *few) == 0, (
        capsys.readouterr()
    )
    shutil.copy(path.parent / "p1.png", path.parent / "p0.png")
    with pytest.raises(DataError, match=r"p0\.png"):
        prepare_dataset("my_table", path.parent, plugins=["plugins"])


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"face": lambda k: "p0.png" if k else "m0.npy"}, "several kinds"),
        ({"motion": lambda k: "gone.npy"}, "gone.npy"), ({"part": lambda k: "all"}, "part holds"),
        ({"words": lambda k: "" if k == 3 else "yes"}, "is empty"), ({"face": lambda k: f"gone{k}.png"}, "gone"),
    ],
)  # fmt: skip
def test_tables_that_can_not_be_used_are_named(
    changed: dict[str, Any], word: str, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(outside / "data", **changed)
    code = typed("new", "dataset", "my_table", "--from", path)
    if code == 0:
        code = typed("prepare", "my_table", "--raw", path.parent, "--plugins", "plugins", "--workers", "1")
    said = capsys.readouterr().err
    assert code == 2 and word in said, said


@pytest.mark.parametrize(
    "text", ["", "label,part\n", "a,b\n1,2\n", "label,part,x,x\na,train,1,2\n", "label,part,x\na,train\n"]
)
def test_a_table_without_what_is_needed_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises((DataError, ConfigError)):
        Table.open(tmp_path / "t.csv")


def test_the_command_line_knows_every_task() -> None:
    assert parser.TASKS == ALL_TASKS


def test_padding_decides_no_vocabulary(outside: Path) -> None:
    words = lab()["words"]
    found = []
    for padding in (0, -1, 49407):
        length = np.maximum(lab()["words_length"], 1)
        filled = np.where(np.arange(9) < length[:, None], np.maximum(words, 1), padding)
        np.savez(outside / "lab.npz", **lab(words=filled, words_length=length))
        arrays = Arrays.open(outside / "lab.npz")
        found.append({m.name: m.vocabulary for m in arrays.modalities({})}["words"])
    assert len(set(found)) == 1 and found[0] <= 20


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"label": np.arange(ROWS) % 3 + 1}, "no sample has the label 0"),
        ({"label": np.arange(ROWS) % 2 * 1_000_000}, "no sample has the label 1"),
        ({"label": np.array(["0.5", "1", "", *["2.5"] * (ROWS - 3)])}, "the label of row 2 is empty"),
        ({"label": np.array(["0.5", "1", "NA", *["2.5"] * (ROWS - 3)])}, "the label of row 2 is 'NA'"),
        ({"label": np.array(["0.5", "0,5", *["2"] * (ROWS - 2)])}, "the label of row 1 is '0,5'"),
        ({"label": np.array(["a", " ", *["b"] * (ROWS - 2)])}, "the label of row 1 is empty"),
        ({"label": np.array("a")}, "single value"),
        ({"My Mod": np.zeros((ROWS, 2))}, "the modality 'My Mod' is not of small letters"),
        ({"facts": 1.7e9 + np.random.default_rng(0).normal(0, 1, (ROWS, 5))}, "too little for float32"),
        ({"facts": 2**40 + np.random.default_rng(0).integers(0, 9, (ROWS, 5))}, ""),
        ({"words": np.where(np.arange(9) < 1, 2**32 + 5, lab()["words"]).astype(np.int64)}, ""),
        ({"words_length": np.ones((ROWS, 2), int)}, "the lengths are int64 (60, 2)"),
        ({"words_length": np.array(["3"] * ROWS)}, "words_length is <U1"),
        ({"words_length": np.full(ROWS, 2.0)}, "words_length is float64"),
        ({"label": np.arange(ROWS) % 2, "class_names": np.array("a")}, "class_names has the shape []"),
        ({"label": np.arange(ROWS) % 2, "class_names": np.array([["a", "b"]])}, "class_names has the shape [1, 2]"),
        ({"label": np.array([["a", "b"]] * ROWS)}, "takes another type"),
    ],
)  # fmt: skip
def test_data_that_would_be_taken_for_others_are_refused(
    changed: dict[str, Any], word: str, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(outside / "lab.npz", **lab(**changed))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 2
    said = capsys.readouterr().err.splitlines()
    assert word in said[-1] and not (outside / "plugins").exists()


@pytest.mark.parametrize(("number", "shown"), [(2**32 + 5, "4294967301"), (-(2**16) + 1, "-65535")])
def test_an_id_that_the_stored_type_would_turn_into_another_is_refused(
    number: int, shown: str, outside: Path
) -> None:
    np.savez(outside / "lab.npz", **lab())
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 0
    words = lab()["words"].astype(np.int64)
    words[3, 0] = number
    np.savez(outside / "lab.npz", **lab(words=words))
    with pytest.raises(DataError, match=f"row 3 .*{shown}"):
        prepare_dataset("my_lab", "lab.npz", plugins=["plugins"])


def test_bytes_and_the_other_byte_order_are_read(outside: Path) -> None:
    facts = lab()["facts"].astype(np.float32)
    np.savez(outside / "lab.npz", **lab(facts=facts.astype(">f4"), part=PART.astype("S5")))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 0
    cache = prepare_dataset("my_lab", "lab.npz", plugins=["plugins"])
    assert cache.array("facts").dtype == np.float32 and np.array_equal(cache.array("facts")[:, 0], facts)
    assert cache.manifest["splits"]["given"]["counts"] == {"train": 36, "val": 9, "test": 15}


def test_few_different_numbers_in_cells_are_numbers_or_classes_as_told(outside: Path) -> None:
    cells = np.array(["1", "2", "3"] * (ROWS // 3))
    np.savez(outside / "lab.npz", **lab(label=cells))
    arrays = Arrays.open(outside / "lab.npz")
    assert arrays.task() == Classification(("1", "2", "3")) and arrays.task("regression") == Regression("label")


@pytest.mark.parametrize(
    ("values", "word"),
    [(np.ones((ROWS, 4, 2), int), "not (L,)"), (np.ones((ROWS, 4)), "integers")],
)
def test_a_type_that_an_array_can_not_be_of_is_refused(
    values: np.ndarray, word: str, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(outside / "lab.npz", **lab(steps=values, steps_length=np.full(ROWS, 3)))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", "--kind", "steps=tokens") == 2
    said = capsys.readouterr().err.splitlines()
    assert "steps can't be tokens" in said[-1] and word in said[-1]


def test_a_message_calls_the_target_by_its_name(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(outside / "lab.npz", **lab(label=None, mood=np.where(PART == "test", np.nan, 0.5)))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz", "--label", "mood") == 2
    assert "the mood of row 45 is nan" in capsys.readouterr().err


def test_a_table_without_all_of_its_texts_is_prepared_with_allow_missing(outside: Path) -> None:
    cells = [f"sentence {k}" for k in range(ROWS)]
    with (outside / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["label", "part", "words"], *zip(["a", "b"] * (ROWS // 2), PART, cells, strict=True)]
        )
    assert typed("new", "dataset", "my_table", "--from", "samples.csv") == 0
    text = (outside / "samples.csv").read_text().replace("sentence 7\n", "\n").replace("sentence 7\r\n", "\r\n")
    (outside / "samples.csv").write_text(text)
    words = ["prepare", "my_table", "--raw", ".", "--plugins", "plugins"]
    assert typed(*words) == 2
    (outside / "left.txt").write_text("line 9\n")
    assert typed(*words, "--allow-missing", "left.txt") == 0


def test_an_empty_text_is_to_be_corrected_in_its_table(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["label,part,words", *(f"{'ab'[k % 2]},{part},word {k}" for k, part in enumerate(PART))]
    (outside / "samples.csv").write_text("\n".join(lines))
    assert typed("new", "dataset", "my_table", "--from", "samples.csv") == 0
    (outside / "samples.csv").write_text("\n".join(lines).replace("word 7\n", "\n"))
    assert typed("prepare", "my_table", "--raw", ".", "--plugins", "plugins") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "line 9" in last and "Correct the table" in last and "Fetch" not in last


def test_a_folder_that_holds_a_table_says_which_to_name(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outside / "clips").mkdir()
    (outside / "clips" / "samples.csv").write_text("label,part,words\na,train,word\n")
    assert typed("new", "dataset", "my_table", "--from", "clips") == 2
    assert "--from clips/samples.csv" in capsys.readouterr().err


def test_padding_is_stored_as_zero_whatever_stands_there(outside: Path) -> None:
    steps, length = np.random.default_rng(0).normal(size=(ROWS, 5, 3)).astype(np.float32), np.full(ROWS, 3)
    odd = steps.copy()
    odd[:, 3:] = np.nan
    stored = []
    for name, values in (("one", steps), ("other", odd)):
        np.savez(outside / f"{name}.npz", **lab(steps=values, steps_length=length))
        assert typed("new", "dataset", f"lab_{name}", "--from", f"{name}.npz") == 0
        stored.append(prepare_dataset(f"lab_{name}", f"{name}.npz", plugins=["plugins"]).array("steps"))
    assert np.array_equal(*stored) and not stored[0][:, :, 3:].any()
    odd[4, 1] = np.nan
    np.savez(outside / "third.npz", **lab(steps=odd, steps_length=length))
    assert typed("new", "dataset", "lab_third", "--from", "third.npz") == 2


@pytest.mark.parametrize("what", ["label", "group"])
def test_an_accent_written_as_one_letter_or_two_is_the_same_name(what: str, outside: Path) -> None:
    names = np.array(["caf\u00e9", "the", "cafe\u0301", "the"] * (ROWS // 4))
    np.savez(outside / "lab.npz", **lab(**{what: names}))
    assert typed("new", "dataset", "my_lab", "--from", "lab.npz") == 0
    cache = prepare_dataset("my_lab", "lab.npz", plugins=["plugins"])
    groups = cache.part("given", "train").groups
    assert set(cache.manifest["class_names"] if what == "label" else groups.tolist()) == {"caf\u00e9", "the"}
