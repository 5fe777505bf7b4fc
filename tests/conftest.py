"""What all tests share: an index of their own, and a tiny dataset that is prepared once.

`tiny` is the fixture for whoever needs runs: datasets of 76 samples (`tiny`, `tiny3` with three modalities,
`tiny_lab` with ids, sequences and vectors) and two of other tasks, prepared once a session, and one call from a
method's name to a complete run folder::

    def test_something(tiny, tmp_path):
        run = tiny.run("joint", tmp_path, seed=1, recipe={"epochs": 3}, params={"fusion": "sum"})  # 0.3 s
        assert main(["train", *tiny.words("joint", tmp_path)]) == 0  # by options, as a user would

Keyword arguments are those of `mmlbench.testing.tiny_spec`. Nothing that a test writes may lie in the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmlbench.system import arithmetic

# Before numpy and torch are loaded: then both kinds of runs can be made in this very process. The settings are those
# of a user, who may compute natively under them.
if not arithmetic.why_not_portable():
    os.environ.update(arithmetic.settings())
    arithmetic._at_start.update(arithmetic.settings())

from warm_children import WarmChildren

from mmlbench import plugins, registry
from mmlbench import testing as tiny_tests
from mmlbench.api.making import ensure_cache, make_run
from mmlbench.prepare.cache import Cache
from mmlbench.registry import index
from mmlbench.results.run_folder import RunFolder
from mmlbench.study import plan_check
from mmlbench.study.run_spec import RunSpec

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take one of several parts of the tests that were chosen (`--part 2/3`), and renew the golden files."""
    parser.addoption("--part", default="1/1", metavar="K/N")
    parser.addoption("--update-golden", action="store_true", help="write tests/report/golden anew, to be read")


#: Where the hash of names starts: of a few numbers the one that makes the quarters of the slow tests most alike.
START = 1


def part_of(item: pytest.Item, parts: int) -> int:
    """Return which part, from 1 on, a test belongs to: by its name alone, so that a new test moves no other.

    The tests of a file that is slow as a whole stay together, for they share what is slow to set up.
    """
    together = item.parent is not None and any(mark.name == "slow" for mark in item.parent.own_markers)
    name = item.parent.nodeid if item.parent is not None and together else item.nodeid
    return zlib.crc32(name.encode(), START) % parts + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the other parts out, and count them as deselected.

    Raises:
        UsageError: the option is not two numbers, the first of them at most the second.
    """
    number, _, parts = config.getoption("--part").partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise pytest.UsageError("--part takes K/N, such as 2/3")
    others = [item for item in items if part_of(item, int(parts)) != int(number)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if part_of(item, int(parts)) == int(number)]


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return a folder that the workers of a session share."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


@pytest.fixture(scope="session", autouse=True)
def own_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the plug-in index of the tests apart from the user's; the workers of a session share one."""
    folder = shared_folder(tmp_path_factory, "index")
    before = os.environ.get("MMLBENCH_INDEX")
    os.environ["MMLBENCH_INDEX"] = str(folder)
    yield folder
    if before is None:
        os.environ.pop("MMLBENCH_INDEX")
    else:
        os.environ["MMLBENCH_INDEX"] = before


@pytest.fixture(scope="session", autouse=True)
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the workers of a session share the clips that they encode for miniatures (tests/support/mini_av.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINI_AV_CLIPS", str(shared_folder(tmp_path_factory, "clips")))
        yield


@dataclass(frozen=True)
class TinyWorld:
    """The tiny datasets, prepared in `cache` (never to be written to: copy it to damage it)."""

    cache: Path

    def spec(self, method: str, **options: Any) -> RunSpec:
        """Return a run; see `mmlbench.testing.tiny_spec` for the options."""
        return tiny_tests.tiny_spec(method, **options)

    def run(self, method: str, results: Path, cache: Path | None = None, **options: Any) -> RunFolder:
        """Make a run below `results` and open it."""
        spec = self.spec(method, **options)
        make_run(spec, index.load_index(), results, cache or self.cache, device="cpu")
        return RunFolder.open(results / spec.path)

    def words(self, method: str, results: Path, dataset: str = "tiny", cache: Path | None = None) -> list[str]:
        """Return the options of `mmlbench train` that make the run of seed 0."""
        words = ["--dataset", dataset, "--method", method, "--results", str(results), "--device", "cpu"]
        words += ["--cache", str(cache or self.cache), "--plugins", str(tiny_tests.PLUGINS)]
        for name, value in tiny_tests.FEW_EPOCHS.items():
            words += ["--recipe-set", f"{name}={value}"]
        return words


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Return the tiny datasets, prepared (see the head of this file)."""
    cache = tmp_path_factory.mktemp("tiny") / "cache"
    index.use_plugins([tiny_tests.PLUGINS])
    known = index.load_index()
    for name in ("tiny", "tiny3", "tiny_lab", "tiny_number", "tiny_labels"):
        ensure_cache(name, {}, cache, known)
    return TinyWorld(cache)


@pytest.fixture(scope="module", autouse=True)
def folders_of_a_module() -> Iterator[None]:
    """Forget the folders with plug-ins that a module named, but for the tiny datasets' (`tiny` names it once).

    Another module's tests would see them, and a plug-in there hide one of theirs.
    """
    before, tiny_folder = list(plugins.__path__), str(tiny_tests.PLUGINS.resolve())
    yield
    plugins.__path__[:] = [folder for folder in plugins.__path__ if folder in before or folder == tiny_folder]
    os.environ[plugins.VARIABLE] = os.pathsep.join(plugins.__path__)


@pytest.fixture(scope="session", autouse=True)
def warm_children() -> Iterator[WarmChildren]:
    """Let the children that describe plug-ins and try settings out be forks of a process that has torch."""
    children = WarmChildren()
    with pytest.MonkeyPatch.context() as patch:
        for module in (index, plan_check):
            patch.setattr(module, "subprocess", children.module)
        yield children
    children.close()


@pytest.fixture
def real_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these children be started as a user's are."""
    for module in (index, plan_check):
        monkeypatch.setattr(module, "subprocess", subprocess)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Cache]:
    """Return a function that prepares a shipped dataset unless a test has done so, and opens it (for reading)."""
    root = shared_folder(tmp_path_factory, "embedded")
    return lambda name: ensure_cache(name, {}, root, index.load_index())


@pytest.fixture
def plugin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder for plug-in files; afterwards nothing of them is left in this process."""
    folder = tmp_path / "plugin_folder"
    folder.mkdir()
    before = set(sys.modules)
    known, by_module = dict(registry._registered), dict(registry._by_module)
    monkeypatch.setattr(plugins, "__path__", list(plugins.__path__))
    monkeypatch.setenv(plugins.VARIABLE, os.environ.get(plugins.VARIABLE, ""))
    yield folder
    gone = [name for name in set(sys.modules) - before if _lies_in(tmp_path, sys.modules[name])]
    for table, old in ((registry._registered, known), (registry._by_module, by_module)):
        for key in set(table) - set(old):
            if any(cls.__module__ in gone for cls in _classes(table[key])):
                del table[key]
    for name in gone:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if hasattr(sys.modules.get(parent), child):
            delattr(sys.modules[parent], child)


def _lies_in(folder: Path, module: Any) -> bool:
    return (getattr(module, "__file__", None) or "").startswith(str(folder))


def _classes(value: Any) -> list[type]:
    return value if isinstance(value, list) else [value]
