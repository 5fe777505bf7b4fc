"""UCF101: actions, optical flow and colour frames."""

from __future__ import annotations

from pathlib import Path

from mmlbench import CacheWriter, Download, KnownLists, Listed, Sample, Split, register
from mmlbench.frontends import lists
from mmlbench.frontends.clips import folder_with, open_raw
from mmlbench.frontends.flow_clips import FRAMES, PUBLIC, PUBLISHED, FlowClipDataset, read_samples
from mmlbench.prepare.declared_counts import check_counts

from . import split_lists

VIDEOS, LISTS = "UCF-101", "ucfTrainTestlist"
SHA256 = {"trainlist01.txt": "33d2631d62e2bb17f4d31a67bdb446ae5ef31c04e72ce22a1256625527223ff1"}
FIGURES = {"rows/train": 9537, "rows/test": 3783, "ids/train+test": 0, "groups/train+test": 0}
#: Of testlist01.txt with the label column that DI-MML's testlist001.txt has.
LABELLED = "d66e57a2dea42514dec5bec8697401915a3f415d3331950f51420c942a980ded"
NAMES = """ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball
BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling BoxingPunchingBag
BoxingSpeedBag BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling CricketShot CuttingInKitchen Diving
Drumming Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing Haircut Hammering HammerThrow
HandstandPushups HandstandWalking HeadMassage HighJump HorseRace HorseRiding HulaHoop IceDancing JavelinThrow
JugglingBalls JumpingJack JumpRope Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks
ParallelBars PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano PlayingSitar
PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor RopeClimbing Rowing
SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving SoccerJuggling SoccerPenalty StillRings
SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars
VolleyballSpiking WalkingWithDog WallPushups WritingOnBoard YoYo"""
CLASSES = NAMES.split()
SITE = "https://www.crcv.ucf.edu/data/UCF101"
HAND = "download it from that page and unpack it"
JOIN = f"parts to be joined with `cat` and unzipped, linked from {PUBLIC[19:]}; instead of the videos"


@register
class UCF101(FlowClipDataset):
    """UCF101: 13,320 clips of 101 actions from YouTube; TV-L1 optical flow and colour frames.

    Flow is computed here from the official videos, or read from the published `tvl1_flow` frames; 8 bit over
    -20..20 pixels a frame either way, at a height of `size` and a width of `size` * 340 / 256 (the middle). Only
    what the published recipe can draw is kept: 10 neighbouring flow frames a clip, and 1 colour frame of these.
    DI-MML draws both after `seed(999)`, so that a clip's length decides and every epoch sees the same; evaluation
    takes the middle. A video that trains in one split and tests in another therefore has two rows.

    The 25 groups of a class (gNN) share a scene each; the official splits keep them apart, and so does the validation
    part of `split1_val`: the groups that no official test list names (g22 to g25).
    Source: Soomro et al., CRCV-TR-12-01, 2012; published frames: Feichtenhofer et al., CVPR 2016.
    """

    videos = (VIDEOS,)
    class_names = tuple(CLASSES)
    splits = {
        "split1": Split("official", {"train": 9537, "test": 3783}, "scene", known=KnownLists(SHA256, FIGURES)),
        "split1_val": Split("split1, groups g22-g25 held out", {"train": 7430, "val": 2107, "test": 3783}, "scene"),
        "split2": Split("official", {"train": 9586, "test": 3734}, "scene"),
        "split3": Split("official", {"train": 9624, "test": 3696}, "scene"),
    }
    licence = "none stated; videos from YouTube, for research"
    citation = "K. Soomro, A. R. Zamir and M. Shah, UCF101, CRCV-TR-12-01, 2012, arXiv:1212.0402"
    origin = f"{SITE}.php: UCF-101/*.avi and ucfTrainTestlist; or the published jpegs_256 and tvl1_flow"
    needs_raw = True
    downloads = (
        Download("UCF101TrainTestSplits-RecognitionTask.zip", f"{SITE}/UCF101TrainTestSplits-RecognitionTask.zip",
                 "url_checksums/ucf101.txt of tensorflow/datasets, commit 24211da", 113943, direct=True,
                 sha256="5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27", unpacks=LISTS,
                 lists=SHA256, also=(f"*/{LISTS}", "trainlist01.txt", "*/trainlist01.txt")),
        Download(VIDEOS, f"{SITE}.php", how=HAND, form="videos", size="about 7 GB", also=(f"*/{VIDEOS}",)),
        *(Download(frames, PUBLIC, how=JOIN, form="published frames", also=(f"*/{frames}",)) for frames in PUBLISHED),
    )  # fmt: skip

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the lists, find the frames, compute or read the flow, write the splits."""
        folder = open_raw(raw, out, (VIDEOS, FRAMES))
        lists.official(out, _lists(folder), SHA256, " ", 2)
        where = out.options.lists or _lists(folder)
        lists.note(out, where, split_lists.LISTS, SHA256)
        parts = split_lists.read_splits(where)
        if not split_lists.is_labelled(where / "testlist01.txt", CLASSES, LABELLED):
            lists.other_lists(out, where, ["testlist01.txt"])
        paths = {split_lists.identify(path)[0]: path for found in parts.values() for path in found}
        samples = _samples(parts)
        check_counts(out, samples, where)
        self.store(out, folder, samples, paths)

    def stored_rows(self) -> int:
        """Return the rows: every video trains in one split and tests or validates in another."""
        return 13320 * (2 if self.released("train") else 1)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the splits where the raw folder holds the lists."""
        folder = folder_with(raw, (LISTS, split_lists.LISTS[0]))
        if folder is None or not (_lists(folder) / split_lists.LISTS[0]).exists():
            return {}
        hashes = lists.hashes(where := _lists(folder), split_lists.LISTS, SHA256)
        return {split: Listed(one, hashes) for split, one in _samples(split_lists.read_splits(where)).items()}


def _samples(parts: dict[str, dict[str, str]]) -> dict[str, list[Sample]]:
    """Return split -> samples of split -> path -> part."""
    return read_samples("ucf101", parts, CLASSES, split_lists.identify)


def _lists(folder: Path) -> Path:
    """Return the folder of the lists: beside the videos, or the folder itself."""
    return folder / LISTS if (folder / LISTS).is_dir() else folder
