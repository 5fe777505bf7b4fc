"""What a click on a row shows: its runs, learning curves, classes, configuration, commands, provenance."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..analysis.measures import CLASS_WORDS
from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..dataset import base_split
from ..results.load import read_plan
from ..results.run_folder import RunFolder
from ..results.score import correct
from ..storage.atomic import read_json
from . import html
from .boards import RULES, anchor
from .curves import Series, drawing
from .html import text
from .numbers import figure_of, interval, percent, with_sd
from .sheets import level_note, named

#: So many classes are listed; of more, those with the lowest recall.
CLASSES = 40
#: Tables whose rows are listed one by one; classes have a list of their own, subsets stand in the tables.
NUMBERS = ("accuracy", "competition_gap", "selection", "bayes", "measures", "fusion_gain", "reliance", "robustness")
#: Packages whose version can move a number.
PACKAGES = ("python", "torch", "torchvision", "torchaudio", "numpy")


@dataclass
class Detail:
    """The runs of a label within a group, read for the page.

    Attributes:
        records, provenance, commands: one a run, by seed. scores: of each run, rule -> its test accuracies in words.
        curves: stage -> logits -> seed -> test accuracies.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    provenance: list[dict[str, Any]] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    scores: list[dict[str, str]] = field(default_factory=list)
    curves: dict[str, dict[str, list[Series]]] = field(default_factory=dict)


def gather(view: ResultSet, results: Path) -> dict[tuple[GroupKey, str], Detail]:
    """Read the runs of a study once more, for what the tables do not hold; they have been checked before."""
    found: dict[tuple[GroupKey, str], Detail] = {}
    plan, groups = read_plan(results), view.groups()
    for cell in sorted(plan["cells"], key=lambda cell: cell["config"]["seed"]):
        config = cell["config"]
        group = (config["dataset"], config["split"], config["recipe"]["name"], cell["encoder"])
        if group not in groups:  # a fold of a rotation, whose folds the tables put together
            group = (group[0], base_split(group[1]), *group[2:])
        folder = results / cell["run"]
        run = RunFolder(folder, read_json(folder / "run.json"))
        detail = found.setdefault((group, cell["label"]), Detail())
        detail.records.append(run.record)
        detail.provenance.append(run.provenance)
        detail.commands.append(list(cell["command"]))
        _add_curves(detail, run)
        detail.scores.append(_scores(run))
    return found


def _add_curves(detail: Detail, run: RunFolder) -> None:
    """Add a run's test accuracies per epoch, in percent."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for stage, epoch, part, name, value in run.history():
        if part == "test" and name.startswith("accuracy/"):
            lines.setdefault((stage, name.removeprefix("accuracy/")), []).append((epoch + 1, 100 * value))
    for (stage, name), points in lines.items():
        detail.curves.setdefault(stage, {}).setdefault(name, []).append(dict(points))


def _heads(run: RunFolder, rule: str) -> list[str]:
    """Return the logits whose accuracy a rule gives: the fused ones, or else each modality's own head."""
    start = f"{rule}/test/"
    heads = [key.removeprefix(start) for key in run.predictions if key.startswith(start) and "@" not in key]
    return [name for name in heads if name == "fused"] or [name for name in heads if name.startswith("own_head/")]


def _scores(run: RunFolder) -> dict[str, str]:
    """Return rule -> a run's accuracy on test in percent, with the epoch that the rule picked."""
    label, scores = run.predictions["test/label"], {}
    for rule in RULES:
        said = []
        for name in _heads(run, rule):
            right = correct(run.predictions[f"{rule}/test/{name}"], label, f"{run.name}: {rule} {name}")
            said.append(f"{name.partition('/')[2]} {percent(float(right.mean()))}".strip())
        epochs = [str(one["epoch"] + 1) for one in run.record["selected"].get(rule) or ()]
        at = f" (epoch {', '.join(epochs)})" if epochs else ""
        scores[rule] = f"{', '.join(said)}{at}" if said else ""
    return scores


# ---- as HTML ---------------------------------------------------------------------------------------------------
def detail_html(view: ResultSet, group: GroupKey, entry: Row, detail: Detail, audit: list[str]) -> str:
    """Return what is known of one label, as an element that opens by itself and in the page's dialog."""
    fused = view.find(group, entry.label, "accuracy")
    said = f"{figure_of(fused)} % {interval(fused)}" if fused is not None else "no fused prediction"
    parts = [
        html.paragraphs(
            [f"{view.title(group)}; {view.rule_words(RULES)}. {entry.remarks}".rstrip("; .") + "."], "soft"
        )
    ]
    parts += [html.findings(audit)]
    parts += [_curves(detail), _numbers(view, group, entry), _classes(view, group, entry), _runs(detail)]
    parts += [_commands(entry, detail), _configuration(detail), _provenance(entry, detail)]
    body = "\n".join(part for part in parts if part)
    summary = f"{html.label(named(entry))} <small>{text(said)}</small>"
    return (
        f'<details class="one" id="{anchor(entry)}" data-title="{text(f"{named(entry)} on {view.title(group)}")}">\n'
        f'<summary>{summary}</summary>\n<div class="body">\n{body}\n</div>\n</details>'
    )


def _curves(detail: Detail) -> str:
    if not detail.curves:
        return ""
    drawings = "".join(drawing(stage, series) for stage, series in detail.curves.items())
    said = "Accuracy on test in % over the epochs: mean over seeds, band from the lowest to the highest seed."
    return f'<h4>Learning curves</h4><div class="curves">{drawings}</div>{html.paragraphs([said], "soft")}'


def _numbers(view: ResultSet, group: GroupKey, entry: Row) -> str:
    """Return every number of the label under the headline rule."""
    rows = [row for row in view.about(group, entry.label) if row.selection in (view.headline, "", "test")]
    rows = [row for row in rows if row.selection != "test" or row.table == "selection"]
    rows = [row for row in rows if row.table in NUMBERS]
    cells = []
    for row in rows:
        what = row.metric.replace("_", " ") + (f", {row.kind.replace('_', ' ')}" if row.kind != row.modality else "")
        unit = "%" if row.unit == "fraction" else row.unit
        minus = f"minus {row.baseline}" if row.baseline and row.metric in ("difference", "fusion_gain") else ""
        cells.append(
            [f"{what} {minus}".strip(), row.modality, with_sd(row), interval(row) + level_note(row), unit, row.row_id]
        )
    head = ["number", "of", "value ± sd", "95 % interval", "unit", "row id"]
    return f"<h4>Numbers</h4>{html.plain_table(head, cells, 'all numbers of this row')}" if cells else ""


def _classes(view: ResultSet, group: GroupKey, entry: Row) -> str:
    """Return the accuracy on each class with its interval, of many classes on those that are found least."""
    rows = [row for row in view.of(group, "classes") if row.label == entry.label]
    if not rows:
        return ""
    said = "Share of a class's test samples that are found, in %: mean over seeds ± their standard deviation."
    if len(rows) > CLASSES:
        said += f" Of {len(rows)} classes the {CLASSES} that are found least."
        rows = sorted(rows, key=lambda row: 2.0 if row.value is None else row.value)[:CLASSES]
    cells = [
        [
            row.modality.removeprefix("class="),
            str(row.n_test or 0),
            with_sd(row),
            interval(row),
            CLASS_WORDS[row.class_state],
        ]
        for row in rows
    ]
    head = ["class", "test samples", "found %", "95 % interval", "note"]
    table = html.plain_table(head, cells, "accuracy on each class")
    return f"<h4>Per class</h4>{table}{html.paragraphs([said], 'soft')}"


def _runs(detail: Detail) -> str:
    if not detail.records:
        return html.paragraphs(["This row has no runs of its own; it is computed from those of others."], "soft")
    rules = [rule for rule in RULES if any(scores[rule] for scores in detail.scores)]
    cells = []
    for record, provenance, scores in zip(detail.records, detail.provenance, detail.scores, strict=True):
        seconds = provenance.get("seconds", {}).get("train")
        spent = "" if seconds is None else f"{seconds:.0f}"
        hardware = str(provenance.get("hardware") or "")
        values = [scores[rule] for rule in rules]
        cells.append([str(record["config"]["seed"]), *values, spent, hardware, str(record["run"])])
    head = ["seed", *(f"test accuracy %, epoch by {rule}" for rule in rules), "training s", "hardware", "run folder"]
    return f"<h4>Runs</h4>{html.plain_table(head, cells, 'runs of this row')}"


def _commands(entry: Row, detail: Detail) -> str:
    again = f"mmlbench reproduce {entry.row_id}"
    lines = [f"mmlbench train {shlex.join(words)}" for words in detail.commands]
    if not lines:
        return f'<h4>Make it again</h4><p><code class="copy">{text(again)}</code></p>'
    each = html.folded("The commands of the single runs", f"<pre>{chr(10).join(map(text, lines))}</pre>")
    return f'<h4>Make it again</h4><p><code class="copy">{text(again)}</code></p>{each}'


def _configuration(detail: Detail) -> str:
    """Return the configuration that all seeds share."""
    if not detail.records:
        return ""
    config = {key: value for key, value in detail.records[0]["config"].items() if key != "seed"}
    shown = json.dumps(config, indent=1, ensure_ascii=False, sort_keys=True)
    lines = "\n".join(text_line(line) for line in shown.splitlines())
    return f"<h4>Configuration</h4><pre>{lines}</pre>"


def text_line(line: str) -> str:
    """Escape a line whose indentation counts."""
    return line[: len(line) - len(line.lstrip())] + text(line)


def _provenance(entry: Row, detail: Detail) -> str:
    facts = [("row", entry.row_id), ("configuration", entry.config_hash), ("data", entry.data_fingerprint)]
    facts += [("code", entry.code_version), ("hardware", entry.hardware), *_made(entry, detail)]
    terms = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts if value)
    return f"<h4>Provenance</h4><dl>{terms}</dl>"


def _made(entry: Row, detail: Detail) -> list[tuple[str, str]]:
    """Return what made the runs: code, packages, when; [] without runs."""
    if not detail.records:
        return []
    record = detail.records[0]
    engines = sorted({one["code"]["engine"] for one in detail.records})
    commits = sorted({str(one.get("commit") or "unknown")[:12] for one in detail.provenance})
    packages = ", ".join(f"{name} {record['packages'][name]}" for name in PACKAGES if name in record["packages"])
    finished = sorted(str(one.get("finished") or "") for one in detail.provenance)
    return [
        ("method's code", str(record["code"]["method"])),
        ("engine", ", ".join(engines)),
        ("commit", ", ".join(commits)),
        ("packages", packages),
        ("finished", finished[-1]),
        ("parameters", f"{record['parameters']['total']:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")),
        ("tuning trials", str(entry.tuning_trials or 0)),
    ]
