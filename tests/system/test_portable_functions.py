"""What runs compute with has the same digits on every CPU: some of torch's functions have not."""

from __future__ import annotations

import ast
import contextlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emulated
import pytest
import torch
from quick import quick_first
from shipped import METHODS, names
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmlbench.api.making import make_run
from mmlbench.registry.index import load_index
from mmlbench.system import arithmetic
from mmlbench.testing import takes, tiny_spec
from mmlbench.testing.conformance import OF_TASKS, check_encoder
from mmlbench.train import probe

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


# ---- what is computed, whoever wrote the call ------------------------------------------------------------------
#: Functions that differ more rarely, of one number in 40,000 or fewer; those of float64 alone.
RARELY, RARELY_IN_FLOAT64 = frozenset({"log10"}), frozenset({"log", "logsumexp"})
#: What is left, method -> operations: an edit of the method makes its shipped runs stale.
LEFT = {"agm": {"log of torch.float64"}, "greedy": {"log10 of torch.float64"}}


class Dispatched(TorchDispatchMode):
    """Notes the operations whose digits depend on the CPU, those within torch's Python too, as `name of type`."""

    def __init__(self) -> None:
        super().__init__()
        self.found = set[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__.removeprefix("_foreach_").strip("_")
        first = args[0] if args and isinstance(args[0], (list, tuple)) else args[:1]
        of = {value.dtype for value in first if isinstance(value, Tensor)}
        self.found |= {
            f"{name} of {dtype}"
            for dtype in of
            if name in BY_CPU | RARELY or (name in RARELY_IN_FLOAT64 and dtype == torch.float64)
        }
        return func(*args, **(kwargs or {}))


def dispatched(work: Callable[[], object]) -> set[str]:
    with Dispatched() as mode:
        work()
    return mode.found


@pytest.mark.parametrize("dataset", quick_first(["tiny", "tiny3", *OF_TASKS.values()], 1))
@pytest.mark.parametrize("method", quick_first(METHODS, ("agm", "greedy", "joint")))
def test_a_run_computes_nothing_whose_digits_depend_on_the_cpu(
    method: str, dataset: str, tmp_path: Path, tiny: Any
) -> None:
    if not takes(method, dataset):
        pytest.skip(f"{method} does not serve {dataset}")
    spec, index = tiny_spec(method, dataset), load_index()
    assert dispatched(lambda: make_run(spec, index, tmp_path, tiny.cache, "cpu")) == LEFT.get(method, set())


#: Those of the project itself; the others name a library's.
ENCODERS = [name for name in names(ROOT / "mmlbench" / "encoders") if name not in ("hf", "torchvision")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_computes_nothing_whose_digits_depend_on_the_cpu(name: str, tmp_path: Path, tiny: Any) -> None:
    assert dispatched(lambda: check_encoder(name, tmp_path, tiny.cache)) == set()


X, Y = torch.rand(7) + 0.1, torch.rand(7, 3, dtype=torch.float64) + 0.1


@pytest.mark.parametrize(
    ("work", "found"),
    [
        (X.sqrt, {"sqrt of torch.float32"}),
        (lambda: X.clone().sqrt_(), {"sqrt of torch.float32"}),
        (lambda: torch._foreach_sqrt([X, Y]), {"sqrt of torch.float32", "sqrt of torch.float64"}),
        (X.log10, {"log10 of torch.float32"}),
        (Y.log, {"log of torch.float64"}),
        (lambda: Y.logsumexp(1), {"logsumexp of torch.float64"}),
        (lambda: torch.special.entr(Y).asin(), {"asin of torch.float64"}),
        (lambda: (X.log(), X.logsumexp(0), Y.log2(), Y.exp(), Y.log_softmax(1), Y.rsqrt()), set()),
    ],
)
def test_such_an_operation_is_noted(work: Callable[[], object], found: set[str]) -> None:
    assert dispatched(work) == found


def fit() -> Tensor:
    """Fit a probe of some noise."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    label = torch.randint(3, (60,), generator=generator)
    return probe.fit_logistic(features, label, 3, 0.01, torch.zeros(6, 3, dtype=torch.float64))


def test_the_line_search_of_a_probe_takes_rounded_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatched(fit) == set()
    monkeypatch.setattr(probe, "RoundedRoots", contextlib.nullcontext)
    assert dispatched(fit) == {"sqrt of torch.float64"}, "the counter-test: torch's line search takes none any more"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounded_roots_are_those_of_the_standard_library(dtype: torch.dtype) -> None:
    for value in (torch.rand(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 100).to(dtype):
        with probe.RoundedRoots():
            root, other = value.sqrt(), value.exp()
        assert root.dtype == dtype and root.shape == () and torch.equal(other, value.exp())
        assert torch.equal(root, torch.tensor(math.sqrt(value.item()), dtype=dtype))


# ---- optimisers take square roots too, and no text of ours says so ------------------------------------------------
#: Prints digests of drawn crops, of a probe and of weights after some steps of the recipe's optimiser; with the word
#: `plain` torch chooses that.
SCRIPT = """
import hashlib, sys
import torch
from mmlbench.modality import Augmentation
from mmlbench.train.augmentation import random_boxes
from mmlbench.train.rng import generator
from mmlbench.testing import tiny_spec
from mmlbench.train.loop import Trainer
from mmlbench.train.probe import PENALTIES, fit_logistic

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
features, label = torch.randn(300, 20, generator=rng, dtype=torch.float64), torch.randint(4, (300,), generator=rng)
solution = torch.zeros(21, 4, dtype=torch.float64)
for penalty in PENALTIES:
    solution = fit_logistic(features, label, 4, penalty, solution)
    print("probe", digest([solution]))
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
def test_optimisers_crops_and_probes_have_the_digits_of_another_cpu(cpu: str, script: Path) -> None:
    done = emulated.run(cpu, script, [], emulated.environment())
    assert done.stdout.splitlines()[1:] == here(script).splitlines(), done.stderr


@needs_emulator
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_optimiser_that_torch_chooses_has_digits_by_cpu(script: Path) -> None:
    """The counter-test: processors approximate a square root by tables, the emulator computes it."""
    emulated_ones = emulated.run("Haswell", script, ["plain"], emulated.environment()).stdout.splitlines()[1:]
    assert emulated_ones and emulated_ones != here(script, "plain").splitlines()
