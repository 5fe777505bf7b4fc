"""What lists and folders name, against what a dataset declares: before hours of decoding, not after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..dataset import PARTS, CacheWriter, Sample
from ..errors import DataError
from .official_lists import check_known


def check_counts(out: CacheWriter, splits: Mapping[str, Sequence[Sample]], where: object) -> None:
    """Refuse lists or folders that name other numbers of samples than are declared; the user's own lists may.

    Of official lists (`out.raw["lists"]`) every known figure is asserted too, wherever they lie, in any dress.

    Args:
        splits: split -> all its samples, those that are left out on purpose included. where: they were found.

    Raises:
        DataError: naming the split and both counts; a known figure of official lists differs.
    """
    if "other_lists" in out.raw:
        return
    for split, samples in splits.items():
        declared_split = out.dataset.splits[split]
        named = {part: sum(sample.part == part for sample in samples) for part in PARTS}
        declared = {part: declared_split.counts.get(part, 0) for part in PARTS}
        if named != declared and declared_split.exact:
            counts = (" ".join(f"{n} {part}" for part, n in found.items() if n) for found in (named, declared))
            what = f"{out.dataset.name}/{split}: {where} names {' instead of '.join(counts)}"
            raise DataError(what, "Fetch and unpack it whole; what is left out on purpose goes to --allow-missing")
        check_known(declared_split.known, samples, out.raw.get("lists", {}), out.dataset.name, split)
