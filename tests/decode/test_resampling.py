"""Resampling and padding as librosa does them: against values that it gave, and against itself where there is one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import mini_av
import numpy as np
import pytest
import soxr
from rising_tone import clip

from mmlbench.api.making import ensure_cache
from mmlbench.dataset import Options
from mmlbench.decode import sound
from mmlbench.decode.resampling import RESAMPLING, resample
from mmlbench.decode.spectrograms import FRONT_ENDS, PADS
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index

RECORDED = json.loads(Path(__file__).with_name("resampling.json").read_text())
EACH, ROWS, COLUMNS = 997, 16, 17
#: Above 8 kHz, row 186 of 257 at 22,050 Hz: there a file of 16,000 Hz holds nothing, and only the filter shows.
EMPTY = 186
INSTALLED = importlib.util.find_spec("librosa") is not None and importlib.util.find_spec("resampy") is not None
live = pytest.mark.skipif(not INSTALLED, reason="librosa and resampy are not installed: pip install '.[reference]'")


# ---- against recorded values -------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", RECORDED["resampled"], ids=lambda case: f"{case[0]} {case[1]} to {case[2]}")
def test_it_is_what_librosa_gave(case):
    how, rate, target, seconds, length, kept = case
    made = resample(clip(seconds, rate), rate, target, how)
    assert made.dtype == np.float32 and len(made) == length and how in RESAMPLING
    assert np.abs(made[::EACH] - np.array(kept)).max() < 2e-7  # here none; a processor may round a sine otherwise


@pytest.mark.parametrize("case", RECORDED["pictures"], ids=lambda case: case[0])
def test_the_picture_is_what_librosa_gave_in_every_row(case):
    """Each default of librosa with the padding of its time, frame 0 and the rows above 8 kHz included."""
    how, pad, kept = case
    front = FRONT_ENDS["stft_257x188"]
    shown = front.spectrogram(
        resample(clip(2.7, 16000), 16000, 22050, how), {"constant": "zeros", "reflect": "reflection"}[pad]
    )
    difference = np.abs(shown[::ROWS, ::COLUMNS] - np.array(kept))
    assert difference[: EMPTY // ROWS].max() < 1e-3
    assert difference.max() < 0.05  # here 6e-6; the logarithm of what little the filter leaves


def test_another_filter_is_6_nats_away_above_8_khz():
    """What the test above is for: scipy's default filter, used here before, lets through what librosa's does not."""
    from scipy.signal import resample_poly

    front = FRONT_ENDS["stft_257x188"]
    old = front.spectrogram(resample_poly(clip(2.7, 16000).astype(float), 441, 320).astype(np.float32), "zeros")
    for how in RESAMPLING:
        new = front.spectrogram(resample(clip(2.7, 16000), 16000, 22050, how), "zeros")
        assert np.median((old - new)[EMPTY:]) > 4
        assert np.median(np.abs(old - new)[:170]) < 0.01


def test_padding_changes_the_edge_frames_alone():
    values = clip(2.7, 22050)
    zeros, reflected = (FRONT_ENDS["stft_257x188"].spectrogram(values, pad) for pad in PADS)
    changed = np.flatnonzero(np.abs(zeros - reflected).max(axis=0))
    assert changed.tolist() == [0, 187] and np.abs(zeros - reflected).max() > 1


# ---- against the libraries ---------------------------------------------------------------------------------------
@live
@pytest.mark.parametrize("rates", [(16000, 22050), (44100, 16000), (48000, 22050)])
def test_soxr_is_librosas_own_load(rates, tmp_path):
    import librosa

    mini_av.write_wav(tmp_path / "a.wav", clip(1.3, rates[0]), rates[0])
    wanted, _ = librosa.load(tmp_path / "a.wav", sr=rates[1])
    assert np.array_equal(sound.read_sound(tmp_path / "a.wav", rates[1]), wanted)


@live
@pytest.mark.parametrize("rates", [(16000, 22050), (8000, 16000), (44100, 16000), (48000, 22050)])
def test_kaiser_best_is_resampys(rates):
    """By resampy's own code with the filter that was its `kaiser_best`; newer versions step otherwise downwards."""
    import resampy

    beta = 14.769656459379492
    shape = {"num_zeros": 64, "precision": 9, "rolloff": 0.9475937167399596, "window": lambda n: np.kaiser(n, beta)}
    wanted = resampy.resample(clip(1.3, rates[0]).astype(float), *rates, filter="sinc_window", **shape)
    made = resample(clip(1.3, rates[0]), *rates, "kaiser_best")[: len(wanted)]
    assert np.quantile(np.abs(made - wanted[: len(made)]), 0.99) < 1e-6


@live
@pytest.mark.parametrize("pad", PADS)
def test_the_picture_is_librosas(pad, tmp_path):
    import librosa

    mini_av.write_wav(tmp_path / "a.wav", clip(2.7, 16000), 16000)
    values, _ = librosa.load(tmp_path / "a.wav")
    tiled = np.clip(np.tile(values, 3)[: 22050 * 3], -1, 1)
    mode = "constant" if pad == "zeros" else "reflect"
    wanted = np.log(np.abs(librosa.stft(tiled, n_fft=512, hop_length=353, pad_mode=mode)) + 1e-7)
    shown = FRONT_ENDS["stft_257x188"].spectrogram(sound.read_sound(tmp_path / "a.wav", 22050), pad)
    assert np.abs(shown - wanted).max() < 0.01


# ---- in a cache --------------------------------------------------------------------------------------------------
def test_it_is_librosas_call_of_soxr():
    values = clip(1.0, 16000)
    assert np.array_equal(resample(values, 16000, 22050), soxr.resample(values, 16000, 22050, quality="soxr_hq"))
    assert resample(values, 16000, 16000) is values


def test_threads_change_no_bit():
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from rising_tone import clip\n"
        "from mmlbench.decode.resampling import resample\n"
        "print([hashlib.sha256(resample(clip(2.7, 16000), 16000, 22050, how).tobytes()).hexdigest()"
        " for how in ('soxr_hq', 'kaiser_best')])"
    )
    support = str(Path(__file__).parents[1] / "support")
    found = {
        subprocess.run([sys.executable, "-c", code, support], check=True, capture_output=True, text=True,
                       env={"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}).stdout
        for threads in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_both_are_parameters_of_a_dataset_and_part_of_its_fingerprint(tmp_path):
    raw, lists = mini_av.cremad(tmp_path, 5, source="jpg")

    def prepared(**params: str) -> Cache:
        chosen = {"size": 16, "audio": "stft_257x188", **params}
        return ensure_cache("cremad", chosen, tmp_path / "c", load_index(), raw, options=Options(lists=lists))

    plain, older = prepared(), prepared(resample="kaiser_best", pad="reflection")
    assert plain.manifest["raw"]["libraries"]["soxr"] == soxr.__version__
    assert plain.manifest["fingerprint"] != older.manifest["fingerprint"]
    shown, was = (cache.array("audio").astype(float)[:, 0, 0] for cache in (plain, older))
    difference = np.abs(shown - was).mean(axis=0)
    assert difference[: EMPTY - 20, 2:-2].max() < 0.1 < difference[EMPTY:, 2:-2].mean()
    assert np.array_equal(prepared(resample="soxr_hq", pad="zeros").array("audio"), plain.array("audio"))
