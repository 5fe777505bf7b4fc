"""Runs of a few seconds, for tests of methods, datasets and encoders, here and in projects of your own.

`tiny` (two modalities) and `tiny3` (a third, 1-D one) are datasets of 76 samples with three classes, `tiny_number`
and `tiny_labels` of 520 with one number and with several labels a sample. `PLUGINS` is the folder that holds them, so
that they are there only where somebody asks for them::

    run = run_tiny("my_method", tmp_path)
    assert np.isfinite(run.predictions["last/test/fused"]).all()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..registry.index import load_index, use_plugins
from ..results.run_folder import RunFolder
from ..storage.atomic import write_arrays
from ..study.declared import dataset_facts, method_facts
from ..study.run_spec import Request, RunSpec, resolve
from ..task import Classification, Multilabel, Regression, Task

#: The folder with the tiny datasets: `mmlbench train --plugins ...`, or `plugins:` in a config.
PLUGINS = Path(__file__).parent / "plugins"
#: A recipe that ends at once; its numbers mean nothing.
FEW_EPOCHS = {"epochs": 2, "batch_size": 16}


def tiny_spec(
    method: str,
    dataset: str = "tiny",
    seed: int = 0,
    encoder: str | None = None,
    params: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    plugins: Iterable[str | Path] = (),
) -> RunSpec:
    """Return the run of a method on a tiny dataset (or another), checked like any other.

    Args:
        method, dataset, encoder: names (encoder: default the recipe's). params: of the method.
        recipe: fields to set otherwise.
        plugins: further folders with plug-in files.

    Raises:
        ConfigError: anything unknown, ill-typed or out of range.
    """
    use_plugins([PLUGINS, *plugins])
    fields = {**FEW_EPOCHS, **({"encoder": encoder} if encoder else {}), **(recipe or {})}
    return resolve(Request(dataset, method, seed, params=params or {}, recipe_params=fields), load_index())


def takes(method: str, dataset: str = "tiny", plugins: Iterable[str | Path] = ()) -> bool:
    """Whether a method serves a dataset's task, and as many modalities as it has: `tiny` has two, `tiny3` three."""
    use_plugins([PLUGINS, *plugins])
    index = load_index()
    asked, facts = dataset_facts(index.find("dataset", dataset)), method_facts(index.find("method", method))
    return facts.takes(len(asked.modalities)) and asked.task.name in facts.tasks


def run_tiny(method: str, folder: Path, **options: Any) -> RunFolder:
    """Make the run of `tiny_spec(method, **options)` below a folder, on the CPU, and open it.

    Raises:
        MmlbenchError: as the command line would say it.
    """
    from ..api.making import make_run

    spec = tiny_spec(method, **options)
    make_run(spec, load_index(), folder / "results", folder / "cache", device="cpu")
    return RunFolder.open(folder / "results" / spec.path)


def arrays_like(
    name: str,
    folder: Path,
    seed: int = 0,
    plugins: Iterable[str | Path] = (),
    label: str = "label",
    group: str = "",
) -> Path:
    """Write an .npz file of random values in the form that a dataset declares, and return its path.

    It is what `prepare` of a dataset that `mmlbench new dataset --from` wrote reads.

    Args:
        label, group: names of the arrays of targets and of groups, as the dataset's `prepare` has them; without a
            name there are no groups.

    Raises:
        ConfigError: there is no such dataset.
    """
    use_plugins(plugins)
    facts = dataset_facts(load_index().find("dataset", name))
    rng = np.random.default_rng(seed)
    counts = facts.splits[facts.default_split].counts
    rows = sum(counts.values())
    arrays = {
        "part": np.repeat(list(counts), list(counts.values())),
        **_targets_like(facts.task, label, rows, rng),
    }
    if group:
        arrays[group] = np.array([f"group {k % 7}" for k in range(rows)])
    for modality in facts.modalities:
        shape = (rows, *modality.shape)
        kind = modality.type
        if kind.ids:
            arrays[modality.name] = rng.integers(1, modality.vocabulary, shape)
        elif np.dtype(kind.stored).kind == "u":
            arrays[modality.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            arrays[modality.name] = rng.standard_normal(shape, dtype=np.float32)
        if kind.has_length:
            arrays[f"{modality.name}_length"] = rng.integers(1, modality.shape[0] + 1, rows)
    write_arrays(folder / f"{name}.npz", arrays)
    return folder / f"{name}.npz"


def _targets_like(task: Task, label: str, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return targets that a task can have, and their names: each class and label comes up."""
    turn = np.arange(rows) % task.outputs
    if isinstance(task, Regression):
        low = task.low if np.isfinite(task.low) else min(task.high, 1.0) - 2
        return {label: rng.uniform(low, task.high if np.isfinite(task.high) else low + 2, rows)}
    if isinstance(task, Multilabel):
        there = rng.random((rows, task.outputs)) < 0.5
        there[np.arange(rows), turn] = True
        return {label: there.astype(np.uint8), "class_names": np.array(task.names)}
    assert isinstance(task, Classification), "a new task says here what data of its own look like"
    return {label: turn, "class_names": np.array(task.names)}
