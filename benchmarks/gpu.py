"""Measure training on a synthetic full-size CREMA-D against its own step on random tensors, and the official way.

    python benchmarks/gpu.py --json gpu.json

7,442 clips (of which 6,698 train) of three frames of 224 pixels and a spectrogram of 257 x 299, recipe `dimml`, joint
and DI-MML, batches of 16 and 64. Three sides take turns, a pass each; the first turn only warms up:

- ours: the training loop with its loader; bytes resident on the device, crops and flips drawn and made in batches.
  On a GPU bfloat16 autocast and channels_last.
- random: the same training step, again and again, on random tensors that lie on the device already.
- official: a plain re-statement of the published loops on JPEG files and stored spectrograms: open, crop, flip and
  normalise frame by frame in `__getitem__`, a DataLoader whose workers are kept from pass to pass, float32,
  `loss.item()` after every step, torch's own settings.

Clocks are read when the device has finished. Without a GPU it runs small, to show that it runs, and judges nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader import Official, miniature
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmlbench.dataset import CacheWriter, Dataset, Modality, Sample, Split
from mmlbench.method import Batch, Method, Step
from mmlbench.prepare.cache import Cache, prepare
from mmlbench.registry.index import Index, load_index
from mmlbench.study.recipe import Recipe
from mmlbench.study.run_config import RunConfig
from mmlbench.study.run_spec import Request, resolve
from mmlbench.system.device import choose_device
from mmlbench.train import Stopped
from mmlbench.train.augmentation import augmentations_of
from mmlbench.train.build import build_method, on_device
from mmlbench.train.data import PartData, batch_bounds
from mmlbench.train.loop import Trainer
from mmlbench.train.machine import set_up_torch
from mmlbench.train.rng import generator

log = logging.getLogger("gpu")

AIMS = {"random": 0.85, "official": 10.0}
METHODS = {"joint": {}, "di_mml": {"duc_start": 0}}  # the contrast acts in every pass
FRAMES, AUDIO, FRONT_END = 3, (1, 257, 299), "psd_257x299"
#: Random batches that take turns.
POOL = 4


class Synthetic(Dataset):
    """CREMA-D's shapes, filled with noise."""

    name = "cremad"
    class_names = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    splits = {"official": Split("as many as in the official lists", {}, exact=False)}
    licence = citation = origin = "none: random bytes"

    def __init__(self, clips: int, side: int) -> None:
        super().__init__()
        self.clips = clips
        picture = Modality("visual", (3, side, side), "image", views=FRAMES)
        self.modalities = (Modality("audio", AUDIO, "spectrogram"), picture)

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Fill the arrays."""
        rng, held = np.random.default_rng(0), max(1, self.clips * 744 // 7442)
        audio = out.array("audio", self.clips, "float16")
        visual = out.array("visual", self.clips, "uint8", scale=1 / 255)
        for k in range(self.clips):
            audio[k] = rng.standard_normal(audio.shape[1:], dtype=np.float32)
            visual[k] = rng.integers(0, 256, visual.shape[1:], dtype=np.uint8)
        parts = ["test"] * held + ["train"] * (self.clips - held)
        out.split("official", [Sample(f"c{k}", part, k % 6, (k, k)) for k, part in enumerate(parts)])


@dataclass(frozen=True)
class Work:
    """The data of all sides, and how they are read."""

    cache: Cache
    index: Index
    train: PartData
    raw: Path
    files: int
    workers: int
    encoder: str

    @property
    def device(self) -> torch.device:
        """The device that trains."""
        return self.train.device

    def config(self, method: str, batch: int, epochs: int) -> RunConfig:
        """Return a run's configuration."""
        precision = "bf16" if self.device.type == "cuda" else "fp32"
        fields = {"epochs": epochs, "batch_size": batch, "image_noise": 0.0, "precision": precision}
        fields |= {"encoder": self.encoder} if self.encoder != "resnet18" else {}
        return resolve(Request("cremad", method, 0, "official", "dimml", METHODS[method], fields), self.index).config

    def model(self, config: RunConfig) -> Method:
        """Return the run's method on the CPU."""
        return build_method(config, self.cache, self.index, len(self.train))


def lay_out(
    clips: int, side: int, files: int, workers: int, encoder: str, device: torch.device, folder: Path
) -> Work:
    """Make the synthetic data below a folder, and lay the train part out on the device."""
    index = load_index()
    set_up_torch(device, threads=1)
    prepare(Synthetic(clips, side), "synthetic", folder, log.info)
    cache = Cache.open(folder / "cremad-synthetic")
    recipe = resolve(
        Request("cremad", "joint", 0, "official", "dimml", {}, {"image_noise": 0.0}), index
    ).config.recipe
    train = PartData(cache, "official", "train", device, ("cremad", 0), None, augmentations_of(recipe, cache))
    return Work(cache, index, train, miniature(folder, files), files, workers, encoder)


def wait(device: torch.device) -> None:
    """Wait until the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stepper(model: Method, recipe: Recipe) -> Callable[[Batch], Any]:
    """Return the training step of a method's first stage, as a function of a batch."""
    stage = model.stages()[0]
    trained: Sequence[nn.Module] = [model] if stage.train is None else stage.train
    model.requires_grad_(False).eval()
    for module in trained:
        module.requires_grad_(True).train()
    options = {"lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    optimizers = model.optimizers(stage, lambda parameters: torch.optim.SGD(parameters, **options))
    device = next(model.parameters()).device
    step = model.step = Step(stage, 1, 0, generator("random", device=device))
    return lambda batch: model.train_step(batch, step, optimizers)


def random_side(work: Work, config: RunConfig) -> Callable[[], float]:
    """Return a pass of as many steps as ours on random resident tensors; it returns clips a second."""
    size, device = config.recipe.batch_size, work.device
    step = stepper(on_device(work.model(config), device), config.recipe)
    batches = []
    for k in range(POOL):
        inputs = {"audio": torch.randn(size, *AUDIO, device=device)}
        inputs["visual"] = torch.randn(size, FRAMES, *work.cache.modality("visual").shape, device=device)
        label = torch.randint(6, (size,), device=device)
        batches.append(Batch(torch.arange(k * size, (k + 1) * size, device=device), inputs, label, {}))
    steps = len(batch_bounds(len(work.train), size))

    def run() -> float:
        wait(device)
        began = time.perf_counter()
        for k in range(steps):
            step(batches[k % POOL])
        wait(device)
        return steps * size / (time.perf_counter() - began)

    return run


@contextlib.contextmanager
def released_settings() -> Iterator[None]:
    """Give torch the settings of the published scripts: its own, and deterministic cuDNN."""
    cudnn, deterministic = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    before = cudnn.allow_tf32, cudnn.deterministic
    torch.use_deterministic_algorithms(False)
    cudnn.allow_tf32 = cudnn.deterministic = True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before
        if deterministic:  # asking for it imports the compiler
            torch.use_deterministic_algorithms(True)


def official_side(work: Work, config: RunConfig) -> Callable[[], float]:
    """Return a pass over the files in the published way; it returns clips a second."""
    recipe = replace(config.recipe, precision="fp32")
    model = work.model(replace(config, recipe=recipe)).to(work.device)
    step = stepper(model, recipe)
    names = sorted(path.name for path in (work.raw / "Image-01-FPS").iterdir())
    labels = [k % 6 for k in range(len(names))]
    data = Official(work.raw, names, labels, "stored", FRONT_END, work.cache.modality("visual").shape[-1])
    pinned, kept = work.device.type == "cuda", work.workers > 0
    options = {"num_workers": work.workers, "pin_memory": pinned, "persistent_workers": kept}
    loader = DataLoader(data, batch_size=recipe.batch_size, shuffle=True, **options)

    def to_device(values: Tensor) -> Tensor:
        return values.to(work.device)

    def run() -> float:
        with released_settings():
            wait(work.device)
            began, total = time.perf_counter(), 0.0
            for audio, frames, label in loader:
                inputs = {"audio": to_device(audio), "visual": to_device(frames)}
                found = step(Batch(torch.arange(len(label), device=work.device), inputs, to_device(label), {}))
                total += (found[0] if isinstance(found, tuple) else found).item()
            wait(work.device)
            return len(names) / (time.perf_counter() - began)

    return run


def measure(work: Work, method: str, batch: int, passes: int) -> dict[str, Any]:
    """Return clips a second of every side of one method and batch size, in turns, and the ratios to ours."""
    gc.collect()  # the models and the workers of the setting before
    config = work.config(method, batch, passes + 2)
    sides = {"random": random_side(work, config), "official": official_side(work, config)}
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *sides)}
    began = time.perf_counter()

    def lap(name: str) -> None:
        """Take ours when an epoch has trained; then let the others take their turn, before the next epoch."""
        nonlocal began
        if name == "train":
            wait(work.device)
            rates["ours"].append(len(work.train) / (time.perf_counter() - began))
            return
        for other, side in sides.items():
            rates[other].append(side())
        began = time.perf_counter()

    data: dict[str, Any] = {"train": work.train, "val": (), "test": ()}
    stop = {"asked_to_stop": lambda: len(rates["official"]) > passes, "lap": lap}
    model = on_device(work.model(config), work.device)
    with contextlib.suppress(Stopped):
        Trainer(model, data, config.recipe, config.seed_key, **stop).run()
    rates = {name: values[1:] for name, values in rates.items()}
    ratios = {name: [a / b for a, b in zip(rates["ours"], rates[name], strict=True)] for name in sides}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    found = {name: statistics.median(values) for name, values in ratios.items()}
    return {"method": method, "batch": batch, "rates": rates, "median": medians, "ratios": ratios, "ratio": found}


def told(found: dict[str, Any]) -> Iterator[str]:
    """Yield what was found in one setting, in words."""
    for name, values in found["rates"].items():
        where = f"{found['method']}, batch {found['batch']}, {name}"
        spread = f"{min(values):.1f} to {max(values):.1f} in {len(values)} passes"
        ratio = f"; ours / {name} {found['ratio'][name]:.2f} (aim {AIMS[name]:g})" if name in AIMS else ""
        yield f"{where}: {found['median'][name]:.1f} clips/s, {spread}{ratio}"


def main() -> int:
    """Measure; return 1 where an aim is missed on a GPU."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clips", type=int, help="default: 7442 on a GPU, else 14")
    parser.add_argument("--files", type=int, help="clips of the official side; default: 960 on a GPU, else 12")
    parser.add_argument("--side", type=int, help="pixels; default: 224 on a GPU, else 64")
    parser.add_argument("--batches", type=int, nargs="+", help="default: 16 64 on a GPU, else 4 8")
    parser.add_argument("--passes", type=int, help="after the first; default: 5 on a GPU, else 1")
    parser.add_argument("--workers", type=int, help="of the DataLoader; default: the cores up to 16 on a GPU, else 0")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--folder", type=Path, help="where the synthetic data goes (5 GB); default: a temporary one")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("PIL").setLevel(logging.WARNING)
    device = choose_device(given.device, print)
    gpu = device.type == "cuda"
    full: dict[str, Any] = {"clips": 7442, "files": 960, "side": 224, "passes": 5, "batches": [16, 64]}
    full["workers"] = min(16, os.cpu_count() or 1)
    small = {"clips": 14, "files": 12, "side": 64, "passes": 1, "batches": [4, 8], "workers": 0}
    size = {name: getattr(given, name) if getattr(given, name) is not None else value
            for name, value in (full if gpu else small).items()}  # fmt: skip
    passes, batches, found = size.pop("passes"), size.pop("batches"), []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        work = lay_out(**size, encoder=given.encoder, device=device, folder=Path(folder))
        for method in METHODS:
            for batch in batches:
                found.append(measure(work, method, batch, passes))
                for line in told(found[-1]):
                    log.info(line)
    name = torch.cuda.get_device_name(device) if gpu else "cpu"
    if not gpu:
        log.info("no GPU was at hand: sizes are small, and the aims are not judged")
    if given.json:
        facts = {"device": name, "gpu": gpu, "torch": torch.__version__, "aims": AIMS, **size, "found": found}
        given.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return int(gpu and any(one["ratio"][side] < aim for one in found for side, aim in AIMS.items()))


if __name__ == "__main__":
    sys.exit(main())
