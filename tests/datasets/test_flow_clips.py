"""UCF101 and HMDB51: which frames of a clip are drawn, and how published frames are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlbench.frontends import flow_clips


def test_the_published_clip_is_drawn_as_the_released_loader_draws_it() -> None:
    """A re-statement of the loader: seed(999) before each draw."""
    for length in (11, 12, 57, 180, 1775):
        np.random.seed(999)
        offset = np.random.randint(0, length - 10)
        np.random.seed(999)
        shown = np.random.choice(10, 1, replace=False)
        kept, rgb = flow_clips.plan(length, 10, 1, released=True) or (range(0), [])
        assert (kept, rgb) == (range(offset, offset + 10), [offset + int(shown[0])])
        middle, _ = flow_clips.plan(length, 10, 1, released=False) or (range(0), [])
        assert middle.start == max(0, length // 2 - 5) and len(middle) == 10


def test_all_frames_on_request_and_too_short_clips() -> None:
    assert flow_clips.plan(9, 10, 1, True) is None
    assert flow_clips.plan(10, 10, 1, True) == (range(10), flow_clips.plan(10, 10, 1, True)[1])  # type: ignore[index]
    assert flow_clips.plan(57, 2000, 2000, True) == (range(57), list(range(57)))
    assert flow_clips.plan(9, 2000, 1, False) is None


def test_published_folders_are_found_in_any_case(tmp_path: Path) -> None:
    for top, name in (("jpegs_256", "v_HandStandPushups_g01_c01"), ("tvl1_flow/u", "v_HandstandPushups_g01_c01")):
        (tmp_path / top / name).mkdir(parents=True)
    for k in range(1, 13):
        (tmp_path / "tvl1_flow/u/v_HandstandPushups_g01_c01" / f"frame{k:06d}.jpg").touch()
    files = flow_clips.published(tmp_path, "v_HandStandPushups_g01_c01", (10, 1, False))
    assert files[0] == "tvl1_flow/u/v_HandstandPushups_g01_c01/frame000002.jpg"
    assert files[-1].startswith("jpegs_256/v_HandStandPushups_g01_c01/")
