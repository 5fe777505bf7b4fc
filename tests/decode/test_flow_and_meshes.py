"""Optical flow, the frames that are kept of a clip, OFF meshes and their pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mini_views import solid, write_off

from mmlbench.decode import flow
from mmlbench.decode.fault import Fault
from mmlbench.decode.meshes import read_off, render
from mmlbench.errors import DataError
from mmlbench.frontends.divide import hold_out_exactly
from mmlbench.train.augmentation import Augmentation, Pixels


def textured(shift: tuple[int, int]) -> np.ndarray:
    """Return a smooth picture (40, 60), moved by (right, down) pixels."""
    y, x = np.mgrid[0:40, 0:60].astype(float)
    x, y = x - shift[0], y - shift[1]
    value = np.sin(x / 3.1) + np.cos(y / 2.7) + np.sin((x + y) / 4.3) + np.cos((x - 2 * y) / 6.1)
    return np.rint(127 + 30 * value).astype(np.uint8)


# ---- flow --------------------------------------------------------------------------------------------------------
def test_flow_of_a_known_shift_and_the_same_bytes_again() -> None:
    frames = [textured((0, 0)), textured((2, 0)), textured((2, -1))]
    found = flow.tvl1(frames)
    assert found.shape == (2, 2, 40, 60)
    inner = np.median(found[:, :, 8:-8, 8:-8], axis=(2, 3))
    np.testing.assert_allclose(inner, [[2, 0], [0, -1]], atol=0.15)  # u to the right, v down
    assert (flow.tvl1(frames) == found).all()


def test_the_rule_of_8_bit() -> None:
    pixels = np.array([-50, -20, -1, 0, 1, 20, 50], np.float32)
    stored = flow.to_bytes(pixels)
    assert stored.tolist() == [0, 0, 121, 128, 134, 255, 255]
    np.testing.assert_allclose(flow.to_pixels(stored), np.clip(pixels, -20, 20), atol=20 / 255 + 1e-6)
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(flow.to_pixels(255 - every), -flow.to_pixels(every), atol=1e-5)
    assert (flow.to_bytes(flow.to_pixels(every)) == every).all()


def test_flow_grows_with_its_picture() -> None:
    stored = flow.to_bytes(np.array([[-4.0, 4.0]]))
    half = flow.to_pixels(flow.rescaled(stored, 0.5))
    np.testing.assert_allclose(half, [[-2, 2]], atol=0.1)


@pytest.mark.parametrize("shape", [(240, 320), (256, 340), (256, 341), (320, 240), (97, 451)])
def test_any_size_is_covered_without_distortion(shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    fitted = flow.fitted(picture, 256, 340)
    assert fitted.shape == (256, 340, 3)
    if shape[0] == 256:
        assert flow.cover(shape, 256, 340) == 1.0


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match=r"opencv-contrib-python-headless.*mmlbench\[prepare\]"):
        flow.tvl1([textured((0, 0)), textured((1, 0))])
    monkeypatch.setitem(sys.modules, "embreex", None)
    with pytest.raises(DataError, match=r"'embreex'.*mmlbench\[prepare\]"):
        render(*solid(2, 0), [0], 16)


@pytest.mark.parametrize("cropped", [False, True])
def test_a_flip_gives_the_flow_of_mirrored_frames(cropped: bool) -> None:
    """What the flip has to give is what TV-L1 finds in the frames as a mirror shows them."""
    frames = [textured((0, 0)), textured((2, -1))]
    found = flow.to_bytes(flow.tvl1(frames))
    truth = torch.from_numpy(flow.tvl1([np.ascontiguousarray(one[:, ::-1]) for one in frames]))[0]
    crop = {"crop": "random", "crop_size": 40} if cropped else {}
    boxes = torch.tensor([[[0, 10, 40, 40]]]) if cropped else None  # the middle, so that both sides match

    def shown(**rule: bool) -> torch.Tensor:
        pixels = Pixels(Augmentation(flip=1.0, **crop, **rule), (2, 40, 60), flow.SCALE, flow.OFFSET)  # type: ignore[arg-type]
        made = pixels.show(torch.from_numpy(found)[:, None], boxes, torch.tensor([[True]]))[0, 0]
        return made * flow.SCALE + flow.OFFSET

    plain = torch.from_numpy(flow.to_pixels(found))[0]
    if cropped:
        truth, plain = truth[..., 10:50], plain[..., 10:50]
    inner = (..., slice(8, -8), slice(8, -8))
    right, released = shown(negate=True), shown(released=True)
    assert float((right - truth)[inner].abs().mean()) < 0.15 < 1 < float((released - truth)[inner].abs().mean())
    torch.testing.assert_close(right, torch.stack([-plain[0], plain[1]]).flip(-1), atol=1e-3, rtol=0)
    torch.testing.assert_close(released, torch.stack([plain[0].flip(-1), plain[1]]), atol=1e-3, rtol=0)


# ---- meshes ------------------------------------------------------------------------------------------------------
CUBE = (
    "0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1\n"
    "4 0 1 2 3\n4 4 5 6 7\n4 0 1 5 4\n4 1 2 6 5\n4 2 3 7 6\n4 3 0 4 7\n"
)


@pytest.mark.parametrize(
    "head",
    ["OFF\n8 6 0\n", "OFF8 6 0\n", "OFF 8 6 0\n", "\ufeffOFF\r\n8 6 0\r\n", "# made by\nOFF\n# counts\n8 6 0\n"],
)
def test_off_headers_glued_or_not(head: str, tmp_path: Path) -> None:
    path = tmp_path / "cube.off"
    path.write_text(head + CUBE, encoding="utf-8")
    vertices, triangles = read_off(path)
    assert vertices.shape == (8, 3) and triangles.shape == (12, 3)
    assert (vertices[triangles].reshape(-1, 3).max(0) == 1).all()


SQUARE, FACES = ["0 0 0", "1 0 0", "1 1 0", "0 1 0"], ["3 0 1 2", "3 0 2 3"]
FORMS = {
    "triangles": ("OFF\n4 2 0", SQUARE, FACES),
    "counts on the first line": ("OFF 4 2 0", SQUARE, FACES),
    "counts glued to the word": ("OFF4 2 0", SQUARE, FACES),
    "two counts": ("OFF\n4 2", SQUARE, FACES),
    "comments before the counts": ("# by a program\nOFF # mesh\n\n# counts\n4 2 0 # edges", SQUARE, FACES),
    "comments between": ("OFF\n4 2 0", [f"{row} # {k}\n#" for k, row in enumerate(SQUARE)], FACES),
    "a polygon": ("OFF\n4 1 0", SQUARE, ["4 0 1 2 3"]),
    "colours of faces": ("OFF\n4 2 0", SQUARE, ["3 0 1 2 255 0 0", "3 0 2 3 0 255 0 128"]),
    "colours of one face": ("OFF\n4 2 0", SQUARE, ["3 0 1 2 0.5 0.5 0.5", "3 0 2 3"]),
    "an index of a colour": ("OFF\n4 2 0", SQUARE, ["3 0 1 2 7", "3 0 2 3 7"]),
    "a polygon with a colour": ("OFF\n4 1 0", SQUARE, ["4 0 1 2 3 10 20 30"]),
    "colours of vertices": ("COFF\n4 2 0", [f"{row} 255 0 0 255" for row in SQUARE], FACES),
    "colours of both": ("COFF\n4 1 0", [f"{row} 0.1 0.2 0.3 1" for row in SQUARE], ["4 0 1 2 3 9 9 9"]),
    "normals": ("NOFF\n4 2 0", [f"{row} 0 0 1" for row in SQUARE], FACES),
    "all of it": ("STCNOFF\n4 2 0", [f"{row} 0 0 1 9 9 9 255 0.5 0.5" for row in SQUARE], FACES),
    "small letters": ("off\n4 2 0", SQUARE, FACES),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_form_of_a_text_off_is_read(form: str, end: str, tmp_path: Path) -> None:
    head, vertices, faces = FORMS[form]
    path, text = tmp_path / "a.off", "\n".join([head, *vertices, *faces, ""])
    path.write_bytes(text.replace("\n", end).encode())
    found, triangles = read_off(path)
    assert found.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert triangles.tolist() == [[0, 1, 2], [0, 2, 3]]
    whole = "\n".join([head, *vertices, *faces])
    for cut in (whole[: whole.rindex("\n") + 4], whole[: whole.rindex("\n")], "\n".join([head, *vertices[:3]])):
        path.write_text(cut)
        with pytest.raises(Fault, match="is cut short"):
            read_off(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("OFF BINARY\n\0\0", "binary"), ("4OFF\n1 1 0\n", "more than three"), ("nOFF\n3\n1 1 0\n", "more than three")],
)
def test_what_is_not_read_is_said(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.off").write_text(text)
    with pytest.raises(Fault, match=reason):
        read_off(tmp_path / "a.off")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("solid cube\n", "does not begin with OFF"),
        ("OFF\n", "counts are missing"),
        ("OFF\n8 six 0\n", "is no OFF mesh"),
        ("OFF\n8 6 0\n" + CUBE[:60], "is cut short"),
        ("OFF\n8 6 0\n" + CUBE[:-6], "is cut short"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "has no faces"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "names vertex 7 of 3"),
        ("OFF\n3 1 0\n0 0 0\nnan 0 0\n0 1 0\n3 0 1 2\n", "counts are missing|no OFF mesh"),
        ("\x80\x81", "no text"),
    ],
)
def test_damaged_off_files(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.off"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Fault, match=reason):
        read_off(path)


def test_pictures_are_deterministic_and_front_differs_from_rear(tmp_path: Path) -> None:
    path = tmp_path / "x.off"
    write_off(path, *solid(2, 0), glued=True)
    shown = render(*read_off(path), range(12), 48)
    assert shown.shape == (12, 48, 48) and shown.dtype == np.uint8
    assert (render(*read_off(path), range(12), 48) == shown).all()
    assert (shown[:, 0] == 255).all() and (shown[:, :, 0] == 255).all()  # the object fits, the ground is white
    assert all(30 < one[one < 255].mean() < 230 for one in shown)
    front, rear = (shown[v].astype(int) for v in (0, 6))
    assert np.abs(front - rear).max() > 40  # the block in front is hidden from behind
    left, right = (shown[v].astype(int) for v in (3, 9))
    assert ((left < 255) == (right < 255)[:, ::-1]).mean() > 0.99  # outlines of opposite sides mirror each other


def test_neither_place_nor_size_nor_winding_of_a_mesh_matters() -> None:
    vertices, triangles = solid(0, 1)
    first = render(vertices, triangles, [1], 32).astype(int)
    moved = render(7 * vertices + 100, triangles[:, ::-1], [1], 32).astype(int)
    assert np.abs(first - moved).max() <= 1


def test_a_mesh_without_extent_is_refused() -> None:
    with pytest.raises(ValueError, match="no extent"):
        render(np.ones((3, 3)), np.array([[0, 1, 2]]), [0], 16)


def test_holding_out_an_exact_number() -> None:
    label = [0] * 626 + [1] * 106 + [2] * 64 + [3] * 9
    held = hold_out_exactly(label, 80, 5)
    counts = np.bincount(np.array(label)[held], minlength=4)
    assert held.sum() == 80 and np.abs(counts - np.array([626, 106, 64, 9]) * 80 / 805).max() <= 1
    assert (hold_out_exactly(label, 80, 5) == held).all() and (hold_out_exactly(label, 80, 6) != held).any()
