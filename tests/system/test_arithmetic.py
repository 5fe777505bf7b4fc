"""Native and portable arithmetic: the settings, who may have made them, and how a process gets into one."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmlbench import testing
from mmlbench.api import other_process
from mmlbench.cli import run as cli_run
from mmlbench.errors import ConfigError, RunError
from mmlbench.registry.index import load_index
from mmlbench.study import recipe as recipes
from mmlbench.study.run_spec import Request, Terms
from mmlbench.system import arithmetic
from mmlbench.system.arithmetic import NATIVE, PORTABLE, VARIABLE, environment, settings
from mmlbench.train import Stopped, machine

ROOT = Path(__file__).resolve().parents[2]
needs_portable = pytest.mark.skipif(bool(arithmetic.why_not_portable()), reason=arithmetic.why_not_portable())

#: What `environment` adds where there is nothing.
OURS = {**settings(), VARIABLE: ",".join(settings())}


def unset(**more: str) -> dict[str, str]:
    """Return this environment without any setting of the libraries."""
    return {name: value for name, value in os.environ.items() if name not in {VARIABLE, *settings()}} | more


# ---- the environment -------------------------------------------------------------------------------------------
def test_portable_sets_every_variable_and_says_whose_they_are() -> None:
    assert environment(PORTABLE, {"HOME": "/h"}) == {"HOME": "/h", **OURS}


@pytest.mark.parametrize("name", settings())
def test_a_setting_of_the_user_that_contradicts_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=.*{name}=mine.*"):
        environment(PORTABLE, {name: "mine"})


def test_native_takes_back_what_is_ours_and_leaves_what_is_the_users() -> None:
    before = {"HOME": "/h"}
    assert environment(NATIVE, environment(PORTABLE, before)) == before
    own = {"MKL_CBWR": "AVX2"}
    assert environment(NATIVE, own) == own and environment(NATIVE, settings()) == settings()


def test_what_is_exported_is_what_a_child_starts_in() -> None:
    env = {"HOME": "/h"}
    assert arithmetic.exported(env) == NATIVE
    arithmetic.export(PORTABLE, env)
    assert arithmetic.exported(env) == PORTABLE and env["HOME"] == "/h"
    arithmetic.export(NATIVE, env)
    assert env == {"HOME": "/h"}


def test_a_setting_of_the_user_outlives_both_arithmetics() -> None:
    before = {"HOME": "/h", "OPENBLAS_CORETYPE": "Haswell"}
    assert environment(NATIVE, environment(PORTABLE, environment(PORTABLE, before))) == before


def test_settings_that_the_user_has_made_alike_are_enough() -> None:
    assert environment(PORTABLE, settings()) == settings()


def test_one_missing_setting_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings():
        monkeypatch.setattr(arithmetic, "_at_start", {k: v for k, v in settings().items() if k != name})
        assert not arithmetic.in_force(PORTABLE), name
    monkeypatch.setattr(arithmetic, "_at_start", settings())
    assert arithmetic.in_force(PORTABLE) and arithmetic.in_force(NATIVE)
    monkeypatch.setattr(arithmetic, "_at_start", OURS)
    assert arithmetic.in_force(PORTABLE) and not arithmetic.in_force(NATIVE)


def test_older_numpy_names_its_kernels_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {}
    for version in ("2.3.5", "2.4.0"):
        monkeypatch.setattr(arithmetic, "version", lambda name, found=version: found)
        settings.cache_clear()
        named[version] = settings()["NPY_DISABLE_CPU_FEATURES"]
    settings.cache_clear()
    assert "AVX512_SKX" in named["2.3.5"] and "X86_V4" in named["2.4.0"] and "X86_V4" not in named["2.3.5"]


# ---- what a machine can do -------------------------------------------------------------------------------------
def cpuinfo(folder: Path, flags: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu {flags} sse2\nvmx flags\t: avx2 fma\n\n")
    return path


@pytest.mark.parametrize(
    ("flags", "said"),
    [("avx avx2 fma", ""), ("avx fma", "no AVX2"), ("avx", "no AVX2 and no FMA"), ("avx2x fma", "no AVX2")],
)
def test_the_flags_of_the_cpu_decide(flags: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    reason = arithmetic.why_not_portable(cpuinfo(tmp_path, flags))
    assert (said in reason) and bool(reason) == bool(said)


def test_other_machines_and_systems_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert "can't be read" in arithmetic.why_not_portable(tmp_path / "none")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "aarch64" in arithmetic.why_not_portable(cpuinfo(tmp_path, "avx2 fma"))


@pytest.fixture
def unable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine be one that can't compute portably."""
    for module in (arithmetic, recipes):
        monkeypatch.setattr(module, "why_not_portable", lambda: "this CPU has no AVX2")


def terms(**recipe_params: object) -> Terms:
    return Terms(Request("gabor_tones", "joint", 0, recipe_params=recipe_params), load_index())


def test_a_default_goes_on_natively_under_another_name_where_portable_is_not_to_be_had(unable: None) -> None:
    found = terms()
    assert found.recipe.arithmetic == NATIVE and found.left_native
    assert found.recipe.name == "embedded arithmetic=native"
    assert arithmetic.left_native().startswith("this CPU has no AVX2")


def test_what_is_asked_for_by_name_is_refused_there(unable: None) -> None:
    with pytest.raises(ConfigError, match="portable arithmetic can't be had: this CPU has no AVX2"):
        terms(arithmetic=PORTABLE)
    assert not terms(arithmetic=NATIVE).left_native  # which was chosen, not left
    with pytest.raises(ConfigError, match="can't be had"):
        arithmetic.in_force(PORTABLE)


@needs_portable
def test_a_recipe_that_leaves_it_open_is_portable_where_it_can_be() -> None:
    found = terms()
    assert (found.recipe.arithmetic, found.recipe.name, found.left_native) == (PORTABLE, "embedded", False)
    assert terms(arithmetic=NATIVE).recipe.name == "embedded arithmetic=native"


@pytest.mark.parametrize("value", ["fast", "AUTO", True, 1, None, []])
def test_another_word_is_refused_with_the_three_that_there_are(value: object) -> None:
    with pytest.raises(ConfigError, match=r"arithmetic = .*native.*portable.*auto"):
        terms(arithmetic=value)


# ---- what the libraries say ------------------------------------------------------------------------------------
def ask(env: dict[str, str]) -> str:
    """Return what `check_portable` refuses in a process of its own; '' where it passes."""
    code = (
        "import torch\nfrom mmlbench.train.machine import check_portable\nfrom mmlbench.errors import ConfigError\n"
        "try: check_portable()\nexcept ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


@needs_portable
def test_the_libraries_of_this_process_compute_portably() -> None:
    machine.check_portable()


@needs_portable
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "library"),
    [("MKL_CBWR", "MKL"), ("ATEN_CPU_CAPABILITY", "PyTorch's kernels"), ("ONEDNN_MAX_CPU_ISA", "oneDNN"),
     ("OPENBLAS_CORETYPE", "OpenBLAS"), ("NPY_DISABLE_CPU_FEATURES", "numpy")],
)  # fmt: skip
def test_a_library_without_its_setting_is_named(name: str, library: str) -> None:
    if name != "MKL_CBWR" and "avx512bw" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("without AVX-512 this library has nothing to choose")
    wanted = unset(**settings())
    assert ask(wanted) == ""
    del wanted[name]
    assert f"{library} is at" in ask(wanted)


# ---- getting into one ------------------------------------------------------------------------------------------
NOTEBOOK = """
import json, logging, sys, torch, numpy  # as a notebook has them: loaded, in native arithmetic
import mmlbench as mb
from mmlbench import testing
logging.basicConfig(level=logging.INFO)
logging.getLogger("mmlbench").setLevel(logging.INFO)
facts = json.loads(sys.argv[1])
run = mb.train_run("tiny", plugins=[testing.PLUGINS], **facts)
print(json.dumps([str(run.path), run.record.arithmetic.kind]))
"""


def notebook(folder: Path, env: dict[str, str], **facts: Any) -> subprocess.CompletedProcess[str]:
    words = {"results": str(folder / "results"), "cache": str(folder / "cache"), "device": "cpu", **facts}
    words["recipe_params"] = testing.FEW_EPOCHS | facts.get("recipe_params", {})
    command = [sys.executable, "-c", NOTEBOOK, json.dumps(words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT, check=False)


def typed(folder: Path, env: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    words = ["train", "--dataset", "tiny", "--method", "joint", "--plugins", str(testing.PLUGINS), "--device", "cpu"]
    words += ["--results", str(folder / "results"), "--cache", str(folder / "cache")]
    words += [word for key, value in testing.FEW_EPOCHS.items() for word in ("--recipe-set", f"{key}={value}")]
    command = [sys.executable, "-m", "mmlbench", *words, *more]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT, check=False)


def determined(folder: Path) -> dict[str, bytes]:
    """Return the files of the runs below a folder whose bytes are determined."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "provenance.json"]
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix in (".json", ".csv", ".npz")
    }


@needs_portable
@pytest.mark.slow
def test_command_and_notebook_make_the_bytes_of_a_process_that_began_portably(tmp_path: Path) -> None:
    started = typed(tmp_path / "started", unset(**settings()))
    anew = typed(tmp_path / "anew", unset())
    asked = notebook(tmp_path / "asked", unset(), method="joint")
    assert started.returncode == anew.returncode == asked.returncode == 0, anew.stderr + asked.stderr
    assert json.loads(asked.stdout)[1] == PORTABLE
    assert "is complete" in asked.stderr and "epoch 2/2" in asked.stderr  # the other process's log is not lost
    wanted = determined(tmp_path / "started" / "results" / "runs")
    assert len(wanted) >= 5
    for name in ("anew", "asked"):
        assert determined(tmp_path / name / "results" / "runs") == wanted
        assert determined(tmp_path / name / "cache").keys() == determined(tmp_path / "started" / "cache").keys()


@needs_portable
@pytest.mark.slow
def test_a_native_run_leaves_settings_that_are_ours(tmp_path: Path) -> None:
    plain = typed(tmp_path / "plain", unset(), "--recipe-set", "arithmetic=native")
    ours = typed(tmp_path / "ours", unset(**OURS), "--recipe-set", "arithmetic=native")
    asked = notebook(
        tmp_path / "asked",
        unset(**OURS),
        method="joint",
        recipe_params={"arithmetic": NATIVE},
    )
    assert plain.returncode == ours.returncode == asked.returncode == 0, ours.stderr + asked.stderr
    wanted = determined(tmp_path / "plain" / "results" / "runs")
    assert determined(tmp_path / "ours" / "results" / "runs") == wanted
    assert determined(tmp_path / "asked" / "results" / "runs") == wanted
    assert b'"kind": "native"' in next(value for name, value in wanted.items() if name.endswith("run.json"))


@needs_portable
@pytest.mark.slow
def test_a_contradiction_stops_before_anything_is_made(tmp_path: Path) -> None:
    done = typed(tmp_path, unset(MKL_CBWR="AVX2"))
    assert done.returncode == 2 and "MKL_CBWR=AVX2" in done.stderr
    assert not (tmp_path / "results" / "runs").exists() and not (tmp_path / "cache").exists()


@pytest.fixture
def sitecustomize(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose Python takes a setting back before anything of ours begins."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import os\nos.environ.pop('MKL_CBWR', None)\n")
    return unset(PYTHONPATH=os.pathsep.join([str(tmp_path / "site"), str(ROOT)]))


@needs_portable
@pytest.mark.slow
def test_a_setting_that_is_taken_back_at_every_start_is_named_not_made_for_ever(
    tmp_path: Path, sitecustomize: dict[str, str]
) -> None:
    done = typed(tmp_path, sitecustomize)
    assert done.returncode == 2 and "MKL_CBWR" in done.stderr and "sitecustomize" in done.stderr


def test_a_process_that_was_started_for_the_other_arithmetic_may_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(arithmetic, "_command", ["python"])
    monkeypatch.setattr(arithmetic, "in_force", lambda kind: False)
    monkeypatch.setattr(arithmetic, "_start_anew", lambda command, env: started.append(env[arithmetic._ANEW]))
    monkeypatch.setattr(arithmetic, "_started_anew", PORTABLE)
    monkeypatch.setattr(arithmetic, "_before", None)
    arithmetic.enter(NATIVE)
    with pytest.raises(ConfigError, match="started in portable arithmetic"):
        arithmetic.enter(PORTABLE)
    assert started == [NATIVE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_the_new_start_is_not_lost(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {one: signal.getsignal(one) for one in cli_run.STOPPING}
    monkeypatch.setattr(cli_run, "_stopped_by", 0)
    try:
        for one in cli_run.STOPPING:
            signal.signal(one, cli_run._on_signal)
        signal.raise_signal(number)
        with pytest.raises(Stopped):
            cli_run._let_go()
        monkeypatch.setattr(cli_run, "_stopped_by", 0)
        cli_run._let_go()
        assert all(signal.getsignal(one) is signal.SIG_DFL for one in cli_run.STOPPING)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@needs_portable
@pytest.mark.slow
def test_a_command_lets_go_of_the_signals_before_it_starts_anew(tmp_path: Path) -> None:
    """Its libraries see no setting; a program in front of it notes what handles SIGTERM when it is replaced."""
    code = (
        "import os, signal, sys\nfrom mmlbench import cli\nfrom mmlbench.system import interrupt\n"
        "interrupt.is_program = lambda: True\n"
        "left = lambda: signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
        "os.execve = lambda *words: print('handler', left(), flush=True) or os._exit(0)\n"
        "sys.argv = ['mmlbench', *sys.argv[1:]]\nsys.exit(cli.main())"
    )
    words = ["train", "--dataset", "tiny", "--method", "joint", "--plugins", str(testing.PLUGINS), "--device", "cpu"]
    words += ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    words += ["--recipe-set", "arithmetic=portable"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, env=unset(), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.split() == ["handler", "True"], done.stderr


@needs_portable
@pytest.mark.slow
def test_a_program_on_standard_input_asks_another_process(tmp_path: Path) -> None:
    words = ["train", "--dataset", "tiny", "--method", "joint", "--plugins", str(testing.PLUGINS), "--device", "cpu"]
    words += ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    words += [word for key, value in testing.FEW_EPOCHS.items() for word in ("--recipe-set", f"{key}={value}")]
    words += ["--recipe-set", "arithmetic=portable"]
    program = f"import sys\nfrom mmlbench.cli import main\nsys.argv = ['mmlbench', *{words!r}]\nsys.exit(main())\n"
    done = subprocess.run(
        [sys.executable, "-"], input=program, env=unset(), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "results" / "runs").rglob("run.json")] == ["run.json"]


@needs_portable
@pytest.mark.slow
def test_a_preparation_is_refused_where_numpy_was_loaded_too_early(tmp_path: Path) -> None:
    if "avx512bw" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("without AVX-512 numpy has nothing to choose")
    code = (
        f"import os, sys, numpy\nos.environ.update({settings()!r})\n"  # too late for numpy, not for mmlbench
        "import mmlbench as mb\nfrom mmlbench.errors import ConfigError\n"
        f"try: mb.prepare_dataset('tiny', plugins=[{str(testing.PLUGINS)!r}], cache=sys.argv[1])\n"
        "except ConfigError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    done = subprocess.run(command, env=unset(), capture_output=True, text=True, cwd=ROOT, check=True)
    assert "portable arithmetic is not in force" in done.stdout
    assert not list((tmp_path / "cache").rglob("manifest.json"))


# ---- the other process -----------------------------------------------------------------------------------------
@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be in no arithmetic that a run asks for."""
    monkeypatch.setattr(arithmetic, "in_force", lambda kind: False)
    monkeypatch.setattr(arithmetic, "_command", None)


@pytest.mark.slow
def test_what_the_other_process_raises_is_raised_here(
    tiny: Any, tmp_path: Path, elsewhere: None, plugin_folder: Path
) -> None:
    (plugin_folder / "failing.py").write_text(
        "from mmlbench.method import Method\nfrom mmlbench.registry import register\n"
        "@register\nclass Failing(Method):\n    '''Fails.'''\n    name = 'failing'\n"
        "    def build(self):\n        raise ZeroDivisionError('as planned')\n"
    )
    with pytest.raises(RunError, match="as planned"):
        tiny.run("failing", tmp_path / "results", plugins=[plugin_folder])


@pytest.mark.slow
def test_the_other_process_stops_when_asked_and_goes_on_to_the_same_bytes(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.spec("joint", recipe={"epochs": 200})
    tiny.run("joint", tmp_path / "plain", recipe={"epochs": 200})
    place, kept = tmp_path / "stopped", tmp_path / "stopped" / spec.path / "checkpoint.npz"
    arguments = (spec, place, tiny.cache, "cpu", 0.0)
    with pytest.raises(Stopped):
        other_process.make_run(*arguments, asked_to_stop=kept.exists)
    assert kept.exists()
    assert other_process.make_run(*arguments, asked_to_stop=lambda: False)
    assert not other_process.make_run(*arguments, asked_to_stop=lambda: False)
    assert determined(place) == determined(tmp_path / "plain")


@pytest.mark.slow
def test_a_process_that_dies_without_an_answer_is_an_error(
    tiny: Any, tmp_path: Path, elsewhere: None, plugin_folder: Path
) -> None:
    (plugin_folder / "dying.py").write_text(
        "import os\nfrom mmlbench.method import Method\nfrom mmlbench.registry import register\n"
        "@register\nclass Dying(Method):\n    '''Dies.'''\n    name = 'dying'\n"
        "    def build(self):\n        os._exit(7)\n"
    )
    with pytest.raises(RunError, match=r"without an answer \(exit code 7\)"):
        tiny.run("dying", tmp_path / "results", plugins=[plugin_folder])


@pytest.mark.slow
def test_a_run_that_is_stopped_before_it_begins_is_stopped_by_its_name(tiny: Any, tmp_path: Path) -> None:
    spec = tiny.spec("joint")
    with pytest.raises(Stopped) as stopped:
        other_process.make_run(spec, tmp_path, tiny.cache, "cpu", None, asked_to_stop=lambda: True)
    assert stopped.value.run == str(spec.path)
    assert not (tmp_path / spec.path / "run.json").exists()


@pytest.mark.slow
def test_a_plug_in_that_exits_in_the_other_process_is_an_error(
    tiny: Any, tmp_path: Path, elsewhere: None, plugin_folder: Path
) -> None:
    (plugin_folder / "leaving.py").write_text(
        "import sys\nfrom mmlbench.method import Method\nfrom mmlbench.registry import register\n"
        "@register\nclass Leaving(Method):\n    '''Leaves.'''\n    name = 'leaving'\n"
        "    def build(self):\n        sys.exit(0)\n"
    )
    with pytest.raises(RunError, match="SystemExit"):
        tiny.run("leaving", tmp_path / "results", plugins=[plugin_folder])


@pytest.mark.parametrize("name", ["fault", "re", "Iterable", "LONGEST", "nothing of the kind"])
def test_an_error_of_no_known_kind_is_a_run_error(name: str) -> None:
    with pytest.raises(RunError, match="what happened"):
        other_process._answer("run", [{"error": [name, "what happened", "the fix"]}], 1)
    with pytest.raises(ConfigError):
        other_process._answer("run", [{"error": ["ConfigError", "what happened", "the fix"]}], 1)
