"""What plug-ins there are (methods, datasets, encoders, modality types), from the index: none is imported."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, nearest
from ..params import Field, expected, fields_of
from ..prepare.sharing import Terms
from ..registry.index import Entry, Index, load_index, use_plugins
from .sharing import terms_at

if TYPE_CHECKING:
    from pandas import DataFrame

Folders = Iterable[str | Path]


@dataclass(frozen=True)
class Description:
    """One method, dataset, encoder or modality type.

    Attributes:
        kind: 'method', 'dataset', 'encoder' or 'modality'. path: its file. doc: its docstring, dedented.
        facts: what it declares (parameters, modalities, splits, licence …), as in `mmlbench describe NAME --json`.
    """

    kind: str
    name: str
    path: Path
    doc: str
    facts: Mapping[str, Any]

    @property
    def params(self) -> DataFrame:
        """Its parameters: name, default, what is allowed, and the doc of each."""
        from pandas import DataFrame

        rows = [(f.name, f.default, expected(f), f.doc) for f in fields_of(self.facts)]
        return DataFrame(rows, columns=["name", "default", "allowed", "doc"])

    def __str__(self) -> str:
        lines = [f"{self.kind} {self.name}   ({self.path})", "", self.doc, ""]
        if self.kind == "dataset":
            lines += [*_dataset_lines(self.facts), _terms_line(terms_at(self.path, self.name, self.facts))]
        if self.kind == "method":
            most = self.facts["max_modalities"]
            lines.append(f"modalities: {self.facts['min_modalities']} {'or more' if most is None else f'to {most}'}")
            lines.append(f"tasks: {', '.join(self.facts['tasks'])}")
            if self.facts["requires"]:
                lines.append(f"reuses the runs of: {', '.join(self.facts['requires'])}")
        if self.kind == "modality":
            return "\n".join([*lines, *(f"{name}: {value}" for name, value in self.facts.items())])
        fields = fields_of(self.facts)
        lines.append("parameters" if fields else "parameters: none")
        for field in fields:
            doc = f": {field.doc}" if field.doc else ""
            drawn = f"; tuned {_tuning(field)}" if field.tune else ""
            lines.append(f"  {field.name} = {field.default!r}   ({expected(field)}{drawn}){doc}")
        return "\n".join(lines)


def _tuning(field: Field) -> str:
    """Say where a tuned study draws a field from: 'from 0.1 to 3, log scale'."""
    if field.type == "str":
        return "among " + ", ".join(field.tune)
    low, high, *scale = field.tune
    return f"from {low:g} to {high:g}{', log scale' if scale else ''}"


def _task_line(facts: Mapping[str, Any]) -> str:
    """Say what is asked for of a sample: its class, its labels, or a number of a range."""
    names, parameters = facts["class_names"], facts["task"].items()
    more = [f"{key} {value}" for key, value in parameters if key != "name" and value not in ("", None)]
    return f"{facts['noun']} ({len(names)}): {', '.join(names)}" + (f"; {', '.join(more)}" if more else "")


def _terms_line(terms: Terms) -> str:
    """Say what of the prepared data may be handed on."""
    source = f" ({terms.source})" if terms.source else ""
    media = f", {', '.join(terms.media)} being media" if terms.media else ""
    return f"may be handed on once prepared: {terms.sharing}{media}{source}"


def _dataset_lines(facts: Mapping[str, Any]) -> list[str]:
    lines = ["modalities"]
    for m in facts["modalities"]:
        views = f", {m['views']} views a row" if m["views"] > 1 else ""
        lines.append(f"  {m['name']}: {m['kind']} of shape {tuple(m['shape'])}{views}")
    lines.append(_task_line(facts))
    lines.append("splits")
    for name, split in facts["splits"].items():
        counts = ", ".join(f"{part} {count}" for part, count in split["counts"].items())
        group = f"; groups: {split['group']}" if split["group"] else ""
        default = " (default)" if name == facts["default_split"] else ""
        lines.append(f"  {name}{default}: {counts}{group}. {split['doc']}")
    return [*lines, f"licence: {facts['licence']}", f"origin: {facts['origin']}", f"citation: {facts['citation']}"]


def opened_index(plugins: Folders) -> Index:
    """Return the index of all plug-ins, those of further folders among them.

    Raises:
        ConfigError: a folder does not exist, or may hold no plug-ins.
    """
    use_plugins(plugins)
    return load_index()


def described(index: Index, name: str, kind: str | None = None) -> list[Description]:
    """Return what has a name: a method and a dataset may share one.

    Raises:
        ConfigError: nothing has it; the message has the nearest names. Or its file can't be imported.
    """
    there: list[Entry] = [entry for entry in index.entries if kind in (None, entry.kind)]
    found = [index.find(entry.kind, name) for entry in there if entry.name == name]
    if not found:
        what = f"no {kind or 'method, dataset or encoder'} is named {name!r}"
        raise ConfigError(what, nearest(name, {entry.name for entry in there}))
    return [Description(e.kind, e.name, Path(e.path), inspect.cleandoc(e.doc), e.facts) for e in found]


def describe(name: str, kind: str | None = None, plugins: Folders = ()) -> Description:
    """Return everything that is known of a method, dataset or encoder; `print` it to read it.

    Args:
        name: as in `list_methods()`.
        kind: 'method', 'dataset' or 'encoder', where several share the name.
        plugins: further folders with plug-in files.

    Raises:
        ConfigError: nothing has the name, or several kinds do; its file can't be imported.
    """
    found = described(opened_index(plugins), name, kind)
    if len(found) > 1:
        kinds = " and ".join(f"a {one.kind}" for one in found)
        raise ConfigError(f"{name!r} is {kinds}", f"Name one of them: describe({name!r}, kind={found[0].kind!r})")
    return found[0]


def _listed(kind: str, plugins: Folders) -> DataFrame:
    from pandas import DataFrame

    entries = opened_index(plugins).of(kind)
    rows = [(e.name, "" if e.error or e.clash else e.summary, e.error or e.clash, e.path) for e in entries]
    return DataFrame(rows, columns=["name", "summary", "error", "file"])


def list_methods(plugins: Folders = ()) -> DataFrame:
    """Return the methods: name, first line of the docstring, why one can't be used ('' where it can), file."""
    return _listed("method", plugins)


def list_datasets(plugins: Folders = ()) -> DataFrame:
    """Return the datasets: the columns of `list_methods`."""
    return _listed("dataset", plugins)


def list_encoders(plugins: Folders = ()) -> DataFrame:
    """Return the encoders: the columns of `list_methods`."""
    return _listed("encoder", plugins)
