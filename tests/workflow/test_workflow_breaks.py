"""The one command, broken off or asked for what can't be: the real Snakemake in a copy of the working tree."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from clone import MOMENTS, ROOT, TABLES, Clone, study
from quick import quick_first

from mmlbench.study.config import read_study

sys.path.insert(0, str(ROOT / "tools"))
import lint_workflow

DEFAULT = "config.yaml"
CONFIGS = sorted(path.name for path in (ROOT / "config").glob("*.yaml"))
GENERATED = ("results", "cache", ".snakemake")
#: A method that fails until a file is there, for whatever reason that lies outside its code.
FRAGILE = '''
from pathlib import Path
from mmlbench.methods.joint import Joint
from mmlbench.registry import register

@register
class Fragile(Joint):
    """Joint training where the file is there."""

    def build(self):
        super().build()
        if not Path("fixed").exists():
            raise ValueError("not fixed yet")
'''


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return a clone for all tests, so that the plug-ins' index holds."""
    return Clone(tmp_path_factory.mktemp("breaks") / "clone")


@pytest.fixture
def clone(shared: Clone) -> Clone:
    """Return the clone with nothing made."""
    for name in GENERATED:
        shutil.rmtree(shared.folder / name, ignore_errors=True)
    shared.configure(study())
    return shared


# --- broken off -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def whole(shared: Clone) -> dict[str, bytes]:
    """Return the files of a study that was never interrupted; it may be asked for before any test, or amid them."""
    for name in GENERATED:
        shutil.rmtree(shared.folder / name, ignore_errors=True)
    shared.configure(study())
    shared.make()
    return shared.determined()


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False], ids=["with its jobs", "alone"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_kills_at_every_stage_end_in_the_same_files(moment, group, whole, clone):
    """Killed alone, Snakemake leaves a job behind that goes on working while the same command is typed again."""
    clone.kill_at(MOMENTS[moment], group)
    assert "tables" in clone.make().jobs
    assert clone.determined() == whole
    assert clone.planned() == []


@pytest.mark.slow
def test_a_second_call_beside_a_living_one_is_refused(clone):
    clone.configure(study(["joint"], recipe_set={"epochs": 60, "batch_size": 16}))
    first = clone.start("snakemake", "--cores", "1", TABLES)
    clone.wait_for(MOMENTS["a run"], first)
    second = clone.call("snakemake", "--cores", "1", TABLES)
    assert second.code == 1 and "locked" in second.text and "killed here" not in second.text
    text, _ = first.communicate(timeout=200)
    assert first.returncode == 0, text


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["refused by the lock", "a look"])
def test_another_study_beside_a_living_start_takes_nothing_from_its_tables(words, clone):
    other = clone.folder / "config" / "other.yaml"
    other.write_text(yaml.safe_dump(study(["joint"]) | {"name": "other"}), encoding="utf-8")
    clone.configure(study(["joint"], recipe_set={"epochs": 60, "batch_size": 16}))
    first = clone.start("snakemake", "--cores", "1", TABLES)
    clone.wait_for(MOMENTS["a run"], first)
    plan = (clone.folder / "results" / "plan.json").read_bytes()
    second = clone.call("snakemake", "--cores", "1", TABLES, "--configfile", str(other), *words)
    assert second.code == (0 if words else 1), second.text
    assert (clone.folder / "results" / "plan.json").read_bytes() == plan
    text, _ = first.communicate(timeout=200)
    assert first.returncode == 0, text
    assert json.loads((clone.folder / "results" / "tables" / "plan.json").read_text())["name"] == "tiny"
    assert "tables" in clone.make("--configfile", str(other)).jobs
    assert json.loads((clone.folder / "results" / "tables" / "plan.json").read_text())["name"] == "other"


@pytest.mark.slow
def test_tables_of_an_exchanged_plan_are_refused_and_not_made(clone):
    """Without Snakemake's lock (--nolock) the plan can still be exchanged: then the tables step must not go by it."""
    clone.make()
    tables = (clone.folder / TABLES).read_bytes()
    refused = clone.call("mmlbench", "tables", "--expect", "0123456789")
    assert refused.code == 2 and refused.text.count("\n") == 1 and (clone.folder / TABLES).read_bytes() == tables


# --- a run that fails --------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_failed_run_lets_the_others_go_on_and_is_named_with_its_command(clone):
    (clone.folder / "mine").mkdir(exist_ok=True)
    (clone.folder / "mine" / "fragile.py").write_text(FRAGILE, encoding="utf-8")
    config = study(["fragile", "joint"])
    clone.configure(config | {"plugins": [*config["plugins"], "mine"]})
    answer = clone.call("snakemake", "--cores", "1", "--keep-going", TABLES)
    assert answer.code == 1 and answer.jobs == ["fragile 0", "joint 0", "prepare"]
    assert re.search(
        r"^mmlbench: runs/\S+ failed: ValueError: not fixed yet \(.*fragile.py, line 13\)", answer.text, re.M
    )
    assert "Traceback" not in answer.text
    named = r"1 of 2 planned runs .*: tiny/speaker fragile seed 0.* \((mmlbench train [^)]*)\)"
    refused = clone.call("mmlbench", "tables")
    assert refused.code == 2 and refused.text.count("\n") == 1
    commands = {re.findall(named, text)[0] for text in (answer.text, refused.text)}
    assert len(commands) == 1
    (clone.folder / "fixed").touch()
    assert clone.call(*shlex.split(commands.pop())).code == 0
    assert clone.call("mmlbench", "tables").code == 0 and clone.seeds("fragile") == {"1"}
    assert clone.planned() in ([], ["tables"])


# --- what can't be ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": [0]}, "mmlbench: config/config.yaml: grid block 1: unknown key 'seed'. Did you mean seeds?"),
        ({"methods": ["joit"]}, "mmlbench: config/config.yaml: unknown method 'joit'. Did you mean joint?"),
        (
            {"recipe_set": {"epoch": 3}},
            "mmlbench: config/config.yaml: recipe 'embedded': unknown parameter 'epoch'. Did you mean epochs?",
        ),
    ],
)
@pytest.mark.slow
def test_a_wrong_config_is_one_line_without_a_traceback(change, line, clone):
    config = study()
    config["grid"][0] |= change
    clone.configure(config)
    answer = clone.call("snakemake", "--cores", "1", TABLES)
    assert answer.code == 2
    assert [text for text in answer.text.splitlines() if "profile" not in text] == [line]
    assert clone.call("mmlbench", "estimate", "config/config.yaml").text.splitlines() == [line]
    assert not (clone.folder / "results").exists()


@pytest.mark.slow  # `make lint` has it too
def test_lint_reports_nothing_but_the_missing_environment(clone):
    """Rules without `conda:` start on a bare node by their plain `shell:`; Snakemake can't be told so."""
    report = clone.call("snakemake", "--lint").text
    assert lint_workflow.ACCEPTED in report
    assert lint_workflow.findings(report) == []
    assert lint_workflow.findings(report.replace(lint_workflow.ACCEPTED, "Another finding"))


@pytest.mark.parametrize("name", quick_first(CONFIGS, ["config.yaml"]))
def test_every_config_can_be_planned(name, clone):
    for file in CONFIGS:
        shutil.copyfile(ROOT / "config" / file, clone.folder / "config" / file)
    answer = clone.make("--dry-run", "--configfile", f"config/{name}")
    runs = read_study(Path(ROOT / "config" / name)).runs
    assert len(runs) == int(re.findall(r"^train +(\d+)", answer.text, re.MULTILINE)[0])
    assert len({run.cache for run in runs}) == int(re.findall(r"^prepare +(\d+)", answer.text, re.MULTILINE)[0])
