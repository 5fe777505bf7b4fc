"""What a click on a row shows: its runs, learning curves, classes, configuration, commands, provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from ..analysis.audit import AuditText
from ..analysis.measures import CLASS_WORDS
from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..dataset import base_split
from ..results.load import read_plan
from ..results.logits_key import LogitsKey, LogitsKind
from ..results.record import Circumstances, RunRecord, read_record
from ..results.run_folder import RunFolder
from ..task.units import printed_unit
from .curves import Series, drawing
from .measure import measure_of
from .numbers import figure_of, interval, level_note, named, with_sd
from .page_tables import RULES, anchor
from .render.html import findings, render, table_html
from .table import text_table

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

    records: list[RunRecord] = field(default_factory=list)
    provenance: list[Circumstances] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    scores: list[dict[str, str]] = field(default_factory=list)
    curves: dict[str, dict[str, list[Series]]] = field(default_factory=dict)


def gather(result_set: ResultSet, results: Path) -> dict[tuple[GroupKey, str], Detail]:
    """Read the runs of a study once more, for what the tables do not hold; they have been checked before."""
    found: dict[tuple[GroupKey, str], Detail] = {}
    plan, groups = read_plan(results), result_set.groups()
    for cell in sorted(plan.cells, key=lambda cell: cell.config.seed):
        group = cell.group
        if group not in groups:  # a fold of a rotation, whose folds the tables put together
            group = (group[0], base_split(group[1]), group[2], group[3])
        run = RunFolder(results / cell.run, read_record(results / cell.run))
        detail = found.setdefault((group, cell.label), Detail())
        detail.records.append(run.record)
        detail.provenance.append(run.provenance)
        detail.commands.append(list(cell.command))
        _add_curves(detail, run)
        detail.scores.append(_scores(run))
    return found


def _add_curves(detail: Detail, run: RunFolder) -> None:
    """Add what a run reaches on test in each epoch, in percent; nothing of a metric that is no fraction."""
    name_of = f"{run.record.metric.name}/"
    if run.record.metric.unit != "fraction":  # the drawing has an axis of percent
        return
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for stage, epoch, part, name, value in run.history():
        if part == "test" and name.startswith(name_of):
            lines.setdefault((stage, name.removeprefix(name_of)), []).append((epoch + 1, 100 * value))
    for (stage, name), points in lines.items():
        detail.curves.setdefault(stage, {}).setdefault(name, []).append(dict(points))


def _heads(run: RunFolder, rule: str) -> list[LogitsKey]:
    """Return the logits whose accuracy a rule gives: the fused ones, or else each modality's own head."""
    if run.scores_only:
        keys = [key for key in run.scores.own.scores if key.rule == rule]
    else:
        keys = [key for part, key, _ in run.logits() if part == "test" and key.rule == rule]
    return [key for key in keys if key == LogitsKey(rule)] or [k for k in keys if k.kind is LogitsKind.OWN_HEAD]


def _reached(run: RunFolder, key: LogitsKey) -> float:
    """Return the metric of some logits on test."""
    if run.scores_only:
        return float(run.scores.own.scores[key].mean())
    label, outputs = run.predictions["test/label"], run.predictions[key.array("test")]
    run.record.task.check_outputs(outputs, label, f"{run.name}: {key}")
    return run.record.metric.value(outputs, label)


def _scores(run: RunFolder) -> dict[str, str]:
    """Return rule -> what a run reaches on test, with the epoch that the rule picked."""
    scores = {}
    for rule in RULES:
        heads = []
        for key in _heads(run, rule):
            reached = run.record.metric.shown(_reached(run, key)).removesuffix(" %")
            heads.append(f"{key.modality} {reached}".strip())
        epochs = [str(one.epoch + 1) for one in run.record.selected.get(rule, ())]
        at = f" (epoch {', '.join(epochs)})" if epochs else ""
        scores[rule] = f"{', '.join(heads)}{at}" if heads else ""
    return scores


# ---- as HTML ---------------------------------------------------------------------------------------------------
def detail_html(result_set: ResultSet, group: GroupKey, entry: Row, detail: Detail, audit: AuditText) -> Markup:
    """Return what is known of one label, as an element that opens by itself and in the page's dialog."""
    measure = measure_of(result_set, group)
    fused = result_set.find(group, entry.label, measure.name)
    about = f"{result_set.title(group)}; {result_set.rule_words(RULES)}. {entry.remarks}".rstrip("; .") + "."
    return render(
        "details.html.j2",
        anchor=anchor(entry),
        label=entry.label,
        name=named(entry),
        title=result_set.title(group),
        result=f"{figure_of(fused)} {measure.short.removeprefix(measure.title).strip()} {interval(fused)}"
        if fused is not None
        else "no fused prediction",
        about=about,
        audit=findings(audit),
        curves=[drawing(stage, series) for stage, series in detail.curves.items()],
        numbers=_numbers(result_set, group, entry),
        **_classes(result_set, group, entry),
        runs=_runs(detail, measure.short),
        row_id=entry.row_id,
        commands="\n".join(f"mmlbench train {shlex.join(words)}" for words in detail.commands),
        configuration=_configuration(detail),
        provenance=_provenance(entry, detail),
    )


def _numbers(result_set: ResultSet, group: GroupKey, entry: Row) -> Markup:
    """Return every number of the label under the headline rule."""
    rows = [row for row in result_set.about(group, entry.label) if row.selection in (result_set.headline, "", "test")]
    rows = [row for row in rows if row.selection != "test" or row.table == "selection"]
    rows = [row for row in rows if row.table in NUMBERS]
    cells = []
    for row in rows:
        what = row.metric.replace("_", " ") + (f", {row.kind.replace('_', ' ')}" if row.kind != row.modality else "")
        unit = printed_unit(row.unit)
        minus = f"minus {row.baseline}" if row.baseline and row.metric in ("difference", "fusion_gain") else ""
        cells.append(
            [f"{what} {minus}".strip(), row.modality, with_sd(row), interval(row) + level_note(row), unit, row.row_id]
        )
    heads = ["number", "of", "value ± sd", "95 % interval", "unit", "row id"]
    return _listed("all numbers of this row", heads, cells, ["of", "unit", "row id"])


def _listed(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str]) -> Markup:
    """Return a table of text cells, nothing where it has no rows."""
    return table_html(text_table("", "", heads, rows, words), caption) if rows else Markup()


def _classes(result_set: ResultSet, group: GroupKey, entry: Row) -> dict[str, object]:
    """Return the accuracy on each class with its interval, of many classes on those that are found least."""
    rows = [row for row in result_set.of(group, "classes") if row.label == entry.label]
    about = "Share of a class's test samples that are found, in %: mean over seeds ± their standard deviation."
    if len(rows) > CLASSES:
        about += f" Of {len(rows)} classes the {CLASSES} that are found least."
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
    heads = ["class", "test samples", "found %", "95 % interval", "note"]
    return {"classes": _listed("accuracy on each class", heads, cells, ["note"]), "about_classes": about}


def _runs(detail: Detail, what: str) -> Markup:
    rules = [rule for rule in RULES if any(scores[rule] for scores in detail.scores)]
    cells = []
    for record, provenance, scores in zip(detail.records, detail.provenance, detail.scores, strict=True):
        seconds = provenance.seconds.get("train")
        spent = "" if seconds is None else f"{seconds:.0f}"
        hardware = provenance.hardware
        values = [scores[rule] for rule in rules]
        cells.append([str(record.config.seed), *values, spent, hardware, record.run])
    heads = ["seed", *(f"test {what}, epoch by {rule}" for rule in rules), "training s", "hardware", "run folder"]
    return _listed("runs of this row", heads, cells, ["hardware", "run folder"])


def _configuration(detail: Detail) -> str:
    """Return the configuration that all seeds share."""
    if not detail.records:
        return ""
    config = {key: value for key, value in detail.records[0].config.plain().items() if key != "seed"}
    return json.dumps(config, indent=1, ensure_ascii=False, sort_keys=True)


def _provenance(entry: Row, detail: Detail) -> list[tuple[str, str]]:
    facts = [("row", entry.row_id), ("configuration", entry.config_hash), ("data", entry.data_fingerprint)]
    return [*facts, ("code", entry.code_version), ("hardware", entry.hardware), *_made(entry, detail)]


def _made(entry: Row, detail: Detail) -> list[tuple[str, str]]:
    """Return what made the runs: code, packages, when; [] without runs."""
    if not detail.records:
        return []
    record = detail.records[0]
    engines = sorted({one.code.engine for one in detail.records})
    commits = sorted({(one.commit or "unknown")[:12] for one in detail.provenance})
    packages = ", ".join(f"{name} {record.packages[name]}" for name in PACKAGES if name in record.packages)
    finished = sorted(one.finished for one in detail.provenance)
    return [
        ("method's code", record.code.method),
        ("engine", ", ".join(engines)),
        ("commit", ", ".join(commits)),
        ("packages", packages),
        ("finished", finished[-1]),
        ("parameters", f"{record.parameters['total']:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")),
        ("tuning trials", str(entry.tuning_trials or 0)),
    ]
