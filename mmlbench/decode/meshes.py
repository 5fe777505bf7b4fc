"""Meshes: OFF files, and their pictures from around the object; on the CPU, without a display."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import need
from .fault import Fault

#: Cameras around the upright (z) axis, and their height above its horizon.
VIEWS, ELEVATION = 12, 30.0
#: Vertical field of view in degrees; the object's ball fills it up to this share.
FIELD, FILL = 40.0, 0.95
#: Grey values: the ground, what faces away from the light, and what faces it.
GROUND, DARK, BRIGHT = 255.0, 40.0, 225.0
#: Rays per pixel and axis.
SAMPLES = 2
#: The first word of an OFF file: texture, colour, normal of each vertex; 4 or n: of more dimensions.
_WORD = re.compile(r"[STCN]*[4n]*(?i:OFF)")
_BINARY = "is a binary OFF mesh, which is not read: save it as text"


def read_off(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices float64 (n, 3) and triangles int64 (m, 3) of an OFF file; larger faces become fans.

    The counts may follow the word OFF on its line, without a blank even ('OFF490 518 0', as in a part of ModelNet40).
    Comments may be anywhere; colours of faces, and what COFF, NOFF and STOFF say of vertices behind their place, are
    passed over. The count of edges may be left out.

    Raises:
        Fault: no OFF file, cut short, no faces, or numbers that are none.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise Fault(path, f"can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise Fault(path, _BINARY if b"BINARY" in data[:80] else "is no text, so no OFF mesh") from error
    if "#" in text:
        text = re.sub(r"#[^\n]*", "", text)
    text = text.lstrip()
    word = _WORD.match(text)
    if word is None:
        raise Fault(path, "is no OFF mesh: it does not begin with OFF")
    if "4" in word[0] or "n" in word[0]:
        raise Fault(path, f"is an OFF mesh of more than three dimensions ({word[0]}), which has no picture")
    if text[word.end() :].lstrip().startswith("BINARY"):
        raise Fault(path, _BINARY)
    try:
        numbers = np.array(text[word.end() :].split(), dtype=np.float64)
    except ValueError as error:
        raise Fault(path, f"is no OFF mesh ({str(error)[:60]})") from error
    if len(numbers) < 2 or not np.isfinite(numbers).all() or (numbers[:2] % 1).any() or (numbers[:2] < 0).any():
        raise Fault(path, "is no OFF mesh: its counts are missing")
    points, faces = int(numbers[0]), int(numbers[1])
    plain = _plain(numbers, points, faces) if len(word[0]) == 3 else None
    vertices, triangles = plain or _by_lines(path, text[word.end() :], points, faces)
    if not len(triangles):
        raise Fault(path, "has no faces")
    if triangles.min() < 0 or triangles.max() >= points:
        wrong = int(triangles.max() if triangles.max() >= points else triangles.min())
        raise Fault(path, f"names vertex {wrong} of {points}")
    return vertices, triangles


def _plain(numbers: np.ndarray, points: int, faces: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Read the usual case at once: three counts, vertices of three numbers, faces of corners alone; else None."""
    start = 3 + 3 * points
    if len(numbers) < start:
        return None
    vertices, rest = numbers[3:start].reshape(-1, 3), numbers[start:]
    if len(rest) == 4 * faces and (rest[::4] == 3).all():
        return vertices, rest.reshape(faces, 4)[:, 1:].astype(np.int64)
    at = 0
    triangles: list[tuple[int, int, int]] = []
    for _ in range(faces):
        size = int(rest[at]) if at < len(rest) else -1
        if size < 1 or at + size >= len(rest):
            return None
        triangles += _fan(rest[at + 1 : at + 1 + size].tolist())
        at += 1 + size
    return (vertices, np.array(triangles, np.int64).reshape(-1, 3)) if at == len(rest) else None


def _fan(corners: Sequence[float]) -> list[tuple[int, int, int]]:
    return [(int(corners[0]), int(corners[k]), int(corners[k + 1])) for k in range(1, len(corners) - 1)]


def _by_lines(path: Path, text: str, points: int, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one vertex and one face a line, whatever else stands behind them on it."""
    rows = [cells for line in text.splitlines() if (cells := line.split())]
    rows.pop(0)  # the counts
    if len(rows) < points + faces:
        there = len(rows) if len(rows) < points else len(rows) - points
        what = f"{points} vertices" if len(rows) < points else f"{faces} faces"
        raise Fault(path, f"is cut short: {there} of {what} are there")
    short = next((k for k, cells in enumerate(rows[:points]) if len(cells) < 3), None)
    if short is not None:
        raise Fault(path, f"is cut short: vertex {short} has {len(rows[short])} of 3 coordinates")
    triangles: list[tuple[int, int, int]] = []
    for k, cells in enumerate(rows[points : points + faces]):
        size = int(float(cells[0]))
        if size < 1 or len(cells) <= size:
            raise Fault(path, f"is cut short: face {k} lacks corners")
        triangles += _fan([float(cell) for cell in cells[1 : 1 + size]])
    vertices = np.array([cells[:3] for cells in rows[:points]], np.float64).reshape(points, 3)
    return vertices, np.array(triangles, np.int64).reshape(-1, 3)


@functools.lru_cache(maxsize=4)
def _rays(view: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (place of the camera, unit directions (n, 3), direction to the light) for an object in the unit ball."""
    azimuth, up = np.deg2rad(360.0 * view / VIEWS), np.deg2rad(ELEVATION)
    toward = np.array([np.cos(up) * np.cos(azimuth), np.cos(up) * np.sin(azimuth), np.sin(up)])
    half = np.deg2rad(FIELD / 2)
    camera = toward * (1 / (FILL * np.sin(half)))
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    above = np.cross(toward, right)
    axis = (np.arange(size * SAMPLES) + 0.5) / (size * SAMPLES) * 2 - 1
    x, y = np.meshgrid(axis * np.tan(half), -axis * np.tan(half))
    rays = x[..., None] * right + y[..., None] * above - toward
    rays = rays.reshape(-1, 3)
    light = toward + 0.5 * above + 0.25 * right
    return camera, rays / np.linalg.norm(rays, axis=1, keepdims=True), light / np.linalg.norm(light)


def render(vertices: np.ndarray, triangles: np.ndarray, views: Sequence[int], size: int) -> np.ndarray:
    """Return grey pictures of a mesh, uint8 (views, size, size), shaded on a white ground.

    Twelve cameras stand around the z axis, 30 degrees apart and 30 degrees above the horizon, and look at the middle
    of the object's ball: the set-up of the published shaded images (Su et al., ICCV 2015), so that views 0 and 6 are
    front and rear. Each pixel is the mean of 2 x 2 rays; faces are lit from both sides, for their winding is not
    consistent. No randomness and no threads; another processor may differ in single grey values.

    Args:
        vertices: (n, 3), z up. triangles: (m, 3). views: 0 to 11. size: side in pixels.

    Raises:
        ValueError: the mesh has no extent.
    """
    corners = vertices[triangles]
    used = corners.reshape(-1, 3)
    low, high = used.min(axis=0), used.max(axis=0)
    middle = (low + high) / 2
    radius = float(np.sqrt(np.square(used - middle).sum(axis=1).max()))
    if not radius > 0:
        raise ValueError("the mesh has no extent")
    corners = ((corners - middle) / radius).astype(np.float32)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    need("embreex")
    scene = need("embreex.rtcore_scene").EmbreeScene()
    need("embreex.mesh_construction").TriangleMesh(scene, corners)
    pictures = np.empty((len(views), size, size), np.uint8)
    for k, view in enumerate(views):
        camera, rays, light = _rays(view % VIEWS, size)
        origins = np.tile(camera.astype(np.float32), (len(rays), 1))
        hit = scene.run(origins, rays.astype(np.float32))
        shade = np.full(len(rays), GROUND)
        seen = hit >= 0
        shade[seen] = DARK + (BRIGHT - DARK) * np.abs(normals[hit[seen]] @ light)
        blocks = shade.reshape(size, SAMPLES, size, SAMPLES).mean(axis=(1, 3))
        pictures[k] = np.rint(blocks).astype(np.uint8)
    return pictures
