"""Renderings of a number that a network has to find: tone spectrograms, Gabor patches, pulses.

Everything else about a picture (place, phase, loudness, ...) is drawn afresh at each call, so that several
calls give several views of the same latent. What is drawn is separable, hence the products of small arrays.
"""

from __future__ import annotations

import numpy as np

BANDS, FRAMES = 32, 48
SIDE = 32
PULSE = 64


def _uniform(rng: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    return rng.uniform(low, high, (count, 1)).astype(np.float32)


def tones(latent: np.ndarray, classes: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return log-spectrogram-like pictures (n, 32, 48) float32 of a tone with three harmonics.

    The pitch band is affine in the latent; onset, length, level and timbre are random.

    Args:
        latent: (n,), in units of the class spacing; -1.5 .. classes + 0.5 fits on the picture.
        classes: number of classes, which sets the bands per class.
        noise: standard deviation of the Gaussian noise.
        rng: source of everything else.
    """
    count = len(latent)
    pitch = (4 + (latent[:, None] + 1.5) * (BANDS * 0.55) / (classes + 2)).astype(np.float32)
    level, tilt = _uniform(rng, 0.6, 1.4, count), _uniform(rng, 0.2, 0.8, count)
    onset = rng.integers(0, FRAMES // 2, (count, 1))
    length = rng.integers(FRAMES // 4, FRAMES // 2 + 1, (count, 1))
    band = np.arange(BANDS, dtype=np.float32)
    spectrum = sum(tilt**h * np.exp(-0.5 * ((band - (pitch + 9 * h)) / 0.8) ** 2) for h in range(3))
    time = np.arange(FRAMES)
    sounding = ((time >= onset) & (time < onset + length)).astype(np.float32)
    shown = (level * spectrum)[:, :, None] * sounding[:, None, :]
    return shown + np.float32(noise) * rng.standard_normal(shown.shape, dtype=np.float32)


def patches(angle: np.ndarray, noise: float, rings: int, rng: np.random.Generator) -> np.ndarray:
    """Return pictures (n, 32, 32) float32 of one Gabor patch each, among rings that have no orientation.

    Args:
        angle: (n,), orientation of the carrier in radians; a patch looks the same half a turn on.
        noise: standard deviation of the Gaussian pixel noise.
        rings: number of distractors.
        rng: source of place, size, phase, spatial frequency and contrast.
    """
    count = len(angle)
    axis = np.arange(SIDE, dtype=np.float32)
    contrast = _uniform(rng, 0.5, 1.0, count)[:, :, None]
    dx, dy = (axis - _uniform(rng, 8, SIDE - 8, count) for _ in range(2))
    spread, wave, phase = _carrier(rng, count, 2.5, 4.0)
    turn = angle[:, None].astype(np.float32)
    along_x, along_y = wave * np.cos(turn) * dx + phase, wave * np.sin(turn) * dy
    bump_x, bump_y = (np.exp(-0.5 * (d / spread) ** 2) for d in (dx, dy))
    # cos(a + b) = cos a cos b - sin a sin b: two outer products instead of a cosine per pixel.
    shown = (bump_y * np.cos(along_y))[:, :, None] * (bump_x * np.cos(along_x))[:, None, :]
    shown -= (bump_y * np.sin(along_y))[:, :, None] * (bump_x * np.sin(along_x))[:, None, :]
    for _ in range(rings):
        dx, dy = (axis - _uniform(rng, 2, SIDE - 2, count) for _ in range(2))
        spread, wave, phase = _carrier(rng, count, 1.75, 1.75)
        radius = np.sqrt(dy[:, :, None] ** 2 + dx[:, None, :] ** 2)
        bump_x, bump_y = (np.exp(-0.5 * (d / spread) ** 2) for d in (dx, dy))
        ring = np.cos(wave[:, :, None] * radius + phase[:, :, None])
        shown += ring * bump_y[:, :, None] * bump_x[:, None, :]
    shown *= contrast
    return shown + np.float32(noise) * rng.standard_normal(shown.shape, dtype=np.float32)


def _carrier(
    rng: np.random.Generator, count: int, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the spread (pixels), angular frequency (radians per pixel) and phase of a patch or ring."""
    frequency = _uniform(rng, 0.14, 0.24, count)
    phase = _uniform(rng, 0, 2 * np.pi, count)
    return _uniform(rng, low, high, count), np.float32(2 * np.pi) * frequency, phase


def pulses(latent: np.ndarray, classes: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return signals (n, 64) float32 that hold one burst each, whose frequency is affine in the latent.

    Args:
        latent: (n,), in units of the class spacing; -3 .. classes + 2 fits below the Nyquist frequency.
        classes: number of classes.
        noise: standard deviation of the Gaussian noise.
        rng: source of place, length, phase and level.
    """
    count = len(latent)
    frequency = (0.06 + 0.36 * (latent[:, None] + 3) / (classes + 5)).astype(np.float32)
    offset = np.arange(PULSE, dtype=np.float32) - _uniform(rng, 16, PULSE - 16, count)
    spread, level = _uniform(rng, 7, 10, count), _uniform(rng, 0.6, 1.4, count)
    phase = _uniform(rng, 0, 2 * np.pi, count)
    shown = level * np.exp(-0.5 * (offset / spread) ** 2) * np.cos(2 * np.pi * frequency * offset + phase)
    return (shown + noise * rng.standard_normal(shown.shape, dtype=np.float32)).astype(np.float32)
