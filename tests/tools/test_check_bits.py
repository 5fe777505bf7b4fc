"""`tools/check_bits.py`: digests of this machine and of emulated ones, and what is said where they differ."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import emulated
import pytest
import yaml
from shipped import not_the_same, of_the_project

from mmlbench.api.reproduce import differing
from mmlbench.system import arithmetic

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "check_bits.py"
sys.path.insert(0, str(TOOL.parent))

import check_bits  # noqa: E402
from check_bits import Bits, Cpu  # noqa: E402

needs_portable = pytest.mark.skipif(bool(arithmetic.why_not_portable()), reason=arithmetic.why_not_portable())
needs_qemu = pytest.mark.skipif(emulated.QEMU is None, reason="no qemu-x86_64 here (Debian: qemu-user)")
RUNS = {
    "tiny, prepared": {"audio.npy": "a"},
    "tiny/speaker/joint, seed 0": {"init": "1", "first step": "2", "stage train, epoch 1": "3", "probe.npz": "4"},
    "avdigits/speaker/joint, seed 0": {"init": "5"},
}


def changed(run: str, **digests: str) -> dict[str, dict[str, str]]:
    return {name: {**one, **(digests if name == run else {})} for name, one in RUNS.items()}


# ---- comparing -------------------------------------------------------------------------------------------------
def test_the_differences_of_each_run_are_named_in_their_order() -> None:
    assert check_bits.differences(RUNS, RUNS) == {}
    later = changed("tiny/speaker/joint, seed 0", **{"probe.npz": "x", "stage train, epoch 1": "x"})
    assert check_bits.differences(RUNS, later) == {
        "tiny/speaker/joint, seed 0": ["stage train, epoch 1", "probe.npz"]
    }


def test_what_one_side_lacks_is_a_difference() -> None:
    fewer = {name: one for name, one in RUNS.items() if "joint" not in name}
    assert (
        set(check_bits.differences(RUNS, fewer)) == set(check_bits.differences(fewer, RUNS)) == set(RUNS) - set(fewer)
    )
    lacking = {**RUNS, "tiny, prepared": {}}
    assert check_bits.differences(RUNS, lacking) == {"tiny, prepared": ["audio.npy"]}
    assert check_bits.differences(lacking, RUNS) == {"tiny, prepared": ["audio.npy"]}


@pytest.mark.parametrize("known", [True, False])
def test_only_a_cpu_that_agreed_before_fails(known: bool, capsys: pytest.CaptureFixture[str]) -> None:
    here = check_bits.this_cpu()
    bits = Bits(check_bits.installed(), [here if known else replace(here, model=here.model + 1)], RUNS)
    assert check_bits.report(bits, RUNS, check_bits.PARTS) == 0
    assert "6 of 6" in capsys.readouterr().out
    assert check_bits.report(bits, changed("tiny, prepared", **{"audio.npy": "x"}), check_bits.PARTS) == int(known)
    assert "tiny, prepared: differs from audio.npy on" in capsys.readouterr().out


def test_a_part_is_compared_alone(capsys: pytest.CaptureFixture[str]) -> None:
    bits = Bits(check_bits.installed(), [check_bits.this_cpu()], RUNS)
    tiny = {name: one for name, one in RUNS.items() if name.startswith("tiny")}
    assert check_bits.report(bits, tiny, ["tiny"]) == 0
    assert check_bits.report(bits, tiny, check_bits.PARTS) == 1


def test_a_run_without_digests_is_told_in_a_sentence_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    bits = Bits(check_bits.installed(), [check_bits.this_cpu()], RUNS)
    assert check_bits.report(bits, {**RUNS, "tiny/speaker/mine, seed 0": {"init": "1"}}, check_bits.PARTS) == 1
    told = capsys.readouterr().out
    assert "mine, seed 0: not among the digests" in told and "1 of 4" in told


@needs_portable
@pytest.mark.slow
def test_a_method_of_the_users_own_is_not_compared() -> None:
    made = {spec.config.method for chain in check_bits.chains(["tiny"], {"joint"}) for spec in chain}
    assert made == {"joint"} and len(check_bits.chains(["tiny"])[0]) > 5


def test_a_difference_that_a_cpu_always_had_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    run = "tiny/speaker/joint, seed 0"
    here = replace(check_bits.this_cpu(), untried={run: ["probe.npz"]})
    bits = Bits(check_bits.installed(), [here], RUNS)
    assert check_bits.report(bits, changed(run, **{"probe.npz": "x", "run.json": "x"}), check_bits.PARTS) == 0
    assert f"{run}: differs from probe.npz on" in capsys.readouterr().out
    both = changed(run, **{"probe.npz": "x"}) | {"tiny, prepared": {"audio.npy": "x"}}
    assert check_bits.report(bits, both, check_bits.PARTS) == 1
    assert "2 of 3 differ" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["init", "first step", "run.json"])
def test_another_digest_of_a_run_that_a_cpu_prints_in_part_is_a_fault(name: str) -> None:
    run = "tiny/speaker/joint, seed 0"
    here = replace(check_bits.this_cpu(), untried={run: ["probe.npz"]})
    bits = Bits(check_bits.installed(), [here], RUNS)
    assert check_bits.report(bits, changed(run, **{name: "x"}), check_bits.PARTS) == 1


def test_an_update_keeps_what_another_cpu_printed() -> None:
    run, other = "tiny/speaker/joint, seed 0", Cpu("AuthenticAMD", 25, 17, "An EPYC")
    here = check_bits.this_cpu()
    apart = replace(here, untried={run: ["probe.npz"]})
    bits = Bits(check_bits.installed(), [other, apart], RUNS)
    made = changed(run, **{"probe.npz": "x", "run.json": "new"}) | {"avtdigits, prepared": {"text.npy": "t"}}
    after = check_bits.renewed(bits, made, here)
    assert after.runs[run] == {**RUNS[run], "run.json": "new"} and after.runs["avtdigits, prepared"]
    assert after.cpus == [apart, replace(other, untried={"avtdigits, prepared": ["text.npy"]})]
    agreeing = check_bits.renewed(bits, RUNS, here)
    assert agreeing.cpus == [here, other], "a run that agrees now is tried"
    gone = check_bits.renewed(bits, {"tiny, prepared": {"audio.npy": "x"}}, here)
    assert gone.cpus == [here] and list(gone.runs) == ["tiny, prepared"]


def test_an_edit_makes_a_run_new_that_always_differed_here() -> None:
    run, other = "tiny/speaker/joint, seed 0", Cpu("AuthenticAMD", 25, 17, "An EPYC")
    here = check_bits.this_cpu()
    bits = Bits(check_bits.installed(), [other, replace(here, untried={run: ["probe.npz"]})], RUNS)
    after = check_bits.renewed(bits, changed(run, **{"probe.npz": "x", "first step": "x"}), here)
    assert after.runs[run]["probe.npz"] == "x"
    assert after.cpus == [here, replace(other, untried={run: ["first step", "probe.npz"]})]


@pytest.mark.parametrize("same", [True, False])
def test_new_digests_are_untried_by_the_cpus_that_did_not_make_them(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "why_not_portable", lambda: "")
    monkeypatch.setattr(arithmetic, "enter", lambda kind: True)
    monkeypatch.setattr(arithmetic, "may_start_anew", lambda command: None)
    made = RUNS if same else changed("tiny, prepared", **{"audio.npy": "x"})
    monkeypatch.setattr(check_bits, "make_all", lambda *arguments: made)
    other = Cpu("GenuineIntel", 6, 143, "A Xeon")
    path = tmp_path / "bits.json"
    Bits(check_bits.installed(), [other], RUNS).write(path)
    monkeypatch.setattr(sys, "argv", ["check_bits.py", "--update", "--digests", str(path)])
    assert check_bits.main() == 0
    assert Bits.read(path).cpus == [
        check_bits.this_cpu(),
        replace(other, untried={} if same else {"tiny, prepared": ["audio.npy"]}),
    ]
    monkeypatch.setattr(sys, "argv", ["check_bits.py", "--update", "--only", "tiny"])
    with pytest.raises(SystemExit):
        check_bits.main()


def test_a_cpu_is_told_by_its_numbers(tmp_path: Path) -> None:
    text = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: A Xeon\n\nmodel\t\t: 7\n"
    (tmp_path / "cpuinfo").write_text(text)
    assert check_bits.this_cpu(tmp_path / "cpuinfo") == Cpu("GenuineIntel", 6, 143, "A Xeon")
    assert check_bits.this_cpu(tmp_path / "none").vendor == ""


def test_other_packages_and_other_machines_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_bits, "make_all", lambda *arguments: pytest.fail("nothing is to be made"))
    monkeypatch.setattr(arithmetic, "enter", lambda kind: True)
    monkeypatch.setattr(arithmetic, "may_start_anew", lambda command: None)
    Bits({"torch": "1.0", "numpy": "1.0"}, [], RUNS).write(tmp_path / "bits.json")
    monkeypatch.setattr(sys, "argv", ["check_bits.py", "--digests", str(tmp_path / "bits.json")])
    monkeypatch.setattr(arithmetic, "why_not_portable", lambda: "")
    assert check_bits.main() == 0 and "not comparable" in capsys.readouterr().out
    monkeypatch.setattr(arithmetic, "why_not_portable", lambda: "this CPU has no AVX2")
    assert check_bits.main() == 0 and "not applicable: this CPU has no AVX2" in capsys.readouterr().out


CPU = '{"vendor": "V", "family": 1, "model": 2, "name": "A CPU", "untried": %s}'
OF_BEFORE = ['["run"]', '{"run": 1.5}', '{"run": true}', "5"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"packages": 1, "cpus": [], "runs": {}}', '{"runs": [1]}', None]
    + [f'{{"packages": {{}}, "cpus": [{CPU % untried}], "runs": {{}}}}' for untried in OF_BEFORE],
)
def test_digests_that_can_not_be_read_are_one_line(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bits.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(arithmetic, "why_not_portable", lambda: "")
    monkeypatch.setattr(arithmetic, "enter", lambda kind: True)
    monkeypatch.setattr(arithmetic, "may_start_anew", lambda command: None)
    monkeypatch.setattr(sys, "argv", ["check_bits.py", "--digests", str(path)])
    assert check_bits.main() == 2
    said = capsys.readouterr().err
    assert str(path) in said and said.count("\n") == 1


@needs_portable
def test_a_setting_that_contradicts_is_one_line(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in arithmetic.settings()}
    done = subprocess.run(
        [sys.executable, str(TOOL)], env=env | {"MKL_CBWR": "AVX2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "MKL_CBWR=AVX2" in done.stderr and done.stderr.count("\n") == 1


def test_the_committed_digests_are_whole_and_the_docs_name_their_cpus() -> None:
    bits = Bits.read(check_bits.BITS)
    methods = set(of_the_project("methods"))
    for part in ("tiny/", "avdigits/"):
        made = {match[1] for run in bits.runs if run.startswith(part) and (match := re.search(r"/(\w+), seed", run))}
        if part == "tiny/":
            fault = not_the_same(methods, made, "tools/bits.json")
            assert not fault, fault
        assert {"joint", "ogm_ge", "di_mml", "unimodal", "ensemble"} <= made
    study = yaml.safe_load((ROOT / "config" / "quick.yaml").read_text(encoding="utf-8"))
    for block in study["grid"]:
        place = f"{block['dataset']}/{block['split']}"
        wanted = {f"{place}/{method}, seed {seed}" for method in block["methods"] for seed in block["seeds"]}
        assert wanted == {run for run in bits.runs if run.startswith(f"{place}/")}
        assert f"{block['dataset']}, prepared" in bits.runs
    pins = dict(re.findall(r"^(torch|numpy)==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.M)[::-1])
    assert bits.packages == pins  # those of the first Python that is named
    for cpu in bits.cpus:
        assert all(set(names) <= set(bits.runs[run]) for run, names in cpu.untried.items()), cpu.name
    text = (ROOT / "docs" / "determinism.md").read_text()
    assert all(f"family {cpu.family}, model {cpu.model}" in text for cpu in bits.cpus)
    assert all(cpu in text for cpu in emulated.CPUS)


# ---- this machine and others -----------------------------------------------------------------------------------
@needs_portable
@pytest.mark.slow
def test_this_machine_prints_the_digits(tmp_path: Path) -> None:
    """Of any CPU with AVX2: on a kind that nobody has tried the tool only reports, this test fails."""
    bits = Bits.read(check_bits.BITS)
    found = check_bits.make_all(["tiny"], tmp_path, 1)
    tiny = {run: one for run, one in bits.runs.items() if run.startswith("tiny")}
    assert check_bits.differences(tiny, found) == {}


def flags(output: str) -> dict[str, bool]:
    found: dict[str, bool] = json.loads(output.splitlines()[0])
    return found


@needs_portable
@needs_qemu
@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("cpu", emulated.CPUS)
def test_other_cpus_print_the_digits(cpu: str) -> None:
    done = emulated.run(cpu, TOOL, ["--only", "tiny", "--cores", "1"], emulated.environment())
    assert flags(done.stdout) == {"AVX2": True, "FMA3": True, "AVX512F": False}, done.stderr[-2000:]
    assert done.returncode == 0 and "digests of" in done.stdout and "differs" not in done.stdout, done.stdout


@needs_portable
@needs_qemu
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_another_cpu_is_reproduced_byte_by_byte(tiny: Any, tmp_path: Path) -> None:
    script = tmp_path / "typed.py"
    script.write_text("import sys\nfrom mmlbench.cli import main\nsys.exit(main(sys.argv[1:]))\n")
    words = ["train", *tiny.words("di_mml", tmp_path / "theirs")]
    done = emulated.run("EPYC", script, words, emulated.environment())
    assert done.returncode == 0, done.stderr[-2000:]
    theirs, ours = tmp_path / "theirs" / tiny.spec("di_mml").path, tiny.run("di_mml", tmp_path / "ours").path
    assert differing(theirs, ours) == []
    (ours / "history.csv").write_bytes((ours / "history.csv").read_bytes() + b"x")
    assert differing(theirs, ours) == ["history.csv"]


#: In the process that is emulated: compute with the settings that are there, whatever they are.
WHATEVER = """
from mmlbench.system import arithmetic
from mmlbench.train import machine
arithmetic.enter, machine.check_portable = (lambda kind: True), (lambda: None)
"""


@needs_portable
@needs_qemu
@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", ["MKL_CBWR"])
def test_a_variable_that_is_left_out_shows_on_another_cpu(name: str) -> None:
    env = emulated.environment()
    del env[name]
    done = emulated.run("Haswell", TOOL, ["--only", "tiny", "--cores", "1"], env, before=WHATEVER)
    assert "differs from" in done.stdout, done.stdout + done.stderr[-2000:]
