"""Sound: reading files, placing and masking recordings, log-mel spectrograms."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmlbench import DataError
from mmlbench.system import compat

#: Root mean square to which a recording is brought before noise is added.
LEVEL = 0.1


@dataclass(frozen=True)
class AudioRecipe:
    """A log-mel spectrogram.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of the Fourier transform, in samples.
        win_length: length of the Hann window, in samples.
        hop_length: step from frame to frame, in samples.
        n_mels: number of mel bands.
        f_min: lower edge of the lowest band, in Hz.
        f_max: upper edge of the highest band, in Hz.
        frames: frames that are kept.
        floor: added to the power before the logarithm.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    f_min: float
    f_max: float
    frames: int
    floor: float = 1e-4


def read_audio(path: Path, sample_rate: int, fix: str = "Fetch the file again") -> np.ndarray:
    """Return a mono FLAC or WAV file as float32 in -1..1, shape (samples,).

    Raises:
        DataError: the file is missing, unreadable, cut short, not mono, or has another sampling rate.
    """
    import soundfile

    if not path.is_file():
        raise DataError(f"{path}: no such file", fix)
    try:
        with soundfile.SoundFile(path) as file:
            expected, rate, channels = file.frames, file.samplerate, file.channels
            values = file.read(dtype="float32")
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise DataError(f"{path}: can't be read as sound ({error})", fix) from error
    if len(values) < expected or _riff_cut_short(path):
        raise DataError(f"{path}: cut short, {len(values)} samples could be read", fix)
    if rate != sample_rate or channels != 1:
        raise DataError(f"{path}: {rate} Hz and {channels} channels instead of {sample_rate} Hz mono", fix)
    return values


def _riff_cut_short(path: Path) -> bool:
    """Tell whether a WAV file is shorter than its header says; the decoder passes over that silently."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and struct.unpack("<I", head[4:])[0] + 8 > path.stat().st_size


def place(recording: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Return the recording at level `LEVEL` and at a random onset in silence of `length` samples.

    A recording longer than that keeps its beginning.
    """
    level = np.sqrt(np.mean(np.square(recording, dtype=np.float64))) + 1e-6
    kept = recording[:length] * np.float32(LEVEL / level)
    onset = int(rng.integers(0, length - len(kept) + 1))
    placed = np.zeros(length, np.float32)
    placed[onset : onset + len(kept)] = kept
    return placed


def coloured_noise(length: int, snr: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Return noise of `length` samples against a recording of level `LEVEL`.

    White noise passes a one-pole filter with a random pole in -0.2..0.95 (bright to dull); the signal-to-noise
    ratio is uniform over `snr`, in dB.
    """
    pole = rng.uniform(-0.2, 0.95)
    ratio = rng.uniform(*snr)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    angle = np.linspace(0, np.pi, len(spectrum))
    coloured = np.fft.irfft(spectrum / np.sqrt(1 + pole**2 - 2 * pole * np.cos(angle)), length)
    level = np.sqrt(np.mean(coloured**2))
    return (coloured * (LEVEL / level * 10 ** (-ratio / 20))).astype(np.float32)


def log_mel(waveforms: np.ndarray, recipe: AudioRecipe) -> np.ndarray:
    """Return log-mel spectrograms, (n, n_mels, frames) float32, of waveforms (n, samples) float32.

    torchaudio's MelSpectrogram (power, HTK scale, centred frames), one thread, so that the bits depend on
    nothing but the input.
    """
    import torch

    torchaudio = compat.torchaudio()
    transform = torchaudio.transforms.MelSpectrogram(
        recipe.sample_rate,
        n_fft=recipe.n_fft,
        win_length=recipe.win_length,
        hop_length=recipe.hop_length,
        n_mels=recipe.n_mels,
        f_min=recipe.f_min,
        f_max=recipe.f_max,
    )
    with compat.one_thread(), torch.no_grad():
        power = transform(torch.from_numpy(waveforms))
        if power.shape[-1] < recipe.frames:
            raise ValueError(f"{waveforms.shape[-1]} samples give {power.shape[-1]} of {recipe.frames} frames")
        return torch.log(power[..., : recipe.frames] + recipe.floor).numpy()
