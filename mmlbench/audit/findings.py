"""What an audit finds: one finding is one line of its table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: From harmless to grave. 'leak': something of the test is known in training; 'fault': the lists or files are wrong.
LEVELS = ("ok", "note", "fault", "leak")
COLUMNS = ("dataset", "split", "check", "parts", "of", "found", "among", "level", "message", "examples")
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: 'ids', 'groups', 'labels', 'repeats', 'ungrouped', 'balance', 'rows', 'bytes', 'near', 'blank',
            'frames' or 'list'.
        parts: the part, or the two joined by '+', as in 'train+test'.
        of: what is counted, such as 'speaker' or a modality.
        found: how many. among: of how many (for two parts: those of the later part).
        level: one of LEVELS. message: a sentence. examples: up to five ids.
    """

    check: str
    parts: str
    of: str
    found: int
    among: int
    level: str
    message: str
    examples: tuple[str, ...] = ()


def some(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first few names in sorted order."""
    return tuple(sorted(names)[:EXAMPLES])


def to_csv(findings: Iterable[tuple[str, str, Finding]]) -> str:
    """Return (dataset, split, finding) as CSV text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for dataset, split, f in findings:
        joined = " ".join(f.examples)
        writer.writerow([dataset, split, f.check, f.parts, f.of, f.found, f.among, f.level, f.message, joined])
    return text.getvalue()


def from_csv(text: str) -> list[tuple[str, str, Finding]]:
    """Return (dataset, split, finding) from CSV text as `to_csv` writes it."""
    rows = []
    for row in csv.DictReader(io.StringIO(text, newline="")):
        found, among, examples = int(row["found"]), int(row["among"]), tuple(row["examples"].split())
        finding = Finding(row["check"], row["parts"], row["of"], found, among, row["level"], row["message"], examples)
        rows.append((row["dataset"], row["split"], finding))
    return rows


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as plain data."""
    return [{**vars(finding), "examples": list(finding.examples)} for finding in findings]


def from_json(rows: Iterable[dict[str, Any]]) -> list[Finding]:
    """Return findings from plain data."""
    return [Finding(**{**row, "examples": tuple(row["examples"])}) for row in rows]
