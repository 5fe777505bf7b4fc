"""The published folds over actors: who is tested and who validates in each of ten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mmlbench import DataError

#: Fold -> clips in its parts. Each fold holds all 7,442 clips.
COUNTS: tuple[Mapping[str, int], ...] = (
    {"train": 5885, "val": 737, "test": 820},
    {"train": 5972, "val": 738, "test": 732},
    {"train": 5966, "val": 738, "test": 738},
    {"train": 5966, "val": 738, "test": 738},
    {"train": 5973, "val": 738, "test": 731},
    {"train": 5972, "val": 738, "test": 732},
    {"train": 5972, "val": 732, "test": 738},
    {"train": 5972, "val": 732, "test": 738},
    {"train": 5967, "val": 738, "test": 737},
    {"train": 5966, "val": 738, "test": 738},
)
FIX = "Correct actor_folds.csv, or fetch it again"


def read_folds(rows: Iterable[Sequence[str]], actors: Iterable[str]) -> list[dict[str, str]]:
    """Return, for each fold, actor -> 'val' or 'test'; the actors that it does not name train.

    Args:
        rows: fold, part and actor. actors: of all clips; each must be tested in one fold.

    Raises:
        DataError: a row is malformed; an actor stands twice in a fold, or is not tested in just one.
    """
    folds: list[dict[str, str]] = [{} for _ in COUNTS]
    tested: dict[str, str] = {}
    for number, part, actor, *_ in rows:
        if not number.isdecimal() or int(number) >= len(folds) or part not in ("val", "test"):
            what = f"cremad: actor_folds.csv has the line {number},{part},{actor}"
            raise DataError(what, f"It takes a fold from 0 to {len(folds) - 1}, val or test, and an actor")
        if actor in folds[int(number)]:
            raise DataError(f"cremad: the actor {actor} stands twice in the fold {number}", FIX)
        folds[int(number)][actor] = part
        if part == "test" and tested.setdefault(actor, number) != number:
            raise DataError(f"cremad: the actor {actor} is tested in the folds {tested[actor]} and {number}", FIX)
    never = sorted(set(actors) - set(tested))
    if never:
        raise DataError(f"cremad: the actor {never[0]} is tested in no fold", FIX)
    return folds
