"""What each colour means: one role, one colour, read on light and on dark ground, with any kind of colour vision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import small

from mmlbench import report
from mmlbench.analysis.result_set import ResultSet
from mmlbench.report import figures, make_all
from mmlbench.report.colours import ROLES, SERIES, Colour, Ink, Roles, named_colours, style_sheet
from mmlbench.report.figure_parts import marks
from mmlbench.report.numbers import by_construction
from mmlbench.report.table import Drawing, RankRange
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.report.tables.competition_gap import competition_gap_table

FOLDER = Path(report.__file__).parent
SHEET = (FOLDER / "templates" / "leaderboard.css").read_text(encoding="utf-8")
THEMES = ("light", "dark")
#: Words, and the grounds on which they stand; `back` is the word in a filled badge.
WORDS = [(word, ground) for word in ("text", "soft") for ground in ("back", "card", "band", "best_back", "finding")]
WORDS += [("back", "best")]
#: Machado, Oliveira and Fernandes 2009, table 1 at severity 1: linear RGB as seen.
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(colour: str) -> np.ndarray:
    """Return a colour `#rrggbb` as linear RGB, by the sRGB standard."""
    parts = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """Return the contrast of WCAG 2, from 1 to 21."""
    low, high = sorted(float(linear(one) @ [0.2126, 0.7152, 0.0722]) for one in (first, second))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return linear RGB in CIE L*a*b*, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(first: str, second: str) -> float:
    """Return how far two colours look apart (CIE 1976) to whoever sees them least apart."""
    seen = ((lab(eye @ linear(first)), lab(eye @ linear(second))) for eye in VISION.values())
    return min(float(np.linalg.norm(one - other)) for one, other in seen)


def in_theme(colours: Iterable[Colour], theme: str) -> list[str]:
    """Return colours as one theme has them."""
    return [getattr(colour, theme) for colour in colours]


def all_of(roles: Roles) -> list[Colour]:
    """Return the colours of all roles and series."""
    return [*(getattr(roles, role.name) for role in fields(roles)), *SERIES]


def shared(colours: Sequence[Colour]) -> set[str]:
    """Return colours that two roles have in one theme."""
    themes = [in_theme(colours, theme) for theme in THEMES]
    return {one for theme in themes for one in theme if theme.count(one) > 1}


def faint(roles: Roles) -> list[tuple[str, str, str]]:
    """Return words that can't be read on their ground."""
    pairs = [(theme, word, ground) for theme in THEMES for word, ground in WORDS]
    return [
        (theme, word, ground)
        for theme, word, ground in pairs
        if contrast(getattr(getattr(roles, word), theme), getattr(getattr(roles, ground), theme)) < 4.5
    ]


def test_no_two_roles_share_a_colour() -> None:
    assert shared(all_of(ROLES)) == set()
    assert shared(all_of(replace(ROLES, loss=Colour("#123456", ROLES.best.dark)))) == {ROLES.best.dark}


def test_words_can_be_read() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005), "as WCAG's tools have it"
    assert faint(ROLES) == []
    assert faint(replace(ROLES, soft=Colour("#8a8a8a", ROLES.soft.dark)))[0] == ("light", "soft", "back")


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_drawn_can_be_seen(theme: str) -> None:
    drawn = in_theme((*SERIES, ROLES.best, ROLES.loss), theme)
    assert min(contrast(one, getattr(ROLES.back, theme)) for one in drawn) >= 3
    tinted = in_theme((ROLES.best_back, ROLES.band), theme)
    assert min(contrast(getattr(ROLES.best, theme), ground) for ground in tinted) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_series_look_apart_with_any_colour_vision(theme: str) -> None:
    series, meanings = in_theme(SERIES, theme), in_theme((ROLES.best, ROLES.loss), theme)
    assert min(apart(*pair) for pair in combinations(series, 2)) > 25
    assert min(apart(one, other) for one in series for other in meanings) > 10
    assert apart("#d62728", "#2ca02c") < 25, "red and green, which many can't tell apart"


LITERAL = re.compile(r"#[0-9a-fA-F]{3,8}\b(?!\")|\b(?:rgb|hsl)a?\(", re.ASCII)
QUOTED = re.compile(r"[\"'](?:#[0-9a-fA-F]{6}|black|white|gr[ae]y|blue|orange|red|green)[\"']")


def literals(name: str, text: str) -> list[str]:
    """Return colours that a file of the report names by itself."""
    return (QUOTED if name.endswith(".py") else LITERAL).findall(text)


def files_with_colours() -> Iterator[tuple[str, str]]:
    """Yield name and text of what sets the page and draws the figures."""
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in (".py", ".css", ".j2", ".js") and path.parent.name != "vendor":
            yield path.name, path.read_text(encoding="utf-8")


def test_colours_are_named_in_one_place() -> None:
    found = {name for name, text in files_with_colours() if literals(name, text)}
    assert found == {"colours.py"}
    for name, text in (("a.css", "a { color: #0b5c99; }"), ("a.css", "rgb(0 0 0)"), ("a.py", 'axes.plot(c="black")')):
        assert literals(name, text)


def unknown_and_unused(sheet: str) -> tuple[set[str], set[str]]:
    """Return variables of the sheet that are no role, and roles that it never uses."""
    used, roles = set(re.findall(r"var\(--([\w-]+)\)", sheet)), {name for name, _ in named_colours()}
    return used - roles, roles - used


def test_the_sheet_uses_each_role_and_nothing_else() -> None:
    assert unknown_and_unused(SHEET) == (set(), set())
    assert unknown_and_unused(SHEET.replace("var(--loss)", "var(--bad)")) == ({"bad"}, {"loss"})
    declared = re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style_sheet())
    assert declared == [(name, getattr(colour, theme)) for theme in THEMES for name, colour in named_colours()]


# ---- where a colour with a meaning stands ----------------------------------------------------------------------
def drawn(result_set: ResultSet, name: str) -> list[tuple[object, Ink]]:
    """Return each line of a table of the first group with the ink of its drawing."""
    group = result_set.groups()[0]
    table = {"accuracy": accuracy_table, "gap": competition_gap_table}[name](result_set, group)
    (column,) = [column for column in table.columns if column.name == "drawn"]
    values = [(line, column.value(line)) for line in (*table.rows, *table.apart)]
    return [(line, value.ink) for line, value in values if isinstance(value, Drawing) and value.row is not None]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return seeds -> results folder of a study with so many."""
    found = {}
    for seeds in (1, 3):
        folder = tmp_path_factory.mktemp("colours")
        found[seeds] = fake_runs.write_study(folder / "results", [small(seeds=tuple(range(seeds)))])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(figures, "write_figures", lambda result_set, results: {})
            make_all(found[seeds], folder / "cache", lambda line: None)
    return found


def test_blue_is_the_best_group_and_orange_a_loss(studies: dict[int, Path]) -> None:
    result_set = ResultSet.open(studies[3])
    accuracies, gaps = drawn(result_set, "accuracy"), drawn(result_set, "gap")
    for line, ink in accuracies:
        rank = line.rank()
        assert (ink is Ink.BEST) == (rank is not None and rank.first) and ink is not Ink.LOSS
        assert (ink is Ink.SOFT) == (rank is None)
    for line, ink in gaps:
        row = line.gap()
        assert not by_construction(row) and (ink is Ink.LOSS) == (row.ci_low > 0) and ink is not Ink.BEST
    assert {ink for _, ink in accuracies} == {Ink.BEST, Ink.TEXT, Ink.SOFT}
    assert {ink for _, ink in gaps} == {Ink.LOSS, Ink.TEXT}


def test_with_one_seed_nothing_is_blue(studies: dict[int, Path]) -> None:
    assert {ink for _, ink in drawn(ResultSet.open(studies[1]), "accuracy")} == {Ink.TEXT, Ink.SOFT}
    pages = {seeds: (folder / "leaderboard.html").read_text() for seeds, folder in studies.items()}
    assert {seeds: bool(re.search(r'class="(first|best|wide best)"', text)) for seeds, text in pages.items()} == {
        1: False,
        3: True,
    }
    answers = {seeds: (folder / "answer.html").read_text() for seeds, folder in studies.items()}
    assert {seeds: 'class="best"' in text for seeds, text in answers.items()} == {1: False, 3: True}
    assert {seeds: "Blue" in text for seeds, text in answers.items()} == {1: False, 3: True}
    assert {seeds: 'class="soft legend"' in text for seeds, text in pages.items()} == {1: False, 3: True}
    colours = [marks(rank)["color"] for rank in (RankRange(1, 5, 5, ranked=False), RankRange(1, 5, 5))]
    assert [colour == ROLES.best.light for colour in colours] == [False, True]
