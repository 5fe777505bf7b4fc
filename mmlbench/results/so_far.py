"""What of a study can be shown while its runs are being made: complete datasets, and complete seeds of others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..dataset import base_split
from ..errors import DataError
from ..storage.words import be, plural
from ..study.plan import Plan, PlannedCell
from ..study.shared_seeds import FEWEST, shared_seeds
from .load import read_plan


@dataclass(frozen=True)
class PartialDataset:
    """A dataset of which some seeds are complete.

    Attributes:
        plan: of the cells of these seeds alone. planned: all cells of the dataset.
    """

    plan: Plan
    planned: tuple[PlannedCell, ...]

    def seeds(self, group: tuple[str, str, str, str]) -> tuple[int, int]:
        """Return how many seeds of a group of the tables are complete, and how many are planned.

        Args:
            group: dataset, split, recipe and encoder.
        """
        planned = {cell.config.seed for cell in self.planned if _in_tables(cell.group) == _in_tables(group)}
        complete = {cell.config.seed for cell in self.plan.cells}
        return len(complete & planned), len(planned)


def _in_tables(group: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    """Return a group as the tables have it, where folds are put together."""
    dataset, split, recipe, encoder = group
    return dataset, base_split(split), recipe, encoder


@dataclass(frozen=True)
class SoFar:
    """What of a study can be shown before it is complete.

    Attributes:
        complete: the plan of the datasets whose runs are all made, None where there is none.
        partial: the datasets of which two seeds at least are complete. lines: a line on each of the others.
    """

    complete: Plan | None
    partial: tuple[PartialDataset, ...]
    lines: tuple[str, ...]


def so_far(results: Path) -> SoFar:
    """Return what of a study can be shown, without robustness; nothing is in two of its parts.

    A seed of a dataset is complete where each label has a run of it, on every split and fold of the dataset, under
    every recipe and with every encoder: so tables from it compare like with like. A run that is made anew counts only
    once its stamp says that the present code made it.

    Raises:
        DataError: there is no plan, or there is nothing to show.
    """
    plan = replace(read_plan(results), robustness=())
    datasets: dict[str, list[PlannedCell]] = {}
    for cell in plan.cells:
        datasets.setdefault(cell.config.dataset, []).append(cell)
    complete: list[PlannedCell] = []
    partial, lines = [], []
    for name, cells in datasets.items():
        made = sum((results / cell.run / "run.json").exists() for cell in cells)
        seeds = _complete_seeds(cells, results)
        if made == len(cells):
            complete += cells
        elif len(seeds) >= FEWEST:
            some = tuple(cell for cell in cells if cell.config.seed in seeds)
            partial.append(PartialDataset(replace(plan, cells=some), tuple(cells)))
        else:
            lines.append(f"{name}: {made} of {plural(len(cells), 'run')} {be(made)} made")
    if not complete and not partial:
        what = f"no dataset of the study is complete, nor two seeds of one ({'; '.join(lines)})"
        raise DataError(what, "Wait, or type snakemake again")
    return SoFar(replace(plan, cells=tuple(complete)) if complete else None, tuple(partial), tuple(lines))


def _complete_seeds(cells: list[PlannedCell], results: Path) -> set[int]:
    """Return the seeds of a dataset that all its rows share and of which every run is made."""
    lacking = {
        cell.config.seed
        for cell in cells
        if not all((results / cell.run / name).exists() for name in ("run.json", cell.stamp))
    }
    return {*shared_seeds(((cell.group, cell.label), cell.config.seed) for cell in cells)} - lacking
