"""Detached and interactive multimodal learning."""

from __future__ import annotations

from itertools import combinations, permutations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mmlbench import (
    FUSIONS,
    Batch,
    EpochContext,
    Logits,
    Mechanism,
    Method,
    MethodParams,
    Stage,
    bounded,
    certainty_weighted,
    choice,
    fusion_head,
    moment,
    own_heads,
    register,
)

from ._one_width import one_width


# ---- formulas --------------------------------------------------------------------------------------------
def dimension_accuracy(features: Tensor, label: Tensor, classes: int, budget: int = 2**24) -> Tensor:
    """Return how well each dimension alone tells the class, float64 (d,): nearest class mean of that one number.

    Args:
        features: (n, d). label: (n,). budget: greatest number of distances held at a time.
    """
    values = features.double()
    member = (label.unsqueeze(1) == torch.arange(classes, device=label.device)).double()
    counts = member.sum(0).unsqueeze(1)
    means = torch.where(counts > 0, member.T @ values / counts, torch.inf)
    width = max(1, budget // max(1, len(values) * classes))
    hits = []
    for chunk, centres in zip(values.split(width, 1), means.split(width, 1), strict=True):
        nearest = (chunk.unsqueeze(1) - centres.unsqueeze(0)).abs().argmin(1)
        hits.append((nearest == label.unsqueeze(1)).double().mean(0))
    return torch.cat(hits)


def effective_dimensions(accuracy: Tensor) -> Tensor:
    """Return which dimensions are strictly better than the mean over dimensions, bool (d,)."""
    return accuracy > accuracy.mean()


def duc_loss(
    teacher: Tensor, student: Tensor, mask: Tensor, temperature: float, raw: bool = True, detach: bool = True
) -> Tensor:
    """Return the contrast of a student's features to a teacher's over some dimensions, a scalar.

    Cross-entropy of u t^T / T towards the diagonal: the other samples are the negatives, whatever their class.
    Without any dimension it is log B, without gradient.

    Args:
        teacher, student: (B, d). mask: (d,), 1 where a dimension takes part. raw: dot products of the features as
            they are (the authors' code); else of features of length 1. detach: no gradient to the teacher.
    """
    t, u = (teacher.detach() if detach else teacher) * mask, student * mask
    if not raw:
        t, u = normalize(t, dim=1), normalize(u, dim=1)
    return cross_entropy(u @ t.T / temperature, torch.arange(len(u), device=u.device))


# ---- the method ------------------------------------------------------------------------------------------
CONTRASTS = ("duc", "none", "hard_bidirectional", "unidirectional_all_dims", "random_dims")


@register
class DIMML(Method):
    """Encoders trained apart, with one-way contrast between them, then a fusion head.

    Stage `detached`: L = sum of CE(g_m(h_m), y) + weight * sum of CE(G(h_m), y), from epoch `duc_start` on also
    + sum over ordered pairs t -> s of `duc_loss` on the dimensions that are effective in the teacher t and not
    in the student s. They are found once, at the start of that epoch, on the train part as training sees it.
    Stage `fusion`: encoders and heads frozen, a fusion head F learns CE(F(h), y) for `fusion_epochs`.
    Prediction: the logits of the own heads and of F, weighted per sample by softmax over branches of max p / T_inf.

    What can be exchanged: `contrast` (hard_bidirectional: all dimensions, gradients to both sides;
    unidirectional_all_dims: all dimensions, teacher fixed; random_dims: as many dimensions as `duc` would take,
    chosen at random), `weighting` (uniform: mean of the branches; fusion_only: F alone), `shared_classifier`.

    Source: Fan et al., ACM MM 2024 (arXiv 2407.19514), and the authors' code, which is followed where the paper
    was not at hand: dimensions never refreshed, raw dot products (`similarity`), Xavier weights for F.
    Deviations: more than two modalities by ordered pairs (ours). Temperatures per dataset: T 50, 50, 10, 10 and
    T_inf 1, 3, 3, 1 for CREMA-D, ModelNet40, AVE, UCF-101; on the embedded data T matters little.
    Stage `fusion` starts from the last epoch of `detached` under every selection rule.
    Measured: 75.7 [72.3, 79.1] % on avdigits / speaker, minus joint +8.3 [6.7, 9.9] (5 seeds, 797 test pairs);
    on gabor_nuisance minus joint -37.4 [-43.5, -31.2] (3 seeds, 1,000 pairs); docs/results.md.
    """

    family = "trained apart"
    tasks = ("classification",)  # certainties and effective dimensions are those of classes

    class Params(MethodParams):
        weight: float = bounded(1.0, low=0, doc="of the shared classifier's loss", tune=(0.1, 3.0, "log"))
        contrast: str = choice("duc", CONTRASTS, doc="between the modalities' features")
        duc_start: float | int = moment(20 / 150, doc="first epoch with the contrast")
        temperature: float = bounded(50.0, low=1e-3, doc="T of the contrast", tune=(5.0, 100.0, "log"))
        similarity: str = choice("raw", ("raw", "normalised"), doc="dot products: as in the authors' code, or cosine")
        fusion: str = choice("concat", FUSIONS, doc="fusion head F")
        fusion_epochs: float | int = moment(20 / 150, doc="length of stage `fusion`, at least 1")
        weighting: str = choice("certainty", ("certainty", "uniform", "fusion_only"), doc="of the branches")
        inference_temperature: float = bounded(
            1.0, low=1e-3, doc="T_inf of the certainty weights", tune=(0.1, 10.0, "log")
        )
        shared_classifier: bool = True

    min_modalities = 2
    masks: Tensor

    def build(self) -> None:
        """Add the heads, and buffers for the dimensions.

        Raises:
            ConfigError: the modalities' features differ in size, and something compares their dimensions.
        """
        p, width = self.params, max(self.dims.values())
        if p.shared_classifier or p.contrast != "none":
            one_width("di_mml", self.dims)
        self.own = own_heads(self.dims, self.classes)
        self.shared = nn.Linear(width, self.classes) if p.shared_classifier else None
        self.fusion = fusion_head(p.fusion, self.dims, self.classes)
        for module in self.fusion.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
        self.pairs = list(permutations(self.modalities, 2))
        whole = p.contrast in ("hard_bidirectional", "unidirectional_all_dims")
        self.register_buffer("masks", torch.full((len(self.pairs), width), float(whole)))

    def stages(self) -> list[Stage]:
        """Return `detached` and `fusion`."""
        own, epochs = tuple(f"own_head/{m}" for m in self.modalities), max(1, self.at(self.params.fusion_epochs))
        parts = [self.encoders, self.own] + ([self.shared] if self.shared is not None else [])
        return [
            Stage(
                "detached",
                self.epochs,
                train=parts,
                loss=self.detached_loss,
                before_epoch=self.find_dimensions,
                select_on=own[0],
                evaluates=own,
            ),
            Stage("fusion", epochs, train=[self.fusion], loss=self.fusion_loss),
        ]

    def mechanisms(self) -> list[Mechanism]:
        """The contrast acts in `detached`, the head learns in `fusion`."""
        first, off = self.at(self.params.duc_start), self.params.contrast == "none"
        return [Mechanism("contrast", "detached", first=first, off=off), Mechanism("fusion", "fusion")]

    # ---- stage 1 -----------------------------------------------------------------------------------------
    def find_dimensions(self, context: EpochContext) -> None:
        """Find the dimensions of every ordered pair, once."""
        first = self.at(self.params.duc_start)
        if self.params.contrast == "none" or context.epoch < first:
            return
        if context.epoch == first and self.params.contrast in ("duc", "random_dims"):
            features, label, _ = context.features("train", augment=True)
            accuracy = {m: dimension_accuracy(features[m], label, self.classes) for m in self.modalities}
            effective = {m: effective_dimensions(found) for m, found in accuracy.items()}
            found = torch.stack([effective[teacher] & ~effective[student] for teacher, student in self.pairs])
            self.masks.copy_(self._shuffled(found, context.rng) if self.params.contrast == "random_dims" else found)
        for (teacher, student), mask in zip(self.pairs, self.masks, strict=True):
            self.record(**{f"dimensions/{teacher}>{student}": mask.sum()})

    def _shuffled(self, found: Tensor, rng: torch.Generator) -> Tensor:
        """Return as many dimensions per pair as were found, elsewhere; the two directions stay disjoint."""
        moved = torch.zeros_like(found)
        for one, other in combinations(self.modalities, 2):
            there, back = self.pairs.index((one, other)), self.pairs.index((other, one))
            order = torch.randperm(found.shape[1], generator=rng, device=rng.device)
            moved[there], moved[back] = found[there][order], found[back][order]
        return moved

    def detached_loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the loss of stage `detached`."""
        features = self.encode(batch)
        own = {m: self.own[m](features[m]) for m in self.modalities}
        total = torch.stack([self.task_loss(logits, batch.label) for logits in own.values()]).sum()
        if self.shared is not None:
            shared = [self.task_loss(self.shared(features[m]), batch.label) for m in self.modalities]
            total = total + self.params.weight * torch.stack(shared).sum()
        if self.params.contrast != "none" and self.step.epoch >= self.at(self.params.duc_start):
            total = total + self._contrast(features)
        return total, Logits(own_head=own)

    def _contrast(self, features: dict[str, Tensor]) -> Tensor:
        raw, fixed = self.params.similarity == "raw", self.params.contrast != "hard_bidirectional"
        terms = [
            duc_loss(features[teacher], features[student], mask, self.params.temperature, raw, fixed)
            for (teacher, student), mask in zip(self.pairs, self.masks, strict=True)
        ]
        loss = torch.stack(terms).sum()
        self.record(contrast_loss=loss)
        self.count_mechanism("contrast", self.masks.sum())
        return loss

    # ---- stage 2 and prediction --------------------------------------------------------------------------
    def fusion_loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the loss of stage `fusion`; the features come from frozen encoders."""
        features = self.encode(batch)
        loss = self.task_loss(self.fusion(features).fused, batch.label)
        self.count_mechanism("fusion")
        with torch.no_grad():
            return loss, self.predict(features)

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the weighted logits of the M + 1 branches, and those of the own heads."""
        own = {m: self.own[m](features[m]) for m in self.modalities}
        fused = self.fusion(features).fused
        if self.params.weighting == "fusion_only":
            return Logits(fused=fused, own_head=own)
        branches = torch.stack([*own.values(), fused])
        if self.params.weighting == "uniform":
            return Logits(fused=branches.mean(0), own_head=own)
        return Logits(fused=certainty_weighted(branches, self.params.inference_temperature), own_head=own)
