"""Accuracy under noise as the figure draws it and the table prints it: curves read from the rows of `robustness`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..storage.words import plural
from ..task.units import printed_scale
from .colours import ROLES
from .figure_parts import MARKERS, PALETTE, WIDTH, error, short, title
from .measure import measure_of

#: How the noise was given, as the metrics call it -> in words.
WHEN = {"noise": "at test", "noise_in_training": "in training and test"}
_METRIC = re.compile(r"(\w+)@(noise|noise_in_training)(?:=(.+))?")
#: A figure draws so many rows and the baseline: each has a colour, a marker and a dash of its own.
CURVES = 12
DASHES = ("-", "--", ":")


@dataclass
class Curve:
    """Accuracies of one label under noise on one modality, by strength, and the area under them."""

    entry: Row
    modality: str
    when: str
    points: dict[float, Row]
    area: Row | None = None


def curves_of(result_set: ResultSet, group: GroupKey) -> list[Curve]:
    """Return the curves of a group: by how the noise was given, by modality, best label first."""
    found: dict[tuple[str, str, str], Curve] = {}
    entries = {entry.label: entry for entry in result_set.entries(group)}
    for row in result_set.of(group, "robustness"):
        read = _METRIC.fullmatch(row.metric)
        if read is None or row.label not in entries:
            continue
        curve = Curve(entries[row.label], row.modality, WHEN[read[2]], {})
        curve = found.setdefault((read[2], row.modality, row.label), curve)
        if read[1] == "area":
            curve.area = row
        else:
            curve.points[float(read[3])] = row
    order = {label: place for place, label in enumerate(entries)}
    keys = sorted(found, key=lambda key: (list(WHEN).index(key[0]), _place(result_set, group, key[1]), order[key[2]]))
    return [found[key] for key in keys]


def _place(result_set: ResultSet, group: GroupKey, modality: str) -> int:
    known = result_set.modalities(group)
    return known.index(modality) if modality in known else len(known)


def draw_robustness(plt: Any, result_set: ResultSet, group: GroupKey, results: Path) -> Any:
    """Draw the metric over the strength of noise, a panel for each modality; None where none was measured."""
    del results
    curves = curves_of(result_set, group)
    if not curves:
        return None
    every = list(dict.fromkeys(curve.entry.label for curve in curves))
    shown = set(every[:CURVES]) | {curve.entry.label for curve in curves if curve.entry.label == result_set.baseline}
    curves = [curve for curve in curves if curve.entry.label in shown]
    measure = measure_of(result_set, group)
    places = list(dict.fromkeys((curve.when, curve.modality) for curve in curves))
    labels = list(dict.fromkeys(curve.entry.label for curve in curves))
    width = max(WIDTH, 1.7 * len(places))
    figure, panels = plt.subplots(1, len(places), figsize=(width, 1.9), sharey=True, squeeze=False)
    for k, (axes, place) in enumerate(zip(panels[0], places, strict=True)):
        for curve in curves:
            if (curve.when, curve.modality) == place:
                _curve_on(axes, curve, labels.index(curve.entry.label))
        axes.set_title(place[1], loc="left", fontweight="bold", fontsize=8)
        axes.set_xlabel(f"noise {place[0]}, sd of inputs")
        axes.set_ylabel(f"test {measure.in_unit}{measure.way}" if k == 0 else "")
    handles = {line.get_label(): line for axes in panels[0] for line in axes.containers}
    figure.tight_layout(rect=(0, 0, 1, 1), w_pad=0.6)
    beside = f" and {result_set.baseline}" if len(shown) > CURVES else ""
    hidden = f"; the first {CURVES} of {plural(len(every), 'row')}{beside}"
    left = hidden if len(every) > len(shown) else ""
    title(figure, f"{result_set.title(group)}; additive noise on one modality, 95 % intervals{left}", 18)
    columns = 2 if width <= WIDTH else 3
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.03), "ncols": columns, "frameon": False}
    figure.legend(handles.values(), handles.keys(), **below)
    return figure


def _curve_on(axes: Any, curve: Curve, place: int) -> None:
    """Draw one label's curve, in the colour, marker and dash of its place among the labels."""
    style: dict[str, Any] = {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}
    style |= {
        "ls": DASHES[place // len(PALETTE) % len(DASHES)],
        "ms": 3.5,
        "mfc": ROLES.back.light if place % 2 else None,
    }
    known = [(strength, row) for strength, row in sorted(curve.points.items()) if row.value is not None]
    ends = [error(row) or [[0.0], [0.0]] for _, row in known]
    spread = [[end[side][0] for end in ends] for side in (0, 1)]
    values = [printed_scale(row.unit) * (row.value or 0.0) for _, row in known]
    axes.errorbar([s for s, _ in known], values, yerr=spread, label=short(curve.entry), lw=1, capsize=1.5, **style)
