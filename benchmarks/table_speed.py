"""Time and memory of scoring and tables at full size: 400 runs of 7,000 test samples, on one core.

    OMP_NUM_THREADS=1 python benchmarks/table_speed.py --folder speed

writes the runs of 8 datasets x 10 methods x 5 seeds below the folder (unless they are there; about 2 GB), then makes
all tables from them in a child process and prints its seconds and its greatest memory.
"""

from __future__ import annotations

import argparse
import logging
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import fake_runs

log = logging.getLogger("table_speed")


def methods(count: int) -> list[fake_runs.FakeMethod]:
    """Return the default grid, and variants of its last row up to `count`."""
    found = fake_runs.default_methods()
    like = found[4]
    more = [fake_runs.FakeMethod(f"variant_{k}", "ogm_ge", like.accuracy, like.probe) for k in range(99)]
    for k, one in enumerate(more):
        one.params = {"alpha": 0.01 * k}
    return [*found, *more][:count]


def main() -> None:
    """Write the runs, make the tables, print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("speed"))
    parser.add_argument("--datasets", type=int, default=8)
    parser.add_argument("--methods", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=7000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.child:
        from mmlbench.analysis.all_tables import make_frame

        began, busy = time.monotonic(), time.process_time()
        text, *_ = make_frame(options.folder, options.folder / "cache")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        spent, passed, rows = time.process_time() - busy, time.monotonic() - began, len(text.splitlines()) - 1
        log.info(f"{rows} rows: {spent:.1f} s of one core ({passed:.1f} s by the clock), {memory:.2f} GiB")
        return
    if not (options.folder / "plan.json").exists():
        groups = [
            fake_runs.FakeGroup(
                dataset=f"data{k}",
                split="official",
                classes=options.classes,
                counts=(0, options.samples),
                groups=(),
                seeds=tuple(range(options.seeds)),
                epochs=20,
                methods=methods(options.methods),
            )
            for k in range(options.datasets)
        ]
        fake_runs.write_study(options.folder, groups)
    subprocess.run([sys.executable, __file__, "--child", "--folder", str(options.folder)], check=True)


if __name__ == "__main__":
    main()
