"""Texts as a modality: ids of a vocabulary of words, ids of a tokenizer, or the features of a text model.

A dataset of texts takes `TextParams` and hands its texts to `reader_of`. What comes back says what the modality is,
which for a vocabulary is known only from the texts of the train part: `prepare` then sets `modalities` of the
dataset, and the manifest of the cache has the vocabulary's size and hash. Before that, `planned` says the most that
it can be.
No text is kept, logged or shown, only its ids or features.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..decode.text import id_dtype
from ..decode.words import CASED, KINDS, LOWER, MARKS, TARGET, Text, Words, padded, read_text
from ..errors import ConfigError, DataError, fault
from ..files import Folder, tokenizer_hash
from ..modality import Modality
from ..params import DatasetParams, bounded, choice, folder_field
from ..prepare.task import Stored

#: What a text is stored as: ids of words, ids of the tokenizer in a folder, features of the model in a folder.
WAYS = (WORDS, TOKENS, FEATURES) = ("words", "tokens", "features")
#: Name of the modality.
NAME = "text"
#: Stands for the target in a sentence, as the published lists of Twitter-15 and -17 have it.
MARK = "$T$"
#: Where `text: words` is not chosen these say nothing, and are refused.
_OF_WORDS = ("words", "least", "case")


class TextParams(DatasetParams):
    """How texts are kept."""

    text: str = choice(WORDS, WAYS, doc="ids of words, ids of the tokenizer in text_model, or features of that model")
    text_model: Folder | None = folder_field(doc="local folder of a tokenizer (tokens) or of a text model (features)")
    feature: str = choice("mean", ("mean", "cls"), doc="of the model: mean over all tokens, or the first one")
    length: int = bounded(64, low=2, high=512, doc="words or tokens that are kept of a text")
    words: int = bounded(20_000, low=1, high=1_000_000, doc="most words of the vocabulary, the frequent ones first")
    least: int = bounded(2, low=1, high=1000, doc="times that a word occurs in the train part to have an id")
    case: str = choice("lower", ("lower", "kept"), doc="whether words are in lower case or as they are written")


@dataclass(frozen=True)
class Written:
    """A text as a dataset's files have it.

    Args:
        text: with `MARK` in it where it has a target. target: words that the mark stands for, '' for none.
        bad: bytes that were left out as no UTF-8. apart: see `read_text`.
    """

    text: str
    target: str = ""
    bad: int = 0
    apart: bool = False

    def words(self, lower: bool) -> Text:
        """Return its words; a target stands between two marks in its place, or at the end where it has none."""
        return _words(self, lower)


@lru_cache(maxsize=1)  # a text is counted right after its ids are made
def _words(text: Written, lower: bool) -> Text:
    shown = text.text if not text.target or MARK in text.text else f"{text.text} {MARK}"
    shown = shown.replace(MARK, f" {TARGET} {text.target} {TARGET} ") if text.target else shown
    return read_text(shown, text.bad, lower, text.apart)


class Reader(Protocol):
    """Turns texts into what is stored of them."""

    @property
    def modality(self) -> Modality: ...

    @property
    def stored(self) -> Stored: ...

    def ids(self, text: Written) -> tuple[tuple[int, ...], int]:
        """Return a text's ids, at most as many as are kept, and how many it has in all."""
        ...

    def view(self, ids: Sequence[int]) -> np.ndarray:
        """Return the one view that is stored of a text, (1, *shape)."""
        ...

    def made_by(self) -> dict[str, str]:
        """Return the packages, beside those of pictures, that made what is stored, with their versions."""
        ...


def check_params(params: TextParams) -> None:
    """Refuse parameters of texts that say nothing beside each other.

    Raises:
        ConfigError: naming them.
    """
    if params.text == WORDS and params.text_model is not None:
        raise ConfigError("text_model is named, and text: words does not read it", "Say text=tokens or text=features")
    if params.text != WORDS and params.text_model is None:
        fix = "Name it: text_model=FOLDER, as save_pretrained writes it"
        raise ConfigError(f"text: {params.text} needs the folder of a {_WANTED[params.text]}", fix)
    idle = [name for name in _OF_WORDS if params.text != WORDS] + ["feature"] * (params.text != FEATURES)
    default = TextParams()  # type: ignore[call-arg]
    for name in idle:
        if getattr(params, name) != getattr(default, name):
            raise ConfigError(f"{name} is set, and text: {params.text} does not read it", f"Leave {name} out")


_WANTED = {TOKENS: "tokenizer", FEATURES: "text model"}


def planned(params: TextParams) -> Modality:
    """Return what the modality is before any text is read; of words, with the largest vocabulary that it can have.

    Raises:
        ConfigError: as `check_params`. DataError: the folder is not at hand, or holds no tokenizer or model.
    """
    check_params(params)
    if params.text == WORDS:
        most = params.words + 2 + len(MARKS)
        name = LOWER if params.case == "lower" else CASED
        return Modality(NAME, (params.length,), "tokens", vocabulary=most, tokenizer=name)
    assert params.text_model is not None
    if params.text == FEATURES:
        return Modality(NAME, (_width(params.text_model.path),), "vector")
    return TokenReader(params.text_model, params.length).modality


def reader_of(params: TextParams, train: Sequence[Written]) -> Reader:
    """Return what turns texts into ids or features.

    Args:
        train: the texts of the train part, of which alone a vocabulary is made.

    Raises:
        ConfigError, DataError: as `planned`; there is no word to make a vocabulary of.
    """
    check_params(params)
    if params.text == WORDS:
        lower = params.case == "lower"
        words = Words.of((one.words(lower).words for one in train), params.words, params.least, lower)
        if not words.known:
            what = f"no word occurs {params.least} times in the texts of the train part"
            raise DataError(what, "Check the texts, or say least=1")
        return WordReader(words, params.length)
    assert params.text_model is not None
    if params.text == TOKENS:
        return TokenReader(params.text_model, params.length)
    return FeatureReader(params.text_model, params.length, params.feature)


@dataclass(frozen=True)
class WordReader:
    """Ids of a vocabulary of words, at most `length` of a text."""

    words: Words
    length: int

    @property
    def modality(self) -> Modality:
        """Tokens; the vocabulary's name and hash say which one made the ids."""
        words = self.words
        return Modality(
            NAME,
            (self.length,),
            "tokens",
            vocabulary=words.vocabulary,
            tokenizer=words.name,
            tokenizer_hash=words.hash,
        )

    @property
    def stored(self) -> Stored:
        """How the ids are kept."""
        return Stored(id_dtype(self.words.vocabulary))

    def ids(self, text: Written) -> tuple[tuple[int, ...], int]:
        """Return the ids of a text's words, and how many words it has."""
        found = text.words(self.words.lower).words
        return self.words.ids(found, self.length), len(found)

    def view(self, ids: Sequence[int]) -> np.ndarray:
        """Return ids, padded by 0, (1, length)."""
        return padded(ids, self.length, self.words.vocabulary)[None]

    def made_by(self) -> dict[str, str]:
        """Return none."""
        return {}


@dataclass(frozen=True)
class TokenReader:
    """Ids of the tokenizer in a local folder, with its own first and last token, at most `length` of a text.

    A target is the second text of a pair, as TomBERT's code gives it, and its mark stays in the sentence.

    Attributes:
        vocabulary: ids that the tokenizer has; kept, so that no worker loads a tokenizer for it.
    """

    folder: Folder
    length: int
    vocabulary: int = field(init=False)

    def __post_init__(self) -> None:
        """Ask the tokenizer once, before workers get a copy."""
        object.__setattr__(self, "vocabulary", len(_tokenizer(self.folder.content)))

    @property
    def modality(self) -> Modality:
        """Tokens, of which the encoder `hf:FOLDER` of the same folder knows that its own tokenizer made them.

        Raises:
            ConfigError: the tokenizer's padding is not the id 0, which is mmlbench's.
        """
        tokenizer, path = _tokenizer(self.folder.content), self.folder.path
        if tokenizer.pad_token_id != 0:
            what = f"the tokenizer in {path} pads by the id {tokenizer.pad_token_id}, and mmlbench by 0"
            raise ConfigError(what, "Take a tokenizer like BERT's, or store features: text=features")
        found = tokenizer_hash(path)
        return Modality(
            NAME, (self.length,), "tokens", vocabulary=self.vocabulary, tokenizer=path.name, tokenizer_hash=found
        )

    @property
    def stored(self) -> Stored:
        """How the ids are kept."""
        return Stored(id_dtype(self.vocabulary))

    def ids(self, text: Written) -> tuple[tuple[int, ...], int]:
        """Return a text's ids with the tokenizer's own marks, and how many there are of the whole text."""
        tokenizer = _tokenizer(self.folder.content)
        texts = (text.text, text.target) if text.target else (text.text,)
        whole = tokenizer(*texts)["input_ids"]
        if len(whole) <= self.length:
            return tuple(whole), len(whole)
        return tuple(tokenizer(*texts, truncation=True, max_length=self.length)["input_ids"]), len(whole)

    def view(self, ids: Sequence[int]) -> np.ndarray:
        """Return ids, padded by 0, (1, length)."""
        return padded(ids, self.length, self.vocabulary)[None]

    def made_by(self) -> dict[str, str]:
        """Return the versions of what reads tokenizers."""
        return {name: version(name) for name in ("transformers", "tokenizers")}


@dataclass(frozen=True)
class FeatureReader(TokenReader):
    """Features of the text model in a local folder, which nothing trains any more: float32 (1, width).

    They are those of the encoder `hf:FOLDER`, of one text at a time, on the CPU and in one thread, so that they
    depend neither on other texts nor on the number of workers.
    """

    feature: str = "mean"

    @property
    def modality(self) -> Modality:
        """A vector."""
        return Modality(NAME, (_width(self.folder.path),), "vector")

    @property
    def stored(self) -> Stored:
        """How features are kept."""
        return Stored("float32")

    def view(self, ids: Sequence[int]) -> np.ndarray:
        """Return the model's feature of a text, (1, width)."""
        import torch

        model = _model(self.folder.content, self.length, self.feature, self.vocabulary)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                found = model.views(torch.tensor([list(ids)]), torch.ones(1, len(ids), dtype=torch.bool))
        finally:
            torch.set_num_threads(threads)
        return found.numpy().astype(np.float32)

    def made_by(self) -> dict[str, str]:
        """Return the versions of what reads tokenizers and computes features."""
        return super().made_by() | {"torch": version("torch")}


@lru_cache(maxsize=2)
def _tokenizer(content: str) -> Any:
    """Return the tokenizer of a folder, by the folder's content; nothing is downloaded, no code of it is run.

    Raises:
        ConfigError: transformers is not installed.
        DataError: the folder holds no tokenizer, or one that can't be read.
    """
    folder = Folder(content)
    path = folder.path
    tokenizer_hash(path)  # says what is wrong where there is none
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    try:
        import transformers
    except ImportError as error:
        what = f"a tokenizer in a folder needs the package transformers ({error})"
        raise ConfigError(what, "Install it: pip install 'mmlbench[hf]'") from None
    transformers.utils.logging.set_verbosity_error()
    try:
        found = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        what = f"the tokenizer in {path} can't be read: {fault(error)[0]}"
        raise DataError(what, "Save the tokenizer by save_pretrained(FOLDER)") from None
    folder.check(path)
    return found


@lru_cache(maxsize=1)
def _model(content: str, length: int, feature: str, vocabulary: int) -> Any:
    """Return the encoder `hf:FOLDER` of a folder, in evaluation mode."""
    from ..encoders.hf import HuggingFace

    params = HuggingFace.Params(folder=Folder(content), feature=feature)
    return HuggingFace((length,), params, vocabulary).eval()


def _width(path: Path) -> int:
    """Return how many numbers the feature of a folder's model has.

    Raises:
        DataError: its config.json does not say.
    """
    try:
        found = json.loads((path / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, int) or found < 1:
        what = f"{path / 'config.json'} does not say the model's hidden_size"
        raise DataError(what, "Save the model by save_pretrained(FOLDER)")
    return found


class Counts:
    """What is counted of a dataset's texts as they are read; never a text itself."""

    def __init__(self, params: TextParams) -> None:
        self.params, self.texts, self.found = params, 0, Counter[str]()

    def add(self, text: Written, kept: int, whole: int) -> None:
        """Count a text of which `kept` of `whole` words or tokens are kept."""
        self.texts += 1
        self.found.update(text.words(self.params.case == "lower").found)
        self.found.update(["cut"] * (kept < whole))

    def facts(self) -> dict[str, int]:
        """Return how many texts have what, for the manifest."""
        return {"texts": self.texts} | {name: self.found[name] for name in (*KINDS, "cut")}

    def line(self) -> str:
        """Return all of it as a line of the log."""
        has = f"{self.found['url']} have an address, {self.found['user']} a user name, {self.found['emoji']} an emoji"
        return f"of {self.texts} texts {has}; {self._losses()}"

    def note(self) -> str:
        """Return what every table has to say: what was lost of texts; '' where nothing was."""
        lost = any(self.found[name] for name in ("empty", "bad bytes", "cut"))
        return f"of {self.texts} texts {self._losses()}" if lost else ""

    def _losses(self) -> str:
        kept = f"cut at {self.params.length} {'words' if self.params.text == WORDS else 'tokens'}"
        bad = f"{self.found['bad bytes']} lack bytes that are no UTF-8"
        return f"{self.found['empty']} are empty, {self.found['cut']} are {kept}, {bad}"
