"""The documentation as a site: it builds from the pages alone, strictly, and asks no other host for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed: make env")

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
#: Builds where no socket can be opened.
OFFLINE = """
import runpy, socket, sys
def refuse(*_):
    raise OSError("no network while the site is built")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
sys.argv = ["mkdocs", "build", "--strict"]
runpy.run_module("mkdocs", run_name="__main__")
"""
#: What a browser loads by itself when it opens a page; a link that a reader may follow is not among it.
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(https?:)?//[^>]*>|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of what the site is built from."""
    for name in ("docs", "mmlbench"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "vendor"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "site_notebook.py", tmp_path / "tools")
    return tmp_path


def build(project: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a folder, without a network."""
    command = [sys.executable, "-c", OFFLINE]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def loads_from_elsewhere(site: Path) -> list[str]:
    """Return what the pages of a site load from another host, and what its style sheets do."""
    found = []
    for page in site.rglob("*.html"):
        found += [f"{page.name}: {tag.group()}" for tag in LOADED.finditer(page.read_text(encoding="utf-8"))]
    for sheet in site.rglob("*.css"):
        found += re.findall(
            r"url\([\"']?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*;", sheet.read_text(encoding="utf-8")
        )
    return found


@pytest.mark.slow
def test_the_site_builds_without_a_network_and_loads_nothing_from_elsewhere(project: Path) -> None:
    done = build(project)
    assert done.returncode == 0, done.stdout + done.stderr
    site = project / "site"
    pages = {path.relative_to(project / "docs").with_suffix(".html") for path in (project / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}
    assert loads_from_elsewhere(site) == []
    contracts = (site / "contracts.html").read_text(encoding="utf-8")
    for name in (
        "method.Method.loss",
        "encoder.Encoder.forward",
        "dataset.Dataset",
        "params.bounded",
        "errors.DataError",
    ):
        assert f'id="mmlbench.{name}"' in contracts
    notebook = (site / "notebook.html").read_text(encoding="utf-8")
    assert notebook.count('class="dataframe"') >= 6 and notebook.count("notebook-1.png") == 1
    assert (site / "notebook-1.png").read_bytes().startswith(b"\x89PNG")
    assert 'href="notebook.ipynb"' in notebook, "to be downloaded"
    linking = (site / "python.html").read_text(encoding="utf-8")
    assert 'href="notebook.html"' in linking and "notebook.ipynb" not in linking


@pytest.mark.slow
def test_a_link_without_a_target_and_a_forgotten_page_fail(project: Path) -> None:
    page = project / "docs" / "index.md"
    faults = ["[a page](nowhere.md)", "[an anchor](protocol.md#no-such-heading)", "![an image](images/none.png)"]
    faults += ["[a notebook](no-notebook.ipynb)"]
    page.write_text("\n\n".join([page.read_text(encoding="utf-8"), *faults]), encoding="utf-8")
    (project / "docs" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    done = build(project)
    warned = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert done.returncode != 0
    for named in ("nowhere.md", "no-such-heading", "images/none.png", "no-notebook"):
        assert len([line for line in warned if named in line]) == 1
    assert "forgotten.md" in done.stderr


def test_a_module_that_is_not_there_fails(project: Path) -> None:
    (project / "docs" / "contracts.md").write_text("# Contracts\n\n::: mmlbench.nowhere\n", encoding="utf-8")
    assert build(project).returncode != 0


@pytest.mark.parametrize(
    "head",
    [
        '<script src="https://x.example/a.js"></script>',
        "<link rel=stylesheet href=//x.example/a.css>",
        '<img src="//x.example/a">',
    ],
)
def test_what_is_loaded_from_elsewhere_is_seen(head: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<a href='https://x.example'>fine</a>{head}", encoding="utf-8")
    assert len(loads_from_elsewhere(tmp_path)) == 1
