"""AVE: audio-visual events, 28 kinds, in ten-second clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlbench import CacheWriter, Download, KnownFault, KnownLists, Listed, Sample, Split, bounded, choice, register
from mmlbench.decode import video
from mmlbench.decode.fault import FaultKind
from mmlbench.frontends import clips, lists
from mmlbench.frontends.clips import AUDIO, STORED, ClipDataset, ClipParams, folder_with, modalities, open_raw
from mmlbench.prepare.declared_counts import check_counts
from mmlbench.prepare.items import fill
from mmlbench.prepare.task import Item

from .events import Event, clean, read_events

SHA256 = {
    "trainSet.txt": "ade6c2fafeb92e98793a8cd4588f792488bd4eae7dd64ac9e78e58f3ce5fd2d8",
    "valSet.txt": "76c3c51b67aacbbacd5708e17aab491638a5e9032f786adad1a13be55d9cb3ca",
    "testSet.txt": "e73c25a509bb38a691c1e08064af66d0512554f2fbc883cddd6d2a51ede8449d",
}
CLASSES = (
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane", "Race car, auto racing",
    "Female speech, woman speaking", "Helicopter", "Violin, fiddle", "Flute", "Ukulele", "Frying (food)", "Truck",
    "Shofar", "Motorcycle", "Acoustic guitar", "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus",
    "Chainsaw", "Cat", "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin",
)  # fmt: skip
COUNTS = {"train": 3338, "val": 402, "test": 402}
#: 27 videos stand twice in train with two labels; 8 are in train and test, 10 in train and val.
FIGURES = {
    "rows/train": 3338, "ids/train": 3311, "torn/train": 27, "rows/val": 402, "ids/val": 401,
    "rows/test": 402, "ids/train+test": 8, "rows/train+test": 9, "ids/train+val": 10, "ids/val+test": 0,
}  # fmt: skip
CLEAN = COUNTS | {"train": 3266, "val": 400}  # about: the lists are not at hand here
HOW = "a file on Google Drive, linked from the repository YapengTian/AVE-ECCV18; unpack it or hand the zip to --raw"


@register
class AVE(ClipDataset):
    """AVE: 4,143 clips of YouTube, 28 audio-visual events; the event's own seconds of sound and video.

    Frames: one for each second, both ends included; an event that gives fewer than `at_least` gets so many evenly
    spaced ones (DI-MML and PMR top up to ten with random ones). Audio: the same seconds; DI-MML stores it per video,
    so that of a video listed twice the sound is the last line's and the label the first's. Here each line is a sample
    of its own. Frames are stored at 224 x 224 without their aspect ratio; random crops are drawn as from 16:9.

    Splits: `official` as listed (27 videos twice in train with different labels, 8 videos in train and test, 10 in
    train and val); `clean` has no video in two parts and none with two labels: `prepare` says how many that leaves.
    Source: Tian et al., ECCV 2018; videos from YouTube. Licence: none stated.
    """

    class Params(ClipParams):
        audio: str = choice("psd_257x1004_16k", AUDIO, doc="audio front end")
        frames: int = bounded(10, low=1, high=32, doc="most frames kept of an event, evenly spaced beyond that")
        at_least: int = bounded(4, low=1, high=32, doc="frames of an event too short for one a second")

    params: Params
    aspect = 16 / 9
    modalities = modalities(Params(), aspect)  # type: ignore[call-arg]
    class_names = CLASSES
    splits = {
        "official": Split("the lines of the lists", COUNTS, "video", known=KnownLists(SHA256, FIGURES)),
        "clean": Split("no video in two parts, none with two labels", CLEAN, "video", exact=False),
    }
    licence = "none stated by the authors; videos from YouTube"
    citation = "Y. Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018, arXiv:1803.08842"
    origin = "AVE_Dataset.zip, linked from the repository YapengTian/AVE-ECCV18"
    needs_raw = True
    known_faults = (
        KnownFault("*", "some of its clips have no sound", FaultKind.NO_AUDIO),
        KnownFault("*", "some of its events have no sound", FaultKind.SILENT),
    )
    downloads = (
        Download("AVE_Dataset.zip", "https://github.com/YapengTian/AVE-ECCV18", how=HOW, lists=SHA256,
                 also=("trainSet.txt", "*/trainSet.txt")),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, decode the events, write the splits."""
        folder = open_raw(raw, out, ("AVE", "trainSet.txt"))
        found = read_events(lists.official(out, folder, SHA256, delimiter="&", columns=5), CLASSES)
        check_counts(out, self._videos(found), out.options.lists or folder)
        names = sorted({event.item for event in found})
        of = {event.item: event for event in found}
        items = [Item(n, (f"AVE/{of[n].video}.mp4",), (of[n].first, of[n].last)) for n in names]
        fill(out, folder, items, self.decode, STORED)
        row = {name: k for k, name in enumerate(names)}
        for split, chosen in {"official": found, "clean": clean(found)}.items():
            ids = clips.numbered([event.item for event in chosen])
            facts = [(e.part, e.label, (row[e.item],) * 2, e.video) for e in chosen]
            out.split(split, [Sample(name, *of_it) for name, of_it in zip(ids, facts, strict=True)])

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the lists of the raw folder, an id being a video's."""
        folder = folder_with(raw, ("trainSet.txt",))
        if folder is None:
            return {}
        found = read_events({name: lists.read_rows(folder / name, "&", 5) for name in SHA256}, CLASSES)
        hashes = lists.hashes(folder, SHA256, SHA256)
        return {split: Listed(samples, hashes) for split, samples in self._videos(found).items()}

    @staticmethod
    def _videos(found: list[Event]) -> dict[str, list[Sample]]:
        made = {"official": found, "clean": clean(found)}
        return {s: [Sample(e.video, e.part, e.label, (0, 0), e.video) for e in made[s]] for s in made}

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return an event's spectrogram and frames."""
        path, (first, last) = raw / item.files[0], item.about
        frames = video.at_seconds(path, first, last)
        if len(frames) < self.params.at_least:
            frames = video.evenly(path, self.params.at_least, first, last)
        audio = clips.sound(path, self.params, (first, last))
        clips.check_lengths(path)
        return {"audio": audio, "visual": clips.pictures(frames, self.params)}
