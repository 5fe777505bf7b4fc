"""A preparation in shards: the bytes of one process; killed, missing, changed and wrong shards.

Four shards of each dataset are merged in tests/datasets/test_every_dataset.py.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

import mini_av
import mini_features
import mini_texts
import numpy as np
import pytest
from interrupted import content, kill_when, no_workers_left, run

from mmlbench.api.making import ensure_cache, ensure_shard
from mmlbench.cli import main
from mmlbench.dataset import Options
from mmlbench.errors import ConfigError, DataError
from mmlbench.frontends.texts import WordReader
from mmlbench.prepare.cache import Cache, scan_raw
from mmlbench.prepare.shards import Shard, remove_shards, shards_folder
from mmlbench.prepare.unfinished import JOURNAL, lease_folder
from mmlbench.registry.index import load_index
from mmlbench.storage.atomic import read_json, write_json
from mmlbench.storage.lease import Lease

PARAMS = {"size": 24}


@dataclasses.dataclass(frozen=True)
class Mini:
    """A miniature of CREMA-D: raw folder and lists."""

    raw: Path
    lists: Path

    def options(self, **more) -> Options:
        """Return how it is prepared."""
        return Options(lists=self.lists, **more)

    def whole(self, root: Path, **more) -> Cache:
        """Prepare it in one piece, or merge its shards."""
        shards = more.pop("shards", 0)
        return ensure_cache("cremad", PARAMS, root, load_index(), self.raw, None, self.options(**more), shards)

    def shard(self, root: Path, number: int, of: int, **more) -> Path:
        """Prepare one shard."""
        one = Shard(number, of)
        return ensure_shard("cremad", PARAMS, root, load_index(), self.raw, None, self.options(**more), one)

    def words(self, root: Path) -> list[str]:
        """Return the options of `mmlbench prepare`."""
        words = ["prepare", "cremad", "--raw", str(self.raw), "--cache", str(root), "--lists", str(self.lists)]
        return [*words, "--dataset-set", "size=24"]


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Mini:
    """Return a miniature, written once."""
    return Mini(*mini_av.cremad(tmp_path_factory.mktemp("mini"), 5))


@pytest.fixture(scope="module")
def whole(mini, tmp_path_factory) -> Cache:
    """Return it prepared in one piece."""
    return mini.whole(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def made(mini, tmp_path_factory) -> Path:
    """Return a folder of caches with the two shards of it."""
    root = tmp_path_factory.mktemp("made")
    for number in (2, 1):
        mini.shard(root, number, 2)
    return root


@pytest.fixture
def two(made, tmp_path) -> Path:
    """Return a copy of that folder."""
    return Path(shutil.copytree(made, tmp_path / "cache"))


def told(kind: type[Exception], call: Callable[[], object]) -> str:
    """Return what an error of this kind says."""
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def first(root: Path) -> Path:
    """Return the folder of the first of two shards."""
    (found,) = root.glob("*.shards/1-of-2")
    return found


def test_rows_are_shared_out_once_each():
    for count in (1, 5, 16, 1001):
        for of in range(1, min(count, 40) + 1):
            rows = [Shard(number, of).rows(count) for number in range(1, of + 1)]
            assert [row for one in rows for row in one] == list(range(count))
            assert {len(one) for one in rows} <= {count // of, -(-count // of)}


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/4", "1/4/2", " 1/4", "1.0/4"])
def test_what_is_no_shard(text):
    with pytest.raises(ConfigError, match="shard"):
        Shard.parse(text)


def test_shards_merge_to_the_bytes_of_one_process(mini, whole, two):
    merged = mini.whole(two, shards=2)
    assert content(merged.folder) == content(whole.folder) and merged.folder.name == whole.folder.name
    assert sorted(path.name for path in two.iterdir() if not path.name.startswith(".")) == sorted(
        [merged.folder.name, f"{merged.folder.name}.source.json"]
    )
    assert mini.whole(two, shards=2).manifest == whole.manifest, "typed again it returns at once"
    assert mini.shard(two, 1, 2) == merged.folder and not shards_folder(merged.folder).exists()


@pytest.mark.slow
def test_by_commands_with_more_workers_and_shards_than_pay(mini, whole, tmp_path, capsys):
    rows = len(whole.array("visual"))
    for number in range(1, rows + 1):
        assert main([*mini.words(tmp_path), "--workers", "2", "--shard", f"{number}/{rows}"]) == 0
    assert main([*mini.words(tmp_path), "--shards", str(rows)]) == 0
    (merged,) = (path for path in tmp_path.iterdir() if (path / "manifest.json").exists())
    assert content(merged) == content(whole.folder)


def test_a_missing_shard_is_named_before_anything_is_done(mini, two):
    shutil.rmtree(first(two))
    text = told(DataError, partial(mini.whole, two, shards=2))
    assert "1/2" in text and "2/2" not in text and "--shard 1/2" in text
    assert "empty" in told(DataError, partial(mini.whole, two, shards=99))
    assert "1/3" in told(DataError, partial(mini.whole, two, shards=3))
    assert (two / first_name(two) / "2-of-2" / "manifest.json").exists(), "the other is kept"


def first_name(root: Path) -> str:
    """Return the name of the only folder of shards."""
    (found,) = root.glob("*.shards")
    return found.name


def test_more_shards_than_items_are_refused(mini, whole, tmp_path):
    rows = len(whole.array("visual"))
    assert str(rows) in told(DataError, partial(mini.shard, tmp_path, 1, rows + 1))


def test_a_damaged_row_is_never_merged(mini, two):
    array = np.load(first(two) / "visual.npy", mmap_mode="r+")
    array[1, 0, 0, 0, 0] ^= 255
    array.flush()
    assert "1-of-2" in told(DataError, partial(mini.whole, two, shards=2))
    assert not list(two.glob("cremad-*/manifest.json"))


def test_a_manifest_of_something_else_is_refused(mini, two):
    path = first(two) / "manifest.json"
    facts = read_json(path)
    for wrong in (
        [],
        facts | {"schema": 9},
        facts | {"identity": "0" * 64},
        facts | {"done": [[1]]},
        facts | {"a": 1},
    ):
        write_json(path, wrong)
        assert "1-of-2" in told(DataError, partial(mini.whole, two, shards=2))


def test_a_damaged_array_is_refused_and_its_shard_named(mini, two):
    path = first(two) / "audio.npy"
    whole = path.read_bytes()
    values = np.load(path)
    for damaged in (None, values[:-1], values.astype(np.float32), values.astype(object), whole[:-100]):
        path.unlink()
        if isinstance(damaged, bytes):
            path.write_bytes(damaged)
        elif damaged is not None:
            np.save(path, damaged)
        text = told(DataError, partial(mini.whole, two, shards=2))
        assert "1-of-2" in text and "--shard 1/2" in text
        path.write_bytes(whole)


def test_a_merge_leaves_shards_of_another_number(mini, two):
    mini.shard(two, 1, 3)
    root = two / first_name(two)
    mini.whole(two, shards=2)
    assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == ["1-of-3"]


def test_shards_that_a_kill_left_beside_a_finished_cache_go(mini, whole, two):
    kept = shutil.copytree(two / first_name(two), two.parent / "kept")
    merged = mini.whole(two, shards=2)
    shutil.copytree(kept, shards_folder(merged.folder))
    mini.whole(two, shards=2)
    assert not shards_folder(merged.folder).exists()


def test_a_plain_preparation_removes_shards_finished_and_begun(mini, whole, two):
    (begun := two / first_name(two) / ".3-of-4.part").mkdir()
    (begun / JOURNAL).write_text("{}")
    log: list[str] = []
    made = mini.whole(two, log=log.append)
    assert content(made.folder) == content(whole.folder)
    assert not shards_folder(made.folder).exists() and not any("shards" in line for line in log)


def test_a_shard_that_another_process_works_on_stays_and_is_named(mini, whole, two, caplog):
    caplog.set_level("INFO", "mmlbench")
    kept = shutil.copytree(two / first_name(two), two.parent / "kept")
    with Lease(lease_folder(first(two)), print):
        made = mini.whole(two)
        root = shards_folder(made.folder)
        assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == ["1-of-2"]
        assert (root / "1-of-2" / "manifest.json").exists()
    (said,) = (line for line in caplog.messages if str(root) in line)
    assert "1-of-2" in said and "2-of-2" not in said
    shutil.rmtree(root)
    shutil.copytree(kept, root)
    mini.whole(two)
    assert not root.exists(), "typed again it removes what an earlier call left"


def test_shards_stay_while_a_merge_holds_the_cache_and_where_the_cache_is_gone(whole, two):
    cache = Path(shutil.copytree(whole.folder, two / whole.folder.name))
    root = shards_folder(cache)
    thread = Thread(target=remove_shards, args=(cache, 0, print))
    with Lease(lease_folder(cache), print):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and len(list(root.glob("*/manifest.json"))) == 2
        (cache / "manifest.json").rename(cache / "gone")
    thread.join()
    assert len(list(root.glob("*/manifest.json"))) == 2, "they are needed again"
    (cache / "gone").rename(cache / "manifest.json")
    remove_shards(cache, 0, print)
    assert not root.exists() and not lease_folder(cache).exists()


def test_other_things_left_out_are_refused(mini, two, tmp_path):
    name = read_json(first(two) / "manifest.json")["left_out"]
    assert name == []
    left = ("1001_IEO_ANG_XX",)
    assert "left out" in told(DataError, partial(mini.whole, two, shards=2, allow_missing=left))
    for number in (1, 2):
        mini.shard(tmp_path / "less", number, 2, allow_missing=left)
    merged = mini.whole(tmp_path / "less", shards=2, allow_missing=left)
    plain = mini.whole(tmp_path / "plain", allow_missing=left)
    assert content(merged.folder) == content(plain.folder) and merged.manifest["raw"]["left_out"] == list(left)


def test_what_changed_after_its_shard_is_decoded_anew(mini, two, tmp_path):
    raw = Path(shutil.copytree(mini.raw, tmp_path / "raw"))
    victim, other = sorted((raw / "AudioWAV").glob("*.wav"))[:2]
    shutil.copyfile(other, victim)
    changed = dataclasses.replace(mini, raw=raw)
    if victim.stat().st_size == (mini.raw / "AudioWAV" / victim.name).stat().st_size:
        victim.write_bytes(victim.read_bytes() + b"LIST\x04\x00\x00\x00abcd")
    assert content(changed.whole(two, shards=2).folder) == content(changed.whole(tmp_path / "one").folder)


def test_a_file_that_cannot_be_used_is_reported_by_its_own_shard(mini, tmp_path):
    raw = Path(shutil.copytree(mini.raw, tmp_path / "raw"))
    broken = dataclasses.replace(mini, raw=raw)
    victim = sorted((raw / "VideoFlash").glob("*.flv"))[0]
    victim.write_bytes(b"")
    cache = tmp_path / "cache"
    text = told(DataError, partial(broken.shard, cache, 1, 2))
    (report,) = cache.glob("cremad-*.1-of-2.faults.csv")
    assert victim.stem in text and str(report) in text and victim.stem in report.read_text()
    broken.shard(cache, 2, 2)
    words = [*broken.words(cache), "--allow-missing", str(report)]
    assert main([*words, "--shard", "1/2"]) == 0 == main([*words, "--shards", "2"]) == main([*words, "--shards", "2"])


def test_an_archive_and_a_dataset_without_items_have_no_shards(mini, tmp_path):
    file = tmp_path / "raw.zip"
    file.write_bytes(b"PK")
    told(ConfigError, partial(dataclasses.replace(mini, raw=file).shard, tmp_path, 1, 2))
    shard = Shard(1, 2)
    with pytest.raises(DataError, match="item by item"):
        ensure_shard("gabor_tones", {}, tmp_path, load_index(), None, None, Options(), shard)
    with pytest.raises(SystemExit):
        main([*mini.words(tmp_path), "--shard", "1/2", "--shards", "2"])


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 3])
def test_a_killed_shard_and_a_killed_merge_go_on(mini, whole, two, lines):
    shutil.rmtree(first(two))
    root = two / first_name(two)
    process = run([*mini.words(two), "--shard", "1/2", "--workers", "1"])
    left = kill_when(process, root, lines)
    assert no_workers_left(process) and json.loads((left / "journal.jsonl").read_text().splitlines()[0])
    mini.shard(two, 1, 2)
    process = run([*mini.words(two), "--shards", "2"])
    kill_when(process, two, lines)
    assert content(mini.whole(two, shards=2).folder) == content(whole.folder)
    assert not list(two.glob("*.shards"))


@pytest.mark.slow
def test_two_processes_at_one_shard_make_it_once(mini, whole, two):
    shutil.rmtree(first(two))
    together = [run([*mini.words(two), "--shard", "1/2"]) for _ in range(2)]
    assert [one.wait() for one in together] == [0, 0]
    assert content(mini.whole(two, shards=2).folder) == content(whole.folder)


def test_shards_of_texts_that_another_version_of_a_library_made_are_refused(tmp_path, monkeypatch):
    raw, lists = mini_texts.mvsa_single(tmp_path / "mini")
    given = (tmp_path / "cache", load_index(), raw, None, Options(lists=lists))
    monkeypatch.setattr(WordReader, "made_by", lambda self: {"transformers": "1"})
    for number in (1, 2):
        ensure_shard("mvsa_single", PARAMS, *given, Shard(number, 2))
    monkeypatch.setattr(WordReader, "made_by", lambda self: {"transformers": "2"})
    assert "1-of-2" in told(DataError, partial(ensure_cache, "mvsa_single", PARAMS, *given, 2))
    monkeypatch.setattr(WordReader, "made_by", lambda self: {"transformers": "1"})
    assert ensure_cache("mvsa_single", PARAMS, *given, 2).manifest["raw"]["texts"]["transformers"] == "1"


def test_what_has_no_items_is_told_before_it_writes_anything(tmp_path: Path) -> None:
    raw = mini_features.sentiment(tmp_path / "mini", "mosi")
    with pytest.raises(DataError, match="item by item"):
        ensure_shard("mosi", {}, tmp_path / "cache", load_index(), raw, None, Options(), Shard(1, 2))
    with pytest.raises(DataError, match="item by item"):
        ensure_cache("mosi", {}, tmp_path / "cache", load_index(), raw, None, Options(), 2)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    kind = load_index().load("dataset", "mosi")
    assert scan_raw(kind(kind.Params()), raw, Options()) is None
