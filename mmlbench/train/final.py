"""What a finished run stores: predictions, subsets, probes, weights, per selection rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import RunError
from ..method import Method
from ..results.evaluation import FEATURES, INPUTS, NOTHING
from ..results.logits_key import LogitsKey, LogitsKind, parse_logits
from ..task import Metric
from .data import PartData
from .evaluate import (
    Evaluator,
    check_apart,
    check_pure,
    evaluation_of,
    features_alone,
    masked_logits,
    mean_inputs,
    subset_logits,
)
from .probe import fit_probe, measured

Arrays = dict[str, np.ndarray]
Found = dict[str, dict[str, Tensor]]


def _host(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


class Final:
    """Collects the arrays of a run, rule by rule.

    Args:
        method: the run's. data: part -> samples. evaluator: of the method. metric: by which probes are chosen.
        lap: called with the name of what the time since the last call went into.
    """

    def __init__(
        self,
        method: Method,
        data: dict[str, PartData],
        evaluator: Evaluator,
        metric: Metric,
        lap: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.method, self.data, self.evaluator, self.metric, self.lap = method, data, evaluator, metric, lap
        self.predictions: Arrays = {}
        self.probes: Arrays = {}
        self.probe_facts: dict[str, dict[str, Any]] = {}
        self.weights: dict[str, Arrays] = {}
        self.logits: list[str] = []
        self._means: dict[str, Tensor] | None = None
        self._fitted: dict[bytes, Any] = {}
        self.evaluation = evaluation_of(method)
        for part in ("val", "test"):
            self.predictions[f"{part}/id"] = data[part].ids
            self.predictions[f"{part}/group"] = data[part].groups
            self.predictions[f"{part}/label"] = data[part].target

    def add(self, rule: str, state: dict[str, Tensor]) -> None:
        """Store what the method predicts in the state that a rule picked; probe its encoders (not for `test`).

        Raises:
            RunError: a logit is not finite.
        """
        self.method.load_state_dict(state)
        self.method.requires_grad_(False)
        if rule == "last":  # what trained may mix what did not before
            few = torch.arange(min(8, len(self.data["test"])), device=self.data["test"].device)
            check_apart(self.method, self.data["test"].batch(few))
            check_pure(self.method, self.data["test"])
        wanted = ("val", "test") if rule == "test" else ("train", "val", "test")
        found = self._features(wanted)
        for part in ("val", "test"):
            named = self.evaluator.logits(self.data[part], found[part]) if part in found else {}
            for name, logits in named.items():
                if not bool(logits.isfinite().all()):
                    what = f"the method {self.method.name!r} predicts NaN or infinite {name} logits on {part}"
                    raise RunError(what, "Fix its predict, or lower the learning rate")
            self.predictions |= {
                LogitsKey(rule, *parse_logits(name)).array(part): _host(logits) for name, logits in named.items()
            }
            self.logits = sorted(named) or self.logits
        if rule in self.method.keeps:
            self.weights[rule] = {name: value.detach().cpu().numpy() for name, value in state.items()}
        if rule != "test":
            self._subsets(rule, found)
        self.lap("evaluate")
        if rule != "test" and self.method.trains_encoders:
            self.probe(rule, found)

    def _features(self, parts: tuple[str, ...] = ("train", "val", "test")) -> Found:
        return {part: self.evaluator.features(self.data[part]) for part in parts if len(self.data[part])}

    def _mean_inputs(self) -> dict[str, Tensor]:
        if self._means is None:
            self._means = mean_inputs(self.method, self.data["train"])
        return self._means

    def _subsets(self, rule: str, found: Found) -> None:
        """Store fused logits for every proper subset of modalities, where the method has any."""
        missing = self.evaluation.missing
        if missing == NOTHING or len(self.method.modalities) < 2 or "fused" not in self.logits:
            return
        features = missing == FEATURES
        means = {m: h.mean(0) for m, h in found["train"].items()} if features else self._mean_inputs()
        fills = {"mean": means}
        if rule == "last":
            fills["zero"] = {m: torch.zeros_like(value) for m, value in means.items()}
        for imputation, fill in fills.items():
            if features:
                answers = subset_logits(self.method, found["test"], fill)
            else:
                answers = masked_logits(self.method, self.data["test"], fill)
            for present, logits in answers.items():
                key = LogitsKey(rule, fill=imputation, present=tuple(present))
                self.predictions[key.array("test")] = _host(logits)

    def probe(self, rule: str, found: Found | None = None) -> None:
        """Fit and store the probe of every encoder as it stands.

        Args:
            found: the features, where the caller has them; of a method that mixes they are computed one modality at a
                time.
        """
        if self.evaluation.probe == NOTHING:
            return
        if self.evaluation.probe == INPUTS:
            fill = self._mean_inputs()
            parts = {part: data for part, data in self.data.items() if len(data)}
            found = {part: features_alone(self.method, data, fill) for part, data in parts.items()}
        found = self._features() if found is None else found
        label = {part: data.label.cpu() for part, data in self.data.items()}
        metric = self.metric
        for modality in self.method.modalities:
            train = found["train"][modality]
            val = found["val"][modality] if "val" in found else train[:0]
            key = modality.encode() + train.cpu().numpy().tobytes()  # the rules often pick the same encoder
            if key not in self._fitted:
                self._fitted[key] = fit_probe(self.method.task, metric, train, label["train"], val, label["val"])
            fitted = self._fitted[key]
            reached = {}
            for part, features_of in found.items():
                logits = fitted.logits(features_of[modality])
                reached[part] = measured(self.method.task, metric, logits, label[part])
                if part != "train":
                    self.probes[LogitsKey(rule, LogitsKind.PROBE, modality).array(part)] = _host(logits)
            facts = {"penalty": fitted.penalty, metric.name: reached}
            self.probe_facts.setdefault(rule, {})[modality] = facts
        self.lap("probe")


def packed_scores(scores: dict[str, list[Tensor]], bits: bool) -> Arrays:
    """Return each sample's score in each epoch: `bits` as uint8 (epochs, ceil(n / 8)), else float32 (epochs, n)."""
    stacked = {name: torch.stack(rows).numpy() for name, rows in scores.items()}
    return {name: np.packbits(rows, axis=1) if bits else rows.astype(np.float32) for name, rows in stacked.items()}
