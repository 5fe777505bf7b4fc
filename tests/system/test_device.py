"""A GPU that was asked for and can't be used is an error; one that merely is there gets a loud line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmlbench.cli import doctor, main
from mmlbench.errors import ConfigError
from mmlbench.system import device
from mmlbench.system.device import asked_for, choose_device, trouble, why_unusable

OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to ..."
)
NONE = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from "
    "http://www.nvidia.com/Download/index.aspx"
)
ONE = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": "0"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, and nothing that names one."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "CUDA_VISIBLE", "MMLBENCH_DEVICE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_driver_files", lambda: ())
    monkeypatch.setattr(device.shutil, "which", lambda name: None)


def cuda_build(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """Let torch be a build for CUDA 13.0 whose start ends with a message, as it stands in torch."""

    def fail() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fail)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7"}, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}, "the job 7 was given a GPU (SLURM_JOB_GPUS=0)"),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_GPUS": "1,2"}, "the job 7 was given a GPU (SLURM_STEP_GPUS=1,2)"),
        ({"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "2"}, "the job 7 was given a GPU (SLURM_GPUS_ON_NODE=2)"),
        ({"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "0"}, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ""),
        ({**ONE, "CUDA_VISIBLE_DEVICES": ""}, ""),
        ({**ONE, "CUDA_VISIBLE_DEVICES": "-1"}, ""),
        ({"SLURM_JOB_GPUS": "0"}, ""),  # left over in a shell outside a job
        ({"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES=0 names a GPU"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f2c"}, "CUDA_VISIBLE_DEVICES=GPU-8f2c names a GPU"),
        ({"CUDA_VISIBLE_DEVICES": ""}, ""),
    ],
)
def test_what_asks_for_a_gpu(environment: dict[str, str], message: str) -> None:
    assert asked_for(environment) == message


def test_without_a_gpu_nothing_is_said() -> None:
    assert choose_device("auto", pytest.fail).type == "cpu"
    assert choose_device("cpu", pytest.fail).type == "cpu" and trouble(torch) == ""


def reasons(monkeypatch: pytest.MonkeyPatch):
    """Yield (reason in the message, fix) after setting torch up for each."""
    monkeypatch.setattr(torch.version, "cuda", None)
    yield "is built for the CPU only", "make env"
    cuda_build(monkeypatch, OLD)
    yield "for CUDA 13.0: The NVIDIA driver on your system is too old (found version 11040)", "TORCH=cu126 make env"
    cuda_build(monkeypatch, NONE)
    yield "Found no NVIDIA driver on your system", "Load the driver's module"
    cuda_build(monkeypatch, "No CUDA GPUs are available")
    yield "No CUDA GPUs are available", "ask for a GPU that is there"


def test_in_an_allocation_with_a_gpu_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ONE.items():
        monkeypatch.setenv(name, value)
    for reason, fix in reasons(monkeypatch):
        with pytest.raises(ConfigError) as caught:
            choose_device("auto", pytest.fail)
        text = str(caught.value)
        assert "the job 7 was given a GPU (SLURM_JOB_GPUS=0), and torch can't use it" in text
        assert reason in text and fix in text and "--device cpu, or MMLBENCH_DEVICE=cpu" in text
        assert "http" not in text and "\n" not in text and trouble(torch) in text
        assert choose_device("cpu", pytest.fail).type == "cpu", "on purpose"
    monkeypatch.setenv("MMLBENCH_DEVICE", "cpu")
    assert choose_device("auto", pytest.fail).type == "cpu" and trouble(torch) == ""


def test_a_device_by_name_says_why_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for reason, fix in reasons(monkeypatch):
        for name in ("cuda", "cuda:1"):
            with pytest.raises(ConfigError, match=f"device '{name}' can't be used") as caught:
                choose_device(name, pytest.fail)
            assert reason in str(caught.value) and fix in str(caught.value)
    monkeypatch.setenv("MMLBENCH_DEVICE", "cuda")
    with pytest.raises(ConfigError, match="device 'cuda' can't be used"):
        choose_device("auto", pytest.fail)


def test_a_gpu_that_is_there_and_idle_gets_a_loud_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    node = tmp_path / "nvidia0"
    node.write_text("")
    monkeypatch.setattr(device, "_driver_files", lambda: (node,))
    message: list[str] = []
    for reason, _ in reasons(monkeypatch):
        assert choose_device("auto", message.append).type == "cpu"
        assert (
            message[-1].startswith(f"WARNING: there is a GPU ({node}) and torch can't use it")
            and reason in message[-1]
        )
    assert len(message) == 4


def test_doctor_says_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found() -> doctor.Finding:
        return next(finding for finding in doctor.torch_findings() if finding.about == "cuda")

    cuda_build(monkeypatch, OLD)
    assert found().verdict == "ok"
    (tmp_path / "nvidia0").write_text("")
    monkeypatch.setattr(device, "_driver_files", lambda: (tmp_path / "nvidia0",))
    assert found().verdict == "note" and "too old" in found().what and "TORCH=cu126" in found().fix
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert found().verdict == "wrong" and "runs end with an error" in found().what
    monkeypatch.setenv("MMLBENCH_DEVICE", "cpu")
    assert found().verdict == "ok"


def test_a_run_ends_before_it_begins(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    words = [word for word in tiny.words("joint", tmp_path) if word not in ("--device", "cpu")]
    for name, value in ONE.items():
        monkeypatch.setenv(name, value)
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert "the job 7 was given a GPU" in error and not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the real torch here has a GPU")
@pytest.mark.slow
def test_the_real_torch_gives_a_reason(tmp_path: Path) -> None:
    """With nvidia-smi on PATH and a job's variables, in a process of its own."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    code = "import sys; from mmlbench.system.device import choose_device\n"
    code += "try:\n    print(choose_device('auto', print))\nexcept Exception as e:\n    print('ERROR', e)"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "CUDA_VISIBLE", "MMLBENCH_DEVICE"))}
    env["PATH"] = f"{tmp_path}:{env['PATH']}"

    def out(**more: str) -> str:
        return subprocess.run([sys.executable, "-c", code], env=env | more, capture_output=True, text=True).stdout

    assert out().startswith("WARNING: there is a GPU") and out().endswith("cpu\n")
    assert out(**ONE).startswith("ERROR the job 7 was given a GPU (SLURM_JOB_GPUS=0), and torch can't use it: ")


def test_why_is_never_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_build(monkeypatch, "CUDA unknown error\n  - this may be due to an incorrectly set up environment")
    why, _ = why_unusable(torch)
    assert "\n" not in why and "CUDA unknown error" in why


@pytest.mark.parametrize("name", ["cuda:0,1", "0,1", "cuda:0,cuda:1", "cuda:0 cuda:1", "cuda:0+cuda:1"])
def test_several_devices_are_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="names several, and a run computes on one") as caught:
        choose_device(name, pytest.fail)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("MMLBENCH_DEVICE", name)
    with pytest.raises(ConfigError, match="names several"):
        choose_device("auto", pytest.fail)


def test_a_launch_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert choose_device("cpu", pytest.fail).type == "cpu", "a variable that some sites set by themselves"
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ConfigError, match="one of 4 processes of one launch"):
        choose_device("cpu", pytest.fail)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert choose_device("cpu", pytest.fail).type == "cpu"
