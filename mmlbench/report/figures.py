"""The figures: accuracy with intervals, the gap per modality, accuracy against cost, learning curves of each head,
accuracy under noise.

As wide as a column of print, so that nothing shrinks there. Colour-blind safe and readable in greyscale: marker
shapes, filled or open, and dashes beside colours. PNG, PDF and SVG with the same bytes each time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..analysis.pareto import on_front
from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..results.load import read_plan
from ..results.run_folder import RunFolder
from ..storage.atomic import whole
from .colours import ROLES
from .figure_parts import MARKERS, PALETTE, WIDTH, error, marks, short, title, wrapped
from .line import gap_row, rank_range
from .measure import Measure, measure_of
from .noise_figure import draw_robustness
from .numbers import DASH

FORMS = ("png", "pdf", "svg")
#: From more points on, a plot of costs is twice as wide, and names only what has room.
CROWD = 12
NAMES = ("accuracy-", "gap-", "pareto-", "curves-", "robustness-")
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mmlbench",
    "pdf.fonttype": 42,
    "savefig.dpi": 220,
    "grid.linewidth": 0.5,
    "lines.markersize": 4.5,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def slug(result_set: ResultSet, group: GroupKey) -> str:
    """Return a group's part of a file name."""
    return "-".join(re.findall(r"[A-Za-z0-9_]+", result_set.title(group)))


class Drawing:
    """Makes figures apart from pyplot, which a notebook or program draws with: its figures and backend stay."""

    def subplots(self, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
        """Return a figure and its axes, as `pyplot.subplots` does."""
        from matplotlib.figure import Figure

        of_figure = {key: options.pop(key) for key in ("figsize", "layout") if key in options}
        figure = Figure(**of_figure)
        return figure, figure.subplots(rows, columns, **options)


@contextmanager
def _style() -> Iterator[Drawing]:
    """Draw without a display, in one style, and leave the caller's settings alone."""
    import matplotlib
    import seaborn as sns

    with matplotlib.rc_context(), sns.axes_style("whitegrid"), sns.plotting_context("paper", font_scale=0.82):
        settings: Any = matplotlib.rcParams
        settings.update(STYLE)
        yield Drawing()


def write_figures(result_set: ResultSet, results: Path) -> dict[GroupKey, dict[str, Path]]:
    """Draw every figure of a study; return group -> name -> the SVG's path."""
    draw: dict[str, Callable[[Any, ResultSet, GroupKey, Path], Any]] = {
        "accuracy": draw_accuracy,
        "gap": draw_gap,
        "pareto": draw_pareto,
        "curves": draw_curves,
        "robustness": draw_robustness,
    }
    drawn: dict[GroupKey, dict[str, Path]] = {}
    with _style() as plt:
        for group in result_set.groups():
            for name, make in draw.items():
                figure = make(plt, result_set, group, results)
                if figure is not None:
                    path = results / "figures" / f"{name}-{slug(result_set, group)}"
                    drawn.setdefault(group, {})[name] = _save(figure, path)
        _save(draw_overview(plt, result_set), results / "figures" / "overview")
    _remove_others(results / "figures", drawn)
    return drawn


def _remove_others(folder: Path, drawn: dict[GroupKey, dict[str, Path]]) -> None:
    """Remove figures of an earlier study, which would be taken for this one's."""
    kept = {path.stem for names in drawn.values() for path in names.values()}
    for file in folder.glob("*"):
        if file.suffix.lstrip(".") in FORMS and file.stem not in kept and file.name.startswith(NAMES):
            file.unlink()


def _save(figure: Any, stem: Path) -> Path:
    """Save a figure in all forms, without dates or versions in it; return the SVG's path."""
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None},
    }
    for form in FORMS:
        with whole(stem.with_name(f"{stem.name}.{form}")) as temporary:
            figure.savefig(temporary, format=form, metadata=metadata[form], bbox_inches="tight")
    return stem.with_name(f"{stem.name}.svg")


def _ranked(result_set: ResultSet, group: GroupKey) -> list[Row]:
    return [row for row in result_set.entries(group) if row.kind == "fused" and row.value is not None]


def draw_accuracy(plt: Any, result_set: ResultSet, group: GroupKey, results: Path) -> Any:
    """Draw the fused accuracies with their intervals, best at the top; None where there is none."""
    del results
    rows = _ranked(result_set, group)
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.24 * len(rows)))
    _accuracy_on(axes, result_set, group, rows)
    title(figure, f"{result_set.title(group)}; in brackets the ranks")
    return figure


def _accuracy_on(axes: Any, result_set: ResultSet, group: GroupKey, rows: list[Row]) -> None:
    """Draw accuracies with intervals, a line each."""
    ranks, measure = (
        {row.label: rank_range(result_set, group, row.label) for row in rows},
        measure_of(result_set, group),
    )
    for place, row in enumerate(rows):
        style = marks(ranks[row.label])
        axes.errorbar(measure.scale * (row.value or 0.0), place, xerr=error(row), capsize=2, lw=1.2, **style)
    bayes = result_set.bayes(group).get("fused")
    if bayes is not None:
        axes.axvline(measure.scale * bayes, color=ROLES.text.light, ls="--", lw=1)
        text = axes.text(measure.scale * bayes, -0.75, "Bayes ", ha="right", va="center", fontsize=7)
        text.set_bbox({"facecolor": ROLES.back.light, "edgecolor": "none", "pad": 0.5})
    labels = [f"{short(row)}  ({rank.ends if (rank := ranks[row.label]) else DASH})" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(max(1, len(rows)) - 0.5, -1.0 if bayes is not None else -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"test {measure.in_unit}{measure.way}, 95 % interval")


def draw_pareto(plt: Any, result_set: ResultSet, group: GroupKey, results: Path) -> Any:
    """Draw accuracy against the seconds of training, reused runs included; None where fewer than two are known."""
    del results
    points = [(result_set.seconds(group, row.label)[0], row) for row in result_set.entries(group)]
    known = [(s, row) for s, row in points if s and row.kind == "fused" and row.rank_group and row.value is not None]
    if len(known) < 2:
        return None
    measure = measure_of(result_set, group)
    sign = measure.sign
    known.sort(key=lambda point: (point[0], -sign * (point[1].value or 0.0)))
    many = len(known) > CROWD
    figure, axes = plt.subplots(figsize=(2 * WIDTH, 4.2) if many else (WIDTH, 2.4))
    judged = [
        (sign * (row.value or 0.0), seconds, _seconds_sd(result_set, group, row.label)) for seconds, row in known
    ]
    front = [(x, sign * measure.scale * y) for (y, x, _), kept in zip(judged, on_front(judged), strict=True) if kept]
    for seconds, row in known:
        style = marks(rank_range(result_set, group, row.label))
        faint = {"capsize": 0, "lw": 0.6, "alpha": 0.6} if many else {"capsize": 2, "lw": 1, "alpha": 0.95}
        axes.errorbar(seconds, measure.scale * (row.value or 0.0), yerr=error(row), **faint, **style)
    last, best = 1.05 * known[-1][0], front[-1][1]
    axes.plot(
        [*(x for x, _ in front), last],
        [*(y for _, y in front), best],
        drawstyle="steps-post",
        color=ROLES.soft.light,
        lw=1,
        ls=":",
    )
    if known[-1][0] > 8 * known[0][0]:
        axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.autoscale_view()
    told = {x for x, _ in front} | {seconds for seconds, row in known if row.label == result_set.baseline}
    named_points = [
        Point(seconds, measure.scale * (row.value or 0.0), short(row), not many or seconds in told)
        for seconds, row in known
    ]
    nameless = _name_points(axes, named_points)
    axes.set_xlabel("training seconds of one seed, with the runs that it reuses")
    axes.set_ylabel(f"test {measure.in_unit}{measure.way}")
    unnamed = f"; {nameless} points without room for a name: see the table of costs" if nameless else ""
    title(figure, f"{result_set.title(group)}; on the dotted line, none is clearly cheaper and better{unnamed}")
    return figure


def _seconds_sd(result_set: ResultSet, group: GroupKey, label: str) -> float:
    """Return the standard deviation over seeds of `ResultSet.seconds`, the reused runs' as if independent."""
    parts = [
        result_set.cost_of(group, name).get("train_seconds_sd")
        for name in (label, *result_set.seconds(group, label)[1])
    ]
    return math.hypot(*(float(part) for part in parts if part))


@dataclass(frozen=True)
class Point:
    """A point of a plot in its own units; `must` is whether it has its name even where that covers another."""

    x: float
    y: float
    name: str
    must: bool = True


def _name_points(axes: Any, points: list[Point]) -> int:
    """Write each name beside its point, in the first of eight places where it covers no other name.

    Returns:
        How many points have no name, for it would cover another's; those that must have one are named first.
    """
    unit = axes.figure.dpi / 72  # pixels a point of type
    taken: list[tuple[float, float, float, float]] = []
    nameless = 0
    for point in sorted(points, key=lambda one: not one.must):
        left, bottom = axes.transData.transform((point.x, point.y))
        width, height = 4.0 * len(point.name) * unit, 7.5 * unit
        places = [(dx, dy) for dy in (3, -9, 11, -17) for dx in (5, -5)]
        boxes = []
        for dx, dy in places:
            start = left + dx * unit - (width if dx < 0 else 0)
            boxes.append((start, start + width, bottom + dy * unit, bottom + dy * unit + height))
        inside = axes.bbox.x0, axes.bbox.x1
        free = [
            k
            for k, (a, b, c, d) in enumerate(boxes)
            if a >= inside[0]
            and b <= inside[1]
            and not any(a < f and b > e and c < h and d > g for e, f, g, h in taken)
        ]
        if not free and not point.must:
            nameless += 1
            continue
        best = free[0] if free else 0
        taken.append(boxes[best])
        side = "right" if places[best][0] < 0 else "left"
        style = {"textcoords": "offset points", "fontsize": 6.5, "ha": side}
        axes.annotate(point.name, (point.x, point.y), xytext=places[best], **style)
    return nameless


def _measured(result_set: ResultSet, group: GroupKey) -> list[Row]:
    """Return the labels whose gap is measured, not zero by construction."""
    gaps = {row.label: gap_row(result_set, group, row.label, "mean") for row in result_set.entries(group)}
    return [row for row in result_set.entries(group) if (gap := gaps[row.label]) and not gap.by_construction]


def draw_gap(plt: Any, result_set: ResultSet, group: GroupKey, results: Path) -> Any:
    """Draw the competition gap of each modality with its interval; None where there is none."""
    del results
    measured = _measured(result_set, group)
    if not measured:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 1.1 + 0.32 * len(measured)))
    _gap_on(axes, result_set, group, measured)
    alone = "alone minus after the method" if measure_of(result_set, group).higher else "after the method minus alone"
    title(figure, f"{result_set.title(group)}; probe of the encoder {alone}", 18)
    return figure


def _gap_on(axes: Any, result_set: ResultSet, group: GroupKey, measured: list[Row]) -> None:
    """Draw gaps with intervals, a line for each method and modality."""
    modalities, control = result_set.modalities(group), result_set.control(group)
    for k, modality in enumerate(modalities):
        shift = 0.5 * ((k + 0.5) / len(modalities) - 0.5)
        colour = PALETTE[k % len(PALETTE)]
        style = {"color": colour, "fmt": MARKERS[k % len(MARKERS)], "capsize": 2, "lw": 1.2}
        style["mfc"] = ROLES.back.light if k % 2 else colour
        for place, entry in enumerate(measured):
            row = gap_row(result_set, group, entry.label, modality)
            if row is not None and row.value is not None:
                label = modality if place == 0 else None
                axes.errorbar(row.value, place + shift, xerr=error(row), label=label, **style)
    axes.axvline(0, color=ROLES.text.light, lw=1)
    names = [short(row) + ("  control" if row.label == control else "") for row in measured]
    axes.set_yticks(range(len(measured)), names)
    axes.set_ylim(len(measured) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    unit = measure_of(result_set, group).points
    axes.set_xlabel(f"competition gap{f' in {unit}' if unit else ''}, 95 % interval")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, borderaxespad=0.1)


def draw_overview(plt: Any, result_set: ResultSet) -> Any:
    """Draw accuracy and gap of every group beside each other: the study in one picture."""
    groups = result_set.groups()
    sizes = [max(3, len(_ranked(result_set, group)), len(_measured(result_set, group))) for group in groups]
    height = sum(0.95 + 0.27 * size for size in sizes)
    figure, panels = plt.subplots(
        len(groups), 2, figsize=(2 * WIDTH, height), squeeze=False, height_ratios=sizes, layout="constrained"
    )
    for (left, right), group in zip(panels, groups, strict=True):
        _accuracy_on(left, result_set, group, _ranked(result_set, group))
        left.set_title(wrapped(f"{result_set.title(group)}; in brackets the ranks"), loc="left", fontsize=7.5)
        measured = _measured(result_set, group)
        if measured:
            _gap_on(right, result_set, group, measured)
        else:
            right.set_axis_off()
    return figure


def _heads(
    results: Path, group: GroupKey, label: str, modality: str, measure: Measure
) -> tuple[str, list[dict[str, Any]]]:
    """Return the kind of a label's head of a modality, and what it reaches on test per seed and epoch.

    Where several stages report it, the first is the one in which the encoders learn.
    """
    found: list[dict[str, Any]] = []
    kind = ""
    for cell in read_plan(results).cells:
        if cell.group != group or cell.label != label:
            continue
        history = RunFolder.open(results / cell.run).history()
        for candidate in ("own_head", "sliced"):
            name = f"{measure.name}/{candidate}/{modality}"
            rows = [row for row in history if row[2] == "test" and row[3] == name]
            if rows:
                kind = candidate
                found += [
                    {"epoch": row[1] + 1, "reached": measure.scale * row[4], "seed": cell.config.seed}
                    for row in rows
                    if row[0] == rows[0][0]
                ]
                break
    return kind, found


def draw_curves(plt: Any, result_set: ResultSet, group: GroupKey, results: Path) -> Any:
    """Draw each modality's head over the epochs, trained alone and under the baseline: competition as it happens."""
    import pandas as pd
    import seaborn as sns

    alone, modalities = result_set.alone(group), result_set.modalities(group)
    chosen = [label for label in dict.fromkeys((alone, result_set.baseline, result_set.control(group))) if label]
    measure = measure_of(result_set, group)
    curves = {(label, m): _heads(results, group, label, m, measure) for label in chosen for m in modalities}
    if not all(curves.get((label, m), ("", []))[1] for label in (alone, result_set.baseline) for m in modalities):
        return None
    width = max(WIDTH, 1.7 * len(modalities))
    figure, panels = plt.subplots(1, len(modalities), figsize=(width, 1.9), sharey=True, squeeze=False)
    for k, (axes, modality) in enumerate(zip(panels[0], modalities, strict=True)):
        for colour, dash, label in zip((*PALETTE[:2], ROLES.soft.light), ("-", "--", ":"), chosen, strict=False):
            kind, values = curves[label, modality]
            if values:
                name = f"{label} ({'sliced head' if kind == 'sliced' else 'own head'})"
                frame = pd.DataFrame(values)
                sns.lineplot(
                    frame, x="epoch", y="reached", ax=axes, color=colour, ls=dash, label=name, errorbar=("pi", 100)
                )
        axes.set_title(modality, loc="left", fontweight="bold", fontsize=8)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"test {measure.in_unit}{measure.way}" if k == 0 else "")
        axes.legend().remove()
    handles = {h.get_label(): h for axes in panels[0] for h in axes.get_lines() if not h.get_label().startswith("_")}
    figure.tight_layout(rect=(0, 0, 1, 1), w_pad=0.6)
    title(figure, f"{result_set.title(group)}; mean over seeds, band lowest to highest", 18)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.03), "ncols": 1 if width <= WIDTH else 3}
    figure.legend(handles.values(), handles.keys(), frameon=False, **place)
    return figure
