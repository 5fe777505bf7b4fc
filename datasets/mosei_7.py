"""CMU-MOSEI with seven classes: the whole numbers from -3 to 3."""

from __future__ import annotations

from mmlbench import register

from ._sentiment_features import OfSeven
from .mosei import Mosei


@register
class Mosei7(OfSeven):
    """CMU-MOSEI as `mosei`, with seven classes for methods of classification: a sentiment is rounded as by `acc7`.

    Halves go to the even number. Counts are those of `mosei` and are not asserted.
    """

    modalities = Mosei.modalities
    splits = Mosei.splits
    licence, citation, origin = Mosei.licence, Mosei.citation, Mosei.origin
    files, sequences, downloads = Mosei.files, Mosei.sequences, Mosei.downloads
