"""Engines that give the same bits: which are listed, and what runs of them are to each other."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from fake_runs import small
from report_rows import folder_of

from mmlbench.analysis.rows import parse_rows
from mmlbench.report import make_all
from mmlbench.results import engines
from mmlbench.results.comparable import made_otherwise
from mmlbench.results.engines import SAME, SameBits, bits_of
from mmlbench.results.record import read_record
from mmlbench.storage.atomic import read_json, write_json
from mmlbench.train.record import engine_fingerprint

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = sorted((ROOT / "published" / "baselines").glob("zoo-*.tar.gz"))
#: The first is the engine of `fake_runs`.
FIRST, SECOND, THIRD, OTHER = ("e" * 16, "b" * 16, "c" * 16, "d" * 16)


def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """List two edits, one after the other."""
    found = (SameBits(SECOND, FIRST, "one", 1, 1), SameBits(THIRD, SECOND, "two", 1, 1))
    monkeypatch.setattr(engines, "SAME", found)


def test_an_engine_has_the_bits_of_the_first_of_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    listed(monkeypatch)
    assert [bits_of(one) for one in (FIRST, SECOND, THIRD, OTHER)] == [FIRST, FIRST, FIRST, OTHER]


def test_each_edit_is_listed_once_after_the_one_before_it_with_what_shows_it() -> None:
    names = [one.engine for one in SAME]
    assert len(set(names)) == len(names)
    for number, one in enumerate(SAME):
        assert one.engine != one.before and one.before not in names[number:], "the line goes back in time"
        assert one.digests > 0 and one.runs > 0 and one.change


def engine_of(archive: Path) -> set[str]:
    """Return the engines of an archive's runs."""
    with tarfile.open(archive) as tar:
        records = [tar.extractfile(one) for one in tar if one.name.endswith("/run.json")]
        return {json.load(file)["code"]["engine"] for file in records if file is not None}


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name.partition(".")[0])
def test_the_shipped_baselines_have_the_bits_of_the_engine_at_hand(archive: Path) -> None:
    """Else nobody can hand in a row beside them: docs/architecture.md, 'An engine that gives the same bits'."""
    assert {bits_of(one) for one in engine_of(archive)} == {bits_of(engine_fingerprint())}


def test_only_engines_of_other_bits_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs.write_study(tmp_path, [small(seeds=(0,))])
    one = read_record(folder_of(tmp_path, "joint", 0))
    by = {name: replace(one, code=replace(one.code, engine=name)) for name in (FIRST, SECOND, THIRD, OTHER)}
    assert made_otherwise(by[FIRST], by[THIRD]) == ["code of the engine"]
    listed(monkeypatch)
    assert made_otherwise(by[FIRST], by[THIRD]) == made_otherwise(by[THIRD], by[SECOND]) == []
    assert made_otherwise(by[FIRST], by[OTHER]) == ["code of the engine"]


@pytest.mark.slow
def test_tables_say_only_where_engines_of_other_bits_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(monkeypatch)
    for other, notes in ((THIRD, False), (OTHER, True)):
        results = tmp_path / other
        fake_runs.write_study(results, [small(seeds=(0, 1))])
        folder = folder_of(results, "joint", 1)
        record = read_json(folder / "run.json")
        write_json(folder / "run.json", record | {"code": record["code"] | {"engine": other}})
        fake_runs.seal(folder)
        make_all(results, results / "cache", lambda line: None)
        rows = parse_rows((results / "all_tables.csv").read_text(encoding="utf-8"))
        assert {row.value for row in rows if row.metric == "code_versions"} == ({2.0} if notes else set())
        assert any("versions of the engine" in row.note for row in rows) == notes
