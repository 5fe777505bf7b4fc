"""What methods share that have a head of its own for each modality beside the fusion head."""

from __future__ import annotations

from torch import Tensor

from mmlbench import Batch, Logits, Method, fusion_head, own_heads


class OwnHeads(Method):
    """A fusion head, and a linear head per modality; L = CE(z, y) + sum of CE(z_m, y), z_m by m's own head.

    The head is the one that the parameter `fusion` names.
    """

    min_modalities = 2

    def build(self) -> None:
        """Add the fusion head and a linear head per modality."""
        self.head = fusion_head(self.params.fusion, self.dims, self.classes)
        self.own = own_heads(self.dims, self.classes)

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the sum of M + 1 losses."""
        logits = self.predict(self.encode(batch))
        return self.summed_loss(logits, batch.label), logits

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return fused and own-head logits, and sliced ones of concat and sum."""
        own = {m: self.own[m](features[m]) for m in self.modalities}
        return self.head(features).with_own_head(own)
