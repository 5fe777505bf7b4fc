"""Joint training: the baseline of this literature."""

from __future__ import annotations

from torch import Tensor

from mmlbench import ALL_TASKS, FUSIONS, Batch, Logits, Method, MethodParams, choice, fusion_head, register


@register
class Joint(Method):
    """All encoders under one fusion head and one loss, L = CE(z, y).

    Of another task its loss takes the place of the cross-entropy, here and in what follows from this class.

    Source: the baseline of OGM-GE (Peng et al., CVPR 2022), PMR (Fan et al., CVPR 2023) and DI-MML (Fan et al.,
    ACM MM 2024), whose concat, sum, FiLM and gated heads agree; DI-MML's own baseline has concat only.
    Deviations: heads for M > 2 are ours, see `mmlbench.fusion`. PMR reports the fused logits as `sliced` ones
    for film and gated; here those two have none.
    Measured: 67.4 [64.4, 70.4] % on avdigits / speaker, visual gap 12.0 [9.0, 15.0] points
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "joint"
    tasks = ALL_TASKS

    class Params(MethodParams):
        fusion: str = choice("concat", FUSIONS, "fusion head; film and gated have no sliced logits", FUSIONS)

    min_modalities = 2

    def build(self) -> None:
        """Add the fusion head."""
        self.head = fusion_head(self.params.fusion, self.dims, self.classes)

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the fused logits."""
        logits = self.predict(self.encode(batch))
        return self.task_loss(logits.fused, batch.label), logits

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return fused logits, and sliced ones of concat and sum."""
        return self.head(features)
