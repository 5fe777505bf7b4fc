"""The sentences under the printed tables: what a number is about, what can be resolved, what is conditional."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..results.plugin_facts import ALONE, JOINT, LOGIT_MEAN
from ..stats import FAR, INFERENCE_TARGET
from ..system.arithmetic import PORTABLE
from ..task import known_metric
from ..task.units import FRACTION, printed_scale
from .numbers import far_words, figure_of, notes_of

RANK_WORDS = (
    "Rank: from one more than the number of methods that are better and separated (the rank group), to as many as "
    "are not worse and separated; by the differences of all pairs, corrected for their number (Holm)."
)
LETTER_WORDS = "Methods that share a letter are not separated."
HOCHBERG_WORDS = (
    "Rank, Benjamini-Hochberg: an extra. It bounds the share of wrong orders among those that it finds, not their "
    "being there: of simulated boards of 40 rows that differ, 40 to 95 % then hold one (Holm: at most 5 %)."
)
#: More names than this of what may be the best are counted, not listed.
MOST_NAMED = 10
#: Under every ranking, so that an interval that excludes zero within a group surprises nobody.
ONE_OF_ALL = (
    "Each interval is that of one comparison, not corrected for their number; the ranks are corrected for all pairs "
    "(Holm). So two methods that are not separated can have a difference whose interval excludes zero."
)
TARGET = f"95 % two-part intervals (seeds and test samples both counted); they speak about {INFERENCE_TARGET}."


#: Tables whose resolution is that of single values; in the others it is that of differences between rows.
SINGLE = {"competition_gap": "gap", "reliance": "Shapley value"}


def resolved(result_set: ResultSet, group: GroupKey, table: str) -> str:
    """Say the smallest difference that a table can resolve, of each number that it compares."""
    rows = [row for row in result_set.of(group, table) if row.metric.partition("@")[0] == "resolution"]
    if not rows:
        return "No smallest resolvable difference: there is nothing to compare."
    other = f"difference to {rows[0].baseline}" if rows[0].baseline else "difference between two rows"
    what, sizes = SINGLE.get(table, other), [row for row in rows if row.value is not None]
    if not sizes:
        return f"No smallest resolvable {what}: it takes two seeds."
    sizes_text = ", ".join(f"{_measured(row)}{_size(row)}" for row in sizes)
    pairs = "corrected for all pairs, as the groups are" if rows[0].comparisons else "one comparison alone"
    return f"Smallest {what} found with 80 % power ({pairs}): {sizes_text}."


def _measured(row: Row) -> str:
    """Name what a resolution is of, where its table has several."""
    name = row.metric.partition("@")[2]
    if name:
        metric = known_metric(name)
        return f"{'NLL' if name == 'nll' else name if metric is None else metric.title} "
    return f"area on {row.modality} " if row.table == "robustness" else ""


def _size(row: Row) -> str:
    if row.unit == "points" and (row.value or 0.0) > 100:
        return "more than 100 points, so that none could be found"
    return (
        f"about {row.value or 0.0:.1f} points"
        if row.unit == "points"
        else f"about {figure_of(row)} {row.unit}".strip()
    )


def conditions(rows: Iterable[Row | None], printed: int = 8) -> list[str]:
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


def mixed_notes(result_set: ResultSet, group: GroupKey) -> list[str]:
    """Say where the rows of a group were made by several versions of the code, of packages, or kinds of hardware.

    In portable arithmetic hardware makes no difference.
    """
    rows = [row for row in result_set.rows if row.group == group]
    notes = [f"Mixed: {row.note}." for row in rows if row.table == "mixed"]
    kinds = sorted({kind for row in rows for kind in row.hardware.split(" | ") if kind})
    if {row.arithmetic for row in rows if row.arithmetic} <= {PORTABLE}:
        return notes
    notes.append("Native arithmetic: other hardware prints other last digits.")
    if len(kinds) > 1:
        notes.append(f"Mixed: runs of {len(kinds)} kinds of hardware ({'; '.join(kinds)}); their bits may differ.")
    return notes


def no_logit_mean(entries: list[Row]) -> list[str]:
    """Say why the row of joint and unimodal models' mean logits is not there, where both methods are."""
    methods = {row.method for row in entries}
    if not {ALONE, JOINT} <= methods or LOGIT_MEAN in methods:
        return []
    return ["No row of joint and unimodal models' mean logits: it takes joint with default parameters."]


def source_words(result_set: ResultSet) -> str:
    """Say which study the numbers are of, and what made them."""
    versions = "/".join(sorted({row.code_version.partition("+")[0] for row in result_set.rows if row.code_version}))
    data = ", ".join(sorted({row.data_fingerprint for row in result_set.rows if row.data_fingerprint}))
    return f"Study {result_set.name}, made by mmlbench {versions} from data {data}. all_tables.csv has every number."


#: Why blue means another thing on a large board than where rank 1 says it.
LARGE_BLUE = "Where a first sentence says what may be the best, blue is that."


def large_blue(result_set: ResultSet) -> str:
    """Return `LARGE_BLUE` where a board is large, else ''."""
    return LARGE_BLUE if any(map(result_set.moderated, result_set.groups())) else ""


def best_words(result_set: ResultSet, group: GroupKey) -> str:
    """Say which methods of a large board may be the best, in a sentence or two; '' of other boards.

    Rows that nothing can be said of come last, with the reason: one seed has no spread, and seeds far apart let a
    row be anything.
    """
    found, compared = result_set.bests(group), len(result_set.ranks(group))
    if not found:
        return ""
    rows = {row.label: row for row in result_set.entries(group)}
    spread = [label for label in found if rows[label].varies_more]
    single = [label for label in found if (rows[label].n_seeds or 0) < 2]
    sentences = []
    if told := [label for label in found if label not in {*spread, *single}]:
        sentences.append(f"May be the best: {_some(told)} ({compared} methods compared).")
    if spread:
        sentences.append(f"Nothing can be said of {_some(spread)}: the seeds lie too far apart.")
    if single:
        sentences.append(f"Nothing can be said of {_some(single)}: one seed has no spread.")
    return " ".join(sentences)


def _some(labels: Sequence[str]) -> str:
    """Return the first labels, and how many more there are."""
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return ", ".join(labels[:MOST_NAMED]) + more


def board_notes(result_set: ResultSet, group: GroupKey) -> list[str]:
    """Say how a large board is ranked, and which rows vary more than it allows for; [] of other boards."""
    if not result_set.moderated(group):
        return []
    prior, degrees = (
        next((row for row in result_set.of(group, "accuracy", metric)), None)
        for metric in ("prior_seed_sd", "prior_degrees")
    )
    usual = "" if prior is None else f"{figure_of(prior)} {prior.unit}".replace("+", "").strip()
    weight = "" if degrees is None or degrees.value is None else f", for {degrees.value:.1f} degrees of freedom"
    notes = [
        "A large board: in ranks and in what may be the best, each row's variance over seeds is moderated by those "
        f"of all rows (usual deviation {usual}{weight}). Intervals, and p beside differences, are each pair's own. "
        "May be the best: no other method beats it one-sided at .05 / (number of methods - 1).",
    ]
    far = [row for row in result_set.entries(group) if row.varies_more]
    if far:
        named_rows = ", ".join(f"{row.label} (±{_spread(row)})" for row in far)
        notes.append(
            f"Seeds of {named_rows} vary far more than the others' (usual {usual}): such a row keeps its own "
            "variance. Look at its runs."
        )
    return notes


def _spread(row: Row) -> str:
    """Return the deviation over seeds of a row as its differences are printed."""
    if row.unit == FRACTION:
        return f"{printed_scale(row.unit) * (row.sd or 0.0):.1f} points"
    return f"{row.sd or 0.0:.3g} {row.unit}".strip()


def far_notes(result_set: ResultSet, group: GroupKey) -> list[str]:
    """Say what a seed far off means, and where there is one, probes included; [] where there is none."""
    rows = [
        row
        for row in result_set.of(group, "accuracy", result_set.metric(group), result_set.headline)
        if row.far_seeds
    ]
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
