"""The recipes for Docker and Apptainer, and the workflow of the public checks, by their text: nothing is built."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
DOCKER = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
APPTAINER = (ROOT / "containers" / "apptainer.def").read_text(encoding="utf-8")


def section(text: str, name: str) -> list[str]:
    """Return the lines of a section of an Apptainer recipe."""
    body = re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL)
    assert body, name
    return [line.strip() for line in body[1].splitlines() if line.strip()]


def instructions(text: str, name: str) -> list[str]:
    """Return what follows an instruction of a Dockerfile, once for each time it stands there."""
    return re.findall(rf"^{name} (.+)$", text, re.MULTILINE)


def steps(lines: list[str]) -> list[str]:
    """Return the shell commands that install, with the argument written as one of the two writes it."""
    return [line.replace('"{{ TORCH }}"', '"$TORCH"') for line in lines]


def differing(docker: str, apptainer: str) -> list[str]:
    """Return the steps of the Dockerfile that the other recipe lacks."""
    return [step for step in instructions(docker, "RUN") if step not in steps(section(apptainer, "post"))]


def test_both_recipes_install_alike() -> None:
    assert len(instructions(DOCKER, "RUN")) == 3
    assert differing(DOCKER, APPTAINER) == []
    assert differing(DOCKER, APPTAINER.replace("chmod a+rwx", "chmod a+rx")) != []
    assert instructions(DOCKER, "FROM") == re.findall(r"^From: (.+)$", APPTAINER, re.MULTILINE)
    (where,) = instructions(DOCKER, "WORKDIR")
    assert f"cd {where}" in section(APPTAINER, "post") and f"cd {where}" in section(APPTAINER, "runscript")


def test_the_python_is_a_supported_one() -> None:
    (image,) = instructions(DOCKER, "FROM")
    supported = re.search(r"^SUPPORTED  := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert supported and re.fullmatch(r"python:([\d.]+)-.*", image)[1] in supported[1].split()


def test_both_start_the_default_study() -> None:
    (command,) = instructions(DOCKER, "CMD")
    words = " ".join(yaml.safe_load(command))
    assert f"set -- {words}" in section(APPTAINER, "runscript")
    assert f"`{words}`" in (ROOT / "docs" / "workflow.md").read_text(encoding="utf-8").replace("```\n", "`").replace(
        "\n`", "`"
    )


@pytest.mark.parametrize("name", ["post", "runscript", "environment", "test"])
def test_the_shell_lines_are_well_formed(name: str) -> None:
    text = "\n".join(section(APPTAINER, name))
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert subprocess.run(
        ["sh", "-n"], input=f"if {text}", text=True, check=False, stderr=subprocess.DEVNULL
    ).returncode


def test_the_page_prints_the_commands_of_the_recipes() -> None:
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    for recipe in (DOCKER, APPTAINER):
        head = recipe.partition("\n# With a GPU")[0]
        commands = [line[6:].partition("   ")[0].rstrip() for line in head.splitlines() if line.startswith("#     ")]
        assert commands
        assert all(command in page for command in commands)


def test_the_public_checks_call_the_whole_check() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    (called,) = [step["run"] for step in job["steps"] if step.get("run", "").startswith(".")]
    assert (ROOT / called).stat().st_mode & 0o111
    assert job["env"]["CI"] == "true"  # by which .ci/run knows that it may install packages of the system
