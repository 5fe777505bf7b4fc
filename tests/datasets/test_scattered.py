"""Kinetics-Sounds as people have it since its videos left the web: folders of frames and WAV files."""

from __future__ import annotations

import shutil
from pathlib import Path

import mini_av
import numpy as np
import pytest
from bad_input import refused

from mmlbench.api.making import ensure_cache
from mmlbench.dataset import Options
from mmlbench.frontends.clips import frame_files
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index

#: Where a clip's frames and WAV lie below the raw folder: by OGM-GE's scripts for this dataset, for AVE; as CREMA-D.
LAYOUTS = {
    "together": ("train/{name}", "train/{name}/{name}.wav"),
    "apart": ("visual/{name}", "audio/{name}.wav"),
    "as cremad": ("Image-01-FPS/{name}", "AudioWAV/{name}.wav"),
}


def extracted(folder: Path, layout: str, clips: int = 8) -> tuple[Path, Path]:
    """Write frames and sound of the miniature's clips in a layout; return raw and lists."""
    _, lists = mini_av.kinetics_sounds(folder, clips)
    raw, (frames, wav) = folder / layout.replace(" ", "-"), LAYOUTS[layout]
    for k in range(clips):
        name = f"-clip_{k:05d}_{7 * k:06d}_{7 * k + 10:06d}" if k % 2 else f"-clip_{k:05d}_{7 * k}"
        rng = np.random.default_rng([20, k])
        mini_av._jpegs(raw / frames.format(name=name), k % 4, 6, rng)
        mini_av.write_wav(raw / wav.format(name=name), mini_av.tone(k % 4, 5.5, 16000, rng))
    return raw, lists


def prepared(raw: Path, lists: Path, root: Path, workers: int = 1) -> Cache:
    """Prepare the miniature."""
    options = Options(lists=lists, workers=workers)
    return ensure_cache("kinetics_sounds", {"size": 16}, root, load_index(), raw, options=options)


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    """Return what is prepared of each layout, one of them by two workers."""
    places = {layout: tmp_path_factory.mktemp("layout") for layout in LAYOUTS}
    return {
        layout: prepared(*extracted(place, layout), place / "c", workers=2 if layout == "apart" else 1)
        for layout, place in places.items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_and_wavs_are_taken_in_any_layout(layout, caches):
    cache = caches[layout]
    assert cache.valid("visual") is None  # four of six frames of each clip, evenly spaced
    assert any("8 of 8 clips are made of extracted frames and WAV files" in note for note in cache.notes)
    listed = (cache.folder / "raw.csv").read_text().splitlines()[1:]
    assert len(listed) == 8 * 5 and sum(line.split(",")[1].endswith(".wav") for line in listed) == 8
    assert [line.split(",")[1][-9:] for line in listed[:4]] == ["00001.jpg", "00002.jpg", "00004.jpg", "00005.jpg"]


def test_layouts_give_the_same_bytes(caches):
    for modality in ("audio", "visual"):
        assert len({cache.array(modality).tobytes() for cache in caches.values()}) == 1


def test_a_video_is_taken_before_frames_and_both_may_be_mixed(tmp_path):
    raw, lists = extracted(tmp_path, "apart")
    videos = sorted((tmp_path / "kinetics").rglob("*.mp4"))
    shutil.copy(videos[0], raw / videos[0].name)
    cache = prepared(raw, lists, tmp_path / "c")
    assert any("7 of 8 clips are made of" in note for note in cache.notes)


def test_what_is_missing_or_too_little_is_listed(tmp_path, capsys):
    raw, lists = extracted(tmp_path, "as cremad")
    names = sorted(path.name for path in (raw / "Image-01-FPS").iterdir())
    (raw / "AudioWAV" / f"{names[0]}.wav").unlink()
    shutil.rmtree(raw / "Image-01-FPS" / names[1])
    (raw / "Image-01-FPS" / names[2] / "00003.jpg").unlink()
    mini_av._jpegs(raw / "Image-01-FPS" / names[3], 0, 40, np.random.default_rng(0))
    words = ["--raw", raw, "--lists", lists, "--dataset-set", "size=16", "--workers", "1", "--cache", tmp_path / "c"]
    line = refused(capsys, "prepare", "kinetics_sounds", *words)
    assert "4 of 8 items can't be used" in line
    (report,) = (tmp_path / "c").glob("*.faults.csv")
    rows = report.read_text()
    for part in (".wav,is missing", "00001.jpg,is missing", "00003.jpg,is missing",
                 '"has 40 frames, 1 a second, beside 5.5 s of sound"'):  # fmt: skip
        assert part in rows, rows


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for k in (1, 2, 10, 11):
        (tmp_path / f"frame{k}.jpg").touch()
    assert frame_files(tmp_path) == ["frame1.jpg", "frame2.jpg", "frame10.jpg", "frame11.jpg"]
    (tmp_path / "b").mkdir()
    for k in (1, 3, 10):
        (tmp_path / "b" / f"{k}.png").touch()
    assert frame_files(tmp_path / "b")[:3] == ["1.png", "2.png", "3.png"] and len(frame_files(tmp_path / "b")) == 10
