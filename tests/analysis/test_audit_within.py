"""Near-duplicates within one part are found, and offered as groups that the intervals of the tables take."""

from __future__ import annotations

import csv
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused
from fake_runs import small
from planted_findings import CLASSES, by_id, planted_cache
from report_rows import bits, one

from mmlbench.analysis.audit import audit_text
from mmlbench.analysis.rows import parse_rows
from mmlbench.audit import audit_cache, groups_of
from mmlbench.dataset import CacheWriter, Dataset, Modality, Sample, Split
from mmlbench.prepare.cache import Cache
from mmlbench.stats import proportion
from mmlbench.study.regroup import GROUP_COLUMNS


class Alike(Dataset):
    """Test samples t0-t9: t1 a re-encoded t0, t3 has a view of t2, t5 is the row of t4, t7 sounds like t6."""

    name = "alike"
    modalities = (Modality("picture", (1, 40, 30), "image", views=2), Modality("signal", (1, 300), "signal"))
    class_names = CLASSES
    splits = {
        "plain": Split("alike", {"train": 4, "test": 10}),
        "scenes": Split("alike", {"train": 4, "test": 10}, group="scene"),
    }
    licence = citation = origin = "none"

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Fill the arrays."""
        rng = np.random.default_rng(7)
        picture = out.array("picture", 14, "uint8")
        smooth = rng.normal(size=(14, 2, 1, 5, 5)).repeat(8, axis=3).repeat(6, axis=4)
        picture[:] = np.clip(128 + 40 * smooth + rng.normal(0, 6, picture.shape), 0, 255)

        def again(row: int) -> np.ndarray:
            return np.clip(picture[row] * 0.9 + rng.normal(0, 2, picture[row].shape), 0, 255)

        picture[1] = again(0)
        picture[3, 1] = picture[2, 0]
        picture[11] = again(10)  # in train
        signal = out.array("signal", 14, "float16")
        signal[:] = np.cumsum(rng.normal(size=signal.shape), axis=-1)
        signal[7] = signal[6] + rng.normal(0, 0.05, 300)
        rows = [(k, k) for k in range(10)]
        rows[5] = (4, 5)
        tests = [(f"t{k}", "test", rows[k]) for k in range(10)] + [
            (f"a{k}", "train", (k + 10, k + 10)) for k in range(4)
        ]
        scenes = {"t0": "beach", "t1": "beach", "t2": "road", "t6": "road", "t8": "wood"}
        for split in ("plain", "scenes"):
            named = scenes if split == "scenes" else {}
            out.split(
                split, [Sample(n, part, k % 2, row, named.get(n, "")) for k, (n, part, row) in enumerate(tests)]
            )


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return planted_cache(Alike(), tmp_path_factory.mktemp("alike"))


def test_alike_rows_of_one_part_are_found(alike: Cache) -> None:
    by = by_id(audit_cache(alike, "plain", None))
    near, same = by["near", "test", "picture"], by["bytes", "test", "picture"]
    assert (near.examples, near.found, near.among, near.level) == (("t0~t1",), 1, 9, "fault")
    independent = "which the intervals take as independent"
    assert near.message == f"1 row of picture in test nearly the same as another there, {independent}"
    shared = by["rows", "test", "picture"]
    assert (shared.examples, shared.level, shared.found) == (("t4=t5",), "fault", 1)
    assert shared.message == f"1 sample of test with a row of picture that another there has too, {independent}"
    assert by["rows", "test", "signal"].level == "ok" and ("rows", "train", "picture") not in by
    assert (same.examples, same.level) == (("t2=t3",), "fault")
    assert by["near", "test", "signal"].examples == ("t6~t7",)
    assert by["bytes", "test", "signal"].level == "ok"
    assert (by["near", "train", "picture"].level, by["near", "train", "picture"].examples) == ("note", ("a0~a1",))
    lines = audit_text({("alike", "plain"): audit_cache(alike, "plain", None)}, "alike", "plain").lines
    assert any(independent in line for line in lines)


def test_a_declared_group_says_it_already(alike: Cache) -> None:
    by = by_id(audit_cache(alike, "scenes", "scene"))
    assert by["near", "test", "picture"].level == "ok", "t0 and t1 are of one scene"
    assert by["bytes", "test", "picture"].examples == ("t2=t3",)


def test_groups_hold_what_hangs_together(alike: Cache) -> None:
    alone = {f"t{k}": f"t{k}" for k in range(10)}
    assert groups_of(alike, "plain") == alone | {"t1": "t0", "t3": "t2", "t5": "t4", "t7": "t6"}
    found = groups_of(alike, "scenes")
    assert found["t0"] == found["t1"] == "beach" and found["t8"] == "wood" and found["t9"] == "t9"
    assert found["t2"] == found["t3"] == found["t6"] == found["t7"] == "road"


@pytest.mark.slow
def test_the_groups_of_an_audit_are_what_the_tables_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmlbench.cli import main

    arguments = ["audit", "gabor_nuisance", "--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "r")]
    file = tmp_path / "groups.csv"
    assert "no prepared cache" in refused(capsys, *arguments, "--groups", file)
    fake_runs.write_study(tmp_path, [small(groups=())])
    names = [f"test-{k:04d}" for k in range(80)]
    with file.open("w", newline="") as out:
        lines = [["avdigits", "speaker", name, f"twin{k // 2}"] for k, name in enumerate(names)]
        csv.writer(out, lineterminator="\n").writerows([GROUP_COLUMNS, *lines])
    assert main(["tables", "--results", str(tmp_path), "--cache", str(tmp_path), "--groups", str(file)]) == 0
    rows = parse_rows((tmp_path / "all_tables.csv").read_text())
    row = one(rows, label="joint", metric="accuracy", kind="fused")
    wanted = proportion(bits(tmp_path, "joint", "last/test/fused"), np.arange(80) // 2)
    assert (row.ci_low, row.ci_high) == pytest.approx((wanted.ci_low, wanted.ci_high), rel=1e-5)
    assert "interval over 40 near-duplicate groups" in row.note and not [r for r in rows if r.table == "groups"]
    text = file.read_text()
    for bad, why in (
        (
            text.replace("test-0007", "test-9999"),
            "1 of 80 test samples of avdigits/speaker without a group, such as test-0007",
        ),
        (text.replace("id,group", "name,group"), "does not have the columns"),
        (text.replace(",twin3\n", ",\n", 1), "line 8 lacks one of"),
    ):
        file.write_text(bad)
        assert why in refused(capsys, "tables", "--results", tmp_path, "--cache", tmp_path, "--groups", file)
    assert "can't be read" in refused(capsys, "tables", "--results", tmp_path, "--groups", tmp_path / "none.csv")
