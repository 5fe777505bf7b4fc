"""Show the notebooks of docs/ on the site: MkDocs calls these functions while it builds (`hooks` in mkdocs.yml).

Each `docs/NAME.ipynb` becomes the page `NAME`, made from what is stored in it: nothing is executed, and nothing is
fetched. The file itself lies beside it, to be downloaded.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

Cell = dict[str, Any]
LINK = re.compile(r"(\]\([\w./-]+)\.ipynb\)")


def joined(text: str | list[str]) -> str:
    """Return a text of a notebook, which may be stored as its lines."""
    return text if isinstance(text, str) else "".join(text)


def fenced(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def shown(output: Cell, name: str, pictures: dict[str, bytes]) -> str:
    """Return an output as Markdown; a picture is put into `pictures` under a name of its own."""
    if output["output_type"] == "stream":
        return fenced(joined(output["text"]))
    data = output.get("data", {})
    if "image/png" in data:
        picture = f"{name}-{len(pictures) + 1}.png"
        pictures[picture] = base64.b64decode(joined(data["image/png"]))
        return f"![Figure drawn by the cell above]({picture})"
    table = re.search(r"<table.*</table>", joined(data.get("text/html", "")), re.DOTALL)
    return table.group() if table else fenced(joined(data["text/plain"]))


def as_page(notebook: Cell, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and the pictures that it shows by their names."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(joined(cell["source"]))
        if cell["cell_type"] == "code":
            parts.append(fenced(joined(cell["source"]), "python"))
            parts += [shown(output, name, pictures) for output in cell["outputs"]]
    return "\n\n".join([*parts, f"[Download this notebook]({name}.ipynb)", ""]), pictures


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook."""
    for file in list(files):
        path = Path(file.src_uri)
        if path.suffix == ".ipynb":
            notebook = json.loads((Path(config.docs_dir) / path).read_text(encoding="utf-8"))
            text, pictures = as_page(notebook, path.stem)
            files.append(File.generated(config, path.with_suffix(".md").as_posix(), content=text))
            for name, content in pictures.items():
                files.append(File.generated(config, path.with_name(name).as_posix(), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to a notebook to its page; on a code host they lead to the file, which it shows."""
    own = page.file.generated_by is not None  # the page of a notebook: its link is the download
    return markdown if own else LINK.sub(r"\1.md)", markdown)
