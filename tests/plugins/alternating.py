"""Modalities take turns, step by step, each with its own optimiser."""

from torch.nn.functional import cross_entropy

from mmlbench import Logits, Mechanism, Method, fusion_head, register


@register
class Alternating(Method):
    """Step k trains one modality's encoder and its block of a shared head (after MLA, Zhang et al., CVPR 2024)."""

    min_modalities = 2

    def build(self):
        self.head = fusion_head("sum", self.dims, self.classes)

    def mechanisms(self):
        return [Mechanism(f"turns/{m}") for m in self.modalities]

    def optimizers(self, stage, make):
        return [make([*self.encoders[m].parameters(), *self.head.out[m].parameters()]) for m in self.modalities]

    def train_step(self, batch, step, optimizers):
        turn = (step.epoch + step.index) % len(self.modalities)
        m = self.modalities[turn]
        optimizers[turn].zero_grad(set_to_none=True)
        logits = self.head.out[m](self.encode(batch, only=[m])[m])
        loss = cross_entropy(logits, batch.label)
        loss.backward()
        optimizers[turn].step()
        self.count_mechanism(f"turns/{m}")
        return loss, Logits(own_head={m: logits})

    def predict(self, features) -> Logits:
        return self.head(features)
