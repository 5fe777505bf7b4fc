"""ModelNet40: objects seen from the front and from the rear."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlbench import (
    CacheWriter,
    Dataset,
    DatasetParams,
    Download,
    KnownLists,
    Listed,
    Modality,
    Split,
    bounded,
    register,
)
from mmlbench.decode.fault import Fault
from mmlbench.decode.image import read_image, square
from mmlbench.decode.meshes import VIEWS, read_off, render
from mmlbench.frontends import lists
from mmlbench.frontends.clips import open_raw
from mmlbench.prepare.declared_counts import check_counts
from mmlbench.prepare.items import fill
from mmlbench.prepare.task import PIXELS, Item

from . import objects

MESHES, SHADED = "ModelNet40", "modelnet40_images_new_12x"
SHA256 = {
    "train.txt": "69587fcf810d20207069301edded878c4f682e1b8f0eb96ee08e21029f0ab9e4",
    "test.txt": "31d9eeae282eecbb628c0d0849479111416cf99a5bc685c69e984ed9da54aab8",
}
FIGURES = {"rows/train": 9843, "rows/test": 2468, "ids/train+test": 0}
#: Objects of each class in train and in test, numbered from 1 through both; the lists of these hashes follow.
COUNTS = """
airplane:626+100 bathtub:106+50 bed:515+100 bench:173+20 bookshelf:572+100 bottle:335+100 bowl:64+20 car:197+100
chair:889+100 cone:167+20 cup:79+20 curtain:138+20 desk:200+86 door:109+20 dresser:200+86 flower_pot:149+20
glass_box:171+100 guitar:155+100 keyboard:145+20 lamp:124+20 laptop:149+20 mantel:284+100 monitor:465+100
night_stand:200+86 person:88+20 piano:231+100 plant:240+100 radio:104+20 range_hood:115+100 sink:128+20 sofa:680+100
stairs:124+20 stool:90+20 table:392+100 tent:163+20 toilet:344+100 tv_stand:267+100 vase:475+100 wardrobe:87+20
xbox:103+20"""
OBJECTS = objects.numbered(COUNTS)
CLASSES = list(dict.fromkeys(kind for kind, _ in OBJECTS.values()))
VALIDATION = 984
SEED = 50_401
HOME = "https://modelnet.cs.princeton.edu"
PLAIN = "a plain file on the host, without registration; its length and checksum are not published"
RIGHTS = "for academic research; the objects belong to their authors"


@register
class ModelNet40(Dataset):
    """ModelNet40: 12,311 CAD objects of 40 classes; one picture from the front, one from the rear.

    The pictures are rendered here from the official meshes, or read from the published shaded images (Su et al.):
    12 cameras around the upright axis, 30 degrees apart and 30 degrees above the horizon. DI-MML takes its images
    v001 and v007, here views 0 and 6. Grey, one channel (the published ones are grey in three).
    With `around` the neighbouring views of each side are kept too, for training; view 0 stays the fixed one.

    `official` is the division into train and test folders; `official_val` holds 984 training objects out, class by
    class, drawn with a fixed seed. Objects carry no group: near-duplicates across parts are for the audit to find.
    Source: Wu et al., CVPR 2015; shaded images: Su et al., ICCV 2015.
    """

    class Params(DatasetParams):
        size: int = bounded(224, low=16, high=1024, doc="side of the pictures, in pixels")
        front: int = bounded(0, low=0, high=VIEWS - 1, doc="camera of the front")
        rear: int = bounded(6, low=0, high=VIEWS - 1, doc="camera of the rear")
        around: int = bounded(0, low=0, high=3, doc="cameras on either side that are kept too, for training")

    params: Params
    modalities = (Modality("front", (1, 224, 224), "image"), Modality("rear", (1, 224, 224), "image"))
    class_names = tuple(CLASSES)
    splits = {
        "official": Split(
            "the folders train and test", {"train": 9843, "test": 2468}, known=KnownLists(SHA256, FIGURES)
        ),
        "official_val": Split(
            "official, a tenth of train held out by class",
            {"train": 9843 - VALIDATION, "val": VALIDATION, "test": 2468},
        ),
    }
    licence = RIGHTS
    citation = "Z. Wu et al., 3D ShapeNets: A Deep Representation for Volumetric Shapes, CVPR 2015, arXiv:1406.5670"
    origin = f"{HOME}: ModelNet40.zip; or the shaded images of Su et al. (12 views)"
    needs_raw = True
    downloads = (
        Download(f"{MESHES}.zip", f"{HOME}/ModelNet40.zip", licence=RIGHTS, direct=True, how=PLAIN,
                 form="meshes", also=(MESHES, "airplane/train/*.off"), size="about 2 GB"),
        Download("shaded_images.tar.gz", "http://supermoe.cs.umass.edu/shape_recog/shaded_images.tar.gz",
                 licence=RIGHTS, how="instead of the meshes; DI-MML's README and jongchyisu/mvcnn_pytorch name it",
                 form="shaded", also=(SHADED, "airplane/train/*.png"), size="1 GB in mvcnn_pytorch's README"),
    )  # fmt: skip

    def __init__(self, params: Params | None = None) -> None:
        super().__init__(params)
        size, around = self.params.size, self.params.around
        front, rear = (Modality(name, (1, size, size), "image", 1 + 2 * around) for name in ("front", "rear"))
        self.modalities = (front, rear)
        turns = [0, *(turn for k in range(1, around + 1) for turn in (-k, k))]
        self._views = [(side + turn) % VIEWS for side in (self.params.front, self.params.rear) for turn in turns]

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """List the objects, render or read their pictures, write the splits."""
        root = objects.root_of(raw, CLASSES)
        if root is None:
            folder = open_raw(raw, out, (MESHES, SHADED))
            root = objects.root_of(folder, CLASSES, (MESHES, SHADED)) or folder
        if out.options.lists or (root / "train.txt").exists():
            found = objects.in_lists(lists.official(out, root, SHA256, "\t", 2), CLASSES)
        else:
            found = OBJECTS
            objects.check_folders(root, found)
            out.raw["lists"] = SHA256
        samples = objects.samples(found, CLASSES, VALIDATION, SEED)
        check_counts(out, samples, root)
        shaded = objects.is_shaded(root)
        items = [self._item(name, f"{kind}/{part}/{name}", shaded) for name, (kind, part) in found.items()]
        fill(out, root, items, self.decode, {"front": PIXELS, "rear": PIXELS})
        for split, listed in samples.items():
            out.split(split, listed)

    def _item(self, name: str, path: str, shaded: bool) -> Item:
        if not shaded:
            return Item(name, (f"{path}.off",))
        return Item(name, tuple(f"{path}.obj.shaded_v{view + 1:03d}.png" for view in self._views))

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return an object's pictures, front and rear."""
        size, each = self.params.size, 1 + 2 * self.params.around
        if len(item.files) == 1:
            try:
                shown = render(*read_off(raw / item.files[0]), self._views, size)[:, None]
            except ValueError as error:
                raise Fault(raw / item.files[0], f"can't be rendered: {error}") from error
        else:
            shown = np.stack([square(read_image(raw / name, "L"), size) for name in item.files])
        return {"front": shown[:each], "rear": shown[each:]}

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return the lists of the raw folder where it holds any, else the official division."""
        root = objects.root_of(raw, CLASSES, (MESHES, SHADED))
        found, hashes = OBJECTS, SHA256
        if root is not None and (root / "train.txt").exists():
            found = objects.in_lists({name: lists.read_rows(root / name, "\t", 2) for name in SHA256}, CLASSES)
            hashes = lists.hashes(root, SHA256, SHA256)
        made = objects.samples(found, CLASSES, VALIDATION, SEED)
        return {split: Listed(rows, hashes) for split, rows in made.items()}
