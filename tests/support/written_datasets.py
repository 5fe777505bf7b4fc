"""Dataset files and folders for tests of how plug-ins are found; they import no torch."""

from __future__ import annotations

from pathlib import Path

DATASET = '''
"""A dataset."""
from mmlbench.dataset import Dataset, Modality, Split
from mmlbench.registry import register
{extra}

@register
class {cls}(Dataset):
    """{doc}"""

    {name}
    modalities = (Modality("audio", (1, 4), "signal"), Modality("visual", (1, 4, 4), "image"))
    class_names = ("a", "b")
    splits = {{"iid": Split("drawn", counts={{"train": 4, "val": 2, "test": 2}})}}
    licence = citation = origin = "none"
'''


def text(name: str = "", extra: str = "", doc: str = "Made for a test.") -> str:
    """Return the text of a dataset file: `extra` are further lines before its class `Made`."""
    return DATASET.format(cls="Made", name=f'name = "{name}"' if name else "", extra=extra, doc=doc)


def dataset(folder: Path, stem: str, name: str = "", extra: str = "", doc: str = "Made for a test.") -> Path:
    """Write a dataset that is a file, and return its path."""
    path = folder / f"{stem}.py"
    path.write_text(text(name, extra, doc), encoding="utf-8")
    return path


def dataset_folder(folder: Path, stem: str, files: dict[str, str]) -> Path:
    """Write a dataset that is a folder of files (`__init__.py` among them), and return the path of that one."""
    for name, content in files.items():
        path = folder / stem / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder / stem / "__init__.py"
