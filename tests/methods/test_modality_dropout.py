"""Modality dropout: what is left out, where, and that nothing left out is joint training."""

import pytest
import torch
from torch import Tensor
from toy import (
    SAMPLES,
    gradients,
    make,
    mechanism_counts,
    scheduled,
    toy_data,
)

from mmlbench.method import Step
from mmlbench.methods.joint import Joint
from mmlbench.methods.modality_dropout import ModalityDropout


def test_dropout_of_nothing_is_joint_training():
    off = make(ModalityDropout, p=0.0)
    dropped, reference = gradients(off), gradients(make(Joint))
    assert all(torch.equal(dropped[name], gradient) for name, gradient in reference.items())
    assert not scheduled(off) and not mechanism_counts(off)
    on = gradients(make(ModalityDropout))
    assert any(not torch.equal(on[name], gradient) for name, gradient in reference.items())


@pytest.mark.parametrize(("where", "rescale"), [("feature", False), ("feature", True), ("input", False)])
def test_dropout_zeroes_what_it_says(where: str, rescale: bool, monkeypatch: pytest.MonkeyPatch):
    method, data = make(ModalityDropout, p=0.5, where=where, rescale=rescale), toy_data()
    keep = torch.arange(SAMPLES).unsqueeze(1) % 3 != torch.tensor([1, 2])
    module = __import__(ModalityDropout.__module__, fromlist=["keep_mask"])
    monkeypatch.setattr(module, "keep_mask", lambda *_: keep)
    seen: dict[str, dict[str, Tensor]] = {}
    method.encoders["audio"].register_forward_hook(lambda _, x, h: seen.update(audio={"input": x[0], "feature": h}))
    method.head.register_forward_hook(lambda _, x, __: seen.update(head=x[0]))
    method.step = Step(method.stages()[0], 0, 0, torch.Generator())
    method.loss(data)
    scale = 1 / (1 - 0.5 + 0.5**2 / 2) if rescale else 1.0
    if where == "input":
        assert torch.equal(seen["audio"]["input"], data.inputs["audio"] * keep[:, :1, None, None])
        assert torch.equal(seen["head"]["audio"], seen["audio"]["feature"])
    else:
        assert torch.equal(seen["audio"]["input"], data.inputs["audio"])
        torch.testing.assert_close(seen["head"]["audio"], seen["audio"]["feature"] * keep[:, :1] * scale)
    assert mechanism_counts(method)["dropped"] == 16
    assert float(method.diagnostics["fraction_dropped"][0]) == pytest.approx(1 / 3)
