"""Checks of a prepared cache: rows, bytes and pictures that two parts share, blank rows, frames to pick from."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..dataset import PARTS
from ..modalities.vector import ENOUGH
from ..modality import ModalityType
from ..prepare.cache import Cache, Part
from ..prepare.list_counts import pairs
from ..storage.words import plural
from .findings import Finding, some

#: Correlation of two thumbnails above which the full views are compared, and that of the views that counts.
LIKELY, NEAR = 0.97, 0.985
#: A view whose values have no more than this standard deviation, in steps of the stored type's range, is blank.
FLAT = 1e-6
#: Views of a row that near-identical ones are looked for in: the first, the middle and the last of its own.
LOOKED_AT = 3
#: Frames per sample that the recipes ask for.
WANTED = (1, 2, 3, 4)
BLOCK = 128


@dataclass(frozen=True)
class Stored:
    """What is stored of a modality, and how two views of it are compared.

    Padding takes no part in it. Channels that are standardised each by itself are so before likeness is measured:
    where each has a unit of its own, any two raw views correlate.

    Attributes:
        array: (rows, views, *shape). kind: its type.
        valid: how many views of each row are its own, where rows differ.
        lengths: how many steps of each view are its own, (rows, views), of types with lengths.
        gain, bias: of each channel, where its type has them; a view * gain + bias is standardised.
    """

    array: np.ndarray
    kind: ModalityType
    valid: np.ndarray | None = None
    lengths: np.ndarray | None = None
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None

    @classmethod
    def of(cls, cache: Cache, split: str, modality: str) -> Stored:
        """Return a modality of a cache, standardised as a split has it."""
        gain, bias = cache.affine(split, modality)
        channels = [one if isinstance(one, np.ndarray) else None for one in (gain, bias)]
        kind = cache.modality(modality).type
        return cls(cache.array(modality), kind, cache.valid(modality), cache.lengths(modality), *channels)

    def own(self, row: int) -> list[np.ndarray]:
        """Return a row's own views, each without its padding."""
        views = np.ascontiguousarray(self.array[row, : None if self.valid is None else int(self.valid[row])])
        if self.lengths is None:
            return list(views)
        return [view[:length] for view, length in zip(views, self.lengths[row].tolist(), strict=False)]

    def compared(self, row: int, view: int) -> np.ndarray:
        """Return a view as its likeness to others is measured, (*shape).

        Steps beyond its length are as its mean. So are all of one whose real steps hold fewer than `ENOUGH` numbers:
        it is like no other.
        """
        found = np.asarray(self.array[row, view])
        if self.gain is not None and self.bias is not None:
            found = found * self.gain + self.bias
        if self.lengths is None:
            return found
        real, centred = found[: self.lengths[row, view]], np.zeros(found.shape)
        if real.size >= ENOUGH:
            centred[: len(real)] = real - real.mean()
        return centred


@dataclass
class Views:
    """The own views of the rows that a split uses, one modality, boiled down.

    Attributes:
        thumb: (k, d) float32, centred and of unit length, of `LOOKED_AT` views a row; zero where a view is blank.
        row, view: which view each thumbnail is of, (k,).
        bytes: row -> digests of its views that are not blank. blank: the rows that hold a blank view; of optical
            flow, which is blank where nothing moves, those that hold no other.
    """

    thumb: np.ndarray
    row: np.ndarray
    view: np.ndarray
    bytes: dict[int, set[bytes]]
    blank: set[int]

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of the thumbnails of some rows."""
        return np.flatnonzero(np.isin(self.row, rows))


def unit(values: np.ndarray) -> np.ndarray:
    """Return rows centred and of unit length, so that a product of two is their correlation; flat rows are zero."""
    values = values.astype(np.float32)
    values = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > FLAT * values.shape[1] ** 0.5)


def downsample(stored: Stored, rows: np.ndarray) -> Views:
    """Read the views of some rows."""
    thumbs, places, digests, blank = [], [], {}, set()
    kind, waiting = stored.kind, []
    for row in rows.tolist():
        own = stored.own(row)
        empty = np.concatenate([kind.blank(view[None]) for view in own])
        digests[row] = {hashlib.sha256(own[k].tobytes()).digest() for k in np.flatnonzero(~empty)}
        if empty.all() if kind.may_be_still else empty.any():
            blank.add(row)
        shown = sorted({(len(own) - 1) * k // (LOOKED_AT - 1) for k in range(LOOKED_AT)})
        waiting += [stored.compared(row, view) for view in shown]
        places += [(row, view) for view in shown]
        if len(waiting) >= BLOCK or row == rows[-1]:
            thumbs.append(unit(kind.outline(np.stack(waiting))))
            waiting.clear()
    table = np.array(places, dtype=np.int64)
    return Views(np.concatenate(thumbs), table[:, 0], table[:, 1], digests, blank)


def audit_content(cache: Cache, split: str) -> list[Finding]:
    """Return what the arrays of a cache show of one split: the views of every row, part against part."""
    found: list[Finding] = []
    parts = {name: part for name in PARTS if len(part := cache.part(split, name))}
    for facts in cache.manifest["modalities"]:
        modality = facts["name"]
        stored = Stored.of(cache, split, modality)
        used = {name: np.unique(part.rows[modality]) for name, part in parts.items()}
        rows = np.unique(np.concatenate(list(used.values())))
        views = downsample(stored, rows)
        near = stored.kind.near(cache.modality(modality))
        names = {
            name: {int(r): str(i) for r, i in zip(part.rows[modality], part.ids, strict=True)}
            for name, part in parts.items()
        }
        found += _shared_within(modality, parts["test"]) if "test" in parts else []
        for name, rows in used.items():
            found += _blank(modality, name, rows, views, names[name])
            found += _within(modality, name, parts[name], views, stored, near)
        for a, b in pairs(used):
            found += _shared(modality, a, b, used, names)
            found += _same_bytes(modality, a, b, used, views, names)
            found += _near(modality, a, b, used, views, names, stored) if near else []
    return [*found, *audit_frames(cache, split)]


Used = dict[str, np.ndarray]
Names = dict[str, dict[int, str]]


def _blank(modality: str, part: str, rows: np.ndarray, views: Views, names: dict[int, str]) -> Iterator[Finding]:
    empty = [names[int(row)] for row in rows if int(row) in views.blank]
    if empty:
        message = (
            f"{plural(len(empty), 'row')} of {modality} in {part} hold one value only (silent or black) in a view"
        )
        yield Finding("blank", part, modality, len(empty), len(rows), "fault", message, some(empty))


def _shared(modality: str, a: str, b: str, used: Used, names: Names) -> Iterator[Finding]:
    both = np.intersect1d(used[a], used[b])
    examples = [names[b][int(row)] for row in both]
    message = f"{plural(len(both), 'row')} of {modality} in both {a} and {b}" if len(both) else ""
    message = message or f"no row of {modality} in both {a} and {b}"
    level = "leak" if len(both) else "ok"
    yield Finding("rows", f"{a}+{b}", modality, len(both), len(used[b]), level, message, some(examples))


def _same_bytes(modality: str, a: str, b: str, used: Used, views: Views, names: Names) -> Iterator[Finding]:
    """Different rows that have a view of equal content; blank ones are told apart already."""
    known: dict[bytes, int] = {}
    for row in used[a].tolist():
        for content in sorted(views.bytes[row]):
            known.setdefault(content, row)
    own = set(used[a].tolist())
    twins = {row: min(known[content] for content in same)
             for row in used[b].tolist() if row not in own and (same := views.bytes[row] & known.keys())}  # fmt: skip
    examples = [f"{names[a][twin]}={names[b][row]}" for row, twin in twins.items()]
    message = f"{plural(len(twins), 'row')} of {modality} in {b} byte for byte as one in {a}"
    message = message if twins else f"no row of {modality} in {b} byte for byte as one in {a}"
    level = "leak" if twins else "ok"
    yield Finding("bytes", f"{a}+{b}", modality, len(twins), len(used[b]), level, message, some(examples))


def _near(modality: str, a: str, b: str, used: Used, views: Views, names: Names, stored: Stored) -> Iterator[Finding]:
    """Rows of the later part with a view that correlates with one of the earlier part as a re-encoded copy would."""
    later = views.of(np.setdiff1d(used[b], used[a]))
    earlier = views.of(used[a])
    found: dict[int, int] = {}
    thumbs = views.thumb[earlier]
    for start in range(0, len(later), BLOCK):
        block = later[start : start + BLOCK]
        likely = views.thumb[block] @ thumbs.T
        for k, place in enumerate(block.tolist()):
            row = int(views.row[place])
            if row in found:
                continue
            candidates = np.flatnonzero(likely[k] >= LIKELY)
            candidates = candidates[np.argsort(-likely[k, candidates], kind="stable")][:4]
            twin = _nearest(stored, place, earlier[candidates], views)
            if twin is not None:
                found[row] = twin
    examples = [f"{names[a][twin]}~{names[b][row]}" for row, twin in found.items()]
    message = f"{plural(len(found), 'row')} of {modality} in {b} nearly the same as one in {a}"
    message = message if found else f"no row of {modality} in {b} nearly the same as one in {a}"
    message += f" (correlation {NEAR} or more)"
    level = "leak" if found else "ok"
    yield Finding("near", f"{a}+{b}", modality, len(found), len(used[b]), level, message, some(examples))


def twins_within(
    rows: np.ndarray, views: Views, stored: Stored, near: bool = True
) -> dict[str, list[tuple[int, int]]]:
    """Return pairs (earlier row, later row) among some rows of a modality, by what they share.

    'bytes': a view byte for byte; 'near': a view that correlates as a re-encoded copy would. Each row has its first
    twin of equal bytes and its likeliest near ones, so that groups of twins hang together; not every pair.
    """
    known: dict[bytes, int] = {}
    found: dict[str, list[tuple[int, int]]] = {"bytes": [], "near": []}
    for row in rows.tolist():
        own = views.bytes[row]
        found["bytes"] += [(twin, row) for twin in sorted({known[content] for content in own if content in known})]
        known |= {content: row for content in own if content not in known}
    if not near:
        return found
    places = views.of(rows)
    thumbs, of = views.thumb[places], views.row[places]
    pairs_near: dict[tuple[int, int], None] = {}
    for start in range(0, len(places), BLOCK):
        likely = thumbs[start : start + BLOCK] @ thumbs[: start + BLOCK].T
        for k, place in enumerate(places[start : start + BLOCK].tolist()):
            row = int(views.row[place])
            candidates = np.flatnonzero((likely[k] >= LIKELY) & (of[: likely.shape[1]] < row))
            candidates = candidates[np.argsort(-likely[k, candidates], kind="stable")][:4]
            for candidate in candidates.tolist():
                twin = _nearest(stored, place, places[[candidate]], views)
                if twin is not None:
                    pairs_near[twin, row] = None
    found["near"] = list(pairs_near)
    return found


def _shared_within(modality: str, facts: Part) -> Iterator[Finding]:
    """Test samples of one stored row that are not of one declared group; in training a row may serve many samples."""
    first: dict[int, int] = {}
    shared: list[str] = []
    for k, row in enumerate(facts.rows[modality].tolist()):
        twin = first.setdefault(row, k)
        if twin != k and (not facts.groups[k] or facts.groups[k] != facts.groups[twin]):
            shared.append(f"{facts.ids[twin]}={facts.ids[k]}")
    message = f"no two samples of test with one row of {modality}"
    if shared:
        message = f"{plural(len(shared), 'sample')} of test with a row of {modality} that another there has too, "
        message += "which the intervals take as independent"
    yield Finding(
        "rows", "test", modality, len(shared), len(facts), "fault" if shared else "ok", message, some(shared)
    )


def _within(modality: str, part: str, facts: Part, views: Views, stored: Stored, near: bool) -> Iterator[Finding]:
    """Rows of one part that are alike and not of one declared group: intervals take test samples as independent."""
    rows = np.unique(facts.rows[modality])
    ids = {int(r): str(i) for r, i in zip(facts.rows[modality], facts.ids, strict=True)}
    groups = {int(r): str(g) for r, g in zip(facts.rows[modality], facts.groups, strict=True)}
    words = {"bytes": ("byte for byte as", "="), "near": ("nearly the same as", "~")}
    for check, twins in twins_within(rows, views, stored, near).items():
        if check == "near" and not near:
            continue
        apart = [(a, b) for a, b in twins if not groups[a] or groups[a] != groups[b]]
        count, (alike, sign) = len({b for _, b in apart}), words[check]
        if not apart:
            message = f"no row of {modality} in {part} {alike} another there"
        else:
            message = f"{plural(count, 'row')} of {modality} in {part} {alike} another there"
            message += ", which the intervals take as independent" if part == "test" else ""
        level = "ok" if not apart else "fault" if part == "test" else "note"
        examples = some(f"{ids[a]}{sign}{ids[b]}" for a, b in apart)
        yield Finding(check, part, modality, count, len(rows), level, message, examples)


def groups_of(cache: Cache, split: str) -> dict[str, str]:
    """Return id -> group of a split's test samples: those that share a row, or a view alike, and declared groups.

    Whatever hangs together is one group, named by its declared groups where it has any, else by its first id. A
    sample that is like no other is a group of its own.
    """
    part = cache.part(split, "test")
    ids = [str(name) for name in part.ids]
    parent = list(range(len(ids)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    def join(members: list[int]) -> None:
        for other in members[1:]:
            first, second = sorted((root(members[0]), root(other)))
            parent[second] = first

    declared: dict[str, list[int]] = defaultdict(list)
    for k, group in enumerate(part.groups.tolist()):
        declared[str(group)].append(k)
    for group, members in declared.items():
        if group:
            join(members)
    for facts in cache.manifest["modalities"]:
        modality, of_row = facts["name"], defaultdict(list)
        for k, row in enumerate(part.rows[modality].tolist()):
            of_row[row].append(k)
        for members in of_row.values():
            join(members)
        rows, stored = np.unique(part.rows[modality]), Stored.of(cache, split, modality)
        views, near = downsample(stored, rows), stored.kind.near(cache.modality(modality))
        for a, b in (pair for twins in twins_within(rows, views, stored, near).values() for pair in twins):
            join([of_row[a][0], of_row[b][0]])
    names: dict[int, dict[str, None]] = defaultdict(dict)
    for k, group in enumerate(part.groups.tolist()):
        names[root(k)] |= {str(group): None} if group else {}
    return {name: "+".join(names[root(k)]) or ids[root(k)] for k, name in enumerate(ids)}


def _nearest(stored: Stored, place: int, candidates: np.ndarray, views: Views) -> int | None:
    """Return the row of the candidate whose whole view correlates with a view, or None.

    Rows that share a view byte for byte do not count.
    """
    if not len(candidates):
        return None
    row = int(views.row[place])
    own = unit(stored.compared(row, int(views.view[place])).reshape(1, -1))
    for other in candidates.tolist():
        twin = int(views.row[other])
        if views.bytes[twin] & views.bytes[row]:
            continue
        if float((unit(stored.compared(twin, int(views.view[other])).reshape(1, -1)) @ own.T)[0, 0]) >= NEAR:
            return twin
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
        message = (
            f"{modality} in {part}, {plural(wanted, 'frame')} asked for: {longer:,} clips have more, so every picker "
            f"takes others; {same:,} have exactly these; {len(short):,} have fewer"
        )
        yield Finding(
            "frames", part, f"{modality} x {wanted}", len(frames) - same, len(frames), "note", message, some(short)
        )
