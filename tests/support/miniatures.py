"""Miniatures of the downloaded datasets: their raw files, and a study over all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mini_av
import mini_views
from shipped import METHODS

Raw = Callable[[Path], tuple[Path, Path]]


def ave_zip(folder: Path) -> tuple[Path, Path]:
    """Return AVE's zip, and its lists in the folder beside it."""
    return mini_av.ave(folder, 6, zipped=True), folder / "AVE_Dataset"


def ucf_frames(folder: Path) -> tuple[Path, Path]:
    """Return UCF101 as published frames and flow: at 224 pixels, computing the flow would take most of an hour."""
    videos, lists = mini_views.ucf_videos(folder)
    return mini_views.ucf_frames(folder, videos)[0], lists


#: Dataset -> (builder of raw files and lists, its split, parameters at 224 pixels).
MINIS: dict[str, tuple[Raw, str, dict]] = {
    "cremad": (lambda folder: mini_av.cremad(folder, 6), "official_val", {}),
    "ave": (ave_zip, "official", {}),
    "kinetics_sounds": (mini_av.kinetics_sounds, "ogm_val", {}),
    "ucf101": (mini_views.ucf_videos, "split1_val", {"size": 224}),
    "modelnet40": (mini_views.modelnet_zip, "official_val", {}),
}
#: The recipe of DI-MML, made small.
FEW = {"epochs": 2, "batch_size": 8, "encoder": {"name": "small_cnn", "params": {"width": 4}}}


def config() -> dict:
    """Return the study as a user writes it: a block for each dataset, frames of 64 pixels."""
    grid = [
        {
            "dataset": name,
            "split": split,
            "recipe": "dimml",
            "recipe_set": FEW | ({"crop_size": 48} if name == "ucf101" else {}),
            "dataset_set": {"size": 64},
            "seeds": [0, 1],
            "methods": METHODS,
        }
        for name, (_, split, _) in MINIS.items()
    ]
    return {"name": "minis", "grid": grid}
