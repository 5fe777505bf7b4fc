"""What the tables ask the plug-in index: defaults, the name of a split's groups, whose encoders a method has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..files import is_content, short
from ..index import Entry, Index, load_index, use_plugins

#: Trained apart: what a gap is measured from. Joint training with a shuffled partner: what a gap is compared with.
ALONE, CONTROL, ENSEMBLE, JOINT = "unimodal", "joint_shuffled_partner", "ensemble", "joint"
#: No method but a row that the tables make: the mean of the logits of joint and unimodal models.
LOGIT_MEAN = "logit_mean"


class Facts:
    """Answers from the index; a plug-in that is gone leaves its runs readable and only says less."""

    def __init__(self, index: Index) -> None:
        self.index = index

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any]) -> Facts:
        """Read the index with the plan's plug-in folders, those that are still there."""
        for folder in plan.get("plugins", ()):
            try:
                use_plugins([folder])
            except ConfigError:
                continue
        return cls(load_index())

    def _entry(self, kind: str, name: str) -> Entry | None:
        try:
            return self.index.find(kind, name)
        except ConfigError:
            return None

    def shown_params(self, method: str, params: Mapping[str, Any]) -> str:
        """Return the parameters that differ from the defaults, 'a=1;b=2'; all of them where no default is known."""
        entry = self._entry("method", method)
        defaults = {field["name"]: field["default"] for field in entry.facts["params"]} if entry else {}
        shown = {name: value for name, value in params.items() if name not in defaults or defaults[name] != value}
        said = {name: short(value) if is_content(value) else value for name, value in shown.items()}
        return ";".join(f"{name}={value}" for name, value in sorted(said.items()))

    def family(self, method: str) -> str:
        """Return the family of a method, 'other' where it names none."""
        if method == LOGIT_MEAN:
            return "combination"
        entry = self._entry("method", method)
        return str(entry.facts.get("family") or "other") if entry else "other"

    def group_of(self, dataset: str, split: str) -> str | None:
        """Return what a sample's group is, such as 'speaker'; None where the split declares none."""
        entry = self._entry("dataset", dataset)
        facts = entry.facts["splits"].get(split, {}) if entry else {}
        return facts.get("group") or None

    def group_name(self, dataset: str, split: str) -> str:
        """Return what a sample's group is called in a sentence."""
        return self.group_of(dataset, split) or "group"

    def zero_gap(self, method: str, sample_passes: int) -> bool:
        """Whether a method's encoders are those trained alone, so that its gap is zero by construction."""
        if method == ALONE:
            return True
        entry = self._entry("method", method)
        if entry is None:
            return sample_passes == 0
        return not entry.facts["trains_encoders"] and ALONE in entry.facts["requires"]
