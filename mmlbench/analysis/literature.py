"""Numbers that papers print: one file a source in `published/`, checked, and compared with ours where that is fair.

No figure without a source that a reader can open, and the place in it. A comparison is worth a verdict only where
test set, selection rule and front end match; else the reason is said instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError, brief
from ..storage.paths import published_folder
from ..storage.texts import why_not
from ..storage.words import plural
from ..study.yaml import read_yaml

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

#: The normal quantile of a 95 % interval, for what many samples tell.
Z = 1.959964
_TEXT = {"type": "string", "minLength": 3}
_COUNT = {"type": "integer", "minimum": 1}
_NAMES = {"type": "object", "minProperties": 1, "additionalProperties": _TEXT}
_COUNTS = {"type": "object", "additionalProperties": _COUNT}
#: What stands in notes where nobody knows which dataset a number is of. Such a number is left out.
UNNAMED = ("unknown", "unnamed", "not_named", "not_said", "none", "other", "idem")
_FIGURE = {
    "type": "object",
    "required": ["dataset", "method", "metric", "value", "place"],
    "additionalProperties": False,
    "properties": {
        "dataset": {"type": "string", "pattern": "^[a-z0-9_]+$", "not": {"enum": list(UNNAMED)}},
        "method": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "metric": {"type": "string", "pattern": "^(accuracy(/[a-z_]+)?|f1)$"},
        "value": {"type": "number", "minimum": 0, "maximum": 100},
        "sd": {"type": "number", "minimum": 0},
        "place": _TEXT,
        "variant": {"type": "string"},
        "params": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
        "seeds": _COUNT,
        "note": _TEXT,
    },
}
SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["title", "venue", "address", "measured_by", "read", "trust", "protocol", "figures"],
    "additionalProperties": False,
    "properties": {
        "title": _TEXT,
        "venue": _TEXT,
        "address": {"type": "string", "pattern": r"^https://\S+\.\S+$"},
        "measured_by": _TEXT,
        "read": {"enum": ["full_text", "own_repository", "issue", "abstract", "second_hand"]},
        "trust": {"enum": ["high", "medium"]},
        "not_here": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"datasets": _NAMES, "methods": _NAMES},
        },
        "protocol": {
            "type": "object",
            "required": ["test_set", "selection", "recipes", "why_not", "seeds"],
            "additionalProperties": False,
            "properties": {
                "test_set": {"type": "object", "additionalProperties": {"type": "string"}},
                "selection": {"enum": ["last", "val", "test", "unknown"]},
                "drop_last": {"type": "boolean"},
                "n_test": _COUNTS,
                "parts": {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 3},
                "frames": _COUNTS,
                "folds": _COUNT,
                "seeds": {"anyOf": [_COUNT, {"const": "unknown"}]},
                "recipes": {"type": "array", "items": {"type": "string"}},
                "why_not": {"type": "string"},
            },
        },
        "figures": {"type": "array", "minItems": 1, "items": _FIGURE},
    },
}


@dataclass(frozen=True)
class Source:
    """A paper, a repository or a thread that prints numbers.

    Attributes:
        read: what was read: 'full_text', 'own_repository', 'issue', 'abstract', or 'second_hand' for notes of
            somebody else. trust: 'high' where the authors' own text or file was seen, 'medium' where somebody quotes.
        test_set: dataset -> split of ours with the same test samples. selection: the rule that picked the epoch, or
            'unknown'. recipes: names of our recipes with its front end and training. why_not: what else stands in
            the way of a comparison.
        drop_last: whether the last incomplete batch of the test part is left out, None where that is not known.
        n_test, frames: dataset -> test samples that count, frames of a clip; of what is known.
        parts: the percentages of train, validation and test part where the source cut its own, else ().
        folds, seeds: how many; None where that is not known.
        other_datasets, other_methods: names that mmlbench does not have -> what they are.
    """

    key: str
    title: str
    venue: str
    address: str
    measured_by: str
    read: str
    trust: str
    test_set: Mapping[str, str]
    selection: str
    recipes: tuple[str, ...]
    why_not: str = ""
    drop_last: bool | None = None
    n_test: Mapping[str, int] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    folds: int | None = None
    seeds: int | None = None
    other_datasets: Mapping[str, str] = field(default_factory=dict)
    other_methods: Mapping[str, str] = field(default_factory=dict)

    @property
    def second_hand(self) -> bool:
        """It was read in notes of somebody else, not in the source."""
        return self.read == "second_hand"

    def obstacles(self, dataset: str) -> str:
        """Return what stands in the way of a comparison with it on a dataset, in words; '' for nothing known."""
        found = [f"its own parts of {'/'.join(map(str, self.parts))} %"] if self.parts else []
        found += ["the epoch is picked on the test set"] if self.selection == "test" else []
        samples = f" ({self.n_test[dataset]} samples are left)" if dataset in self.n_test else ""
        found += [f"the last incomplete batch of the test set is dropped{samples}"] if self.drop_last else []
        return "; ".join([*found, *([self.why_not] if self.why_not else [])])


@dataclass(frozen=True)
class PublishedResult:
    """One printed number, in percent, with its place in the source.

    Attributes:
        metric: 'accuracy', 'accuracy/MODALITY' of one modality, or 'f1', which stands beside nothing of ours:
            sources do not say which mean over classes they take.
        sd: over seeds, where it is printed. variant: fusion head in the source's words.
        params: parameters of our method that it is known to have. seeds: where they differ from the source's.
    """

    source: Source
    dataset: str
    method: str
    metric: str
    value: float
    place: str
    sd: float | None = None
    variant: str = ""
    params: Mapping[str, str | float | bool] = field(default_factory=dict)
    seeds: int | None = None
    note: str = ""

    def facts(self) -> str:
        """Return what is known of how it was measured, in words; '' for nothing."""
        picked = {"last": "last epoch", "val": "epoch by validation", "test": "best epoch on test"}
        source, seeds = self.source, self.seeds or self.source.seeds
        found = [picked[source.selection]] if source.selection in picked else []
        found += ["last incomplete test batch dropped"] if source.drop_last else []
        found += [plural(source.n_test[self.dataset], "test sample")] if self.dataset in source.n_test else []
        found += [f"parts of {'/'.join(map(str, source.parts))} %"] if source.parts else []
        found += [plural(source.frames[self.dataset], "frame")] if self.dataset in source.frames else []
        found += [plural(source.folds, "fold")] if source.folds else []
        found += [plural(seeds, "seed")] if seeds else []
        found += [f"{name} {value}" for name, value in self.params.items()]
        return ", ".join([*found, *([self.note] if self.note else [])])


def read_published(folder: Path | None = None) -> list[PublishedResult]:
    """Return every published number, file by file.

    Raises:
        DataError: a file that is no YAML or breaks the schema, such as a figure without its place.
    """
    folder = published_folder() if folder is None else folder
    return [figure for path in sorted(folder.glob("*.yaml")) for figure in read_source(path)]


@cache  # `jsonschema.validate` checks the schema itself anew for every file
def _validator() -> Validator:
    from jsonschema.validators import validator_for

    return validator_for(SCHEMA)(SCHEMA)


def read_source(path: Path) -> list[PublishedResult]:
    """Return the numbers of one file.

    Raises:
        DataError: it is no YAML, or breaks the schema; the message names the file and the place.
    """
    from jsonschema.exceptions import best_match

    fix = "Every figure needs its source: see docs/leaderboard.md"
    try:
        found = read_yaml(path)
    except ConfigError as error:
        raise DataError(error.what, error.fix) from None
    wrong = best_match(_validator().iter_errors(found))
    if wrong is not None:
        where = "/".join(map(str, wrong.absolute_path)) or "the file"
        raise DataError(f"{path}: {where}: {wrong.message}", fix)
    protocol, named = found["protocol"], found.get("not_here", {})
    texts = [found[key] for key in ("title", "venue", "measured_by")]
    texts += [text for names in named.values() for text in names.values()]
    texts += [figure[key] for figure in found["figures"] for key in ("place", "variant", "note") if key in figure]
    for text in texts:
        if why_not(text):
            raise DataError(
                f"{path}: {brief(text)} {why_not(text)}", "Write it otherwise; begin with a letter or digit"
            )
    if found["read"] == "second_hand" and found["trust"] == "high":
        raise DataError(f"{path}: what was read in notes of others is of trust medium at most", fix)
    for kind in ("dataset", "method"):
        used = {figure[kind] for figure in found["figures"]}
        for name in named.get(f"{kind}s", {}):
            if name not in used:
                raise DataError(f"{path}: not_here names the {kind} {brief(name)}, which no figure has", fix)
    source = Source(
        key=path.stem,
        title=found["title"],
        venue=found["venue"],
        address=found["address"],
        measured_by=found["measured_by"],
        read=found["read"],
        trust=found["trust"],
        test_set=protocol["test_set"],
        selection=protocol["selection"],
        recipes=tuple(protocol["recipes"]),
        why_not=protocol["why_not"],
        drop_last=protocol.get("drop_last"),
        n_test=protocol.get("n_test", {}),
        frames=protocol.get("frames", {}),
        parts=tuple(protocol.get("parts", ())),
        folds=protocol.get("folds"),
        seeds=None if protocol["seeds"] == "unknown" else protocol["seeds"],
        other_datasets=named.get("datasets", {}),
        other_methods=named.get("methods", {}),
    )
    return [PublishedResult(source, **figure) for figure in found["figures"]]


@dataclass(frozen=True)
class Ours:
    """Our number beside a published one, in percent: mean over seeds, its standard error (seeds and samples), sd
    over seeds, test samples and seeds; the metric as `PublishedResult` has it, the fusion head, '' for one
    modality's own, and the parameters that differ from the method's defaults.
    """

    dataset: str
    split: str
    recipe: str
    selection: str
    value: float
    se: float | None
    sd: float | None
    n_test: int
    n_seeds: int
    metric: str = "accuracy"
    head: str = "concat"
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Ours minus theirs in points, with a 95 % interval, and the verdict in words."""

    difference: float
    ci_low: float | None
    ci_high: float | None
    verdict: str


#: Words of the literature for a fusion head -> ours. What names none is read as concatenation, the field's habit.
HEADS = {"": "concat", "concatenation": "concat", "summation": "sum", "FiLM": "film", "gated": "gated"}


def head_of(figure: PublishedResult) -> str:
    """Return our name of the fusion head behind a published number; '' for one modality's own head."""
    return HEADS.get(figure.variant, figure.variant) if figure.metric == "accuracy" else ""


def obstacle(figure: PublishedResult, ours: Ours) -> str:
    """Return why ours and theirs can't be compared, '' where they can."""
    source, dataset, split, recipe = figure.source, ours.dataset, ours.split, ours.recipe
    known = source.obstacles(figure.dataset)
    if source.test_set.get(figure.dataset) != split or figure.dataset != dataset:
        return f"not known to be the test set of {dataset}/{split}; {known}".rstrip("; ")
    if source.drop_last or source.n_test.get(dataset, ours.n_test) != ours.n_test:
        count = plural(source.n_test[dataset], "test sample") if dataset in source.n_test else "fewer test samples"
        return f"theirs is of {count}, ours of {ours.n_test}"
    if source.selection == "unknown":
        return known or "which epoch is printed is not said"
    if recipe not in source.recipes:
        return known or "another front end or training"
    if figure.metric != ours.metric:
        return "a head that has no counterpart here"
    if head_of(figure) != ours.head:
        return f"theirs is the {head_of(figure)} head, ours {ours.head or 'another'}"
    others = others_of(figure, ours.params)
    return f"theirs has {', '.join(others)}" if others else ""


def others_of(figure: PublishedResult, params: Mapping[str, str]) -> list[str]:
    """Return the parameters of a published number that a row of ours does not have, such as 'alpha 4'."""
    return [f"{name} {value}" for name, value in figure.params.items() if not _same(value, params.get(name))]


def _same(value: str | float | bool, text: str | None) -> bool:
    """Tell whether a parameter's value is the one that a table has as text, such as 'False', '4.0' or 'paper'."""
    if text is None or isinstance(value, (bool, str)):
        return str(value) == text
    try:
        return float(text) == value
    except ValueError:
        return False


def compare(figure: PublishedResult, ours: Ours) -> Comparison:
    """Compare our number with a published one.

    A verdict is given only under the source's own selection rule, test set and front end. Theirs is one run, so its
    variance over seeds is ours over single seeds, sd^2, known from our S seeds only; the half-width is

        sqrt(t(S-1)^2 sd^2 (1 + 1/S) + 1.96^2 (V_i + p (1 - p) / n)),   V_i = se^2 - sd^2 / S, at least 0

    With 1.96 on both parts it held 84 to 90 % at three to five seeds and 4,000 samples.
    """
    difference = ours.value - figure.value
    why = obstacle(figure, ours)
    if not why and ours.selection != figure.source.selection:
        why = f"theirs is chosen by {figure.source.selection!r}, ours by {ours.selection!r}"
    if not why and (ours.se is None or ours.sd is None or ours.n_seeds < 2):
        why = "ours has no interval" + (", being picked on the test set" if ours.selection == "test" else "")
    if why:
        return Comparison(difference, None, None, f"not comparable: {why}")
    assert ours.se is not None and ours.sd is not None
    p = figure.value / 100
    of_seeds = ours.sd**2 * (1 + 1 / ours.n_seeds)
    of_samples = max(ours.se**2 - ours.sd**2 / ours.n_seeds, 0.0) + 100**2 * p * (1 - p) / ours.n_test
    width = math.hypot(_t(ours.n_seeds - 1) * math.sqrt(of_seeds), Z * math.sqrt(of_samples))
    low, high = difference - width, difference + width
    return Comparison(difference, low, high, "higher" if low > 0 else "lower" if high < 0 else "agrees")


def _t(degrees: int) -> float:
    """Return the two-sided 5 % quantile of Student's t."""
    from scipy import special

    return float(-special.stdtrit(degrees, 0.025))


def cells(figures: list[PublishedResult]) -> dict[tuple[str, str], list[PublishedResult]]:
    """Return (dataset, method) -> the fused accuracies that at least two sources print, widest spread first."""
    found: dict[tuple[str, str], list[PublishedResult]] = {}
    for figure in figures:
        if figure.metric == "accuracy" and head_of(figure) == "concat":
            found.setdefault((figure.dataset, figure.method), []).append(figure)
    several = {key: value for key, value in found.items() if len({one.source.key for one in value}) > 1}

    def spread(key: tuple[str, str]) -> float:
        values = [figure.value for figure in several[key]]
        return max(values) - min(values)

    return {key: sorted(several[key], key=lambda one: one.value) for key in sorted(several, key=lambda k: -spread(k))}
