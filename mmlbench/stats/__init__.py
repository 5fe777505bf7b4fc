"""Statistics of the benchmark: intervals for crossed seeds and items, and comparisons of many methods."""

from .compare import (
    CrossFit,
    Ranked,
    all_pairs_groups,
    cross_fit_optimism,
    detectable_difference,
    holm,
)
from .intervals import (
    INFERENCE_TARGET,
    MIN_CLUSTERS,
    SMALLEST_P,
    Components,
    Estimate,
    cluster_values,
    components,
    half_width,
    p_value,
    paired_difference,
    pseudo_values,
    two_part,
    variance_parts,
)

__all__ = [
    "INFERENCE_TARGET",
    "MIN_CLUSTERS",
    "SMALLEST_P",
    "Components",
    "CrossFit",
    "Estimate",
    "Ranked",
    "all_pairs_groups",
    "cluster_values",
    "components",
    "cross_fit_optimism",
    "detectable_difference",
    "half_width",
    "holm",
    "p_value",
    "paired_difference",
    "pseudo_values",
    "two_part",
    "variance_parts",
]
