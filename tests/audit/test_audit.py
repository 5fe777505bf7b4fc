"""The split audit: every kind of overlap and fault is planted in small lists and arrays, and found."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from planted_findings import CLASSES, by_id, planted_cache

from mmlbench.analysis.audit import AuditText, audit_text, read_audit
from mmlbench.audit import (
    Finding,
    audit_cache,
    audit_lists,
    audited,
    check_known,
    frame_findings,
    from_csv,
    is_official,
    list_counts,
    to_csv,
)
from mmlbench.audit.content import Stored, downsample
from mmlbench.cli import main
from mmlbench.dataset import CacheWriter, Dataset, KnownLists, Modality, Sample, Split
from mmlbench.errors import DataError
from mmlbench.modality import type_of
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.task import Classification
from mmlbench.testing import PLUGINS

if TYPE_CHECKING:
    from conftest import TinyWorld


def listed(text: str) -> list[Sample]:
    """Return samples from lines 'part id label group'."""
    rows = [line.split() for line in text.strip().splitlines()]
    return [Sample(id, part, int(label), (), group if group != "-" else "") for part, id, label, group in rows]


CLEAN = """
train a0 0 ann
train a1 1 ann
val b0 0 bob
val b1 1 bob
test c0 0 cid
test c1 1 cid
"""


def only(findings: list[Finding], check: str, parts: str = "", level: str = "") -> list[Finding]:
    """Return the findings of one kind."""
    return [f for f in findings if f.check == check and parts in ("", f.parts) and level in ("", f.level)]


def one(findings: list[Finding], check: str, parts: str, level: str = "") -> Finding:
    """Return the one finding of a kind."""
    (found,) = only(findings, check, parts, level)
    return found


def test_clean_lists_have_nothing_grave() -> None:
    found = audit_lists(listed(CLEAN), Classification(CLASSES), "speaker")
    assert {f.level for f in found} == {"ok", "note"}
    assert one(found, "groups", "train+test").message == "no speaker in both train and test"
    assert one(found, "labels", "train+val+test").found == 0


def test_an_id_in_two_parts_is_a_leak() -> None:
    found = audit_lists(listed(CLEAN + "test a0 0 dan"), Classification(CLASSES))
    leak = one(found, "ids", "train+test")
    assert (leak.found, leak.among, leak.level, leak.examples) == (1, 3, "leak", ("a0",))
    assert not only(found, "labels", level="fault")


def test_a_shared_group_is_a_leak_and_counted_against_the_later_part() -> None:
    found = audit_lists(listed(CLEAN + "test c2 0 ann\ntest c3 1 ann"), Classification(CLASSES), "speaker")
    leak = one(found, "groups", "train+test")
    assert (leak.found, leak.among, leak.examples) == (1, 2, ("ann",))
    assert leak.message == "1 of the 2 speakers of test is also in train (2 of 4 samples)"
    assert one(found, "groups", "train+val").level == "ok"


def test_conflicting_labels_within_a_part_and_between_two() -> None:
    found = audit_lists(listed(CLEAN + "train a0 1 ann\nval a1 0 ann"), Classification(CLASSES))
    assert one(found, "labels", "train").examples == ("a0",)
    assert one(found, "labels", "train+val").examples == ("a1",)
    assert one(found, "repeats", "train").found == 1
    assert not only(found, "labels", level="ok")


def test_repeats_without_a_conflict() -> None:
    found = audit_lists(listed(CLEAN + "test c0 0 cid"), Classification(CLASSES))
    assert one(found, "repeats", "test").level == "fault"
    assert one(found, "labels", "train+val+test").level == "ok"


def test_a_lacking_class_a_wrong_label_and_a_sample_without_group() -> None:
    found = audit_lists(
        listed("train a 0 -\ntrain b 1 ann\ntrain c 5 ann\ntest d 1 eve"), Classification(CLASSES), "speaker"
    )
    assert one(found, "balance", "test", "fault").examples == ("cat",)
    assert one(found, "labels", "train+test", "fault").examples == ("c",)
    assert one(found, "ungrouped", "train").examples == ("a",)
    assert one(found, "groups", "train+test").level == "ok"


def test_balance_names_the_rarest_and_the_commonest_class() -> None:
    found = audit_lists(
        listed("train a 0 -\ntrain b 1 -\ntrain c 1 -\ntrain d 1 -\ntest e 0 -\ntest f 1 -"), Classification(CLASSES)
    )
    message = one(found, "balance", "train").message
    assert message == "train: 1 (cat) to 3 (dog) samples per class, the commonest 75.0% of the part"


def test_frames_that_pickers_treat_differently() -> None:
    found = list(frame_findings("test", "visual", {"one": 1, "three": 3, "four": 4, "five": 5}, 6))
    three = found[2]
    assert (three.of, three.found, three.among) == ("visual x 3", 3, 4)
    assert (three.level, three.examples) == ("note", ("one",))
    assert "2 clips have more" in three.message and "1 have exactly these; 1 have fewer" in three.message
    assert found[0].level == "note"


# ---- content -----------------------------------------------------------------------------------------------------
class Planted(Dataset):
    """Pictures and signals with every kind of shared content planted; rows 0-5 train, 6-11 test."""

    name = "planted"
    modalities = (Modality("picture", (3, 40, 30), "image", views=3), Modality("signal", (1, 300), "signal"))
    class_names = CLASSES
    splits = {"s": Split("planted", {"train": 6, "test": 6}, group="scene")}
    licence = citation = origin = "none"

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Fill the arrays."""
        rng = np.random.default_rng(5)
        picture = out.array("picture", 12, "uint8")
        smooth = rng.normal(size=(12, 3, 3, 5, 5)).repeat(8, axis=3).repeat(6, axis=4)
        picture[:] = np.clip(128 + 40 * smooth + rng.normal(0, 6, picture.shape), 0, 255)
        picture[7] = picture[1]  # byte for byte
        picture[8] = np.clip(picture[2] * 0.9 + rng.normal(0, 2, picture[2].shape), 0, 255)  # coded again, darker
        picture[9] = 0  # black
        picture[10, 2] = picture[4, 1]  # one frame of another clip, later in it
        picture[6, 1] = np.clip(picture[3, 2] * 0.9 + rng.normal(0, 2, picture[3, 2].shape), 0, 255)
        picture[6, 2] = picture[0, 2]  # not its own: padding
        picture[4, 2] = 0  # black in a later frame
        signal = out.array("signal", 12, "float16")
        signal[:] = np.cumsum(rng.normal(size=signal.shape), axis=-1)
        signal[10] = signal[3] + rng.normal(0, 0.05, 300)
        out.valid("picture", np.array([3, 3, 3, 3, 3, 3, 2, 3, 3, 3, 3, 3]))
        out.raw["libraries"] = {}
        rows = [(k, k) for k in range(6)] + [(k, k) for k in range(6, 11)] + [(5, 11)]
        parts = ["train"] * 6 + ["test"] * 6
        out.split("s", [Sample(f"x{i}", parts[i], i % 2, row, f"g{i % 4}") for i, row in enumerate(rows)])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return planted_cache(Planted(), tmp_path_factory.mktemp("cache"))


def test_planted_content_is_found(planted: Cache) -> None:
    by = by_id(audit_cache(planted, "s", "scene"))
    assert by["rows", "train+test", "picture"].examples == ("x11",)
    assert by["bytes", "train+test", "picture"].examples == ("x1=x7", "x4=x10")
    assert by["near", "train+test", "picture"].examples == ("x2~x8", "x3~x6")
    assert by["blank", "train", "picture"].examples == ("x4",)
    assert by["blank", "test", "picture"].examples == ("x9",)
    assert by["rows", "train+test", "signal"].found == 0
    assert by["bytes", "train+test", "signal"].found == 0
    assert by["near", "train+test", "signal"].examples == ("x3~x10",)
    assert by["groups", "train+test", "scene"].found == 4
    assert by["frames", "test", "picture x 3"].examples == ("x6",)


class Steps(Dataset):
    """Sequences and vectors whose features have units of their own, zeros behind a sequence; findings are planted."""

    name = "steps"
    modalities = (Modality("walk", (20, 6), "sequence"), Modality("facts", (80,), "vector"))
    class_names = CLASSES
    splits = {"s": Split("planted", {"train": 12, "test": 12})}
    licence = citation = origin = "none"
    #: What stands behind a sequence.
    behind = 0.0

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Fill the arrays."""
        rng = np.random.default_rng(6)
        lengths = np.array([12, 12, 12, 15, 15, 12, 3, 3, 12, 12, 20, 20] * 2)
        walk = 10 * rng.standard_normal(6) + rng.standard_normal((24, 20, 6))
        walk[13] = walk[1]  # the same steps
        walk[14] = walk[2] + rng.normal(0, 0.05, (20, 6))  # stored again
        walk[18] = walk[6] + rng.normal(0, 0.05, (20, 6))  # stored again, too short to tell
        walk[20] = 7.0  # nothing happens
        walk[np.arange(20) >= lengths[:, None]] = self.behind
        walk[13, 12:] = 1 - self.behind
        facts = 10 * rng.standard_normal(80) + rng.standard_normal((24, 80))
        facts[15] = facts[4] + rng.normal(0, 0.05, 80)
        for name, values in (("walk", walk), ("facts", facts)):
            array = out.array(name, 24, "float32")
            array[:, 0] = values
            array.flush()
        out.lengths("walk", lengths)
        out.split("s", [Sample(f"x{i}", "train" if i < 12 else "test", i % 2, (i, i)) for i in range(24)])


@pytest.mark.parametrize("behind", [0.0, 50.0])
def test_of_sequences_the_real_steps_are_compared_each_feature_in_its_unit(behind: float, tmp_path: Path) -> None:
    dataset = Steps()
    dataset.behind = behind
    cache = planted_cache(dataset, tmp_path)
    by = by_id(audit_cache(cache, "s", None))
    assert by["bytes", "train+test", "walk"].examples == ("x1=x13",)
    assert by["near", "train+test", "walk"].examples == ("x2~x14",)
    assert by["blank", "test", "walk"].examples == ("x20",)
    assert by["near", "train+test", "facts"].examples == ("x4~x15",)
    assert not any(by[check, "test", of].found for check in ("bytes", "near") for of in ("walk", "facts"))
    stored = Stored.of(cache, "s", "walk")
    raw = np.array([[np.corrcoef(a.ravel(), b.ravel())[0, 1] for a in stored.array] for b in stored.array])
    assert (raw > 0.985).sum() > 100, "as they are stored, most are alike"


def test_flow_without_motion_is_a_fault_only_where_nothing_moves_at_all() -> None:
    flow = np.random.default_rng(0).integers(0, 256, (2, 3, 2, 16, 16), dtype=np.uint8)
    flow[0, 1], flow[1] = 128, 128
    assert downsample(Stored(flow, type_of("image")), np.arange(2)).blank == {0, 1}
    found = downsample(Stored(flow, type_of("flow")), np.arange(2))
    assert found.blank == {1} and [len(found.bytes[row]) for row in (0, 1)] == [2, 0]


def test_findings_are_kept_under_the_fingerprint_and_the_code(planted: Cache, tmp_path: Path) -> None:
    message: list[str] = []
    first = audited(planted, {"s": "scene"}, tmp_path, message.append)
    again = audited(planted, {"s": "scene"}, tmp_path, message.append)
    assert first == again and len(message) == 1
    (kept,) = (tmp_path / "audit").iterdir()
    kept.write_text(kept.read_text().replace('"code": "', '"code": "0'))
    assert audited(planted, {"s": "scene"}, tmp_path, message.append) == first and len(message) == 2


def test_the_table_survives_its_csv(planted: Cache, tmp_path: Path) -> None:
    findings = audit_cache(planted, "s", "scene")
    text = to_csv(("planted", "s", finding) for finding in findings)
    assert [row[2] for row in from_csv(text)] == findings
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "audit.csv").write_text(text)
    lines = audit_text(read_audit(tmp_path), "planted", "s").lines
    assert lines[0].startswith("Audit of the data: All 4 scenes of test are also in train (all 6 samples); results ")
    assert any("x2~x8" not in line and "nearly the same" in line for line in lines)
    assert len(lines) == 7 and lines[-2].startswith("1 row of picture in train hold")
    assert lines[-1] == "1 more in tables/audit.csv."
    assert audit_text({}, "planted", "s") == AuditText()


def test_a_clean_split_is_said_to_be_clean() -> None:
    lines = audit_text({("d", "s"): audit_lists(listed(CLEAN), Classification(CLASSES), "speaker")}, "d", "s").lines
    assert len(lines) == 1 and "no id, speaker, row" in lines[0]


# ---- known figures -----------------------------------------------------------------------------------------------
def ave_like() -> list[Sample]:
    """Return lists with AVE's figures: 27 ids twice in train with two labels, 8 (9 rows) in test too, 10 in val."""
    train = [Sample(f"t{k}", "train", k % 28, ()) for k in range(3311)]
    train += [Sample(f"t{k}", "train", (k + 1) % 28, ()) for k in range(27)]
    test = [Sample(f"t{k}", "test", 0, ()) for k in range(26, 34)]
    test += [Sample(f"e{k}", "test", k % 28, ()) for k in range(402 - 8)]
    val = [Sample(f"t{k}", "val", 0, ()) for k in range(100, 110)]
    val += [Sample(f"v{k}", "val", k % 28, ()) for k in range(391)] + [Sample("v0", "val", 0, ())]
    return train + val + test


def known_of(name: str) -> dict[str, KnownLists]:
    """Return split -> what is known of its official lists."""
    kind: Any = load_index().load("dataset", name)
    return {split: facts.known for split, facts in kind.splits.items() if facts.known is not None}


def test_aves_figures_are_asserted_for_the_official_lists_only() -> None:
    known = known_of("ave")["official"]

    def check(samples: list[Sample], hashes: Mapping[str, str]) -> bool:
        return check_known(known, samples, hashes, "ave", "official")

    assert check(ave_like(), known.files)
    assert check(ave_like(), {f"Annotations/{n.upper()}": h for n, h in known.files.items()})
    assert not check(ave_like()[1:], {**known.files, "testSet.txt": "0" * 64})
    with pytest.raises(DataError, match=r"ave/official: .*torn/train is 26 instead of 27"):
        fewer = [s for s in ave_like() if not (s.id == "t0" and s.label == 1)]
        check([*fewer, Sample("t50", "train", 50 % 28, ())], known.files)


def test_figures_of_two_parts() -> None:
    found = list_counts(listed(CLEAN + "train b0 0 bob\ntest b0 1 bob"))
    wanted = {"ids/train+val": 1, "rows/train+test": 1, "groups/val+test": 1, "ids/test": 3, "torn/train": 0}
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("ave", "official"),
        ("cremad", "official"),
        ("hmdb51", "split1"),
        ("kinetics_sounds", "ogm"),
        ("modelnet40", "official"),
        ("mvsa_single", "official"),
        ("sarcasm", "official"),
        ("twitter15", "official"),
        ("twitter17", "official"),
        ("ucf101", "split1"),
    ],
)
def test_the_figures_of_a_dataset_lie_with_it(name: str, split: str) -> None:
    known = known_of(name)
    assert list(known) == [split] and {f"rows/{part}" for part in ("train", "test")} <= set(known[split].figures)
    assert all(len(value) == 64 for value in known[split].files.values())
    assert not is_official(known[split], {}) and not is_official(None, known[split].files)


# ---- the command -------------------------------------------------------------------------------------------------
def test_the_embedded_index_split_shares_all_its_speakers() -> None:
    """The samples as `prepare` makes them, without the sound and the pictures."""
    module = sys.modules[load_index().load("dataset", "avdigits").__module__]
    recordings = module._recordings(module.FOLDER)
    label = np.arange(1797) % 10
    pools = {"train": np.arange(850), "val": np.arange(850, 1000), "test": np.arange(1000, 1797)}
    shared = {}
    for split in ("speaker", "index"):
        found = audit_lists(module._paired(recordings, pools, label, split), module.AVDigits.asks(), "speaker")
        leak = one(found, "groups", "train+test")
        shared[split] = (leak.found, leak.among, leak.level)
    assert shared == {"speaker": (0, 2, "ok"), "index": (6, 6, "leak")}


def test_the_command(
    tiny: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["audit", "tiny", "--results", str(tmp_path), "--plugins", str(PLUGINS)]
    assert main([*words, "--cache", str(tiny.cache)]) == 0
    message = capsys.readouterr()
    assert "checks found nothing (repeats, ids, labels" in " ".join(message.out.split())
    assert (tmp_path / "tables" / "audit-tiny.csv").exists()
    assert main([*words, "--cache", str(tiny.cache), "--split", "nothing"]) == 2
    assert "tiny has no split 'nothing'" in capsys.readouterr().err
    assert main([*words, "--cache", str(tmp_path / "none")]) == 2
    assert "tiny is not prepared and has no lists to read. Run: mmlbench prepare tiny" in capsys.readouterr().err
    assert main([*words, "--cache", str(tiny.cache), "--lists"]) == 2
    assert "Leave --lists out" in capsys.readouterr().err


def test_the_shipped_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--results", str(tmp_path), "--cache", str(tmp_path)]
    assert main(["audit", "cremad", *folders]) == 0
    message = capsys.readouterr()
    assert "cremad / official: the official lists" in message.err
    assert "cremad / speaker: made of the official lists" in message.err
    rows = list(csv.DictReader((tmp_path / "tables" / "audit-cremad.csv").open()))
    shared = {
        r["split"]: (r["found"], r["among"]) for r in rows if (r["check"], r["parts"]) == ("groups", "train+test")
    }
    assert shared["official"] == ("91", "91") == shared["official_val"] and shared["speaker"][0] == "0"
    assert main(["audit", "kinetics_sounds", *folders]) == 0
    rows = list(csv.DictReader((tmp_path / "tables" / "audit-kinetics_sounds.csv").open()))
    ids = {r["split"]: (r["found"], r["among"]) for r in rows if (r["check"], r["parts"]) == ("ids", "train+test")}
    assert ids["ogm"] == ("0", "2597")
    lists = load_index().load("dataset", "kinetics_sounds")().listed(None)["ogm"].samples  # type: ignore[attr-defined]
    videos = [{s.id[:11] for s in lists if s.part == part} for part in ("train", "test")]
    assert not videos[0] & videos[1] and tuple(map(len, videos)) == (14799, 2597)
