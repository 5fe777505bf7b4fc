"""`hf:FOLDER`: a small random BERT and ViT, saved by transformers, give what transformers itself gives."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from stopped import differing, make

from mmlbench import files
from mmlbench.api.making import ensure_cache, make_run
from mmlbench.encoder import make_encoder
from mmlbench.encoders.hf import HuggingFace
from mmlbench.errors import ConfigError, DataError, MmlbenchError
from mmlbench.modality import Modality
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study import config as configs
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing import PLUGINS
from mmlbench.testing.conformance import check_maps, check_padding
from mmlbench.train.build import build_encoders

transformers: Any = pytest.importorskip("transformers", reason="needs the package transformers: pip install '.[hf]'")

FOLDER = Path(__file__).parents[1] / "plugins"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "##s"]
LENGTH = 12


def vary(model: Any) -> Any:
    """Return a model with weights unlike those of any initialisation, so that a forgotten one shows."""
    torch.manual_seed(4)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a BERT with a tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    vary(transformers.BertModel(config)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a ViT for pictures of 32 pixels."""
    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
    )  # fmt: skip
    vary(transformers.ViTModel(config)).save_pretrained(folder)
    facts = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def made(folder: Path, shape: tuple[int, ...], **params: Any) -> HuggingFace:
    """Return an encoder of ids of the words, or of pictures."""
    vocabulary = len(WORDS) if len(shape) == 1 else 0
    return HuggingFace(shape, HuggingFace.Params(folder=str(folder), **params), vocabulary).eval()


def ids_and_mask() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    lengths = torch.tensor([LENGTH, 5, 1])
    return torch.randint(5, len(WORDS), (3, LENGTH)), torch.arange(LENGTH) < lengths.unsqueeze(1)


# --- text -------------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_text_gives_transformers_own_states(bert: Path):
    own = transformers.BertModel.from_pretrained(bert).eval()
    ids, mask = ids_and_mask()
    wanted = own(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    real = mask.unsqueeze(2)
    encoder = made(bert, (LENGTH,))
    assert encoder(ids, mask).shape == (3, encoder.dim) == (3, 16)
    torch.testing.assert_close(encoder(ids, mask), (wanted * real).sum(1) / real.sum(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(made(bert, (LENGTH,), feature="cls")(ids, mask), wanted[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder(ids), own(input_ids=ids).last_hidden_state.mean(1), rtol=0, atol=1e-5)
    assert (encoder(ids, mask) - encoder(ids)).abs().max() > 1e-2, "the mask counts"


@torch.no_grad()
@pytest.mark.parametrize("feature", ["mean", "cls"])
def test_what_is_masked_changes_nothing(feature: str, bert: Path):
    encoder = made(bert, (LENGTH,), feature=feature)
    ids, mask = ids_and_mask()
    other = torch.where(mask, ids, 7)
    assert not torch.equal(ids, other)
    torch.testing.assert_close(encoder(ids, mask), encoder(other, mask), rtol=0, atol=1e-6)
    short = ids[1:2, :5]
    torch.testing.assert_close(made(bert, (5,), feature=feature)(short), encoder(ids, mask)[1:2], rtol=0, atol=1e-6)


@torch.no_grad()
def test_an_empty_text_gives_finite_features(bert: Path):
    ids, mask = ids_and_mask()
    assert made(bert, (LENGTH,))(ids, torch.zeros_like(mask)).isfinite().all()


def test_its_example_is_of_ids(bert: Path, vit: Path):
    encoder = made(bert, (LENGTH,))
    assert encoder.example(2).dtype == torch.int64 and encoder(encoder.example(2)).shape == (2, 16)
    assert made(vit, (3, 32, 32)).example(2, 3).shape == (2, 3, 3, 32, 32)


def test_the_suite_finds_no_slip_in_either(bert: Path, vit: Path):
    """A batch may be padded to more steps than the model has places for; those are cut."""
    text = Modality("text", (LENGTH,), "tokens", vocabulary=len(WORDS))
    for feature in ("mean", "cls"):
        check_padding(made(bert, text.shape, feature=feature), text)
        check_maps(made(bert, text.shape, feature=feature), text)
    picture = Modality("picture", (3, 32, 32), "image")
    check_maps(made(vit, picture.shape), picture)


# --- the tokenizer ----------------------------------------------------------------------------------------------
#: Texts of the words of `bert` beside a picture, as its tokenizer writes them.
TALK = '''
import numpy as np
from mmlbench import Dataset, Modality, Sample, Split, register

@register
class Talk(Dataset):
    """Numbers in words."""

    modalities = (
        Modality("words", (12,), "tokens", vocabulary={vocabulary}, tokenizer="numbers"{declared}),
        Modality("picture", (1, 8, 8), "image"),
    )
    class_names = ("odd", "even")
    splits = {{"all": Split("all alike", {{"train": 24, "val": 8, "test": 12}})}}
    licence = citation = origin = "of this test"

    def prepare(self, raw, out):
        rng, label = np.random.default_rng(3), np.arange(44) % 2
        words, picture = out.array("words", 44, "int16"), out.array("picture", 44, "float32")
        words[...] = rng.choice([5, 6, 7], words.shape)
        words[label == 1] = rng.choice([6, 8], words[label == 1].shape)
        words[..., 0] = 2
        picture[...] = rng.standard_normal(picture.shape)
        out.lengths("words", rng.integers(2, 13, 44))
        words.flush(), picture.flush()
        parts = np.repeat(["train", "val", "test"], [24, 8, 12])
        out.split("all", [Sample(f"{{i:02d}}", parts[i], int(label[i]), (i, i)) for i in range(44)])
'''


def talk(folder: Path, tokenizer: str, vocabulary: int = len(WORDS)) -> None:
    """Write the dataset of texts, whose ids a tokenizer of that hash is said to have made ('' for no word of it)."""
    declared = f", tokenizer_hash={tokenizer!r}" * bool(tokenizer)
    (folder / "talk.py").write_text(TALK.format(vocabulary=vocabulary, declared=declared))
    use_plugins([PLUGINS, FOLDER, folder])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["joint", "cross_attention"])
def test_a_text_modality_trains_from_a_folder_and_resumes(method, bert, plugin_folder, tmp_path):
    talk(plugin_folder, files.tokenizer_hash(bert))
    fields = {"epochs": 2, "batch_size": 6, "encoder": {"words": f"hf:{bert}", "picture": "small_cnn"}}
    spec = resolve(Request("talk", method, 0, recipe_params=fields), load_index())
    ensure_cache("talk", {}, tmp_path / "cache", load_index())
    make(spec, tmp_path / "cache", tmp_path / "whole")
    assert make(spec, tmp_path / "cache", tmp_path / "pieces", every=3) >= 2
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "pieces" / spec.path) == []
    record = json.loads((tmp_path / "whole" / spec.path / "run.json").read_text())
    assert record["contents"]["weights"] == {"words.folder": files.folder_content_of(bert).removeprefix("sha256:")}


@pytest.mark.slow
def test_ids_of_another_tokenizer_are_refused_when_it_is_planned(bert, plugin_folder):
    talk(plugin_folder, "0123456789abcdef")
    block = {"dataset": "talk", "seeds": [0], "methods": ["joint"]}
    block["recipe_set"] = {"epochs": 1, "encoder": {"words": f"hf:{bert}", "picture": "small_cnn"}}
    with pytest.raises(ConfigError) as caught:
        configs.study({"plugins": [str(PLUGINS), str(FOLDER), str(plugin_folder)], "grid": [block]})
    own = files.tokenizer_hash(bert)
    message = f"in {bert} is {own}, and the ids of 'words' were made by numbers, 0123456789abcdef"
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "'words' does not say which one made its ids. If it is that one, declare tokenizer_hash='{own}'"),
        ({"tokenizer_hash": "0" * 16}, "the ids of 'words' were made by another one, 0000000000000000. Prepare"),
        ({"vocabulary": 99}, f"knows the ids 0 to {len(WORDS) - 1}, and the modality has ids up to 98. Prepare"),
        ({"tokenizer_hash": "{own}", "vocabulary": len(WORDS) - 1}, ""),
    ],
)
def test_ids_that_the_model_was_not_trained_on_are_refused_in_one_line(facts, message, bert):
    own = files.tokenizer_hash(bert)
    told = {name: own if value == "{own}" else value for name, value in facts.items()}
    modality = Modality("words", (LENGTH,), "tokens", **{"vocabulary": len(WORDS), **told})
    params = HuggingFace.Params(folder=str(bert))
    if not message:
        assert make_encoder(HuggingFace, modality, modality.shape, params).dim == 16
        return
    with pytest.raises(ConfigError) as caught:
        make_encoder(HuggingFace, modality, modality.shape, params)
    assert message.format(own=own) in str(caught.value) and "\n" not in str(caught.value)


def test_the_hash_of_a_tokenizer_is_that_of_its_file_alone(bert: Path, tmp_path: Path):
    folder, own = copy(bert, tmp_path), files.tokenizer_hash(bert)
    (folder / "config.json").write_text("{}")
    assert files.tokenizer_hash(folder) == own and len(own) == 16
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
    assert files.tokenizer_hash(folder) != own
    for name in files.TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.json").write_text("{}")
    alone = files.tokenizer_hash(folder)
    (folder / "merges.txt").write_text("a b")
    assert files.tokenizer_hash(folder) != alone


def test_a_vector_is_no_text(bert: Path):
    use_plugins([PLUGINS])
    encoder = {"words": "gru", "motion": "gru", "facts": f"hf:{bert}"}
    with pytest.raises(ConfigError, match=r"hf.*'facts'.* whose values are no ids"):
        resolve(Request("tiny_lab", "joint", 0, recipe_params={"encoder": encoder}), load_index())


# --- pictures ---------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_pictures_give_transformers_own_states(vit: Path):
    own, inputs = transformers.ViTModel.from_pretrained(vit).eval(), torch.randn(2, 3, 32, 32)
    wanted = own(pixel_values=inputs).last_hidden_state
    torch.testing.assert_close(made(vit, (3, 32, 32))(inputs), wanted.mean(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(made(vit, (3, 32, 32), feature="cls")(inputs), wanted[:, 0], rtol=0, atol=1e-5)


def test_pictures_are_normalised_as_the_preprocessor_does_it(vit: Path, tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    index = load_index()
    cache = ensure_cache("pictures", {}, tmp_path, index)
    fields = {"epochs": 1, "batch_size": 8, "encoder": {"audio": "small_cnn", "visual": f"hf:{vit}"}}
    spec = resolve(Request("pictures", "joint", 0, recipe_params=fields), index)
    encoder = build_encoders(spec.config, cache, index)["visual"]
    gain, bias = cache.affine("only", "visual")
    stored = torch.from_numpy(cache.array("visual")[:3, 0].copy())
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ([0.5, 0.4, 0.3], [0.5, 0.25, 0.2]))
    wanted = (stored.float() / 255 - mean) / std
    torch.testing.assert_close(encoder.renormalised(stored.float() * gain + bias), wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_run_from_a_folder(vit: Path, tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    fields = {"epochs": 1, "batch_size": 8, "encoder": {"audio": "small_cnn", "visual": f"hf:{vit}"}}
    spec = resolve(Request("pictures", "joint", 0, recipe_params=fields), load_index())
    make_run(spec, load_index(), tmp_path / "results", tmp_path / "cache", device="cpu")
    record = json.loads((tmp_path / "results" / spec.path / "run.json").read_text())
    assert record["contents"]["weights"] == {"visual.folder": files.folder_content_of(vit).removeprefix("sha256:")}
    assert record["packages"]["transformers"] == transformers.__version__
    from mmlbench.study.run_spec import encoder_label

    short = files.short(files.folder_content_of(vit))
    assert encoder_label(spec.config, load_index()) == f"audio=small_cnn+visual=hf:folder={short}"


# --- the folder -------------------------------------------------------------------------------------------------
def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (["config.json"], "holds no config.json"),
        (["model.safetensors"], "holds no weights"),
        (["vocab.txt", "tokenizer.json"], "holds no tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_in_one_line(
    remove: list[str], message: str, bert: Path, tmp_path: Path
):
    folder = copy(bert, tmp_path)
    for name in remove:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(DataError) as caught:
        made(folder, (LENGTH,))
    assert message in caught.value.what and "\n" not in str(caught.value) and caught.value.fix


def test_a_vision_folder_says_how_pictures_are_normalised(vit: Path, tmp_path: Path):
    folder = copy(vit, tmp_path)
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(DataError, match="no image_mean and image_std"):
        made(folder, (3, 32, 32))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match=r"holds no preprocessor_config\.json"):
        made(folder, (3, 32, 32))


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("bert", (LENGTH + 1,), f"takes {LENGTH} tokens at most, and the modality has {LENGTH + 1}"),
        ("bert", (3, 32, 32), r"the bert model in .* can't take pictures \(C, H, W\)"),
        ("vit", (LENGTH,), r"the vit model in .* can't take token ids \(L,\)"),
        ("vit", (1, 32, 32), "were trained on 3 channels, and the modality has 1"),
        ("vit", (3, 48, 48), "were trained on 32 x 32 pixels, and the modality has 48 x 48"),
    ],
)
def test_a_modality_that_the_model_was_not_trained_on_is_refused(kind, shape, message, request):
    with pytest.raises(ConfigError, match=message):
        made(request.getfixturevalue(kind), shape)


@pytest.mark.parametrize("change", ["lacks", "shape", "garbage", "kind"])
def test_weights_that_do_not_fit_their_config_are_refused(change: str, bert: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = copy(bert, tmp_path)
    path, config = folder / "model.safetensors", json.loads((folder / "config.json").read_text())
    state = load_file(path)
    name = next(name for name in state if name.endswith("layer.1.output.dense.weight"))
    if change == "lacks":
        del state[name]
    elif change == "shape":
        state[name] = torch.ones(3, 3)
    elif change == "kind":
        config["model_type"] = "no_such_model"
    save_file(state, path, {"format": "pt"})
    if change == "garbage":
        path.write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError) as caught:
        made(folder, (LENGTH,))
    assert "\n" not in str(caught.value)
    assert change not in ("lacks", "shape") or "layer.1.output.dense.weight" in caught.value.what


def test_one_byte_of_any_file_that_counts_is_another_content(bert: Path, tmp_path: Path):
    folder, first = copy(bert, tmp_path), files.folder_content_of(bert)
    assert files.folder_content_of(folder) == first, "where it lies does not count"
    (folder / "notes.md").write_text("not read")
    (folder / ".hidden.json").write_text("not read")
    assert files.folder_content_of(folder) == first
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        changed = copy(bert, tmp_path / name)
        data = bytearray((changed / name).read_bytes())
        data[-1] ^= 1
        (changed / name).write_bytes(data)
        assert files.folder_content_of(changed) != first, name
    (folder / "added.json").write_text("{}")
    assert files.folder_content_of(folder) != first


def test_a_folder_that_changes_while_it_is_read_is_refused(bert: Path, tmp_path: Path, monkeypatch):
    folder = copy(bert, tmp_path)
    encoder = made(folder, (LENGTH,))
    content = encoder.params.folder
    (folder / "added.json").write_text("{}")
    with pytest.raises(DataError, match="was changed while it was being read"):
        content.check(folder)


def test_a_missing_file_does_not_go_to_the_network(bert: Path, vit: Path, tmp_path: Path, monkeypatch):
    """Also where the folder is called as a model of the hub."""
    asked: list[Any] = []

    def refuse(*words: Any, **options: Any) -> None:
        asked.append(words)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    for source, shape in ((bert, (LENGTH,)), (vit, (3, 32, 32))):
        for name in sorted(path.name for path in source.iterdir()):
            folder = Path(shutil.copytree(source, tmp_path / "google-bert" / "bert-base-uncased"))
            (folder / name).unlink()
            with contextlib.suppress(MmlbenchError):
                made(Path("google-bert/bert-base-uncased"), shape)
            shutil.rmtree(folder)
    assert asked == []
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_no_code_and_no_pickle_of_a_folder_is_read(bert: Path, tmp_path: Path):
    folder = copy(bert, tmp_path)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "code.Model", "AutoConfig": "code.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    made(folder, (LENGTH,))
    assert not (tmp_path / "ran").exists()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="holds no weights"):
        made(folder, (LENGTH,))


# --- its name ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("hf", "lacks its folder. Write hf:FOLDER"),
        ("hf:nowhere", "the folder {place}/nowhere does not exist"),
        ("hf:file.json", "{place}/file.json is a file, not a folder"),
        ("hf:empty", "it holds no file that ends in .json"),
        ("hf:", "folder = '' is not valid"),
    ],
)
def test_what_is_no_folder_is_refused_when_it_is_planned(encoder: str, message: str, tmp_path: Path, monkeypatch):
    use_plugins([PLUGINS])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        resolve(Request("tiny", "joint", 0, recipe_params={"encoder": encoder}), load_index())
    assert message.format(place=tmp_path) in str(caught.value)


def test_a_folder_in_a_recipe_starts_at_its_folder(vit: Path, tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    shutil.copytree(vit, tmp_path / "recipes" / "models" / "vit")
    (tmp_path / "recipes" / "mine.yaml").write_text(
        "epochs: 1\nencoder: {audio: small_cnn, visual: 'hf:models/vit'}\n"
    )
    spec = resolve(Request("pictures", "joint", 0, recipe=str(tmp_path / "recipes" / "mine.yaml")), load_index())
    assert spec.config.recipe.encoder["visual"].params["folder"] == files.folder_content_of(vit)
    assert spec.config.recipe.encoder["visual"].pretrained
