"""Which seeds all rows of a dataset share, and in which order Snakemake is to make runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from mmlbench.study import config as configs
from mmlbench.study.run_spec import RunSpec
from mmlbench.study.shared_seeds import shared_seeds
from mmlbench.study.workflow import Plan
from mmlbench.testing import FEW_EPOCHS, PLUGINS


def plan(*blocks: dict[str, object], **more: object) -> Plan:
    """Return the plan of a study of grid blocks."""
    grid = [{"recipe_set": FEW_EPOCHS, **block} for block in blocks]
    return Plan(configs.study({"plugins": [str(PLUGINS)], "grid": grid, **more}))


def wildcards(path: str) -> SimpleNamespace:
    """Return what Snakemake fills in for the path of a stamp."""
    _, kind, *words = path.split("/")
    names = ["dataset", "split", "method", *(["run", "stamp"] if kind == "runs" else ["tuned"])]
    return SimpleNamespace(**dict(zip(names, [word.removeprefix("done-") for word in words], strict=True)))


def priorities(found: Plan) -> list[tuple[RunSpec, int]]:
    """Return each run of a plan with its priority."""
    return [(run, found.priority(wildcards(stamp))) for stamp, run in found.runs.items()]


def test_seeds_that_every_row_has_in_order() -> None:
    rows = [("a", 3), ("a", 0), ("a", 1), ("b", 1), ("b", 3), ("b", 9)]
    assert shared_seeds(rows) == [3, 1]
    assert shared_seeds([*rows, ("c", 9)]) == []
    assert shared_seeds([]) == []


def test_runs_come_dataset_by_dataset_and_each_seed_by_seed() -> None:
    methods = ["ensemble", "joint", {"method": "ogm", "seeds": [4, 0, 7]}]
    found = plan(
        {"dataset": "tiny3", "seeds": [4, 0, 9], "methods": methods[:2]},
        {"dataset": "tiny", "seeds": [2, 4, 0], "methods": methods},
    )
    order: list[list[tuple[str, int]]] = []
    ranked = priorities(found)
    for level in sorted({priority for _, priority in ranked}, reverse=True):
        order.append(sorted({(run.config.dataset, run.config.seed) for run, one in ranked if one == level}))
    # On tiny the seeds 4 and 0 are those of all rows: they come before 2, which is listed first.
    wanted = [("tiny3", 4), ("tiny3", 0), ("tiny3", 9), ("tiny", 4), ("tiny", 0), ("tiny", 2), ("tiny", 7)]
    assert order == [[one] for one in wanted]
    assert all(type(value) is int and value > 0 for _, value in ranked), "0 is that of every other rule"
    reused = [run for run, _ in ranked if run.config.method == "unimodal"]
    assert len(reused) == 6, "they are no rows, and have the priority of the runs that reuse them"


def test_a_cache_is_prepared_when_its_first_run_is_due() -> None:
    found = plan(
        {"dataset": "tiny3", "seeds": [0, 1], "methods": ["joint"]},
        {"dataset": "tiny", "seeds": [0, 1], "methods": ["joint"]},
    )
    for cache in found.caches:
        assert found.prepare_priority(cache) == max(p for run, p in priorities(found) if run.cache == cache)
    assert found.prepare_priority("other-0123456789") == 0


def test_trials_come_with_the_first_seed_that_needs_them() -> None:
    block = {"dataset": "tiny", "seeds": [0, 1, 2], "methods": ["joint", "unimodal"]}
    found = plan(block, tune={"draws": 3, "seed": 77})
    ranked = priorities(found)
    first, second, third = (found.tuned_priority(wildcards(stamp)) for stamp in found.tuned)
    assert first > second > third
    assert {p for run, p in ranked if run.config.seed == 77} == {first}
    assert [p for run, p in ranked if run.config.method == "unimodal"] == [first, second, third]


def test_what_each_seed_needs() -> None:
    methods = [{"method": "ensemble", "tune": False}, {"method": "joint", "seeds": [1, 2, 5]}]
    block = {"dataset": "tiny", "seeds": [0, 1, 2], "methods": methods}
    found = plan(block, tune={"draws": 2, "seed": 77})
    needed = found.needed()["tiny"]
    assert needed.stamps == {Path(stamp) for stamp in (*found.runs, *found.tuned)}
    assert list(needed.seeds) == [1, 2]
    trials = {Path(stamp) for stamp, run in found.runs.items() if run.config.seed == 77}
    assert len(trials) == 2
    for seed, stamps in needed.seeds.items():
        own = {Path(stamp) for stamp, run in found.runs.items() if run.config.seed == seed}
        tuned = {Path(stamp) for stamp, cell in found.tuned.items() if cell.run.config.seed == seed}
        assert {stamp.parts[4] for stamp in own} == {"ensemble", "unimodal"} and len(tuned) == 1
        assert stamps == own | tuned | trials
