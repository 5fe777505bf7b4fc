"""The config of a study: a grid of datasets, methods and seeds; checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from ..errors import ConfigError, DataError, brief, nearest
from ..params import Scalar
from ..registry.index import Index, load_index, use_plugins
from ..storage.texts import check_text
from .facts import facts_of, group_names, needs_raw
from .plan import Plan, PlannedCell, PlannedMethod
from .plan_check import check_runs
from .raw_files import RawFiles, read_raw_files, read_shards
from .recipe import Recipe
from .run_spec import Request, RunSpec, Setting, Terms, check_seed
from .selection import Rule, headline_rule
from .tuning import Tune, Tuned, check_apart, read_tune, tuned
from .yaml import read_mapping

KEYS = ("name", "title", "plugins", "headline", "metric", "baseline", "tune", "robustness", "groups", "raw",
        "prepare_shards", "grid")  # fmt: skip
GRID_KEYS = ("dataset", "split", "metric", "recipe", "recipe_set", "dataset_set", "seeds", "methods")
METHOD_KEYS = ("method", "label", "params", "seeds", "tune")
#: Strengths of noise of `robustness: true`, in standard deviations of the inputs.
STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0)
_LABEL = re.compile(r"[\w.,:()/][\w .,:+=()/-]{0,79}")


@dataclass(frozen=True)
class Cell:
    """One planned run under the label of its row."""

    label: str
    setting: Setting
    run: RunSpec
    tuned: Tuned | None = None

    @property
    def runs(self) -> list[RunSpec]:
        """The ordinary runs that it needs, in order; a tuned one's own is chosen later and not among them."""
        specs = [*(self.tuned.trials if self.tuned else ()), self.run]
        needed = [one for spec in specs for one in (*spec.requires.values(), spec)]
        return needed[:-1] if self.tuned else needed

    def planned(self) -> PlannedCell:
        """Return it as it stands in the plan."""
        run, command, tuning = str(self.run.path), self.run.command, None
        if self.tuned:
            tuning = replace(self.tuned.planned(), command=command)
            run, command = str(self.tuned.stamp(self.run)), (*command, *self.tuned.options)
        return PlannedCell(
            self.label, self.setting.encoder, run, self.run.config, self.run.code, self.run.cache, command, tuning
        )

    @property
    def group(self) -> tuple[str, str, str, str]:
        """Dataset, split, recipe and encoder: what is compared within."""
        config = self.setting.config
        return config.dataset, config.split, config.recipe.name, self.setting.encoder


@dataclass(frozen=True)
class Study:
    """A checked config: its cells, and all runs that it needs (those that others reuse included)."""

    name: str
    title: str
    headline: str
    baseline: str
    cells: tuple[Cell, ...]
    runs: tuple[RunSpec, ...]
    plugins: tuple[str, ...]
    tune: Tune | None = None
    robustness: tuple[float, ...] = ()
    methods: Mapping[str, PlannedMethod] = field(default_factory=dict)
    datasets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    groups: str = ""
    raw: Mapping[str, RawFiles] = field(default_factory=dict)
    prepare_shards: int = 0

    @property
    def left_native(self) -> bool:
        """Whether a recipe leaves the arithmetic to the machine, and this one can't compute portably."""
        return any(cell.setting.terms.left_native for cell in self.cells)

    def plan(self) -> Plan:
        """Return the plan: what the tables are made from."""
        return Plan(
            self.name,
            self.title,
            self.headline,
            self.baseline,
            self.plugins,
            self.robustness,
            tuple(cell.planned() for cell in self.cells),
            self.methods,
            self.datasets,
            self.groups,
        )


def _keys(value: object, known: tuple[str, ...], where: str, more: str = "") -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {brief(value)}, not a mapping", f"Its keys: {', '.join(known)}")
    for key in value:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {brief(key)}", nearest(key, known) + more)
    return value


def _listed(value: object, where: str, of: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where} is {brief(value)}, not a list with at least one {of}", f"List the {of}s")
    return value


def _seeds(value: object, where: str) -> list[int]:
    seeds = _listed(value, f"{where}: seeds", "seed")
    if len(set(map(str, seeds))) != len(seeds):
        raise ConfigError(f"{where}: a seed is listed twice", "List each once")
    return [check_seed(seed) for seed in seeds]


def _mapping(block: Mapping[str, object], key: str, where: str) -> Mapping[str, object]:
    value = block.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {key} is {brief(value)}, not a mapping", f"Write `{key}: {{name: value}}`")
    return value


def _text(block: Mapping[str, object], key: str, default: str, where: str) -> str:
    """Return a key that takes a text; one that is there and empty counts as missing."""
    value = default if block.get(key) is None else block[key]
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} is {brief(value)}, not a name", f"Write `{key}: NAME`")
    return value


@dataclass(frozen=True)
class MethodBlock:
    """What a grid block says of one method."""

    label: str
    method: str
    params: Mapping[str, object]
    seeds: list[int]
    tune: bool


def _method_blocks(block: Mapping[str, object], where: str, tune: Tune | None) -> list[MethodBlock]:
    """Read `methods` of a grid block."""
    found = []
    for item in _listed(block.get("methods"), f"{where}: methods", "method"):
        more = "; parameters of the method go under params: {...}"
        item = {"method": item} if isinstance(item, str) else _keys(item, METHOD_KEYS, f"{where}: method", more)
        method = item.get("method")
        if not isinstance(method, str):
            raise ConfigError(f"{where}: a method entry has no name", "Write `method: NAME`")
        label = item.get("label", method)
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise ConfigError(
                f"{where}: label {brief(label)} is not valid",
                "Use up to 80 letters, digits and . , : + = ( ) / -, and none of + = - as the first",
            )
        params = _mapping(item, "params", f"{where}: {label}")
        seeds = _seeds(item.get("seeds", block.get("seeds")), where)
        found.append(MethodBlock(label, method, params, seeds, _is_tuned(item.get("tune"), label, where, tune)))
    return found


def folds_of(splits: Iterable[str], split: object, dataset: str) -> Sequence[str | None]:
    """Return the folds 'NAME.1', 'NAME.2' ... that a split NAME stands for, or the split itself; None is the default.

    Raises:
        ConfigError: it is no text.
    """
    known = list(splits)
    if not isinstance(split, str | None):
        raise ConfigError(f"{dataset} has no split {brief(split)}", nearest(str(split), known))
    folds = [name for name in known if name.rpartition(".")[0] == split and name.rpartition(".")[2].isdigit()]
    return folds if folds and split not in known else [split]


def _is_tuned(value: object, label: str, where: str, tune: Tune | None) -> bool:
    """Return whether a study that tunes tunes a method: `tune` of its entry, true where it is not there.

    Raises:
        ConfigError: another value than true or false; a study without `tune:`, where nothing would read it.
    """
    if value is None:
        return tune is not None
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: tune of a method is {brief(value)}", "Write `tune: false`, or leave it out")
    if tune is None:
        what = f"{where}: {brief(label)} has `tune`, and the study tunes nothing"
        raise ConfigError(what, "Leave it out, or write `tune: {draws: 8, seed: 1000}` above the grid")
    return value


def _block_cells(
    value: object, where: str, index: Index, tune: Tune | None, headline: str, metric: str
) -> list[Cell]:
    block = _keys(value, GRID_KEYS, where)
    dataset = block.get("dataset")
    if not isinstance(dataset, str):
        what = f"{where} names no dataset" if dataset is None else f"{where}: `dataset` is {brief(dataset)}, no name"
        raise ConfigError(what, "Write `dataset: NAME`, one in each block")
    recipe = _text(block, "recipe", "embedded", where)
    settings = {key: _mapping(block, key, where) for key in ("recipe_set", "dataset_set")}
    metric = _metric(block, where) or metric
    request = Request(dataset, "", 0, None, recipe, {}, settings["recipe_set"], settings["dataset_set"], metric)
    terms = Terms(request, index)
    cells = []
    folds = folds_of(terms.facts.splits, block.get("split"), dataset)
    for split, one in product(folds, _method_blocks(block, where, tune)):
        setting = terms.setting(one.method, split, one.params)
        tuning = tuned(setting, tune, headline) if tune and one.tune else None
        for seed in one.seeds:
            run = setting.run(seed)
            if tune and tuning:
                check_apart(seed, tune)
            cells.append(Cell(one.label, setting, run, tuning))
    return cells


def _metric(block: Mapping[str, object], where: str) -> str:
    """Return the metric that a config or a block of its grid names, '' where it names none."""
    return _text(block, "metric", "", where) if block.get("metric") is not None else ""


def _check_labels(cells: list[Cell]) -> None:
    """Refuse a label that stands for two things within one comparison."""
    meaning: dict[tuple[object, ...], tuple[str, bool]] = {}
    seen = set()
    for cell in cells:
        key = (*cell.group, cell.label)
        means = cell.setting.hash, cell.tuned is not None
        if meaning.setdefault(key, means) != means:
            raise ConfigError(
                f"the label {brief(cell.label)} stands for two settings on {cell.group[0]}", "Give each a `label`"
            )
        once = (*key, cell.run.config.seed)
        if once in seen:
            raise ConfigError(
                f"{brief(cell.label)} with seed {once[-1]} is listed twice on {cell.group[0]}", "List it once"
            )
        seen.add(once)


def _check_groups(cells: list[Cell], rule: Rule) -> None:
    """Refuse a comparison across recipes, and a headline that a split can't serve."""
    terms: dict[tuple[str, ...], tuple[Recipe, Mapping[str, Scalar]]] = {}
    metrics: dict[tuple[str, ...], str] = {}
    for cell in {cell.setting.hash: cell for cell in cells}.values():
        config = cell.setting.config
        made = config.recipe, config.dataset_params
        if terms.setdefault(cell.group, made) != made:
            raise ConfigError(
                f"two settings of the recipe {brief(cell.group[2])} on {'/'.join(cell.group[:2])} would be compared",
                "Use one for all methods, or give the second a recipe file of its own",
            )
        if metrics.setdefault(cell.group, config.metric) != config.metric:
            what = f"two metrics on {'/'.join(cell.group[:2])} under one recipe would be compared"
            raise ConfigError(what, "Name one `metric` for all methods")
        counts = cell.setting.terms.facts.splits[config.split].counts
        where, fix = f"{cell.group[0]}/{cell.group[1]}", "Set `headline: last`, or choose another split"
        rule.check(counts, where, f"headline {brief(rule.name)}", fix)


def _baseline(config: Mapping[str, object], cells: list[Cell]) -> str:
    """Return the label that differences are taken to; one that is asked for must be there.

    Where a method is named, it is the label that stands for it in every group, default parameters first.
    """
    baseline = _text(config, "baseline", "joint", "config")
    known = {cell.label for cell in cells} | {cell.run.config.method for cell in cells}
    if config.get("baseline") is not None and baseline not in known:
        raise ConfigError(f"config: baseline {brief(baseline)} is no row of the grid", nearest(baseline, known))
    if any(cell.label == baseline for cell in cells):
        return baseline
    meant = [cell for cell in cells if cell.run.config.method == baseline]
    groups = {cell.group for cell in meant}
    for cell in sorted(meant, key=lambda cell: "--set" in cell.run.command):
        if {other.group for other in meant if other.label == cell.label} == groups:
            return cell.label
    return baseline


def _folders(config: Mapping[str, object]) -> tuple[str, ...]:
    folders = config.get("plugins") or []
    if not isinstance(folders, list) or not all(isinstance(folder, str) and folder.strip() for folder in folders):
        raise ConfigError(f"config: plugins is {brief(folders)}, not a list of folders", "Write `plugins: [FOLDER]`")
    return tuple(folders)


def _strengths(value: object) -> tuple[float, ...]:
    """Return the strengths of noise of `robustness:`; () where it is not there or false, five for true."""
    if value in (None, False):
        return ()
    if value is True:
        return STRENGTHS
    given = _keys(value, ("noise",), "config: robustness").get("noise") if isinstance(value, Mapping) else None
    numbers = given if isinstance(given, list) else []
    rising = all(isinstance(n, int | float) and not isinstance(n, bool) and 0 < n < 1e6 for n in numbers)
    # Strengths are named by six digits: two that share them would be one, a longer one another than was asked for.
    if not numbers or not rising or sorted(set(numbers)) != numbers or any(n != float(f"{n:g}") for n in numbers):
        raise ConfigError(
            f"config: robustness is {brief(value)}", "Write `robustness: {noise: [0.25, 0.5, 1, 1.5, 2]}`"
        )
    return tuple(float(n) for n in numbers)


def _groups(config: Mapping[str, object], cells: list[Cell]) -> str:
    """Return the file of `groups:`, '' where it is not there; it is read now, not when all runs are made."""
    if config.get("groups") is None:
        return ""
    path = _text(config, "groups", "", "config")
    from .regroup import read_groups

    try:
        named = {"/".join(where) for where in read_groups(Path(path))}
    except DataError as error:
        raise ConfigError(f"config: groups: {error.what}", error.fix) from None
    planned = {"/".join(cell.group[:2]) for cell in cells}
    if not named & planned:
        what = f"config: groups: {path} is about {', '.join(sorted(named)) or 'nothing'}, and no block of the grid is"
        raise ConfigError(what, f"The grid is about {', '.join(sorted(planned))}: name a file of one of these")
    return path


def study(config: Mapping[str, object], index: Index | None = None) -> Study:
    """Check a config and return its study.

    Raises:
        ConfigError: anything in it that is unknown, ill-typed, out of range, empty or repeated.
    """
    config = _keys(config, KEYS, "config")
    headline = _text(config, "headline", "last", "config")
    rule, tune = headline_rule(headline), read_tune(config.get("tune"))
    metric = _metric(config, "config")
    folders = _folders(config)
    use_plugins(folders)
    index = index or load_index()
    cells: list[Cell] = []
    for number, block in enumerate(_listed(config.get("grid"), "config: grid", "block"), 1):
        cells += _block_cells(block, f"grid block {number}", index, tune, headline, metric)
    _check_groups(cells, rule)
    _check_labels(cells)
    runs: dict[str, RunSpec] = {}
    for cell in cells:
        for run in cell.runs:
            runs.setdefault(str(run.path), run)
    name = _text(config, "name", "study", "config")
    title = _text(config, "title", "", "config") if config.get("title") else ""
    check_text(name, "config: name")
    check_text(title, "config: title")
    baseline = _baseline(config, cells)
    noise = _strengths(config.get("robustness"))
    check_runs(runs.values())
    methods = facts_of(index, (cell.run.config.method for cell in cells))
    datasets = group_names(index, ((cell.run.config.dataset, cell.run.config.split) for cell in cells))
    groups = _groups(config, cells)
    raw = read_raw_files(config.get("raw"), {name: needs_raw(index, name) for name in datasets})
    shards = read_shards(config.get("prepare_shards"), raw)
    planned = tuple(cells), tuple(runs.values())
    return Study(
        name, title, headline, baseline, *planned, folders, tune, noise, methods, datasets, groups, raw, shards
    )


def read_study(path: Path) -> Study:
    """Read and check a config file.

    Raises:
        ConfigError: as `study`; the message begins with the file.
    """
    config = read_mapping(path, "A study has a grid: see config/config.yaml")
    try:
        return study(config)
    except ConfigError as error:
        error.what = f"{path}: {error.what}"
        raise
