"""HMDB51: actions, optical flow and colour frames."""

from __future__ import annotations

from pathlib import Path

from mmlbench import CacheWriter, Download, KnownLists, Listed, Sample, Split, register
from mmlbench.frontends import lists
from mmlbench.frontends.clips import folder_with, open_raw
from mmlbench.frontends.flow_clips import FRAMES, PUBLIC, PUBLISHED, FlowClipDataset, read_samples
from mmlbench.prepare.declared_counts import check_counts

from . import split_lists

LISTS = Path(__file__).resolve().parent / "lists"
SHA256 = {
    "train_list1.txt": "700b6e5f2852900112262690833ae8b8226c69b09c9f07e0df2426c1dc187ad7",
    "test_list1.txt": "5346fa19d1f3d8c3f8d80a552713fa958faea5481a5571f77710ca754ae464d5",
}
FIGURES = {
    "rows/train": 3570, "ids/train": 3570, "rows/test": 1530, "ids/test": 1530, "ids/train+test": 0,
    "groups/train": 1433, "groups/test": 590, "groups/train+test": 0,
}  # fmt: skip
NAMES = """brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor
fencing flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike
ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand swing_baseball
sword sword_exercise talk throw turn walk wave"""
CLASSES = NAMES.split()
VIDEOS, OFFICIAL = ("hmdb51_org", "videos"), "testTrainMulti_7030_splits"
SITE = "https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10"
TOLD = "torchvision/datasets/hmdb51.py of torchvision 0.28"
CLIPS = "a RAR with a RAR for each class: unpack all of them into the folder hmdb51_org, a folder a class"
SPLITS = f"a RAR; unpack it, so that the folder {OFFICIAL} lies beside the videos"
JOIN = f"linked from {PUBLIC[19:]}; instead of the videos"


@register
class HMDB51(FlowClipDataset):
    """HMDB51: clips of 51 actions from films and the web; TV-L1 optical flow and colour frames.

    Flow and frames are made and stored as those of UCF101, see docs/datasets/ucf101.md. Each split has 70 training
    and 30 test clips of a class, of about 6,766 in all; the others are in neither part. Split 1 is read from the
    shipped lists. Splits 2 and 3 are read from the official files, which are not at hand here: their form and counts
    are checked, not their content.

    `split1_val` holds out a tenth of the training clips of each class, so that no source is in two parts of a class.
    The source is what a clip's name has before its class. Of split 1, 133 sources have training clips of one class
    and test clips of another.
    Source: Kuehne et al., ICCV 2011; published frames: Feichtenhofer et al., CVPR 2016.
    """

    videos = VIDEOS
    class_names = tuple(CLASSES)
    splits = {
        "split1": Split("official", {"train": 3570, "test": 1530}, "source", known=KnownLists(SHA256, FIGURES)),
        "split1_val": Split(
            "split1, a tenth of train held out by source", {"train": 3213, "val": 357, "test": 1530}, "source"
        ),
        "split2": Split("official", {"train": 3570, "test": 1530}, "source"),
        "split3": Split("official", {"train": 3570, "test": 1530}, "source"),
    }
    licence = "unknown; clips from films and the web, for research"
    citation = "H. Kuehne, H. Jhuang, E. Garrote, T. Poggio and T. Serre, HMDB, ICCV 2011"
    origin = "the authors' site: hmdb51_org.rar and test_train_splits.rar; or the published jpegs_256 and tvl1_flow"
    needs_raw = True
    downloads = (
        Download(OFFICIAL, f"{SITE}/test_train_splits.rar", TOLD, how=SPLITS,
                 also=(f"*/{OFFICIAL}", "brush_hair_test_split2.txt", "*/brush_hair_test_split2.txt")),
        Download(VIDEOS[0], f"{SITE}/hmdb51_org.rar", TOLD, how=CLIPS, form="videos",
                 also=(f"*/{VIDEOS[0]}", VIDEOS[1], f"*/{VIDEOS[1]}")),
        *(Download(frames, PUBLIC, how=JOIN, form="published frames", also=(f"*/{frames}",)) for frames in PUBLISHED),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, find the frames, compute or read the flow, write the splits."""
        split1 = split_lists.read_split1(lists.official(out, LISTS, SHA256, " ", 2), CLASSES)
        folder = open_raw(raw, out, (*VIDEOS, FRAMES))
        where = out.options.lists or _official(folder)
        parts = split_lists.read_splits(split1, where, exact="other_lists" not in out.raw)
        lists.note(out, where, _further(split1), {})
        paths = {split_lists.identify(path)[0]: path for found in parts.values() for path in found}
        samples = _samples(parts)
        check_counts(out, samples, where)
        unnamed = split_lists.without_source(paths.values())
        if unnamed:
            out.notes.append(f"{len(unnamed)} clips' names tell no source, each counts as one ({unnamed[0]}, ...)")
        self.store(out, folder, samples, paths)

    def stored_rows(self) -> int:
        """Return at most how many rows there are: 6,766 clips may train, 3 x 1,530 and the validation part not."""
        return 6766 + (3 * 1530 + 357 if self.released("train") else 0)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the shipped split, and the others where the raw folder holds their lists."""
        rows = {name: lists.read_rows(LISTS / name, " ", 2) for name in SHA256}
        split1 = split_lists.read_split1(rows, CLASSES)
        hashes = lists.hashes(LISTS, SHA256, SHA256)
        parts = {"split1": split1, "split1_val": split1 | split_lists.hold_out(split1)}
        further = _further(split1)
        folder = folder_with(raw, (OFFICIAL, further[0]))
        if folder is not None and (_official(folder) / further[0]).exists():
            hashes |= lists.hashes(_official(folder), further, {})
            parts = split_lists.read_splits(split1, _official(folder), exact=False)
        return {split: Listed(found, hashes) for split, found in _samples(parts).items()}


def _official(folder: Path) -> Path:
    """Return the folder of the official files: beside the videos, or the folder itself."""
    return folder / OFFICIAL if (folder / OFFICIAL).is_dir() else folder


def _further(split1: dict[str, str]) -> list[str]:
    """Return the files of splits 2 and 3 for the classes of split 1."""
    classes = sorted({path.partition("/")[0] for path in split1})
    return [name for number in (2, 3) for name in split_lists.file_names(number, classes)]


def _samples(parts: dict[str, dict[str, str]]) -> dict[str, list[Sample]]:
    """Return split -> samples of split -> video -> part."""
    return read_samples("hmdb51", parts, CLASSES, split_lists.identify)
