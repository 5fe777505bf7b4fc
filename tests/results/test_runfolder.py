"""Reading a run folder: what is whole opens, and each kind of damage is named with its file."""

from __future__ import annotations

import json
from pathlib import Path

import fake_runs
import numpy as np
import pytest

from mmlbench.errors import DataError
from mmlbench.results import run_folder as runfolder
from mmlbench.results import score
from mmlbench.results.record import Circumstances
from mmlbench.results.run_folder import RunFolder, verify
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json
from mmlbench.storage.hashing import digest
from mmlbench.study.run_config import RUN_SCHEMA
from mmlbench.task import Classification
from mmlbench.task.confusion import macro_f1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    group = fake_runs.FakeGroup(counts=(20, 40), epochs=3)
    cell = fake_runs.write_run(tmp_path, group, group.methods[2], seed=0)
    return tmp_path / cell["run"]


def test_a_whole_folder_opens(run: Path) -> None:
    folder = RunFolder.open(run)
    assert verify(run) == []
    assert folder.predictions["last/test/fused"].shape == (40, 4)
    assert folder.epoch_scores()["train/fused"].shape == (3, 40)
    assert folder.history()[0][:4] == ("train", 0, "val", "accuracy/fused")
    assert folder.provenance.hardware == "A CPU"


def test_epoch_scores_are_the_histories_accuracies(run: Path) -> None:
    folder = RunFolder.open(run)
    bits = folder.epoch_scores()["train/fused"]
    output = [row[4] for row in folder.history() if row[2:4] == ("test", "accuracy/fused")]
    assert bits.mean(axis=1).tolist() == pytest.approx(output)


@pytest.mark.parametrize("name", ["predictions.npz", "probe.npz", "epochs.npz", "history.csv"])
def test_a_missing_truncated_or_changed_file_is_named(run: Path, name: str) -> None:
    file, content = run / name, (run / name).read_bytes()
    for damaged in (content[:-1], content[:40] + bytes([content[40] ^ 1]) + content[41:]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{name} is truncated or was changed.*make the run again"):
            RunFolder.open(run)
        assert len(verify(run)) == 1
    file.unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        RunFolder.open(run)


def _edit(run: Path, **changes: object) -> None:
    """Change run.json, the hash of itself with it, where it has what is hashed."""
    record = json.loads((run / "run.json").read_text()) | changes
    record.pop("record_hash")
    (run / "run.json").write_text(json.dumps(record | {"record_hash": digest(record)[:16]}))


def test_a_wrong_run_json_is_named(run: Path) -> None:
    whole = (run / "run.json").read_text()
    for schema in (RUN_SCHEMA - 1, 99):
        _edit(run, schema=schema)
        with pytest.raises(
            DataError, match=f"unknown schema {schema}; this version reads {RUN_SCHEMA}.*make the run"
        ):
            RunFolder.open(run)
    (run / "run.json").write_text(whole)
    _edit(run, config=json.loads(whole)["config"] | {"seed": 7})
    with pytest.raises(DataError, match="its configuration does not have its hash"):
        RunFolder.open(run)
    (run / "run.json").write_text(whole[:-20])
    with pytest.raises(DataError, match=r"run\.json can't be read"):
        RunFolder.open(run)
    (run / "run.json").write_text(json.dumps({"schema": RUN_SCHEMA}))
    with pytest.raises(DataError, match="lacks run, config"):
        RunFolder.open(run)
    (run / "run.json").unlink()
    with pytest.raises(DataError, match="no complete run"):
        RunFolder.open(run)
    assert verify(run / "nowhere")


def test_a_hash_of_a_file_outside_the_folder_is_refused(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    _edit(run, files=record["files"] | {"../../secret": "0"})
    with pytest.raises(DataError, match=r"files has the key '\.\./\.\./secret', which is not a file of a run"):
        RunFolder.open(run)


def test_big_files_that_no_table_reads_are_left_to_verify(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays(run / "weights-last.npz", {"w": np.zeros(10)})
    fake_runs.seal(run)
    (run / "weights-last.npz").write_bytes(b"other")
    with pytest.raises(DataError, match="weights-last"):
        RunFolder.open(run)
    monkeypatch.setattr(runfolder, "OPEN_CHECK_BYTES", 1)
    RunFolder.open(run)
    assert "weights-last" in verify(run)[0]


@pytest.mark.parametrize("name", ["record_hash", "run_record_hash"])
def test_circumstances_without_a_hash_do_not_verify(run: Path, name: str) -> None:
    assert verify(run) == []
    facts = read_json(run / "provenance.json")
    facts.pop("record_hash")
    facts.pop(name, None)
    sealed = facts if name == "record_hash" else facts | {"record_hash": digest(facts)[:16]}
    write_json(run / "provenance.json", sealed)
    assert verify(run) == [f"{run}/provenance.json lacks {name}"]


def test_arithmetic_and_contents_agree_with_the_configuration(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    for key, name, value in (("arithmetic", "threads", 2), ("arithmetic", "forward", "bfloat16"),
                             ("arithmetic", "tf32", True),
                             ("contents", "weights", {"audio.weights": "0" * 64})):  # fmt: skip
        changed = record | {key: record[key] | {name: value}}
        changed.pop("record_hash")
        (run / "run.json").write_text(json.dumps(changed | {"record_hash": digest(changed)[:16]}))
        with pytest.raises(DataError, match=rf"{key}\.{name} is"):
            RunFolder.open(run)
    write_json(run / "run.json", record)
    RunFolder.open(run)


def test_lost_circumstances_hurt_no_result(run: Path) -> None:
    (run / "provenance.json").write_text("{")
    assert RunFolder.open(run).provenance == Circumstances()


# ---- scores ----------------------------------------------------------------------------------------------------
def test_scores_against_hand_computation() -> None:
    label = np.array([0, 0, 1, 2])
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1]]))
    accuracy = Classification.of(3).metric("accuracy")
    assert accuracy.sample_values(logits, label).tolist() == [1, 0, 1, 0]
    assert accuracy.value(logits, label) == 0.5
    # class 0: TP 1, FP 1, FN 1 -> 1/2; class 1: TP 1, FP 1, FN 0 -> 2/3; class 2: never predicted -> 0
    assert macro_f1(logits.argmax(1), label, 3) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert macro_f1(logits.argmax(1), label, 5) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert score.nll(logits, label) == pytest.approx(-np.log([0.7, 0.2, 0.7, 0.1]).mean())
    assert score.nll(logits + 1e3, label) == pytest.approx(-np.log([0.7, 0.2, 0.7, 0.1]).mean())
    assert np.isnan(accuracy.value(logits[:0], label[:0]))


def test_macro_f1_equals_the_reference_library() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    label, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    assert macro_f1(predicted, label, 5) == pytest.approx(metrics.f1_score(label, predicted, average="macro"))


def test_score_run_names_every_prediction(run: Path) -> None:
    rows = score.score_run(RunFolder.open(run))
    found = {(row.key.rule, row.part, row.key.name, row.metric): row.value for row in rows}
    arrays = read_arrays(run / "predictions.npz")
    wanted = (arrays["val/test/fused"].argmax(1) == arrays["test/label"]).mean()
    assert found["val", "test", "fused", "accuracy"] == wanted
    assert ("last", "val", "probe/audio", "nll") in found
    assert ("last", "test", "fused@mean:audio", "macro_f1") in found


def test_nan_and_short_logits_name_the_run(run: Path) -> None:
    arrays = read_arrays(run / "predictions.npz")
    arrays["last/test/fused"][3, 1] = np.nan
    write_arrays(run / "predictions.npz", arrays)
    fake_runs.seal(run)
    with pytest.raises(DataError, match=r"joint/s0-.*last/test/fused is NaN or infinite for 1 of 40 samples"):
        score.score_run(RunFolder.open(run))
    arrays["last/test/fused"] = arrays["last/test/fused"][:7]
    write_arrays(run / "predictions.npz", arrays)
    fake_runs.seal(run)
    with pytest.raises(DataError, match=r"shape \(7, 4\) for 40 samples"):
        score.score_run(RunFolder.open(run))
