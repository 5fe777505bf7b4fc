"""What lengths and values of an array must be, so that no run is spoilt by them."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from ..modality import Modality


def views_lengths(lengths: np.ndarray, rows: int, modality: Modality, where: str) -> np.ndarray:
    """Return lengths as integers (rows, views), each from 1 to the steps of a padded view.

    Args:
        lengths: (rows,) or (rows, views). where: the array, for messages.

    Raises:
        DataError: they are of another shape or type, or one is out of range; with its row.
    """
    found, padded = lengths, modality.shape[0]
    found = np.repeat(found[:, None], modality.views, axis=1) if found.ndim == 1 else found
    if found.shape != (rows, modality.views) or found.dtype.kind not in "iu":
        what = f"{where}: the lengths are {found.dtype} {found.shape}, and the array has {rows} rows of "
        raise DataError(f"{what}{modality.views} views", "Give one whole number for each view")
    wrong = (found < 1) | (found > padded)
    if wrong.any():
        row = int(wrong.any(axis=1).argmax())
        length = int(found[row][wrong[row]][0])
        what = f"{where}: row {row} has the length {length}, and a row of the array has {padded} steps"
        fix = f"Lengths are 1 to {padded}: correct it, or make the array longer"
        if length < 1:
            fix = f"Lengths are 1 to {padded}: drop the sample from all arrays, for each one needs every modality"
        raise DataError(what, fix)
    return found


def check_values(
    modality: Modality, views: np.ndarray, lengths: np.ndarray | None, where: str, first: int = 0
) -> None:
    """Refuse rows that can't be used.

    Args:
        views: (rows, views, *shape) as stored. lengths: (rows, views). first: number of the first of these rows.

    Raises:
        DataError: with the row and what is wrong with it.
    """
    wrong = modality.type.wrong_value(modality, views, lengths)
    if wrong is not None:
        fix = "Correct it in the raw files, or drop the sample; else fix the dataset's prepare"
        raise DataError(f"{where}: row {first + wrong[0]} {wrong[1]}", fix)
