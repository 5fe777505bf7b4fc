"""Evaluation: named logits of a part, and the figures of an epoch, in one transfer from the device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, one_hot

from ..errors import RunError
from ..method import Batch, Logits, Method
from ..modality import MEAN
from ..results.evaluation import FEATURES, INPUTS, NOTHING, Evaluation
from ..task import Metric, Task
from .data import PartData


def check_shapes(method: Method, logits: Logits, samples: int) -> dict[str, Tensor]:
    """Return the named logits of a method's answer.

    Raises:
        RunError: it is no Logits, or one has another shape than (samples, outputs).
    """
    if not isinstance(logits, Logits):
        raise RunError(f"the method {method.name!r} predicts {type(logits).__name__}, not Logits", "Fix its predict")
    named, wanted = logits.named(), (samples, method.classes)
    for name, values in named.items():
        if values.shape != wanted:
            what = f"the method {method.name!r} returned {name} logits of shape {tuple(values.shape)}, not {wanted}"
            raise RunError(what, "Fix its predict")
    return named


def check_features(method: Method, found: dict[str, Tensor], samples: int) -> None:
    """Check that each encoder's features are (samples, its dim) and finite.

    Raises:
        RunError: naming the encoder.
    """
    for name, values in found.items():
        encoder, wanted = type(method.encoders[name]).__name__, (samples, method.dims[name])
        if not isinstance(values, Tensor) or values.shape != wanted:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            what = f"the encoder {encoder} of {name!r} returned {shape}, not features of shape {wanted}"
            raise RunError(what, "Fix its views() or its dim")
        if not bool(values.isfinite().all()):
            raise RunError(f"the encoder {encoder} of {name!r} returned NaN or infinite features", "Fix the encoder")


@torch.no_grad()
def features(
    method: Method, data: PartData, epoch: int | None = None, only: list[str] | None = None
) -> dict[str, Tensor]:
    """Return modality -> features (n, dim) of a part in its order; as training sees it where an epoch is given.

    Args:
        only: the modalities to encode; all where none are given.
    """
    method.eval()
    pieces: dict[str, list[Tensor]] = {}
    for batch in data.in_order(epoch):
        found = method.encode(batch) if only is None else method.encode(batch, only)
        for name, values in found.items():
            pieces.setdefault(name, []).append(values)
    return {name: torch.cat(parts) for name, parts in pieces.items()}


def _weights_digest(encoder: nn.Module) -> bytes:
    """Return a digest of all parameters and buffers."""
    found = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        plain = value.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.view(-1).view(torch.uint8).numpy())
    return found.digest()


class Evaluator:
    """Features and named logits of whole parts on the fixed views, in evaluation mode.

    The features of an encoder that does not train now are kept under its weights, and computed again only where
    those have changed: a stage that trains one modality pays for that one.
    """

    KEPT = 4

    def __init__(self, method: Method) -> None:
        self.method = method
        self.kept: dict[tuple[str, str], dict[bytes, Tensor]] = {}

    def features(self, data: PartData) -> dict[str, Tensor]:
        """Return modality -> features (n, dim) of a part in its order."""
        method = self.method
        if type(method).encode is not Method.encode:  # it may mix the modalities
            return features(method, data)
        found: dict[str, Tensor] = {}
        digests: dict[str, bytes] = {}
        for name in method.modalities:
            encoder = method.encoders[name]
            if not any(parameter.requires_grad for parameter in encoder.parameters()):
                digests[name] = _weights_digest(encoder)
                kept = self.kept.setdefault((data.part, name), {})
                found |= {name: kept[digests[name]]} if digests[name] in kept else {}
        missing = [name for name in method.modalities if name not in found]
        if missing:
            found |= features(method, data, only=missing)
        for name, digest in digests.items():
            kept = self.kept[data.part, name]
            kept[digest] = found[name]
            if len(kept) > self.KEPT:
                del kept[next(iter(kept))]
        return {name: found[name] for name in method.modalities}

    @torch.no_grad()
    def logits(self, data: PartData, found: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the method's named logits (n, outputs) of a part in its order.

        Args:
            found: the part's features, where the caller has them.

        Raises:
            RunError: the logits have another shape than (n, outputs).
        """
        method, pieces = self.method, dict[str, list[Tensor]]()
        method.eval()
        if type(method).infer is not Method.infer:
            answers = ((method.infer(batch), len(batch)) for batch in data.in_order())
        else:
            found = self.features(data) if found is None else found
            columns = zip(*(h.split(data.evaluation_batch) for h in found.values()), strict=True)
            answers = ((method.predict(dict(zip(found, rows, strict=True))), len(rows[0])) for rows in columns)
        for answer, count in answers:
            for name, logits in check_shapes(method, answer, count).items():
                pieces.setdefault(name, []).append(logits.float())
        return {name: torch.cat(parts) for name, parts in pieces.items()}


def evaluation_of(method: Method) -> Evaluation:
    """Return how a method answers for one modality at a time."""
    mixes, reason = method.mixes, " ".join(method.needs_all.split())
    if reason:
        return Evaluation(NOTHING, NOTHING if mixes else FEATURES, reason)
    by_inputs = mixes or type(method).infer is not Method.infer
    return Evaluation(INPUTS if by_inputs else FEATURES, INPUTS if mixes else FEATURES)


@torch.no_grad()
def check_apart(method: Method, batch: Batch) -> None:
    """Check that no modality's features depend on another's input, unless the method says that it mixes them.

    Raises:
        RunError: naming both modalities.
    """
    if method.mixes or len(method.modalities) < 2 or not len(batch):
        return
    method.eval()
    before = method.encode(batch)
    for name in method.modalities:
        other_order = torch.arange(len(batch), device=batch.label.device).roll(1)
        changed = batch.reordered({name: other_order})
        moved = changed.inputs[name]
        moved = 0.5 * moved + 1 if moved.is_floating_point() else moved
        after = method.encode(replace(changed, inputs={**batch.inputs, name: moved}))
        for other in (m for m in before if m != name):
            size = before[other].abs().max().clamp(min=1e-6)
            if bool((after[other] - before[other]).abs().max() > 1e-5 * size):
                what = f"the features of {other!r} that {method.name!r} returns depend on the input of {name!r}"
                fix = "Set `mixes = True` in the class, or a gap and rows of missing modalities would be wrong"
                raise RunError(what, fix)


def _piece(batch: Batch, piece: slice) -> Batch:
    """Return some samples of a batch."""
    inputs = {name: values[piece] for name, values in batch.inputs.items()}
    extra = {name: values[piece] for name, values in batch.extra.items()}
    lengths = {name: values[piece] for name, values in batch.lengths.items()}
    return Batch(batch.index[piece], inputs, batch.label[piece], extra, lengths)


@torch.no_grad()
def check_pure(method: Method, data: PartData, count: int = 16) -> None:
    """Check that a prediction is a function of its sample alone: not of the batch it lies in, the call, or chance.

    Some samples are predicted together, once more, and in two halves. Sums of another order may differ in the last
    digits, and no more.

    Raises:
        RunError: naming the logits that differ, and when.
    """
    few = data.batch(torch.arange(min(count, len(data)), device=data.device))
    half = len(few) // 2
    if not half:
        return
    method.eval()
    share = 1e-3 if data.device.type == "cpu" else 3e-2  # a GPU may compute in half precision, by other kernels

    def answer(*pieces: slice) -> dict[str, Tensor]:
        batches = [_piece(few, piece) for piece in pieces]  # of one batch: noise of a recipe is drawn for each
        found = [check_shapes(method, method.infer(batch), len(batch)) for batch in batches]
        return {name: torch.cat([logits[name] for logits in found]).float() for name in found[0]}

    whole = answer(slice(None))
    others = {"predicted again": answer(slice(None)), "in two halves": answer(slice(half), slice(half, None))}
    for when, other in others.items():
        for name, logits in whole.items():
            size = logits.abs().max().clamp(min=1e-6)
            if bool((other[name] - logits).abs().max() > share * size):
                what = f"the {name} logits that {method.name!r} predicts for the same samples differ {when}"
                raise RunError(what, "Let predict depend on nothing but each sample's own features")


@torch.no_grad()
def mean_inputs(method: Method, data: PartData) -> dict[str, Tensor]:
    """Return modality -> mean of its inputs over a part, of one sample's shape: what a missing one looks like.

    Of samples that differ in length it is the mean of their steps. A type whose missing inputs are empty has none.
    """
    total: dict[str, Tensor] = {}
    count: dict[str, Tensor | int] = {}
    with_mean = [m for m in method.modalities if data.modalities[m].modality.type.missing == MEAN]
    for batch in data.in_order():
        for name in with_mean:
            values, lengths = batch.inputs[name].double(), batch.lengths.get(name)
            added = values.sum(0) if lengths is None else values.sum((0, 1))  # padding is 0
            total[name] = total[name] + added if name in total else added
            count[name] = count.get(name, 0) + (len(batch) if lengths is None else lengths.sum())
    return {name: (value / count[name]).float() for name, value in total.items()}


def without(batch: Batch, present: Sequence[str], fill: Mapping[str, Tensor]) -> Batch:
    """Return a batch in which the inputs of all modalities but those present are filled in; without a fill, empty."""
    missing = [m for m in batch.inputs if m not in present]
    filled = {m: fill[m].to(x.dtype).expand_as(x) for m, x in batch.inputs.items() if m in missing and m in fill}
    empty = {m: torch.zeros_like(n) for m, n in batch.lengths.items() if m in missing and m not in fill}
    return replace(batch, inputs={**batch.inputs, **filled}, lengths={**batch.lengths, **empty})


@torch.no_grad()
def masked_logits(method: Method, data: PartData, fill: Mapping[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
    """Return the fused logits of a part for each proper subset of modalities, the others' inputs filled in.

    Args:
        fill: modality -> what takes the place of a sample's input.
    """
    method.eval()
    found: dict[tuple[str, ...], list[Tensor]] = {}
    for batch in data.in_order():
        for present in subsets(method.modalities):
            named = check_shapes(method, method.infer(without(batch, present, fill)), len(batch))
            found.setdefault(present, []).append(named["fused"].float())
    return {present: torch.cat(pieces) for present, pieces in found.items()}


@torch.no_grad()
def features_alone(method: Method, data: PartData, fill: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return modality -> features (n, dim) of a part with the inputs of all other modalities filled in."""
    method.eval()
    pieces: dict[str, list[Tensor]] = {}
    for batch in data.in_order():
        for name in method.modalities:
            pieces.setdefault(name, []).append(method.encode(without(batch, (name,), fill))[name])
    return {name: torch.cat(parts) for name, parts in pieces.items()}


def metrics(task: Task, named: dict[str, Tensor], label: Tensor) -> dict[str, Tensor]:
    """Return the epoch's figures as device scalars: the loss of each outputs, and the mean of their samples' scores.

    Where the outputs are logits of classes, also the competition of Figure 2. For each unimodal logits z_m beside the
    fused z (DI-MML, Figure 2): `distance` is the mean Euclidean distance of softmax(z) and softmax(z_m), `alignment`
    the mean cosine of (softmax(z) - y) and (softmax(z_m) - y), the gradients of the two losses with respect to their
    logits.
    """
    found: dict[str, Tensor] = {}
    target = None
    for name, outputs in named.items():
        found[f"loss/{name}"] = task.loss(outputs, label)
        found[f"{task.score}/{name}"] = task.scores(outputs, label).double().mean()
        if task.softmax and name != "fused" and "fused" in named:
            target = one_hot(label, outputs.shape[1]).to(outputs.dtype) if target is None else target
            both, alone = named["fused"].softmax(1), outputs.softmax(1)
            found[f"distance/{name}"] = (both - alone).norm(dim=1).mean()
            found[f"alignment/{name}"] = cosine_similarity(both - target, alone - target, dim=1).mean()
    return found


def reached(metric: Metric, outputs: Tensor, label: Tensor) -> float:
    """Return a metric of outputs (n, outputs), computed on the host."""
    target = label.cpu().numpy()
    return metric.value(outputs.detach().float().cpu().numpy(), target)


def fetch(scalars: dict[str, Tensor]) -> dict[str, float]:
    """Bring device scalars to the host in one transfer."""
    if not scalars:
        return {}
    values = torch.stack([value.double() for value in scalars.values()]).tolist()
    return dict(zip(scalars, values, strict=True))


def subsets(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return every proper subset of the modalities, the empty one included."""
    return [chosen for size in range(len(modalities)) for chosen in combinations(modalities, size)]


@torch.no_grad()
def subset_logits(method: Method, test: dict[str, Tensor], fill: dict[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
    """Return the fused logits of test features for each proper subset of modalities.

    Args:
        test: modality -> features (n, d). fill: modality -> the value (d,) that a missing feature takes.
    """
    found = {}
    for present in subsets(method.modalities):
        mixed = {m: h if m in present else fill[m].expand_as(h) for m, h in test.items()}
        logits = method.predict(mixed)
        if logits.has_fused:
            found[present] = logits.fused.float()
    return found
