"""The split audit: what training and test share, and what is wrong with lists and files; no torch.

`audit_lists` needs split lists alone, `audit_cache` a prepared cache; `audited` keeps the result in the results
folder under the cache's fingerprint, so that tables made again cost no second look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..dataset import PARTS, Sample
from ..errors import DataError
from ..prepare.cache import Cache
from ..prepare.list_counts import list_counts
from ..prepare.official_lists import check_known, is_official
from ..storage.atomic import read_json, write_json
from ..storage.hashing import digest, file_digest
from .content import audit_content, frame_findings, groups_of
from .findings import COLUMNS, LEVELS, Finding, as_json, from_csv, from_json, to_csv
from .lists import audit_lists

__all__ = [
    "COLUMNS",
    "LEVELS",
    "Finding",
    "audit_cache",
    "audit_lists",
    "audited",
    "check_known",
    "frame_findings",
    "from_csv",
    "groups_of",
    "is_official",
    "list_counts",
    "to_csv",
]


def samples_of(cache: Cache, split: str) -> list[Sample]:
    """Return the samples of a split of a prepared cache."""
    found = []
    for name in PARTS:
        part = cache.part(split, name)
        rows = zip(*(part.rows[m].tolist() for m in cache.modalities), strict=True)
        labels = map(cache.task.label, part.label)
        facts = zip(part.ids.tolist(), labels, rows, part.groups.tolist(), strict=True)
        found += [Sample(id, name, label, row, group) for id, label, row, group in facts]
    return found


def audit_cache(cache: Cache, split: str, group: str | None) -> list[Finding]:
    """Return everything that is found in one split of a prepared cache, lists first.

    Args:
        group: what the split's groups are called; None where it declares none.
    """
    found = audit_lists(samples_of(cache, split), cache.task, group)
    return [*found, *audit_content(cache, split)]


def _code() -> str:
    """Return a digest of the audit's own code: kept findings of an older one are made again."""
    here = Path(__file__).parent
    return digest([file_digest(path) for path in sorted(here.glob("*.py"))])[:16]


def audited(
    cache: Cache, groups: Mapping[str, str | None], results: Path, log: Callable[[str], None]
) -> dict[str, list[Finding]]:
    """Return split -> findings of a prepared cache, kept in results/audit.

    Args:
        groups: split -> what its groups are called, for the splits that are wanted.
        results: the results folder. log: takes one line of progress.
    """
    name, fingerprint = cache.manifest["dataset"], cache.manifest["fingerprint"]
    path = results / "audit" / f"{name}-{fingerprint}.json"
    stamp = {"fingerprint": fingerprint, "code": _code()}
    kept: dict[str, dict[str, Any]] = {}
    if path.exists():
        try:
            found = read_json(path)
            kept = found["splits"] if found["stamp"] == stamp else {}
        except (DataError, KeyError, TypeError):
            kept = {}
    fresh = [s for s, group in groups.items() if s not in kept or kept[s].get("group") != group]
    for split in fresh:
        log(f"auditing {name} / {split}")
        kept[split] = {"group": groups[split], "findings": as_json(audit_cache(cache, split, groups[split]))}
    if fresh:
        write_json(path, {"stamp": stamp, "splits": kept})
    return {split: from_json(kept[split]["findings"]) for split in groups}
