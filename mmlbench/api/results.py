"""The tables and runs of a study as pandas DataFrames; nothing here imports torch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ..analysis.result_set import ResultSet, read_table
from ..analysis.rows import COLUMNS
from ..errors import ConfigError, nearest
from .run import HISTORY, Run

if TYPE_CHECKING:
    from pandas import DataFrame

#: What names a run in `Results.history`, beside its folder `run`.
RUN_KEY = ("dataset", "split", "recipe", "encoder", "label", "seed")
#: Columns that hold words, whatever they look like: a label may be called 10.
WORDS = ("label", "params", "run", "config_hash", "hardware", "first", "second", "seeds")


def load(results: str | Path = "results") -> Results:
    """Open a results folder whose tables are made.

    Raises:
        DataError: it holds no tables, or those of another version; the message has the command that makes them.
    """
    return Results(Path(results))


class Results:
    """A study: its tables, its runs and their histories.

    Accuracies are fractions, differences and gaps percentage points, as the column `unit` says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._set = ResultSet.open(folder)
        self._frames: dict[str, DataFrame] = {}

    def __repr__(self) -> str:
        return f"Results({str(self.folder)!r}: {self._set.name})"

    @property
    def name(self) -> str:
        """The study's name."""
        return self._set.name

    @property
    def headline(self) -> str:
        """The selection rule that the study speaks of: 'last' or 'val'."""
        return self._set.headline

    @property
    def tables(self) -> list[str]:
        """The names of the tables."""
        return list(dict.fromkeys(row.table for row in self._set.rows))

    def rows(self) -> DataFrame:
        """Return all of all_tables.csv, a row per number; the columns are those of docs/run-folder.md."""
        from pandas import DataFrame

        lines = [[getattr(row, name) for name in COLUMNS] for row in self._set.rows]
        return DataFrame(lines, columns=list(COLUMNS))

    def table(self, name: str, every_rule: bool = False) -> DataFrame:
        """Return the rows of one table, such as 'accuracy' or 'competition_gap'.

        Args:
            every_rule: with the numbers of the other selection rules too; those of 'test' are no results. The table
                'selection' is about picking on test, so its rows are always there.

        Raises:
            ConfigError: there is no such table; the message has the nearest names.
        """
        if name not in self.tables:
            raise ConfigError(f"no table is named {name!r}", nearest(name, self.tables))
        found = self.rows()
        found = found[found.table == name]
        if not every_rule and name != "selection":
            found = found[found.selection.isin([self.headline, ""])]
        return found.reset_index(drop=True)

    def runs(self) -> DataFrame:
        """Return runs.csv: a row per run and seed, with the accuracy of each head and probe and what it cost."""
        return self._csv("runs.csv")

    def history(self) -> DataFrame:
        """Return the histories of all runs: what names the run, then stage, epoch, part, name, value.

        Raises:
            DataError: a run folder is missing or was changed.
        """
        from pandas import DataFrame, concat

        parts = []
        for row in self.runs().to_dict("records"):
            for folder in row["run"].split(" + "):  # of folds, that of each
                history = Run.open(self.folder / folder).history()
                for place, (key, value) in enumerate({**{key: row[key] for key in RUN_KEY}, "run": folder}.items()):
                    history.insert(place, key, value)
                parts.append(history)
        return concat(parts, ignore_index=True) if parts else DataFrame(columns=[*RUN_KEY, "run", *HISTORY])

    def compare(self, first: str, second: str, dataset: str | None = None) -> DataFrame:
        """Return the paired differences first - second of two labels, in percentage points.

        Args:
            first: a label, as in the tables.
            second: the label to compare it with.
            dataset: only this one; default all that hold both.

        Returns:
            One row per group (dataset, split, recipe, encoder) and head: value, ci_low, ci_high (95 %, of this
            comparison alone), se, p_value, p_moderated (with the moderated seed variances of a large board),
            p_adjusted (Holm over all pairs of the group) and p_hochberg (Benjamini-Hochberg, large boards), all
            three of fused accuracies alone; seeds, n_test.

        Raises:
            ConfigError: a label or the dataset is not there, or no group holds both; the message has the nearest.
        """
        from pandas import concat

        pairs = self._csv("pairwise.csv")
        if first == second:
            raise ConfigError(f"{first!r} can't be compared with itself", "Name two labels")
        if dataset is not None:
            if dataset not in set(pairs.dataset):
                raise ConfigError(f"no dataset is named {dataset!r} here", nearest(dataset, set(pairs.dataset)))
            pairs = pairs[pairs.dataset == dataset]
        labels = {*pairs["first"], *pairs["second"]}
        for label in (first, second):
            if label not in labels:
                raise ConfigError(f"no label is named {label!r} here", nearest(label, labels))
        straight = pairs[(pairs["first"] == first) & (pairs["second"] == second)]
        turned = pairs[(pairs["first"] == second) & (pairs["second"] == first)].copy()
        turned[["first", "second"]] = turned[["second", "first"]].to_numpy()
        turned["value"] = -turned["value"]
        turned[["ci_low", "ci_high"]] = -turned[["ci_high", "ci_low"]].to_numpy()
        there = [part for part in (straight, turned) if len(part)]  # pandas warns of empty parts
        found = concat(there).sort_index() if there else straight
        if found.empty:
            raise ConfigError(f"{first!r} and {second!r} stand in no group together", "Choose labels of one dataset")
        return found.reset_index(drop=True)

    def _csv(self, name: str) -> DataFrame:
        """Return a table of the folder; it is read when it is first asked for."""
        from pandas import read_csv

        if name not in self._frames:
            text = io.StringIO(read_table(self.folder, name))
            # Nothing is taken for a missing number but an empty cell: a label may be called "NA".
            frame = read_csv(text, dtype=dict.fromkeys(WORDS, str), keep_default_na=False, na_values=[""])
            words = [column for column in WORDS if column in frame]
            frame[words] = frame[words].fillna("")
            self._frames[name] = frame
        return self._frames[name].copy()
