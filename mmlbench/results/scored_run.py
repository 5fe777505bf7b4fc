"""A run boiled down to what the tables need; its logits are let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..stats import CrossFit, cross_fit_optimism
from .logits_key import LogitsKey, LogitsKind, parse_logits
from .record import Circumstances, RunRecord
from .run_folder import RunFolder
from .score import Bits, confidence, correct, item_nll

#: Methods whose logits are kept, because the mean of their logits is a row of its own.
KEPT = ("joint", "unimodal")
Values = dict[LogitsKey, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A run folder behind a row: its record, its circumstances, and stage -> epochs trained."""

    record: RunRecord
    provenance: Circumstances
    stage_epochs: dict[str, int]


@dataclass
class ScoredRun:
    """One seed of one row; of several run folders where folds or models are put together.

    Attributes:
        bits: correct on test, bool (n,).
        nll: the same of fused and own-head logits and of subsets: nats of each sample (n,).
        predicted, confidence: of fused and own-head logits: class, and greatest probability, of each sample (n,).
        logits: of the methods in `KEPT`: fused and own-head logits (n, classes).
        optimism: (modality, kind) that judged a stage -> cross-fit of its best epoch on test.
    """

    seed: int
    sources: tuple[Source, ...]
    bits: dict[LogitsKey, Bits]
    optimism: dict[tuple[str, str], CrossFit] = field(default_factory=dict)
    nll: Values = field(default_factory=dict)
    predicted: Values = field(default_factory=dict)
    confidence: Values = field(default_factory=dict)
    logits: Values = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        """run.json of the first of its run folders."""
        return self.sources[0].record

    def add(self, key: LogitsKey, logits: np.ndarray, label: np.ndarray, where: str) -> None:
        """Score named logits (n, classes) of the test part.

        Raises:
            DataError: they are not finite, or of another length than the labels.
        """
        self.bits[key] = correct(logits, label, where)
        if key.kind in (LogitsKind.SLICED, LogitsKind.PROBE):
            return
        self.nll[key] = item_nll(logits, label).astype(np.float32)
        if not key.fill:
            self.predicted[key] = logits.argmax(axis=1).astype(np.uint16)
            self.confidence[key] = confidence(logits).astype(np.float32)


def _judged(run: RunFolder, bits: Mapping[str, Bits]) -> dict[tuple[str, str], CrossFit]:
    """Cross-fit the test-picked epoch of each logits that judged a stage; of several stages the last counts."""
    found = {}
    for entry in run.record.selected.get("test", ()):
        key = f"{entry.stage}/{entry.select_on}"
        if key in bits and bits[key].shape[1] >= 2:
            kind, modality = parse_logits(entry.select_on)
            found[modality or str(kind), str(kind)] = cross_fit_optimism(bits[key])
    return found


def score_test_part(folder: RunFolder) -> ScoredRun:
    """Score a run's test part.

    Raises:
        DataError: logits that are not finite, or of another length than the labels.
    """
    label = folder.predictions["test/label"]
    epochs = folder.epoch_bits()
    lengths = {key.split("/", 1)[0]: len(rows) for key, rows in epochs.items()}
    source = Source(folder.record, folder.provenance, lengths)
    run = ScoredRun(folder.record.config.seed, (source,), {}, _judged(folder, epochs))
    kept = folder.record.config.method in KEPT
    for part, key, logits in folder.logits():
        if part == "test":
            file = "probe " if key.kind is LogitsKind.PROBE else ""
            run.add(key, logits, label, f"{folder.name}: {file}{key.array(part)}")
            if kept and key in run.predicted:
                run.logits[key] = logits
    return run
