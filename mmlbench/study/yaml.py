"""The one reader of YAML: configs, recipes, published figures, profiles of Snakemake.

It takes less than YAML allows, so that a file has one meaning, for people as for Snakemake:

- plain data only: mappings with plain keys, lists, text, numbers, true and false, null. No tags of Python, no sets,
  no binary; no key that stands twice in one mapping.
- Dates stay text. `1e-3` is a number (in the YAML of Snakemake it is text). `010` and `1:30`, which YAML 1.1 reads
  as 8 and 90, are refused where they stand without quotes.
- One document in UTF-8, at most `LARGEST` bytes; at most `DEEPEST` levels; anchors, aliases and `<<` as long as
  what they expand to stays below `MOST` values and `LONGEST` characters.

Whatever passes, Snakemake can read as well: `mmlbench.study.workflow` then puts our reading in the place of its own.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MmlbenchError, brief

#: Bounds on a file, and on what its aliases expand to.
LARGEST, DEEPEST, MOST, LONGEST = 2**20, 32, 100_000, 4 * 2**20
#: No integer that anything here takes has more digits.
DIGITS = 20

_TAG = "tag:yaml.org,2002:"
#: A number with an exponent and no point, or without a sign in the exponent: YAML 1.2 takes it, PyYAML does not.
EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
#: Byte order marks of what is no UTF-8, the longer ones first.
_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class YamlError(ConfigError):
    """A YAML file that can't be taken; the message names file, line and fix."""


def read_yaml(path: Path, as_snakemake: bool = False) -> Any:
    """Read a YAML file; an empty one is None.

    Args:
        as_snakemake: numbers as Snakemake reads them (`1:30` is 90), for files that are its own, such as profiles.

    Raises:
        ConfigError: it is missing, can't be read, or holds what is not taken; the message has file, line and fix.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", "Correct the path") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} can't be read ({why})", "Name a file that can be read") from None
    return parse_yaml(content, str(path), as_snakemake)


def read_mapping(path: Path, example: str, as_snakemake: bool = False) -> dict[Any, Any]:
    """Read a YAML file that has to be a mapping; `example` says where to see one.

    Raises:
        ConfigError: as `read_yaml`, or it is empty or something else.
    """
    found = read_yaml(path, as_snakemake)
    if not isinstance(found, dict):
        what = "is empty" if found is None else f"is a {_kind(found)}, not a mapping of keys to values"
        raise YamlError(f"{path} {what}", example)
    return found


def _kind(value: Any) -> str:
    return {list: "list", str: "text", bool: "truth value"}.get(type(value), "number")


def parse_yaml(content: bytes, name: str, as_snakemake: bool = False) -> Any:
    """Read the bytes of a YAML file called `name`; see `read_yaml`."""
    return deepcopy(_parsed(content, name, as_snakemake))


@functools.lru_cache(maxsize=64)  # a recipe is asked for once a run
def _parsed(content: bytes, name: str, as_snakemake: bool) -> Any:
    try:
        import yaml  # not part of the training core: a bare GPU machine may lack it
    except ImportError:
        raise ConfigError(f"reading {name} needs PyYAML", "Install pyyaml, or pass --spec with a run.json") from None
    text = _text(content, name)
    try:
        _check_events(text, name)
        node = yaml.compose(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text, name) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as \U00110000, which is no character
        raise YamlError(f"{name} is no YAML: {error}", "Correct the file") from None
    return None if node is None else _Builder(name, as_snakemake).value(node)


def _text(content: bytes, name: str) -> str:
    """Decode a file, or say what it is and where that shows."""
    if len(content) > LARGEST:
        raise YamlError(f"{name} has more than {LARGEST // 2**20} MiB", "Is it the right file? Split it if it is")
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            raise YamlError(f"{name}, line 1: it is {encoding} text", "Save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise YamlError(f"{name}, line {line}: byte 0x{byte:02x} is no UTF-8", "Save the file as UTF-8") from None
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        what = f"{name}, line {line}: it holds the control character U+{ord(control[0]):04X}"
        raise YamlError(what, "Remove it; is it a text file?")
    return text


@functools.cache
def _loader() -> Any:
    """Return PyYAML's loader with numbers like 1e-3."""
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML's safe loader; of it scanner, parser and composer are used, values are built here."""

    Loader.add_implicit_resolver(f"{_TAG}float", re.compile(f"^{EXPONENT.pattern}$"), list("-+.0123456789"))
    return Loader


def _check_events(text: str, name: str) -> None:
    """Refuse depth, size and a second document before anything recursive sees the file."""
    import yaml

    depth = values = documents = 0
    for event in yaml.parse(text, Loader=_loader()):
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlError(f"{name}, line {line}: a second document begins", "Keep one, without the line ---")
        opens = isinstance(event, yaml.CollectionStartEvent)
        depth += opens - isinstance(event, yaml.CollectionEndEvent)
        values += opens or isinstance(event, yaml.ScalarEvent | yaml.AliasEvent)
        if depth > DEEPEST:
            raise YamlError(f"{name}, line {line}: more than {DEEPEST} levels of nesting", "Correct the brackets")
        if values > MOST:
            raise YamlError(f"{name}, line {line}: more than {MOST:,} values", "Split the file")


def _syntax(error: Any, text: str, name: str) -> YamlError:
    """Return the error for what is no YAML, with the line that PyYAML stopped at."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    lines = text.splitlines() or [""]
    there = lines[min(line, len(lines)) - 1]
    fix = "Correct that line or the one above it"
    if "\t" in there[: len(there) - len(there.lstrip())] or "'\\t'" in str(error.problem):
        fix = "Indent with spaces, not tabs"
    elif "mapping values are not allowed" in str(error.problem):
        fix = "Check the indentation, and put text that holds ': ' in quotes"
    why = ", ".join(filter(None, [error.context, error.problem]))
    return YamlError(f"{name}, line {line}: {why or 'no YAML'}", fix)


class _Builder:
    """Builds plain data from PyYAML's nodes, and counts what aliases expand to."""

    def __init__(self, name: str, as_snakemake: bool) -> None:
        self.name, self.as_snakemake = name, as_snakemake
        self.values = self.letters = 0
        self.open: list[int] = []

    def wrong(self, node: Any, what: str, fix: str) -> YamlError:
        """Return the error about a node."""
        return YamlError(f"{self.name}, line {node.start_mark.line + 1}: {what}", fix)

    def value(self, node: Any) -> Any:
        """Return the value of a node.

        Raises:
            YamlError: it holds what is not taken, or expands to too much.
        """
        self.values += 1
        if self.values > MOST or self.letters > LONGEST:
            raise self.wrong(node, "its aliases expand to too many values", "Write out what is meant")
        kind = node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
        if node.id == "scalar":
            self.letters += len(node.value)
            return self.scalar(node, kind)
        if kind != {"mapping": "map", "sequence": "seq"}[node.id]:
            raise self.wrong(node, f"the tag {brief(node.tag)} is not taken", "Remove it: plain data only")
        if id(node) in self.open or len(self.open) >= DEEPEST:
            raise self.wrong(node, "an alias holds itself, or nests too deep", "Write out what is meant")
        self.open.append(id(node))
        made = self.mapping(node) if kind == "map" else [self.value(child) for child in node.value]
        self.open.pop()
        return made

    def mapping(self, node: Any) -> dict[Any, Any]:
        """Return a mapping; keys of `<<` give way to its own."""
        found: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                for source in self.sources(value_node):
                    merged = {**source, **merged}
                continue
            if key_node.id != "scalar":
                raise self.wrong(
                    key_node, f"a key is a {key_node.id}", "Keys are names; check braces and question marks"
                )
            key = self.value(key_node)
            line = key_node.start_mark.line + 1
            if key in lines:
                what = f"the key {brief(key)} stands twice in one mapping, first in line {lines[key]}"
                raise self.wrong(key_node, what, "Keep one of the two, or make it a new entry of the list with -")
            lines[key] = line
            found[key] = self.value(value_node)
        return {**merged, **found} if merged else found

    def sources(self, node: Any) -> list[dict[Any, Any]]:
        """Return the mappings that `<<` names."""
        value = self.value(node)
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise self.wrong(node, "<< takes an alias of a mapping, or a list of them", "Write `<<: *NAME`")
        return sources

    def scalar(self, node: Any, kind: str) -> Any:
        """Return a plain value."""
        text = node.value
        if kind == "str":
            return self.text(node)
        if kind == "null" and text in ("", "~", "null", "Null", "NULL"):
            return None
        if kind == "bool" and text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if kind in ("int", "float"):
            return self.number(node, kind)
        if kind == "timestamp":
            return self.date(node)
        quotes = "Put it in quotes if it is meant as text"
        if kind in ("merge", "value"):
            raise self.wrong(node, f"{text!r} stands where a value is", quotes)
        shown = f"!!{kind}" if node.tag.startswith(_TAG) else brief(node.tag)
        raise self.wrong(node, f"the tag {shown} is not taken for {brief(text)}", "Remove the tag: plain data only")

    def text(self, node: Any) -> str:
        """Return a text; escapes can put characters into it that a text file could not hold."""
        for letter in node.value:
            if letter not in "\t\n\r" and unicodedata.category(letter) in ("Cc", "Cs"):
                raise self.wrong(node, f"a text holds the control character U+{ord(letter):04X}", "Remove it")
        return str(node.value)

    def number(self, node: Any, kind: str) -> int | float:
        """Return a number; what YAML 1.1 reads otherwise than people is refused, but for Snakemake's own files."""
        from yaml.constructor import ConstructorError, SafeConstructor

        text = node.value
        fix = "Put it in quotes if it is meant as text"
        if len(text) > DIGITS and kind == "int":
            raise self.wrong(node, f"a number of {len(text):,} digits", fix)
        surprising = ":" in text or (kind == "int" and not _INT.fullmatch(text))
        if surprising and not self.as_snakemake:
            what = f"{brief(text)} is no plain number (YAML may read it as another: 010 as 8, 1:30 as 90)"
            raise self.wrong(node, what, f"{fix}; write a number in decimal")
        try:
            if EXPONENT.fullmatch(text):
                return float(text)
            made = SafeConstructor()
            number = made.construct_yaml_int(node) if kind == "int" else made.construct_yaml_float(node)
            return int(number) if kind == "int" else float(number)
        except (ValueError, OverflowError, IndexError, ConstructorError):
            raise self.wrong(node, f"{brief(text)} is no {kind}", fix) from None

    def date(self, node: Any) -> str:
        """Return a date as its text; one that is in no calendar is refused, since Snakemake stops at it."""
        from yaml.constructor import SafeConstructor

        try:
            SafeConstructor().construct_yaml_timestamp(node)
        except (ValueError, OverflowError, AttributeError, TypeError):
            what = f"{brief(node.value)} looks like a date and is none"
            raise self.wrong(node, what, "Put it in quotes if it is meant as text") from None
        return str(node.value)


def readable(path: Path, as_snakemake: bool = False) -> MmlbenchError | None:
    """Return the error that reading a file would raise, None where it can be read."""
    try:
        read_yaml(path, as_snakemake)
    except MmlbenchError as error:
        return error
    return None
