"""How a run answered for one modality at a time: what was left out, or why nothing could be. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

#: Features are filled in, inputs are masked, or there is no answer.
FEATURES, INPUTS, NOTHING = "features", "inputs", "nothing"


@dataclass(frozen=True)
class Evaluation:
    """Facts of run.json's `evaluation`.

    Attributes:
        missing: what takes the place of a missing modality in the subset predictions: a value in place of its
            features, or of its inputs (where features are mixed, or are not all that the method needs), or nothing.
        probe: what a modality's probe sees: its features, or these with the inputs of the others masked, or nothing.
        reason: why there is nothing, in the method's words.
    """

    missing: str = FEATURES
    probe: str = FEATURES
    reason: str = ""

    def plain(self) -> dict[str, str]:
        """Return it as run.json has it."""
        return asdict(self)
