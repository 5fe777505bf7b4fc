"""What the batch script does before it starts the job: the site's setup lines, each watched, and what must be there.

It runs on the node in bash, from SLURM's own copy, so it can tell what Python could not: a folder or a Python that
the node does not see, `module` that is not defined. What it finds is a line of SLURM's own log of the job.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError

#: The line that tells why nothing was started: the cause, an exit code, the thing.
TOLD = re.compile(r"^mmlbench (setup|folder|python|srun) (\d+): ?(.*)$", re.MULTILINE)

#: Ends the script with such a line; codes of signals are SLURM's to explain.
_TELL = """\
mmlbench_tell() { trap - ERR EXIT; case $2 in 137|140|143) exit "$2";; esac
  printf 'mmlbench %s %s: %s\\n' "$1" "$2" "${3%%$'\\n'*}"; exit 1; }"""
#: A file that a line sources may hold commands that fail without harm; the line itself may not fail.
_WATCH = """\
trap 'mmlbench_code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] || mmlbench_tell setup $mmlbench_code "$mmlbench_line"' ERR
trap 'mmlbench_tell setup $? "$mmlbench_line"' EXIT
trap 'exit 143' TERM"""


def preamble(setup: str | None, folder: Path | None = None) -> list[str]:
    """Return the lines of a batch script that come before the job's own.

    Args:
        setup: the site's lines. folder: of the submission; None leaves that check out.

    Raises:
        WorkflowError: the setup lines are no shell.
    """
    lines = [_TELL]
    if folder is not None:
        place = shlex.quote(str(folder))
        lines.append(f"[ -e {place}/batch.json ] || mmlbench_tell folder 1 {place}")
    found = commands_of(setup or "")
    if found:
        lines.append(_WATCH)
        for command in found:
            lines += [f"mmlbench_line={shlex.quote(command)}", command]
        lines.append("trap - ERR EXIT TERM")
    python = shlex.quote(sys.executable)
    lines.append(f"[ -x {python} ] || mmlbench_tell python 1 {python}")
    lines.append("command -v srun > /dev/null || mmlbench_tell srun 127 srun")
    return lines


def no_pattern(folder: Path) -> None:
    """Refuse a folder of job files whose name SLURM reads as a pattern for the names of logs, or not at all.

    Raises:
        WorkflowError: with the folder.
    """
    if re.search(r"%\d*[A-Za-z%]|[\\\n\r]", str(folder)):
        raise WorkflowError(
            f"the folder of job files, {str(folder)!r}, has in its name what SLURM takes for a pattern (% and a "
            "letter, a backslash, a line break): name another, which all nodes share, in submitit-folder"
        )


def prefix_of(text: str | None) -> list[str]:
    """Read the words that come before each command on the node.

    Raises:
        WorkflowError: a quote is not closed.
    """
    try:
        return shlex.split(text or "")
    except ValueError as error:
        raise WorkflowError(f"submitit-prefix is {text!r}, which is no command: {error}") from None


@functools.lru_cache
def commands_of(setup: str) -> tuple[str, ...]:
    """Cut setup lines into whole commands: a line each, or the lines of one `if`, function or here-document.

    Raises:
        WorkflowError: with the line and bash's words.
    """
    found, group, first = [], [""][:0], 1
    words = ""
    for number, line in enumerate(setup.splitlines(), 1):
        group.append(line)
        text = "\n".join(group)
        words = _unfinished(text)
        if not words:
            if any(part.strip() and not part.lstrip().startswith("#") for part in group):
                found.append(text)
            group, first = [], number + 1
    if group:
        raise WorkflowError(f"submitit-setup, line {first}, {group[0].strip()!r}, is no shell command: {words}")
    return tuple(found)


def _unfinished(text: str) -> str:
    """Return why bash can't take a text as whole commands, '' where it can."""
    if re.search(r"(?<!\\)(\\\\)*\\$", text):
        return "it ends in a backslash"
    done = subprocess.run(["bash", "-n"], input=f"{text}\n", capture_output=True, text=True, check=False)
    return re.sub(r"^bash: (line \d+: )?", "", done.stderr.strip().split("\n")[0])


def message(log: str) -> tuple[str, int, str] | None:
    """Return what the script wrote into SLURM's log of a job: cause, exit code, thing; None where it did not."""
    found = TOLD.findall(log)
    return (found[-1][0], int(found[-1][1]), found[-1][2]) if found else None
