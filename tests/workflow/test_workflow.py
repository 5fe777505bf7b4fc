"""What the one command does again after a change, and what it leaves alone: the real Snakemake in a copy.

Each test starts from the same finished study of four runs (tests/support/clone.py), put back file by file with
its times.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from clone import METHODS, TABLES, Answer, Clone, study

from mmlbench.analysis.rows import parse_rows
from mmlbench.storage.atomic import read_arrays

#: The four runs of the study.
ALL = ["ensemble 0", "joint 0", "joint 1", "unimodal 0"]
BODY = ("methods/unimodal.py", "self.own = own_heads(", "self.unused = 1\n        self.own = own_heads(")
PREPARE = "mmlbench/testing/plugins/tiny.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Path, Answer]:
    """Return the clone, a copy of its finished state, and what the first call said."""
    base = tmp_path_factory.mktemp("workflow")
    clone = Clone(base / "clone")
    answer = clone.make()
    shutil.copytree(clone.folder, base / "finished", symlinks=True)
    return clone, base / "finished", answer


@pytest.fixture
def clone(finished: tuple[Clone, Path, Answer]) -> Clone:
    """Return the clone with its study finished. The path stays, so that the plug-ins' index holds."""
    clone, state, _ = finished
    shutil.rmtree(clone.folder)
    shutil.copytree(state, clone.folder, symlinks=True)
    return clone


def times(folder: Path) -> dict[Path, int]:
    """Return when each file of the results and the cache was written."""
    return {path: path.stat().st_mtime_ns for name in ("results", "cache") for path in (folder / name).rglob("*")}


def test_the_first_call_makes_everything_and_the_second_nothing(finished, clone):
    assert finished[2].jobs == sorted([*ALL, "prepare", "tables"])
    assert clone.seeds("joint") == {"2"} and clone.seeds("ensemble") == {"1"}
    before = times(clone.folder)
    assert "Nothing to be done" in clone.make().text
    assert times(clone.folder) == before


@pytest.mark.slow
def test_docstrings_comments_and_touched_files_rerun_nothing(clone):
    clone.edit("methods/unimodal.py", "named after it.", "named after it, in the order of the data.")
    clone.edit("methods/joint.py", "    min_modalities = 2\n", "    min_modalities = 2  # one is `unimodal`\n")
    clone.edit(PREPARE, '"""Draw patterns and noise."""', '"""Draw patterns, then noise."""')
    for path in clone.folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path)
    assert clone.planned() == []


@pytest.mark.slow
def test_an_edited_method_reruns_its_runs_and_those_that_reuse_them(clone):
    before = clone.made()
    clone.edit(*BODY)
    listed = clone.call("mmlbench", "stale", "--plugins", "mmlbench/testing/plugins")
    assert listed.code == 1 and "2 of 4 runs are stale" in listed.text
    assert listed.text.count("the code of its method has changed") == 2
    assert clone.make().jobs == ["ensemble 0", "tables", "unimodal 0"]
    assert clone.trained_since(before) == {"ensemble 0", "unimodal 0"}
    assert clone.call("mmlbench", "stale", "--plugins", "mmlbench/testing/plugins").code == 0


@pytest.mark.slow
def test_tables_refuse_stale_runs_and_name_the_command(clone):
    clone.edit(*BODY)
    assert clone.planned() == ["ensemble 0", "tables", "unimodal 0"]  # this also plans anew
    refused = clone.call("mmlbench", "tables")
    assert refused.code == 2 and "1 of 3 planned runs can't be used" in refused.text
    assert "ensemble seed 0: stale, made by other code of the method (mmlbench train --dataset tiny" in refused.text


@pytest.mark.slow
def test_added_seeds_train_alone_and_removed_ones_only_leave_the_tables(clone):
    before = clone.made()
    clone.configure(study(["ensemble", {"method": "joint", "seeds": [0, 1, 2]}]))
    assert clone.make().jobs == ["joint 2", "tables"]
    assert clone.trained_since(before) == {"joint 2"} and clone.seeds("joint") == {"3"}
    before = clone.made()
    clone.configure(study(["ensemble", {"method": "joint", "seeds": [2]}]))
    assert clone.make().jobs == ["tables"]
    assert clone.made() == before and clone.seeds("joint") == {"1"}


@pytest.mark.slow
def test_a_call_killed_in_a_run_continues_when_it_is_typed_again(clone):
    whole = clone.determined()
    for left in clone.folder.glob("results/runs/*/*/joint"):
        shutil.rmtree(left)
    clone.kill_at("results/runs/*/*/joint/*/lease.json", group=True)
    assert len(clone.made()) == 2 and list((clone.folder / ".snakemake" / "locks").iterdir())
    again = clone.make()
    assert "An earlier snakemake was killed here; its lock is removed and its work goes on." in again.text
    assert again.jobs == ["joint 0", "joint 1", "tables"]
    assert "taking over" in clone.log("joint 0") + clone.log("joint 1")
    assert clone.determined() == whole


@pytest.mark.slow
def test_a_changed_recipe_asks_for_runs_of_its_own(clone):
    clone.configure(study(METHODS, recipe_set={"epochs": 2, "batch_size": 16}))
    assert clone.planned() == sorted([*ALL, "tables"])


@pytest.mark.slow
def test_a_changed_recipe_makes_new_runs_beside_the_old_ones(clone):
    before = clone.made()
    clone.configure(study(["joint"], recipe_set={"epochs": 2, "batch_size": 16}))
    assert clone.make().jobs == ["joint 0", "tables"]
    assert clone.trained_since(before) == {"joint 0"} and len(clone.made()) == len(before) + 1
    clone.configure(study(METHODS))
    assert clone.make("--dry-run").jobs == ["tables"]


@pytest.mark.slow
def test_groups_of_the_config_reach_the_tables_and_a_changed_file_makes_them_again(clone):
    ids = read_arrays(clone.run_folder("joint 0") / "predictions.npz")["test/id"].tolist()
    file = clone.folder / "groups.csv"
    lines = [f"tiny,speaker,{name},twin{k // 2}" for k, name in enumerate(ids)]
    file.write_text("\n".join(["dataset,split,id,group", *lines, ""]))
    clone.configure({**study(METHODS), "groups": "groups.csv"})
    assert clone.planned() == ["tables"], "no run is made anew for it"
    assert clone.make().jobs == ["tables"] and clone.planned() == []
    rows = parse_rows((clone.folder / TABLES).read_text())
    (row,) = [r for r in rows if r.metric == "accuracy" and r.label == "joint" and r.kind == "fused"
              and r.table == "accuracy" and r.selection == "last"]  # fmt: skip
    assert "near-duplicate" in row.note
    before = clone.folder.joinpath(TABLES).read_bytes()
    assert clone.call("mmlbench", "tables").code == 0
    assert clone.folder.joinpath(TABLES).read_bytes() == before, "typed by hand it takes them too"
    file.write_text(file.read_text().replace("twin0", "twin1"))
    assert clone.planned() == ["tables"]
    file.unlink()
    refused = clone.call("snakemake", "--cores", "1", "--dry-run", TABLES)
    assert refused.code == 2 and "groups.csv" in refused.text


@pytest.mark.slow
def test_a_lost_snakemake_folder_is_not_missed(clone):
    shutil.rmtree(clone.folder / ".snakemake")
    before = clone.made()
    assert clone.make().jobs == []
    assert clone.made() == before


@pytest.mark.slow
def test_where_times_are_lost_too_jobs_start_and_find_nothing_to_do(clone):
    shutil.rmtree(clone.folder / ".snakemake")
    before = clone.made()
    for path in clone.folder.glob("cache/*/manifest.json"):
        os.utime(path)
    assert clone.make().jobs == sorted([*ALL, "tables"])
    assert clone.made() == before
    assert all("is complete already" in clone.log(run) for run in ALL)
    assert clone.planned() == []


@pytest.mark.slow
def test_a_lost_cache_is_prepared_for_new_runs_only(clone):
    before = clone.made()
    shutil.rmtree(clone.folder / "cache")
    assert clone.planned() == []
    clone.configure(study([*METHODS[:1], {"method": "joint", "seeds": [0, 1, 2]}]))
    answer = clone.make()
    assert {"prepare", "joint 2", "tables"} <= set(answer.jobs)
    assert clone.trained_since(before) == {"joint 2"}
    assert clone.planned() == []


@pytest.mark.slow
def test_a_plugin_folder_more_prepares_and_trains_nothing_again(clone):
    """An option of the commands that decides nothing; it once made Snakemake prepare anew and forget the runs."""
    before = times(clone.folder)
    (clone.folder / "mine").mkdir()
    clone.configure(study(METHODS) | {"plugins": ["mmlbench/testing/plugins", "mine"]})
    assert clone.make().jobs == ["tables"]  # the plan is another
    kept = [path for path in before if path.is_file() and {"runs", "cache"} & set(path.parts)]
    assert kept and {path: path.stat().st_mtime_ns for path in kept} == {path: before[path] for path in kept}


@pytest.mark.parametrize("lost", [False, True], ids=["as it is", "no .snakemake"])
@pytest.mark.slow
def test_a_changed_dataset_is_prepared_and_all_its_runs_are_made_anew(lost, clone):
    before, data = clone.made(), clone.fingerprints()
    clone.edit(PREPARE, "default_rng([7, place])", "default_rng([8, place])")
    if lost:
        shutil.rmtree(clone.folder / ".snakemake")
    assert clone.planned() == sorted([*ALL, "prepare", "tables"])
    refused = clone.call("mmlbench", "tables")
    assert refused.code == 2 and "3 of 3 planned runs can't be used" in refused.text
    assert "no stamp says that it was made from it" in refused.text
    clone.make()
    assert clone.trained_since(before) == set(ALL)
    assert len(clone.fingerprints() | data) == 2
    assert "its data fingerprint has changed" in clone.log("joint 0")
    assert clone.planned() == []


@pytest.mark.slow
def test_raw_files_that_changed_under_a_prepared_cache_make_the_runs_anew(clone):
    """The cache's name is the same, its content another: the tables refuse until the one command fixes it."""
    before = clone.made()
    shutil.rmtree(clone.folder / "cache")
    script = "import sys; from mmlbench.cli import main; import numpy as np; rng = np.random.default_rng\n"
    script += "np.random.default_rng = lambda seed: rng([*seed, 1]); sys.exit(main(sys.argv[1:]))"
    words = ("prepare", "tiny", "--plugins", "mmlbench/testing/plugins")
    assert clone.call("python", "-c", script, *words).code == 0
    refused = clone.call("mmlbench", "tables")
    assert refused.code == 2 and "stale, made from other data than the prepared cache" in refused.text
    assert clone.make().jobs == sorted([*ALL, "tables"])
    assert clone.trained_since(before) == set(ALL)
    assert clone.planned() == []


@pytest.mark.slow
def test_a_reused_run_that_came_out_otherwise_is_followed(clone):
    before = clone.made()
    shutil.rmtree(clone.run_folder("unimodal 0"))
    clone.edit("mmlbench/train/meter.py", "CHECK_EVERY = 50", "CHECK_EVERY = 49")  # so that run.json differs
    assert clone.make().jobs == ["ensemble 0", "tables", "unimodal 0"]
    assert clone.trained_since(before) == {"ensemble 0", "unimodal 0"}
    assert "its unimodal run was made anew" in clone.log("ensemble 0")


@pytest.mark.slow
def test_an_edited_engine_reruns_nothing_and_is_named_in_the_tables(clone):
    clone.edit("mmlbench/train/meter.py", "CHECK_EVERY = 50", "CHECK_EVERY = 49")
    assert clone.planned() == []
    before = clone.made()
    shutil.rmtree(clone.run_folder("joint 1"))
    assert clone.make().jobs == ["joint 1", "tables"]
    assert clone.trained_since(before) == {"joint 1"}
    assert "runs of 2 versions of the engine" in (clone.folder / TABLES).read_text(encoding="utf-8")
