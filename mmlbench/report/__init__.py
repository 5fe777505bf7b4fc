"""From run folders to tables, leaderboard and figures; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def make_all(
    results: Path, cache: Path, log: Callable[[str], None], groups: Path | None = None, expect: str | None = None
) -> None:
    """Make everything that a reader sees from a study's runs: tables, leaderboard, figures.

    Args:
        results: the results folder, with plan.json. cache: the folder of prepared caches. log: takes one line.
        groups: a file of `mmlbench audit --groups`: the intervals are over these groups of test samples; by default
            the one that the study names.
        expect: the key (`Plan.study_key`) of the study that plan.json has to hold.

    Raises:
        DataError: a planned run is missing, stale or corrupt, or plan.json holds another study than expected, or
            was exchanged meanwhile (nothing is written then); a full disk, a read-only folder.
    """
    from dataclasses import replace

    from ..analysis.all_tables import frame_of
    from ..analysis.audit import audit_plan
    from ..analysis.result_set import ResultSet
    from ..analysis.runs import run_rows, runs_csv
    from ..results.load import MADE, keep_row_ids, load, read_plan, regroup_of, stored_key
    from ..results.verify import equal_seeds
    from ..storage.atomic import write_json, write_text
    from ..storage.words import plural
    from .figures import write_figures
    from .leaderboard import write_leaderboard
    from .write import write_tables

    key = stored_key(results, expect)
    plan = read_plan(results)
    plan = replace(plan, groups=str(groups)) if groups else plan
    loaded = load(results, cache, plan, regroup_of(plan))
    all_tables, cost, pairwise = frame_of(loaded, results)
    for line in equal_seeds(results / run for run in dict.fromkeys(cell.run for cell in plan.cells)):
        log(f"note: {line}")
    stored_key(results, key)
    result_set = ResultSet.parse(plan, all_tables, cost, pairwise)
    result_set.audit = audit_plan(results, cache, log)
    write_tables(result_set, results / "tables")
    log(f"tables in {results / 'tables'}")
    figures = write_figures(result_set, results)
    log(f"figures in {results / 'figures'}")
    write_leaderboard(result_set, results, figures)
    log(f"leaderboard in {results / 'leaderboard.html'}")
    write_json(results / MADE, plan.plain())
    keep_row_ids(results, result_set.name, (row.row_id for row in result_set.rows))
    write_text(results / "cost.csv", cost)
    write_text(results / "runs.csv", runs_csv(run_rows(loaded)))
    write_text(results / "pairwise.csv", pairwise)
    write_text(results / "all_tables.csv", all_tables)  # last: where it is new, so is everything else
    log(f"{plural(len(result_set.rows), 'row')} in {results / 'all_tables.csv'}")
