"""What of a study can be shown while its runs are being made."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import pytest
from fake_runs import FakeGroup, FakeMethod, gabor, small

from mmlbench.errors import DataError
from mmlbench.results.load import read_plan
from mmlbench.results.so_far import SoFar, so_far
from mmlbench.study.plan import Plan


def methods(*labels: str) -> list[FakeMethod]:
    """Return some of the default methods."""
    return [method for method in fake_runs.default_methods() if method.label in labels]


def few(**changes: object) -> FakeGroup:
    """Return a group of two methods and three seeds."""
    return small(**{"methods": methods("unimodal", "joint"), "seeds": (0, 1, 2), **changes})


def remove(results: Path, seed: int, label: str = "joint", dataset: str = "avdigits", file: str = "run.json") -> None:
    """Remove a file of each such run."""
    for cell in read_plan(results).cells:
        if (cell.config.seed, cell.label, cell.config.dataset) == (seed, label, dataset):
            (results / cell.run / (cell.stamp if file == "stamp" else file)).unlink()


def seeds(plan: Plan | None) -> dict[str, set[int]]:
    """Return dataset -> seeds of a plan."""
    found: dict[str, set[int]] = {}
    for cell in plan.cells if plan else ():
        found.setdefault(cell.config.dataset, set()).add(cell.config.seed)
    return found


def only_partial(found: SoFar) -> dict[str, set[int]]:
    """Return dataset -> seeds of the one dataset of which some seeds are complete."""
    (one,) = found.partial
    return seeds(one.plan)


def test_two_complete_seeds_are_a_plan_of_their_own(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [few(), gabor(seeds=(0, 1), methods=methods("unimodal", "joint"))])
    whole = so_far(tmp_path)
    assert seeds(whole.complete) == {"avdigits": {0, 1, 2}, "gabor_nuisance": {0, 1}}
    assert (whole.partial, whole.lines) == ((), ())
    remove(tmp_path, 1)
    found = so_far(tmp_path)
    assert only_partial(found) == {"avdigits": {0, 2}}
    assert seeds(found.complete) == {"gabor_nuisance": {0, 1}} and found.lines == ()
    (one,) = found.partial
    assert len(one.plan.cells) == 4 and len(one.planned) == 6
    assert one.seeds(one.plan.cells[0].group) == (2, 3)
    remove(tmp_path, 0, "unimodal")
    found = so_far(tmp_path)
    assert found.partial == () and found.lines == ("avdigits: 4 of 6 runs are made",)
    assert seeds(found.complete) == {"gabor_nuisance": {0, 1}}


def test_a_study_of_two_seeds_shows_no_part(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [few(seeds=(0, 1))])
    assert so_far(tmp_path).complete
    remove(tmp_path, 1)
    with pytest.raises(DataError, match="avdigits: 3 of 4 runs are made"):
        so_far(tmp_path)


def test_a_run_that_is_being_made_anew_is_not_shown(tmp_path: Path) -> None:
    """Its old run.json lies there until the new one takes its place; the stamp of the present code does not."""
    fake_runs.write_study(tmp_path, [few(seeds=(0, 1, 2, 3))])
    remove(tmp_path, 3)
    assert only_partial(so_far(tmp_path)) == {"avdigits": {0, 1, 2}}
    remove(tmp_path, 0, file="stamp")
    assert only_partial(so_far(tmp_path)) == {"avdigits": {1, 2}}


def test_a_seed_counts_where_each_split_and_fold_has_it(tmp_path: Path) -> None:
    folds = [few(split=f"speaker_rotation.{fold}") for fold in (1, 2)]
    fake_runs.write_study(tmp_path, [*folds, few(split="index", seeds=(0, 1, 2, 3, 4))])
    remove(tmp_path, 3)
    found = so_far(tmp_path)
    assert only_partial(found) == {"avdigits": {0, 1, 2}}, "seed 4 is there, and on one split alone"
    (one,) = found.partial
    assert one.seeds(("avdigits", "index", "embedded", "small_cnn")) == (3, 5)
    assert one.seeds(("avdigits", "speaker_rotation", "embedded", "small_cnn")) == (3, 3)
    cell = next(c for c in read_plan(tmp_path).cells if c.config.split.endswith(".2") and c.config.seed == 1)
    (tmp_path / cell.run / "run.json").unlink()
    assert only_partial(so_far(tmp_path)) == {"avdigits": {0, 2}}, "one fold lacks seed 1"


def test_seeds_that_a_label_lacks_are_left_out(tmp_path: Path) -> None:
    one, other = methods("unimodal", "joint")
    other.seeds = (1, 2)
    fake_runs.write_study(tmp_path, [few(methods=[one, other], seeds=(0, 1, 2, 3))])
    remove(tmp_path, 3, "unimodal")
    assert only_partial(so_far(tmp_path)) == {"avdigits": {1, 2}}
    other.seeds = (1, 5)
    results = tmp_path / "apart"
    fake_runs.write_study(results, [few(methods=[one, other], seeds=(0, 1, 2, 3))])
    remove(results, 3, "unimodal")
    with pytest.raises(DataError, match="nor two seeds of one"):
        so_far(results)
