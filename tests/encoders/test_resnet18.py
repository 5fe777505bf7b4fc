"""ResNet-18 as the field trains it."""

import pytest
import torch

from mmlbench.encoders.resnet18 import ResNet18


def test_resnet18_has_twenty_convolutions_and_the_fields_weights():
    for channels in (1, 2, 3):
        torch.manual_seed(0)
        encoder = ResNet18((channels, 32, 32), ResNet18.Params())
        assert len(encoder.convolutions()) == 20
        assert encoder.net.conv1.weight.shape == (64, channels, 7, 7)
        assert encoder(torch.randn(2, channels, 32, 32)).shape == (2, encoder.dim) == (2, 512)
    normals = torch.cat([m.weight for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    assert normals.mean().item() == pytest.approx(1, abs=2e-3) and normals.std().item() == pytest.approx(
        0.02, abs=2e-3
    )
    assert encoder.net.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
    ones = ResNet18((1, 32, 32), ResNet18.Params(init="bn_ones"))
    assert all((m.weight == 1).all() for m in ones.modules() if isinstance(m, torch.nn.BatchNorm2d))
    views = torch.randn(2, 3, 1, 32, 32)
    ones.eval()
    torch.testing.assert_close(ones(views)[0], torch.stack([ones(views[:, t])[0] for t in range(3)]).mean(0))
    assert sum(p.numel() for p in ResNet18((3, 32, 32), ResNet18.Params()).parameters()) == 11_176_512
