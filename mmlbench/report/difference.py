"""Two result sets cell by cell: which numbers differ, by how much, and which config, data, code or hardware does."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..analysis.rows import KEY, Row, parse_rows
from ..errors import DataError
from ..results.load import read_made_plan
from ..storage.atomic import read_text
from ..storage.temporaries import temporary_folder
from ..storage.words import be, plural
from ..study.run_config import RunConfig
from ..task.units import printed_scale
from .numbers import figure_of, interval, signed

#: Columns of a row that say what made it, and how they are called.
MADE = {
    "config_hash": "config",
    "data_fingerprint": "data",
    "code_version": "code",
    "hardware": "hardware",
}

NUMBERS = ("value", "sd", "ci_low", "ci_high", "p_value", "rank_group", "n_seeds", "n_test")


@dataclass
class Side:
    """One result set: its rows by what they are about, and its planned configurations."""

    name: str
    rows: dict[tuple[str, ...], Row]
    configs: dict[tuple[str, ...], RunConfig]


#: What says in which study a row stands; the rest of its key says what is measured.
STUDY_KEY = ("dataset", "split", "recipe", "encoder", "label")


@dataclass
class Found:
    """What differs.

    Attributes:
        apart: column of `STUDY_KEY` -> its values on either side, where the sets share no row.
        changed: pairs of rows whose numbers differ. same: pairs whose numbers are equal. only: set -> rows that the
            other lacks. made: sentences about config, data, code and hardware.
    """

    names: tuple[str, str]
    changed: list[tuple[Row, Row]] = field(default_factory=list)
    same: list[tuple[Row, Row]] = field(default_factory=list)
    only: dict[str, list[Row]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    apart: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    @property
    def common(self) -> int:
        """How many rows both sets have."""
        return len(self.changed) + len(self.same)

    @property
    def differs(self) -> bool:
        """Whether any number differs or is missing on one side."""
        return bool(self.changed or any(self.only.values()))


def read_side(place: Path) -> Side:
    """Read a results folder, or an archive of `mmlbench export`.

    Raises:
        DataError: it is neither, or has no tables.
    """
    if place.is_file():
        from ..results.archive import open_archive

        with temporary_folder(Path(tempfile.gettempdir()), "mmlbench-diff") as held:
            open_archive(place, held)
            if not (held / "all_tables.csv").exists():
                what = f"{place} holds no all_tables.csv: it was packed before the tables were made"
                raise DataError(
                    what, "Import it (mmlbench import), make them (mmlbench tables), and name that folder"
                )
            side = read_side(held)
        return Side(str(place), side.rows, side.configs)
    path = place / "all_tables.csv"
    try:
        rows = parse_rows(read_text(path), str(path))
    except FileNotFoundError:
        if not (place / "plan.json").exists():
            raise DataError(f"{place} holds no study", "Name a results folder, or an exported archive") from None
        option = "" if place == Path("results") else f" --results {shlex.quote(str(place))}"
        raise DataError(
            f"{path} is missing: no tables are made there yet", f"Type: mmlbench tables{option}"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} can't be read", "Make it anew: mmlbench tables") from None
    configs: dict[tuple[str, ...], RunConfig] = {}
    for cell in read_made_plan(place).cells:
        configs[(*cell.group, cell.label, str(cell.config.seed))] = cell.config
    return Side(str(place), {tuple(getattr(row, name) for name in KEY): row for row in rows}, configs)


def compare(a: Path, b: Path) -> Found:
    """Compare two result sets; pairs are in the order of the first."""
    first, second = read_side(a), read_side(b)
    found = Found((first.name, second.name))
    for key, row in first.rows.items():
        other = second.rows.get(key)
        if other is not None:
            (found.changed if unlike(row, other) else found.same).append((row, other))
    found.only = {
        first.name: [row for key, row in first.rows.items() if key not in second.rows],
        second.name: [row for key, row in second.rows.items() if key not in first.rows],
    }
    pairs = [*found.changed, *found.same]
    if not pairs:
        found.apart = _apart(first, second)
    found.made = [*_made(pairs), *_configs(first, second)]
    return found


def _apart(first: Side, second: Side) -> dict[str, tuple[list[str], list[str]]]:
    """Return the columns in which two sets that share no row have other values, with these."""
    found = {}
    for name in STUDY_KEY:
        place = KEY.index(name)
        one, other = (sorted({key[place] for key in side.rows} - {""}) for side in (first, second))
        if one != other:
            found[name] = (one, other)
    return found


def unlike(a: Row, b: Row) -> list[str]:
    """Return the columns of numbers in which two rows differ; p_adjusted follows from those of other rows."""
    return [name for name in NUMBERS if getattr(a, name) != getattr(b, name)]


def _made(pairs: list[tuple[Row, Row]]) -> Iterator[str]:
    """Say which of config, data, code and hardware differ, and for how many rows."""
    for column, name in MADE.items():
        differing = [(getattr(a, column), getattr(b, column)) for a, b in pairs]
        differing = [pair for pair in differing if pair[0] != pair[1]]
        if differing:
            kinds = list(dict.fromkeys(differing))
            shown = "; ".join(f"{one or 'none'} and {other or 'none'}" for one, other in kinds[:3])
            more = f"; and {plural(len(kinds) - 3, 'more pair')}" if len(kinds) > 3 else ""
            yield f"{name} differs in {len(differing)} of {len(pairs)} common rows: {shown}{more}"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, one in value.items() for k, v in _flat(one, f"{prefix}.{key}".lstrip(".")).items()}


def _configs(first: Side, second: Side) -> Iterator[str]:
    """Say which settings differ between runs of one label and seed, and which seeds one side lacks."""
    changed: dict[tuple[str, str, str], int] = {}
    for key in first.configs.keys() & second.configs.keys():
        one, other = _flat(first.configs[key].plain()), _flat(second.configs[key].plain())
        for name in one.keys() | other.keys():
            if one.get(name) != other.get(name):
                what = (name, str(one.get(name, "not set")), str(other.get(name, "not set")))
                changed[what] = changed.get(what, 0) + 1
    for (name, before, after), count in sorted(changed.items()):
        yield f"setting {name}: {before} and {after} ({plural(count, 'run')})"
    for side, rival in ((first, second), (second, first)):
        lacking = len(side.configs.keys() - rival.configs.keys())
        if lacking:
            yield f"{plural(lacking, 'planned run')} {be(lacking)} only in {side.name}"


def _difference(a: Row, b: Row) -> str:
    """Return b - a with an interval, the two sets taken as independent; then whether it lies apart from zero."""
    if a.value is None or b.value is None:
        return "only one has a value"
    unit = printed_scale(a.unit)
    value = unit * (b.value - a.value)
    if a.ci_low is None or a.ci_high is None or b.ci_low is None or b.ci_high is None:
        return f"{signed(value, 2)}, no interval"
    if a.level != b.level:
        levels = " and ".join(f"{100 * (level or 0):.3g}" for level in (a.level, b.level))
        return f"{signed(value, 2)}, no interval: theirs are at {levels} %"
    # each side's own reach, for an interval near a bound is not symmetric; the squares add
    low = value - unit * math.hypot(b.value - b.ci_low, a.ci_high - a.value)
    high = value + unit * math.hypot(b.ci_high - b.value, a.value - a.ci_low)
    verdict = "not told apart" if low <= 0 <= high else "apart"
    return f"{signed(value, 2)} [{signed(low)}, {signed(high)}], {verdict}"


def _name(row: Row) -> str:
    words = [f"{row.dataset}/{row.split}", row.label, row.table, row.modality, row.metric, row.kind, row.selection]
    words += [f"to {row.baseline}"] if row.baseline else []
    return " ".join(dict.fromkeys(word for word in words if word))


def difference_text(found: Found, everything: bool = False) -> str:
    """Return the comparison as lines of text, largest differences first within what is measured in one unit."""
    a, b = found.names
    lines = [f"A: {a}", f"B: {b}"]
    if found.common:
        lines += [f"  {line}" for line in found.made] or ["  made by the same config, data, code and hardware"]
    changed = sorted(
        found.changed, key=lambda pair: (pair[0].unit, -abs((pair[1].value or 0) - (pair[0].value or 0)))
    )
    for one, other in [*changed, *(found.same if everything else [])]:
        shown = " | ".join(f"{figure_of(row) or 'no value'} {interval(row)}".strip() for row in (one, other))
        columns = unlike(one, other)
        beside = f"; differ in {', '.join(columns)}" if columns and one.value == other.value else ""
        lines.append(f"{_name(one)}: {shown} | B - A {_difference(one, other)}{beside}")
    for name, rows in found.only.items():
        lines += [f"only in {name}: {_name(row)}" for row in (rows if everything else rows[:10])]
        more = 0 if everything else max(len(rows) - 10, 0)
        lines += [f"only in {name}: {plural(more, 'row')} more"] * bool(more)
    return "\n".join([*lines, *_sum(found)]) + "\n"


def _sum(found: Found) -> Iterator[str]:
    """Yield the last lines: how many rows differ, or why there is none to compare."""
    if found.common:
        yield (
            f"{len(found.changed)} of {found.common} common rows differ; intervals of B - A take the two sets as "
            "independent, which is too wide where they share test samples"
        )
        return
    for name, (one, other) in found.apart.items():
        yield f"{name}: {_some(one)} in A, {_some(other)} in B"
    why = "for they differ in what stands above" if found.apart else "though each name stands in both"
    yield f"The two sets share no row, {why}: nothing is compared"


def _some(values: list[str]) -> str:
    """Return some values of a column in words."""
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(values[:5]) + more if values else "none"
