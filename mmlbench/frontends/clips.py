"""What the audio-visual datasets share: their parameters, and a clip's sound and frames as they are stored."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..dataset import CacheWriter, Dataset
from ..decode import video
from ..decode.fault import Fault, FaultKind
from ..decode.image import read_image, square
from ..decode.resampling import RESAMPLING
from ..decode.sound import SILENCE, read_sound, seconds
from ..decode.spectrograms import FRONT_ENDS, PADS
from ..errors import DataError
from ..modality import Modality
from ..params import DatasetParams, bounded, choice
from ..prepare.archives import archive_in, is_archive, unpack
from ..prepare.file_checks import check_file, spelt
from ..prepare.item_writer import ItemWriter
from ..prepare.task import PIXELS, Item, Stored

#: How the two modalities are kept.
STORED = {"audio": Stored("float16"), "visual": PIXELS}
#: Seconds of sound beside which a single frame is no clip.
_ALONE = 1.5
#: Kinds of extracted frames, and how many a second their folder's name promises.
PICTURES = (".jpg", ".jpeg", ".png")
_PER_SECOND = re.compile(r"Image-(\d+)-FPS")
#: Names of the audio front ends.
AUDIO = tuple(FRONT_ENDS)


class ClipParams(DatasetParams):
    """How clips are kept."""

    audio: str = choice("psd_257x299", AUDIO, doc="audio front end")
    resample: str = choice(
        RESAMPLING[0], RESAMPLING, doc="to the front end's rate: librosa's way since 0.10, or before"
    )
    pad: str = choice(
        PADS[0], PADS, doc="beyond the ends, of the stft front ends alone: librosa's way since 0.10, or before"
    )
    size: int = bounded(224, low=16, high=1024, doc="side of the stored frames, in pixels")
    frames: int = bounded(6, low=1, high=32, doc="most frames kept of a clip, evenly spaced where it has more")


def modalities(params: ClipParams, aspect: float) -> tuple[Modality, ...]:
    """Return the modalities of a dataset of clips; `aspect` is the width / height of its frames."""
    return (
        Modality("audio", (1, *FRONT_ENDS[params.audio].shape), "spectrogram"),
        Modality("visual", (3, params.size, params.size), "image", views=params.frames, aspect=aspect),
    )


class ClipDataset(Dataset):
    """A dataset whose modalities follow from `ClipParams`; `aspect` is the width / height of its frames."""

    params: ClipParams
    aspect: ClassVar[float] = 1.0

    def __init__(self, params: ClipParams | None = None) -> None:
        super().__init__(params)
        self.modalities = modalities(self.params, self.aspect)


def sound(path: Path, params: ClipParams, seconds: tuple[float, float] | None = None) -> np.ndarray:
    """Return a clip's spectrogram, (1, 1, bands, frames) float16; of a part of it where `seconds` are given.

    Raises:
        Fault: see `read_sound`; the part lies outside the clip.
    """
    front = FRONT_ENDS[params.audio]
    waveform = read_sound(path, front.rate, params.resample)
    if seconds is not None:
        first, last = (round(second * front.rate) for second in seconds)
        if len(waveform) <= first + front.rate // 10:
            raise Fault(
                path, f"is too short: {len(waveform) / front.rate:.2f} s, the event begins at {seconds[0]:g} s"
            )
        waveform = waveform[first:last]
        spare = min(front.rate // 20, len(waveform) // 4)  # what lies beside the event smears into its ends
        if np.abs(waveform[spare : len(waveform) - spare]).max() < SILENCE:
            raise Fault(path, f"is silent from {seconds[0]:g} to {seconds[1]:g} s", FaultKind.SILENT)
    return front.spectrogram(waveform, params.pad)[None, None].astype(np.float16)


def check_lengths(path: Path, heard: Path | None = None, longest: float = math.inf) -> None:
    """Refuse a clip whose sound and picture are not of one recording by their lengths, or that is far too long.

    One may begin late or end early where a clip was cut without encoding: half of the other is enough.

    Args:
        path: the video. heard: the file of its sound, where that is another. longest: seconds that no clip lasts.

    Raises:
        Fault: naming both lengths.
    """
    found = video.lengths(path)
    sound = found.sound if heard is None else seconds(heard)
    if found.frames == 1 and sound > _ALONE:
        raise Fault(path, f"has one frame beside {sound:.1f} s of sound")
    _check_pair(path, found.picture, sound)
    if max(found.picture, sound) > longest:
        raise Fault(path, f"lasts {max(found.picture, sound):.1f} s, no clip of this dataset more than {longest:g}")


def check_frames(folder: Path, count: int, heard: Path, per_second: float = 1.0) -> None:
    """Refuse extracted frames, so many a second, whose number is not that of their sound; see `check_lengths`."""
    sound = seconds(heard)
    shortest, longest = (count - 1) / per_second, (count + 1) / per_second
    if sound < shortest / 2 - _ALONE or sound / 2 - _ALONE > longest:
        raise Fault(folder, f"has {count} frames, {per_second:g} a second, beside {sound:.1f} s of sound")


def _check_pair(path: Path, picture: float, sound: float) -> None:
    less, more = sorted((picture, sound))
    if less < more / 2 and more - less > 1:
        raise Fault(path, f"has {picture:.1f} s of picture beside {sound:.1f} s of sound")


def pictures(frames: Sequence[np.ndarray], params: ClipParams) -> np.ndarray:
    """Return frames (h, w, 3) as they are stored, (n, 3, size, size) uint8, thinned evenly to `params.frames`."""
    keep = range(len(frames))
    if len(frames) > params.frames:
        keep = [k * len(frames) // params.frames for k in range(params.frames)]  # type: ignore[assignment]
    return np.stack([square(frames[k], params.size) for k in keep])


def decode_clip(
    raw: Path, item: Item, params: ClipParams, at_least: int = 1, longest: float = math.inf, count: int = 0
) -> dict[str, np.ndarray]:
    """Return a clip's spectrogram and frames, and see that they belong together.

    Args:
        item: its files are the video or the frames in their order, then the WAV where the sound is a file of its own.
        at_least: frames of a video that gives fewer at one a second. longest: seconds that no clip lasts.
        count: of the frames that were extracted, where the item names only some of them.

    Raises:
        Fault: as `sound`, `read_image`, `video.every` and `check_lengths`.
    """
    own = item.files[-1].lower().endswith(".wav")
    heard = raw / item.files[-1]
    shown = [raw / name for name in (item.files[:-1] if own else item.files)]
    extracted = shown[0].suffix.lower() in PICTURES
    if extracted:
        found = [read_image(path) for path in shown]
    else:
        found = video.every(shown[0])
        if len(found) < at_least:
            found = video.evenly(shown[0], at_least)
    made = {"audio": sound(heard, params), "visual": pictures(found, params)}
    if not extracted:
        check_lengths(shown[0], heard if own else None, longest)
    elif named := _PER_SECOND.search(str(shown[0].parent)):
        check_frames(shown[0].parent, count or len(shown), heard, float(named[1]))
    return made


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them: 'frame2' before 'frame10'."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def frame_files(folder: Path) -> list[str]:
    """Return the names of extracted frames, in their order; numbered ones from the first to the last, gaps included.

    What a gap names is missing, and `prepare` says so.
    """
    there = folder.iterdir() if folder.is_dir() else ()
    paths = [path for path in there if path.suffix in PICTURES and not path.name.startswith(".")]
    paths.sort(key=lambda path: _natural(path.name))
    if not paths or not all(path.stem.isdecimal() for path in paths):
        return [path.name for path in paths]
    named = {int(path.stem): path.name for path in paths}
    width, kind = len(paths[0].stem), paths[0].suffix
    return [named.get(k, f"{k:0{width}d}{kind}") for k in range(min(1, *named), max(named) + 1)]


def numbered(names: Sequence[str]) -> list[str]:
    """Return names that are unique: the second of equal ones gets '#2', and so on."""
    seen: Counter[str] = Counter()
    made = []
    for name in names:
        seen[name] += 1
        made.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return made


def _cache_bytes(out: CacheWriter) -> int:
    """Return about how large the cache will be by the declared counts; 0 with lists of the user's own."""
    if out.options.lists is not None:
        return 0
    rows = max(sum(split.counts.values()) for split in out.dataset.splits.values())
    return sum(rows * m.views * math.prod(m.shape) * m.type.value_bytes for m in out.dataset.modalities)


def folder_with(raw: Path | None, holds: Sequence[str]) -> Path | None:
    """Return the folder that holds one of some names ('*': anything): `raw` or a folder in it, None without one."""
    if raw is None or not raw.is_dir():
        return None
    folders = (raw, *sorted(path for path in raw.iterdir() if path.is_dir()))
    return next((f for f in folders if "*" in holds or any((f / inner).exists() for inner in holds)), None)


def open_raw(raw: Path | None, out: CacheWriter, holds: Sequence[str]) -> Path:
    """Return the folder that holds one of some names: `raw`, or a folder in it, or in the archive that it is.

    Raises:
        DataError: no such folder; an archive that can't be unpacked.
    """
    name = out.dataset.name
    names = ["clips" if inner == "*" else inner for inner in holds]
    # what `mmlbench fetch` unpacks is read as a folder
    archives = [one.name for one in out.dataset.downloads if is_archive(Path(one.name)) and not one.unpacks]
    if raw is None:
        raise DataError(f"{name} needs its raw files", f"Give the folder with {' or '.join(names)} to --raw")
    if raw.is_dir() and folder_with(raw, holds) is None:
        raw = archive_in(raw, archives) or _hidden(raw, archives)
    given = raw
    if raw.is_file():
        if not is_archive(raw):
            what = f"{raw} is neither a folder nor a zip or tar file"
            raise DataError(what, f"Give the folder with {' or '.join(names)}")
        _check(raw)
        if isinstance(out, ItemWriter):
            out.archive = raw
        into = out.folder.with_name(out.folder.name.removesuffix(".part") + ".unpacked")
        raw = unpack(raw, into, out.options.log, _cache_bytes(out), f"for the cache of {name}")
        out.check()
    folder = folder_with(raw, holds)
    if folder is not None:
        return folder
    see = f"(see: mmlbench fetch {name})"
    if given.is_file():
        fix = f"Name the right file, or unpack it and give the folder that does to --raw {see}"
        raise DataError(f"{given} holds no {' or '.join(names)}, nor does a folder in it", fix)
    *first, last = [*names, *archives]
    wanted = f"{', '.join(first)} or {last}" if first else last
    raise DataError(f"{given} holds no {wanted}", f"Give the folder that does to --raw {see}")


def _hidden(raw: Path, archives: Sequence[str]) -> Path:
    """Return a folder that holds none of some archives.

    Raises:
        DataError: one is there that can't be read: under a name in another case, or a link without its content.
    """
    for name in archives:
        if spelt(raw, name) is not None:
            _check(raw / name)
    return raw


def _check(path: Path) -> None:
    """Refuse an archive of which a fault shows without opening it.

    Raises:
        DataError: there is one.
    """
    try:
        check_file(path.parent, path.name)
    except Fault as fault:
        raise DataError(f"{path} {fault.what}", fault.fix[:1].upper() + fault.fix[1:] or "Fetch it again") from None
