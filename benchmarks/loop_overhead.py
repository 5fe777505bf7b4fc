"""Measure what the training loop costs beyond a bare PyTorch loop of the same model doing the same work.

    python benchmarks/loop_overhead.py --pairs 7 --json loop_overhead.json

Both train joint training with the dataset's recipe: same resident data, batches, drawn views, optimiser and steps, no
evaluation between the epochs. They must end with the same weights, bit for bit, or the comparison is refused. What
ours does beyond: sliced logits, running accuracies, seeds for every step, a look at the losses, the clock for
checkpoints, FLOPs of the first step. Pairs are interleaved and take turns to begin.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmlbench.api.making import ensure_cache
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import Index, load_index
from mmlbench.study.run_config import RunConfig
from mmlbench.study.run_spec import Request, resolve
from mmlbench.system.device import choose_device
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData
from mmlbench.train.loop import Trainer
from mmlbench.train.machine import set_up_torch

log = logging.getLogger("loop_overhead")

TARGET = 1.10
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Work:
    """What both loops do: a run's configuration, and the train part on the device."""

    config: RunConfig
    cache: Cache
    index: Index
    train: PartData

    def model(self) -> Any:
        """Return the method with the seed's initial weights, on the device."""
        return build_method(self.config, self.cache, self.index, len(self.train)).to(self.train.device)


def prepare(arguments: argparse.Namespace, cache: Path) -> Work:
    """Prepare the data and lay it out on the device."""
    index, device = load_index(), choose_device(arguments.device, print)
    fields = {"epochs": arguments.epochs, "encoder": arguments.encoder}
    spec = resolve(Request(arguments.dataset, "joint", 0, recipe_params=fields), index)
    set_up_torch(device, spec.config.recipe.threads)
    opened = ensure_cache(arguments.dataset, {}, cache, index)
    train = PartData(opened, spec.config.split, "train", device, spec.config.seed_key)
    return Work(spec.config, opened, index, train)


def ours(work: Work) -> tuple[Callable[[], None], Any]:
    """Return our loop, ready to start, and its model."""
    model = work.model()
    data: dict[str, Any] = {"train": work.train, "val": (), "test": ()}
    return Trainer(model, data, work.config.recipe, work.config.seed_key).run, model


def batches(work: Work, order: Tensor, views: dict[str, Tensor]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Yield inputs in the order of the modalities, and labels."""
    for index in order.split(work.config.recipe.batch_size):
        inputs = []
        for name, resident in work.train.modalities.items():
            chosen = resident.stored.index_select(0, resident.first[index] + views[name][index])
            inputs.append(chosen.to(torch.float32).mul_(resident.gain).add_(resident.bias))
        yield inputs, work.train.label[index]


def bare(work: Work) -> tuple[Callable[[], None], Any]:
    """Return a loop as one would write it for this model alone, ready to start, and its model."""
    model, recipe = work.model(), work.config.recipe
    encoders, head = list(model.encoders.values()), model.head.out
    options = {"lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    optimizer = torch.optim.SGD(model.parameters(), **options)

    def run() -> None:
        model.train()
        for epoch in range(recipe.epochs):
            if epoch == round(recipe.drop_at * recipe.epochs):
                for group in optimizer.param_groups:
                    group["lr"] *= recipe.drop_factor
            total = torch.zeros((), device=work.train.device)
            for inputs, label in batches(work, work.train.order(epoch), work.train.views(epoch)):
                optimizer.zero_grad()
                features = [encoder(x) for encoder, x in zip(encoders, inputs, strict=True)]
                loss = cross_entropy(head(torch.cat(features, dim=1)), label)
                loss.backward()
                optimizer.step()
                total += loss.detach()
            total.item()

    return run, model


def timed(make: Callable[[Work], tuple[Callable[[], None], Any]], work: Work) -> tuple[float, float, Weights]:
    """Return wall seconds, CPU seconds and the weights at the end of a loop."""
    run, model = make(work)
    gc.collect()
    began, began_cpu = time.perf_counter(), time.process_time()
    run()
    if work.train.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - began_cpu, model.state_dict()


def pair(number: int, work: Work) -> dict[str, float]:
    """Time both loops, one after the other; the first to begin alternates.

    Raises:
        SystemExit: they did not do the same work.
    """
    found = {loop: timed(loop, work) for loop in ((ours, bare) if number % 2 else (bare, ours))}
    one, other = found[ours], found[bare]
    if any(not torch.equal(one[2][name], other[2][name]) for name in other[2]):
        raise SystemExit("the two loops end with different weights: they did not do the same work")
    seconds = {"ours": one[0], "bare": other[0], "ours_cpu": one[1], "bare_cpu": other[1]}
    return seconds | {"ratio": one[0] / other[0], "ratio_cpu": one[1] / other[1]}


def main() -> int:
    """Measure; return 1 where the median ratio is over the target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--dataset", default="avdigits")
    parser.add_argument("--encoder", default="small_cnn")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, help="folder of prepared caches; default: a temporary one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        work = prepare(arguments, arguments.cache or Path(scratch))
        pair(0, work)  # to be warm
        found = [pair(number, work) for number in range(1, arguments.pairs + 1)]
    ratios = {name: [one[name] for one in found] for name in ("ratio", "ratio_cpu")}
    for name, values in ratios.items():
        clock = "CPU time" if name.endswith("cpu") else "wall time"
        spread = f"{min(values):.3f} to {max(values):.3f} in {len(values)} pairs"
        log.info("%s, ours / bare: median %.3f, %s", clock, statistics.median(values), spread)
    each = statistics.median(one["bare"] for one in found)
    log.info("%d samples, %d epochs; the bare loop took %.2f s", len(work.train), arguments.epochs, each)
    if arguments.json:
        facts = {"dataset": arguments.dataset, "epochs": arguments.epochs, "device": arguments.device, "pairs": found}
        medians = {f"median_{name}": statistics.median(values) for name, values in ratios.items()}
        arguments.json.write_text(json.dumps(facts | medians, indent=1) + "\n", encoding="utf-8")
    return int(statistics.median(ratios["ratio"]) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
