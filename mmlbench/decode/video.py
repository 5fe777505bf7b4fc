"""Videos: frames by their place in the stream, decoded by PyAV; no system ffmpeg, no temporary files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import need
from .fault import Fault


def broken() -> tuple[type[Exception], ...]:
    """Return what PyAV raises for damaged files."""
    av = need("av")
    return (av.error.FFmpegError, ValueError, IndexError)


@contextlib.contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a media file; what its demuxer complains of while it is read is a fault at the end.

    Decoders mark the frames that they had to guess; a demuxer passes over what it can't read and only says so.

    Raises:
        Fault: no media file, or one that is damaged in its header or between its packets.
    """
    av = need("av")
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as messages:
            try:
                container = av.open(str(path), **_lenient(av))
            except broken() as error:
                raise Fault(path, f"can't be opened as a video or sound file ({short(error)})") from error
            with container:
                yield container
                reader = container.format.name
        reason = next((text for _, name, text in messages if name == reader), None)
        if reason is not None:
            raise Fault(path, f"is damaged between its packets ({' '.join(reason.split())[:80]})")
    finally:
        av.logging.set_level(av.logging.PANIC)  # faults are told by `Fault`, once


def _lenient(av: Any) -> dict[str, str]:
    """Return what keeps titles in another code than UTF-8 from stopping PyAV; from 19 on nothing is needed."""
    return {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def short(error: BaseException) -> str:
    """Return a decoder's complaint without numbers and logs."""
    return (getattr(error, "strerror", None) or str(error)).split(":", 1)[0].split("\n", 1)[0][:80]


def _stream(path: Path, container: Any) -> Any:
    if not container.streams.video:
        raise Fault(path, "has no video stream")
    stream = container.streams.video[0]
    stream.thread_type = "NONE"  # the workers are the parallel part
    return stream


def _rate(path: Path, stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not rate:
        raise Fault(path, "names no frame rate")
    return float(rate)


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Yield all frames in the order of showing; each must be whole, and no packet of the index may be missing.

    Packets are counted, not frames: of an MP4 cut without encoding (an edit list) the first ones are decoded and not
    shown, and an AVI may hold two frames in a packet and none in the next, so that headers name other numbers.
    """
    listed = sum(entry.size > 0 for entry in stream.index_entries)
    count = there = 0
    try:
        for packet in container.demux(stream):
            there += packet.size > 0
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise Fault(path, f"has a corrupt frame (number {count})")
                yield frame
                count += 1
    except broken() as error:
        raise Fault(path, f"has a corrupt frame (number {count}: {short(error)})") from error
    if count == 0:
        raise Fault(path, "has a video stream without frames")
    if there < listed:
        raise Fault(path, f"is cut short: {there} of {listed} packets of its index")


def pick_frames(path: Path, wanted: Callable[[int, float, float], bool]) -> list[np.ndarray]:
    """Return the wanted frames of a video, each uint8 (h, w, 3), in order.

    Args:
        wanted: called with (place in the stream, seconds from its start, frames per second).

    Raises:
        Fault: unreadable, without video stream, with a corrupt frame, cut short.
    """
    with open_container(path) as container:
        stream = _stream(path, container)
        rate, found = _rate(path, stream), []
        first: float | None = None
        for place, frame in enumerate(_decoded(path, container, stream)):
            time = place / rate if frame.time is None else float(frame.time)
            first = time if first is None else first
            if wanted(place, time - first, rate):
                found.append(upright(frame))
        return found


def upright(frame: Any) -> np.ndarray:
    """Return a frame as RGB uint8 (h, w, 3), turned or mirrored as its display matrix says, as players do.

    Angles between quarter turns are rounded to the next.
    """
    picture = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32)  # x' = a x + c y, y' = b x + d y
    if abs(int(a)) + abs(int(d)) < abs(int(b)) + abs(int(c)):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


@dataclass(frozen=True)
class Lengths:
    """Seconds that a file's first video and audio stream last by their packets, and how many frames it has."""

    picture: float
    sound: float
    frames: int


def lengths(path: Path) -> Lengths:
    """Return the lengths of a file's streams without decoding it; 0 where there is no such stream.

    Raises:
        Fault: unreadable.
    """
    with open_container(path) as container:
        streams = {kind: getattr(container.streams, kind)[:1] for kind in ("video", "audio")}
        first: dict[str, float] = {}
        last: dict[str, float] = {}
        frames = 0
        try:
            for packet in container.demux(*streams["video"], *streams["audio"]):
                kind, time = packet.stream.type, packet.pts if packet.pts is not None else packet.dts
                if time is None or not packet.size or packet.is_discard:
                    continue
                start = float(time * packet.time_base)
                step = 1 / (packet.stream.average_rate or 25) if kind == "video" else 0
                end = start + float((packet.duration or 0) * packet.time_base or step)
                first[kind], last[kind] = min(start, first.get(kind, start)), max(end, last.get(kind, end))
                frames += kind == "video"
        except broken() as error:
            raise Fault(path, f"can't be read to its end ({short(error)})") from error
        picture, sound = (last[kind] - max(0.0, first[kind]) if kind in last else 0.0 for kind in streams)
        return Lengths(picture, sound, frames)


def count(path: Path) -> int:
    """Return how many frames a video has, by decoding it: what headers say is not to be trusted.

    Raises:
        Fault: as `pick_frames`.
    """
    seen: list[int] = []

    def note(place: int, time: float, rate: float) -> bool:
        seen.append(place)
        return False

    pick_frames(path, note)
    return len(seen)


def evenly(path: Path, count: int, first: float = 0.0, last: float = float("inf")) -> list[np.ndarray]:
    """Return `count` frames at even steps between two seconds (both included), the first and the last among them.

    Raises:
        Fault: as `pick_frames`; fewer frames than that lie between.
    """
    there: list[int] = []

    def inside(place: int, time: float, rate: float) -> bool:
        if first - 0.5 / rate <= time <= last + 0.5 / rate:
            there.append(place)
        return False

    pick_frames(path, inside)
    if len(there) < count:
        raise Fault(path, f"is too short: {len(there)} frames, {count} are needed")
    chosen = {there[round(k * (len(there) - 1) / max(1, count - 1))] for k in range(count)}
    return pick_frames(path, lambda place, time, rate: place in chosen)


def every(path: Path, step: int | None = None) -> list[np.ndarray]:
    """Return each `step`-th frame of a video, the first included; by default one a second.

    One a second means one in int(frames per second), as the extraction scripts of this field count (29 for the
    29.97 of CREMA-D).
    """
    return pick_frames(path, lambda place, time, rate: place % (step or max(1, int(rate))) == 0)


def at_seconds(path: Path, first: int, last: int) -> list[np.ndarray]:
    """Return one frame for each second from `first` to `last` (both included), the first frame at or after it."""
    due = [first]

    def wanted(place: int, time: float, rate: float) -> bool:
        if due[0] > last or time < due[0] - 0.5 / rate:
            return False
        due[0] = int(time + 0.5 / rate) + 1
        return True

    return pick_frames(path, wanted)
