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


def _tweets(folder: Path, pictures: str, texts: str, tweets: int) -> tuple[Path, Path]:
    """Write tweets with one to three targets each: their pictures, and the lists with and without texts."""
    raw, lists = folder / "IJCAI2019_data", folder / "lists"
    found: dict[str, list[tuple[object, ...]]] = {"train": [], "dev": [], "test": []}
    for k in range(tweets):
        name, rows = f"17_{k:02d}_{100 + k}.jpg", found[parts_of(tweets)[k]]
        write_picture(raw / pictures / name, k % 3, k)
        for target in range(1 + k % 3):
            kind = (k + target) % 3
            quote = '"' if k % 5 == 0 else ""
            text = f"RT @ Some_body{k} : {quote} $T$ is {TELLING[kind]} {plain(ODD[k % 4])} # Tag{k % 4}"
            rows.append((len(rows) + 1, kind, name, " ".join(text.split()), f"Target {target}"))
    for part, rows in found.items():
        head = ("index", "#1 Label", "#2 ImageID", "#3 String", "#3 String")
        for place in (raw / texts, lists):
            write_rows(place / f"{part}.tsv", [head, *rows], "\t")
        write_rows(
            lists / f"{part}.csv", [("index", "image_id", "label"), *((row[0], row[2], row[1]) for row in rows)]
        )
    path = lists / "train.tsv"
    path.write_bytes(path.read_bytes().replace(b"# Tag1", b"# Tag1 caf\xe9"))
    (raw / texts / "train.tsv").write_bytes(path.read_bytes())
    return raw, lists


def twitter15(folder: Path) -> tuple[Path, Path]:
    """Write Twitter-15: `twitter2015_images/*.jpg` and `twitter2015/*.tsv`."""
    return _tweets(folder, "twitter2015_images", "twitter2015", 24)


def twitter17(folder: Path) -> tuple[Path, Path]:
    """Write Twitter-17: `twitter2017_images/*.jpg` and `twitter/*.tsv`, as TomBERT's repository calls the folder."""
    return _tweets(folder, "twitter2017_images", "twitter", 24)


def sarcasm(folder: Path, tweets: int = 48) -> tuple[Path, Path]:
    """Write the sarcasm data: `dataset_image/<id>.jpg`, `text/*.txt`; its filter leaves out every seventh."""
    raw, lists = folder / "sarcasm", folder / "lists"
    stems, named = {"train": "train", "dev": "valid2", "test": "test2"}, ("sarcasm", "<url>", "joke")
    found: dict[str, list[list[object]]] = {stem: [] for stem in stems.values()}
    for k in range(tweets):
        kind, key, stem = k % 2, str(700000000000000000 + 7 * k), stems[parts_of(tweets)[k]]
        words = f"<user> {plain(ODD[k % 4])} it 's {TELLING[2 * kind]} # day{k % 3}  emoji_{k % 4}"
        words = f"{words} {named[k % 3]}" if k % 7 == 6 else words if k != 12 else " "
        write_picture(raw / "dataset_image" / f"{key}.jpg", kind, k)
        found[stem].append([key, words, kind] if stem == "train" else [key, words, (k // 2) % 2, kind])
    for stem, rows in found.items():
        for place in (raw / "text", lists):
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{stem}.txt").write_text("".join(f"{row!r}\n" for row in rows), encoding="utf-8")
        head = ("id", "label") if stem == "train" else ("id", "hashtag_label", "label")
        write_rows(lists / f"{stem}.csv", [head, *((row[0], *row[2:]) for row in rows)])
    return raw, lists


DISHES = ("apple_pie", "sushi", "waffles")


def food101(folder: Path, pictures: int = 48) -> tuple[Path, Path]:
    """Write UPMC Food-101: `images/<part>/<dish>/*.jpg`, lists of titles with faults, and of JSON lines."""
    raw, lists = folder / "food101", folder / "lists"
    titles: dict[str, list[bytes]] = {"train": [], "test": [b"sushi_9999.jpg,a title that no list names,sushi"]}
    found: dict[str, list[dict[str, object]]] = {"train": [], "dev": [], "test": []}
    for k in range(pictures):
        kind, part = k % 3, parts_of(pictures)[k]
        dish, name, place = DISHES[kind], f"{DISHES[kind]}_{k}.jpg", "test" if part == "test" else "train"
        text = sentence(kind, k).strip() if k % 9 else b" "
        write_picture(raw / "images" / place / dish / name, kind, k)
        titles[place].append(name.encode() + b"," + (text if k % 2 else b'"' + text + b'"') + b"," + dish.encode())
        row: dict[str, object] = {"id": f"{dish}_{name}", "label": dish, "text": plain(text)}
        found[part].append({**row, "img": f"images/{place}/{dish}/{name}"})
    titles["train"].append(titles["train"][0])
    for place, rows in titles.items():
        (raw / "texts").mkdir(parents=True, exist_ok=True)
        (raw / "texts" / f"{place}_titles.csv").write_bytes(b"\n".join(rows) + b"\n")
    for part, lines in found.items():
        for where in (lists, raw):
            write_json_lines(where / f"{part}.jsonl", lines)
        if part != "train":
            write_rows(lists / f"{part}.csv", [("id", "label"), *((line["id"], line["label"]) for line in lines)])
    return raw, lists


#: Dataset -> what writes its miniature, for a study over all of them.
TEXTS = {
    "mvsa_single": mvsa_single,
    "twitter15": twitter15,
    "twitter17": twitter17,
    "sarcasm": sarcasm,
    "food101": food101,
}
