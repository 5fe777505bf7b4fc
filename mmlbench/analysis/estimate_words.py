"""What is special about an estimate, in words; nothing reads them back."""

from __future__ import annotations

from ..stats import FEW, Condition, Estimate, Few, Lacking
from ..storage.words import plural

_LACKING = {
    Lacking.ONE_ITEM: "no interval: a single item says nothing about others",
    Lacking.NO_VARIATION: "no interval: the values do not vary",
}


def conditional_words(clusters: int, name: str) -> str:
    """Return 'conditional on these 5 speakers'."""
    these = "this" if clusters == 1 else "these"
    return f"conditional on {these} {plural(clusters, name)}"


def estimate_notes(estimate: Estimate) -> list[str]:
    """Return what a reader has to know of an estimate, one remark each."""
    notes = ["this trained model"] if Condition.MODEL in estimate.conditional_on else []
    clusters = estimate.clusters
    if clusters is not None and not clusters.over:
        notes.append(f"{conditional_words(clusters.count, clusters.name)}; says nothing about others")
    elif clusters is not None:
        worth = (
            "" if clusters.effective > 0.95 * clusters.count else f" of unequal size, worth {clusters.effective:.1f}"
        )
        notes.append(f"interval over {plural(clusters.count, clusters.name)}{worth}")
    if estimate.lacking is not Lacking.NOTHING:
        notes.append(_LACKING[estimate.lacking])
    if estimate.few is not Few.NEITHER:
        notes.append(f"fewer than {FEW:g} {estimate.few}: Wilson's interval")
    return notes
