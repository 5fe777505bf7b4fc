"""The audio inputs of this field's papers, each under its own name; they are not interchangeable. No torch.

Every function takes a mono waveform (samples,) float32 at the rate that `FRONT_ENDS` names, and returns a log
spectrogram (bands, frames) float32 of the shape in its name. One of no sample, or of several axes, is a DataError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import ConfigError, DataError, brief

_FLOOR = 1e-7
#: What lies beyond both ends of a recording whose frames are centred: librosa's ways since 0.10 and before.
PADS = ("zeros", "reflection")


def _check(waveform: np.ndarray) -> None:
    if np.ndim(waveform) != 1 or not len(waveform):
        what = f"a waveform of shape {list(np.shape(waveform))} has no spectrogram"
        raise DataError(what, "Give one channel, (samples,), of one sample at least")


def tiled(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Return a waveform repeated to a length and cut there, clipped to -1..1, float64."""
    _check(waveform)
    repeats = -(-samples // len(waveform))
    return np.clip(np.tile(waveform.astype(np.float64), repeats)[:samples], -1, 1)


def _frames(signal: np.ndarray, length: int, hop: int) -> np.ndarray:
    return sliding_window_view(signal, length)[::hop]


def stft_257x188(waveform: np.ndarray, pad: str = PADS[0]) -> np.ndarray:
    """Log magnitude of a short-time Fourier transform: 22,050 Hz, 3 s.

    Source: OGM-GE (Peng et al., CVPR 2022, `dataset/CramedDataset.py`), also AGM: tiled three times and cut to 3 s,
    clipped, `librosa.stft(n_fft=512, hop_length=353)`, log(abs + 1e-7), not standardised. A periodic Hann window of
    512; frames centred. `pad` is what lies beyond both ends, where the first and the last frame alone reach: zeros,
    librosa's default since 0.10, or the recording reflected, its default before (the paper's time). A clip under 1 s
    fills the 3 s here; there, three copies of it are all there is.
    """
    return _log_magnitude(tiled(waveform, 3 * 22050), 512, 353, pad)


def stft_129x626(waveform: np.ndarray, pad: str = PADS[0]) -> np.ndarray:
    """Log magnitude of a short-time Fourier transform: 16,000 Hz, the middle 5 s of 10.

    Source: OGM-GE (Peng et al., CVPR 2022, `dataset/VGGSoundDataset.py` @0f64793), also DGL: repeated to 10 s at
    least, 5 s of the first 10 drawn anew each time, in the test too, clipped, `librosa.stft(n_fft=256,
    hop_length=128)`, log(abs + 1e-7), not standardised. The 5 s are the middle ones here, so that a clip is the same
    in every epoch and every evaluation. `pad` is as for `stft_257x188`.
    """
    return _log_magnitude(tiled(waveform, 10 * 16000)[5 * 8000 : 15 * 8000], 256, 128, pad)


def _log_magnitude(signal: np.ndarray, length: int, hop: int, pad: str) -> np.ndarray:
    """Return log(abs + 1e-7) of centred frames under a periodic Hann window, (length / 2 + 1, frames) float32."""
    if pad not in PADS:
        raise ConfigError(f"nothing pads by {brief(pad)}", f"Name one of {', '.join(PADS)}")
    padded = np.pad(signal, length // 2, mode="reflect" if pad == "reflection" else "constant")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    spectrum = np.fft.rfft(_frames(padded, length, hop) * window, axis=1)
    return np.log(np.abs(spectrum) + _FLOOR).T.astype(np.float32)


def _psd(signal: np.ndarray, rate: int) -> np.ndarray:
    """Return log power densities (257, frames) as scipy.signal.spectrogram(nperseg=512, noverlap=353) has them.

    A periodic Tukey window (0.25), each frame's mean taken off, one-sided density per Hz.
    """
    place = np.arange(512) / 512
    edge = np.minimum(place, 1 - place) / 0.125
    window = np.where(edge < 1, 0.5 - 0.5 * np.cos(np.pi * edge), 1.0)
    frames = _frames(signal, 512, 159)
    spectrum = np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * window, axis=1)
    power = np.square(np.abs(spectrum)) / (rate * np.square(window).sum())
    power[:, 1:-1] *= 2
    return np.log(power + _FLOOR).T


def psd_257x299(waveform: np.ndarray) -> np.ndarray:
    """Log power spectral density: 16,000 Hz, 3 s.

    Source: `video_preprocessing.py` of PMR and DI-MML (the folder `Audio-299`), which is also what the PMR paper
    states; MMCosine likewise. Tiled three times and cut to 3 s, clipped, scipy.signal.spectrogram(nperseg=512,
    noverlap=353), log(abs + 1e-7), not standardised. A clip under 1 s fills the 3 s here.
    """
    return _psd(tiled(waveform, 3 * 16000), 16000).astype(np.float32)


def _standardised(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean()) / (values.std() + 1e-9)).astype(np.float32)


def psd_257x1004(waveform: np.ndarray) -> np.ndarray:
    """Log power spectral density, standardised clip by clip: 22,050 Hz, 160,000 samples (7.26 s).

    Source: DI-MML's CREMA-D loader (`Audio-1004`): librosa.load at its default rate, tiled ten times, the first
    160,000 samples (meant as 10 s of 16 kHz), clipped, the same scipy spectrogram, log, (x - mean) / (std + 1e-9).
    """
    return _standardised(_psd(tiled(waveform, 160_000), 22050))


def psd_257x1004_16k(waveform: np.ndarray) -> np.ndarray:
    """Log power spectral density, standardised clip by clip: 16,000 Hz, 10 s.

    Source: DI-MML's and PMR's AVE loader (`Audio-1004-SE`): as `psd_257x1004`, at 16,000 Hz.
    """
    return _standardised(_psd(tiled(waveform, 160_000), 16000))


def _mel_banks(count: int, low: float, high: float, fft: int, rate: int) -> np.ndarray:
    """Return Kaldi's triangular filters (count, fft / 2 + 1), linear on the mel scale 1127 ln(1 + f / 700).

    In float32, as Kaldi has them: a narrow filter may hold one bin at its edge, whose small weight then says more
    about rounding than about the scale.
    """
    bottom, top = (1127.0 * math.log(1 + edge / 700.0) for edge in (low, high))
    step = (top - bottom) / (count + 1)
    frequency = np.float32(rate / fft) * np.arange(fft // 2, dtype=np.float32)
    place = (np.float32(1127.0) * np.log(np.float32(1) + frequency / np.float32(700)))[None]
    band = np.arange(count, dtype=np.float32)[:, None]
    left, centre, right = (np.float32(bottom) + (band + np.float32(k)) * np.float32(step) for k in range(3))
    rising, falling = (place - left) / (centre - left), (right - place) / (right - centre)
    banks = np.maximum(0, np.minimum(rising, falling))
    return np.pad(banks, ((0, 0), (0, 1)))  # the highest bin has no weight


def fbank_128(waveform: np.ndarray) -> np.ndarray:
    """Kaldi's log mel energies, 128 bands of up to 1,024 frames of 10 ms: 16,000 Hz.

    Source: OGM-GE's `process_audio.py` for Kinetics-Sounds, also MMPareto, Diagnosing & Re-learning and
    BalanceBenchmark: the clip's mean taken off, frames of 25 ms, Hanning window, pre-emphasis 0.97, no dither, power
    spectrum of 512 points, 20 Hz to 8 kHz; padded with zeros or cut to 1,024 frames, (x + 4.503877) / (2 * 5.141276).
    Returned as (128, 1024), bands first, as the others are.
    """
    _check(waveform)
    signal = np.clip(waveform.astype(np.float64), -1, 1)
    signal = signal - signal.mean()
    if len(signal) < 400:
        signal = np.pad(signal, (0, 400 - len(signal)))
    frames = _frames(signal, 400, 160)[:1024]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    power = np.square(np.abs(np.fft.rfft((frames - 0.97 * before) * window, 512, axis=1)))
    energy = power @ _mel_banks(128, 20.0, 8000.0, 512, 16000).T
    logs = np.log(np.maximum(energy, np.finfo(np.float32).eps))
    padded = np.zeros((1024, 128))
    padded[: len(logs)] = logs
    return ((padded.T + 4.503877) / (2 * 5.141276)).astype(np.float32)


@dataclass(frozen=True)
class FrontEnd:
    """A front end with what the waveform must be: its rate in Hz; the shape of what it makes.

    `centred` tells whether frames reach beyond the ends of the recording, so that `pad` (of `PADS`) matters.
    """

    make: Callable[..., np.ndarray]
    rate: int
    shape: tuple[int, int]
    centred: bool = False

    def spectrogram(self, waveform: np.ndarray, pad: str) -> np.ndarray:
        """Return a waveform's log spectrogram, `shape`.

        Raises:
            DataError: the waveform has no sample, or several axes. ConfigError: it is `centred`, and `pad` is none.
        """
        return self.make(waveform, pad) if self.centred else self.make(waveform)


FRONT_ENDS = {
    "stft_257x188": FrontEnd(stft_257x188, 22050, (257, 188), centred=True),
    "stft_129x626": FrontEnd(stft_129x626, 16000, (129, 626), centred=True),
    "psd_257x299": FrontEnd(psd_257x299, 16000, (257, 299)),
    "psd_257x1004": FrontEnd(psd_257x1004, 22050, (257, 1004)),
    "psd_257x1004_16k": FrontEnd(psd_257x1004_16k, 16000, (257, 1004)),
    "fbank_128": FrontEnd(fbank_128, 16000, (128, 1024)),
}
