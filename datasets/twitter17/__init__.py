"""Twitter-17: what is felt for a target in a tweet, by its text and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmlbench import Download, KnownLists, Split, register
from mmlbench.frontends.picture_text import PictureTextParams, modalities

from .._tweets import HAND, TEXTS, Tweets

LISTS = Path(__file__).resolve().parent / "lists"
SHA256 = {
    "train.csv": "63da2fa35911de77a275b6ec971bb66db84f0a3ea5e022aa2f2af3d6fb8a834b",
    "dev.csv": "21e2a869840ee10621359b9b437880caba7bca58200c7210f1c17a25a0711c4f",
    "test.csv": "5390432922370e25c50c9d33ac66313b212f8c318a450cf8a62969c1f12f6de1",
}
#: Groups are tweets, by their pictures.
FIGURES = {
    "rows/train": 3562, "rows/val": 1176, "rows/test": 1234, "ids/train": 3562, "ids/val": 1176, "ids/test": 1234,
    "groups/train": 1745, "groups/val": 577, "groups/test": 587, "groups/train+val": 0, "groups/train+test": 1,
    "groups/val+test": 0, "ids/train+val": 0, "ids/train+test": 0, "ids/val+test": 0,
}  # fmt: skip
PICTURES = "twitter2017_images"


@register
class Twitter17(Tweets):
    """Twitter-17: 5,972 targets in 2,908 tweets, each with a picture; 3 moods towards the target.

    A sample is a target. Where a tweet has several, its picture and its sentence come as often, with another part of
    the sentence marked. One picture, `16_05_02_82.jpg`, is in train and in test; no other tweet is in two parts.
    The target's words stand in their place between two marks; for a tokenizer the sentence with `$T$` and the target
    are a pair, as TomBERT gives them. Published codes show the picture of another tweet where one can't be read; here
    that stops `prepare`.
    Source: Yu et al., IJCAI 2019. Lists: TomBERT's (datasets/twitter17/lists).
    """

    modalities = modalities(PictureTextParams())  # type: ignore[call-arg]
    splits = {
        "official": Split(
            "the lists of TomBERT", {"train": 3562, "val": 1176, "test": 1234}, "tweet",
            known=KnownLists(SHA256, FIGURES),
        )
    }  # fmt: skip
    origin = "absa_data/twitter/*.tsv of the repository jefferyYu/TomBERT, and the pictures that its README links"
    pictures = PICTURES
    folders = ("twitter2017", "twitter", "absa_data/twitter2017", "absa_data/twitter", "")
    downloads = (
        Download("twitter2017", TEXTS, "the repository at commit e84f327: absa_data/twitter/*.tsv",
                 how="clone it, and take its folder absa_data/twitter",
                 also=("twitter", "absa_data/twitter", "*/twitter2017", "train.tsv", "*/train.tsv")),
        Download(PICTURES, TEXTS, "its README.md, commit 288a4fb", how=HAND, also=(f"*/{PICTURES}",)),
    )  # fmt: skip

    def facts(self) -> tuple[Path, Mapping[str, str]]:
        """Return what ships of the lists."""
        return LISTS, SHA256
