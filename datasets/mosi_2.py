"""CMU-MOSI with two classes: negative or not."""

from __future__ import annotations

from mmlbench import choice, register

from ._sentiment_features import KEPT, ZEROS, OfTwo
from .mosi import Mosi, MosiParams


class Mosi2Params(MosiParams):
    """Which file is read, and what becomes of a sentiment of 0."""

    zero: str = choice(KEPT, ZEROS, doc="a sentiment of 0: not negative, or left out")


@register
class Mosi2(OfTwo):
    """CMU-MOSI as `mosi`, with two classes for methods of classification: a sentiment below 0, or not.

    With `zero=left_out` the second class is *positive*. Papers use either and print both as two classes. Counts are
    those of `mosi` and are not asserted.
    """

    Params = Mosi2Params  # type: ignore[assignment]
    params: Mosi2Params
    modalities = Mosi.modalities
    splits = Mosi.splits
    licence, citation, origin = Mosi.licence, Mosi.citation, Mosi.origin
    files, sequences, downloads = Mosi.files, Mosi.sequences, Mosi.downloads
