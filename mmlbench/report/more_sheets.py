"""The printed tables beside accuracy, gaps and cost: further measures, reliance, and what holds over datasets."""

from __future__ import annotations

from ..analysis.measures import BEST, HEAD_WORDS
from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Head, Row
from .noise_figure import curves_of
from .numbers import figure_of
from .sheets import TARGET, Sheet, mixed_notes, named, points, resolved, said, without_empty_columns, worst_level


def measures_sheet(view: ResultSet, group: GroupKey) -> Sheet | None:
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
        line = [named(entry), *map(points, table.values())]
        line += [points(nll), figure_of(ece), *map(points, gains)]
        line.append(figure_of(view.find(group, entry.label, "probability_best")))
        sheet.rows.append(line)
        used += [*table.values(), nll]
    if not sheet.rows:
        return None
    sheet.notes = [
        f"Fused predictions, epoch: {view.headline}. Macro-F1, balanced accuracy and ECE in %, NLL in nats, gains in "
        "percentage points. ECE has 15 bins of equal size, is biased upwards and has no interval. The best unimodal "
        "model is picked on these samples, so the interval of the gain over it is at "
        f"{worst_level(len(view.modalities(group)))} (.05 divided by the number of modalities).",
        *mixed_notes(view, group),
        TARGET,
        resolved(view, group, "measures"),
        *said(used),
    ]
    return without_empty_columns(sheet)


def reliance_sheet(view: ResultSet, group: GroupKey) -> Sheet | None:
    """Return how much each fused head leans on each modality; None where no subsets are stored."""
    modalities = view.modalities(group)
    columns = ["method", *(f"{m} Shapley" for m in modalities), *(f"{m} adds" for m in modalities), "interaction"]
    columns += [f"{m} Shapley, zero" for m in modalities] + [f"{m} Shapley, nats" for m in modalities]
    sheet, heads = Sheet("reliance", view.title(group), columns, []), dict[Head, list[str]]()
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
        line += [points(rows.get(("shapley_nll@mean", m))) for m in modalities]
        sheet.rows.append(line)
        heads.setdefault(next(iter(rows.values())).head, []).append(entry.label)
    if not sheet.rows:
        return None
    sheet.notes = [
        "Reliance of the head, not quality of the modality: exact Shapley values of accuracy (percentage points) and "
        "of minus NLL (nats) over modality subsets; a missing feature takes its train mean, or zero where said. "
        "'Adds': all modalities minus all but this one.",
        *(f"{', '.join(labels)}: {HEAD_WORDS[head]}." for head, labels in heads.items()),
        *mixed_notes(view, group),
        TARGET,
        resolved(view, group, "reliance"),
    ]
    return without_empty_columns(sheet)


def robustness_sheet(view: ResultSet, group: GroupKey) -> Sheet | None:
    """Return accuracy under noise: a line per method and modality; None where it was not measured."""
    curves = curves_of(view, group)
    if not curves:
        return None
    strengths = sorted({strength for curve in curves for strength in curve.points})
    columns = ["method", "noise on", "noise", "area", *(f"at {strength:g}" for strength in strengths)]
    sheet = Sheet("robustness", view.title(group), columns, [])
    for curve in curves:
        line = [named(curve.entry), curve.modality, curve.when, points(curve.area)]
        sheet.rows.append([*line, *(figure_of(curve.points.get(strength)) for strength in strengths)])
    there = {curve.entry.label for curve in curves}
    out = [e.label for e in view.entries(group) if e.tuning_trials and e.label not in there]
    sheet.notes = [
        "Fused accuracy in %, last epoch, under additive Gaussian noise on one modality, strength in standard "
        "deviations of its inputs (0: none). Area: mean height of the curve over its range of strengths; curves over "
        "other ranges have areas that are not comparable. Intervals of the single points are in robustness.csv.",
        *([f"Not measured, as tuned: {', '.join(out)}; mmlbench robustness RUN measures it."] if out else []),
        *mixed_notes(view, group),
        TARGET,
        resolved(view, group, "robustness"),
        *said([curve.area for curve in curves]),
    ]
    return without_empty_columns(sheet)


def overall_sheet(view: ResultSet) -> Sheet | None:
    """Return mean rank and mean normalised score over datasets; None for one dataset."""
    rows = [row for row in view.rows if row.table == "overall"]
    ranks = sorted((row for row in rows if row.metric == "mean_rank"), key=lambda row: row.value or 0.0)
    if not ranks:
        return None
    score = {row.label: row for row in rows if row.metric == "mean_normalised_score"}
    sheet = Sheet("overall", "all datasets", ["method", "mean rank", "mean normalised score"], [])
    sheet.rows = [[row.label, points(row), points(score.get(row.label))] for row in ranks]
    sheet.notes = [
        f"{head}: {row.note}."
        for head, row in (("Rank", ranks[0]), ("Score", score.get(ranks[0].label)))
        if row is not None
    ]
    sheet.notes.append("Without an interval there is no smallest resolvable difference: rank groups are per dataset.")
    sheet.notes += dict.fromkeys(note for group in view.groups() for note in mixed_notes(view, group))
    return sheet
