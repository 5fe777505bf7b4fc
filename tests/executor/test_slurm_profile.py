"""`mmlbench doctor --slurm` and `estimate` read a profile as Snakemake does: lists, units, expressions, names."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from slurm_parts import OFFER
from snakemake_executor_plugin_submitit import commands

from mmlbench.cli import doctor_slurm, estimate
from mmlbench.cli.slurm_profile import read_profile, with_defaults
from mmlbench.errors import ConfigError


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return what writes a profile in a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def make(text, name="slurm/config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return make


def fits(profile):
    """Return rule -> (verdict, text)."""
    found = doctor_slurm._fits(profile, with_defaults(profile.settings), OFFER)
    return {finding.about: (finding.verdict, finding.what) for finding in found}


TOP = "executor: submitit\njobs: 5\n"
#: Lines of a profile -> what the doctor says of the rule `train`.
ORDINARY = {
    "submitit-gpus: 1": "60 min, 1 CPU, 1000 MB, 1 GPU: fits",
    'submitit-gpus: "a100:2"': "2 GPUs for 1 run: a run computes on one GPU; ask for 1",
    "default-resources: [mem_mb=2000, runtime=30]": "30 min, 1 CPU, 2000 MB: fits",
    "default-resources: {mem: 4GB, runtime: 2h}": "120 min, 1 CPU, 4000 MB: fits",
    "default-resources:\n  - mem_mb=attempt*1500\n  - runtime=30m": "30 min, 1 CPU, 1500 MB: fits (mem_mb: of a",
    "set-resources: {train: {mem: 4GB, runtime: 30m}}": "30 min, 1 CPU, 4000 MB: fits",
    "set-resources: {train: {mem_mb: attempt*3000, runtime: 1d}}": "above the limit of partition gpu",
    "set-resources: {train: {mem_mb: attempt*3000, runtime: 2h}}": "120 min, 1 CPU, 3000 MB: fits (mem_mb: of a",
    'set-resources: {train: {mem_mb: "max(2*input.size_mb, 4000)"}}': "4000 MB: fits (mem_mb: of a first try",
    "set-resources:\n  - train:mem_mb=5000\n  - train:gpu=1": "5000 MB, 1 GPU: fits",
    "set-threads: {train: 4}": "60 min, 4 CPUs, 1000 MB: fits",
    "set-threads: [train=4]": "60 min, 4 CPUs, 1000 MB: fits",
    "default-resources: {slurm_partition: cpu}": "60 min, 1 CPU, 1000 MB: fits",
    "set-resources: {train: {mem_mb: attempt*nothing}}": "mem_mb of rule train, 'attempt*nothing', can't be",
    "set-resources: {train: {runtime: soon}}": "runtime of rule train, 'soon', can't be computed: ",
    "set-resources: {train: {mem_mb: 1/0}}": "mem_mb of rule train, '1/0', can't be computed: ",
    "submitit-gpus: two": "submitit-gpus is 'two'; it takes a number",
}


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_profile_is_read(write, text):
    write(f"{TOP}{text}\n")
    assert ORDINARY[text] in fits(read_profile("slurm"))["train"][1]


@pytest.mark.parametrize(
    ("line", "beside", "name"),
    [
        ('""', "", None),  # Snakemake makes the profile's folder of it
        ("gpu", "", "gpu"),
        ("gpu", "slurm/gpu", "gpu"),
        ("slurm", "", "slurm"),
        ("slurm", "slurm/slurm", "slurm"),
        ("", "", None),
    ],
)
def test_a_partition_is_what_is_written(write, line, beside, name):
    write(f"{TOP}submitit-partition: {line}\nsubmitit-account: {line}\n")
    if beside:
        write("", beside)
    found = read_profile("slurm").settings
    assert (found.partition or None, found.account or None) == (name, name)


def test_the_profile_of_this_project_names_no_partition_and_no_account(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    found = read_profile("slurm").settings
    assert not found.partition and not found.account and found.gpus == "1"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("slurm/config.yaml", "slurm"),
        ("slurm/profile.yaml", "slurm"),
        ("slurm/config.v9+.yaml", "slurm"),
        ("slurm/profile.v8+.yaml", "slurm"),
        ("other/config.yaml", "other"),
        ("other/config.yaml", "other/config.yaml"),
    ],
)
def test_a_profile_is_found_by_the_names_that_snakemake_takes(write, name, asked):
    write(f"{TOP}submitit-partition: gpu\n", name)
    found = read_profile(asked)
    assert found.files == (name,) and found.settings.partition == "gpu" and found.jobs == 5


def test_the_profile_for_the_newest_snakemake_wins(write):
    write(f"{TOP}submitit-partition: old\n", "slurm/config.v8+.yaml")
    write(f"{TOP}submitit-partition: new\n", "slurm/config.v9+.yaml")
    write(f"{TOP}submitit-partition: later\n", "slurm/config.v99+.yaml")
    assert read_profile("slurm").settings.partition == "new"


def test_what_the_checkouts_own_profile_adds_counts(write):
    write("", "Snakefile")
    (Path("profiles") / "default").mkdir(parents=True)
    write("default-resources: {mem_mb: 7000}\n", "profiles/default/config.yaml")
    write(TOP)
    found = read_profile("slurm")
    assert found.files == ("slurm/config.yaml", "profiles/default") and "7000 MB" in fits(found)["train"][1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("submitit-partitoin: gpu", "unrecognized arguments: --submitit-partitoin=gpu"),
        ("submitit-signal-delay: soon", "invalid int value: 'soon'"),
        ("set-resources: {train: 5}", "Expected two-level mapping"),
        ("jobs: many", "must be integer"),
        ("a: [", "line 3: while parsing a flow node"),
        ("- a", "is a list, not a mapping"),
        ("", "is empty. Write `key: value` lines"),
    ],
)
def test_what_snakemake_refuses_is_one_line(write, text, words):
    write(f"executor: submitit\n{text}\n" if text and not text.startswith("-") else text)
    with pytest.raises(ConfigError, match=r"slurm/config\.yaml") as error:
        read_profile("slurm")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_profile_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is no profile 'slurm' here"):
        read_profile("slurm")
    (tmp_path / "slurm").mkdir()
    with pytest.raises(ConfigError, match="there is no profile 'slurm' here"):
        read_profile("slurm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("executor: submitit", "no line says jobs. Write jobs: 500"),
        ("jobs: 5", "its executor is none. Write executor: submitit"),
        ("jobs: 5\nexecutor: local", "its executor is local"),
        (f"{TOP}submitit-setup: 'if true'", "submitit-setup, line 1, 'if true', is no shell command: "),
    ],
)
def test_what_a_profile_lacks_is_a_finding(write, text, words):
    write(f"{text}\n")
    found = list(doctor_slurm._profile("slurm"))
    assert any(words in f"{one.what}. {one.fix}" and one.verdict == "wrong" for one in found)


def test_the_doctor_looks_at_every_rule_of_the_profile(write):
    write(f"{TOP}set-resources: {{train_tuned: {{mem_mb: 40000}}}}\nset-threads: {{robustness: 2}}\n")
    found = fits(read_profile("slurm"))
    assert set(found) == {"prepare", "train", "train_tuned", "robustness"}
    assert "40000 MB" in found["train_tuned"][1] and found["robustness"][0] == "ok"


def test_accounts_are_looked_up_by_name_where_no_variable_names_the_user(monkeypatch):
    monkeypatch.delenv("USER", raising=False)
    asked = []
    monkeypatch.setattr(commands, "ask", lambda words, *more: asked.append(words) or commands.Answer(True, "", ""))
    slurm = commands.Slurm()
    slurm._sacct = True
    list(doctor_slurm._limits(slurm, OFFER))
    assert f"user={pwd.getpwuid(os.getuid()).pw_name}" in asked[0]


def test_the_estimate_reads_it_too(write):
    write(f"{TOP}submitit-gpus: 2\nset-resources: {{train: {{runs_per_gpu: 3, mem: 4GB}}}}\n")
    assert estimate.share_of(Path("slurm/config.yaml")) == (3, 2)
    write(f"{TOP}submitit-runs-per-gpu: 2\nset-resources: [train:gpu=1]\n")
    assert estimate.share_of(Path("slurm/config.yaml")) == (2, 1)
    write("jobs: [\n")
    with pytest.raises(ConfigError):
        estimate.share_of(Path("slurm/config.yaml"))
    assert estimate.share_of(Path("nowhere")) == (1, 1)


def test_another_profile_can_be_named():
    from mmlbench.cli.parser import make_parser

    assert make_parser().parse_args(["doctor", "--slurm"]).slurm == "slurm"
    assert make_parser().parse_args(["doctor", "--slurm", "other"]).slurm == "other"
