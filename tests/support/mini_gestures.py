"""Miniature of NVGesture, in the official folders and list format, through a real encoder."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from mini_av import write_video

SIZE, FRAMES = (64, 48), 26
#: Part -> subjects, as in the official lists none in both.
SUBJECTS = {"train": (3, 4, 7, 1), "test": (13, 8)}
NAMES = {part: f"nvgesture_{part}_correct_cvpr2016_v2.lst" for part in SUBJECTS}
CLASSES = (1, 2, 3)


def clips(part: str) -> list[tuple[str, int, int]]:
    """Return (path, class from 1, first frame of the gesture) of a part; one label is not its folder's."""
    found = []
    for kind in CLASSES:
        for place, subject in enumerate(SUBJECTS[part]):
            label = 2 if (kind, subject) == (1, 4) else kind
            found.append((f"class_{kind:02d}/subject{subject}_r0", label, 2 + place))
    return found


def line(name: str, label: int, start: int) -> str:
    """Return a line of a list, with the blank at its end that the official ones have."""
    span = f"{start}:{start + 20}"
    sensors = f"depth:sk_depth:{span} color:sk_color:{span} duo_left:duo_left:{start + 4}:{start + 30}"
    return f"path:./Video_data/{name} {sensors} label:{label} "


def nvgesture(folder: Path) -> tuple[Path, Path]:
    """Write `Video_data/class_NN/subjectN_rN/sk_color.avi`, `sk_depth.avi` and the two lists; return both folders."""
    raw = folder / "raw"
    for number, part in enumerate(SUBJECTS):
        found = clips(part)
        for place, (name, label, _) in enumerate(found):
            for sensor in ("sk_color", "sk_depth"):
                target = raw / "Video_data" / name / f"{sensor}.avi"
                seed = 100 * number + 2 * place + (sensor == "sk_depth")
                write_video(target, label, FRAMES / 30, ("mpeg4", None), SIZE, Fraction(30), seed=seed)
        text = "\n".join(line(*one) for one in found) + "\n"
        (raw / NAMES[part]).write_text(text, encoding="utf-8")
    return raw, raw
