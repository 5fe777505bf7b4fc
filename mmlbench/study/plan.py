"""plan.json as frozen types: one parser, for import, verify, tables and whatever else reads a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..errors import DataError
from ..params import Scalar
from ..storage.atomic import read_json, write_json
from ..storage.form import EXACT, HEX10, HEX16, RUN, SPLIT, WORD, Item
from ..storage.hashing import digest
from .run_config import RunConfig, parameters, parse_config
from .run_spec import stamp_name
from .selection import HEADLINES

#: Version of the plan's form; see docs/run-folder.md.
PLAN_SCHEMA = 2
CACHE = rf"{WORD}-{HEX10}"
#: Options of `mmlbench train` that a plan may print for a person to type: none of them names code.
OPTIONS = (
    "--dataset", "--method", "--seed", "--split", "--recipe", "--set", "--recipe-set", "--dataset-set", "--tune",
    "--tune-seed", "--tune-rule", "--metric",
)  # fmt: skip
CELL = ("label", "encoder", "run", "config", "config_hash", "code", "cache", "command")
FIX = "Type the snakemake command again: it writes the plan anew"


@dataclass(frozen=True)
class PlannedMethod:
    """What the tables need of a method, so that they never import it.

    Attributes:
        family: what it is listed under. trains_encoders: whether its encoders are its own. requires: methods whose
            runs it reuses. defaults: parameter -> value where nothing is set.
    """

    family: str
    trains_encoders: bool
    requires: tuple[str, ...]
    defaults: Mapping[str, Scalar]

    def plain(self) -> dict[str, object]:
        """Return it as it stands in a plan."""
        return {**vars(self), "requires": list(self.requires), "defaults": dict(self.defaults)}


@dataclass(frozen=True)
class Tuning:
    """How a tuned cell finds its parameters: draws, the runs that try them, and, once they are there, the choice."""

    key: str
    rule: str
    draws: tuple[Mapping[str, Scalar], ...]
    trials: tuple[str, ...]
    command: tuple[str, ...]
    chosen: Mapping[str, Scalar] | None = None
    scores: tuple[float, ...] = ()

    def plain(self) -> dict[str, object]:
        """Return it as it stands in a plan."""
        found: dict[str, object] = {"key": self.key, "rule": self.rule, "draws": [dict(draw) for draw in self.draws]}
        found |= {"trials": list(self.trials)} | ({"command": list(self.command)} if self.command else {})
        return found | ({} if self.chosen is None else {"chosen": dict(self.chosen), "scores": list(self.scores)})


@dataclass(frozen=True)
class PlannedCell:
    """One planned run under the label of its row."""

    label: str
    encoder: str
    run: str
    config: RunConfig
    code: str
    cache: str
    command: tuple[str, ...]
    tuned: Tuning | None = None

    @property
    def key(self) -> tuple[str | int, ...]:
        """What no two cells of a plan share."""
        c = self.config
        return c.dataset, c.split, c.recipe.name, self.encoder, self.label, c.seed

    @property
    def group(self) -> tuple[str, str, str, str]:
        """Dataset, split, recipe and encoder: what is compared within."""
        return self.config.dataset, self.config.split, self.config.recipe.name, self.encoder

    @property
    def trials(self) -> tuple[str, ...]:
        """The runs among which its tuning chooses; () where it is not tuned."""
        return self.tuned.trials if self.tuned else ()

    @property
    def stamp(self) -> str:
        """Name of the stamp in the run's folder."""
        return stamp_name(self.code, self.cache)

    def plain(self) -> dict[str, object]:
        """Return it as it stands in a plan."""
        facts: dict[str, object] = {"label": self.label, "encoder": self.encoder, "run": self.run}
        facts |= {"config": self.config.plain(), "config_hash": self.config.hash, "code": self.code}
        facts |= {"cache": self.cache, "command": list(self.command)}
        return facts | ({"tuned": self.tuned.plain()} if self.tuned else {})


@dataclass(frozen=True)
class Plan:
    """A study as it was planned.

    Attributes:
        plugins: folders of plug-ins at planning; they are told and never used: only what the user names is imported.
        methods, datasets: what the tables need of the plug-ins (dataset -> split -> name of the samples' groups).
        groups: the file of groups of test samples that the tables take, '' where they take the datasets' own.
        round: how often the tables were asked for anew since runs had gone (`study.workflow.read`).
    """

    name: str
    title: str
    headline: str
    baseline: str
    plugins: tuple[str, ...]
    robustness: tuple[float, ...]
    cells: tuple[PlannedCell, ...]
    methods: Mapping[str, PlannedMethod]
    datasets: Mapping[str, Mapping[str, str]]
    groups: str = ""
    round: int = 0

    def plain(self) -> dict[str, object]:
        """Return it as plan.json has it."""
        return {
            "schema": PLAN_SCHEMA,
            "name": self.name,
            "title": self.title,
            "headline": self.headline,
            "baseline": self.baseline,
            "plugins": list(self.plugins),
            **({"robustness": list(self.robustness)} if self.robustness else {}),
            **({"groups": self.groups} if self.groups else {}),
            "methods": {name: facts.plain() for name, facts in self.methods.items()},
            "datasets": {name: dict(splits) for name, splits in self.datasets.items()},
            "cells": [cell.plain() for cell in self.cells],
            "round": self.round,
        }

    @cached_property
    def study_key(self) -> str:
        """What tells one study's plan from another's; the `round`, which only counts starts, is no part of it."""
        return digest({name: value for name, value in self.plain().items() if name != "round"})[:10]


def _words(item: Item) -> tuple[str, ...]:
    """Return the words of a command: pairs of a known option and its value."""
    words = [one.text("a word of a command", empty=True, most=4000) for one in item.each("word", 2)]
    for place in range(0, len(words), 2):
        item.at(place, words[place]).one_of(OPTIONS)
    if len(words) % 2:
        item.fail(f"ends with {words[-1]}, which lacks its value")
    return tuple(words)


def _tuning(item: Item, config: RunConfig) -> Tuning:
    found = item.fields(("key", "rule", "draws", "trials"), ("command", "chosen", "scores"))
    draws = tuple(parameters(one, 1) for one in found["draws"].each("draw", 1))
    trials = tuple(one.text("the folder of a run", RUN) for one in found["trials"].each("run", 1))
    place = f"runs/{config.dataset}/{config.split}/{config.method}/"
    if len(trials) != len(draws) or not all(trial.startswith(place) for trial in trials):
        found["trials"].wrong(f"one run of {place} for each of the {len(draws)} draws")
    chosen = parameters(found["chosen"]) if "chosen" in found else None
    if chosen is not None and chosen not in draws:
        found["chosen"].wrong("one of the draws")
    scores = tuple(one.number() for one in found["scores"].each("score")) if "scores" in found else ()
    return Tuning(
        found["key"].text("a hash", HEX10),
        found["rule"].one_of(HEADLINES),
        draws,
        trials,
        _words(found["command"]) if "command" in found else (),
        chosen,
        scores,
    )


def _cell(item: Item) -> PlannedCell:
    found = item.fields(CELL, ("tuned",))
    config = parse_config(found["config"])
    if found["config_hash"].text("a hash", HEX16) != config.hash:
        found["config_hash"].wrong(f"{config.hash}, the hash of its configuration")
    code = found["code"].text("a fingerprint", HEX16)
    tuning = _tuning(found["tuned"], config) if "tuned" in found else None
    wanted = config.run
    if tuning is not None and tuning.chosen is None:
        place = f"tuned/{config.dataset}/{config.split}/{config.method}"
        wanted = f"{place}/s{config.seed}-{tuning.key}-{code[:6]}"
    if found["run"].text("the folder of a run") != wanted:
        found["run"].wrong(f"{wanted}, which follows from its configuration")
    cache = found["cache"].text("the folder of a cache", CACHE)
    if cache.rpartition("-")[0] != config.dataset:
        found["cache"].wrong(f"a cache of {config.dataset}")
    return PlannedCell(
        found["label"].text("a label of 1 to 200 characters", most=200),
        found["encoder"].text("the name of an encoder"),
        wanted,
        config,
        code,
        cache,
        _words(found["command"]),
        tuning,
    )


def _method(item: Item) -> PlannedMethod:
    found = item.fields(("family", "trains_encoders", "requires", "defaults"))
    return PlannedMethod(
        found["family"].text("a family of methods", empty=True, most=80),
        found["trains_encoders"].truth(),
        found["requires"].tuple_of("method", lambda one: one.text("the name of a method", WORD)),
        parameters(found["defaults"]),
    )


def _datasets(item: Item) -> dict[str, dict[str, str]]:
    return {
        name: {s: one.text("the name of a group", empty=True, most=80) for s, one in splits.named(SPLIT).items()}
        for name, splits in item.named().items()
    }


def _robustness(item: Item) -> tuple[float, ...]:
    found = tuple(one.number(1e-9, 1e6) for one in item.each("strength"))
    if list(found) != sorted(set(found)):
        item.wrong("rising strengths of noise")
    return found


def _described(top: Mapping[str, Item], plan: Plan) -> None:
    """Refuse a plan that says what its plug-ins are and leaves one of them out."""
    for cell in plan.cells:
        method, dataset, split = cell.config.method, cell.config.dataset, cell.config.split
        if method not in plan.methods:
            top["methods"].fail(f"lacks {method}, of which it plans runs")
        if split not in plan.datasets.get(dataset, {}):
            top["datasets"].fail(f"lacks {dataset}/{split}, of which it plans runs")


def write_plan(plan: Plan, results: Path, asked_anew: bool = False, keep: bool = False) -> None:
    """Write results/plan.json where it changed.

    Args:
        plan: it is written with the `round` of the plan that is there.
        asked_anew: count the round on, by which Snakemake makes the tables anew.
        keep: leave a plan that is there as it is.
    """
    path, before = results / "plan.json", None
    with contextlib.suppress(DataError):
        before = read_json(path)
    known = before.get("round") if isinstance(before, dict) else 0
    known = known if isinstance(known, int) and 0 <= known < EXACT else 0
    plain = replace(plan, round=known + asked_anew).plain()
    if plain != before and not (keep and before):
        write_json(path, plain)


def parse_plan(value: object, file: Path | str, fix: str = FIX) -> Plan:
    """Read the content of a plan.json.

    Raises:
        DataError: another schema, a key is missing or unknown, or a value is of another form, a path or hash does
            not follow from the configuration, a cell is there twice; naming the file, the path of keys, the value
            and what is wanted.
    """
    item = Item(value, file, fix=fix)
    item.check_schema(PLAN_SCHEMA)
    top = item.fields(
        ("schema", "name", "headline", "baseline", "plugins", "methods", "datasets", "cells"),
        ("title", "robustness", "round", "groups"),
    )
    if top["cells"].value == []:
        item.fail("plans no runs")
    cells = tuple(_cell(one) for one in top["cells"].each("cell", 1))
    seen: set[tuple[str | int, ...]] = set()
    for place, cell in enumerate(cells):
        if cell.key in seen:
            top["cells"].at(place, cell.key).fail(f"plans {cell.label} with seed {cell.config.seed} a second time")
        seen.add(cell.key)
    plan = Plan(
        name=top["name"].text("the name of a study"),
        title=top["title"].text("the title of a study", empty=True) if "title" in top else "",
        headline=top["headline"].one_of(HEADLINES),
        baseline=top["baseline"].text("a label", most=200),
        plugins=tuple(one.text("a folder", most=4096) for one in top["plugins"].each("folder")),
        robustness=_robustness(top["robustness"]) if "robustness" in top else (),
        cells=cells,
        methods={name: _method(one) for name, one in top["methods"].named().items()},
        datasets=_datasets(top["datasets"]),
        groups=top["groups"].text("a file", most=4096) if "groups" in top else "",
        round=top["round"].integer() if "round" in top else 0,
    )
    _described(top, plan)
    return plan
