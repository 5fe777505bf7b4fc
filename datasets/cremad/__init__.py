"""CREMA-D: acted emotions, voice and face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlbench import (
    CacheWriter,
    DataError,
    Download,
    KnownFault,
    KnownLists,
    Listed,
    Sample,
    Split,
    bounded,
    register,
)
from mmlbench.errors import brief
from mmlbench.frontends import lists
from mmlbench.frontends.clips import (
    STORED,
    ClipDataset,
    ClipParams,
    decode_clip,
    frame_files,
    modalities,
    open_raw,
)  # fmt: skip
from mmlbench.frontends.divide import by_group
from mmlbench.prepare.declared_counts import check_counts
from mmlbench.prepare.file_checks import spelt
from mmlbench.prepare.items import fill
from mmlbench.prepare.task import Item

from .folds import COUNTS, read_folds

LISTS = Path(__file__).resolve().parent / "lists"
SHA256 = {
    "train.csv": "68d0d3fd253830328fc92c68f3cf2e215db8c5b86757ad9c5112d2c76ba68bde",
    "test.csv": "14866c99301fd56fb4a16f8a7048a8a6372a47069aee9f216443bc718be45f1f",
}
#: All 91 actors are in train and in test.
FIGURES = {"rows/train": 6698, "rows/test": 744, "ids/train+test": 0, "groups/test": 91, "groups/train+test": 91}
VALIDATION = {"validation.txt": "7e79b68d6606bd43009fb8495ddb174bf58a14d91f0dd4e5daca001cb48642b3"}
FOLDS = {"actor_folds.csv": "a7bc2dbbd6788dbd3a68cf7a1dd380d874ce2e3c5e4b7303e33174638d8b7550"}
LABELS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")  # OGM-GE's order
FLASH, WAV, FRAMES = "VideoFlash", "AudioWAV", "Image-01-FPS"
ASPECT, LONGEST = 480 / 360, 10.0  # the clips last 1.3 to 5 s
SEED = 50_101
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
HOME = "https://github.com/CheyneyComputerScience/CREMA-D"
MIRROR = "https://gitlab.com/cs-cooper-lab/crema-d-mirror (where GitHub says that the LFS budget is exceeded)"
#: As users of the dataset report them; nobody has checked them here.
KNOWN = (
    KnownFault("1076_MTI_SAD_XX", "it is silent and shows no face"),
    KnownFault("1076_MTI_NEU_XX", "its video can't be played"),
    KnownFault("1064_IEO_DIS_MD", "its video lasts 61 s and shows other emotions"),
    KnownFault("1064_TIE_SAD_XX", "its video names no duration"),
)
LFS = "clone the repository with Git LFS and run `git lfs pull`; without LFS each file is a text of three lines"


@register
class CremaD(ClipDataset):
    """CREMA-D: 7,442 clips of 91 actors, 12 sentences, 6 emotions; audio and face video.

    Frames: one in int(frames per second), the first included, as the extraction scripts of OGM-GE, PMR and DI-MML do;
    a clip that gives fewer than `at_least` gets so many evenly spaced ones instead (DI-MML and PMR top up with random
    frames, OGM-GE not at all). Frames already extracted (`Image-01-FPS/<clip>/`) are taken in the order of their
    names; the official loaders take them in the file system's. Frames are stored at 224 x 224 as the test transform
    shows them; random crops are drawn as from 480 x 360. Audio: the WAV, or the FLV's sound where there is none.

    Splits: `official` has all 91 actors in both parts; `speaker` has none in two. `actors.0` to `actors.9` are the
    published folds of MLB: each actor is tested in one, so that `split: actors` is one table over all actors. Clips
    whose files are missing are skipped by every published loader; here they stop `prepare`.
    Source: Cao et al., IEEE Trans. Affective Computing 2014; Open Database License. Lists: datasets/cremad/lists.
    """

    class Params(ClipParams):
        at_least: int = bounded(3, low=1, high=32, doc="frames of a clip too short for one a second")

    params: Params
    aspect = ASPECT
    modalities = modalities(Params(), ASPECT)  # type: ignore[call-arg]
    class_names = ("neutral", "happy", "sad", "fear", "disgust", "anger")
    splits = {
        "official": Split(
            "clips at random: every actor is in both parts",
            {"train": 6698, "test": 744},
            "actor",
            known=KnownLists(SHA256, FIGURES),
        ),
        "official_val": Split(
            "official, with the validation clips of Diagnosing & Re-learning",
            {"train": 5954, "val": 744, "test": 744},
            "actor",
        ),
        "speaker": Split("no actor in two parts", {"train": 5228, "val": 738, "test": 1476}, "actor"),
        **{f"actors.{k}": Split("a fold of ten: each actor tested in one", n, "actor") for k, n in enumerate(COUNTS)},
    }
    licence = "Open Database License 1.0 (data), Database Contents License 1.0"
    citation = (
        "H. Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, doi:10.1109/TAFFC.2014.2336244"
    )
    origin = "the repository CheyneyComputerScience/CREMA-D (Git LFS): VideoFlash/*.flv and AudioWAV/*.wav"
    needs_raw = True
    known_faults = KNOWN
    downloads = (
        Download(FLASH, HOME, licence="ODbL 1.0", how=LFS, mirror=MIRROR,
                 also=("*/VideoFlash", FRAMES, "*/Image-01-FPS")),
        Download(WAV, HOME, licence="ODbL 1.0", how=LFS, mirror=MIRROR, optional=True, also=("*/AudioWAV",)),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, decode the clips, write the splits."""
        rows = lists.official(out, LISTS, SHA256, columns=2)
        rows |= lists.official(out, LISTS, VALIDATION)
        rows |= lists.official(out, LISTS, FOLDS, columns=3)
        where = out.options.lists or LISTS
        samples = self._samples(rows, where)
        check_counts(out, samples, where)
        folder = open_raw(raw, out, (FLASH, FRAMES))
        frames = FLASH if (folder / FLASH).is_dir() else FRAMES
        items = [self._item(folder, sample.id, frames) for sample in samples["official"]]
        own = [item.id for item in items if item.about == ("flv",)]
        if own:
            out.notes.append(
                f"{len(own)} of {len(items)} clips take their sound from the FLV, {WAV} has no WAV of them"
            )
        fill(out, folder, items, self.decode, STORED)
        for split, found in samples.items():
            out.split(split, found)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the shipped lists."""
        rows = {name: lists.read_rows(LISTS / name) for name in (*SHA256, *VALIDATION, *FOLDS)}
        hashes = lists.hashes(LISTS, rows, SHA256 | VALIDATION | FOLDS)
        return {s: Listed(found, hashes) for s, found in self._samples(rows, LISTS).items()}

    def _samples(self, rows: dict[str, list[list[str]]], where: Path) -> dict[str, list[Sample]]:
        """Return split -> all samples in the order of their ids; `where` the lists lie."""
        named = [(r[0], r[1], file[:-4]) for file, found in rows.items() if file in SHA256 for r in found]
        wrong = [f"{part}.csv gives {name} the label {word!r}" for name, word, part in named if word not in LABELS]
        if wrong:
            raise DataError(f"{where}/{wrong[0]}", f"It takes {', '.join(LABELS)}")
        for file in SHA256:
            lists.once(where / file, (row[0] for row in rows[file]))
        both = sorted({r[0] for r in rows["train.csv"]} & {r[0] for r in rows["test.csv"]})
        if both:
            raise DataError(f"{where}: {both[0]} is in train.csv and in test.csv", "Fetch the lists again")
        named.sort()
        validation = {row[0] for row in rows["validation.txt"]}
        strange = sorted(validation - {row[0] for row in rows["train.csv"]})
        if strange:
            what = f"{where / 'validation.txt'} names {brief(strange[0])}, which train.csv does not"
            raise DataError(what, "Fetch the list again")
        label = [LABELS.index(word) for _, word, _ in named]
        actors = [name[:4] for name, _, _ in named]
        speaker = by_group(label, actors, SHARES, SEED)
        folds = read_folds(rows["actor_folds.csv"], actors)
        found: dict[str, list[Sample]] = {split: [] for split in self.splits}
        for row, (name, _, part) in enumerate(named):
            val = "val" if name in validation else part
            of_folds = (fold.get(actors[row], "train") for fold in folds)
            for split, chosen in zip(self.splits, (part, val, speaker[row], *of_folds), strict=True):
                found[split].append(Sample(name, chosen, label[row], (row, row), name[:4]))
        return found

    @staticmethod
    def _item(folder: Path, name: str, frames: str) -> Item:
        """Return a clip's files: its video (or frames), and its sound where that is a file of its own."""
        files = [f"{FLASH}/{name}.flv"]
        if frames == FRAMES:
            files = [f"{FRAMES}/{name}/{file}" for file in frame_files(folder / FRAMES / name) or ["00001.jpg"]]
        own = frames == FRAMES or spelt(folder / WAV, f"{name}.wav") is not None
        return Item(name, (*files, f"{WAV}/{name}.wav") if own else tuple(files), ("wav" if own else "flv",))

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return a clip's spectrogram and frames."""
        return decode_clip(raw, item, self.params, self.params.at_least, LONGEST)
