"""Engines that give the same bits: the runs of one may stand beside the runs of the other.

An edit of the engine makes no run anew, but tables say that runs of several engines meet, and a row that is handed in
is not compared with a baseline of another one. Of an edit that moves no bit that says too much. Each such edit is
listed here, with what shows it; the engine of the shipped baselines is thereby known to be the one at hand.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SameBits:
    """Two engines that give the same bits.

    Attributes:
        engine: the fingerprint of the later one. before: that of the one it was made from. change: what the edit did.
        digests: of `make check-bits`, equal with both. runs: of the shipped baselines, equal to the bit with both on
            one kind of CPU, a run of each method at least.
        probes: runs beside these whose probe alone has other last digits, which no table prints; for an edit that
            rounds what the CPU did not. Digests beside the equal ones are of such probes.
    """

    engine: str
    before: str
    change: str
    digests: int
    runs: int
    probes: int = 0


SAME: tuple[SameBits, ...] = (
    SameBits(
        "beeacff31dedf147",
        "8936b1ef705efc55",
        "rows that memory can't hold are read past the page cache; square roots of Adam and of crops are portable",
        digests=680,
        runs=47,
    ),
    SameBits(
        "55fbeca04baeb05c",
        "beeacff31dedf147",
        "square roots of the probe's line search are rounded; threads that gather ahead moved",
        digests=679,
        runs=44,
        probes=3,
    ),
)


def bits_of(engine: str) -> str:
    """Return the earliest engine that gives the same bits as this one; of an engine that is not listed, itself."""
    earlier = {same.engine: same.before for same in SAME}
    while engine in earlier:
        engine = earlier[engine]
    return engine
