"""What a study of many methods says, as Markdown for docs/results.md.

    python tools/method_table.py facts RESULTS          # a row a method: lines, tests, counts, costs, all datasets
    python tools/method_table.py board RESULTS DATASET  # a row a method: rank, accuracy, differences, gaps
    python tools/method_table.py counts RESULTS DATASET # how many of the cures are above what, and which

Everything is read from the tables and the records of the runs; nothing is computed that the page does not show.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from statistics import mean

from mmlbench.analysis.result_set import GroupKey, ResultSet
from mmlbench.analysis.rows import Row
from mmlbench.registry.index import load_index
from mmlbench.report.line import rank_range
from mmlbench.report.numbers import figure_of, interval
from mmlbench.results.load import read_made_plan
from mmlbench.results.run_folder import RunFolder
from mmlbench.stats import separated_pairs

ROOT = Path(__file__).resolve().parents[1]


def cell(row: Row | None) -> str:
    """Return a value with its interval, as the page prints them; '' without one."""
    return f"{figure_of(row)} {interval(row)}".strip()


def tests_of(method: str) -> tuple[int, int]:
    """Return the test functions of a method's own file, and how many of them train whole runs (are slow)."""
    path = ROOT / "tests" / "methods" / f"test_{method}.py"
    if not path.exists():
        return 0, 0
    functions = [
        node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    ]
    tests = [node for node in functions if node.name.startswith("test_")]
    return len(tests), sum(any("slow" in ast.unparse(one) for one in node.decorator_list) for node in tests)


def gap_of(found: ResultSet, group: GroupKey, label: str, modality: str) -> Row | None:
    """Return the row of a method's competition gap, of a modality or the worst."""
    return found.find(group, label, "gap", modality, "probe", found.alone(group), "competition_gap")


def board(found: ResultSet, group: GroupKey) -> list[str]:
    """Return the lines of a board: a row a method, the best first; a rank that nothing is known of is in brackets."""
    references, modalities = found.references(group), found.modalities(group)
    heads = [
        "method",
        "rank",
        "accuracy",
        *(f"minus {name}" for name in references),
        *(f"{m} gap" for m in modalities),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for entry in found.entries(group):
        accuracy = found.find(group, entry.label, found.metric(group))
        differences = [found.find(group, entry.label, "difference", baseline=other) for other in references]
        gaps = [gap_of(found, group, entry.label, m) for m in modalities]
        if accuracy is None and not any(gaps):
            continue
        place = rank_range(found, group, entry.label)
        rank = place.ends if place else ""
        unknown = place and (entry.varies_more or (entry.n_seeds or 0) < 2)
        rank = f"({rank})" if unknown else rank
        lines.append("| " + " | ".join([entry.label, rank, *map(cell, (accuracy, *differences, *gaps))]) + " |")
    return lines


def counts(found: ResultSet, group: GroupKey) -> list[str]:
    """Return lines that count the cures, all ranked methods but joint training and the ensemble.

    "alone" is by the interval of each comparison by itself, "of all" after correction for all ranked pairs.
    """
    ranked = [entry.label for entry in found.entries(group) if entry.rank_group is not None]
    cures = [label for label in ranked if label not in (found.baseline, found.ensemble(group))]
    pairs = separated_pairs(found.differences(group))
    lines = [f"{len(ranked)} ranked, {len(cures)} cures", f"may be the best: {', '.join(found.bests(group))}"]
    varying = [entry.label for entry in found.entries(group) if entry.varies_more]
    lines.append(f"seeds vary more: {', '.join(varying)}")
    for other in found.references(group):
        rows = {label: found.find(group, label, "difference", baseline=other) for label in cures}
        for words, of_alone, of_all in (
            (
                "above",
                [label for label, row in rows.items() if row and (row.ci_low or 0) > 0],
                [(c, other) for c in cures],
            ),
            (
                "below",
                [label for label, row in rows.items() if row and (row.ci_high or 0) < 0],
                [(other, c) for c in cures],
            ),
        ):
            corrected = sum(pair in pairs for pair in of_all) if other in ranked else "-"
            lines.append(f"{words} {other}: alone {len(of_alone)}, of all {corrected}: {', '.join(of_alone)}")
    for m in found.modalities(group):
        gaps = {label: gap_of(found, group, label, m) for label in cures}
        worse = [label for label, row in gaps.items() if row and (row.ci_low or 0) > 0]
        better = [label for label, row in gaps.items() if row and (row.ci_high or 0) < 0]
        lines.append(f"{m}: worse than alone {len(worse)}: {', '.join(worse)}")
        lines.append(f"{m}: better than alone {len(better)}: {', '.join(better)}")
    row = found.resolution(group)
    return [*lines, f"smallest difference found: {figure_of(row)}" if row else ""]


def facts(found: ResultSet, results: Path) -> list[str]:
    """Return the lines of the table of facts: a row a method, in alphabetical order."""
    index, plan, groups = load_index(), read_made_plan(results), found.groups()
    records = [(cell.label, RunFolder.open(results / cell.run).record) for cell in plan.cells]
    groups = [group for group in groups if group[0]]
    heads = ["method", "family", "lines", "tests (whole runs)", "mechanism counts in a run", "FLOPs", "seconds"]
    heads += [f"`{group[0]}`: accuracy, worst gap" for group in groups]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for label in sorted({label for label, _ in records}):
        own = [record for other, record in records if other == label]
        method, entry = own[0].config.method, index.find("method", own[0].config.method)
        first = [record for record in own if record.config.dataset == own[0].config.dataset]
        counts = [f"{name} {mean(record.mechanisms[name] for record in first):.0f}" for name in first[0].mechanisms]
        tests, slow = tests_of(method)
        size = len(Path(entry.path).read_text(encoding="utf-8").splitlines())
        cells = [f"`{label}`", entry.facts["family"], str(size), f"{tests} ({slow})", ", ".join(counts)]
        cells += [beside_joint(found, groups, label, key) for key in ("train_flops_with_reused", "train_seconds")]
        for group in groups:
            accuracy, gap = found.find(group, label, found.metric(group)), gap_of(found, group, label, "worst")
            cells.append(", ".join(figure_of(row) for row in (accuracy, gap) if row))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def beside_joint(found: ResultSet, groups: list[GroupKey], label: str, key: str) -> str:
    """Return a cost as a multiple of joint training's, in the first group that has both."""
    for group in groups:
        own, joint = (found.cost_of(group, name).get(key, "") for name in (label, found.baseline))
        if own and joint:
            return f"{float(own) / float(joint):.2f}"
    return ""


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("facts", "board", "counts"))
    parser.add_argument("results", type=Path)
    parser.add_argument("dataset", nargs="?")
    asked = parser.parse_args()
    found = ResultSet.open(asked.results)
    if asked.what == "facts":
        lines = facts(found, asked.results)
    else:
        groups = [group for group in found.groups() if group[0] == asked.dataset]
        if not groups:
            parser.error(f"the tables of {asked.results} have no dataset {asked.dataset!r}")
        shown = board if asked.what == "board" else counts
        lines = [line for group in groups for line in shown(found, group)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
