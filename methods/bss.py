"""Balance-aware sequence sampling: samples on which modalities agree come first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmlbench import Batch, EpochContext, Logits, Mechanism, MethodParams, Sampling, bounded, choice, moment, register
from mmlbench.formulas.samples import joined, rows
from mmlbench.fusion import FUSIONS

from ._own_heads import OwnHeads

#: Samples of a batch while the train part is judged, as released: its statistics are those of batch norm.
PIECE = 32


# ---- formulas --------------------------------------------------------------------------------------------
def pace(epoch: int, growth: int, start: float) -> float:
    """Return which share of samples an epoch shows: min(1, sqrt((1 - start^2) (epoch + 1) / growth + start^2))."""
    return min(1.0, math.sqrt((1 - start**2) / growth * (epoch + 1) + start**2))


def agreement(outputs: Sequence[Tensor]) -> Tensor:
    """Return the cosine of what two modalities say of each sample, the mean over all pairs, (n,).

    Args:
        outputs: M of (n, C).
    """
    return torch.stack([cosine_similarity(one, other, dim=1) for one, other in combinations(outputs, 2)]).mean(0)


def to_unit(values: Tensor) -> Tensor:
    """Return values scaled to 0..1 by the least and the greatest of them, (n,); all 0 where these are equal."""
    low, high = values.amin(), values.amax()
    return (values - low) / torch.where(high > low, high - low, torch.ones_like(high))


def difficulty(agree: Tensor, loss: Tensor) -> Tensor:
    """Return 1 - agreement + loss, both scaled to 0..1 over the samples, (n,); agree, loss: (n,)."""
    return 1 - to_unit(agree) + to_unit(loss)


def chances(agree: Tensor, loss: Tensor) -> Tensor:
    """Return the weights by which samples are drawn first, 1 - (loss - agreement) + 0.01, scaled as above, (n,)."""
    return 1 - (to_unit(loss) - to_unit(agree)) + 1e-2


def in_pieces(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield what batches hold in pieces of 32 samples at most, in order; a sample alone joins the piece before it."""
    kept: Batch | None = None
    for batch in batches:
        for places in torch.arange(len(batch), device=batch.label.device).split(PIECE):
            piece = rows(batch, places)
            if kept is not None and len(piece) == 1:
                piece = joined([kept, piece])
            elif kept is not None:
                yield kept
            kept = piece
    if kept is not None:
        yield kept


# ---- the method ------------------------------------------------------------------------------------------
@register
class BSS(OwnHeads):
    """Samples on which modalities agree, and whose loss is small, are shown first.

    L = `fused` CE(z, y) + `own` sum of CE(z_m, y), z_m from a head of m's own. The prediction is the sum of z and
    all z_m, or with `predicts: own` of the z_m alone. `order`:

    - `curriculum` (default): before the first epoch the train part is ranked, once, by `difficulty`: the cosine of
      the modalities' softmax outputs, and L of each sample. An epoch shows the easiest samples, a share `pace` of
      them, shuffled; from the end of `growth` on it shows all.
    - `self_paced`: before every epoch all samples are drawn without replacement by their `chances`, and shown as
      drawn: only their order changes.
    - `random`: the pace of the curriculum over a random ranking, a control of ours. Since the released curriculum
      ranks by a network that has not learned anything, it says what that ranking adds.

    The passes that judge samples are in training mode, as released: running statistics move in them, and samples are
    seen as training augments them. `start: 1` is `joint_unimodal_losses` with another prediction.

    Source: *Balance-aware Sequence Sampling Makes Multimodal Learning Better*, IJCAI 2025, the authors' code at
    495b94e; the paper's text was not at hand. Deviations: no sample is dropped, where the release leaves out an
    incomplete last batch of every epoch; a part whose samples are all alike in a measure has 0 there, not NaN.
    Over more than two modalities the mean of all pairs, as released for NVGesture (three), where cosines are those of
    the logits (`compares: logits`). The release picks its epoch on test.
    Published: CREMA-D fused 0.1, own 0.9, predicts own, SGD 0.01; Kinetics-Sounds and NVGesture all 1 and the sum of
    all, SGD 0.1 and 0.01; momentum 0.9, decay 1e-4, batch 32 (NVGesture 2), 120 epochs, rate x 0.1 after 70, start
    0.1, growth 40 epochs.
    Measured: 74.4 [70.4, 78.4] % on avdigits / speaker, minus joint +7.0 [5.0, 8.9]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "data"
    tasks = ("classification",)  # it reads softmax outputs
    ranking: Tensor

    class Params(MethodParams):
        order: str = choice(
            "curriculum", ("curriculum", "self_paced", "random"), doc="which samples come first, and whether all come"
        )
        start: float = bounded(0.1, low=0, high=1, doc="share of samples at the start; 1: all", tune=(0.05, 0.5))
        growth: float | int = moment(40 / 120, doc="when all are shown, two epochs at least", tune=(0.1, 0.8))
        compares: str = choice("softmax", ("softmax", "logits"), doc="outputs whose cosine is taken")
        fused: float = bounded(1.0, low=0, doc="of the fused loss", tune=(0.1, 2.0, "log"))
        own: float = bounded(1.0, low=0, doc="of the modalities' own losses", tune=(0.1, 2.0, "log"))
        predicts: str = choice("all", ("all", "own"), doc="logits whose sum is the prediction")
        fusion: str = choice("concat", FUSIONS, doc="fusion head")

    def build(self) -> None:
        """Add the heads and room for the ranking."""
        super().build()
        self.register_buffer("ranking", torch.arange(max(1, self.train_size)))

    def mechanisms(self) -> list[Mechanism]:
        """Samples wait until they are shown; or all are put into an order."""
        if self.params.order == "self_paced":
            return [Mechanism("self_paced")]
        return [Mechanism("curriculum", last=self.growth() - 2, off=self.params.start == 1)]

    def growth(self) -> int:
        """Return the number of epochs until all samples are shown."""
        return max(2, self.at(self.params.growth))

    # ---- which samples -----------------------------------------------------------------------------------
    @torch.no_grad()
    def sample(self, context: EpochContext) -> Sampling | None:
        """Return the easiest samples, shuffled; or all of them, as they are drawn."""
        if self.params.order == "self_paced":
            index, agree, loss = self.judged(context)
            drawn = torch.multinomial(chances(agree, loss), len(index), generator=context.rng)
            self.count_mechanism("self_paced", len(index))
            return Sampling(index[drawn])
        if context.epoch == 0 and self.params.start < 1:
            self.ranking.copy_(self.ranked(context))
        count = max(2, int(len(self.ranking) * pace(context.epoch, self.growth(), self.params.start)))
        if count >= len(self.ranking):
            return None
        self.count_mechanism("curriculum", len(self.ranking) - count)
        mixed = torch.randperm(count, generator=context.rng, device=self.ranking.device)
        return Sampling(self.ranking[mixed])

    def ranked(self, context: EpochContext) -> Tensor:
        """Return the positions of the train part, the easiest first, int64 (n,)."""
        if self.params.order == "random":
            return torch.randperm(len(self.ranking), generator=context.rng, device=self.ranking.device)
        index, agree, loss = self.judged(context)
        return index[difficulty(agree, loss).argsort(stable=True)]

    def judged(self, context: EpochContext) -> tuple[Tensor, Tensor, Tensor]:
        """Return positions, agreements and losses of the train part, (n,) each, by a pass in training mode."""
        found = []
        for piece in in_pieces(context.batches("train", augment=True)):
            fused, own = self.outputs(self.encode(piece))
            said = [z.softmax(1) for z in own.values()] if self.params.compares == "softmax" else list(own.values())
            found.append((piece.index, agreement(said), self.whole_loss(fused, own, piece.label, "none")))
        index, agree, loss = (torch.cat(parts) for parts in zip(*found, strict=True))
        self.record(agreement=agree.mean())
        return index, agree, loss

    # ---- a step ------------------------------------------------------------------------------------------
    def outputs(self, features: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return z (B, C), and modality -> z_m (B, C)."""
        return self.head(features).fused, {m: self.own[m](features[m]) for m in self.modalities}

    def whole_loss(self, fused: Tensor, own: dict[str, Tensor], label: Tensor, reduction: str = "mean") -> Tensor:
        """Return L, a scalar, or (B,) with `reduction="none"`."""
        total = self.params.fused * self.task_loss(fused, label, reduction)
        for z in own.values():
            total = total + self.params.own * self.task_loss(z, label, reduction)
        return total

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the weighted sum of M + 1 losses."""
        fused, own = self.outputs(self.encode(batch))
        return self.whole_loss(fused, own, batch.label), self.combined(fused, own)

    def combined(self, fused: Tensor, own: dict[str, Tensor]) -> Logits:
        """Return the prediction, and the own heads' logits."""
        parts = list(own.values()) if self.params.predicts == "own" else [fused, *own.values()]
        return Logits(fused=torch.stack(parts).sum(0), own_head=own)

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the prediction, and the own heads' logits."""
        return self.combined(*self.outputs(features))
