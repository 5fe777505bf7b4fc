"""Quality-aware multimodal fusion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmlbench import Batch, Logits, Mechanism, Method, MethodParams, bounded, choice, own_heads, register


def energy_confidence(logits: Tensor) -> Tensor:
    """Return c = logsumexp(z) / 10 of each sample, (B,); logits (B, C)."""
    return logits.logsumexp(1) / 10


def hardness(history: Tensor) -> Tensor:
    """Return (H - min H) / (max H - min H), from 0 to 1, (n,); 0 where all are equal; history (n,)."""
    low, high = history.min(), history.max()
    return (history - low) / (high - low).clamp_min(torch.finfo(history.dtype).tiny)


def ranking_loss(confidence: Tensor, hard: Tensor, slack: bool) -> Tensor:
    """Return how far confidences fail to fall where samples are hard, mean over pairs of neighbours, a scalar.

    Of a pair i, j with gap = hard_i - hard_j: relu(sign(gap) (c_i - c_j) + |gap|), so that the harder one has to be
    less sure by |gap|. With `slack` |gap| is taken off instead: it may be surer by as much. Of equal ones it is 0.

    Args:
        confidence, hard: (B,); the neighbour of the last sample is the first.
    """
    gap = hard - hard.roll(-1)
    margin = -gap.abs() if slack else gap.abs()
    return (gap.sign() * (confidence - confidence.roll(-1)) + margin).relu().mean()


@register
class QMF(Method):
    """Own heads, fused by how sure each is of a sample; confidence has to follow past losses.

    z = sum of c_m z_m with energies c_m = logsumexp(z_m) / 10, in training and in prediction.
    L = CE(z, y) + sum of CE(z_m, y) + weight sum of `ranking_loss`(c_m, hardness of H_m): H_m[i] adds up the
    cross-entropies of sample i over the epochs, hardness scales it to 0..1 over the train part, pairs are neighbours
    in the batch.

    - `form: text_image` (default): c_m in z carries no gradient, and H takes up the batch before it is ranked.
    - `form: rgbd`: it carries gradient, and H takes up the batch afterwards.
    - `variant: paper` (default): the harder sample has to be less sure by the margin.
    - `variant: code`: the released margin has the other sign, so that the harder one may be surer by it. With a tenth
      of a logsumexp for confidence the ranking is then almost always 0. It is declared off, and its value recorded.

    Source: Zhang et al., ICML 2023, and the authors' code. Deviations: where all of H is equal (the first batch of
    `rgbd`) the ranking is 0; theirs is 0 / 0 in value, without an effect on gradients. Fusion without energies (their
    flag) is left out. Any number of modalities by the same equations.
    Hyper-parameters: text_image: weight 1; Adam 5e-5, batch 32, 24 batches to a step, rate x 0.5 after 2 epochs
    without progress, patience 5. rgbd: weight 0.1; Adam 1e-4, weight decay 1e-5, batch 256, 3 to a step, pre-trained
    ResNet-18, rate x 0.3 after 10 epochs, patience 20.
    Measured: 73.3 [70.3, 76.3] % on avdigits / speaker, minus joint +5.9 [4.6, 7.2]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "dynamic fusion"

    class Params(MethodParams):
        form: str = choice("text_image", ("text_image", "rgbd"), doc="of the two released ones")
        variant: str = choice("paper", ("paper", "code"), doc="sign of the margin")
        weight: float = bounded(1.0, low=0, doc="of the ranking; 0 switches it off", tune=(0.05, 2.0, "log"))

    min_modalities = 2
    history: Tensor

    def build(self) -> None:
        """Add a head per modality, and a buffer for the history (M, n)."""
        self.own = own_heads(self.dims, self.classes)
        self.register_buffer("history", torch.zeros(len(self.modalities), max(1, self.train_size)))

    def mechanisms(self) -> list[Mechanism]:
        """Energies weigh the modalities; the ranking acts as the paper has it."""
        return [Mechanism("energies"), Mechanism("ranking", off=not self.ranks())]

    def ranks(self) -> bool:
        """Return whether the ranking acts; the released one hardly ever does."""
        return self.params.weight > 0 and self.params.variant == "paper"

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the losses of z and of each z_m, and the ranking."""
        logits = self.predict(self.encode(batch))
        own = [logits.own_head[m] for m in self.modalities]
        total = self.task_loss(logits.fused, batch.label)
        for z in own:
            total = total + self.task_loss(z, batch.label)
        sure = torch.stack([energy_confidence(z) for z in own])
        self.count_mechanism("energies", (sure.amax(0) - sure.amin(0)).mean())
        if self.params.weight == 0:
            return total, logits
        if self.params.form == "text_image":
            self.remember(own, batch)
        ranked = self.ranked(sure, batch)
        if self.params.form == "rgbd":
            self.remember(own, batch)
        self.record(ranking=ranked)
        if self.ranks():
            self.count_mechanism("ranking", ranked)
        return total + self.params.weight * ranked, logits

    @torch.no_grad()
    def remember(self, own: list[Tensor], batch: Batch) -> None:
        """Add each sample's losses to its history."""
        losses = torch.stack([cross_entropy(z, batch.label, reduction="none") for z in own])
        self.history[:, batch.index] += losses

    def ranked(self, sure: Tensor, batch: Batch) -> Tensor:
        """Return the ranking losses of all modalities, summed; sure: (M, B)."""
        slack = self.params.variant == "code"
        hard = torch.stack([hardness(past) for past in self.history])[:, batch.index]
        return torch.stack([ranking_loss(c, h, slack) for c, h in zip(sure, hard, strict=True)]).sum()

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the logits weighed by their energies, and those of the own heads."""
        own: Mapping[str, Tensor] = {m: self.own[m](features[m]) for m in self.modalities}
        terms = []
        for z in own.values():
            sure = energy_confidence(z).unsqueeze(1)
            terms.append((sure.detach() if self.params.form == "text_image" else sure) * z)
        return Logits(fused=torch.stack(terms).sum(0), own_head=own)
