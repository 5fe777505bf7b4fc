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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..encoder import Encoder, State, make_encoder
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

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
TINY = ("tiny", "tiny3", "tiny_lab")
#: Task beyond classification -> a tiny dataset that asks for it.
OF_TASKS = {"regression": "tiny_number", "multilabel": "tiny_labels"}
PARTS = ("train", "val", "test")
EPOCHS = 3
SMALL_WIDTH = 4
#: Steps after which a run is stopped that is made in pieces.
PIECE = 4


class CheckError(AssertionError):
    """A plug-in breaks a rule."""


@dataclass(frozen=True)
class Outcome:
    """One check of a plug-in.

    Attributes:
        problem: what is wrong, '' where the rule is kept, and fix: what to do about it. skipped: why it was not
        tried. found: what was seen, of a check that holds and is worth a look.
    """

    check: str
    problem: str = ""
    fix: str = ""
    skipped: str = ""
    found: str = ""


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


def check_mechanisms(made: Made) -> str:
    """Check that what acted did so by a positive amount; return by how much."""
    counts = made.run.record.mechanisms
    for name, amount in counts.items():
        require(math.isfinite(amount) and amount > 0, f"the mechanism {name} acted by {amount}")
    return ", ".join(f"{name} {amount:.6g}" for name, amount in counts.items())


#: Name of a check -> the check, and what its author does where it fails.
OF_A_RUN: dict[str, tuple[Callable[[Made], str | None], str]] = {
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
            self.outcomes.append(Outcome(name, found=result if isinstance(result, str) else ""))
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
            self.attempt("the same bytes", fix, _same_bytes, made, again, "made twice")

    def same_in_pieces(self, made: Made, fix: str, resume: Callable[[str], Made]) -> bool:
        """Make a run once more, stopped and resumed; tell whether its bytes are the same."""
        again = self.attempt("training, stopped and resumed", fix, resume, "pieces")
        if again is None:
            return False
        self.attempt("the same bytes, resumed", fix, _same_bytes, made, again, "stopped and resumed")
        return not self.outcomes[-1].problem


def _make(spec: RunSpec, folder: Path, cache: Path) -> Made:
    from ..api.making import make_run

    make_run(spec, load_index(), folder, cache, device="cpu")
    return Made(RunFolder.open(folder / spec.path), Cache.open(cache / spec.cache), spec.config.recipe.epochs)


def _make_in_pieces(spec: RunSpec, folder: Path, cache: Path) -> Made:
    """Make a run that is stopped after every `PIECE` steps; what it reuses is made at once."""
    from .stops import make_in_pieces

    for required in spec.requires.values():
        _make(required, folder, cache)
    stops = make_in_pieces(spec, cache, folder, PIECE)
    made = Made(RunFolder.open(folder / spec.path), Cache.open(cache / spec.cache), spec.config.recipe.epochs)
    # one that only reuses other runs takes no step
    require(stops > 0 or not made.run.record.sample_passes, f"it was never stopped: it takes under {PIECE} steps")
    return made


def _same_bytes(one: Made, other: Made, how: str) -> None:
    """Compare what two makings of a run have determined."""
    names = [*one.run.record.files, "run.json"]
    _same_files(one.run.path, other.run.path, names, how)


def _same_files(one: Path, other: Path, names: list[str], how: str) -> None:
    differing = [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    require(not differing, f"{how}, {', '.join(differing)} differs")


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


def check_method(
    name: str,
    folder: Path,
    cache: Path,
    datasets: tuple[str, ...] | None = None,
    params: Mapping[str, Any] = MappingProxyType({}),
) -> list[Outcome]:
    """Train a method on each tiny dataset that it takes, once at once and once in pieces, and check all that it left.

    Args:
        name: of a registered method. folder: an empty one, for the runs. cache: of the tiny datasets.
        datasets: None for those with classes and those of each further task that it serves. params: of the method,
            such as make its mechanism act in so few epochs.
    """
    if datasets is None:
        served = method_facts(load_index().find("method", name)).tasks
        datasets = (*TINY, *(dataset for task, dataset in OF_TASKS.items() if task in served))
    return [outcome for dataset in datasets for outcome in _check_method_on(name, dataset, folder, cache, params)]


def _check_method_on(name: str, dataset: str, folder: Path, cache: Path, params: Mapping[str, Any]) -> list[Outcome]:
    tries = Attempts(dataset)
    request = Request(dataset, name, 0, params=dict(params), recipe_params={**FEW_EPOCHS, "epochs": EPOCHS})

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
    if lacking := what_is_lacking(name, dataset):
        with contextlib.suppress(ConfigError):
            train("refused")
            return [Outcome(f"training ({dataset})", f"it trains without what it needs: {lacking}")]
        return [Outcome(f"training ({dataset})", skipped=f"it is refused, as it should be: {lacking}")]
    with parts_asked_for() as asked:
        made = tries.attempt("training", "Let it train on the tiny datasets", train, "one")
    if made is not None:
        tries.all_of(made)
        kind, fix = load_index().load("method", name), "Correct the class attribute that the message names"
        tries.attempt("declarations", fix, check_declarations, kind, made, asked)

        def resume(place: str) -> Made:
            return _make_in_pieces(resolve(request, load_index()), folder / f"{place}-{dataset}", cache)

        fix = "Keep what later steps depend on in parameters or registered buffers: a plain attribute starts anew"
        if not tries.same_in_pieces(made, fix, resume):  # is it the stop, or does it differ each time?
            tries.same_again(made, "Draw from step.rng or context.rng alone", train)
    return tries.outcomes


def what_is_lacking(method: str, dataset: str) -> str:
    """Return what a method needs of an encoder and the types' own encoders of a dataset lack, '' for nothing.

    It is weights that the method modulates, blocks or maps, by the method's default parameters.
    """
    index = load_index()
    facts, kind = dataset_facts(index.find("dataset", dataset)), index.load("method", method)
    assert issubclass(kind, Method)
    encoders = {}
    for modality in facts.modalities:
        own = index.load("encoder", modality.type.encoder)
        assert issubclass(own, Encoder)
        encoders[modality.name] = make_encoder(own, modality, modality.shape, own.Params())
    made = kind(kind.Params(), encoders, facts.task.outputs, EPOCHS)
    for name, encoder in encoders.items():
        there = {
            "weights that it modulates": made.modulated(name) != [],
            "blocks": not made.needs_blocks or bool(encoder.blocks()),
            "maps": not made.needs_maps or encoder.has_maps,
        }
        for needed, holds in there.items():
            if not holds:
                return f"the encoder {encoder.title} of {name} has no {needed}"
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
    tries.attempt("the same bytes", fix, _same_files, one.folder, other.folder, names, "made twice")
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


#: Samples that an encoder is tried on, with lengths from 1 on, and steps by which they are padded further.
TRIED, FURTHER = 6, 5


@dataclass(frozen=True)
class Tried:
    """Inputs that an encoder is tried on, and their mask; `other` says what is done to the padding."""

    inputs: Tensor
    mask: Tensor | None = None
    other: str = ""


def tried(modality: Modality, shape: tuple[int, ...]) -> Tried:
    """Return samples that look like a modality's; of a type with lengths, of different ones.

    Args:
        shape: of one view as the encoder gets it.
    """
    import torch

    torch.manual_seed(0)
    inputs = modality.type.random_inputs(modality, (TRIED, *shape), "cpu")
    if not modality.type.has_length:
        return Tried(inputs)
    lengths = torch.arange(TRIED) % shape[0] + 1
    return Tried(inputs, torch.arange(shape[0]) < lengths[:, None])


def padded_otherwise(modality: Modality, one: Tried) -> list[Tried]:
    """Return the same samples with something else in their padding, and with more of it; [] without a mask."""
    import torch

    if one.mask is None:
        return []
    beyond, filled = ~one.mask, one.inputs.clone()
    filled[beyond] = modality.type.random_inputs(modality, (int(beyond.sum()), *one.inputs.shape[2:]), "cpu")
    room = one.inputs.new_ones(TRIED, FURTHER, *one.inputs.shape[2:])
    none = torch.zeros(TRIED, FURTHER, dtype=torch.bool)
    longer = Tried(torch.cat([one.inputs, room], 1), torch.cat([one.mask, none], 1), "the length of")
    return [Tried(filled, one.mask, "what stands in"), longer]


def _close(found: Tensor, wanted: Tensor) -> bool:
    """Tell whether two results are the same but for the order of sums."""
    size = wanted.abs().max().clamp(min=1e-6)
    return found.shape == wanted.shape and bool((found - wanted).abs().max() <= 1e-5 * size)


def called(encoder: Encoder, one: Tried) -> Tensor:
    """Return an encoder's features of samples."""
    found: Tensor = encoder(one.inputs) if one.mask is None else encoder(one.inputs, one.mask)
    return found


def check_padding(encoder: Encoder, modality: Modality) -> None:
    """Check that features depend neither on what stands in the padding nor on how much of it there is."""
    import torch

    one = tried(modality, encoder.eval().shape)
    assert one.mask is not None
    with torch.no_grad():
        wanted = called(encoder, one)
        for other in padded_otherwise(modality, one):
            same = _close(called(encoder, other), wanted)
            require(same, f"its features depend on {other.other} the padding")
        nothing = encoder(one.inputs, torch.zeros_like(one.mask))
    require(bool(nothing.isfinite().all()), "its features of an empty sample are not finite")


def _states(encoder: Encoder, one: Tried) -> list[State]:
    """Return what each block of an encoder returns."""
    state, found = encoder.start(one.inputs, one.mask), []
    for block in encoder.blocks():
        state = encoder.run(block, state)
        found.append(state)
    return found


def _views(modality: Modality, shape: tuple[int, ...]) -> list[Tried]:
    """Return samples, and of a type without lengths also such of two views."""
    import torch

    one = tried(modality, shape)
    return [one] if one.mask is not None else [one, Tried(torch.stack([one.inputs, one.inputs.flip(0)], 1))]


def check_blocks(encoder: Encoder, modality: Modality) -> None:
    """Check that an encoder's blocks, one after the other, and its pooling are the encoder, to the bit.

    Their widths are those that it says, and padding reaches no real step of any of them. One without blocks passes.
    """
    import torch

    if not encoder.eval().blocks():
        return
    widths = encoder.widths()
    with torch.no_grad():
        for one in _views(modality, encoder.shape):
            states = _states(encoder, one)
            same = torch.equal(encoder.finish(states[-1]), called(encoder, one))
            require(same, "its blocks and pool() together give other features than forward()")
            found = [state.channels for state in states]
            require(found == widths, f"its blocks return {found} channels, and widths() says {widths}")
            squeezed = [tuple(state.squeezed().shape) for state in states]
            require(squeezed == [(TRIED, width) for width in widths], f"its states squeezed have shapes {squeezed}")
            for other in padded_otherwise(modality, one):
                for k, (now, before) in enumerate(zip(_states(encoder, other), states, strict=True), 1):
                    require(_alike(now, before), f"what its block {k} returns depends on {other.other} the padding")


def _alike(found: State, wanted: State) -> bool:
    """Tell whether two states agree on all real steps, and on their mean."""
    return _close(found.positions()[found.real()], wanted.positions()[wanted.real()]) and _close(
        found.squeezed(), wanted.squeezed()
    )


def check_maps(encoder: Encoder, modality: Modality) -> None:
    """Check the shape of an encoder's maps, their mask, and that no real position of them depends on the padding.

    Pooled, they are its features, to the bit. One without maps passes.
    """
    import torch

    if not encoder.eval().has_maps:
        return
    counts = []
    with torch.no_grad():
        for one in _views(modality, encoder.shape):
            state = encoder.maps(one.inputs, one.mask)
            positions = state.positions()
            counts.append(positions.shape[1])
            fits = positions.dim() == 3 and positions.shape[::2] == (TRIED, encoder.dim)
            require(fits, f"maps() has the shape {tuple(positions.shape)}, not ({TRIED}, positions, {encoder.dim})")
            same = torch.equal(encoder.finish(state), called(encoder, one))
            require(same, "its maps and pool() together give other features than forward()")
            masked = state.mask is None if one.mask is None else torch.equal(state.real(), one.mask)
            require(masked, "the mask of its maps is not that of the inputs")
            for other in padded_otherwise(modality, one):
                same = _alike(encoder.maps(other.inputs, other.mask), state)
                require(same, f"its maps depend on {other.other} the padding")
    twice = counts[1:] in ([], [2 * counts[0]])
    require(twice, f"maps() has {counts} positions of one view and of two: not twice as many")


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


def _check_encoder_on(name: str, dataset: str, facts: EncoderFacts, folder: Path, cache: Path) -> list[Outcome]:
    tries, index = Attempts(dataset), load_index()
    modalities = dataset_facts(index.find("dataset", dataset)).modalities
    chosen = {m.name: small_encoder(m) if facts.why_not(m) else {"name": name} for m in modalities}
    request = Request(dataset, "joint", 0, recipe_params={**FEW_EPOCHS, "encoder": chosen})
    fix = "Let it take the shapes whose number of dimensions is in `ranks`"
    spec = tries.attempt("planning", fix, resolve, request, index)
    if spec is None:
        return tries.outcomes
    encoders = tries.attempt("building", fix, build_encoders, spec.config, Cache.open(cache / spec.cache), index)
    if encoders is None:
        return tries.outcomes
    for modality in modalities:
        if not facts.why_not(modality):
            _check_inside(tries, encoders[modality.name], modality)

    def train(place: str) -> Made:
        return _make(spec, folder / place, cache)

    made = tries.attempt("training", fix, train, "one")
    if made is not None:
        tries.all_of(made)
        tries.same_again(made, "Let `views` depend on inputs and parameters alone", train)
    return tries.outcomes


def _check_inside(tries: Attempts, encoder: Encoder, modality: Modality) -> None:
    """Try what an untrained encoder declares: its parts, blocks and maps, and that it heeds masks."""
    padding = "Leave out of every sum and mean what the mask does not name"
    order = "Return from blocks() what forward() runs, in its order, and let pool() do the rest"
    tries.attempt(f"parts for {modality.name}", "Name each part of `parts()` once", check_parts, encoder)
    if modality.type.has_length:
        tries.attempt(f"padding of {modality.name}", padding, check_padding, encoder, modality)
    if encoder.blocks():
        tries.attempt(f"blocks for {modality.name}", order, check_blocks, encoder, modality)
    if encoder.has_maps:
        tries.attempt(f"maps for {modality.name}", padding, check_maps, encoder, modality)


def check_plugin(name: str, folder: Path, params: Mapping[str, Any] = MappingProxyType({})) -> list[Outcome]:
    """Check whatever has a name: a method, a dataset, an encoder, or several of them.

    Args:
        name: of a plug-in that is registered, or lies in a folder that `use_plugins` was told of; of an
            encoder with what stands behind its colon.
        folder: an empty one, for caches and runs. params: of a method.

    Raises:
        ConfigError: nothing has that name; parameters are given, and it is no method.
    """
    from ..api.making import ensure_cache

    use_plugins([PLUGINS])
    index, cache, outcomes = load_index(), folder / "tiny", list[Outcome]()
    entries = [entry for entry in index.entries if entry.name == name.partition(":")[0]]
    if not entries:
        hint = nearest(name, {entry.name for entry in index.entries})
        raise ConfigError(f"no method, dataset, encoder or modality type is named {name!r}", hint)
    if params and {found.kind for found in entries} != {"method"}:
        raise ConfigError(f"{name} is no method, and has no parameters to set", "Leave --set out")
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
        if found.kind == "method":
            outcomes += check_method(name, folder / found.kind, cache, params=params)
        else:
            outcomes += check_encoder(name, folder / found.kind, cache)
    return outcomes
