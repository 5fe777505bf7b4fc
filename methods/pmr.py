"""Prototypical modal rebalance."""

from __future__ import annotations

import torch
from torch import Tensor

from mmlbench import Batch, EpochContext, Logits, Mechanism, bounded, choice, moment, register
from mmlbench.encoder import modes_kept
from mmlbench.formulas.prototypes import class_means, minus_distances
from mmlbench.formulas.samples import found_among
from mmlbench.formulas.scores import mean_of_others, true_class_score

from .joint import Joint

#: Samples that the prototypes are made of at least: a batch of the authors.
LEAST = 64


def lag(scores: Tensor) -> Tensor:
    """Return clip(mean of the others' s / s_m - 1, 0, 1), by how much each modality lags, (M,); scores (M,)."""
    return (mean_of_others(scores) / scores - 1).clamp(0, 1)


def lead(scores: Tensor) -> Tensor:
    """Return clip(s_m / mean of the others' s - 1, 0, 1), by how much each modality leads, (M,); scores (M,)."""
    return (scores / mean_of_others(scores) - 1).clamp(0, 1)


def mean_entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of softmax(z) over the batch in nats, a scalar; logits (B, C)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


@register
class PMR(Joint):
    """Joint training in which class prototypes pull the modality that lags behind.

    A prototype is the mean feature of a class. D_m is the distance of a feature to each, p_m = softmax(-D_m), and
    s_m the sum over the batch of p_m[y]; rho = s_audio / s_visual of two modalities.

    - `variant: paper` (default): L = CE(z, y) + alpha sum of lag_m CE(-D_m, y), and lag_m is clip(s_other / s_m - 1,
      0, 1). In the first epochs also - mu sum of lead_m H(p_m), lead_m = clip(s_m / s_other - 1, 0, 1), which keeps
      the leading modality unsure. Prototypes: c <- keep c + (1 - keep) c_new after every epoch.
    - `variant: code`: L = CE(z, y) + alpha CE(-D_m, y) of the one that lags, however little, in the epochs `start` to
      `end`, both included, and no entropy. After the first epoch prototypes are replaced, later averaged.

    Lag and lead carry no gradient; of equal scores neither lags. Prototypes are constants of a step, found before the
    first epoch and after every one, in evaluation mode, from a tenth of the train part, drawn anew and augmented.

    Source: Fan et al., CVPR 2023, and the authors' code. Deviations: at least 64 samples (the authors' batch) and not
    whole batches make the prototypes; on AVE the authors take the validation part instead. A class that was not
    drawn keeps its prototype (theirs: 0 / 0). The gradient is 0 where a feature lies on a prototype (theirs: NaN).
    More than two modalities are ours: the other's score is the mean of the others'. The paper's number of epochs with
    the entropy was not at hand.
    Hyper-parameters: paper: alpha 1 or 2, mu 0.01 or 0.001. Code: CREMA-D alpha 3 (film) and 5 (sum), keep 0, epochs
    0 to 100 of 150; AVE alpha 2, 1 or 0.5, epochs 0 to 70. keep is 0.2 by the code's default.
    Measured: 71.6 [68.4, 74.8] % on avdigits / speaker, minus joint +4.2 [3.0, 5.4]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "loss"
    tasks = ("classification",)  # there is a prototype for each class

    class Params(Joint.Params):
        variant: str = choice("paper", ("paper", "code"), doc="equations of the paper, or the released code")
        alpha: float = bounded(1.0, low=0, doc="of the prototypes' losses", tune=(0.3, 5.0, "log"))
        mu: float = bounded(0.01, low=0, doc="of the leading modality's entropy (paper)", tune=(1e-3, 0.1, "log"))
        entropy_epochs: float | int = moment(0.1, doc="with the entropy, from the first on (paper); ours")
        start: float | int = moment(0.0, doc="first epoch with the prototypes' losses (code)")
        end: float | int = moment(100 / 150, doc="last epoch with them (code)")
        keep: float = bounded(0.2, low=0, high=1, doc="share of itself that a prototype keeps")
        share: float = bounded(0.1, low=0, high=1, doc="of the train part that prototypes are made of")

    def build(self) -> None:
        """Add the fusion head, and buffers for the prototypes."""
        super().build()
        for m, dim in self.dims.items():
            self.register_buffer(f"prototypes_{m}", torch.zeros(self.classes, dim))

    def mechanisms(self) -> list[Mechanism]:
        """Prototypes pull the modality that lags; the paper's entropy holds the one that leads."""
        p = self.params
        released = p.variant == "code"
        first, last = (self.at(p.start), self.at(p.end)) if released else (0, None)
        with_entropy = self.with_entropy()
        return [
            Mechanism("prototypes", first=first, last=last, off=p.alpha == 0),
            Mechanism("entropy", last=with_entropy - 1, off=with_entropy == 0),
        ]

    # ---- the step ----------------------------------------------------------------------------------------
    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the fused logits' loss, with those of the prototypes."""
        features = self.encode(batch)
        logits = self.predict(features)
        total = self.task_loss(logits.fused, batch.label)
        if not self.acts(self.step.epoch):
            return total, logits
        near = [minus_distances(features[m], self.get_buffer(f"prototypes_{m}")) for m in self.modalities]
        scores = torch.stack([true_class_score(z.detach(), batch.label) for z in near])
        scores = scores.clamp_min(torch.finfo(torch.float32).tiny)
        released = self.params.variant == "code"
        behind = (lag(scores) > 0).float() if released else lag(scores)
        self.record(**{f"lag/{m}": one for m, one in zip(self.modalities, behind, strict=True)})
        if self.params.alpha > 0:
            own = torch.stack([self.task_loss(z, batch.label) for z in near])
            total = total + self.params.alpha * (behind * own).sum()
            self.count_mechanism("prototypes", behind.sum())
        if self.step.epoch < self.with_entropy():
            ahead, unsure = lead(scores), torch.stack([mean_entropy(z) for z in near])
            total = total - self.params.mu * (ahead * unsure).sum()
            self.count_mechanism("entropy", ahead.sum())
        return total, logits

    def acts(self, epoch: int) -> bool:
        """Return whether the prototypes have a part in an epoch."""
        if self.params.variant == "code":
            window = self.at(self.params.start) <= epoch <= self.at(self.params.end)
            return window and self.params.alpha > 0
        return self.params.alpha > 0 or epoch < self.with_entropy()

    def with_entropy(self) -> int:
        """Return the number of epochs in which the leading modality's entropy has a part, 1 at least where it has."""
        p = self.params
        none = p.variant == "code" or p.mu == 0 or p.entropy_epochs == 0
        return 0 if none else max(1, self.at(p.entropy_epochs))

    # ---- prototypes --------------------------------------------------------------------------------------
    def before_epoch(self, context: EpochContext) -> None:
        """Find the first prototypes."""
        if context.epoch == 0 and any(map(self.acts, range(self.epochs))):
            self.renew(context, keep=0.0)

    def after_epoch(self, context: EpochContext) -> None:
        """Let the prototypes follow the features."""
        if any(map(self.acts, range(context.epoch + 1, self.epochs))):
            replaced = self.params.variant == "code" and context.epoch == 0
            self.renew(context, keep=0.0 if replaced else self.params.keep)

    def renew(self, context: EpochContext, keep: float) -> None:
        """Average what is kept of the prototypes with the class means of some samples."""
        features, label = self.some_features(context)
        for m in self.modalities:
            means, count = class_means(features[m], label, self.classes)
            kept = self.get_buffer(f"prototypes_{m}")
            kept.copy_(torch.where(count.unsqueeze(1) > 0, keep * kept + (1 - keep) * means, kept))

    @torch.no_grad()
    def some_features(self, context: EpochContext) -> tuple[dict[str, Tensor], Tensor]:
        """Return features (modality -> (n, d)) and labels (n,) of a share of the train part, drawn at random."""
        count = max(LEAST, int(self.params.share * self.train_size))
        order = torch.randperm(self.train_size, generator=context.rng, device=context.rng.device)
        seen: list[dict[str, Tensor]] = []
        labels: list[Tensor] = []
        with modes_kept(self.encoders):
            self.encoders.eval()
            for batch in found_among(context.batches("train", augment=True), order[:count]):
                seen.append(self.encode(batch))
                labels.append(batch.label)
        return {m: torch.cat([one[m] for one in seen]) for m in self.modalities}, torch.cat(labels)
