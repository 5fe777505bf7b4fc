"""Does this machine print our digits? Makes runs in portable arithmetic and compares them with committed digests.

    python tools/check_bits.py              # config/quick.yaml, and each method on the tiny dataset: some minutes
    python tools/check_bits.py --only tiny  # each method on the tiny dataset alone: seconds
    python tools/check_bits.py --update     # writes the digests anew, after a change that is meant to change numbers

The digests (tools/bits.json) are those of the prepared arrays, of a run's first moments, of each epoch and of the
files whose bytes configuration, data and code determine. The first that differs says where two machines part. What is
left out of run.json says how it came about, not what: code, packages, hashes of what is compared by itself.

Each kind of CPU that was tried is listed, with the digests that it has not printed as they stand there.

Exit code: 0 they agree, or nothing can be said here: what differs was never printed so by this kind of CPU, or it
can't compute portably, or other versions of the packages are installed; 1 another difference, or digests that are not
those of the runs;
2 the digests can't be read, or a setting of the environment contradicts portable arithmetic.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmlbench.errors import DataError, MmlbenchError  # noqa: E402
from mmlbench.storage.atomic import read_json  # noqa: E402
from mmlbench.storage.hashing import digest, file_digest  # noqa: E402
from mmlbench.study.run_spec import RunSpec  # noqa: E402
from mmlbench.system import arithmetic  # noqa: E402
from mmlbench.system.device import cores  # noqa: E402

BITS = ROOT / "tools" / "bits.json"
#: Packages whose versions decide bits.
PACKAGES = ("torch", "numpy")
PARTS = ("quick", "tiny")
#: Keys of run.json that say how a run came about, or hash what is compared by itself.
FREE = ("code", "packages", "record_hash", "files", "data_fingerprint", "requires", "contents")
#: Files that are compared whole; history.csv is compared epoch by epoch.
FILES = ("predictions.npz", "epochs.npz", "probe.npz", "weights-last.npz", "weights-val.npz")

#: Says what was asked for and what came of it; what was computed stands in the other files.
RECORD = "run.json"
#: What is said of a run that only one side has.
NOT_MADE, NOT_KNOWN = "not made here", "not among the digests (renew them: --update)"


@dataclass(frozen=True)
class Cpu:
    """A kind of CPU, as Linux counts them.

    Attributes:
        name: for people. untried: run -> the names of its digests that this kind has not printed as they stand.
    """

    vendor: str
    family: int
    model: int
    name: str
    untried: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[str, int, int]:
        """What tells two kinds apart."""
        return self.vendor, self.family, self.model


def this_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Return the CPU of this machine; of no vendor where Linux does not tell."""
    found: dict[str, str] = {}
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").split("\n\n")[0].splitlines())
        found = {key.strip(): value.strip() for key, _, value in lines}
    numbers = [int(found.get(key, "-1")) for key in ("cpu family", "model")]
    return Cpu(found.get("vendor_id", ""), numbers[0], numbers[1], found.get("model name", "unknown"))


@dataclass(frozen=True)
class Bits:
    """The digests of one machine.

    Attributes:
        packages: name -> version. cpus: kinds of CPU that print the digests, but for those that they name.
        runs: run -> what was computed, in its order -> digest; a prepared dataset is a run of its own.
    """

    packages: Mapping[str, str]
    cpus: Sequence[Cpu]
    runs: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, path: Path) -> Bits:
        """Read a file that `write` wrote.

        Raises:
            DataError: it is missing or damaged.
        """
        found = read_json(path)
        try:
            runs = {run: dict(one) for run, one in found["runs"].items()}
            untried = [{run: list(names) for run, names in cpu["untried"].items()} for cpu in found["cpus"]]
            cpus = [Cpu(**{**cpu, "untried": one}) for cpu, one in zip(found["cpus"], untried, strict=True)]
            return cls(dict(found["packages"]), cpus, runs)
        except (AttributeError, KeyError, TypeError, ValueError):
            fix = "Name another with --digests, or restore it: git checkout tools/bits.json"
            raise DataError(f"{path} holds no digests", fix) from None

    def write(self, path: Path) -> None:
        """Write them as JSON; the order within a run is kept."""
        plain = {"packages": self.packages, "cpus": [vars(cpu) for cpu in self.cpus], "runs": self.runs}
        path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def installed() -> dict[str, str]:
    """Return the versions that decide bits; which GPUs torch is built for does not."""
    return {name: version(name).partition("+")[0] for name in PACKAGES}


# ---- making ----------------------------------------------------------------------------------------------------
def chains(parts: Sequence[str], known: Container[str] | None = None) -> list[list[RunSpec]]:
    """Return the runs, in lists that can be made side by side; what a run reuses stands before it.

    Args:
        known: methods of the tiny dataset's runs; None for all that there are.
    """
    from mmlbench import testing
    from mmlbench.registry.index import load_index
    from mmlbench.study.config import read_study

    found: dict[str, list[RunSpec]] = {}
    if "quick" in parts:
        for spec in read_study(ROOT / "config" / "quick.yaml").runs:
            found.setdefault(f"quick {spec.config.seed}", []).append(spec)
    if "tiny" in parts:
        index = load_index()
        names = [entry.name for entry in index.of("method") if Path(entry.path).is_relative_to(ROOT / "methods")]
        if known is not None:  # a method of the user's own has no digests to be compared with
            names = [name for name in names if name in known]
        found["tiny"] = [testing.tiny_spec(name, recipe={"arithmetic": "portable"}) for name in names]
    return [list(_ordered(specs)) for specs in found.values()]


def _ordered(specs: Sequence[RunSpec]) -> Iterator[RunSpec]:
    done: set[str] = set()
    for spec in specs:
        for one in (*spec.requires.values(), spec):
            if str(one.path) not in done:
                done.add(str(one.path))
                yield one


def make(specs: Sequence[RunSpec], work: Path) -> dict[str, dict[str, str]]:
    """Make some runs below a folder, in this process; return run -> what was computed -> digest."""
    import torch

    from mmlbench.api.making import ensure_cache
    from mmlbench.registry.index import load_index
    from mmlbench.train.runner import Runner
    from mmlbench.train.trace import Trace

    index, found = load_index(), {}
    for spec in specs:
        config, trace = spec.config, Trace()
        cache = ensure_cache(config.dataset, config.dataset_params, work / "cache", index)
        arrays = {f"{name}.npy": facts["sha256"][:16] for name, facts in cache.manifest["arrays"].items()}
        splits = {f"split-{name}.csv": facts["sha256"][:16] for name, facts in cache.manifest["splits"].items()}
        standard = {name: facts["standardise"] for name, facts in cache.manifest["splits"].items()}
        found[f"{config.dataset}, prepared"] = arrays | splits | {"standardisation": digest(standard)[:16]}
        Runner(spec, index, work / "results", cache, torch.device("cpu"), lambda line: None, trace=trace).run()
        name = f"{config.dataset}/{config.split}/{config.method}, seed {config.seed}"
        found[name] = trace.digests | digests(work / "results" / spec.path)
    return found


def digests(folder: Path) -> dict[str, str]:
    """Return what a complete run folder holds, in the order in which it was computed -> digest."""
    epochs: dict[str, list[list[str]]] = {}
    for row in csv.reader(io.StringIO((folder / "history.csv").read_text(encoding="utf-8"))):
        if row[1] != "epoch":
            epochs.setdefault(f"stage {row[0]}, epoch {int(row[1]) + 1}", []).append(row)
    found = {name: digest(rows)[:16] for name, rows in epochs.items()}
    found |= {name: file_digest(folder / name)[:16] for name in FILES if (folder / name).exists()}
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return found | {RECORD: digest({key: value for key, value in record.items() if key not in FREE})[:16]}


def make_all(
    parts: Sequence[str], work: Path, cores: int, known: Container[str] | None = None
) -> dict[str, dict[str, str]]:
    """Make all runs of some parts in as many processes as there are cores; `known` is as in `chains`."""
    found: dict[str, dict[str, str]] = {}
    lists = chains(parts, known)
    make([], work)  # what they share is imported before they part
    with ProcessPoolExecutor(max_workers=cores) as pool:
        for made in pool.map(make, lists, [work] * len(lists)):
            found |= made
    return dict(sorted(found.items()))


# ---- comparing -------------------------------------------------------------------------------------------------
def differences(
    wanted: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Return run -> the names of the digests that differ, in their order; of runs that only one side has, that."""
    parted: dict[str, list[str]] = {}
    for run in [*wanted, *(name for name in found if name not in wanted)]:
        if run not in found or run not in wanted:
            parted[run] = [NOT_MADE if run not in found else NOT_KNOWN]
            continue
        names = [*wanted[run], *(name for name in found[run] if name not in wanted[run])]
        if some := [name for name in names if wanted[run].get(name) != found[run].get(name)]:
            parted[run] = some
    return parted


def report(bits: Bits, found: Mapping[str, Mapping[str, str]], parts: Sequence[str]) -> int:
    """Say what differs; return the exit code: 1 where a kind of CPU printed these digests before."""
    wanted = {run: one for run, one in bits.runs.items() if ("tiny" if run.startswith("tiny") else "quick") in parts}
    count = sum(len(one) for one in wanted.values())
    parted, cpu = differences(wanted, found), this_cpu()
    if not parted:
        sys.stdout.write(f"{count} of {count} digests of {len(wanted)} runs and datasets agree on {cpu.name}\n")
        return 0
    for run, (first, *_) in parted.items():
        sys.stdout.write(
            f"{run}: {first}\n" if first in (NOT_MADE, NOT_KNOWN) else f"{run}: differs from {first} on\n"
        )
    tried = next((one for one in bits.cpus if one.kind == cpu.kind), None)
    faults = [run for run, names in parted.items() if tried and not untried(tried, run, names)]
    sys.stdout.write(
        f"{len(parted)} of {len({**wanted, **found})} differ on {cpu.name}, "
        + (f"which printed {len(faults)} of them before: this is a fault\n" if faults
           else "which never printed them so\n" if tried
           else "on which nobody has tried it yet\n")
    )  # fmt: skip
    return int(bool(faults))


def untried(cpu: Cpu, run: str, names: Sequence[str]) -> bool:
    """Tell whether a kind of CPU never printed some digests of a run; run.json follows from what was computed."""
    computed_otherwise = set(names) - {RECORD}
    return bool(computed_otherwise) and computed_otherwise <= set(cpu.untried.get(run, ()))


def renewed(before: Bits | None, found: Mapping[str, Mapping[str, str]], here: Cpu) -> Bits:
    """Return what `--update` writes: the digests of this machine, and which kinds of CPU print them.

    Digests that differ here as they did before stay, but for run.json, which says what was asked for and not what was
    computed. So does the word of the other kinds of CPU: a digest that is new is untried by them.
    """
    if before is None or before.packages != installed():
        return Bits(installed(), [here], found)
    apart = next((cpu.untried for cpu in before.cpus if cpu.kind == here.kind), {})
    runs = {run: dict(one) for run, one in found.items()}
    for run in sorted(apart.keys() & runs.keys() & before.runs.keys()):
        kept = {name: value for name, value in before.runs[run].items() if name in apart[run] and name != RECORD}
        if computed(before.runs[run]) == computed({**runs[run], **kept}):  # else the edit made all of it new
            runs[run] = {**before.runs[run], RECORD: runs[run].get(RECORD, "")}
    new = {run: changed(before.runs.get(run, {}), one) for run, one in runs.items()}
    mine = {run: changed(found[run], one) for run, one in runs.items()}
    cpus = [replace(here, untried={run: names for run, names in mine.items() if names})]
    for cpu in before.cpus:
        both = {run: [name for name in one if name in cpu.untried.get(run, ()) or name in new[run]]
                for run, one in runs.items()}  # fmt: skip
        if cpu.kind != here.kind and any(len(both[run]) < len(computed(one)) for run, one in runs.items()):
            cpus.append(replace(cpu, untried={run: names for run, names in both.items() if names}))
    return Bits(installed(), cpus, runs)


def changed(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names of what the second run computed otherwise than the first."""
    return [name for name, value in computed(other).items() if one.get(name) != value]


def computed(run: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of what a run computed, without run.json."""
    return {name: value for name, value in run.items() if name != RECORD}


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="make this part alone")
    parser.add_argument("--update", action="store_true", help="write the digests of this machine")
    parser.add_argument("--digests", type=Path, default=BITS, metavar="FILE", help="to compare with, or to write")
    parser.add_argument("--cores", type=int, default=cores(), help="processes (default: all)")
    words = parser.parse_args()
    if words.only and words.update:
        parser.error("--update writes the digests of all parts: leave out --only")
    if reason := arithmetic.why_not_portable():
        sys.stdout.write(f"not applicable: {reason}, so that runs are made in native arithmetic here\n")
        return 0
    arithmetic.may_start_anew([sys.executable, *sys.orig_argv[1:]])
    try:
        arithmetic.enter(arithmetic.PORTABLE)
        before = Bits.read(words.digests) if words.digests.exists() or not words.update else None
    except MmlbenchError as error:
        sys.stderr.write(f"check_bits: {error}\n")
        return error.exit_code
    parts = [words.only] if words.only else list(PARTS)
    known = None
    if before is not None and not words.update:
        if before.packages != installed():
            sys.stdout.write(f"not comparable: the digests are of {before.packages}, here is {installed()}\n")
            return 0
        known = {match[1] for run in before.runs if (match := re.search(r"/(\w+), seed", run))}
    work = Path(tempfile.mkdtemp(prefix="mmlbench-bits-"))
    try:
        found = make_all(parts, work, words.cores, known)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if words.update or before is None:
        renewed(before, found, this_cpu()).write(words.digests)
        return 0
    return report(before, found, parts)


if __name__ == "__main__":
    sys.exit(main())
