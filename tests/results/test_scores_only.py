"""Archives of scores: what tables and comparisons need of runs, without their logits and weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import fake_runs
import pytest
from bad_input import refused, run
from fake_runs import small
from made_archives import read_files

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.rows import NoValue, Row, parse_rows
from mmlbench.errors import DataError
from mmlbench.results import archive
from mmlbench.results.load import read_plan
from mmlbench.results.run_folder import RunFolder
from mmlbench.results.scores_only import same_scores, stored_of
from mmlbench.results.stored_scores import FILE, is_scores_only
from mmlbench.results.verify import verify_run

#: Metrics of tables that come from logits, of a task with classes.
FROM_LOGITS = ("nll", "ece", "shapley_nll", "added_nll", "interaction_nll", "resolution@nll")


def from_logits(row: Row) -> bool:
    return row.metric.startswith(FROM_LOGITS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("scores") / "results"
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint", "ensemble")]
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1))])
    return results


@pytest.fixture(scope="module")
def packed(written: Path) -> Path:
    archive.pack_scores(written, written.parent / "scores.tar.gz")
    return written.parent / "scores.tar.gz"


@pytest.fixture
def imported(packed: Path, tmp_path: Path) -> Path:
    archive.unpack(packed, tmp_path / "imported")
    return tmp_path / "imported"


def joint(results: Path, seed: int = 0) -> Path:
    return next(results.glob(f"runs/*/*/joint/s{seed}-*"))


def rows_of(results: Path) -> dict[str, Row]:
    return {row.row_id: row for row in parse_rows(make_frame(results, results / "cache")[0])}


# ---- what is packed --------------------------------------------------------------------------------------------
def test_no_logits_and_no_weights_are_packed_and_bytes_are_equal(written: Path, packed: Path, tmp_path: Path) -> None:
    names = {Path(name).name for name in read_files(packed)}
    assert not names & {"predictions.npz", "probe.npz"} and not any(name.startswith("weights") for name in names)
    assert {"run.json", "provenance.json", "history.csv", "epochs.npz", FILE} <= names
    archive.pack_scores(written, tmp_path / "again.tar.gz")
    assert packed.read_bytes() == (tmp_path / "again.tar.gz").read_bytes()
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_an_archive_is_written_whole_or_not_at_all(written: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_write", full)
    with pytest.raises((OSError, DataError)):
        archive.pack_scores(written, tmp_path / "to" / "s.tar.gz")
    assert not list((tmp_path / "to").iterdir())


def test_scores_of_scores_are_the_same_archive(packed: Path, imported: Path, tmp_path: Path) -> None:
    archive.pack_scores(imported, tmp_path / "again.tar.gz")
    assert packed.read_bytes() == (tmp_path / "again.tar.gz").read_bytes()


def test_what_is_made_so_far_and_one_dataset_alone(written: Path, tmp_path: Path, capsys) -> None:
    results = Path(shutil.copytree(written, tmp_path / "results"))
    shutil.rmtree(joint(results, 1))
    assert "does not verify" in refused(capsys, "export", "--scores", "--results", results, "--to", tmp_path / "a")
    so_far = ("export", "--scores", "--so-far", "--results", results, "--to", tmp_path / "a")
    assert run(capsys, *so_far)[0] == 0
    archive.unpack(tmp_path / "a", tmp_path / "b")
    assert len(read_plan(tmp_path / "b").cells) == len(read_plan(results).cells) - 1
    assert "no dataset" in refused(capsys, *so_far, "--dataset", "avdigit")
    assert run(capsys, *so_far, "--dataset", "avdigits")[0] == 0
    assert "--scores" in refused(capsys, "export", "--so-far", "--results", results)


# ---- tables ----------------------------------------------------------------------------------------------------
def check_tables(full: Path, scores: Path) -> tuple[int, int]:
    """Compare the rows of both, to the digit; return how many there are, and how many want logits."""
    one, other = (make_frame(results, results / "cache") for results in (full, scores))
    assert one[1:] == other[1:], "cost and pairwise comparisons"
    wanted, found = ({row.row_id: row for row in parse_rows(text[0])} for text in (one, other))
    blank = 0
    for row_id, row in wanted.items():
        if not from_logits(row):
            assert found[row_id] == row
        elif row.metric.startswith("resolution"):
            assert row_id not in found
        else:
            assert found[row_id].value is None and found[row_id].no_value is NoValue.SCORES_ONLY
            blank += 1
    assert set(found) <= set(wanted)
    assert not any(row.no_value is NoValue.SCORES_ONLY for row in wanted.values())
    return len(wanted), blank


def test_tables_are_equal_where_no_logits_are_needed(written: Path, imported: Path) -> None:
    total, blank = check_tables(written, imported)
    assert total > 150 and 20 < blank < total / 3
    labels = {row.label for row in rows_of(imported).values()}
    assert "joint + unimodal" in labels, "the mean of logits, which are not there"


def test_verify_and_the_records(written: Path, imported: Path) -> None:
    for folder in sorted(imported.glob("runs/*/*/*/*")):
        assert is_scores_only(folder) and verify_run(folder, imported) == []
        full = written / folder.relative_to(imported)
        assert (folder / "run.json").read_bytes() == (full / "run.json").read_bytes()
        assert same_scores(stored_of(RunFolder.open(full)), RunFolder.open(folder).scores)
