"""A clip to resample."""

from __future__ import annotations

import numpy as np


def clip(seconds: float, rate: int) -> np.ndarray:
    """Return what `clip` of `record_resampling.py` does; that module can't be imported without librosa."""
    rng = np.random.default_rng(7)
    time = np.arange(int(seconds * rate)) / rate
    values = 0.4 * np.sin(2 * np.pi * (150 + 400 * time) * time) + 0.05 * rng.standard_normal(len(time))
    return (np.round(values * 32767) / 32768).astype(np.float32)
