"""CMU-MOSEI: opinions of many speakers on many topics; text, audio and visual features that circulate."""

from __future__ import annotations

from mmlbench import Split, register

from ._sentiment_features import (
    ALIGNED,
    ORIGIN,
    UNALIGNED,
    SentimentFeatures,
    SentimentParams,
    downloads_of,
    modalities,
)


@register
class Mosei(SentimentFeatures):
    """CMU-MOSEI: sentences of YouTube monologues, each with a sentiment from -3 to 3; text, audio and visual.

    Read are the processed files that circulate (MMSA's and MulT's, aligned or not; `datasets/_sentiment_features.py`
    has their layouts). The file divides the samples; the videos of its parts should differ, and a note says so where
    they don't. Steps of zeros at either end are padding. `form=csd` reads the SDK's computational sequences instead.
    Audio has values of minus infinity in some copies: they become 0, as the published loaders have it, and are
    counted, as is all else that isn't finite.

    Two- and seven-class accuracies are metrics of the same runs: `acc2`, `acc2_nonzero`, `acc7`. `acc7` rounds to the
    nearest whole number; the CMU SDK's page on MOSEI has another rule, away from zero (see docs/datasets/mosei.md).
    Counts are not asserted: 16,326 is in MMSA's configuration, all three in a public loader.
    Source: Zadeh et al., ACL 2018.
    """

    modalities = modalities(SentimentParams())  # type: ignore[call-arg]
    splits = {
        "standard": Split(
            "as the file divides: the standard folds, by video",
            {"train": 16326, "val": 1871, "test": 4659},
            "video",
            exact=False,
        )
    }
    licence = "not stated in a source at hand; videos from YouTube"
    citation = "A. Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset, ACL 2018"
    origin = ORIGIN
    files = {
        (ALIGNED, True): "aligned_50.pkl",
        (UNALIGNED, True): "unaligned_50.pkl",
        (ALIGNED, False): "mosei_senti_data.pkl",
        (UNALIGNED, False): "mosei_senti_data_noalign.pkl",
    }
    sequences = {
        "text": ("CMU_MOSEI_TimestampedWordVectors.csd",),
        "audio": ("CMU_MOSEI_COVAREP.csd",),
        "visual": ("CMU_MOSEI_VisualFacet42.csd",),
        "labels": ("CMU_MOSEI_Labels.csd",),
        "folds": ("cmu_mosei_std_folds.py",),
    }
    downloads = downloads_of(files)
