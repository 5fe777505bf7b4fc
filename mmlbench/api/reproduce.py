"""Train the runs behind a row of the tables again, and say whether the row comes out again."""

from __future__ import annotations

import contextlib
import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import files
from ..analysis.all_tables import make_frame
from ..analysis.rows import Row, number, parse_rows
from ..errors import ConfigError, DataError
from ..registry.index import Index
from ..results.comparable import made_otherwise
from ..results.load import read_made_plan, regroup_of, studies_of_rows
from ..results.origins import Outcome, Reproduced, keep_reproduced
from ..results.record import read_circumstances, read_record
from ..results.run_folder import RunFolder, verify
from ..results.stored_scores import is_scores_only
from ..storage.atomic import read_text, write_json
from ..storage.hashing import file_digest
from ..study.plan import Plan, PlannedCell
from ..study.run_spec import RunSpec, from_config
from .making import make_run
from .noise import measure

GONE = "files not compared, as the first run is gone"


def read_rows(path: Path) -> list[Row]:
    """Read all_tables.csv.

    Raises:
        DataError: it is missing, can't be read, or is of another version.
    """
    try:
        return parse_rows(read_text(path), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = "can't be read" if path.exists() else "is missing"
        raise DataError(f"{path} {why}", "Make it with: snakemake --cores all results/all_tables.csv") from error


#: How alike an id must be to one that is there to be taken for a slip of the keys: one or two digits of ten.
SLIP = 0.8


def find_row(rows: list[Row], row_id: str, shown: str = "", earlier: Mapping[str, str] | None = None) -> Row:
    """Return the row of an id.

    Args:
        shown: name of the study that the rows are of. earlier: row id -> study, of all tables that were made here.

    Raises:
        ConfigError: there is none; saying of which earlier study it is and how to go back to it, where that is
            known, else with an id that is nearly the same.
    """
    known = {row.row_id: row for row in rows}
    if row_id in known:
        return known[row_id]
    if earlier is not None and row_id in earlier:
        study = earlier[row_id]
        if study == shown:
            what = f"row {row_id} is of an earlier plan of the study {study!r}; its tables were made anew since"
            fix = "Put its config back as it was"
        else:
            what = f"row {row_id} is of an earlier study, {study!r}; the tables are now those of {shown!r}"
            fix = "Go back to its config"
        again = "type its snakemake command again, which takes seconds, since runs are kept"
        raise ConfigError(what, f"{fix}: {again}. Then this command finds the row")
    close = difflib.get_close_matches(row_id[:100], known, n=1, cutoff=SLIP)
    where = (
        "They are in the column row_id of all_tables.csv and on the page, under What made these numbers; a row of "
        "another study is found once its tables are made again"
    )
    raise ConfigError(f"no row has the id {row_id!r}", f"Did you mean {close[0]}?" if close else where)


def cells_behind(row: Row, cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Return the planned runs that a row is computed from, each once; none for a closed form.

    Raises:
        DataError: the plan lacks one of them.
    """
    planned = {cell.run for cell in cells}
    if any(name not in planned for name in row.runs):
        lacking = next(name for name in row.runs if name not in planned)
        what = f"the study behind the tables plans no run {lacking}, which row {row.row_id} comes from"
        raise DataError(what, "Make both anew: mmlbench tables")
    return [cell for cell in cells if cell.run in row.runs]


def _listed(folder: Path) -> set[str]:
    """Return the files that a run.json lists; none where it is damaged, which is a difference by itself."""
    with contextlib.suppress(DataError):
        return set(read_record(folder).files)
    return set()


def differing(before: Path, after: Path) -> list[str]:
    """Return the determined files that are not the same, byte by byte, in two run folders."""
    if not (before / "run.json").exists():
        return [GONE]
    if is_scores_only(before):
        return _unlike_listed(before, after)
    names = _listed(before) | _listed(after)
    pairs = {name: (before / name, after / name) for name in sorted(names | {"run.json"})}
    return [
        name
        for name, (old, new) in pairs.items()
        if not old.exists() or not new.exists() or file_digest(old) != file_digest(new)
    ]


def _unlike_listed(before: Path, after: Path) -> list[str]:
    """Return the files of a run that do not have the hashes that the record of a scores-only run has of them."""
    wanted = read_record(before).files
    found = [name for name in _listed(after) if name not in wanted]
    found += [n for n, one in wanted.items() if not (after / n).exists() or file_digest(after / n) != one]
    if file_digest(before / "run.json") != file_digest(after / "run.json"):
        found.append("run.json")
    return sorted(found)


def changes(before: Path, after: Path) -> str:
    """Return what was not the same when two runs were made, in words."""
    damage = verify(before) if (before / "run.json").exists() else []
    if damage:
        return f" (the stored run is damaged: {damage[0]})"
    with contextlib.suppress(DataError):
        old, new = RunFolder(before, read_record(before)), RunFolder(after, read_record(after))
        found = made_otherwise(old.record, new.record)
        found += ["hardware"] if old.provenance.hardware != new.provenance.hardware else []
        return f" (changed since: {', '.join(found)})" if found else " (nothing else is known to have changed)"
    return ""


def row_again(
    row: Row,
    plan: Plan,
    cells: Sequence[tuple[PlannedCell, RunSpec]],
    work: Path,
    cache: Path,
    device: str = "auto",
) -> Row | None:
    """Return the row made from the runs in `work`; None where they do not yield it."""
    own = tuple(replace(cell, run=str(spec.path), code=spec.code, cache=spec.cache) for cell, spec in cells)
    noise = plan.robustness if row.table == "robustness" else ()
    write_json(work / "plan.json", replace(plan, robustness=noise, cells=own).plain())
    if noise:
        measure([work / spec.path for _, spec in cells], work, cache, noise, device)
    text, *_ = make_frame(work, cache, regroup=regroup_of(plan))
    return {found.row_id: found for found in parse_rows(text)}.get(row.row_id)


def verdict(row: Row, again: Row | None, same_files: bool) -> tuple[str, int]:
    """Return 'identical', 'within interval' or 'different' with its reason, and the exit code."""
    before = number(row.value) or "no value"
    after = (number(again.value) or "no value") if again is not None else "no such row"
    if before == after and same_files:
        return f"identical: {before}, every determined file byte by byte", 0
    if before == after:
        return f"within interval: the same value {before}, from files that differ or are gone", 0
    if row.ci_low is None or row.ci_high is None or again is None or again.value is None:
        return f"different: {after} instead of {before}, and the row has no interval to judge by", 1
    interval = f"{number(row.ci_low)} to {number(row.ci_high)}"
    if row.ci_low <= again.value <= row.ci_high:
        return f"within interval: {after} instead of {before}, inside {interval}", 0
    return f"different: {after} instead of {before}, outside {interval}", 1


def _spec(cell: PlannedCell, index: Index, named: Sequence[str]) -> RunSpec:
    """Return a planned run as the present code has it.

    Raises:
        ConfigError: the present code does not know it; where the plan names plug-in folders, how to use them.
    """
    try:
        return from_config(cell.config, index)
    except ConfigError as error:
        if not named:
            raise
        words = shlex.join([word for folder in named for word in ("--plugins", folder)])
        fix = f"The study was planned with plug-in folders; if they are yours or you trust them, add: {words}"
        raise ConfigError(error.what, fix) from None


@dataclass(frozen=True)
class Again:
    """One run behind a row, made once more.

    Attributes:
        run: its folder below the results folder. wrong: the determined files that are not the same, byte by byte.
        changes: in words what was not the same when the two were made; '' where no file differs.
    """

    run: str
    wrong: tuple[str, ...]
    changes: str

    def __str__(self) -> str:
        if not self.wrong:
            return "identical"
        return GONE if self.wrong == (GONE,) else f"differs in {', '.join(self.wrong)}{self.changes}"


class Reproduction:
    """A row of a study's tables and the runs behind it.

    Attributes:
        row: as the tables have it. cells: the planned runs that it is computed from; none for a closed form.
    """

    def __init__(self, row_id: str, results: Path, index: Index) -> None:
        """Find the row, and its runs as the present code has them.

        Args:
            index: with the plug-ins that the study needs; never those that its plan names, as it may be a stranger's.

        Raises:
            ConfigError: no row has the id, or the present code does not know its runs.
            DataError: the tables or their plan are missing, or can't be read.
        """
        rows, self.plan = read_rows(results / "all_tables.csv"), read_made_plan(results)
        self.results, self.index = results, index
        self.row = find_row(rows, row_id, self.plan.name, studies_of_rows(results))
        chosen = cells_behind(self.row, self.plan.cells)
        self.cells = [(cell, _spec(cell, index, self.plan.plugins)) for cell in chosen]

    @property
    def name(self) -> str:
        """What the row is, in words."""
        row = self.row
        parts = (row.table, row.dataset, row.label, row.modality, row.metric, row.selection)
        return ", ".join(part for part in parts if part)

    def run(self, work: Path, cache: Path, device: str, tell: Callable[[Again], None]) -> tuple[str, int]:
        """Make the runs again in `work`, and the row from them.

        Args:
            tell: takes each run when it is made.

        Returns:
            The verdict in words, and the exit code: 0 the row came out again, 1 it did not.

        Raises:
            ConfigError: `work` is the results folder itself. Else as `make_run`.
        """
        if work.resolve() == self.results.resolve():
            raise ConfigError(f"--into names the results folder {self.results} itself", "Name another folder")
        wrong: dict[str, list[str]] = {}
        for cell, spec in self.cells:
            before, after = self.results / cell.run, work / spec.path
            files.require(spec.config.contents, read_circumstances(before).files)
            make_run(spec, self.index, work, cache, device)
            found = wrong[cell.run] = differing(before, after)
            tell(Again(str(spec.path), tuple(found), changes(before, after) if found else ""))
        same = not any(wrong.values())
        words, code = verdict(self.row, row_again(self.row, self.plan, self.cells, work, cache, device), same)
        if not code:
            self._remember(work, wrong)
        return words, code

    def _remember(self, work: Path, wrong: Mapping[str, Sequence[str]]) -> None:
        """Keep what was shown of runs that somebody has handed in."""
        found = {}
        for cell, spec in self.cells:
            code = read_record(work / spec.path).code
            outcome = Outcome.WITHIN_INTERVAL if wrong[cell.run] else Outcome.IDENTICAL
            hardware = read_circumstances(work / spec.path).hardware
            found[cell.run] = Reproduced(outcome, self.row.row_id, code.engine, code.version, hardware)
        keep_reproduced(self.results, found)
