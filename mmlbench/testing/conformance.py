"""The conformance suite: what every method, dataset and encoder has to keep to, checked on runs of a few seconds.

`mmlbench check NAME` runs it, and so do the tests of this project. A check is a function that takes what was made and
raises `CheckError`; nothing here needs pytest.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..encoder import Encoder, make_encoder
from ..errors import ConfigError, MmlbenchError, nearest
from ..method import EpochContext, Method, Stage
from ..modality import Modality
from ..params import ALL
from ..prepare.cache import Cache
from ..registry.index import Entry, load_index, use_plugins
from ..results.evaluation import NOTHING
from ..results.run_folder import RunFolder
from ..storage.form import WORD
from ..storage.hashing import file_digest
from ..study.declared import EncoderFacts, dataset_facts, encoder_facts, method_facts
from ..study.run_spec import Request, RunSpec, resolve
from ..train import loop
from ..train.build import build_encoders
from . import FEW_EPOCHS, PLUGINS, takes

T = TypeVar("T")
TINY = ("tiny", "tiny3", "tiny_lab")
#: Task beyond classification -> a tiny dataset that asks for it.
OF_TASKS = {"regression": "tiny_number", "multilabel": "tiny_labels"}
PARTS = ("train", "val", "test")
EPOCHS = 3
SMALL_WIDTH = 4


class CheckError(AssertionError):
    """A plug-in breaks a rule."""


@dataclass(frozen=True)
class Outcome:
    """One check of a plug-in: `problem` is empty where the rule is kept, `skipped` says why it was not tried."""

    check: str
    problem: str = ""
    fix: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Made:
    """A run to be checked, the cache that it was trained on, and the most epochs that a stage may have."""

    run: RunFolder
    cache: Cache
    epochs: int


def require(holds: bool | np.bool_, problem: str) -> None:
    """Raise unless something holds.

    Raises:
        CheckError: with the problem.
    """
    if not holds:
        raise CheckError(problem)


# ---- what holds for every run --------------------------------------------------------------------------------
def check_record(made: Made) -> None:
    """Check run.json: its hashes and counts, and the files beside it; its form was checked when it was opened."""
    run, record = made.run, made.run.record
    there = {path.name for path in run.path.iterdir() if path.suffix in (".npz", ".csv")}
    require(set(record.files) == there, f"run.json lists {sorted(record.files)}, and there are {sorted(there)}")
    for name, value in record.files.items():
        require(file_digest(run.path / name) == value, f"{name} has another hash than run.json says")
    counts = record.parameters
    parts = counts["heads"] + sum(number for name, number in counts.items() if name.startswith("encoder/"))
    require(counts["total"] == parts, f"{counts['total']} parameters in all, and {parts} in encoders and heads")
    require(record.forward_flops > 0, "a forward pass takes no operation")
    # Of epochs whose samples a method chose itself.
    sampled = [value for *_, name, value in run.history() if name == "samples"]
    passes = sum(sampled) + (record.epochs - len(sampled)) * record.counts["train"]
    require(record.sample_passes == passes, f"{record.sample_passes} passes of a sample, not {passes}")
    left = [path.name for path in run.path.iterdir() if path.name.startswith("checkpoint") or "lease" in path.name]
    require(not left, f"{', '.join(left)} is left in the run's folder")
    provenance = json.loads((run.path / "provenance.json").read_text(encoding="utf-8"))
    lacking = {"host", "hardware", "device", "job", "seconds", "resumed", "attempts", "commit"} - set(provenance)
    require(not lacking, f"provenance.json lacks {', '.join(sorted(lacking))}")
    seconds = provenance["seconds"]
    require(seconds["total"] >= seconds.get("train", 0) >= 0, "the training took longer than the run")
    require(len(list(run.path.glob("done-*"))) == 1, "the run has no stamp, or several")


def check_predictions(made: Made) -> None:
    """Check ids, labels, shapes and values of all logits; slices add up to the fused ones where both are linear."""
    record, found = made.run.record, made.run.predictions
    outputs, split = record.task.outputs, record.config.split
    rules = ["last", *(rule for rule in ("val", "test") if record.counts[rule])]
    require(sorted(record.selected) == sorted(rules) or not record.epochs, "an epoch rule has no prediction")
    for part in ("val", "test"):
        table = made.cache.part(split, part)
        for column, stored in (("id", table.ids), ("group", table.groups), ("label", table.label)):
            require(found[f"{part}/{column}"].tolist() == stored.tolist(), f"{part}/{column} is not the dataset's")
        for rule in rules if len(table) else ():
            for name in record.logits:
                logits = found[f"{rule}/{part}/{name}"]
                fits = logits.shape == (len(table), outputs) and logits.dtype == np.float32
                require(fits, f"{rule}/{part}/{name} is {logits.dtype} {logits.shape}, not (samples, outputs)")
            slices = [name for name in record.logits if name.startswith("sliced/")]
            if slices and "fused" in record.logits:
                whole = sum(found[f"{rule}/{part}/{name}"].astype(np.float64) for name in slices)
                adds_up = np.allclose(whole, found[f"{rule}/{part}/fused"], atol=1e-4)
                require(adds_up, f"the slices of {rule}/{part} do not add up to the fused logits")
    for name, values in found.items():
        require(values.dtype.kind in "Uiu" or np.isfinite(values).all(), f"{name} has values that are not finite")


def check_subsets(made: Made) -> None:
    """Check that every proper subset of modalities was predicted, where there is a fused prediction, or why not."""
    record = made.run.record
    evaluation = record.evaluation
    subsets = [c for k in range(len(record.modalities)) for c in combinations(record.modalities, k)]
    answers = evaluation.missing != NOTHING and "fused" in record.logits
    explained = answers or "fused" not in record.logits or evaluation.reason
    require(bool(explained), "there is no prediction without a modality, and no reason in `needs_all`")
    wanted = {"+".join(subset) or "none" for subset in subsets} if answers else set()
    for imputation in ("mean", "zero"):
        prefix = f"last/test/fused@{imputation}:"
        found = {name.removeprefix(prefix) for name in made.run.predictions if name.startswith(prefix)}
        require(found == wanted, f"{imputation} stands in for the modalities beside {found}, not {wanted}")


def history_of(run: RunFolder) -> list[dict[str, Any]]:
    """Return the rows of history.csv, values as numbers."""
    with (run.path / "history.csv").open(newline="", encoding="utf-8") as file:
        return [row | {"epoch": int(row["epoch"]), "value": float(row["value"])} for row in csv.DictReader(file)]


def check_history(made: Made) -> None:
    """Check that every stage has its epochs, that all is finite, and the samples' scores against their means."""
    rows = history_of(made.run)
    for row in rows:
        require(math.isfinite(row["value"]), f"{row['name']} of epoch {row['epoch']} is {row['value']}")
    require({row["part"] for row in rows} <= set(PARTS), "history.csv has a part that is none")
    for stage in {row["stage"] for row in rows}:
        seen = sorted({row["epoch"] for row in rows if row["stage"] == stage})
        whole = seen == list(range(len(seen))) and len(seen) <= max(made.epochs, 1)
        require(whole, f"stage {stage} has epochs {seen} of {made.epochs}")
        names = {row["name"] for row in rows if row["stage"] == stage and row["part"] == "train"}
        require(names >= {"loss", "lr"}, f"stage {stage} records no loss or no learning rate")
    score = f"{made.run.record.task.score}/"
    means = {
        (row["stage"], row["name"].removeprefix(score), row["epoch"]): row["value"]
        for row in rows
        if row["part"] == "test" and row["name"].startswith(score)
    }
    scores = made.run.epoch_scores("test")
    require(len(means) == sum(map(len, scores.values())), "history.csv and epochs.npz have other epochs")
    for key, of_key in scores.items():
        stage, logits = key.split("/", 1)
        for epoch, of_epoch in enumerate(of_key):
            same = math.isclose(
                means[stage, logits, epoch], of_epoch.mean(dtype=np.float64), rel_tol=1e-6, abs_tol=1e-12
            )
            require(same, f"the {score[:-1]} of {key} in epoch {epoch} is not that of its samples")


def check_selection(made: Made) -> None:
    """Check that the stored predictions of a rule are those of the epoch that it picked."""
    record, found = made.run.record, made.run.predictions
    for rule, picks in record.selected.items():
        if rule != "val":
            reached = record.metric.value(found[f"{rule}/test/{picks[-1].select_on}"], found["test/label"])
            same = math.isclose(picks[-1].reached, reached, rel_tol=1e-6, abs_tol=1e-12)
            require(same, f"the predictions of rule {rule} are not those of the epoch that it picked")
    last = record.selected.get("last", ())
    newest = {pick.stage: max(p.epoch for p in last if p.stage == pick.stage) for pick in last}
    require(all(pick.epoch == newest[pick.stage] for pick in last), "rule 'last' picked an earlier epoch")


def check_probe(made: Made) -> None:
    """Check the probe's outputs against what it is said to reach."""
    record, found = made.run.record, made.run.probe
    require("test" not in record.probe, "a probe was chosen on the test part")
    for rule, of_rule in record.probe.items():
        for modality, facts in of_rule.items():
            for part in (part for part in ("val", "test") if record.counts[part]):
                logits = found[f"{rule}/{modality}/{part}"]
                require(np.isfinite(logits).all(), f"the probe of {modality} is not finite")
                reached = record.metric.value(logits, made.run.predictions[f"{part}/label"])
                same = math.isclose(facts.reached[part], reached, rel_tol=1e-6, abs_tol=1e-12)
                require(same, f"the probe of {modality} has another {record.metric.name} than its logits on {part}")


def check_mechanisms(made: Made) -> None:
    """Check that what acted did so by a positive amount."""
    for name, amount in made.run.record.mechanisms.items():
        require(math.isfinite(amount) and amount > 0, f"the mechanism {name} acted by {amount}")


#: Name of a check -> the check, and what its author does where it fails.
OF_A_RUN: dict[str, tuple[Callable[[Made], None], str]] = {
    "record": (check_record, "Write nothing into the run's folder by yourself: the engine does"),
    "predictions": (
        check_predictions,
        "Return finite logits (batch, classes) from `predict`",
    ),
    "subsets": (check_subsets, "Let `predict` take any subset of modalities, or say in `needs_all` why it can't"),
    "history": (check_history, "Record finite numbers, and let `stages` name each stage once"),
    "selection": (check_selection, "Keep what decides a prediction in parameters or registered buffers"),
    "probe": (check_probe, "Keep what decides a feature in parameters or registered buffers"),
    "mechanisms": (check_mechanisms, "Count a mechanism where it changes something, by how much it does"),
}


def check_run(run: RunFolder, cache: Cache, epochs: int) -> None:
    """Check everything that holds for every run.

    Raises:
        CheckError: the first rule that is broken.
    """
    made = Made(run, cache, epochs)
    for check, _ in OF_A_RUN.values():
        check(made)


# ---- plug-ins ------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def parts_asked_for() -> Iterator[set[str]]:
    """Yield the set of parts that methods ask for while they train, which they can only by their hooks' context."""
    asked: set[str] = set()

    def noting(ask: Callable[..., Any]) -> Callable[..., Any]:
        def note(part: str = "train", *more: Any, **options: Any) -> Any:
            asked.add(part)
            return ask(part, *more, **options)

        return note

    def context(stage: Stage, epoch: int, rng: Any, features: Any, batches: Any, turn: Any = None) -> EpochContext:
        return EpochContext(stage, epoch, rng, noting(features), noting(batches), turn)

    before = loop.EpochContext  # type: ignore[attr-defined]
    loop.EpochContext = context  # type: ignore[attr-defined,assignment]
    try:
        yield asked
    finally:
        loop.EpochContext = before  # type: ignore[attr-defined]


class Attempts:
    """The checks of one plug-in, one after another; what one raises is its outcome."""

    def __init__(self, about: str) -> None:
        self.about, self.outcomes = about, list[Outcome]()

    def attempt(self, check: str, fix: str, call: Callable[..., T], *arguments: Any) -> T | None:
        """Call a check; return what it returns, None where it failed."""
        name = f"{check} ({self.about})"
        try:
            result = call(*arguments)
        except CheckError as failed:
            self.outcomes.append(Outcome(name, str(failed), fix))
        except MmlbenchError as error:
            self.outcomes.append(Outcome(name, error.what, error.fix or fix))
        else:
            self.outcomes.append(Outcome(name))
            return result
        return None

    def all_of(self, made: Made) -> None:
        """Call every check of a run."""
        for name, (check, fix) in OF_A_RUN.items():
            self.attempt(name, fix, check, made)

    def same_again(self, made: Made, fix: str, train: Callable[[str], Made]) -> None:
        """Make a run once more, and compare the bytes."""
        again = self.attempt("training again", fix, train, "two")
        if again is not None:
            names = [*made.run.record.files, "run.json"]
            self.attempt("the same bytes", fix, _same_bytes, made.run.path, again.run.path, names)


def _make(spec: RunSpec, folder: Path, cache: Path) -> Made:
    from ..api.making import make_run

    make_run(spec, load_index(), folder, cache, device="cpu")
    return Made(RunFolder.open(folder / spec.path), Cache.open(cache / spec.cache), spec.config.recipe.epochs)


def _same_bytes(one: Path, other: Path, names: list[str]) -> None:
    differing = [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    require(not differing, f"made twice, {', '.join(differing)} differs")


def check_declarations(kind: type, made: Made, asked: set[str]) -> None:
    """Check what a method's class says of itself against a run of it; `asked`: the parts that its hooks looked at."""
    if not issubclass(kind, Method):
        raise CheckError(f"{kind.__name__} is no Method: derive it from mmlbench.method.Method")
    record, looked = made.run.record, asked - {"train"}
    said = f"needs = {kind.needs}, and it looks at {', '.join(sorted(looked)) or 'the train part alone'}"
    require(set(kind.needs) == looked, said)
    probed = kind.trains_encoders and record.evaluation.probe != NOTHING
    said = f"trains_encoders = {kind.trains_encoders}, and there is {'a' if record.probe else 'no'} probe"
    require(bool(record.probe) == probed, said)
    lacking = {f"weights-{rule}.npz" for rule in kind.keeps} - set(record.files)
    require(not lacking, f"keeps = {kind.keeps}, and {', '.join(sorted(lacking))} is not there")
    silent = kind.mechanisms is not Method.mechanisms and not record.mechanisms
    require(not silent, "mechanisms() is defined, and no mechanism acted")


def check_method(name: str, folder: Path, cache: Path, datasets: tuple[str, ...] | None = None) -> list[Outcome]:
    """Train a method twice on each tiny dataset that it takes, and check all that it left.

    Args:
        name: of a registered method. folder: an empty one, for the runs. cache: of the tiny datasets.
        datasets: None for those with classes and those of each further task that it serves.
    """
    if datasets is None:
        served = method_facts(load_index().find("method", name)).tasks
        datasets = (*TINY, *(dataset for task, dataset in OF_TASKS.items() if task in served))
    return [outcome for dataset in datasets for outcome in _check_method_on(name, dataset, folder, cache)]


def _check_method_on(name: str, dataset: str, folder: Path, cache: Path) -> list[Outcome]:
    tries = Attempts(dataset)
    request = Request(dataset, name, 0, recipe_params={**FEW_EPOCHS, "epochs": EPOCHS})

    def train(place: str) -> Made:
        return _make(resolve(request, load_index()), folder / f"{place}-{dataset}", cache)

    if not takes(name, dataset):
        with contextlib.suppress(ConfigError):
            resolve(request, load_index())
            return [
                Outcome(f"training ({dataset})", "a task or a number of modalities is taken that the class rules out")
            ]
        index = load_index()
        task = dataset_facts(index.find("dataset", dataset)).task.name
        other = task not in method_facts(index.find("method", name)).tasks
        why = "it serves another task" if other else "it takes another number of modalities"
        return [Outcome(f"training ({dataset})", skipped=why)]
    if lacking := without_convolutions(name, dataset):
        with contextlib.suppress(ConfigError):
            train("refused")
            return [Outcome(f"training ({dataset})", f"it needs convolutions, and trains where {lacking} has none")]
        return [Outcome(f"training ({dataset})", skipped=f"it needs convolutions, and {lacking}'s encoder has none")]
    with parts_asked_for() as asked:
        made = tries.attempt("training", "Let it train on the tiny datasets", train, "one")
    if made is not None:
        tries.all_of(made)
        kind, fix = load_index().load("method", name), "Correct the class attribute that the message names"
        tries.attempt("declarations", fix, check_declarations, kind, made, asked)
        fix = "Draw from step.rng or context.rng alone, and keep state in parameters or registered buffers"
        tries.same_again(made, fix, train)
    return tries.outcomes


def without_convolutions(method: str, dataset: str) -> str:
    """Return a modality whose default encoder lacks the convolutions that a method needs, '' where all have some."""
    index = load_index()
    made = index.load("method", method)
    if not (issubclass(made, Method) and made.needs_convolutions):
        return ""
    for modality in dataset_facts(index.find("dataset", dataset)).modalities:
        kind = index.load("encoder", modality.type.encoder)
        assert issubclass(kind, Encoder)
        if not make_encoder(kind, modality, modality.shape, kind.Params()).convolutions():
            return modality.name
    return ""


def check_dataset(name: str, folder: Path, entry: Entry) -> list[Outcome]:
    """Prepare a dataset twice and train on it once; one that needs raw files can't be checked here."""
    from ..api.making import ensure_cache

    if entry.facts["needs_raw"]:
        return [Outcome("preparing", skipped=f"it needs raw files: mmlbench prepare {name} --raw FOLDER")]
    tries, index = Attempts(name), load_index()
    fix = "Draw from a seeded generator, and write each row once"
    caches = []
    for place in ("preparing", "preparing again"):
        caches.append(tries.attempt(place, fix, ensure_cache, name, {}, folder / place, index))
    one, other = caches
    if one is None or other is None:
        return tries.outcomes
    names = sorted(path.name for path in one.folder.iterdir() if path.suffix in (".npy", ".npz"))
    tries.attempt("the same bytes", fix, _same_bytes, one.folder, other.folder, names)
    small = {"epochs": 1, "encoder": {one.name: small_encoder(one) for one in dataset_facts(entry).modalities}}
    spec = tries.attempt("a run of joint", fix, resolve, Request(name, "joint", 0, recipe_params=small), index)
    if spec is None:
        return tries.outcomes
    made = tries.attempt("training", "Let joint run on it", _make, spec, folder / "runs", one.folder.parent)
    if made is not None:
        tries.all_of(made)
        tries.attempt("counts", "Correct the counts that the split declares", check_counts, made, entry)
    return tries.outcomes


def check_counts(made: Made, entry: Entry) -> None:
    """Check the samples of each part against those that a dataset's split declares."""
    declared = dataset_facts(entry).splits[made.run.record.config.split].counts
    wanted, found = {part: declared.get(part, 0) for part in PARTS}, made.run.record.counts
    require(found == wanted, f"the split declares {wanted} samples, and has {found}")


def check_parts(encoder: Encoder) -> None:
    """Check the names of an encoder's parts, and that none shares a parameter with another."""
    seen: dict[int, str] = {}
    own = {id(parameter) for parameter in encoder.parameters()}
    for part, module in encoder.parts().items():
        fits = re.fullmatch(WORD, part) is not None and part != ALL
        require(fits, f"a part is called {part!r}: it takes lower-case letters, digits and _, and is not {ALL!r}")
        for parameter in map(id, module.parameters()):
            require(parameter in own, f"the part {part!r} has a parameter that is not the encoder's")
            other = seen.setdefault(parameter, part)
            require(other == part, f"the parts {other!r} and {part!r} share a parameter")


def check_blocks(encoder: Encoder) -> None:
    """Check that an encoder's blocks, one after the other, and its pooling are the encoder, and look at its maps.

    One that declares no blocks passes.
    """
    import torch

    blocks = encoder.eval().blocks()
    if not blocks:
        return
    inputs = torch.randn(3, 2, *encoder.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, state = encoder(inputs[:, 0]), encoder.folded(inputs[:, 0])
        for block in blocks:
            state = block(state)
        pooled, maps, both = encoder.pool(state), encoder.maps(inputs[:, 0]), encoder.maps(inputs)
    close = pooled.shape == whole.shape and torch.allclose(pooled, whole, rtol=1e-5, atol=1e-6)
    require(bool(close), "its blocks and pool() together give other features than forward()")
    fits = maps.dim() == 3 and maps.shape[::2] == (3, encoder.dim) and encoder.widths()[-1] == encoder.dim
    require(fits, f"maps() has the shape {tuple(maps.shape)}, not (samples, positions, {encoder.dim})")
    twice = both.shape == (3, 2 * maps.shape[1], maps.shape[2])
    require(twice, f"maps() of two views has the shape {tuple(both.shape)}: not twice the positions of one")


def check_encoder(name: str, folder: Path, cache: Path) -> list[Outcome]:
    """Train joint with an encoder on every tiny modality that it takes, twice, and check all that it left."""
    index = load_index()
    facts, outcomes = encoder_facts(index.find("encoder", name.partition(":")[0])), list[Outcome]()
    for dataset in ("tiny3", "tiny_lab"):
        modalities = dataset_facts(index.find("dataset", dataset)).modalities
        if any(not facts.why_not(modality) for modality in modalities):
            outcomes += _check_encoder_on(name, dataset, facts, folder / dataset, cache)
    return outcomes or [Outcome("training", skipped="it takes none of the tiny datasets' modalities")]


def small_encoder(modality: Modality) -> dict[str, Any]:
    """Return a small encoder for a modality: its type's own."""
    return {"name": modality.type.encoder, "params": {"width": SMALL_WIDTH}}


def check_padding(name: str, modality: Modality, batch: int = 6) -> None:
    """Check that features depend neither on what stands in the padding nor on how much of it there is."""
    import torch

    kind = load_index().load("encoder", name)
    assert issubclass(kind, Encoder)
    torch.manual_seed(0)
    encoder = make_encoder(kind, modality, modality.shape, kind.Params()).eval()
    longest = modality.shape[0]
    lengths = torch.arange(batch) % longest + 1
    inputs = modality.type.random_inputs(modality, (batch, *modality.shape), "cpu")
    beyond = torch.arange(longest) >= lengths[:, None]
    with torch.no_grad():
        wanted = encoder(inputs, ~beyond)
        filled = inputs.clone()
        filled[beyond] = modality.type.random_inputs(modality, (int(beyond.sum()), *modality.shape[1:]), "cpu")
        room = inputs.new_ones(batch, 5, *modality.shape[1:])
        more = torch.cat([beyond, torch.ones(batch, 5, dtype=torch.bool)], 1)
        longer = encoder(torch.cat([inputs, room], 1), ~more)
        answers = {"what stands in": encoder(filled, ~beyond), "the length of": longer}
        nothing = encoder(inputs, torch.zeros_like(beyond))
    size = wanted.abs().max().clamp(min=1e-6)
    for words, found in answers.items():
        require(bool((found - wanted).abs().max() <= 1e-5 * size), f"its features depend on {words} the padding")
    require(bool(nothing.isfinite().all()), "its features of an empty sample are not finite")


def _check_encoder_on(name: str, dataset: str, facts: EncoderFacts, folder: Path, cache: Path) -> list[Outcome]:
    tries, index = Attempts(dataset), load_index()
    modalities = dataset_facts(index.find("dataset", dataset)).modalities
    chosen = {m.name: small_encoder(m) if facts.why_not(m) else {"name": name} for m in modalities}
    request = Request(dataset, "joint", 0, recipe_params={**FEW_EPOCHS, "encoder": chosen})
    for modality in modalities:
        if modality.type.has_length and not facts.why_not(modality):
            fix = "Leave out of every sum and mean what the mask does not name"
            tries.attempt(f"padding of {modality.name}", fix, check_padding, name, modality)

    def train(place: str) -> Made:
        return _make(resolve(request, index), folder / place, cache)

    fix = "Let it take the shapes whose number of dimensions is in `ranks`"
    made = tries.attempt("training", fix, train, "one")
    if made is not None:
        tries.all_of(made)
        tries.same_again(made, "Let `views` depend on inputs and parameters alone", train)
        fix = "Return from blocks() what forward() runs, in its order, and let pool() do the rest"
        for place, encoder in build_encoders(made.run.record.config, made.cache, index).items():
            if chosen[place]["name"] != name:
                continue
            tries.attempt(f"parts of {place}", "Name each part of `parts()` once", check_parts, encoder)
            if not encoder.vocabulary and not encoder.takes_mask:
                tries.attempt(f"blocks of {place}", fix, check_blocks, encoder)
    return tries.outcomes


def check_plugin(name: str, folder: Path) -> list[Outcome]:
    """Check whatever has a name: a method, a dataset, an encoder, or several of them.

    Args:
        name: of a plug-in that is registered, or lies in a folder that `use_plugins` was told of; of an
            encoder with what stands behind its colon.
        folder: an empty one, for caches and runs.

    Raises:
        ConfigError: nothing has that name.
    """
    from ..api.making import ensure_cache

    use_plugins([PLUGINS])
    index, cache, outcomes = load_index(), folder / "tiny", list[Outcome]()
    entries = [entry for entry in index.entries if entry.name == name.partition(":")[0]]
    if not entries:
        hint = nearest(name, {entry.name for entry in index.entries})
        raise ConfigError(f"no method, dataset, encoder or modality type is named {name!r}", hint)
    for found in entries:
        if found.error or found.clash:
            outcomes.append(Outcome("import", found.clash or f"{found.path}: {found.error}", "Correct the file"))
            continue
        if found.kind == "modality":
            outcomes.append(Outcome("use", skipped="a dataset that has it is what can be checked"))
            continue
        if found.kind == "dataset":
            outcomes += check_dataset(name, folder / "dataset", found)
            continue
        for dataset in (*TINY, *OF_TASKS.values()):
            ensure_cache(dataset, {}, cache, index)
        check = check_method if found.kind == "method" else check_encoder
        outcomes += check(name, folder / found.kind, cache)
    return outcomes
