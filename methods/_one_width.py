"""What methods ask for whose modalities share a head."""

from __future__ import annotations

from collections.abc import Mapping

from mmlbench import ConfigError


def one_width(name: str, dims: Mapping[str, int]) -> int:
    """Return the size of all modalities' features.

    Args:
        name: of the method. dims: modality -> size.

    Raises:
        ConfigError: they differ.
    """
    width = max(dims.values())
    if set(dims.values()) != {width}:
        sizes = ", ".join(f"{m} {dim}" for m, dim in dims.items())
        raise ConfigError(f"{name} needs features of one size, it got {sizes}", "Use encoders of one width")
    return width
