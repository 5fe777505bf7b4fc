"""What runs compute with has the same digits on every CPU: some of torch's functions have not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import emulated
import pytest

from mmlbench.system import arithmetic

ROOT = Path(__file__).resolve().parents[2]
#: Torch has MKL's vector functions compute these; the variables of portable arithmetic do not reach them.
BY_CPU = frozenset(
    f"{name}{place}"
    for name in ("sqrt", "tan", "acos", "asin", "atan", "arccos", "arcsin", "arctan")
    for place in ("", "_")
)
#: Libraries that have functions of these names, with digits of their own.
OTHERS = frozenset({"math", "cmath", "np", "numpy"})
FOLDERS = (
    "methods",
    "mmlbench/formulas",
    "mmlbench/encoders",
    "mmlbench/train",
    "mmlbench/task",
    "mmlbench/modalities",
)


def by_cpu(source: str) -> list[str]:
    """Return the calls in a source whose digits depend on the CPU, as `name at line`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BY_CPU:
            owner = node.func.value
            if not (isinstance(owner, ast.Name) and owner.id in OTHERS):
                found.append(f"{node.func.attr} at {node.lineno}")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_runs_call_no_function_whose_digits_depend_on_the_cpu(folder: str) -> None:
    """Take `rsqrt`, `torch.linalg.vector_norm`, `torch.atan2` or numpy's `sqrt` in their place."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {name: calls for path in files if (calls := by_cpu(path.read_text(encoding="utf-8")))
             for name in [path.relative_to(ROOT).as_posix()]}  # fmt: skip
    assert found == {}


@pytest.mark.parametrize(
    "call", ["x.sqrt()", "torch.sqrt(x)", "x.square().sum(0).sqrt_()", "torch.acos(x)", "x.tan()"]
)
def test_such_a_call_is_found(call: str) -> None:
    assert by_cpu(f"def f(x):\n    return {call}\n")


@pytest.mark.parametrize("call", ["math.sqrt(x)", "np.sqrt(x)", "x.rsqrt()", "torch.atan2(x, x)", "sqrt"])
def test_other_calls_are_not_found(call: str) -> None:
    assert not by_cpu(f"def f(x):\n    return {call}\n")


# ---- optimisers take square roots too, and no text of ours says so ------------------------------------------------
#: Prints digests of drawn crops and of weights after some steps of the recipe's optimiser; `plain` has torch choose.
SCRIPT = """
import hashlib, sys
import torch
from mmlbench.modality import Augmentation
from mmlbench.train.augmentation import random_boxes
from mmlbench.train.rng import generator
from mmlbench.testing import tiny_spec
from mmlbench.train.loop import Trainer

def digest(values):
    return hashlib.sha256(b"".join(value.detach().numpy().tobytes() for value in values)).hexdigest()[:16]

class Stub:
    def __init__(self, name):
        self.recipe = tiny_spec("joint", recipe={"optimizer": name, "lr": 0.01}).config.recipe
        self.device, self.method = torch.device("cpu"), torch.nn.Module()

torch.set_num_threads(1)
rng = generator("portable")
roots = random_boxes((4000, 1), (4096, 4096), Augmentation(crop="resized"), rng)
print("crops", digest([roots]))
for name in ("adam", "adamw"):
    weights = [torch.nn.Parameter(torch.randn(size, generator=rng)) for size in (1000, 37)]
    optimizer = Trainer._make_optimizer(Stub(name), weights)
    if "plain" in sys.argv:
        optimizer = torch.optim.Adam(weights, lr=0.01, fused=False)
    for _ in range(5):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=rng)
        optimizer.step()
    print(name, digest(weights))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "portable.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def here(script: Path, *words: str) -> str:
    """Run the script on this CPU, in portable arithmetic."""
    command, env = [sys.executable, str(script), *words], emulated.environment()
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=300).stdout


needs_emulator = pytest.mark.skipif(
    emulated.QEMU is None or bool(arithmetic.why_not_portable()), reason="no qemu-x86_64, or no portable arithmetic"
)


@needs_emulator
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("cpu", emulated.CPUS)
def test_optimisers_and_crops_have_the_digits_of_another_cpu(cpu: str, script: Path) -> None:
    done = emulated.run(cpu, script, [], emulated.environment())
    assert done.stdout.splitlines()[1:] == here(script).splitlines(), done.stderr


@needs_emulator
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_optimiser_that_torch_chooses_has_digits_by_cpu(script: Path) -> None:
    """The counter-test: processors approximate a square root by tables, the emulator computes it."""
    emulated_ones = emulated.run("Haswell", script, ["plain"], emulated.environment()).stdout.splitlines()[1:]
    assert emulated_ones and emulated_ones != here(script, "plain").splitlines()
