"""The command line: help, exit codes, and the commands `new`, `doctor`, `reproduce`, `score`, `stale`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import run

from mmlbench.api.making import make_run
from mmlbench.cli import doctor, main, new, parser
from mmlbench.cli.parser import make_parser
from mmlbench.registry.index import load_index
from mmlbench.storage import paths
from mmlbench.study import config as configs
from mmlbench.testing import FEW_EPOCHS, PLUGINS

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "list",
    "describe",
    "new",
    "prepare",
    "train",
    "score",
    "tables",
    "leaderboard",
    "stale",
    "reproduce",
    "doctor",
)


# --- help and exit codes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_that_parses(command, capsys):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    example = re.search(rf"example:\n  mmlbench ({command}.*)", out)
    assert example
    assert make_parser().parse_args(example[1].split()).command


def test_help_names_every_command_once_in_a_group(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(len(re.findall(rf"\n  {command} +\S", out)) == 1 for command in COMMANDS)
    assert re.findall(r"^(\w+):$", out, re.M)[: len(parser.GROUPS)] == list(parser.GROUPS)
    assert run(capsys, "--version")[:2] == (0, f"mmlbench {importlib.metadata.version('mmlbench')}\n")


def test_a_command_that_stands_in_no_group_is_a_fault(monkeypatch):
    monkeypatch.setitem(parser.GROUPS, "Data", ("prepare", "fetch"))
    with pytest.raises(ValueError, match="audit"):
        make_parser()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "mmlbench: the following arguments are required: COMMAND"),
        ("lst", "unknown command 'lst'. Did you mean list or stale? See mmlbench --help"),
        ("list methodz", "invalid choice: 'methodz'"),
        ("list --jsn", "unknown option '--jsn'. Did you mean --json?"),
        ("train --methd joint", "unknown option '--methd'. Did you mean --method"),
        ("train --meth joint", "unknown option '--meth'. Did you mean --method"),
        ("train --set-recipe epochs=3", "Did you mean --recipe or --recipe-set"),
        ("train extra", "unexpected argument 'extra'"),
        ("train --seed x", "argument --seed: invalid int value: 'x'"),
        ("train --set alpha", "argument --set: 'alpha' is not key=value"),
        ("train --save-every -1", "argument --save-every: invalid seconds value: '-1'"),
        ("train --dataset tiny", "a run needs --dataset and --method, or --spec. See mmlbench train --help"),
        ("train --dataset avdigits --method joint --set fusion=sum --set fusion=sum", "fusion is set twice"),
        ("train --spec /nowhere/run.json", "/nowhere/run.json is no file"),
        ("new thing name", "invalid choice: 'thing'"),
        ("describe", "the following arguments are required: name"),
    ],
)
def test_a_wrong_command_gets_one_line_and_exit_code_2(words, message, capsys):
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1 and err.startswith("mmlbench")


def test_the_list_says_which_tasks_a_method_serves(capsys):
    _, out, _ = run(capsys, "list", "methods")
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert lines["ogm"].endswith("[classification]") and lines["joint"].endswith("[all tasks]")
    assert "[" not in run(capsys, "list", "encoders")[1]


def test_a_fault_of_the_program_is_one_line_and_exit_code_1(capsys, monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError("this is\na fault")

    monkeypatch.setattr("mmlbench.api.plugins.load_index", broken)
    code, _, err = run(capsys, "list")
    assert (code, err.count("\n")) == (1, 1)
    assert "unexpected ZeroDivisionError: this is a fault. Run it again with --debug" in err
    with pytest.raises(ZeroDivisionError):
        main(["list", "--debug"])


def test_stopping_by_hand_is_told(capsys, monkeypatch):
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmlbench.api.plugins.load_index", stop)
    assert run(capsys, "list")[0] == 130


# --- new -------------------------------------------------------------------------------------------------


def test_new_refuses_what_can_be_no_name_or_is_taken(capsys):
    for name in ("My-Idea", "1st", "class", "a" * 41, ""):
        code, _, err = run(capsys, "new", "method", name)
        assert code == 2 and f"{name!r} can't name a method" in err and err.count("\n") == 1
    assert "such as my_idea" in run(capsys, "new", "method", "My-Idea")[2]
    for kind in ("method", "dataset", "encoder"):
        code, _, err = run(capsys, "new", kind, "random")
        assert code == 2 and f"such as random_{kind}" in err and "library" in err and err.count("\n") == 1
    code, _, err = run(capsys, "new", "method", "joint")
    assert code == 2 and f"already, in {ROOT / 'methods' / 'joint.py'}" in err


def test_new_refuses_to_write_over_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "tests" / "test_method_idea.py"
    kept.parent.mkdir()
    kept.write_text("mine")
    code, _, err = run(capsys, "new", "method", "idea")
    assert code == 2 and f"{kept} exists already" in err
    assert kept.read_text() == "mine" and not (tmp_path / "plugins").exists()


def test_new_goes_into_the_checkout(monkeypatch):
    monkeypatch.setattr(paths, "checkout", lambda: Path("/checkout"))
    found = {kind: new.places(kind, "idea", Path("/here")) for kind in ("method", "dataset", "encoder")}
    assert found["method"] == (Path("/checkout/methods/idea.py"), Path("/checkout/tests/methods/test_method_idea.py"))
    assert found["dataset"][0] == Path("/checkout/datasets/idea.py")
    assert found["encoder"][0] == Path("/checkout/mmlbench/encoders/idea.py")


KINDS = (("method", "my_idea"), ("dataset", "my_data2"), ("encoder", "tower"))


def check_skeletons(root: Path, files: list[Path], environment: dict[str, str], passed: int, *chosen: str) -> None:
    """Run the tests that `new` wrote (or `chosen` ones), and hold its files to the style of the rest."""
    tests = [path for path in files if path.name.startswith("test_")]
    words = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", *chosen, *map(str, tests)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\b{passed} passed", done.stdout), done.stdout
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
        style = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, cwd=root, check=False)
        assert style.returncode == 0, style.stdout


@pytest.mark.slow
def test_new_writes_plugins_that_work_and_tests_that_pass(tmp_path):
    """The whole way, in a copy of the checkout: write, list, test."""
    for name in ("mmlbench", "methods", "config"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "datasets").mkdir()
    shutil.copytree(ROOT / "tests" / "support", tmp_path / "tests" / "support")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MMLBENCH_INDEX": str(tmp_path / "index")}
    environment["MMLBENCH_PLUGINS"] = ""  # the copy brings the tiny datasets of its own
    for kind, name in KINDS:
        words = [sys.executable, "-m", "mmlbench", "new", kind, name]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    written = [
        tmp_path / "methods/my_idea.py",
        tmp_path / "datasets/my_data2.py",
        tmp_path / "mmlbench/encoders/tower.py",
    ]
    written += [tmp_path / "tests" / f"{kind}s" / f"test_{kind}_{name}.py" for kind, name in KINDS]
    assert all(path.is_file() for path in written)
    check_skeletons(tmp_path, written, environment, 10)


@pytest.mark.slow
def test_new_without_a_checkout_writes_a_plugin_folder(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(paths, "checkout", lambda: None)
        patch.chdir(tmp_path)
        for kind, name in KINDS:
            code, _, err = run(capsys, "new", kind, name)
            assert code == 0 and "--plugins plugins" in err
    written = [tmp_path / "plugins" / f"{name}.py" for _, name in KINDS]
    written += [tmp_path / "tests" / f"test_{kind}_{name}.py" for kind, name in KINDS]
    check_skeletons(tmp_path, written, dict(os.environ), 1, "-k", "two_parts")  # the others need torch: above


# --- doctor ----------------------------------------------------------------------------------------------


def doctor_words(tmp_path: Path, config: object = None) -> list[object]:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config or small_study()))  # JSON is YAML
    return ["doctor", "--config", path, "--results", tmp_path / "results", "--cache", tmp_path / "cache"]


def small_study(**more: object) -> dict:
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0, 1], "methods": ["unimodal", "joint"], **more}
    return {"plugins": [str(PLUGINS)], "grid": [block]}


def test_doctor_finds_nothing_wrong_here(tmp_path, capsys):
    code, out, _ = run(capsys, *doctor_words(tmp_path))
    assert code == 0, out
    abouts = {line.split()[1] for line in out.splitlines()[:-1]}
    assert {
        "python",
        "mmlbench",
        "packages",
        "torch",
        "cuda",
        "cpu",
        "git",
        "plug-ins",
        "results",
        "config",
        "runs",
    } <= abouts
    assert {line.split()[0] for line in out.splitlines()[:-1]} <= {"ok", "note"}
    assert re.search(r"ok +torch +imports in [\d.]+ s", out)
    assert "0 done, 4 to do. Type: snakemake --cores all results/all_tables.csv" in out
    assert not (tmp_path / "results").exists(), "it writes nothing"


def test_doctor_takes_the_study_as_snakemake_does_and_names_it(tmp_path, capsys):
    _, short_name, path, *places = doctor_words(tmp_path)
    code, out, _ = run(capsys, "doctor", "--configfile", path, *places)
    named = next(line for line in out.splitlines() if line.split()[1] == "config")
    assert code == 0 and str(path) in named and f"--configfile {path}" in out
    assert run(capsys, "doctor", short_name, path, *places)[0] == 0, "the earlier name of the option"
    _, out, _ = run(capsys, "doctor", *places)
    named = next(line for line in out.splitlines() if line.split()[1] == "config")
    assert "config.yaml" in named and "--configfile" in named, "which one it looked at, and how to name another"


@pytest.mark.parametrize("name", ["torchvision", "torchaudio"])
def test_doctor_says_what_to_type_where_a_package_does_not_fit_torch(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # as an import that fails
    code, out, _ = run(capsys, *doctor_words(tmp_path))
    (line,) = [line for line in out.splitlines() if line.split()[:2] == ["wrong", name]]
    assert code == 1 and line.endswith("Type: make env")


def test_doctor_names_what_is_wrong_with_its_mend(tmp_path, capsys, plugin_folder, monkeypatch):
    (plugin_folder / "broken.py").write_text("raise ValueError('the reason')\n")
    config = {"plugins": [str(plugin_folder)], "grid": []}
    words = doctor_words(tmp_path, config)
    (tmp_path / "cache").write_text("a file")
    real = doctor.version

    def lacking(name: str) -> str:
        if name == "soundfile":
            raise importlib.metadata.PackageNotFoundError
        return "0.0.1" if name == "scipy" else real(name)

    monkeypatch.setattr(doctor, "version", lacking)
    monkeypatch.setattr(doctor, "LEAST_BYTES", 2**70)
    from mmlbench.registry.index import use_plugins

    use_plugins([plugin_folder])
    code, out, _ = run(capsys, *words)
    assert code == 1 and "5 to fix" in out
    wrong = [line for line in out.splitlines() if line.startswith("wrong")]
    for about, message in (
        ("soundfile", "not installed; needed for recordings. Type: make env"),
        ("plug-in", "broken.py: ValueError: the reason (line 1). Fix or rename the file"),
        ("results", "GiB free. Free some space"),
        ("cache", "is no folder. Move it away, or name another by --cache"),
        ("config", "grid is [], not a list with at least one block"),
    ):
        assert any(line.split()[1] == about and message in line for line in wrong), about
    assert re.search(r"note +scipy +0\.0\.1; tested with", out)


def test_doctor_counts_the_runs_and_says_what_is_the_matter(tmp_path, capsys, tiny):
    study = configs.study(small_study())
    for spec in study.runs[:2]:
        make_run(spec, load_index(), tmp_path / "results", tiny.cache, device="cpu")
    words = doctor_words(tmp_path)
    words[-1] = tiny.cache
    assert "2 done, 2 to do" in run(capsys, *words)[1]
    folder = tmp_path / "results" / study.runs[0].path
    (folder / "history.csv").write_text("cut")
    out = run(capsys, *words)[1]
    assert "1 done, 3 to do" in out and f"{study.runs[0].path}: history.csv is missing or was changed" in out
    (folder / "run.json").write_text("{")
    assert f"{study.runs[0].path}: run.json is corrupt" in run(capsys, *words)[1]
    words[-1] = tmp_path / "no_cache"
    code, out, _ = run(capsys, *words)
    assert code == 0 and "its prepared data is gone" in out


def test_doctor_sees_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_writable", lambda folder: False)
    (finding,) = doctor.folder_findings("results", tmp_path)
    assert (finding.verdict, finding.fix) == ("wrong", "Make it writable, or name another by --results")
