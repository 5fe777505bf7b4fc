"""Typed hyper-parameters: small frozen dataclasses whose fields know their range.

A plug-in writes::

    class Params(MethodParams):
        alpha: float = bounded(0.8, low=0, doc="strength of the modulation")
        fusion: str = choice("concat", ("concat", "sum"))
        start: float | int = moment(0.0, doc="first modulated epoch")
        noise: bool = True

`describe` turns the class into plain data, which the plug-in index keeps, so that a config can be checked
without importing the plug-in (and torch with it).
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, dataclass_transform

from .errors import ConfigError, nearest

Field = dict[str, Any]


def bounded(default: Any, low: float | None = None, high: float | None = None, doc: str = "") -> Any:
    """A number with an inclusive range."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "doc": doc})


def choice(default: str, options: Sequence[str], doc: str = "") -> Any:
    """One of a few names."""
    return dataclasses.field(default=default, metadata={"options": tuple(options), "doc": doc})


def moment(default: float | int, doc: str = "") -> Any:
    """A point of the schedule: a fraction of the epochs (float in 0..1) or an absolute epoch (int)."""
    return dataclasses.field(default=default, metadata={"moment": True, "doc": doc})


def epoch_of(value: float | int, epochs: int) -> int:
    """Resolve a `moment` against the number of epochs: 0.5 of 20 epochs is 10, the integer 10 stays 10."""
    return value if isinstance(value, int) else round(value * epochs)


@dataclass_transform(frozen_default=True, field_specifiers=(bounded, choice, moment))
class Params:
    """Base of all hyper-parameter classes; sub-classes become frozen dataclasses by themselves."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True)(cls)


class MethodParams(Params):
    """Hyper-parameters of a method."""


class DatasetParams(Params):
    """Parameters of a dataset's preparation."""


class EncoderParams(Params):
    """Parameters of an encoder."""


_PRIMITIVES = {int: "int", float: "float", bool: "bool", str: "str"}


def _type_name(annotation: Any, metadata: Mapping[str, Any]) -> tuple[str, bool]:
    if metadata.get("moment"):
        return "moment", False
    args = typing.get_args(annotation)
    optional = type(None) in args
    kinds = [arg for arg in args if arg is not type(None)] or [annotation]
    if len(kinds) != 1 or kinds[0] not in _PRIMITIVES:
        raise TypeError(f"a hyper-parameter is an int, float, bool or str (or None), not {annotation}")
    return _PRIMITIVES[kinds[0]], optional


def describe(cls: type) -> list[Field]:
    """Return the fields of a Params class as plain data: name, type, default, low, high, options, doc."""
    if not dataclasses.is_dataclass(cls):
        return []
    hints = typing.get_type_hints(cls)
    fields = []
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING:
            raise TypeError(f"{cls.__qualname__}.{field.name} has no default")
        kind, optional = _type_name(hints[field.name], field.metadata)
        fields.append(
            {
                "name": field.name,
                "type": kind,
                "optional": optional,
                "default": field.default,
                "low": field.metadata.get("low"),
                "high": field.metadata.get("high"),
                "options": list(field.metadata.get("options", ())),
                "doc": field.metadata.get("doc", ""),
            }
        )
    return fields


def expected(field: Field) -> str:
    """Say in words what a field takes: 'a float, at least 0'."""
    if field["options"]:
        return "one of " + ", ".join(field["options"])
    if field["type"] == "moment":
        return "a fraction of the epochs (float from 0 to 1) or an absolute epoch (int from 0)"
    article = "an" if field["type"] == "int" else "a"
    text = f"{article} {field['type']}"
    if field["low"] is not None and field["high"] is not None:
        text += f" from {field['low']:g} to {field['high']:g}"
    elif field["low"] is not None:
        text += f", at least {field['low']:g}"
    elif field["high"] is not None:
        text += f", at most {field['high']:g}"
    return text + (" or null" if field["optional"] else "")


def _coerce(field: Field, value: Any) -> Any:
    """Return the value in the field's type, or raise ValueError."""
    kind = field["type"]
    if value is None:
        if field["optional"]:
            return None
        raise ValueError
    if kind == "bool" or isinstance(value, bool):
        if kind == "bool" and isinstance(value, bool):
            return value
        raise ValueError
    if kind == "str":
        if not isinstance(value, str) or (field["options"] and value not in field["options"]):
            raise ValueError
        return value
    if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError
    if kind == "moment":
        if value < 0 or (isinstance(value, float) and value > 1):
            raise ValueError
        return value
    if kind == "int" and not (isinstance(value, int) or value.is_integer()):
        raise ValueError
    value = int(value) if kind == "int" else float(value)
    if (field["low"] is not None and value < field["low"]) or (field["high"] is not None and value > field["high"]):
        raise ValueError
    return value


def check(fields: Sequence[Field], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return all fields with their values, defaults filled in.

    Raises:
        ConfigError: an unknown or ill-typed field, naming the field, what it takes and `where` it was set.
    """
    by_name = {field["name"]: field for field in fields}
    for name in values:
        if name not in by_name:
            hint = nearest(name, by_name) if by_name else "it takes none"
            raise ConfigError(f"{where}: unknown parameter {name!r}", f"{hint[0].upper()}{hint[1:]}")
    resolved = {}
    for name, field in by_name.items():
        value = values.get(name, field["default"])
        try:
            resolved[name] = _coerce(field, value)
        except ValueError:
            raise ConfigError(f"{where}: {name} = {value!r} is not valid", f"It takes {expected(field)}") from None
    return resolved
