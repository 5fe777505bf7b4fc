"""Run `snakemake --lint` and pass only if its single kind of finding is the one that the project accepts.

The rules carry no `conda:` or `container:` on purpose: a training job starts directly on a cluster node, which
needs a plain `shell:`. Snakemake has no switch for that one finding, so it is taken out here and nothing else is.
"""

from __future__ import annotations

import re
import subprocess
import sys

ACCEPTED = "Specify a conda environment or container for each rule."


def findings(report: str) -> list[str]:
    """Return 'place: finding' for each finding in the text of `snakemake --lint`, the accepted one left out."""
    place, kept = "", []
    for line in report.splitlines():
        if re.match(r"Lints for \S", line):
            place = line.removeprefix("Lints for ").rstrip(":")
        elif (match := re.match(r" {4}\* (.+?):?$", line)) and match[1] != ACCEPTED:
            kept.append(f"{place}: {match[1]}")
    return kept


def main() -> int:
    """Return 0 where nothing but the accepted finding was reported."""
    done = subprocess.run(["snakemake", "--lint"], capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    kept = findings(report)
    if kept:
        sys.stderr.write("\n".join(["snakemake --lint:", *kept]) + "\n")
        return 1
    if done.returncode and ACCEPTED not in report:  # it failed before it could look: show why
        sys.stderr.write(report)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
