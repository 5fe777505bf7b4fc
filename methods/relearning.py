"""Diagnosing and re-learning."""

from __future__ import annotations

import torch
from torch import Tensor

from mmlbench import EpochContext, Mechanism, bounded, moment, register
from mmlbench.formulas.clusters import k_means, min_max, purity

from .joint import Joint


def separability(features: Tensor, label: Tensor, classes: int) -> Tensor:
    """Return how well as many clusters as classes agree with the classes, float64 scalar from 1 / C to 1.

    Args:
        features: (n, d). label: (n,).

    Source: Wei et al., ECCV 2024, and the authors' code: each dimension scaled to -1..1, k-means, purity.
    """
    return purity(k_means(min_max(features), classes), label, classes)


def reset_strength(train: Tensor, val: Tensor, strength: float) -> Tensor:
    """Return alpha = tanh(strength |train - val|) of two purities, from 0 to 1.

    Source: Wei et al., ECCV 2024.
    """
    return torch.tanh(strength * (train - val).abs())


@register
class Relearning(Joint):
    """Joint training in which encoders go back part of the way to their initial weights.

    Before epoch `first`, and then every `every` epochs, `times` in all: for each modality m the train part's and the
    validation part's features are cut into as many clusters as there are classes; g_m is the distance of their two
    purities; alpha_m = tanh(strength g_m), and all weights of its encoder become alpha_m w_initial + (1 - alpha_m) w.
    So the encoder that fits the train part much better than the validation part starts again, and one that has learnt
    little is moved little. Biases and batch norm's weights go back too; running statistics, heads and the optimiser's
    momenta do not. L = CE(z, y) throughout.

    Source: Wei et al., ECCV 2024 (arXiv 2407.09705), and the authors' code at 025085e. Train features are seen
    with augmentation there and here, in evaluation mode, and k-means is that of scikit-learn with random_state 0.
    At strength 0, or where both purities are equal, nothing moves.

    Deviations: samples come in the part's order, where the released code shuffles the train part; k-means draws its
    first centres by place. Any number of modalities, as published. The release picks its epoch on test and diagnoses
    by the validation part, as here; ports of others diagnose by test, which is never done here.
    Published: strength 3; after 21, 41 and 61 of 90 epochs, which is the default; SGD 2e-3, momentum 0.9, decay 1e-4,
    no drop, batch 64, on CREMA-D cut in 5,954, 744 and 744.
    Measured: 68.2 [64.5, 71.8] % on avdigits / speaker, minus joint +0.8 [-0.9, 2.4]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "reset"
    needs = ("val",)
    tasks = ("classification",)  # its clusters are held against classes

    class Params(Joint.Params):
        strength: float = bounded(3.0, low=0, doc="lambda of the reset; 0 switches it off", tune=(0.5, 10.0, "log"))
        first: float | int = moment(21 / 90, doc="epoch before which the first reset comes, 1 at least")
        every: float | int = moment(20 / 90, doc="epochs from one reset to the next, 1 at least")
        times: int = bounded(3, low=1, doc="resets at most")

    def build(self) -> None:
        """Add the fusion head, and keep the encoders' initial weights.

        The engine builds a method from the seed's initial weights, also where a run goes on.
        """
        super().build()
        for m in self.modalities:
            for k, weight in enumerate(self.encoders[m].parameters()):
                self.register_buffer(f"initial_{m}_{k}", weight.detach().clone(), persistent=False)

    def mechanisms(self) -> list[Mechanism]:
        """Each modality is diagnosed at a reset."""
        return [Mechanism("diagnosis", first=self.resets()[0], off=self.params.strength == 0)]

    def resets(self) -> list[int]:
        """Return the epochs before which encoders are reset."""
        first, every = max(1, self.at(self.params.first)), max(1, self.at(self.params.every))
        return [first + k * every for k in range(self.params.times)]

    def before_epoch(self, context: EpochContext) -> None:
        """Diagnose each modality and move its encoder towards its initial weights."""
        if self.params.strength == 0 or context.epoch not in self.resets():
            return
        train, train_label, _ = context.features("train", augment=True)
        val, val_label, _ = context.features("val")
        for m in self.modalities:
            of_train = separability(train[m], train_label, self.classes)
            of_val = separability(val[m], val_label, self.classes)
            alpha = reset_strength(of_train, of_val, self.params.strength)
            self.reset(m, alpha)
            self.record(**{f"purity_train/{m}": of_train, f"purity_val/{m}": of_val, f"reset/{m}": alpha})
            self.count_mechanism("diagnosis")

    @torch.no_grad()
    def reset(self, modality: str, alpha: Tensor) -> None:
        """Move an encoder's weights by a share alpha of the way to their initial values."""
        for k, weight in enumerate(self.encoders[modality].parameters()):
            initial = self.get_buffer(f"initial_{modality}_{k}")
            share = alpha.to(weight.dtype)
            weight.copy_(share * initial + (1 - share) * weight)
