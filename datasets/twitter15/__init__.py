"""Twitter-15: what is felt for a target in a tweet, by its text and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmlbench import Download, KnownLists, Split, register
from mmlbench.frontends.picture_text import PictureTextParams, modalities

from .._tweets import HAND, TEXTS, Tweets

LISTS = Path(__file__).resolve().parent / "lists"
SHA256 = {
    "train.csv": "712f76f4641423b2f73ae40e78d19b7c1abbef2717f955bbaf53cd284c8bf941",
    "dev.csv": "4956070ca6adf5063fbccd6ed614c3b335a5f54a2439f610cbb0a3c31fd92d56",
    "test.csv": "9b9b2b552e6002b1862e71097ec2fb19794ddd5927c03d0f0515d42a6aab8269",
}
#: Groups are tweets, by their pictures.
FIGURES = {
    "rows/train": 3179, "rows/val": 1122, "rows/test": 1037, "ids/train": 3179, "ids/val": 1122, "ids/test": 1037,
    "groups/train": 2101, "groups/val": 727, "groups/test": 674, "groups/train+val": 0, "groups/train+test": 0,
    "groups/val+test": 0, "ids/train+val": 0, "ids/train+test": 0, "ids/val+test": 0,
}  # fmt: skip
PICTURES = "twitter2015_images"


@register
class Twitter15(Tweets):
    """Twitter-15: 5,338 targets in 3,502 tweets, each with a picture; 3 moods towards the target.

    A sample is a target. Where a tweet has several, its picture and its sentence come as often, with another part of
    the sentence marked. No tweet, by its picture, is in two parts.
    The target's words stand in their place between two marks; for a tokenizer the sentence with `$T$` and the target
    are a pair, as TomBERT gives them. Published codes show the picture of another tweet where one can't be read; here
    that stops `prepare`.
    Source: Yu et al., IJCAI 2019. Lists: TomBERT's (datasets/twitter15/lists).
    """

    modalities = modalities(PictureTextParams())  # type: ignore[call-arg]
    splits = {
        "official": Split(
            "the lists of TomBERT", {"train": 3179, "val": 1122, "test": 1037}, "tweet",
            known=KnownLists(SHA256, FIGURES),
        )
    }  # fmt: skip
    origin = "absa_data/twitter2015/*.tsv of the repository jefferyYu/TomBERT, and the pictures that its README links"
    pictures = PICTURES
    folders = ("twitter2015", "absa_data/twitter2015", "")
    downloads = (
        Download("twitter2015", TEXTS, "the repository at commit e84f327: absa_data/twitter2015/*.tsv",
                 how="clone it, and take its folder absa_data/twitter2015",
                 also=("absa_data/twitter2015", "*/twitter2015", "train.tsv", "*/train.tsv")),
        Download(PICTURES, TEXTS, "its README.md, commit 288a4fb", how=HAND, also=(f"*/{PICTURES}",)),
    )  # fmt: skip

    def facts(self) -> tuple[Path, Mapping[str, str]]:
        """Return what ships of the lists."""
        return LISTS, SHA256
