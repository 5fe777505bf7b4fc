"""Results that no honest table can be made of as they are: each a clear error, or an honest cell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import FakeMethod, small
from report_rows import folder_of, one, rewrite

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.rows import Row, parse_rows
from mmlbench.errors import ConfigError, DataError
from mmlbench.registry.index import load_index
from mmlbench.report import make_all
from mmlbench.report.render.latex import latex_text
from mmlbench.report.render.markdown import markdown_text
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json
from mmlbench.study import config as configs
from mmlbench.study.plan import PLAN_SCHEMA
from mmlbench.study.run_config import RUN_SCHEMA
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing import FEW_EPOCHS, PLUGINS


def rows_of(results: Path, cache: Path | None = None) -> list[Row]:
    return parse_rows(make_frame(results, cache or results / "cache")[0])


def finite(rows: list[Row]) -> bool:
    numbers = [n for r in rows for n in (r.value, r.sd, r.ci_low, r.ci_high, r.p_value) if n is not None]
    return bool(np.isfinite(numbers).all())


def test_a_run_whose_labels_disagree_with_the_dataset(tiny, tmp_path: Path) -> None:
    run = tiny.run("joint", tmp_path)
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0], "methods": ["joint"]}
    write_json(tmp_path / "plan.json", configs.study({"plugins": [str(PLUGINS)], "grid": [block]}).plan().plain())
    rows_of(tmp_path, tiny.cache)
    arrays = read_arrays(run.path / "predictions.npz")
    arrays["test/label"] = (arrays["test/label"] + 1) % len(run.record.class_names)
    write_arrays(run.path / "predictions.npz", arrays)
    fake_runs.seal(run.path)
    with pytest.raises(DataError, match="its test labels are not those of the dataset"):
        rows_of(tmp_path, tiny.cache)


def test_a_plan_of_an_earlier_version_names_the_fix(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small()])
    plan = read_json(tmp_path / "plan.json")
    for change in ({"schema": PLAN_SCHEMA - 1}, {"schema": None}):
        write_json(tmp_path / "plan.json", plan | change)
        with pytest.raises(DataError, match=f"unknown schema .*; this version reads {PLAN_SCHEMA}.*snakemake"):
            rows_of(tmp_path)


def test_runs_of_two_schema_versions(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small()])
    record = read_json(folder_of(tmp_path, "joint", 1) / "run.json")
    write_json(folder_of(tmp_path, "joint", 1) / "run.json", record | {"schema": RUN_SCHEMA - 1})
    with pytest.raises(DataError, match=f"unknown schema {RUN_SCHEMA - 1}; this version reads {RUN_SCHEMA}"):
        rows_of(tmp_path)


def test_a_class_that_is_never_predicted(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(seeds=(0, 1))])

    def never(logits: np.ndarray, key: str) -> np.ndarray:
        logits[:, 2] = -9.0
        return logits

    for seed in (0, 1):
        rewrite(folder_of(tmp_path, "joint", seed), never)
    rows = rows_of(tmp_path)
    assert one(rows, "classes", label="joint", modality="class=c2").value == 0
    assert one(rows, "classes", label="joint", modality="class=c2").class_state == "never_predicted"
    f1 = one(rows, "measures", label="joint", metric="macro_f1", kind="fused")
    assert "1 class never predicted" in f1.note and finite(rows)


def test_a_class_that_is_not_in_the_test_part(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(seeds=(0, 1))])
    for folder in tmp_path.glob("runs/*/*/*/*"):
        arrays = read_arrays(folder / "predictions.npz")
        arrays["test/label"][arrays["test/label"] == 3] = 0
        write_arrays(folder / "predictions.npz", arrays)
        fake_runs.seal(folder)
    rows = rows_of(tmp_path)
    absent = one(rows, "classes", label="joint", modality="class=c3")
    assert (absent.value, absent.n_test, absent.class_state) == (None, 0, "not_in_test")
    assert (
        "1 of 4 classes are not in the test part"
        in one(rows, "measures", label="joint", metric="balanced_accuracy", kind="fused").note
    )


def test_all_seeds_equal(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(groups=())])
    for method in ("joint", "ogm_ge"):
        first = folder_of(tmp_path, method, 0)
        for seed in (1, 2):
            for name in ("predictions.npz", "probe.npz", "epochs.npz", "history.csv"):
                (folder_of(tmp_path, method, seed) / name).write_bytes((first / name).read_bytes())
            fake_runs.seal(folder_of(tmp_path, method, seed))
    rows = rows_of(tmp_path)
    row = one(rows, label="joint", metric="accuracy", kind="fused")
    assert row.sd == 0 and row.ci_low < row.value < row.ci_high, "the items still vary"
    assert one(rows, label="ogm_ge", metric="difference", baseline="joint").p_value is not None and finite(rows)


@pytest.mark.slow
def test_two_test_samples_and_one(tmp_path: Path) -> None:
    for n in (2, 1):
        results = tmp_path / str(n)
        fake_runs.write_study(results, [small(counts=(4, n), groups=())])
        make_all(results, results / "cache", lambda line: None)
        rows = rows_of(results)
        assert finite(rows) and {r.rank_group for r in rows if r.rank_group} == {1}
        row = one(rows, label="joint", metric="accuracy", kind="fused")
        assert row.n_test == n and (n == 2 or row.ci_low is None)


def test_ties_share_a_place_and_a_group(tmp_path: Path) -> None:
    methods = [FakeMethod(name, "joint", accuracy={"fused": 0.7}, params={"k": k}) for k, name in enumerate("ab")]
    fake_runs.write_study(tmp_path, [small(methods=methods, groups=()), fake_runs.gabor(methods=methods)])
    for seed in (0, 1, 2):
        one_, other = sorted(tmp_path.glob(f"runs/*/*/joint/s{seed}-*"))[:2]
        (other / "predictions.npz").write_bytes((one_ / "predictions.npz").read_bytes())
        fake_runs.seal(other)
    rows = rows_of(tmp_path)
    tied = [r for r in rows if r.split == "speaker" and r.metric == "accuracy" and r.rank_group]
    assert {r.rank_group for r in tied} == {1} and len({r.value for r in tied}) == 1
    assert sum(r.value for r in rows if r.metric == "mean_rank") == 3 and finite(rows)


def test_equal_logits_are_a_tie_that_the_first_class_wins(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(seeds=(0, 1))])
    for seed in (0, 1):
        rewrite(folder_of(tmp_path, "joint", seed), lambda logits, key: np.zeros_like(logits))
    rows = rows_of(tmp_path)
    assert one(rows, label="joint", metric="accuracy", kind="fused").value == pytest.approx(0.25)
    assert one(rows, "measures", label="joint", metric="nll", kind="fused").value == pytest.approx(
        np.log(4), rel=1e-5
    )
    assert finite(rows)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    fake_runs.write_study(tmp_path, [small()])

    def spoil(logits: np.ndarray, key: str) -> np.ndarray:
        if key == "last/test/fused":
            logits[5] = value
        return logits

    rewrite(folder_of(tmp_path, "joint", 2), spoil)
    with pytest.raises(DataError, match=r"joint/s2-.*last/test/fused is NaN or infinite for 1 of 80 samples"):
        rows_of(tmp_path)


NAMES = {
    "html": "<script>alert('x')</script>",
    "quotes": "a \"b\" `c` 'd'",
    "unicode": "mélange 多模态 ∑",
    "slashes": "../../etc/passwd\\x",
    "long": "x" * 200,
    "table": "a|b | c | d |",
}


@pytest.mark.parametrize(
    "label",
    [pytest.param(text, id=name, marks=() if name == "html" else pytest.mark.slow) for name, text in NAMES.items()],
)
def test_names_of_any_kind_are_text_and_nothing_else(tmp_path: Path, label: str) -> None:
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint", "ogm_ge")]
    methods[2] = replace(methods[2], label=label)
    results = tmp_path / "a" / "results"
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1))])
    make_all(results, results / "cache", lambda line: None)
    rows = parse_rows((results / "all_tables.csv").read_text(encoding="utf-8"))
    assert label in {row.label for row in rows}, "the data keeps it as it is"
    page = (results / "leaderboard.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    markdown = (results / "tables/accuracy.md").read_text(encoding="utf-8")
    assert markdown_text(label) in markdown and "<script" not in markdown
    assert latex_text(label) in (results / "tables/accuracy.tex").read_text(encoding="utf-8")
    bars = {line.replace("\\|", "").count("|") for line in markdown.split("##")[1].splitlines()}
    assert len(bars - {0}) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"a"}, "nothing was written elsewhere"


@pytest.mark.parametrize("label", ["=1+1", "+x", "-x", "@x", "\tx", "a\u202eb", "a\x1b[31m"])
def test_a_plan_from_elsewhere_with_names_that_a_reader_would_obey(tmp_path: Path, label: str) -> None:
    """A spreadsheet computes a cell that begins with =, a terminal obeys an escape code."""
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint", "ogm_ge")]
    methods[2] = replace(methods[2], label=label)
    fake_runs.write_study(tmp_path, [small(methods=methods, seeds=(0, 1))])
    with pytest.raises(DataError, match=r"plan\.json") as caught:
        make_all(tmp_path, tmp_path / "cache", lambda line: None)
    assert not set(str(caught.value)) & set("\x1b\u202e")


def test_a_config_takes_only_printable_labels() -> None:
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0]}
    for label in (NAMES["html"], NAMES["long"], "a\nb"):
        grid = [{**block, "methods": [{"method": "joint", "label": label}]}]
        with pytest.raises(ConfigError, match="is not valid"):
            configs.study({"plugins": [str(PLUGINS)], "grid": grid})


def test_an_empty_results_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no plan\.json"):
        make_all(tmp_path, tmp_path / "cache", lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_a_split_that_is_no_fold_names_its_folds(tiny) -> None:
    with pytest.raises(ConfigError, match=r"no split 'speaker_rotation'.*speaker_rotation\.1"):
        resolve(Request("avdigits", "joint", 0, split="speaker_rotation"), load_index())
    block = {"dataset": "avdigits", "split": "speaker_rotation", "seeds": [0], "methods": ["joint"]}
    found = configs.study({"grid": [block]})
    assert [cell.run.config.split for cell in found.cells] == [f"speaker_rotation.{k}" for k in (1, 2, 3)]
