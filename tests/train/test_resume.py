"""Exact resume: a run that was interrupted at any moment ends with the bytes of one that never was."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch
from quick import quick_first
from shipped import METHODS as OURS
from stopped import differing, make
from warm import Command, Warm

from mmlbench.cli import main
from mmlbench.errors import RunError
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.storage import atomic
from mmlbench.study.run_spec import RunSpec
from mmlbench.testing import FEW_EPOCHS, PLUGINS, takes, tiny_spec
from mmlbench.train import Stopped, checkpoint, runner
from mmlbench.train.loop import Trainer
from mmlbench.train.runner import Runner
from mmlbench.train.saving import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
#: One of each kind that `make test` kills after every step; the others are slow.
QUICK = ["joint", "ogm_ge", "di_mml", "taking_turns", "remixing"]
#: Out-of-tree methods; `careless` draws from the process's generators and from both hooks.
THEIRS = ["alternating", "reinit", "missing_history", "careless", "mmtm", "cross_attention"]
LATER = [name for name in OURS + THEIRS if name not in QUICK]
CARELESS = '''
import random
import numpy as np
import torch
from torch import nn
from mmlbench.methods.joint import Joint
from mmlbench.registry import register

@register
class Careless(Joint):
    """Joint training with dropout, and noise on the head's weights before and after each epoch."""

    def build(self):
        super().build()
        self.dropout = nn.Dropout(0.5)

    def encode(self, batch, only=None, encoders=None):
        found = super().encode(batch, only, encoders)
        jitter = 1 + 0.01 * (np.random.rand() + random.random()) if self.training else 1
        return {m: self.dropout(h) * jitter for m, h in found.items()}

    def before_epoch(self, context):
        self.head.out.weight.data += 0.01 * torch.randn(self.head.out.weight.shape, generator=context.rng)

    after_epoch = before_epoch
'''


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the folders with out-of-tree methods, in use."""
    careless = tmp_path_factory.mktemp("plugins")
    (careless / "careless.py").write_text(CARELESS, encoding="utf-8")
    folders = [ROOT / "tests" / "plugins", careless]
    use_plugins([PLUGINS, *folders])
    return folders


# --- in this process: stopped after every step ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("dataset", "epochs", "every"), [("tiny", 3, 2), pytest.param("tiny3", 3, 5, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("method", quick_first([*QUICK, *LATER], QUICK))
def test_a_run_stopped_after_every_step_ends_with_the_same_bytes(
    method, dataset, epochs, every, tiny, plugins, tmp_path
):
    if not takes(method, dataset, plugins):
        pytest.skip("it takes another number of modalities")
    spec = tiny_spec(method, dataset, recipe={"epochs": epochs}, plugins=plugins)
    make(spec, tiny.cache, tmp_path / "whole")
    stops = make(spec, tiny.cache, tmp_path / "pieces", every)
    assert stops or not json.loads((tmp_path / "whole" / spec.path / "run.json").read_text())["epochs"]
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "pieces" / spec.path) == []
    resumed = json.loads((tmp_path / "pieces" / spec.path / "provenance.json").read_text())["resumed"]
    assert resumed == stops


#: What else of a recipe decides a step.
STEPS = {
    "cosine": {"schedule": "cosine", "warmup": 0.5, "clip_grad": 0.1},
    "accumulate": {"batch_size": 4, "accumulate": 3},
    "freeze": {"encoder": {"name": "small_cnn", "freeze": ["layer1"], "lr": 0.1}, "head_lr": 2},
    **{name: {"optimizer": name, "lr": 0.01} for name in ("adam", "adamw")},
}
LATER_STEPS = [pytest.param(name, marks=pytest.mark.slow) for name in ("adam", "adamw")]


@pytest.mark.parametrize("fields", ["cosine", "accumulate", "freeze", *LATER_STEPS])
def test_what_a_recipe_says_of_steps_resumes_too(fields, tiny, tmp_path):
    spec = tiny_spec("joint", recipe={"batch_size": 8, **STEPS[fields]})
    make(spec, tiny.cache, tmp_path / "whole")
    assert make(spec, tiny.cache, tmp_path / "pieces", 2)
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "pieces" / spec.path) == []


@pytest.mark.parametrize("forgotten", ["optimizers", "position", "history", "mechanism_counts", "meter", "sampling"])
def test_a_trainer_that_forgets_part_of_its_state_is_noticed(forgotten, tiny, plugins, tmp_path, monkeypatch):
    """The counter-test: without any one of these the bytes differ, or the run fails."""
    spec = tiny_spec("remixing" if forgotten == "sampling" else "ogm_ge", recipe={"epochs": 3}, plugins=plugins)
    make(spec, tiny.cache, tmp_path / "whole")
    resume = Trainer.resume

    def forget(self: Trainer, state: dict) -> None:
        empty = {
            "optimizers": [{**kept, "state": {}} for kept in state["optimizers"]],
            "position": (0, state["position"][1], 0),
            "history": {"rows": [], "scores": {}},
            "mechanism_counts": {},
            "sampling": None,
            "meter": {**state["meter"], "losses": torch.zeros_like(state["meter"]["losses"]), "scores": {}},
        }
        resume(self, {**state, forgotten: empty[forgotten]})

    monkeypatch.setattr(Trainer, "resume", forget)
    make(spec, tiny.cache, tmp_path / "pieces", 5, times=1)
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "pieces" / spec.path)


@pytest.fixture
def stopped_run(tiny, tmp_path):
    """Return the arguments for the `Runner` of a run that was stopped, and the list that it logs to."""
    spec, message = tiny_spec("joint"), []
    opened, counter = Cache.open(tiny.cache / spec.cache), iter(range(99))
    options = (spec, load_index(), tmp_path, opened, torch.device("cpu"), message.append)
    with pytest.raises(Stopped):
        Runner(*options, asked_to_stop=lambda: next(counter) == 3).run()
    return options, message


def test_a_checkpoint_of_another_engine_is_thrown_away_and_said(stopped_run, monkeypatch):
    options, message = stopped_run
    monkeypatch.setattr(runner, "engine_fingerprint", lambda: "0" * 16)
    Runner(*options).run()
    assert any("thrown away: it was made with other engine" in line for line in message)


def fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the disk fail to give the files of a name."""
    read = atomic.plain

    def plain(path):
        if path.name == name:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(atomic, "plain", plain)


def test_a_checkpoint_that_the_disk_does_not_give_is_kept(stopped_run, monkeypatch):
    options, message = stopped_run
    with monkeypatch.context() as patch:
        fails(patch, "checkpoint.npz")
        with pytest.raises(RunError, match=r"checkpoint\.npz can't be read \(Input/output error\)"):
            Runner(*options).run()
    Runner(*options).run()
    assert any("goes on from stage" in line for line in message)
    assert not any("thrown away" in line for line in message)


def test_a_run_whose_record_the_disk_does_not_give_is_not_made_anew(stopped_run, monkeypatch, tmp_path):
    options, message = stopped_run
    Runner(*options).run()
    before, told = (tmp_path / options[0].path / "run.json").stat(), len(message)
    with monkeypatch.context() as patch:
        fails(patch, "run.json")
        with pytest.raises(RunError, match=r"run\.json can't be read \(Input/output error\)"):
            Runner(*options).run()
    Runner(*options).run()
    after = (tmp_path / options[0].path / "run.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not any("made anew" in line for line in message[told:])


# --- in this process: checkpoints that a thread writes while training goes on -----------------------------------
class Killed(BaseException):
    """Stands for a kill: nothing that is told of errors or asked to stop hears of it."""


def train_and_kill(
    spec: RunSpec, cache: Path, results: Path, monkeypatch: pytest.MonkeyPatch, at: int, before: int
) -> None:
    """Save after each step; each file is written only when the next step is over. Be killed after step `at`.

    Args:
        before: so many of the last writings before the kill are lost with it.
    """
    steps, writings, over, write = count(1), count(1), threading.Semaphore(0), checkpoint.write

    def late(*words, **options) -> None:
        assert over.acquire(timeout=60)
        if next(writings) >= at - before:
            raise Killed  # what is written at the kill never gets its name
        write(*words, **options)

    def look() -> bool:
        step = next(steps)
        if step > 1:
            over.release()
        if step == at:
            raise Killed
        return False

    monkeypatch.setattr(checkpoint, "write", late)
    opened = Cache.open(cache / spec.cache)
    made = Runner(spec, load_index(), results, opened, torch.device("cpu"), lambda line: None, look, save_every=0)
    with contextlib.suppress(Killed):
        made.run()
    monkeypatch.setattr(checkpoint, "write", write)


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory) -> tuple[RunSpec, Path]:
    """Return a run of several stages of state (momenta, history, best epochs), and the results folder with it."""
    spec, results = tiny_spec("ogm_ge", recipe={"epochs": 3}), tmp_path_factory.mktemp("undisturbed")
    make(spec, tiny.cache, results)
    return spec, results


@pytest.mark.parametrize(("at", "before"), [(2, 0), (3, 1), (7, 1), (8, 2)])
def test_a_checkpoint_written_beside_training_resumes_to_the_same_bytes(
    at, before, undisturbed, tiny, tmp_path, monkeypatch
):
    spec, whole = undisturbed
    train_and_kill(spec, tiny.cache, tmp_path, monkeypatch, at, before)
    folder = tmp_path / spec.path
    kept = checkpoint.load(folder / "checkpoint.npz") if (folder / "checkpoint.npz").exists() else None
    make(spec, tiny.cache, tmp_path)
    assert differing(whole / spec.path, folder) == []
    resumed = json.loads((folder / "provenance.json").read_text())["resumed"]
    assert resumed == (kept is not None)


def test_a_checkpoint_that_shares_memory_with_the_next_step_is_noticed(undisturbed, tiny, tmp_path, monkeypatch):
    """The counter-test of the one above: what was written is of two moments."""
    spec, whole = undisturbed
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_copied", lambda tensor, room: tensor)
        train_and_kill(spec, tiny.cache, tmp_path, patched, 7, 1)
    assert (tmp_path / spec.path / "checkpoint.npz").exists()
    make(spec, tiny.cache, tmp_path)
    assert "predictions.npz" in differing(whole / spec.path, tmp_path / spec.path)


@pytest.mark.parametrize("method", quick_first([*QUICK, *LATER], QUICK))
def test_what_a_checkpoint_does_not_copy_never_changes(method, tiny, plugins, tmp_path, monkeypatch):
    spec, seen = tiny_spec(method, recipe={"epochs": 3}, plugins=plugins), {}
    pack = checkpoint.Packed.__init__

    def look(self: checkpoint.Packed, tree: object) -> None:
        pack(self, tree)
        for tensor, fixed in zip(self.tensors, self.fixed, strict=True):
            if fixed:
                first = seen.setdefault(id(tensor), (tensor, bytes(checkpoint._bytes_of(tensor))))
                assert bytes(checkpoint._bytes_of(tensor)) == first[1]

    monkeypatch.setattr(checkpoint.Packed, "__init__", look)
    for required in spec.requires.values():
        make(required, tiny.cache, tmp_path)
    opened = Cache.open(tiny.cache / spec.cache)
    Runner(spec, load_index(), tmp_path, opened, torch.device("cpu"), lambda line: None, save_every=0).run()
    assert all(bytes(checkpoint._bytes_of(tensor)) == content for tensor, content in seen.values())
    trained = json.loads((tmp_path / spec.path / "run.json").read_text())["epochs"]
    assert seen or not trained or method in ("ensemble",)


def test_a_state_that_is_picked_and_then_changed_is_noticed(tiny, plugins, tmp_path, monkeypatch):
    """The counter-test of the one above."""
    live = lambda self: {name: value.detach() for name, value in self.method.state_dict().items()}  # noqa: E731
    monkeypatch.setattr(Trainer, "_snapshot", live)
    with pytest.raises(AssertionError):
        test_what_a_checkpoint_does_not_copy_never_changes("joint", tiny, plugins, tmp_path, monkeypatch)


def test_an_interrupt_waits_for_the_checkpoint_that_is_being_written(tiny, tmp_path, monkeypatch):
    """Ctrl-C: the file is whole, and the lease is given back after it."""
    spec, begun, let, write = tiny_spec("joint"), threading.Event(), threading.Event(), checkpoint.write

    def slow(*words, **options) -> None:
        begun.set()
        assert let.wait(60)
        write(*words, **options)

    def interrupt() -> bool:
        if begun.is_set():
            threading.Timer(0.05, let.set).start()
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(checkpoint, "write", slow)
    opened = Cache.open(tiny.cache / spec.cache)
    options = (spec, load_index(), tmp_path, opened, torch.device("cpu"), lambda line: None, interrupt)
    with pytest.raises(KeyboardInterrupt):
        Runner(*options, save_every=0).run()
    assert [path.name for path in (tmp_path / spec.path).iterdir()] == ["checkpoint.npz"]
    assert checkpoint.load(tmp_path / spec.path / "checkpoint.npz")["state"]["position"][2] >= 1


def test_a_full_disk_is_told_as_where_training_writes_itself(tiny, tmp_path, monkeypatch, capsys):
    def full(*words, **options) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_member", full)
    lines = []
    for spare in (0, 2**40):
        monkeypatch.setattr(runner, "Checkpoints", partial(Checkpoints, spare=lambda spare=spare: spare))
        assert main(["train", *tiny.words("joint", tmp_path), "--save-every", "0"]) == 2
        lines.append(capsys.readouterr().err.splitlines()[-1])
    assert "no space left while writing" in lines[0] and "checkpoint.npz" in lines[0]
    assert lines[0] == lines[1]
    assert not list(tmp_path.rglob("checkpoint*")) and not list(tmp_path.rglob("lease.json"))


# --- real processes, really killed -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def warm(plugins) -> Iterator[Warm]:
    """Return a warm process."""
    with Warm() as process:
        yield process


def words(method: str, place: Path, plugins: list[Path], epochs: int = 3) -> list[str]:
    """Return the command of a run that saves a checkpoint after every step, its cache and results below a folder."""
    fields = {**FEW_EPOCHS, "epochs": epochs}
    found = ["train", "--dataset", "tiny", "--method", method, "--device", "cpu", "--save-every", "0"]
    found += ["--results", str(place / "results"), "--cache", str(place / "cache")]
    found += [word for name, value in fields.items() for word in ("--recipe-set", f"{name}={value}")]
    return found + [word for folder in (PLUGINS, *plugins) for word in ("--plugins", str(folder))]


def phase(place: Path, spec: RunSpec) -> str:
    """Say what a process was doing when it was killed, by what lies there."""
    folder = place / "results" / spec.path
    names = {file.name for file in folder.iterdir()} if folder.exists() else set()
    if "run.json" in names:
        return "after run.json"
    if names & {"history.csv", "predictions.npz"} or any(name.endswith(".tmp") for name in names):
        return "writing"
    if "checkpoint.npz" in names:
        return "training or evaluating"
    if names:
        return "before the first checkpoint"
    return "preparing" if not (place / "cache" / spec.cache).exists() else "between prepare and train"


def kill_and_finish(
    command: list[str], place: Path, warm: Warm, moments: list[float], spec: RunSpec
) -> Iterator[str]:
    """Kill the command at each moment, then let it end; yield the phase of each kill."""
    for moment in moments:
        run = warm.start(command, place / "log")
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.kill(run.pid, signal.SIGKILL)
        code = run.wait()
        assert code in (0, -signal.SIGKILL), run.message
        if code:
            yield phase(place, spec)
    assert warm.run(command, place / "log") == 0, (place / "log").read_text()


def whole_run(method: str, warm: Warm, plugins: list[Path], place: Path) -> tuple[RunSpec, float]:
    """Make a run without interruption; return it and how long it took."""
    place.mkdir(parents=True)
    spec = tiny_spec(method, recipe={"epochs": 3}, plugins=plugins)
    began = time.monotonic()
    assert warm.run(words(method, place, plugins), place / "log") == 0, (place / "log").read_text()
    return spec, time.monotonic() - began


def survive(methods: list[str], kills: int, warm: Warm, plugins: list[Path], place: Path, seed: int) -> Counter:
    """Kill each method's runs at random moments until `kills` hit; compare; return the phases of the kills."""
    drawn, phases = random.Random(seed), Counter[str]()
    for method in methods:
        spec, seconds = whole_run(method, warm, plugins, place / method / "whole")
        hits = Counter[str]()
        for trial in range(5 * kills):  # a moment after the end of a run that was faster this time kills nothing
            here, before = place / method / str(trial), hits.total()
            here.mkdir()
            moments = [drawn.uniform(0, seconds), drawn.uniform(0, 0.7 * seconds)]
            hits.update(kill_and_finish(words(method, here, plugins), here, warm, moments, spec))
            assert differing(place / method / "whole" / "results" / spec.path, here / "results" / spec.path) == []
            if hits.total() >= kills:
                break
            if hits.total() == before:  # the first run was slow: aim earlier
                seconds *= 0.7
        phases += hits
    return phases


def kill_in(wanted: str, method: str, warm: Warm, plugins: list[Path], place: Path) -> Counter:
    """Kill runs of a method as soon as what lies there says that they are in a phase, until one was in it."""
    spec, _ = whole_run(method, warm, plugins, place / "whole")
    for trial in range(30):
        here = place / str(trial)
        here.mkdir()
        run = warm.start(words(method, here, plugins), here / "log")
        while (now := phase(here, spec)) not in (wanted, "after run.json"):
            time.sleep(0.0005)
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGKILL)
        hit = run.wait() and phase(here, spec) == wanted
        assert warm.run(words(method, here, plugins), here / "log") == 0, (here / "log").read_text()
        assert differing(place / "whole" / "results" / spec.path, here / "results" / spec.path) == [], now
        if hit:
            return Counter({wanted: 1})
    raise AssertionError(f"no kill in 30 hit {wanted}")


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_with_the_same_bytes(warm, plugins, tmp_path):
    phases = survive(["di_mml", "joint", "ensemble"], 3, warm, plugins, tmp_path, seed=1)
    assert phases.total() >= 9, phases


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["preparing", "training or evaluating", "writing"])
def test_a_run_killed_in_each_phase_ends_with_the_same_bytes(phase, warm, plugins, tmp_path):
    assert kill_in(phase, "joint", warm, plugins, tmp_path)[phase] == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", OURS + THEIRS)
def test_each_method_killed_at_random_moments_ends_with_the_same_bytes(method, warm, plugins, tmp_path):
    kills = survive([method], 3, warm, plugins, tmp_path, seed=zlib.crc32(method.encode()))
    assert kills.total() >= 1, "three attempts a method: fifty kills over all of them"


#: What a process does with a checkpoint -> where it is killed. Each is that of some step in the midst of training.
PHASES: dict[str, dict] = {
    "before the copy": {"inside": "mmlbench.train.saving:Checkpoints.save", "count": 4},
    "in the midst of the copy": {"inside": "mmlbench.train.checkpoint:_copied", "count": 100},
    "before the thread writes": {"inside": "mmlbench.train.saving:Checkpoints._write", "count": 4},
    "in the midst of the writing": {"inside": "mmlbench.train.checkpoint:_bytes_of", "count": 100},
    "between writing and flush": {"inside": "mmlbench.storage.lease:flush", "count": 4},
    "between flush and rename": {"inside": "pathlib:Path.replace", "count": 4},
    "after the rename": {"inside": "mmlbench.train.saving:Checkpoints._settle", "count": 5},
    "before the last one is waited for": {"inside": "mmlbench.train.saving:Checkpoints.__exit__"},
}


@pytest.mark.parametrize("moment", quick_first(PHASES, 1))
def test_a_run_killed_while_a_checkpoint_is_made_ends_with_the_same_bytes(
    moment, undisturbed, warm, plugins, tmp_path
):
    """The checkpoint that lies there is whole and of one step or the one before; the rest is made anew from it."""
    spec, whole = undisturbed
    command = words("ogm_ge", tmp_path, [])
    run = warm.start(command, tmp_path / "log", kill=True, **PHASES[moment])
    assert run.wait() == -signal.SIGKILL, run.message
    folder = tmp_path / "results" / spec.path
    kept = checkpoint.load(folder / "checkpoint.npz")
    assert kept["resumed"] == 0 and kept["state"]["position"][2] >= 1
    assert warm.run(command, tmp_path / "log") == 0, run.message
    assert "goes on from stage" in run.message
    assert differing(whole / spec.path, folder) == []
    assert json.loads((folder / "provenance.json").read_text())["resumed"] == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["ogm_ge", "di_mml", "careless"])
def test_a_run_killed_before_any_operation_of_a_checkpoint(method, warm, plugins, tmp_path, capsys):
    """Each operation on files of some checkpoints, by the thread that writes them."""
    spec, ops = tiny_spec(method, recipe={"epochs": 3}, plugins=plugins), tmp_path / "ops"
    place = tmp_path / "whole"
    place.mkdir()
    command = words(method, place, plugins)
    run = warm.start(command, place / "log", root=str(place / "results"), ops=str(ops))
    assert run.wait() == 0, run.message
    lines = ops.read_text(encoding="utf-8").splitlines()
    renames = [
        number for number, line in enumerate(lines, 1) if line.startswith("os.rename") and "checkpoint" in line
    ]
    assert len(renames) > 5
    moments = range(renames[2] + 1, renames[3] + 2)  # from one rename to right after the next
    for at in moments:
        here = tmp_path / str(at)
        here.mkdir()
        command = words(method, here, plugins)
        run = warm.start(command, here / "log", root=str(here / "results"), at=at, kill=True)
        assert run.wait() == -signal.SIGKILL, run.message
        checkpoint.load(here / "results" / spec.path / "checkpoint.npz")
        assert warm.run(command, here / "log") == 0, run.message
        assert differing(place / "results" / spec.path, here / "results" / spec.path) == [], lines[at - 1]
    with capsys.disabled():
        sys.stdout.write(f"\n{method}: {len(moments)} kills around one checkpoint, 0 differing files\n")


@pytest.mark.slow
def test_a_plain_process_killed_in_training_goes_on(plugins, tmp_path):
    spec = tiny_spec("joint", recipe={"epochs": 3}, plugins=plugins)
    command = [sys.executable, "-m", "mmlbench", *words("joint", tmp_path, plugins)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "results" / spec.path / "checkpoint.npz"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "taking over" in done.stderr
    assert "goes on from stage 'train'" in done.stderr
    make(spec, tmp_path / "cache", tmp_path / "whole")
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "results" / spec.path) == []


# --- signals and leases -----------------------------------------------------------------------------------------
def until(run: Command, message: str, seconds: float = 60) -> None:
    """Wait until a command has said something."""
    end = time.monotonic() + seconds
    while message not in run.message:
        assert time.monotonic() < end, run.message
        time.sleep(0.005)


def wait_for(path: Path, seconds: float = 60) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.005)


@pytest.mark.parametrize("number", quick_first([signal.SIGTERM, signal.SIGUSR1], 1))
def test_a_signal_of_the_scheduler_writes_a_checkpoint(number, warm, plugins, tmp_path):
    spec = tiny_spec("joint", recipe={"epochs": 24}, plugins=plugins)
    command = words("joint", tmp_path, plugins, epochs=24)
    command[command.index("--save-every") + 1] = "1000"
    run = warm.start(command, tmp_path / "log")
    wait_for(tmp_path / "results" / spec.path / "lease.json")
    time.sleep(0.2)
    os.kill(run.pid, number)
    assert run.wait() == 128 + number
    assert (tmp_path / "results" / spec.path / "checkpoint.npz").exists()
    assert not (tmp_path / "results" / spec.path / "lease.json").exists()
    assert warm.run(command, tmp_path / "log") == 0
    make(spec, tmp_path / "cache", tmp_path / "whole")
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "results" / spec.path) == []


@pytest.mark.slow
def test_of_two_processes_on_one_run_the_second_waits(warm, plugins, tmp_path):
    spec = tiny_spec("joint", recipe={"epochs": 24}, plugins=plugins)
    command = words("joint", tmp_path, plugins, epochs=24)
    with Warm() as other:
        first = warm.start(command, tmp_path / "first")
        wait_for(tmp_path / "results" / spec.path / "checkpoint.npz")
        second = other.start(command, tmp_path / "second")
        until(second, "waiting for")
        assert (first.wait(), second.wait()) == (0, 0)
    assert f"process {first.pid} on {socket.gethostname()} works on it" in second.message
    assert "is complete" in first.message
    assert "complete already" in second.message or "is complete" in second.message
    assert len((tmp_path / "results" / spec.path / "run.json").read_text()) > 0


def test_a_process_that_waits_can_be_stopped(warm, plugins, tmp_path):
    spec = tiny_spec("joint", recipe={"epochs": 3}, plugins=plugins)
    folder = tmp_path / "results" / spec.path
    folder.mkdir(parents=True)
    (folder / "lease.json").write_text(json.dumps({"token": "x", "host": "elsewhere", "pid": 1}), encoding="utf-8")
    run = warm.start(words("joint", tmp_path, plugins), tmp_path / "log")
    until(run, "waiting for")
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("dead", quick_first(["its process is gone", "silent on another host"], 1))
def test_a_dead_holder_is_taken_over_and_that_is_said(dead, warm, plugins, tmp_path):
    spec = tiny_spec("joint", recipe={"epochs": 3}, plugins=plugins)
    folder = tmp_path / "results" / spec.path
    folder.mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    holder = {"token": "x", "host": socket.gethostname(), "pid": gone.pid, "start": "1"}
    if dead != "its process is gone":
        holder["host"] = "elsewhere"
    (folder / "lease.json").write_text(json.dumps(holder), encoding="utf-8")
    if dead != "its process is gone":
        os.utime(folder / "lease.json", (time.time() - 200,) * 2)
    assert warm.run(words("joint", tmp_path, plugins), tmp_path / "log") == 0
    message = (tmp_path / "log").read_text()
    assert f"its holder, process {gone.pid} on {holder['host']}, is gone" in message
