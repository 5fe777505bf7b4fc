"""Published numbers: each with a source that can be opened, refused without; verdicts only where they are fair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_runs
import numpy as np
import pytest
import yaml

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.literature import Ours, PublishedResult, Source, cells, compare, read_published, read_source
from mmlbench.analysis.result_set import ResultSet
from mmlbench.errors import DataError
from mmlbench.report import literature
from mmlbench.report.colours import Ink
from mmlbench.results.load import read_plan
from mmlbench.storage.paths import published_folder

SOURCE = Source(
    "some", "A paper", "CONF 2020", "https://example.org/paper", "its authors", "full_text", "high",
    {"cremad": "official"}, "last", ("field",),
)  # fmt: skip
FIGURE = PublishedResult(SOURCE, "cremad", "joint", "accuracy", 60.0, "Table 1, row Joint")
BARE = {"dataset": "cremad", "method": "joint", "metric": "accuracy", "value": 61.2}
OURS = Ours("cremad", "official", "field", "last", 66.0, 1.2, 1.0, 744, 5)


def test_every_published_figure_has_a_source_that_a_reader_can_open() -> None:
    figures = read_published()
    assert len(figures) > 100 and len({figure.source.key for figure in figures}) == len(
        list(published_folder().glob("*.yaml"))
    )
    for figure in figures:
        assert figure.source.address.startswith("https://") and len(figure.place) > 5
        assert figure.source.read and figure.source.measured_by
        assert "package" not in figure.source.address
    names = [(f.source.key, f.dataset, f.method, f.metric, f.place) for f in figures]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"address": None}, "'address' is a required property"),
        ({"address": "a book that I once read"}, "does not match"),
        ({"figures": [BARE]}, "'place' is a required"),
        ({"figures": [{**BARE, "value": 612, "place": "Table 1"}]}, "612"),
        ({"figures": []}, "figures"),
        ({"measured_by": None}, "'measured_by' is a required property"),
        ({"remembered": True}, "remembered"),
        ({"protocol": {"selection": "best"}}, "protocol"),
    ],
)  # fmt: skip
def test_a_figure_without_its_source_is_refused(tmp_path: Path, change: dict[str, object], what: str) -> None:
    found = yaml.safe_load((published_folder() / "pmr.yaml").read_text(encoding="utf-8"))
    found = {key: value for key, value in {**found, **change}.items() if value is not None}
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    with pytest.raises(DataError, match=r"some\.yaml") as caught:
        read_source(path)
    assert what in str(caught.value) and "docs/leaderboard.md" in str(caught.value)


def test_a_verdict_is_given_by_the_interval_of_the_difference() -> None:
    """Seeds of ours stand for theirs too, so their part takes t of our few seeds, 2.78 of five."""
    made = compare(FIGURE, OURS)
    samples = 1.2**2 - 1.0**2 / 5 + 100**2 * 0.6 * 0.4 / 744
    width = (2.776445**2 * 1.0**2 * 1.2 + 1.959964**2 * samples) ** 0.5
    assert made.ci_low == pytest.approx(6 - width, rel=1e-5) and made.ci_high == pytest.approx(6 + width, rel=1e-5)
    assert made.verdict == "higher"
    assert compare(replace(FIGURE, value=66.5), OURS).verdict == "agrees"
    assert compare(replace(FIGURE, value=72.5), OURS).verdict == "lower"


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_to_a_published_number_holds_the_truth(seeds: int) -> None:
    """4,000 test samples, ours S seeds, theirs one run of the same method: their difference is 0 in truth."""
    rng, n, sd, replicates = np.random.default_rng(seeds), 4000, 4.0, 4000
    item = 100 * (0.66 * 0.34 / n) ** 0.5
    means = 66 + rng.normal(0, sd, (replicates, seeds)) + rng.normal(0, item, (replicates, 1))
    theirs = 66 + rng.normal(0, sd, replicates) + rng.normal(0, item, replicates)
    agree = plain = 0
    for k in range(replicates):
        own = float(means[k].std(ddof=1))
        ours = replace(OURS, value=float(means[k].mean()), sd=own, se=(own**2 / seeds + item**2) ** 0.5)
        ours = replace(ours, n_test=n, n_seeds=seeds)
        agree += compare(replace(FIGURE, value=float(theirs[k])), ours).verdict == "agrees"
        plain += abs(ours.value - theirs[k]) < 1.96 * (ours.se**2 + item**2 + own**2) ** 0.5
    assert 0.94 <= agree / replicates <= 0.985
    assert plain / replicates < 0.92, "1.96 on both parts"


@pytest.mark.parametrize(
    ("figure", "ours", "why"),
    [
        (FIGURE, replace(OURS, split="speaker"), "test set of cremad/speaker"),
        (FIGURE, replace(OURS, selection="val"), "chosen by 'last', ours by 'val'"),
        (FIGURE, replace(OURS, recipe="embedded"), "front end"),
        (FIGURE, replace(OURS, se=None), "no interval"),
        (
            replace(FIGURE, source=replace(SOURCE, selection="test")),
            replace(OURS, selection="test", se=None),
            "ours has no interval, being picked on the test set",
        ),
        (replace(FIGURE, source=replace(SOURCE, selection="unknown")), OURS, "not said"),
        (replace(FIGURE, metric="accuracy/audio"), OURS, "no counterpart"),
        (replace(FIGURE, source=replace(SOURCE, n_test={"cremad": 704})), OURS, "of 704 test samples, ours of 744"),
        (replace(FIGURE, source=replace(SOURCE, drop_last=True)), OURS, "of fewer test samples, ours of 744"),
        (replace(FIGURE, source=replace(SOURCE, test_set={}, parts=(70, 10, 20))), OURS, "own parts of 70/10/20 %"),
        (replace(FIGURE, params={"alpha": 4}), OURS, "theirs has alpha 4"),
        (replace(FIGURE, params={"alpha": 4}), replace(OURS, params={"alpha": "5.0"}), "theirs has alpha 4"),
        (replace(FIGURE, params={"unimodal": False}), replace(OURS, params={"unimodal": "no"}), "unimodal False"),
    ],
)
def test_what_does_not_match_gets_a_reason_and_no_verdict(figure: PublishedResult, ours: Ours, why: str) -> None:
    made = compare(figure, ours)
    assert made.verdict.startswith("not comparable: ") and why in made.verdict
    assert made.ci_low is None and made.difference == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("source", "params", "own"),
    [
        ({"n_test": {"cremad": 744, "ave": 402}, "drop_last": False}, {}, {}),
        ({}, {"alpha": 4}, {"alpha": "4.0", "beta": "1"}),
        ({}, {"unimodal": False, "variant": "code"}, {"unimodal": "False", "variant": "code"}),
    ],
)  # fmt: skip
def test_what_matches_gets_a_verdict(
    source: dict[str, object], params: dict[str, object], own: dict[str, str]
) -> None:
    figure = replace(FIGURE, source=replace(SOURCE, **source), params=params)
    assert compare(figure, replace(OURS, params=own)).verdict == "higher"


def test_the_spread_of_joint_on_cremad_is_that_of_the_sources() -> None:
    found = cells(read_published())["cremad", "joint"]
    assert [figure.value for figure in found][:1] == [51.7] and found[-1].value == 75.8
    assert all(len({one.source.key for one in figures}) > 1 for figures in cells(read_published()).values())


def test_ours_stand_beside_theirs_and_in_the_spread(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [fake_runs.small(dataset="cremad", split="official", seeds=(0, 1))])
    result_set = ResultSet.parse(read_plan(tmp_path), *make_frame(tmp_path, tmp_path))
    group = result_set.groups()[0]
    fair = replace(FIGURE, source=replace(SOURCE, recipes=("embedded",)))
    other = replace(FIGURE, value=67.0, source=replace(SOURCE, key="b", title="<b>B</b>", selection="unknown"))
    text = literature.beside(result_set, group, [fair, other])
    assert ">higher<" in text and "not comparable: which epoch is printed is not said" in text
    assert "&lt;b&gt;B&lt;/b&gt;" in text and "<b>B" not in text
    page = literature.section(result_set, [fair, other])
    assert "joint on cremad: 60.0 to 67.0 % in 2 sources" in page and "this study, official, embedded, last" in page
    theirs, ours = f'<circle class="{Ink.SOFT}"', f'<path class="{Ink.TEXT}"'
    dots = page.partition("<summary>")[0]  # the sources below have drawings of their own
    assert dots.count(theirs) == 2 and dots.count(ours) == 1
    assert page.count('class="plot"') == 1 and f'<line class="{Ink.TEXT}"' in dots
    nothing = literature.section(ResultSet("x", "last", "joint", [], []), [fair, other]).partition("<summary>")[0]
    assert nothing.count(theirs) == 2 and ours not in nothing
    assert "not run" in literature.section(ResultSet("x", "last", "joint", [], []), [fair, other])


def test_the_standard_error_counts_not_the_width_of_few_seeds(tmp_path: Path) -> None:
    """At two seeds t is 12.7: an interval read as if normal would agree with anything."""
    fake_runs.write_study(tmp_path, [fake_runs.small(dataset="cremad", split="official", seeds=(0, 1))])
    result_set = ResultSet.parse(read_plan(tmp_path), *make_frame(tmp_path, tmp_path))
    row, ours = literature.ours_of(
        result_set, result_set.groups()[0], replace(FIGURE, source=replace(SOURCE, recipes=("embedded",)))
    )
    assert ours.se == pytest.approx(100 * row.se) and ours.se < 100 * (row.ci_high - row.ci_low) / 2 / 1.96


def other_source(figure: PublishedResult) -> PublishedResult:
    return replace(figure, source=replace(figure.source, key="other"))


def test_another_head_or_another_modality_is_no_counterpart(tmp_path: Path) -> None:
    methods = fake_runs.default_methods()
    methods.append(fake_runs.FakeMethod("best", "joint", {"fused": 0.95}, params={"fusion": "film"}))
    fake_runs.write_study(tmp_path, [fake_runs.small(dataset="cremad", split="official", methods=methods)])
    result_set = ResultSet.parse(read_plan(tmp_path), *make_frame(tmp_path, tmp_path))
    group, fair = result_set.groups()[0], replace(FIGURE, source=replace(SOURCE, recipes=("embedded",)))
    row, ours = literature.ours_of(result_set, group, fair)
    assert row.label == "joint" and ours.head == "concat", "not the head that happens to be best"
    row, ours = literature.ours_of(result_set, group, replace(fair, variant="FiLM"))
    assert row.label == "best" and "not comparable" not in compare(replace(fair, variant="FiLM"), ours).verdict
    gated = replace(fair, variant="gated")
    assert "theirs is the gated head, ours" in compare(gated, literature.ours_of(result_set, group, gated)[1]).verdict
    alone = replace(fair, method="unimodal", metric="accuracy/audio")
    row, ours = literature.ours_of(result_set, group, alone)
    assert (row.modality, row.kind, ours.value) == ("audio", "own_head", 100 * row.value)
    assert compare(alone, ours).verdict in ("agrees", "higher", "lower")
    text = literature.section(result_set, [fair, replace(fair, value=61), replace(other_source(fair), value=62)])
    assert "joint on cremad: 60.0 to 62.0 % in 2 sources" in text, "of which one prints two"
    methods.append(fake_runs.FakeMethod("half", "joint", {"fused": 0.5}, params={"alpha": 0.5}))
    fake_runs.write_study(tmp_path / "p", [fake_runs.small(dataset="cremad", split="official", methods=methods)])
    result_set = ResultSet.parse(read_plan(tmp_path / "p"), *make_frame(tmp_path / "p", tmp_path / "p"))
    half = replace(fair, params={"alpha": 0.5})
    row, ours = literature.ours_of(result_set, result_set.groups()[0], half)
    assert row.label == "half" and "not comparable" not in compare(half, ours).verdict
    row, ours = literature.ours_of(result_set, result_set.groups()[0], replace(fair, params={"alpha": 0.1}))
    assert (
        row.label == "joint" and "theirs has alpha 0.1" in compare(replace(fair, params={"alpha": 0.1}), ours).verdict
    )
    assert "unimodal, audio alone" in literature.beside(result_set, group, [alone])
    assert literature.ours_of(result_set, group, replace(fair, metric="f1")) is None, "which mean it is is not said"
