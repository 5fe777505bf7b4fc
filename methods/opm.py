"""On-the-fly prediction modulation."""

from __future__ import annotations

import torch
from torch import Tensor

from mmlbench import DECOMPOSABLE, Batch, Logits, Mechanism, bounded, choice, moment, register
from mmlbench.formulas.scores import mean_of_others, true_class_score
from mmlbench.formulas.slices import slices_of_fixed

from .joint import Joint


# ---- formulas --------------------------------------------------------------------------------------------
def opm_probabilities(scores: Tensor, base: float, slope: float) -> Tensor:
    """Return q_m, with which a sample loses modality m, (M,): 0 for one that is not ahead of the others.

    q_m = min(base (1 + slope tanh(s_m / mean of the others' s - 1)), 1) where s_m is above that mean. So there is
    always a modality that is never dropped, and none is on a tie of all.

    Args:
        scores: s (M,), sums of the true class's probability over the batch.
    """
    others = mean_of_others(scores).clamp_min(torch.finfo(torch.float32).tiny)
    lead = torch.tanh(torch.relu(scores / others - 1))
    return torch.where(lead > 0, (base * (1 + slope * lead)).clamp(0, 1), torch.zeros_like(lead))


def opm_share(probabilities: Tensor, sizes: Tensor) -> Tensor:
    """Return theta = sum of d_m q_m / sum of d_m, the share of all features that is dropped, a scalar.

    Args:
        probabilities: q (M,). sizes: d (M,), of the same type.
    """
    return (sizes * probabilities).sum() / sizes.sum()


def opm_executes(chance: float, rng: torch.Generator) -> Tensor:
    """Return whether a batch is modulated at all, a bool scalar, drawn with that chance."""
    return torch.rand((), generator=rng, device=rng.device) >= 1 - chance


def opm_keep(probabilities: Tensor, samples: int, rng: torch.Generator) -> Tensor:
    """Return what each sample keeps, bool (samples, M); modality m is dropped with probability q_m."""
    return torch.rand(samples, len(probabilities), generator=rng, device=rng.device) >= probabilities


# ---- method ----------------------------------------------------------------------------------------------
@register
class OPM(Joint):
    """Samples lose the feature of a modality that is ahead of the others, the more often the further.

    From epoch `start` on a batch is modulated with the chance `execute`. Then each of its samples loses modality m
    with probability q_m = base (1 + slope tanh(s_m / s_other - 1)) where m is ahead, else never: its feature is zero.
    All features are divided by 1 - theta, theta = sum of d_m q_m / sum of d_m. L = CE(z, y) of what is left. s_m is
    the sum over the batch of softmax(z_m)[y], z_m the sliced logits. Nothing is dropped in evaluation. `variant`:

    - `clean` (default): q and theta are constants, as meant.
    - `code`: they keep their graph, and theta's own backward pass returns theta as its gradient. So each modulated
      step adds the gradient of theta^2 / 2 to both encoders; the value of the loss stays.

    Without `execute` or `base` it is joint training.

    Source: Wei et al., T-PAMI 2024 (arXiv 2410.11582), and the authors' code, which a stray bracket keeps from
    running; read without it. Deviations: for more than two modalities s_other is the mean of the others' scores
    (ours). Samples that lose every modality, which the code removes, do not occur: one is never dropped. Published
    for Kinetics-Sounds: base 0.5, slope 0.5, execute 0.7, six epochs of 100 before it starts; AdamW 5e-5, weight
    decay 0.01, StepLR 40, batch 32.
    Measured: 76.3 [73.3, 79.3] % on avdigits / speaker, minus joint +8.9 [7.5, 10.3]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ("classification",)  # its scores are softmax probabilities of the true class
    sizes: Tensor

    class Params(Joint.Params):
        base: float = bounded(0.5, low=0, high=1, doc="least probability of dropping what is ahead", tune=(0.1, 0.8))
        slope: float = bounded(0.5, low=0, doc="how much more it is with a greater lead", tune=(0.0, 1.0))
        execute: float = bounded(0.7, low=0, high=1, doc="chance that a batch is modulated", tune=(0.3, 1.0))
        start: float | int = moment(0.06, doc="first modulated epoch")
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")
        variant: str = choice("clean", ("clean", "code"), doc="theta is a constant, or has the released gradient")

    def build(self) -> None:
        """Add the head, and the sizes of features where the device has them."""
        super().build()
        self.register_buffer("sizes", torch.tensor(list(self.dims.values()), dtype=torch.float32), persistent=False)

    def mechanisms(self) -> list[Mechanism]:
        """Features are dropped, unless that never happens."""
        off = self.params.base == 0 or self.params.execute == 0
        return [Mechanism("dropped", first=self.at(self.params.start), off=off)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the fused logits of what is kept."""
        if self.mechanisms()[0].off or self.step.epoch < self.at(self.params.start):
            return super().loss(batch)
        features = self.encode(batch)
        probabilities = self.probabilities(features, batch.label)
        theta = opm_share(probabilities, self.sizes)
        executed = opm_executes(self.params.execute, self.step.rng)
        keep = opm_keep(probabilities.detach(), len(batch), self.step.rng) | ~executed
        scale = torch.where(executed, 1 / (1 - theta.detach()), torch.ones_like(theta))
        factors = (keep * scale.detach()).unsqueeze(2).unbind(1)
        logits = self.predict({m: features[m] * k for m, k in zip(self.modalities, factors, strict=True)})
        loss = self.task_loss(logits.fused, batch.label)
        if self.params.variant == "code":
            loss = loss + executed * theta.detach() * (theta - theta.detach())
        for m, q in zip(self.modalities, probabilities, strict=True):
            self.record(**{f"probability/{m}": q})
        self.record(fraction_dropped=(~keep).double().mean())
        self.count_mechanism("dropped", (~keep).sum())
        return loss, logits

    def probabilities(self, features: dict[str, Tensor], label: Tensor) -> Tensor:
        """Return q (M,), by the sliced logits of the head as it stands."""
        seen = features if self.params.variant == "code" else {m: h.detach() for m, h in features.items()}
        scores = [true_class_score(z, label) for z in slices_of_fixed(self.head, seen).values()]
        return opm_probabilities(torch.stack(scores), self.params.base, self.params.slope)
