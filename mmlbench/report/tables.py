"""results/tables: accuracy, gaps, cost, further measures, noise, overall; as csv, Markdown and LaTeX (booktabs)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import COLUMNS, Row, to_csv
from ..storage.atomic import write_text
from .latex import latex
from .more_sheets import measures_sheet, overall_sheet, reliance_sheet, robustness_sheet
from .sheets import Sheet, accuracy_sheet, cost_sheet, gap_row, gap_sheet

_GROUP = ("dataset", "split", "recipe", "encoder", "label", "method", "params")
_VALUE = ("value", "sd", "ci_low", "ci_high")
_P = ("p_value", "p_adjusted")
_MARKDOWN = "\\`*_|#"


#: What stands in a table that this study has nothing for, and how to get it.
ABSENT = {
    "competition_gap": "Not measured: nothing was trained alone. Add unimodal to the methods of the config.",
    "measures": "Nothing to measure: no method here has a fused prediction. Add another one than unimodal.",
    "reliance": "Not measured: it takes a method with a fused prediction, on two to six modalities.",
    "robustness": "Not measured: off by default. Add `robustness: true` to the config and run it again: the "
    "stored weights are tested under noise (docs/config.md). Of tuned runs it is measured by `mmlbench robustness`.",
    "overall": "Nothing to compare: it takes two datasets with two methods in common.",
}


def write_tables(view: ResultSet, folder: Path) -> list[Path]:
    """Write the tables in three forms each; return their paths."""
    makers: dict[str, tuple[Callable[[ResultSet, GroupKey], Sheet | None], str]] = {
        "accuracy": (accuracy_sheet, accuracy_csv(view)),
        "competition_gap": (gap_sheet, gap_csv(view)),
        "cost": (cost_sheet, _cost_csv(view)),
        "measures": (measures_sheet, long_csv(view, ("measures", "fusion_gain", "classes"))),
        "reliance": (reliance_sheet, long_csv(view, ("reliance", "subsets"))),
        "robustness": (robustness_sheet, long_csv(view, ("robustness",))),
        "overall": (lambda view, group: None, long_csv(view, ("overall",))),
    }
    written = []
    overall = [sheet for sheet in [overall_sheet(view)] if sheet]
    for name, (make, text) in makers.items():
        sheets = [sheet for group in view.groups() if (sheet := make(view, group)) is not None]
        sheets += overall if name == "overall" else []
        forms = {"csv": text, "md": markdown(sheets), "tex": latex(sheets)}
        if not sheets:  # the csv keeps its heading, so that whoever reads it finds no rows
            forms |= {"md": f"{ABSENT[name]}\n", "tex": f"% {ABSENT[name]}\n"}
        for form, content in forms.items():
            written.append(folder / f"{name}.{form}")
            write_text(written[-1], content)
    return written


# ---- csv -------------------------------------------------------------------------------------------------------
def _values(row: Row | None, names: tuple[str, ...] = _VALUE) -> list[float | None]:
    return [getattr(row, name) if row is not None else None for name in names]


def accuracy_csv(view: ResultSet) -> str:
    """Return one line per label: accuracy and the differences to baseline and ensemble, under the headline rule."""
    columns = [*_GROUP, "selection", "rank_group", *(f"accuracy_{v}" for v in _VALUE)]
    columns += [f"{to}_{v}" for to in ("baseline", "ensemble") for v in ("label", *_VALUE, *_P)]
    columns += ["bayes", "optimism", "resolution", "far_seeds", "n_seeds", "n_test", "note"]
    lines = []
    for group in view.groups():
        names = [view.baseline, view.ensemble(group)]
        resolution = view.resolution(group)
        for entry in view.entries(group):
            fused = view.find(group, entry.label, "accuracy")
            line: list[object] = [*group, entry.label, entry.method, entry.params, view.headline]
            line += [fused.rank_group if fused else None, *_values(fused)]
            for name in names:
                difference = view.find(group, entry.label, "difference", baseline=name) if name else None
                line += [name if difference else "", *_values(difference), *_values(difference, _P)]
            optimism = view.find(group, entry.label, "optimism", table="selection", selection="test")
            line += [view.bayes(group).get("fused"), optimism.value if optimism else None]
            line += [resolution.value if resolution else None, fused.far_seeds if fused else ""]
            line += [entry.n_seeds, entry.n_test, (fused or entry).remarks]
            lines.append(line)
    return to_csv(columns, lines)


def gap_csv(view: ResultSet) -> str:
    """Return one line per label and modality: gap, gap minus control, retained share."""
    metrics = ("gap", "gap_minus_control", "retained")
    columns = [*_GROUP, "modality", "selection", *(f"{metric}_{v}" for metric in metrics for v in _VALUE)]
    columns += [*(f"gap_{p}" for p in _P), "resolution", "n_seeds", "n_test", "note"]
    lines = []
    for group in view.groups():
        resolution = view.resolution(group, "competition_gap")
        for entry in view.entries(group):
            for modality in (*view.modalities(group), "mean", "worst"):
                found = [gap_row(view, group, entry.label, modality, metric) for metric in metrics]
                if found[0] is None:
                    continue
                line: list[object] = [*group, entry.label, entry.method, entry.params, modality, view.headline]
                line += [value for row in found for value in _values(row)]
                line += [*_values(found[0], _P), resolution.value if resolution else None]
                lines.append([*line, found[0].n_seeds, found[0].n_test, found[0].remarks])
    return to_csv(columns, lines)


def long_csv(view: ResultSet, tables: tuple[str, ...]) -> str:
    """Return the rows of some tables as all_tables.csv has them."""
    return to_csv(COLUMNS, ([getattr(r, name) for name in COLUMNS] for r in view.rows if r.table in tables))


def _cost_csv(view: ResultSet) -> str:
    columns = list(view.cost[0]) if view.cost else []
    return to_csv(columns, [[row[name] for name in columns] for row in view.cost])


# ---- Markdown --------------------------------------------------------------------------------------------------
def markdown_text(text: str) -> str:
    """Escape text from data for Markdown, in a table cell or outside; HTML in it becomes text."""
    special = _MARKDOWN + "[]!" if "](" in text else _MARKDOWN  # brackets alone are our intervals
    escaped = "".join(f"\\{c}" if c in special else c for c in " ".join(text.split()).replace("&", "&amp;"))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def markdown_table(sheet: Sheet) -> list[str]:
    """Return the lines of a sheet as a Markdown table; rows apart come last, in italics."""
    lines = [_line(map(markdown_text, sheet.columns)), _line(["---", *["---:"] * (len(sheet.columns) - 1)])]
    lines += [_line(map(markdown_text, row)) for row in sheet.rows]
    return lines + [_line(f"*{markdown_text(cell)}*" if cell else "" for cell in row) for row in sheet.apart]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(sheets: list[Sheet]) -> str:
    """Return sheets as Markdown, notes below each."""
    lines: list[str] = []
    for sheet in sheets:
        lines += [f"## {markdown_text(sheet.title)}", "", *markdown_table(sheet), ""]
        lines += [line for note in sheet.notes for line in (markdown_text(note), "")]
    return "\n".join(lines)
