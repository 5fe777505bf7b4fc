"""What belongs to one modality within a head whose logits are a sum over modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torch.func import functional_call

from ..fusion import FusionHead, Sum
from .gradients import gradients_of


def slice_weights(head: FusionHead, dims: Mapping[str, int]) -> dict[str, Tensor]:
    """Return modality -> W_m of a concat or a sum head, (C, d_m); views of a concat head's weights."""
    if isinstance(head, Sum):
        return {m: cast(nn.Linear, head.out[m]).weight for m in dims}
    blocks = cast(nn.Linear, head.out).weight.split(list(dims.values()), 1)
    return dict(zip(dims, blocks, strict=True))


def slice_gradients(head: FusionHead, dims: Mapping[str, int], modality: str, bias: bool = False) -> list[Tensor]:
    """Return the gradients of W_m in a concat or a sum head, views of the head's own, to be changed in place.

    Args:
        dims: modality -> d_m. bias: with that of b_m, where the head has one for each modality (sum).
    """
    if isinstance(head, Sum):
        one = cast(nn.Linear, head.out[modality])
        return gradients_of(list(one.parameters()) if bias else [cast(nn.Parameter, one.weight)])
    weight = cast(nn.Parameter, cast(nn.Linear, head.out).weight)
    parts = [whole.split(list(dims.values()), 1) for whole in gradients_of([weight])]
    return [one[list(dims).index(modality)] for one in parts]


def slices_of_fixed(head: nn.Module, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sliced logits, modality -> (B, C), of a head whose weights get no gradient from them."""
    fixed = {name: value.detach() for name, value in head.named_parameters()}
    return dict(functional_call(head, fixed, (features,)).sliced)
