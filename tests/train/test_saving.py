"""When a checkpoint is due, and what the thread that writes it may and may not do. No test here waits for a clock."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mmlbench.errors import DataError
from mmlbench.storage.atomic import whole
from mmlbench.train import checkpoint, saving
from mmlbench.train.saving import LONGEST_S, SHARE, SHORTEST_S, THREAD, Checkpoints, spare_bytes

SCARCE, PLENTY = (lambda: 0), (lambda: 2**40)


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(cost: float, clock: Clock) -> Any:
    """Return a way of writing that takes some seconds of a clock."""

    @contextlib.contextmanager
    def through(path: Path) -> Iterator[Path]:
        with whole(path) as temporary:
            yield temporary
        clock.now += cost

    return through


def train(checkpoints: Checkpoints, clock: Clock, seconds: float, step: float = 0.25) -> list[float]:
    """Step through so much time; return when checkpoints were begun. A thread has written before the next step."""
    begun, end = [], clock.now + seconds
    with checkpoints:
        while clock.now < end:
            clock.now += step
            if checkpoints.due():
                begun.append(clock.now)
                checkpoints.save({"weights": torch.zeros(4)})
                if checkpoints._writing is not None:
                    checkpoints._writing.exception()
    return begun


# --- when ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cost", "interval"), [(0.01, SHORTEST_S), (0.5, SHORTEST_S), (2.0, 40.0), (14.0, 280.0), (60.0, LONGEST_S)]
)
def test_the_interval_follows_the_cost_between_two_bounds(cost, interval, tmp_path):
    clock = Clock()
    checkpoints = Checkpoints(tmp_path / "c.npz", timed(cost, clock), spare=SCARCE, clock=clock)
    begun = train(checkpoints, clock, 2000)
    assert begun[0] == SHORTEST_S
    gaps = {round(later - earlier - cost, 6) for earlier, later in itertools.pairwise(begun)}
    assert min(gaps) >= interval and max(gaps) <= interval + 0.5  # a step, and the step in which the cost ends


@pytest.mark.parametrize("cost", [0.01, 0.5, 2.0, 14.0])
def test_checkpoints_take_no_more_than_their_share(cost, tmp_path):
    clock = Clock()
    checkpoints = Checkpoints(tmp_path / "c.npz", timed(cost, clock), spare=SCARCE, clock=clock)
    begun = train(checkpoints, clock, 5000)
    between = begun[-1] - begun[0]  # the first one comes before its cost is known
    assert checkpoints.stopped == pytest.approx(cost * len(begun))
    assert cost * (len(begun) - 1) <= SHARE * between


def test_one_every_ten_seconds_takes_more(tmp_path):
    """The counter-test: this is what the rule is there for."""
    clock = Clock()
    checkpoints = Checkpoints(tmp_path / "c.npz", timed(2.0, clock), every=10.0, spare=SCARCE, clock=clock)
    train(checkpoints, clock, 1000)
    assert checkpoints.stopped / clock.now > 3 * SHARE


def test_the_processor_time_of_the_writing_thread_is_part_of_the_cost(tmp_path):
    """With one core it is taken from training, although training never stands still."""
    clock, used = Clock(), iter(range(0, 10**6, 3))
    checkpoints = Checkpoints(tmp_path / "c.npz", spare=PLENTY, clock=clock, used=lambda: float(next(used)))
    begun = train(checkpoints, clock, 300)
    assert [later - earlier for earlier, later in itertools.pairwise(begun)] == [60.0] * (len(begun) - 1)
    assert len(begun) > 3 and checkpoints.stopped == 0


def test_a_slow_writing_brings_the_next_checkpoint_forward(tmp_path):
    """While one is written, a kill costs the work since the one before."""
    clock, used = Clock(), iter(range(0, 10**6, 100))
    through = timed(120.0, clock)
    checkpoints = Checkpoints(tmp_path / "c.npz", through, spare=PLENTY, clock=clock, used=lambda: float(next(used)))
    begun = train(checkpoints, clock, 3000)
    gaps = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert gaps and max(gaps) + 120 <= LONGEST_S + 0.5


def test_an_interval_of_the_user_holds_whatever_it_costs(tmp_path):
    clock = Clock()
    checkpoints = Checkpoints(tmp_path / "c.npz", timed(5.0, clock), every=1.0, spare=SCARCE, clock=clock)
    assert len(train(checkpoints, clock, 600)) == 100
    each = Checkpoints(tmp_path / "c.npz", every=0.0, spare=PLENTY, clock=clock)
    assert len(train(each, clock, 5, step=0.25)) == 20  # after every step


# --- by which thread ---------------------------------------------------------------------------------------------
class Gate:
    """A way of writing that waits until it is let through; `threads` has who wrote, and `failing` is raised."""

    def __init__(self, open_already: bool = False) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.threads: list[str] = []
        self.failing: Exception | None = None
        if open_already:
            self.open.set()

    @contextlib.contextmanager
    def __call__(self, path: Path) -> Iterator[Path]:
        self.threads.append(threading.current_thread().name)
        self.begun.set()
        assert self.open.wait(60)
        if self.failing is not None:
            raise self.failing
        with whole(path) as temporary:
            yield temporary


def test_training_goes_on_while_a_checkpoint_of_one_moment_is_written(tmp_path):
    path, gate, clock = tmp_path / "c.npz", Gate(), Clock()
    with Checkpoints(path, gate, spare=PLENTY, clock=clock) as checkpoints:
        weights, steps = torch.zeros(1000), [0]
        checkpoints.save({"weights": weights, "steps": steps})
        assert gate.begun.wait(60) and not path.exists()
        weights += 1  # the next step, in place
        steps.append(1)
        clock.now += 1000
        assert not checkpoints.due()  # one at a time
        gate.open.set()
    found = checkpoint.load(path)
    assert gate.threads[0].startswith(THREAD)
    assert not found["weights"].any() and found["steps"] == [0]


def test_a_snapshot_that_shares_memory_with_training_is_noticed(tmp_path, monkeypatch):
    """The counter-test of the one above."""
    monkeypatch.setattr(checkpoint, "_copied", lambda tensor, room: tensor)
    with pytest.raises(AssertionError):
        test_training_goes_on_while_a_checkpoint_of_one_moment_is_written(tmp_path)


def test_where_memory_is_short_training_waits(tmp_path):
    path, gate = tmp_path / "c.npz", Gate(open_already=True)
    weights = torch.zeros(1000)
    for spare, own in ((4096 * 2, False), (4096 * 2 - 1024, True)):  # a snapshot takes half of it at most
        with Checkpoints(path, gate, spare=lambda spare=spare: spare) as checkpoints:
            checkpoints.save({"weights": weights})
            assert path.exists() or not own
        assert (gate.threads[-1] == threading.main_thread().name) == own
        path.unlink()


def test_where_the_copy_finds_no_memory_training_waits(tmp_path, monkeypatch):
    def full(packed: Any, hosted: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(checkpoint, "snapshot", full)
    gate = Gate(open_already=True)
    with Checkpoints(tmp_path / "c.npz", gate, spare=PLENTY) as checkpoints:
        checkpoints.save({"weights": torch.zeros(1000)})
    assert gate.threads == [threading.main_thread().name] and (tmp_path / "c.npz").exists()


def test_the_last_checkpoint_of_a_stopped_training_is_on_disk_at_once(tmp_path):
    """Also where one is still being written: the last one comes after it."""
    path, gate = tmp_path / "c.npz", Gate()
    with Checkpoints(path, gate, spare=PLENTY) as checkpoints:
        checkpoints.save({"at": 1, "weights": torch.zeros(10)})
        assert gate.begun.wait(60)
        gate.open.set()
        checkpoints.save({"at": 2, "weights": torch.zeros(10)}, stopping=True)
        assert checkpoint.load(path)["at"] == 2
    assert len(gate.threads) == 2 and gate.threads[1] == threading.main_thread().name
    assert checkpoint.load(path)["at"] == 2


def test_one_that_is_asked_for_waits_for_the_one_before(tmp_path):
    path, gate = tmp_path / "c.npz", Gate()
    with Checkpoints(path, gate, every=0.0, spare=PLENTY) as checkpoints:
        checkpoints.save({"at": 1})
        assert gate.begun.wait(60) and checkpoints.due()
        gate.open.set()
        checkpoints.save({"at": 2})
        assert checkpoint.load(path)["at"] in (1, 2)
    assert checkpoint.load(path)["at"] == 2 and len(gate.threads) == 2


# --- what goes wrong ---------------------------------------------------------------------------------------------
def failing() -> Gate:
    """Return a way of writing that fails."""
    gate = Gate(open_already=True)
    gate.failing = DataError("no space left", "Free some")
    return gate


def test_a_failed_writing_is_told_at_the_next_step(tmp_path):
    with (
        pytest.raises(DataError, match="no space left"),
        Checkpoints(tmp_path / "c.npz", failing(), spare=PLENTY) as checkpoints,
    ):
        checkpoints.save({"at": 1})
        checkpoints._writing.exception()
        checkpoints.due()
        raise AssertionError("it goes on")


@pytest.mark.parametrize("how", ["at the end", "at the next checkpoint", "when it stops"])
def test_a_failed_writing_is_told_without_a_next_step(how, tmp_path):
    with (
        pytest.raises(DataError, match="no space left"),
        Checkpoints(tmp_path / "c.npz", failing(), spare=PLENTY) as checkpoints,
    ):
        checkpoints.save({"at": 1})
        if how != "at the end":
            checkpoints.save({"at": 2}, stopping=how == "when it stops")
            raise AssertionError("it goes on")


def test_what_ended_training_is_told_rather_than_a_failed_writing(tmp_path):
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path / "c.npz", failing(), spare=PLENTY) as checkpoints:
        checkpoints.save({"at": 1})
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_writing_in_hand_is_waited_for_whatever_ended_training(error, tmp_path):
    path, gate = tmp_path / "c.npz", Gate()
    with pytest.raises(error), Checkpoints(path, gate, spare=PLENTY) as checkpoints:
        checkpoints.save({"at": 1})
        assert gate.begun.wait(60)
        threading.Timer(0.05, gate.open.set).start()
        raise error
    assert checkpoint.load(path)["at"] == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


# --- memory ------------------------------------------------------------------------------------------------------
def test_file_pages_count_as_spare_memory_and_limits_are_kept(tmp_path, monkeypatch):
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal: 900 kB\nMemFree: 10 kB\nMemAvailable:     500 kB\n", encoding="ascii")
    monkeypatch.setattr(saving, "granted_bytes", lambda: 2**50)
    assert spare_bytes(facts) == 500 * 1024
    monkeypatch.setattr(saving, "granted_bytes", lambda: 77)
    assert spare_bytes(facts) == 77
    monkeypatch.setattr(saving, "free_bytes", lambda device: 33)
    for content in ("", "MemFree: 10 kB\n", "nonsense", "MemAvailable: many kB\n"):
        facts.write_text(content, encoding="ascii")
        assert spare_bytes(facts) == 33
    assert spare_bytes(tmp_path / "missing") == 33
