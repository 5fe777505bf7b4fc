"""Hashes: of configs, of files, and of code without its comments."""

from __future__ import annotations

import ast
import codecs
import hashlib
import io
import json
import os
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .atomic import plain


def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: object) -> str:
    """Return the sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes; raises as `atomic.opened` does."""
    with plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Strip(ast.NodeTransformer):
    """Removes docstrings; comments and layout are gone once the text is parsed."""

    def _body(self, node: Any) -> Any:
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _body


def source_text(path: Path, errors: str = "strict") -> str:
    """Return the text of a Python file as Python reads it: by its byte-order mark or coding comment, else as UTF-8.

    Args:
        errors: "replace" for a text whatever the bytes are.

    Raises:
        OSError: it can't be read. SyntaxError, UnicodeDecodeError: its bytes are not in the encoding that it names.
    """
    data, encoding = path.read_bytes(), "utf-8"
    if data.startswith(codecs.BOM_UTF8) or any(b"coding" in line for line in data.split(b"\n", 2)[:2]):
        try:
            encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        except SyntaxError:
            if errors == "strict":
                raise
    return io.TextIOWrapper(io.BytesIO(data), encoding, errors).read()


@cache  # of the text alone: whatever lies in a file later has a digest of its own
def code_digest(source: str) -> str:
    """Return the sha256 of Python source without docstrings, comments and layout."""
    return hashlib.sha256(ast.unparse(_Strip().visit(ast.parse(source))).encode()).hexdigest()


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and the statements in it, as deep as they go; no expression, which is most of a tree."""
    yield node
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(node, name, ())
        for one in inner if isinstance(inner, list) else ():  # a lambda's body is an expression
            yield from statements(one)


def _imported(source: str, module: str) -> Iterable[str]:
    """Yield the absolute names of the modules that `source`, itself the module `module`, imports."""
    parts = module.split(".")
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level] if node.level else []
            prefix = ".".join([*base, node.module] if node.module else base)
            yield prefix
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def imported(source: str, module: str, path: Path) -> Iterable[str]:
    """Yield the names that the file of a module may import from, the packages that they lie in included."""
    home = f"{module}.__init__" if path.name == "__init__.py" else module  # by which `from .` is meant
    for name in _imported(source, home):
        parts = name.split(".")
        yield from (".".join(parts[:count]) for count in range(len(parts), 0, -1))


def spot_digest(path: Path) -> str:
    """Return a digest of a large file's size and of 64 evenly spaced blocks of 1 MiB."""
    block = 2**20
    with plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        found = hashlib.sha256(str(size).encode())
        for k in range(64):
            file.seek((size - block) * k // 63 if size > block else 0)
            found.update(file.read(block))
    return found.hexdigest()
