"""Pictures: JPEG and PNG files to arrays, and the one way in which they are made to fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import need
from .faults import Fault


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """Return a picture as uint8, (h, w, 3) for 'RGB', (h, w) for 'L'.

    Raises:
        Fault: no picture, or cut short.
    """
    image = need("PIL.Image")
    try:
        with image.open(path) as opened:
            return np.asarray(opened.convert(mode))
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        reason = "is cut short" if "truncated" in str(error).lower() else "can't be read as a picture"
        raise Fault(path, f"{reason} ({str(error).split(chr(10))[0][:80]})") from error


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """Return a picture (h, w, C) or (h, w) at size x size, its aspect ratio given up, as uint8 (C, size, size).

    PIL's antialiased bilinear resize, which torchvision's `Resize((size, size))` is on PIL pictures: what the test
    transforms of OGM-GE, PMR and DI-MML do.
    """
    return resized(picture, size, size)


def shorter_side(picture: np.ndarray, size: int) -> tuple[int, int]:
    """Return (height, width) with the shorter side at `size` and the aspect ratio kept."""
    height, width = picture.shape[:2]
    factor = size / min(height, width)
    return max(size, round(height * factor)), max(size, round(width * factor))


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture at a size, uint8 (C, height, width)."""
    image = need("PIL.Image")
    if picture.shape[:2] != (height, width):
        shown: Any = image.fromarray(picture)
        picture = np.asarray(shown.resize((width, height), image.Resampling.BILINEAR))
    return np.ascontiguousarray(picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1))
