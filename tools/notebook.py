"""Execute the notebook of the documentation in an empty folder, and store it with what came out.

    python tools/notebook.py                       # docs/notebook.ipynb, stored in its place
    python tools/notebook.py NOTEBOOK --to FILE    # another one, stored elsewhere

The outputs are stored as they come, so that a reader sees them on the site and on a code host. Times, ids and the
version of Python are left out: what differs from one execution to the next says nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
#: Seconds that a cell may take.
LONGEST = 600


def execute(notebook: nbformat.NotebookNode) -> None:
    """Execute a notebook in an empty folder, which is removed; its outputs are put into it.

    Raises:
        CellExecutionError: a cell raised.
    """
    with tempfile.TemporaryDirectory(prefix="mmlbench-notebook-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        # The user's own settings would change what comes out.
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
            os.environ[name] = folder
        place = {"metadata": {"path": str(work)}}
        NotebookClient(notebook, timeout=LONGEST, record_timing=False, resources=place).execute()


def strip(notebook: nbformat.NotebookNode) -> None:
    """Leave out what differs from one execution to the next although nothing has changed."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{number}", {}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}


def main() -> int:
    """Execute one notebook and store it; exit code 1 where a cell raised, and nothing is stored then."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    parser.add_argument("--to", type=Path, metavar="FILE", help="store it there (default: in its place)")
    arguments = parser.parse_args()
    notebook = nbformat.read(arguments.notebook, as_version=4)
    try:
        execute(notebook)
    except CellExecutionError as error:
        told = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        sys.stderr.write(f"{arguments.notebook}: a cell raised. Correct the cell, or what it calls\n{told}\n")
        return 1
    strip(notebook)
    nbformat.write(notebook, arguments.to or arguments.notebook)
    return 0


if __name__ == "__main__":
    sys.exit(main())
