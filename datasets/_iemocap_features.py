"""IEMOCAP as its features circulate: what the datasets of six and of four classes share.

A pickle of nine values, most of them dicts by dialogue: utterance ids, speakers ('M', 'F'), labels (0 to 5: happy,
sad, neutral, angry, excited, frustrated), features of text, audio and visual, sentences, and the dialogues of train
and of test. Text of Python 2 is read as Latin-1, as the loaders do. Sources:
soujanyaporia/multimodal-sentiment-analysis @4e25770, dataset/iemocap/raw/loadIEMOCAP.py; declare-lab/conv-emotion
@0ce1e81, DialogueRNN/dataloader.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmlbench import (
    CacheWriter,
    DataError,
    Dataset,
    DatasetParams,
    Download,
    Listed,
    Modality,
    Sample,
    Split,
    bounded,
)
from mmlbench.decode.pickles import load_pickle
from mmlbench.frontends import features
from mmlbench.prepare.archives import check_space
from mmlbench.storage.words import plural

FILES = ("IEMOCAP_features.pkl", "IEMOCAP_features_raw.pkl")
#: Labels of the file, by number.
LABELS = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
SESSIONS = range(1, 6)
#: The session that `official_val` takes from train.
HELD = 4
_DIALOGUE = re.compile(r"Ses0([1-5])[FM]_\w+")
#: Place in the file of each modality.
PLACES = {"text": 3, "audio": 4, "visual": 5}
HOME = "https://github.com/soujanyaporia/multimodal-sentiment-analysis"
RIGHTS = "of the University of Southern California; no source at hand states its terms"
CITATION = "C. Busso et al., IEMOCAP: interactive emotional dyadic motion capture database, LREV 42, 2008"
ORIGIN = f"the features of {HOME[19:]} and of DialogueRNN, a pickle"
DOWNLOADS = (
    Download(
        FILES[1],
        HOME,
        licence=RIGHTS,
        how="a file in that repository, in dataset/iemocap/raw; its size and checksum are unknown here",
        also=(*FILES, *(f"*/{name}" for name in FILES), *(f"*/*/{name}" for name in FILES)),
    ),
)


class IemocapParams(DatasetParams):
    """How wide the features of the file are."""

    text_features: int = bounded(100, low=1, high=100_000, doc="numbers of an utterance's text")
    audio_features: int = bounded(100, low=1, high=100_000, doc="numbers of its sound")
    visual_features: int = bounded(512, low=1, high=100_000, doc="numbers of its picture")


def modalities(params: IemocapParams) -> tuple[Modality, ...]:
    """Return the modalities: a vector for each utterance."""
    widths = {"text": params.text_features, "audio": params.audio_features, "visual": params.visual_features}
    return tuple(Modality(name, (width,), "vector") for name, width in widths.items())


def splits_of(sessions: Sequence[int]) -> dict[str, Split]:
    """Return the splits of about so many utterances in each session."""
    total, held, test = sum(sessions), sessions[HELD - 1], sessions[-1]
    counts = {"train": total - test, "test": test}
    with_val = {"train": total - test - held, "val": held, "test": test}
    found = {
        "official": Split("as the file divides: session 5 is the test part", counts, "speaker", exact=False),
        "official_val": Split("official, session 4 held out of train", with_val, "speaker", exact=False),
    }
    for session, count in zip(SESSIONS, sessions, strict=True):
        doc = f"session {session} is the test part, the others are train"
        found[f"session.{session}"] = Split(doc, {"train": total - count, "test": count}, "speaker", exact=False)
    return found


@dataclass(frozen=True)
class Utterance:
    """One utterance: id, dialogue, its number in it, session, speaker, label in the file, part in the file."""

    id: str
    dialogue: str
    number: int
    session: int
    speaker: str
    label: int
    part: str


class IemocapFeatures(Dataset):
    """Base of the two: text, audio and visual of an utterance, one vector each."""

    Params = IemocapParams
    params: IemocapParams
    needs_raw = True
    licence = RIGHTS
    citation = CITATION
    origin = ORIGIN
    downloads = DOWNLOADS
    #: Class in the file -> class here; what is not named is left out.
    classes: Mapping[int, int]

    def __init__(self, params: IemocapParams | None = None) -> None:
        super().__init__(params)
        self.modalities = modalities(self.params)

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Read the file, store its vectors, divide by its lists and by session."""
        features.refuse_lists(out)
        path = features.find_file(raw, FILES, self.name)
        content = _read(path)
        spoken = [one for one in _utterances(path, content) if one.label in self.classes]
        names, repeated = features.unique([one.id for one in spoken])
        features.leave_out(out, names)
        features.note_file(out, raw, [path])
        for modality in self.modalities:
            _store(out, modality, path, content[PLACES[modality.name]], spoken)
        if repeated:
            out.notes.append(f"{plural(repeated, 'sample')} kept whose id was there before, with '#2' behind it")
        for split, samples in self._samples(spoken, names).items():
            if split == "official":
                features.note_shared_groups(out, samples, "speaker")
            out.split(split, samples)

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the samples of the file, without reading features."""
        if raw is None:
            return {}
        path = features.find_file(raw, FILES, self.name)
        spoken = [one for one in _utterances(path, _read(path)) if one.label in self.classes]
        names = features.unique([one.id for one in spoken])[0]
        return {split: Listed(samples) for split, samples in self._samples(spoken, names).items()}

    def _samples(self, spoken: Sequence[Utterance], names: Sequence[str]) -> dict[str, list[Sample]]:
        """Return split -> all samples."""
        found: dict[str, list[Sample]] = {split: [] for split in self.splits}
        rows = len(self.modalities)
        for row, (one, name) in enumerate(zip(spoken, names, strict=True)):
            val = "val" if one.part == "train" and one.session == HELD else one.part
            parts = {"official": one.part, "official_val": val}
            parts |= {f"session.{k}": "test" if one.session == k else "train" for k in SESSIONS}
            for split, part in parts.items():
                found[split].append(Sample(name, part, self.classes[one.label], (row,) * rows, one.speaker))
        return found


def _read(path: Path) -> Sequence[Any]:
    """Return the nine values of a file.

    Raises:
        DataError: it is of another form.
    """
    found = load_pickle(path)
    if not isinstance(found, tuple | list) or len(found) != 9:
        count = f"{len(found)} values" if isinstance(found, tuple | list | dict) else "another value"
        raise DataError(f"{path} holds {count}, not the nine of {FILES[0]}", "Name the file of features")
    if not all(isinstance(one, dict) for one in found[:7]):
        raise DataError(f"{path} holds no dicts by dialogue", "Name the file of features")
    return found


def _names(path: Path, found: object, part: str) -> set[str]:
    """Return the dialogues of a part."""
    if not isinstance(found, set | list | tuple) or not found or not all(isinstance(one, str) for one in found):
        raise DataError(f"{path} has no list of dialogues for {part}", "Name the file of features")
    return set(found)


def _utterances(path: Path, content: Sequence[Any]) -> list[Utterance]:
    """Return all utterances by dialogue and number.

    Raises:
        DataError: a dialogue is in both parts or lacks something; a label or a speaker is none.
    """
    ids, speakers, labels = content[0], content[1], content[2]
    train, test = _names(path, content[7], "train"), _names(path, content[8], "test")
    fix = "Fetch the file again"
    if train & test:
        raise DataError(f"{path} has {min(train & test)} in train and in test", fix)
    made = []
    for dialogue in sorted(train | test):
        match = _DIALOGUE.fullmatch(dialogue)
        if match is None:
            raise DataError(f"{path} has a dialogue whose name tells no session", fix)
        own = [_listed(values.get(dialogue)) for values in (ids, speakers, labels)]
        if len({len(one) for one in own}) != 1 or not own[0]:
            counts = ", ".join(str(len(one)) for one in own)
            raise DataError(f"{path}: {dialogue} has {counts} ids, speakers and labels", fix)
        for k, (name, who, label) in enumerate(zip(*own, strict=True)):
            if who not in ("M", "F"):
                raise DataError(f"{path}: utterance {k} of {dialogue} has another speaker than M or F", fix)
            if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label <= 5:
                raise DataError(f"{path}: utterance {k} of {dialogue} has another label than 0 to 5", fix)
            text = features.text_of(name, f"{path}: id {k} of {dialogue}")
            part = "train" if dialogue in train else "test"
            session = int(match[1])
            made.append(Utterance(text, dialogue, k, session, f"Ses0{session}{who}", int(label), part))
    return made


def _listed(found: object) -> list[Any]:
    """Return a dialogue's values as a list; [] where there are none."""
    if isinstance(found, np.ndarray) and found.ndim == 1:
        return list(found)
    return list(found) if isinstance(found, list | tuple) else []


def _store(
    out: CacheWriter, modality: Modality, path: Path, found: Mapping[str, Any], spoken: Sequence[Utterance]
) -> None:
    """Store the vectors of one modality; what is NaN or infinite becomes 0, and is counted in the notes.

    Raises:
        DataError: a dialogue lacks it, or its vectors are of another number or width.
    """
    (width,) = modality.shape
    check_space(out.folder, len(spoken) * width * 4, f"for the cache of {out.dataset.name}")
    array = out.array(modality.name, len(spoken), "float32")
    bad = touched = 0
    dialogue, vectors = "", np.zeros((0, width))
    for row, one in enumerate(spoken):
        if one.dialogue != dialogue:
            out.check()
            dialogue = one.dialogue
            vectors = _vectors(f"{path}: {modality.name} of {dialogue}", found.get(dialogue))
            if vectors.shape[1] != width:
                what = f"{path}: {modality.name} of {dialogue} has {vectors.shape[1]} numbers, not {width}"
                raise DataError(what, f"Say --dataset-set {modality.name}_features={vectors.shape[1]}")
        if one.number >= len(vectors):
            what = f"{path}: {modality.name} of {dialogue} has {len(vectors)} utterances, too few"
            raise DataError(what, "Fetch the file again")
        with np.errstate(over="ignore", invalid="ignore"):
            vector = vectors[one.number].astype(np.float32)
        if row in out.left_out:
            array[row, 0] = 0
            continue
        wrong = ~np.isfinite(vector)
        bad, touched = bad + int(wrong.sum()), touched + bool(wrong.any())
        vector[wrong] = 0
        array[row, 0] = vector
    array.flush()
    if bad:
        where = plural(touched, "sample")
        out.notes.append(f"{modality.name}: {plural(bad, 'value')} in {where} not finite, set to 0")


def _vectors(where: str, found: object) -> np.ndarray:
    """Return a dialogue's vectors (utterances, numbers), of an array, or of a list of arrays or of lists.

    Raises:
        DataError: they hold no numbers, or lists within them differ in length.
    """
    if isinstance(found, list | tuple):
        try:
            found = [np.asarray(one, dtype=np.float64) if isinstance(one, list | tuple) else one for one in found]
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{where} has a list that is no vector of numbers", "Fetch the file again") from None
    return features.numbers(found, where, 2)
