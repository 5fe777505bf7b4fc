"""The page of faults: every row of it is what `mmlbench prepare` says today, and no fault is left out unsaid."""

from __future__ import annotations

from pathlib import Path

import fault_table as table
import pytest
from harmed_files import OF_ITEMS
from harmed_lists import OF_LISTS, of_texts
from raw_forms import FORMS, Form, Victim

from mmlbench.registry.index import load_index

VICTIMS = [(form, victim) for forms in FORMS.values() for form in forms for victim in form.victims]
#: Faults of any file at all.
ALWAYS = {*OF_ITEMS, "cut short"}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", FORMS)
def test_the_page_says_what_prepare_says(dataset: str, tmp_path: Path) -> None:
    family = table.family_of(dataset)
    made = table.section(family, table.rows_of(dataset, tmp_path)).strip()
    on_page = table.sections_of(table.PAGE.read_text(encoding="utf-8")).get(family, "")
    assert on_page.splitlines() == made.splitlines(), f"docs/raw-faults.md is not of today: {table.ANEW}"


def test_the_page_has_every_dataset_that_is_downloaded_and_todays_head() -> None:
    downloaded = {one.name for one in load_index().of("dataset") if one.facts["needs_raw"]}
    assert set(FORMS) == downloaded
    text = table.PAGE.read_text(encoding="utf-8")
    assert list(table.sections_of(text)) == list(dict.fromkeys(map(table.family_of, FORMS)))
    assert text.startswith(table.HEAD) and len(table.HEAD.splitlines()) <= 12


@pytest.mark.parametrize(("form", "victim"), VICTIMS, ids=lambda one: getattr(one, "dataset", None) or one.what)
def test_each_fault_of_a_kind_befalls_each_file_or_has_a_reason_not_to(form: Form, victim: Victim) -> None:
    assert victim.absent.keys() <= victim.harms.keys() and all(victim.absent.values())
    assert victim.taken <= victim.faults().keys() and victim.says.keys() <= victim.faults().keys()
    if victim.like:
        assert victim.like in {other.what for other in form.victims}
        return
    assert victim.harms.keys() >= ALWAYS
    assert not victim.is_list or victim.harms.keys() >= {*OF_LISTS}
    of_texts_too = "an emoji" in victim.harms
    assert not of_texts_too or victim.harms.keys() >= {*of_texts()}


def test_a_row_that_is_not_of_today_is_seen() -> None:
    sections = table.sections_of(table.PAGE.read_text(encoding="utf-8"))
    rows = [table.Seen("", "WAV", "silent", "ave: FILE is silent", False)]
    assert table.section("ave", rows).strip() != sections["ave"]
    again = table.sections_of(table.page({"ave": table.section("ave", rows)}))
    assert again == {"ave": table.section("ave", rows).strip()}


def test_rows_of_which_the_same_is_said_are_one() -> None:
    names = [f"{part}Set.txt" for part in ("train", "val")]
    rows = [table.Seen("", name, "empty", f"RAW/{name} names nothing", False) for name in names]
    assert "| trainSet.txt, valSet.txt | empty | `RAW/FILE names nothing` |" in table.section("ave", rows)
    assert "`RAW/trainSet.txt names nothing`" in table.section("ave", rows[:1])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> table.Bench:
    return table.Bench(FORMS["iemocap"][0], tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (2, "mmlbench: RAW is bad\nmmlbench: and so on\n"),
        (1, "mmlbench: RAW is bad\n"),
        (2, "Traceback (most recent call last)\nmmlbench: RAW is bad\n"),
        (2, "mmlbench: a whole sentence is no id\n"),
        (2, ""),
    ],
)
def test_what_is_not_one_line_of_a_refusal_is_no_row(
    code: int, said: str, bench: table.Bench, tmp_path: Path
) -> None:
    bench.row("pickle", "empty", table.Outcome(2, "mmlbench: RAW is bad\n"), tmp_path)
    with pytest.raises(AssertionError):
        bench.row("pickle", "empty", table.Outcome(code, said), tmp_path)


def test_what_is_left_half_written_is_no_row(bench: table.Bench, tmp_path: Path) -> None:
    (tmp_path / "list.tmp").touch()
    with pytest.raises(AssertionError):
        bench.row("pickle", "empty", table.Outcome(2, "mmlbench: RAW is bad\n"), tmp_path)
