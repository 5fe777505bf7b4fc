"""The noun Dataset: modalities, task, splits, and how raw files become a prepared cache."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from .decode.fault import FaultKind
from .errors import ConfigError, DataError
from .modality import Modality, views_lengths
from .params import DatasetParams, describe
from .registry import Plugin
from .storage import mapped
from .system.progress import Progress
from .task import Classification, Task
from .task.base import Label

if TYPE_CHECKING:
    from .storage.lease import Lease

T = TypeVar("T")
PARTS = ("train", "val", "test")
#: Splits of these names are folds of one split: 'speaker_rotation.2'; the tables put their test parts together.
FOLD = re.compile(r"(.+)\.(\d+)")


def base_split(split: str) -> str:
    """Return the split that a fold belongs to: 'speaker_rotation' of 'speaker_rotation.2'; others are their own."""
    found = FOLD.fullmatch(split)
    return found[1] if found else split


@dataclass(frozen=True)
class KnownLists:
    """What is known of the published lists of a split. Where lists of these hashes are read, the figures are checked.

    A figure that differs then is a fault of the reader, not of the data: the list is what it always was.

    Args:
        files: name -> SHA-256 of the lists as they are published.
        figures: name -> count, as `mmlbench.prepare.list_counts` has them: 'ids/train+test' are the ids that lie in
            both parts, 'torn/train' those with several labels. What is not named is not checked.
    """

    files: Mapping[str, str]
    figures: Mapping[str, int]


@dataclass(frozen=True)
class Split:
    """How samples are divided: expected counts per part, and the name of the group a sample belongs to.

    `exact` is False where the counts hang on lists that are not shipped: they are then approximate. `known` is what
    is known of the published lists, None where there are none.
    """

    doc: str
    counts: Mapping[str, int]
    group: str | None = None
    exact: bool = True
    known: KnownLists | None = None


@dataclass(frozen=True)
class Sample:
    """One sample of a split: stable id, part, label, group, and its row in each modality's array.

    Its label is as the task has it: the number of its class, a tuple of the numbers of its labels, or a number.
    """

    id: str
    part: str
    label: Label
    rows: tuple[int, ...]
    group: str = ""


@dataclass(frozen=True)
class Listed:
    """The lists of a split as they were read: repeated ids are kept; `hashes` is list file -> SHA-256."""

    samples: list[Sample]
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """One thing to fetch for a dataset.

    Args:
        name: of the file or folder below the raw folder.
        url: where from.
        source: what these facts were taken from; '' where nobody has checked them.
        bytes: of the file, where known.
        sha256: of the file, where known.
        licence: of its content.
        direct: True where a plain download is allowed; else `how` says what to do.
        form: downloads of one form belong together and stand for those of another; those without are always needed.
        optional: `prepare` does without.
        also: patterns below the raw folder, any of which shows that it is there in another shape (unpacked).
        unpacks: the folder in the archive that is unpacked into the raw folder after a download.
        size: in words, where the exact one is not known.
        lists: file in it -> its SHA-256, where these alone are known.
        mirror: another address of the same, and when it is needed.
    """

    name: str
    url: str
    source: str = ""
    bytes: int = 0
    sha256: str = ""
    licence: str = ""
    direct: bool = False
    how: str = ""
    form: str = ""
    optional: bool = False
    also: tuple[str, ...] = ()
    unpacks: str = ""
    size: str = ""
    lists: Mapping[str, str] = field(default_factory=dict)
    mirror: str = ""


@dataclass(frozen=True)
class KnownFault:
    """What is wrong in the official copy of a dataset, so that nobody downloads it again for that.

    Args:
        id: of the sample; a pattern such as '*' where many are concerned.
        what: is wrong, in words.
        kind: that the fault which was found must be of; None for any.
    """

    id: str
    what: str
    kind: FaultKind | None = None


@dataclass(frozen=True)
class Options:
    """How a preparation runs; of these, `allow_missing` and `lists` change what it makes.

    Args:
        workers: processes that decode; 1 decodes in this one.
        allow_missing: ids that are left out on purpose.
        lists: folder with split lists to use instead of the official ones.
        log: takes a line of progress.
    """

    workers: int = 1
    allow_missing: tuple[str, ...] = ()
    lists: Path | None = None
    log: Callable[[str], None] = lambda line: None


class Dataset(Plugin):
    """Base of all datasets; a file or a folder in `datasets/` holds one registered sub-class.

    The class attributes can be read without any data; `prepare` decodes the raw files once.
    """

    kind: ClassVar[str] = "dataset"
    Params: ClassVar[type[DatasetParams]] = DatasetParams
    params: DatasetParams

    #: With default parameters; a dataset whose shapes hang on its parameters sets its own in `__init__`.
    modalities: tuple[Modality, ...]
    #: Of classes, or of labels.
    class_names: ClassVar[tuple[str, ...]] = ()
    #: What is asked for of a sample; None: classification into `class_names`.
    task: ClassVar[Task | None] = None
    #: The metric that a study of it speaks of where it names none; '': that of the task.
    metric: ClassVar[str] = ""
    splits: ClassVar[dict[str, Split]]
    licence: ClassVar[str]
    citation: ClassVar[str]
    #: Where the raw files come from; embedded datasets say how they are made.
    origin: ClassVar[str]
    #: True where `prepare` needs a folder of raw files that the user downloads.
    needs_raw: ClassVar[bool] = False
    #: What is known to be wrong in the official copy: `prepare` says so where it finds it.
    known_faults: ClassVar[tuple[KnownFault, ...]] = ()
    #: What `mmlbench fetch` names and gets.
    downloads: ClassVar[tuple[Download, ...]] = ()

    def __init__(self, params: DatasetParams | None = None) -> None:
        self.params = params if params is not None else self.Params()

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Decode the raw files into the arrays and splits of `out`.

        Raises:
            DataError: files are missing, corrupt or changed; the message lists them.
        """
        raise NotImplementedError

    def listed(self, raw: Path | None) -> dict[str, Listed]:
        """Return split -> lists, without decoding anything; {} where the dataset has no lists of its own.

        `mmlbench audit` reads them where nothing is prepared yet. Lists that are in neither the package nor the
        raw folder are left out.
        """
        return {}

    def stored_rows(self) -> int:
        """Return about how many rows a prepared cache has, all splits together, for `mmlbench estimate`."""
        return max(sum(split.counts.values()) for split in self.splits.values())

    def bayes(self) -> dict[str, float]:
        """Return the best that a metric can be, per modality and of all together ('fused'), where it is known.

        It is of the dataset's own metric: of classification the Bayes accuracy, of a number the least error.
        """
        return {}

    @classmethod
    def asks(cls) -> Task:
        """Return its task."""
        return Classification(tuple(cls.class_names)) if cls.task is None else cls.task

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Return the dataset's facts as plain data; `faults` is what can't be, and no part of them.

        Raises:
            ConfigError: a modality is not as its type has it.
        """
        faults = [f"the modality {m.name!r} {fault}" for m in cls.modalities for fault in m.type.faults(m)]
        if faults:
            raise ConfigError(f"{cls.name}: {'; '.join(faults)}", "Correct `modalities` in the dataset's file")
        task = cls.asks()
        return {
            "modalities": [modality.facts() for modality in cls.modalities],
            "class_names": list(task.names),
            "task": {"name": task.name, **task.parameters()},
            "noun": task.noun,
            "metric": cls.metric,
            "faults": [*task.faults(), *_metric_faults(task, cls.metric)],
            "splits": {
                name: {"doc": split.doc, "counts": dict(split.counts), "group": split.group}
                for name, split in cls.splits.items()
            },
            "default_split": next(iter(cls.splits)),
            "licence": cls.licence,
            "citation": cls.citation,
            "origin": cls.origin,
            "needs_raw": cls.needs_raw,
            "downloads": [asdict(one) for one in cls.downloads],
            "params": [field.plain() for field in describe(cls.Params)],
        }


def _metric_faults(task: Task, metric: str) -> list[str]:
    """Return what is wrong with the metric that a dataset names."""
    try:
        task.metric(metric)
    except ConfigError as error:
        return [f"its {error.what} ({error.fix})"]
    return []


def _other_lists(names: Iterable[str]) -> str:
    return f"split lists differ from the official ones: {', '.join(sorted(names))}"


@dataclass
class CacheWriter:
    """The open cache that a dataset's `prepare` fills: arrays, extras and splits, below `folder`.

    Attributes:
        options: how the preparation runs.
        lease: under which it does.
        left_out: rows (of every modality) that were left out on purpose; `split` drops their samples.
        notes: what every table made from the cache shall say.
        raw: facts about the raw files, for the manifest.
    """

    folder: Path
    dataset: Dataset
    options: Options = field(default_factory=Options)
    lease: Lease | None = None
    left_out: frozenset[int] = frozenset()
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, dict[str, Any]] = field(default_factory=dict)
    extras: list[str] = field(default_factory=list)
    splits: dict[str, list[Sample]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name that the finished cache will have."""
        return self.folder.name.removeprefix(".").partition(".")[0]

    def check(self) -> None:
        """Make sure that this process still is the one that makes the cache.

        Raises:
            LeaseLost: another one has taken over.
        """
        if self.lease is not None:
            self.lease.check()

    def progress(self, items: Sequence[T], what: str = "items") -> Iterator[T]:
        """Yield items one by one, and say now and then how many are done and how long the rest will take."""
        progress = Progress(self.dataset.name, len(items), 1, self.options.log, what)
        for item in items:
            self.check()
            yield item
            progress.step()

    def _modality(self, name: str) -> Modality:
        for modality in self.dataset.modalities:
            if modality.name == name:
                return modality
        raise DataError(f"{self.dataset.name} declares no modality {name!r}", "Use one of its `modalities`")

    def array(self, name: str, rows: int, dtype: str, scale: float = 1.0, offset: float = 0.0) -> np.memmap:
        """Return a writable memory map of shape (rows, views, *shape); real value = stored * scale + offset.

        Where the file system can't map files, what is returned takes `a[k]`, `a[k] = value`, `a[...] = values` and
        `flush` all the same (`mmlbench.storage.mapped.RowFile`).
        """
        modality = self._modality(name)
        if rows < 1:
            raise DataError(f"{self.dataset.name}: {name!r} has {rows} rows", "Check the raw files, or fix prepare")
        if modality.type.ids and (np.dtype(dtype).kind not in "iu" or (scale, offset) != (1.0, 0.0)):
            what = f"{self.dataset.name}: {name!r} is stored as {dtype} * {scale:g} + {offset:g}"
            raise DataError(what, "Store ids as they are, in a type of integers such as int16")
        shape = (rows, modality.views, *modality.shape)
        self.arrays[name] = {"rows": rows, "dtype": dtype, "scale": float(scale), "offset": float(offset)}
        path = self.folder / f"{name}.npy"
        kept = self._reopen(path, np.dtype(dtype), shape)
        if kept is not None:
            return kept
        made = mapped.create(path, np.dtype(dtype), shape)
        if isinstance(made, mapped.RowFile):
            self.options.log(f"{path} can't be mapped into memory on this file system: it is written row by row")
        return made

    @staticmethod
    def _reopen(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
        """Return the array that a killed preparation left, where it has the wanted form."""
        try:
            kept = mapped.write(path)
        except (OSError, ValueError):
            return None
        if kept.dtype != dtype or kept.shape != shape or not isinstance(kept, np.memmap | mapped.RowFile):
            return None
        return kept

    def valid(self, name: str, counts: np.ndarray) -> None:
        """Store how many of each row's views are its own (at least 1); the others repeat them. Shape (rows,)."""
        np.save(self.folder / f"valid-{name}.npy", counts.astype(np.int16), allow_pickle=False)
        self.arrays[name]["valid"] = True

    def lengths(self, name: str, lengths: np.ndarray) -> None:
        """Store how many steps of each view are its own, from 1 to the padded length; the others are padding.

        Args:
            lengths: integers (rows,) or (rows, views), after the array was made.

        Raises:
            DataError: the type of the modality has no lengths, there is no such array, or they don't fit it.
        """
        modality = self._modality(name)
        where = f"{self.dataset.name}/{name}"
        if not modality.type.has_length:
            raise DataError(f"{where}: {modality.kind} has no lengths", "Store none, or declare another kind")
        if name not in self.arrays:
            raise DataError(f"{where}: the lengths come before the array", "Call out.array first")
        found = views_lengths(np.asarray(lengths), self.arrays[name]["rows"], modality, where)
        np.save(self.folder / f"length-{name}.npy", found.astype(np.int32), allow_pickle=False)
        self.arrays[name]["lengths"] = True

    def use_other_lists(self, digests: Mapping[str, str]) -> None:
        """Note that split lists differ from the official ones: file name -> SHA-256."""
        told = _other_lists(self.raw.get("other_lists", {}))
        self.raw["other_lists"] = {**self.raw.get("other_lists", {}), **digests}
        self.notes = [*(note for note in self.notes if note != told), _other_lists(self.raw["other_lists"])]

    def quantise(self, name: str, values: np.ndarray, low: float, high: float) -> None:
        """Store values of shape (rows, views, *shape) as 8 bit over [low, high]; what lies outside is clipped."""
        scale = (high - low) / 255
        stored = self.array(name, len(values), "uint8", scale=scale, offset=low)
        stored[...] = np.clip(np.rint((values - low) / scale), 0, 255).astype(np.uint8)
        stored.flush()

    def extra(self, name: str, values: np.ndarray) -> None:
        """Store further facts per row of the first modality, such as the latents that made it."""
        np.save(self.folder / f"extra-{name}.npy", values, allow_pickle=False)
        self.extras.append(name)

    def split(self, name: str, samples: Iterable[Sample]) -> None:
        """Store a split and check it against what the dataset declares, then drop the rows that are left out.

        Counts are not checked where the split lists are the user's own.

        Raises:
            DataError: undeclared split, unknown part, label or row out of range, ids that repeat, other counts.
        """
        samples = list(samples)
        declared = self.dataset.splits.get(name)
        if declared is None:
            raise DataError(f"{self.dataset.name} declares no split {name!r}", "Add it to `splits`")
        ids = [sample.id for sample in samples]
        if len(set(ids)) != len(ids):
            raise DataError(f"{self.dataset.name}/{name}: sample ids repeat", "Give each sample an id of its own")
        counts = dict.fromkeys(PARTS, 0)
        unmade = [m.name for m in self.dataset.modalities if m.name not in self.arrays]
        if unmade:
            what = f"{self.dataset.name}/{name}: the split comes before the array of {', '.join(unmade)}"
            raise DataError(what, "Make all arrays first in prepare")
        rows, task = [self.arrays[m.name]["rows"] for m in self.dataset.modalities], self.dataset.asks()
        for sample in samples:
            inside = len(sample.rows) == len(rows) and all(0 <= r < n for r, n in zip(sample.rows, rows, strict=True))
            wrong = task.label_fault(sample.label)
            if sample.part not in counts or wrong or not inside:
                why = f": its label {wrong}" if wrong else ""
                what = f"{self.dataset.name}/{name}: {sample} has a wrong part, label or row{why}"
                raise DataError(what, "Fix prepare")
            counts[sample.part] += 1
        expected = {part: declared.counts.get(part, 0) for part in PARTS}
        if counts != expected and declared.exact and "other_lists" not in self.raw:
            raise DataError(
                f"{self.dataset.name}/{name}: counts {counts} differ from the declared {expected}",
                "Check the raw files, or the counts in the dataset's file",
            )
        self.splits[name] = [sample for sample in samples if not self.left_out.intersection(sample.rows)]
        present = {sample.part for sample in self.splits[name]}
        if not {"train", "test"} <= present:
            what = f"{self.dataset.name}/{name}: nothing is left in {' and '.join({'train', 'test'} - present)}"
            raise DataError(what, "Check the lists and what --allow-missing leaves out")
