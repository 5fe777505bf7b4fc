"""What the page, Markdown and tables show beside accuracy and gap, and what gives way on a full page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from fake_runs import FakeMethod, gabor, small
from noise_curves import add_curves, switch_on

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.audit import AuditText
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import Row
from mmlbench.report import make_all, page
from mmlbench.report.details import Detail, detail_html
from mmlbench.report.notes import resolved
from mmlbench.report.numbers import figure_of, interval, with_sd
from mmlbench.report.table import Output
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.report.tables.cost import cost_table
from mmlbench.report.tables.measures import measures_table
from mmlbench.report.tables.robustness import robustness_table
from mmlbench.results.load import read_plan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("more") / "results"
    methods = fake_runs.default_methods()[:3]
    common = {"methods": methods, "seeds": (0, 1), "epochs": 2}
    studies = [small(dataset="cremad", split="official", **common), gabor(**common)]
    fake_runs.write_study(results, studies)
    make_all(switch_on(add_curves(results)), results / "cache", lambda line: None)
    return results


@pytest.fixture(scope="module")
def result_set(made: Path) -> ResultSet:
    return ResultSet.open(made)


def test_the_page_and_markdown_show_every_measure(made: Path) -> None:
    html, markdown = ((made / f"leaderboard.{form}").read_text(encoding="utf-8") for form in ("html", "md"))
    for title in ("Further measures", "Under noise", "Mean rank over datasets"):
        assert title in html and f"### {title}" in markdown, title
    assert "macro-F1" in markdown and "gain over the ensemble" in markdown and "mean normalised score" in markdown
    assert (made / "figures/robustness-cremad-official.pdf").exists() and "![robustness of cremad" in markdown
    assert (
        "at 2" in (made / "tables/robustness.md").read_text()
        and "area@noise" in (made / "tables/robustness_rows.csv").read_text()
    )


def test_details_hold_all_numbers_of_a_row(result_set: ResultSet) -> None:
    group = result_set.groups()[0]
    entry = result_set.find(group, "joint", "accuracy")
    assert entry is not None
    body = detail_html(result_set, group, entry, Detail(), AuditText())
    for row in result_set.about(group, "joint"):
        if row.table in ("measures", "fusion_gain", "robustness") and row.selection == "last":
            assert f"<td>{row.row_id}</td>" in body.replace(' class="t"', ""), row


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (Row("", unit="nats", value=0.5124, sd=0.01, ci_low=0.4, ci_high=0.6), ("0.512", "[0.400, 0.600]", "0.010")),
        (
            Row("", unit="nats", value=-0.02, sd=0.01, ci_low=-0.1, ci_high=0.1),
            ("−0.020", "[−0.100, 0.100]", "0.010"),
        ),
        (Row("", unit="rank", value=1.5), ("1.50", "", "1.50")),
        (Row("", unit="points", value=1.25, sd=0.5, ci_low=-1, ci_high=3), ("+1.2", "[−1.0, +3.0]", "0.5")),
        (Row("", unit="fraction", value=0.8, sd=0.01, ci_low=0.7, ci_high=0.9), ("80.0", "[70.0, 90.0]", "1.0")),
    ],
)
def test_numbers_are_printed_as_their_unit_asks(row: Row, shown: tuple[str, str, str]) -> None:
    assert (figure_of(row), interval(row)) == shown[:2] and with_sd(row).endswith(shown[2])


def test_each_table_says_what_it_can_resolve_in_its_own_measure(result_set: ResultSet) -> None:
    group = result_set.groups()[0]
    notes = {
        table.name: " ".join(table.notes)
        for table in (measures_table(result_set, group), robustness_table(result_set, group))
    }
    for words in ("macro-F1 about", "balanced accuracy about", "NLL about "):
        assert words in notes["measures"]
    assert (
        "Smallest difference to joint found with 80 % power (one comparison alone): area on audio about"
        in notes["robustness"]
    )


def test_without_the_baseline_the_resolution_is_that_of_all_pairs(tmp_path: Path) -> None:
    methods = [FakeMethod(name, accuracy={"fused": level}) for name, level in (("ogm_ge", 0.8), ("di_mml", 0.7))]
    fake_runs.write_study(tmp_path, [small(methods=methods, groups=())])
    result_set = ResultSet.parse(read_plan(tmp_path), *make_frame(tmp_path, tmp_path))
    group = result_set.groups()[0]
    message = resolved(result_set, group, "accuracy")
    assert message.startswith("Smallest difference between two rows found with 80 % power (one comparison alone)")
    assert not any("takes two seeds" in note for note in accuracy_table(result_set, group).notes)
    fake_runs.write_study(tmp_path / "one", [small(methods=methods[:1], groups=())])
    result_set = ResultSet.parse(read_plan(tmp_path / "one"), *make_frame(tmp_path / "one", tmp_path))
    assert "there is nothing to compare" in resolved(result_set, result_set.groups()[0], "accuracy")


@pytest.mark.slow
def test_many_groups_of_samples_leave_the_page_small(tmp_path: Path) -> None:
    names = tuple(f"v_ApplyEyeMakeup_g{k:03d}" for k in range(400))
    methods = [replace(m, accuracy={"fused": 0.8}, probe={}) for m in fake_runs.default_methods()[1:]]
    studies = [
        small(methods=methods, groups=names, counts=(0, 800), split=split) for split in ("one", "two", "three")
    ]
    for study in studies:
        study.seeds, study.epochs = (0, 1), 2
    fake_runs.write_study(tmp_path, studies)
    result_set = ResultSet.parse(read_plan(tmp_path), *make_frame(tmp_path, tmp_path))
    assert len(result_set.of(result_set.groups()[0], "groups")) == 5 * 400
    text = page.write_page(result_set, tmp_path / "leaderboard.html", {}, {}, lambda method: "other")
    assert len(text.encode()) < 1_000_000
    assert "2000 lines, too many to show: all_tables.csv has them, where table = groups." in text


def test_a_full_page_leaves_tables_to_the_folder(
    result_set: ResultSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "FOLD_BYTES", 10_000)
    text = page.write_page(result_set, tmp_path / "leaderboard.html", {}, {}, lambda method: "other")
    assert (
        "The page is full: see all_tables.csv and the folder tables." in text
        and "All columns of the first table" in text
    )


def test_the_cost_table_prints_energy_and_the_cost_with_all_reused_runs(result_set: ResultSet) -> None:
    group = result_set.groups()[0]
    joint = next(row for row in result_set.cost if row["label"] == "joint")
    joint |= {"energy_joules": "7200", "reuses": "unimodal+ensemble", "train_flops_with_reused": "5e12"}
    table = cost_table(result_set, group)
    row = next(row for row in table.rows if row["label"] == "joint")
    line = {column.title: str(column.shown(row)) for column in table.columns_of(Output.MARKDOWN)}
    assert line["energy Wh"] == "2.00" and line["TFLOP with reused runs"] == "5.000"


def test_published_numbers_stand_in_the_table(result_set: ResultSet) -> None:
    row = result_set.find(result_set.groups()[0], "joint", "accuracy")
    assert row is not None and row.published_value is None, "several sources print it"
    assert "pmr: 53.2 % (main comparison" in row.published_source and "FiLM" not in row.published_source
    alone = result_set.find(result_set.groups()[0], "unimodal", "accuracy", "audio", "own_head")
    assert alone is not None and "pmr: 54.4 %" in alone.published_source


def test_a_grid_without_the_control_is_told_so(made: Path, result_set: ResultSet) -> None:
    assert not result_set.control(result_set.groups()[0])
    text = (made / "tables/competition_gap.md").read_text(encoding="utf-8").replace("\\", "")
    assert "No control was asked for: add joint_shuffled_partner" in text
