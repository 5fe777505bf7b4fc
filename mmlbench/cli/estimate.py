"""`mmlbench estimate`: what the runs still to be made will cost, from those that were made, else measured."""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..api.making import prepare_command
from ..errors import ConfigError, MmlbenchError
from ..registry.index import load_index, use_plugins
from ..results.run_folder import RunFolder
from ..storage.atomic import read_json
from ..storage.hashing import digest
from ..storage.words import plural
from ..study.config import read_study
from ..study.run_spec import RunSpec
from ..system.device import choose_device
from . import log
from .doctor import _default_config
from .throughput import dataset_of, gigabytes, seconds_of, throughput, weights_gigabytes

Key = tuple[str, str, str, str]  # dataset, split, recipe, method


@dataclass(frozen=True)
class Cost:
    """Seconds of a run (None: nothing is known), and what that rests on."""

    seconds: float | None
    basis: str


def key_of(spec: RunSpec) -> Key:
    """Return what runs of about equal cost share."""
    config = spec.config
    return config["dataset"], config["split"], digest(config["recipe"])[:10], config["method"]


def measured(runs: list[RunSpec], results: Path) -> tuple[dict[Key, list[float]], list[RunSpec]]:
    """Return the seconds of the complete runs, and the runs that are to be made."""
    seconds: dict[Key, list[float]] = defaultdict(list)
    todo = []
    for spec in runs:
        folder = results / spec.path
        try:
            RunFolder.open(folder)
            seconds[key_of(spec)].append(float(read_json(folder / "provenance.json")["seconds"]["total"]))
        except (MmlbenchError, KeyError, TypeError, ValueError):
            todo.append(spec)
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
        dataset, key = dataset_of(spec, index), (config["dataset"], digest(config["recipe"]))
        if key not in self.found:
            log(f"measuring {config['dataset']} / {config['recipe']['name']} on {device}")
            self.found[key] = throughput(dataset, config["recipe"], index, device, self.least)
        each = self.found[key]
        basis = f"{1 / sum(each.values()):.1f} samples/s on {device} here"
        return Cost(seconds_of(spec, dataset, each, index), basis)


def share_of(profile: Path) -> tuple[int, int]:
    """Return the runs that share an allocation, and its GPUs, by a SLURM profile; (1, 1) where there is none."""
    if not profile.exists():
        return 1, 1
    from .slurm_profile import read_profile

    found = read_profile(str(profile))
    train = found.asked("train").resources
    gpus = train.get("gpu", str(found.settings.gpus).rpartition(":")[2])
    share = train.get("runs_per_gpu") or found.settings.runs_per_gpu
    if not str(gpus).isdigit() or not str(share).isdigit():
        raise ConfigError(f"{profile}: {gpus} GPUs for {share} runs are no numbers", f"Correct {profile}")
    return max(1, int(share)), int(gpus)


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


def unprepared(runs: list[RunSpec], cache: Path) -> dict[str, RunSpec]:
    """Return the caches that are not there, each with a run that needs it, in the runs' order."""
    return {spec.cache: spec for spec in runs if not (cache / spec.cache / "manifest.json").exists()}


def to_prepare(runs: list[RunSpec], cache: Path, plugins: Sequence[str | Path] = ()) -> list[str]:
    """Return the commands that prepare what needs raw files and is not there, one a cache, in the runs' order."""
    index, found = load_index(), []
    where = [] if cache == Path("cache") else [f"--cache {shlex.quote(str(cache))}"]
    where += [f"--plugins {shlex.quote(str(folder))}" for folder in plugins]
    for spec in unprepared(runs, cache).values():
        if dataset_of(spec, index).needs_raw:
            entry = index.find("dataset", spec.config["dataset"])
            command = prepare_command(entry.name, spec.config["dataset_params"], entry.facts["params"])
            found.append(" ".join([command, *where]))
    return found


def estimate(arguments: argparse.Namespace) -> int:
    """Print a line per dataset, split and method, and the sums."""
    use_plugins(arguments.plugins)
    study = read_study(arguments.config or _default_config())
    seconds, todo = measured(list(study.runs), arguments.results)
    rates, groups = Rates(arguments.device, arguments.seconds), defaultdict(list)
    for spec in todo:
        groups[key_of(spec)].append(spec)
    rows = [("dataset", "split", "recipe", "method", "runs", "each", "together", "from")]
    total, unknown = 0.0, 0
    for key, runs in sorted(groups.items()):
        known = cost(key, seconds)
        one = rates.cost(runs[0]) if known.seconds is None else known
        each = clock(one.seconds) if one.seconds is not None else "?"
        together = clock(one.seconds * len(runs)) if one.seconds is not None else "?"
        rows.append((*key[:2], runs[0].config["recipe"]["name"], key[3], str(len(runs)), each, together, one.basis))
        total += (one.seconds or 0.0) * len(runs)
        unknown += len(runs) if one.seconds is None else 0
    for line in table(rows) if todo else []:
        sys.stdout.write(line + "\n")
    share, gpus = share_of(arguments.profile)
    if rates.found and choose_device(arguments.device, log).type == "cpu":
        gpus = 0  # hours of this processor say nothing of a GPU's
    sys.stdout.write(summary(len(study.runs), todo, total, unknown, allocations(todo, share), share, gpus) + "\n")
    sys.stdout.write(disk(list(study.runs), todo, arguments.cache) + "\n")
    if rates.found:
        sys.stdout.write(
            "Samples a second are of joint training on random inputs, on this machine; a stage costs what it trains. "
            "Reading the data, and what a method does beside, add to it. A finished run takes its place.\n"
        )
    commands = to_prepare(list(study.runs), arguments.cache, [*(arguments.plugins or []), *study.plugins])
    if commands:
        sys.stdout.write("\n  ".join(["Raw files have to be prepared before:", *commands]) + "\n")
    return 0


def allocations(todo: list[RunSpec], share: int) -> int:
    """Return how many SLURM jobs hold the runs, `share` to a job: those that reuse others follow these."""
    made_from = {spec.path: [source.path for source in spec.requires.values()] for spec in todo}

    def wave(path: PurePosixPath) -> int:
        return max((1 + wave(source) for source in made_from[path] if source in made_from), default=0)

    return sum(math.ceil(runs / share) for runs in Counter(map(wave, made_from)).values())


def summary(planned: int, todo: list[RunSpec], total: float, unknown: int, jobs: int, share: int, gpus: int) -> str:
    """Return the sums in words."""
    if not todo:
        return f"all {planned} runs are made" if planned > 1 else "the one run is made"
    least = "at least " * (share > 1)
    text = f"{len(todo)} of {plural(planned, 'run')} to make, in {least}{plural(jobs, 'SLURM job')}"
    text += f" of up to {share} runs" if share > 1 else ""
    if unknown == len(todo):
        command = "mmlbench train " + " ".join(todo[0].command)
        return f"{text}; nothing is measured yet: make one run there, then ask again: {command}"
    hours = total / 3600 / share * max(1, gpus)
    what = "GPU h" if gpus else "CPU h"
    guess = " if sharing costs nothing" if share > 1 else ""
    text += f"; {clock(total)} one after the other, {hours:.2f} {what}{guess}, waiting in the queue not counted"
    return text + (f"; not counted, as nothing is measured for it: {plural(unknown, 'run')}" if unknown else "")


def clock(seconds: float) -> str:
    """Return a time for people."""
    return (
        f"{seconds:.1f} s"
        if seconds < 90
        else f"{seconds / 60:.1f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def table(rows: list[Any]) -> list[str]:
    """Return the rows with their columns aligned."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
