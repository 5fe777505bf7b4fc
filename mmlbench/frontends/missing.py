"""Clips that are gone from the web: how many of each part and class are missing, before hours of decoding."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Container, Sequence

from ..dataset import PARTS, CacheWriter, Sample
from ..storage.atomic import whole, write_text


def report_missing(out: CacheWriter, samples: Sequence[Sample], there: Callable[[str], bool]) -> None:
    """Say how many clips are missing, and write the counts by part and class beside the cache to be.

    `NAME-KEY.missing.csv` has the columns part, class, missing, listed; a part's total has the class '*'. It is
    removed where nothing is missing. What is missing still stops `fill`, unless --allow-missing names it.

    Args:
        samples: of the split that has all clips. there: tells of an id whether its files are there.
    """
    path = out.folder.with_name(f"{out.title}.missing.csv")
    gone = {sample.id for sample in samples if not there(sample.id)}
    if not gone:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "class", "missing", "listed"])
    writer.writerows(counts(out, samples, gone))
    write_text(path, text.getvalue(), out.lease.whole if out.lease else whole)
    out.options.log(f"{len(gone)} of {len(samples)} clips are missing: {in_words(samples, gone)}; by class: {path}")


def note_left_out(out: CacheWriter, samples: Sequence[Sample]) -> None:
    """Note how many clips of each part are left out on purpose; the manifest has them by class too (`raw`)."""
    chosen = set(out.options.allow_missing)
    if chosen.isdisjoint(sample.id for sample in samples):
        return
    out.notes.append(f"left out on purpose: {in_words(samples, chosen)}")
    out.raw["left_out_by_class"] = [row for row in counts(out, samples, chosen) if row[2]]


def counts(out: CacheWriter, samples: Sequence[Sample], gone: Container[str]) -> list[list[str | int]]:
    """Return part, class, number that is gone, number listed: each part's total (class '*'), then its classes."""
    names = out.dataset.asks().names
    listed = Counter((s.part, s.label) for s in samples)
    lost = Counter((s.part, s.label) for s in samples if s.id in gone)
    rows: list[list[str | int]] = []
    for part in PARTS:
        own = sorted((k for p, k in listed if p == part and isinstance(k, int)), key=int)
        if own:
            rows.append([part, "*", sum(lost[part, k] for k in own), sum(listed[part, k] for k in own)])
            rows += [[part, names[k], lost[part, k], listed[part, k]] for k in own]
    return rows


def in_words(samples: Sequence[Sample], gone: Container[str]) -> str:
    """Return '3 of 20 train, 1 of 5 test': how many of each part are gone."""
    listed = Counter(sample.part for sample in samples)
    lost = Counter(sample.part for sample in samples if sample.id in gone)
    return ", ".join(f"{lost[part]:,} of {listed[part]:,} {part}" for part in PARTS if listed[part])
