"""Rows that somebody hands in: what check-row asks for, and who stands for them in the tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_runs
import pytest
from bad_input import refused, run
from fake_runs import small
from made_archives import read_files, repacked

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.rows import Row, parse_rows
from mmlbench.api import check_row as rows_to_check
from mmlbench.api.check_row import check_row
from mmlbench.errors import DataError
from mmlbench.registry.index import load_index
from mmlbench.results import archive, shipped
from mmlbench.results.origins import (
    FILE,
    Outcome,
    Reported,
    Reproduced,
    keep_reproduced,
    mark_contributed,
    of_several,
    read_origins,
)
from mmlbench.storage.atomic import read_json, write_json
from mmlbench.study.run_spec import RunSpec, from_config

AGAIN = Reproduced(Outcome.IDENTICAL, "0123456789", "e" * 16, "0.2.0", "A CPU")


def written(place: Path, label: str, seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Write a study of one method."""
    methods = [m for m in fake_runs.default_methods() if m.label == label]
    return fake_runs.write_study(place, [small(methods=methods, seeds=seeds)])


def edited(results: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change record and circumstances of every run of a study, and give them their hashes."""
    for folder in results.glob("runs/*/*/*/*"):
        record, facts = read_json(folder / "run.json"), read_json(folder / "provenance.json")
        change(record, facts)
        write_json(folder / "run.json", record)
        write_json(folder / "provenance.json", facts)
        fake_runs.seal(folder)


def known_commit(record: dict[str, Any], facts: dict[str, Any]) -> None:
    facts["commit"] = "c" * 40


def as_made(code: str, cache: str = "avdigits-0123456789") -> Callable[[Any, Any], RunSpec]:
    """Return what finds the present code of fake runs, whose fingerprints are made up."""
    return lambda config, index: RunSpec(config, code, cache)


@pytest.fixture
def handed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the results of a row that can be handed in; a baseline of joint runs is shipped."""
    baseline = written(tmp_path / "baseline", "joint")
    (tmp_path / "baselines").mkdir()
    archive.pack_scores(baseline, tmp_path / "baselines" / "zoo-avdigits.mmlb.tar.gz")
    monkeypatch.setattr(shipped, "baselines_folder", lambda: tmp_path / "baselines")

    monkeypatch.setattr(rows_to_check, "from_config", as_made(fake_runs.CODE))
    results = written(tmp_path / "own", "ogm_ge")
    edited(results, known_commit)
    return results


def wrong(results: Path, tmp_path: Path) -> dict[str, str]:
    """Return what check-row finds wrong, by what it is about."""
    archive.pack_scores(results, tmp_path / "row.tar.gz")
    found = list(check_row(tmp_path / "row.tar.gz", load_index(), tmp_path / "cache"))
    return {fact.about: fact.wrong for fact in found if fact.wrong}


def test_a_row_that_can_be_handed_in(handed_in: Path, tmp_path: Path, capsys) -> None:
    assert wrong(handed_in, tmp_path) == {}
    assert run(capsys, "check-row", tmp_path / "row.tar.gz", "--cache", tmp_path / "cache")[0] == 0


@pytest.mark.parametrize(
    ("about", "change"),
    [
        ("comparison", lambda record, facts: record["code"].update(engine="f" * 16)),
        ("comparison", lambda record, facts: record.update(data_fingerprint="f" * 16)),
        ("comparison", lambda record, facts: record["packages"].update(torch="3")),
        ("provenance", lambda record, facts: facts.update(commit="c" * 40 + "+")),
        ("provenance", lambda record, facts: facts.update(commit=None)),
        ("provenance", lambda record, facts: facts.update(hardware="")),
    ],
    ids=["engine", "data", "packages", "changes in no commit", "no commit", "no hardware"],
)
def test_what_a_row_may_not_be(handed_in: Path, tmp_path: Path, about: str, change) -> None:
    edited(handed_in, change)
    assert list(wrong(handed_in, tmp_path)) == [about]


def test_other_code_and_other_data_of_the_code(handed_in: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rows_to_check, "from_config", as_made("0" * 16))
    assert "the code of ogm_ge" in wrong(handed_in, tmp_path)["code"]
    monkeypatch.setattr(rows_to_check, "from_config", as_made(fake_runs.CODE, "avdigits-9876543210"))
    assert "the code of avdigits" in wrong(handed_in, tmp_path)["code"]
    monkeypatch.setattr(rows_to_check, "from_config", from_config)
    assert "ogm_ge" in wrong(handed_in, tmp_path)["code"], "the present code does not know its parameters"


def test_seeds_that_lack(handed_in: Path, tmp_path: Path) -> None:
    shutil.rmtree(handed_in)
    written(handed_in, "ogm_ge", seeds=(0, 2))
    edited(handed_in, known_commit)
    assert "lacks the seeds 1" in wrong(handed_in, tmp_path)["seeds"]
    (tmp_path / "baselines" / "zoo-avdigits.mmlb.tar.gz").unlink()
    assert "has 2 seeds, not 3" in wrong(handed_in, tmp_path)["seeds"]


def test_labels_of_the_prepared_data(handed_in: Path, tmp_path: Path) -> None:
    fake_runs.write_manifest(tmp_path / "cache")
    (tmp_path / "cache" / "avdigits-0123456789" / "split-speaker.csv").write_text("part,id,label,group\n")
    assert "those of the dataset" in wrong(handed_in, tmp_path)["data"]


def test_an_archive_that_is_none_or_of_full_runs_or_forged(handed_in: Path, tmp_path: Path) -> None:
    def facts(place: Path) -> dict[str, str]:
        return {f.about: f.wrong for f in check_row(place, load_index(), tmp_path / "cache") if f.wrong}

    assert "is no file" in facts(tmp_path / "nothing")["archive"]
    archive.pack(handed_in, tmp_path / "full.tar.gz")
    assert "no archive of scores" in facts(tmp_path / "full.tar.gz")["archive"]
    archive.pack_scores(handed_in, tmp_path / "row.tar.gz")

    def more_passes(files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.endswith("run.json"))
        files[name] = json.dumps({**json.loads(files[name]), "sample_passes": 1}).encode()

    assert list(facts(repacked(tmp_path / "row.tar.gz", tmp_path / "forged.tar.gz", more_passes))) == ["plan"]


# ---- who stands for a row --------------------------------------------------------------------------------------
def labelled(results: Path) -> dict[str, Reported]:
    """Return label -> who stands for its accuracy."""
    rows: list[Row] = parse_rows(make_frame(results, results / "cache")[0])
    return {row.label: row.reported for row in rows if (row.table, row.metric) == ("accuracy", "accuracy")}


def test_contributed_rows_are_self_reported_until_each_run_is_trained_again(
    handed_in: Path, tmp_path: Path, capsys
) -> None:
    archive.pack_scores(handed_in, tmp_path / "baselines" / "contributed-mine.mmlb.tar.gz")
    results = tmp_path / "results"
    for name in ("zoo", "contributed"):
        assert run(capsys, "import", name, "--results", results)[0] == 0
    assert labelled(results) == {"joint": Reported.OWN, "ogm_ge": Reported.SELF_REPORTED}
    mine = sorted(read_origins(results))
    assert len(mine) == 3 and all("/ogm_ge/" in name for name in mine)
    keep_reproduced(results, {mine[0]: AGAIN, mine[1]: AGAIN, "runs/a/b/joint/s0-0123456789": AGAIN})
    assert labelled(results)["ogm_ge"] is Reported.SELF_REPORTED and sorted(read_origins(results)) == mine
    keep_reproduced(results, {mine[2]: Reproduced(Outcome.WITHIN_INTERVAL, "0123456789", "e" * 16, "0.2.0", "")})
    assert labelled(results)["ogm_ge"] is Reported.REPRODUCED

    # no archive carries it: who imports sees the rows self-reported
    archive.pack_scores(results, tmp_path / "all.tar.gz")
    assert b"reproduced" not in read_files(tmp_path / "all.tar.gz")[FILE]
    archive.unpack(tmp_path / "all.tar.gz", tmp_path / "other")
    assert labelled(tmp_path / "other") == {"joint": Reported.OWN, "ogm_ge": Reported.SELF_REPORTED}


def test_a_full_archive_marks_its_runs_too(handed_in: Path, tmp_path: Path) -> None:
    archive.pack(handed_in, tmp_path / "full.tar.gz")
    archive.unpack(tmp_path / "full.tar.gz", tmp_path / "first", contributed=True)
    archive.pack(tmp_path / "first", tmp_path / "again.tar.gz")
    archive.unpack(tmp_path / "again.tar.gz", tmp_path / "second")
    assert set(labelled(tmp_path / "second").values()) == {Reported.SELF_REPORTED}
    assert FILE not in read_files(tmp_path / "full.tar.gz"), "nobody handed these in"


def test_an_import_that_is_stopped_leaves_no_run_without_its_mark(
    handed_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.pack_scores(handed_in, tmp_path / "row.tar.gz")
    put, done = archive._put, list[Path]()

    def stopped(run: Path, place: Path) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(place)
        put(run, place)

    results = tmp_path / "results"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archive, "_put", stopped)
        archive.unpack(tmp_path / "row.tar.gz", results, contributed=True)
    assert (done[0] / "run.json").exists()
    archive.unpack(tmp_path / "row.tar.gz", results, contributed=True)
    assert set(labelled(results).values()) == {Reported.SELF_REPORTED}


def test_an_archive_that_claims_to_be_reproduced(handed_in: Path, tmp_path: Path) -> None:
    mark_contributed(handed_in, [str(p.relative_to(handed_in)) for p in handed_in.glob("runs/*/*/*/*")])
    archive.pack_scores(handed_in, tmp_path / "row.tar.gz")

    def claim(files: dict[str, bytes]) -> None:
        runs = json.loads(files[FILE])["runs"]
        told = {name: {**one, "reproduced": vars(AGAIN)} for name, one in runs.items()}
        files[FILE] = json.dumps({"schema": 1, "runs": told}).encode()

    archive.unpack(repacked(tmp_path / "row.tar.gz", tmp_path / "forged.tar.gz", claim), tmp_path / "new")
    assert set(labelled(tmp_path / "new").values()) == {Reported.SELF_REPORTED}


def test_a_run_that_is_made_anew_is_nobody_elses(handed_in: Path) -> None:
    mark_contributed(handed_in, [str(p.relative_to(handed_in)) for p in handed_in.glob("runs/*/*/*/*")])
    assert set(labelled(handed_in).values()) == {Reported.SELF_REPORTED}
    edited(handed_in, lambda record, facts: record.update(sample_passes=7))
    assert set(labelled(handed_in).values()) == {Reported.OWN}


def test_the_weakest_of_several_counts() -> None:
    own, told, again = Reported.OWN, Reported.SELF_REPORTED, Reported.REPRODUCED
    assert of_several([]) is own and of_several([own, again]) is again and of_several([again, told, own]) is told


@pytest.mark.parametrize("text", ["[]", '{"schema": 2, "runs": {}}', '{"schema": 1, "runs": {"../x": {}}}'])
def test_a_file_of_another_form_is_refused(handed_in: Path, text: str, capsys) -> None:
    (handed_in / FILE).write_text(text)
    with pytest.raises(DataError, match=FILE):
        read_origins(handed_in)
    assert FILE in refused(capsys, "tables", "--results", handed_in)
