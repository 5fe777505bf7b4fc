"""Methods, encoders and datasets at fault while they run: one line that names the thing, the line and the fix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_input import left_over, refused

from mmlbench import plugins
from mmlbench.testing import PLUGINS

METHOD = """
@register
class Odd{k}(Method):
    name = "odd{k}"
    def build(self):
        self.head = fusion_head("concat", self.dims, self.classes)
    def loss(self, batch):
        return cross_entropy(self.predict(self.encode(batch)).fused, batch.label), Logits()
    def predict(self, features):
        return self.head(features)
"""
LOSS = "return cross_entropy(self.predict(self.encode(batch)).fused, batch.label), Logits()"
PREDICT, BUILD = "return self.head(features)", "def build(self):"
NARROW = "return Logits(fused=self.head(features).fused[:, :2])"
CENTRED = "z = self.head(features).fused\n        return Logits(fused=z - z.mean(0, keepdim=True))"
CHANCE = "z = self.head(features).fused\n        import torch\n        return Logits(fused=z + torch.rand_like(z))"
JUDGE = "def stages(self):\n        return [Stage('train', 2, select_on='magic')]\n    def build(self):"
NAN_LATER = "z = self.head(features).fused\n        return Logits(fused=z if self.training else z * float('nan'))"
MECHANISM = "def mechanisms(self):\n        return [Mechanism('magic'{})]\n    def build(self):"
#: what, exit code, old text, new text, said, fix
METHOD_FAULTS = [
    ("raises", 1, LOSS, "raise IndexError('the reason')", "IndexError: the reason (", "Fix the file"),
    ("looks at its batch", 1, PREDICT, CENTRED, "logits that 'odd", "each sample's own features"),
    ("predicts by chance", 1, PREDICT, CHANCE, "logits that 'odd", "each sample's own features"),
    ("exits", 1, LOSS, "raise SystemExit(0)", "SystemExit: 0 (", "Fix the file"),
    ("exits while it is built", 1, BUILD, BUILD + "\n        import sys; sys.exit()", "SystemExit", "Fix the file"),
    (
        "NaN loss",
        1,
        LOSS,
        LOSS.replace(", Logits", " * float('nan'), Logits"),
        "stage 'train', epoch 0, step 0: the loss is nan",
        "not the learning",
    ),
    (
        "loss of no number",
        1,
        LOSS,
        LOSS.replace(", Logits", ".expand(3), Logits"),
        "the loss has the shape (3,)",
        "take its mean",
    ),
    ("no loss at all", 1, LOSS, "return None", "the loss returned NoneType, not (loss, logits)", "Return the loss"),
    ("a loss alone", 1, LOSS, LOSS.removesuffix(", Logits()"), "the loss returned Tensor, not", "Return the loss"),
    ("no logits with it", 1, LOSS, LOSS.replace("Logits()", "None"), "(Tensor, NoneType)", "Return the loss"),
    ("wrong shape", 1, PREDICT, NARROW, "returned fused logits of shape (4, 2), not (4, 3)", "Fix its predict"),
    ("no logits", 1, PREDICT, "return 3", "predicts int, not Logits", "Fix its predict"),
    ("none to judge by", 2, BUILD, JUDGE, "is judged by the logits 'magic', which it has not", "fix its `select_on`"),
    ("NaN predictions", 1, PREDICT, NAN_LATER, "epoch 0: the val loss/fused is nan", "fix the method"),
    ("never acts", 1, BUILD, MECHANISM.format(""), "'magic' was scheduled and never acted", "Fix the method"),
    ("can't be reached", 2, BUILD, MECHANISM.format(", first=9"), "can't act in the 2 epochs", "Start it earlier"),
    (
        "no heads",
        1,
        "self.head = ",
        "raise ValueError('no heads')\n        ",
        "ValueError: no heads (",
        "Fix the file",
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
        "Fix the",
    ),
    ("wrong width", 1, "self.dim = 4", "self.dim = 5", "(4, 4), not features of shape (4, 5)", "Fix its views"),
    ("NaN", 1, ".flatten(1))", ".flatten(1)) / 0 * 0", "of 'audio' returned NaN or infinite features", "Fix the"),
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
        "Fix",
    ),
    (
        "wrong shape",
        1,
        "= patterns[label]",
        "= np.zeros((2, 2)) + patterns[label]",
        "could not be broadcast",
        "Fix the",
    ),
    ("NaN", 2, "stored.flush()", "stored[9] = np.nan", "odd2/audio: row 9 is NaN or infinite", "fix the dataset's"),
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
    ("labels out of range", 2, "int(label[i])", "7", "has a wrong part, label or row", "Fix prepare"),
    (
        "no split",
        2,
        '        out.split("plain"',
        '        () and ("plain"',
        "prepare wrote no plain",
        "Fix the dataset's",
    ),
    (
        "folds that share",
        2,
        '        out.split("plain"',
        '        self.splits = {f"fold.{k}": self.splits["plain"] for k in (1, 2)}\n'
        "        for fold in self.splits:\n            out.split(fold",
        "is in the test parts of the folds fold.1 and fold.2",
        "Test each sample in one fold",
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
    _, code, _, _, message, fix = METHOD_FAULTS[k]
    line = refused(capsys, "train", *tiny.words(f"odd{k}", tmp_path), "--plugins", odd, code=code)
    assert message in line and fix in line and f"odd{k}" in line
    folder = next(tmp_path.glob(f"runs/*/*/odd{k}/*"))
    assert not (folder / "run.json").exists() and not (folder / "lease.json").exists()
    assert left_over(folder) == []


@cases(ENCODER_FAULTS)
def test_an_encoder_at_fault_stops_in_one_line(k, odd, tiny, tmp_path, capsys):
    _, code, _, _, message, fix = ENCODER_FAULTS[k]
    words = [*tiny.words("joint", tmp_path), "--plugins", odd, "--recipe-set", f"encoder=odd{k}"]
    line = refused(capsys, "train", *words, code=code)
    assert (message in line and fix in line and f"Odd{k}" in line) or "odd_encoders.py" in line
    assert not list(tmp_path.glob("runs/*/*/*/*/run.json"))


@cases(DATASET_FAULTS)
def test_a_dataset_at_fault_stops_in_one_line(k, odd, tmp_path, capsys):
    _, code, _, _, message, fix = DATASET_FAULTS[k]
    line = refused(capsys, "prepare", f"odd{k}", "--cache", tmp_path, "--plugins", odd, code=code)
    assert message in line and fix in line and f"odd{k}" in line
    assert not list(tmp_path.rglob("*.npy"))
