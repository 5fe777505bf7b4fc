"""The leaderboard: as a page, as Markdown, and in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..analysis.result_set import GroupKey, ResultSet
from ..results.load import outdated, read_plan, regroup_of, so_far
from ..results.plugin_facts import Facts
from ..storage.atomic import write_text
from . import story
from .details import gather
from .more_sheets import measures_sheet, overall_sheet, reliance_sheet, robustness_sheet
from .numbers import figure_of, interval, percent, with_sd
from .page import Figures, write_page
from .sheets import ONE_OF_ALL, TARGET, Sheet, accuracy_sheet, far_notes, gap_row, gap_sheet, named, points
from .tables import markdown_table, markdown_text

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of a terminal from which both differences fit.
WIDE = 104
FILES = ("all_tables.csv", "cost.csv", "leaderboard.html", "leaderboard.md", "tables", "figures")


def write_leaderboard(view: ResultSet, results: Path, figures: Figures) -> None:
    """Write results/leaderboard.html and results/leaderboard.md.

    Args:
        figures: group -> name -> SVG file, to put into the page.
    """
    path = results / "leaderboard.html"
    facts = Facts.of_plan(read_plan(results))
    write_text(path, write_page(view, path, figures, gather(view, results), facts.family))
    write_text(results / "leaderboard.md", markdown_page(view, results, figures))


def markdown_page(view: ResultSet, results: Path, figures: Figures) -> str:
    """Return the leaderboard as Markdown."""
    lines = [f"# mmlbench leaderboard: {markdown_text(view.name)}", "", markdown_text(TARGET), ""]
    lines += ["## All data", ""]
    lines += [line for said in story.overall(view) for line in (markdown_text(said), "")]
    lines += _sheet_lines("Mean rank over datasets", overall_sheet(view))
    for group in view.groups():
        accuracy, gaps = accuracy_sheet(view, group), gap_sheet(view, group)
        lines += [f"## {markdown_text(view.title(group))}", ""]
        lines += [line for said in story.headline_of(view, group) for line in (f"- {markdown_text(said)}",)]
        lines += ["", "### Accuracy", "", *markdown_table(accuracy), ""]
        lines += [line for note in (*accuracy.notes, *view.audited(group)) for line in (markdown_text(note), "")]
        more = {"Further measures": measures_sheet(view, group), "Reliance": reliance_sheet(view, group)}
        more["Accuracy under noise"] = robustness_sheet(view, group)
        for heading, sheet in {"Competition gap": gaps, **more}.items():
            lines += _sheet_lines(heading, sheet)
        for name, file in figures.get(group, {}).items():
            image = file.with_suffix(".png").relative_to(results).as_posix()
            lines += [f"![{markdown_text(name)} of {markdown_text(view.title(group))}]({image})", ""]
        lines += [markdown_text(_made(view, group)), ""]
    return "\n".join(lines)


def _sheet_lines(heading: str, sheet: Sheet | None) -> list[str]:
    if sheet is None:
        return []
    notes = [line for note in sheet.notes for line in (markdown_text(note), "")]
    return [f"### {heading}", "", *markdown_table(sheet), "", *notes]


#: What a hash in `code_version` is of; a table of many would look like many versions of one program.
CODE_SAID = "The code of each row, a hash over the engine and the row's own method, so that each method has its own:"


def _made(view: ResultSet, group: GroupKey) -> str:
    rows = view.entries(group)
    codes = ", ".join(f"{named(row)} {row.code_version.partition('+')[2]}" for row in rows)
    versions = "/".join(sorted({row.code_version.partition("+")[0] for row in rows}))
    hardware = "; ".join(sorted({row.hardware for row in rows}))
    data = ", ".join(sorted({row.data_fingerprint for row in rows}))
    return f"Made by mmlbench {versions} from data {data} on {hardware}. {CODE_SAID} {codes}."


def show(results: Path, console: Console, measures: bool = False) -> None:
    """Print the leaderboard of a results folder, and the paths of its files.

    Args:
        measures: print macro-F1, balanced accuracy, NLL, ECE and fusion gain too.

    Raises:
        DataError: the tables have not been made.
    """
    from rich.text import Text

    view = ResultSet.open(results)
    if outdated(results):
        console.print(Text(outdated(results), style="yellow"))
    _show(view, console, measures)
    if not measures:
        console.print(
            Text("Macro-F1, NLL, ECE, fusion gain: mmlbench leaderboard --measures, or tables/measures.md.")
        )
    for name in FILES:
        if (results / name).exists():
            console.print(Text(str(results / name)))


def show_so_far(results: Path, cache: Path, console: Console, measures: bool = False) -> None:
    """Print the leaderboard of the datasets whose runs are all made; nothing is written.

    Raises:
        DataError: no dataset is complete, or one of its runs can't be used.
    """
    from rich.text import Text

    from ..analysis.all_tables import make_frame

    plan, lines = so_far(results)
    _show(ResultSet.parse(plan, *make_frame(results, cache, plan, regroup_of(plan))), console, measures)
    for line in lines:
        console.print(Text(f"not shown yet: {line}", style="yellow"))


def _show(view: ResultSet, console: Console, measures: bool) -> None:
    """Print the groups of a view, each with its tables."""
    from rich.text import Text

    console.print(Text(f"mmlbench leaderboard: {view.name}", style="bold"))
    for line in story.overall(view):
        console.print(Text(line))
    for group in view.groups():
        console.print()
        console.print(_table(view, group, console.width))
        if view.alone(group):
            console.print(_gaps(view, group))
        sheet = measures_sheet(view, group) if measures else None
        if sheet is not None:
            console.print(_sheet(sheet))
            console.print(*(Text(f"  {note}") for note in sheet.notes[:1]))
        for line in (*story.headline_of(view, group), *far_notes(view, group)):
            console.print(Text(f"  {line}"))
    console.print()
    console.print(Text(ONE_OF_ALL, style="dim"))
    console.print(Text(TARGET, style="dim"))


def _sheet(sheet: Sheet) -> object:
    """Return a sheet as a table of the terminal, a name that is too long folded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="further measures", title_justify="left", title_style="", box=None, pad_edge=False)
    for k, column in enumerate(sheet.columns):
        table.add_column(Text(column), justify="right" if k else "left", overflow="fold")
    for row in (*sheet.rows, *sheet.apart):
        table.add_row(*map(Text, row))
    return table


def _gaps(view: ResultSet, group: GroupKey) -> object:
    """Return what each method cost each modality, in points."""
    from rich.table import Table
    from rich.text import Text

    modalities = view.modalities(group)
    table = Table(
        title="competition gap, points, 95 % intervals",
        title_justify="left",
        title_style="",
        box=None,
        pad_edge=False,
    )
    for column in ("method", *modalities):
        table.add_column(Text(column), justify="left" if column == "method" else "right", no_wrap=column != "method")
    for entry in view.entries(group):
        gaps = [gap_row(view, group, entry.label, modality) for modality in modalities]
        if any(gap is not None and gap.ci_low is not None for gap in gaps):
            shown = [points(gap) for gap in gaps]
            table.add_row(Text(named(entry)), *map(Text, shown))
    return table


def _table(view: ResultSet, group: GroupKey, width: int) -> object:
    """Return a group's ranking; a narrow terminal gets the difference to the baseline only."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(view.title(group), style="bold"), title_justify="left", box=None, pad_edge=False)
    references = view.references(group)[: 2 if width >= WIDE else 1]
    for column in ("method", "group", "accuracy %", "95 % interval", *(f"minus {name}" for name in references)):
        left = column == "method"
        table.add_column(Text(column), justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for entry in view.entries(group):
        fused = view.find(group, entry.label, "accuracy")
        first = fused is not None and fused.rank_group == 1
        control = entry.label == view.control(group)
        cells = [named(entry), str(fused.rank_group or "") if fused else "", with_sd(fused), interval(fused)]
        if fused is None:
            own = [view.find(group, entry.label, "accuracy", m, "own_head") for m in view.modalities(group)]
            cells[0] += "".join(f", {one.modality} {figure_of(one)}" for one in own if one is not None)
            cells[0] += " (control)" if control else ""
        for name in references:
            difference = view.find(group, entry.label, "difference", baseline=name)
            cells.append(points(difference))
        table.add_row(*(Text(cell) for cell in cells), style="bold" if first else "dim" if control else "")
    bayes = view.bayes(group).get("fused")
    if bayes is not None:
        table.add_row(*(Text(cell) for cell in ("Bayes (ceiling)", "", percent(bayes))), style="dim")
    return table
