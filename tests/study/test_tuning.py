"""Equal tuning: draws by name, chosen on val alone, fresh seeds for the final runs, ordinary runs throughout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.audit import AuditText
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import parse_rows
from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.errors import ConfigError, DataError
from mmlbench.params import MethodParams, bounded, choice, describe
from mmlbench.registry.index import load_index
from mmlbench.report.details import detail_html, gather
from mmlbench.results.archive import pack
from mmlbench.results.chosen import choose
from mmlbench.results.load import read_plan
from mmlbench.results.run_folder import RunFolder
from mmlbench.results.so_far import so_far
from mmlbench.storage import atomic as store
from mmlbench.study import config as configs
from mmlbench.study.tuning import draw, draws_of
from mmlbench.study.workflow import Plan
from mmlbench.testing import FEW_EPOCHS, PLUGINS


class Wide(MethodParams):
    rate: float = bounded(1.0, low=0.0, high=10, tune=(0.01, 10.0, "log"))
    steps: int = bounded(3, low=1, tune=(1, 9))
    kind: str = choice("a", ("a", "b", "c"), tune=("a", "c"))
    closed: float = bounded(0.5)


FIELDS = describe(Wide)


def test_draws_lie_in_their_ranges_and_differ() -> None:
    drawn = draws_of("some", FIELDS, {}, 200)
    assert set(drawn[0]) == {"rate", "steps", "kind"}, "what declares no range is not tuned"
    rates = np.array([one["rate"] for one in drawn])
    assert rates.min() >= 0.01 and rates.max() <= 10 and np.median(rates) < 1, "uniform on the log scale"
    assert {one["steps"] for one in drawn} == set(range(1, 10)) and {one["kind"] for one in drawn} == {"a", "c"}


def test_another_parameter_or_method_moves_no_draw() -> None:
    alone = draws_of("some", [FIELDS[0]], {}, 5)
    assert [one["rate"] for one in draws_of("some", FIELDS, {}, 5)] == [one["rate"] for one in alone]
    assert draws_of("some", FIELDS, {}, 8)[:5] == draws_of("some", FIELDS, {}, 5)
    assert draw("other", FIELDS[0], 0) != draw("some", FIELDS[0], 0)
    assert "rate" not in draws_of("some", FIELDS, {"rate": 1.0}, 2)[0], "what the config sets is not drawn"
    assert draws_of("some", FIELDS[3:], {}, 4) == []


@pytest.mark.parametrize("tune", [(2.0, 1.0), (0.0, 1.0, "log"), (0.0, 99.0), ("a",), (0.1, 1.0, "exp")])
def test_a_range_that_is_none_is_refused(tune) -> None:
    class Wrong(MethodParams):
        x: float = bounded(0.5, low=0, high=10, tune=tune)

    with pytest.raises(TypeError, match=r"Wrong\.x: its range of tuning"):
        describe(Wrong)


def study(**more: object) -> configs.Study:
    methods = more.pop("methods", ["unimodal", "modality_dropout", "joint"])
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0, 1], "methods": methods}
    return configs.study({"plugins": [str(PLUGINS)], "tune": {"draws": 3, "seed": 77}, "grid": [block], **more})


@pytest.mark.parametrize("tune", [False, True])
def test_tune_of_a_method_where_the_study_tunes_nothing_is_refused(tune: bool) -> None:
    methods = ["unimodal", {"method": "joint", "label": "plain", "tune": tune}]
    assert study(methods=methods).tune
    with pytest.raises(ConfigError, match="'plain' has `tune`, and the study tunes nothing"):
        study(methods=methods, tune=None)


def test_a_label_that_is_tuned_for_some_seeds_only_is_refused() -> None:
    one, other = {"method": "joint", "seeds": [0], "tune": False}, {"method": "joint", "seeds": [1]}
    for methods in ([one, other], [other, one]):
        with pytest.raises(ConfigError, match="the label 'joint' stands for two settings"):
            study(methods=methods)


def test_the_plan_of_a_tuned_study(tiny) -> None:
    found = study()
    trials = {str(run.path) for run in found.runs if run.config.seed == 77}
    tuned = [cell for cell in found.cells if cell.tuned]
    assert {cell.label for cell in tuned} == {"modality_dropout", "joint"}, "unimodal has nothing to tune"
    assert all(len(cell.tuned.trials) == 3 for cell in tuned), "as many for each"
    assert trials == {str(run.path) for cell in tuned for run in cell.tuned.trials}
    assert not {str(cell.run.path) for cell in tuned} & {str(run.path) for run in found.runs}
    plan = Plan(found)
    assert len(plan.tuned) == 4 and all(stamp.startswith("results/tuned/tiny/") for stamp in plan.tuned)
    untuned = study(methods=["modality_dropout", {"method": "joint", "tune": False}])
    assert {cell.label for cell in untuned.cells if cell.tuned} == {"modality_dropout"}
    assert all("tuned" not in cell.plain() for cell in study(tune=None).plan().cells)


def test_a_tuned_run_that_is_missing_is_named_with_what_makes_it(tiny, tmp_path: Path, capsys) -> None:
    store.write_json(tmp_path / "plan.json", study(methods=["joint"]).plan().plain())
    with pytest.raises(DataError, match=r"joint seed 0: missing \(mmlbench train .*--tune 3 --tune-seed 77"):
        make_frame(tmp_path, tiny.cache)
    assert main(["verify", "--results", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.count("/s77-") == out.count("run.json is missing") == 3, "the three trials, not the stamp"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tune": {"draws": 1}}, "draws is 1"),
        ({"tune": {"draws": 3, "sed": 1}}, "unknown key 'sed'"),
        ({"tune": {"draws": 3, "seed": 1}}, "seed 1 is that of the trials"),
        ({"methods": [{"method": "joint", "tune": "no"}]}, "tune of a method is 'no'"),
        ({"grid": [{"dataset": "gabor_nuisance", "seeds": [0], "methods": ["joint"]}]}, "asks for a validation part"),
    ],
)
def test_what_cannot_be_tuned_is_said_before_training(tiny, more: dict, message: str) -> None:
    facts = load_index().find("dataset", "gabor_nuisance").facts["splits"].values()
    if "grid" in more and all(split["counts"].get("val") for split in facts):
        pytest.skip("every split has a validation part")
    with pytest.raises(ConfigError, match=message):
        study(**more)


def test_a_headline_is_a_rule_that_may_be_one(tiny) -> None:
    with pytest.raises(ConfigError, match="The test set chooses nothing here"):
        study(headline="test")
    with pytest.raises(ConfigError, match="It takes last or val"):
        study(headline="best")


@pytest.mark.slow
def test_a_tuned_study_from_trials_to_tables(tiny, tmp_path: Path, capsys) -> None:
    found = study(methods=["joint", "modality_dropout", {"method": "joint", "label": "plain", "tune": False}])
    results = tmp_path / "results"
    store.write_json(results / "plan.json", found.plan().plain())
    for spec in found.runs:
        make_run(spec, load_index(), results, tiny.cache, device="cpu")
    plan = Plan(found)
    for stamp, cell in plan.tuned.items():
        words = [*cell.run.command, "--plugins", str(PLUGINS), "--results", str(results), "--cache", str(tiny.cache)]
        words += ["--tune", "3", "--tune-seed", "77", "--expect", cell.tuned.key, "--device", "cpu"]
        assert main(["train", *words]) == 0
        assert (results / Path(stamp).relative_to("results")).exists()
    cells = [cell for cell in read_plan(results).cells if cell.label == "modality_dropout"]
    assert main(["verify", "--results", str(results)]) == 0, "the stamp of a tuned cell is no run"
    best, scores = choose(results, cells[0].tuned.trials, "last")
    run = RunFolder.open(results / cells[0].run)
    assert run.record.config.params["p"] == cells[0].tuned.draws[best]["p"] and len(scores) == 3
    assert run.record.config.seed == 0
    fields, before = {"p": cells[0].tuned.draws[best]["p"]}, sorted(results.glob("runs/*/*/*/*"))
    places = ["--plugins", str(PLUGINS), "--results", str(results), "--cache", str(tiny.cache), "--device", "cpu"]
    assert main(["train", *cells[0].command, *places]) == 0
    assert sorted(results.glob("runs/*/*/*/*")) == before, "the command of a tuned row names the run that was chosen"
    rows = parse_rows(make_frame(results, tiny.cache)[0])
    row = next(r for r in rows if r.label == "modality_dropout" and r.metric == "accuracy" and r.kind == "fused")
    assert row.tuning_trials == 3 and f"p={cells[0].tuned.draws[best]['p']}" in row.params
    assert {r.tuning_trials for r in rows if r.label == "plain"} == {0}, "untuned rows say so"
    result_set = ResultSet.parse(read_plan(results), *make_frame(results, tiny.cache))
    entry = result_set.find(result_set.groups()[0], "modality_dropout", "accuracy")
    page = detail_html(
        result_set,
        result_set.groups()[0],
        entry,
        gather(result_set, results)[result_set.groups()[0], entry.label],
        AuditText(),
    )
    assert "<dt>tuning trials</dt><dd>3</dd>" in page and f"--set p={fields['p']}" in page
    pack(results, tmp_path / "s.tar.gz")
    assert main(["import", str(tmp_path / "s.tar.gz"), "--results", str(tmp_path / "in")]) == 0
    assert make_frame(tmp_path / "in", tiny.cache)[0] == make_frame(results, tiny.cache)[0], "trials go with it"
    capsys.readouterr()
    assert main(["train", "--dataset", "tiny", "--method", "unimodal", "--tune", "3", "--plugins", str(PLUGINS)]) == 2
    assert "unimodal has nothing to tune" in capsys.readouterr().err
    whole, methods = make_frame(results, tiny.cache)[0], ["joint", "modality_dropout"]
    longer = [{"method": name, "seeds": [0, 1, 2]} for name in methods]
    longer.append({"method": "joint", "label": "plain", "tune": False, "seeds": [0, 1, 2]})
    store.write_json(results / "plan.json", study(methods=longer).plan().plain())
    (part,) = so_far(results).partial
    assert make_frame(results, tiny.cache, part.plan)[0] == whole, "the two seeds that are there, as if planned alone"
