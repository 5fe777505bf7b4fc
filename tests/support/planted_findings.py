"""Caches with planted faults for the audit, and its findings looked up."""

from __future__ import annotations

from pathlib import Path

from mmlbench.audit import Finding
from mmlbench.dataset import Dataset
from mmlbench.prepare.cache import Cache, prepare

CLASSES = ("cat", "dog")


def planted_cache(dataset: Dataset, root: Path) -> Cache:
    """Return the prepared cache of a dataset."""
    prepare(dataset, "0123456789", root, lambda line: None)
    return Cache.open(root / f"{dataset.name}-0123456789")


def by_id(findings: list[Finding]) -> dict[tuple[str, str, str], Finding]:
    """Return findings by check, parts and what they are of."""
    return {(f.check, f.parts, f.of): f for f in findings}
