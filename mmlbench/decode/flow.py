"""Optical flow between neighbouring frames: TV-L1 by OpenCV on one thread, kept as 8 bit by one rule.

A displacement of d pixels a frame is stored as round((clip(d, -20, 20) + 20) * 255 / 40), u (to the right) and v
(down) alike: the bounds of the published `tvl1_flow` frames. So 0 lies between 127 and 128 (it is
stored as 128), and 255 - x is exactly the opposite displacement. Real value = stored * 40 / 255 - 20.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from . import need

#: Displacements beyond this many pixels a frame are clipped.
BOUND = 20.0
SCALE, OFFSET = 2 * BOUND / 255, -BOUND


def grey(frame: np.ndarray) -> np.ndarray:
    """Return an RGB frame uint8 (h, w, 3) as luma (ITU-R BT.601), uint8 (h, w)."""
    luma = frame[..., 0] * np.float32(0.299) + frame[..., 1] * np.float32(0.587) + frame[..., 2] * np.float32(0.114)
    return np.rint(luma).astype(np.uint8)


def tvl1(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return the flow from each frame to the next, float32 (n - 1, 2, h, w): u, v in pixels.

    Zach, Pock and Bischof, 2007, as OpenCV has it, at its defaults (5 scales by 0.8, 5 warps, lambda 0.15, theta 0.3,
    tau 0.25, epsilon 0.01). One thread and no vendor code: the same frames give the same bytes.

    Args:
        frames: grey, uint8 (h, w), at least two.
    """
    cv2 = need("cv2")
    if not hasattr(cv2, "optflow"):  # the plain OpenCV package, which hides the other
        need("cv2.optflow")
    cv2.setNumThreads(1)
    method = cv2.optflow.DualTVL1OpticalFlow_create()
    return np.stack([method.calc(a, b, None).transpose(2, 0, 1) for a, b in itertools.pairwise(frames)])


def to_bytes(flow: np.ndarray) -> np.ndarray:
    """Return displacements in pixels as 8 bit (see the head of this file)."""
    return np.rint((np.clip(flow, -BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)


def to_pixels(stored: np.ndarray) -> np.ndarray:
    """Return 8 bit flow as displacements in pixels, float32."""
    return stored.astype(np.float32) * np.float32(SCALE) + np.float32(OFFSET)


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture (h, w) or (h, w, 3) at a size, uint8: scaled to cover it, then its middle.

    A picture of the wanted height and a few columns more (340 against 341) loses columns only.
    """
    factor = cover(picture.shape[:2], height, width)
    if factor != 1.0:
        image = need("PIL.Image")
        rows, columns = (
            max(want, round(n * factor)) for want, n in zip((height, width), picture.shape[:2], strict=True)
        )
        shown = image.fromarray(picture).resize((columns, rows), image.Resampling.BILINEAR)
        picture = np.asarray(shown)
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def cover(shape: Sequence[int], height: int, width: int) -> float:
    """Return the factor by which a picture (h, w) has to be scaled to cover a size; 1 where it just does."""
    factor = max(height / shape[0], width / shape[1])
    just = shape[0] >= height and shape[1] >= width and (shape[0] == height or shape[1] == width)
    return 1.0 if just else factor


def rescaled(stored: np.ndarray, factor: float) -> np.ndarray:
    """Return 8 bit flow whose picture was scaled by a factor: displacements grow with it."""
    return stored if factor == 1.0 else to_bytes(to_pixels(stored) * np.float32(factor))
