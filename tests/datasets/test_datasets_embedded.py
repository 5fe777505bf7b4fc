"""The datasets that ship with the project: counts, leaks, determinism, Bayes accuracies, damaged files."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from quick import quick_first

import mmlbench.datasets
from mmlbench import registry
from mmlbench.datasets.avdigits import audio, images, pairing
from mmlbench.errors import DataError
from mmlbench.frontends import bayes
from mmlbench.prepare import cache
from mmlbench.prepare import checksums as raw
from mmlbench.storage.hashing import file_digest

for module in pkgutil.iter_modules(mmlbench.datasets.__path__):
    importlib.import_module(f"mmlbench.datasets.{module.name}")
CLASSES = {
    name: cls for (kind, name), cls in registry.registered().items() if kind == "dataset" and not cls.needs_raw
}
SEQUENCES = ["sentiment_toy", "sentiment_toy_labels"]
EMBEDDED = ["avdigits", "avtdigits", "gabor_nuisance", "gabor_tones", "gabor_tones_pulse", "moving_shapes", "solids"]
EMBEDDED += SEQUENCES
GABOR = ["gabor_nuisance", "gabor_tones", "gabor_tones_pulse"]
SPLITS = [(name, split) for name in sorted(CLASSES) for split in CLASSES[name].splits]


def module_of(name):
    return importlib.import_module(CLASSES[name].__module__)


def parts(store, split):
    return {part: store.part(split, part) for part in ("train", "val", "test")}


def real(store, name, rows):
    """Return the values of some rows; padding is NaN."""
    facts, lengths = store.manifest["arrays"][name], store.lengths(name)
    values = store.array(name)[rows].astype(np.float64) * facts["scale"] + facts["offset"]
    if lengths is not None:
        values[np.arange(values.shape[2]) >= lengths[rows][..., None]] = np.nan
    return values


# --- every dataset ---------------------------------------------------------------------------------------


def test_they_are_registered():
    assert set(EMBEDDED) <= set(CLASSES)


@pytest.mark.parametrize("name", EMBEDDED)
def test_arrays_have_the_declared_shape_and_sane_values(name, embedded):
    store, cls = embedded(name), CLASSES[name]
    for modality in cls.modalities:
        stored = store.array(modality.name)
        assert stored.shape[1:] == (modality.views, *modality.shape)
        if modality.type.ids:
            assert stored.min() >= 0 and stored.max() < modality.vocabulary
            assert (stored[:50, 0] != stored[:50, 1]).any(), "views repeat"
            continue
        values = real(store, modality.name, np.s_[::7])
        assert np.isfinite(values).all() or modality.type.has_length
        assert np.nanmax(np.abs(values)) < 20
        assert 0.05 < np.nanstd(values) < 3
        assert np.nanstd(values, axis=tuple(range(1, values.ndim))).min() > 0, "a row without content"
        if stored.dtype == np.uint8:
            outer = np.isin(stored[::7], (0, 255)).mean()
            assert outer < 1e-4, "values clipped at the ends of the 8-bit range"
            step = store.manifest["arrays"][modality.name]["scale"]
            assert step / np.sqrt(12) < 0.05 * values.std(), "the quantisation error shows"
        if modality.views > 1:
            assert np.abs(stored[:50, 0].astype(float) - stored[:50, 1]).mean() > 0, "views repeat"


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_counts_labels_and_ids(name, split, embedded):
    cls = CLASSES[name]
    found = parts(embedded(name), split)
    assert {part: len(table) for part, table in found.items()} == dict(cls.splits[split].counts)
    ids = [i for table in found.values() for i in table.ids]
    assert len(set(ids)) == len(ids)
    for table in found.values():
        if name not in SEQUENCES:
            share = np.bincount(table.label, minlength=len(cls.class_names)) / len(table)
            assert np.abs(share - 1 / len(cls.class_names)).max() < 0.005
        assert (np.array(table.groups) != "").all() == (cls.splits[split].group is not None)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_no_row_lies_in_two_parts_and_test_uses_each_once(name, split, embedded):
    found = parts(embedded(name), split)
    for modality in CLASSES[name].modalities:
        rows = {part: table.rows[modality.name] for part, table in found.items()}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            assert not np.intersect1d(rows[one], rows[other]).size
        assert len(np.unique(rows["test"])) == len(rows["test"])


@pytest.mark.parametrize("name", quick_first(EMBEDDED, {"gabor_tones_pulse", "sentiment_toy"}))
def test_preparing_twice_gives_the_same_bytes(name, embedded, tmp_path):
    import torch

    store = embedded(name)
    np.random.seed(7)
    torch.manual_seed(7)
    before = torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    try:
        key = store.folder.name.removeprefix(f"{name}-")
        again = cache.prepare(CLASSES[name](), key, tmp_path, lambda line: None)
    finally:
        torch.set_num_threads(before)
    assert again == store.manifest
    for file in store.folder.iterdir():
        assert file_digest(file) == file_digest(tmp_path / store.folder.name / file.name), file.name


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_docstring_says_source_licence_and_whom_it_favours(name):
    doc = " ".join((CLASSES[name].__doc__ or "").split())
    for word in ("Source:", "Bayes accurac", "Whom it favours:"):
        assert word in doc
    assert "Licence:" in doc or "CC BY" in doc
    assert CLASSES[name].licence and CLASSES[name].citation and CLASSES[name].origin


# --- generated sets with known Bayes accuracy ------------------------------------------------------------


def draw(name, count, rng):
    """The definition of a set's latents in the plainest words, apart from its prepare."""
    m = module_of(name)
    y = rng.integers(0, m.CLASSES, count)
    if name == "gabor_nuisance":
        b = rng.uniform(-2, 2, count) + 0.3 * (y - 1.5)
        return y, np.stack([y + b + 0.25 * rng.standard_normal(count), b + 0.15 * rng.standard_normal(count)], 1)
    sds = {"gabor_tones": (0.45, 0.3), "gabor_tones_pulse": (0.45, 0.3, 0.7)}[name]
    return y, y[:, None] + rng.standard_normal((count, len(sds))) * sds


@pytest.mark.parametrize("name", quick_first(GABOR, {*GABOR} - {"gabor_nuisance", "gabor_tones_pulse"}))
@pytest.mark.slow
def test_bayes_accuracies_equal_monte_carlo(name):
    """4 million draws: the standard error is at most 0.00025, and 0.001 is four of them."""
    claimed = CLASSES[name]().bayes()
    posterior, rng = module_of(name).bayes_posterior, np.random.default_rng(11)
    right, draws, chunk = dict.fromkeys(claimed, 0), 4_000_000, 100_000
    for _ in range(draws // chunk):
        y, latent = draw(name, chunk, rng)
        for key, log_posterior in posterior(latent).items():
            right[key] += int((log_posterior.argmax(1) == y).sum())
    assert {key: count / draws for key, count in right.items()} == pytest.approx(claimed, abs=1e-3)


@pytest.mark.parametrize("name", GABOR)
def test_posteriors_of_stored_latents_are_calibrated_and_reach_the_bayes_accuracy(name, embedded):
    store, claimed = embedded(name), CLASSES[name]().bayes()
    table = store.part("iid", "test")
    latent = store.extra("latent")[table.rows["audio"]]
    for key, log_posterior in module_of(name).bayes_posterior(latent).items():
        assert np.exp(log_posterior).sum(1) == pytest.approx(1)
        accuracy = (log_posterior.argmax(1) == table.label).mean()
        error = np.sqrt(claimed[key] * (1 - claimed[key]) / len(table))
        assert abs(accuracy - claimed[key]) < 3.5 * error
        assert np.exp(log_posterior.max(1)).mean() == pytest.approx(claimed[key], abs=3.5 * error)


def test_integrals_do_not_depend_on_the_step():
    coarse, fine = (bayes.line_circle_accuracy(8, 0.45, 0.3, step) for step in (0.01, 0.004))
    assert coarse == pytest.approx(fine, abs=1e-5)
    assert bayes.line_circle_accuracy(8, 0.45, 3.0) == pytest.approx(bayes.line_accuracy(8, 0.45), abs=1e-3)


def test_pooling_two_line_latents_loses_nothing():
    rng = np.random.default_rng(3)
    u = rng.normal(3, 2, (50, 2))
    sd = bayes.pooled_sd(0.45, 0.7)
    mean = sd**2 * (u[:, 0] / 0.45**2 + u[:, 1] / 0.7**2)
    separate = bayes.fuse([bayes.line_log_likelihood(u[:, i], 8, s) for i, s in enumerate((0.45, 0.7))])
    assert separate == pytest.approx(bayes.log_posterior(bayes.line_log_likelihood(mean, 8, sd)), abs=1e-9)


def test_nuisance_tells_nothing_apart_and_much_together():
    m, rng = module_of("gabor_nuisance"), np.random.default_rng(5)
    y, latent = draw("gabor_nuisance", 200_000, rng)
    found = m.bayes_posterior(latent)
    product = ((found["audio"] + found["visual"]).argmax(1) == y).mean()
    assert product == pytest.approx(0.495, abs=0.006)  # what an ensemble can reach
    assert CLASSES["gabor_nuisance"]().bayes()["fused"] > product + 0.4


def test_moving_shapes_show_the_wrong_class_as_often_as_bayes_says(embedded):
    store = embedded("moving_shapes")
    shown, claimed = store.extra("shown"), CLASSES["moving_shapes"]().bayes()
    tables = parts(store, "iid").values()
    label = np.concatenate([table.label for table in tables])
    rows = np.concatenate([table.rows["flow"] for table in tables])
    for k, name in enumerate(("flow", "rgb")):
        assert (shown[rows, k] == label).mean() == pytest.approx(claimed[name], abs=0.01)


def test_solids_rotations_are_proper():
    m = module_of("solids")
    turns = m.rotations(20, np.random.default_rng(0)).astype(np.float64)
    assert turns @ turns.transpose(0, 2, 1) == pytest.approx(np.tile(np.eye(3), (20, 1, 1)), abs=1e-6)
    assert np.linalg.det(turns) == pytest.approx(1)


def test_solids_depth_buffer_keeps_the_nearest_point():
    m = module_of("solids")
    points = np.array([[[0, 0, -1], [0, 0, 1]]], np.float32)
    normals = np.array([[[0, 0, -1], [0, 0, 1]]], np.float32)
    eye = np.eye(3, dtype=np.float32)[None]
    front, rear = (m.splat(points, normals, eye, rear=side) for side in (False, True))
    assert front.max() == pytest.approx(0.92, abs=1e-3) and (front > 0).sum() == 1
    assert rear.max() == pytest.approx(0.92, abs=1e-3)
    assert m.splat(points[:, ::-1], normals[:, ::-1], eye, rear=False).tobytes() == front.tobytes()


# --- avdigits --------------------------------------------------------------------------------------------


def test_avdigits_speakers_and_takes(embedded):
    store = embedded("avdigits")
    speaker, index = parts(store, "speaker"), parts(store, "index")
    assert set(speaker["test"].groups) == {"george", "lucas"}
    assert set(speaker["train"].groups) == set(speaker["val"].groups) == {"jackson", "nicolas", "theo", "yweweler"}
    assert [len(set(index[part].groups)) for part in index] == [6, 6, 6], "this split leaks its speakers"
    for found, edges in ((speaker, {"train": (8, 50), "val": (0, 8)}), (index, {"val": (15, 20), "test": (0, 15)})):
        for part, (low, high) in edges.items():
            takes = [int(i.split("+")[0].split("_")[2]) for i in found[part].ids]
            assert low <= min(takes) and max(takes) < high
    each = np.unique(speaker["test"].groups, return_counts=True)[1]
    assert np.ptp(each) <= 10, "the two test speakers are as frequent"


def test_avdigits_pairs_share_the_class_and_keep_the_pools(embedded):
    from sklearn.datasets import load_digits

    store, digit = embedded("avdigits"), load_digits().target
    pools = {}
    for split in ("speaker", "index"):
        for part, table in parts(store, split).items():
            assert (digit[table.rows["visual"]] == table.label).all()
            assert all(i == f"{i.split('+')[0]}+p{row:04d}" for i, row in zip(table.ids, table.rows["visual"]))
            assert [int(i[0]) for i in table.ids] == table.label.tolist()
            pools.setdefault(part, set()).update(table.rows["visual"].tolist())
            used = np.unique(table.rows["audio"], return_counts=True)[1]
            assert used.max() == 1, "a recording is used once"
    assert (len(pools["val"]), len(pools["test"])) == (150, 797)
    assert not pools["train"] & pools["val"] and not (pools["train"] | pools["val"]) & pools["test"]


def test_shipped_hashes_hold():
    folder = module_of("avdigits").FOLDER
    sums = raw.read_sums(folder / "SHA256SUMS", "")
    assert len(sums) == 7
    raw.check_files(folder, sums, "avdigits", "")
    assert "CC BY-SA 4.0" in (folder / "LICENSE.md").read_text(encoding="utf-8")


@pytest.fixture
def copied(tmp_path):
    folder = tmp_path / "fsdd"
    shutil.copytree(module_of("avdigits").FOLDER, folder)
    return folder


@pytest.mark.parametrize("damage", ["missing", "cut short", "one byte", "index"])
def test_damaged_recordings_stop_prepare_with_one_line(damage, copied, tmp_path):
    victim = copied / ("index.csv" if damage == "index" else "theo.flac")
    content = bytearray(victim.read_bytes())
    victim.unlink()
    if damage == "cut short":
        victim.write_bytes(content[: len(content) // 2])
    elif damage != "missing":
        content[5000] ^= 1
        victim.write_bytes(content)
    with pytest.raises(DataError) as caught:
        cache.prepare(CLASSES["avdigits"](), "x", tmp_path / "cache", lambda line: None, raw=copied)
    message = str(caught.value)
    assert victim.name in message and "git checkout" in message and "\n" not in message
    assert not list((tmp_path / "cache").glob("avdigits*")), "nothing half-written is left"


def test_all_damaged_files_are_named_at_once(copied):
    (copied / "theo.flac").unlink()
    (copied / "lucas.flac").write_bytes(b"fLaC")
    sums = raw.read_sums(copied / "SHA256SUMS", "")
    with pytest.raises(DataError, match=r"theo\.flac missing; lucas\.flac changed"):
        raw.check_files(copied, sums, "avdigits", "Fix it")


# --- shared front ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["flac", "wav"])
@pytest.mark.parametrize("damage", ["missing", "empty", "noise", "cut short", "rate", "stereo"])
def test_read_audio_names_the_file_and_the_mend(suffix, damage, tmp_path):
    path = tmp_path / f"clip.{suffix}"
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 2 if damage == "stereo" else 1))
    soundfile.write(path, values, 16000 if damage == "rate" else 8000, subtype="PCM_16")
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "noise":
        path.write_bytes(b"no sound at all" * 100)
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=rf"clip\.{suffix}.*Fetch it again") as caught:
        audio.read_audio(path, 8000, "Fetch it again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_read_audio_returns_the_samples(suffix, tmp_path):
    values = np.random.default_rng(0).integers(-20000, 20000, 3000).astype(np.int16)
    soundfile.write(tmp_path / f"clip.{suffix}", values, 8000)
    read = audio.read_audio(tmp_path / f"clip.{suffix}", 8000)
    assert read.dtype == np.float32 and (read * 32768 == values).all()


def test_noise_has_the_level_it_should_and_a_place_is_inside():
    rng = np.random.default_rng(0)
    for snr in (-3.0, 9.0):
        noise = audio.coloured_noise(8000, (snr, snr), rng)
        assert np.sqrt(np.mean(noise**2)) == pytest.approx(audio.LEVEL * 10 ** (-snr / 20), rel=1e-3)
    placed = audio.place(np.ones(100, np.float32), 400, rng)
    assert (
        placed.shape == (400,)
        and np.count_nonzero(placed) == 100
        and placed.max() == pytest.approx(audio.LEVEL, rel=1e-4)
    )
    assert np.count_nonzero(audio.place(np.ones(900, np.float32), 400, rng)) == 400


def test_log_mel_shows_a_tone_in_its_band_and_does_not_depend_on_the_batch():
    recipe = module_of("avdigits").RECIPE
    time = np.arange(8000) / 8000
    waves = np.stack([np.sin(2 * np.pi * f * time) for f in (300, 1000, 3000)]).astype(np.float32)
    shown = audio.log_mel(waves, recipe)
    assert shown.shape == (3, 32, 48) and shown.dtype == np.float32
    bands = shown.mean(2).argmax(1)
    assert bands[0] < bands[1] < bands[2]
    assert audio.log_mel(waves[:1], recipe)[0] == pytest.approx(shown[0], abs=1e-4)


def test_clutter_comes_from_the_given_pictures_alone():
    recipe = images.PictureRecipe(noise=0.0)
    shown = images.render(np.zeros((5, 8, 8)), recipe, np.random.default_rng(0))
    assert shown.shape == (5, 32, 32) and not shown.any()
    full = images.render(np.ones((5, 8, 8)), recipe, np.random.default_rng(0))
    assert 0.5 <= full.max() <= 1 and full.min() >= 0


def test_in_turn_is_fair_to_groups():
    order = pairing.in_turn(list(range(9)), list("aaaaabbcc"), np.random.default_rng(0))
    assert sorted(order) == list(range(9))
    assert [{"abc"[(r > 4) + (r > 6)] for r in order[k : k + 3]} for k in (0, 3)] == [set("abc")] * 2


def test_hash_list_of_another_form_is_refused(tmp_path):
    path = Path(tmp_path / "SHA256SUMS")
    with pytest.raises(DataError, match="no such file"):
        raw.read_sums(path, "Fetch it")
    path.write_text("abc  file\n")
    with pytest.raises(DataError, match="not a hash"):
        raw.read_sums(path, "Fetch it")
