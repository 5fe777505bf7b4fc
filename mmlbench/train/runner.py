"""One run from its specification to a complete folder; interrupted at any moment, it goes on to the same bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError, LeaseLost
from ..files import places_of
from ..method import Method, Stage
from ..prepare.cache import Cache
from ..registry.index import Index
from ..results.record import parse_record, weights_of
from ..storage.atomic import json_text, storage_error, write_arrays, write_json, write_text
from ..storage.hashing import digest, file_digest
from ..storage.lease import Lease
from ..study.run_config import RUN_SCHEMA
from ..study.run_spec import RunSpec
from ..study.training_progress import Heartbeat
from ..task import Metric, Task
from ..version import __version__
from . import Stopped, checkpoint
from .augmentation import augmentations_of
from .build import build_method, on_device, parameter_counts, sources
from .complete import Freshness, State, completeness, stamp
from .data import PartData, noise_of
from .deterministic import check_deterministic
from .energy import EnergyMeter
from .evaluate import Evaluator, check_apart, check_features, check_shapes
from .final import Final, packed_scores
from .flops import FlopCounter
from .loop import Outcome, Trainer, check_mechanisms, check_schedule, check_select_on
from .machine import arithmetic, set_up_torch
from .progress import Progress
from .provenance import now, provenance
from .rates import check_rates
from .record import engine_fingerprint, history_csv, packages
from .sampling import check_sampling
from .saving import Checkpoints
from .steps import check_accumulate
from .stream import too_large
from .trace import Trace

Log = Callable[[str], None]
#: What survives the start of a run that is not complete.
WORKING = ("checkpoint.npz", "lease.json", ".lease.")


class Clock:
    """Seconds per phase of a run, over all its attempts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.at = time.monotonic()

    def lap(self, phase: str) -> None:
        """Count the time since the last lap to a phase."""
        now = time.monotonic()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.at
        self.at = now

    def add(self, earlier: dict[str, float]) -> None:
        """Add the seconds of an earlier attempt."""
        for phase, value in earlier.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value


@dataclass
class Runner:
    """Makes one run.

    Args:
        spec: the run. index: of the plug-ins. results: the results folder. cache: the opened prepared cache.
        device: where to compute. log: takes one line of progress. asked_to_stop: looked at after every step.
        save_every: seconds between two checkpoints, whatever they cost; None: by their cost.
        trace: keeps digests of the run's first moments.
    """

    spec: RunSpec
    index: Index
    results: Path
    cache: Cache
    device: torch.device
    log: Log
    asked_to_stop: Callable[[], bool] = lambda: False
    save_every: float | None = None
    trace: Trace | None = None

    def __post_init__(self) -> None:
        self.folder = self.results / self.spec.path
        self.clock = Clock()
        self.resumed = 0
        self.forward_flops = 0.0

    def run(self) -> bool:
        """Make the run unless it is complete; return whether anything had to be done.

        Raises:
            RunError, DataError: as the messages say. Stopped: asked to stop; a checkpoint has been written.
            LeaseLost: another process took over and works on the run, or has left it unfinished.
        """
        if self._todo().up_to_date:
            stamp(self.results, self.spec)
            return False
        try:
            with Lease(self.folder, self.log, check=self._stop_waiting) as self.lease:
                return self._make_unless_there()
        except LeaseLost as lost:
            if not self._todo().up_to_date:
                raise
            self.log(f"{lost.what}; the run is complete there, and nothing of this process is kept")
            return False

    def _make_unless_there(self) -> bool:
        """Do what is to be done, under the lease; return whether that was anything."""
        why = self._todo()
        if not why.up_to_date:
            if why.state is not State.NOT_MADE:
                self.log(f"{self.spec.path} is made anew: {why}")
            self._make()
        stamp(self.results, self.spec, self.lease)
        return not why.up_to_date

    def _stop_waiting(self) -> None:
        if self.asked_to_stop():
            raise Stopped

    def _clear(self) -> None:
        """Remove what an earlier run or a killed process left; only now, so that a method that fails costs no run."""
        self.lease.remove(self.folder / "run.json")  # first: without it nothing counts as made
        for left in sorted(self.folder.iterdir()):
            if left.is_file() and not left.name.startswith(WORKING):
                self.lease.remove(left)

    def _asked(self) -> bool:
        """Tell whether to stop; end at once where the lease is known to be lost."""
        if self.lease.lost:
            self.lease.check()
        return self.asked_to_stop()

    def _lap(self, phase: str) -> None:
        """Count time, and end where the lease is known to be lost: an evaluation or a probe may take long."""
        if self.lease.lost:
            self.lease.check()
        self.clock.lap(phase)

    def _todo(self) -> Freshness:
        return completeness(self.folder, self.spec, self.cache.manifest["fingerprint"])

    # ---- training ----------------------------------------------------------------------------------------
    def _make(self) -> None:
        started, config, self.clock = now(), self.spec.config, Clock()
        set_up_torch(self.device, config.recipe.threads, config.recipe.arithmetic, config.recipe.precision)
        data = self._data()
        method = build_method(config, self.cache, self.index, len(data["train"]))
        method.load_required(sources(self.spec, self.results, "last"))
        self.energy = EnergyMeter(self.device)
        on_device(method, self.device)
        final = self._start(method, data)
        with Heartbeat(self.results, self.spec.path, config) as heartbeat:
            outcome = self._train(method, data, final.evaluator, heartbeat)
            mechanism_counts = self._measure(method, outcome, final)
        if not self._todo().up_to_date:
            self._clear()
            self._write(method, outcome, final, mechanism_counts, started)
        else:  # it was brought here meanwhile (`mmlbench import`), and a complete run is never cleared
            self.log(f"{self.spec.path} was completed by another process meanwhile")

    def _measure(self, method: Method, outcome: Outcome, final: Final) -> dict[str, float]:
        """Score and probe what each rule has picked; return how often each mechanism acted."""
        if not outcome.history.rows:  # nothing was trained: each rule takes what it picked in the reused runs
            for rule in outcome.chosen:
                method.load_required(sources(self.spec, self.results, rule))
                outcome.chosen[rule] = {name: v.detach().clone() for name, v in method.state_dict().items()}
        mechanism_counts = check_mechanisms(method, method.stages())
        self.clock.lap("train")
        for rule, state in outcome.chosen.items():
            final.add(rule, state)
        return mechanism_counts

    def _data(self) -> dict[str, PartData]:
        config = self.spec.config
        noise, augmentations = noise_of(config.recipe), augmentations_of(config.recipe, self.cache)
        stream = too_large(self.cache, self.device)
        if stream:
            self.log(f"{self.spec.path}: the data is larger than the device's free memory and is streamed")
        place = (self.device, config.seed_key, noise, augmentations, stream)
        balanced = {"train": config.recipe.sampling == "balanced"}
        data = {
            part: PartData(self.cache, config.split, part, *place, balanced.get(part, False))
            for part in ("train", "val", "test")
        }
        count, where = len(data["train"]), f"{config.dataset}/{config.split}"
        if count < 2:
            what = f"the prepared {where} has {count} training samples: batch norm and a probe need two at least"
            raise DataError(what, "Choose another split, or check what its lists and --allow-missing leave out")
        return data

    def _start(self, method: Method, data: dict[str, PartData]) -> Final:
        """Check what can be checked before training; probe the untrained encoders where the method asks for it."""
        check_schedule(method, method.stages())
        check_rates(method, method.stages(), self.spec.config.recipe)
        check_accumulate(method, self.spec.config.recipe)
        check_sampling(method, self.spec.config.recipe)
        check_deterministic(method, data["train"])
        for part in ("val", "test"):
            if len(data[part]):
                self._dry_run(method, data[part])
        final = Final(method, data, Evaluator(method), self._metric(), self._lap)
        self.clock.lap("setup")
        if method.probes_initial:
            method.requires_grad_(False)  # lets the evaluator keep the features
            final.probe("initial")
        return final

    def _dry_run(self, method: Method, data: PartData) -> None:
        """Predict one small batch, so that a method's wrong shapes show before it trains; count its FLOPs."""
        few = data.batch(torch.arange(min(4, len(data)), device=self.device))
        method.eval()
        with torch.no_grad():
            check_features(method, method.encode(few), len(few))
        with torch.no_grad(), FlopCounter() as counter:
            named = check_shapes(method, method.infer(few), len(few))
        check_select_on(method, method.stages(), named)
        check_apart(method, few)
        self.forward_flops = counter.total / len(few)

    def _metric(self) -> Metric:
        """Return the metric that picks epochs and penalties."""
        return self.cache.task.metric(self.spec.config.metric or self.cache.metric)

    def _identity(self) -> dict[str, str]:
        return {
            "config": self.spec.config.hash,
            "data": self.cache.manifest["fingerprint"],
            "code": self.spec.code,
            "engine": engine_fingerprint(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "device": self.device.type,
        }

    def _train(
        self, method: Method, data: dict[str, PartData], evaluator: Evaluator, heartbeat: Heartbeat
    ) -> Outcome:
        path, identity = self.folder / "checkpoint.npz", self._identity()
        checkpoints = Checkpoints(path, self.lease.whole, self.save_every)

        def save(state: dict[str, Any], stopping: bool) -> None:
            self.clock.lap("train")
            header = {"identity": identity, "resumed": self.resumed, "seconds": self.clock.seconds}
            checkpoints.save({**header, "state": state}, stopping)
            self.clock.lap("checkpoint")

        progress = Progress(self.spec.config, self._metric(), self.log)

        def report(stage: Stage, epoch: int, values: dict[str, float], left: int) -> None:
            heartbeat.epoch_over(left)
            progress(stage, epoch, values, left)

        trainer = Trainer(
            method,
            data,
            self.spec.config.recipe,
            self.spec.config.seed_key,
            evaluator,
            due=checkpoints.due,
            save=save,
            asked_to_stop=self._asked,
            report=report,
            lap=self._lap,
            trace=self.trace,
            metric=self._metric(),
        )
        kept = self._checkpoint(path, identity)
        if kept is not None:
            trainer.resume(kept["state"])
            self.resumed = kept["resumed"] + 1
            self.clock.add(kept["seconds"])
            stage, epoch, step = trainer.position
            name = trainer.stages[stage].name
            self.log(f"{self.spec.path} goes on from stage {name!r}, epoch {epoch}, step {step}")
        heartbeat.begin(trainer.outcome.epochs, sum(stage.epochs for stage in trainer.stages))
        with checkpoints:  # nothing is written any more when what follows clears the folder
            return trainer.run()

    def _checkpoint(self, path: Path, identity: dict[str, str]) -> dict[str, Any] | None:
        """Return the checkpoint if it is whole and of this very run; else throw it away and say so."""
        if not path.exists():
            return None
        try:
            kept = checkpoint.load(path)
            differs = [name for name, value in identity.items() if kept["identity"].get(name) != value]
            reason = f"it was made with other {' and '.join(differs)}" if differs else ""
        except (DataError, KeyError, TypeError, AttributeError) as error:
            kept, reason = None, f"it can't be read ({error})"
        if reason:
            self.log(f"{path} is thrown away: {reason}; the run starts from the beginning")
            self.lease.remove(path)
            return None
        return kept

    # ---- writing -----------------------------------------------------------------------------------------
    def _write(
        self, method: Method, outcome: Outcome, final: Final, mechanism_counts: dict[str, float], started: str
    ) -> None:
        """Write the folder's files, run.json last."""
        through = self.lease.whole
        try:
            names = ["history.csv", "predictions.npz", "epochs.npz", "probe.npz"]
            write_text(self.folder / names[0], history_csv(outcome.history), through)
            write_arrays(self.folder / names[1], final.predictions, through=through)
            write_arrays(
                self.folder / names[2], packed_scores(outcome.history.scores, method.task.bits), through=through
            )
            write_arrays(self.folder / names[3], final.probes, through=through)
            for rule, arrays in final.weights.items():
                names.append(f"weights-{rule}.npz")
                write_arrays(self.folder / names[-1], arrays, through)
            self.clock.lap("evaluate")
            hashes = {name: file_digest(self.folder / name) for name in names}
            record = self._facts(method, outcome, final, mechanism_counts) | {"files": hashes}
            own = digest(record)[:16]
            text = json_text(record | {"record_hash": own})
            parse_record(json.loads(text), self.folder / "run.json")  # what no reader takes is not written
            seconds = self.clock.seconds | {"total": sum(self.clock.seconds.values())}
            joules, named = self.energy.joules(self.resumed), places_of(self.spec.config.contents)
            facts = provenance(self.device, started, seconds, self.resumed, joules, named)
            facts["run_record_hash"] = own  # what binds the circumstances to this run
            write_json(self.folder / "provenance.json", facts | {"record_hash": digest(facts)[:16]}, through)
            write_text(self.folder / "run.json", text, through)
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def _facts(
        self, method: Method, outcome: Outcome, final: Final, mechanism_counts: dict[str, float]
    ) -> dict[str, Any]:
        """Return run.json without the hashes; see docs/run-folder.md."""
        manifest, split = self.cache.manifest, self.spec.config.split
        counts = manifest["splits"][split]["counts"]
        also = {name for modality in method.modalities for name in method.encoder_of(modality).packages}
        required = {
            name: {"run": str(run.path), "run_hash": file_digest(self.results / run.path / "run.json")}
            for name, run in self.spec.requires.items()
        }
        return {
            "schema": RUN_SCHEMA,
            "run": str(self.spec.path),
            "config": self.spec.config.plain(),
            "config_hash": self.spec.config.hash,
            "data_fingerprint": manifest["fingerprint"],
            "code": {"method": self.spec.code, "engine": engine_fingerprint(), "version": __version__},
            "packages": packages(self.device, also),
            "modalities": list(method.modalities),
            "class_names": list(method.task.names),
            "counts": counts,
            "parameters": parameter_counts(method),
            "flops": {"forward_per_sample": self.forward_flops, "train_per_sample": outcome.flops},
            "sample_passes": outcome.sample_passes,
            "epochs": outcome.epochs,
            "logits": final.logits,
            "selected": outcome.selected,
            "mechanisms": mechanism_counts,
            "probe": final.probe_facts,
            "requires": required,
            "bayes": manifest["bayes"],
            "evaluation": final.evaluation.plain(),
            "notes": self.cache.notes,
            "task": method.task.name,
            **self._task_facts(method.task),
            "lengths": self.cache.longest,
            "arithmetic": asdict(arithmetic(self.device, self.spec.config.recipe)),
            "contents": {
                "arrays": {name: manifest["arrays"][name]["sha256"] for name in method.modalities},
                "split": manifest["splits"][split]["sha256"],
                "weights": weights_of(self.spec.config),
            },
        }

    def _task_facts(self, task: Task) -> dict[str, Any]:
        """Return what run.json says of the task beside its name, and of another metric than its headline."""
        parameters, metric = task.parameters(), self._metric()
        facts: dict[str, Any] = {"target": parameters} if parameters else {}
        return facts | ({"metric": metric.name} if metric.name != task.headline else {})
