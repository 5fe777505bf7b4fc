"""Statistics of the benchmark: intervals for crossed seeds and items, and comparisons of many methods."""

from .best import LEAST_ITEMS, LEAST_SEEDS, probability_best, resampled_means
from .compare import CrossFit, Ranked, all_pairs_groups, cross_fit_optimism, holm
from .confusion_metrics import table_pseudo_values
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
    seed_variance,
    two_part,
    variance_parts,
)
from .power import SEED_CORRELATION, Smallest, Spread, plan_table, power, resolution, smallest_difference
from .proportion import FAR, FEW, far_seeds, proportion, wilson
from .reliance import MOST_PLAYERS, shapley, subset_name

__all__ = [
    "FAR",
    "FEW",
    "INFERENCE_TARGET",
    "LEAST_ITEMS",
    "LEAST_SEEDS",
    "MIN_CLUSTERS",
    "MOST_PLAYERS",
    "SEED_CORRELATION",
    "SMALLEST_P",
    "Components",
    "CrossFit",
    "Estimate",
    "Ranked",
    "Smallest",
    "Spread",
    "all_pairs_groups",
    "cluster_values",
    "components",
    "cross_fit_optimism",
    "far_seeds",
    "half_width",
    "holm",
    "p_value",
    "paired_difference",
    "plan_table",
    "power",
    "probability_best",
    "proportion",
    "pseudo_values",
    "resampled_means",
    "resolution",
    "seed_variance",
    "shapley",
    "smallest_difference",
    "subset_name",
    "table_pseudo_values",
    "two_part",
    "variance_parts",
    "wilson",
]
