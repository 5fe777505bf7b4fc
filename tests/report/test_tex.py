"""The LaTeX tables through a real TeX engine: `make test-tex`. Where no engine can be had, nothing here runs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from fake_runs import gabor, small

from mmlbench.report import make_all

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


@pytest.mark.parametrize("table", ["accuracy", "competition_gap", "cost"])
def test_tables_compile_with_booktabs(tmp_path: Path, engine: list[str], table: str) -> None:
    methods = fake_runs.default_methods()
    methods[4] = replace(methods[4], label=NASTY, notes=["ünïcode 漢字, 100 % [brackets] {braces} ~^"])
    results = tmp_path / "results"
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1)), gabor(seeds=(0, 1))])
    make_all(results, tmp_path / "cache", lambda line: None)
    text = (results / f"tables/{table}.tex").read_text(encoding="utf-8")
    (tmp_path / "page.tex").write_text(PAGE % text, encoding="utf-8")
    done = subprocess.run([*engine, "page.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "page.pdf").read_bytes()[:5] == b"%PDF-"
    assert "Overfull \\hbox" not in done.stdout
