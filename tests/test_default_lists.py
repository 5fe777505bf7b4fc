"""AVE and UCF101 with the lists of their raw folder, as the documented commands have it: no --lists.

The official lists are not at hand, so the miniature's are made official for the test: their hash and their counts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mini_av
import mini_views
import pytest

from mmlbench.cache import Cache
from mmlbench.cli import main
from mmlbench.dataset import PARTS, Split
from mmlbench.hashing import file_digest
from mmlbench.index import load_index

UCF = {"split1": (12, 0, 6), "split1_val": (6, 6, 6), "split2": (15, 0, 3), "split3": (15, 0, 3)}
AVE = {"official": (9, 3, 3), "clean": (5, 3, 3)}


def ave(folder: Path) -> tuple[Path, Path]:
    raw = mini_av.ave(folder, 4)
    return raw, raw


@pytest.mark.parametrize(
    ("name", "build", "counts", "params"),
    [("ave", ave, AVE, ("size=16",)), ("ucf101", mini_views.ucf_videos, UCF, ("size=16", "frames=3"))],
)
def test_the_lists_of_the_raw_folder_are_taken(name, build, counts, params, tmp_path, monkeypatch, capsys):
    raw, lists = build(tmp_path / "raw")
    kind = load_index().load("dataset", name)
    hashes = sys.modules[kind.__module__].SHA256
    words = ["prepare", name, "--raw", str(raw), "--cache", str(tmp_path / "cache"), "--workers", "1"]
    words += [word for param in params for word in ("--dataset-set", param)]
    assert main(words) == 2  # these are not the official ones yet
    said = " ".join(capsys.readouterr().err.split())
    assert "is not the official list" in said and f"--lists {lists}" in said
    for one in hashes:
        monkeypatch.setitem(hashes, one, file_digest(lists / one))
    declared = {split: Split("", dict(zip(PARTS, n, strict=True)), "scene") for split, n in counts.items()}
    monkeypatch.setattr(kind, "splits", declared)
    assert main(words) == 0
    (folder,) = (tmp_path / "cache").glob(f"{name}-*")
    cache = Cache.open(folder)
    assert cache.notes == []
    assert {split: tuple(len(cache.part(split, part)) for part in PARTS) for split in counts} == counts
