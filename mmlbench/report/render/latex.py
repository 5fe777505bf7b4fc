"""Tables as LaTeX: booktabs rules, intervals under their values, what can be best is marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from unicodedata import normalize

from ..table import Column, Output, RankRange, Shown, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "\N{NARROW NO-BREAK SPACE}": r"\,",
}  # fmt: skip
_MARK = r"$^{\bullet}$"


def latex_text(text: str) -> str:
    """Escape text from data for LaTeX; characters that a plain engine lacks become '?'."""
    escaped = "".join(_LATEX.get(c) or (c if c.isascii() or _accented(c) else "?") for c in " ".join(text.split()))
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped  # or \\ would take it for its option


def _accented(c: str) -> bool:
    """Whether a character is a letter of western print: ASCII with an accent, or one of a few of its own."""
    return c in "ßæøåÆØÅœŒłŁ" or (c < "\u0180" and c.isalpha() and normalize("NFD", c)[0].isascii())


def latex(tables: Sequence[Table[Any]]) -> str:
    """Return one table float each; needs \\usepackage{booktabs,graphicx}."""
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    for whole in tables:
        table = whole.printed(Output.LATEX)
        label = "-".join(re.findall(r"[a-z0-9]+", table.title.lower()))
        aligned = "".join("l" if column.words else "r" for column in table.columns)
        marked = any(_place(table.columns, row) for row in table.rows)
        lines += [
            r"\begin{table}[tb]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{latex_text(table.name.replace('_', ' '))}: {latex_text(table.title)}.}}",
            rf"\label{{tab:{table.name}-{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{aligned}}}",
            r"\toprule",
            " & ".join(_heading(column) for column in table.columns) + r" \\",
            r"\midrule",
            *_rows(table.columns, table.rows),
        ]
        if apart := [*table.apart, *table.foot]:
            lines += [r"\midrule", *_rows(table.columns, apart)]
        notes = " ".join(map(latex_text, table.notes)) + (
            f" {_MARK} no better method is separated." if marked else ""
        )
        lines += [
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\par\smallskip\raggedright\scriptsize {notes}",
            r"\end{table}",
            "",
        ]
    return "\n".join(lines)


def _heading(column: Column[Any]) -> str:
    """Return a heading, broken at the space nearest to its middle where it is long."""
    halves = [latex_text(half) for half in column.heading]
    side = "l" if column.words else "r"
    return halves[0] if len(halves) == 1 else rf"\shortstack[{side}]{{{halves[0]}\\{halves[1]}}}"


def _place(columns: Sequence[Column[Any]], row: Any) -> int | None:
    """Return the best rank that a row can have, None where it has none."""
    found = [value.low for column in columns if isinstance(value := column.value(row), RankRange) and value.ranked]
    return next(iter(found), None)


def _rows(columns: Sequence[Column[Any]], rows: Sequence[Any]) -> list[str]:
    """Return the lines of a table's body; rows that can be best are marked, others set apart."""
    lines: list[str] = []
    before = None
    for row in rows:
        place = _place(columns, row)
        if lines:
            lines.append(r"\addlinespace[6pt]" if place != before else r"\addlinespace[1pt]")
        before = place
        first, *rest = columns
        cells = [latex_text(str(first.shown(row))) + (_MARK if place == 1 else "")]
        cells += [_cell(column.shown(row)) for column in rest]
        lines.append(" & ".join(cells) + r" \\")
    return lines


def _cell(shown: Shown) -> str:
    """Return a cell; what is small stands under the value."""
    if not shown.small or not shown.text:
        return latex_text(str(shown))
    under = latex_text(" ".join(shown.small)).removeprefix("{}")
    return (
        rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{latex_text(shown.text)}\\[-2pt]\scriptsize {{}}{under}\end{{tabular}}"
    )
