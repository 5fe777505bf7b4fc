"""What the classes of plug-ins declare, as types: taken from the index, so that no plug-in is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dataset import Modality, Split
from ..params import Field, fields_of
from ..registry.index import Entry
from ..task import Task, task_of


@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset's class declares: its inputs, its splits and the one where none is named, its parameters.

    Attributes:
        task: what is asked for of a sample. metric: that of a study which names none.
    """

    modalities: tuple[Modality, ...]
    splits: Mapping[str, Split]
    default_split: str
    params: tuple[Field, ...]
    task: Task
    metric: str


@dataclass(frozen=True)
class MethodFacts:
    """What a method's class declares.

    Attributes:
        family: what it is listed under. min_modalities, max_modalities: how many it takes; None for no most.
        trains_encoders: whether its encoders are its own. needs_val: whether it looks at the validation part.
        requires: methods whose runs it reuses. tasks: those that it serves.
    """

    family: str
    min_modalities: int
    max_modalities: int | None
    trains_encoders: bool
    needs_val: bool
    requires: tuple[str, ...]
    tasks: tuple[str, ...]
    params: tuple[Field, ...]

    def takes(self, count: int) -> bool:
        """Whether it takes so many modalities."""
        return self.min_modalities <= count <= (self.max_modalities or count)


@dataclass(frozen=True)
class EncoderFacts:
    """What an encoder's class declares: numbers of dimensions that it takes, whether it needs a file of weights."""

    ranks: tuple[int, ...]
    pretrained: bool
    params: tuple[Field, ...]


def dataset_facts(entry: Entry) -> DatasetFacts:
    """Return what the index knows of a dataset."""
    modalities = tuple(Modality(**{**one, "shape": tuple(one["shape"])}) for one in entry.facts["modalities"])
    splits = {name: Split(**one) for name, one in entry.facts["splits"].items()}
    named = dict(entry.facts["task"])
    task = task_of(named.pop("name"), entry.facts["class_names"], named)
    metric = entry.facts["metric"] or task.headline
    return DatasetFacts(modalities, splits, entry.facts["default_split"], fields_of(entry.facts), task, metric)


def method_facts(entry: Entry) -> MethodFacts:
    """Return what the index knows of a method."""
    facts = entry.facts
    return MethodFacts(
        str(facts.get("family") or ""),
        facts["min_modalities"],
        facts["max_modalities"],
        bool(facts["trains_encoders"]),
        bool(facts["needs_val"]),
        tuple(facts["requires"]),
        tuple(facts["tasks"]),
        fields_of(facts),
    )


def encoder_facts(entry: Entry) -> EncoderFacts:
    """Return what the index knows of an encoder."""
    return EncoderFacts(tuple(entry.facts["ranks"]), bool(entry.facts["pretrained"]), fields_of(entry.facts))
