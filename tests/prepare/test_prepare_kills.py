"""`mmlbench prepare` killed by SIGKILL at random moments, as often as it takes: the same bytes as without."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import mini_av
import mini_views
import numpy as np
import pytest
from interrupted import content, no_workers_left, run

from mmlbench.storage.hashing import digest

log = logging.getLogger("mmlbench.tests")


def ave_zip(folder: Path) -> tuple[Path, Path]:
    """Return AVE's zip, which is unpacked first, and its lists."""
    return mini_av.ave(folder, 6, zipped=True), folder / "AVE_Dataset"


#: Dataset -> (raw files and lists, parameters, kills for each number of workers).
MINIS: dict[str, tuple[Callable[[Path], tuple[Path, Path]], tuple[str, ...], int]] = {
    "cremad": (lambda folder: mini_av.cremad(folder, 6), ("size=24",), 30),
    "ave": (ave_zip, ("size=24",), 6),
    "kinetics_sounds": (mini_av.kinetics_sounds, ("size=24",), 6),
    "vggsound": (mini_av.vggsound, ("size=24",), 6),
    "ucf101": (mini_views.ucf_videos, ("size=16", "frames=3", "rgb_frames=2"), 6),
    "hmdb51": (mini_views.hmdb_videos, ("size=16", "frames=3", "rgb_frames=2"), 6),
    "modelnet40": (mini_views.modelnet_zip, ("size=112", "around=2"), 6),
}


def state(root: Path) -> dict[str, int]:
    """Return what lies below a folder, with the sizes."""
    found = {}
    for place, _, names in os.walk(root):
        for name in names:
            try:
                found[f"{place}/{name}"] = (Path(place) / name).stat().st_size
            except FileNotFoundError:
                continue
    return found


def killed(process: subprocess.Popen, root: Path, after: float) -> bool:
    """Kill a command so many seconds after it wrote something first; tell whether that hit it alive."""
    before = state(root)
    while process.poll() is None and state(root) == before:
        time.sleep(0.005)
    time.sleep(after)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert no_workers_left(process)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", MINIS)
def test_kills_at_random_moments_change_no_byte(name, workers, tmp_path):
    build, params, wanted = MINIS[name]
    raw, lists = build(tmp_path / "mini")
    words = ["prepare", name, "--raw", str(raw), "--lists", str(lists), "--workers", str(workers)]
    words += [word for pair in params for word in ("--dataset-set", pair)]

    def whole(root: Path) -> str:
        assert [path for path in root.iterdir() if path.name.startswith(".") and "lease" not in path.name] == []
        (manifest,) = root.glob(f"{name}-*/manifest.json")
        return digest(content(manifest.parent))

    process = run([*words, "--cache", str(tmp_path / "whole")])
    while not list((tmp_path / "whole").rglob("*")):
        time.sleep(0.005)
    began = time.monotonic()
    assert process.wait() == 0
    span, expected = time.monotonic() - began, whole(tmp_path / "whole")
    rng, kills, through, root = np.random.default_rng([8, workers]), 0, 0, tmp_path / "try-0"
    while kills < wanted:
        if killed(run([*words, "--cache", str(root)]), root, float(rng.uniform(0, span))):
            kills += 1
        else:  # it came through: the next ones from the start
            assert whole(root) == expected
            through += 1
            root = tmp_path / f"try-{through}"
    assert run([*words, "--cache", str(root)]).wait() == 0 and whole(root) == expected
    log.info("%s, %d workers: %d kills of a living process, then %s", name, workers, kills, expected)
