"""Pictures: JPEG and PNG files to arrays, as a viewer shows them, and the one way in which they are made to fit."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from . import need
from .fault import Fault

_PNG = b"\x89PNG\r\n\x1a\n"


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """Return a picture as uint8, (h, w, 3) for 'RGB', (h, w) for 'L', as a viewer shows it.

    Turned as its EXIF orientation says; of 16 bits the upper 8; what is transparent shows white behind it; palettes,
    grey and CMYK as their colours.

    Raises:
        Fault: no picture, cut short, or damaged, be it that the decoder only warns of it.
    """
    image = need("PIL.Image")
    try:
        data = path.read_bytes()
        with image.open(io.BytesIO(data)) as opened:
            opened.load()
            shown = np.asarray(_shown(opened, mode))
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, image.DecompressionBombError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).split("\n", 1)[0].partition(": <")[0]
        if "truncated" in reason.lower():
            raise Fault(path, "is cut short") from error
        reason = "it is in no form that is known" if "cannot identify" in reason else reason[:80]
        raise Fault(path, f"can't be read as a picture ({reason})") from error
    why = _damage(data)
    if why:
        raise Fault(path, f"is damaged ({why})")
    return shown


def _shown(opened: Any, mode: str) -> Any:
    """Return an opened picture in a mode, turned, without transparency."""
    image = need("PIL.Image")
    opened = need("PIL.ImageOps").exif_transpose(opened)
    if opened.mode.startswith("I"):  # PIL would clip 16 bits to white; of colours it takes the upper 8 itself
        opened = image.fromarray((np.asarray(opened).clip(0, 65535) >> 8).astype(np.uint8))
    if opened.has_transparency_data:
        white = image.new("RGBA", opened.size, "white")
        opened = image.alpha_composite(white, opened.convert("RGBA"))
    return opened.convert(mode)


def _damage(data: bytes) -> str:
    """Return what a decoder passes over: what libjpeg warns of, wrong checksums of a PNG; '' if nothing."""
    if data.startswith(_PNG):
        return _png_damage(data)
    if data.startswith(b"\xff\xd8"):
        try:
            need("simplejpeg").decode_jpeg(data, "GRAY", strict=True)
        except ValueError as error:
            return str(error).split("\n", 1)[0][:80]
    return ""


def _png_damage(data: bytes) -> str:
    at, kind = len(_PNG), b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 8 + length
        needed = not kind[0] & 0x20  # other chunks are titles and the like
        if needed and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return f"the checksum of its part {kind.decode('ascii', 'replace')} at byte {at} is wrong"
        at = end + 4
    return "" if kind == b"IEND" else "its end is missing"


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """Return a picture (h, w, C) or (h, w) at size x size, its aspect ratio given up, as uint8 (C, size, size).

    PIL's antialiased bilinear resize, which torchvision's `Resize((size, size))` is on PIL pictures: what the test
    transforms of OGM-GE, PMR and DI-MML do.
    """
    return resized(picture, size, size)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture at a size, uint8 (C, height, width)."""
    image = need("PIL.Image")
    if picture.shape[:2] != (height, width):
        shown: Any = image.fromarray(picture)
        picture = np.asarray(shown.resize((width, height), image.Resampling.BILINEAR))
    return np.ascontiguousarray(picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1))
