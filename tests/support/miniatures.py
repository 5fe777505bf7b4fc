"""Miniatures of all downloaded datasets: how the raw files are written, and the study that takes them to the tables.

`MINIS` is the one place in which a new dataset's miniature is named; the tests that go over all of them read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mini_av
import mini_features
import mini_gestures
import mini_texts
import mini_views
from shipped import METHODS


@dataclass(frozen=True)
class Raw:
    """Raw files as `mmlbench prepare` takes them: a folder or archive, and lists that are not the official ones."""

    files: Path
    lists: Path | None = None

    @property
    def options(self) -> list[str]:
        """The options of `mmlbench prepare`, beside `--raw`."""
        return [] if self.lists is None else ["--lists", str(self.lists)]


Write = Callable[[Path], Raw]
#: What every task and every kind of input takes; the first trains each modality alone.
ANY = ("unimodal", "joint", "ensemble", "modality_dropout")
#: Six methods for classification; `ogm_ge` changes the gradients of convolutions.
CONVOLUTIONS = (*ANY, "ogm_ge", "di_mml")
#: The same where an encoder has none.
CLASSES = (*ANY, "mla", "di_mml")
#: Six methods for a number.
NUMBER = (*ANY, "mlb", "dgl")


def small(name: str, width: int = 4, **params: int) -> dict[str, Any]:
    """Return a small encoder as a recipe names it."""
    return {"name": name, "params": {"width": width, **params}}


@dataclass(frozen=True)
class Mini:
    """The miniature of a dataset.

    Attributes:
        write: writes a folder of raw files.
        splits: of the study, a block each; folds are named by what they have in common.
        recipe, encoder, recipe_set, dataset_set: of the study.
        methods: six that the task, the encoders and the number of modalities allow.
        archive: writes the same as an archive, which has no shards.
        by_items: whether it is prepared item by item; else it is read whole, and has no shards.
        large: parameters with which a recipe's own ResNet-18 sees 224 pixels; None: no recipe has one.
        large_recipe_set: fields of that recipe beside.
        large_write: writes raw files for that, where the others would take too long.
    """

    write: Write
    splits: tuple[str, ...]
    recipe: str
    encoder: Mapping[str, Any]
    methods: tuple[str, ...]
    recipe_set: Mapping[str, Any] = field(default_factory=dict)
    dataset_set: Mapping[str, Any] = field(default_factory=dict)
    archive: Write | None = None
    by_items: bool = True
    large: Mapping[str, Any] | None = None
    large_recipe_set: Mapping[str, Any] = field(default_factory=dict)
    large_write: Write | None = None

    def blocks(
        self, dataset: str, methods: Sequence[str | Mapping[str, Any]], splits: Sequence[str], epochs: int = 1
    ) -> list[dict[str, Any]]:
        """Return the blocks of a study as a user writes them, one for each split."""
        block = {
            "dataset": dataset,
            "recipe": self.recipe,
            "recipe_set": {"epochs": epochs, "batch_size": 8, "encoder": dict(self.encoder), **self.recipe_set},
            "dataset_set": dict(self.dataset_set),
            "seeds": [0, 1],
            "methods": list(methods),
        }
        return [block | {"split": split} for split in splits]

    def study(self, dataset: str) -> dict[str, Any]:
        """Return its own study: six methods, two seeds."""
        return {"name": dataset, "grid": self.blocks(dataset, self.methods, self.splits)}


def _with_lists(write: Callable[[Path], tuple[Path, Path]]) -> Write:
    """Return a writer of raw files and lists."""
    return lambda folder: Raw(*write(folder))


def _ave(folder: Path) -> Raw:
    """Write AVE, whose lists lie beside the clips."""
    raw = mini_av.ave(folder, 4)
    return Raw(raw, raw)


def _ave_zip(folder: Path) -> Raw:
    """Write AVE's zip, and its lists in the folder beside it."""
    return Raw(mini_av.ave(folder, 4, zipped=True), folder / "AVE_Dataset")


def _ucf_frames(folder: Path) -> Raw:
    """Write UCF101 as published frames and flow: at 224 pixels, computing the flow would take most of an hour."""
    videos, lists = mini_views.ucf_videos(folder)
    return Raw(mini_views.ucf_frames(folder, videos)[0], lists)


def _texts(name: str) -> Mini:
    """Return the miniature of a dataset of pictures and texts."""
    return Mini(
        _with_lists(mini_texts.TEXTS[name]),
        ("official",),
        "pdf",
        {"visual": small("small_cnn"), "text": small("gru", 16)},
        CLASSES,
        dataset_set={"size": 24, "least": 1},
    )


def _sentiment(name: str, methods: tuple[str, ...], recipe: str, family: str, aligned: bool) -> Mini:
    """Return the miniature of MOSI or MOSEI as a number or as classes."""
    return Mini(
        lambda folder: Raw(mini_features.sentiment(folder, name.partition("_")[0], family, aligned)),
        ("standard",),
        recipe,
        small("transformer", layers=1, heads=1) if recipe == "mult" else small("gru"),
        methods,
        by_items=False,
    )


def _iemocap(folder: Path) -> Raw:
    """Write IEMOCAP's pickle."""
    mini_features.write(folder / "raw" / "IEMOCAP_features_raw.pkl", mini_features.iemocap(), 2)
    return Raw(folder / "raw")


IEMOCAP = Mini(_iemocap, ("official_val",), "dialoguernn", small("mlp"), CLASSES, by_items=False)
CNN = small("small_cnn")
#: The smallest spectrogram, and small frames.
AV = {"audio": "stft_257x188", "size": 24}
#: Few frames of few pixels, and crops of them.
CLIPS = {"frames": 2, "flow_frames": 3, "crop_size": 12}
#: Dataset -> its miniature: all that have to be downloaded.
MINIS: dict[str, Mini] = {
    "cremad": Mini(
        _with_lists(lambda folder: mini_av.cremad(folder, 5)), ("official_val", "actors"), "dimml", CNN, CONVOLUTIONS,
        dataset_set=AV, large={},
    ),
    "ave": Mini(
        _ave, ("official",), "dimml", CNN, CONVOLUTIONS, dataset_set=AV, archive=_ave_zip, large={},
    ),
    "kinetics_sounds": Mini(
        _with_lists(mini_av.kinetics_sounds), ("ogm_val",), "dimml", CNN, CONVOLUTIONS, dataset_set=AV, large={},
    ),
    "kinetics_sounds_34": Mini(
        lambda folder: Raw(mini_av.kinetics_sounds_34(folder)), ("folders",), "dimml", CNN, CONVOLUTIONS,
        dataset_set=AV,
    ),
    "vggsound": Mini(
        _with_lists(mini_av.vggsound), ("official",), "ogm_ge", CNN, CONVOLUTIONS, {"frames": 2, "crop": "none"},
        {"size": 24, "frames": 2},  # the recipe's own front end
    ),
    "ucf101": Mini(
        _with_lists(mini_views.ucf_videos), ("split1_val",), "dimml", CNN, CONVOLUTIONS, CLIPS,
        {"size": 16, "frames": 3, "rgb_frames": 2},
        large={"size": 224}, large_recipe_set={"crop_size": 196}, large_write=_ucf_frames,
    ),
    "hmdb51": Mini(
        _with_lists(mini_views.hmdb_videos), ("split1_val",), "dimml", CNN, CONVOLUTIONS, CLIPS,
        {"size": 16, "frames": 3, "rgb_frames": 2},
    ),
    "modelnet40": Mini(
        _with_lists(mini_views.modelnet_meshes), ("official_val",), "dimml", CNN, CONVOLUTIONS,
        dataset_set={"size": 24, "around": 2}, archive=_with_lists(mini_views.modelnet_zip), large={},
    ),
    "nvgesture": Mini(
        _with_lists(mini_gestures.nvgesture), ("official_val",), "ctfb", CNN, CONVOLUTIONS,
        {"frames": 3, "flow_frames": 3, "crop_size": 20}, {"size": 24, "frames": 3},
    ),
    **{name: _texts(name) for name in mini_texts.TEXTS},
    "mosi": _sentiment("mosi", NUMBER, "mult", "mult", aligned=False),
    "mosi_2": _sentiment("mosi_2", CLASSES, "embedded", "mmsa", aligned=True),
    "mosi_7": _sentiment("mosi_7", CLASSES, "embedded", "mmsa", aligned=True),
    "mosei": _sentiment("mosei", NUMBER, "mult", "mult", aligned=False),
    "mosei_2": _sentiment("mosei_2", CLASSES, "embedded", "mmsa", aligned=True),
    "mosei_7": _sentiment("mosei_7", CLASSES, "embedded", "mmsa", aligned=True),
    "iemocap": replace(IEMOCAP, splits=("official_val", "session")),
    "iemocap_4": IEMOCAP,
}  # fmt: skip
#: Those of which all methods are tried, as they differ most: kinds of inputs, archives, folders, lists.
EVERY_METHOD = [name for name, mini in MINIS.items() if mini.large is not None]


#: Method -> what switches off the one mechanism that a few samples of many classes can't set going: it acts only
#: where something was learnt, or needs a sample of each class. tests/methods/ try it where it acts.
IDLE: dict[str, dict[str, float]] = {
    "amco": {"growth": 0},
    "cml": {"weight": 0},
    "mbsd": {"weight": 0},
    "opm": {"base": 0},
    "relearning": {"strength": 0},
    "unis_mmc": {"weight": 0},
}


def config() -> dict[str, Any]:
    """Return the study of all methods on these: some have a phase of their own, for which one epoch is too short."""
    methods = [{"method": name, "params": IDLE[name]} if name in IDLE else name for name in METHODS]
    found = ((name, MINIS[name]) for name in EVERY_METHOD)
    return {"name": "minis", "grid": [one for name, mini in found
                                      for one in mini.blocks(name, methods, mini.splits[:1], epochs=2)]}  # fmt: skip
