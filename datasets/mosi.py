"""CMU-MOSI: opinions about films, spoken into a camera; text, audio and visual features that circulate."""

from __future__ import annotations

from mmlbench import Split, bounded, register

from ._sentiment_features import (
    ALIGNED,
    ORIGIN,
    UNALIGNED,
    SentimentFeatures,
    SentimentParams,
    downloads_of,
    modalities,
)


class MosiParams(SentimentParams):
    """Which file is read, and how wide its steps are."""

    audio_features: int = bounded(5, low=1, high=10_000, doc="numbers in a step of audio")
    visual_features: int = bounded(20, low=1, high=10_000, doc="numbers in a step of visual")


@register
class Mosi(SentimentFeatures):
    """CMU-MOSI: 2,199 sentences of 93 videos, each with a sentiment from -3 to 3; text, audio and visual.

    Read are the processed files that circulate (MMSA's and MulT's, aligned or not; `datasets/_sentiment_features.py`
    has their layouts). The file divides the samples; the videos of its parts should differ, and a note says so where
    they don't. Steps of zeros at either end are padding. `form=csd` reads the SDK's computational sequences instead.
    What is NaN or infinite becomes 0, and is counted.

    Two- and seven-class accuracies are metrics of the same runs: `acc2`, `acc2_nonzero`, `acc7`.
    Counts are not asserted: 1,284 is in MMSA's configuration, all three in a public loader of its files.
    Source: Zadeh et al., IEEE Intelligent Systems 2016.
    """

    Params = MosiParams
    params: MosiParams
    modalities = modalities(MosiParams())  # type: ignore[call-arg]
    splits = {
        "standard": Split(
            "as the file divides: the standard folds, by video",
            {"train": 1284, "val": 229, "test": 686},
            "video",
            exact=False,
        )
    }
    licence = "not stated in a source at hand; videos from YouTube"
    citation = "A. Zadeh et al., MOSI: Multimodal Corpus of Sentiment Intensity, 2016, arXiv:1606.06259"
    origin = ORIGIN
    files = {
        (ALIGNED, True): "aligned_50.pkl",
        (UNALIGNED, True): "unaligned_50.pkl",
        (ALIGNED, False): "mosi_data.pkl",
        (UNALIGNED, False): "mosi_data_noalign.pkl",
    }
    sequences = {
        "text": ("CMU_MOSI_TimestampedWordVectors.csd",),
        "audio": ("CMU_MOSI_COVAREP.csd",),
        "visual": ("CMU_MOSI_Visual_Facet_42.csd", "CMU_MOSI_Visual_Facet_41.csd"),
        "labels": ("CMU_MOSI_Opinion_Labels.csd",),
        "folds": ("cmu_mosi_std_folds.py",),
    }
    downloads = downloads_of(files)
