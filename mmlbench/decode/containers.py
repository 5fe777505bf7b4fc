"""Media files judged by their own structure: whether all is there that their headers name. Nothing is decoded.

Decoders pass over much of this silently: they read what they find and end where it ends.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

#: A tail of so many zero bytes is what a download that reserved its space and broke off leaves.
ZEROS = 4096
#: Lengths that a writer leaves open when it can't go back to its header: 0, all ones, or (SoX) about 2**31.
_OPEN = 0x7FFFFF00
#: Seconds by which an FLV may end before the duration in its header: writers differ, cuts within it go unseen.
_FLV_EARLY = 1.0
#: Boxes and chunks that hold no more than room, which may be zeros.
_ROOM = (b"free", b"skip", b"uuid", b"JUNK", b"\xec")
#: Codecs in an MP4 or MOV whose silence is zeros.
_RAW = (b"sowt", b"twos", b"lpcm", b"in24", b"in32", b"fl32", b"raw ")
_TOP = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


def cut_short(path: Path, head: bytes) -> str:
    """Return why a WAV, AVI, FLV, MP4 or Matroska file is not whole, as 'is cut short ...'; '' otherwise.

    A length that a writer left open says nothing. Lengths that only count themselves wrongly (a RIFF that counts its
    own header) are no fault where all that they hold is there.
    """
    walk: Callable[[io.BufferedReader, int], str] | None = None
    if head[:4] == b"RIFF":
        walk = _wav if head[8:12] == b"WAVE" else _avi
    elif head[:3] == b"FLV":
        walk = _flv
    elif head[4:8] in _TOP:
        walk = _mp4
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        walk = _matroska
    if walk is None:
        return ""
    with path.open("rb") as file:
        return walk(file, path.stat().st_size)


def _lacking(size: int, end: int) -> str:
    return f"is cut short: {size} bytes of at least {end}" if end > size else ""


def _zeros(file: io.BufferedReader, size: int) -> str:
    """Return 'is cut short ...' where a file ends in zeros."""
    file.seek(max(0, size - ZEROS))
    if any(file.read(ZEROS)):
        return ""
    at, step = size, 2**16
    while at > 0:
        start = max(0, at - step)
        file.seek(start)
        block = file.read(at - start).rstrip(b"\0")
        at = start + len(block)
        if block:
            break
    return f"is cut short: its last {size - at} of {size} bytes are zeros, the download did not end"


# ---- RIFF: WAV and AVI -------------------------------------------------------------------------------------------
def riff_chunks(file: io.BufferedReader, size: int) -> list[tuple[bytes, int, int]]:
    """Return (name, where its content begins, length as it names it) of the chunks of the first RIFF."""
    at, found = 12, []
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"RIFF":
            break
        found.append((name, at + 8, length))
        if is_open(length) and name in (b"data", b"LIST"):
            break
        at += 8 + length + length % 2
    return found


def is_open(length: int) -> bool:
    """Tell whether a length in a RIFF is one that its writer left open."""
    return length == 0 or length >= _OPEN


def _wav(file: io.BufferedReader, size: int) -> str:
    """Judge a WAV by its samples alone: what follows them is titles."""
    for name, start, length in riff_chunks(file, size):
        if name == b"data" and not is_open(length):
            missing = _lacking(size, start + length)
            return missing and f"{missing}: {max(0, size - start)} bytes of {length} of sound"
    return ""


def _avi(file: io.BufferedReader, size: int) -> str:
    end, at = 0, 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or is_open(length):
            break
        end = at + 8 + length
        at = end + length % 2
    chunks = riff_chunks(file, size)
    if end - 8 > size or not chunks:  # a length that counts its own header is 8 too long
        return _lacking(size, end)
    name, start, length = chunks[-1]
    if len(chunks) and not is_open(length) and start + length > size:
        return _lacking(size, start + length)
    return "" if name in _ROOM else _zeros(file, size)


# ---- FLV ---------------------------------------------------------------------------------------------------------
def _flv(file: io.BufferedReader, size: int) -> str:
    """Walk the tags; one of no known kind is where zeros or another file's bytes begin."""
    file.seek(0)
    head = file.read(4096)
    if len(head) < 9:
        return _lacking(size, 13)
    at, last = struct.unpack(">I", head[5:9])[0] + 4, 0
    while at + 11 <= size:
        file.seek(at)
        kind, *rest = file.read(8)
        if kind & 0x1F not in (8, 9, 18):
            return _zeros(file, size) or f"is damaged: what begins at byte {at} of {size} is no part of an FLV"
        last = max(last, int.from_bytes(bytes((rest[6], *rest[3:6])), "big"))
        at += 11 + int.from_bytes(bytes(rest[:3]), "big") + 4
    if (
        at > size + 4 or at < size
    ):  # a writer may leave out the size behind the last tag; part of a next one is no whole
        return _lacking(size, max(at, size + 1))
    mark = b"\x00\x08duration\x00"
    named_at = head.find(mark) + len(mark)
    if named_at < len(mark) or named_at + 8 > len(head):
        return ""
    named = struct.unpack(">d", head[named_at : named_at + 8])[0]
    early = named - last / 1000
    return f"is cut short: it ends at {last / 1000:.1f} of {named:.1f} s" if early > _FLV_EARLY else ""


# ---- MP4 and MOV -------------------------------------------------------------------------------------------------
def _mp4(file: io.BufferedReader, size: int) -> str:
    at, indexed, name = 0, False, b""
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if name == b"\0\0\0\0":
            break
        indexed |= name in (b"moov", b"moof")
        if length == 0:
            at = size
            break
        if length < 8:
            break
        at += length
    if at > size:
        return _lacking(size, at)
    if not indexed:
        return "is cut short: its index (moov) is missing"
    return "" if name in _ROOM or _has_raw(file) else _zeros(file, size)


def _has_raw(file: io.BufferedReader) -> bool:
    file.seek(0)
    head = file.read(2**16)
    return any(code in head for code in _RAW)


# ---- Matroska and WebM -------------------------------------------------------------------------------------------
def _number(file: io.BufferedReader, keep_mark: bool) -> tuple[int, bool]:
    """Read an EBML number; return it, and whether it is the one that stands for an unknown length."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, True
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    mark = 1 << (7 - more)
    value = int.from_bytes(bytes((first[0] if keep_mark else first[0] - mark,)) + rest, "big")
    return value, value == (1 << (7 * (more + 1))) - 1


def _matroska(file: io.BufferedReader, size: int) -> str:
    """Walk the segment's elements: a cluster of unknown length (written live) ends the walk."""
    file.seek(0)
    end, at, name = size, 0, 0
    while at < min(end, size):
        file.seek(at)
        name = _number(file, keep_mark=True)[0]
        length, unknown = _number(file, keep_mark=False)
        start = file.tell()
        if name == 0x18538067:
            end = size if unknown else start + length
            at = start
        elif unknown:
            break
        else:
            at = start + length
    longest = max(end, at if at > size else 0)
    return _lacking(size, longest) or ("" if name == 0xEC else _zeros(file, size))
