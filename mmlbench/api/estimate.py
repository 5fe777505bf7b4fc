"""What the runs still to be made will cost, from those that were made, else measured."""

from __future__ import annotations

import math
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import MmlbenchError
from ..params import fields_of
from ..registry.index import load_index
from ..results.run_folder import RunFolder
from ..storage.cache_places import cache_folder
from ..storage.hashing import digest
from ..study.run_spec import RunSpec, encoder_label
from ..system.device import choose_device
from ..system.progress import log
from .making import prepare_command
from .throughput import dataset_of, gigabytes, seconds_of, step_memory, throughput, weights_gigabytes

Key = tuple[str, str, str, str]  # dataset, split, recipe, method


@dataclass(frozen=True)
class Cost:
    """Seconds of a run (None: nothing is known), and what that rests on."""

    seconds: float | None
    basis: str


def key_of(spec: RunSpec) -> Key:
    """Return what runs of about equal cost share."""
    config = spec.config
    return config.dataset, config.split, digest(config.recipe.plain())[:10], config.method


def measured(runs: list[RunSpec], results: Path) -> tuple[dict[Key, list[float]], list[RunSpec]]:
    """Return the seconds of the complete runs, and the runs that are to be made."""
    seconds: dict[Key, list[float]] = defaultdict(list)
    todo = []
    for spec in runs:
        folder = results / spec.path
        try:
            run = RunFolder.open(folder)
            took = run.provenance.seconds["total"]
        except (MmlbenchError, KeyError):
            todo.append(spec)
            continue
        if not run.scores_only:  # the seconds of an imported one are those of another machine
            seconds[key_of(spec)].append(took)
    return seconds, todo


def cost(key: Key, seconds: dict[Key, list[float]]) -> Cost:
    """Return what a run costs: as measured for its method, else as the dearest other method of its grid."""
    own = seconds.get(key)
    if own:
        return Cost(statistics.median(own), f"measured, n = {len(own)}")
    others = {k[3]: statistics.median(v) for k, v in seconds.items() if k[:3] == key[:3]}
    if others:
        name = max(others, key=lambda method: others[method])
        return Cost(others[name], f"as {name}")
    return Cost(None, "nothing measured")


@dataclass
class Rates:
    """Samples a second of a dataset and recipe on a device, each measured once; 0 seconds: nothing is measured."""

    device: str
    least: float
    found: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)

    def cost(self, spec: RunSpec) -> Cost:
        """Return what the run would take here."""
        if not self.least:
            return Cost(None, "nothing measured")
        index, device, config = load_index(), choose_device(self.device, log), spec.config
        dataset, key = dataset_of(spec, index), (config.dataset, digest(config.recipe.plain()))
        if key not in self.found:
            log(f"measuring {config.dataset} / {config.recipe.name} / {encoder_label(config, index)} on {device}")
            self.found[key] = throughput(dataset, config.recipe, index, device, self.least)
        each = self.found[key]
        basis = f"{1 / sum(each.values()):.1f} samples/s on {device} here"
        return Cost(seconds_of(spec, dataset, each, index), basis)


def disk(runs: list[RunSpec], todo: list[RunSpec], cache: Path) -> str:
    """Return in words what the caches that are still to be prepared will take, and the runs that are to be made."""
    index = load_index()
    wanted = unprepared(runs, cache)
    text = "every cache is prepared"
    if wanted:
        datasets = [dataset_of(spec, index) for spec in wanted.values()]
        text = f"{len(wanted)} caches to prepare, about {sum(map(gigabytes, datasets)):.2f} GB"
        text += " (while one is prepared from an archive, that is unpacked beside it)" * any(
            dataset.needs_raw for dataset in datasets
        )
    return text + (f"; the weights of the runs, about {weights_gigabytes(todo, index):.2f} GB" if todo else "")


def amount(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def memory(todo: list[RunSpec]) -> list[str]:
    """Return in words what a training step takes of the memory, a line for each dataset and recipe of some runs."""
    index, found = load_index(), dict[tuple[str, str], str]()
    for spec in todo:
        key = spec.config.dataset, digest(spec.config.recipe.plain())
        if key not in found:
            recipe = spec.config.recipe
            one = step_memory(dataset_of(spec, index), recipe, index)
            found[key] = (
                f"a step of {spec.config.dataset} / {recipe.name} / {encoder_label(spec.config, index)}: "
                f"activations of {recipe.batch_size} samples about {amount(one.activations)}, weights and optimiser "
                f"{amount(one.state)} (of the encoders, counted on two and four samples)"
            )
    return list(found.values())


def unprepared(runs: list[RunSpec], cache: Path) -> dict[str, RunSpec]:
    """Return the caches that are not there, each with a run that needs it, in the runs' order."""
    return {spec.cache: spec for spec in runs if not (cache_folder(cache, spec.cache) / "manifest.json").exists()}


def to_prepare(runs: list[RunSpec], cache: Path, plugins: Sequence[str | Path] = ()) -> list[str]:
    """Return the commands that prepare what needs raw files and is not there, one a cache, in the runs' order."""
    index, found = load_index(), []
    where = [] if cache == Path("cache") else [f"--cache {shlex.quote(str(cache))}"]
    where += [f"--plugins {shlex.quote(str(folder))}" for folder in plugins]
    for spec in unprepared(runs, cache).values():
        if dataset_of(spec, index).needs_raw:
            entry = index.find("dataset", spec.config.dataset)
            command = prepare_command(entry.name, spec.config.dataset_params, fields_of(entry.facts))
            found.append(" ".join([command, *where]))
    return found


def allocations(todo: list[RunSpec], share: int) -> int:
    """Return how many SLURM jobs hold the runs, `share` to a job: those that reuse others follow these."""
    made_from = {spec.path: [source.path for source in spec.requires.values()] for spec in todo}

    def wave(path: PurePosixPath) -> int:
        return max((1 + wave(source) for source in made_from[path] if source in made_from), default=0)

    return sum(math.ceil(runs / share) for runs in Counter(map(wave, made_from)).values())
