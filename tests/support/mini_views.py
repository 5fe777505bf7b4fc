"""Miniature copies of UCF101, HMDB51 and ModelNet40, in the official layouts and formats, through real encoders.

Each builder writes a folder of raw files and one of lists beside it, and returns both: a miniature's lists are not
the official ones, so they are given to `mmlbench prepare` with --lists.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from mini_av import write_video

from mmlbench.decode.flow import fitted, grey, to_bytes, tvl1
from mmlbench.decode.video import pick_frames

ACTIONS = ("Archery", "HandstandPushups", "YoYo")
#: Groups of each class: two in the test part of split 1, one in that of 2 and of 3, the rest in none.
SCENES = (1, 2, 8, 15, 22, 23)
SOLIDS = ("bowl", "cup", "xbox")
SIZE = (64, 48)


def ucf_paths() -> list[str]:
    """Return the videos as the lists name them, with the official odd case of HandStandPushups."""
    spelt = {"HandstandPushups": "HandStandPushups"}
    return [f"{c}/v_{spelt.get(c, c)}_g{g:02d}_c01.avi" for c in ACTIONS for g in SCENES]


def _text(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode())


def ucf_lists(folder: Path, paths: Iterable[str]) -> Path:
    """Write the seven official lists of some videos."""
    paths = list(paths)
    for number, tested in ((1, (1, 2)), (2, (8,)), (3, (15,))):
        test = [p for p in paths if int(p.split("_g")[1][:2]) in tested]
        label = {p: ACTIONS.index(p.split("/")[0]) + 1 for p in paths}
        _text(folder / f"testlist0{number}.txt", test)
        _text(folder / f"trainlist0{number}.txt", [f"{p} {label[p]}" for p in paths if p not in test])
    _text(folder / "classInd.txt", [f"{k} {name}" for k, name in enumerate(ACTIONS, 1)])
    return folder


def ucf_videos(folder: Path) -> tuple[Path, Path]:
    """Write `UCF-101/<Class>/*.avi` (MPEG-4 in AVI, as the official ones), 12 to 17 frames each."""
    raw = folder / "raw"
    for place, path in enumerate(ucf_paths()):
        frames = 12 + place % 6
        kind = ACTIONS.index(path.split("/")[0])
        target = raw / "UCF-101" / path
        write_video(target, kind, frames / 25, ("mpeg4", None), SIZE, Fraction(25), seed=place)
    return raw, ucf_lists(raw / "ucfTrainTestlist", ucf_paths())


def ucf_frames(folder: Path, videos: Path) -> tuple[Path, Path]:
    """Write `jpegs_256` and `tvl1_flow/{u,v}` of the videos; the two spell HandstandPushups differently."""
    from PIL import Image

    raw = folder / "published"
    for path in ucf_paths():
        found = [fitted(one, 48, 64) for one in pick_frames(videos / "UCF-101" / path, lambda *about: True)]
        flow = to_bytes(tvl1([grey(one) for one in found]))
        name = Path(path).stem
        other = name.replace("HandStand", "Handstand")
        series = [("jpegs_256", name, found), ("tvl1_flow/u", other, flow[:, 0]), ("tvl1_flow/v", other, flow[:, 1])]
        for top, stem, pictures in series:
            (raw / top / stem).mkdir(parents=True)
            for k, one in enumerate(pictures, 1):
                Image.fromarray(one).save(raw / top / stem / f"frame{k:06d}.jpg", quality=95)
    return raw, ucf_lists(raw / "ucfTrainTestlist", ucf_paths())


#: HMDB51's classes of the miniature, and sources as odd as the official ones.
MOVES = ("brush_hair", "ride_bike", "wave")
SOURCES = ("April_09", "#437_How_To", "kick__[_NEW_]_Part_1", "Radschl_ge___-)", "Film_2", "Film_3")


def hmdb_paths() -> list[str]:
    """Return the videos as the shipped lists name them: of each class one clip of each source."""
    about = "u_nm_np1_ba_goo"
    return [f"{kind}/{source}_{kind}_{about}_{k}.avi" for kind in MOVES for k, source in enumerate(SOURCES)]


def hmdb_lists(folder: Path, official: Path) -> Path:
    """Write the two lists of split 1, and below `official` a file of each class for each of the three splits.

    Of a class the clips 0 and 1 are tested in split 1, the clips 2 and 3 in splits 2 and 3; clip 5 is in neither part
    of split 3.
    """
    from mmlbench.datasets.hmdb51 import CLASSES

    part = {number: ["1"] * len(SOURCES) for number in (1, 2, 3)}
    part[1][:2], part[2][2], part[3][3], part[3][5] = ["2", "2"], "2", "2", "0"
    paths = hmdb_paths()
    for name, wanted in (("train", "1"), ("test", "2")):
        own = [path for k, path in enumerate(paths) if part[1][k % len(SOURCES)] == wanted]
        _text(folder / f"{name}_list1.txt", [f"{path} {CLASSES.index(path.split('/')[0])}" for path in own])
    for number, kind in ((number, kind) for number in part for kind in MOVES):
        own = [path.split("/")[1] for path in paths if path.startswith(f"{kind}/")]
        lines = [f"{name} {one} " for name, one in zip(own, part[number], strict=True)]
        _text(official / f"{kind}_test_split{number}.txt", lines)
    return folder


def hmdb_videos(folder: Path) -> tuple[Path, Path]:
    """Write `hmdb51_org/<class>/*.avi`, 12 to 17 frames each, and lists of its own."""
    raw = folder / "raw"
    for place, path in enumerate(hmdb_paths()):
        kind, frames = MOVES.index(path.split("/")[0]), 12 + place % 6
        write_video(raw / "hmdb51_org" / path, kind, frames / 25, ("mpeg4", None), SIZE, Fraction(25), seed=place)
    return raw, hmdb_lists(folder / "lists", folder / "lists")


def hmdb_frames(folder: Path, count: int = 13) -> tuple[Path, Path]:
    """Write `jpegs_256` and `tvl1_flow/{u,v}` of a grey that tells their number: 90 + k, 100 + k (u), 150 - k (v)."""
    from PIL import Image

    raw = folder / "published"
    for stem in (Path(path).stem for path in hmdb_paths()):
        for top, first, step in (("jpegs_256", 90, 1), ("tvl1_flow/u", 100, 1), ("tvl1_flow/v", 150, -1)):
            (raw / top / stem).mkdir(parents=True)
            for k in range(1, count + (top == "jpegs_256")):
                one = Image.new("L", SIZE, first + step * k)
                shown = one.convert("RGB") if top == "jpegs_256" else one
                shown.save(raw / top / stem / f"frame{k:06d}.jpg", quality=95)
    return raw, hmdb_lists(folder / "lists", folder / "lists")


def box(low: Iterable[float], high: Iterable[float], start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and triangles of a box."""
    low, high = np.array(low, float), np.array(high, float)
    corner = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [(s[0], s[k], s[k + 1]) for s in sides for k in (1, 2)]
    return low + corner * (high - low), np.array(faces) + start


def solid(kind: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a mesh of a class: a slab, a post or a cube, with a block at its front (where x is largest)."""
    rng = np.random.default_rng([31, kind, number])
    size = np.array([(4, 4, 1), (1, 1, 4), (3, 3, 3)][kind]) * rng.uniform(0.8, 1.2, 3)
    body = box(-size / 2, size / 2)
    knob = box([size[0] / 2, -0.3, 0], [size[0] / 2 + 0.5, 0.3, 0.3 * size[2]], 8)
    return np.concatenate([body[0], knob[0]]), np.concatenate([body[1], knob[1]])


def write_off(path: Path, vertices: np.ndarray, triangles: np.ndarray, glued: bool = False) -> None:
    """Write an OFF file; `glued` puts the counts on the first line, as some official files have them."""
    lines = [f"OFF{'' if glued else chr(10)}{len(vertices)} {len(triangles)} 0"]
    lines += [" ".join(f"{x:.6f}" for x in row) for row in vertices]
    lines += ["3 " + " ".join(map(str, row)) for row in triangles]
    _text(path, lines)


def modelnet_names() -> list[tuple[str, str, str]]:
    """Return (class, part, object): 8 of each class in train, 3 in test."""
    return [(c, "train" if k < 8 else "test", f"{c}_{k + 1:04d}") for c in SOLIDS for k in range(11)]


def modelnet_lists(folder: Path) -> Path:
    """Write `train.txt` and `test.txt` as DI-MML has them."""
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for kind, part, name in modelnet_names():
        path = f"modelnet40_images_new_12x/{kind}/{part}/{name}.obj.shaded_v001.png"
        rows[part].append(f"{path}\t{SOLIDS.index(kind)}")
    for part, lines in rows.items():
        _text(folder / f"{part}.txt", lines)
    return folder


def modelnet_meshes(folder: Path) -> tuple[Path, Path]:
    """Write `ModelNet40/<class>/<part>/*.off`; every fourth header is glued to its counts."""
    raw = folder / "raw"
    for place, (kind, part, name) in enumerate(modelnet_names()):
        mesh = solid(SOLIDS.index(kind), place)
        write_off(raw / "ModelNet40" / kind / part / f"{name}.off", *mesh, glued=place % 4 == 0)
    return raw, modelnet_lists(folder / "lists")


def modelnet_zip(folder: Path) -> tuple[Path, Path]:
    """Write the official `ModelNet40.zip`, with the folder that macOS puts into archives."""
    raw, lists = modelnet_meshes(folder)
    archive = folder / "ModelNet40.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("__MACOSX/ModelNet40/._bowl", b"x")
        for path in sorted(raw.rglob("*.off")):
            file.write(path, str(path.relative_to(raw)))
    return archive, lists


def modelnet_shaded(folder: Path, meshes: Path) -> tuple[Path, Path]:
    """Write the published images `modelnet40_images_new_12x/<class>/<part>/*.obj.shaded_v001.png` ..."""
    from PIL import Image

    from mmlbench.decode.meshes import read_off, render

    raw = folder / "shaded"
    for kind, part, name in modelnet_names():
        shown = render(*read_off(meshes / "ModelNet40" / kind / part / f"{name}.off"), range(12), 48)
        target = raw / "modelnet40_images_new_12x" / kind / part
        target.mkdir(parents=True, exist_ok=True)
        for view, one in enumerate(shown, 1):
            Image.fromarray(np.stack([one] * 3, axis=-1)).save(target / f"{name}.obj.shaded_v{view:03d}.png")
    return raw, modelnet_lists(folder / "lists")
