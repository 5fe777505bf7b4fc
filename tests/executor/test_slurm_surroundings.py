"""Odd surroundings, without a cluster: names of folders, a home that can't be written, another user's clone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit import batch, executor, script
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_interface_common.exceptions import WorkflowError

from mmlbench.cli import doctor
from mmlbench.study import workflow
from mmlbench.system import pythonpath

NOBODY = 65534


def as_nobody(call, folder):
    """Return what a call prints to standard error, or raises, and its exit code, in a folder as another user."""
    if os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    out, into = os.pipe()
    child = os.fork()
    if not child:
        code = 0
        os.dup2(into, 2)
        try:
            os.chdir(folder)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            call()
        except SystemExit as error:
            code = error.code
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        os._exit(code)
    os.close(into)
    with os.fdopen(out) as message:
        text = message.read()
    return text, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "name", ["50%", "100% sure", "a b", "it's", 'two"quotes', "näïve", "tab\ty", "$HOME", "*", "{x}"]
)
def test_most_names_will_do(name):
    script.no_pattern(Path("/x", name, ".snakemake/submitit"))


@pytest.mark.parametrize("name", ["x%jy", "%A", "%2t", "50%%", "back\\slash", "new\nline"])
def test_names_that_slurm_reads_as_patterns_are_refused(name):
    with pytest.raises(WorkflowError, match="in its name what SLURM takes for a pattern") as error:
        script.no_pattern(Path("/x", name, ".snakemake/submitit"))
    assert "submitit-folder" in str(error.value) and "\n" not in str(error.value)


def test_caches_go_elsewhere_where_home_can_not_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/dev/null/home")
    ExecutorSettings()
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / ".snakemake" / "cache")
    assert "/dev/null/home can't be written, so caches go to" in capsys.readouterr().err
    ExecutorSettings()
    assert capsys.readouterr().err == "" and (tmp_path / ".snakemake" / "cache").is_dir()


def test_a_home_that_can_be_written_is_used(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    ExecutorSettings()
    assert "XDG_CACHE_HOME" not in os.environ and capsys.readouterr().err == ""


@pytest.fixture
def open_to_all(tmp_path):
    """Return a folder that everybody can reach."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    return tmp_path


def test_job_files_of_another_user_are_refused(open_to_all):
    batch.open_root(open_to_all / "submitit")
    text, _ = as_nobody(lambda: executor._open("submitit"), open_to_all)
    assert text == (
        "WorkflowError: the folder submitit can't be used (it belongs to root): name another in submitit-folder"
    )


def test_another_users_clone_is_one_line(open_to_all):
    (open_to_all / ".snakemake").mkdir()
    text, code = as_nobody(lambda: workflow.own_folders(".snakemake"), open_to_all)
    assert (text, code) == (
        f"mmlbench: {open_to_all}/.snakemake belongs to root. Work in a clone of your own: git clone, make env\n",
        2,
    )


def test_ones_own_clone_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "results").mkdir()
    workflow.own_folders("results", "nowhere")


# ---- PYTHONPATH ------------------------------------------------------------------------------------------------
@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a site's folder of packages, which PYTHONPATH names."""
    folder = tmp_path / "site"
    (folder / "numpy").mkdir(parents=True)
    (folder / "numpy" / "__init__.py").write_text("raise ImportError('of another Python')\n")
    (folder / "yaml.py").write_text("")
    (folder / "their_tools").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{folder}:/nowhere")
    return folder


def test_what_a_sites_module_hides_is_found(site):
    assert pythonpath.shadowed() == {str(site): ["numpy", "yaml"]}


def test_nothing_is_hidden_by_other_packages_and_by_ourselves(tmp_path, monkeypatch):
    (tmp_path / "my_plugin.py").write_text("")
    monkeypatch.setenv(
        "PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}:{Path(sys.modules['pytest'].__file__).parents[1]}"
    )
    assert pythonpath.shadowed() == {}
    monkeypatch.delenv("PYTHONPATH")
    assert pythonpath.warning() == ""


def test_it_is_said_at_the_start_before_anything_breaks(site):
    words = [sys.executable, "-m", "mmlbench", "doctor"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    message = f"PYTHONPATH names {site}, whose numpy, yaml hide what {sys.prefix} has. Type: unset PYTHONPATH"
    assert f"mmlbench: {message}" in done.stderr.splitlines()[0]


def test_the_doctor_and_the_workflow_say_it(site, capfd):
    (finding,) = doctor.pythonpath_findings()
    assert finding.verdict == "wrong" and "whose numpy, yaml hide" in finding.what and "unset" in finding.fix
    workflow.own_folders()
    assert f"mmlbench: {finding.what}. {finding.fix}" in capfd.readouterr().err
