"""From a plan and its run folders to matrices of correctness; stops where a planned run can't be used."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError, brief, runs_error
from ..files import Change, changed
from ..prepare.cache import fingerprint_of
from ..storage.ahead import ahead
from ..storage.atomic import read_json, write_json
from ..storage.cache_places import cache_folder
from ..storage.hashing import digest, file_digest
from ..storage.texts import why_not
from ..storage.words import plural
from ..study.plan import Plan, PlannedCell, parse_plan
from ..study.regroup import REGROUPED, Regroup, read_groups
from .chosen import resolved
from .folds import join_folds, logit_mean, take_stored_means
from .groups import Entry, Group, Loaded, TrainingNoise, base_recipe
from .origins import Reported, read_origins, reported
from .plugin_facts import Facts
from .run_folder import RunFolder
from .scored_run import ScoredRun, score_test_part
from .stored_scores import FACTS
from .verify import label_faults


def read_plan(results: Path) -> Plan:
    """Read plan.json, each tuned cell with what its tuning chose, where that is known.

    Raises:
        DataError: as `read_as_planned`; a trial is not whole.
    """
    plan = read_as_planned(results)
    return replace(plan, cells=tuple(resolved(cell, results) for cell in plan.cells))


def read_as_planned(results: Path) -> Plan:
    """Read plan.json as it was planned.

    Raises:
        DataError: there is none, or it is no plan; naming the key that is of another form.
    """
    path, fix = results / "plan.json", "Run: snakemake --cores all results/all_tables.csv"
    if not path.exists():
        raise DataError(f"{results} holds no plan.json", fix)
    plan = parse_plan(read_json(path), path, fix)
    for text in dict.fromkeys((plan.name, plan.title, *(cell.label for cell in plan.cells))):
        if why_not(text):  # a plan may come from elsewhere
            raise DataError(f"{path}: {brief(text)} {why_not(text)}", "Plan the study with another name")
    return plan


def stored_key(results: Path, expect: str | None = None) -> str:
    """Return the key of the study that plan.json holds (`Plan.study_key`).

    Raises:
        DataError: there is no plan.json, or it holds another study than the expected one.
    """
    path, plan = results / "plan.json", read_as_planned(results)  # a tuning that has chosen changes no key
    if expect and plan.study_key != expect:
        what = f"{path} now holds another study ({brief(plan.name)}): a second command exchanged it meanwhile"
        raise DataError(what, "The runs are kept. Type the command of the study that you want again")
    return plan.study_key


#: What the tables in a results folder were made from; plan.json may have moved on to another study.
MADE = "tables/plan.json"


#: Row ids of all tables that were ever made in a results folder -> the study that they were of when last made.
ROW_IDS = "row_ids.json"


def studies_of_rows(results: Path) -> dict[str, str]:
    """Return row id -> name of the study in whose tables it stood last; {} where nobody kept it."""
    try:
        found = read_json(results / ROW_IDS)
    except DataError:
        return {}
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, dict):
        return {}
    return {row: name for row, name in rows.items() if isinstance(name, str) and not why_not(name)}


def keep_row_ids(results: Path, name: str, row_ids: Iterable[str]) -> None:
    """Remember of which study rows are, for when the tables show another one."""
    write_json(results / ROW_IDS, {"rows": {**studies_of_rows(results), **dict.fromkeys(row_ids, name)}})


def read_made_plan(results: Path) -> Plan:
    """Read the plan that the tables were made from; without tables of a plan of their own, plan.json.

    Raises:
        DataError: as `read_plan`.
    """
    made = results / MADE
    if not made.exists():
        return read_plan(results)
    return parse_plan(read_json(made), made, "Make the tables again: mmlbench tables")


def outdated(results: Path) -> str:
    """Return a sentence where plan.json plans another study than the tables show, else ''."""
    if not (results / "plan.json").exists():
        return ""
    made, planned = read_made_plan(results), read_plan(results)
    if _shown(made) == _shown(planned):
        return ""
    done = sum((results / cell.run / "run.json").exists() for cell in planned.cells)
    these, total = f"These tables are of study {made.name!r} as it was", len(planned.cells)
    return f"{these}; {results}/plan.json now plans {planned.name!r} ({done} of {plural(total, 'run')} there)."


def _shown(plan: Plan) -> tuple[object, ...]:
    """Return what of a plan the tables depend on."""
    return plan.name, plan.headline, plan.baseline, plan.groups, plan.cells


@dataclass(frozen=True)
class Trouble:
    """Why a planned run can't be used; `change` where the reason is a file that holds something else now.

    Such a run is not made by the command of the plan, which takes the file as it is and so makes another run.
    """

    what: str
    change: Change | None = None


def _trouble(cell: PlannedCell, folder: Path, run: RunFolder, results: Path, cache: Path) -> Trouble | None:
    """Return why a run that is there and whole is not the planned one, None where it is."""
    if run.record.run != cell.run:
        return Trouble(f"it holds another run, {run.record.run}")
    if run.record.config.hash != cell.config.hash:
        return Trouble("stale, made by another configuration")
    if run.record.code.method != cell.code:
        return Trouble("stale, made by other code of the method")
    manifest = cache_folder(cache, cell.cache) / "manifest.json"
    if not manifest.exists():
        if not (folder / cell.stamp).exists():
            return Trouble(f"perhaps stale: {manifest.parent} is gone, and no stamp says that it was made from it")
    elif fingerprint_of(manifest) != run.record.data_fingerprint:
        return Trouble("stale, made from other data than the prepared cache")
    for method, used in run.record.requires.items():
        source = results / used.run / "run.json"
        if source.exists() and file_digest(source) != used.run_hash:
            return Trouble(f"stale, its {method} run was made anew")
    change = changed(run.record.config.contents)
    return Trouble(f"stale: {change.what}", change) if change else None


def _state(cell: PlannedCell, results: Path, cache: Path) -> tuple[Trouble | None, RunFolder | None]:
    """Return (None, the run) where a planned run can be used, else what is the matter."""
    folder = results / cell.run
    if not (folder / "run.json").exists():
        begun = any((folder / name).exists() for name in ("checkpoint.npz", "lease.json"))
        return Trouble("unfinished" if begun else "missing"), None
    try:
        run = RunFolder.open(folder)
    except DataError as error:
        return Trouble(error.what), None
    trouble = _trouble(cell, folder, run, results, cache)
    return trouble, None if trouble else run


def _fail(faults: list[tuple[PlannedCell, Trouble]], total: int, options: list[str]) -> None:
    shown, changes = [], dict[Change, None]()
    for cell, trouble in faults:
        config = cell.config
        where = f"{config.dataset}/{config.split} {cell.label} seed {config.seed}"
        if trouble.change:
            changes[trouble.change] = None
            shown.append(f"{where}: {trouble.what}")
        else:
            command = shlex.join([*cell.command, *options])
            shown.append(f"{where}: {trouble.what} (mmlbench train {command})")
    error = runs_error(f"{len(faults)} of {plural(total, 'planned run')} can't be used", shown)
    fixes = [change.fix for change in changes]
    if fixes:
        others = [error.fix] if any(not trouble.change for _, trouble in faults) else []
        error.fix = ". ".join([*fixes, *others])
    raise error


def _terms(run: RunFolder, samples: int) -> dict[str, str]:
    """Return what must be equal within a comparison; `samples` is the number of its set of test samples."""
    config = run.record.config
    return {
        "different test samples or labels": str(samples),
        "different data": run.record.data_fingerprint,
        "different metrics": run.record.metric.name,
        "different recipes of one name": digest([config.recipe.plain(), dict(config.dataset_params)]),
    }


def regroup_of(plan: Plan) -> Regroup | None:
    """Return the groups of test samples that a plan names, None where it names none.

    Raises:
        DataError: as `read_groups`.
    """
    return read_groups(Path(plan.groups)) if plan.groups else None


def regrouped(ids: np.ndarray, given: Mapping[str, str], where: tuple[str, ...]) -> np.ndarray:
    """Return the given group of each test sample.

    Raises:
        DataError: a sample has none.
    """
    lacking = [name for name in ids.tolist() if name not in given]
    if lacking:
        count = f"{len(lacking)} of {plural(len(ids), 'test sample')}"
        what = f"{count} of {'/'.join(where)} without a group, such as {lacking[0]}"
        raise DataError(what, "Make the groups anew from the same data: mmlbench audit NAME --groups FILE")
    return np.array([given[name] for name in ids.tolist()], dtype=np.str_)


#: Threads that read and score runs, and how many runs wait for their turn: most of the work lets other threads go on.
READERS, WAITING = 2, 2


@dataclass(frozen=True)
class _Scored:
    """A run that was read: its scores, and what is known of its test samples, in the order of `FACTS`."""

    run: ScoredRun
    samples: list[np.ndarray]

    @classmethod
    def of(cls, folder: RunFolder, by: Reported) -> _Scored:
        return cls(score_test_part(folder, by), [folder.samples[name] for name in FACTS])


class _Collector:
    """Puts the runs into groups and entries, and refuses those of another test set."""

    def __init__(self, facts: Facts, cache: Path, regroup: Regroup) -> None:
        self.facts, self.cache, self.regroup = facts, cache, regroup
        self.groups: dict[tuple[str, ...], Group] = {}
        self.terms: dict[tuple[str, ...], tuple[str, dict[str, str]]] = {}
        self.samples: list[list[np.ndarray]] = []  # ids, labels and groups: each set of test samples once
        self.kept: dict[str, tuple[ScoredRun, int, dict[str, str]]] = {}

    def keep(self, folder: RunFolder, scored: _Scored) -> None:
        """Take a run; the cells that it is of come after it."""
        number = self._samples(scored.samples)
        self.kept[folder.name] = scored.run, number, _terms(folder, number)

    def add(self, cell: PlannedCell, folder: RunFolder) -> None:
        """Take one cell, whose run is kept."""
        name, config = folder.name, folder.record.config
        run, number, terms = self.kept[name]
        key = cell.group
        first, wanted = self.terms.setdefault(key, (name, terms))
        for what, value in terms.items():
            if value != wanted[what]:
                fix = "Make both alike, or give the recipe another name, so that they are not compared"
                raise DataError(f"{name} and {first} are compared but were made with {what}", fix)
        if key not in self.groups:
            record = folder.record
            for fault in label_faults(folder, self.cache):
                raise DataError(f"{name}: {fault}", "Remove the run and make it again, or restore the prepared cache")
            given, samples = self.regroup.get(key[:2]), self.samples[number]
            self.groups[key] = Group(
                *key,
                group_name=REGROUPED if given else self.facts.group_name(config.dataset, config.split),
                modalities=list(record.modalities),
                groups=regrouped(samples[0], given, key[:2]) if given else samples[2],
                regrouped=bool(given),
                bayes=dict(record.bayes),
                data_fingerprint=record.data_fingerprint,
                label=samples[1],
                class_names=list(record.class_names),
                noise=TrainingNoise.of(config.recipe),
                base_recipe=base_recipe(config.recipe),
                task=record.task,
                metric=record.metric,
            )
        self._entry(self.groups[key], cell, run).runs.append(run)

    def _samples(self, facts: list[np.ndarray]) -> int:
        """Return the number of a set of test samples; equal ones have one."""
        for number, others in enumerate(self.samples):
            if all(map(np.array_equal, facts, others)):
                return number
        self.samples.append(facts)
        return len(self.samples) - 1

    def _entry(self, group: Group, cell: PlannedCell, run: ScoredRun) -> Entry:
        for entry in group.entries:
            if entry.label == cell.label:
                return entry
        config = run.record.config
        params = self.facts.shown_params(config.method, config.params)
        zero = self.facts.zero_gap(config.method)
        group.entries.append(Entry(cell.label, config.method, params, zero, [], len(cell.trials)))
        return group.entries[-1]


def load(results: Path, cache: Path, plan: Plan | None = None, regroup: Regroup | None = None) -> Loaded:
    """Check that every planned run is there, whole and fresh; score them.

    Args:
        plan: that of plan.json by default. regroup: groups of test samples in place of the runs' own.

    Raises:
        DataError: listing the runs that are missing, stale or corrupt, each with the command that makes it; runs
            of a group scored on different test samples; logits that are not finite.
    """
    plan = read_plan(results) if plan is None else plan
    collector = _Collector(Facts.of_plan(plan), cache, regroup or {})
    faults: list[tuple[PlannedCell, Trouble]] = []
    opened: dict[str, tuple[Trouble | None, RunFolder | None]] = {}
    for cell in plan.cells:
        if cell.run not in opened:
            opened[cell.run] = _state(cell, results, cache)
        trouble, _ = opened[cell.run]
        if trouble:
            faults.append((cell, trouble))
    if faults:
        options = [word for folder in plan.plugins for word in ("--plugins", folder)]
        options += ["--results", str(results)] if results != Path("results") else []
        options += ["--cache", str(cache)] if cache != Path("cache") else []
        _fail(faults, len(plan.cells), options)
    folders, origins = {name: run for name, (_, run) in opened.items() if run}, read_origins(results)
    opened.clear()  # only `folders` holds what was read of a run
    works = (partial(_Scored.of, folders[name], reported(origins, folders[name].record)) for name in tuple(folders))
    with closing(ahead(works, READERS, WAITING)) as scored:
        for cell in plan.cells:
            folder = folders[cell.run]
            if folder.name not in collector.kept:
                collector.keep(folder, next(scored))
            collector.add(cell, folder)
            folders[cell.run] = RunFolder(folder.path, folder.record)  # lets the arrays go
    for group in collector.groups.values():
        take_stored_means(group)
    groups = join_folds(list(collector.groups.values()))
    for group in groups:
        for entry in group.entries:
            entry.runs.sort(key=lambda run: run.seed)
        together = logit_mean(group)
        group.entries += [together] if together else []
    return Loaded(plan.name, plan.headline, plan.baseline, groups, plan.robustness)
