"""A run boiled down to what the tables need; its logits are let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import DataError
from ..stats import CrossFit, cross_fit_optimism
from .logits_key import LogitsKey, LogitsKind, parse_logits
from .origins import Reported
from .record import Circumstances, RunRecord
from .run_folder import RunFolder
from .score import nll_and_confidence
from .stored_scores import Scored

#: Methods whose logits are kept, because the mean of their logits is a row of its own.
KEPT = ("joint", "unimodal")
Values = dict[LogitsKey, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A run folder behind a row: its record, its circumstances, and stage -> epochs trained.

    Attributes:
        scores_only: an archive has brought its scores alone, so that what comes from logits is not there.
        reported: who stands for it.
    """

    record: RunRecord
    provenance: Circumstances
    stage_epochs: dict[str, int]
    scores_only: bool = False
    reported: Reported = Reported.OWN


def sample_scores(record: RunRecord, outputs: np.ndarray, label: np.ndarray, where: str) -> np.ndarray:
    """Return a number a sample (n,) whose mean is the metric of a run: bool of right and wrong, else float64.

    Raises:
        DataError: outputs that are not finite, or of another length than the labels; naming `where` they are from.
    """
    task, metric = record.task, record.metric
    task.check_outputs(outputs, label, where)
    enough = metric.per_sample is not None or len(label) > 1
    values = metric.sample_values(outputs, label) if enough else np.array([np.nan])
    if not np.isfinite(values).all():
        others = ", ".join(name for name in task.metrics if name != metric.name)
        what = f"{where} has no {metric.title}: its samples are too few, or alike"
        raise DataError(what, f"Choose another `metric`: {others}")
    return values.astype(bool) if task.bits and metric.name == task.score else values


@dataclass
class ScoredRun:
    """One seed of one row; of several run folders where folds or models are put together.

    Attributes:
        scores: a number a test sample, whose mean is the metric (n,): bool where the sample is right or wrong,
            jackknife values of a metric that is no mean.
        nll: of fused and own-head logits and of subsets: nats of each sample (n,); none of a task without classes.
        predicted, confidence: of fused and own-head logits: class, and greatest probability, of each sample (n,).
        logits: of the methods in `KEPT`: fused and own-head logits (n, outputs).
        further: of a task without classes: (metric, key) of fused and own-head logits -> the samples' values of each
            metric but the headline (n,).
        means: of a scores-only run: record hash of a run -> the scores of the mean of both runs' logits.
        together: of a joint run whose logits or whose partner's are not there: the scores of their mean.
        optimism: (modality, kind) that judged a stage -> cross-fit of its best epoch on test.
    """

    seed: int
    sources: tuple[Source, ...]
    scores: Values
    optimism: dict[tuple[str, str], CrossFit] = field(default_factory=dict)
    nll: Values = field(default_factory=dict)
    predicted: Values = field(default_factory=dict)
    confidence: Values = field(default_factory=dict)
    logits: Values = field(default_factory=dict)
    further: dict[tuple[str, LogitsKey], np.ndarray] = field(default_factory=dict)
    means: Mapping[str, Scored] = field(default_factory=dict)
    together: ScoredRun | None = None

    @property
    def record(self) -> RunRecord:
        """run.json of the first of its run folders."""
        return self.sources[0].record

    @property
    def scores_only(self) -> bool:
        """Whether the logits of a run folder behind it are not there."""
        return any(source.scores_only for source in self.sources)

    def add(self, key: LogitsKey, logits: np.ndarray, label: np.ndarray, where: str) -> None:
        """Score named logits (n, outputs) of the test part.

        Raises:
            DataError: they are not finite, or of another length than the labels.
        """
        self.scores[key] = sample_scores(self.record, logits, label, where)
        if key.kind in (LogitsKind.SLICED, LogitsKind.PROBE):
            return
        if not self.record.task.softmax:
            self._add_further(key, logits, label)
            return
        nll, sure = nll_and_confidence(logits, label)
        self.nll[key] = nll.astype(np.float32)
        if not key.fill:
            self.predicted[key] = logits.argmax(axis=1).astype(np.uint16)
            self.confidence[key] = sure.astype(np.float32)

    def _add_further(self, key: LogitsKey, outputs: np.ndarray, label: np.ndarray) -> None:
        """Score by every metric but the headline; one that these samples can't have is left out."""
        others = [m for m in self.record.task.metrics.values() if m.name != self.record.metric.name]
        for metric in others if not key.fill else ():
            if metric.per_sample is None and len(label) < 2:
                continue
            values = metric.sample_values(outputs, label)
            if np.isfinite(values).all():
                self.further[metric.name, key] = values


def _judged(run: RunFolder, scores: Mapping[str, np.ndarray]) -> dict[tuple[str, str], CrossFit]:
    """Cross-fit the test-picked epoch of each logits that judged a stage; of several stages the last counts.

    The epochs are picked by the mean of the scores of each epoch, so none where another metric picked.
    """
    task, metric, found = run.record.task, run.record.metric, dict[tuple[str, str], CrossFit]()
    if metric.name != task.score:
        return found
    sign = metric.sign
    for entry in run.record.selected.get("test", ()):
        key = f"{entry.stage}/{entry.select_on}"
        if key in scores and scores[key].shape[1] >= 2:
            kind, modality = parse_logits(entry.select_on)
            values = scores[key] if sign > 0 else -scores[key]  # bits stay bits
            found[modality or str(kind), str(kind)] = _signed(cross_fit_optimism(values), sign)
    return found


def _signed(fit: CrossFit, sign: float) -> CrossFit:
    """Return a cross-fit of values whose sign was turned as of the values themselves; optimism is never negative."""
    return fit if sign > 0 else replace(fit, naive=-fit.naive, cross_fit=-fit.cross_fit)


def score_test_part(folder: RunFolder, by: Reported = Reported.OWN) -> ScoredRun:
    """Score a run's test part; of a scores-only run take the scores that it holds.

    Args:
        by: who stands for the run.

    Raises:
        DataError: logits that are not finite, or of another length than the labels; scores that are not as written.
    """
    epochs = folder.epoch_scores()
    lengths = {key.split("/", 1)[0]: len(rows) for key, rows in epochs.items()}
    source = Source(folder.record, folder.provenance, lengths, folder.scores_only, by)
    run = ScoredRun(folder.record.config.seed, (source,), {}, _judged(folder, epochs))
    if folder.scores_only:
        return replace(run, **vars(folder.scores.own), means=folder.scores.means)
    label, kept = folder.predictions["test/label"], folder.record.config.method in KEPT
    for part, key, logits in folder.logits():
        if part == "test":
            file = "probe " if key.kind is LogitsKind.PROBE else ""
            run.add(key, logits, label, f"{folder.name}: {file}{key.array(part)}")
            if kept and key.kind not in (LogitsKind.SLICED, LogitsKind.PROBE) and not key.fill:
                run.logits[key] = logits
    return run
