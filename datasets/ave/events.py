"""AVE's lists: which seconds of which video are which event, and the part of them without their faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mmlbench.errors import DataError, nearest


class Event(NamedTuple):
    """A line of a list: which seconds of which video are what."""

    part: str
    label: int
    video: str
    first: int
    last: int

    @property
    def item(self) -> str:
        """Name of the stretch of video."""
        return f"{self.video}@{self.first}-{self.last}"


def read_events(rows: dict[str, list[list[str]]], classes: Sequence[str]) -> list[Event]:
    """Return the lines of the three lists (category&id&quality&start&end), in their order.

    Raises:
        DataError: an unknown category, seconds that are none.
    """
    found = []
    for name, lines in rows.items():
        for cells in lines:
            if cells[0] not in classes:
                raise DataError(f"ave: {name} names the category {cells[0]!r}", nearest(cells[0], classes))
            if not cells[3].isdecimal() or not cells[4].isdecimal() or int(cells[3]) >= int(cells[4]):
                what = f"ave: {name} gives {cells[1]} the seconds {cells[3]!r} to {cells[4]!r}"
                raise DataError(what, "Fetch the list again")
            seconds = int(cells[3]), int(cells[4])
            found.append(Event(name.removesuffix("Set.txt"), classes.index(cells[0]), cells[1], *seconds))
    return found


def clean(found: list[Event]) -> list[Event]:
    """Return the events without videos of two labels in a part, or of a later part; of equal lines one stays."""
    labels: dict[tuple[str, str], set[int]] = {}
    for event in found:
        labels.setdefault((event.part, event.video), set()).add(event.label)
    of = {part: {e.video for e in found if e.part == part} for part in ("train", "val", "test")}
    taken = {"train": of["val"] | of["test"], "val": of["test"], "test": set()}
    kept = [e for e in found if len(labels[e.part, e.video]) == 1 and e.video not in taken[e.part]]
    first = {(e.part, e.video): e for e in reversed(kept)}
    return [event for event in kept if first[event.part, event.video] is event]
