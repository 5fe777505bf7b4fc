"""Run mmlbench with every sentence of its code turned round: what a program says must decide nothing.

    python reworded.py tables --results results

The files stay as they are. Each module's syntax tree is changed when it is imported.
"""

from __future__ import annotations

import ast
import importlib.machinery
import re
import sys
from pathlib import Path

import mmlbench

PACKAGE = Path(mmlbench.__file__).parent
#: Three words in a row make a sentence; shorter strings are names.
_SENTENCE = re.compile(r"[A-Za-z'’,:;()%-]+ [a-z][A-Za-z'’,:;()-]* [A-Za-z]+")
#: Strings that a machine reads: markup, patterns, places to fill in.
_MACHINE = re.compile(r"[<>{}\\]|%[(s]|://")
#: Whose long strings are the notation of another program.
APART = ("cli/parser.py", "report/render/latex.py")
turned: list[str] = []
#: Files with passages to replace, for tests of the test.
planted: list[tuple[str, str, str]] = []


def turn_round(text: str) -> str:
    """Return a sentence read from its end, letter by letter; other strings as they are."""
    if not _SENTENCE.search(text) or _MACHINE.search(text):
        return text
    turned.append(text)
    return text[::-1]


class _Sentences(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str):
            return ast.copy_location(ast.Constant(turn_round(node.value)), node)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)  # docstrings


class _Loader(importlib.machinery.SourceFileLoader):
    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError(f"{path}: no compiled file is taken, and none is written")

    def source_to_code(self, data, path, *, _optimize: int = -1):  # type: ignore[no-untyped-def, override]
        if str(path).endswith(APART):
            return super().source_to_code(data, path, _optimize=_optimize)
        for file, old, new in planted:
            if str(path).endswith(file):
                assert old.encode() in data, (file, old)
                data = data.replace(old.encode(), new.encode())
        tree = ast.fix_missing_locations(_Sentences().visit(ast.parse(data)))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)


def _finder(path: str) -> importlib.machinery.FileFinder:
    if not Path(path).is_relative_to(PACKAGE):
        raise ImportError("another's")
    return importlib.machinery.FileFinder(path, (_Loader, [".py"]))


def install() -> None:
    """Turn round the sentences of every module of the package that is imported from now on."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mmlbench"]:
        del sys.modules[name]
    sys.path_hooks.insert(0, _finder)
    sys.path_importer_cache.clear()


if __name__ == "__main__":
    install()
    from mmlbench.cli import main

    words = sys.argv[1:]
    if words[0] == "--plant":
        planted.append((words[1], words[2], words[3]))
        words = words[4:]
    code = main(words)
    sys.stderr.write(f"\n{len(turned)} sentences turned round\n")
    raise SystemExit(code)
