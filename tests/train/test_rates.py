"""Learning rates by step, warm-up and clipping: against torch's own schedulers and a loop without the engine."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from mmlbench.errors import ConfigError
from mmlbench.method import Method, Stage
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.study.recipe import Recipe
from mmlbench.study.run_spec import RunSpec
from mmlbench.testing import tiny_spec
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData, batch_bounds
from mmlbench.train.loop import Trainer
from mmlbench.train.rates import check_rates, rate_factor

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
COSINE = {"schedule": "cosine", "warmup": 0.5, "epochs": 3, "batch_size": 8}


def world(tiny, spec: RunSpec) -> tuple[Method, dict[str, PartData]]:
    """Return a run's method and data, built anew."""
    cache = Cache.open(tiny.cache / spec.cache)
    data = {
        part: PartData(cache, spec.config.split, part, torch.device("cpu"), spec.config.seed_key)
        for part in ("train", "val", "test")
    }
    return build_method(spec.config, cache, load_index(), len(data["train"])), data


# --- the rate ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(4, 7, 1.0), (3, 5, 0.4), (2, 10, 1.5), (5, 3, 0.0)])
def test_warm_up_and_cosine_are_those_of_torch(epochs, steps, warmup):
    """`LinearLR` from 1 / w in w - 1 steps, then `CosineAnnealingLR` over the others."""
    recipe = Recipe(schedule="cosine", warmup=warmup, epochs=epochs)
    rise, optimizer = round(warmup * steps), SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule: Any = CosineAnnealingLR(optimizer, epochs * steps - rise)
    if rise:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        both = [LinearLR(optimizer, 1 / rise, 1, rise - 1), CosineAnnealingLR(optimizer, epochs * steps - rise)]
        schedule = SequentialLR(optimizer, both, [rise])
    for epoch, step in product(range(epochs), range(steps)):
        wanted = optimizer.param_groups[0]["lr"]
        assert rate_factor(recipe, epochs, steps, epoch, step) == pytest.approx(wanted, abs=1e-12)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize("at", [0.0, 0.5, 0.75, 1.0])
def test_drops_go_by_the_epoch(at, every):
    recipe = Recipe(drop_at=at, drop_every=every, drop_factor=0.3)
    for epochs, epoch, step in product((1, 2, 7), range(7), (0, 4)):
        if epoch < epochs:
            drops = epoch // every if every else int(at < 1 and epoch >= round(at * epochs))
            assert rate_factor(recipe, epochs, 5, epoch, step) == 0.3**drops  # to the bit


def test_a_warm_up_comes_before_drops():
    recipe = Recipe(drop_every=2, drop_factor=0.5, warmup=1.0)
    found = [rate_factor(recipe, 4, 4, epoch, step) for epoch in range(4) for step in (0, 3)]
    assert found == [0.25, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]


def test_the_history_holds_the_rate_of_an_epochs_last_step(tiny, tmp_path):
    run = tiny.run("joint", tmp_path, recipe={**COSINE, "lr": 0.5})
    recipe, steps = run.record.config.recipe, len(batch_bounds(run.record.counts["train"], 8))
    rates = [value for _, _, _, name, value in run.history() if name == "lr"]
    assert rates == [0.5 * rate_factor(recipe, 3, steps, epoch, steps - 1) for epoch in range(3)]


# --- training against a loop of its own -------------------------------------------------------------------------
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_training_is_that_of_a_loop_with_torchs_scheduler_and_clipping(clip, tiny):
    spec = tiny_spec("joint", recipe={**COSINE, "clip_grad": clip})
    recipe = spec.config.recipe
    method, data = world(tiny, spec)
    trainer = Trainer(method, data, recipe, spec.config.seed_key)
    trainer.run()
    diagnostics = {row[3]: row[4] for row in trainer.outcome.history.rows if row[3].startswith("diagnostic/")}
    assert ("diagnostic/gradient_clipped" in diagnostics) == bool(clip)
    assert not clip or diagnostics["diagnostic/gradient_clipped"] > 0 < diagnostics["diagnostic/gradient_norm"]

    other, data = world(tiny, spec)
    train, bounds = data["train"], batch_bounds(len(data["train"]), recipe.batch_size)
    rise = round(recipe.warmup * len(bounds))
    decay, momentum = recipe.weight_decay, recipe.momentum
    optimizer = SGD(other.parameters(), lr=recipe.lr, weight_decay=decay, momentum=momentum)
    both = [LinearLR(optimizer, 1 / rise, 1, rise - 1), CosineAnnealingLR(optimizer, 3 * len(bounds) - rise)]
    schedule = SequentialLR(optimizer, both, [rise])
    other.train()
    for epoch in range(recipe.epochs):
        order, views = train.order(epoch), train.views(epoch)
        for batch in train.batches([order[slice(*bound)] for bound in bounds], views):
            optimizer.zero_grad()
            other.loss(batch)[0].backward()
            if clip:
                clip_grad_norm_(other.parameters(), clip)
            optimizer.step()
            schedule.step()
    for name, value in method.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_clipping_and_schedules_change_the_numbers(tiny):
    """The counter-test: each of the fields reaches the weights."""
    found = []
    base = {"epochs": 2, "batch_size": 8}
    for fields in ({}, {"clip_grad": 0.05}, {"schedule": "cosine"}, {"warmup": 0.5}):
        spec = tiny_spec("joint", recipe={**base, **fields})
        method, data = world(tiny, spec)
        Trainer(method, data, spec.config.recipe, spec.config.seed_key).run()
        found.append(torch.cat([value.flatten() for value in method.parameters()]).detach())
    assert all(not torch.equal(found[a], found[b]) for a in range(4) for b in range(a))


def test_a_method_with_its_own_steps_is_clipped_too(tiny):
    """The limit holds for each optimiser's parameters together."""
    spec = tiny_spec("alternating", recipe={"clip_grad": 1e-3, "batch_size": 8}, plugins=[PLUGINS])
    method, data = world(tiny, spec)
    trainer = Trainer(method, data, spec.config.recipe, spec.config.seed_key)
    seen, make = [], trainer._make_optimizer

    def norm_of(optimizer, *_) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        seen.append(float(torch.stack([grad.norm() for grad in grads]).norm()))

    def watched(parameters):
        made = make(parameters)
        made.register_step_post_hook(norm_of)
        return made

    trainer._make_optimizer = watched
    trainer.run()
    assert len(seen) == 2 * len(trainer.pieces) and max(seen) <= 1e-3 * (1 + 1e-4)


# --- what is refused --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "linear"}, "It takes one of step, cosine"),
        ({"schedule": "cosine", "drop_every": 5}, "drop_every has no effect under `schedule: cosine`"),
        ({"schedule": "cosine", "drop_at": 0.5}, "drop_at has no effect under `schedule: cosine`"),
        ({"schedule": "cosine", "drop_factor": 0.5}, "drop_factor has no effect under `schedule: cosine`"),
        ({"warmup": 2, "epochs": 2}, "`warmup: 2` fills all of the epochs (2)"),
        ({"warmup": -1}, "It takes a float, at least 0"),
        ({"warmup": 1.6, "epochs": 2, "drop_at": 0.5}, "the rate drops at epoch 1, before `warmup: 1.6`"),
        ({"warmup": 2.5, "epochs": 9, "drop_every": 2}, "the rate drops at epoch 2, before `warmup: 2.5`"),
        ({"clip_grad": -0.1}, "It takes a float, at least 0"),
        ({"clip_grad": "1"}, "write it without quotes"),
    ],
)
def test_settings_without_effect_are_refused(fields, message, tiny):
    with pytest.raises(ConfigError) as caught:
        tiny_spec("joint", recipe=fields)
    text = str(caught.value)
    assert message in text and "\n" not in text


def test_a_name_says_what_was_set(tiny):
    name = tiny_spec("joint", recipe={"schedule": "cosine", "warmup": 0.5, "clip_grad": 1}).config.recipe.name
    assert {"schedule=cosine", "warmup=0.5", "clip_grad=1.0"} <= set(name.split())


def test_a_warm_up_that_a_stage_has_no_room_for_is_refused(tiny):
    spec = tiny_spec("joint", recipe={"epochs": 9, "warmup": 3})
    method, _ = world(tiny, spec)
    check_rates(method, [Stage("train", 4)], spec.config.recipe)
    with pytest.raises(ConfigError, match=r"`warmup: 3` fills stage 'fusion' .epochs: 3"):
        check_rates(method, [Stage("train", 9), Stage("fusion", 3)], spec.config.recipe)
    with pytest.raises(ConfigError, match=r"`warmup: 0.01` has no effect: an epoch has \d+ steps"):
        check_rates(method, [Stage("train", 9)], replace(spec.config.recipe, warmup=0.01))
