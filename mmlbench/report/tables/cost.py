"""The cost table: what it took to train each method, as measured."""

from __future__ import annotations

from ...analysis.result_set import Cost, GroupKey, ResultSet
from ..line import KEY, key_of
from ..table import (
    CSV_ONLY,
    PRINTED,
    Column,
    Format,
    Name,
    Number,
    Shown,
    Table,
    Value,
    name_column,
    scaled,
    whole,
)

GIGA, WATT_HOUR = 1e9, 3600.0


def cost_table(result_set: ResultSet, group: GroupKey) -> Table[Cost]:
    """Return the cost of each label of a group."""
    rows = [row for row in result_set.cost if tuple(row[name] for name in KEY) == group]
    hardware = dict.fromkeys(row["hardware"] for row in rows)
    notes = [
        "Mean over seeds, seconds with standard deviation. Runs that are named as reused (by the ensemble, "
        "unimodal's) are not in a row's seconds and counts; the column with reused runs has both. A row that "
        "names none, such as that of joint and unimodal models, has everything.",
        "A pass goes through one encoder where encoders are trained apart, through all in joint training, so passes "
        "are not compute: FLOPs are.",
        f"Hardware: {'; '.join(hardware)}. Seconds of shared machines are upper bounds.",
        "Energy is that of the whole device as its driver reports it, where it does. "
        "Cost carries no interval: it is about this hardware, not about new seeds and test items.",
    ]
    return Table("cost", result_set.title(group), _columns(result_set), rows, notes=notes, key=key_of(group))


def _columns(result_set: ResultSet) -> list[Column[Cost]]:
    declared: list[Column[Cost]] = [
        name_column(lambda row: Name(row["label"], row["method"], row["params"])),
        _count("epochs", "epochs"),
        _count("sample_passes", "sample passes"),
        _count("parameters", "parameters"),
        _amount("forward_flops_per_sample", "forward MFLOP/sample", scaled(1e6, 2)),
        _amount("train_flops", "training TFLOP", scaled(1e12, 3)),
        _amount("train_flops_with_reused", "TFLOP with reused runs", scaled(1e12, 3)),
        Column("train_seconds", "training seconds", lambda row: _number(row["train_seconds"]), outputs=CSV_ONLY),
        Column("seconds", "training seconds", _seconds, _seconds_shown, outputs=PRINTED),
        _amount("energy_joules", "energy Wh", scaled(WATT_HOUR, 2)),
        Column("memory", "peak memory GB", _memory, scaled(GIGA, 2), outputs=PRINTED),
        _count("tuning_trials", "tuning trials"),
        Column("reuses", "reuses", lambda row: row["reuses"]),
        _count("n_seeds", "seeds"),
    ]
    known = {column.name for column in declared} | {*KEY, "label", "method", "params"}
    return [
        *declared,
        *(_measured(name) for name in (result_set.cost[0] if result_set.cost else ()) if name not in known),
    ]


def _measured(name: str) -> Column[Cost]:
    """Return a column of cost.csv that is not printed."""
    return Column(name, name.replace("_", " "), lambda row: row[name], outputs=CSV_ONLY)


def _count(name: str, title: str) -> Column[Cost]:
    return Column(name, title, lambda row: _number(row[name]), whole)


def _amount(name: str, title: str, form: Format) -> Column[Cost]:
    return Column(name, title, lambda row: _number(row[name]), form)


def _number(text: str) -> Number:
    return Number(float(text) if text else None)


def _seconds(row: Cost) -> Value:
    deviation = row["train_seconds_sd"]
    return Number(_number(row["train_seconds"]).value, f"± {float(deviation):.1f}" if deviation else "")


def _seconds_shown(value: Value) -> Shown:
    shown = scaled()(value)
    return Shown(str(shown))  # the deviation beside its mean, not under it


def _memory(row: Cost) -> Value:
    """Return the peak memory of the device, or of the process where nothing ran on a device."""
    on_device = float(row["device_memory_bytes"] or 0) > 0
    return _number(row["device_memory_bytes"] if on_device else row["peak_memory_bytes"])
