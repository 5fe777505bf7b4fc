"""Frames, crops, flips and pixel noise: as torchvision and the papers' code draw them, alike for all methods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
import yaml

from mmlbench.errors import ConfigError
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.storage import direct
from mmlbench.study.recipe import Recipe
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing import tiny_spec
from mmlbench.train import stream
from mmlbench.train.augmentation import (
    Augmentation,
    Pixels,
    augmentations_of,
    crop,
    draw,
    fixed_picks,
    fixed_views,
    middle_box,
    random_boxes,
    random_views,
)
from mmlbench.train.data import PIECE, PartData, scale_
from mmlbench.train.rng import generator

CPU = torch.device("cpu")


# --- frames -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("count", "frames", "pick", "wanted"),
    [
        (5, 3, "first", [0, 1, 2]),
        (6, 3, "uniform", [1, 3, 5]),
        (10, 4, "uniform", [1, 3, 6, 8]),
        (3, 1, "uniform", [1]),
        (5, 1, "random", [0]),
        (10, 2, "random", [2, 7]),
        (2, 3, "uniform", [0, 1, 0]),
        (3, 3, "seed999", [0, 1, 2]),
    ],
)
def test_fixed_frames(count, frames, pick, wanted):
    assert fixed_picks(count, frames, pick) == wanted


def test_seed_999_is_numpys():
    for count in range(3, 11):
        np.random.seed(999)
        wanted = sorted(np.random.choice(count, 3, replace=False).tolist())
        assert fixed_picks(count, 3, "seed999") == wanted


def test_random_frames_are_a_clips_own_and_differ():
    valid = torch.tensor([2, 3, 5, 8] * 500)
    views = random_views(valid, Augmentation(frames=3), generator("test"))
    assert views.shape == (2000, 3) and (views < valid[:, None]).all() and (views >= 0).all()
    enough = views[valid >= 3]
    assert (enough.diff(dim=1) > 0).all()
    shown = torch.bincount(views[valid == 8].flatten(), minlength=8).double() / 500
    assert (shown - 3 / 8).abs().max() < 0.08
    one = random_views(valid, Augmentation(), generator("test"))
    assert one.shape == (2000, 1) and (one[:, 0] < valid).all() and set(one[valid == 2].flatten().tolist()) == {0, 1}


def test_rows_with_fewer_frames_take_from_their_own():
    assert fixed_views(torch.tensor([1, 4]), Augmentation(frames=2, pick="uniform")).tolist() == [[0, 0], [1, 3]]


# --- crops and flips ----------------------------------------------------------------------------------------
def test_crops_are_distributed_as_torchvisions():
    augmentation, size = Augmentation(crop="resized", aspect=4 / 3), (360, 480)
    boxes = random_boxes((4000, 1), size, augmentation, generator("test"))[:, 0].double()
    assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= torch.tensor(size)).all()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        picture = torch.zeros(3, *size)
        draws = torchvision.transforms.RandomResizedCrop
        wanted = torch.tensor([draws.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]).double()
    boxes /= torch.tensor([*size, *size])
    wanted /= torch.tensor([*size, *size])
    for column in range(4):
        for level in (0.1, 0.5, 0.9):
            assert abs(boxes[:, column].quantile(level) - wanted[:, column].quantile(level)) < 0.03
    area = boxes[:, 2] * boxes[:, 3]
    assert area.min() > 0.07 and area.max() > 0.9


def test_a_frame_that_fits_no_crop_gives_a_part_of_4_to_3():
    boxes = random_boxes((500, 1), (64, 640), Augmentation(crop="resized", aspect=10.0), generator("test"))[:, 0]
    assert (boxes[:, 2] <= 64).all() and (boxes[:, 3] <= 86).all() and (boxes[:, 3] > 1).all()


BOXES = torch.tensor([[12, 6, 24, 36], [0, 0, 48, 48], [40, 3, 8, 5], [7, 47, 20, 1]])


def test_a_crop_is_torchvisions_resized_crop():
    pictures = torch.randint(0, 256, (4, 3, 48, 48), generator=generator("test"), dtype=torch.uint8)
    made = torchvision.transforms.functional.resized_crop
    wanted = torch.stack([made(one, *box.tolist(), [48, 48], antialias=True) for one, box in zip(pictures, BOXES)])
    assert (crop(pictures, BOXES, (48, 48)) - wanted).abs().max() <= 1  # of 255: another rounding of the weights
    sampled = crop(pictures.float(), BOXES, (48, 48))  # as on a GPU
    assert (sampled - wanted).abs().max() < 1.01  # of 255: the rounding of two passes
    exact = torch.stack([made(one, *b.tolist(), [48, 48], antialias=True) for one, b in zip(pictures.float(), BOXES)])
    assert (sampled - exact).abs().max() < 0.01


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_a_crop_mirrors_what_it_has_cut(kind):
    pictures = torch.randint(0, 256, (4, 3, 48, 48), generator=generator("test"), dtype=torch.uint8).to(kind)
    flips = torch.tensor([True, False, True, True])
    straight, mirrored = crop(pictures, BOXES, (48, 40)), crop(pictures, BOXES, (48, 40), flips)
    for one, (was, made) in enumerate(zip(straight, mirrored, strict=True)):
        wanted = was.flip(-1) if flips[one] else was
        assert torch.allclose(made, wanted, atol=0.0 if kind == torch.uint8 else 1e-3)
    assert not torch.equal(straight[0], mirrored[0])


@pytest.mark.parametrize("size", [1, PIECE, PIECE + 1, 3 * PIECE - 7])
def test_values_are_scaled_the_same_in_pieces(size):
    values = torch.rand(size, generator=generator("test"))
    wanted = values * 3.7 + 0.3
    scale_(values, 3.7, 0.3)
    assert torch.equal(values, wanted)


def test_random_windows_lie_on_pixels_and_evaluation_takes_the_middle():
    augmentation = Augmentation(crop="random", crop_size=8)
    boxes = random_boxes((300, 2), (10, 14), augmentation, generator("test"))
    assert (boxes[..., 2:] == 8).all()
    assert boxes[..., 0].unique().tolist() == [0, 1, 2] and boxes[..., 1].unique().tolist() == [0, 1, 2, 3, 4, 5, 6]
    stored = torch.randint(0, 256, (1, 2, 3, 10, 14), generator=generator("test"), dtype=torch.uint8)
    shown = Pixels(augmentation, (3, 10, 14), 1.0, 0.0).show(stored, None, None)
    assert torch.equal(shown, stored[..., 1:9, 3:11].float())
    assert middle_box((10, 14), Augmentation()) is None


@pytest.mark.parametrize("negate", [True, False])
def test_a_flip_negates_horizontal_flow_or_not(negate):
    scale, offset = 40 / 255, -20.0
    real = torch.stack([torch.full((4, 6), 8.0), torch.arange(6.0).expand(4, 6)])
    stored = ((real - offset) / scale)[None, None]
    pixels = Pixels(Augmentation(flip=1.0, negate=negate), (2, 4, 6), scale, offset)
    shown = pixels.show(stored, None, torch.tensor([[True]]))[0, 0] * scale + offset
    assert torch.allclose(shown[0], torch.full((4, 6), -8.0 if negate else 8.0), atol=1e-3)
    assert torch.allclose(shown[1], real[1].flip(-1), atol=1e-3)


def test_pixel_noise_is_one_pattern_of_the_asked_size():
    pixels = Pixels(Augmentation(frames=2, noise=0.1), (3, 40, 40), 1 / 255, 0.0)
    stored = torch.full((3, 2, 3, 40, 40), 100, dtype=torch.uint8)
    noise = (pixels.show(stored, None, None) - 100) / 255
    assert torch.equal(noise[0], noise[1]) and not torch.equal(noise[0, 0], noise[0, 1])
    assert abs(float(noise.std()) - 0.1) < 0.005


# --- what is drawn ------------------------------------------------------------------------------------------
def test_what_is_drawn_follows_from_seed_epoch_and_sample_alone():
    augmentation = Augmentation(frames=2, crop="resized", flip=0.5, key="visual")
    valid = torch.full((40,), 6)
    first = draw(valid, (24, 24), augmentation, ("a", 0), "visual", 3)
    again = draw(valid, (24, 24), augmentation, ("a", 0), "visual", 3)
    assert torch.equal(first.views, again.views) and torch.equal(first.boxes, again.boxes)
    assert first.boxes.shape == (40, 2, 4) and first.flips.shape == (40, 2)
    for seed_key, epoch in ((("a", 1), 3), (("a", 0), 4), (("b", 0), 3)):
        other = draw(valid, (24, 24), augmentation, seed_key, "visual", epoch)
        assert not torch.equal(first.boxes, other.boxes) and not torch.equal(first.views, other.views)
    clip = draw(valid, (24, 24), replace(augmentation, together=True), ("a", 0), "visual", 3)
    assert clip.boxes.shape == (40, 1, 4) and clip.flips.shape == (40, 1)


def tiny_data(tiny, **recipe) -> PartData:
    """Return the tiny train part under a recipe."""
    cache = Cache.open(tiny.cache / tiny_spec("joint").cache)
    return PartData(cache, "speaker", "train", CPU, ("tiny", 0), None, augmentations_of(Recipe(**recipe), cache))


def test_batches_do_not_depend_on_their_size(tiny):
    data = tiny_data(tiny, frames=2, crop="resized", flip=0.5, image_noise=0.1)
    views = data.views(5)
    whole = data.batch(torch.arange(40), views).inputs["visual"]
    assert whole.shape == (40, 2, 2, 8, 8)
    pieces = torch.cat([data.batch(torch.arange(k, k + 8), views).inputs["visual"] for k in range(0, 40, 8)])
    assert torch.allclose(whole, pieces, atol=1e-6)
    fixed = data.batch(torch.arange(40)).inputs["visual"]
    assert torch.equal(fixed, data.batch(torch.arange(40)).inputs["visual"]) and not torch.allclose(fixed, whole)
    assert data.batch(torch.arange(40), views).inputs["audio"].shape == (40, 1, 8, 8)


@pytest.mark.parametrize("recipe", [{}, {"frames": 2, "crop": "resized", "flip": 0.5, "image_noise": 0.1}])
def test_streamed_batches_are_the_resident_ones(recipe, tiny):
    cache = Cache.open(tiny.cache / tiny_spec("joint").cache)
    augmentations = augmentations_of(Recipe(**recipe), cache)
    both = [
        PartData(cache, "speaker", "train", CPU, ("tiny", 0), None, augmentations, stream) for stream in (False, True)
    ]
    for epoch in (None, 3):
        resident, streamed = (list(data.in_order(epoch)) for data in both)
        for one, two in zip(resident, streamed, strict=True):
            assert all(torch.equal(one.inputs[m], two.inputs[m]) for m in one.inputs)
    pieces = both[0].order(1).split(7)
    views = [data.views(1) for data in both]
    found = [list(data.batches(pieces, v)) for data, v in zip(both, views, strict=True)]
    assert len(found[1]) == 6
    assert all(torch.equal(a.inputs["visual"], b.inputs["visual"]) for a, b in zip(*found, strict=True))


def test_a_streamed_run_has_the_same_bytes(tiny, tmp_path, monkeypatch):
    begun = list[int]()
    real = direct.Rows.begin
    monkeypatch.setattr(direct.Rows, "begin", lambda rows, places: (begun.append(len(places)), real(rows, places)))
    resident = tiny.run("di_mml", tmp_path / "one", recipe={"epochs": 2})
    monkeypatch.setenv("MMLBENCH_STREAM", "1")
    streamed = tiny.run("di_mml", tmp_path / "two", recipe={"epochs": 2})
    assert (resident.path / "run.json").read_bytes() == (streamed.path / "run.json").read_bytes() and not begun
    monkeypatch.setattr(stream, "cacheable_bytes", lambda: 0)
    beyond = tiny.run("di_mml", tmp_path / "three", recipe={"epochs": 2})
    assert (resident.path / "run.json").read_bytes() == (beyond.path / "run.json").read_bytes()
    acted, cache = bool(begun), Cache.open(tiny.cache / tiny_spec("di_mml").cache)
    rows = direct.open_rows(cache.array("visual"), 1)  # None where files can't be read so here
    assert (rows is not None) == acted
    if rows is not None:
        rows.close()


def test_a_plain_recipe_shows_what_it_always_did(tiny):
    cache = Cache.open(tiny.cache / tiny_spec("joint").cache)
    data, plain = tiny_data(tiny), PartData(cache, "speaker", "train", CPU, ("tiny", 0))
    index, views = torch.arange(40), data.views(2)
    assert data.modalities["visual"].pixels is None
    for name in ("audio", "visual"):
        assert torch.equal(data.batch(index, views).inputs[name], plain.batch(index, plain.views(2)).inputs[name])


def test_methods_train_with_frames_crops_flips_and_noise(tiny, tmp_path):
    recipe = {"epochs": 2, "frames": 2, "crop": "resized", "flip": 0.5, "image_noise": 0.1, "drop_every": 1}
    for method in ("joint", "ogm_ge", "di_mml", "joint_shuffled_partner"):
        run = tiny.run(method, tmp_path, recipe=recipe)
        assert run.record.config.recipe.frames == 2


@pytest.mark.parametrize(
    ("recipe", "words"),
    [({"frames": 4}, "keeps 3 frames, the recipe asks for 4"), ({"crop": "random", "crop_size": 9}, "crops 9")],
)
def test_what_the_cache_does_not_hold_is_refused(recipe, words, tiny):
    with pytest.raises(ConfigError, match=words):
        tiny_data(tiny, **recipe)


# --- recipes ------------------------------------------------------------------------------------------------
def test_a_recipe_sets_what_single_datasets_need():
    index = load_index()
    config = resolve(Request("cremad", "joint", 0, recipe="dimml"), index).config
    recipe = config.recipe
    assert config.dataset_params["audio"] == "psd_257x1004"
    assert (recipe.frames, recipe.image_noise, recipe.frame_pick) == (3, 0.1, "seed999")
    assert recipe.encoder["visual"].params == {"init": "bn_normal"}
    ave = resolve(Request("ave", "joint", 0, recipe="dimml"), index).config
    assert ave.recipe.frames == 4 and ave.recipe.image_noise == 0.0
    other = Request("cremad", "joint", 0, recipe="dimml", dataset_params={"audio": "psd_257x299"})
    assert resolve(other, index).config.dataset_params["audio"] == "psd_257x299"
    fewer = resolve(Request("cremad", "joint", 0, recipe="dimml", recipe_params={"frames": 1}), index)
    assert fewer.config.recipe.name == "dimml frames=1"
    assert "--dataset-set" in resolve(Request("cremad", "joint", 0, recipe="dimml"), index).command


def test_a_wrong_for_block_is_one_line(tmp_path):
    for text in ("for: [cremad]", "for: {cremad: 3}", "for: {cremad: {frmes: 3}}", "for: {cremad: {prepare: x}}"):
        (tmp_path / "r.yaml").write_text(yaml.safe_dump({"epochs": 3}) + text)
        with pytest.raises(ConfigError):
            resolve(Request("cremad", "joint", 0, recipe=str(tmp_path / "r.yaml")), load_index())


def test_the_learning_rate_drops_again_and_again(tiny, tmp_path):
    run = tiny.run("joint", tmp_path, recipe={"epochs": 5, "lr": 1.0, "drop_every": 2, "drop_factor": 0.1})
    rows = (run.path / "history.csv").read_text().splitlines()
    rates = [float(row.split(",")[-1]) for row in rows if ",train,lr," in row]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


# --- memory that a job or a container is granted ---------------------------------------------------------------
def group(folder, limit, used, names, inactive="inactive_file 300"):
    """Write the files of one control group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (*zip(names, (limit, used), strict=True), ("memory.stat", f"anon 7\n{inactive}")):
        (folder / name).write_text(f"{value}\n", encoding="ascii")


def test_the_limit_of_a_job_counts_wherever_it_is_set(tmp_path, monkeypatch):
    names, own = ("memory.max", "memory.current"), tmp_path / "self"
    own.write_text("0::/slurm/job_7/step_0\n", encoding="utf-8")
    tree = tmp_path / "cgroup"
    group(tree / "slurm/job_7/step_0", "max", 900, names)
    assert stream.granted_bytes(tree, own) == stream.UNLIMITED
    group(tree / "slurm/job_7", 2000, 900, names)  # 300 of these 900 are pages that the kernel drops first
    group(tree / "slurm", 9000, 900, names)
    assert stream.granted_bytes(tree, own) == 1400
    group(tree / "slurm/job_7", 100, 900, names)
    assert stream.granted_bytes(tree, own) == 0
    monkeypatch.setattr(stream, "granted_bytes", lambda: 123)
    assert stream.free_bytes(CPU) == 123


def test_the_limit_of_the_first_version_of_control_groups(tmp_path):
    names, own = ("memory.limit_in_bytes", "memory.usage_in_bytes"), tmp_path / "self"
    own.write_text("9:cpu:/other\n4:memory:/docker/abc\n1:name=systemd:/x\n", encoding="utf-8")
    tree = tmp_path / "cgroup"
    group(tree / "memory/docker/abc", 2**63 - 4096, 0, names)
    group(tree / "memory", 5000, 1000, names, "inactive_file 0\ntotal_inactive_file 200")
    assert stream.granted_bytes(tree, own) == 4200
    assert stream.granted_bytes(tree, tmp_path / "none") == stream.UNLIMITED


def test_data_beyond_a_jobs_limit_is_streamed(tiny, monkeypatch):
    cache = Cache.open(tiny.cache / tiny_spec("joint").cache)
    for facts in cache.manifest["arrays"].values():
        facts["bytes"] = 2**30
    monkeypatch.delenv(stream.VARIABLE, raising=False)
    monkeypatch.setattr(stream, "granted_bytes", lambda: 2**40)
    monkeypatch.setattr(stream.os, "sysconf", lambda name: 2**20)
    assert not stream.too_large(cache, CPU)
    monkeypatch.setattr(stream, "granted_bytes", lambda: 2**31)
    assert stream.too_large(cache, CPU)
