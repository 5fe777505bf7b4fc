"""CREMA-D's folds over actors: who is tested where, and what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import mini_av
import pytest
from bad_input import refused

from mmlbench.datasets.cremad import LISTS, folds
from mmlbench.errors import DataError
from mmlbench.frontends import lists
from mmlbench.prepare.list_counts import list_counts
from mmlbench.registry.index import load_index

OFFICIAL = lists.read_rows(LISTS / "actor_folds.csv", columns=3)
ACTORS = [str(actor) for actor in range(1001, 1092)]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return mini_av.cremad(tmp_path_factory.mktemp("cremad"), 5, source="jpg")


# ---- the published folds -----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_every_actor_is_tested_once_and_no_actor_is_in_two_parts_of_a_fold():
    listed = load_index().load("dataset", "cremad")().listed(None)
    tested: Counter[str] = Counter()
    for number, counts in enumerate(folds.COUNTS):
        samples = listed[f"actors.{number}"].samples
        found = list_counts(samples)
        assert {part: found[f"rows/{part}"] for part in counts} == counts and len(samples) == 7442
        assert not any(found[f"groups/{pair}"] for pair in ("train+val", "train+test", "val+test"))
        tested.update({sample.group for sample in samples if sample.part == "test"})
    assert tested == dict.fromkeys(ACTORS, 1)
    ids = [s.id for number in range(10) for s in listed[f"actors.{number}"].samples if s.part == "test"]
    assert len(ids) == len(set(ids)) == 7442


def test_actors_whom_a_fold_does_not_name_train():
    found = folds.read_folds(OFFICIAL, ACTORS)
    assert len(found) == 10 and Counter(found[0].values()) == {"val": 9, "test": 10}
    assert found[0]["1001"] == "test" and found[0]["1002"] == "val" and "1003" not in found[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*OFFICIAL, ["1", "test", "1011"]], "the actor 1011 is tested in the folds 0 and 1"),
        ([*OFFICIAL, ["0", "val", "1001"]], "the actor 1001 stands twice in the fold 0"),
        ([row for row in OFFICIAL if row[1:] != ["test", "1091"]], "the actor 1091 is tested in no fold"),
        ([*OFFICIAL, ["10", "test", "1099"]], "has the line 10,test,1099"),
        ([*OFFICIAL, ["1", "train", "1099"]], "has the line 1,train,1099"),
        ([*OFFICIAL, ["one", "test", "1099"]], "has the line one,test,1099"),
    ],
)
def test_folds_that_would_test_an_actor_twice_or_never_are_refused(rows, words):
    with pytest.raises(DataError, match=words):
        folds.read_folds(rows, ACTORS)


def test_a_changed_list_of_folds_needs_the_flag_and_may_not_test_twice(mini, tmp_path, capsys, monkeypatch):
    own = Path(shutil.copytree(mini[1], tmp_path / "own"))
    words = ["prepare", "cremad", "--raw", mini[0], "--workers", "1", "--cache", tmp_path / "c", "--lists", own]
    with (own / "actor_folds.csv").open("a") as file:
        file.write("3,test,1001\n")
    assert "the actor 1001 is tested in the folds 0 and 3" in refused(capsys, *words)
    (own / "actor_folds.csv").unlink()
    assert "actor_folds.csv: no such list" in refused(capsys, *words)
    shipped = Path(shutil.copytree(LISTS, tmp_path / "shipped"))
    text = (shipped / "actor_folds.csv").read_text()
    (shipped / "actor_folds.csv").write_text(text.replace("0,val,1002", "0,val,1003"))
    module = __import__("mmlbench.datasets.cremad", fromlist=["LISTS"])
    monkeypatch.setattr(module, "LISTS", shipped)
    line = refused(capsys, *words[:-2])
    assert "actor_folds.csv in" in line and "is not the official list" in line
