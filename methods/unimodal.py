"""Each modality trained alone: the upper reference of the competition gap."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from mmlbench import ALL_TASKS, Batch, Logits, Method, Stage, own_heads, register


@register
class Unimodal(Method):
    """Each modality's encoder and a linear head alone.

    One stage per modality, each with the whole recipe, L_m = CE(g_m(h_m), y). There is no fused prediction. Every
    stage draws the batches and the views that joint training draws.
    Source: the unimodal baselines of the field; DI-MML (Fan et al., ACM MM 2024) releases no script for them,
    their recipe is that of its joint baseline. Deviations: none. Cost: the encoders of one joint run, M passes
    over the loader.
    Measured: audio 54.8 ± 1.2, visual 63.0 ± 2.0 % on avdigits / speaker
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "trained apart"
    tasks = ALL_TASKS
    keeps = ("last", "val", "test")
    probes_initial = True

    def build(self) -> None:
        """Add a linear head per modality."""
        self.own = own_heads(self.dims, self.classes)

    def stages(self) -> list[Stage]:
        """Return one stage per modality, named after it."""
        return [
            Stage(
                m,
                self.epochs,
                train=[self.encoders[m], self.own[m]],
                loss=partial(self._alone, m),
                select_on=f"own_head/{m}",
                evaluates=(f"own_head/{m}",),
            )
            for m in self.modalities
        ]

    def _alone(self, modality: str, batch: Batch) -> tuple[Tensor, Logits]:
        logits = self.own[modality](self.encode(batch, only=[modality])[modality])
        return self.task_loss(logits, batch.label), Logits(own_head={modality: logits})

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the logits of each head whose modality has features."""
        return Logits(own_head={m: self.own[m](features[m]) for m in self.modalities if m in features})
