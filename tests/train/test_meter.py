"""What training says of a loss that is not finite: where, and what is most likely to help."""

from __future__ import annotations

import pytest
import torch

from mmlbench.errors import RunError
from mmlbench.study.recipe import Recipe
from mmlbench.task import Classification
from mmlbench.train.meter import Meter, remedy


@pytest.mark.parametrize(("untrained", "learning_rate"), [(True, False), (False, True)])
def test_the_first_loss_of_a_later_stage_may_be_the_learning_rate(untrained: bool, learning_rate: bool) -> None:
    meter = Meter(2, torch.device("cpu"), Recipe(), Classification.of(3))
    meter.losses[0] = float("nan")
    with pytest.raises(RunError) as caught:
        meter.check(2, "joint, stage 'second', epoch 0", untrained)
    assert (caught.value.fix == remedy(Recipe())) == learning_rate


def test_a_remedy_reads_the_whole_recipe() -> None:
    assert "momentum" in remedy(Recipe(momentum=0.999)) and "noise" in remedy(Recipe(image_noise=11.0))
