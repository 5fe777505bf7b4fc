"""Sound: from WAV files and from the audio stream of videos to mono float32 at one rate."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from . import need
from .containers import riff_chunks
from .fault import Fault, FaultKind
from .resampling import RESAMPLING, resample
from .video import broken, open_container, short

#: A louder sample than this makes a recording more than silence (-80 dB of full scale).
SILENCE = 1e-4
#: Zeros at the end of a WAV: seconds from which they are looked at, the block of a disk at which those of a broken
#: download begin, and the share of the recording's level above which sound does not end by itself.
_ZERO_TAIL, _DISK_BLOCK, _FULL_SOUND = 0.25, 512, 0.1


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
        raise Fault(path, "is silent", FaultKind.SILENT)
    return resample(values, found, rate, resampling)


def seconds(path: Path) -> float:
    """Return how long a WAV or FLAC file lasts.

    Raises:
        Fault: as `read_sound`.
    """
    values, rate = _plain(path)
    return len(values) / rate


def _plain(path: Path) -> tuple[np.ndarray, int]:
    """Read WAV or FLAC: mono samples and their rate."""
    soundfile = need("soundfile")
    start, block, streamed = _wav_layout(path)
    try:
        with soundfile.SoundFile(path if streamed is None else io.BytesIO(streamed)) as file:
            expected, rate = file.frames, file.samplerate
            values = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        raise Fault(path, f"can't be read as sound ({reason.rstrip('.')[:80]})") from error
    if len(values) < expected:
        raise Fault(path, f"is cut short: {len(values)} of {expected} samples")
    if start:
        _check_tail(path, values, rate, start, block)
    return values.mean(axis=1), rate


def _wav_layout(path: Path) -> tuple[int, int, bytes | None]:
    """Return where a WAV's samples begin, and the bytes of one for all channels; (0, 0) for another file.

    Third: the file with its length put right where its writer left 0, which the decoder would take for no sound.
    """
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return 0, 0, None
        chunks = {name: (at, length) for name, at, length in riff_chunks(file, path.stat().st_size)}
        if b"data" not in chunks or b"fmt " not in chunks:
            return 0, 0, None
        file.seek(chunks[b"fmt "][0] + 12)
        block = int.from_bytes(file.read(2), "little")
    start, length = chunks[b"data"]
    if length:
        return start, block, None
    whole = bytearray(path.read_bytes())
    whole[4:8], whole[start - 4 : start] = (n.to_bytes(4, "little") for n in (len(whole) - 8, len(whole) - start))
    return start, block, bytes(whole)


def _check_tail(path: Path, values: np.ndarray, rate: int, start: int, block: int) -> None:
    """Refuse a WAV whose end is zeros that a download reserved and did not fill.

    Silence at the end of a recording is zeros too. Those of a download begin at a block of the disk or in full sound.

    Args:
        values: (samples, channels). start: where they begin, in bytes. block: bytes of a sample of all channels.
    """
    sounding = np.flatnonzero(values.any(axis=1))
    kept = int(sounding[-1]) + 1 if len(sounding) else len(values)
    if len(values) - kept < _ZERO_TAIL * rate:
        return
    on_block = -(start + kept * block) % _DISK_BLOCK <= 2 * block
    level, at_end = (np.sqrt(np.mean(np.square(part))) for part in (values[:kept], values[:kept][-(rate // 50) :]))
    if on_block or at_end > _FULL_SOUND * level:
        zeros, whole = (len(values) - kept) / rate, len(values) / rate
        raise Fault(path, f"is cut short: its last {zeros:.2f} of {whole:.2f} s are zeros, where no sound ends")


def _from_container(path: Path) -> tuple[np.ndarray, int]:
    """Read the first audio stream of a video: mono samples and their rate."""
    av = need("av")
    with open_container(path) as container:
        if not container.streams.audio:
            raise Fault(path, "has no audio stream", FaultKind.NO_AUDIO)
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
