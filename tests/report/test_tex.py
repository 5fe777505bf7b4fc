"""The LaTeX tables through a real TeX engine: `make test-tex`. Where no engine can be had, nothing here runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from fake_runs import gabor, small

from mmlbench.report import make_all
from mmlbench.report.render import latex as latex_module
from mmlbench.report.table import Shown, Table, text_table

pytestmark = pytest.mark.tex
NASTY = '<script>alert("x")</script> & 50%_$\\{x}|`a`'
ENGINES = {"pdflatex": ["-interaction=nonstopmode", "-halt-on-error"], "tectonic": []}
PAGE = r"""\documentclass[10pt]{article}
\usepackage[margin=2.5cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


@pytest.fixture(scope="module")
def engine() -> list[str]:
    """The first TeX engine on PATH, with its options."""
    for name, options in ENGINES.items():
        if shutil.which(name):
            return [name, *options]
    pytest.skip("no pdflatex or tectonic on this machine")


def set_page(folder: Path, engine: list[str], text: str) -> str:
    """Set a page with these tables; return what the engine says."""
    (folder / "page.tex").write_text(PAGE % text, encoding="utf-8")
    done = subprocess.run([*engine, "page.tex"], cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "page.pdf").read_bytes()[:5] == b"%PDF-"
    return done.stdout


def forty(lines: int, note: str) -> Table[Sequence[str]]:
    """Return a wide table of forty-one methods with so many lines each, values with small print under them."""
    heads = ["method", "modality", *(f"number {k}, 95 % interval" for k in range(9))]
    rows = [[f"a_long_method_{k // lines}", f"part {k % lines}", *["12.3"] * 9] for k in range(41 * lines)]
    plain = text_table("accuracy", "avdigits / speaker", heads, rows, ["modality"])
    small = [replace(one, format=lambda value: Shown(str(value), ("[+10.1, +14.5]",))) for one in plain.columns[2:]]
    return replace(plain, columns=[*plain.columns[:2], *small], notes=[note] * 6)


@pytest.mark.parametrize("lines", [1, 4])
def test_forty_rows_go_over_pages(
    tmp_path: Path, engine: list[str], lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = forty(
        lines, "A note of some length, as they stand below the tables of a study, with numbers: 1.2 [0.9, 1.5]."
    )
    said = set_page(tmp_path, engine, latex_module.latex([table]))
    assert "Overfull \\hbox" not in said and "Float too large" not in said
    monkeypatch.setattr(latex_module, "PAGE", 10**6)
    assert lines == 1 or "Float too large" in set_page(tmp_path, engine, latex_module.latex([table]))


@pytest.mark.parametrize("table", ["accuracy", "competition_gap", "cost"])
def test_tables_compile_with_booktabs(tmp_path: Path, engine: list[str], table: str) -> None:
    methods = fake_runs.default_methods()
    methods[4] = replace(methods[4], label=NASTY, notes=["ünïcode 漢字, 100 % [brackets] {braces} ~^"])
    results = tmp_path / "results"
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1)), gabor(seeds=(0, 1))])
    make_all(results, tmp_path / "cache", lambda line: None)
    text = (results / f"tables/{table}.tex").read_text(encoding="utf-8")
    assert "Overfull \\hbox" not in set_page(tmp_path, engine, text)
