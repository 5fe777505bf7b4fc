"""Runs in this process that are stopped and go on, and what two of them have to share byte for byte."""

from __future__ import annotations

from pathlib import Path

from mmlbench.api.making import ensure_cache
from mmlbench.registry.index import load_index
from mmlbench.study.run_spec import RunSpec
from mmlbench.testing.stops import make_in_pieces

CIRCUMSTANCES = ("provenance.json", "done-", "lease.json", ".lease.")


def determined(folder: Path) -> dict[str, bytes]:
    """Return the determined files of a run folder."""
    return {
        file.name: file.read_bytes() for file in sorted(folder.iterdir()) if not file.name.startswith(CIRCUMSTANCES)
    }


def differing(one: Path, other: Path) -> list[str]:
    """Return the names of determined files that two run folders do not share byte for byte."""
    a, b = determined(one), determined(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def make(spec: RunSpec, cache: Path, results: Path, every: int = 0, times: int = 999) -> int:
    """Make a run and what it reuses in this process, stopped after every so many steps; return the stops."""
    stops = sum(make(required, cache, results) for required in spec.requires.values())
    return stops + make_in_pieces(spec, cache, results, every, times)


def differing_after_stops(
    spec: RunSpec, cache: Path, folder: Path, every: int, times: int = 999, least: int = 2
) -> list[str]:
    """Make a run whole, and in pieces that stop after every so many steps; return the files that they don't share.

    Args:
        times: stops at the most. least: stops that there have to be.
    """
    ensure_cache(spec.config.dataset, {}, cache, load_index())
    make(spec, cache, folder / "whole")
    assert make(spec, cache, folder / "pieces", every=every, times=times) >= least
    return differing(folder / "whole" / spec.path, folder / "pieces" / spec.path)


def check_resumed(spec: RunSpec, cache: Path, folder: Path, every: int, times: int = 999, least: int = 2) -> None:
    """Make a run at once and in pieces, stopped after every so many steps; both leave the same files."""
    assert differing_after_stops(spec, cache, folder, every, times, least) == []
