"""The leaderboard: as a page, as Markdown, and in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..analysis.result_set import GroupKey, ResultSet
from ..results.load import outdated, read_made_plan, read_plan, regroup_of
from ..results.plugin_facts import Facts
from ..results.so_far import so_far
from ..storage.atomic import write_text
from ..storage.words import plural
from ..study.plan import Plan
from . import summary
from .choice import FEWER, Choice
from .details import gather
from .line import lines_of
from .measure import measure_of
from .notes import ONE_OF_ALL, TARGET, best_words, board_notes, far_notes
from .numbers import by_construction, named
from .opening import opening_html
from .page import Figures, write_page
from .page_tables import folds
from .render.html import folded
from .render.markdown import markdown_table, markdown_text
from .render.terminal import terminal_table
from .table import Table
from .tables.accuracy import accuracy_table
from .tables.competition_gap import MEAN, competition_gap_table
from .tables.measures import measures_table
from .tables.overall import overall_table
from .tables.reliance import reliance_table
from .tables.robustness import robustness_table

if TYPE_CHECKING:
    from rich.console import Console

#: A longer table of the Markdown page, but the first of a dataset, is there to unfold.
FOLDED = 60
FILES = ("all_tables.csv", "cost.csv", "leaderboard.html", "leaderboard.md", "tables", "figures")


def write_leaderboard(result_set: ResultSet, results: Path, figures: Figures) -> None:
    """Write results/leaderboard.html, results/leaderboard.md, and results/answer.html for Snakemake's report.

    Args:
        figures: group -> name -> SVG file, to put into the page.
    """
    path = results / "leaderboard.html"
    facts = Facts.of_plan(read_plan(results))
    write_text(path, write_page(result_set, path, figures, gather(result_set, results), facts.family))
    write_text(results / "leaderboard.md", markdown_page(result_set, results, figures))
    write_text(results / "answer.html", opening_html(result_set))


def markdown_page(result_set: ResultSet, results: Path, figures: Figures) -> str:
    """Return the leaderboard as Markdown."""
    lines = [f"# mmlbench leaderboard: {markdown_text(result_set.name)}", "", markdown_text(TARGET), ""]
    lines += ["## All data", ""]
    lines += [line for text in summary.overall(result_set) for line in (markdown_text(text), "")]
    lines += _table_lines("Mean rank over datasets", overall_table(result_set))
    for group in result_set.groups():
        accuracy, heading = accuracy_table(result_set, group), measure_of(result_set, group).heading
        lines += [f"## {markdown_text(result_set.title(group))}", ""]
        lines += [f"- {markdown_text(text)}" for text in summary.headline_of(result_set, group)]
        lines += [
            "",
            f"### {markdown_text(heading)}",
            "",
            *markdown_table(accuracy),
            "",
        ]
        lines += [
            line for note in (*accuracy.notes, *result_set.audited(group).lines) for line in (markdown_text(note), "")
        ]
        lines += _table_lines("Competition gap", competition_gap_table(result_set, group))
        lines += _table_lines("Further measures", measures_table(result_set, group))
        lines += _table_lines("Reliance", reliance_table(result_set, group))
        lines += _table_lines("Under noise", robustness_table(result_set, group))
        for name, file in figures.get(group, {}).items():
            image = file.with_suffix(".png").relative_to(results).as_posix()
            lines += [f"![{markdown_text(name)} of {markdown_text(result_set.title(group))}]({image})", ""]
        lines += [markdown_text(_made(result_set, group)), ""]
    return "\n".join(lines)


def _table_lines(heading: str, table: Table[Any]) -> list[str]:
    if not table.lines:
        return []
    notes = [line for note in table.notes for line in (markdown_text(note), "")]
    lines = [*markdown_table(table), ""]
    if len(table.lines) > FOLDED:
        body = Markup("\n".join(["", *lines]))  # Markdown between the marks of HTML, escaped as all Markdown is
        lines = [str(folded(plural(len(table.lines), "line"), body))]
    return [f"### {heading}", "", *lines, *notes]


#: What a hash in `code_version` is of; a table of many would look like many versions of one program.
ABOUT_CODE = "The code of each row, a hash over the engine and the row's own method, so that each method has its own:"


def _made(result_set: ResultSet, group: GroupKey) -> str:
    rows = result_set.entries(group)
    codes = ", ".join(f"{named(row)} {row.code_version.partition('+')[2]}" for row in rows)
    versions = "/".join(sorted({row.code_version.partition("+")[0] for row in rows}))
    hardware = "; ".join(sorted({row.hardware for row in rows}))
    data = ", ".join(sorted({row.data_fingerprint for row in rows}))
    return f"Made by mmlbench {versions} from data {data} on {hardware}. {ABOUT_CODE} {codes}."


#: Every row is shown.
ALL = Choice()


def show(results: Path, console: Console, measures: bool = False, choice: Choice = ALL) -> None:
    """Print the leaderboard of a results folder, and the paths of its files.

    Args:
        measures: print macro-F1, balanced accuracy, NLL, ECE and fusion gain too. choice: which rows to print.

    Raises:
        DataError: the tables have not been made.
        ConfigError: the choice names a family or a row that is not there.
    """
    from rich.text import Text

    result_set = ResultSet.open(results)
    choice = _checked(choice, lambda: read_made_plan(results), [result_set])
    if outdated(results):
        console.print(Text(outdated(results), style="yellow"))
    _show(result_set, console, measures, choice)
    if not measures:
        console.print(Text("Further metrics: mmlbench leaderboard --measures, or tables/measures.md."))
    for name in FILES:
        if (results / name).exists():
            console.print(Text(str(results / name)))


def _checked(choice: Choice, plan: Callable[[], Plan], result_sets: list[ResultSet]) -> Choice:
    """Return a choice that knows the families of a study's methods; what it names is there."""
    if choice.everything:
        return choice
    choice = replace(choice, family_of=Facts.of_plan(plan()).family)
    choice.check(result_sets)
    return choice


def show_so_far(results: Path, cache: Path, console: Console, measures: bool = False, choice: Choice = ALL) -> None:
    """Print the leaderboard of the datasets whose runs are all made, then that of complete seeds of others.

    Seeds of a dataset that is not complete are tables of their own, each below a line that says how many they are;
    no sentence over all data speaks of them. Nothing is written.

    Raises:
        DataError: there is nothing to show, or a run that it takes can't be used.
        ConfigError: the choice names a family or a row that is not there.
    """
    from rich.text import Text

    from ..analysis.all_tables import make_frame

    def result_set(plan: Plan) -> ResultSet:
        return ResultSet.parse(plan, *make_frame(results, cache, plan, regroup_of(plan)))

    found = so_far(results)
    complete = result_set(found.complete) if found.complete else None
    partial = [(one, result_set(one.plan)) for one in found.partial]
    shown = [*([complete] if complete else []), *(few for _, few in partial)]
    choice = _checked(choice, lambda: read_plan(results), shown)
    console.print(Text(f"mmlbench leaderboard: {shown[0].name}", style="bold"))
    if complete:
        _show_all_groups(complete, console, measures, choice)
    for one, few in partial:
        for group in few.groups():
            made, planned = one.seeds(group)
            line = f"{'/'.join(group[:2])}: {made} of {plural(planned, 'seed')} so far; the numbers will change"
            console.print()
            console.print(Text(line, style="yellow"))
            _show_group(few, group, console, measures, choice)
    _show_end(console)
    for line in found.lines:
        console.print(Text(f"not shown yet: {line}", style="yellow"))


def _show(result_set: ResultSet, console: Console, measures: bool, choice: Choice) -> None:
    """Print a study: its groups, each with its tables."""
    from rich.text import Text

    console.print(Text(f"mmlbench leaderboard: {result_set.name}", style="bold"))
    _show_all_groups(result_set, console, measures, choice)
    _show_end(console)
    if choice.everything and folds(result_set):
        console.print(Text(FEWER, style="dim"))


def _show_all_groups(result_set: ResultSet, console: Console, measures: bool, choice: Choice) -> None:
    """Print what holds over all groups, then the groups, each with its tables."""
    from rich.text import Text

    for line in summary.overall(result_set):
        console.print(Text(line))
    for group in result_set.groups():
        console.print()
        _show_group(result_set, group, console, measures, choice)


def _show_group(
    result_set: ResultSet, group: GroupKey, console: Console, measures: bool, choice: Choice = ALL
) -> None:
    """Print the tables of a group, and its findings in words."""
    from rich.text import Text

    bests = best_words(result_set, group)
    if bests:
        console.print(Text(bests))
    accuracy = choice.table(result_set, group, accuracy_table(result_set, group))
    console.print(terminal_table(accuracy, result_set.title(group), console.width))
    if hidden := choice.hidden(result_set, group):
        console.print(Text(hidden, style="yellow"))
    trained = [line for line in lines_of(result_set, group) if not by_construction(line.gap(MEAN))]
    gaps = choice.table(result_set, group, competition_gap_table(result_set, group, trained))
    if gaps.lines:
        unit = measure_of(result_set, group).points
        title = f"competition gap, {f'{unit}, ' if unit else ''}95 % intervals"
        console.print(terminal_table(gaps, title, console.width))
    more = choice.table(result_set, group, measures_table(result_set, group))
    if measures and more.lines:
        console.print(terminal_table(more, "further measures", console.width))
        console.print(*(Text(f"  {note}") for note in more.notes[:1]))
    notes = [*summary.headline_of(result_set, group), *board_notes(result_set, group), *far_notes(result_set, group)]
    for line in notes:
        if line != bests:  # it stands at the head
            console.print(Text(f"  {line}"))


def _show_end(console: Console) -> None:
    """Print what holds of every table."""
    from rich.text import Text

    console.print()
    console.print(Text(ONE_OF_ALL, style="dim"))
    console.print(Text(TARGET, style="dim"))
