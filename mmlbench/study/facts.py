"""What a plan stores of the plug-ins that it names, so that the tables need not import them."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigError, DataError
from ..registry.index import Entry, Index
from .declared import dataset_facts, method_facts
from .plan import PlannedMethod


def _entry(index: Index, kind: str, name: str) -> Entry:
    try:
        return index.find(kind, name)
    except ConfigError as error:
        raise DataError(error.what, error.fix) from None


def facts_of(index: Index, methods: Iterable[str]) -> dict[str, PlannedMethod]:
    """Return what the tables need of some methods.

    Raises:
        DataError: the index does not know one.
    """
    found = {}
    for name in sorted(set(methods)):
        facts = method_facts(_entry(index, "method", name))
        defaults = {field.name: field.default for field in facts.params}
        found[name] = PlannedMethod(facts.family, facts.trains_encoders, facts.requires, defaults)
    return found


def group_names(index: Index, splits: Iterable[tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Return dataset -> split -> what a sample's group is called, '' where the split has none.

    Raises:
        DataError: the index does not know a dataset.
    """
    found: dict[str, dict[str, str]] = {}
    for dataset, split in sorted(set(splits)):
        known = dataset_facts(_entry(index, "dataset", dataset)).splits.get(split)
        found.setdefault(dataset, {})[split] = (known.group if known else None) or ""
    return found


def needs_raw(index: Index, dataset: str) -> bool:
    """Return whether a dataset is prepared from files that the user brings.

    Raises:
        DataError: the index does not know it.
    """
    return bool(_entry(index, "dataset", dataset).facts["needs_raw"])
