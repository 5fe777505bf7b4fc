"""Parts that train in turns, bare parameters, and the mode of what is frozen."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from mmlbench.errors import ConfigError
from mmlbench.method import Method, Stage, Turn
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.study.run_spec import RunSpec
from mmlbench.testing import tiny_spec
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData, batch_bounds
from mmlbench.train.loop import Trainer, check_schedule
from mmlbench.train.modes import set_modes

FOLDER = Path(__file__).resolve().parents[1] / "plugins"


def world(tiny, spec: RunSpec) -> tuple[Method, dict[str, PartData]]:
    """Return a run's method and data, built anew."""
    cache = Cache.open(tiny.cache / spec.cache)
    data = {
        part: PartData(cache, spec.config.split, part, torch.device("cpu"), spec.config.seed_key)
        for part in ("train", "val", "test")
    }
    return build_method(spec.config, cache, load_index(), len(data["train"])), data


def states(tiny, **options: Any) -> tuple[Trainer, list[dict[str, torch.Tensor]]]:
    """Train in turns; return the trainer, and the state before each epoch and at the end."""
    options.setdefault("recipe", {"epochs": 4, "batch_size": 8})
    spec = tiny_spec("taking_turns", plugins=[FOLDER], **options)
    method, data = world(tiny, spec)
    found = [{name: value.clone() for name, value in method.state_dict().items()}]

    def keep(*_: object) -> None:
        found.append({name: value.clone() for name, value in method.state_dict().items()})

    trainer = Trainer(method, data, spec.config.recipe, spec.config.seed_key, report=keep)
    trainer.run()
    return trainer, found


def moved(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], prefix: str) -> set[str]:
    """Return the names below a prefix that differ between two states."""
    return {name for name in one if name.startswith(prefix) and not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("frozen", ["eval", "train"])
def test_only_what_has_its_turn_trains(frozen, tiny):
    """Batch norm of the other encoder takes new statistics where the method says that it stays in training mode."""
    _, found = states(tiny, params={"frozen": frozen})
    for epoch, (before, after) in enumerate(pairwise(found)):
        on, off = ("audio", "visual") if epoch % 2 == 0 else ("visual", "audio")
        assert moved(before, after, f"encoders.{on}.") and moved(before, after, "head.")
        gone = moved(before, after, f"encoders.{off}.")
        assert not {name for name in gone if name.endswith(("weight", "bias"))}
        assert bool(gone) == (frozen == "train")
        assert moved(before, after, "scale") == {"scale"}, "a bare parameter"


def test_the_rate_runs_over_all_turns_and_one_epoch_is_picked_of_all(tiny, tmp_path):
    recipe = {"epochs": 5, "batch_size": 8, "schedule": "cosine", "lr": 0.05}
    run = tiny.run("taking_turns", tmp_path, recipe=recipe, plugins=[FOLDER])
    steps = len(batch_bounds(run.record.counts["train"], 8))
    rows = {(name, epoch): value for _, epoch, part, name, value in run.history() if part == "train"}
    last = [(epoch * steps + steps - 1) / (5 * steps) for epoch in range(5)]
    wanted = [0.05 * (1 + math.cos(math.pi * share)) / 2 for share in last]
    assert [rows["lr", epoch] for epoch in range(5)] == pytest.approx(wanted)
    assert [rows["turn", epoch] for epoch in range(5)] == [0, 1, 0, 1, 0]
    accuracy = [value for _, _, part, name, value in run.history() if (part, name) == ("val", "accuracy/fused")]
    (pick,) = run.record.selected["val"]
    assert pick.epoch == accuracy.index(max(accuracy)) and pick.stage == "train"


def test_one_optimiser_serves_all_turns(tiny):
    """Momenta outlive the epochs in which a part rests: as a loop with one optimiser of torch has it."""
    trainer, found = states(tiny)
    recipe = trainer.recipe
    method, data = world(tiny, tiny_spec("taking_turns", plugins=[FOLDER], recipe={"epochs": 4, "batch_size": 8}))
    optimizer = SGD(method.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    train = data["train"]
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = recipe.lr * (recipe.drop_factor if epoch >= 3 else 1)
        off = method.encoders["visual" if epoch % 2 == 0 else "audio"]
        method.train()
        off.eval()
        order, views = train.order(epoch), train.views(epoch)
        for batch in train.batches([order[slice(*bound)] for bound in batch_bounds(len(train), 8)], views):
            optimizer.zero_grad(set_to_none=True)
            method.loss(batch)[0].backward()
            for parameter in off.parameters():
                parameter.grad = None
            optimizer.step()
    for name, value in method.state_dict().items():
        torch.testing.assert_close(value, found[-1][name], rtol=1e-5, atol=1e-7)


def test_turns_come_again_and_again():
    turns = [Turn("a", [], epochs=2), Turn("b", []), Turn("c", [], epochs=3)]
    stage = Stage("train", 14, turns=turns)
    assert "".join(stage.turn_at(epoch).name for epoch in range(14)) == "aabcccaabcccaa"
    assert Stage("train", 3).turn_at(2) is None


# --- stages without turns ---------------------------------------------------------------------------------------
def test_a_stage_trains_bare_parameters_and_says_the_mode_of_the_rest(tiny):
    method, _ = world(tiny, tiny_spec("taking_turns", plugins=[FOLDER]))
    for frozen in ("eval", "train"):
        set_modes(method, Stage("train", 1, train=[method.scale, method.head], frozen=frozen))
        learning = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
        assert learning == {"scale", "head.out.weight", "head.out.bias"}
        assert method.head.training and method.encoders["audio"].training == (frozen == "train")


def test_modules_of_a_stage_that_rest_keep_what_they_learned(tiny, tmp_path, plugin_folder):
    """Each stage has its own picks; a mode in which others take statistics takes all of them with it."""
    text = """from mmlbench import Stage, register
from mmlbench.methods.unimodal import Unimodal
from dataclasses import replace

@register
class Moving(Unimodal):
    def stages(self):
        return [replace(stage, frozen="train") for stage in super().stages()]
"""
    (plugin_folder / "moving.py").write_text(text, encoding="utf-8")
    run = tiny.run("moving", tmp_path, plugins=[plugin_folder], recipe={"epochs": 3})
    assert len(run.record.selected["last"]) == 2
    for part in ("val", "test"):
        for pick in run.record.selected[part]:
            assert 0 <= pick.epoch < 3


# --- what is refused --------------------------------------------------------------------------------------------
def wrong_stages(m: Method) -> dict[str, Stage]:
    """Return message -> a stage of a method that it is about."""
    here = [m.head]
    stray = nn.Linear(2, 2)
    two = [Turn("a", here), Turn("a", here)]
    return {
        "stage 's' has both `train` and `turns`": Stage("s", 2, train=here, turns=[Turn("a", here)]),
        "stage 's': two turns are called 'a'": Stage("s", 2, turns=two),
        "turn 'a' has 0 epochs": Stage("s", 2, turns=[Turn("a", here, epochs=0)]),
        "turn 'b' never comes: the stage ends after epoch 1": Stage(
            "s", 2, turns=[Turn("a", here, epochs=2), Turn("b", here)]
        ),
        "turn 'a' trains nothing": Stage("s", 2, turns=[Turn("a", [])]),
        "stage 's' trains nothing": Stage("s", 2, train=[nn.ReLU()]),
        "stage 's' has frozen = 'sleep'": Stage("s", 2, frozen="sleep"),
        "turn 'a' has frozen = ''": Stage("s", 2, turns=[Turn("a", here, frozen="")]),
        "stage 's' trains a Tensor, which is neither": Stage("s", 2, train=[torch.ones(2)]),
        "stage 's' trains a str": Stage("s", 2, train="head"),
        "stage 's' trains a parameter that is not the method's": Stage("s", 2, train=[m.head, stray]),
        "turn 'a' trains a parameter that is not the method's": Stage("s", 2, turns=[Turn("a", [stray.weight])]),
    }


@pytest.mark.parametrize("number", range(12))
def test_stages_that_can_not_train_are_refused(number, tiny):
    method, _ = world(tiny, tiny_spec("joint"))
    message, stage = list(wrong_stages(method).items())[number]
    with pytest.raises(ConfigError) as caught:
        check_schedule(method, [stage])
    assert message in str(caught.value) and "\n" not in str(caught.value)
