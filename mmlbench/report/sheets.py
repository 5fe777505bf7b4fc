"""What the printed tables say, as plain text cells; how they look is for `tables.py` and `leaderboard.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..results.plugin_facts import ALONE, JOINT, LOGIT_MEAN
from ..stats import FAR, INFERENCE_TARGET
from .numbers import far_words, figure_of, interval, notes_of, p_text, signed, with_sd

HOLM = "p (Holm)"
#: Under every ranking, so that an interval that excludes zero within a group surprises nobody.
ONE_OF_ALL = (
    "Each interval is that of one comparison, not corrected for their number; the groups are corrected for all pairs "
    "(Holm), so two methods of one group can have a difference whose interval excludes zero."
)
TARGET = f"95 % two-part intervals (seeds and test samples both counted); they speak about {INFERENCE_TARGET}."


@dataclass
class Sheet:
    """A table of text cells.

    Attributes:
        apart: rows printed below a rule, such as the control. notes: sentences under the table.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    apart: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def named(row: Row) -> str:
    """Return a label, with its parameters where they differ from the defaults and the label hides them."""
    return f"{row.label} ({row.params})" if row.params and row.label == row.method else row.label


def points(row: Row | None) -> str:
    """Return 'value [low, high]' in points or percent, and which seeds lie far from the others."""
    far = f"({far_words(row)})" if row is not None and row.far_seeds else ""
    return " ".join(part for part in (figure_of(row), interval(row), far) if part)


def worst_level(modalities: int) -> str:
    """Return the level of the interval of the worst of some modalities, '97.5 %' of two (.05 / M)."""
    return f"{100 * (1 - 0.05 / max(1, modalities)):.3g} %"


def level_note(row: Row) -> str:
    """Return ' (97.5 %)' where a row's interval is not at 95 %, as that of an extreme of several is."""
    return "" if row.level in (None, 0.95) else f" ({100 * (row.level or 0):.3g} %)"


#: Tables whose resolution is that of single values; in the others it is that of differences between rows.
SINGLE = {"competition_gap": "gap", "reliance": "Shapley value"}
MEASURED = {"macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy", "nll": "NLL"}


def resolved(view: ResultSet, group: GroupKey, table: str) -> str:
    """Say the smallest difference that a table can resolve, of each number that it compares."""
    rows = [row for row in view.of(group, table) if row.metric.partition("@")[0] == "resolution"]
    if not rows:
        return "No smallest resolvable difference: there is nothing to compare."
    other = f"difference to {rows[0].baseline}" if rows[0].baseline else "difference between two rows"
    what, sizes = SINGLE.get(table, other), [row for row in rows if row.value is not None]
    if not sizes:
        return f"No smallest resolvable {what}: it takes two seeds."
    said = ", ".join(f"{_measured(row)}{_size(row)}" for row in sizes)
    pairs = "corrected for all pairs, as the groups are" if rows[0].comparisons else "one comparison alone"
    return f"Smallest {what} found with 80 % power ({pairs}): {said}."


def _measured(row: Row) -> str:
    """Name what a resolution is of, where its table has several."""
    name = row.metric.partition("@")[2]
    if name:
        return f"{MEASURED.get(name, name)} "
    return f"area on {row.modality} " if row.table == "robustness" else ""


def _size(row: Row) -> str:
    if row.unit != "nats" and (row.value or 0.0) > 100:
        return "more than 100 points, so that none could be found"
    return f"about {figure_of(row)} nats" if row.unit == "nats" else f"about {row.value or 0.0:.1f} points"


def said(rows: list[Row | None], printed: int = 8) -> list[str]:
    """Return what is particular to some rows, as one sentence; what their numbers mean stands elsewhere."""
    notes = notes_of(rows)
    return [f"Notes: {'; '.join(notes[:printed])}."] if notes else []


def tuned_note(entries: list[Row]) -> str:
    """Say which rows are tuned, by how many trials each, and which are not."""
    trials: dict[int, list[str]] = {}
    for row in entries:
        trials.setdefault(row.tuning_trials or 0, []).append(row.label)
    if set(trials) <= {0}:
        return "No row is tuned: parameters are the methods' defaults, or those named."
    words = [f"{', '.join(names)}: {n} random draws each, chosen on val" for n, names in sorted(trials.items()) if n]
    return f"Tuned: {'; '.join(words)}." + (f" Untuned: {', '.join(trials[0])}." if 0 in trials else "")


def mixed_notes(view: ResultSet, group: GroupKey) -> list[str]:
    """Say where the rows of a group were made by several versions of the code, of packages, or kinds of hardware."""
    rows = [row for row in view.rows if row.group == group]
    notes = [f"Mixed: {row.note}." for row in rows if row.table == "mixed"]
    kinds = sorted({kind for row in rows for kind in row.hardware.split(" | ") if kind})
    if len(kinds) > 1:
        notes.append(f"Mixed: runs of {len(kinds)} kinds of hardware ({'; '.join(kinds)}); their bits may differ.")
    return notes


def _no_logit_mean(entries: list[Row]) -> list[str]:
    """Say why the row of joint and unimodal models' mean logits is not there, where both methods are."""
    methods = {row.method for row in entries}
    if not {ALONE, JOINT} <= methods or LOGIT_MEAN in methods:
        return []
    return ["No row of joint and unimodal models' mean logits: it takes joint with default parameters."]


def far_notes(view: ResultSet, group: GroupKey) -> list[str]:
    """Say what a seed far off means, and where there is one, probes included; [] where there is none."""
    rows = [row for row in view.of(group, "accuracy", "accuracy", view.headline) if row.far_seeds]
    if not rows:
        return []
    what = {"fused": "", "own_head": ", own head", "sliced": ", sliced", "probe": ", probe"}
    named_rows = "; ".join(
        f"{row.label} {row.modality}{what.get(row.kind, '')}: {far_words(row)}".replace(" fused", "") for row in rows
    )
    return [
        f"A seed far off ({named_rows}) lies more than {FAR:g} usual deviations from the middle of its "
        "row's seeds: look at its run. Where training collapses now and then, no interval here holds."
    ]


def accuracy_sheet(view: ResultSet, group: GroupKey) -> Sheet:
    """Return the accuracy table of a group under the headline rule."""
    modalities, references = view.modalities(group), view.references(group)
    columns = ["method", "group", "accuracy", "95 % interval"]
    columns += [word for name in references for word in (f"minus {name}", HOLM)]
    columns += [f"{m}, own head" for m in modalities] + ["optimism", "seeds"]
    sheet = Sheet("accuracy", view.title(group), columns, [])
    used: list[Row | None] = []
    for entry in view.entries(group):
        fused = view.find(group, entry.label, "accuracy")
        line = [named(entry), str(fused.rank_group or "") if fused else "", with_sd(fused), interval(fused)]
        for name in references:
            difference = view.find(group, entry.label, "difference", baseline=name)
            line += [points(difference), p_text(difference.p_adjusted if difference else None)]
        line += [with_sd(view.find(group, entry.label, "accuracy", m, "own_head")) for m in modalities]
        optimism = view.find(group, entry.label, "optimism", table="selection", selection="test")
        line += [signed(optimism.value) if optimism else "", str(entry.n_seeds or "")]
        aside = entry.label == view.control(group) or entry.method == LOGIT_MEAN
        (sheet.apart if aside else sheet.rows).append(line)
        used.append(fused or entry)
    bayes = view.bayes(group)
    if "fused" in bayes:
        ceiling = {"method": "Bayes (ceiling)", "accuracy": f"{100 * bayes['fused']:.1f}"}
        ceiling |= {f"{m}, own head": f"{100 * bayes[m]:.1f}" for m in modalities if m in bayes}
        sheet.apart.append([ceiling.get(column, "") for column in columns])
    n_test = max((entry.n_test or 0 for entry in view.entries(group)), default=0)
    sheet.notes = [
        f"Accuracy in % on {n_test} test samples, mean ± standard deviation over seeds, epoch: {view.headline}; "
        "differences and optimism in percentage points. Optimism: by how much an accuracy is too high whose epoch "
        "was picked on the test set.",
        "Group 1 is what nothing separates from the best (all pairs, Holm); within a group the order is not known. "
        f"{ONE_OF_ALL} p (Holm) is corrected for the rows of its own column, compared with the same reference.",
        tuned_note(view.entries(group)),
        *_no_logit_mean(view.entries(group)),
        *mixed_notes(view, group),
        TARGET,
        *far_notes(view, group),
        resolved(view, group, "accuracy"),
        *said(used),
    ]
    return without_empty_columns(sheet)


def gap_sheet(view: ResultSet, group: GroupKey) -> Sheet | None:
    """Return the table of competition gaps of a group, or None where nothing was trained alone."""
    alone, control, modalities = view.alone(group), view.control(group), view.modalities(group)
    if not alone:
        return None
    level = worst_level(len(modalities))
    columns = ["method", *(f"{m} gap" for m in modalities), "mean gap", f"worst gap ({level} interval)"]
    columns += [f"{m} gap minus control" for m in modalities] + [f"{m} retained" for m in modalities]
    columns += [f"{m} gap by heads" for m in modalities]
    sheet = Sheet("competition_gap", view.title(group), columns, [])
    used: list[Row | None] = []
    for entry in view.entries(group):
        gaps = [gap_row(view, group, entry.label, m) for m in (*modalities, "mean", "worst")]
        if not any(gaps):
            continue
        beyond = [gap_row(view, group, entry.label, m, "gap_minus_control") for m in modalities]
        kept = [gap_row(view, group, entry.label, m, "retained") for m in modalities]
        line = [named(entry), *map(points, gaps), *map(points, beyond)]
        line += map(points, kept)
        line += [points(gap_head(view, group, entry.label, m)) for m in modalities]
        worst = gaps[-1]
        if worst is not None and worst.worst_modality and worst.value:
            line[len(modalities) + 2] += f" ({worst.worst_modality})"
        (sheet.apart if entry.label == control else sheet.rows).append(line)
        used += gaps
    about_control = (
        "The control is joint training with the partner modality shuffled: its gap is not competition for the class. "
    )
    if not control:
        about_control = "No control was asked for: add joint_shuffled_partner to the methods of this block. "
    sheet.notes = [
        f"Gap in percentage points: probe accuracy of the encoder trained alone ({alone}) minus that of the encoder "
        "after the method, same seed; positive: training together cost it. Methods whose encoders are those trained "
        "alone have gap 0 by construction and are not ranked.",
        f"{about_control}Retained: share in % of what training alone adds to the untrained encoder. "
        "By heads: the head trained alone minus the probe after. "
        f"The worst modality is a maximum, so its interval is at {level} (.05/{len(modalities)}) and wider than that "
        "of the same gap in its own column. Each other interval is at 95 %, that of one gap, not corrected for the "
        "number of rows; competition_gap.csv has p-values corrected for it (Holm).",
        *mixed_notes(view, group),
        TARGET,
        *far_notes(view, group),
        resolved(view, group, "competition_gap"),
        *said(used),
    ]
    return without_empty_columns(sheet)


def gap_row(
    view: ResultSet, group: GroupKey, label: str, modality: str, metric: str = "gap", rule: str | None = None
) -> Row | None:
    """Return a row of the gap table, under the headline rule where no other is named."""
    baseline = view.control(group) if metric == "gap_minus_control" else view.alone(group)
    return view.find(group, label, metric, modality, "probe", baseline, "competition_gap", rule)


def gap_head(view: ResultSet, group: GroupKey, label: str, modality: str) -> Row | None:
    """Return the gap by heads: own head trained alone minus probe after the method."""
    return view.find(group, label, "gap_head", modality, "own_head", view.alone(group), "competition_gap")


def cost_sheet(view: ResultSet, group: GroupKey) -> Sheet:
    """Return the cost table of a group."""
    columns = ["method", "epochs", "sample passes", "parameters", "forward MFLOP/sample", "training TFLOP"]
    columns += ["TFLOP with reused runs"]
    columns += ["training seconds", "energy Wh", "peak memory GB", "tuning trials", "reuses", "seeds"]
    sheet = Sheet("cost", view.title(group), columns, [])
    hardware = []
    for row in view.cost:
        if (row["dataset"], row["split"], row["recipe"], row["encoder"]) != group:
            continue
        sd = _scaled(row["train_seconds_sd"])
        seconds = _scaled(row["train_seconds"]) + (f" ± {sd}" if sd else "")
        on_device = float(row["device_memory_bytes"] or 0) > 0
        memory = row["device_memory_bytes"] if on_device else row["peak_memory_bytes"]
        sheet.rows.append(
            [
                row["label"],
                _whole(row["epochs"]),
                _whole(row["sample_passes"]),
                _whole(row["parameters"]),
                _scaled(row["forward_flops_per_sample"], 1e6, 2),
                _scaled(row["train_flops"], 1e12, 3),
                _scaled(row["train_flops_with_reused"], 1e12, 3),
                seconds,
                _scaled(row["energy_joules"], 3600, 2),
                _scaled(memory, 1e9, 2),
                _whole(row["tuning_trials"]),
                row["reuses"],
                row["n_seeds"],
            ]
        )
        hardware.append(row["hardware"])
    sheet.notes = [
        "Mean over seeds, seconds with standard deviation. Runs that are named as reused (by the ensemble, "
        "unimodal's) are not in a row's seconds and counts; the column with reused runs has both. A row that "
        "names none, such as that of joint and unimodal models, has everything.",
        "A pass goes through one encoder where encoders are trained apart, through all in joint training, so passes "
        "are not compute: FLOPs are.",
        f"Hardware: {'; '.join(dict.fromkeys(hardware))}. Seconds of shared machines are upper bounds.",
        "Energy is that of the whole device as its driver reports it, where it does. "
        "Cost carries no interval: it is about this hardware, not about new seeds and test items.",
    ]
    return without_empty_columns(sheet)


def _whole(text: str) -> str:
    """Return a number with thousands apart, '' for ''."""
    return f"{float(text):,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if text else ""


def _scaled(text: str, unit: float = 1.0, digits: int = 1) -> str:
    return f"{float(text) / unit:.{digits}f}" if text else ""


def without_empty_columns(sheet: Sheet) -> Sheet:
    """Drop the columns that say nothing in any row."""
    lines = [*sheet.rows, *sheet.apart]
    keep = [k for k in range(len(sheet.columns)) if any(line[k] for line in lines)]
    sheet.columns = [sheet.columns[k] for k in keep]
    sheet.rows = [[line[k] for k in keep] for line in sheet.rows]
    sheet.apart = [[line[k] for k in keep] for line in sheet.apart]
    return sheet
