"""One run from its specification to a complete folder; interrupted at any moment, it goes on to the same bytes."""

from __future__ import annotations

import csv
import io
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from .. import __version__, paths
from ..cache import Cache
from ..errors import DataError
from ..hashing import code_digest, digest, file_digest
from ..index import Index
from ..method import Method
from ..plan import RUN_SCHEMA, RunSpec
from ..store import Lease, storage_error, write_arrays, write_json, write_text
from . import checkpoint
from .build import axes_of, build_method, parameter_counts, sources
from .complete import completeness
from .data import PartData
from .evaluate import check_features, check_shapes
from .final import Final, packed_bits
from .loop import Outcome, Trainer, check_deeds, check_schedule
from .meter import History
from .progress import Progress
from .provenance import now, provenance

Say = Callable[[str], None]


@cache
def engine_fingerprint() -> str:
    """Return the fingerprint of the engine's own code; an edit re-runs nothing but is named in the tables."""
    files = sorted(p for p in paths.PACKAGE.rglob("*.py") if p.parent.name not in ("methods", "datasets", "plugins"))
    found = {str(p.relative_to(paths.PACKAGE)): code_digest(p.read_text(encoding="utf-8")) for p in files}
    return digest(found)[:16]


def history_csv(history: History) -> str:
    """Return the history as CSV text; floats in their shortest exact form."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["stage", "epoch", "part", "name", "value"])
    writer.writerows([*row[:4], repr(float(row[4]))] for row in history.rows)
    return out.getvalue()


@dataclass
class Runner:
    """Makes one run.

    Args:
        spec: the run. index: of the plug-ins. results: the results folder. cache: the opened prepared cache.
        device: where to compute. say: takes one line of progress. asked_to_stop: looked at after every step.
    """

    spec: RunSpec
    index: Index
    results: Path
    cache: Cache
    device: torch.device
    say: Say
    asked_to_stop: Callable[[], bool] = lambda: False
    save_every: float = 10.0

    def __post_init__(self) -> None:
        self.folder = self.results / self.spec.path
        self.clock: dict[str, float] = {}
        self.resumed = 0
        self.base_seconds = 0.0
        self.forward_flops = 0.0
        self.began = time.monotonic()

    def run(self) -> bool:
        """Make the run unless it is complete; return whether anything had to be done.

        Raises:
            RunError, DataError: as the messages say. Stopped: asked to stop; a checkpoint has been written.
        """
        if not self._todo():
            self._stamp()
            return False
        with Lease(self.folder, self.say):
            why = self._todo()
            if not why:  # the process that we waited for made it
                self._stamp()
                return False
            if why != "not made yet":
                self.say(f"{self.spec.path} is made anew: {why}")
            for stale in [self.folder / "run.json", *self.folder.glob("done-*"), *self.folder.glob(".*.tmp")]:
                stale.unlink(missing_ok=True)
            self._make()
        return True

    def _todo(self) -> str:
        return completeness(self.folder, self.spec, self.cache.manifest["fingerprint"])

    def _stamp(self) -> None:
        """Write the workflow's stamp; it says that the run was completed by the present code."""
        write_text(self.results / self.spec.stamp, file_digest(self.folder / "run.json") + "\n")

    # ---- training ----------------------------------------------------------------------------------------
    def _make(self) -> None:
        started, config = now(), self.spec.config
        self._set_up_torch(config["recipe"]["threads"])
        data = self._data()
        method = build_method(config, self.cache, self.index, len(data["train"]))
        method.adopt(sources(self.spec, self.results, "last"))
        method.to(self.device)
        final = self._start(method, data)
        outcome = self._train(method, data)
        if not outcome.history.rows:  # nothing was trained: each rule takes what it picked in the reused runs
            for rule in outcome.chosen:
                method.adopt(sources(self.spec, self.results, rule))
                outcome.chosen[rule] = {name: v.detach().clone() for name, v in method.state_dict().items()}
        deeds = check_deeds(method, method.stages())
        self._lap("train")
        for rule, state in outcome.chosen.items():
            final.add(rule, state)
        self._lap("evaluate")
        self._write(method, outcome, final, deeds, started)
        (self.folder / "checkpoint.npz").unlink(missing_ok=True)
        self._stamp()

    def _set_up_torch(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = False
        if self.device.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(True)

    def _data(self) -> dict[str, PartData]:
        config = self.spec.config
        return {
            part: PartData(self.cache, config["split"], part, self.device, axes_of(config))
            for part in ("train", "val", "test")
        }

    def _start(self, method: Method, data: dict[str, PartData]) -> Final:
        """Check what can be checked before training; probe the untrained encoders where the method asks for it."""
        check_schedule(method, method.stages())
        for part in ("val", "test"):
            if len(data[part]):
                self._dry_run(method, data[part])
        final = Final(method, data)
        if method.probes_initial:
            final.probe("initial")
        self._lap("probe_initial")
        return final

    def _dry_run(self, method: Method, data: PartData) -> None:
        """Predict one small batch, so that a method's wrong shapes show before it trains; count its FLOPs."""
        few = data.batch(torch.arange(min(4, len(data)), device=self.device))
        method.eval()
        with torch.no_grad():
            check_features(method, method.encode(few), len(few))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            check_shapes(method, method.infer(few), len(few))
        self.forward_flops = counter.get_total_flops() / len(few)

    def _identity(self) -> dict[str, str]:
        return {
            "config": self.spec.config_hash,
            "data": self.cache.manifest["fingerprint"],
            "code": self.spec.code,
            "torch": torch.__version__,
            "device": self.device.type,
        }

    def _train(self, method: Method, data: dict[str, PartData]) -> Outcome:
        path, identity = self.folder / "checkpoint.npz", self._identity()

        def save(state: dict[str, Any]) -> None:
            seconds = self.base_seconds + time.monotonic() - self.began
            header = {"identity": identity, "resumed": self.resumed, "seconds": seconds}
            checkpoint.save(path, {**header, "state": state})

        trainer = Trainer(
            method,
            data,
            self.spec.config["recipe"],
            axes_of(self.spec.config),
            save=save,
            save_every=self.save_every,
            asked_to_stop=self.asked_to_stop,
            report=Progress(self.spec.config, self.say),
        )
        kept = self._checkpoint(path, identity)
        if kept is not None:
            trainer.resume(kept["state"])
            self.resumed, self.base_seconds = kept["resumed"] + 1, kept["seconds"]
            stage, epoch, step = trainer.position
            name = trainer.stages[stage].name
            self.say(f"{self.spec.path} goes on from stage {name!r}, epoch {epoch}, step {step}")
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
            self.say(f"{path} is thrown away: {reason}; the run starts from the beginning")
            path.unlink(missing_ok=True)
            return None
        return kept

    # ---- writing -----------------------------------------------------------------------------------------
    def _lap(self, name: str) -> None:
        """Add the time since the last lap to the clock."""
        total = time.monotonic() - self.began
        self.clock[name] = total - sum(self.clock.values())

    def _write(self, method: Method, outcome: Outcome, final: Final, deeds: dict[str, float], started: str) -> None:
        """Write the folder's files, run.json last."""
        try:
            names = ["history.csv", "predictions.npz", "epochs.npz", "probe.npz"]
            write_text(self.folder / names[0], history_csv(outcome.history))
            write_arrays(self.folder / names[1], final.predictions)
            write_arrays(self.folder / names[2], packed_bits(outcome.history.bits))
            write_arrays(self.folder / names[3], final.probes)
            for rule, arrays in final.weights.items():
                names.append(f"weights-{rule}.npz")
                write_arrays(self.folder / names[-1], arrays, compress=False)
            self.clock["train"] += self.base_seconds
            self.clock["total"] = sum(self.clock.values())
            facts = provenance(self.device, started, self.clock, self.resumed)
            write_json(self.folder / "provenance.json", facts)
            hashes = {name: file_digest(self.folder / name) for name in names}
            write_json(self.folder / "run.json", self._facts(method, outcome, final, deeds) | {"files": hashes})
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def _facts(self, method: Method, outcome: Outcome, final: Final, deeds: dict[str, float]) -> dict[str, Any]:
        """Return run.json without the hashes; see docs/run-folder.md."""
        manifest, split = self.cache.manifest, self.spec.config["split"]
        counts = manifest["splits"][split]["counts"]
        required = {
            name: {"run": str(run.path), "run_hash": file_digest(self.results / run.path / "run.json")}
            for name, run in self.spec.requires.items()
        }
        return {
            "schema": RUN_SCHEMA,
            "run": str(self.spec.path),
            "config": self.spec.config,
            "config_hash": self.spec.config_hash,
            "data_fingerprint": manifest["fingerprint"],
            "code": {"method": self.spec.code, "engine": engine_fingerprint(), "version": __version__},
            "packages": packages(),
            "modalities": list(method.modalities),
            "class_names": manifest["class_names"],
            "counts": counts,
            "parameters": parameter_counts(method),
            "flops": {"forward_per_sample": self.forward_flops, "train_per_sample": outcome.flops},
            "sample_passes": outcome.sample_passes,
            "epochs": outcome.epochs,
            "logits": final.logits,
            "selected": outcome.selected,
            "mechanisms": deeds,
            "probe": final.probe_facts,
            "requires": required,
            "bayes": manifest["bayes"],
            "evaluation": {},
            "tuning": {"trials": 0},
            "notes": [],
        }


def packages() -> dict[str, str]:
    """Return the versions of what computes the numbers."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    for name in ("torchvision", "torchaudio"):
        if name in sys.modules:
            found[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return found
