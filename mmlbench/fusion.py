"""Fusion heads for any number of modalities, the formulas behind them, and rules that combine branches.

A head maps features (modality -> (B, d_m)) to `Logits`. Where the mathematics allows (concat, sum) the logits
come with their slices, one per modality, that add up to the fused ones; FiLM and gated multiply modalities, so
they have none. What a missing modality is replaced by is the engine's business, not a head's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import ConfigError
from .method import Logits

#: Kinds of `fusion_head`.
FUSIONS = ("concat", "sum", "film", "gated")
#: Those whose logits are a sum of one block per modality.
DECOMPOSABLE = ("concat", "sum")


# ---- formulas --------------------------------------------------------------------------------------------
def concat_slices(features: Sequence[Tensor], weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Return z_m = W_m h_m + b / M of a linear head over concatenated features; their sum is its output.

    Args:
        features: M tensors (B, d_m).
        weight: (C, sum of d_m).
        bias: (C,).

    Source: OGM-GE (Peng et al., CVPR 2022), official code, for M = 2.
    """
    blocks = weight.split([feature.shape[1] for feature in features], dim=1)
    share = bias / len(features)
    return [functional.linear(feature, block, share) for feature, block in zip(features, blocks, strict=True)]


def film(condition: Tensor, feature: Tensor) -> Tensor:
    """Return gamma * feature + beta, where [gamma, beta] are the halves of the condition.

    Args:
        condition: (B, 2 d), a linear map of the conditioning feature.
        feature: (B, d).

    Source: FiLM (Perez et al., AAAI 2018) as the field's code has it: no 1 + gamma, no non-linearity.
    """
    gamma, beta = condition.chunk(2, dim=1)
    return gamma * feature + beta


def gated(gates: Sequence[Tensor], value: Tensor) -> Tensor:
    """Return the value times the sigmoid of each gate, all (B, d).

    Source: gated fusion (Kiela et al., AAAI 2018) for one gate; a product of gates is our generalisation.
    """
    for gate in gates:
        value = value * gate.sigmoid()
    return value


def mean_probability(logits: Tensor) -> Tensor:
    """Return the log of the branches' mean softmax, (K, B, C) -> (B, C): logits whose softmax is that mean."""
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))


def certainty(logits: Tensor) -> Tensor:
    """Return the greatest probability of each branch and sample, (K, B, C) -> (K, B), from 1/C to 1."""
    return logits.softmax(-1).amax(-1)


def certainty_weights(certainties: Tensor, temperature: float) -> Tensor:
    """Return the weights of K branches for each sample: softmax over branches of certainty / T, (K, B) -> (K, B).

    Source: DI-MML (Fan et al., ACM MM 2024), inference of the official code.
    """
    return (certainties / temperature).softmax(0)


def certainty_weighted(logits: Tensor, temperature: float) -> Tensor:
    """Return the branches' raw logits summed with `certainty_weights`, (K, B, C) -> (B, C)."""
    return (certainty_weights(certainty(logits), temperature).unsqueeze(-1) * logits).sum(0)


# ---- heads -----------------------------------------------------------------------------------------------
class FusionHead(nn.Module):
    """Base of the heads. The order of `dims` is the order of the modalities, whatever that of the features."""

    def __init__(self, dims: Mapping[str, int], classes: int) -> None:
        super().__init__()
        self.modalities = tuple(dims)

    def forward(self, features: Mapping[str, Tensor]) -> Logits:
        """Return the logits of features (modality -> (B, d_m))."""
        raise NotImplementedError


class Concat(FusionHead):
    """z = W [h_1; ...; h_M] + b, sliced z_m = W_m h_m + b / M."""

    def __init__(self, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(dims, classes)
        self.out = nn.Linear(sum(dims.values()), classes)

    def forward(self, features: Mapping[str, Tensor]) -> Logits:
        """Return fused and sliced logits."""
        ordered = [features[m] for m in self.modalities]
        slices = concat_slices(ordered, self.out.weight, self.out.bias)
        return Logits(
            fused=self.out(torch.cat(ordered, dim=1)), sliced=dict(zip(self.modalities, slices, strict=True))
        )


class Sum(FusionHead):
    """z = sum of z_m, z_m = W_m h_m + b_m: concat with one bias per modality.

    The official OGM-GE code slices with the full b_m while it trains and with b_m / 2 while it validates, so
    that its validation slices do not add up to the fused logits. Here a slice has its full b_m everywhere.
    """

    def __init__(self, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(dims, classes)
        self.out = nn.ModuleDict({m: nn.Linear(dim, classes) for m, dim in dims.items()})

    def forward(self, features: Mapping[str, Tensor]) -> Logits:
        """Return fused and sliced logits."""
        slices = {m: self.out[m](features[m]) for m in self.modalities}
        return Logits(fused=torch.stack(list(slices.values())).sum(0), sliced=slices)


class FiLM(FusionHead):
    """z = W sum over m > 1 of (gamma_m * h_m + beta_m) + b, [gamma_m, beta_m] linear in h_1.

    The first modality conditions the others. The field's code has M = 2; the sum for M > 2 is ours and needs
    equal feature sizes after the first.
    """

    def __init__(self, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(dims, classes)
        first, *others = self.modalities
        _need_two("film", dims)
        if len({dims[m] for m in others}) > 1:
            raise ConfigError(
                f"fusion film adds features of unequal sizes: {_sizes(dims)}",
                "Use encoders of one width after the first modality, or another fusion",
            )
        self.condition = nn.ModuleDict({m: nn.Linear(dims[first], 2 * dims[m]) for m in others})
        self.out = nn.Linear(dims[others[0]], classes)

    def forward(self, features: Mapping[str, Tensor]) -> Logits:
        """Return fused logits."""
        first, *others = self.modalities
        terms = [film(self.condition[m](features[first]), features[m]) for m in others]
        return Logits(fused=self.out(torch.stack(terms).sum(0)))


class Gated(FusionHead):
    """z = W (product over m < M of sigmoid(U_m h_m + c_m) * (U_M h_M + c_M)) + b.

    The field's code has M = 2, the first modality gating the second; the product for M > 2 is ours.
    """

    def __init__(self, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(dims, classes)
        _need_two("gated", dims)
        width = dims[self.modalities[-1]]
        self.project = nn.ModuleDict({m: nn.Linear(dim, width) for m, dim in dims.items()})
        self.out = nn.Linear(width, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Logits:
        """Return fused logits."""
        projected = [self.project[m](features[m]) for m in self.modalities]
        return Logits(fused=self.out(gated(projected[:-1], projected[-1])))


_HEADS: dict[str, type[FusionHead]] = {"concat": Concat, "sum": Sum, "film": FiLM, "gated": Gated}


def _sizes(dims: Mapping[str, int]) -> str:
    return ", ".join(f"{m} {dim}" for m, dim in dims.items())


def _need_two(kind: str, dims: Mapping[str, int]) -> None:
    if len(dims) < 2:
        raise ConfigError(
            f"fusion {kind} needs two modalities, it got {', '.join(dims)}", "Use concat for a single one"
        )


def fusion_head(kind: str, dims: Mapping[str, int], classes: int) -> FusionHead:
    """Return the head of a kind (one of `FUSIONS`) for features of sizes `dims` (modality -> d_m).

    Raises:
        ConfigError: an unknown kind; film or gated for one modality; film for unequal sizes after the first.
    """
    if kind not in _HEADS:
        raise ConfigError(f"unknown fusion {kind!r}", f"Use one of {', '.join(FUSIONS)}")
    return _HEADS[kind](dims, classes)


def own_heads(dims: Mapping[str, int], classes: int) -> nn.ModuleDict:
    """Return one linear head per modality, with PyTorch's default weights."""
    return nn.ModuleDict({m: nn.Linear(dim, classes) for m, dim in dims.items()})
