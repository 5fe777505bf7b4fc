"""For which kernels the libraries of this process have decided: each is asked itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ConfigError


@dataclass(frozen=True)
class Kernels:
    """What a library has decided for, and what portable arithmetic wants of it."""

    library: str
    found: object
    wanted: object


def numpy_kernels() -> list[Kernels]:
    """Return what numpy and the BLAS of its matrix products have decided for."""
    return [Kernels("numpy", _wide_numpy(), ""), Kernels("OpenBLAS", _openblas(), "Haswell")]


def refuse_others(kernels: Iterable[Kernels]) -> None:
    """Refuse kernels that are not those of portable arithmetic: a setting that came too late is no setting.

    Raises:
        ConfigError: naming the first library that has decided otherwise.
    """
    for one in kernels:
        if one.found != one.wanted:
            what = f"portable arithmetic is not in force: {one.library} is at {one.found!r}, not {one.wanted!r}"
            raise ConfigError(what, "Start it by `mmlbench` or `snakemake`, or choose `arithmetic: native`")


def _wide_numpy() -> str:
    """Return the kernels beyond AVX2 that numpy may use."""
    from numpy._core import _multiarray_umath as umath  # type: ignore[attr-defined]  # which numpy's types leave out

    wide = (name for name in umath.__cpu_dispatch__ if "512" in name or name == "X86_V4")
    return " ".join(name for name in wide if umath.__cpu_features__[name])


def _openblas() -> str:
    """Return the kind of CPU for which numpy's matrix products are computed."""
    import numpy as np  # noqa: F401 (what is not loaded is not found)
    from threadpoolctl import threadpool_info

    found = {one.get("architecture", "") for one in threadpool_info() if one["internal_api"] == "openblas"}
    return " and ".join(sorted(found)) or "another BLAS"
