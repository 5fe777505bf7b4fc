"""Do two states of the code give the same numbers? For changes that must move no number, such as a new layout.

    python tools/same_numbers.py make FOLDER             # trains three studies with the code of this working tree
    python tools/same_numbers.py compare BEFORE AFTER    # compares two such folders; exit 1 where a value differs

The studies: `quick` is config/quick.yaml, `bayes` is config/bayes.yaml with 2 epochs and 2 seeds, `minis` has a
miniature of each of the five downloaded datasets with every method. Their tables are compared value by value. What
says how a number was made (hashes, versions, hardware) may differ, and so may sentences.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

TABLES = "results/all_tables.csv"
STUDIES = ("quick", "bayes", "minis")
#: What names a row. `row_id` is a hash of it.
KEY = (
    "table", "dataset", "split", "recipe", "encoder", "label", "modality", "metric", "kind", "selection", "baseline",
)  # fmt: skip
#: Columns that say how a number was made, or say it in words.
FREE = ("row_id", "config_hash", "data_fingerprint", "code_version", "hardware", "note", "published_source")
SHOWN = 20


def run(tree: Path, line: str) -> str:
    """Type a command in a copy of the working tree; it must succeed. Return what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PYTHONPATH": str(tree), "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        shlex.split(line), cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"{line}\n{done.stdout}\nexit code {done.returncode}")
    return done.stdout


def shortened(path: Path) -> dict[str, Any]:
    """Return the study of a file with 2 epochs and 2 seeds."""
    study: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for block in study["grid"]:
        block |= {"seeds": [0, 1], "recipe_set": {"epochs": 2}}
    return study


def make(target: Path) -> None:
    """Train the three studies with the code of this working tree and keep their tables in `target`."""
    from clone import copy_tree
    from miniatures import MINIS, config

    tree = target / "tree"
    copy_tree(tree)
    studies = {
        "quick": yaml.safe_load((tree / "config" / "quick.yaml").read_text(encoding="utf-8")),
        "bayes": shortened(tree / "config" / "bayes.yaml"),
        "minis": config(),
    }
    for name, study in studies.items():
        path = tree / "config" / f"same_{name}.yaml"
        path.write_text(yaml.safe_dump(study), encoding="utf-8")
        if name == "minis":
            lines = re.findall(
                r"^ *(mmlbench prepare (\w+) .*)$", run(tree, f"mmlbench estimate {path} --seconds 0"), re.M
            )
            for line, dataset in lines:
                raw, lists = MINIS[dataset][0](target / "raw" / dataset)
                run(tree, f"{line.replace('FOLDER', str(raw))} --lists {lists} --workers 2")
        run(tree, f"snakemake --cores all {TABLES} --configfile {path}")
        for made in ("all_tables.csv", "cost.csv"):
            shutil.copyfile(tree / "results" / made, target / f"{name}-{made}")


def rows_of(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Return the rows of all_tables.csv by what names them."""
    with path.open(encoding="utf-8", newline="") as file:
        return {tuple(row[name] for name in KEY): row for row in csv.DictReader(file)}


def comparable(name: str, value: str) -> str | list[str]:
    """Return what is compared of a value: of run folders all but the hash of the configuration, which may differ."""
    return sorted(re.sub(r"-[0-9a-f]{10}$", "", run) for run in value.split()) if name == "runs" else value


def differences(before: Path, after: Path) -> tuple[Counter[str], list[str]]:
    """Compare two tables; return counts, and a line for each row or value that differs."""
    old, new = rows_of(before), rows_of(after)
    counts: Counter[str] = Counter(rows=len(old))
    found = [f"row gone: {' '.join(filter(None, key))}" for key in old if key not in new]
    found += [f"row new: {' '.join(filter(None, key))}" for key in new if key not in old]
    for key in old.keys() & new.keys():
        for name in old[key].keys() & new[key].keys() - {*KEY, *FREE}:
            counts["values"] += 1
            if comparable(name, old[key][name]) != comparable(name, new[key][name]):
                found.append(f"{name}: {old[key][name]!r} -> {new[key][name]!r}: {' '.join(filter(None, key))}")
    counts["differences"] = len(found)
    return counts, found


def compare(before: Path, after: Path) -> int:
    """Print what differs between two folders that `make` wrote; return the exit code."""
    code = 0
    for name in STUDIES:
        counts, found = differences(before / f"{name}-all_tables.csv", after / f"{name}-all_tables.csv")
        sys.stdout.write(f"{name}: {counts['rows']} rows, {counts['values']} values, {len(found)} differ\n")
        sys.stdout.write("".join(f"  {line}\n" for line in sorted(found)[:SHOWN]))
        code = code or int(bool(found) or not counts["values"])
    return code


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make", help="train the studies").add_argument("folder", type=Path)
    both = commands.add_parser("compare", help="compare two folders")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    words = parser.parse_args()
    if words.command == "compare":
        return compare(words.before, words.after)
    make(words.folder.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
