"""From one sampling rate to another as the field's code does it, which is what its version of librosa does. No torch.

A recording of 16,000 Hz that goes to 22,050 Hz holds nothing above 8 kHz; what a logarithm shows there is what the
filter lets through, so that the filter is part of the input and not a matter of taste.
"""

from __future__ import annotations

import math

import numpy as np

from . import need

#: Names of the two ways; the first is the default.
RESAMPLING = ("soxr_hq", "kaiser_best")
#: resampy's filter `kaiser_best` up to 0.2.2: zeros either side, entries a zero, roll-off, beta of the Kaiser window.
_ZEROS, _STEPS, _ROLLOFF, _BETA = 64, 512, 0.9475937167399596, 14.769656459379492


def resample(values: np.ndarray, rate: int, target: int, how: str = RESAMPLING[0]) -> np.ndarray:
    """Return a mono signal (samples,) at another rate, float32, ceil(samples * target / rate) long.

    `soxr_hq` is librosa's default since 0.10: the same call of the same library, so the same bits. `kaiser_best` was
    its default before, with the filter that resampy had up to 0.2.2 (0.3 changed it). Neither depends on threads.

    Args:
        rate, target: in Hz. how: one of `RESAMPLING`.

    Raises:
        DataError: soxr is wanted and not installed.
    """
    values = values.astype(np.float32, copy=False)
    if rate == target:
        return values
    if how == "kaiser_best":
        made = _kaiser_best(values, rate, target)
    else:
        made = need("soxr").resample(values, rate, target, quality=how)
    length = math.ceil(len(values) * (target / rate))
    return np.pad(made[:length], (0, max(0, length - len(made)))).astype(np.float32, copy=False)


def _kaiser_best(values: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Return what resampy 0.2.2 returns, bit by bit: floor(samples * target / rate) samples, float32.

    Each output is a sum over the inputs around it, from the nearest to the furthest, first those before, then those
    after; the weights are read off a table, straight lines between its entries. Two of its habits are kept: times are
    added up, and downwards the step through the table is cut to a whole number of entries. The sum is rounded to
    float32 at each step: that noise is all there is where the filter lets nothing through.
    """
    ratio = target / rate
    scale, length = min(1.0, ratio), int(len(values) * ratio)
    table, slope = _table(scale)
    step = int(scale * _STEPS)
    times = np.cumsum(np.append(0.0, np.full(max(0, length - 1), 1 / ratio)))
    nearest = times.astype(np.int64)
    before = scale * (times - nearest)
    reach = len(table) // step + 1
    padded = np.pad(values, reach)
    made = np.zeros(length, np.float32)
    for distance, first, way in ((before, nearest, -1), (scale - before, nearest + 1, 1)):
        place = distance * _STEPS
        entry = place.astype(np.int64)
        between, last = place - entry, (len(table) - entry) // step
        for k in range(int(last.max(initial=0))):
            at = np.minimum(entry + k * step, len(table) - 1)
            weight = np.where(k < last, table[at] + between * slope[at], 0.0)
            made = (made + weight * padded[first + reach + way * k]).astype(np.float32)
    return made


def _table(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the right half of the filter, times `scale`, and the step from each entry to the next."""
    count = _ZEROS * _STEPS
    table = _ROLLOFF * np.sinc(_ROLLOFF * np.linspace(0, _ZEROS, count + 1))
    table *= np.kaiser(2 * count + 1, _BETA)[count:] * scale
    return table, np.append(np.diff(table), 0.0)
