"""The files of `published/`: all that was to be entered is there once, under names that mmlbench has or disowns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, SchemaError

from mmlbench.analysis.literature import SCHEMA, UNNAMED, PublishedResult, cells, read_published, read_source
from mmlbench.errors import DataError
from mmlbench.registry.index import Index, load_index
from mmlbench.storage.paths import published_folder
from mmlbench.study.declared import dataset_facts, method_facts

#: File -> its values, counted and copied from the notes of what was read, not from the files.
ENTERED = {
    "asgml": (50.22, 57.42, 59.2, 61.05, 61.1, 62.9, 63.31, 63.74, 65.43, 65.51, 67.72, 69.14, 69.84, 71.45, 73.18),
    "bss": (80.61, 83.73),
    "dgl": (74.78, 75.1, 76.28, 77.48, 78.12),
    "g2d_teachers": (32.32, 42.74, 43.39, 61.69, 65.59, 76.48),
    "gmm_loss": (70.9, 80.65),
    "lfm_rerun": (75.8, 76.8, 78.76),
    "ogm_ge_checkpoint": (59.81, 64.41),
    "ogm_ge_paper": (51.7, 61.25),
    "ogm_ge_quoted": (61.9,),
    "ogm_ge_rerun": (65.73,),
}  # fmt: skip
#: The same of what came to files that had others before.
ADDED = {
    "inforeg": (53.13, 54.13),
    "midas": (55.54, 56.39, 57.59, 58.13, 58.41, 58.6, 59.29, 61.84, 62.5, 62.71, 63.66, 64.23, 66.83, 67.18, 68.85,
              70.19, 71.13, 73.82, 74.0, 90.58, 91.35, 91.64, 92.0, 92.15, 92.4, 93.46),
}  # fmt: skip
#: Figures of every file.
COUNTS = {
    "asgml": 15, "aug": 3, "balancebenchmark": 53, "bss": 2, "dgl": 5, "g2d": 5, "g2d_teachers": 6, "gmm_loss": 2,
    "inforeg": 22, "lfm_rerun": 3, "midas": 47, "mmpareto": 4, "ogm_ge": 2, "ogm_ge_checkpoint": 2,
    "ogm_ge_paper": 2, "ogm_ge_quoted": 1, "ogm_ge_rerun": 1, "pmr": 32, "reconboost": 5,
}  # fmt: skip
FIGURES = read_published()


@pytest.fixture(scope="module")
def index() -> Index:
    return load_index()


def test_the_schema_of_the_files_is_one():
    """It is taken as it is where files are read, for `jsonschema` would check it anew for each."""
    Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(SchemaError):
        Draft202012Validator.check_schema({**SCHEMA, "required": "title"})


def of(key: str) -> list[PublishedResult]:
    return [figure for figure in FIGURES if figure.source.key == key]


def test_every_file_has_the_figures_that_were_entered() -> None:
    assert Counter(figure.source.key for figure in FIGURES) == COUNTS and sum(COUNTS.values()) == len(FIGURES) == 212
    for key, values in ENTERED.items():
        assert tuple(sorted(figure.value for figure in of(key))) == values, key
    for key, values in ADDED.items():
        assert not Counter(values) - Counter(figure.value for figure in of(key)), key


def test_every_figure_has_a_source_and_its_trust() -> None:
    for figure in FIGURES:
        assert figure.source.title and figure.source.address.startswith("https://") and figure.place
        assert figure.source.trust in ("high", "medium")
    trusts = {figure.source.key: figure.source.trust for figure in FIGURES}
    assert {key for key, trust in trusts.items() if trust == "medium"} == {
        "asgml", "g2d", "lfm_rerun", "mmpareto", "ogm_ge", "ogm_ge_checkpoint", "ogm_ge_paper", "ogm_ge_quoted",
        "ogm_ge_rerun",
    }  # fmt: skip
    assert {figure.source.key for figure in FIGURES if figure.source.second_hand} == {"g2d", "mmpareto"}


def test_what_was_refuted_is_gone() -> None:
    assert {figure.method for figure in of("g2d")} == {"joint", "agm", "ogm_ge", "mla", "g2d"}
    assert not [figure for figure in FIGURES if figure.dataset == "cremad" and figure.value in (83.62, 67.61)]


def test_what_is_trusted_little_or_of_no_named_dataset_is_not_there() -> None:
    """Scraped and machine-made figures, and those of a log that does not say its dataset."""
    assert not [figure for figure in FIGURES if figure.method == "tcmax"]
    assert {figure.value for figure in FIGURES if figure.method == "arl"} == {62.9, 63.31}
    known = [figure.value for figure in FIGURES if figure.source.key != "g2d"]
    assert not {18.7, 69.2, 62.22, 60.01, 76.61, 82.7} & set(known)


def unknown_names(figures: list[PublishedResult], index: Index) -> list[str]:
    """Return the names of figures that are no plug-in's and not disowned, and those disowned that are one's."""
    found = []
    for kind in ("dataset", "method"):
        known = {entry.name for entry in index.of(kind)}
        for figure in figures:
            name = getattr(figure, kind)
            others = figure.source.other_datasets if kind == "dataset" else figure.source.other_methods
            if (name in known) == (name in others):
                found.append(f"{figure.source.key}: {kind} {name}")
    return found


def test_names_are_those_of_mmlbench_or_said_to_be_others(index: Index) -> None:
    """A method that gets its file takes its rows along: `not_here` then has to let it go."""
    assert not unknown_names(FIGURES, index)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("method: gblend", "method: gradient_blending", "aug: method gradient_blending"),
        ("dataset: cremad", "dataset: cremad_", "aug: dataset cremad_"),
        ("protocol:", "not_here: {methods: {aug: AUG}}\nprotocol:", "aug: method aug"),
    ],
)
def test_a_name_that_nobody_knows_is_found(index: Index, tmp_path: Path, old: str, new: str, what: str) -> None:
    text = (published_folder() / "aug.yaml").read_text(encoding="utf-8")
    (tmp_path / "aug.yaml").write_text(text.replace(old, new), encoding="utf-8")
    assert what in unknown_names(read_source(tmp_path / "aug.yaml"), index)


def test_parameters_and_splits_are_those_of_the_plug_ins(index: Index) -> None:
    with_params = [figure for figure in FIGURES if figure.params]
    assert {figure.method for figure in with_params} == {"arl", "bss", "dgl", "inforeg"}
    for figure in with_params:
        known = {field.name for field in method_facts(index.find("method", figure.method)).params}
        assert set(figure.params) <= known, figure
    for figure in FIGURES:
        for dataset, split in figure.source.test_set.items():
            assert split in dataset_facts(index.find("dataset", dataset)).splits


def test_thirty_four_classes_are_another_dataset(index: Index) -> None:
    assert {figure.dataset for figure in of("dgl")} == {"cremad", "kinetics_sounds_34"}
    names = [index.find("dataset", name).facts["class_names"] for name in ("kinetics_sounds", "kinetics_sounds_34")]
    assert [len(found) for found in names] == [31, 34] and not set(names[0]) & set(names[1])


def test_the_protocol_is_typed() -> None:
    dgl = of("dgl")[0]
    assert dgl.source.drop_last is True and dgl.source.n_test == {"cremad": 704} and dgl.source.selection == "test"
    assert dgl.facts() == (
        "best epoch on test, last incomplete test batch dropped, 704 test samples, 1 frame, 1 seed, alpha 4"
    )
    midas = next(figure for figure in of("midas") if figure.metric == "f1")
    assert (midas.sd, midas.source.seeds, midas.source.parts) == (0.3, 3, (70, 10, 20))
    assert midas.facts() == "epoch by validation, parts of 70/10/20 %, 3 seeds"
    assert {figure.method: figure.seeds or figure.source.seeds for figure in of("asgml")}["arl"] == 1
    assert "5 seeds" in of("asgml")[0].facts() and of("asgml")[0].sd == 1.27


def rows_of(page: str, heading: str) -> list[tuple[str, str, str]]:
    """Return (value with sd, file, trust) of each line of a table of docs/leaderboard.md."""
    table = page.partition(f"| {heading} % |")[2].partition("\n\n")[0]
    return re.findall(r"^\| ([\d.]+(?: ± [\d.]+)?) \| `(\w+)` \| (\w+) \|", table, re.MULTILINE)


@pytest.mark.parametrize(("heading", "method"), [("joint training", "joint"), ("OGM-GE", "ogm_ge")])
def test_the_documentation_has_the_spread_of_the_files(heading: str, method: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    found = cells(FIGURES)["cremad", method]
    shown = [f"{one.value:.1f}" + ("" if one.sd is None else f" ± {one.sd:.1f}") for one in found]
    keys, trusts = [one.source.key for one in found], [one.source.trust for one in found]
    assert rows_of(page, heading) == list(zip(shown, keys, trusts, strict=True))
    assert f"{found[-1].value - found[0].value:.0f}" in page.partition("So the same baseline")[2][:80]


Change = Callable[[dict[str, Any]], object]


def changed(tmp_path: Path, change: Change, name: str = "dgl") -> Path:
    found = yaml.safe_load((published_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    change(found)
    (tmp_path / "some.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")
    return tmp_path / "some.yaml"


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(trust="low"),
        lambda found: found.update(trust="very high"),
        lambda found: found.pop("trust"),
        lambda found: found.pop("address"),
        lambda found: found.update(read="second_hand"),
        lambda found: found.update(read="somewhere"),
        *[lambda found, name=name: found["figures"][0].update(dataset=name) for name in UNNAMED],
        lambda found: found["figures"][0].update(dataset="not named (most likely cremad)"),
        lambda found: found["figures"][0].update(dataset=""),
        lambda found: found["figures"][0].pop("dataset"),
        lambda found: found["figures"][0].pop("method"),
        lambda found: found["figures"][0].update(metric="F-score"),
        lambda found: found["figures"][0].update(seeds=0),
        lambda found: found["figures"][0].update(params={"alpha": [4]}),
        lambda found: found.update(not_here={"datasets": {"mosi": "MOSI"}}),
        lambda found: found.update(not_here={"methods": {"greedy": "Greedy"}}),
        lambda found: found.update(not_here={"methods": {}}),
        lambda found: found["protocol"].update(seeds="one (42)"),
        lambda found: found["protocol"].update(drop_last="yes"),
        lambda found: found["protocol"].update(n_test=704),
        lambda found: found["protocol"].update(parts=[100]),
        lambda found: found["protocol"].update(frames={"cremad": 0}),
        lambda found: found["protocol"].update(folds=0),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, change: Change) -> None:
    with pytest.raises(DataError, match=r"some\.yaml.*docs/leaderboard\.md"):
        read_source(changed(tmp_path, change))


def test_good_files_are_taken(tmp_path: Path) -> None:
    assert len(read_source(changed(tmp_path, lambda found: None))) == 5
    folds = read_source(changed(tmp_path, lambda found: found["protocol"].update(folds=3, seeds="unknown")))
    assert "3 folds" in folds[0].facts() and "seed" not in folds[0].facts()
    medium = read_source(changed(tmp_path, lambda found: found.update(read="second_hand", trust="medium")))
    assert medium[0].source.second_hand
