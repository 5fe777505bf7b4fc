"""Sheets as LaTeX: booktabs rules, intervals under their values, rank groups set apart and marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from unicodedata import normalize

from .sheets import Sheet

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "\N{NARROW NO-BREAK SPACE}": r"\,",
}  # fmt: skip
_INTERVAL = "95 % interval"
#: A heading longer than this is broken over two lines.
_WIDE = 9
_MARK = r"$^{\bullet}$"


def latex_text(text: str) -> str:
    """Escape text from data for LaTeX; characters that a plain engine lacks become '?'."""
    escaped = "".join(_LATEX.get(c) or (c if c.isascii() or _accented(c) else "?") for c in " ".join(text.split()))
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped  # or \\ would take it for its option


def _accented(c: str) -> bool:
    """Whether a character is a letter of western print: ASCII with an accent, or one of a few of its own."""
    return c in "ßæøåÆØÅœŒłŁ" or (c < "\u0180" and c.isalpha() and normalize("NFD", c)[0].isascii())


def latex(sheets: list[Sheet]) -> str:
    """Return one table float per sheet; needs \\usepackage{booktabs,graphicx}."""
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    for sheet in sheets:
        columns, rows, apart = _stacked(sheet)
        label = "-".join(re.findall(r"[a-z0-9]+", sheet.title.lower()))
        marked = "group" in sheet.columns
        lines += [
            r"\begin{table}[tb]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{latex_text(sheet.name.replace('_', ' '))}: {latex_text(sheet.title)}.}}",
            rf"\label{{tab:{sheet.name}-{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            " & ".join(map(_heading, columns)) + r" \\",
            r"\midrule",
            *_rows(rows, columns.index("group") if marked else None),
        ]
        if apart:
            lines += [r"\midrule", *_rows(apart, None)]
        notes = " ".join(map(latex_text, sheet.notes)) + (f" {_MARK} rank group 1." if marked else "")
        lines += [
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\par\smallskip\raggedright\scriptsize {notes}",
            r"\end{table}",
            "",
        ]
    return "\n".join(lines)


def _stacked(sheet: Sheet) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Return columns, rows and rows apart; a column of intervals joins the values before it."""
    at = sheet.columns.index(_INTERVAL) if _INTERVAL in sheet.columns else None
    if at is None:
        return sheet.columns, sheet.rows, sheet.apart

    def joined(row: Sequence[str]) -> list[str]:
        return [*row[: at - 1], f"{row[at - 1]} {row[at]}".strip(), *row[at + 1 :]]

    columns = [*sheet.columns[:at], *sheet.columns[at + 1 :]]
    return columns, [joined(row) for row in sheet.rows], [joined(row) for row in sheet.apart]


def _heading(column: str) -> str:
    """Return a heading, broken at the space nearest to its middle where it is long."""
    spaces = [found.start() for found in re.finditer(" ", column)]
    if len(column) <= _WIDE or not spaces:
        return latex_text(column)
    at = min(spaces, key=lambda place: abs(place - len(column) / 2))
    return rf"\shortstack[r]{{{latex_text(column[:at])}\\{latex_text(column[at + 1 :])}}}"


def _rows(rows: list[list[str]], group: int | None) -> list[str]:
    """Return the lines of a table's body; rows of the first rank group are marked, groups set apart."""
    lines: list[str] = []
    before = None
    for row in rows:
        place = row[group] if group is not None else None
        if lines:
            lines.append(r"\addlinespace[6pt]" if place != before else r"\addlinespace[1pt]")
        before = place
        cells = [latex_text(row[0]) + (_MARK if place == "1" else ""), *map(_cell, row[1:])]
        lines.append(" & ".join(cells) + r" \\")
    return lines


def _cell(text: str) -> str:
    """Return a cell; an interval and what follows it stand small under the value."""
    found = re.fullmatch(r"([^\[\]]+?) (\[.*\])( \(.*\))?", text)
    if not found:
        return latex_text(text)
    under = latex_text(found[2] + (found[3] or "")).removeprefix("{}")
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{latex_text(found[1])}\\[-2pt]\scriptsize {{}}{under}\end{{tabular}}"
