"""Texts as a modality: by words of the train part, by a tokenizer in a folder, by features of a model in a folder."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from text_model import MOST, WIDTH, WORDS, write_bert

from mmlbench.decode.words import MARKS, TARGET, read_text
from mmlbench.errors import ConfigError, DataError
from mmlbench.files import Folder, tokenizer_hash
from mmlbench.frontends import texts
from mmlbench.frontends.picture_text import text_file
from mmlbench.frontends.text_lists import check_id
from mmlbench.frontends.texts import Counts, FeatureReader, TextParams, TokenReader, Written, planned, reader_of

TRAIN = [Written("a good one"), Written("a bad two"), Written("$T$ is good", "Two"), Written("")]


def params(**given: Any) -> TextParams:
    return TextParams(**given)  # type: ignore[call-arg]


# ---- words -------------------------------------------------------------------------------------------------------
def test_a_vocabulary_is_of_the_train_part_and_of_no_other_text() -> None:
    reader = reader_of(params(least=1), TRAIN)
    assert reader.modality.vocabulary == 2 + len(MARKS) + 6  # a good one bad two is
    assert reader.ids(Written("a never seen one"))[0].count(1) == 2
    other = reader_of(params(least=1), [*TRAIN, Written("more")])
    assert other.modality.tokenizer_hash != reader.modality.tokenizer_hash


def test_what_is_planned_has_the_form_of_what_comes() -> None:
    given = params(words=50, length=9)
    before, after = planned(given), reader_of(given, [*TRAIN, *TRAIN]).modality
    assert (
        (before.shape, before.kind, before.tokenizer)
        == (after.shape, after.kind, after.tokenizer)
        == ((9,), "tokens", "words")
    )
    assert before.vocabulary == 52 + len(MARKS) >= after.vocabulary and not before.tokenizer_hash


def test_a_target_stands_between_marks_in_its_place() -> None:
    words = Written("rt $T$ won", "New York").words(lower=True).words
    assert words == ("rt", TARGET, "new", "york", TARGET, "won")
    assert Written("rt $T$ won").words(lower=True).words == ("rt", "$", "t", "$", "won")


def test_texts_are_counted_and_what_is_lost_is_noted() -> None:
    given = params(length=3, least=1)
    reader, counts = reader_of(given, TRAIN), Counts(given)
    for text in (Written("one"), Written("@ann http://a.de one two"), Written(" "), Written("x", bad=2)):
        ids, whole = reader.ids(text)
        counts.add(text, len(ids), whole)
    assert counts.facts() == {
        "texts": 4, "url": 1, "user": 1, "emoji": 0, "empty": 1, "bad bytes": 1, "cut": 1,
    }  # fmt: skip
    assert "4 texts 1 are empty, 1 are cut at 3 words, 1 lack bytes" in counts.note()
    whole = Counts(given)
    whole.add(Written("@ann one"), 2, 2)
    assert whole.note() == "" and "1 a user name" in whole.line()


def test_texts_without_a_frequent_word_make_no_vocabulary() -> None:
    with pytest.raises(DataError, match="no word occurs 5 times"):
        reader_of(params(least=5), TRAIN)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"text": "tokens"}, "needs the folder of a tokenizer"),
        ({"text": "features"}, "needs the folder of a text model"),
        ({"feature": "cls"}, "feature is set"),
    ],
)
def test_parameters_that_say_nothing_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        planned(params(**given))


def test_parameters_of_words_are_refused_beside_a_folder(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="does not read it"):
        planned(params(text_model=str(tmp_path)))
    for name, value in {"words": 7, "least": 3, "case": "kept"}.items():
        with pytest.raises(ConfigError, match=f"{name} is set"):
            planned(params(text="tokens", text_model=str(tmp_path), **{name: value}))


def test_a_text_is_split_once_for_its_ids_and_its_count(monkeypatch: pytest.MonkeyPatch) -> None:
    given = params(least=1)
    reader, counts, split = reader_of(given, TRAIN), Counts(given), []
    monkeypatch.setattr(texts, "read_text", lambda *about: split.append(about[0]) or read_text(*about))
    for text in (Written("one, two"), Written("three"), Written("one, two")):
        ids, whole = reader.ids(text)
        counts.add(text, len(ids), whole)
    assert split == ["one, two", "three", "one, two"]
    assert Written("One").words(True).words != Written("One").words(False).words


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folder:
    """Return a folder whose tokenizer has 70,000 ids, and may not be loaded a second time."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    loads = iter([range(70_000)])
    monkeypatch.setattr(texts, "_tokenizer", lambda content: next(loads))
    found = params(text="tokens", text_model=str(tmp_path)).text_model
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [TokenReader, FeatureReader])
def test_a_worker_loads_no_tokenizer(kind: type[TokenReader], fake: Folder) -> None:
    reader = pickle.loads(pickle.dumps(kind(fake, 3)))
    assert reader.vocabulary == 70_000
    if kind is TokenReader:
        assert reader.view([2, 69_999]).tolist() == [[2, 69_999, 0]] and reader.stored.dtype == "int32"


# ---- a folder ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a BERT with a tokenizer."""
    transformers = pytest.importorskip("transformers", reason="needs the package transformers: pip install '.[hf]'")
    return write_bert(tmp_path_factory.mktemp("models") / "bert", transformers)


def test_ids_are_those_of_the_tokenizer_in_the_folder(bert: Path) -> None:
    reader = reader_of(params(text="tokens", text_model=str(bert), length=8), [])
    assert isinstance(reader, TokenReader)
    ids, whole = reader.ids(Written("One two xyz ones"))
    named = [WORDS[k] for k in ids]
    assert named == ["[CLS]", "one", "two", "[UNK]", "one", "##s", "[SEP]"] and whole == 7
    assert reader.view(ids).tolist() == [[*ids, 0]]
    assert [WORDS[k] for k in reader.ids(Written("a $T$ good", "two"))[0]].count("[SEP]") == 2
    cut, whole = reader.ids(Written("one " * 30))
    assert len(cut) == 8 and whole == 32 and WORDS[cut[-1]] == "[SEP]"


def test_the_modality_declares_the_tokenizer_that_the_encoder_of_the_folder_asks_for(bert: Path) -> None:
    from mmlbench.encoder import make_encoder
    from mmlbench.encoders.hf import HuggingFace

    given = params(text="tokens", text_model=str(bert), length=MOST)
    modality = planned(given)
    assert modality.tokenizer_hash == tokenizer_hash(bert) and modality.vocabulary == len(WORDS)
    assert modality == reader_of(given, []).modality
    assert make_encoder(HuggingFace, modality, modality.shape, HuggingFace.Params(folder=str(bert))).dim == WIDTH
    words = reader_of(params(least=1, length=MOST), TRAIN).modality
    with pytest.raises(ConfigError, match="were made by words"):
        make_encoder(HuggingFace, words, words.shape, HuggingFace.Params(folder=str(bert)))


@pytest.mark.parametrize("feature", ["mean", "cls"])
def test_features_are_those_of_the_frozen_encoder(feature: str, bert: Path) -> None:
    import torch

    from mmlbench.encoders.hf import HuggingFace

    given = params(text="features", text_model=str(bert), length=MOST, feature=feature)
    reader = reader_of(given, [])
    assert isinstance(reader, FeatureReader) and planned(given) == reader.modality
    assert reader.modality.shape == (WIDTH,) and reader.modality.kind == "vector"
    ids, _ = reader.ids(Written("one good two"))
    own = HuggingFace((MOST,), HuggingFace.Params(folder=str(bert), feature=feature), len(WORDS)).eval()
    with torch.no_grad():
        wanted = own(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)).numpy()
    found = reader.view(ids)
    assert found.dtype == np.float32 and np.array_equal(found, reader.view(ids))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert np.abs(found - reader.view(reader.ids(Written("bad"))[0])).max() > 1e-3


def test_a_tokenizer_that_pads_by_another_id_is_refused_for_ids(bert: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    other = tmp_path / "other"
    shutil.copytree(bert, other)
    facts = json.loads((other / "tokenizer_config.json").read_text(encoding="utf-8"))
    (other / "tokenizer_config.json").write_text(json.dumps(facts | {"pad_token": "[MASK]"}), encoding="utf-8")
    assert transformers.AutoTokenizer.from_pretrained(other).pad_token_id == 4
    with pytest.raises(ConfigError, match="pads by the id 4"):
        planned(params(text="tokens", text_model=str(other)))


def test_a_folder_without_a_tokenizer_or_a_model_is_one_line(bert: Path, tmp_path: Path) -> None:
    for name, text in (("vocab.txt", "tokens"), ("config.json", "features")):
        folder = tmp_path / text
        shutil.copytree(bert, folder)
        for left in folder.iterdir():
            if left.name == name or (text == "tokens" and "token" in left.name):
                left.unlink()
        with pytest.raises(DataError, match="tokenizer" if text == "tokens" else "hidden_size"):
            planned(params(text=text, text_model=str(folder)))


# ---- planning ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("text", "fits", "other"), [("features", "mlp", "gru"), ("tokens", "gru", "mlp")])
def test_a_study_is_planned_by_what_the_parameters_make_of_a_text(
    text: str, fits: str, other: str, tmp_path: Path
) -> None:
    from mmlbench.registry.index import load_index
    from mmlbench.study.run_spec import Request, resolve

    (tmp_path / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    given = {"text": text, "text_model": str(tmp_path)}

    def planned_with(encoder: str) -> str:
        fields = {"encoder": {"visual": "small_cnn", "text": encoder}}
        request = Request("mvsa_single", "joint", 0, "official", "pdf", {}, fields, given)
        return resolve(request, load_index()).config.recipe.encoder["text"].name

    assert planned_with(fits) == planned_with("auto") == fits
    with pytest.raises(ConfigError, match="can't take 'text'"):
        planned_with(other)


@pytest.mark.parametrize("name", ["", "a whole sentence", "a\tb", "a\nb", "\u2003", "x" * 121, "a\u0000"])
def test_a_text_in_the_place_of_an_id_is_refused_and_not_shown(name):
    with pytest.raises(DataError) as caught:
        check_id(name, "list.csv, line 3")
    assert "list.csv, line 3" in str(caught.value) and (not name or name not in str(caught.value))
    for good in ("03bSnISJMiM$_$1", "Ses01F_impro01_F000", "apple_pie_1.jpg", "é1", "x" * 120):
        assert check_id(good, "here") == good


def test_a_pipe_in_the_place_of_a_text_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "1.txt")
    assert text_file(tmp_path, "1.txt")[0] is None and "no file" in text_file(tmp_path, "1.txt")[1][1]
