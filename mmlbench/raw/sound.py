"""Sound: from WAV files and from the audio stream of videos to mono float32 at one rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import need
from .faults import Fault
from .resampling import RESAMPLING, resample
from .video import broken, open_container, short

#: A louder sample than this makes a recording more than silence (-80 dB of full scale).
SILENCE = 1e-4


def read_sound(path: Path, rate: int, resampling: str = RESAMPLING[0], shortest: float = 0.1) -> np.ndarray:
    """Return a file's sound as mono float32 (samples,), its channels averaged, resampled to `rate`.

    WAV and FLAC are read by soundfile, everything else by PyAV. The values may exceed 1 a little; front ends clip.

    Args:
        rate: in Hz. resampling: see `resampling.resample`. shortest: seconds below which a clip is too short to use.

    Raises:
        Fault: unreadable, cut short, without audio stream, silent, too short.
    """
    values, found = _plain(path) if path.suffix.lower() in (".wav", ".flac") else _from_container(path)
    if len(values) < shortest * found:
        raise Fault(path, f"is too short: {len(values) / found:.2f} s of sound, {shortest:g} s are needed")
    if not np.isfinite(values).all():
        raise Fault(path, "holds samples that are no numbers")
    if np.abs(values).max() < SILENCE:
        raise Fault(path, "is silent")
    return resample(values, found, rate, resampling)


def _plain(path: Path) -> tuple[np.ndarray, int]:
    """Read WAV or FLAC: mono samples and their rate."""
    soundfile = need("soundfile")
    try:
        with soundfile.SoundFile(path) as file:
            expected, rate = file.frames, file.samplerate
            values = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise Fault(path, f"can't be read as sound ({str(error).rstrip('.')[:80]})") from error
    if len(values) < expected:
        raise Fault(path, f"is cut short: {len(values)} of {expected} samples")
    return values.mean(axis=1), rate


def _from_container(path: Path) -> tuple[np.ndarray, int]:
    """Read the first audio stream of a video: mono samples and their rate."""
    av = need("av")
    with open_container(path) as container:
        if not container.streams.audio:
            raise Fault(path, "has no audio stream")
        stream = container.streams.audio[0]
        rate = int(stream.rate)
        to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
        pieces: list[np.ndarray] = []
        try:
            for frame in container.decode(stream):
                pieces += [piece.to_ndarray() for piece in to_float.resample(frame)]
            pieces += [piece.to_ndarray() for piece in to_float.resample(None)]
        except broken() as error:
            at = sum(piece.shape[1] for piece in pieces) / rate
            raise Fault(path, f"can't be decoded after {at:.1f} s of sound ({short(error)})") from error
    if not pieces:
        raise Fault(path, "has an audio stream without sound")
    return np.concatenate(pieces, axis=1).mean(axis=0), rate
