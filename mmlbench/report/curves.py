"""Learning curves as small drawings that take the page's colours; one panel a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..storage.words import plural
from .colours import SERIES
from .render.html import render

#: Epoch -> accuracy in percent, of one seed.
Series = dict[int, float]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 300, 150, 30, 22, 8
#: More points than this are thinned: no screen shows them.
POINTS = 60


def drawing(stage: str, lines: Mapping[str, Sequence[Series]]) -> Markup:
    """Return one stage's curves, with a legend in text; mean over seeds, band from the lowest to the highest."""
    epochs = sorted({epoch for seeds in lines.values() for series in seeds for epoch in series})
    values = [value for seeds in lines.values() for series in seeds for value in series.values()]
    if not epochs:
        return Markup()
    low, high = 10 * int(min(values) // 10), 10 * (int(max(values) // 10) + 1)
    kept = (
        epochs
        if len(epochs) <= POINTS
        else [epochs[round(k * (len(epochs) - 1) / (POINTS - 1))] for k in range(POINTS)]
    )
    scale = _Scale(epochs[0], epochs[-1], low, min(high, 100))
    parts = [_axes(scale)]
    for k, seeds in enumerate(lines.values()):
        parts.append(_band(scale, k, seeds, kept))
    for k, seeds in enumerate(lines.values()):
        parts.append(_mean(scale, k, seeds, kept))
    label = f"{stage}: accuracy on test over {plural(len(epochs), 'epoch')}, from {low} to {min(high, 100)} %"
    return render(
        "curve.html.j2",
        stage=stage,
        label=label,
        width=WIDTH,
        height=HEIGHT,
        paths=Markup("".join(parts)),  # numbers and class names only
        names=list(lines),
        styles=len(SERIES),
    )


class _Scale:
    """Epochs and percents to pixels."""

    def __init__(self, first: int, last: int, low: float, high: float) -> None:
        self.first, self.last, self.low, self.high = first, last, low, max(high, low + 1)

    def x(self, epoch: int) -> float:
        share = (epoch - self.first) / max(self.last - self.first, 1)
        return round(LEFT + 4 + share * (WIDTH - LEFT - 12), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def _axes(scale: _Scale) -> str:
    step = 10 if scale.high - scale.low <= 50 else 20
    ticks = range(int(scale.low), int(scale.high) + 1, step)
    parts = [f'<path class="grid" d="M{LEFT} {scale.y(t)}H{WIDTH - 4}"/>' for t in ticks]
    parts += [f'<text x="{LEFT - 4}" y="{scale.y(t) + 3.5}" text-anchor="end">{t}</text>' for t in ticks]
    ends = {scale.first: "start", scale.last: "end"}
    for epoch, side in ends.items():
        at = f"epoch {epoch}" if epoch == scale.last else str(epoch)
        parts.append(f'<text x="{scale.x(epoch)}" y="{HEIGHT - 6}" text-anchor="{side}">{at}</text>')
    return "".join(parts)


def _series(k: int) -> str:
    """Return the class of a line, which gives its colour and dash in the page's sheet."""
    return f"series-{k % len(SERIES) + 1}"


def _there(seeds: Sequence[Series], epoch: int) -> list[float]:
    return [series[epoch] for series in seeds if epoch in series]


def _band(scale: _Scale, k: int, seeds: Sequence[Series], epochs: Sequence[int]) -> str:
    at = [(epoch, found) for epoch in epochs if (found := _there(seeds, epoch))]
    if len(seeds) < 2 or not at:
        return ""
    up = [f"{scale.x(epoch)} {scale.y(max(found))}" for epoch, found in at]
    down = [f"{scale.x(epoch)} {scale.y(min(found))}" for epoch, found in reversed(at)]
    return f'<path class="band {_series(k)}" d="M{"L".join([*up, *down])}Z"/>'


def _mean(scale: _Scale, k: int, seeds: Sequence[Series], epochs: Sequence[int]) -> str:
    at = [(epoch, found) for epoch in epochs if (found := _there(seeds, epoch))]
    steps = [f"{scale.x(epoch)} {scale.y(sum(found) / len(found))}" for epoch, found in at]
    if len(steps) == 1:  # a stage of one epoch: a dot
        x, y = steps[0].split()
        return f'<circle class="{_series(k)}" cx="{x}" cy="{y}" r="3"/>'
    return f'<path class="{_series(k)}" d="M{"L".join(steps)}"/>'
