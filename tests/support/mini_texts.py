"""Miniature copies of the datasets of pictures and texts, in the official layouts and formats.

Each builder writes a folder of raw files and one of lists, and returns both. Texts are made up; some have an address,
a user name, an emoji, no word, or bytes that are no UTF-8. Classes differ in colour and in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from mini_av import picture

#: A word of each class, which tells it.
TELLING = ("awful", "so so", "lovely", "sweet", "salty")
#: What texts are made of beside it.
FILLER = ("the cat", "a long day", "my street", "that song", "no rain", "two trains")
#: What some texts have besides.
ODD = (b"", b" http://t.co/x1", b" @somebody", b" \xf0\x9f\x98\x80", b" caf\xe9", b" &amp; more")


def write_picture(path: Path, kind: int, place: int, size: tuple[int, int] = (64, 48)) -> None:
    """Write a picture of a class."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(kind, place, size, np.random.default_rng([20, place]))).save(path, quality=90)


def sentence(kind: int, place: int) -> bytes:
    """Return a text of a class; every 13th has no word at all."""
    if place % 13 == 12:
        return b" \n"
    filler = FILLER[place % len(FILLER)]
    return f"{filler} is {TELLING[kind]}, {FILLER[(place // 2) % len(FILLER)]}!".encode() + ODD[place % len(ODD)]


def plain(text: bytes) -> str:
    """Return a text as a list of JSON has it."""
    return text.decode("utf-8", errors="ignore")


def write_rows(path: Path, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    """Write a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(delimiter.join(map(str, row)) + "\n" for row in rows).encode())


def write_json_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write a list with an object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def parts_of(count: int) -> list[str]:
    """Return the part of each sample: half of them in train."""
    return [("train", "dev", "train", "test")[k // 3 % 4] for k in range(count)]


MOODS = ("negative", "neutral", "positive")


def mvsa_single(folder: Path, pairs: int = 48) -> tuple[Path, Path]:
    """Write MVSA-Single: `data/<id>.jpg` and `.txt`, `labelResultAll.txt`, the lists and those of JSON lines."""
    raw, lists = folder / "MVSA_Single", folder / "lists"
    parts, judged = parts_of(pairs), [("ID", "text,image")]
    found: dict[str, list[dict[str, object]]] = {"train": [], "dev": [], "test": []}
    for k in range(pairs):
        kind, name = k % 3, str(10 + 7 * k)
        text = sentence(kind, k)
        write_picture(raw / "data" / f"{name}.jpg", kind, k)
        (raw / "data" / f"{name}.txt").write_bytes(text)
        judged.append((name, f"{MOODS[kind]},{MOODS[kind]}"))
        row = {"id": name, "text": plain(text), "img": f"data/{name}.jpg", "label": MOODS[kind]}
        found[parts[k]].append(row)
    write_rows(raw / "labelResultAll.txt", [*judged, ("5", "negative,positive")], "\t")
    for part, rows in found.items():
        write_rows(lists / f"{part}.csv", [("id", "label"), *((row["id"], row["label"]) for row in rows)])
        write_json_lines(lists / f"{part}.jsonl", rows)
        write_json_lines(raw / f"{part}.jsonl", rows)
    return raw, lists


#: Dataset -> what writes its miniature, for a study over all of them.
TEXTS = {"mvsa_single": mvsa_single}
