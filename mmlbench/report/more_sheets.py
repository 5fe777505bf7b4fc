"""The printed tables beside accuracy, gaps and cost: further measures, reliance, and what holds over datasets."""

from __future__ import annotations

from .measures import BEST
from .rows import Row
from .sheets import TARGET, Sheet, mixed_notes, named, points, resolved, said, without_empty_columns
from .view import GroupKey, View, figure_of, interval, notes_of


def _plain(row: Row | None, digits: int = 3) -> str:
    """Return 'value [low, high]' of a number that is neither percent nor points."""
    if row is None or row.value is None:
        return ""
    text = f"{row.value:.{digits}f}"
    if row.ci_low is not None and row.ci_high is not None:
        text += f" [{row.ci_low:.{digits}f}, {row.ci_high:.{digits}f}]"
    return text.replace("-", "\N{MINUS SIGN}")


def measures_sheet(view: View, group: GroupKey) -> Sheet | None:
    """Return macro-F1, balanced accuracy, NLL, calibration and fusion gain of a group, or None."""
    ensemble = view.ensemble(group)
    columns = ["method", "macro-F1", "balanced accuracy", "NLL", "ECE", "gain over best unimodal"]
    columns += ["gain over the ensemble", "best in % of resamplings"]
    sheet, used = Sheet("measures", view.title(group), columns, []), list[Row | None]()
    for entry in view.entries(group):
        table = {m: view.find(group, entry.label, m, table="measures") for m in ("macro_f1", "balanced_accuracy")}
        nll, ece = (view.find(group, entry.label, m, table="measures") for m in ("nll", "ece"))
        if nll is None:
            continue
        gains = [
            view.find(group, entry.label, "fusion_gain", baseline=name, table="fusion_gain")
            for name in (BEST, ensemble or view.baseline)
        ]
        line = [named(entry), *(f"{figure_of(row)} {interval(row)}".strip() for row in table.values())]
        line += [_plain(nll), figure_of(ece), *map(points, gains)]
        line.append(figure_of(view.find(group, entry.label, "probability_best")))
        sheet.rows.append(line)
        used += [*table.values(), nll]
    if not sheet.rows:
        return None
    sheet.notes = [
        f"Fused predictions, epoch: {view.headline}. Macro-F1, balanced accuracy and ECE in %, NLL in nats, gains in "
        "percentage points. ECE has 15 bins of equal size, is biased upwards and has no interval. The best unimodal "
        "model is picked on these samples: its interval is at .05 divided by the number of modalities.",
        *mixed_notes(view, group),
        TARGET,
        resolved(view, group, "accuracy"),
        *said(used),
    ]
    return without_empty_columns(sheet)


def reliance_sheet(view: View, group: GroupKey) -> Sheet | None:
    """Return how much each fused head leans on each modality; None where no subsets are stored."""
    modalities = view.modalities(group)
    columns = ["method", *(f"{m} Shapley" for m in modalities), *(f"{m} adds" for m in modalities), "interaction"]
    columns += [f"{m} Shapley, zero" for m in modalities] + [f"{m} Shapley, nats" for m in modalities]
    sheet, rules = Sheet("reliance", view.title(group), columns, []), dict[str, list[str]]()
    for entry in view.entries(group):
        rows = {
            (r.metric, r.modality): r for r in view.of(group, "reliance", "", view.headline) if r.label == entry.label
        }
        if not rows:
            continue
        line = [named(entry), *(points(rows.get(("shapley@mean", m))) for m in modalities)]
        line += [points(rows.get(("added@mean", m))) for m in modalities]
        line += [points(rows.get(("interaction@mean", "fused")))]
        line += [points(rows.get(("shapley@zero", m))) for m in modalities]
        line += [_plain(rows.get(("shapley_nll@mean", m))) for m in modalities]
        sheet.rows.append(line)
        for note in notes_of(rows.values()):
            if "not comparable across heads" in note:
                rules.setdefault(note, []).append(entry.label)
    if not sheet.rows:
        return None
    sheet.notes = [
        "Reliance of the head, not quality of the modality: exact Shapley values of accuracy (percentage points) and "
        "of minus NLL (nats) over modality subsets; a missing feature takes its train mean, or zero where said. "
        "'Adds': all modalities minus all but this one.",
        *(f"{rule[:1].upper()}{rule[1:]}: {', '.join(labels)}." for rule, labels in rules.items()),
        *mixed_notes(view, group),
        TARGET,
    ]
    return without_empty_columns(sheet)


def overall_sheet(view: View) -> Sheet | None:
    """Return mean rank and mean normalised score over datasets; None for one dataset."""
    rows = [row for row in view.rows if row.table == "overall"]
    ranks = sorted((row for row in rows if row.metric == "mean_rank"), key=lambda row: row.value or 0.0)
    if not ranks:
        return None
    score = {row.label: row for row in rows if row.metric == "mean_normalised_score"}
    sheet = Sheet("overall", "all datasets", ["method", "mean rank", "mean normalised score"], [])
    sheet.rows = [[row.label, _plain(row, 2), _plain(score.get(row.label), 2)] for row in ranks]
    sheet.notes = [*(f"{note}." for note in notes_of([ranks[0], score.get(ranks[0].label)]))]
    return sheet
