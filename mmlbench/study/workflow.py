"""What the Snakemake rules ask: which files, which options. No torch, no data, no decisions."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import math
import os
import pwd
import re
import shlex
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from ..errors import MmlbenchError, RunError, runs_error
from ..files import contents, places_of
from ..params import value_text
from ..storage.cache_places import DEFAULT, cache_folder, for_new, passed_over, shared_folders
from ..storage.lease import Lease
from ..storage.paths import set_data_folders
from ..storage.words import be, plural
from ..system import arithmetic, pythonpath
from . import config as configs
from . import run_server
from .plan import write_plan
from .progress import Job, Needed, Progress, show_first_table, to_terminal
from .run_config import RunConfig
from .run_spec import RunSpec
from .shared_seeds import shared_seeds
from .training_progress import TrainingWatcher, interval
from .tuning import Tuned
from .yaml import read_mapping, readable

_held: list[int] = []
#: Whether another start works in this folder, or this one is a child of a start: then results/plan.json is not ours.
_beside: list[bool] = []
#: Is set in what a start starts, to that start's process id and folder.
_STARTED = "MMLBENCH_SNAKEMAKE"
_ANOTHER = (
    b"mmlbench: another snakemake is open in this folder. Where both make the same files this one ends: wait for "
    b"the other, or stop it there (Ctrl-C)\n"
)


def free_stale_lock(folder: str | Path) -> None:
    """Remove the locks of a killed Snakemake, so that the same command typed again continues.

    Every start shares a kernel lock on a file for as long as it lives. Who gets it alone knows that no other start is
    alive here, so that whatever lock files are left belong to the dead. On a file system without such locks a
    lease does the same: who does not get it takes it as soon as the holder, which may be a mere dry run, has ended.
    """
    folder = Path(folder)
    if _of_a_start(folder):
        _beside.append(True)
        return
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / "mmlbench.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return  # a read-only folder: Snakemake itself says so
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _beside.append(True)
        os.write(2, _ANOTHER)
        _share(descriptor)
    except OSError:
        os.close(descriptor)
        if _only_start(folder):
            _remove_locks(folder)
        else:
            _beside.append(True)
    else:
        _remove_locks(folder)
        _share(descriptor)


def _of_a_start(folder: Path) -> bool:
    """Return whether a start in this folder started this process: the locks are its own, not to be kept after it."""
    place, mine = str(folder.resolve()), str(os.getpid())
    parent, _, there = os.environ.get(_STARTED, "").partition(" ")
    os.environ[_STARTED] = f"{mine} {place}"
    return there == place and parent != mine


def _share(descriptor: int) -> None:
    """Share the lock until this process ends; who has it alone has it for a moment, or is of an earlier version."""
    _held.append(descriptor)
    for _ in range(20):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        time.sleep(0.05)


def _remove_locks(folder: Path) -> None:
    """Remove Snakemake's locks, which are all of the dead, and say so."""
    stale = sorted((folder / "locks").glob("*.lock"))
    for lock in stale:
        with contextlib.suppress(OSError):
            lock.unlink()
    if stale:
        os.write(2, b"An earlier snakemake was killed here; its lock is removed and its work goes on.\n")


def _only_start(folder: Path) -> bool:
    """Take the lease on Snakemake's folder until this process ends; return False where another start has it."""
    lease = Lease(folder / "mmlbench.lease", lambda line: None, wait=0)
    try:
        lease.__enter__()
    except RunError as error:
        if any((folder / "locks").glob("*.lock")):
            line = f"mmlbench: {error}. A killed snakemake on another machine is forgotten after 90 s of silence.\n"
            os.write(2, line.encode())
        threading.Thread(target=_take_when_free, args=(folder,), daemon=True).start()
        return False
    except MmlbenchError:
        return False  # a read-only folder: Snakemake itself says so
    atexit.register(lease.__exit__)
    return True


def _take_when_free(folder: Path) -> None:
    """Wait for the lease, so that a third start finds this one where the holder has ended."""
    lease = Lease(folder / "mmlbench.lease", lambda line: None, wait=math.inf)
    with contextlib.suppress(MmlbenchError):
        lease.__enter__()
        atexit.register(lease.__exit__)


def own_folders(*folders: str) -> None:
    """Stop where a folder in which this start writes is another user's, and say what PYTHONPATH hides.

    Raises:
        SystemExit: as `read`.
    """
    for folder in folders:
        if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK):  # noqa: PTH112 (as os.access)
            uid = Path(folder).stat().st_uid
            try:
                owner = pwd.getpwuid(uid).pw_name
            except KeyError:
                owner = str(uid)
            whose = "belongs to " + owner if uid != os.getuid() else "can't be written"
            _stop(f"{Path(folder).resolve()} {whose}. Work in a clone of your own: git clone, make env", 2)
    if line := pythonpath.warning():
        os.write(2, f"mmlbench: {line}. {pythonpath.FIX}\n".encode(errors="replace"))


def _stamp(run: RunSpec) -> str:
    """Return the stamp of a run as the rules name it."""
    return f"results/{run.stamp}"


def _noise_files(study: configs.Study) -> dict[str, RunSpec]:
    """Return the files with logits under noise, each with its run; {} where the config does not ask for them."""
    if not study.robustness:
        return {}
    specs = [cell.run for cell in study.cells if not cell.tuned]
    specs = [spec for spec in specs if not spec.config.recipe.noise_std]
    return {f"results/robustness/{'/'.join(spec.path.parts[1:])}.npz": spec for spec in specs}


def _shared(cells: Sequence[configs.Cell]) -> dict[str, list[int]]:
    """Return dataset -> the seeds that all its rows share; datasets in the order of the config."""
    rows: dict[str, list[tuple[object, int]]] = {}
    for cell in cells:
        config = cell.run.config
        rows.setdefault(config.dataset, []).append(((cell.group, cell.label), config.seed))
    return {dataset: shared_seeds(found) for dataset, found in rows.items()}


def _levels(cells: Sequence[configs.Cell]) -> dict[tuple[str, int], int]:
    """Return (dataset, seed) -> priority, 1 at least: dataset by dataset, and in each seed by seed.

    The seeds that all rows share come first, so that a table can be made from them.
    """
    order: list[tuple[str, int]] = []
    for dataset, shared in _shared(cells).items():
        own = [cell.run.config.seed for cell in cells if cell.run.config.dataset == dataset]
        order += [(dataset, seed) for seed in dict.fromkeys([*shared, *own])]
    return {level: len(order) - place for place, level in enumerate(order)}


class Wildcards(Protocol):
    """What Snakemake fills in for a rule's wildcards; a rule has some of them."""

    dataset: str
    split: str
    method: str
    run: str
    stamp: str
    tuned: str


def _any_of(names: Iterable[str]) -> str:
    """Return an expression that matches these names and nothing else; of no name one that matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


class ShardWildcards(Protocol):
    """What Snakemake fills in for the rule of a shard."""

    cache: str
    shard: str


class Plan:
    """A study as the rules see it."""

    def __init__(self, study: configs.Study, key: str | None = None) -> None:
        self.study = study
        #: What the tables must be made from; plan.json on disk may be exchanged while the runs are trained.
        self.key = study.plan().study_key if key is None else key
        # Each once: Snakemake asks for every job, some of it several times.
        self.runs = {_stamp(run): run for run in study.runs}
        cells = [cell for cell in study.cells if cell.tuned]
        self.tuned = {f"results/{cell.tuned.stamp(cell.run)}": cell for cell in cells if cell.tuned}
        self.caches = {run.cache: run for run in study.runs}
        self.noise = _noise_files(study)
        self._priorities, self._cache_priorities = self._ranked()
        self.plugins = [word for folder in study.plugins for word in ("--plugins", str(folder))]
        #: Where new caches go; found once, since it is asked for with each shard.
        self.new_caches = for_new()

    @property
    def cache_pattern(self) -> str:
        """Where new caches go, as Snakemake takes it: braces in a folder's name are no wildcards."""
        return str(self.new_caches).replace("{", "{{").replace("}", "}}")

    def unprepared(self) -> str:
        """Return an expression for the names of the caches that are not finished."""
        names = (name for name in self.caches if not (cache_folder(DEFAULT, name) / "manifest.json").exists())
        return _any_of(names)

    def unprepared_shards(self) -> str:
        """Return an expression for the names of the shards of which any is not finished."""
        missing = {
            Path(path).parent.name for name in self.caches for path in self.shards(name) if not Path(path).exists()
        }
        return _any_of(sorted(missing))

    def _ranked(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the priority of each stamp and of each cache: the highest of the cells that need it."""
        levels, stamps, caches = _levels(self.study.cells), dict[str, int](), dict[str, int]()
        for cell in self.study.cells:
            level = levels[cell.run.config.dataset, cell.run.config.seed]
            for run in cell.runs:
                stamps[_stamp(run)] = max(level, stamps.get(_stamp(run), 0))
                caches[run.cache] = max(level, caches.get(run.cache, 0))
            if cell.tuned:
                stamps[f"results/{cell.tuned.stamp(cell.run)}"] = level
        return stamps, caches

    def _run(self, wildcards: Wildcards) -> RunSpec:
        path = f"results/runs/{wildcards.dataset}/{wildcards.split}/{wildcards.method}/{wildcards.run}"
        stamp = f"{path}/done-{wildcards.stamp}"
        if stamp not in self.runs:
            raise WorkflowError(f"{stamp} is no run of this config. Ask for results/all_tables.csv")
        return self.runs[stamp]

    def stamps(self) -> list[str]:
        """Return the stamps of all runs of the study."""
        return [*self.runs, *self.tuned]

    def _cell(self, wildcards: Wildcards) -> tuple[configs.Cell, Tuned]:
        stamp = f"results/tuned/{wildcards.dataset}/{wildcards.split}/{wildcards.method}/{wildcards.tuned}"
        cell = self.tuned.get(stamp)
        if cell is None or cell.tuned is None:
            raise WorkflowError(f"{stamp} is no run of this config. Ask for results/all_tables.csv")
        return cell, cell.tuned

    def trials(self, wildcards: Wildcards) -> list[str]:
        """Return the stamps of what a tuned run needs: its trials, and the runs that it reuses."""
        cell, tuning = self._cell(wildcards)
        return [_stamp(run) for run in (*tuning.trials, *cell.run.requires.values())]

    def groups(self) -> list[str]:
        """Return the file of groups of test samples that the tables take; [] where the config names none."""
        return [self.study.groups] if self.study.groups else []

    def noise_files(self) -> list[str]:
        """Return the files with logits under noise; [] where the config does not ask for them."""
        return list(self.noise)

    def _noise_run(self, wildcards: Wildcards) -> RunSpec:
        path = f"results/robustness/{wildcards.dataset}/{wildcards.split}/{wildcards.method}/{wildcards.run}.npz"
        found = self.noise.get(path)
        if found is None:
            raise WorkflowError(f"{path} is asked for by nothing in this config. Ask for results/all_tables.csv")
        return found

    def noise_run(self, wildcards: Wildcards) -> str:
        """Return the stamp of the run that is measured under noise."""
        return _stamp(self._noise_run(wildcards))

    def noise_options(self, wildcards: Wildcards) -> str:
        """Return the options of `mmlbench robustness` that measure a run."""
        strengths = ",".join(f"{strength:g}" for strength in self.study.robustness)
        folder = f"results/{self._noise_run(wildcards).path}"
        return shlex.join([folder, "--noise", strengths, *self.plugins])

    def tuned_options(self, wildcards: Wildcards) -> str:
        """Return the options of `mmlbench train` that choose among the trials and make a tuned run."""
        cell, tuning = self._cell(wildcards)
        return shlex.join([*cell.run.command, *self.plugins, *tuning.options, "--expect", tuning.key])

    def name_missing(self) -> None:
        """Tell in one line which runs are not made, each with the command that makes it."""
        missing = []
        for run in (run for stamp, run in self.runs.items() if not Path(stamp).exists()):
            c, command = run.config, shlex.join(["mmlbench", "train", *run.command, *self.plugins])
            missing.append(f"{c.dataset}/{c.split} {c.method} seed {c.seed} ({command})")
        if missing:
            count = f"{len(missing)} of {plural(len(self.runs), 'planned run')}"
            error = runs_error(f"{count} {be(len(missing))} not made", missing)
            os.write(2, f"mmlbench: {error}\n".encode())

    def watch(self) -> None:
        """Tell, while Snakemake works, how far the study is and how long it will take; show the first table."""
        jobs = [
            Job(
                Path(stamp),
                run.config.dataset,
                run.config.method,
                Path("results") / run.path / "provenance.json",
            )
            for stamp, run in self.runs.items()
        ]
        for stamp, cell in self.tuned.items():
            jobs.append(Job(Path(stamp), cell.run.config.dataset, cell.run.config.method))
        Progress(jobs, self.needed(), to_terminal, show_first_table).start()
        TrainingWatcher(Path("results"), to_terminal).start()

    def needed(self) -> dict[str, Needed]:
        """Return dataset -> the stamps that its tables need: all, and those of each seed that its rows share."""
        shared = _shared(self.study.cells)
        found = {name: Needed(set(), {seed: set() for seed in seeds}) for name, seeds in shared.items()}
        for cell in self.study.cells:
            stamps = {Path(_stamp(run)) for run in cell.runs}
            if cell.tuned:
                stamps.add(Path(f"results/{cell.tuned.stamp(cell.run)}"))
            needed, seed = found[cell.run.config.dataset], cell.run.config.seed
            needed.stamps.update(stamps)
            if seed in needed.seeds:
                needed.seeds[seed].update(stamps)
        return found

    def serve(self) -> None:
        """Start what spares the runs of this start their imports, where some of them are to be made here."""
        missing = [run for stamp, run in self.runs.items() if not Path(stamp).exists()]
        kind = arithmetic.exported(os.environ)
        recipes = [run.config.recipe for run in missing]
        # More threads can't be forked, and a run of the other arithmetic starts anew.
        alone = [one for one in recipes if one.threads == 1 and one.arithmetic == kind]
        if len(alone) >= run_server.FEW:
            run_server.serve(run_server.job_environment(1))

    def priority(self, wildcards: Wildcards) -> int:
        """Return the priority of a run: datasets are finished in the order of the config, each seed by seed."""
        return self._priorities[_stamp(self._run(wildcards))]

    def tuned_priority(self, wildcards: Wildcards) -> int:
        """Return the priority of a tuned run; its trials have that of the first that needs them."""
        cell, tuning = self._cell(wildcards)
        return self._priorities[f"results/{tuning.stamp(cell.run)}"]

    def prepare_priority(self, cache: str) -> int:
        """Return the priority of preparing a cache, that of the first runs that wait for it."""
        return self._cache_priorities.get(cache, 0)

    def manifest(self, wildcards: Wildcards) -> str:
        """Return the manifest of the run's prepared cache."""
        return str(cache_folder(DEFAULT, self._run(wildcards).cache) / "manifest.json")

    def reused(self, wildcards: Wildcards) -> list[str]:
        """Return the stamps of the runs that a run reuses."""
        return [_stamp(run) for run in self._run(wildcards).requires.values()]

    def threads(self, wildcards: Wildcards) -> int:
        """Return the CPU threads that the run's recipe asks for."""
        return self._run(wildcards).config.recipe.threads

    def train_options(self, wildcards: Wildcards) -> str:
        """Return the options of `mmlbench train` that make a run."""
        run = self._run(wildcards)
        words = [*run.command, *self.plugins, "--expect", run.key]
        return shlex.join(words)

    def shards(self, cache: str) -> list[str]:
        """Return the manifests of the shards that are merged to a cache; [] where it is prepared in one piece."""
        of = self.study.prepare_shards
        if not of or self._config(cache).dataset not in self.study.raw:
            return []
        return [f"{self.new_caches}/{cache}.shards/{number}-of-{of}/manifest.json" for number in range(1, of + 1)]

    def prepare_options(self, cache: str) -> str:
        """Return the options of `mmlbench prepare` that make a cache."""
        merged = ["--shards", str(self.study.prepare_shards)] if self.shards(cache) else []
        return shlex.join([*self._prepare_words(cache), *merged])

    def shard_options(self, wildcards: ShardWildcards) -> str:
        """Return the options of `mmlbench prepare` that decode a shard of a cache."""
        manifest = f"{self.new_caches}/{wildcards.cache}.shards/{wildcards.shard}/manifest.json"
        if manifest not in self.shards(wildcards.cache):
            raise WorkflowError(f"{manifest} is no shard of this config. Ask for results/all_tables.csv")
        shard = wildcards.shard.replace("-of-", "/")
        return shlex.join([*self._prepare_words(wildcards.cache), "--shard", shard])

    def _config(self, cache: str) -> RunConfig:
        if cache not in self.caches:
            raise WorkflowError(f"cache/{cache} belongs to no dataset of this config")
        return self.caches[cache].config

    def _prepare_words(self, cache: str) -> list[str]:
        config = self._config(cache)
        words = [config.dataset, *self.plugins, "--expect", cache]
        if config.dataset in self.study.raw:
            words += self.study.raw[config.dataset].options
        places = places_of(contents(config.dataset_params))
        for name, value in config.dataset_params.items():
            shown = places.get(value, value) if isinstance(value, str) else value
            words += ["--dataset-set", f"{name}={value_text(shown)}"]
        return words


def check_file(path: str) -> None:
    """Refuse a config file that our reader refuses, before Snakemake parses it; one that is not there passes.

    Raises:
        SystemExit: as `read`.
    """
    error = readable(Path(path)) if Path(path).exists() else None
    if error is not None:
        _stop(str(error), error.exit_code)


def reread(config: dict[str, Any], workflow: Any) -> None:
    """Put what our reader finds in the config files in the place of what Snakemake found, as it would merge them.

    Snakemake reads dates as dates and 1e-3 as text, `mmlbench` on the command line does not: one file, one study.

    Raises:
        SystemExit: as `read`.
    """
    given = [Path(path) for path in workflow.config_settings.configfiles]
    own = [] if workflow.config_settings.replace_workflow_config else workflow.configfiles[len(given) :]
    found: dict[str, Any] = {}
    try:
        for path in [*map(Path, own), *given]:
            update_config(found, read_mapping(path, "A study has a grid: see config/config.yaml"))
    except MmlbenchError as error:
        _stop(str(error), error.exit_code)
    update_config(found, workflow.config_settings.config)
    config.clear()
    config.update(found)


def _set_arithmetic(study: configs.Study) -> None:
    """Let the jobs start in the arithmetic that their runs need; say where it can't be had.

    A job of the other arithmetic starts itself anew, which costs a moment.

    Raises:
        ConfigError: a setting of the user's contradicts it.
    """
    if any(run.config.recipe.arithmetic == arithmetic.PORTABLE for run in study.runs):
        arithmetic.export(arithmetic.PORTABLE, os.environ)
    if study.left_native:
        os.write(2, f"mmlbench: {arithmetic.left_native()}\n".encode())


def _name_damaged(study: configs.Study) -> None:
    """Tell of the damaged caches of a study in whose place others are taken; what the jobs say is in their logs."""
    for name in dict.fromkeys(run.cache for run in study.runs):
        for one in passed_over(DEFAULT, name):
            os.write(2, f"mmlbench: {one}\n".encode(errors="replace"))


def _stop(line: str, code: int) -> NoReturn:
    """Print the line that `mmlbench` would print and end; an exception would get places in the code printed below."""
    os.write(2, f"mmlbench: {line}\n".encode(errors="replace"))
    raise SystemExit(code)


def read(config: Mapping[str, object], results: str | Path, files: Sequence[str | Path] = ()) -> Plan:
    """Check a config, write results/plan.json where it changed, and return the plan.

    A start beside one that is at work writes nothing: a look at another study (`--dry-run`), or a start that
    Snakemake's lock refuses, would take the plan away under the first one's runs.

    Snakemake does not miss what lies before a target that is there. So where tables are there and a run of the plan
    is not, the plan gets a new `round`: it is an input of the tables, and they ask for their runs again.

    Raises:
        SystemExit: after the one line that `mmlbench` would print, which names the first of the config `files`, with
            its exit code. An exception would get the places in the code printed below it.
    """
    try:
        set_data_folders([results, "cache"])
        interval()  # a wrong one is told before anything starts, and so is a folder that is not there
        shared_folders()
        study = configs.study(config)
        _set_arithmetic(study)
        results, plan = Path(results), study.plan()
        key, asked_anew = plan.study_key, False
        if (results / "all_tables.csv").exists():
            wanted = [*(run.stamp for run in study.runs), *(c.tuned.stamp(c.run) for c in study.cells if c.tuned)]
            asked_anew = any(not (results / stamp).exists() for stamp in wanted)
        write_plan(plan, results, asked_anew, keep=bool(_beside))
        if not _beside:
            _name_damaged(study)
        return Plan(study, key)
    except MmlbenchError as error:
        where = f"{os.path.relpath(files[0])}: " if files else ""  # those of the command line come first
        _stop(f"{where}{error}", error.exit_code)
