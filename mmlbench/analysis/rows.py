"""The rows of all_tables.csv: their columns, how numbers are written, and the file itself."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, SupportsFloat, TypeVar

from ..errors import DataError
from ..results.origins import Reported
from ..stats import Condition
from ..storage.hashing import digest

T = TypeVar("T")

#: Significant decimals of every number in the tables: more than any of them is worth, and the same everywhere.
DIGITS = 6
#: The columns that name a row; its `row_id` is their hash.
KEY = (
    "table", "dataset", "split", "recipe", "encoder", "label", "modality", "metric", "kind", "selection", "baseline",
)  # fmt: skip
#: Why a row has no interval, in `no_interval`, where the reason is neither too little data nor what the number is.
SELECTED_ON_TEST, SMALL_CLASS, NOT_MEASURED = "selected_on_test", "small_class", "not_measured"


class NoValue(StrEnum):
    """Why a row has no value."""

    NOTHING = ""
    NO_ANSWER = "no_answer"  # the method has no answer for a modality alone
    SCORES_ONLY = "scores_only"  # it comes from logits or weights, and an archive brought the samples' scores alone
    NOTHING_TO_RETAIN = "nothing_to_retain"  # training alone is not shown to improve on the untrained encoder


class ClassState(StrEnum):
    """What is special about a class."""

    USUAL = ""
    NOT_IN_TEST = "not_in_test"
    NEVER_PREDICTED = "never_predicted"


class SeedVariance(StrEnum):
    """Whose variance over seeds the ranks of a row rest on."""

    NOTHING = ""  # the row is not ranked
    OWN = "own"  # that of each pair
    MODERATED = "moderated"  # those of the two rows, moderated by all rows of a large board


class Head(StrEnum):
    """What a fused head does with a modality that is filled in; values of two kinds of head are not comparable."""

    NONE = ""
    FILM = "film"
    GATED = "gated"
    ADDITIVE = "additive"
    BRANCHES = "branches"
    FEATURES = "features"


@dataclass
class Row:
    """One row; the fields are the columns, in their order (docs/run-folder.md). NaN and None are written empty.

    What the program decides by is in fields of its own. `meaning` and `note` are for readers alone: nothing reads
    them back.

    Attributes:
        arithmetic: portable where any x86-64 CPU with AVX2 prints the same digits, else native; or both.
        precision: of the recipe, fp32, tf32 or bf16; rows of two are never compared.
        pretrained: the modalities whose encoders start from weights of a file, joined by `+`; empty for none.
        note: what is particular to this number, in words.
        level: that of the interval, None without one.
        no_interval: '', `SELECTED_ON_TEST`, `SMALL_CLASS`, or `NOT_MEASURED`: the coverage of its metric.
        far_seeds: seeds whose value lies far from that of the others.
        meaning: what the number is, in words, where its columns don't tell; the same for every number of its kind.
        by_construction: the value follows from what the method is, and is not measured.
        conditional_on: what the interval says nothing beyond.
        clusters: how many clusters the test samples have, None without any; `cluster_name` is what one is called.
            The interval is over them, unless it is conditional on them.
        comparisons: how many comparisons interval and p-value, or the resolution, are corrected for; None for one.
        common_seeds: the seeds that were used, where a row that takes part has others too; else empty.
        worst_modality: whose gap is the greatest, in a row of modality `worst`.
        head: which kind of head answered for modality subsets, in table `reliance`.
        class_state: what is special about a class, in table `classes`.
        no_value: why there is no value.
        seed_variance: whose variance over seeds the ranks rest on.
        may_be_best: 1 where no other row of a large board beats this one at the level of the set of possible bests,
            0 where one does; None on other boards.
        varies_more: the seeds vary far more than those of the board's other rows; the row keeps its own variance.
        reported: who stands for it: empty, or `self_reported` or `reproduced` where a run behind it was handed in.
        runs: the run folders that the value comes from, below the results folder; none for a closed form.
    """

    table: str
    dataset: str = ""
    split: str = ""
    recipe: str = ""
    encoder: str = ""
    label: str = ""
    method: str = ""
    params: str = ""
    modality: str = ""
    metric: str = ""
    kind: str = ""
    selection: str = ""
    baseline: str = ""
    value: float | None = None
    sd: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    se: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    rank_group: int | None = None
    n_seeds: int | None = None
    n_test: int | None = None
    unit: str = ""
    note: str = ""
    row_id: str = ""
    config_hash: str = ""
    data_fingerprint: str = ""
    code_version: str = ""
    hardware: str = ""
    arithmetic: str = ""
    precision: str = ""
    pretrained: str = ""
    published_value: float | None = None
    published_source: str = ""
    tuning_trials: int | None = None
    level: float | None = None
    no_interval: str = ""
    far_seeds: tuple[int, ...] = ()
    meaning: str = ""
    by_construction: bool = False
    conditional_on: tuple[Condition, ...] = ()
    clusters: int | None = None
    cluster_name: str = ""
    comparisons: int | None = None
    common_seeds: tuple[int, ...] = ()
    worst_modality: str = ""
    head: Head = Head.NONE
    class_state: ClassState = ClassState.USUAL
    no_value: NoValue = NoValue.NOTHING
    seed_variance: SeedVariance = SeedVariance.NOTHING
    may_be_best: int | None = None
    varies_more: bool = False
    reported: Reported = Reported.OWN
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.row_id = self.row_id or digest([getattr(self, name) for name in KEY])[:10]

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What is compared within."""
        return self.dataset, self.split, self.recipe, self.encoder

    @property
    def remarks(self) -> str:
        """What a reader has to know of the number: what it is, and what is particular to it."""
        return "; ".join(part for part in (self.meaning, self.note) if part)

    @property
    def has_interval(self) -> bool:
        """Whether there is an honest interval."""
        return self.ci_low is not None and self.ci_high is not None


COLUMNS = tuple(field.name for field in fields(Row))


def _integer(text: str) -> int | None:
    return int(text) if text else None


def _float(text: str) -> float | None:
    return float(text) if text else None


def _flag(text: str) -> bool:
    if text not in ("", "1"):
        raise ValueError(f"{text!r} is neither 1 nor empty")
    return bool(text)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


#: How the text of a column is read, where it is not the value itself.
_READ: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("rank_group", "n_seeds", "n_test", "tuning_trials", "clusters", "comparisons"), _integer),
    "may_be_best": _integer,
    **dict.fromkeys(("value", "sd", "ci_low", "ci_high", "se", "p_value", "p_adjusted"), _float),
    **dict.fromkeys(("published_value", "level"), _float),
    **dict.fromkeys(("far_seeds", "common_seeds"), _integers),
    **dict.fromkeys(("by_construction", "varies_more"), _flag),
    "conditional_on": lambda text: tuple(map(Condition, text.split())),
    "head": Head,
    "class_state": ClassState,
    "no_value": NoValue,
    "seed_variance": SeedVariance,
    "reported": Reported,
    "runs": lambda text: tuple(text.split()),
}


def number(value: float | int | None) -> str:
    """Return a number as the tables write it: `DIGITS` significant decimals, no trailing zeros, '' for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.{DIGITS}g}"
    return "0" if text == "-0" else text


def cell_text(value: object) -> str:
    """Return a value as it stands in a CSV: a flag is 1 or empty, several values have spaces between.

    Raises:
        TypeError: it is neither text, number, several of these, nor None.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if value is None or isinstance(value, int | float):
        return number(value)
    if isinstance(value, SupportsFloat):  # a number of numpy's
        return number(float(value))
    raise TypeError(f"{value!r} is no value of a table")


def to_csv(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return CSV text with a header; values as `cell_text` writes them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(map(cell_text, row))
    return out.getvalue()


def from_csv(text: str, columns: tuple[str, ...], read: Callable[[dict[str, str]], T], where: str) -> list[T]:
    """Read CSV text with a header back.

    Args:
        read: makes one line's value from column -> cell; it raises ValueError for a cell that can't be.

    Raises:
        DataError: it has other columns, or a cell that can't be; the message names `where` it is from.
    """
    fix = "Make it with: mmlbench tables"
    table = csv.reader(io.StringIO(text, newline=""))
    try:
        if tuple(next(table, ())) != columns:
            raise DataError(f"{where} does not have the columns of this version", fix)
        return [read(dict(zip(columns, line, strict=True))) for line in table]
    except (ValueError, csv.Error) as error:
        raise DataError(f"{where} can't be read ({error})", fix) from None


def rows_text(rows: Iterable[Row]) -> str:
    """Return the text of all_tables.csv.

    Raises:
        ValueError: two rows have one name; a fault of the program.
    """
    rows = list(rows)
    seen: dict[str, Row] = {}
    for row in rows:
        if seen.setdefault(row.row_id, row) is not row:
            raise ValueError(f"two rows are one: {[getattr(row, name) for name in KEY]}")
    return to_csv(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows))


def parse_rows(text: str, where: str = "all_tables.csv") -> list[Row]:
    """Read the text of all_tables.csv.

    Raises:
        DataError: it has other columns, or a field that is no number; the message names `where` it is from.
    """
    return from_csv(text, COLUMNS, _row, where)


def _row(line: dict[str, str]) -> Row:
    values: dict[str, Any] = {name: _READ.get(name, str)(text) for name, text in line.items()}
    return Row(**values)
