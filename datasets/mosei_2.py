"""CMU-MOSEI with two classes: negative or not."""

from __future__ import annotations

from mmlbench import choice, register

from ._sentiment_features import KEPT, ZEROS, OfTwo, SentimentParams
from .mosei import Mosei


class Mosei2Params(SentimentParams):
    """Which file is read, and what becomes of a sentiment of 0."""

    zero: str = choice(KEPT, ZEROS, doc="a sentiment of 0: not negative, or left out")


@register
class Mosei2(OfTwo):
    """CMU-MOSEI as `mosei`, with two classes for methods of classification: a sentiment below 0, or not.

    With `zero=left_out` the second class is *positive*. Papers use either and print both as two classes. Counts are
    those of `mosei` and are not asserted.
    """

    Params = Mosei2Params  # type: ignore[assignment]
    params: Mosei2Params
    modalities = Mosei.modalities
    splits = Mosei.splits
    licence, citation, origin = Mosei.licence, Mosei.citation, Mosei.origin
    files, sequences, downloads = Mosei.files, Mosei.sequences, Mosei.downloads
