"""MOSI and MOSEI as their features circulate: what the two share.

Read are the SDK's computational sequences (`_computational_sequences.py`), and two families of pickles. Each of these
is a dict of 'train', 'valid' and 'test', which are dicts of arrays:

| | MMSA: `aligned_50.pkl`, `unaligned_50.pkl` | MulT: `mosi_data.pkl`, `mosi_data_noalign.pkl` ... |
|---|---|---|
| text | `text` (n, 50, 768); `text_bert` (n, 3, 50): ids, mask, segments | `text` (n, 50, 300) |
| audio, visual | `audio`, `vision` (n, steps, features) | the same |
| sentiment | `regression_labels` (n,) | `labels` (n, 1, 1) |
| ids | `id`: 'VIDEO$_$CLIP' | `id` (n, 3): video, start, end |

Sources: thuiar/MMSA @1f7558b, data/load_data.py, config/config_regression.json and models/subNets/BertTextEncoder.py;
yaohungt/Multimodal-Transformer @4002b6b, src/dataset.py; pliang279/MultiBench @0130a10, datasets/affect/get_data.py,
which shows that some are padded in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmlbench import (
    CacheWriter,
    DataError,
    Dataset,
    DatasetParams,
    Download,
    Listed,
    Modality,
    Regression,
    Sample,
    bounded,
    choice,
)
from mmlbench.frontends import features
from mmlbench.frontends.features import Sequences
from mmlbench.storage.words import plural

from . import _computational_sequences as sequences
from ._computational_sequences import Sentence

PARTS = {"train": "train", "val": "valid", "test": "test"}
#: The absolute error is MulT's loss (main.py).
TASK = Regression("sentiment", low=-3, high=3, loss_kind="l1")
#: Features of a word's vector, by the parameter `text`.
WIDTHS = {"bert": 768, "glove": 300}
#: Words of a sentence, [CLS] and [SEP] included, in every file that circulates.
WORDS = 50
#: Ids of bert-base-uncased (`vocab_size` of its configuration), padding by 0 included.
BERT, VOCABULARY = "bert-base-uncased", 30522
ALIGNED, UNALIGNED, SDK = "aligned", "unaligned", "csd"
#: What becomes of a sentiment of 0 with two classes.
KEPT, LEFT_OUT = ZEROS = ("non_negative", "left_out")
MODALITIES = {"text": "text", "audio": "audio", "visual": "vision"}
MULT = "https://github.com/yaohungt/Multimodal-Transformer"
MMSA = "https://github.com/thuiar/MMSA"
SDK_CODE = "https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK"
ORIGIN = f"the processed files of {MMSA[19:]} or {MULT[19:]}, or the sequences of {SDK_CODE[19:]}"
BY_HAND = "a folder on Dropbox, linked from the README of that repository"
UNKNOWN = "where the file lies is unknown here; the code of that repository reads it"
#: (form, whether of MMSA) -> the name of the file.
Files = dict[tuple[str, bool], str]


class SentimentParams(DatasetParams):
    """Which of the files that circulate is read."""

    form: str = choice(
        ALIGNED, (ALIGNED, UNALIGNED, SDK), doc="audio and visual averaged over each word, as they were, or the SDK's"
    )
    text: str = choice("bert", ("bert", "glove", "bert_ids"), doc="vectors of BERT, of GloVe, or ids for BERT")
    audio_features: int = bounded(74, low=1, high=10_000, doc="numbers in a step of audio")
    visual_features: int = bounded(35, low=1, high=10_000, doc="numbers in a step of visual")
    steps: int = bounded(500, low=1, high=100_000, doc="most steps of audio and visual where they are not aligned")


def downloads_of(files: Files) -> tuple[Download, ...]:
    """Return what `mmlbench fetch` names; one file is enough."""
    found = []
    for (form, of_mmsa), name in files.items():
        where, how = (MMSA, UNKNOWN) if of_mmsa else (MULT, BY_HAND)
        family = "MMSA" if of_mmsa else "MulT"
        also = (f"*/{name}", f"*/*/{name}")
        found.append(Download(name, where, how=how, form=f"{family}, {form}", also=also))
    how = "its classes download them; which of its servers still answer is unknown here"
    also = ("*.csd", "*/*.csd")
    found.append(Download("computational sequences (.csd)", SDK_CODE, how=how, form="the SDK's", also=also))
    return tuple(found)


def modalities(params: SentimentParams) -> tuple[Modality, ...]:
    """Return the modalities of a form."""
    steps = WORDS if params.form == ALIGNED else params.steps
    if params.text == "bert_ids":
        text = Modality("text", (WORDS,), "tokens", vocabulary=VOCABULARY, tokenizer=BERT)
    else:
        text = Modality("text", (WORDS, WIDTHS[params.text]), "sequence")
    return (
        text,
        Modality("audio", (steps, params.audio_features), "sequence"),
        Modality("visual", (steps, params.visual_features), "sequence"),
    )


class SentimentFeatures(Dataset):
    """Base of the two: text, audio and visual of a sentence, and its sentiment from -3 to 3."""

    Params = SentimentParams
    params: SentimentParams
    task: ClassVar[Regression | None] = TASK
    needs_raw = True
    files: ClassVar[Files]
    #: Of the SDK: modality, 'labels' or 'folds' -> names of the file, any of which may be there.
    sequences: ClassVar[dict[str, tuple[str, ...]]]

    def __init__(self, params: SentimentParams | None = None) -> None:
        super().__init__(params)
        self.modalities = modalities(self.params)

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the file, cut sequences to their real steps, store all of it."""
        features.refuse_lists(out)
        if self.params.form == SDK:
            self._prepare_sequences(raw, out)
            return
        path = self._file(raw)
        parts = features.read_parts(path, PARTS)
        samples, repeated = self._samples(path, parts)
        features.leave_out(out, [sample.id for sample in samples])
        found = {part: self._sequences(f"{path}: {PARTS[part]}", content) for part, content in parts.items()}
        features.note_file(out, raw, [path])
        if self.params.text == "bert_ids":
            self._store_ids(out, path, parts)
        for name in found["train"]:
            features.store_sequences(out, name, [found[part][name] for part in PARTS])
        unnamed = [PARTS[part] for part, content in parts.items() if content.get("id") is None]
        if unnamed:
            out.notes.append(f"no ids in {' and '.join(unnamed)}: a video in two parts would not show")
        if repeated:
            out.notes.append(f"{plural(repeated, 'sample')} kept whose id was there before, with '#2' behind it")
        features.note_shared_groups(out, samples, "video")
        out.split("standard", self.kept(samples))

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the samples of the file, without reading features."""
        if raw is None:
            return {}
        if self.params.form == SDK:
            return {"standard": Listed(self.kept(self._spoken(self._sentences(raw))))}
        path = self._file(raw)
        return {"standard": Listed(self.kept(self._samples(path, features.read_parts(path, PARTS))[0]))}

    def _file(self, raw: Path | None) -> Path:
        name = self.files[self.params.form, self.params.text != "glove"]
        return features.find_file(raw, [name], self.name)

    # ---- samples -------------------------------------------------------------------------------------------------
    def _samples(self, path: Path, parts: dict[str, dict[str, Any]]) -> tuple[list[Sample], int]:
        """Return all samples in the order of the file, and how many ids were there before."""
        names: list[str] = []
        facts: list[tuple[str, float, str]] = []
        for part, content in parts.items():
            where = f"{path}: {PARTS[part]}"
            label = self._labels(where, content)
            ids = content.get("id")
            if ids is None:
                ids = [f"{part}-{k:05d}" for k in range(len(label))]
            if not isinstance(ids, np.ndarray | list | tuple) or (isinstance(ids, np.ndarray) and ids.ndim == 0):
                raise DataError(f"{where}: id is {type(ids).__name__}, no list", "Fetch the file again")
            if len(ids) != len(label):
                what = f"{where} has {plural(len(ids), 'id')} and {plural(len(label), 'label')}"
                raise DataError(what, "Fetch the file again")
            own = [features.text_of(one, f"{where}, id {k}") for k, one in enumerate(ids)]
            names += own
            facts += [(part, value, _video(name)) for value, name in zip(label.tolist(), own, strict=True)]
        made, repeated = features.unique(names)
        rows = (len(self.modalities) * (row,) for row in range(len(made)))
        found = [
            Sample(name, part, self.label_of(value), row, video)
            for name, (part, value, video), row in zip(made, facts, rows, strict=True)
        ]
        return found, repeated

    def label_of(self, sentiment: float) -> float | int:
        """Return what the task has as the label of a sentiment."""
        return sentiment

    def kept(self, samples: list[Sample]) -> list[Sample]:
        """Return the samples that the task has a label for."""
        return samples

    def _labels(self, where: str, content: dict[str, Any]) -> np.ndarray:
        """Return the sentiments of a part, float64 (n,)."""
        for key in ("regression_labels", "labels"):
            if key in content:
                found = content[key]
                if isinstance(found, np.ndarray) and found.ndim > 1 and found.size == len(found):
                    found = found.reshape(-1)
                if isinstance(found, np.ndarray) and found.ndim > 1 and found.size:
                    what = f"{where}: {key} has {found.size // len(found)} numbers a sample, not one sentiment"
                    raise DataError(what, "Use the file of sentiments")
                label = features.numbers(found, f"{where}: {key}", 1).astype(np.float64)
                wrong = ~((label >= TASK.low) & (label <= TASK.high))
                if wrong.any():
                    k = int(wrong.argmax())
                    what = f"{where}: the label of sample {k} is {label[k]:g}, not from {TASK.low} to {TASK.high}"
                    raise DataError(what, "Use the file of sentiments")
                return label
        raise DataError(f"{where} has neither regression_labels nor labels", "Name the file of features")

    # ---- the SDK's files ---------------------------------------------------------------------------------------
    def _prepare_sequences(self, raw: Path | None, out: CacheWriter) -> None:
        """Store the SDK's computational sequences, sentence by sentence."""
        if self.params.text != "glove":
            raise DataError(f"{self.name}: the SDK's sequences have GloVe's vectors", "Say --dataset-set text=glove")
        paths = {name: features.find_file(raw, names, self.name) for name, names in self.sequences.items()}
        sentences = self._sentences(raw, out)
        samples = self._spoken(sentences)
        features.leave_out(out, [sample.id for sample in samples])
        features.note_file(out, raw, paths.values())
        for modality in self.modalities:
            sequences.store(out, modality.name, paths[modality.name], sentences)
        out.split("standard", self.kept(samples))

    def _sentences(self, raw: Path | None, out: CacheWriter | None = None) -> list[Sentence]:
        folds = sequences.read_folds(features.find_file(raw, self.sequences["folds"], self.name))
        return sequences.read_sentences(features.find_file(raw, self.sequences["labels"], self.name), folds, out)

    def _spoken(self, sentences: Sequence[Sentence]) -> list[Sample]:
        """Return the samples of some sentences, in their order."""
        rows = len(self.modalities)
        return [
            Sample(one.id, one.part, self.label_of(one.sentiment), (row,) * rows, one.video)
            for row, one in enumerate(sentences)
        ]

    # ---- features ------------------------------------------------------------------------------------------------
    def _sequences(self, where: str, content: dict[str, Any]) -> dict[str, Sequences]:
        """Return the sequences of a part by modality, cut to their real steps."""
        count = len(self._labels(where, content))
        arrays: dict[str, np.ndarray] = {}
        for modality in self.modalities:
            key = MODALITIES[modality.name]
            if modality.type.ids:
                continue
            if key not in content:
                raise DataError(f"{where} has no {key!r}", "Name the file of features")
            arrays[modality.name] = values = features.numbers(content[key], f"{where}: {key}", 3)
            if len(values) != count:
                raise DataError(f"{where}: {key} has {len(values)} samples, and there are {count} labels",
                                "Fetch the file again")  # fmt: skip
        aligned = self.params.form == ALIGNED
        if aligned:
            _check_aligned(where, arrays)
        elif "text" in arrays and self.params.steps != WORDS:
            _check_unaligned(where, arrays)
        for modality in self.modalities:
            if modality.name in arrays:
                values, is_text = arrays[modality.name], modality.name == "text"
                param = _text_of(values.shape[2]) if is_text else f"{modality.name}_features={values.shape[2]}"
                param = f"--dataset-set {param}" if param else ""
                steps_param = "" if aligned or is_text else "steps"
                features.check_shape(modality, values, f"{where}: {MODALITIES[modality.name]}", param, steps_param)
        found = {name: Sequences.of(values) for name, values in arrays.items()}
        return _as_first(found) if aligned else found

    def _store_ids(self, out: CacheWriter, path: Path, parts: dict[str, dict[str, Any]]) -> None:
        """Store the ids of `text_bert`: row 0 has ids, row 1 says which are real, row 2 is of no use here."""
        found, lengths = [], []
        for part, content in parts.items():
            where = f"{path}: {PARTS[part]}: text_bert"
            values = features.numbers(content.get("text_bert"), where, 3)
            count = len(self._labels(where, content))
            if len(values) != count or values.shape[1] != 3 or values.shape[2] > WORDS:
                what = f"{where} has the shape {list(values.shape)}, not [{count}, 3, up to {WORDS}]"
                raise DataError(what, "Name the file of features")
            ids, mask = values[:, 0], values[:, 1] != 0
            length = mask.sum(axis=1)
            real = np.arange(ids.shape[1]) < length[:, None]
            wrong = (mask != real).any(axis=1) | (length < 1)
            wrong |= (real & ~((ids >= 1) & (ids < VOCABULARY) & (ids == np.floor(ids)))).any(axis=1)
            if wrong.any():
                raise DataError(f"{where}: sample {int(wrong.argmax())} has ids that are none of {BERT}",
                                "Use vectors: --dataset-set text=bert")  # fmt: skip
            padded = np.zeros((len(ids), WORDS), np.int16)
            padded[:, : ids.shape[1]] = np.where(real, ids, 0)
            found.append(padded)
            lengths.append(length)
        array = out.array("text", sum(map(len, found)), "int16")
        array[:, 0] = np.concatenate(found)
        array.flush()
        out.lengths("text", np.concatenate(lengths))


class OfTwo(SentimentFeatures):
    """Base of the two with two classes."""

    task = None
    class_names = ("negative", "non-negative")
    #: The number of a sample that no class has.
    NONE: ClassVar[int] = -1

    def label_of(self, sentiment: float) -> int:
        """Return 0 for a sentiment below 0, else 1; `NONE` for 0 where it is left out."""
        left_out = sentiment == 0 and getattr(self.params, "zero", KEPT) == LEFT_OUT
        return self.NONE if left_out else int(sentiment >= 0)

    def kept(self, samples: list[Sample]) -> list[Sample]:
        """Return the samples of a class."""
        return [sample for sample in samples if sample.label != self.NONE]


class OfSeven(SentimentFeatures):
    """Base of the two with seven classes: the whole number nearest to a sentiment, halves to the even one."""

    task = None
    class_names = ("minus 3", "minus 2", "minus 1", "zero", "plus 1", "plus 2", "plus 3")

    def label_of(self, sentiment: float) -> int:
        """Return the number of its class."""
        return int(np.rint(np.clip(sentiment, -3, 3))) + 3


def _check_aligned(where: str, arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays of several numbers of steps, where each step should be a word.

    Raises:
        DataError: naming the numbers.
    """
    steps = {name: values.shape[1] for name, values in arrays.items()}
    if len(set(steps.values())) > 1:
        shown = ", ".join(f"{count} of {name}" for name, count in steps.items())
        fix = "Say --dataset-set form=unaligned, and name this file: --raw FILE"
        raise DataError(f"{where} is not aligned: it has {shown} steps", fix)


def _check_unaligned(where: str, arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays that all have as many steps as the aligned files have words.

    Raises:
        DataError: naming the number, and what to say where the file is unaligned all the same.
    """
    if {values.shape[1] for values in arrays.values()} == {WORDS}:
        what = f"{where} looks aligned: all of it has {WORDS} steps"
        fix = "Say --dataset-set form=aligned, and name this file: --raw FILE. If its steps are no words, add"
        raise DataError(what, f"{fix} --dataset-set steps={WORDS} to form=unaligned")


def _text_of(width: int) -> str:
    """Return the parameter under which a file with vectors of this width is read; '' where none has it.

    By it alone another file would be looked for, so the file has to be named.
    """
    return next((f"text={name}, and name this file: --raw FILE" for name, one in WIDTHS.items() if one == width), "")


def _as_first(found: dict[str, Sequences]) -> dict[str, Sequences]:
    """Return all modalities with the real steps of the first, where each step is a word.

    A sample of which the first has no step keeps the steps that each modality has.
    """
    first = next(iter(found.values()))
    return {name: one.cut_as(first, ~first.empty) for name, one in found.items()}


def _video(name: str) -> str:
    """Return the video of an id: 'VIDEO$_$CLIP', 'VIDEO/START/END', 'VIDEO[CLIP]', 'VIDEO_CLIP'."""
    for mark in ("$_$", "/", "["):
        if mark in name:
            return name.partition(mark)[0]
    head, _, clip = name.rpartition("_")
    return head if head and clip.isdigit() else ""
