"""Modality types: each owns what hangs on its kind; lengths, masks and padding; a type of a plug-in."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmlbench import testing
from mmlbench.api.making import ensure_cache, make_run
from mmlbench.dataset import CacheWriter, Dataset, Sample, Split
from mmlbench.encoder import make_encoder
from mmlbench.errors import ConfigError, DataError
from mmlbench.modality import BUCKET, Modality, built_in, type_of
from mmlbench.prepare.cache import Cache, prepare
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.run_folder import RunFolder
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing.conformance import CheckError, check_padding
from mmlbench.train.data import Noise, PartData, padded_length
from mmlbench.train.evaluate import mean_inputs, without

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
NAMES = set(built_in())


def switches(text: str) -> list[str]:
    """Return the comparisons with names of types, and the tables by them, in a file's code."""

    def named(node: ast.AST) -> bool:
        inner = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
        return any(isinstance(one, ast.Constant) and one.value in NAMES for one in inner)

    found: list[ast.AST] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare) and any(map(named, [node.left, *node.comparators])):
            found.append(node)
        if isinstance(node, ast.Dict) and node.keys and all(key is not None and named(key) for key in node.keys):
            found.append(node)
        if isinstance(node, ast.match_case) and any(map(named, ast.walk(node.pattern))):
            found.append(node)
    return [ast.unparse(node) for node in found]


# ---- one owner -------------------------------------------------------------------------------------------------
def test_no_other_file_switches_on_a_kind() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for folder in ("mmlbench", "methods")  # a dataset may call a modality as a type is called
        for path in (ROOT / folder).rglob("*.py")
        if path.parent.name != "modalities" and (lines := switches(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        'if facts["kind"] == "flow": pass',
        'x = kind in ("image", "flow")',
        'SIZE = {"signal": 2, "image": 1}',
        "match kind:\n  case 'flow': pass",
    ],
)
def test_a_switch_would_be_found(line: str) -> None:
    assert switches(line) and not switches(re.sub("flow|image|signal", "rgb", line))


@pytest.mark.parametrize("name", built_in())
def test_a_type_declares_itself_whole(name: str) -> None:
    kind = type_of(name)
    shape = (4,) * kind.ranks[0]
    found = Modality("one", shape, name, vocabulary=7 if kind.ids else 0)
    assert kind.faults(found) == [] and found.facts()["kind"] == name
    assert kind.value_bytes == np.dtype(kind.stored).itemsize
    assert kind.normalise in kind.normalisations
    assert load_index().find("encoder", kind.encoder)
    views = np.arange(2 * 4 ** len(shape)).reshape(2, *shape)
    assert kind.outline(views).shape[0] == 2 and kind.blank(views).tolist() == [False, False]


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"shape": (3, 4)}, "shape"), ({"shape": (0,)}, "shape"), ({"vocabulary": 0}, "no vocabulary"),
        ({"normalise": "scalar"}, "normalised"), ({"views": 0}, "views"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_named(facts: dict[str, Any], word: str) -> None:
    wrong = replace(Modality("words", (4,), "tokens", vocabulary=7), **facts)
    assert any(word in fault for fault in wrong.type.faults(wrong))
    ids = replace(Modality("picture", (1, 4, 4), "image"), vocabulary=3)
    assert ids.type.faults(ids)


def test_facts_leave_out_what_was_added_later() -> None:
    assert Modality("a", (1, 4, 4), "image").facts() == {"name": "a", "shape": [1, 4, 4], "kind": "image", "views": 1}


# ---- storing ---------------------------------------------------------------------------------------------------
class Lab(Dataset):
    """What a test prepares."""

    name = "lab"
    class_names = ("a", "b")
    splits = {"given": Split("as given", {"train": 3, "test": 3})}
    licence = citation = origin = "none"
    values: np.ndarray
    lengths: np.ndarray | None = None

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        modality = self.modalities[0]
        array = out.array(modality.name, len(self.values), str(self.values.dtype))
        array[:, 0] = self.values
        array.flush()
        if self.lengths is not None:
            out.lengths(modality.name, self.lengths)
        parts = ["train"] * 3 + ["test"] * 3
        out.split("given", [Sample(str(k), parts[k], k % 2, (k,)) for k in range(6)])


def stored(
    folder: Path, modality: Modality, values: np.ndarray, lengths: np.ndarray | list[int] | None = None
) -> Cache:
    lab = Lab()
    lab.modalities, lab.values = (modality,), values
    lab.lengths = None if lengths is None else np.asarray(lengths)
    prepare(lab, "0" * 10, folder, lambda line: None)
    return Cache.open(folder / f"lab-{'0' * 10}")


WORDS, STEPS = Modality("words", (4,), "tokens", vocabulary=5), Modality("steps", (4, 2), "sequence")
IDS = np.array([[1, 2, 3, 4]] * 6, dtype=np.int16)


@pytest.mark.parametrize(
    ("lengths", "word"),
    [
        (None, "no lengths"),
        ([4, 4, 4, 4, 4, 5], "length 5"), ([0, 1, 1, 1, 1, 1], "length 0"), ([1] * 5, "lengths"),
        ([1.0] * 6, "lengths"),
    ],
)  # fmt: skip
def test_lengths_that_do_not_fit_are_refused(lengths: Any, word: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=word):
        stored(tmp_path, WORDS, IDS, lengths)


@pytest.mark.parametrize(("row", "value"), [(2, 5), (4, -1), (3, 0)])
def test_an_id_beyond_the_vocabulary_is_refused_unless_it_is_padding(row: int, value: int, tmp_path: Path) -> None:
    ids = IDS.copy()
    ids[row, 3] = value
    with pytest.raises(DataError, match=f"row {row} has the id {value}"):
        stored(tmp_path / "real", WORDS, ids, [4] * 6)
    assert stored(tmp_path / "padding", WORDS, ids, [3] * 6).longest == {"words": 3}


def test_ids_are_stored_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="integers"):
        stored(tmp_path, WORDS, IDS.astype(np.float32), [4] * 6)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    values = np.ones((6, 4, 2), np.float32)
    values[4, 1, 0] = np.nan
    with pytest.raises(DataError, match="row 4 is NaN"):
        stored(tmp_path, STEPS, values, [4] * 6)


def test_a_type_without_lengths_takes_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="vector has no lengths"):
        stored(tmp_path, Modality("facts", (4,), "vector"), IDS.astype(np.float32), [4] * 6)


@pytest.mark.parametrize("how", ["scalar", "per_channel", "none"])
def test_padding_touches_no_statistic(how: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values, lengths = rng.normal(3, 2, (6, 4, 2)).astype(np.float32), np.array([1, 4, 2, 3, 3, 3])
    real = np.concatenate([values[k, : lengths[k]] for k in range(3)]).astype(np.float64)
    for k, length in enumerate(lengths):
        values[k, length:] = 1e6
    cache = stored(tmp_path, replace(STEPS, normalise=how), values, lengths)
    gain, bias = cache.affine("given", "steps")
    shown = real * gain + bias
    axis = {"scalar": None, "per_channel": 0}.get(how)
    if how == "none":
        assert np.array_equal(shown, real)
    else:
        assert np.allclose(shown.mean(axis), 0, atol=1e-9) and np.allclose(shown.std(axis), 1)


def test_each_feature_of_a_vector_is_standardised_by_itself(tmp_path: Path) -> None:
    values = (np.random.default_rng(1).normal(0, 1, (6, 4)) * [1, 10, 100, 0] + 5).astype(np.float32)
    data = PartData(stored(tmp_path, Modality("facts", (4,), "vector"), values), "given", "train", CPU, ("lab", 0))
    shown = data.batch(torch.arange(3)).inputs["facts"].numpy()
    spread = values[:3].astype(np.float64)
    wanted = (spread - spread.mean(0)) / np.maximum(spread.std(0), 1e-6)
    assert np.allclose(shown, wanted, atol=1e-4)


# ---- batches ---------------------------------------------------------------------------------------------------
def moments_of(values: np.ndarray) -> dict[str, Any]:
    """Return how vectors (n, d) are standardised."""
    one = Modality("facts", values.shape[1:], "vector")
    found: dict[str, Any] = one.type.moments(one, values[:, None], np.arange(len(values)), 1.0, 0.0)
    return found


def test_a_feature_that_does_not_vary_is_centred_alone() -> None:
    rng = np.random.default_rng(0)
    still = np.full(700, 0.1, np.float32)
    found = moments_of(np.stack([rng.normal(size=700).astype(np.float32), still, 0 * still, 1e6 * still], axis=1))
    assert found["std"][1:] == [1.0, 1.0, 1.0] and found["std"][0] == pytest.approx(1, abs=0.1)
    assert found["mean"][1:] == pytest.approx([0.1, 0, 1e5], rel=1e-6)
    small = moments_of(rng.normal(0, 1e-9, (700, 1)))
    assert small["std"] == pytest.approx([1e-9], rel=0.1), "small is not still"


def test_a_large_offset_does_not_cancel_what_varies() -> None:
    values = np.random.default_rng(1).normal(0, 5, (700, 2)) + np.array([0, 1.7e9])
    found = moments_of(values)
    assert found["std"] == pytest.approx(values.std(axis=0), rel=1e-9)
    assert found["mean"] == pytest.approx(values.mean(axis=0), rel=1e-12)


@pytest.fixture(scope="module")
def lab_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Cache]:
    """`tiny_lab` with no, and with 30 further steps of padding."""
    use_plugins([testing.PLUGINS])
    folder = tmp_path_factory.mktemp("lab")
    return {room: ensure_cache("tiny_lab", {"room": room}, folder, load_index()) for room in (0, 30)}


@pytest.mark.parametrize("stream", [False, True])
def test_a_batch_is_padded_by_its_own_lengths_alone(stream: bool, lab_cache: dict[int, Cache]) -> None:
    pieces = list(torch.arange(40).split(9))
    shown = []
    for cache in lab_cache.values():
        data = PartData(cache, "speaker", "train", CPU, ("tiny_lab", 0), stream=stream)
        shown.append(list(data.batches(pieces, data.views(1))))
    for one, other in zip(*shown, strict=True):
        for name in ("words", "motion"):
            mask = one.mask(name)
            assert mask is not None and one.lengths[name].tolist() == mask.sum(1).tolist()
            assert one.inputs[name].shape[1] == padded_length(int(one.lengths[name].max()))
            assert torch.equal(one.inputs[name], other.inputs[name])
            assert not one.inputs[name][~mask].any()
        assert one.inputs["words"].dtype == torch.int64 and one.mask("facts") is None
    assert {batch.inputs["words"].shape[1] % BUCKET for batch in shown[0]} == {0}


def test_another_padding_gives_the_same_predictions(lab_cache: dict[int, Cache], tmp_path: Path) -> None:
    found = []
    for room, cache in lab_cache.items():
        spec = testing.tiny_spec("joint", "tiny_lab", recipe={"epochs": 2})
        params = {"room": room}
        spec = resolve(
            Request("tiny_lab", "joint", 0, recipe_params=testing.FEW_EPOCHS, dataset_params=params), load_index()
        )
        make_run(spec, load_index(), tmp_path / str(room), cache.folder.parent, device="cpu")
        run = RunFolder.open(tmp_path / str(room) / spec.path)
        assert run.record.lengths == {"words": 12, "motion": 10}
        found.append({name: run.predictions[name] for name in run.predictions})
    for name, values in found[0].items():
        assert np.array_equal(values, found[1][name]), name


def test_views_of_one_row_have_lengths_of_their_own(lab_cache: dict[int, Cache]) -> None:
    data = PartData(lab_cache[0], "speaker", "train", CPU, ("tiny_lab", 0))
    seen = {tuple(data.batch(torch.arange(40), data.views(epoch)).lengths["words"].tolist()) for epoch in range(4)}
    fixed = data.batch(torch.arange(40)).lengths["words"]
    assert len(seen) == 4 and torch.equal(fixed, data.batch(torch.arange(40)).lengths["words"])


def test_noise_on_text_replaces_tokens_and_padding_stays(lab_cache: dict[int, Cache]) -> None:
    plain = PartData(lab_cache[0], "speaker", "test", CPU, ("tiny_lab", 0)).batch(torch.arange(24))
    for strength in (0.0, 0.4, 5.0):
        data = PartData(lab_cache[0], "speaker", "test", CPU, ("tiny_lab", 0), Noise("words", strength))
        noisy = data.batch(torch.arange(24))
        mask = noisy.mask("words")
        assert mask is not None and not noisy.inputs["words"][~mask].any()
        changed = (noisy.inputs["words"] != plain.inputs["words"])[mask].double().mean()
        assert abs(float(changed) - min(strength, 1.0) * 7 / 8) < 0.12
        assert noisy.inputs["words"].max() < 9


def test_a_missing_text_is_empty_and_a_missing_sequence_is_its_mean_step(lab_cache: dict[int, Cache]) -> None:
    method: Any = type("M", (), {"modalities": ("words", "motion", "facts")})()
    data = PartData(lab_cache[0], "speaker", "train", CPU, ("tiny_lab", 0))
    means = mean_inputs(method, data)
    assert set(means) == {"motion", "facts"} and means["motion"].shape == (3,)
    assert torch.allclose(means["motion"], torch.zeros(3), atol=1e-5)  # standardised by these very steps
    batch = without(data.batch(torch.arange(5)), ("facts",), means)
    assert batch.lengths["words"].tolist() == [0] * 5
    assert torch.equal(batch.lengths["motion"], data.batch(torch.arange(5)).lengths["motion"])
    assert torch.equal(batch.inputs["motion"][0, 0], means["motion"])


def test_reordered_and_scaled_batches_keep_lengths_beside_their_inputs(lab_cache: dict[int, Cache]) -> None:
    data = PartData(lab_cache[0], "speaker", "train", CPU, ("tiny_lab", 0))
    batch, order = data.batch(torch.arange(6)), torch.tensor([5, 4, 3, 2, 1, 0])
    moved = batch.reordered({"words": order})
    assert torch.equal(moved.lengths["words"], batch.lengths["words"][order])
    assert torch.equal(moved.inputs["words"], batch.inputs["words"][order])
    assert torch.equal(moved.inputs["motion"], batch.inputs["motion"])
    dropped = batch.scaled({m: torch.tensor([0.0, 1, 1, 1, 1, 2]) for m in ("words", "motion")})
    assert dropped.lengths["words"][0] == 0 and torch.equal(dropped.lengths["words"][1:], batch.lengths["words"][1:])
    assert not dropped.inputs["motion"][0].any()
    assert torch.equal(dropped.inputs["motion"][5], 2 * batch.inputs["motion"][5])


# ---- encoders --------------------------------------------------------------------------------------------------
def built(encoder: str, modality: Modality) -> Any:
    """Return an encoder with its default parameters."""
    kind: Any = load_index().load("encoder", encoder)
    return make_encoder(kind, modality, modality.shape, kind.Params())


@pytest.mark.parametrize(("encoder", "modality"), [(e, m) for e in ("gru", "transformer") for m in (WORDS, STEPS)])
def test_features_do_not_depend_on_padding(encoder: str, modality: Modality) -> None:
    check_padding(built(encoder, modality), modality)


@pytest.fixture
def heedless(plugin_folder: Path) -> str:
    """An encoder that takes a mask and does not heed it."""
    (plugin_folder / "heedless.py").write_text(
        "from mmlbench import Encoder, register\n\n@register\nclass Heedless(Encoder):\n    '''Heeds no mask.'''\n"
        "    ranks, takes_mask, dim = (2,), True, 2\n"
        "    def views(self, inputs, mask=None):\n        return inputs.mean(1)\n"
    )
    use_plugins([plugin_folder])
    return "heedless"


def test_an_encoder_that_does_not_heed_its_mask_is_found(heedless: str) -> None:
    with pytest.raises(CheckError, match="padding"):
        check_padding(built(heedless, STEPS), STEPS)


@pytest.mark.parametrize(
    ("modality", "encoder", "word"),
    [("words", "mlp", "ids"), ("motion", "small_cnn", "length"), ("facts", "gru", "one length"),
     ("motion", "mlp", "shape"), ("facts", "resnet18", "shape")],
)  # fmt: skip
def test_an_encoder_that_does_not_fit_is_refused_with_those_that_do(modality: str, encoder: str, word: str) -> None:
    use_plugins([testing.PLUGINS])
    chosen = {"words": "gru", "motion": "gru", "facts": "mlp"}
    with pytest.raises(ConfigError, match=f"{encoder}.*{modality}.*{word}") as refused:
        testing.tiny_spec("joint", "tiny_lab", recipe={"encoder": {**chosen, modality: encoder}})
    assert chosen[modality] in str(refused.value)


def test_auto_is_the_encoder_that_each_type_names() -> None:
    use_plugins([testing.PLUGINS])
    recipe = testing.tiny_spec("joint", "tiny_lab", recipe={"encoder": "auto"}).config.recipe
    assert {m: one.name for m, one in recipe.encoder.items()} == {"words": "gru", "motion": "gru", "facts": "mlp"}


def test_a_gru_equals_torchs_own_on_packed_sequences() -> None:
    kind: Any = load_index().load("encoder", "gru")
    torch.manual_seed(3)
    encoder = kind((7, 2), kind.Params(width=5)).eval()
    both = torch.nn.GRU(5, 5, batch_first=True, bidirectional=True)
    state = {**encoder.forward_net.state_dict()}
    state |= {f"{name}_reverse": value for name, value in encoder.backward_net.state_dict().items()}
    both.load_state_dict(state)
    inputs, lengths = torch.randn(4, 7, 2), torch.tensor([7, 1, 4, 6])
    mask = torch.arange(7) < lengths[:, None]
    packed = torch.nn.utils.rnn.pack_padded_sequence(encoder.steps(inputs), lengths, True, enforce_sorted=False)
    wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(both(packed)[0], batch_first=True)
    with torch.no_grad():
        assert torch.allclose(encoder.maps(inputs, mask).positions()[mask], wanted[mask], atol=1e-6)
        mean = torch.stack([wanted[k, :n].mean(0) for k, n in enumerate(lengths)])
        assert torch.allclose(encoder(inputs, mask), mean, atol=1e-6)


def test_attention_equals_torchs_own() -> None:
    kind: Any = load_index().load("encoder", "transformer")
    torch.manual_seed(4)
    block = kind((6, 8), kind.Params(width=8, heads=2, layers=1)).layers[0].eval()
    values, mask = torch.randn(3, 6, 8), torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    query, key, value = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in block.project(values).chunk(3, -1))
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask[:, None, None])
    with torch.no_grad():
        found = block.attention(values, mask)
        assert torch.allclose(found, block.out(wanted.transpose(1, 2).flatten(2)), atol=1e-6)


# ---- a type of a plug-in ---------------------------------------------------------------------------------------
SKELETON = '''
from mmlbench import Augmentation, ModalityType, register

@register
class Skeleton(ModalityType):
    """Joints of a body (J, 3)."""

    ranks, axes, encoder, channel_axis, normalise = (2,), "(J, 3)", "pose_net", -1, "per_channel"
'''
POSES = '''
import numpy as np
from mmlbench import Dataset, Encoder, Modality, Sample, Split, register
from .skeleton import Skeleton

@register
class Poses(Dataset):
    """Bodies."""

    modalities = (Modality("front", (4, 3), Skeleton.name), Modality("rear", (4, 3), Skeleton.name))
    class_names = ("sits", "stands")
    splits = {"iid": Split("drawn", {"train": 20, "val": 6, "test": 10})}
    licence = citation = origin = "none"

    def prepare(self, raw, out):
        rng, label = np.random.default_rng(0), np.arange(36) % 2
        for modality in self.modalities:
            out.array(modality.name, 36, "float32")[:, 0] = rng.normal(0, 1, (36, 4, 3)) + label[:, None, None]
        parts = ["train"] * 20 + ["val"] * 6 + ["test"] * 10
        out.split("iid", [Sample(f"{i:02d}", parts[i], int(label[i]), (i, i)) for i in range(36)])

@register
class PoseNet(Encoder):
    """Joints to a feature."""

    name, ranks = "pose_net", (2,)

    def __init__(self, shape, params):
        super().__init__(shape, params)
        from torch import nn
        self.net, self.dim = nn.Linear(12, 5), 5

    def views(self, inputs):
        return self.net(inputs.flatten(1))
'''


@pytest.fixture
def poses(plugin_folder: Path) -> Path:
    (plugin_folder / "skeleton.py").write_text(SKELETON)
    (plugin_folder / "poses.py").write_text(POSES)
    use_plugins([plugin_folder])
    return plugin_folder


@pytest.mark.slow
def test_a_type_of_a_plug_in_goes_from_preparation_to_a_run(poses: Path, tmp_path: Path) -> None:
    request = Request("poses", "joint", 0, recipe_params=testing.FEW_EPOCHS)
    spec = resolve(request, load_index())
    assert spec.config.recipe.encoder["front"].name == "pose_net"
    make_run(spec, load_index(), tmp_path / "results", tmp_path / "cache", device="cpu")
    run = RunFolder.open(tmp_path / "results" / spec.path)
    assert run.predictions["last/test/fused"].shape == (10, 2)
    before = load_index().find("dataset", "poses").fingerprint
    (poses / "skeleton.py").write_text(SKELETON.replace('"per_channel"', '"scalar"'))
    assert load_index().find("dataset", "poses").fingerprint != before


@pytest.mark.parametrize("wrong", ["(4,), Skeleton.name", "(4, 3), Skeleton.name, views=0"])
def test_a_dataset_that_declares_a_modality_wrongly_is_named(wrong: str, poses: Path) -> None:
    (poses / "poses.py").write_text(POSES.replace("(4, 3), Skeleton.name", wrong, 1))
    with pytest.raises(ConfigError, match="'front' has"):
        load_index().find("dataset", "poses")


def test_a_type_that_nobody_has_is_named(plugin_folder: Path) -> None:
    (plugin_folder / "poses.py").write_text(
        POSES.replace("from .skeleton import Skeleton\n", "").replace("Skeleton.name", '"skeletor"')
    )
    use_plugins([plugin_folder])
    with pytest.raises(ConfigError, match="skeletor"):
        load_index().find("dataset", "poses")
