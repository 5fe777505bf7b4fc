"""The audit beside the results that it concerns: results/tables/audit.csv, and lines per dataset and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..audit import Finding, audited, from_csv, to_csv
from ..errors import DataError
from ..prepare.cache import open_finished
from ..results.load import read_plan
from ..results.plugin_facts import Facts
from ..storage.atomic import read_text, write_text
from ..study.plan import Plan

#: (dataset, split) -> what the audit found.
Findings = Mapping[tuple[str, str], list[Finding]]
#: How many a table of the page or a paragraph can take.
LINES = 6


def audit_plan(results: Path, cache: Path, log: Callable[[str], None]) -> dict[tuple[str, str], list[Finding]]:
    """Audit every dataset and split of a plan whose cache is at hand; write results/tables/audit.csv.

    A cache that is not there (results copied from another machine) leaves its data out and that is said.
    """
    plan = read_plan(results)
    facts = Facts.of_plan(plan)
    found: dict[tuple[str, str], list[Finding]] = {}
    for folder, wanted in _wanted(plan).items():
        dataset = next(iter(wanted))[0]
        try:
            opened = open_finished(cache, folder, log)
        except DataError as error:
            log(f"no audit of {dataset}: {error.what}")
            continue
        groups = {split: facts.group_of(name, split) for name, split in wanted}
        for split, findings in audited(opened, groups, results, log).items():
            found[dataset, split] = findings
    rows = [(dataset, split, finding) for (dataset, split), findings in found.items() for finding in findings]
    write_text(results / "tables" / "audit.csv", to_csv(rows))
    return found


def read_audit(results: Path) -> dict[tuple[str, str], list[Finding]]:
    """Return what results/tables/audit.csv holds; {} where there is none."""
    found: dict[tuple[str, str], list[Finding]] = {}
    path = results / "tables" / "audit.csv"
    if path.exists():
        try:
            rows = from_csv(read_text(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path} is no table of an audit", "Make it again with: mmlbench tables") from None
        for dataset, split, finding in rows:
            found.setdefault((dataset, split), []).append(finding)
    return found


def _wanted(plan: Plan) -> dict[str, dict[tuple[str, str], None]]:
    """Return cache folder -> (dataset, split), both in the plan's order."""
    wanted: dict[str, dict[tuple[str, str], None]] = {}
    for cell in plan.cells:
        wanted.setdefault(cell.cache, {})[cell.config.dataset, cell.config.split] = None
    return wanted


@dataclass(frozen=True)
class AuditText:
    """What a reader of the results has to know of a split's data.

    Attributes:
        lines: sentences, gravest first; none where the data were not audited.
        grave: whether there is a leak or a fault.
    """

    lines: tuple[str, ...] = ()
    grave: bool = False


def audit_text(found: Findings, dataset: str, split: str) -> AuditText:
    """Return what the audit of a split's data found, in words."""
    findings = found.get((dataset, split))
    if findings is None:
        return AuditText()
    grave = [f for level in ("leak", "fault") for f in findings if f.level == level]
    if not grave:
        groups = [f.of for f in findings if f.check == "groups"]
        shared = ", ".join(dict.fromkeys(["id", *groups, "row, byte or near-identical content"]))
        return AuditText((f"Audit of the data: no {shared} is in two parts; every id has one label.",))
    lines = [_sentence(f) for f in grave[:LINES]]
    if len(grave) > LINES:
        lines.append(f"{len(grave) - LINES} more in tables/audit.csv.")
    return AuditText((f"Audit of the data: {lines[0]}", *lines[1:]), grave=True)


def _sentence(finding: Finding) -> str:
    message = finding.message[:1].upper() + finding.message[1:]
    if finding.check == "groups" and finding.parts == "train+test":
        return f"{message}; results here speak about a {finding.of} known from training."
    if finding.level == "leak" and finding.parts == "train+test":
        return f"{message}; results here are in part memory."
    return f"{message}."
