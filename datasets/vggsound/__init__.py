"""VGGSound: 309 kinds of sounds that can be seen, in ten-second clips."""

from __future__ import annotations

from pathlib import Path

from mmlbench import CacheWriter, DataError, Download, KnownLists, Listed, Sample, Split, register
from mmlbench.frontends import lists
from mmlbench.frontends.clips import folder_with, open_raw
from mmlbench.frontends.missing import note_left_out, report_missing
from mmlbench.frontends.scattered import ANY, FoundClips, Scattered
from mmlbench.prepare.declared_counts import check_counts
from mmlbench.prepare.file_checks import spelt

from . import clip_lists
from .labels import CLASSES

LISTS = Path(__file__).resolve().parent / "lists"
SHA256 = {"test.csv": "ef8a4aedf87e9b7b67befc7148907ce060108ee59c9e5aeb869e4c0fb63d98fd"}
FIGURES = {"rows/test": 15446, "ids/test": 15446, "torn/test": 0, "groups/test": 14851}
#: What names the training clips, the first that is there.
WHOLE, TRAIN = "vggsound.csv", "train.csv"
HOME = "https://www.robots.ox.ac.uk/~vgg/data/vggsound/"
HOW = "from YouTube, or from a mirror; some videos are gone, and those have to be named"
READ = "README.md of Loie/VGGSound (a mirror)"


@register
class VGGSound(FoundClips):
    """VGGSound: about 200,000 ten-second clips of YouTube, 309 classes; audio and video.

    Clips lie anywhere below the raw folder as `<YouTube id>_<start>.mp4`, or as folders of frames and WAV files of
    these names, beside `vggsound.csv` (or `train.csv`). The test list is shipped. The list of the training clips is
    the user's, so its lines are checked and its number is not. Videos that are gone stop `prepare` with their list,
    and with their number by part and class. Frames: one a second (extracted ones as they are), thinned to `frames`.

    Splits: `official`; `official_val` holds out the training clips of one video in ten, by a hash of the video's id.
    Source: Chen et al., ICASSP 2020, CC BY 4.0; test list: OGM-GE, MIT.
    """

    class_names = CLASSES
    splits = {
        "official": Split(
            "the official lists", {"train": 184_000, "test": 15446}, "video", exact=False,
            known=KnownLists(SHA256, FIGURES),
        ),
        "official_val": Split(
            "official, one training video in ten held out", {"train": 165_600, "val": 18_400, "test": 15446}, "video",
            exact=False,
        ),
    }  # fmt: skip
    licence = "CC BY 4.0; the videos' copyright remains with their owners"
    citation = "H. Chen et al., VGG-Sound: A Large-scale Audio-Visual Dataset, ICASSP 2020, arXiv:2004.14368"
    origin = "YouTube, by the ids of vggsound.csv"
    needs_raw = True
    downloads = (
        Download(WHOLE, HOME, READ, licence="CC BY 4.0", how="linked from that page; or a list train.csv",
                 also=(f"*/{WHOLE}", TRAIN, f"*/{TRAIN}")),
        Download("clips", HOME, READ, licence="each video's own", how=HOW, also=(ANY,)),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, find and decode the clips, write the splits."""
        test = lists.official(out, LISTS, SHA256, columns=2)
        folder = open_raw(raw, out, ("*",) if out.options.lists else (WHOLE, TRAIN))
        where = out.options.lists or folder
        train = _train_list(where)
        lists.note(out, where, [train], {})
        samples = _samples(where / train, test["test.csv"])
        check_counts(out, samples, where)
        there = Scattered.find(folder)
        report_missing(out, samples["official"], there.has)
        self.store(out, folder, there, [sample.id for sample in samples["official"]])
        note_left_out(out, samples["official"])
        for split, found in samples.items():
            out.split(split, found)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the splits where the raw folder has the list of the training clips."""
        folder = folder_with(raw, (WHOLE, TRAIN))
        if folder is None:
            return {}
        train = _train_list(folder)
        hashes = lists.hashes(LISTS, SHA256, SHA256) | lists.hashes(folder, [train], {})
        found = _samples(folder / train, lists.read_rows(LISTS / "test.csv", columns=2))
        return {split: Listed(samples, hashes) for split, samples in found.items()}


def _train_list(folder: Path) -> str:
    """Return the name of the list of the training clips.

    Raises:
        DataError: there is none.
    """
    for name in (WHOLE, TRAIN):
        if (folder / name).exists():
            return name
    for name in (WHOLE, TRAIN):
        if spelt(folder, name) is not None:  # in another case, or a link to nothing
            lists.content(folder / name)
    raise DataError(f"vggsound: {folder} has no {WHOLE} and no {TRAIN}", "Fetch one (see: mmlbench fetch vggsound)")


def _samples(path: Path, test: list[list[str]]) -> dict[str, list[Sample]]:
    """Return split -> samples of the list of the training clips and of the rows of the test list."""
    rows = lists.read_rows(path, columns=2)
    read = clip_lists.read_whole(rows, CLASSES) if path.name == WHOLE else clip_lists.read_part(rows, CLASSES, TRAIN)
    if not any(clip.part == "train" for clip in read):
        raise DataError(f"{path} names no training clip", "Fetch the list again")
    return clip_lists.samples(clip_lists.join(read, clip_lists.read_part(test, CLASSES, "test.csv")), CLASSES)
