"""Measure what checkpoints cost a training of ResNet-18 size, by the rule of today and by that of before.

    python benchmarks/checkpoints.py --pairs 3 --seconds 60 --json checkpoints.json

Joint training of two ResNet-18 encoders on 76 made-up samples goes three ways, interleaved, the first one in turn:

- none: without checkpoints.
- before: one every 10 s, packed by `numpy.savez` and written by the training thread, as up to version 0.1.
- now: as `mmlbench train` does.

All three take the same steps and must end with the same weights, bit for bit, or the comparison is refused. Told are
the share of the loop's time for which training stood still, the time beside that of a loop without checkpoints (what
the writing thread takes from training is in it), and the size of a checkpoint.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlbench.api.making import ensure_cache
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import Index, load_index
from mmlbench.storage.atomic import whole
from mmlbench.study.run_spec import RunSpec
from mmlbench.system.device import choose_device
from mmlbench.testing import tiny_spec
from mmlbench.train.build import build_method, on_device
from mmlbench.train.checkpoint import Unchanging
from mmlbench.train.data import PartData
from mmlbench.train.loop import Trainer
from mmlbench.train.machine import set_up_torch
from mmlbench.train.saving import SHARE, Checkpoints

log = logging.getLogger("checkpoints")

#: Seconds between two checkpoints before.
EVERY_S = 10.0
WAYS = ("none", "before", "now")


@dataclass
class Work:
    """What all ways do: the made-up data, its parts on the device."""

    cache: Cache
    index: Index
    data: dict[str, PartData]

    def trainer(self, epochs: int, **hooks: Any) -> Trainer:
        """Return a training from its first step."""
        device, config = self.data["train"].device, run(epochs).config
        method = on_device(build_method(config, self.cache, self.index, len(self.data["train"])), device)
        return Trainer(method, dict(self.data), config.recipe, config.seed_key, **hooks)


@dataclass
class Before:
    """Checkpoints as they were: every 10 s, each tensor copied into a zip archive by the training thread."""

    path: Path
    saved_at: float = field(default_factory=time.monotonic)
    stopped: float = 0.0
    written: int = 0

    def due(self) -> bool:
        """Tell whether to save now."""
        return time.monotonic() - self.saved_at >= EVERY_S

    def save(self, state: dict[str, Any], stopping: bool) -> None:
        """Write the state; return when it is on disk."""
        began, arrays = time.monotonic(), {}
        text = json.dumps(pack(state, arrays))
        with whole(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, tree=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
        self.saved_at = time.monotonic()
        self.stopped += self.saved_at - began
        self.written += 1


def pack(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return a tree as JSON values, its tensors as arrays."""
    if isinstance(tree, Unchanging):
        return pack(tree.tree, arrays)
    if isinstance(tree, Tensor):
        name = f"t{len(arrays)}"
        arrays[name] = tree.detach().cpu().numpy()
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, pack(value, arrays)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [pack(value, arrays) for value in tree]}
    return {"value": tree}


def run(epochs: int) -> RunSpec:
    """Return the run that is trained."""
    return tiny_spec("joint", encoder="resnet18", recipe={"optimizer": "sgd", "momentum": 0.9, "epochs": epochs})


def prepare(device: str, cache: Path) -> Work:
    """Make the data and lay it out on the device."""
    where = choose_device(device, print)
    config, index = run(1).config, load_index()
    set_up_torch(where, config.recipe.threads)
    opened = ensure_cache("tiny", {}, cache, index)
    data = {part: PartData(opened, config.split, part, where, config.seed_key) for part in ("train", "val", "test")}
    return Work(opened, index, data)


def trained(way: str, work: Work, epochs: int, folder: Path) -> dict[str, Any]:
    """Train one way; return seconds, how long training stood still, checkpoints, their size and the weights."""
    path, hooks = folder / f"{way}.npz", {}
    kept: Before | Checkpoints | None = None
    if way != "none":
        kept = Before(path) if way == "before" else Checkpoints(path)
        hooks = {"due": kept.due, "save": kept.save}
    trainer = work.trainer(epochs, **hooks)
    gc.collect()
    os.sync()  # what the way before has left to write
    began, used = time.perf_counter(), time.process_time()
    if isinstance(kept, Checkpoints):
        with kept:
            trainer.run()
    else:
        trainer.run()
    if work.data["train"].device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    found = {"seconds": seconds, "cpu_seconds": time.process_time() - used, "checkpoints": 0, "stopped": 0.0}
    if kept is not None:
        size = path.stat().st_size if path.exists() else 0
        found |= {"checkpoints": kept.written, "stopped": kept.stopped, "bytes": size}
        path.unlink(missing_ok=True)
    return found | {"weights": trainer.method.state_dict()}


def once(number: int, work: Work, epochs: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Train all ways, one after the other; the first one alternates.

    Raises:
        SystemExit: they did not do the same work.
    """
    order = WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]
    found = {way: trained(way, work, epochs, folder) for way in order}
    weights = {way: found[way].pop("weights") for way in WAYS}
    for way in WAYS[1:]:
        if any(not torch.equal(weights[way][name], value) for name, value in weights["none"].items()):
            raise SystemExit(f"the way {way!r} ends with other weights: they did not do the same work")
        found[way]["share"] = found[way]["stopped"] / found[way]["seconds"]
        found[way]["ratio"] = found[way]["seconds"] / found["none"]["seconds"]
        found[way]["cpu_ratio"] = found[way]["cpu_seconds"] / found["none"]["cpu_seconds"]
    return found


def spread(values: list[float], form: Callable[[float], str]) -> str:
    """Return a median and its spread."""
    return f"median {form(statistics.median(values))}, {form(min(values))} to {form(max(values))}"


def main() -> int:
    """Measure; return 1 where checkpoints take more than their share."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60, help="how long each training lasts, about")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; default: a temporary folder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch)
        work = prepare(arguments.device, folder / "cache")
        trained("none", work, 1, folder)  # to be warm
        epochs = max(1, round(2 * arguments.seconds / trained("none", work, 2, folder)["seconds"]))
        load = os.getloadavg()[0]
        found = [once(number, work, epochs, folder) for number in range(arguments.pairs)]
    for way in WAYS[1:]:
        values = {name: [one[way][name] for one in found] for name in found[0][way]}
        log.info("%s: training stood still for %s of the loop", way, spread(values["share"], "{:.2%}".format))
        log.info("%s: time beside none %s", way, spread(values["ratio"], "{:.3f}".format))
        log.info("%s: CPU time beside none %s", way, spread(values["cpu_ratio"], "{:.3f}".format))
        each = [
            stopped / count for stopped, count in zip(values["stopped"], values["checkpoints"], strict=True) if count
        ]
        if each:
            log.info("%s: training stood still for %s s a checkpoint", way, spread(each, "{:.3f}".format))
        size, counts = max(values["bytes"]) / 1e6, sorted({*map(int, values["checkpoints"])})
        log.info("%s: a checkpoint has %.0f MB; checkpoints in a loop: %s", way, size, counts)
    none = [one["none"]["seconds"] for one in found]
    log.info("%d loops each, %d epochs; without checkpoints %s s", len(found), epochs, spread(none, "{:.1f}".format))
    log.info("load of this machine: %.1f at the start, %.1f at the end", load, os.getloadavg()[0])
    share = statistics.median(one["now"]["share"] for one in found)
    if arguments.json:
        facts = {"device": arguments.device, "epochs": epochs, "load": load, "target": SHARE, "loops": found}
        arguments.json.write_text(json.dumps(facts | {"share": share}, indent=1) + "\n", encoding="utf-8")
    return int(share > SHARE)


if __name__ == "__main__":
    sys.exit(main())
