"""The audio front ends against independent implementations, to 1e-4 in log amplitude."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from mmlbench.decode import spectrograms
from mmlbench.decode.spectrograms import FRONT_ENDS
from mmlbench.errors import ConfigError, DataError
from mmlbench.files import File
from mmlbench.frontends.clips import ClipDataset, ClipParams
from mmlbench.params import file_field
from mmlbench.system import compat

TOLERANCE = 1e-4
# fmt: off
LIBROSA = np.array([
    0.1666883, -0.0311588, 0.8263437, 0.3301263, 0.1200222, -1.058757, 4.526294, 0.0004224613, 0.9751591, -0.2876038,
    1.213721, 0.7418121, -1.060351, 0.2277038, 0.9878285, 0.3946771, -1.024308, -0.6543342, 0.1894484, 0.3980622,
    -1.10438, 0.2462416, 0.3274207, 0.04654079, -0.8892124, -1.168123, -0.6906255, 0.007556885, 0.125814, -0.223443,
    -0.147851, 0.1573293, 0.8850982, 0.5765816, -1.438737, 0.975178,
])
# fmt: on


def waveform(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """Return a rising tone in noise, louder than 1 in places."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    clean = 0.9 * np.sin(2 * np.pi * (150 + 400 * time) * time) * np.minimum(1, 4 * time)
    return (clean + 0.1 * rng.standard_normal(len(time))).astype(np.float32)


def repeated(values: np.ndarray, samples: int) -> np.ndarray:
    """Return a waveform over and over to a length, clipped."""
    return np.clip(np.resize(values.astype(np.float64), samples), -1, 1)


def scipy_psd(values: np.ndarray, samples: int, rate: int, standardise: bool) -> np.ndarray:
    """Return what PMR's and DI-MML's scripts compute, by scipy itself."""
    power = scipy.signal.spectrogram(repeated(values, samples), rate, nperseg=512, noverlap=353)[2]
    logs = np.log(np.abs(power) + 1e-7)
    return (logs - logs.mean()) / (logs.std() + 1e-9) if standardise else logs


def scipy_stft(values: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Return OGM-GE's spectrograms by scipy, whose frames have to be placed as librosa places them."""
    window = scipy.signal.get_window("hann", length, fftbins=True)
    found = scipy.signal.stft(
        np.pad(values, length // 2), window=window, nperseg=length, noverlap=length - hop, boundary=None, padded=False
    )[2]
    return np.log(np.abs(found) * window.sum() + 1e-7)


def kaldi(values: np.ndarray) -> np.ndarray:
    """Return the filter banks by torchaudio's port of Kaldi."""
    audio = torch.from_numpy(np.clip(values, -1, 1))[None].double()
    with compat.one_thread():
        found = compat.torchaudio().compliance.kaldi.fbank(
            audio - audio.mean(), htk_compat=True, sample_frequency=16000, use_energy=False, window_type="hanning",
            num_mel_bins=128, dither=0.0, frame_shift=10,
        )[:1024]  # fmt: skip
    whole = torch.zeros(1024, 128)
    whole[: len(found)] = found
    return ((whole.T + 4.503877) / (2 * 5.141276)).numpy()


REFERENCES = {
    "stft_257x188": lambda values: scipy_stft(repeated(values, 66_150), 512, 353),
    "stft_129x626": lambda values: scipy_stft(repeated(values, 160_000)[40_000:120_000], 256, 128),
    "psd_257x299": lambda values: scipy_psd(values, 48_000, 16000, False),
    "psd_257x1004": lambda values: scipy_psd(values, 160_000, 22050, True),
    "psd_257x1004_16k": lambda values: scipy_psd(values, 160_000, 16000, True),
    "fbank_128": kaldi,
}


@pytest.mark.parametrize("seconds", [0.4, 2.7, 12.0])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_front_end_equals_its_reference(name, seconds):
    front = FRONT_ENDS[name]
    values = waveform(seconds, front.rate)
    found, wanted = front.make(values), REFERENCES[name](values)
    assert found.shape == wanted.shape == front.shape and found.dtype == np.float32
    difference = np.abs(found - wanted) * (2 * 5.141276 if name == "fbank_128" else 1)  # back to log amplitude
    # Kaldi's filters are float32: where a tone meets the edge of one, the last bit of a logarithm shows.
    assert np.quantile(difference, 0.999) < TOLERANCE
    assert difference.max() < (5 * TOLERANCE if name == "fbank_128" else TOLERANCE)


def test_ogm_ges_spectrogram_is_librosas():
    """Recorded with librosa 0.11.0: log(abs(stft(n_fft=512, hop_length=353, pad_mode='reflect')) + 1e-7)."""
    found = FRONT_ENDS["stft_257x188"].spectrogram(waveform(2.7, 22050), "reflection")
    assert np.abs(found[::32, ::47].ravel() - LIBROSA).max() < TOLERANCE


def test_five_seconds_from_the_middle_of_ten_are_seen():
    values = waveform(10.0, 16000)
    found = FRONT_ENDS["stft_129x626"].make(values)
    for place, seen in ((2.4, False), (2.6, True), (7.4, True), (7.6, False)):
        louder = values.copy()
        louder[round(place * 16000)] += 0.5
        assert (np.abs(FRONT_ENDS["stft_129x626"].make(louder) - found).max() > 0.01) == seen, place


def test_every_front_end_has_a_reference_and_names_its_source():
    assert set(FRONT_ENDS) == set(REFERENCES)
    assert all("Source:" in (front.make.__doc__ or "") for front in FRONT_ENDS.values())


def test_the_references_would_see_another_window_or_hop(monkeypatch):
    values = waveform(2.7, 16000)
    wanted = REFERENCES["psd_257x299"](values)
    monkeypatch.setattr(spectrograms, "_frames", lambda signal, length, hop: np.lib.stride_tricks.sliding_window_view(
        signal, length)[1::hop])  # fmt: skip
    assert np.abs(spectrograms.psd_257x299(values)[:, :290] - wanted[:, :290]).max() > 100 * TOLERANCE


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("shape", [(0,), (2, 900), (900, 2), ()])
def test_what_is_no_waveform_is_refused(name, shape):
    with pytest.raises(DataError, match="one sample at least"):
        FRONT_ENDS[name].make(np.ones(shape, np.float32))


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_one_sample_is_a_waveform(name):
    found = FRONT_ENDS[name].make(np.ones(1, np.float32))
    assert found.shape == FRONT_ENDS[name].shape and np.isfinite(found).all()


@pytest.mark.parametrize("name", [name for name, front in FRONT_ENDS.items() if front.centred])
@pytest.mark.parametrize("pad", ["x", "constant", "", None])
def test_a_pad_that_is_none_is_refused(name, pad):
    with pytest.raises(ConfigError, match="zeros, reflection"):
        FRONT_ENDS[name].spectrogram(waveform(1.0, 16000), pad)


def test_what_is_shorter_is_repeated_and_louder_is_clipped():
    short = np.full(3, 2.0, np.float32)
    assert spectrograms.tiled(short, 7).tolist() == [1.0] * 7


def test_a_dataset_of_clips_may_have_a_parameter_that_is_a_file(tmp_path):
    class Listed(ClipDataset):
        """Clips that a list names."""

        class Params(ClipParams):
            listing: File | None = file_field(doc="which clips")

    (tmp_path / "list.txt").write_text("a\n")
    made = Listed(Listed.Params(listing=File(File.content_at(tmp_path / "list.txt"))))
    assert [modality.name for modality in made.modalities] == ["audio", "visual"]
