"""Measure our loader against the official code's way, on the same miniature at full-size frames.

    python benchmarks/loader.py --json loader.json

Same work on both sides up to the model-ready tensors: three frames of 224 pixels a sample, each with a crop
and a flip of its own, normalised, and the log spectrogram that DI-MML's loader reads. The official way opens
JPEG files of 480 x 360 in `__getitem__`, transforms frame by frame with torchvision, and collates in a
`DataLoader`; its spectrogram is computed from the WAV (`computed`, as OGM-GE does) or unpickled (`stored`, as
PMR and DI-MML do, the easier case). Ours draws and crops batches from the prepared cache. Passes take turns;
CPU seconds of one thread count, so that waiting does not.

    python benchmarks/loader.py --streamed --json streamed.json

measures something else: epochs of a cache larger than memory against the same epochs in memory. All that follows
`--streamed` are options of `streamed_epochs.py`, which says what is compared.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mmlbench.api.making import ensure_cache
from mmlbench.dataset import Options
from mmlbench.decode.sound import read_sound
from mmlbench.decode.spectrograms import FRONT_ENDS
from mmlbench.registry.index import load_index
from mmlbench.study.run_spec import Request, resolve
from mmlbench.system.compat import torchvision
from mmlbench.system.device import choose_device
from mmlbench.train.augmentation import augmentations_of
from mmlbench.train.data import PartData, batch_bounds

log = logging.getLogger("loader")
AUDIO, FRAMES, BATCH = "psd_257x1004", 3, 16
#: Samples per CPU second, ours / official: where the crops are made on the device the host has little left to do.
TARGETS = {"cpu": 4.0, "cuda": 20.0}


def miniature(folder: Path, clips: int) -> Path:
    """Write clips in the official layout: JPEG frames of 480 x 360, and sound; return the raw folder."""
    from PIL import Image

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    import mini_av

    rng, labels = np.random.default_rng(0), mini_av.EMOTIONS
    rows = []
    smooth = [np.asarray(Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((480, 360)))
              for _ in range(8)]  # fmt: skip
    for k in range(clips):
        name = f"{1001 + k % 10}_C{k:03d}_{labels[k % 6]}_XX"
        rows.append((name, labels[k % 6]))
        place = folder / "raw" / "Image-01-FPS" / name
        place.mkdir(parents=True)
        for j in range(FRAMES):
            Image.fromarray(smooth[(k + j) % 8]).save(place / f"{j + 1:05d}.jpg", quality=92)
        mini_av.write_wav(folder / "raw" / "AudioWAV" / f"{name}.wav", mini_av.tone(k % 6, 2.5, 16000, rng))
    held = clips // 6
    mini_av._rows(folder / "lists" / "train.csv", rows[held:])
    mini_av._rows(folder / "lists" / "test.csv", rows[:held])
    mini_av._rows(folder / "lists" / "validation.txt", [[name] for name, _ in rows[held : 2 * held]])
    mini_av.cremad_folds(folder / "lists", (name[:4] for name, _ in rows))
    return folder / "raw"


class Official(Dataset):
    """The clips as the official loaders read them, one at a time."""

    def __init__(
        self, raw: Path, ids: list[str], labels: list[int], sound: str, front: str = AUDIO, side: int = 224
    ) -> None:
        from PIL import Image

        transforms = torchvision().transforms
        self.raw, self.ids, self.labels, self.sound, self.open = raw, ids, labels, sound, Image.open
        self.front = FRONT_ENDS[front]
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(side),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )
        for name in ids if sound == "stored" else ():
            (raw / f"{name}.pkl").write_bytes(pickle.dumps(self.spectrogram(name)))

    def spectrogram(self, name: str) -> np.ndarray:
        """Compute a clip's spectrogram from its WAV."""
        return self.front.make(read_sound(self.raw / "AudioWAV" / f"{name}.wav", self.front.rate))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        name = self.ids[index]
        audio = pickle.loads((self.raw / f"{name}.pkl").read_bytes()) if self.sound == "stored" else (
            self.spectrogram(name))  # fmt: skip
        files = sorted((self.raw / "Image-01-FPS" / name).iterdir())[:FRAMES]
        frames = torch.stack([self.transform(self.open(file).convert("RGB")) for file in files])
        return torch.from_numpy(audio)[None], frames, self.labels[index]


def official_pass(data: Official) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (audio, frames) of one epoch."""
    for audio, frames, _ in DataLoader(data, batch_size=BATCH, shuffle=True):
        yield audio, frames


def our_pass(train: PartData, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (audio, frames) of one epoch."""
    order, views = train.order(epoch), train.views(epoch)
    for start, stop in batch_bounds(len(train), BATCH):
        inputs = train.batch(order[start:stop], views).inputs
        yield inputs["audio"], inputs["visual"]


def rate(batches: Iterator[tuple[torch.Tensor, torch.Tensor]], samples: int, device: torch.device) -> float:
    """Return samples per CPU second of a pass; the shapes are checked, so that both sides do the same work."""
    began, seen = time.process_time(), 0
    for audio, frames in batches:
        assert audio.shape[1:] == (1, *FRONT_ENDS[AUDIO].shape) and frames.shape[1:] == (FRAMES, 3, 224, 224)
        seen += len(audio)
    if device.type == "cuda":  # asleep: a plain synchronize burns the CPU seconds that are counted
        done = torch.cuda.Event(blocking=True)
        done.record()
        done.synchronize()
    assert seen == samples
    return samples / (time.process_time() - began)


def measure(clips: int, passes: int, device: torch.device, folder: Path) -> dict[str, Any]:
    """Return the rates of both sides, in turns, and their ratios."""
    raw = miniature(folder, clips)
    index = load_index()
    fields = {"image_noise": 0.0}
    config = resolve(Request("cremad", "joint", 0, "official", "dimml", {}, fields), index).config
    options = Options(lists=folder / "lists")
    cache = ensure_cache("cremad", config.dataset_params, folder / "cache", index, raw, options=options)
    augmentations = augmentations_of(config.recipe, cache)
    train = PartData(cache, "official", "train", device, ("cremad", 0), None, augmentations)
    ids, labels = train.ids.tolist(), train.label.tolist()
    sides: dict[str, Callable[[int], Any]] = {"ours": lambda k: our_pass(train, k)}
    for sound in ("stored", "computed"):
        data = Official(raw, ids, labels, sound)
        sides[f"official, sound {sound}"] = lambda k, data=data: official_pass(data)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(-1, passes):
        for name, side in sides.items():
            value = rate(side(k), len(ids), device)
            if k >= 0:  # the first pass warms caches up
                found[name].append(value)
    medians = {name: statistics.median(values) for name, values in found.items()}
    ratios = {name: medians["ours"] / value for name, value in medians.items() if name != "ours"}
    facts = {"device": str(device), "target": TARGETS[device.type], "samples": len(ids)}
    return facts | {"rates": found, "median": medians, "ratio": ratios}


def main() -> int:
    """Measure, say it, and fail below the target."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--streamed", nargs=argparse.REMAINDER, help="streamed epochs, with these options")
    arguments = parser.parse_args()
    if arguments.streamed is not None:
        import streamed_epochs  # beside this file

        return int(streamed_epochs.main(arguments.streamed))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("PIL").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.clips, arguments.passes, choose_device(arguments.device, print), Path(folder))
    for name, value in found["median"].items():
        log.info("%-26s %8.1f samples per CPU second", name, value)
    for name, value in found["ratio"].items():
        log.info("ours / %-19s %8.1f (target %.0f)", name, value, found["target"])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(min(found["ratio"].values()) < found["target"])


if __name__ == "__main__":
    sys.exit(main())
