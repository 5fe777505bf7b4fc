"""The config of a study: a grid of datasets, methods and seeds; checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError, brief, nearest
from ..registry.index import Index, load_index, use_plugins
from ..storage.hashing import digest
from ..storage.texts import check_text
from .facts import facts_of, group_names
from .plan import PLAN_SCHEMA
from .plan_check import check_runs
from .run_spec import Request, RunSpec, Setting, Terms
from .selection import Rule, headline_rule
from .tuning import Tune, Tuned, check_apart, read_tune, tuned
from .yaml import read_mapping

KEYS = ("name", "title", "plugins", "headline", "baseline", "tune", "robustness", "groups", "grid")
GRID_KEYS = ("dataset", "split", "recipe", "recipe_set", "dataset_set", "seeds", "methods")
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

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, for the plan."""
        facts: dict[str, Any] = {"label": self.label, "encoder": self.setting.encoder, "run": str(self.run.path)}
        facts |= {"config": self.run.config, "config_hash": self.run.config_hash, "code": self.run.code}
        facts |= {"cache": self.run.cache, "command": list(self.run.command)}
        if self.tuned:
            base = list(self.run.command)
            facts |= {"run": str(self.tuned.stamp(self.run)), "command": [*base, *self.tuned.options]}
            facts |= {"tuned": {**self.tuned.facts(), "command": base}}
        return facts

    @property
    def group(self) -> tuple[str, str, str, str]:
        """Dataset, split, recipe and encoder: what is compared within."""
        config = self.setting.config
        return config["dataset"], config["split"], config["recipe"]["name"], self.setting.encoder


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
    facts: Mapping[str, Any] = field(default_factory=dict)
    groups: str = ""

    def plan(self) -> dict[str, Any]:
        """Return the plan as plain data: what the tables are made from."""
        return {
            "schema": PLAN_SCHEMA,
            "name": self.name,
            "title": self.title,
            "headline": self.headline,
            "baseline": self.baseline,
            "plugins": list(self.plugins),
            **({"robustness": list(self.robustness)} if self.robustness else {}),
            **({"groups": self.groups} if self.groups else {}),
            **self.facts,
            "cells": [cell.plain() for cell in self.cells],
        }


def _keys(value: Any, known: tuple[str, ...], where: str, more: str = "") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {brief(value)}, not a mapping", f"Its keys: {', '.join(known)}")
    for key in value:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {brief(key)}", nearest(key, known) + more)
    return value


def _listed(value: Any, where: str, of: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where} is {brief(value)}, not a list with at least one {of}", f"List the {of}s")
    return value


def _seeds(value: Any, where: str) -> list[int]:
    seeds = _listed(value, f"{where}: seeds", "seed")
    if len(set(map(str, seeds))) != len(seeds):
        raise ConfigError(f"{where}: a seed is listed twice", "List each once")
    return seeds


def _mapping(block: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = block.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {key} is {brief(value)}, not a mapping", f"Write `{key}: {{name: value}}`")
    return value


def _text(block: Mapping[str, Any], key: str, default: str, where: str) -> str:
    """Return a key that takes a text; one that is there and empty counts as missing."""
    value = default if block.get(key) is None else block[key]
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} is {brief(value)}, not a name", f"Write `{key}: NAME`")
    return value


def _method_entries(block: Mapping[str, Any], where: str) -> list[tuple[str, str, Mapping[str, Any], list[int]]]:
    """Return (label, method, params, seeds) of a grid block."""
    entries = []
    for item in _listed(block.get("methods"), f"{where}: methods", "method"):
        more = "; parameters of the method go under params: {...}"
        item = {"method": item} if isinstance(item, str) else _keys(item, METHOD_KEYS, f"{where}: method", more)
        if not isinstance(item.get("method"), str):
            raise ConfigError(f"{where}: a method entry has no name", "Write `method: NAME`")
        label = item.get("label", item["method"])
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise ConfigError(
                f"{where}: label {brief(label)} is not valid",
                "Use up to 80 letters, digits and . , : + = ( ) / -, and none of + = - as the first",
            )
        params = _mapping(item, "params", f"{where}: {label}")
        entries.append((label, item["method"], params, _seeds(item.get("seeds", block.get("seeds")), where)))
    return entries


def folds_of(splits: Iterable[str], split: Any) -> list[Any]:
    """Return the folds 'NAME.1', 'NAME.2' ... that a split NAME stands for, or the split itself."""
    known = list(splits)
    folds = [name for name in known if name.rpartition(".")[0] == split and name.rpartition(".")[2].isdigit()]
    return folds if folds and split not in known else [split]


def _untuned(block: Mapping[str, Any], where: str, tune: Tune | None) -> set[str]:
    """Return the labels of the method entries with `tune: false`.

    Raises:
        ConfigError: another value than true or false; a study without `tune:`, where nothing would read it.
    """
    items = [item for item in block["methods"] if isinstance(item, Mapping) and item.get("tune") is not None]
    for item in items:
        if not isinstance(item["tune"], bool):
            raise ConfigError(
                f"{where}: tune of a method is {brief(item['tune'])}", "Write `tune: false`, or leave it out"
            )
        if tune is None:
            what = f"{where}: {brief(item.get('label', item['method']))} has `tune`, and the study tunes nothing"
            raise ConfigError(what, "Leave it out, or write `tune: {draws: 8, seed: 1000}` above the grid")
    return {item.get("label", item["method"]) for item in items if not item["tune"]}


def _block_cells(block: Any, where: str, index: Index, tune: Tune | None, headline: str) -> list[Cell]:
    block = _keys(block, GRID_KEYS, where)
    if not isinstance(block.get("dataset"), str):
        raise ConfigError(f"{where} names no dataset", "Write `dataset: NAME`")
    recipe = _text(block, "recipe", "embedded", where)
    settings = {key: _mapping(block, key, where) for key in ("recipe_set", "dataset_set")}
    request = Request(block["dataset"], "", 0, None, recipe, {}, settings["recipe_set"], settings["dataset_set"])
    terms = Terms(request, index)
    cells = []
    folds = folds_of(terms.dataset.facts["splits"], block.get("split"))
    entries = _method_entries(block, where)
    untuned = _untuned(block, where, tune)
    for split, (label, method, params, seeds) in product(folds, entries):
        setting = terms.setting(method, split, params)
        tuning = tuned(setting, tune, headline) if tune and label not in untuned else None
        for seed in seeds:
            run = setting.run(seed)
            if tune and tuning:
                check_apart(seed, tune)
            cells.append(Cell(label, setting, run, tuning))
    return cells


def _check_labels(cells: list[Cell]) -> None:
    """Refuse a label that stands for two things within one comparison."""
    meaning: dict[tuple[Any, ...], str] = {}
    seen = set()
    for cell in cells:
        key = (*cell.group, cell.label)
        if meaning.setdefault(key, cell.setting.hash) != cell.setting.hash:
            raise ConfigError(
                f"the label {brief(cell.label)} stands for two settings on {cell.group[0]}", "Give each a `label`"
            )
        once = (*key, cell.run.config["seed"])
        if once in seen:
            raise ConfigError(
                f"{brief(cell.label)} with seed {once[-1]} is listed twice on {cell.group[0]}", "List it once"
            )
        seen.add(once)


def _check_groups(cells: list[Cell], rule: Rule, index: Index) -> None:
    """Refuse a comparison across recipes, and a headline that a split can't serve."""
    terms: dict[tuple[str, ...], str] = {}
    for cell in {cell.setting.hash: cell for cell in cells}.values():
        config = cell.setting.config
        made = digest([config["recipe"], config["dataset_params"]])
        if terms.setdefault(cell.group, made) != made:
            raise ConfigError(
                f"two settings of the recipe {brief(cell.group[2])} on {'/'.join(cell.group[:2])} would be compared",
                "Use one for all methods, or give the second a recipe file of its own",
            )
        facts = index.find("dataset", config["dataset"]).facts["splits"][config["split"]]
        where, fix = f"{cell.group[0]}/{cell.group[1]}", "Set `headline: last`, or choose another split"
        rule.check(facts["counts"], where, f"headline {brief(rule.name)}", fix)


def _baseline(config: Mapping[str, Any], cells: list[Cell]) -> str:
    """Return the label that differences are taken to; one that is asked for must be there.

    Where a method is named, it is the label that stands for it in every group, default parameters first.
    """
    baseline = _text(config, "baseline", "joint", "config")
    known = {cell.label for cell in cells} | {str(cell.run.config["method"]) for cell in cells}
    if config.get("baseline") is not None and baseline not in known:
        raise ConfigError(f"config: baseline {brief(baseline)} is no row of the grid", nearest(baseline, known))
    if any(cell.label == baseline for cell in cells):
        return baseline
    meant = [cell for cell in cells if cell.run.config["method"] == baseline]
    groups = {cell.group for cell in meant}
    for cell in sorted(meant, key=lambda cell: "--set" in cell.run.command):
        if {other.group for other in meant if other.label == cell.label} == groups:
            return cell.label
    return baseline


def _folders(config: Mapping[str, Any]) -> tuple[str, ...]:
    folders = config.get("plugins") or []
    if not isinstance(folders, list) or not all(isinstance(folder, str) and folder.strip() for folder in folders):
        raise ConfigError(f"config: plugins is {brief(folders)}, not a list of folders", "Write `plugins: [FOLDER]`")
    return tuple(folders)


def _strengths(value: Any) -> tuple[float, ...]:
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


def _groups(config: Mapping[str, Any], cells: list[Cell]) -> str:
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


def plugin_facts(index: Index, configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the tables need of the plug-ins of some runs, as plain data: keys `methods` and `datasets`."""
    return {
        "methods": {name: facts.plain() for name, facts in facts_of(index, (c["method"] for c in configs)).items()},
        "datasets": group_names(index, ((c["dataset"], c["split"]) for c in configs)),
    }


def study(config: Mapping[str, Any], index: Index | None = None) -> Study:
    """Check a config and return its study.

    Raises:
        ConfigError: anything in it that is unknown, ill-typed, out of range, empty or repeated.
    """
    config = _keys(config, KEYS, "config")
    headline = _text(config, "headline", "last", "config")
    rule, tune = headline_rule(headline), read_tune(config.get("tune"))
    folders = _folders(config)
    use_plugins(folders)
    index = index or load_index()
    cells: list[Cell] = []
    for number, block in enumerate(_listed(config.get("grid"), "config: grid", "block"), 1):
        cells += _block_cells(block, f"grid block {number}", index, tune, headline)
    _check_groups(cells, rule, index)
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
    facts = plugin_facts(index, [cell.run.config for cell in cells])
    groups = _groups(config, cells)
    planned = tuple(cells), tuple(runs.values())
    return Study(name, title, headline, baseline, *planned, folders, tune, noise, facts, groups)


def read_study(path: Path) -> Study:
    """Read and check a config file.

    Raises:
        ConfigError: as `study`; the message begins with the file.
    """
    config = read_mapping(path, "A study has a grid: see config/config.yaml")
    try:
        return study(config)
    except ConfigError as error:
        error.what = f"{path}: {error.what}" if str(path) not in error.what else error.what
        raise
