"""FLOPs of training: all steps and hooks, whatever a stage is called and whenever the work changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from quick import quick_first
from shipped import METHODS
from torch.utils.flop_counter import FlopCounterMode

from mmlbench.analysis.costs import train_flops_of
from mmlbench.errors import ConfigError, DataError
from mmlbench.method import Method, Stage
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.record import Circumstances, RunRecord
from mmlbench.results.scored_run import ScoredRun, Source
from mmlbench.testing import tiny_spec
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData
from mmlbench.train.flops import BLOCK, FlopMeter
from mmlbench.train.loop import Trainer, check_schedule

ROOT = Path(__file__).resolve().parents[2]
#: One of each kind that `make test` counts; the others are slow.
QUICK = ["joint", "ogm_ge", "di_mml", "alternating", "taking_turns", "remixing"]
LATER = [name for name in [*METHODS, "reinit", "missing_history"] if name not in QUICK]
FOLDER = ROOT / "tests" / "plugins"
HEAVY = '''
import torch
from torch.nn.functional import cross_entropy

from mmlbench.method import Mechanism
from mmlbench.methods.joint import Joint
from mmlbench.params import bounded
from mmlbench.registry import register


@register
class Heavy(Joint):
    """Every hook works: second-order passes and a look at gradients in a window, passes over a part around epochs."""

    class Params(Joint.Params):
        first: int = bounded(2, low=0)
        last: int = bounded(3, low=0)

    def mechanisms(self):
        return [Mechanism("second", first=self.params.first, last=self.params.last)]

    def acting(self):
        return self.params.first <= self.step.epoch <= self.params.last

    def loss(self, batch):
        loss, logits = super().loss(batch)
        if self.acting():
            weights = list(self.encoders["audio"].parameters())
            grads = torch.autograd.grad(loss, weights, create_graph=True)
            loss = loss + 1e-3 * sum(g.square().sum() for g in grads)
            self.count_mechanism("second")
        return loss, logits

    def after_backward(self, step):
        if self.acting():
            grad = self.head.out.weight.grad
            self.record(gram=(grad @ grad.T).diagonal().sum())

    def before_epoch(self, context):
        if context.epoch >= 3:
            context.features("train")

    def after_epoch(self, context):
        found, _, _ = context.features("val")
        self.record(size=sum((h @ h.T).mean() for h in found.values()))
'''


def train(tiny, monkeypatch, method: str, counted: bool = True, **options: object) -> tuple[Trainer, int, dict]:
    """Train on `tiny`; return the trainer, the operations of training by torch's own counter, and the weights."""
    spec = tiny_spec(method, plugins=[FOLDER], **options)
    cache = Cache.open(tiny.cache / spec.cache)
    data = {
        part: PartData(cache, spec.config.split, part, torch.device("cpu"), spec.config.seed_key)
        for part in ("train", "val", "test")
    }
    built = build_method(spec.config, cache, load_index(), len(data["train"]))
    trainer = Trainer(built, data, spec.config.recipe, spec.config.seed_key)
    evaluation, plain = 0, trainer._evaluate

    def evaluate(*words: object) -> None:
        nonlocal evaluation
        with FlopCounterMode(display=False) as counter:
            plain(*words)
        evaluation += counter.get_total_flops()

    if counted:
        monkeypatch.setattr(trainer, "_evaluate", evaluate)
        # torch's counter also follows modules, by hooks that refuse gradients of inputs (`crmt`); the sum needs none
        hook = "torch.utils.module_tracker.register_multi_grad_hook"
        monkeypatch.setattr(hook, lambda tensors, function: SimpleNamespace(remove=lambda: None))
        with FlopCounterMode(display=False) as counter:
            trainer.run()
        return trainer, counter.get_total_flops() - evaluation, built.state_dict()
    trainer.run()
    return trainer, 0, built.state_dict()


def output(trainer: Trainer) -> float:
    """Return the operations that the record tells, as the tables add them up."""
    lengths = {stage.name: stage.epochs for stage in trainer.stages}
    return train_flops_of(ScoredRun(0, (source(trainer.outcome.flops, lengths),), {}))


def source(flops: dict[str, float], epochs: dict[str, int]) -> Source:
    """Return a run folder with 40 training samples, as the tables read it."""
    record = SimpleNamespace(run="runs/r", train_flops=flops, counts={"train": 40})
    return Source(cast(RunRecord, record), Circumstances(), epochs)


@pytest.mark.parametrize("method", quick_first([*QUICK, *LATER], QUICK))
def test_the_record_tells_what_torch_counts_over_the_whole_of_training(method, tiny, monkeypatch):
    """With batches of 6 an epoch of 40 samples has 7 steps, the last of 4 samples."""
    options = {"recipe": {"epochs": 5, "batch_size": 6}}
    trainer, wanted, _ = train(tiny, monkeypatch, method, **options)
    assert output(trainer) == pytest.approx(wanted, rel=1e-9) and (wanted > 0 or not trainer.stages)


@pytest.mark.parametrize("batch_size", [pytest.param(2, marks=pytest.mark.slow), 40])
@pytest.mark.parametrize("params", [{}, {"first": 0, "last": 0}, {"first": 1, "last": 99}])
def test_hooks_and_windows_of_mechanisms_are_counted(params, batch_size, tiny, monkeypatch, plugin_folder):
    """With batches of 2 an epoch has 20 steps, more than are counted one by one."""
    assert batch_size == 40 or 40 // batch_size > BLOCK
    (plugin_folder / "heavy.py").write_text(HEAVY)
    use_plugins([plugin_folder])
    # Batches of two diverge at the usual rate.
    options = {"params": params, "recipe": {"epochs": 6, "batch_size": batch_size, "lr": 1e-4}}
    trainer, wanted, _ = train(tiny, monkeypatch, "heavy", **options)
    joint, plain, _ = train(tiny, monkeypatch, "joint", recipe=options["recipe"])
    assert output(trainer) == pytest.approx(wanted, rel=1e-9)
    assert wanted > 1.2 * plain == pytest.approx(1.2 * output(joint))


@pytest.mark.slow
def test_counting_changes_no_weight(tiny, monkeypatch, plugin_folder):
    (plugin_folder / "heavy.py").write_text(HEAVY)
    use_plugins([plugin_folder])
    kept = [train(tiny, monkeypatch, "heavy", counted=False, recipe={"epochs": 4, "batch_size": 6})[2]]
    for block in (0, 10**6):  # almost no step counted, and every one
        monkeypatch.setattr("mmlbench.train.flops.BLOCK", block)
        monkeypatch.setattr("mmlbench.train.flops.SECOND_LOOK", 10**6)
        kept.append(train(tiny, monkeypatch, "heavy", counted=False, recipe={"epochs": 4, "batch_size": 6})[2])
    assert all(torch.equal(kept[0][name], other[name]) for other in kept[1:] for name in kept[0])


# --- the meter alone --------------------------------------------------------------------------------------------
def run_meter(
    works: list[list[int]], sizes: list[int], afresh: tuple[int, ...] = (0,), stop: int = -1
) -> tuple[int, int]:
    """Let a meter see epochs of steps that do so many multiplications; return its total and the steps it counted."""
    meter, counted, position = FlopMeter(), 0, 0
    for epoch, work in enumerate(works):
        meter.begin("s", epoch in afresh)
        for k, (amount, size) in enumerate(zip(work, sizes, strict=True)):
            if position == stop:
                state = meter.state()
                meter = FlopMeter()
                meter.restore(state)
            with meter.step(epoch, k, len(work), size):
                torch.ones(1, amount * size) @ torch.ones(amount * size, 1)
                counted += bool(torch.utils._python_dispatch._get_current_dispatch_mode())
            position += 1
        meter.end(sum(sizes))
    assert meter.samples == {"s": sum(sizes) * len(works)}
    return meter.totals["s"], counted


def exact(works: list[list[int]], sizes: list[int]) -> int:
    return sum(2 * amount * size for work in works for amount, size in zip(work, sizes, strict=True))


@pytest.mark.parametrize("period", [1, 2, 3, 4, 6, 12])
def test_patterns_within_and_over_epochs_are_exact(period):
    sizes = [4] * 49 + [3]
    within = [[1 + k % period for k in range(50)]] * 6
    assert run_meter(within, sizes)[0] == exact(within, sizes)
    over = [[1 + epoch % period] * 50 for epoch in range(12)]
    assert run_meter(over, sizes)[0] == exact(over, sizes)


def test_few_steps_are_counted_where_all_are_alike():
    works, sizes = [[5] * 100] * 40, [4] * 100
    total, counted = run_meter(works, sizes)
    assert total == exact(works, sizes) and counted <= BLOCK + 40 + 10 < 0.02 * 4000


def test_a_declared_turn_is_exact_wherever_it_is():
    works, sizes = [[1] * 30] * 3 + [[4] * 30] * 3 + [[1] * 30] * 2, [4] * 30
    for afresh in ((0, 3, 6), (0,)):
        assert run_meter(works, sizes, afresh)[0] == exact(works, sizes)


def test_an_interrupted_count_goes_on_to_the_same_number():
    works, sizes = [[1 + k % 5 for k in range(9)], [7] * 9, [2] * 9], [4] * 8 + [2]
    whole = run_meter(works, sizes, (0, 2))
    assert all(run_meter(works, sizes, (0, 2), stop) == whole for stop in range(27))


# --- names ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["0/audio", "", "a b", "a\n", "../x", "ü", "x" * 41, "a,b", 3, None])
def test_a_stage_is_named_as_files_are(tiny, name):
    method = Method.__new__(Method)
    method.name = "m"
    with pytest.raises(ConfigError, match="a stage can't be called"):
        check_schedule(method, [Stage(name, 1)])


def test_a_cost_that_is_lost_is_no_zero():
    with pytest.raises(DataError, match="cost is unknown"):
        train_flops_of(ScoredRun(0, (source({"0/audio": 5.0}, {"0": 3}),), {}))
