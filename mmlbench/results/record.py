"""run.json and provenance.json as frozen types: one parser, for import, verify and tables (docs/run-folder.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..dataset import PARTS
from ..errors import DataError, brief
from ..files import is_content
from ..storage.atomic import read_json
from ..storage.form import EXACT, HEX16, RUN, SHA256, WORD, Item
from ..study.recipe import TF32
from ..study.run_config import RUN_SCHEMA, RunConfig, parse_config
from ..study.selection import NAMES
from ..system.arithmetic import ARITHMETICS, NATIVE, PORTABLE
from ..task import TASKS, Metric, Task, task_of
from .evaluation import FEATURES, INPUTS, NOTHING, Evaluation
from .logits_key import LOGITS

#: What a complete folder has beside run.json.
FILES = ("history.csv", "predictions.npz", "epochs.npz", "probe.npz")
#: What run.json may list; no other file is a run's, whatever run.json says: none of these can ever be imported.
LISTED = rf"history\.csv|predictions\.npz|epochs\.npz|probe\.npz|weights-({'|'.join(NAMES)})\.npz"
#: The workflow's stamps; the name holds what run.json does not know, the dataset's code.
STAMP = re.compile(r"done-[0-9a-f]{10}")
#: Files of ours beside the run's own: of a process that works on it, or that was killed.
WORKING = re.compile(r"\.[\w.-]+\.tmp|\.lease\.[\w.-]+|\.nfs\w+")
#: In which numbers a run may be calculated.
DTYPES = ("float32", "bfloat16")
#: Where a run can be made.
DEVICES = ("cpu", "cuda")
STAGE = r"[^\0]{1,100}"
#: More samples than any test set has, and more classes: what says so wants memory.
MOST_SAMPLES, MOST_CLASSES = 10**8, 10**6
KEYS = (
    "schema", "run", "config", "config_hash", "data_fingerprint", "code", "packages", "modalities", "class_names",
    "counts", "parameters", "flops", "sample_passes", "epochs", "logits", "selected", "mechanisms", "probe",
    "requires", "bayes", "evaluation", "notes", "task", "lengths", "arithmetic", "contents", "files", "record_hash",
)  # fmt: skip
#: Keys of what is at its default in most runs, and then left out: parameters of the task, the metric that picks.
OPTIONAL = ("target", "metric")


@dataclass(frozen=True)
class Pick:
    """The epoch (from 0) that a rule picked within a stage, by which logits, and the metric that they reach."""

    stage: str
    select_on: str
    epoch: int
    reached: float


@dataclass(frozen=True)
class ProbeFacts:
    """A probe's penalty, and the metric that it reaches on each part."""

    penalty: float
    reached: Mapping[str, float]


@dataclass(frozen=True)
class Reused:
    """A run that another one reuses: its folder below the results folder, and the hash of its run.json."""

    run: str
    run_hash: str


@dataclass(frozen=True)
class Code:
    """Fingerprints of the code that made a run: of its method, and of the engine; the engine's version."""

    method: str
    engine: str
    version: str


@dataclass(frozen=True)
class Arithmetic:
    """In which arithmetic a run was made: what decides its bits beside data and code.

    Attributes:
        kind: native, or portable: the same bits on any x86-64 CPU with AVX2.
        device: cpu or cuda. dtype: of parameters and inputs. forward: of the forward pass (autocast).
        threads: of the CPU. deterministic: whether the same input gives the same bits. tf32: whether products of
            matrices may be rounded to TensorFloat-32.
    """

    kind: str
    device: str
    dtype: str
    forward: str
    threads: int
    deterministic: bool
    tf32: bool

    @property
    def reach(self) -> str:
        """How far its bits reach: portable, or native: those of one kind of CPU, or of GPU, alone."""
        return PORTABLE if self.kind == PORTABLE and self.device == "cpu" else NATIVE


@dataclass(frozen=True)
class Contents:
    """sha256 of what a run read.

    Attributes:
        arrays: of each modality's array in the prepared cache. split: of the table of the split.
        weights: of each file of weights, '<modality>.<parameter of its encoder>' -> hash.
    """

    arrays: Mapping[str, str]
    split: str
    weights: Mapping[str, str]


@dataclass(frozen=True)
class RunRecord:
    """run.json: what determines a run, what it measured, and a hash of every other file of its folder."""

    run: str
    config: RunConfig
    data_fingerprint: str
    code: Code
    packages: Mapping[str, str]
    modalities: tuple[str, ...]
    counts: Mapping[str, int]
    parameters: Mapping[str, int]
    forward_flops: float
    train_flops: Mapping[str, float]
    sample_passes: int
    epochs: int
    logits: tuple[str, ...]
    selected: Mapping[str, tuple[Pick, ...]]
    mechanisms: Mapping[str, float]
    probe: Mapping[str, Mapping[str, ProbeFacts]]
    requires: Mapping[str, Reused]
    bayes: Mapping[str, float]
    evaluation: Evaluation
    notes: tuple[str, ...]
    task: Task
    metric: Metric
    lengths: Mapping[str, int]
    arithmetic: Arithmetic
    contents: Contents
    files: Mapping[str, str]
    record_hash: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs: of classes, of labels, or of the target."""
        return self.task.names


def _pick(item: Item, metric: Metric) -> Pick:
    found = item.fields(("stage", "select_on", "epoch", metric.name))
    return Pick(
        found["stage"].text("the name of a stage", STAGE),
        found["select_on"].text("the name of logits", LOGITS),
        found["epoch"].integer(0, MOST_SAMPLES),
        _value(found[metric.name], metric),
    )


def _value(item: Item, metric: Metric) -> float:
    """Return a value of a metric, within what it lies between."""
    return item.number(max(metric.low, -1e300), min(metric.high, 1e300))


def _probe(item: Item, metric: Metric) -> ProbeFacts:
    found = item.fields(("penalty", metric.name))
    reached = found[metric.name].fields(("test",), PARTS)
    return ProbeFacts(found["penalty"].number(0), {part: _value(one, metric) for part, one in reached.items()})


def _probes(item: Item, metric: Metric) -> dict[str, dict[str, ProbeFacts]]:
    rules = item.fields((), ("initial", *NAMES))
    return {
        rule: {m: _probe(fact, metric) for m, fact in one.named(WORD, "a modality").items()}
        for rule, one in rules.items()
    }


def _code(item: Item) -> Code:
    found = item.fields(("method", "engine", "version"))
    method, engine = (found[name].text("a fingerprint", HEX16) for name in ("method", "engine"))
    return Code(method, engine, found["version"].text("a version", r"[0-9][\w.+-]{0,39}"))


def _reused(item: Item) -> Reused:
    found = item.fields(("run", "run_hash"))
    return Reused(found["run"].text("the folder of a run", RUN), found["run_hash"].text("a sha256", SHA256))


def _counts(item: Item) -> dict[str, int]:
    return {part: one.integer(0, MOST_SAMPLES) for part, one in item.fields(PARTS).items()}


def _numbers(item: Item, pattern: str, what: str) -> dict[str, float]:
    return {name: one.number() for name, one in item.named(pattern, what).items()}


def _parameters(item: Item) -> dict[str, int]:
    found = item.named(r"[\w/.-]{1,100}", "a part of the model")
    if "total" not in found:
        item.fail("lacks total")
    return {name: one.integer() for name, one in found.items()}


def parse_record(value: object, file: Path) -> RunRecord:
    """Read the content of a run.json.

    Raises:
        DataError: it has another schema, lacks or has an unknown key, or a value is of another form; naming the file,
            the path of keys, the value and what is wanted. The hashes of files are not compared with anything here.
    """
    top = Item(value, file, fix=f"Remove {file.parent} and make the run again")
    top.check_schema(RUN_SCHEMA)
    found = top.fields(KEYS, OPTIONAL)
    config = parse_config(found["config"])
    if found["config_hash"].text("a hash", HEX16) != config.hash:
        found["config_hash"].fail("was changed: its configuration does not have its hash")
    modalities = found["modalities"].tuple_of("modality", lambda one: one.text("a modality", WORD), 1)
    if set(modalities) != set(config.recipe.encoder):
        found["modalities"].wrong(f"those of its encoders, {', '.join(sorted(config.recipe.encoder))}")
    task = _task(found)
    metric = _metric(found, task, config)
    flops = found["flops"].fields(("forward_per_sample", "train_per_sample"))
    return RunRecord(
        run=_folder(found["run"], config),
        config=config,
        data_fingerprint=found["data_fingerprint"].text("a fingerprint", HEX16),
        code=_code(found["code"]),
        packages={name: one.text("a version") for name, one in found["packages"].named(r"[\w.-]{1,80}").items()},
        modalities=modalities,
        counts=_counts(found["counts"]),
        parameters=_parameters(found["parameters"]),
        forward_flops=flops["forward_per_sample"].number(0),
        train_flops={n: one.number(0) for n, one in flops["train_per_sample"].named(STAGE, "a stage").items()},
        sample_passes=found["sample_passes"].integer(),
        epochs=found["epochs"].integer(0, MOST_SAMPLES),
        logits=found["logits"].tuple_of("name of logits", lambda one: one.text("the name of logits", LOGITS), 1),
        selected=_selected(found["selected"], metric, trained=found["epochs"].integer(0, MOST_SAMPLES) > 0),
        mechanisms=_numbers(found["mechanisms"], r"[^\0]{1,200}", "the name of a mechanism"),
        probe=_probes(found["probe"], metric),
        requires={name: _reused(one) for name, one in found["requires"].named().items()},
        bayes={name: one.number(0, 1 if task.softmax else 1e300) for name, one in found["bayes"].named().items()},
        evaluation=_evaluation(found["evaluation"]),
        notes=tuple(one.text("a sentence", most=20_000) for one in found["notes"].each("sentence")),
        task=task,
        metric=metric,
        lengths=_lengths(found["lengths"], modalities),
        arithmetic=_arithmetic(found["arithmetic"], config),
        contents=_contents(found["contents"], config, modalities),
        files=_files(found["files"]),
        record_hash=found["record_hash"].text("a hash", HEX16),
    )


def read_record(folder: Path) -> RunRecord:
    """Read run.json of a run folder.

    Raises:
        DataError: it is not there, or as `parse_record`.
    """
    file = folder / "run.json"
    return parse_record(read_json(file), file)


def _folder(item: Item, config: RunConfig) -> str:
    """Return the run's folder, which follows from its configuration."""
    if item.text("the folder of a run", RUN) != config.run:
        item.wrong(f"{config.run}, the folder of its configuration")
    return config.run


def _task(found: Mapping[str, Item]) -> Task:
    """Return the task, from its name, the names of its outputs, and its parameters where it has any."""
    name, outputs = found["task"].one_of(TASKS), found["class_names"]
    names = outputs.tuple_of("name", lambda one: one.text("the name of a class, label or target"), 1)
    if len(names) > MOST_CLASSES:
        outputs.fail(f"holds more than {MOST_CLASSES} names")
    parameters = found["target"].named(r"[a-z_]{1,40}", "a parameter of a task", 1) if "target" in found else {}
    try:
        return task_of(name, names, {key: one.scalar() for key, one in parameters.items()})
    except (ValueError, TypeError) as error:
        where = found["target"] if parameters else outputs
        where.fail(f"is of no {name} ({brief(str(error))})")


def _metric(found: Mapping[str, Item], task: Task, config: RunConfig) -> Metric:
    """Return the metric by which epochs and penalties were picked; that of the task where none is named."""
    metric = task.metric(found["metric"].one_of(task.metrics)) if "metric" in found else task.metric()
    if config.metric and metric.name != config.metric:
        found["metric" if "metric" in found else "config"].fail(f"names another metric than {config.metric}")
    return metric


def _selected(item: Item, metric: Metric, trained: bool) -> dict[str, tuple[Pick, ...]]:
    """Return the epochs that each rule chose; a method without stages, such as an ensemble, has none to choose."""
    rules = item.fields(("last",) if trained else (), NAMES)
    return {rule: tuple(_pick(pick, metric) for pick in one.each("pick")) for rule, one in rules.items()}


def _evaluation(item: Item) -> Evaluation:
    """Return how the run answered for one modality at a time."""
    found = item.fields(("missing", "probe", "reason"))
    how = (FEATURES, INPUTS, NOTHING)
    return Evaluation(
        found["missing"].one_of(how),
        found["probe"].one_of(how),
        found["reason"].text("a reason", empty=True, most=20_000),
    )


def _lengths(item: Item, modalities: tuple[str, ...]) -> dict[str, int]:
    """Return the greatest length of a sample, for modalities whose samples differ in length."""
    return {name: one.integer(1) for name, one in item.fields((), modalities).items()}


def _arithmetic(item: Item, config: RunConfig) -> Arithmetic:
    """Return in which arithmetic the run was made; what its recipe fixes has to agree with it."""
    found = item.fields(("kind", "device", "dtype", "forward", "threads", "deterministic", "tf32"))
    recipe = config.recipe
    if found["kind"].one_of(ARITHMETICS) != recipe.arithmetic:
        found["kind"].wrong(f"{recipe.arithmetic}, the arithmetic of its recipe")
    if found["forward"].one_of(DTYPES) != recipe.forward:
        found["forward"].wrong(f"{recipe.forward}, as the precision {recipe.precision} of its recipe has it")
    if found["tf32"].truth() != (recipe.precision == TF32):
        found["tf32"].wrong(f"that of the precision {recipe.precision} of its recipe")
    if found["threads"].integer(1) != recipe.threads:
        found["threads"].wrong(f"{recipe.threads}, the threads of its recipe")
    return Arithmetic(
        kind=recipe.arithmetic,
        device=found["device"].one_of(DEVICES),
        dtype=found["dtype"].one_of(DTYPES),
        forward=found["forward"].one_of(DTYPES),
        threads=found["threads"].integer(1),
        deterministic=found["deterministic"].truth(),
        tf32=found["tf32"].truth(),
    )


def weights_of(config: RunConfig) -> dict[str, str]:
    """Return '<modality>.<parameter of its encoder>' -> sha256 of the files of weights that a configuration names."""
    return {
        f"{modality}.{name}": value.removeprefix("sha256:")
        for modality, chosen in config.recipe.encoder.items()
        for name, value in chosen.params.items()
        if isinstance(value, str) and is_content(value)
    }


def _contents(item: Item, config: RunConfig, modalities: tuple[str, ...]) -> Contents:
    """Return the hashes of what the run read; those of weights follow from its configuration."""
    found = item.fields(("arrays", "split", "weights"))
    wanted = weights_of(config)
    if found["weights"].value != wanted:
        found["weights"].wrong("the files of weights of its configuration")
    return Contents(
        {name: one.text("a sha256", SHA256) for name, one in found["arrays"].fields(modalities).items()},
        found["split"].text("a sha256", SHA256),
        wanted,
    )


def _files(item: Item) -> dict[str, str]:
    """Return file -> sha256; other names than those of a run's files are refused even where they are listed."""
    found = item.named(LISTED, "a file of a run")
    lacking = [name for name in FILES if name not in found]
    if lacking:
        item.fail(f"holds no hash of {', '.join(lacking)}")
    return {name: one.text("a sha256", SHA256) for name, one in found.items()}


# ---- circumstances ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Circumstances:
    """What is read of provenance.json; no result depends on it, so that where it is lost all of it is empty.

    Attributes:
        hardware, commit, finished: '' where they are not known. seconds: of each phase of the run.
        peak_memory_bytes, device_memory_bytes, energy_joules: None where they were not measured.
        files: content -> path of the files that the run read, where it was made.
    """

    hardware: str = ""
    commit: str = ""
    finished: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: float | None = None
    device_memory_bytes: float | None = None
    energy_joules: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)


def read_circumstances(folder: Path) -> Circumstances:
    """Read provenance.json of a run folder; all is empty where it is lost, since no result depends on it."""
    file = folder / "provenance.json"
    try:
        return parse_circumstances(read_json(file), file)
    except DataError:
        return Circumstances()


def parse_circumstances(value: object, file: Path) -> Circumstances:
    """Read the content of a provenance.json; what no reader needs is a plain fact of a short name.

    Raises:
        DataError: naming the file, the key, the value and what is wanted.
    """
    top = Item(value, file, fix="Make the run again; no result depends on it")
    found = top.named(r"\w{1,80}", "a short name")
    for key, one in found.items():
        if key == "job":
            for fact in one.named(r"\w{1,80}").values():
                fact.scalar()
        elif key == "command":
            one.text("a command", empty=True, most=100_000)
        elif key not in ("seconds", "files"):
            one.scalar()

    def amount(key: str) -> float | None:
        return found[key].number(0, EXACT) if key in found and found[key].value is not None else None

    def text(key: str) -> str:
        return str(found[key].value or "") if key in found else ""

    seconds = found["seconds"].named(r"[\w-]{1,80}") if "seconds" in found else {}
    files = found["files"].named(f"sha256:{SHA256}", "the content of a file") if "files" in found else {}
    return Circumstances(
        text("hardware"),
        text("commit"),
        text("finished"),
        {phase: one.number(0) for phase, one in seconds.items()},
        amount("peak_memory_bytes"),
        amount("device_memory_bytes"),
        amount("energy_joules"),
        {content: place.text("a path", most=4096) for content, place in files.items()},
    )
