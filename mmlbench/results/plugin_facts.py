"""What the tables know of methods and datasets: defaults, the name of a split's groups, whose encoders a method has.

It stands in the plan. Nothing here imports a plug-in: tables are made from other people's runs, too, and what such
runs say must never choose what code is run.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..files import is_content, short
from ..params import Scalar
from ..study.plan import Plan, PlannedMethod

#: Trained apart: what a gap is measured from. Joint training with a shuffled partner: what a gap is compared with.
ALONE, CONTROL, ENSEMBLE, JOINT = "unimodal", "joint_shuffled_partner", "ensemble", "joint"
#: No method but a row that the tables make: the mean of the logits of joint and unimodal models.
LOGIT_MEAN = "logit_mean"


class Facts:
    """Answers from what a plan says of its methods and datasets."""

    def __init__(self, methods: Mapping[str, PlannedMethod], groups: Mapping[str, Mapping[str, str]]) -> None:
        self.methods, self.groups = methods, groups

    @classmethod
    def of_plan(cls, plan: Plan) -> Facts:
        """Take what a plan says."""
        return cls(plan.methods, plan.datasets)

    def shown_params(self, method: str, params: Mapping[str, Scalar]) -> str:
        """Return the parameters that differ from the defaults, 'a=1;b=2'."""
        defaults = self.methods[method].defaults
        shown = {name: value for name, value in params.items() if name not in defaults or defaults[name] != value}
        said = {n: short(v) if isinstance(v, str) and is_content(v) else v for n, v in shown.items()}
        return ";".join(f"{name}={value}" for name, value in sorted(said.items()))

    def family(self, method: str) -> str:
        """Return the family of a method, 'other' where it names none."""
        if method == LOGIT_MEAN:
            return "combination"
        return self.methods[method].family or "other" if method in self.methods else "other"

    def group_of(self, dataset: str, split: str) -> str | None:
        """Return what a sample's group is, such as 'speaker'; None where the split declares none."""
        return self.groups.get(dataset, {}).get(split) or None

    def group_name(self, dataset: str, split: str) -> str:
        """Return what a sample's group is called in a sentence."""
        return self.group_of(dataset, split) or "group"

    def zero_gap(self, method: str) -> bool:
        """Whether a method's encoders are those trained alone, so that its gap is zero by construction."""
        facts = self.methods[method]
        return method == ALONE or (not facts.trains_encoders and ALONE in facts.requires)
