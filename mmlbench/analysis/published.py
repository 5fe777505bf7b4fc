"""Our row for a number that a paper prints: same dataset, method, head and selection rule."""

from __future__ import annotations

from collections.abc import Sequence

from .literature import Ours, PublishedResult, compare, head_of, others_of
from .result_set import GroupKey, ResultSet
from .rows import Row


def ours_of(result_set: ResultSet, group: GroupKey, figure: PublishedResult) -> tuple[Row, Ours] | None:
    """Return our row for a published number, under the source's selection rule where it is known and there."""
    measure, _, modality = figure.metric.partition("/")
    if figure.dataset != group[0] or measure != "accuracy":
        return None
    where = (modality, "own_head") if modality else ("fused", "fused")
    rules = [rule for rule in (figure.source.selection, result_set.headline) if rule != "unknown"]
    entries = [row for row in result_set.entries(group) if row.method == figure.method]
    # The same head and parameters first, then the method as it comes: never the variant that happens to be best.
    entries.sort(
        key=lambda row: (
            not modality and head(row) != head_of(figure),
            len(others_of(figure, _params(row))),
            bool(row.params),
        )
    )
    for rule in rules:
        for entry in entries:
            row = result_set.find(group, entry.label, "accuracy", *where, selection=rule)
            if row is not None and row.value is not None:
                se, sd = (None if value is None else 100 * value for value in (row.se, row.sd))
                value, count = 100 * row.value, row.n_test or 1
                own, set_ = "" if modality else head(row), _params(row)
                seeds = row.n_seeds or 1
                made = Ours(*group[:3], rule, value, se, sd, count, seeds, figure.metric, own, set_)
                return row, made
    return None


def head(row: Row) -> str:
    """Return the fusion head of a row: its parameter `fusion`, concatenation where it is not set otherwise."""
    return _params(row).get("fusion", "concat")


def _params(row: Row) -> dict[str, str]:
    """Return the parameters of a row that differ from its method's defaults, as text."""
    return dict(part.partition("=")[::2] for part in row.params.split(";") if part)


def fill_published(result_set: ResultSet, figures: Sequence[PublishedResult]) -> None:
    """Put into the rows of a study what the literature prints for the same dataset, method and head.

    The source names every number; the value is there only where one number is meant: the only one that may be
    compared, or else the only one.
    """
    for group in result_set.groups():
        found: dict[str, tuple[Row, list[tuple[PublishedResult, bool]]]] = {}
        for figure in figures:
            pair = ours_of(result_set, group, figure)
            if pair is not None and head_of(figure) == pair[1].head:
                fair = compare(figure, pair[1]).ci_low is not None
                found.setdefault(pair[0].row_id, (pair[0], []))[1].append((figure, fair))
        for row, several in found.values():
            meant = [figure for figure, fair in several if fair] or [figure for figure, _ in several]
            row.published_value = meant[0].value / 100 if len(meant) == 1 else None
            row.published_source = "; ".join(f"{f.source.key}: {f.value:g} % ({f.place})" for f, _ in several)
