"""Tables as LaTeX: booktabs rules, intervals under their values, what can be best is marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unicodedata import normalize

from ..table import Column, Output, RankRange, Shown, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "\N{NARROW NO-BREAK SPACE}": r"\,",
}  # fmt: skip
_MARK = r"$^{\bullet}$"
#: Points: a row of one line, one with small print under it, and the rows that a page holds beside a table's notes.
ONE_LINE, TWO_LINES, PAGE = 11, 19, 460


def latex_text(text: str) -> str:
    """Escape text from data for LaTeX; characters that a plain engine lacks become '?'."""
    escaped = "".join(_LATEX.get(c) or (c if c.isascii() or _accented(c) else "?") for c in " ".join(text.split()))
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped  # or \\ would take it for its option


def _accented(c: str) -> bool:
    """Whether a character is a letter of western print: ASCII with an accent, or one of a few of its own."""
    return c in "ßæøåÆØÅœŒłŁ" or (c < "\u0180" and c.isalpha() and normalize("NFD", c)[0].isascii())


def latex(tables: Sequence[Table[Any]]) -> str:
    """Return one table float each, of a long table several; needs \\usepackage{booktabs,graphicx}.

    A float is scaled to the width of its line, in one column or two. What is longer than a page goes on in the next
    float, between the lines of two rows' names. Ranks and marks are those of the whole table.
    """
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    for whole in tables:
        table = whole.printed(Output.LATEX)
        label = f"{table.name}-{'-'.join(re.findall(r'[a-z0-9]+', table.title.lower()))}"
        parts = _parts(table)
        for number, part in enumerate(parts, 1):
            lines += _float(part, label, number, len(parts))
    return "\n".join(lines)


def _float(table: Table[Any], label: str, number: int, parts: int) -> list[str]:
    """Return the lines of one float: all of a table, or one of its parts."""
    aligned = "".join("l" if column.words else "r" for column in table.columns)
    ranks = [rank for row in table.rows if (rank := _rank(table.columns, row))]
    notes = [latex_text(note) for note in table.notes]
    words = "it may be the best" if any(rank.best is not None for rank in ranks) else "no better method is separated"
    notes += [f"{_MARK} {words}."] if ranks else []
    notes += [rf"It goes on in Table~\ref{{tab:{label}-{number + 1}}}."] if number < parts else []
    caption = latex_text(f"{table.name.replace('_', ' ')}: {table.title}")
    apart = [*table.apart, *table.foot]
    rule = [r"\midrule"] if table.rows and apart else []
    return [
        r"\begin{table}[tb]" if parts == 1 else r"\begin{table}[tbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{caption}{f', part {number} of {parts}' if parts > 1 else ''}.}}",
        rf"\label{{tab:{label}{f'-{number}' if number > 1 else ''}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{aligned}}}",
        r"\toprule",
        " & ".join(_heading(column) for column in table.columns) + r" \\",
        r"\midrule",
        *_rows(table.columns, table.rows),
        *rule,
        *(_rows(table.columns, apart)),
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\par\smallskip\raggedright\scriptsize {' '.join(notes)}",
        r"\end{table}",
        "",
    ]


def _height(columns: Sequence[Column[Any]], row: Any) -> int:
    """Return about how many points high a row is: of one line, or of two where something small stands under."""
    return TWO_LINES if any(shown.small and shown.text for c in columns[1:] if (shown := c.shown(row))) else ONE_LINE


def _parts(table: Table[Any]) -> list[Table[Any]]:
    """Return the table in parts of about equal height that a page holds; the last one has the notes."""
    first = table.columns[0] if table.columns else None
    blocks: list[list[Any]] = []  # rows of one name, such as the modalities of a method, stay together
    for row in table.lines:
        if blocks and first is not None and str(first.shown(blocks[-1][0])) == str(first.shown(row)):
            blocks[-1].append(row)
        else:
            blocks.append([row])
    heights = [sum(_height(table.columns, row) for row in block) for block in blocks]
    count = -(-sum(heights) // PAGE)
    if count < 2:
        return [table]
    share, reached, parts = sum(heights) / count, 0.0, [list[Any]() for _ in range(count)]
    for block, height in zip(blocks, heights, strict=True):
        parts[min(int((reached + height / 2) / share), count - 1)].extend(block)
        reached += height
    parts = [part for part in parts if part]

    def of(rows: Sequence[Any], part: Sequence[Any]) -> list[Any]:
        return [row for row in rows if any(row is one for one in part)]

    return [
        replace(
            table,
            rows=of(table.rows, part),
            apart=of(table.apart, part),
            foot=of(table.foot, part),
            notes=table.notes if part is parts[-1] else [],
        )
        for part in parts
    ]


def _heading(column: Column[Any]) -> str:
    """Return a heading, broken at the space nearest to its middle where it is long."""
    halves = [latex_text(half) for half in column.heading]
    side = "l" if column.words else "r"
    return halves[0] if len(halves) == 1 else rf"\shortstack[{side}]{{{halves[0]}\\{halves[1]}}}"


def _rank(columns: Sequence[Column[Any]], row: Any) -> RankRange | None:
    """Return the ranks that a row can have, None where it has none."""
    found = [value for column in columns if isinstance(value := column.value(row), RankRange) and value.ranked]
    return next(iter(found), None)


def _rows(columns: Sequence[Column[Any]], rows: Sequence[Any]) -> list[str]:
    """Return the lines of a table's body; rows that can be best are marked, others set apart."""
    lines: list[str] = []
    before = None
    for row in rows:
        rank = _rank(columns, row)
        place = rank.low if rank else None
        if lines:
            lines.append(r"\addlinespace[6pt]" if place != before else r"\addlinespace[1pt]")
        before = place
        first, *rest = columns
        cells = [latex_text(str(first.shown(row))) + (_MARK if rank and rank.first else "")]
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
