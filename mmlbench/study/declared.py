"""What the classes of plug-ins declare, as types: taken from the index, so that no plug-in is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..dataset import Split
from ..modality import Modality, modality_of
from ..params import Field, fields_of
from ..registry.index import Entry
from ..task import Task, task_of


@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset's class declares: its inputs, its splits and the one where none is named, its parameters.

    Attributes:
        task: what is asked for of a sample, with the names of classes or labels. metric: of a study that names none.
        other_kinds: (parameter, value) -> the modality that stands for the one of its name where that is set.
    """

    modalities: tuple[Modality, ...]
    splits: Mapping[str, Split]
    default_split: str
    params: tuple[Field, ...]
    task: Task
    metric: str
    other_kinds: Mapping[tuple[str, object], Modality] = field(default_factory=dict)

    def modalities_with(self, params: Mapping[str, object]) -> tuple[Modality, ...]:
        """Return its modalities as parameters of its preparation make them; shapes may be others still."""
        other = {m.name: m for (name, value), m in self.other_kinds.items() if params.get(name) == value}
        return tuple(other.get(modality.name, modality) for modality in self.modalities)


@dataclass(frozen=True)
class MethodFacts:
    """What a method's class declares.

    Attributes:
        family: what it is listed under. min_modalities, max_modalities: how many it takes; None for no most.
        trains_encoders: whether its encoders are its own. needs: parts that it looks at while it trains.
        requires: methods whose runs it reuses. tasks: those that it serves.
    """

    family: str
    min_modalities: int
    max_modalities: int | None
    trains_encoders: bool
    needs: tuple[str, ...]
    requires: tuple[str, ...]
    tasks: tuple[str, ...]
    params: tuple[Field, ...]

    def takes(self, count: int) -> bool:
        """Whether it takes so many modalities."""
        return self.min_modalities <= count <= (self.max_modalities or count)


@dataclass(frozen=True)
class EncoderFacts:
    """What an encoder's class declares.

    Attributes:
        ranks: numbers of dimensions that it takes. pretrained: whether it needs a file of weights.
        named_by: the parameter that stands behind a colon in its name, '' for none.
        takes_ids, takes_mask, needs_mask: as `Encoder` has them.
    """

    ranks: tuple[int, ...]
    pretrained: bool
    named_by: str
    takes_ids: bool
    takes_mask: bool
    needs_mask: bool
    params: tuple[Field, ...]

    def why_not(self, modality: Modality) -> str:
        """Return why it can't encode a modality, '' where it can."""
        kind = modality.type
        if len(modality.shape) not in self.ranks:
            return f"of shape {list(modality.shape)}"
        if kind.ids and not self.takes_ids:
            return "whose values are ids"
        if kind.has_length and not self.takes_mask:
            return "whose samples differ in length: it takes no mask"
        if self.needs_mask and not kind.has_length:
            return "whose samples are of one length: it is made for sequences"
        if self.takes_ids and len(modality.shape) == 1 and not kind.ids:
            return "whose values are no ids"
        return ""


def dataset_facts(entry: Entry) -> DatasetFacts:
    """Return what the index knows of a dataset."""
    modalities = tuple(map(modality_of, entry.facts["modalities"]))
    splits = {name: Split(**one) for name, one in entry.facts["splits"].items()}
    named = dict(entry.facts["task"])
    task = task_of(named.pop("name"), entry.facts["class_names"], named)
    metric = entry.facts["metric"] or task.headline
    other = {(one["param"], one["value"]): modality_of(one["modality"]) for one in entry.facts.get("other_kinds", ())}
    return DatasetFacts(modalities, splits, entry.facts["default_split"], fields_of(entry.facts), task, metric, other)


def method_facts(entry: Entry) -> MethodFacts:
    """Return what the index knows of a method."""
    facts = entry.facts
    return MethodFacts(
        str(facts.get("family") or ""),
        facts["min_modalities"],
        facts["max_modalities"],
        bool(facts["trains_encoders"]),
        tuple(facts["needs"]),
        tuple(facts["requires"]),
        tuple(facts["tasks"]),
        fields_of(facts),
    )


def encoder_facts(entry: Entry) -> EncoderFacts:
    """Return what the index knows of an encoder."""
    facts = entry.facts
    return EncoderFacts(
        tuple(facts["ranks"]),
        bool(facts["pretrained"]),
        str(facts["named_by"]),
        bool(facts["takes_ids"]),
        bool(facts["takes_mask"]),
        bool(facts["needs_mask"]),
        fields_of(facts),
    )
