"""A tokenizer and a frozen text model in a local folder, from the raw files of a miniature to a run."""

from __future__ import annotations

import json
from pathlib import Path

import mini_texts
import pytest
from bad_input import run
from text_model import MOST, WIDTH, write_bert

from mmlbench.cli import main
from mmlbench.files import tokenizer_hash
from mmlbench.prepare.cache import Cache

transformers = pytest.importorskip("transformers", reason="needs the package transformers: pip install '.[hf]'")
pytestmark = pytest.mark.slow
SMALL = {"name": "small_cnn", "params": {"width": 4}}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("models") / "bert", transformers)


def params(way: str, folder: Path) -> list[str]:
    pairs = ("size=32", f"text={way}", f"text_model={folder}", f"length={MOST}")
    return [word for pair in pairs for word in ("--dataset-set", pair)]


def prepared(way: str, folder: Path, root: Path, workers: int = 1) -> Cache:
    """Prepare MVSA-Single's miniature below a folder and return its cache."""
    raw, lists = mini_texts.mvsa_single(root / "mini")
    words = ["prepare", "mvsa_single", "--raw", str(raw), "--lists", str(lists), "--cache", str(root / "cache")]
    assert main([*words, *params(way, folder), "--workers", str(workers)]) == 0
    (found,) = (root / "cache").glob("mvsa_single-*/")
    return Cache.open(found)


def train(way: str, folder: Path, root: Path, text: object) -> list[str]:
    """Return the command that trains on it."""
    fields = {"epochs": 1, "batch_size": 8, "encoder": json.dumps({"visual": SMALL, "text": text})}
    words = ["train", "--dataset", "mvsa_single", "--method", "joint", "--recipe", "pdf", "--device", "cpu"]
    words += [word for name, value in fields.items() for word in ("--recipe-set", f"{name}={value}")]
    return [*words, *params(way, folder), "--cache", str(root / "cache"), "--results", str(root / "results")]


def test_the_encoder_of_a_folder_takes_the_ids_of_its_tokenizer_and_refuses_others(
    bert: Path, tmp_path: Path, capsys
) -> None:
    cache = prepared("tokens", bert, tmp_path)
    assert cache.modality("text").tokenizer_hash == tokenizer_hash(bert)
    assert {"transformers", "tokenizers"} <= set(cache.manifest["raw"]["texts"])
    assert main(train("tokens", bert, tmp_path, f"hf:{bert}")) == 0
    other = write_bert(tmp_path / "other", transformers, seed=5)
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text() + "\n", encoding="utf-8")
    code, lines = run(capsys, *train("tokens", bert, tmp_path, f"hf:{other}"))
    assert code == 2 and "were made by bert" in lines[-1] and tokenizer_hash(bert) in lines[-1]


def test_frozen_features_are_stored_once_whatever_the_workers(bert: Path, tmp_path: Path) -> None:
    one, two = (prepared("features", bert, tmp_path / str(count), count) for count in (1, 2))
    assert one.modality("text").shape == (WIDTH,) and one.manifest == two.manifest
    assert main(train("features", bert, tmp_path / "1", "mlp")) == 0


def test_another_model_makes_another_cache(bert: Path, tmp_path: Path) -> None:
    first = prepared("features", bert, tmp_path / "a")
    other = write_bert(tmp_path / "other", transformers, seed=5)
    second = prepared("features", other, tmp_path / "b")
    assert first.folder.name != second.folder.name
    assert first.manifest["fingerprint"] != second.manifest["fingerprint"]
