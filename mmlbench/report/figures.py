"""The figures: accuracy with intervals, the gap per modality, and learning curves of each modality's head.

Colour-blind safe, with marker shapes beside colours; PNG, PDF and SVG with the same bytes each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..runfolder import RunFolder
from ..store import whole
from .load import read_plan
from .rows import Row
from .sheets import gap_row, named
from .view import GroupKey, View

FORMS = ("png", "pdf", "svg")
NAMES = ("accuracy-", "gap-", "curves-")
#: Wong's palette, readable with the common kinds of colour blindness; blue and vermilion also differ in grey.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#6b6b6b"
WIDTH = 6.4
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mmlbench",
    "pdf.fonttype": 42,
    "savefig.dpi": 160,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def slug(view: View, group: GroupKey) -> str:
    """Return a group's part of a file name."""
    return "-".join(re.findall(r"[A-Za-z0-9_]+", view.title(group)))


@contextmanager
def _style() -> Iterator[Any]:
    """Draw without a display, in one style, and leave the caller's settings alone."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    with plt.rc_context(), sns.axes_style("whitegrid"), sns.plotting_context("paper", font_scale=1.1):
        settings: Any = plt.rcParams
        settings.update(STYLE)
        yield plt
    plt.close("all")


def write_figures(view: View, results: Path) -> dict[GroupKey, dict[str, Path]]:
    """Draw every figure of a study; return group -> name -> the SVG's path."""
    draw: dict[str, Callable[[Any, View, GroupKey, Path], Any]] = {
        "accuracy": draw_accuracy,
        "gap": draw_gap,
        "curves": draw_curves,
    }
    drawn: dict[GroupKey, dict[str, Path]] = {}
    with _style() as plt:
        for group in view.groups():
            for name, make in draw.items():
                figure = make(plt, view, group, results)
                if figure is not None:
                    path = results / "figures" / f"{name}-{slug(view, group)}"
                    drawn.setdefault(group, {})[name] = _save(figure, path)
                    plt.close(figure)
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


def _error(row: Row) -> list[list[float]] | None:
    """Return the interval of a row as matplotlib's asymmetric error, in percent or points."""
    if row.value is None or row.ci_low is None or row.ci_high is None:
        return None
    scale = 100 if row.unit == "fraction" else 1
    return [[scale * (row.value - row.ci_low)], [scale * (row.ci_high - row.value)]]


def draw_accuracy(plt: Any, view: View, group: GroupKey, results: Path) -> Any:
    """Draw the fused accuracies with their intervals, best at the top; None where there is none."""
    del results
    rows = [row for row in view.entries(group) if row.kind == "fused" and row.value is not None]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 1.3 + 0.36 * len(rows)))
    for place, row in enumerate(rows):
        first = row.rank_group == 1
        colour = GREY if row.rank_group is None else BLUE if first else VERMILION
        axes.errorbar(
            100 * (row.value or 0.0),
            place,
            xerr=_error(row),
            fmt="o" if first else "s" if row.rank_group else "D",
            color=colour,
            mfc=colour if row.rank_group else "white",
            capsize=3,
        )
    bayes = view.bayes(group).get("fused")
    if bayes is not None:
        axes.axvline(100 * bayes, color="black", ls="--", lw=1)
        text = axes.text(100 * bayes, -0.75, "Bayes ", ha="right", va="center", fontsize=8)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    labels = [f"{named(row)}{f'  ({row.rank_group})' if row.rank_group else '  control'}" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -1.0 if bayes is not None else -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("test accuracy in %, 95 % interval")
    axes.set_title(
        f"{view.title(group)}: in brackets the group, 1 = not separable from the best", loc="left", fontsize=9
    )
    return figure


def draw_gap(plt: Any, view: View, group: GroupKey, results: Path) -> Any:
    """Draw the competition gap of each modality with its interval; None where there is none."""
    del results
    modalities = view.modalities(group)
    labels = [row for row in view.entries(group) if gap_row(view, group, row.label, "mean")]
    measured = [row for row in labels if not _is_zero(gap_row(view, group, row.label, "mean"))]
    if not measured:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 1.5 + 0.42 * len(measured)))
    for k, modality in enumerate(modalities):
        shift = 0.5 * ((k + 0.5) / len(modalities) - 0.5)
        style = {"color": PALETTE[k % len(PALETTE)], "fmt": MARKERS[k % len(MARKERS)], "capsize": 3}
        for place, entry in enumerate(measured):
            row = gap_row(view, group, entry.label, modality)
            if row is not None and row.value is not None:
                label = modality if place == 0 else None
                axes.errorbar(row.value, place + shift, xerr=_error(row), label=label, **style)
    axes.axvline(0, color="black", lw=1)
    control = view.control(group)
    axes.set_yticks(
        range(len(measured)), [named(row) + ("  control" if row.label == control else "") for row in measured]
    )
    axes.set_ylim(len(measured) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("competition gap in points, 95 % interval")
    axes.set_title(
        f"{view.title(group)}: probe of the encoder trained alone − after the method", loc="left", fontsize=9
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure


def _is_zero(row: Row | None) -> bool:
    return row is not None and "by construction" in row.note


def _heads(results: Path, group: GroupKey, label: str, modality: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the kind of a label's head of a modality, and its test accuracy per seed and epoch.

    Where several stages report it, the first is the one in which the encoders learn.
    """
    found: list[dict[str, Any]] = []
    kind = ""
    for cell in read_plan(results)["cells"]:
        config = cell["config"]
        if (config["dataset"], config["split"], config["recipe"]["name"], cell["encoder"]) != group:
            continue
        if cell["label"] != label:
            continue
        history = RunFolder.open(results / cell["run"]).history()
        for candidate in ("own_head", "sliced"):
            name = f"accuracy/{candidate}/{modality}"
            rows = [row for row in history if row[2] == "test" and row[3] == name]
            if rows:
                kind = candidate
                found += [
                    {"epoch": row[1] + 1, "accuracy": 100 * row[4], "seed": config["seed"]}
                    for row in rows
                    if row[0] == rows[0][0]
                ]
                break
    return kind, found


def draw_curves(plt: Any, view: View, group: GroupKey, results: Path) -> Any:
    """Draw each modality's head over the epochs, trained alone and under the baseline: competition as it happens."""
    import pandas as pd
    import seaborn as sns

    alone, modalities = view.alone(group), view.modalities(group)
    chosen = [label for label in dict.fromkeys((alone, view.baseline, view.control(group))) if label]
    curves = {(label, m): _heads(results, group, label, m) for label in chosen for m in modalities}
    if not all(curves.get((label, m), ("", []))[1] for label in (alone, view.baseline) for m in modalities):
        return None
    width = max(WIDTH, 3.0 * len(modalities))
    figure, panels = plt.subplots(1, len(modalities), figsize=(width, 3.0), sharey=True, squeeze=False)
    for k, (axes, modality) in enumerate(zip(panels[0], modalities, strict=True)):
        for colour, dash, label in zip((BLUE, VERMILION, GREY), ("-", "--", ":"), chosen, strict=False):
            kind, values = curves[label, modality]
            if values:
                name = f"{label} ({'sliced head' if kind == 'sliced' else 'own head'})"
                frame = pd.DataFrame(values)
                sns.lineplot(
                    frame, x="epoch", y="accuracy", ax=axes, color=colour, ls=dash, label=name, errorbar=("pi", 100)
                )
        axes.set_title(modality, loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        axes.set_ylabel("test accuracy of its head in %" if k == 0 else "")
        axes.legend().remove()
    handles = {h.get_label(): h for axes in panels[0] for h in axes.get_lines() if not h.get_label().startswith("_")}
    figure.legend(
        handles.values(), handles.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=3, frameon=False
    )
    said = f"{view.title(group)}: mean over seeds, band from the lowest to the highest seed"
    figure.suptitle(said, x=0.02, y=0.95, ha="left", fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1.03))
    return figure
