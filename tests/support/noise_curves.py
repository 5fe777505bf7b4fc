"""Logits under noise for runs that were written without training."""

from __future__ import annotations

from pathlib import Path

import fake_runs

from mmlbench.results.curve import curve_file, sealed
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json


def add_curves(results: Path) -> Path:
    """Write logits under noise at two strengths for every clean run that has a fused prediction."""
    for cell in read_json(results / "plan.json")["cells"]:
        folder, seed = results / cell["run"], cell["config"]["seed"]
        predicted = read_arrays(folder / "predictions.npz")
        if "last/test/fused" not in predicted or cell["config"]["recipe"].get("noise_std"):
            continue
        drawn = {
            f"{modality}={strength}/fused": fake_runs.draw_logits(predicted["test/label"], level, 4, seed, strength)
            for modality in read_json(folder / "run.json")["modalities"]
            for strength, level in ((1, 0.6), (2, 0.4))
        }
        write_arrays(curve_file(results, cell["run"]), sealed(drawn, folder / "run.json", [1.0, 2.0]))
    return results


def switch_on(results: Path) -> Path:
    """Have the tables show the curves."""
    write_json(results / "plan.json", read_json(results / "plan.json") | {"robustness": [1.0, 2.0]})
    return results
