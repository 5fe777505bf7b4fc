"""What methods ask for whose modalities share a head."""

from __future__ import annotations

from collections.abc import Mapping

from mmlbench import ConfigError


def one_width(name: str, dims: Mapping[str, int], fix: str = "Use encoders of one width") -> int:
    """Return the size of all modalities' features.

    Args:
        name: of the method. dims: modality -> size. fix: what to do where they differ.

    Raises:
        ConfigError: they differ.
    """
    width = max(dims.values())
    if set(dims.values()) != {width}:
        sizes = ", ".join(f"{m} {dim}" for m, dim in dims.items())
        raise ConfigError(f"{name} needs features of one size, it got {sizes}", fix)
    return width
