"""How a run answered for one modality at a time: what was left out, or why nothing could be. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import DataError

#: Features are filled in, inputs are masked, or there is no answer.
FEATURES, INPUTS, NOTHING = "features", "inputs", "nothing"
_OPTIONS = {"missing": (FEATURES, INPUTS, NOTHING), "probe": (FEATURES, INPUTS, NOTHING)}


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

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Evaluation:
        """Read it from run.json.

        Raises:
            DataError: it has another form.
        """
        found = record.get("evaluation")
        names = set(asdict(cls()))
        if not isinstance(found, Mapping) or set(found) != names or not all(map(_is_text, found.values())):
            raise DataError(f"{record.get('run')}: run.json has another `evaluation`", "Make the run again")
        for name, options in _OPTIONS.items():
            if found[name] not in options:
                what = f"{record.get('run')}: `evaluation` of run.json says {name} {found[name]!r}"
                raise DataError(what, "Make the run again")
        return cls(**found)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
