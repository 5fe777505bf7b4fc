"""The rows of pairwise.csv: their columns, and the file read back."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from .rows import from_csv

CHANCES = ("p_value", "p_moderated", "p_adjusted", "p_hochberg")
NUMBERS = ("value", "ci_low", "ci_high", "se", *CHANCES)


@dataclass(frozen=True)
class Pair:
    """The difference first - second of what two labels reach, in points or the metric's own unit.

    Attributes:
        modality, kind: whose accuracy: 'fused', 'own_head', 'sliced' or 'probe' of a modality. A difference of probes
            is that of two competition gaps with the sign turned.
        ci_low, ci_high: the 95 % two-part interval of this one comparison; None with one seed and one sample alone.
        p_value: of this one comparison, agreeing with its interval; None with one seed. p_moderated: the same with
            moderated seed variances, of a large board's ranked labels alone. p_adjusted: by Holm over all pairs of
            ranked labels of the group, as the rank groups are, of `p_ranking`; of fused accuracies alone.
            p_hochberg: the same by Benjamini-Hochberg, of a large board alone.
        seeds: the common seeds, with spaces between.
    """

    dataset: str
    split: str
    recipe: str
    encoder: str
    first: str
    second: str
    modality: str
    kind: str
    selection: str
    value: float
    ci_low: float | None
    ci_high: float | None
    se: float | None
    p_value: float | None
    p_moderated: float | None
    p_adjusted: float | None
    p_hochberg: float | None
    seeds: str
    n_test: int

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What is compared within."""
        return self.dataset, self.split, self.recipe, self.encoder

    @property
    def p_ranking(self) -> float | None:
        """The p-value of this one comparison that the ranking rests on."""
        return self.p_value if self.p_moderated is None else self.p_moderated

    @property
    def ranks(self) -> bool:
        """Whether it takes part in the ranking: a difference of fused accuracies of two ranked labels."""
        return self.p_adjusted is not None


COLUMNS = tuple(field.name for field in fields(Pair))


def parse_pairs(text: str, where: str = "pairwise.csv") -> list[Pair]:
    """Read the text of pairwise.csv.

    Raises:
        DataError: it has other columns, or a field that is no number; the message names `where` it is from.
    """
    return from_csv(text, COLUMNS, _pair, where)


def _pair(line: dict[str, str]) -> Pair:
    numbers = {name: float(line[name]) if line[name] else None for name in NUMBERS}
    if numbers["value"] is None:
        raise ValueError(f"{line['first']} minus {line['second']} has no value")
    for name, number in numbers.items():
        if number is not None and not (0 <= number <= 1 if name in CHANCES else math.isfinite(number)):
            raise ValueError(f"{name} of {line['first']} minus {line['second']} is {line[name]}")
    values: dict[str, Any] = {**line, **numbers, "n_test": int(line["n_test"])}
    return Pair(**values)
