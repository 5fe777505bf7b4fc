"""What stored logits are: of which rule and head, with which modalities. Their names in .npz are parsed here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from ..storage.form import WORD
from ..study.selection import NAMES


class LogitsKind(StrEnum):
    """Which head answered."""

    FUSED = "fused"  # the method's answer from all modalities
    SLICED = "sliced"  # a modality's block of a decomposable joint head
    OWN_HEAD = "own_head"  # a head trained for one modality
    PROBE = "probe"  # logistic regression on a frozen encoder


#: Rule of the probes of untrained encoders.
INITIAL = "initial"
#: Of named logits, as `Logits.named` has them.
LOGITS = rf"fused|(?:sliced|own_head)/{WORD}"
_RULES = "|".join(NAMES)
_SUBSET = rf"fused@(?P<fill>mean|zero):(?P<present>none|{WORD}(?:\+{WORD})*)"
_PREDICTIONS = re.compile(rf"(?P<rule>{_RULES})/(?P<part>val|test)/(?:(?P<logits>{LOGITS})|{_SUBSET})")
_PROBE = re.compile(rf"(?P<rule>{INITIAL}|{_RULES})/(?P<modality>{WORD})/(?P<part>val|test)")


@dataclass(frozen=True)
class LogitsKey:
    """Names logits within a run.

    Attributes:
        rule: the selection rule, or `INITIAL`.
        kind: which head. modality: whose; '' for fused logits.
        fill: what stands in for the missing modalities, `mean` or `zero`; '' where none is missing.
        present: the modalities that are there, where some are missing; () for none of them.
    """

    rule: str
    kind: LogitsKind = LogitsKind.FUSED
    modality: str = ""
    fill: str = ""
    present: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The logits' name within a rule: `fused`, `own_head/audio`, `fused@mean:audio+visual`."""
        if self.kind is not LogitsKind.FUSED:
            return f"{self.kind}/{self.modality}"
        return f"{self.kind}@{self.fill}:{'+'.join(self.present) or 'none'}" if self.fill else str(self.kind)

    @property
    def of(self) -> str:
        """The modality as the tables have it; `fused` for fused logits."""
        return self.modality or str(self.kind)

    def __str__(self) -> str:
        return f"{self.rule}/{self.name}"

    def array(self, part: str) -> str:
        """Return the name of the array of a part, in predictions.npz, or in probe.npz for a probe."""
        if self.kind is LogitsKind.PROBE:
            return f"{self.rule}/{self.modality}/{part}"
        return f"{self.rule}/{part}/{self.name}"


def parse_logits(name: str) -> tuple[LogitsKind, str]:
    """Return kind and modality ('' for fused) of logits that a method names, such as 'sliced/audio'.

    Raises:
        ValueError: it is no such name.
    """
    if not re.fullmatch(LOGITS, name):
        raise ValueError(f"{name!r} names no logits")
    kind, _, modality = name.partition("/")
    return LogitsKind(kind), modality


def parse_prediction(name: str) -> tuple[str, LogitsKey] | None:
    """Return part and key of an array of predictions.npz; None where it holds no logits."""
    found = _PREDICTIONS.fullmatch(name)
    if found is None:
        return None
    if found["logits"]:
        return found["part"], LogitsKey(found["rule"], *parse_logits(found["logits"]))
    present = () if found["present"] == "none" else tuple(found["present"].split("+"))
    return found["part"], LogitsKey(found["rule"], fill=found["fill"], present=present)


def parse_probe(name: str) -> tuple[str, LogitsKey] | None:
    """Return part and key of an array of probe.npz; None where it holds no probe's logits."""
    found = _PROBE.fullmatch(name)
    return None if found is None else (found["part"], LogitsKey(found["rule"], LogitsKind.PROBE, found["modality"]))
