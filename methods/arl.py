"""Asymmetric representation learning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from mmlbench import DECOMPOSABLE, Batch, Logits, Mechanism, Step, bounded, choice, moment, register
from mmlbench.formulas.gradients import times_in_backward
from mmlbench.formulas.scores import mean_of_others
from mmlbench.fusion import Concat, FusionHead

from .joint import Joint
from .pmr import mean_entropy


# ---- formulas --------------------------------------------------------------------------------------------
def with_whole_bias(head: FusionHead, sliced: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return sliced logits with the head's whole bias in each, modality -> (B, C): zeros for the other features."""
    if isinstance(head, Concat):
        lacking = (1 - 1 / len(sliced)) * head.out.bias
        return {m: z + lacking for m, z in sliced.items()}
    return dict(sliced)


def arl_shares(sizes: Tensor, entropies: Tensor, temperature: float) -> Tensor:
    """Return k = softmax over modalities of T (mean of the others' d) w_m, (M,).

    d are the sizes over their sum; w is in proportion to 1 / H and sums to 1, H the entropies over their sum, at
    least 0.6 / M.

    Args:
        sizes: batch mean of the summed |z_m| (M,). entropies: mean entropy of softmax(z_m) (M,).
    """
    d, h = sizes / sizes.sum(), (entropies / entropies.sum()).clamp_min(0.6 / len(entropies))
    return softmax(temperature * mean_of_others(d) * (1 / h) / (1 / h).sum(), 0)


# ---- method ----------------------------------------------------------------------------------------------
@register
class ARL(Joint):
    """Encoders get more gradient where their predictions vary little and the others' are large.

    L = CE(z, y) + gamma_t sum of CE(z_m, y), z_m the logits with zeros for the other features, so with the whole
    bias. gamma_t is 1 before epoch `start` and then gamma. From `start` on the gradient that passes from the head
    into encoder m is multiplied by 1 + k_m; the head's own gradient is plain. d_m is the batch mean of the sum over
    classes of |z_m|, over the sum of all; H_m is the mean entropy of softmax(z_m), over the sum of all, at least 0.3;
    w_m is in proportion to 1 / H_m; (k_1, k_2) = softmax(T (d_2 w_1, d_1 w_2)). k acts from the next step on, at
    first 1/2. Then all gradients are scaled down together to the norm `clip`, where theirs is greater. `variant`:

    - `paper` (default): k as said.
    - `code`: k stays at 1/2, so that both encoders have 1.5 times the gradient: the released code computes k and
      never assigns it. The mechanism is declared off.

    With `strength` s the factor is 1 + s k_m; with 0, gamma 0, `start` 0 and no clip it is joint training. Where all
    is equal both k are 1/2.

    Source: Wei et al., ICCV 2025 (arXiv 2507.10203), and the authors' code at 358af4f. As released it raises a
    TypeError at the first backward pass of epoch 6, where its scale multiplies by a tuple; `code` is what it does
    with the tuple's entry. Another commit, 51a9de3, assigns k as `paper` has it. Deviations: their window also asks
    that accuracies on the test part are not both 0, which is left out; a recipe with `clip_grad` clips once more.
    More than two modalities are ours: the mean of the others' d, 0.6 / M for 0.3, 1 / M for 1/2.
    Published: gamma 4 and T 8 on CREMA-D, 3 and 4 on Kinetics-Sounds, 5 and 4 on AVE; from epoch 6 of 100 (counted
    from 0); SGD 1e-3, momentum 0.9, weight decay 1e-4, rate x 0.1 from epoch 70 on, batch 64, clip 40.
    Measured: 81.6 [78.4, 84.8] % on avdigits / speaker, minus joint +14.2 [11.5, 16.9]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ("classification",)  # it goes by entropies of classes
    accumulates = True
    shares: Tensor

    class Params(Joint.Params):
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")
        variant: str = choice("paper", ("paper", "code"), doc="k as it is computed, or 1/2 as released")
        gamma: float = bounded(
            4.0, low=0, doc="weight of the modalities' losses from `start` on", tune=(0.5, 8.0, "log")
        )
        temperature: float = bounded(
            8.0, low=0, doc="T of the softmax; greater: further apart", tune=(1.0, 16.0, "log")
        )
        start: float | int = moment(0.06, doc="first epoch with gamma and with more gradient")
        strength: float = bounded(1.0, low=0, doc="what k is multiplied by; 0 switches the scaling off")
        clip: float = bounded(40.0, low=0, doc="greatest norm of all gradients together; 0 clips none")

    def build(self) -> None:
        """Add the head, and the shares that act in the next step."""
        super().build()
        count = len(self.modalities)
        self.register_buffer("shares", torch.full((count,), 1 / count))

    def mechanisms(self) -> list[Mechanism]:
        """Encoders get gradient by their shares."""
        off = self.params.variant == "code" or self.params.strength == 0
        return [Mechanism("shares", first=self.at(self.params.start), off=off)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the fused loss plus gamma_t times those of the modalities alone."""
        inside = self.step.epoch >= self.at(self.params.start)
        features = self.encode(batch)
        if inside and self.params.strength > 0:
            factors = 1 + self.params.strength * self.shares
            features = {m: times_in_backward(features[m], k) for m, k in zip(self.modalities, factors, strict=True)}
        logits = self.predict(features)
        alone = with_whole_bias(self.head, logits.sliced)
        if inside and not self.mechanisms()[0].off:
            self.share_out([alone[m].detach() for m in self.modalities])
        own = torch.stack([self.task_loss(z, batch.label) for z in alone.values()]).sum()
        return self.task_loss(logits.fused, batch.label) + (self.params.gamma if inside else 1) * own, logits

    @torch.no_grad()
    def share_out(self, logits: list[Tensor]) -> None:
        """Set the shares of the next step by the logits of each modality, M of (B, C)."""
        for m, k in zip(self.modalities, self.shares, strict=True):
            self.record(**{f"share/{m}": k.clone()})
        sizes = torch.stack([z.abs().sum(1).mean() for z in logits])
        entropies = torch.stack([mean_entropy(z) for z in logits])
        self.shares.copy_(arl_shares(sizes, entropies, self.params.temperature))
        self.count_mechanism("shares", (self.shares - 1 / len(logits)).abs().sum())

    def after_backward(self, step: Step) -> None:
        """Clip all gradients together."""
        if self.params.clip > 0:
            norm = nn.utils.clip_grad_norm_(self.parameters(), self.params.clip)
            self.record(clipped=norm > self.params.clip)
