"""What methods share that value modalities sample by sample and show some samples again by one modality alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mmlbench import Batch, EpochContext, Logits, Mechanism, Sampling, choice, moment
from mmlbench.formulas.shapley import shapley_values

from ._shown_alone import ShownAlone, only_shown
from .joint import Joint


# ---- formulas --------------------------------------------------------------------------------------------
def contributions(names: Sequence[str], right: Callable[[frozenset[str]], Tensor]) -> dict[str, Tensor]:
    """Return modality -> what it contributes to each sample, float64 (n,): Shapley values.

    A set of modalities is worth its size where it predicts the sample rightly, else 0. Of two modalities the values
    are -0.5, 0, 0.5, 1 or 1.5.

    Args:
        right: of a set of modalities, bool (n,); the empty set is asked for too and is worth nothing.

    Source: Wei et al., CVPR 2024 (arXiv 2309.06255).
    """
    return shapley_values(names, lambda some: len(some) * right(some).double())


# ---- the base --------------------------------------------------------------------------------------------
class Valuation(ShownAlone, Joint):
    """Joint training in which samples come again by one modality, by what the modalities contribute to them.

    From epoch `start` on a pass over the train part values each modality of each sample (`contributions`); a
    prediction without a modality has zeros in the place of its feature. The epoch then shows each sample once whole,
    and some again by one modality alone (`again`), all shuffled. The list is made anew for every epoch.

    A feature is set to zero behind its encoder: the encoder sees the sample, its running statistics move, and it gets
    a gradient of zeros from that copy.
    """

    family = "data"
    tasks = ("classification",)  # a prediction is right or wrong

    class Params(Joint.Params):
        variant: str = choice("paper", ("paper", "code"), doc="samples that are valued: as they are, or augmented")
        start: float | int = moment(5 / 60, doc="first epoch with further samples, 1 at least", tune=(0.05, 0.5))

    def build(self) -> None:
        """Add the fusion head, and room for what is shown at each place of an epoch."""
        super().build()
        self.make_room(self.train_size * (1 + 3 * len(self.modalities)))

    def mechanisms(self) -> list[Mechanism]:
        """Samples are valued."""
        return [Mechanism("valuation", first=self.first(), off=not self.acts())]

    def acts(self) -> bool:
        """Return whether samples come again at all."""
        raise NotImplementedError

    def first(self) -> int:
        """Return the first epoch with further copies."""
        return max(1, self.at(self.params.start))

    # ---- which samples -----------------------------------------------------------------------------------
    @torch.no_grad()
    def sample(self, context: EpochContext) -> Sampling | None:
        """Value the samples, and return the epoch's list."""
        if not self.acts() or context.epoch < self.first():
            return None
        features, label, places = context.features("train", augment=self.params.variant == "code")
        values = contributions(self.modalities, lambda some: self.right(features, label, some))
        again = self.again(values, context.rng)
        rows = torch.cat([torch.arange(len(label), device=label.device), *again.values()])
        marks = [torch.full_like(found, k) for k, found in enumerate(again.values(), 1)]
        alone = torch.cat([torch.zeros_like(label), *marks])
        mixed = torch.randperm(len(rows), generator=context.rng, device=rows.device)
        self.lay_out(alone[mixed])
        for m, value in values.items():
            self.record(**{f"value/{m}": value.mean()})
            self.record(**{f"copies/{m}": len(again[m]) / len(label)})
        self.count_mechanism("valuation", len(label))
        return Sampling(places[rows[mixed]])

    def right(self, features: Mapping[str, Tensor], label: Tensor, some: frozenset[str]) -> Tensor:
        """Return which samples some modalities predict rightly, bool (n,), the features of the others at zero."""
        seen = {m: h if m in some else torch.zeros_like(h) for m, h in features.items()}
        return self.predict(seen).fused.argmax(1) == label

    def again(self, values: Mapping[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return modality -> the rows of the train part that come again by it alone, int64.

        Args:
            values: modality -> contribution to each sample (n,).
        """
        raise NotImplementedError

    # ---- a step ------------------------------------------------------------------------------------------
    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the fused logits, of a copy by one modality with zeros for the others."""
        if not self.acts() or self.step.epoch < self.first():
            return super().loss(batch)
        logits = self.predict(only_shown(self.encode(batch), self.next_alone(len(batch))))
        return self.task_loss(logits.fused, batch.label), logits
