"""all_tables.csv as tables, page and figures read it: looked up by name, never by row number."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from ..errors import DataError
from ..results.load import read_made_plan
from ..results.plugin_facts import CONTROL, ENSEMBLE, LOGIT_MEAN
from ..stats import (
    Difference,
    RankInterval,
    benjamini_hochberg,
    compact_letters,
    possible_bests,
    rank_intervals,
    separated_pairs,
)
from ..storage.atomic import read_text
from ..study.plan import Plan
from ..task import known_metric
from .audit import AuditText, Findings, audit_text, read_audit
from .pairs import Pair, parse_pairs
from .rows import Row, SeedVariance, parse_rows

GroupKey = tuple[str, str, str, str]
Cost = dict[str, str]


@dataclass(frozen=True)
class Rank:
    """What all pairs tell of a label's place; labels that share a letter are not separated ('' for too many).

    Attributes:
        best: of a large board, whether it may be the best; None on others. hochberg: of a large board, the interval
            by Benjamini-Hochberg.
    """

    interval: RankInterval
    letters: str
    best: bool | None = None
    hochberg: RankInterval | None = None


def read_table(results: Path, name: str) -> str:
    """Return the text of a file that `mmlbench tables` makes.

    Raises:
        DataError: it is missing or can't be read.
    """
    try:
        return read_text(results / name)
    except (OSError, UnicodeDecodeError):
        message = "is missing" if not (results / name).exists() else "can't be read"
        raise DataError(f"{results / name} {message}", "Make it with: mmlbench tables") from None


@dataclass
class ResultSet:
    """The rows of a study, with its headline rule and its baseline's name.

    Attributes:
        cost: the rows of cost.csv, as text. audit: what the audit of each dataset and split found.
        pairs: the paired difference of every two labels, under the headline rule.
    """

    name: str
    headline: str
    baseline: str
    rows: list[Row]
    cost: list[Cost]
    audit: Findings = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._found = {self._key(row): row for row in self.rows}
        self._of: dict[GroupKey, list[Row]] = {}
        for row in self.rows:
            if row.dataset:  # others lie across groups
                self._of.setdefault(row.group, []).append(row)
        self._ranks: dict[GroupKey, dict[str, Rank]] = {}
        self._entries: dict[GroupKey, list[Row]] = {}

    @classmethod
    def open(cls, results: Path) -> ResultSet:
        """Read a results folder.

        Raises:
            DataError: no plan, no tables, or tables of another version or of two studies.
        """
        texts = [read_table(results, name) for name in ("all_tables.csv", "cost.csv", "pairwise.csv")]
        result_set = cls.parse(read_made_plan(results), *texts)
        result_set.check_pairs(results / "pairwise.csv")
        result_set.audit = read_audit(results)
        return result_set

    @classmethod
    def parse(cls, plan: Plan, all_tables: str, cost: str, pairwise: str) -> ResultSet:
        """Take the texts of all_tables.csv, cost.csv and pairwise.csv."""
        costs = list(csv.DictReader(io.StringIO(cost, newline="")))
        return cls(
            plan.title or plan.name,
            plan.headline,
            plan.baseline,
            parse_rows(all_tables),
            costs,
            pairs=parse_pairs(pairwise),
        )

    @staticmethod
    def _key(row: Row) -> tuple[str, ...]:
        return (*row.group, row.table, row.label, row.modality, row.metric, row.kind, row.selection, row.baseline)

    def groups(self) -> list[GroupKey]:
        """Return the groups in the order of the plan."""
        return list(self._of)

    def of(self, group: GroupKey, table: str, metric: str = "", selection: str | None = None) -> list[Row]:
        """Return the rows of a table of a group, in order."""
        return [
            row
            for row in self._of.get(group, ())
            if row.table == table
            and (not metric or row.metric == metric)
            and (selection is None or row.selection == selection)
        ]

    def find(
        self,
        group: GroupKey,
        label: str,
        metric: str,
        modality: str = "fused",
        kind: str = "fused",
        baseline: str = "",
        table: str = "accuracy",
        selection: str | None = None,
    ) -> Row | None:
        """Return one row under the headline rule, or None."""
        rule = self.headline if selection is None else selection
        return self._found.get((*group, table, label, modality, metric, kind, rule, baseline))

    def metric(self, group: GroupKey) -> str:
        """Return the name of the metric of a group's accuracies, differences, gaps and ranks."""
        return next((row.metric for row in self._of.get(group, ()) if row.table == "accuracy"), "accuracy")

    def higher(self, group: GroupKey) -> bool:
        """Whether more of that metric is better."""
        metric = known_metric(self.metric(group))
        return metric is None or metric.higher

    def title(self, group: GroupKey) -> str:
        """Return a group's name: dataset and split, and recipe and encoder where they tell groups apart."""
        dataset, split, recipe, encoder = group
        alike = [other for other in self.groups() if other[:2] == group[:2]]
        return f"{dataset} / {split}" + (f" / {recipe} / {encoder}" if len(alike) > 1 else "")

    def modalities(self, group: GroupKey) -> list[str]:
        """Return the modalities of a group, in the dataset's order."""
        rows = [row for row in self._of.get(group, ()) if row.table in ("accuracy", "competition_gap")]
        names = [row.modality for row in rows if row.modality not in ("fused", "mean", "worst")]
        return list(dict.fromkeys(names))

    def entries(self, group: GroupKey) -> list[Row]:
        """Return one accuracy row per label, best first: ranked ones, then those without a fused prediction,
        then the control. A label without a fused accuracy is stood for by its first row.
        """
        if group not in self._entries:
            self._entries[group] = self._sorted_entries(group)
        return list(self._entries[group])

    def _sorted_entries(self, group: GroupKey) -> list[Row]:
        first: dict[str, Row] = {}
        for row in self.of(group, "accuracy", self.metric(group)):
            fused = row.kind == "fused" and row.selection == self.headline
            if row.label not in first or fused:
                first[row.label] = row
        order, sign = list(first), -1 if self.higher(group) else 1

        def place(row: Row) -> tuple[int, float, int]:
            fused = row.kind == "fused" and row.selection == self.headline
            apart = 2 if row.method == CONTROL else 1 if row.method == LOGIT_MEAN else 0 if fused else 1
            return apart, sign * (row.value or 0.0) if fused else 0.0, order.index(row.label)

        return sorted(first.values(), key=place)

    def ranked_pairs(self, group: GroupKey) -> dict[tuple[str, str], Pair]:
        """Return (first, second) -> the difference of fused accuracies of each two labels that are ranked."""
        return {(pair.first, pair.second): pair for pair in self.pairs if pair.group == group and pair.ranks}

    def differences(self, group: GroupKey) -> list[Difference]:
        """Return what the ranks of a group follow from; two labels without common seeds differ by nothing known."""
        found, ranked = self.ranked_pairs(group), []
        for row in self.of(group, "accuracy", self.metric(group), self.headline):
            ranked += [row.label] if row.rank_group is not None else []
        differences, higher = [], self.higher(group)
        for first, second in combinations(ranked, 2):
            pair = found.get((first, second))
            value, p_value = (0.0, None) if pair is None else (pair.value, pair.p_ranking)
            value = value if higher else -value  # what is positive speaks for the first
            differences.append(Difference(first, second, value, p_value))
        return differences

    def ranks(self, group: GroupKey) -> dict[str, Rank]:
        """Return label -> the ranks that it can have, of the labels of a group that are ranked."""
        if group not in self._ranks:
            names = [row.label for row in self.entries(group) if row.rank_group is not None]
            differences = self.differences(group)
            separated = separated_pairs(differences)
            letters = compact_letters(names, separated)
            found = rank_intervals(names, separated)
            ranks = {name: Rank(found[name], letters.get(name, "")) for name in names}
            if self.moderated(group):
                bests = possible_bests(names, differences)
                more = rank_intervals(names, separated_pairs(differences, benjamini_hochberg))
                ranks = {name: replace(ranks[name], best=name in bests, hochberg=more[name]) for name in names}
            self._ranks[group] = ranks
        return self._ranks[group]

    def moderated(self, group: GroupKey) -> bool:
        """Whether the ranks of a group rest on moderated seed variances: it is a large board."""
        return any(row.seed_variance is SeedVariance.MODERATED for row in self.entries(group))

    def bests(self, group: GroupKey) -> list[str]:
        """Return the labels of a large board that may be the best, the best first; [] of other boards."""
        return [row.label for row in self.entries(group) if row.may_be_best]

    def check_pairs(self, path: Path) -> None:
        """Refuse pairs that are not those of the rows: they give other ranks, and would do so in silence.

        Raises:
            DataError: a pair is of no group here or there twice, or a method's best rank is another than in its row;
                naming the `path`.
        """
        found = {
            (pair.group, pair.first, pair.second, pair.modality, pair.kind, pair.selection) for pair in self.pairs
        }
        faults = ["a pair is there twice"] if len(found) < len(self.pairs) else []
        strange = {pair.group for pair in self.pairs} - self._of.keys()
        faults += [f"it has pairs of {' / '.join(group)}" for group in sorted(strange)]
        faults += [
            f"by its pairs {row.label} has another best rank than {row.rank_group}"
            for group in self.groups()
            for row in self.entries(group)
            if row.rank_group is not None and self.ranks(group)[row.label].interval.low != row.rank_group
        ]
        faults += [
            f"by its pairs {row.label} {'may' if self.ranks(group)[row.label].best else 'can not'} be the best"
            for group in self.groups()
            for row in self.entries(group)
            if row.may_be_best is not None and self.ranks(group)[row.label].best != bool(row.may_be_best)
        ]
        if faults:
            what = f"{path} is not of the same tables as all_tables.csv: {faults[0]}"
            raise DataError(what, "Type: mmlbench tables")

    def references(self, group: GroupKey) -> list[str]:
        """Return the labels that the others are compared with."""
        return list(dict.fromkeys(row.baseline for row in self.of(group, "accuracy", "difference", self.headline)))

    def alone(self, group: GroupKey) -> str:
        """Return the label from which gaps are measured, '' where there is none."""
        return next((row.baseline for row in self.of(group, "competition_gap", "gap")), "")

    def control(self, group: GroupKey) -> str:
        """Return the label of the control, '' where there is none."""
        return next((row.label for row in self.of(group, "accuracy") if row.method == CONTROL), "")

    def ensemble(self, group: GroupKey) -> str:
        """Return the label of the ensemble, '' where there is none."""
        found = [row.label for row in self.of(group, "accuracy", "difference") if row.method == ENSEMBLE]
        return next(iter(found), "")

    def bayes(self, group: GroupKey) -> dict[str, float]:
        """Return the Bayes accuracies that are known, modality -> fraction."""
        rows = self.of(group, "bayes", self.metric(group))
        return {row.modality: row.value for row in rows if row.value is not None}

    def about(self, group: GroupKey, label: str) -> list[Row]:
        """Return all rows of a label in a group, in the order of the tables."""
        return [row for row in self._of.get(group, ()) if row.label == label]

    def rule_words(self, words: Mapping[str, str]) -> str:
        """Return the headline rule in words."""
        return words.get(self.headline, self.headline)

    def cost_of(self, group: GroupKey, label: str) -> Cost:
        """Return the cost row of a label, {} where there is none."""
        where = dict(zip(("dataset", "split", "recipe", "encoder", "label"), (*group, label), strict=True))
        return next((row for row in self.cost if all(row[name] == value for name, value in where.items())), {})

    def seconds(self, group: GroupKey, label: str) -> tuple[float | None, list[str]]:
        """Return the training seconds of one seed with those of the runs that it reuses, and whose they are."""
        own = self.cost_of(group, label)
        if not own.get("train_seconds"):
            return None, []
        total, reused = float(own["train_seconds"]), []
        for method in filter(None, own.get("reuses", "").split("+")):
            found = [row for row in self.cost if row["method"] == method and self.cost_of(group, row["label"]) is row]
            if found and found[0]["train_seconds"]:
                total += float(found[0]["train_seconds"])
                reused.append(found[0]["label"])
        return total, reused

    def audited(self, group: GroupKey) -> AuditText:
        """Return what the audit of a group's data found."""
        return audit_text(self.audit, *group[:2])

    def resolution(self, group: GroupKey, table: str = "accuracy") -> Row | None:
        """Return the row with the smallest difference that the group can resolve."""
        return next(iter(self.of(group, table, "resolution")), None)
