"""From a config to the runs that it asks for; no torch, no data.

A run's identity is its configuration (`RunSpec.config`, hashed) and nothing else; the fingerprint of the code
that makes it is kept beside it, so that an edited method makes its runs anew and no others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

from .. import files
from ..dataset import Split
from ..errors import ConfigError, UnknownPluginError, brief, nearest
from ..params import Field, Scalar, check, fields_of, file_names, located, value_text
from ..plugins import VARIABLE
from ..prepare.cache import cache_key
from ..registry.index import Entry, Index
from ..storage.hashing import digest
from ..system.arithmetic import NATIVE
from ..task import Task
from .declared import DatasetFacts, MethodFacts, dataset_facts, encoder_facts, method_facts
from .recipe import AUTO, EncoderChoice, Recipe, check_recipe, read_recipe, recipe_path, resolve_recipe
from .run_config import RECIPE_KEYS, RunConfig

T = TypeVar("T")


def stamp_name(code: str, cache: str) -> str:
    """Return the name of a run's stamp: it changes with the code of the method and with that of the dataset."""
    return f"done-{digest([code, cache])[:10]}"


@dataclass(frozen=True)
class RunSpec:
    """One run: what identifies it, where it lies, what it needs.

    Attributes:
        config: everything that determines the numbers.
        code: fingerprint of the method, its encoders and the methods whose runs it reuses.
        cache: name of the prepared cache's folder.
        requires: method name -> run of that method that is reused.
        command: arguments of `mmlbench train` that make it.
        setting: hash of its configuration without the seed, taken once for all seeds.
    """

    config: RunConfig
    code: str
    cache: str
    requires: Mapping[str, RunSpec] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    setting: str = ""

    @functools.cached_property
    def path(self) -> PurePosixPath:
        """Folder of the run below the results folder."""
        return PurePosixPath(self.config.run)

    @functools.cached_property
    def key(self) -> str:
        """Hash of where it lies and of the code that makes it: what a plan expects to be made."""
        return digest([str(self.path), self.code])[:10]

    @functools.cached_property
    def stamp(self) -> PurePosixPath:
        """File that says the run was completed by the present code, of its dataset too."""
        return self.path / stamp_name(self.code, self.cache)


@dataclass(frozen=True)
class Request:
    """What a run is asked for by: names and overrides, not yet checked."""

    dataset: str
    method: str
    seed: int
    split: str | None = None
    recipe: str = "embedded"
    params: Mapping[str, object] = field(default_factory=dict)
    recipe_params: Mapping[str, object] = field(default_factory=dict)
    dataset_params: Mapping[str, object] = field(default_factory=dict)
    metric: str = ""

    def __post_init__(self) -> None:
        """Refuse what is of another type.

        Raises:
            ConfigError: naming the argument.
        """
        for name in ("dataset", "method", "recipe", "metric"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is {brief(getattr(self, name))}, not a name", f"Give the name of a {name}")
        if not isinstance(self.split, str | None):
            raise ConfigError(f"split is {brief(self.split)}, not a name", "Give the name of a split, or None")
        for name in ("params", "recipe_params", "dataset_params"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{name} is {brief(getattr(self, name))}, not a mapping", "Give name -> value")


def flags(flag: str, values: Mapping[str, object]) -> list[str]:
    """Return '<flag> name=value' for each value, as words of a command."""
    return [word for name, value in values.items() for word in (flag, f"{name}={value_text(value)}")]


def _options_of(request: Request) -> tuple[str, ...]:
    """Return those of the arguments that stand behind the seed."""
    words = ["--split", request.split] if request.split else []
    words += ["--metric", request.metric] if request.metric else []
    words += ["--recipe", request.recipe]
    words += flags("--set", request.params) + flags("--recipe-set", request.recipe_params)
    return tuple(words + flags("--dataset-set", request.dataset_params))


def _split_of(dataset: str, facts: DatasetFacts, split: str | None) -> str:
    if split is None:
        return facts.default_split
    if split not in facts.splits:
        raise ConfigError(f"{dataset} has no split {brief(split)}", nearest(split, facts.splits))
    return split


def _check_modalities(method: str, facts: MethodFacts, dataset: str, count: int) -> None:
    least, most = facts.min_modalities, facts.max_modalities
    if not facts.takes(count):
        takes = f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"
        raise ConfigError(
            f"{method} takes {takes} modalities and {dataset} has {count}", "Choose another method or dataset"
        )


def _check_task(method: str, facts: MethodFacts, dataset: str, asked: DatasetFacts, index: Index) -> None:
    """Refuse a method that does not serve a dataset's task.

    Raises:
        ConfigError: it does not; with the tasks that it serves, and the methods that serve this one.
    """
    task = asked.task
    if task.name not in facts.tasks:
        what = f"{method} serves {', '.join(facts.tasks)}, and {dataset} asks for {task.name}"
        usable = [entry for entry in index.of("method") if not (entry.error or entry.clash)]
        others = {entry.name: method_facts(entry) for entry in usable}
        count = len(asked.modalities)
        serve = [name for name, other in others.items() if task.name in other.tasks and other.takes(count)]
        more = f" a method that serves it ({', '.join(serve)}), or" if serve else ""
        raise ConfigError(what, f"Choose{more} another dataset")


def _check_balance(recipe: Recipe, dataset: str, task: Task) -> None:
    """Refuse class weights and balanced sampling where there is nothing to balance.

    Raises:
        ConfigError: naming the field of the recipe, and the task.
    """
    asked = [name for name in ("class_weights", "sampling") if getattr(recipe, name) == "balanced"]
    if asked and not task.weighted:
        what = f"{asked[0]}: balanced needs classes or labels, and {dataset} asks for {task.name}"
        raise ConfigError(what, f"Leave {' and '.join(asked)} out of the recipe")
    if len(asked) == 2:
        what = "class_weights: balanced and sampling: balanced would balance twice, so that rare classes outweigh all"
        raise ConfigError(what, "Leave one of them out of the recipe")


def _metric_of(request: Request, dataset: DatasetFacts) -> str:
    """Return the metric that picks, '' where it is the dataset's own.

    Raises:
        ConfigError: the task has no such metric; with those that it has.
    """
    try:
        name = dataset.task.metric(request.metric or dataset.metric).name
    except ConfigError as error:
        raise ConfigError(f"{request.dataset}: {error.what}", error.fix) from None
    return "" if name == dataset.metric else name


def _check_parts(method: str, facts: MethodFacts, where: str, splits: Mapping[str, Split], split: str) -> None:
    """Refuse a split whose parts can't serve a method.

    Raises:
        ConfigError: it has fewer than two samples to train on, or lacks a part that the method needs.
    """
    counts = splits[split].counts
    if counts.get("train", 0) < 2:
        what = f"{where} has {counts.get('train', 0)} training samples: batch norm and a probe need two at least"
        raise ConfigError(what, "Choose another split")
    for part in facts.needs:
        if not counts.get(part):
            others = [name for name, one in splits.items() if one.counts.get(part)]
            fix = f"Choose a split with one: {', '.join(others)}" if others else "Choose another method or dataset"
            raise ConfigError(f"{method} needs a {part} part, and {where} has none", fix)


class Terms:
    """What the runs of a grid block share: the dataset, its preparation and the recipe, parsed and checked once.

    Settings and runs are kept too, since a study asks for one of them many times.

    Attributes:
        dataset: as the index has it. facts: what it declares. index: of all plug-ins.
        given: parameters of the preparation that the recipe or the request sets. params: all of them.
        recipe: resolved. cache: name of the prepared cache's folder.
        left_native: the recipe leaves the arithmetic to the machine, and this one can't compute portably.
    """

    def __init__(self, request: Request, index: Index) -> None:
        """Check what a request says of dataset and recipe; its method, split, parameters and seed are not looked at.

        Raises:
            ConfigError: unknown dataset, encoder, recipe or field; a wrong type or range.
        """
        self.index, self.request = index, request
        self.dataset = index.find("dataset", request.dataset)
        self.facts = facts = dataset_facts(self.dataset)
        file = read_recipe(request.recipe, request.dataset, index)
        prepared = located(facts.params, file.prepare, recipe_path(request.recipe).parent)
        self.given = {**prepared, **request.dataset_params}
        self.params = check(facts.params, self.given, f"dataset {self.dataset.name}")
        shown = facts.modalities_with(self.params)
        self.recipe = resolve_recipe(request.recipe, file, request.recipe_params, shown, index)
        asked = request.recipe_params.get("arithmetic", file.fields.get("arithmetic"))
        self.left_native = asked == AUTO and self.recipe.arithmetic == NATIVE
        self.cache = cache_name(self.dataset, self.params)
        self._settings: dict[tuple[str, str | None, str], Setting] = {}

    def setting(
        self, method: str, split: str | None, params: Mapping[str, object], above: tuple[str, ...] = ()
    ) -> Setting:
        """Return a method with its parameters on a split; None is the default one.

        Raises:
            ConfigError: unknown split, method or parameter; a wrong type or range; a method that can't serve the
                dataset's number of modalities, or needs a validation part that the split lacks.
        """
        key = method, split, repr(params)
        if key not in self._settings:
            request = replace(self.request, method=method, split=split, params=params, dataset_params=self.given)
            self._settings[key] = Setting(self, request, above)
        return self._settings[key]


class Setting:
    """All of a run but its seed: a method with its parameters, on a split, under the terms of a block.

    Attributes:
        terms: of the block. request: what was asked for; its seed has no meaning.
        config: the runs' configuration; its seed is that of the request. hash: of all but the seed.
        code: fingerprint of what makes the runs.
        requires: method -> the setting of the runs that are reused.
        encoder: the tables' name of the encoders.
    """

    def __init__(self, terms: Terms, request: Request, above: tuple[str, ...]) -> None:
        self.terms, self.request = terms, request
        self.config = _checked(request, terms.facts, terms.recipe, terms.params, terms.index)
        self.requires = {
            name: _naming(request.method, name, partial(terms.setting, name, request.split, {}, chain))
            for name, chain in _required(request.method, terms.index, above)
        }
        self.hash = self.config.setting
        self.code: str = _code(self.config, terms.index, {name: one.code for name, one in self.requires.items()})
        self.encoder = encoder_label(self.config, terms.index)
        self._options = _options_of(request)
        self._runs: dict[int, RunSpec] = {}

    def run(self, seed: int) -> RunSpec:
        """Return the run of a seed.

        Raises:
            ConfigError: it is no seed.
        """
        check_seed(seed)
        if seed not in self._runs:
            words = ("--dataset", self.request.dataset, "--method", self.request.method, "--seed", str(seed))
            needed = {name: setting.run(seed) for name, setting in self.requires.items()}
            config, command = replace(self.config, seed=seed), (*words, *self._options)
            self._runs[seed] = RunSpec(config, self.code, self.terms.cache, needed, command, self.hash)
        return self._runs[seed]


def check_seed(seed: object) -> int:
    """Return a seed, or refuse what is none.

    Raises:
        ConfigError: it is no int, or out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ConfigError(f"seed {brief(seed)} is not valid", "It takes an int from 0 to 2147483647")
    return seed


def resolve(request: Request, index: Index) -> RunSpec:
    """Check a request and return its run.

    Raises:
        ConfigError: unknown dataset, split, method, encoder, recipe or field; a wrong type or range; a method
            that can't serve the dataset's number of modalities, or needs a validation part that the split lacks.
    """
    return Terms(request, index).setting(request.method, request.split, request.params).run(request.seed)


def _checked(
    request: Request, dataset: DatasetFacts, recipe: Recipe, dataset_params: Mapping[str, Scalar], index: Index
) -> RunConfig:
    """Return the configuration of a request whose recipe and preparation have been checked, as its seed has been."""
    facts = method_facts(index.find("method", request.method))
    split = _split_of(request.dataset, dataset, request.split)
    _check_modalities(request.method, facts, request.dataset, len(dataset.modalities))
    _check_task(request.method, facts, request.dataset, dataset, index)
    _check_balance(recipe, request.dataset, dataset.task)
    _check_parts(request.method, facts, f"{request.dataset}/{split}", dataset.splits, split)
    params = _method_params(request.method, facts.params, request.params)
    metric = _metric_of(request, dataset)
    return RunConfig(request.dataset, dataset_params, split, recipe, request.method, params, request.seed, metric)


def _method_params(method: str, fields: Sequence[Field], values: Mapping[str, object]) -> dict[str, Scalar]:
    for name in values:
        if name in RECIPE_KEYS and name not in {field.name for field in fields}:
            what = f"method {method}: {brief(name)} is a field of the recipe, not a parameter of a method"
            raise ConfigError(what, "Set it with --recipe-set, or under recipe_set: in a config")
    return check(fields, values, f"method {method}")


def _naming(method: str, needed: str, call: Callable[[], T]) -> T:
    """Return what a call returns that prepares the runs which a method reuses.

    Raises:
        ConfigError: as the call does, with the method's name, since nobody has asked for the other one.
    """
    try:
        return call()
    except ConfigError as error:
        error.what = f"{method} reuses runs of {needed}: {error.what}"
        raise


def _required(method: str, index: Index, above: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the methods whose runs a method reuses, each with the chain of methods above it.

    Raises:
        ConfigError: there is none of that name, or they reuse each other.
    """
    chain = (*above, method)
    names = method_facts(index.find("method", method)).requires
    for name in names:
        if name in chain:
            raise ConfigError(f"methods reuse each other: {' -> '.join((*chain, name))}", "Fix their `requires`")
        _naming(method, name, partial(index.find, "method", name))
    return [(name, chain) for name in names]


def _code(config: RunConfig, index: Index, required: Mapping[str, str]) -> str:
    """Return the fingerprint of the code that makes a run; `required` has those of the runs that it reuses."""
    encoders = sorted({choice.name for choice in config.recipe.encoder.values()})
    return digest(
        [index.find("method", config.method).fingerprint]
        + [index.find("encoder", name).fingerprint for name in encoders]
        + [code for _, code in sorted(required.items())]
    )[:16]


def cache_name(dataset: Entry, params: Mapping[str, object]) -> str:
    """Return the name of the folder of a prepared cache."""
    return f"{dataset.name}-{cache_key(dataset.name, dict(params), dataset.fingerprint)}"


def _check_stored(config: RunConfig, index: Index) -> None:
    """Refuse a stored configuration that names a file by its path; it may be a stranger's, so none is opened for it.

    Raises:
        ConfigError: it does; an unknown plug-in.
    """
    asked = [("method", config.method, config.params), ("dataset", config.dataset, config.dataset_params)]
    asked += [("encoder", one.name, one.params) for one in config.recipe.encoder.values()]
    for kind, name, values in asked:
        for key in file_names(fields_of(index.find(kind, name).facts)):
            if values.get(key) is not None and not files.is_content(values[key]):
                raise ConfigError(
                    f"the configuration names a file of the {kind} {name} by its path: {key} = {brief(values[key])}",
                    "A stored one holds its content, sha256:<64 hex digits>; name the path by --file",
                )


def from_config(config: RunConfig, index: Index) -> RunSpec:
    """Return the run of a stored configuration (of a run.json).

    Raises:
        ConfigError: anything that the present code does not know or reads otherwise; of an unknown plug-in it says
            how to name the folder that it may lie in, as no record may.
    """
    try:
        return _from_config(config, index)
    except UnknownPluginError as error:
        fix = f"If it is of a plug-in folder that you trust, add --plugins FOLDER or set {VARIABLE}; else {error.fix}"
        raise UnknownPluginError(error.what, fix) from None


def _from_config(config: RunConfig, index: Index, above: tuple[str, ...] = ()) -> RunSpec:
    _check_stored(config, index)
    dataset, name = index.find("dataset", config.dataset), config.recipe.name
    facts = dataset_facts(dataset)
    values = {key: value for key, value in config.recipe.plain().items() if key != "name"}
    params = check(facts.params, config.dataset_params, f"dataset {dataset.name}")
    shown = facts.modalities_with(params)
    recipe = check_recipe(name, values, shown, index, f"recipe {brief(name)}", True)
    check_seed(config.seed)
    request = Request(
        config.dataset, config.method, config.seed, config.split, params=config.params, metric=config.metric
    )
    read = _checked(request, facts, recipe, params, index)
    other = [one.name for one in fields(RunConfig) if getattr(read, one.name) != getattr(config, one.name)]
    if other:
        raise ConfigError(
            f"the present code reads {', '.join(other)} of this {config.method} configuration otherwise",
            "Use the code that made it, or make the run anew by --dataset and --method",
        )
    needed = {}
    for name, chain in _required(request.method, index, above):
        params = check(fields_of(index.find("method", name).facts), {}, f"method {name}")
        needed[name] = _from_config(replace(config, method=name, params=params), index, chain)
    code = _code(config, index, {name: run.code for name, run in needed.items()})
    return RunSpec(config, code, cache_name(dataset, config.dataset_params), needed, (), config.setting)


def encoder_label(config: RunConfig, index: Index) -> str:
    """Return the tables' name of a run's encoders: one name, or modality=name joined by '+'.

    The content of each file of weights is a part of it, what is frozen, and a learning rate of its own: so no row is
    compared with one of other settings.
    """
    named = {modality: _encoder_name(encoder, index) for modality, encoder in config.recipe.encoder.items()}
    if len(set(named.values())) == 1:
        return next(iter(named.values()))
    return "+".join(f"{modality}={name}" for modality, name in named.items())


def _encoder_name(encoder: EncoderChoice, index: Index) -> str:
    texts = {name: value for name, value in encoder.params.items() if isinstance(value, str)}
    weights = [f"{name}={files.short(value)}" for name, value in texts.items() if files.is_content(value)]
    behind = texts.get(encoder_facts(index.find("encoder", encoder.name)).named_by)
    named = [] if behind is None or files.is_content(behind) else [behind]
    steps = [f"freeze={','.join(encoder.freeze)}"] if encoder.freeze else []
    steps += [f"lr={value_text(encoder.lr)}"] if encoder.lr != 1 else []
    return ":".join([encoder.name, *named, *(weights or ["pretrained"] * encoder.pretrained), *steps])
