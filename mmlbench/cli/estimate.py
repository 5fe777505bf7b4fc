"""`mmlbench estimate`: what the runs still to be made will cost, from those that were made, else measured."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..api.estimate import Rates, allocations, cost, disk, key_of, measured, memory, to_prepare
from ..errors import ConfigError
from ..registry.index import load_index, use_plugins
from ..storage.words import plural
from ..study.config import read_study
from ..study.run_spec import RunSpec, encoder_label
from ..system.device import choose_device
from . import log
from .doctor import _default_config


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


def estimate(arguments: argparse.Namespace) -> int:
    """Print a line per dataset, split and method, and the sums."""
    use_plugins(arguments.plugins)
    study = read_study(arguments.config or _default_config())
    seconds, todo = measured(list(study.runs), arguments.results)
    rates, groups, index = Rates(arguments.device, arguments.seconds), defaultdict(list), load_index()
    for spec in todo:
        groups[key_of(spec)].append(spec)
    rows = [("dataset", "split", "recipe", "encoder", "method", "runs", "each", "together", "from")]
    total, unknown = 0.0, 0
    for key, runs in sorted(groups.items()):
        known = cost(key, seconds)
        one = rates.cost(runs[0]) if known.seconds is None else known
        each = clock(one.seconds) if one.seconds is not None else "?"
        together = clock(one.seconds * len(runs)) if one.seconds is not None else "?"
        recipe, encoder = runs[0].config.recipe.name, encoder_label(runs[0].config, index)
        rows.append((*key[:2], recipe, encoder, key[3], str(len(runs)), each, together, one.basis))
        total += (one.seconds or 0.0) * len(runs)
        unknown += len(runs) if one.seconds is None else 0
    for line in [*table(rows), *memory(todo)] if todo else []:
        sys.stdout.write(line + "\n")
    share, gpus = share_of(arguments.profile)
    if rates.found and choose_device(arguments.device, log).type == "cpu":
        gpus = 0  # hours of this processor say nothing of a GPU's
    sys.stdout.write(summary(len(study.runs), todo, total, unknown, allocations(todo, share), share, gpus) + "\n")
    sys.stdout.write(disk(list(study.runs), todo, arguments.cache) + "\n")
    if rates.found:
        sys.stdout.write(
            "Samples a second are of joint training on random inputs, measured for a few seconds on this machine as "
            "it is now: other work slows it down. A stage costs what it trains. Reading the data, and what a method "
            "does beside, add to it. A finished run takes its place.\n"
        )
    commands = to_prepare(list(study.runs), arguments.cache, [*(arguments.plugins or []), *study.plugins])
    if commands:
        sys.stdout.write("\n  ".join(["Raw files have to be prepared before:", *commands]) + "\n")
    return 0


def summary(planned: int, todo: list[RunSpec], total: float, unknown: int, jobs: int, share: int, gpus: int) -> str:
    """Return the sums in words."""
    if not todo:
        return f"all {planned} runs are made" if planned > 1 else "the one run is made"
    least = "at least " * (share > 1)
    text = f"{len(todo)} of {plural(planned, 'run')} to make, in {least}{plural(jobs, 'SLURM job')}"
    text += f" of up to {share} runs" if share > 1 else ""
    if unknown == len(todo):
        command = f"mmlbench train {shlex.join(todo[0].command)}"
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
