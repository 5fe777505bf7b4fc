"""Noise on one modality: measured from stored weights, shown as curves with their area, off by default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused
from fake_runs import FakeMethod, small
from made_archives import repacked
from noise_curves import add_curves, switch_on
from report_rows import one

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.robustness import area_weights
from mmlbench.analysis.rows import parse_rows
from mmlbench.cli import main
from mmlbench.errors import ConfigError, DataError
from mmlbench.results.curve import check_curve, content_hash, curve_file, sealed
from mmlbench.stats import two_part
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json
from mmlbench.study import config as configs
from mmlbench.study.workflow import Plan
from mmlbench.testing import FEW_EPOCHS, PLUGINS


def test_logits_under_noise_come_from_the_stored_weights(tiny, tmp_path: Path, capsys) -> None:
    run = tiny.run("joint", tmp_path)
    words = ["--noise", "0.001,1,5", "--results", str(tmp_path), "--cache", str(tiny.cache), "--device", "cpu"]
    words += ["--plugins", str(PLUGINS)]
    assert main(["robustness", str(run.path), *words]) == 0
    path = tmp_path / "robustness" / f"{run.record.run.removeprefix('runs/')}.npz"
    arrays = read_arrays(path)
    first, other = run.record.modalities
    clean = run.predictions["last/test/fused"]
    assert np.abs(arrays[f"{first}=0.001/fused"] - clean).max() < 0.05, "hardly any noise changes hardly anything"
    assert np.abs(arrays[f"{first}=5/fused"] - clean).max() > np.abs(arrays[f"{first}=1/fused"] - clean).mean()
    assert not np.array_equal(arrays[f"{first}=5/fused"], arrays[f"{other}=5/fused"])
    before = path.stat().st_mtime_ns
    assert main(["robustness", *words]) == 0 and path.stat().st_mtime_ns == before, "measured already"
    assert "is measured already" in capsys.readouterr().err
    assert main(["robustness", "--results", str(tmp_path / "none")]) == 2


def test_area_is_the_mean_height() -> None:
    assert area_weights([0.0, 1.0, 3.0]) == pytest.approx([1 / 6, 1 / 2, 1 / 3])
    assert area_weights([0.0, 0.5, 1.0]).sum() == pytest.approx(1)


def with_curves(results: Path) -> Path:
    """Write a study whose runs of joint were measured at two strengths."""
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint")]
    return add_curves(fake_runs.write_study(results, [small(methods=methods, groups=())]))


def test_curves_and_areas_in_the_tables(tmp_path: Path) -> None:
    results = with_curves(tmp_path)
    assert not [r for r in parse_rows(make_frame(results, tmp_path)[0]) if r.table == "robustness"], "off by default"
    switch_on(results)
    rows = [row for row in parse_rows(make_frame(results, tmp_path)[0]) if row.table == "robustness"]
    assert {row.metric for row in rows} == {*(f"accuracy@noise={s}" for s in (0, 1, 2)), "area@noise"}
    points = []
    for seed in (0, 1, 2):
        folder = next(results.glob(f"runs/*/*/joint/s{seed}-*"))
        predicted = read_arrays(folder / "predictions.npz")
        curve = read_arrays(results / "robustness" / f"{folder.relative_to(results / 'runs')}.npz")
        logits = [predicted["last/test/fused"], curve["audio=1/fused"], curve["audio=2/fused"]]
        points.append([z.argmax(1) == predicted["test/label"] for z in logits])
    matrix = np.tensordot(np.array([0.25, 0.5, 0.25]), np.array(points, float).transpose(1, 0, 2), axes=1)
    estimate = two_part(matrix)
    area = one(rows, "robustness", label="joint", metric="area@noise", modality="audio")
    assert (area.value, area.ci_low) == pytest.approx((estimate.value, estimate.ci_low), rel=1e-5)
    assert "noise at test only, on audio" in area.note


def test_noise_measured_on_other_weights_is_refused(tmp_path: Path) -> None:
    results = switch_on(with_curves(tmp_path))
    path = next(results.glob("robustness/*/*/joint/s1-*.npz"))
    write_arrays(path, read_arrays(path) | {"run_hash": np.array("0" * 64)})
    with pytest.raises(DataError, match=r"is stale: the run was made anew.*mmlbench robustness"):
        make_frame(results, tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"is missing, and the plan asks for accuracy under noise.*mmlbench robust"):
        make_frame(results, tmp_path)


def _damaged(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return arrays | {"audio=1/fused": arrays["audio=1/fused"][:, ::-1].copy()}


def _of_another_version(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in arrays.items() if name not in ("content_hash", "strengths")}


def _of_other_strengths(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return arrays | {"strengths": np.array([1.0, 3.0])}


def _lacking_a_point(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = {name: value for name, value in arrays.items() if name not in ("audio=2/fused", "content_hash")}
    return kept | {"content_hash": np.array(content_hash(kept))}


@pytest.mark.parametrize("change", [_damaged, _of_another_version, _of_other_strengths, _lacking_a_point])
def test_a_changed_curve_is_refused_by_verify_tables_export_and_import(tmp_path: Path, capsys, change) -> None:
    results = switch_on(with_curves(tmp_path / "a"))
    assert main(["verify", "--results", str(results)]) == 0
    assert main(["export", "--results", str(results), "--to", str(tmp_path / "good.tar.gz")]) == 0
    path = next(results.glob("robustness/*/*/joint/s1-*.npz"))
    write_arrays(path, change(read_arrays(path)))
    capsys.readouterr()
    assert main(["verify", "--results", str(results)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert str(path) in line and f"mmlbench robustness {results}/runs/" in line
    with pytest.raises(DataError, match=r"--noise 1,2"):
        make_frame(results, tmp_path)
    assert "mmlbench robustness" in refused(capsys, "export", "--results", results, "--to", tmp_path / "s.tar.gz")
    forged = repacked(
        tmp_path / "good.tar.gz",
        tmp_path / "bad.tar.gz",
        lambda files: files.update({path.relative_to(results).as_posix(): path.read_bytes()}),
        rehash=True,
    )
    assert path.name in refused(capsys, "import", forged, "--results", tmp_path / "in")
    assert not list((tmp_path / "in").glob("*"))


def test_a_curve_of_another_run_is_refused(tmp_path: Path, capsys) -> None:
    results = switch_on(with_curves(tmp_path / "a"))
    one, other = (next(results.glob(f"robustness/*/*/joint/s{seed}-*.npz")) for seed in (0, 1))
    one.write_bytes(other.read_bytes())
    assert main(["verify", "--results", str(results)]) == 1
    assert "is stale" in capsys.readouterr().out


def test_strengths_that_the_plan_does_not_ask_for_are_refused(tmp_path: Path) -> None:
    results = with_curves(tmp_path)
    write_json(results / "plan.json", read_json(results / "plan.json") | {"robustness": [1.0]})
    with pytest.raises(DataError, match=r"the plan asks for \[1\.0\].*--noise 1$"):
        make_frame(results, tmp_path)


def test_verify_notes_a_curve_without_its_run(tmp_path: Path, capsys) -> None:
    results = with_curves(tmp_path)
    path = next(results.glob("robustness/*/*/joint/s1-*.npz"))
    away = path.with_name("s1-0123456789.npz")
    path.rename(away)
    assert main(["verify", "--results", str(results)]) == 0
    assert str(away) in capsys.readouterr().err


def test_a_damaged_curve_is_measured_anew(tiny, tmp_path: Path) -> None:
    run = tiny.run("joint", tmp_path)
    words = ["robustness", "--noise", "1", "--results", str(tmp_path), "--cache", str(tiny.cache), "--device", "cpu"]
    words += ["--plugins", str(PLUGINS)]
    assert main(words) == 0
    path = curve_file(tmp_path, run.name)
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b""):
        path.write_bytes(damage)
        assert main(words) == 0 and path.read_bytes() == whole
    write_arrays(path, _of_another_version(read_arrays(path)))
    assert main(words) == 0 and path.read_bytes() == whole


def test_the_curves_travel_with_the_study(tmp_path: Path, capsys) -> None:
    here, there, packed = switch_on(with_curves(tmp_path / "a")), tmp_path / "b", tmp_path / "s.tar.gz"
    assert main(["export", "--results", str(here), "--to", str(packed)]) == 0
    assert main(["import", str(packed), "--results", str(there)]) == 0
    assert capsys.readouterr().err.strip().endswith(f"Next: mmlbench tables --results {there}")
    made = make_frame(here, tmp_path)
    assert "robustness,avdigits," in made[0] and make_frame(there, tmp_path) == made
    assert main(["import", str(packed), "--results", str(there)]) == 0, "equal measurements are no conflict"
    ours = next(there.glob("robustness/*/*/joint/s1-*.npz"))
    run = f"runs/{ours.relative_to(there / 'robustness').with_suffix('').as_posix()}"
    write_arrays(
        ours, sealed({k: -v for k, v in check_curve(there, run).items()}, there / run / "run.json", [1.0, 2.0])
    )
    kept = ours.read_bytes()
    capsys.readouterr()
    assert main(["import", str(packed), "--results", str(there)]) == 2
    assert "another measurement" in capsys.readouterr().err and ours.read_bytes() == kept
    other = with_curves(tmp_path / "c")
    assert main(["import", str(packed), "--results", str(other)]) == 2, "its plan does not ask for noise"
    assert "has the robustness [1.0, 2.0]" in capsys.readouterr().err
    path = next(here.glob("robustness/*/*/joint/s1-*.npz"))
    write_arrays(path, read_arrays(path) | {"run_hash": np.array("0" * 64)})
    assert main(["export", "--results", str(here), "--to", str(packed)]) == 2
    assert "is stale" in capsys.readouterr().err


def test_folds_are_measured_one_by_one_and_put_together(tmp_path: Path) -> None:
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint")]
    folds = [small(split=f"rotation.{k}", methods=methods, groups=()) for k in (1, 2)]
    results = switch_on(add_curves(fake_runs.write_study(tmp_path, folds)))
    rows = [row for row in parse_rows(make_frame(results, tmp_path)[0]) if row.table == "robustness"]
    assert {row.split for row in rows} == {"rotation"} and {row.n_test for row in rows} == {160}
    at_one = one(rows, "robustness", split="rotation", metric="accuracy@noise=1", modality="audio")
    assert at_one.value == pytest.approx(0.6, abs=0.05)


class NoisyGroup(fake_runs.FakeGroup):
    """A group of a recipe with noise in training and test."""

    strength = 0.0

    def config(self, method: FakeMethod, seed: int) -> dict:
        config = super().config(method, seed)
        config["recipe"]["name"] = f"embedded noise_std={self.strength:g} noise_on=audio"
        config["recipe"] |= {"noise_std": self.strength, "noise_on": "audio"}
        return config


@pytest.mark.slow
def test_noise_in_training_is_a_curve_over_recipes(tmp_path: Path) -> None:
    groups = [small(groups=())]
    for strength, level in ((0.1, 0.7), (0.4, 0.5)):
        methods = [replace(m, accuracy=dict.fromkeys(m.accuracy, level)) for m in groups[0].methods]
        noisy = NoisyGroup(**{**vars(groups[0]), "methods": methods})
        noisy.strength = strength
        groups.append(noisy)
    switch_on(add_curves(fake_runs.write_study(tmp_path, groups)))
    rows = [row for row in parse_rows(make_frame(tmp_path, tmp_path)[0]) if row.table == "robustness"]
    area = one(rows, "robustness", label="joint", metric="area@noise_in_training")
    assert len(area.runs) == 9, "three seeds of the recipe without noise and of two with it"
    found = {row.metric: row.value for row in rows if row.label == "joint" and "in_tr" in row.metric}
    assert set(found) == {*(f"accuracy@noise_in_training={s}" for s in (0, 0.1, 0.4)), "area@noise_in_training"}
    assert found["accuracy@noise_in_training=0.4"] == pytest.approx(0.5, abs=0.05)


def test_the_switch_in_the_config(tiny) -> None:
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0], "methods": ["joint"]}
    base = {"plugins": [str(PLUGINS)], "grid": [block]}
    assert not configs.study(base).plan().robustness and not Plan(configs.study(base)).noise_files()
    on = configs.study({**base, "robustness": True})
    assert on.robustness == configs.STRENGTHS and len(on.robustness) == 5
    (file,) = Plan(on).noise_files()
    assert file.startswith("results/robustness/tiny/") and file.endswith(".npz")
    for wrong in (
        "yes",
        {"noise": []},
        {"noise": [1, 0.5]},
        {"noise": [0]},
        {"nose": [1]},
        {"noise": [0.1234567, 0.12345671]},
    ):
        with pytest.raises(ConfigError, match="robustness"):
            configs.study({**base, "robustness": wrong})


def test_pareto_front(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(groups=())])
    lines = [line.split(",") for line in make_frame(tmp_path, tmp_path)[1].splitlines()]
    column = {name: k for k, name in enumerate(lines[0])}
    front = {line[column["label"]]: line[column["pareto_front"]] for line in lines[1:]}
    assert front["ensemble"] == "1" and front["joint"] == "0" and front["joint_shuffled_partner"] == ""
