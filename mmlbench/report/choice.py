"""Which rows of a large board the terminal shows: some families, some labels, the first of the ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..errors import ConfigError
from ..storage.words import plural
from .line import Line, rank_range
from .page_tables import is_baseline
from .table import Table

#: What a board of many rows is told to be shown by.
FEWER = "Fewer rows: mmlbench leaderboard --top 10, --family NAME, or --only METHOD."


@dataclass(frozen=True)
class Choice:
    """Which rows to show; ranks, differences and notes stay those of all rows.

    Attributes:
        families, only: of these families, with these labels or methods; all where empty. top: so many of the rows
            that are left, by the ranking; None for all. Rows that others are measured by stay, but where `only`
            names the rows one by one.
        family_of: method -> family.
    """

    families: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    top: int | None = None
    family_of: Callable[[str], str] = lambda method: "other"

    @property
    def everything(self) -> bool:
        """Whether it leaves no row out."""
        return not self.families and not self.only and self.top is None

    def check(self, result_sets: Sequence[ResultSet]) -> None:
        """Refuse names that no row has.

        Raises:
            ConfigError: a family or a label is in none of the studies.
        """
        entries = [row for one in result_sets for group in one.groups() for row in one.entries(group)]
        families = {self.family_of(row.method) for row in entries}
        labels = {name for row in entries for name in (row.label, row.method)}
        for what, asked, known in (("family", self.families, families), ("row", self.only, labels)):
            for name in asked:
                if name not in known:
                    raise ConfigError(f"no {what} is called {name!r}", f"Name one of: {', '.join(sorted(known))}")

    def kept(self, result_set: ResultSet, group: GroupKey) -> set[str]:
        """Return the labels of a group that are shown."""
        entries = result_set.entries(group)
        chosen = [row for row in entries if self._asked(row)]
        if self.top is not None:
            ranked = [row for row in chosen if row.rank_group is not None]
            chosen = [*ranked[: self.top], *(row for row in chosen if row.rank_group is None and self.only)]
        always = [] if self.only else [row for row in entries if is_baseline(result_set, row)]
        return {row.label for row in (*chosen, *always)}

    def _asked(self, row: Row) -> bool:
        named = not self.only or bool({row.label, row.method} & set(self.only))
        return named and (not self.families or self.family_of(row.method) in self.families)

    def table(self, result_set: ResultSet, group: GroupKey, table: Table[Line]) -> Table[Line]:
        """Return a table with the lines that are shown; its foot stays."""
        kept = self.kept(result_set, group)
        rows, apart = ([line for line in lines if line.entry.label in kept] for lines in (table.rows, table.apart))
        return replace(table, rows=rows, apart=apart)

    def hidden(self, result_set: ResultSet, group: GroupKey) -> str:
        """Say how many rows of a group are not shown, and how many of them may be the best; '' where none is."""
        kept, entries = self.kept(result_set, group), result_set.entries(group)
        away = [row for row in entries if row.label not in kept]
        if not away:
            return ""
        ranks = [rank for row in away if (rank := rank_range(result_set, group, row.label)) and rank.ranked]
        best = sum(rank.first for rank in ranks)
        may = f", {best or 'none'} of them may be the best" if ranks else ""
        return f"{len(away)} of {plural(len(entries), 'row')} hidden{may}; the ranks are those among all."
