"""verify, diff, export, import: no changed byte goes unseen, nothing foreign gets in, tables come out equal."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused, run
from fake_runs import small
from made_archives import repacked

from mmlbench.analysis.rows import parse_rows, rows_text
from mmlbench.cli import main
from mmlbench.errors import DataError
from mmlbench.report import make_all
from mmlbench.report.difference import compare
from mmlbench.results import archive
from mmlbench.results.run_folder import verify
from mmlbench.results.verify import equal_seeds, verify_run
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("trusted") / "results"
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint", "ensemble")]
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1))])
    make_all(results, results / "cache", lambda line: None)
    return results


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "results"))


def joint(results: Path) -> Path:
    return next(results.glob("runs/*/*/joint/s0-*"))


# ---- verify ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("edits", [160, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_changed_byte_is_found_and_named(tiny, tmp_path: Path, edits: int) -> None:
    """Random single-byte edits over all files of a real run folder, each file in turn."""
    folder = tiny.run("joint", tmp_path).path
    files = sorted(p for p in folder.iterdir() if p.is_file())
    assert len(files) == 8, [p.name for p in files]
    assert verify(folder) == []
    rng = np.random.default_rng(1)
    missed = []
    for k in range(edits):
        file = files[k % len(files)]
        whole = file.read_bytes()
        place, value = int(rng.integers(len(whole))), int(rng.integers(1, 256))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ value]) + whole[place + 1 :])
        if not any(file.name in fault for fault in verify(folder)):
            missed.append((file.name, place, value))
        file.write_bytes(whole)
    assert missed == []
    assert verify(folder) == []


def test_files_that_do_not_belong_or_are_lost_are_named(study: Path) -> None:
    folder = joint(study)
    (folder / "extra.npz").write_bytes(b"x")
    (folder / "provenance.json").unlink()
    faults = "\n".join(verify(folder))
    assert "extra.npz does not belong to the run" in faults and "provenance.json is missing" in faults


@pytest.mark.parametrize("other", ["joint/s1-*", "unimodal/s0-*"], ids=["seed", "method"])
def test_circumstances_of_another_run_are_refused(study: Path, other: str) -> None:
    """Both files are whole and hold their own hashes: what refuses them is whose they are."""
    folders = [joint(study), next(study.glob(f"runs/*/*/{other}"))]
    texts = [(folder / "provenance.json").read_bytes() for folder in folders]
    for folder, text in zip(folders, texts[::-1], strict=True):
        (folder / "provenance.json").write_bytes(text)
    for folder in folders:
        (fault,) = verify(folder)
        assert str(folder / "provenance.json") in fault and "another run" in fault
    for folder, text in zip(folders, texts, strict=True):
        (folder / "provenance.json").write_bytes(text)
        assert verify(folder) == []


def _seed_that_changes_nothing(study: Path, name: str = "predictions.npz") -> list[Path]:
    """Give the second seed of the joint run the predictions of the first; return both folders."""
    folders = [next(study.glob(f"runs/*/*/joint/s{seed}-*")) for seed in (0, 1)]
    shutil.copyfile(folders[0] / name, folders[1] / name)
    fake_runs.seal(folders[1])
    return folders


def test_two_seeds_with_equal_predictions_get_a_note(study: Path, capsys) -> None:
    runs = sorted(study.glob("runs/*/*/*/*"))
    assert equal_seeds(runs) == [], "two seeds of one setting, and methods with equal parts, that differ"
    folders = _seed_that_changes_nothing(study)
    (note,) = equal_seeds(runs)
    assert all(str(folder) in note for folder in folders)
    message: list[str] = []
    make_all(study, study / "cache", message.append)
    assert sum(all(str(folder) in line for folder in folders) for line in message) == 1
    capsys.readouterr()
    main(["verify", "--results", str(study)])
    err = capsys.readouterr().err.splitlines()
    assert sum(all(str(folder) in line for folder in folders) for line in err) == 1


def test_other_equalities_of_two_seeds_get_none(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = _seed_that_changes_nothing(study, "probe.npz")
    assert equal_seeds(folders) == [], "equal probes alone"
    monkeypatch.chdir(study)
    assert equal_seeds([folders[0], folders[0].relative_to(study)]) == [], "one run, named twice"
    _seed_that_changes_nothing(study)
    _edit_record(lambda r: r["config"]["params"].update(more=1))(folders[1])
    assert equal_seeds(folders) == [], "another setting"


def test_a_stamp_that_is_gone_is_no_fault_and_one_that_is_there_must_hold(study: Path) -> None:
    folder = joint(study)
    (stamp,) = folder.glob("done-*")
    tables = (study / "all_tables.csv").read_bytes()
    stamp.unlink()
    assert verify(folder) == []
    with pytest.raises(DataError, match="no stamp"):
        make_all(study, study / "cache", lambda line: None)  # the prepared cache is gone, too
    stamp.write_text("0" * 64 + "\n")
    (fault,) = verify(folder)
    assert str(stamp) in fault
    fake_runs.seal(folder)
    make_all(study, study / "cache", lambda line: None)
    assert (study / "all_tables.csv").read_bytes() == tables and verify(folder) == []


def test_a_stamp_that_is_gone_is_written_again_and_nothing_else_is(tiny, tmp_path: Path) -> None:
    folder = tiny.run("joint", tmp_path).path
    (stamp,) = folder.glob("done-*")
    text, before = stamp.read_text(), {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    stamp.unlink()
    assert tiny.run("joint", tmp_path).path == folder
    assert stamp.read_text() == text and verify_run(folder) == []
    after = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert after.pop(stamp.name) != before.pop(stamp.name) and after == before


def _forged(folder: Path, change) -> str:
    """Change a run as a careful forger would, all hashes anew; return what verify says."""
    change(folder)
    fake_runs.seal(folder)
    assert verify(folder) == [], "the hashes hold"
    return "\n".join(verify_run(folder))


def _edit_arrays(name: str, edit):
    def change(folder: Path) -> None:
        arrays = read_arrays(folder / name)
        edit(arrays)
        write_arrays(folder / name, arrays)

    return change


def _edit_record(edit):
    def change(folder: Path) -> None:
        record = read_json(folder / "run.json")
        edit(record)
        write_json(folder / "run.json", record)

    return change


def _roll(key: str):
    return lambda arrays: arrays.update({key: np.roll(arrays[key], 1, axis=1)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_edit_arrays("predictions.npz", _roll("last/test/fused")), "predictions.npz reaches 0.*run.json says"),
        (_edit_arrays("epochs.npz", _roll("train/test/fused")), "epochs.npz and predictions.npz disagree about"),
        (
            _edit_arrays("epochs.npz", lambda a: a["train/test/fused"].__setitem__((0, slice(0, 2)), 0)),
            "history.csv and epochs.npz disagree",
        ),
        (_edit_record(lambda r: r["selected"]["last"][0].update(accuracy=0.99)), "rule last picked accuracy 0.99"),
        (_edit_record(lambda r: r["counts"].update(test=79)), "has 80 test ids, run.json says 79"),
        (_edit_arrays("predictions.npz", lambda a: a["test/label"].__setitem__(0, 9)), "beyond the 4 classes"),
        (_edit_arrays("predictions.npz", lambda a: a["test/id"].__setitem__(0, a["test/id"][1])), "test ids twice"),
        (_edit_arrays("probe.npz", lambda a: a["last/audio/test"].__setitem__((0, 0), np.nan)), "NaN or infinite"),
        (_edit_arrays("predictions.npz", lambda a: a.pop("last/test/fused")), "lacks last/test/fused"),
        (
            _edit_record(lambda r: r.update(probe={"last": {"audio": {"penalty": 0.1, "accuracy": {"test": 0.99}}}})),
            "for last/audio/test, run.json says 0.99",
        ),
    ],
)
def test_numbers_that_do_not_follow_from_the_predictions(study: Path, change, message: str) -> None:
    assert re.search(message, _forged(joint(study), change))


def test_labels_that_are_not_the_datasets(tiny, tmp_path: Path) -> None:
    folder = tiny.run("joint", tmp_path).path
    assert verify_run(folder, tmp_path, tiny.cache) == []

    def change(arrays: dict) -> None:
        for key in [*arrays]:  # samples in another order, consistently: only the dataset can tell
            if key.startswith("test/") or "/test/" in key:
                arrays[key] = arrays[key][::-1].copy()

    _edit_arrays("predictions.npz", change)(folder)
    n = len(read_arrays(folder / "predictions.npz")["test/label"])
    _edit_arrays(
        "epochs.npz",
        lambda a: a.update(
            {
                k: np.packbits(np.unpackbits(v, axis=1, count=n)[:, ::-1], axis=1)
                for k, v in a.items()
                if k.split("/")[1] == "test"
            }
        ),
    )(folder)
    _edit_arrays("probe.npz", lambda a: a.update({k: v[::-1].copy() for k, v in a.items() if k.endswith("/test")}))(
        folder
    )
    fake_runs.seal(folder)
    assert verify_run(folder) == []
    assert "its test ids are not those of the dataset" in verify_run(folder, None, tiny.cache)[0]


def test_verify_command(study: Path, capsys) -> None:
    assert run(capsys, "verify", "--results", study)[0] == 0
    file = joint(study) / "history.csv"
    file.write_text(file.read_text() + "\n")
    capsys.readouterr()
    assert main(["verify", "--results", str(study)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1 and "history.csv is truncated or was changed" in out[0]
    assert main(["verify", str(study / "runs/nowhere")]) == 1
    shutil.rmtree(joint(study))
    capsys.readouterr()
    assert main(["verify", "--results", str(study)]) == 1, "a planned run that is gone is a fault"
    assert "run.json is missing" in capsys.readouterr().out
    assert "holds no runs" in refused(capsys, "verify", "--results", study / "none")


# ---- export and import -----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_same_tables_to_the_byte(study: Path, tmp_path: Path, capsys) -> None:
    packed, other = tmp_path / "a" / "study.tar.gz", tmp_path / "other"
    assert run(capsys, "export", "--results", study, "--to", packed)[0] == 0
    assert run(capsys, "import", packed, "--results", other)[0] == 0
    make_all(other, other / "cache", lambda line: None)
    names = ["all_tables.csv", "cost.csv", *(f"tables/{p.name}" for p in (study / "tables").iterdir())]
    assert len(names) > 8
    for name in names:
        assert (study / name).read_bytes() == (other / name).read_bytes(), name
    again = tmp_path / "again.tar.gz"
    assert run(capsys, "export", "--results", other, "--to", again)[0] == 0
    assert packed.read_bytes() == again.read_bytes()
    assert run(capsys, "import", packed, "--results", other)[0] == 0, "a second time nothing changes"


@pytest.mark.slow
def test_import_merges_studies(study: Path, tmp_path: Path) -> None:
    other = fake_runs.write_study(tmp_path / "other", [small(split="index", seeds=(0,), groups=tuple("abcdef"))])
    archive.pack(other, tmp_path / "o.tar.gz")
    before = len(read_json(study / "plan.json")["cells"])
    assert archive.unpack(tmp_path / "o.tar.gz", study) == archive.Imported(6, 0)
    assert archive.unpack(tmp_path / "o.tar.gz", study) == archive.Imported(0, 6)
    assert len(read_json(study / "plan.json")["cells"]) == before + 6
    make_all(study, study / "cache", lambda line: None)


def test_export_refuses_what_does_not_verify(study: Path, tmp_path: Path, capsys) -> None:
    file = joint(study) / "provenance.json"
    file.write_text(file.read_text().replace("A CPU", "B CPU"))
    assert "does not verify" in refused(capsys, "export", "--results", study, "--to", tmp_path / "s.tar.gz")
    assert not (tmp_path / "s.tar.gz").exists()


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, 1 if kind == tarfile.REGTYPE else 0
    return member


@pytest.mark.parametrize(
    "member",
    [
        _member("../outside"),
        _member("runs/../../outside"),
        _member("/tmp/outside-absolute"),
        _member("runs\\..\\outside"),
        _member("C:/outside"),
        _member("runs/./x"),
        _member("elsewhere/x"),
        _member("runs/link", tarfile.SYMTYPE, "/etc"),
        _member("runs/hard", tarfile.LNKTYPE, "plan.json"),
        _member("runs/device", tarfile.CHRTYPE),
        _member("runs/" + "x" * 500),
    ],
    ids=lambda m: m.name[:24],
)
def test_an_archive_that_leads_outside(study: Path, tmp_path: Path, capsys, member: tarfile.TarInfo) -> None:
    archive.pack(study, tmp_path / "s.tar.gz")
    bad = repacked(tmp_path / "s.tar.gz", tmp_path / "bad.tar.gz", extra=[member])
    line = refused(capsys, "import", bad, "--results", tmp_path / "in" / "results")
    assert "leads outside or belongs to no study" in line or "is no plain file" in line
    assert not (tmp_path / "in").exists(), "nothing was taken over, nothing was even begun"
    assert not list(tmp_path.rglob("outside*"))


def _change_run(files: dict[str, bytes]) -> None:
    name = next(n for n in files if "/joint/" in n and n.endswith("history.csv"))
    files[name] += b"\n"


def _change_plan(files: dict[str, bytes]) -> None:
    plan = json.loads(files["plan.json"])
    plan["cells"][0]["run"] = "../../x"
    files["plan.json"] = json.dumps(plan).encode()


@pytest.mark.parametrize(
    ("change", "rehash", "message"),
    [
        (_change_run, False, "history.csv was changed after it was packed"),
        (_change_run, True, "does not verify: runs/.*history.csv is truncated or was changed"),
        (_change_plan, True, r"plan.json: cells\[0\].run is '../../x', not runs/.*, which follows from its config"),
        (lambda f: f.update({"plan.json": b'{"schema": 2, "cells": [{}]}'}), True, "plan.json lacks name, headline"),
        (lambda f: f.update({"runs/a/b/c/s0-0123456789/run.json": b""}), True, "is not planned"),
        (lambda f: f.update({"runs/a/b/c/s0-1/x.npz": b""}), True, "belongs to no study"),
        (lambda f: f.pop("cost.csv"), False, "'cost.csv' is missing from the archive"),
        (lambda f: f.update({"archive.json": b'{"schema": 9}'}), False, "unknown schema 9"),
        (lambda f: f.pop("archive.json"), False, "has no archive.json"),
    ],
)
def test_an_archive_that_does_not_verify(
    study: Path, tmp_path: Path, capsys, change, rehash: bool, message: str
) -> None:
    archive.pack(study, tmp_path / "s.tar.gz")
    bad = repacked(tmp_path / "s.tar.gz", tmp_path / "bad.tar.gz", change, rehash=rehash)
    assert re.search(message, refused(capsys, "import", bad, "--results", tmp_path / "in"))
    assert not (tmp_path / "in").exists() or list((tmp_path / "in").iterdir()) == []


def test_what_is_no_archive(tmp_path: Path, capsys) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"no archive at all")
    assert "is no archive of a study" in refused(
        capsys, "import", tmp_path / "x.tar.gz", "--results", tmp_path / "in"
    )
    assert "is no file" in refused(capsys, "import", tmp_path / "y.tar.gz", "--results", tmp_path / "in")


def test_a_run_that_is_there_with_another_outcome(study: Path, tmp_path: Path) -> None:
    archive.pack(study, tmp_path / "s.tar.gz")
    _edit_record(lambda r: r["notes"].append("another"))(joint(study))
    fake_runs.seal(joint(study))
    with pytest.raises(DataError, match="is there with another outcome"):
        archive.unpack(tmp_path / "s.tar.gz", study)


# ---- diff ------------------------------------------------------------------------------------------------------
def test_diff_finds_a_number_that_differs_beside_an_equal_value(study: Path, tmp_path: Path, capsys) -> None:
    other = Path(shutil.copytree(study, tmp_path / "other"))
    rows = parse_rows((other / "all_tables.csv").read_text())
    row = next(row for row in rows if row.label == "joint" and row.metric == "accuracy" and row.rank_group)
    row.rank_group += 3
    (other / "all_tables.csv").write_text(rows_text(rows))
    capsys.readouterr()
    assert main(["diff", str(study), str(other)]) == 1
    out = capsys.readouterr().out
    assert "1 of" in out and "; differ in rank_group" in out


@pytest.mark.slow
def test_diff_names_cells_and_what_made_them(study: Path, tmp_path: Path, capsys) -> None:
    other = Path(shutil.copytree(study, tmp_path / "other"))
    assert run(capsys, "diff", study, other)[0] == 0
    shutil.rmtree(other)
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint", "ensemble")]
    methods[2].accuracy["fused"] = 0.6
    methods[2].params = {"fusion": "sum"}
    fake_runs.write_study(other, [small(methods=methods, seeds=(0, 1))], hardware="A GPU")
    make_all(other, other / "cache", lambda line: None)
    capsys.readouterr()
    assert main(["diff", str(study), str(other)]) == 1
    out = capsys.readouterr().out
    assert "hardware differs in" in out and "A CPU and A GPU" in out
    assert "config differs in" in out and "setting params.fusion: not set and sum (2 runs)" in out
    assert "avdigits/speaker joint accuracy fused last: 8" in out and "B - A −2" in out
    assert "ensemble accuracy fused last" not in out, "equal cells are only counted"
    archive.pack(other, tmp_path / "o.tar.gz")
    assert len(compare(study, tmp_path / "o.tar.gz").changed) == len(compare(study, other).changed) > 0
    assert str(tmp_path / "none") in refused(capsys, "diff", study, tmp_path / "none")


@pytest.mark.slow
def test_diff_of_studies_without_a_common_row_names_what_differs(study: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other"
    fake_runs.write_study(other, [small(dataset="gabor_tones", split="iid", groups=(), seeds=(0, 1))])
    make_all(other, other / "cache", lambda line: None)
    found = compare(study, other)
    assert found.common == 0 and found.differs
    assert found.apart["dataset"] == (["avdigits"], ["gabor_tones"]) and found.apart["split"][1] == ["iid"]
    assert "recipe" not in found.apart
    capsys.readouterr()
    assert main(["diff", str(study), str(other)]) == 1
    out = capsys.readouterr().out
    assert "0 of 0" not in out
    assert all(word in out for word in ("avdigits", "gabor_tones", "speaker", "iid"))


@pytest.mark.slow
def test_diff_after_an_import_names_the_command_that_makes_the_tables(study: Path, tmp_path: Path, capsys) -> None:
    archive.pack(study, tmp_path / "s.tar.gz")
    other = tmp_path / "other"
    assert main(["import", str(tmp_path / "s.tar.gz"), "--results", str(other)]) == 0
    line = refused(capsys, "diff", study, other)
    assert "is missing" in line and f"mmlbench tables --results {other}" in line
    assert main(["tables", "--results", str(other), "--cache", str(study / "cache")]) == 0
    assert run(capsys, "diff", study, other)[0] == 0
