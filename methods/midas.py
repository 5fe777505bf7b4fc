"""Misaligned samples as data, labelled by what each modality is sure of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmlbench import FUSIONS, Batch, Logits, Mechanism, MethodParams, bounded, choice, moment, register
from mmlbench.formulas.scores import mean_of_others, true_class_probability

from ._own_heads import OwnHeads


# ---- formulas --------------------------------------------------------------------------------------------
def partners(label: Tensor, count: int, differ: bool, rng: torch.Generator) -> Tensor:
    """Return for each sample of a batch the places of others, int64 (count, B).

    They are permutations of the batch; with `differ` each is drawn from the samples of another class, and where
    there are none it is the first sample.

    Args:
        label: (B,). rng: on the label's device.
    """
    size = len(label)
    if not differ:
        return torch.stack([torch.randperm(size, generator=rng, device=rng.device) for _ in range(count)])
    drawn = torch.rand(count, size, size, generator=rng, device=rng.device)
    return drawn.masked_fill(label == label.unsqueeze(1), -1).argmax(2)


def sources(places: Tensor) -> Tensor:
    """Return whose feature each misaligned copy shows of each modality, int64 (M copies, M modalities, B).

    Of M - 1 partners and the sample itself every copy shows each once, in turn: of two modalities (own, partner) and
    (partner, own). Copy k shows the sample's own feature of modality k.

    Args:
        places: of the partners, (M - 1, B).
    """
    own = torch.arange(places.shape[1], device=places.device).unsqueeze(0)
    every = torch.cat([own, places])
    return torch.stack([every.roll(k, 0) for k in range(len(every))])


def shares_of(values: Tensor) -> Tensor:
    """Return values over their sum over modalities, zeros where all are 0; (copies, M, B)."""
    return values / values.sum(1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)


@torch.no_grad()
def similarity(features: Mapping[str, Tensor], source: Tensor) -> Tensor:
    """Return the mean cosine of the features that a copy replaces to the sample's own, (copies, B); no gradient.

    Args:
        features: modality -> (B, d_m). source: of `sources`.
    """
    found = []
    for k, who in enumerate(source):
        pairs = zip(features.values(), who, strict=True)
        close = [cosine_similarity(h, h[rows]) for m, (h, rows) in enumerate(pairs) if m != k]
        found.append(torch.stack(close).mean(0))
    return torch.stack(found)


def ratio_signal(own: Tensor, fused: Tensor) -> Tensor:
    """Return whether the weight of a modality grows (1) or shrinks (-1), were it the weak one, (M,).

    It grows where the others outweigh it more in the fused prediction than among the own heads, by ratios of mean
    confidences; of the first modality by the ratios' inverse. Equal ones shrink.

    Args:
        own: mean confidence of the own heads (M,). fused: the fused prediction's in each copy (copies, M).

    Source: MIDAS's code, M = 2; more is ours.
    """
    outweighed = torch.stack([mean_of_others(seen) / seen for seen in fused])
    grows = outweighed.mean(0) > mean_of_others(own) / own
    first = (1 / outweighed).mean(0) < own / mean_of_others(own)
    grows = torch.cat([first[:1], grows[1:]])
    return torch.where(grows, 1.0, -1.0)


def share_signal(target: Tensor, predicted: Tensor) -> Tensor:
    """Return the sign of each modality's mean share in the labels minus that in the predictions, (M,).

    Args:
        target, predicted: shares (copies, M, B).

    Source: MIDAS; the sign is not in the part of its text that was at hand.
    """
    return (target - predicted).mean((0, 2)).sign()


# ---- method ----------------------------------------------------------------------------------------------
@register
class MIDAS(OwnHeads):
    """Features of different samples are put together, and their label is shared out by the own heads' confidences.

    Before epoch `warmup` only the own heads and encoders train, L_uni = mean of CE(o_m, y). From then on
    L = CE(z, y) + L_uni + weight L_mis. For a partner j of each sample i there are the copies (h_1[i], h_2[j]) and
    (h_1[j], h_2[i]). With c_m the probability of the own label by the own head, and shares s_m = c_m / sum of c_m of
    a copy, L_mis is the mean over copies of

        (1 + (cos + 1) / 2) sum of alpha_m s_m CE(z', y_m),

    z' the fused logits of the copy, y_m the label of whom modality m is from, cos that of the replaced feature to the
    sample's own. c, s and cos have no gradient. The weak modality is the one whose own head is least sure; its alpha
    grows by `rate` where the fused prediction makes even less of it than its own head, else it shrinks, to 1 at
    least; the others' alpha is 1. `variant`:

    - `code` (default): partners are a permutation of the batch, so that some are of the same class or the sample
      itself. Confidences are compared by ratios of their means (`ratio_signal`). One alpha goes with whichever is
      the weak modality.
    - `paper`: partners are of another class; where a batch has none, a copy has no loss. L_uni is a sum. The weak
      modality has the least mean share, shares of labels and predictions are compared (`share_signal`), and a
      modality that is no longer the weak one starts again from 1.

    With `weight` 0 and `warmup` 0 `paper` is `joint_unimodal_losses`. A prediction needs no copies.

    Source: Hwang et al., NeurIPS 2025 (arXiv 2509.25831), text and algorithm, and the authors' code at e32f5db
    (CREMA-D). Equations 6 to 11 were not legible: in `paper` the factor (1 + (cos + 1) / 2), the mean over the two
    copies and what has no gradient are the code's, and the sign in `share_signal` is from a reader's account of the
    paper; its text alone lets one expect the difference. Its algorithm sets alpha to 1 in each epoch; its text and
    the code do not, nor do we.
    Deviations: more than two modalities follow its appendix A.2, but for our cyclic order of the sources, partners
    that differ from sample i alone, and the ratio to the mean of the others. Where no own head gives the labels of a
    copy any probability they divide 0 by 0; here the copy has no loss. The code holds the learning rate's schedule
    back until the warm-up is over, and on Kinetics-Sounds alpha at 10 at most.
    Hyper-parameters: rate 0.05; weight 5 on Kinetics-Sounds, 1 on CREMA-D, UCF-101, UPMC-Food-101; warm-up 10 of 70
    epochs on Kinetics-Sounds and CREMA-D, 0 of 70 on UCF-101, 2 of 30 on Food-101; SGD 1e-3 (UCF-101 1e-2), momentum
    0.9, weight decay 1e-4, batch 64, rate x 0.1 after 50 epochs (Food-101 15), concat head.
    Measured: 79.9 [76.9, 82.9] % on avdigits / speaker, minus joint +12.4 [9.6, 15.3]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "data"
    alpha: Tensor

    class Params(MethodParams):
        fusion: str = choice("concat", FUSIONS, "fusion head; film and gated have no sliced logits", FUSIONS)
        variant: str = choice("code", ("code", "paper"), doc="partners and weak modality: as released, or as written")
        weight: float = bounded(1.0, low=0, doc="of misaligned copies; 0 switches them off", tune=(0.2, 10.0, "log"))
        rate: float = bounded(0.05, low=0, doc="by which alpha changes in a batch; 0 leaves it at 1")
        warmup: float | int = moment(1 / 7, doc="first epoch with the fused loss and with misaligned copies")

    def build(self) -> None:
        """Add the heads, and a weight for each modality."""
        super().build()
        self.register_buffer("alpha", torch.ones(len(self.modalities)))

    def mechanisms(self) -> list[Mechanism]:
        """Copies whose modalities are of different classes are trained on."""
        return [Mechanism("misaligned", first=self.at(self.params.warmup), off=self.params.weight == 0)]

    # ---- the step ----------------------------------------------------------------------------------------
    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the own heads' losses; after the warm-up with the fused one and that of the copies."""
        features = self.encode(batch)
        logits = self.predict(features)
        each = 1.0 if self.params.variant == "paper" else 1 / len(self.modalities)
        if self.step.epoch < self.at(self.params.warmup):
            own = [self.task_loss(z, batch.label) for z in logits.own_head.values()]
            return each * torch.stack(own).sum(), logits
        total = self.summed_loss(logits, batch.label, each)
        if self.params.weight == 0:
            return total, logits
        sure = torch.stack([true_class_probability(z.detach(), batch.label) for z in logits.own_head.values()])
        return total + self.params.weight * self.misaligned(features, sure, batch.label), logits

    def misaligned(self, features: dict[str, Tensor], sure: Tensor, label: Tensor) -> Tensor:
        """Return the loss of the misaligned copies, a scalar, and move alpha.

        Args:
            features: modality -> (B, d_m). sure: the own heads' confidences (M, B). label: (B,).
        """
        paper = self.params.variant == "paper"
        source = sources(partners(label, len(sure) - 1, paper, self.step.rng))
        losses, seen = [], []
        for who in source:
            z = self.head({m: features[m][rows] for m, rows in zip(self.modalities, who, strict=True)}).fused
            losses.append(torch.stack([self.task_loss(z, label[rows], "none") for rows in who]))
            seen.append(torch.stack([true_class_probability(z.detach(), label[rows]) for rows in who]))
        shares, predicted = shares_of(torch.stack([sure.gather(1, who) for who in source])), torch.stack(seen)
        weak = (shares.mean((0, 2)) if paper else sure.mean(1)).argmin()
        is_weak = torch.arange(len(sure), device=weak.device) == weak
        weights = self.alpha.clone() if paper else torch.where(is_weak, self.alpha, 1)
        mixed = (weights.view(-1, 1) * shares * torch.stack(losses)).sum(1)
        copies = (1 + (similarity(features, source) + 1) / 2) * mixed
        apart = (label[source] != label).any(1)
        self.count_mechanism("misaligned", apart.sum())
        signal = (
            share_signal(shares, shares_of(predicted)) if paper else ratio_signal(sure.mean(1), predicted.mean(2))
        )
        self.move_alpha((signal * is_weak).sum(), is_weak)
        return (copies * apart if paper else copies).mean()

    @torch.no_grad()
    def move_alpha(self, signal: Tensor, is_weak: Tensor) -> None:
        """Move the weak modality's alpha, for the next step.

        Args:
            signal: 1, 0 or -1. is_weak: bool (M,).
        """
        moved = (self.alpha + self.params.rate * signal).clamp_min(1)
        self.alpha.copy_(torch.where(is_weak, moved, 1) if self.params.variant == "paper" else moved)
        weights = torch.where(is_weak, self.alpha, 1)
        self.record(**{f"alpha/{m}": a for m, a in zip(self.modalities, weights, strict=True)})
