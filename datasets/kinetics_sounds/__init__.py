"""Kinetics-Sounds: the 31 classes of Kinetics that can be seen and heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlbench import CacheWriter, DataError, Download, KnownLists, Listed, Sample, Split, register
from mmlbench.frontends import lists
from mmlbench.frontends.clips import open_raw
from mmlbench.frontends.divide import hold_out
from mmlbench.frontends.scattered import ANY, FoundClips, Scattered, clip_key
from mmlbench.prepare.declared_counts import check_counts

LISTS = Path(__file__).resolve().parent / "lists"
SHA256 = {
    "my_train.txt": "e75bb596c30bf839adb3c2dc73b4a4617add66b36c2f416f96ac2e56a251751f",
    "my_test.txt": "3bb1fee2c9d30919cec6887a3e2fa27b7936cc3f46dff447d85ea21892a80a58",
}
FIGURES = {"rows/train": 14799, "rows/test": 2597, "ids/train+test": 0, "groups/train+test": 0}
CLASSES = 31
VAL_SHARE, SEED = 0.1, 50_301
HOW = "from YouTube, or from a mirror of Kinetics-400; some videos are gone, and those have to be named"


@register
class KineticsSounds(FoundClips):
    """Kinetics-Sounds: 17,396 ten-second clips of YouTube, 31 classes; audio and video.

    The lists are OGM-GE's: `<id>,10,<class number>` a line; they name no classes, so neither do we. Clips lie
    anywhere below the raw folder as `<id>_<start>.mp4` or `<id>_<start>_<end>.mp4`, or as folders of frames and WAV
    files of these names. Videos that are gone from YouTube stop `prepare` with their list, which --allow-missing then
    takes. Frames: one a second (extracted ones as they are), thinned to `frames`.
    OGM-GE's released loader can't run on this dataset; other papers use 15,000 / 1,900 / 1,900 clips: their numbers
    are not on this test set.

    Splits: `ogm` as listed, no validation part; `ogm_val` holds out a tenth of train, class by class.
    Source: Arandjelovic and Zisserman, ICCV 2017, on Kinetics-400 (CC BY 4.0 annotations); lists: OGM-GE, MIT.
    """

    class_names = tuple(f"class {k:02d}" for k in range(CLASSES))
    splits = {
        "ogm": Split("OGM-GE's lists", {"train": 14799, "test": 2597}, known=KnownLists(SHA256, FIGURES)),
        "ogm_val": Split("OGM-GE's lists, a tenth of train held out", {"train": 13320, "val": 1479, "test": 2597}),
    }
    licence = "annotations CC BY 4.0; videos from YouTube, each under its own terms"
    citation = "R. Arandjelovic and A. Zisserman, Look, Listen and Learn, ICCV 2017; W. Kay et al., arXiv:1705.06950"
    origin = "YouTube, by the ids of the shipped lists (datasets/kinetics_sounds/lists)"
    needs_raw = True
    downloads = (Download("clips", "https://www.youtube.com", how=HOW, licence="each video's own", also=(ANY,)),)

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, find and decode the clips, write the splits."""
        where = out.options.lists or LISTS
        samples = self._samples(lists.official(out, LISTS, SHA256, columns=3), where)
        check_counts(out, samples, where)
        folder = open_raw(raw, out, ("*",))
        self.store(out, folder, Scattered.find(folder), [sample.id for sample in samples["ogm"]])
        for split, found in samples.items():
            out.split(split, found)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the shipped lists."""
        found = self._samples({name: lists.read_rows(LISTS / name, columns=3) for name in SHA256}, LISTS)
        return {s: Listed(found[s], lists.hashes(LISTS, SHA256, SHA256)) for s in found}

    def _samples(self, rows: dict[str, list[list[str]]], where: Path) -> dict[str, list[Sample]]:
        """Return split -> all samples in the order of their ids; `where` the lists lie."""
        for name, found in rows.items():
            lists.once(where / name, (row[0] for row in found))
            wrong = next((r for r in found if not r[2].isdecimal() or int(r[2]) >= CLASSES), None)
            if wrong is not None:
                what = f"{where / name}: {wrong[0]} has no class from 0 to {CLASSES - 1}"
                raise DataError(what, "Fetch the list again")
            strange = next((row[0] for row in found if clip_key(row[0]) is None), None)
            if strange is not None:
                what = f"{where / name} names {strange!r}, which is no <YouTube id>_<start>"
                raise DataError(what, "Correct the list, or fetch it again")
        named = sorted((r[0], r[2], name[3:-4]) for name, found in rows.items() for r in found)
        train = [k for k, (_, _, part) in enumerate(named) if part == "train"]
        held = np.array(train)[hold_out([int(named[k][1]) for k in train], VAL_SHARE, SEED)]
        val = set(held.tolist())
        made: dict[str, list[Sample]] = {split: [] for split in self.splits}
        for k, (name, word, part) in enumerate(named):
            made["ogm"].append(Sample(name, part, int(word), (k, k)))
            made["ogm_val"].append(Sample(name, "val" if k in val else part, int(word), (k, k)))
        return made
