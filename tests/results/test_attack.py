"""A stranger's archive: whatever it holds, nothing of it is ever run, and nothing foreign gets among the results.

Each attack is an archive made by hand, its hashes as right as a careful forger makes them. The Python in it leaves a
flag where it is run. What import refuses is then put among the results by hand, as an older version or `tar x` might
have done, and every command is typed over it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused
from clone import Clone, study
from fake_runs import small
from made_archives import Files, joint_of, read_files, reseal, write_archive

from mmlbench import plugins
from mmlbench.analysis.rows import parse_rows
from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.report import make_all
from mmlbench.results import archive
from mmlbench.storage.atomic import json_text, read_json, write_json
from mmlbench.storage.hashing import digest
from mmlbench.storage.paths import data_above, set_data_folders


def evil(flag: Path, who: str) -> bytes:
    """Return Python that says that it was run, and is a method, too, so that a plug-in index would take it."""
    return f"""
import pathlib
pathlib.Path({str(flag)!r}).open("a").write({who!r} + "\\n")
from mmlbench import Method, register
@register
class Evil(Method):
    \"\"\"Never to be run.\"\"\"
    name = "evil"
""".encode()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder with tables, and beside it its archive."""
    results = tmp_path_factory.mktemp("honest") / "results"
    methods = [m for m in fake_runs.default_methods() if m.label in ("unimodal", "joint", "ensemble")]
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1))])
    make_all(results, results / "cache", lambda line: None)
    archive.pack(results, results.parent / "study.tar.gz")
    return results


def name_plugins(files: Files, *folders: str) -> None:
    plan = json.loads(files["plan.json"])
    files["plan.json"] = json_text(plan | {"plugins": list(folders)}).encode()


#: Files that Python, pytest, Snakemake or an installer would run or read by themselves, and what could hide one.
IN_A_RUN = (
    "evil.py", ".evil.py", "methods/evil.py", "datasets/evil.py", "plugins/evil.py", "conftest.py", "evil.pth",
    "usercustomize.py", "json.py", "mmlbench.py", "sitecustomize.py", "evil.so", "evil.pyc", "__init__.py",
    "__pycache__/evil.cpython-311.pyc", "evil.dist-info/entry_points.txt", "evil.dist-info/METADATA",
    "done-0123456789/evil.py",
    "weights-evil.npz", "weights-last.py", "Snakefile", "config.yaml", "matplotlibrc", "pyproject.toml", "setup.py",
    ".x.0123456789ab-1-1-abcd.tmp", ".lease.py", "lease.json", "checkpoint.npz",
)  # fmt: skip
AT_THE_TOP = (
    "evil.py", "config/config.yaml", "config/recipes/embedded.yaml", "methods/evil.py", "datasets/evil.py",
    "plugins/evil.py", "Snakefile", "workflow/rules/common.smk", "tables/evil.py", "tables/sub/evil.csv",
    "runs/evil.py", "runs/avdigits/evil.py", "robustness/evil.py", "robustness/avdigits/speaker/joint/evil.npz",
    "cache/avdigits-0123456789/manifest.json", "../evil.py", "/tmp/evil-absolute.py", "runs/../../evil.py",
    "leaderboard.html", ".snakemake/conda/evil.py", "profiles/default/config.yaml",
)  # fmt: skip


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize("name", IN_A_RUN)
def test_a_foreign_file_in_a_run_folder(honest: Path, tmp_path: Path, capsys, name: str, listed: bool) -> None:
    """The attack as it was: the file is in a run folder, run.json lists it, and the plan names the folder."""
    flag = tmp_path / "flag"
    files = read_files(honest.parent / "study.tar.gz")
    folder = joint_of(files)
    files[f"{folder}/{name}"] = evil(flag, name)
    if listed:
        reseal(files, folder, {name: evil(flag, name)})
    name_plugins(files, f"results/{folder}", folder, str(tmp_path / "results" / folder))
    bad = write_archive(tmp_path / "bad.tar.gz", files)
    assert "belongs to no study" in refused(capsys, "import", bad, "--results", tmp_path / "results")
    assert "belongs to no study" in refused(capsys, "diff", bad, honest)
    assert not (tmp_path / "results").exists() and not flag.exists()


@pytest.mark.parametrize("name", AT_THE_TOP)
def test_a_foreign_file_beside_the_runs(honest: Path, tmp_path: Path, capsys, name: str) -> None:
    flag = tmp_path / "flag"
    files = read_files(honest.parent / "study.tar.gz")
    files[name] = evil(flag, name)
    bad = write_archive(tmp_path / "bad.tar.gz", files)
    assert "belongs to no study" in refused(capsys, "import", bad, "--results", tmp_path / "deep" / "results")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.tar.gz"] and not Path("/tmp/evil-absolute.py").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
@pytest.mark.parametrize("name", ["done-0123456789", "weights-val.npz", "evil.py", "methods"])
def test_a_link_in_a_run_folder(honest: Path, tmp_path: Path, capsys, name: str, kind: bytes) -> None:
    files = read_files(honest.parent / "study.tar.gz")
    (tmp_path / "evil.py").write_bytes(evil(tmp_path / "flag", name))
    links = {f"{joint_of(files)}/{name}": (kind, str(tmp_path))}
    bad = write_archive(tmp_path / "bad.tar.gz", files, links)
    assert "is no plain file" in refused(capsys, "import", bad, "--results", tmp_path / "results")
    assert not (tmp_path / "results").exists()


class Pickled:
    """Unpickled, it runs a command."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"echo pickle >> {self.flag}",)


@pytest.mark.parametrize("name", ["predictions.npz", "probe.npz", "epochs.npz"])
def test_a_pickle_among_the_arrays(honest: Path, tmp_path: Path, capsys, name: str) -> None:
    flag, files = tmp_path / "flag", read_files(honest.parent / "study.tar.gz")
    folder = joint_of(files)
    with np.load(io.BytesIO(files[f"{folder}/{name}"])) as found:
        arrays = dict(found)
    arrays[next(iter(arrays))] = np.array([Pickled(flag)], dtype=object)
    text = io.BytesIO()
    np.savez_compressed(text, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    files[f"{folder}/{name}"] = text.getvalue()
    reseal(files, folder, {name: text.getvalue()})
    bad = write_archive(tmp_path / "bad.tar.gz", files)
    assert name in refused(capsys, "import", bad, "--results", tmp_path / "results") and not flag.exists()


def test_plug_in_folders_of_a_strangers_plan_are_left_out_and_said(honest: Path, tmp_path: Path, capsys) -> None:
    files = read_files(honest.parent / "study.tar.gz")
    name_plugins(files, "my_methods", "/home/stranger/methods", "../methods", "\x1b[31m")
    bad = write_archive(tmp_path / "control.tar.gz", files)
    assert "plugins[3]" in refused(capsys, "import", bad, "--results", tmp_path / "results")
    name_plugins(files, "my_methods", "/home/stranger/methods", "../methods")
    write_archive(tmp_path / "named.tar.gz", files)
    capsys.readouterr()
    assert main(["import", str(tmp_path / "named.tar.gz"), "--results", str(tmp_path / "results")]) == 0
    assert "names plug-in folders ('my_methods', '/home/stranger/methods'" in capsys.readouterr().err
    assert read_json(tmp_path / "results" / "plan.json")["plugins"] == []


# ---- what is among the results by hand --------------------------------------------------------------------------
def lay(honest: Path, place: Path, in_a_run: bool) -> tuple[Path, Path, Path]:
    """Lay the attack into a results folder by hand; return that, a run folder, and where the flag would be."""
    results, flag = Path(shutil.copytree(honest, place / "results")), place / "flag"
    folder = next(results.glob("runs/*/*/joint/s0-*"))
    places = [results, results / "tables", results / "runs", results / "methods", folder.parent]
    for where in [*places, folder, folder / "methods"] if in_a_run else places:
        where.mkdir(exist_ok=True)
        for name in ("evil.py", "conftest.py", "sitecustomize.py", "json.py", "pathlib.py", "yaml.py", "numpy.py"):
            (where / name).write_bytes(evil(flag, f"{where}/{name}"))
        (where / "matplotlibrc").write_text("backend: module://evil\n")
    if in_a_run:
        record = read_json(folder / "run.json")
        record.pop("record_hash")
        record["files"]["evil.py"] = hashlib.sha256((folder / "evil.py").read_bytes()).hexdigest()
        write_json(folder / "run.json", record | {"record_hash": digest(record)[:16]})
    (place / "link").symlink_to(folder)
    named = [
        str(folder),
        str(folder.parent),
        "results",
        str(place / "link"),
        str(results / ".." / "results" / "runs"),
    ]
    named += [os.path.relpath(folder), str(folder / "methods"), str(results)]
    for plan in (results / "plan.json", results / "tables" / "plan.json"):
        write_json(plan, read_json(plan) | {"plugins": named})
    return results, folder, flag


@pytest.fixture
def laid(honest: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return what `lay` does, a run folder being one of the places."""
    return lay(honest, tmp_path, True)


COMMANDS = (
    ["tables"], ["leaderboard", "--measures"], ["verify"], ["stale"], ["diff", "RESULTS", "HONEST"],
    ["reproduce", "ROW"], ["export", "--to", "TO"], ["score", "RUN"], ["robustness"], ["list"], ["list",
    "--json"], ["describe", "joint"],
    ["doctor"], ["estimate", "--seconds", "0"], ["power", "--difference", "6", "--like", "RESULTS"],
    ["train", "--spec", "RUN/run.json"], ["audit", "avdigits", "--lists"], ["import", "ARCHIVE"],
)  # fmt: skip
PLACED = {"tables", "leaderboard", "verify", "stale", "export", "reproduce", "robustness", "doctor", "estimate"}
#: Types the commands one after another in one process; -P, as `mmlbench` begins without the present folder, too.
TYPED = (
    "import json, sys; from mmlbench.cli import main; print(json.dumps([main(w) for w in json.loads(sys.argv[1])]))"
)


@pytest.mark.slow  # every command in a process of its own
@pytest.mark.parametrize("in_a_run", [True, False], ids=["in a run", "beside the runs"])
def test_no_command_runs_what_lies_among_the_results(honest: Path, tmp_path: Path, in_a_run: bool) -> None:
    """All commands, typed in the very folder, since Python looks into the present one; the plug-in index is new."""
    results, folder, flag = lay(honest, tmp_path, in_a_run)
    meant = {"RESULTS": results, "HONEST": honest, "TO": tmp_path / "out.tar.gz", "ROW": a_row(results)}
    meant |= {"RUN": folder, "RUN/run.json": folder / "run.json", "ARCHIVE": honest.parent / "study.tar.gz"}
    typed = []
    for words in COMMANDS:
        typed.append([str(meant.get(word, word)) for word in words])
        if words[0] in PLACED | {"train", "audit", "import"}:
            typed[-1] += ["--results", str(results), "--cache", str(tmp_path / "cache")]
    env = {key: value for key, value in os.environ.items() if key != plugins.VARIABLE}
    env["MMLBENCH_INDEX"] = str(tmp_path / "index")
    command = [sys.executable, "-P", "-c", TYPED, json.dumps(typed)]
    work = folder if in_a_run else results
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False, timeout=280)
    assert not flag.exists(), flag.read_text()
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert len(codes) == len(COMMANDS) and set(codes) <= {0, 1, 2} and "unexpected" not in done.stderr, done.stderr
    found = dict(zip((" ".join(words) for words in COMMANDS), codes, strict=True))
    wanted = {"verify": 1, "tables": 2, "score RUN": 2} if in_a_run else {"verify": 0, "tables": 0, "score RUN": 0}
    wanted |= {"export --to TO": 2 if in_a_run else 0, "diff RESULTS HONEST": 0, "list": 0, "reproduce ROW": 2}
    assert wanted.items() <= found.items(), found


def a_row(results: Path) -> str:
    rows = parse_rows((results / "all_tables.csv").read_text(encoding="utf-8"))
    return next(row.row_id for row in rows if row.label == "joint")


@pytest.mark.parametrize("how", ["--plugins", "environment", "config"])
def test_a_plug_in_folder_among_results_is_refused_whatever_its_spelling(
    laid: tuple[Path, Path, Path], tmp_path: Path, monkeypatch, capsys, how: str
) -> None:
    results, folder, flag = laid
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").symlink_to(folder / "evil.py")
    monkeypatch.chdir(tmp_path)
    spelled = [folder, folder / "methods", results, results / "tables", results / "runs", tmp_path / "link"]
    spelled += [tmp_path / "link" / ".." / folder.name / "methods", Path(os.path.relpath(folder, tmp_path))]
    spelled += [tmp_path / "x" / ".." / "results" / "runs", code]
    for place in spelled:
        monkeypatch.setattr(plugins, "__path__", [])
        if how == "--plugins":
            line = refused(capsys, "list", "--plugins", place)
        elif how == "environment":
            monkeypatch.setattr(plugins, "__path__", [str(place)])
            line = refused(capsys, "list")
        else:
            (tmp_path / "c.yaml").write_text(json.dumps(study() | {"plugins": [str(place)]}))
            line = refused(capsys, "estimate", tmp_path / "c.yaml", "--seconds", "0")
        assert "can't be used" in line and "Data never chooses what is run" in line, place
    assert not flag.exists()


def test_a_plug_in_folder_below_a_new_results_folder_or_cache_is_refused(tmp_path: Path, capsys) -> None:
    for name in ("results", "cache"):
        place = tmp_path / name / "mine"
        place.mkdir(parents=True)
        words = ["stale", "--results", tmp_path / "results", "--cache", tmp_path / "cache", "--plugins", place]
        assert f"lies in {tmp_path / name}" in refused(capsys, *words)
    set_data_folders([])
    made = tmp_path / "elsewhere" / "tiny-0123456789"
    made.mkdir(parents=True)
    assert data_above(made / "x") is None
    (made / "manifest.json").write_text("{}")
    assert data_above(made / "x") == made
    with pytest.raises(ConfigError, match="among results or caches"):
        use_plugins([made])


@pytest.mark.usefixtures("real_children")
@pytest.mark.slow
def test_the_description_of_plug_ins_reads_nothing_of_the_present_folder(tmp_path: Path, monkeypatch) -> None:
    """`python -c` would take json.py from there."""
    (tmp_path / "json.py").write_bytes(evil(tmp_path / "flag", "json"))
    monkeypatch.setenv("MMLBENCH_INDEX", str(tmp_path / "index"))
    monkeypatch.chdir(tmp_path)
    assert load_index().find("method", "joint") and not (tmp_path / "flag").exists()


@pytest.mark.slow
def test_under_snakemake(laid: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """The results folder of a project holds the attack; the one command plans, trains, and makes tables."""
    results, folder, flag = laid
    clone = Clone(tmp_path / "clone")
    clone.configure(study(["joint"]))
    shutil.copytree(results, clone.folder / "results", dirs_exist_ok=True, symlinks=True)
    for name in ("evil.py", "sitecustomize.py", "json.py"):
        (clone.folder / "results" / name).write_bytes(evil(flag, name))
    clone.make("--dry-run")
    answer = clone.make()
    assert answer.jobs == ["joint 0", "prepare", "tables"] and not flag.exists()
    clone.configure(study(["joint"]) | {"plugins": [f"results/{folder.relative_to(results)}"]})
    answer = clone.call("snakemake", "--cores", "1", "results/all_tables.csv")
    assert answer.code != 0 and "Data never chooses what is run" in answer.text and not flag.exists()
