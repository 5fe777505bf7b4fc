"""CMU-MOSI with seven classes: the whole numbers from -3 to 3."""

from __future__ import annotations

from mmlbench import register

from ._sentiment_features import OfSeven
from .mosi import Mosi, MosiParams


@register
class Mosi7(OfSeven):
    """CMU-MOSI as `mosi`, with seven classes for methods of classification: a sentiment is rounded as by `acc7`.

    Halves go to the even number. Counts are those of `mosi` and are not asserted.
    """

    Params = MosiParams
    params: MosiParams
    modalities = Mosi.modalities
    splits = Mosi.splits
    licence, citation, origin = Mosi.licence, Mosi.citation, Mosi.origin
    files, sequences, downloads = Mosi.files, Mosi.sequences, Mosi.downloads
