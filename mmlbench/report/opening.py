"""results/answer.html: the answer of each dataset as a fragment, with which `snakemake --report` opens.

Snakemake's report is light only, has a sheet of its own and runs no script of ours; so it has tables without the
page's script. `workflow/report/workflow.rst` puts the fragment there, before it names the leaderboard itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..analysis.result_set import GroupKey, ResultSet
from .colours import light_variables
from .line import Line, is_first, lines_of
from .measure import units_of_gaps
from .notes import TARGET, large_blue
from .page_tables import APART, RULES
from .render.html import HtmlCell, html_cell, render
from .tables.answer import answer_table


@dataclass(frozen=True)
class OpeningLine:
    """A method of the answer: its name, why it is not ranked, whether it can have rank 1, and its cells."""

    name: str
    apart: str
    best: bool
    cells: Sequence[HtmlCell]


@dataclass(frozen=True)
class Opening:
    """The answer on one dataset."""

    title: str
    columns: Sequence[str]
    lines: Sequence[OpeningLine]


def opening_html(result_set: ResultSet) -> Markup:
    """Return the answers of a study under its headline rule, the sheet for them included."""
    answers = [_answer(result_set, group) for group in result_set.groups()]
    return render(
        "opening.html.j2",
        name=result_set.name,
        rule=result_set.rule_words(RULES),
        gap_units=units_of_gaps(result_set),
        target=TARGET,
        variables=Markup(light_variables()),  # names and colours of our own
        answers=answers,
        ranked=any(line.best for answer in answers for line in answer.lines),
        large=large_blue(result_set),
    )


def _answer(result_set: ResultSet, group: GroupKey) -> Opening:
    table = answer_table(result_set, group, lines_of(result_set, group))
    first, *rest = table.columns

    def line(one: Line) -> OpeningLine:
        cells = [html_cell(column, one) for column in rest]
        return OpeningLine(str(first.shown(one)), APART.get(one.entry.method, ""), is_first(one.rank()), cells)

    return Opening(
        result_set.title(group), [column.title for column in table.columns], [line(row) for row in table.lines]
    )
