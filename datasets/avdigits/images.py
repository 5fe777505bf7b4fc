"""Pictures: small ones turned, scaled and placed on a larger canvas, with clutter, contrast and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mmlbench.system import compat


@dataclass(frozen=True)
class PictureRecipe:
    """How a small picture is shown.

    Args:
        size: side of the canvas, in pixels.
        rotation: largest rotation either way, in degrees.
        scale: range of the picture's side relative to the canvas; it lies anywhere it fits.
        contrast: range of the factor on the grey values.
        clutter: number of fragments of other pictures.
        fragment: side of a fragment in the source and on the canvas, in pixels.
        noise: standard deviation of the Gaussian pixel noise.
    """

    size: int = 32
    rotation: float = 25.0
    scale: tuple[float, float] = (0.55, 1.0)
    contrast: tuple[float, float] = (0.5, 1.0)
    clutter: int = 3
    fragment: tuple[int, int] = (4, 9)
    noise: float = 0.2


def render(pictures: np.ndarray, recipe: PictureRecipe, rng: np.random.Generator) -> np.ndarray:
    """Return one fresh view of each picture, (n, size, size) float32.

    Args:
        pictures: (n, h, w), grey values 0..1; the clutter is cut from these and from no others, so that a
            test picture never shows a piece of a training picture.
        recipe: ranges of everything that varies.
        rng: source of it.
    """
    canvas = _affine(pictures, recipe, rng)
    for _ in range(recipe.clutter):
        _add_fragments(canvas, pictures, recipe, rng)
    canvas *= rng.uniform(*recipe.contrast, (len(pictures), 1, 1)).astype(np.float32)
    canvas += np.float32(recipe.noise) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return canvas


def _affine(pictures: np.ndarray, recipe: PictureRecipe, rng: np.random.Generator) -> np.ndarray:
    """Rotate, scale and shift by bicubic interpolation; (n, size, size) float32 in 0..1."""
    import torch

    count = len(pictures)
    scale = rng.uniform(*recipe.scale, count)
    angle = np.deg2rad(rng.uniform(-recipe.rotation, recipe.rotation, count))
    shift = rng.uniform(-1, 1, (count, 2)) * (1 - scale)[:, None]
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # The map goes from the canvas back to the source, both in -1..1: undo the shift, then turn and enlarge.
    inverse = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    offset = -np.einsum("nij,nj->ni", inverse, shift)
    theta = torch.from_numpy(np.concatenate([inverse, offset[..., None]], 2).astype(np.float32))
    source = torch.from_numpy(np.ascontiguousarray(pictures, dtype=np.float32))[:, None]
    with compat.one_thread(), torch.no_grad():
        grid = torch.nn.functional.affine_grid(theta, [count, 1, recipe.size, recipe.size], align_corners=False)
        shown = torch.nn.functional.grid_sample(source, grid, mode="bicubic", align_corners=False)
        return shown[:, 0].clamp_(0, 1).numpy()


def _enlarge(source: int, target: int) -> np.ndarray:
    """Return the matrix (target, source) of linear interpolation between pixel centres, edges repeated."""
    centre = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(source)[None])).astype(np.float32)


def _add_fragments(canvas: np.ndarray, pictures: np.ndarray, recipe: PictureRecipe, rng: np.random.Generator) -> None:
    """Lay one enlarged fragment of a random picture on each canvas, in place; the brighter value wins."""
    count, (side, shown) = len(pictures), recipe.fragment
    windows = sliding_window_view(pictures, (side, side), axis=(1, 2))
    which = rng.integers(count, size=count)
    row, column = (rng.integers(extent, size=count) for extent in windows.shape[1:3])
    enlarge = _enlarge(side, shown)
    fragments = enlarge @ windows[which, row, column].astype(np.float32) @ enlarge.T
    top, left = rng.integers(recipe.size - shown, size=(2, count))
    offsets = np.arange(shown)
    place = (
        np.arange(count)[:, None, None],
        top[:, None, None] + offsets[None, :, None],
        left[:, None, None] + offsets[None, None, :],
    )
    canvas[place] = np.maximum(canvas[place], fragments)
