"""Typed hyper-parameters: small frozen dataclasses whose fields know their range.

A plug-in writes::

    class Params(MethodParams):
        alpha: float = bounded(0.8, low=0, doc="strength of the modulation")
        fusion: str = choice("concat", ("concat", "sum"))
        start: float | int = moment(0.0, doc="first modulated epoch")
        noise: bool = True
        weights: File | None = file_field(doc="state dict to start from")

`tune` declares where a tuned study draws a value from: (low, high), (low, high, "log"), or some of the options.

`describe` turns the class into plain data, which the plug-in index keeps, so that a config can be checked
without importing the plug-in (and torch with it).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, dataclass_transform

from .errors import ConfigError, brief, nearest
from .files import File, Folder, is_content
from .storage.form import CONTROL, LONGEST_TEXT

#: Stands for the whole of an encoder where its parts are named (`freeze` of a recipe).
ALL = "all"
#: Types of parameters that name what lies on a disk, by its content.
FILES: Mapping[str, type[File | Folder]] = {"file": File, "folder": Folder}
#: What a parameter's value may be, as JSON has it.
Scalar = bool | int | float | str | None


@dataclasses.dataclass(frozen=True)
class Field:
    """A parameter as its class declares it, known without importing the class.

    Attributes:
        type: 'int', 'float', 'bool', 'str', 'moment', 'file' or 'folder'. optional: whether it may be None.
        low, high: its inclusive range, None for none. options: the texts that it takes, () for any.
        tune: where a tuned study draws it from, () for nowhere.
    """

    name: str
    type: str
    optional: bool
    default: Scalar
    low: float | None
    high: float | None
    options: tuple[str, ...]
    doc: str
    tune: tuple[Any, ...]

    def plain(self) -> dict[str, object]:
        """Return it as plain data, as the plug-in index keeps it."""
        return {**vars(self), "options": list(self.options), "tune": list(self.tune)}


def fields_of(facts: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the parameters of a plug-in from its facts in the index."""
    return tuple(
        Field(**{**field, "options": tuple(field["options"]), "tune": tuple(field["tune"])})
        for field in facts["params"]
    )


def file_names(fields: Iterable[Field]) -> list[str]:
    """Return the names of the parameters that are files or folders, as they are declared."""
    return [field.name for field in fields if field.type in FILES]


def read_value(text: str) -> Any:
    """Return a value as it stands on the command line: a number, true, false, null, JSON, or else the text itself."""
    for read in (json.loads, int, float):
        with contextlib.suppress(ValueError, RecursionError):
            return read(text)
    return text


def value_text(value: Any) -> str:
    """Return a value as `read_value` reads it back."""
    if isinstance(value, str) and read_value(value) == value:
        return value
    return json.dumps(value)


def bounded(
    default: Any, low: float | None = None, high: float | None = None, doc: str = "", tune: Sequence[Any] = ()
) -> Any:
    """A number with an inclusive range."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "doc": doc, "tune": tune})


def choice(default: str | None, options: Sequence[str], doc: str = "", tune: Sequence[str] = ()) -> Any:
    """One of some names; None stands for none of them where the annotation allows it."""
    return dataclasses.field(default=default, metadata={"options": tuple(options), "doc": doc, "tune": tune})


def moment(default: float | int, doc: str = "", tune: Sequence[Any] = ()) -> Any:
    """A point of the schedule: a fraction of the epochs (float in 0..1) or an absolute epoch (int)."""
    return dataclasses.field(default=default, metadata={"moment": True, "doc": doc, "tune": tune})


def file_field(doc: str = "") -> Any:
    """A file, annotated `File | None`: given as a path, known by the hash of its content; None until one is named.

    The plug-in gets a `files.File`, whose `read`, `open` and `tensors` give those very bytes and no others.
    """
    return dataclasses.field(default=None, metadata={"file": True, "doc": doc})


def folder_field(doc: str = "") -> Any:
    """A folder, annotated `Folder | None`: as `file_field`, known by the hash of the files in it that count.

    These are the ones whose names end as `files.FOLDER_FILES` has it; a plug-in may read no others.
    """
    return dataclasses.field(default=None, metadata={"folder": True, "doc": doc})


def epoch_of(value: float | int, epochs: int) -> int:
    """Resolve a `moment` against the number of epochs: 0.5 of 20 epochs is 10, the integer 10 stays 10."""
    return value if isinstance(value, int) else round(value * epochs)


@dataclass_transform(frozen_default=True, field_specifiers=(bounded, choice, moment, file_field, folder_field))
class Params:
    """Base of all hyper-parameter classes; sub-classes become frozen dataclasses by themselves."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True)(cls)

    def __post_init__(self) -> None:
        """Turn the contents of files and folders, as a config holds them, into `File`s and `Folder`s."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every sub-class is a dataclass
            value = getattr(self, field.name)
            for name, kind in FILES.items():
                if field.metadata.get(name) and value is not None:
                    object.__setattr__(self, field.name, kind.of(value))


class MethodParams(Params):
    """Hyper-parameters of a method."""


class DatasetParams(Params):
    """Parameters of a dataset's preparation."""


class EncoderParams(Params):
    """Parameters of an encoder."""


_PRIMITIVES = {int: "int", float: "float", bool: "bool", str: "str"}
#: No number in a config is larger: what lies beyond can't be a float, or not exactly so.
_LARGEST = 2**53
#: Of more names than these a message tells the nearest.
_MANY = 20


def _type_name(annotation: Any, metadata: Mapping[str, Any]) -> tuple[str, bool]:
    if metadata.get("moment"):
        return "moment", False
    args = typing.get_args(annotation)
    optional = type(None) in args
    kinds = [arg for arg in args if arg is not type(None)] or [annotation]
    for name, kind in FILES.items():
        if metadata.get(name) or kind in kinds:
            if not metadata.get(name) or kinds != [kind] or not optional:
                raise TypeError(f"a {name} is declared as `{kind.__name__} | None = {name}_field()`")
            return name, True
    if len(kinds) != 1 or kinds[0] not in _PRIMITIVES:
        raise TypeError(f"it is an int, float, bool or str (or None), not {annotation}")
    primitive = _PRIMITIVES[kinds[0]]
    if metadata.get("options") and primitive != "str":
        raise TypeError(f"a choice is a str, not {annotation}")
    return primitive, optional


def describe(cls: type) -> list[Field]:
    """Return the fields of a Params class.

    Raises:
        TypeError: a field without a default, of another type, with a default that it would not take itself, or with
            a range of tuning that it would not take.
    """
    if not dataclasses.is_dataclass(cls):
        return []
    hints = typing.get_type_hints(cls)
    fields = []
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING:
            raise TypeError(f"{cls.__qualname__}.{field.name} has no default")
        try:
            kind, optional = _type_name(hints[field.name], field.metadata)
        except TypeError as error:
            raise TypeError(f"{cls.__qualname__}.{field.name}: {error}") from None
        described = Field(
            field.name,
            kind,
            optional,
            field.default,
            field.metadata.get("low"),
            field.metadata.get("high"),
            tuple(field.metadata.get("options", ())),
            field.metadata.get("doc", ""),
            tuple(field.metadata.get("tune", ())),
        )
        try:
            described = dataclasses.replace(described, default=_coerce(described, field.default))
        except ValueError:
            what = f"{cls.__qualname__}.{field.name}: its default {field.default!r} is not {expected(described)}"
            raise TypeError(what) from None
        if described.tune and not _tunable(described):
            what = f"{cls.__qualname__}.{field.name}: its range of tuning {list(described.tune)} is no range of it"
            raise TypeError(what)
        fields.append(described)
    return fields


def _tunable(field: Field) -> bool:
    """Whether a declared range of tuning lies within what the field takes."""
    span = field.tune
    if field.type == "str":
        return bool(set(span) <= set(field.options))
    if len(span) not in (2, 3) or span[2:] not in ((), ("log",)):
        return False
    try:
        low, high = (_number(field, value) for value in span[:2])
    except (ValueError, TypeError):
        return False
    return bool(low < high and (low > 0 or len(span) == 2))


def expected(field: Field) -> str:
    """Say in words what a field takes: 'a float, at least 0'."""
    if field.options:
        return "one of " + ", ".join(field.options)
    if field.type in FILES:
        return f"the path of a {field.type}, or its content as sha256:<64 hex digits>"
    if field.type == "moment":
        return "a fraction of the epochs (float from 0 to 1) or an absolute epoch (int from 0)"
    if field.type == "str":
        return f"a str of at most {LONGEST_TEXT} letters on one line{' or null' if field.optional else ''}"
    article = "an" if field.type == "int" else "a"
    text = f"{article} {field.type}"
    if field.low is not None and field.high is not None:
        text += f" from {field.low:g} to {field.high:g}"
    elif field.low is not None:
        text += f", at least {field.low:g}"
    elif field.high is not None:
        text += f", at most {field.high:g}"
    return text + (" or null" if field.optional else "")


def _coerce(field: Field, value: Any) -> Any:
    """Return the value in the field's type, or raise ValueError."""
    kind = field.type
    if value is None:
        if field.optional:
            return None
        raise ValueError
    if kind == "bool" or isinstance(value, bool):
        if kind == "bool" and isinstance(value, bool):
            return value
        raise ValueError
    if kind in FILES:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        if is_content(value):
            return value
        return FILES[kind].content_at(value)
    if kind == "str":
        if not isinstance(value, str) or (field.options and value not in field.options):
            raise ValueError
        if len(value) > LONGEST_TEXT or re.search(CONTROL, value):  # what no run.json may hold
            raise ValueError
        return value
    return _number(field, value)


def _number(field: Field, value: Any) -> int | float:
    kind = field.type
    if not isinstance(value, int | float) or abs(value) > _LARGEST or value != value:
        raise ValueError
    if kind == "moment":
        if value < 0 or (isinstance(value, float) and value > 1):
            raise ValueError
        return value + 0 if isinstance(value, int) else value + 0.0
    if kind == "int" and not (isinstance(value, int) or value.is_integer()):
        raise ValueError
    value = int(value) if kind == "int" else float(value) + 0.0  # no -0.0: equal values have equal hashes
    if (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        raise ValueError
    return value


def _hint(field: Field, value: Any) -> str:
    """Say so where a number stands in quotes."""
    if isinstance(value, str) and field.type in ("int", "float", "moment"):
        with contextlib.suppress(ValueError):
            return f" (this is text; as a number it is {float(value)!r}: write it without quotes)"
    return ""


def check(fields: Sequence[Field], values: Mapping[str, Any], where: str) -> dict[str, Scalar]:
    """Return all fields with their values, defaults filled in; of files, those that are named, by their content.

    Raises:
        ConfigError: an unknown or ill-typed field, naming the field, what it takes and `where` it was set; a file
            that can't be read.
    """
    by_name = {field.name: field for field in fields}
    for name in values:
        if name not in by_name:
            hint = nearest(name, by_name) if by_name else "it takes none"
            raise ConfigError(f"{where}: unknown parameter {brief(name)}", hint)
    resolved = {}
    for name, field in by_name.items():
        value = values.get(name, field.default)
        try:
            resolved[name] = _coerce(field, value)
        except ConfigError as error:
            raise ConfigError(f"{where}: {name}: {error.what}", error.fix) from None
        except ValueError:
            what = f"{where}: {name} = {brief(value)} is not valid"
            many = isinstance(value, str) and len(field.options) > _MANY
            fix = nearest(value, field.options) if many else f"It takes {expected(field)}{_hint(field, value)}"
            raise ConfigError(what, fix) from None
    files = file_names(fields)
    return {name: value for name, value in resolved.items() if name not in files or value is not None}


def located(fields: Sequence[Field], values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return values whose paths of files start at a folder, not at the working folder."""
    files = file_names(fields)

    def at(name: str, value: Any) -> Any:
        path = name in files and isinstance(value, str) and value.strip() and not is_content(value)
        return str(folder / os.path.expanduser(value)) if path else value  # noqa: PTH111 (of a text)

    return {name: at(name, value) for name, value in values.items()}
