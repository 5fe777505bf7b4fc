"""Archives of scores: what tables and comparisons need of runs, without their logits and weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused, run
from fake_runs import small
from made_archives import read_files, repacked

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.rows import NoValue, Row, parse_rows
from mmlbench.api.making import make_run
from mmlbench.errors import DataError, RunError
from mmlbench.registry.index import load_index
from mmlbench.report import make_all
from mmlbench.results import archive, shipped
from mmlbench.results.chosen import choose
from mmlbench.results.curve import content_hash
from mmlbench.results.load import read_plan
from mmlbench.results.run_folder import RunFolder
from mmlbench.results.score import score_run
from mmlbench.results.scores_only import same_scores, stored_of, write_scores
from mmlbench.results.stored_scores import FILE, LOGITS, is_scores_only
from mmlbench.results.verify import verify_run
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json

#: Metrics of tables that come from logits, of a task with classes.
FROM_LOGITS = ("nll", "ece", "shapley_nll", "added_nll", "interaction_nll", "resolution@nll")


def from_logits(row: Row) -> bool:
    return row.metric.startswith(FROM_LOGITS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("scores") / "results"
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint", "ensemble")]
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1))])
    return results


@pytest.fixture(scope="module")
def packed(written: Path) -> Path:
    archive.pack_scores(written, written.parent / "scores.tar.gz")
    return written.parent / "scores.tar.gz"


@pytest.fixture
def imported(packed: Path, tmp_path: Path) -> Path:
    archive.unpack(packed, tmp_path / "imported")
    return tmp_path / "imported"


def joint(results: Path, seed: int = 0) -> Path:
    return next(results.glob(f"runs/*/*/joint/s{seed}-*"))


def rows_of(results: Path) -> dict[str, Row]:
    return {row.row_id: row for row in parse_rows(make_frame(results, results / "cache")[0])}


# ---- what is packed --------------------------------------------------------------------------------------------
def test_no_logits_and_no_weights_are_packed_and_bytes_are_equal(written: Path, packed: Path, tmp_path: Path) -> None:
    names = {Path(name).name for name in read_files(packed)}
    assert not names & {"predictions.npz", "probe.npz"} and not any(name.startswith("weights") for name in names)
    assert {"run.json", "provenance.json", "history.csv", "epochs.npz", FILE} <= names
    archive.pack_scores(written, tmp_path / "again.tar.gz")
    assert packed.read_bytes() == (tmp_path / "again.tar.gz").read_bytes()
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_an_archive_is_written_whole_or_not_at_all(written: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_write", full)
    with pytest.raises((OSError, DataError)):
        archive.pack_scores(written, tmp_path / "to" / "s.tar.gz")
    assert not list((tmp_path / "to").iterdir())


def test_scores_of_scores_are_the_same_archive(packed: Path, imported: Path, tmp_path: Path) -> None:
    archive.pack_scores(imported, tmp_path / "again.tar.gz")
    assert packed.read_bytes() == (tmp_path / "again.tar.gz").read_bytes()


def test_what_is_made_so_far_and_one_dataset_alone(written: Path, tmp_path: Path, capsys) -> None:
    results = Path(shutil.copytree(written, tmp_path / "results"))
    shutil.rmtree(joint(results, 1))
    assert "does not verify" in refused(capsys, "export", "--scores", "--results", results, "--to", tmp_path / "a")
    so_far = ("export", "--scores", "--so-far", "--results", results, "--to", tmp_path / "a")
    assert run(capsys, *so_far)[0] == 0
    archive.unpack(tmp_path / "a", tmp_path / "b")
    assert len(read_plan(tmp_path / "b").cells) == len(read_plan(results).cells) - 1
    assert "no dataset" in refused(capsys, *so_far, "--dataset", "avdigit")
    assert run(capsys, *so_far, "--dataset", "avdigits")[0] == 0
    assert "--scores" in refused(capsys, "export", "--so-far", "--results", results)


# ---- tables ----------------------------------------------------------------------------------------------------
def check_tables(full: Path, scores: Path) -> tuple[int, int]:
    """Compare the rows of both, to the digit; return how many there are, and how many want logits."""
    one, other = (make_frame(results, results / "cache") for results in (full, scores))
    assert one[1:] == other[1:], "cost and pairwise comparisons"
    wanted, found = ({row.row_id: row for row in parse_rows(text[0])} for text in (one, other))
    blank = 0
    for row_id, row in wanted.items():
        if not from_logits(row):
            assert found[row_id] == row
        elif row.metric.startswith("resolution"):
            assert row_id not in found
        else:
            assert found[row_id].value is None and found[row_id].no_value is NoValue.SCORES_ONLY
            blank += 1
    assert set(found) <= set(wanted)
    assert not any(row.no_value is NoValue.SCORES_ONLY for row in wanted.values())
    return len(wanted), blank


def test_tables_are_equal_where_no_logits_are_needed(written: Path, imported: Path) -> None:
    total, blank = check_tables(written, imported)
    assert total > 150 and 20 < blank < total / 3
    labels = {row.label for row in rows_of(imported).values()}
    assert "joint + unimodal" in labels, "the mean of logits, which are not there"


def test_verify_and_the_records(written: Path, imported: Path) -> None:
    for folder in sorted(imported.glob("runs/*/*/*/*")):
        assert is_scores_only(folder) and verify_run(folder, imported) == []
        full = written / folder.relative_to(imported)
        assert (folder / "run.json").read_bytes() == (full / "run.json").read_bytes()
        assert same_scores(stored_of(RunFolder.open(full)), RunFolder.open(folder).scores)


# ---- what is refused -------------------------------------------------------------------------------------------
Change = Callable[[dict[str, np.ndarray]], None]


def flip(arrays: dict[str, np.ndarray]) -> None:
    name = next(name for name in arrays if name.startswith("score/last/test/fused"))
    arrays[name] = arrays[name] ^ np.uint8(128)


def wrong_classes(arrays: dict[str, np.ndarray]) -> None:
    for name in [name for name in arrays if name.startswith(("class/last", "score/last"))]:
        arrays[name] = np.zeros_like(arrays[name])


def all_right(arrays: dict[str, np.ndarray]) -> None:
    n = len(arrays["test/label"])
    arrays["score/last/test/fused"] = np.packbits(np.ones(n, bool))
    arrays["class/last/test/fused"] = arrays["test/label"].astype(np.uint8)


def padded(arrays: dict[str, np.ndarray]) -> None:
    arrays["test/label"] = arrays["test/label"][:-1]


FORGED: dict[str, tuple[Change, str]] = {
    "a bit": (flip, "disagree"),
    "scores of no prediction": (wrong_classes, "disagree"),
    "scores that the record does not have": (all_right, "run.json says"),
    "too few labels": (padded, "test/label"),
    "an array of its own": (lambda a: a.update({"score/last/test/more": a["run_hash"]}), "no array of scores"),
    "of the validation part": (lambda a: a.update({"score/last/val/fused": a["run_hash"]}), "no array of scores"),
    "of a foreign modality": (lambda a: a.update({"score/last/smell/test": a["run_hash"]}), "no array of scores"),
    "a class that there is not": (
        lambda a: a.update({"class/last/test/fused": a["class/last/test/fused"] + np.uint8(100)}),
        "a class that there is not",
    ),
    "a number for bits": (
        lambda a: a.update({"score/last/test/fused": np.zeros(len(a["test/label"]))}),
        "score/last/test/fused",
    ),
    "another run": (lambda a: a.update(run_hash=np.array("0" * 64)), "another run.json"),
    "no hash": (lambda a: a.pop("run_hash") and None, "lacks run_hash"),
    "text for a number": (lambda a: a.update({"val/last": np.array("x")}), "no number"),
    "not a number": (lambda a: a.update({"val/last": np.array(np.nan)}), "NaN"),
}


def forged(folder: Path, change: Change) -> None:
    """Change the scores of a run, and give them the hash that they have now, as a careful forger would."""
    arrays = read_arrays(folder / FILE)
    change(arrays)
    arrays.pop("content_hash")
    write_arrays(folder / FILE, {**arrays, "content_hash": np.array(content_hash(arrays))})


@pytest.mark.parametrize("name", FORGED)
def test_forged_scores_are_refused_by_verify_and_import(packed: Path, imported: Path, tmp_path, capsys, name) -> None:
    change, message = FORGED[name]
    folder = joint(imported)
    forged(folder, change)
    assert any(message in fault for fault in verify_run(folder, imported)), verify_run(folder, imported)
    place = f"{folder.relative_to(imported)}/{FILE}"

    def put(files: dict[str, bytes]) -> None:
        files[place] = (folder / FILE).read_bytes()

    line = refused(capsys, "import", repacked(packed, tmp_path / "f.tar.gz", put), "--results", tmp_path / "new")
    assert message in line and not list((tmp_path / "new").iterdir())


def test_a_changed_byte_a_pickle_and_a_missing_file(imported: Path) -> None:
    folder = joint(imported)
    whole = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(whole[:400] + bytes([whole[400] ^ 1]) + whole[401:])
    assert any(FILE in fault for fault in verify_run(folder, imported))
    np.savez(folder / FILE, run_hash=np.array([{}], dtype=object))
    assert any(FILE in fault for fault in verify_run(folder, imported))
    (folder / FILE).unlink()
    assert any("predictions.npz is missing" in fault for fault in verify_run(folder, imported))
    (folder / FILE).write_bytes(whole)
    assert verify_run(folder, imported) == []
    (folder / "epochs.npz").unlink()
    assert any("epochs.npz is missing" in fault for fault in verify_run(folder, imported))


@pytest.mark.parametrize("name", ["predictions.npz", "weights-last.npz"])
def test_logits_have_no_place_in_an_archive_of_scores(packed: Path, tmp_path: Path, capsys, name: str) -> None:
    def put(files: dict[str, bytes]) -> None:
        files[f"{next(n for n in files if n.endswith('run.json')).rpartition('/')[0]}/{name}"] = b"x"

    line = refused(capsys, "import", repacked(packed, tmp_path / "f.tar.gz", put), "--results", tmp_path / "new")
    assert name in line and "no place" in line and not list((tmp_path / "new").iterdir())


def test_an_archive_of_another_kind(packed: Path, tmp_path: Path, capsys) -> None:
    for kind, message in (("everything", "archive.json"), (None, "no place")):

        def put(files: dict[str, bytes], kind: str | None = kind) -> None:
            head = json.loads(files["archive.json"])
            files["archive.json"] = json.dumps({**head, "kind": kind} if kind else _without(head)).encode()

        line = refused(capsys, "import", repacked(packed, tmp_path / "f.tar.gz", put), "--results", tmp_path / "new")
        assert message in line


def _without(head: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in head.items() if name != "kind"}


# ---- beside what is here ---------------------------------------------------------------------------------------
def test_a_full_run_stays_and_takes_the_place_of_scores(written: Path, packed: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    archive.unpack(packed, results)
    total = len(list(results.glob("runs/*/*/*/*")))
    archive.pack(written, tmp_path / "full.tar.gz")
    assert archive.unpack(tmp_path / "full.tar.gz", results).completed == total
    assert not any(is_scores_only(folder) for folder in results.glob("runs/*/*/*/*"))
    assert archive.unpack(packed, results).kept_full == total
    for folder in results.glob("runs/*/*/*/*"):
        assert verify_run(folder, results) == []
    assert make_frame(results, results / "cache") == make_frame(written, written / "cache")


def test_some_runs_in_full_and_some_as_scores(written: Path, packed: Path, tmp_path: Path) -> None:
    """Who trains joint and imports the rest still has the mean of joint and unimodal logits."""
    results = tmp_path / "results"
    archive.unpack(packed, results)
    for folder in results.glob("runs/*/*/joint/*"):
        shutil.rmtree(folder)
        shutil.copytree(written / folder.relative_to(results), folder)
    one, other = rows_of(written), rows_of(results)
    for row_id, row in one.items():
        if not from_logits(row) or row.label == "joint":
            assert row.metric.startswith("resolution@nll") or other[row_id] == row


def test_full_runs_that_scores_do_not_follow_from(written: Path, packed: Path, tmp_path: Path, capsys) -> None:
    results = tmp_path / "results"
    shutil.copytree(written, results)

    def put(files: dict[str, bytes]) -> None:
        held = tmp_path / "held"
        name = next(n for n in files if "/joint/s0-" in n and n.endswith(FILE))
        (held / name).parent.mkdir(parents=True)
        (held / name).write_bytes(files[name])
        forged((held / name).parent, lambda a: a.update({"val/val": a["val/val"] + 0.001}))
        files[name] = (held / name).read_bytes()

    line = refused(capsys, "import", repacked(packed, tmp_path / "f.tar.gz", put), "--results", results)
    assert "other scores" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["code"].update(engine="f" * 16), "other code of the engine"),
        (lambda r: r.update(data_fingerprint="f" * 16), "other data"),
        (lambda r: r["packages"].update(torch="3"), "other torch"),
        (lambda r: r.update(sample_passes=7), "one is not as trained"),
    ],
    ids=["engine", "data", "packages", "outcome"],
)
def test_another_outcome_is_refused_and_says_what_differs(
    written: Path, packed: Path, tmp_path: Path, capsys, change, message: str
) -> None:
    results = Path(shutil.copytree(written, tmp_path / "results"))
    record = read_json(joint(results) / "run.json")
    change(record)
    write_json(joint(results) / "run.json", record)
    fake_runs.seal(joint(results))
    before = (results / "plan.json").read_bytes()
    line = refused(capsys, "import", packed, "--results", results)
    assert message in line and "--results" in line
    assert (results / "plan.json").read_bytes() == before


def test_scores_from_other_data_than_those_here_are_refused(written: Path, packed: Path, tmp_path, capsys) -> None:
    methods = [m for m in fake_runs.default_methods() if m.label == "ogm_ge"]
    results = fake_runs.write_study(tmp_path / "own", [small(methods=methods, seeds=(0,))])
    assert run(capsys, "import", packed, "--results", results)[0] == 0, "of the same data"
    shutil.rmtree(results)
    fake_runs.write_study(results, [small(methods=methods, seeds=(0,))])
    record = read_json(next(results.glob("runs/*/*/*/*")) / "run.json") | {"data_fingerprint": "f" * 16}
    write_json(next(results.glob("runs/*/*/*/*")) / "run.json", record)
    fake_runs.seal(next(results.glob("runs/*/*/*/*")))
    assert "another data" in refused(capsys, "import", packed, "--results", results)
    cache = tmp_path / "cache"
    fake_runs.write_manifest(cache, fingerprint="e" * 16)
    line = refused(capsys, "import", packed, "--results", tmp_path / "new", "--cache", cache)
    assert "another data" in line and str(cache) in line
    shutil.rmtree(cache)
    fake_runs.write_manifest(cache)
    assert run(capsys, "import", packed, "--results", tmp_path / "new", "--cache", cache)[0] == 0


# ---- what needs logits -----------------------------------------------------------------------------------------
def test_what_needs_logits_says_in_one_line_how_to_train(imported: Path, tmp_path: Path, capsys) -> None:
    folder = joint(imported)
    for words in (
        ("export", "--results", imported, "--to", tmp_path / "full.tar.gz"),
        ("robustness", folder, "--results", imported),
    ):
        line = refused(capsys, *words)
        assert "scores-only" in line and "--whole" in line and str(imported) in line
    assert not (tmp_path / "full.tar.gz").exists()
    opened = RunFolder.open(folder)
    for what in ("predictions", "probe"):
        with pytest.raises(DataError, match="scores-only"):
            getattr(opened, what)
    assert opened.history() and opened.epoch_scores()


@pytest.mark.slow
def test_scores_stay_where_their_run_cannot_be_made(tiny, tmp_path: Path) -> None:
    """What is trained in the place of scores takes it when nothing is left that can refuse the training."""
    results, spec = tmp_path / "results", tiny.spec("ensemble")
    tiny.run("ensemble", results)
    runs = [str(spec.path), *(str(required.path) for required in spec.requires.values())]
    for run_, file in write_scores(results, runs, tmp_path / "scores").items():
        for of_logits in (path for path in (results / run_).iterdir() if LOGITS.fullmatch(path.name)):
            of_logits.unlink()
        shutil.copyfile(file, results / run_ / FILE)
    with pytest.raises(RunError, match="reuses the weights"):
        make_run(spec, load_index(), results, tiny.cache, device="cpu", whole=True)
    assert is_scores_only(results / spec.path) and not verify_run(results / spec.path, results)
    (required,) = spec.requires.values()
    assert make_run(required, load_index(), results, tiny.cache, device="cpu", whole=True)
    assert make_run(spec, load_index(), results, tiny.cache, device="cpu", whole=True)
    assert not is_scores_only(results / spec.path) and not is_scores_only(results / required.path)


def test_score_diff_and_the_leaderboard_so_far(written: Path, imported: Path, packed: Path, capsys) -> None:
    assert run(capsys, "score", joint(imported))[0] == 0
    full, scores = RunFolder.open(joint(written)), RunFolder.open(joint(imported))
    wanted = {(str(s.key), s.value) for s in score_run(full) if (s.part, s.metric) == ("test", "accuracy")}
    assert {(str(s.key), s.value) for s in score_run(scores)} == wanted
    assert run(capsys, "leaderboard", "--so-far", "--results", imported, "--cache", imported / "cache")[0] == 0
    make_all(imported, imported / "cache", lambda line: None)
    page = (imported / "leaderboard.html").read_text()
    assert "joint + unimodal" in page


def test_a_tuning_chooses_the_same_trial_from_scores(written: Path, imported: Path) -> None:
    trials = sorted(str(path.relative_to(written)) for path in written.glob("runs/*/*/joint/*"))
    for rule in ("last", "val"):
        assert choose(written, trials, rule) == choose(imported, trials, rule)


def test_an_archive_that_is_shipped_is_named(packed: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(shipped, "baselines_folder", lambda: tmp_path / "baselines")
    assert "shipped" in refused(capsys, "import", "zoo", "--results", tmp_path / "new")
    (tmp_path / "baselines").mkdir()
    shutil.copyfile(packed, tmp_path / "baselines" / "zoo-avdigits.mmlb.tar.gz")
    assert "zoo" in refused(capsys, "import", "zo", "--results", tmp_path / "new")
    assert "zoo-avdigits" in refused(capsys, "import", "zoo-avdigit", "--results", tmp_path / "new")
    for name in ("zoo", "zoo-avdigits"):
        assert run(capsys, "import", name, "--results", tmp_path / name)[0] == 0
        assert is_scores_only(joint(tmp_path / name))
