"""What goes wrong outside the program: each gets one line that names the thing and the mend, nothing half-written.

Faults of the config are in test_config.py, of parameters in test_params.py, of plug-ins' imports in
test_registry.py, of recordings in test_datasets_embedded.py, of finished folders in test_runfolder.py.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mmlbench import plugins, store
from mmlbench.cache import Cache
from mmlbench.cli import main
from mmlbench.errors import DataError, RunError
from mmlbench.index import load_index
from mmlbench.testing import PLUGINS

ROOT = Path(__file__).resolve().parents[1]


def run(capsys, *words: object) -> tuple[int, list[str]]:
    """Run a command in this process; return exit code and the lines that start with 'mmlbench:'."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    assert "Traceback" not in out.err and "Exception ignored" not in out.err
    return code, [line for line in out.err.splitlines() if line.startswith("mmlbench: ")]


def refused(capsys, *words: object, code: int = 2) -> str:
    """Run a command that must fail; return its only line."""
    found, lines = run(capsys, *words)
    assert found == code, lines
    assert len(lines) == 1
    return lines[0]


def left_over(folder: Path) -> list[str]:
    """Return the names of half-written files below a folder."""
    return [str(p) for p in folder.rglob("*") if p.name.endswith((".tmp", ".part")) or p.name.startswith(".lease.")]


# --- the prepared cache ----------------------------------------------------------------------------------


@pytest.fixture
def caches(tiny, tmp_path) -> Path:
    """Return a copy of the prepared caches that a test may damage."""
    return Path(shutil.copytree(tiny.cache, tmp_path / "cache"))


def cache_of(caches: Path) -> Path:
    return next(path for path in caches.iterdir() if path.name.startswith("tiny-"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def set_schema(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


CACHE_DAMAGE: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("one byte of an array", "audio.npy", flip, "was changed after the cache was made"),
    ("an array cut short", "visual.npy", lambda path: os.truncate(path, 200), "has 200 bytes instead of"),
    ("an array gone", "audio.npy", Path.unlink, "is missing from the cache"),
    ("one byte of a split", "split-speaker.csv", flip, "was changed after the cache was made"),
    ("the manifest cut short", "manifest.json", lambda path: os.truncate(path, 100), "can't be read"),
    ("the manifest emptied", "manifest.json", lambda path: os.truncate(path, 0), "can't be read"),
    ("another schema", "manifest.json", set_schema, "has an unknown schema, not 1"),
    ("no manifest of ours", "manifest.json", lambda path: path.write_text("[]"), "has an unknown schema"),
    (
        "an edited manifest",
        "manifest.json",
        lambda path: path.write_text(path.read_text().replace("red", "rad")),
        "was changed after it was made",
    ),
]


@pytest.mark.parametrize(("damage", "name", "do", "said"), CACHE_DAMAGE, ids=[case[0] for case in CACHE_DAMAGE])
def test_a_damaged_cache_is_refused(damage, name, do, said, caches, tiny, tmp_path, capsys):
    folder = cache_of(caches)
    do(folder / name)
    line = refused(capsys, "train", *tiny.words("joint", tmp_path / "results", cache=caches))
    assert str(folder / name) in line and said in line
    assert f"Remove {folder} and prepare the dataset again" in line
    assert not (tmp_path / "results").exists()
    line = refused(capsys, "prepare", "tiny", "--cache", caches, "--plugins", PLUGINS)
    assert said in line
    shutil.rmtree(folder)  # the mend
    assert run(capsys, "prepare", "tiny", "--cache", caches, "--plugins", PLUGINS) == (0, [])
    assert Cache.open(folder).manifest == Cache.open(cache_of(tiny.cache)).manifest


def test_a_cache_whose_making_was_killed_is_made_again(caches, tiny, capsys):
    folder = cache_of(caches)
    (folder / "manifest.json").unlink()
    (folder.parent / f".{folder.name}.part").mkdir()
    assert run(capsys, "prepare", "tiny", "--cache", caches, "--plugins", PLUGINS) == (0, [])
    assert Cache.open(folder).manifest == Cache.open(cache_of(tiny.cache)).manifest
    assert left_over(caches) == []


def test_other_data_behind_a_run_makes_it_anew_and_says_so(caches, tiny, tmp_path, capsys):
    run_ = tiny.run("joint", tmp_path / "results", cache=caches)
    facts = json.loads((run_.path / "run.json").read_text())
    (run_.path / "run.json").write_text(json.dumps({**facts, "data_fingerprint": "0" * 16}))
    words = ["stale", "--results", tmp_path / "results", "--cache", caches, "--plugins", PLUGINS]
    assert run(capsys, *words)[0] == 1
    assert main(["train", *tiny.words("joint", tmp_path / "results", cache=caches)]) == 0
    assert "is made anew: its data fingerprint has changed" in capsys.readouterr().err
    assert json.loads((run_.path / "run.json").read_text()) == facts


# --- run folders and checkpoints -------------------------------------------------------------------------


@pytest.fixture
def made(tiny, tmp_path):
    """Return a run folder that a test may damage, and the words that make it."""
    return tiny.run("joint", tmp_path / "results").path, ["train", *tiny.words("joint", tmp_path / "results")]


@pytest.mark.parametrize("name", ["history.csv", "predictions.npz", "epochs.npz", "probe.npz", "weights-last.npz"])
def test_a_damaged_run_is_made_anew_with_the_same_bytes(name, made, capsys):
    folder, words = made
    before = (folder / name).read_bytes()
    os.truncate(folder / name, len(before) // 2)
    assert main(words) == 0
    err = capsys.readouterr().err
    assert f"is made anew: {name} is missing or was changed" in err
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\x00"])
def test_a_corrupt_run_json_is_made_anew(text, made, capsys):
    folder, words = made
    before = (folder / "run.json").read_bytes()
    (folder / "run.json").write_text(text)
    assert main(words) == 0
    assert "is made anew: " in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


def test_a_run_of_an_unknown_schema_is_never_written_over(made, capsys):
    folder, words = made
    set_schema(folder / "run.json")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    line = refused(capsys, *words)
    assert f"{folder}/run.json has the unknown schema 99. Update mmlbench, or move the folder away" in line
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    line = refused(capsys, "score", folder)
    assert "unknown schema 99" in line


@pytest.mark.parametrize("damage", ["cut short", "garbage", "empty", "no checkpoint", "other config"])
def test_a_damaged_checkpoint_is_thrown_away_and_the_run_starts_again(damage, made, capsys):
    folder, words = made
    before = (folder / "run.json").read_bytes()
    (folder / "run.json").unlink()
    path = folder / "checkpoint.npz"
    if damage == "cut short":
        shutil.copy(folder / "weights-last.npz", path)
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "no checkpoint":
        shutil.copy(folder / "weights-last.npz", path)
    elif damage == "other config":
        from mmlbench.train import checkpoint

        checkpoint.save(path, {"identity": {"config": "0"}, "resumed": 0, "seconds": 0.0, "state": {}})
    else:
        path.write_bytes(b"garbage" if damage == "garbage" else b"")
    assert main(words) == 0
    err = capsys.readouterr().err
    assert f"{path} is thrown away: " in err and "Traceback" not in err
    assert (folder / "run.json").read_bytes() == before and not path.exists()


def test_a_run_that_reuses_another_follows_it(tiny, tmp_path, capsys):
    """Where the reused run came out otherwise, 'complete already' would be a lie that nothing could mend."""
    ensemble = tiny.run("ensemble", tmp_path)
    source = next(tmp_path.glob("runs/*/*/unimodal/*/run.json"))
    facts = json.loads(source.read_text())
    source.write_text(json.dumps({**facts, "notes": ["made by another engine"]}))
    assert main(["train", *tiny.words("ensemble", tmp_path)]) == 0
    assert "is made anew: its unimodal run was made anew" in capsys.readouterr().err
    assert json.loads((ensemble.path / "run.json").read_text())["requires"] != ensemble.record["requires"]


# --- faults of plug-ins ----------------------------------------------------------------------------------

METHOD = """
@register
class Odd{k}(Method):
    name = "odd{k}"
    def build(self):
        self.head = fusion_head("concat", self.dims, self.classes)
    def loss(self, batch):
        return cross_entropy(self.predict(self.encode(batch)).fused, batch.label)
    def predict(self, features):
        return self.head(features)
"""
LOSS = "return cross_entropy(self.predict(self.encode(batch)).fused, batch.label)"
PREDICT, BUILD = "return self.head(features)", "def build(self):"
NARROW = "return Logits(fused=self.head(features).fused[:, :2])"
JUDGE = "def stages(self):\n        return [Stage('train', 2, judge='magic')]\n    def build(self):"
NAN_LATER = "z = self.head(features).fused\n        return Logits(fused=z if self.training else z * float('nan'))"
MECHANISM = "def mechanisms(self):\n        return [Mechanism('magic'{})]\n    def build(self):"
#: what, exit code, old text, new text, said, mend
METHOD_FAULTS = [
    ("raises", 1, LOSS, "raise IndexError('the reason')", "IndexError: the reason (", "Mend the file"),
    ("NaN loss", 1, LOSS, LOSS + " * float('nan')", "stage 'train', epoch 0, step 0: the loss is nan", "Lower the"),
    ("loss of no number", 1, LOSS, LOSS + ".expand(3)", "only for scalar outputs", "--debug"),
    ("no loss at all", 1, LOSS, "return None", "failed: AttributeError", "--debug"),
    ("wrong shape", 1, PREDICT, NARROW, "returned fused logits of shape (4, 2), not (4, 3)", "Mend its predict"),
    ("no logits", 1, PREDICT, "return 3", "predicts int, not Logits", "Mend its predict"),
    ("none to judge by", 1, BUILD, JUDGE, "has no logits 'magic' to judge by", "Mend its stages"),
    ("NaN predictions", 1, PREDICT, NAN_LATER, "epoch 0: the val loss/fused is nan", "mend the method"),
    ("never acts", 1, BUILD, MECHANISM.format(""), "'magic' was scheduled and never acted", "Mend the method"),
    ("can't be reached", 2, BUILD, MECHANISM.format(", first=9"), "can't act in the 2 epochs", "Start it earlier"),
    (
        "no heads",
        1,
        "self.head = ",
        "raise ValueError('no heads')\n        ",
        "ValueError: no heads (",
        "Mend the file",
    ),
]
ENCODER = """
@register
class Odd{k}(Encoder):
    name = "odd{k}"
    def __init__(self, shape, params):
        super().__init__(shape, params)
        self.layer = torch.nn.Linear(shape[0] * shape[1] * shape[2], 4)
        self.dim = 4
    def views(self, inputs):
        return self.layer(inputs.flatten(1))
"""
ENCODER_FAULTS = [
    (
        "raises",
        1,
        "return self.layer",
        "raise IndexError('the reason')\n        ",
        "IndexError: the reason (",
        "Mend the",
    ),
    ("wrong width", 1, "self.dim = 4", "self.dim = 5", "(4, 4), not features of shape (4, 5)", "Mend its views"),
    ("NaN", 1, ".flatten(1))", ".flatten(1)) / 0 * 0", "of 'audio' returned NaN or infinite features", "Mend the"),
    ("no width", 1, "        self.dim = 4\n", "", "has no attribute 'dim'", "--debug"),
]
DATASET = (PLUGINS / "tiny.py").read_text().split("@register\nclass Tiny3")[0].replace("class Tiny(", "class Odd(")
RAW = "odd5: /nowhere/raw.wav can't be read (No such file"
DATASET_FAULTS = [
    (
        "raises",
        1,
        "stored.flush()",
        "raise KeyError('the reason')",
        "failed to prepare: KeyError: 'the reason' (",
        "Mend",
    ),
    (
        "wrong shape",
        1,
        "= patterns[label]",
        "= np.zeros((2, 2)) + patterns[label]",
        "could not be broadcast",
        "Mend the",
    ),
    ("NaN", 2, "stored.flush()", "stored[9] = np.nan", "odd2/audio: row 9 is NaN or infinite", "mend the dataset's"),
    (
        "no array",
        2,
        "out.array(modality",
        "out.array(self.modalities[1]",
        "before the array of audio",
        "Make all arrays",
    ),
    (
        "other counts",
        2,
        "np.repeat(list(COUNTS)",
        "np.repeat(['train', 'test', 'val']",
        "counts {",
        "Check the raw files",
    ),
    ("a raw file missing", 2, "stored.flush()", "open('/nowhere/raw.wav')", RAW, "Check the folder of raw files"),
    ("ids that repeat", 2, 'f"t{i:02d}"', '"t"', "sample ids repeat", "Give each sample an id"),
    ("labels out of range", 2, "int(label[i])", "7", "has a wrong part, label or row", "Mend prepare"),
    (
        "no split",
        2,
        '        out.split("plain"',
        '        () and ("plain"',
        "prepare wrote no plain",
        "Mend the dataset's",
    ),
    ("no rows", 2, "modality.name, rows", "modality.name, 0", "'audio' has 0 rows", "Check the raw files"),
]
HEAD = """
import torch
from torch.nn.functional import cross_entropy
from mmlbench.encoder import Encoder
from mmlbench.fusion import fusion_head
from mmlbench.method import Logits, Mechanism, Method, Stage
from mmlbench.registry import register
"""


def cases(faults: list) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("k", range(len(faults)), ids=[fault[0] for fault in faults])


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Iterator[Path]:
    """Write all faulty plug-ins at once, which costs one import, not one each: odd0, odd1, ... of each kind."""
    folder = tmp_path_factory.mktemp("odd")
    for stem, text, faults in (("methods", METHOD, METHOD_FAULTS), ("encoders", ENCODER, ENCODER_FAULTS)):
        assert all(old in text for _, _, old, *_ in faults)
        made = [text.format(k=k).replace(old, new) for k, (_, _, old, new, *_) in enumerate(faults)]
        (folder / f"odd_{stem}.py").write_text(HEAD + "".join(made))
    for k, (_, _, old, new, *_) in enumerate(DATASET_FAULTS):
        assert old in DATASET
        (folder / f"odd{k}.py").write_text(DATASET.replace(old, new))
    yield folder
    plugins.__path__[:] = [place for place in plugins.__path__ if place != str(folder)]
    os.environ[plugins.VARIABLE] = os.pathsep.join(plugins.__path__)


@cases(METHOD_FAULTS)
def test_a_method_at_fault_stops_in_one_line(k, odd, tiny, tmp_path, capsys):
    _, code, _, _, said, mend = METHOD_FAULTS[k]
    line = refused(capsys, "train", *tiny.words(f"odd{k}", tmp_path), "--plugins", odd, code=code)
    assert said in line and mend in line and f"odd{k}" in line
    folder = next(tmp_path.glob(f"runs/*/*/odd{k}/*"))
    assert not (folder / "run.json").exists() and not (folder / "lease.json").exists()
    assert left_over(folder) == []


@cases(ENCODER_FAULTS)
def test_an_encoder_at_fault_stops_in_one_line(k, odd, tiny, tmp_path, capsys):
    _, code, _, _, said, mend = ENCODER_FAULTS[k]
    words = [*tiny.words("joint", tmp_path), "--plugins", odd, "--recipe-set", f"encoder=odd{k}"]
    line = refused(capsys, "train", *words, code=code)
    assert (said in line and mend in line and f"Odd{k}" in line) or "odd_encoders.py" in line
    assert not list(tmp_path.glob("runs/*/*/*/*/run.json"))


@cases(DATASET_FAULTS)
def test_a_dataset_at_fault_stops_in_one_line(k, odd, tmp_path, capsys):
    _, code, _, _, said, mend = DATASET_FAULTS[k]
    line = refused(capsys, "prepare", f"odd{k}", "--cache", tmp_path, "--plugins", odd, code=code)
    assert said in line and mend in line and f"odd{k}" in line
    assert not list(tmp_path.rglob("*.npy"))


def test_a_folder_of_raw_files_that_is_not_there_or_damaged(tmp_path, capsys):
    line = refused(capsys, "prepare", "avdigits", "--cache", tmp_path, "--raw", tmp_path / "none")
    assert "none does not exist. Correct --raw" in line
    raw = Path(shutil.copytree(ROOT / "datasets" / "fsdd", tmp_path / "raw"))
    os.truncate(raw / "theo.flac", 5000)
    (raw / "lucas.flac").unlink()
    line = refused(capsys, "prepare", "avdigits", "--cache", tmp_path / "cache", "--raw", raw)
    assert "lucas.flac missing; theo.flac changed" in line and str(raw) in line
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_device_that_is_not_there(tiny, tmp_path, capsys):
    words = tiny.words("joint", tmp_path / "results")
    words[words.index("cpu")] = "xyz:9"
    line = refused(capsys, "train", *words)
    assert "device 'xyz:9' can't be used" in line and "Use --device cpu or auto" in line


# --- disks -----------------------------------------------------------------------------------------------

MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Mount a real disk of 256 KiB that has about 60 KiB left; where that is not allowed, the test is not run."""
    place = tmp_path / "disk"
    place.mkdir()
    if LIBC.mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=256k"):
        pytest.skip(f"not run: no right to mount a small disk ({os.strerror(ctypes.get_errno())})")
    (place / "ballast").write_bytes(b"x" * 200_000)
    try:
        yield place
    finally:
        LIBC.umount2(bytes(place), MNT_DETACH)


def remount(place: Path, flags: int = 0, options: bytes = b"") -> None:
    assert LIBC.mount(b"tmpfs", bytes(place), b"tmpfs", MS_REMOUNT | flags, options) == 0


def test_a_full_disk_while_preparing(small_disk, capsys):
    """A page of a memory map without room would end the process by SIGBUS, without a word."""
    line = refused(capsys, "prepare", "tiny", "--cache", small_disk / "cache", "--plugins", PLUGINS)
    assert "no space left while writing" in line and str(small_disk / "cache") in line
    assert "Free some space, then type the same command again" in line
    assert not list(small_disk.rglob("*.npy")) and left_over(small_disk) == []


def test_a_full_disk_while_training(small_disk, tiny, capsys):
    line = refused(capsys, "train", *tiny.words("joint", small_disk / "results"))
    assert "no space left while writing" in line and "results/runs/tiny/speaker/joint" in line
    assert not list(small_disk.rglob("run.json")) and left_over(small_disk) == []
    remount(small_disk, options=b"size=16m")
    assert run(capsys, "train", *tiny.words("joint", small_disk / "results")) == (0, [])  # the mend


def test_a_disk_that_is_full_to_the_last_byte(small_disk, tiny, capsys):
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "more").write_bytes(b"x" * 400_000)
    line = refused(capsys, "train", *tiny.words("joint", small_disk / "results"))
    assert "no space left" in line


def test_a_read_only_results_folder(small_disk, tiny, capsys):
    remount(small_disk, MS_RDONLY)
    line = refused(capsys, "train", *tiny.words("joint", small_disk / "results"))
    assert "can't be written (Read-only file system). Make the folder writable or name another" in line
    line = refused(capsys, "prepare", "tiny", "--cache", small_disk / "cache", "--plugins", PLUGINS)
    assert "Read-only file system" in line


def test_a_complete_run_on_a_read_only_disk_is_still_complete(small_disk, tiny, capsys):
    remount(small_disk, options=b"size=16m")
    words = ["train", *tiny.words("joint", small_disk / "results")]
    assert run(capsys, *words) == (0, [])
    remount(small_disk, MS_RDONLY)
    assert run(capsys, *words) == (0, [])
    assert run(capsys, "score", next(small_disk.glob("results/runs/*/*/*/*"))) == (0, [])


def test_a_results_folder_whose_rights_forbid_writing(tmp_path):
    """The same for a user who is not root, to whom modes mean something."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    code = (
        "import os, sys; from pathlib import Path; from mmlbench import store\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: store.write_text(Path(sys.argv[1]) / 'a' / 'b', 'text')\n"
        "except store.DataError as error: print(error)\n"
    )
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    if "PermissionError" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("not run: another user can't read this Python")
    assert "can't be written (Permission denied). Make the folder writable or name another" in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_write_that_fails_late_leaves_the_old_file_and_nothing_else(number, tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    store.write_json(path, {"old": 1})

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for write in (lambda: store.write_json(path, {"new": 1}), lambda: store.write_arrays(path, {"a": np.zeros(3)})):
        with pytest.raises(DataError) as caught:
            write()
        assert str(path) in str(caught.value) and caught.value.mend
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"] and store.read_json(path) == {"old": 1}


def test_results_that_are_a_file(tmp_path, tiny, capsys):
    (tmp_path / "results").write_text("mine")
    line = refused(capsys, "train", *tiny.words("joint", tmp_path / "results"))
    assert "can't be written (Not a directory)" in line or "can't be written (File exists)" in line
    assert (tmp_path / "results").read_text() == "mine"


# --- two writers -----------------------------------------------------------------------------------------


def holder_of(folder: Path, **facts: object) -> Path:
    """Write the lease of another process."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {"token": "other", "host": socket.gethostname(), "pid": os.getppid(), "start": None, **facts}
    (folder / "lease.json").write_text(json.dumps(known))
    return folder


def test_a_folder_that_another_process_works_in(tmp_path):
    said: list[str] = []
    folder = holder_of(tmp_path / "run")
    with pytest.raises(RunError, match=rf"is held by process {os.getppid()} on .*\. Wait for it to end, or stop it"):
        store.Lease(folder, said.append, wait=0).__enter__()
    with pytest.raises(RunError, match="is held by"):
        store.Lease(folder, said.append, wait=0.6).__enter__()
    assert len(said) == 1 and said[0].startswith(f"waiting for {folder}: process {os.getppid()}")
    assert json.loads((folder / "lease.json").read_text())["token"] == "other" and left_over(folder) == []


def gone() -> int:
    """Return the id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    "case", ["process gone", "id used again", "silent elsewhere", "garbage", "empty", "no mapping"]
)
def test_a_dead_holder_is_taken_over_and_that_is_said(case, tmp_path):
    said: list[str] = []
    facts = {
        "process gone": {"pid": gone()},
        "id used again": {"start": "1"},
        "silent elsewhere": {"host": "elsewhere"},
    }.get(case, {})
    folder = holder_of(tmp_path / "run", **facts)
    path = folder / "lease.json"
    if case == "silent elsewhere":
        os.utime(path, (time.time() - store.EXPIRY_S - 5,) * 2)
    if case in ("garbage", "empty", "no mapping"):
        path.write_text({"garbage": "{", "empty": "", "no mapping": "[1]"}[case])
    with store.Lease(folder, said.append, wait=0):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert len(said) == 1 and said[0].startswith(f"taking over {folder}: its holder")
    assert list(folder.iterdir()) == []


def test_one_who_is_silent_for_a_moment_elsewhere_or_in_another_container_is_not_dead(tmp_path):
    for facts in ({"host": "elsewhere", "pid": gone()}, {"space": "pid:[1]", "pid": gone()}):
        folder = holder_of(tmp_path / "run", **facts)
        with pytest.raises(RunError, match="is held by"):
            store.Lease(folder, lambda line: None, wait=0).__enter__()


def test_two_writers_make_a_run_once_and_both_end_well(tiny, tmp_path):
    words = [sys.executable, "-m", "mmlbench", "train", *tiny.words("joint", tmp_path)]
    load_index()
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("is complete\n" in text for text in told) == 1
    assert sum("is complete already\n" in text for text in told) == 1
    assert "Traceback" not in "".join(told) and left_over(tmp_path) == []
    folder = next(tmp_path.glob("runs/*/*/*/*"))
    assert not (folder / "lease.json").exists()


def test_a_stop_signal_ends_with_a_checkpoint_and_its_own_exit_code(tiny, tmp_path, capsys):
    words = ["train", *tiny.words("joint", tmp_path, dataset="tiny3")]
    words[words.index("epochs=2")] = "epochs=500"
    process = subprocess.Popen(
        [sys.executable, "-m", "mmlbench", *words, "--save-every", "0"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    limit = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/*/*/*/checkpoint.npz")) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, told
    assert "was asked to stop by signal 15" in told and "Traceback" not in told
    folder = next(tmp_path.glob("runs/*/*/*/*"))
    assert (folder / "checkpoint.npz").exists() and not (folder / "lease.json").exists()
