"""Pictures as players and viewers show them: turned, mirrored, of 16 bits, of palettes, with transparency."""

from __future__ import annotations

from pathlib import Path

import av
import mini_av
import numpy as np
import pytest
from PIL import Image

from mmlbench.decode import video
from mmlbench.decode.image import read_image

ONE = 2**16
#: What a display matrix says -> (its a, b, c, d, what becomes of a picture).
TURNS = {
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "90 to the right": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "180": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "90 to the left": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "over its diagonal": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
}


def turned(path: Path, target: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write an MP4 anew with another matrix in its track's header."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (value * ONE for value in matrix)
    old = np.array([ONE, 0, 0, 0, ONE, 0, 0, 0, 2**30], ">i4").tobytes()
    at = data.find(old, data.find(b"tkhd"))
    data[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 2**30], ">i4").tobytes()
    target.write_bytes(data)


@pytest.mark.parametrize("turn", TURNS)
def test_a_video_is_shown_as_its_display_matrix_says(turn, tmp_path):
    mini_av.write_video(tmp_path / "a.mp4", 1, 0.4, mini_av.MP4, (64, 48), 25)
    matrix, change = TURNS[turn]
    turned(tmp_path / "a.mp4", tmp_path / "b.mp4", matrix)
    stored, shown = video.every(tmp_path / "a.mp4"), video.every(tmp_path / "b.mp4")
    assert all(np.array_equal(change(one), other) for one, other in zip(stored, shown, strict=True))
    with av.open(str(tmp_path / "b.mp4")) as container:
        frame = next(container.decode(video=0))
        assert turn not in ("90 to the right", "90 to the left") or abs(frame.rotation) == 90


def quarters(size: int = 32) -> np.ndarray:
    """Return a picture of four grey quarters."""
    return np.kron(np.array([[10, 90], [170, 250]], np.uint8), np.ones((size, size + 8), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_exif_turns_a_picture(orientation, kind, tmp_path):
    shown, exif = quarters(), Image.Exif()
    exif[0x0112] = orientation
    back = [None, None, lambda p: p[:, ::-1], lambda p: p[::-1, ::-1], lambda p: p[::-1], lambda p: p.T,
            lambda p: np.rot90(p, 1), lambda p: p[::-1, ::-1].T, lambda p: np.rot90(p, -1)][orientation]  # fmt: skip
    stored = shown if back is None else np.ascontiguousarray(back(shown))
    Image.fromarray(stored).save(tmp_path / f"a.{kind}", exif=exif)
    found = read_image(tmp_path / f"a.{kind}", "L")
    assert found.shape == shown.shape and np.abs(found.astype(int) - shown).max() <= 2


def test_sixteen_bits_are_not_white(tmp_path):
    deep = (np.arange(64 * 48).reshape(48, 64) * 21).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode.startswith("I")
    found = read_image(tmp_path / "a.png")
    assert found.shape == (48, 64, 3) and np.array_equal(found[..., 0], deep >> 8)
    assert np.array_equal(read_image(tmp_path / "a.png", "L"), deep >> 8)


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "1", "CMYK"])
def test_other_forms_show_their_colours(mode, tmp_path):
    plain = np.stack([quarters(), quarters()[::-1], quarters()[:, ::-1]], -1)
    ending = "jpg" if mode == "CMYK" else "png"
    one = Image.fromarray(plain).convert(mode)
    one.save(tmp_path / f"a.{ending}", **({"quality": 95} if ending == "jpg" else {}))
    wanted = np.asarray(one.convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / f"a.{ending}") - wanted).max() <= (6 if ending == "jpg" else 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_white(mode, tmp_path):
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:, :4] = (40, 40, 40, 255)
    one = Image.fromarray(clear)
    if mode == "P":
        one = Image.fromarray(clear[..., 3] // 255).convert("P")
        one.putpalette([0, 0, 0, 40, 40, 40])
        one.info["transparency"] = 0
        one.save(tmp_path / "a.png", transparency=0)
    else:
        one.convert(mode).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert (found[:, :4] == 40).all() and (found[:, 4:] == 255).all()
