"""Checks of a prepared cache: rows, bytes and pictures that two parts share, blank rows, frames to pick from."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..cache import Cache
from ..dataset import PARTS
from .findings import Finding, some
from .lists import pairs, plural

#: Side of the thumbnail (length of the outline, for signals) that near-identical rows are first looked for with.
THUMB, OUTLINE = 12, 96
#: Correlation of two thumbnails above which the full views are compared, and that of the views that counts.
LIKELY, NEAR = 0.97, 0.985
#: A view whose values have no more than this standard deviation, in steps of the stored type's range, is blank.
FLAT = 1e-6
#: Frames per sample that the recipes ask for.
WANTED = (1, 2, 3, 4)
BLOCK = 128


@dataclass
class Views:
    """View 0 of the rows that a split uses, one modality, boiled down.

    Attributes:
        thumb: (n, d) float32, centred and of unit length; zero where the view is blank.
        bytes: digest of each row's view 0. blank: bool (n,). place: row -> position.
    """

    thumb: np.ndarray
    bytes: list[bytes]
    blank: np.ndarray
    place: dict[int, int]


def _thumb(views: np.ndarray) -> np.ndarray:
    """Return views (n, C, H, W) or (n, C, L) as block means (n, d), centred, of unit length."""
    values = views.astype(np.float32)
    for axis, size in ((-1, THUMB), (-2, THUMB)) if values.ndim == 4 else ((-1, OUTLINE),):
        length = values.shape[axis]
        cuts = np.unique(np.linspace(0, length, min(size, length) + 1).astype(int))
        values = np.add.reduceat(values, cuts[:-1], axis=axis)
        width = np.diff(cuts).astype(np.float32)
        values /= width if axis == -1 else width[:, None]
    return unit(values.reshape(len(values), -1))


def unit(values: np.ndarray) -> np.ndarray:
    """Return rows centred and of unit length, so that a product of two is their correlation; flat rows are zero."""
    values = values.astype(np.float32)
    values = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > FLAT * values.shape[1] ** 0.5)


def boil_down(stored: np.ndarray, rows: np.ndarray) -> Views:
    """Read view 0 of some rows of a map (rows, views, *shape)."""
    thumbs, digests, blank = [], [], []
    for start in range(0, len(rows), BLOCK):
        views = np.ascontiguousarray(stored[rows[start : start + BLOCK], 0])
        digests += [hashlib.sha256(view.tobytes()).digest() for view in views]
        flat = views.reshape(len(views), -1)
        blank.append(flat.max(axis=1) == flat.min(axis=1))
        thumbs.append(_thumb(views))
    place = {int(row): k for k, row in enumerate(rows)}
    return Views(np.concatenate(thumbs), digests, np.concatenate(blank), place)


def audit_content(cache: Cache, split: str) -> list[Finding]:
    """Return what the arrays of a cache show of one split: view 0 of every row, part against part."""
    found: list[Finding] = []
    parts = {name: part for name in PARTS if len(part := cache.part(split, name))}
    for modality in cache.modalities:
        stored = cache.array(modality)
        used = {name: np.unique(part.rows[modality]) for name, part in parts.items()}
        views = boil_down(stored, np.unique(np.concatenate(list(used.values()))))
        names = {
            name: {int(r): str(i) for r, i in zip(part.rows[modality], part.ids, strict=True)}
            for name, part in parts.items()
        }
        for name, rows in used.items():
            found += _blank(modality, name, rows, views, names[name])
        for a, b in pairs(used):
            found += _shared(modality, a, b, used, names)
            found += _same_bytes(modality, a, b, used, views, names)
            found += _near(modality, a, b, used, views, names, stored)
    return [*found, *audit_frames(cache, split)]


Used = dict[str, np.ndarray]
Names = dict[str, dict[int, str]]


def _blank(modality: str, part: str, rows: np.ndarray, views: Views, names: dict[int, str]) -> Iterator[Finding]:
    empty = [names[int(row)] for row in rows if views.blank[views.place[int(row)]]]
    if empty:
        said = f"{plural(len(empty), 'row')} of {modality} in {part} hold one value only (silent or black)"
        yield Finding("blank", part, modality, len(empty), len(rows), "fault", said, some(empty))


def _shared(modality: str, a: str, b: str, used: Used, names: Names) -> Iterator[Finding]:
    both = np.intersect1d(used[a], used[b])
    examples = [names[b][int(row)] for row in both]
    said = f"{plural(len(both), 'row')} of {modality} in both {a} and {b}" if len(both) else ""
    said = said or f"no row of {modality} in both {a} and {b}"
    level = "leak" if len(both) else "ok"
    yield Finding("rows", f"{a}+{b}", modality, len(both), len(used[b]), level, said, some(examples))


def _same_bytes(modality: str, a: str, b: str, used: Used, views: Views, names: Names) -> Iterator[Finding]:
    """Different rows of equal content; blank ones are told apart already."""
    known: dict[bytes, int] = {}
    for row in used[a].tolist():
        known.setdefault(views.bytes[views.place[row]], row)
    own = set(used[a].tolist())
    twins = [
        row
        for row in used[b].tolist()
        if row not in own and not views.blank[views.place[row]] and views.bytes[views.place[row]] in known
    ]
    examples = [f"{names[a][known[views.bytes[views.place[row]]]]}={names[b][row]}" for row in twins]
    said = f"{plural(len(twins), 'row')} of {modality} in {b} byte for byte as one in {a}"
    said = said if twins else f"no row of {modality} in {b} byte for byte as one in {a}"
    level = "leak" if twins else "ok"
    yield Finding("bytes", f"{a}+{b}", modality, len(twins), len(used[b]), level, said, some(examples))


def _near(
    modality: str, a: str, b: str, used: Used, views: Views, names: Names, stored: np.ndarray
) -> Iterator[Finding]:
    """Rows of the later part that correlate with one of the earlier part as a re-encoded copy would."""
    own = set(used[a].tolist())
    later = [row for row in used[b].tolist() if row not in own]
    found: dict[int, int] = {}
    thumbs = views.thumb[[views.place[row] for row in used[a].tolist()]]
    for start in range(0, len(later), BLOCK):
        block = later[start : start + BLOCK]
        likely = views.thumb[[views.place[row] for row in block]] @ thumbs.T
        for k, row in enumerate(block):
            candidates = np.flatnonzero(likely[k] >= LIKELY)
            candidates = candidates[np.argsort(-likely[k, candidates], kind="stable")][:4]
            twin = _nearest(stored, row, used[a][candidates], views)
            if twin is not None:
                found[row] = twin
    examples = [f"{names[a][twin]}~{names[b][row]}" for row, twin in found.items()]
    said = f"{plural(len(found), 'row')} of {modality} in {b} nearly the same as one in {a}"
    said = said if found else f"no row of {modality} in {b} nearly the same as one in {a}"
    said += f" (correlation {NEAR} or more)"
    level = "leak" if found else "ok"
    yield Finding("near", f"{a}+{b}", modality, len(found), len(used[b]), level, said, some(examples))


def _nearest(stored: np.ndarray, row: int, candidates: np.ndarray, views: Views) -> int | None:
    """Return the candidate whose whole view correlates with that of a row, or None; equal bytes do not count."""
    if not len(candidates):
        return None
    own = unit(np.asarray(stored[row, 0]).reshape(1, -1))
    for other in candidates.tolist():
        if views.bytes[views.place[other]] == views.bytes[views.place[row]]:
            continue
        if float((unit(np.asarray(stored[other, 0]).reshape(1, -1)) @ own.T)[0, 0]) >= NEAR:
            return int(other)
    return None


def audit_frames(cache: Cache, split: str) -> list[Finding]:
    """Return which clips the frame pickers would treat differently, where frames were decoded from raw files.

    Of a clip with exactly as many frames as are asked for, `first`, `uniform`, `seed999` and `random` give the
    same; of a longer one each gives others; of a shorter one codes raise, repeat or top up at random.
    """
    found: list[Finding] = []
    if not cache.manifest.get("raw"):
        return found
    for modality in cache.manifest["modalities"]:
        name, views = modality["name"], modality["views"]
        if views == 1:
            continue
        own = cache.valid(name)
        for part_name in PARTS:
            part = cache.part(split, part_name)
            if len(part):
                counts = np.full(len(part), views) if own is None else own[part.rows[name]]
                frames = dict(zip(part.ids.tolist(), counts.tolist(), strict=True))
                found += frame_findings(part_name, name, frames, views)
    return found


def frame_findings(part: str, modality: str, frames: dict[str, int], most: int) -> Iterator[Finding]:
    """Yield one finding per number of frames asked for; `frames` is id -> frames that the clip has, up to `most`."""
    lengths = Counter(frames.values())
    by_length: dict[int, list[str]] = defaultdict(list)
    for name, count in frames.items():
        by_length[count].append(name)
    for wanted in (count for count in WANTED if count <= most):
        short = [name for count in lengths if count < wanted for name in by_length[count]]
        longer = sum(times for count, times in lengths.items() if count > wanted)
        same = len(frames) - len(short) - longer
        said = (
            f"{modality} in {part}, {plural(wanted, 'frame')} asked for: {longer:,} clips have more, so every picker "
            f"takes others; {same:,} have exactly these; {len(short):,} have fewer"
        )
        yield Finding(
            "frames", part, f"{modality} x {wanted}", len(frames) - same, len(frames), "note", said, some(short)
        )
