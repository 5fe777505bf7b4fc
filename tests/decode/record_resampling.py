"""Write `resampling.json`: what librosa and resampy themselves make of a few clips. Not a test.

    pip install librosa==0.11.0 soxr==1.1.0 resampy==0.2.2 six 'setuptools<81'
    python tests/decode/record_resampling.py

resampy 0.2.2 is the last whose `kaiser_best` is the filter that librosa had by default before 0.10; it comes as
source alone and needs six and pkg_resources. The values stand in for the libraries where these are not installed
(`pip install 'mmlbench[reference]'` brings newer ones).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import resampy
import soxr

#: (rate of the file, rate of the front end, seconds).
RATES = ((16000, 22050, 2.7), (44100, 22050, 1.3), (44100, 16000, 1.3), (48000, 16000, 1.3), (22050, 16000, 0.8))
#: Of a resampled clip each so many-th value is kept, and of a picture each so many-th row and column.
EACH, ROWS, COLUMNS = 997, 16, 17


def clip(seconds: float, rate: int) -> np.ndarray:
    """Return a rising tone in noise, as 16-bit samples read from a file, float32."""
    rng = np.random.default_rng(7)
    time = np.arange(int(seconds * rate)) / rate
    values = 0.4 * np.sin(2 * np.pi * (150 + 400 * time) * time) + 0.05 * rng.standard_normal(len(time))
    return (np.round(values * 32767) / 32768).astype(np.float32)


def picture(values: np.ndarray, pad: str) -> np.ndarray:
    """Return OGM-GE's log spectrogram by librosa."""
    tiled = np.clip(np.tile(values, 3)[: 22050 * 3], -1, 1)
    return np.log(np.abs(librosa.stft(tiled, n_fft=512, hop_length=353, pad_mode=pad)) + 1e-7)


def main() -> None:
    """Record both ways of resampling and both ways of padding."""
    versions = {"librosa": librosa.__version__, "resampy": resampy.__version__, "soxr": soxr.__version__}
    found: dict[str, Any] = {"versions": versions, "resampled": [], "pictures": []}
    for rate, target, seconds in RATES:
        for how in ("soxr_hq", "kaiser_best"):
            made = librosa.resample(clip(seconds, rate), orig_sr=rate, target_sr=target, res_type=how)
            kept = [float(f"{value:.9g}") for value in made[::EACH]]
            found["resampled"].append([how, rate, target, seconds, len(made), kept])
    for how, pad in (("soxr_hq", "constant"), ("kaiser_best", "reflect")):
        made = librosa.resample(clip(2.7, 16000), orig_sr=16000, target_sr=22050, res_type=how)
        kept = picture(made, pad)[::ROWS, ::COLUMNS]
        found["pictures"].append([how, pad, [[float(f"{value:.7g}") for value in row] for row in kept]])
    path = Path(__file__).with_name("resampling.json")
    lines = ",\n".join(f' "{name}": {json.dumps(value)}' for name, value in found.items())
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
