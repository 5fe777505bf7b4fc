"""Does an edited engine give the bits of the one that made a shipped archive? Compares runs that were trained again.

    python tools/same_engine.py published/baselines/zoo-avdigits.mmlb.tar.gz RESULTS

RESULTS has runs of the archive's study, trained in full with the edited engine: a run of each method at least. The
record of a run has a hash of each file that it determines: predictions, probes, weights, history. Exit code 1 where
one differs, a method of the archive has no run, or its own code is another; see docs/architecture.md, 'An engine that
gives the same bits'.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from mmlbench.results.packed import extract, listed
from mmlbench.results.record import RunRecord, read_record


def differing(one: RunRecord, other: RunRecord) -> list[str]:
    """Return what is not the same of two runs of one configuration."""
    found = ["code of the method"] if one.code.method != other.code.method else []
    found += ["data"] if one.data_fingerprint != other.data_fingerprint else []
    return found + sorted(
        name for name in one.files.keys() | other.files.keys() if one.files.get(name) != other.files.get(name)
    )


def compare(packed: Path, results: Path) -> tuple[list[str], int]:
    """Compare the runs that both folders have.

    Returns:
        What is wrong, a line each, and how many runs were compared.
    """
    wrong, compared, methods = [], set[str](), {"all": set[str](), "compared": set[str]()}
    for path in sorted(packed.glob("runs/*/*/*/*/run.json")):
        run, record = path.parent.relative_to(packed), read_record(path.parent)
        methods["all"].add(record.config.method)
        if (results / run / "run.json").exists():
            methods["compared"].add(record.config.method)
            compared.add(str(run))
            found = differing(record, read_record(results / run))
            wrong += [f"{run}: {', '.join(found)}"] if found else []
    lacking = methods["all"] - methods["compared"]
    return wrong + [f"no run of {name}: train one" for name in sorted(lacking)], len(compared)


def main(words: list[str] | None = None) -> int:
    """Compare and say it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("results", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        extract(asked.archive, listed(asked.archive), Path(folder))
        wrong, compared = compare(Path(folder), asked.results)
    sys.stdout.write("".join(f"{line}\n" for line in [*wrong, f"{compared} runs compared, {len(wrong)} faults"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
