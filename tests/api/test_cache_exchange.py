"""Prepared data from one folder to another: what arrives, what may not leave, and that nothing arrives by half."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mini_features
import numpy as np
import pytest
import yaml
from bad_input import left_over, refused
from command import run
from data_archives import (
    read_data,
    sealed,
    with_array,
    write_data,
)
from halted import killed
from interrupted import content

from mmlbench.api import cache_exchange
from mmlbench.api.cache_exchange import export_data, import_data
from mmlbench.api.sharing import terms_of
from mmlbench.cli import main
from mmlbench.cli.doctor_data import data_findings
from mmlbench.errors import DataError
from mmlbench.prepare import archives, cache_archive
from mmlbench.prepare import cache as caches
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.cache_check import leads_away
from mmlbench.prepare.sharing import Sharing, Terms
from mmlbench.prepare.unfinished import JOURNAL, lease_folder
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.storage.atomic import read_json, write_json
from mmlbench.storage.cache_places import VARIABLE
from mmlbench.storage.lease import Lease
from mmlbench.study.config import read_study
from mmlbench.testing import PLUGINS

#: A dataset of somebody who may hand on features of MOSI, and one who has written nothing down.
LAB = '''
"""Features of MOSI, of somebody who has asked."""
from mmlbench import register
from mmlbench.datasets.mosi import Mosi

@register
class {name}(Mosi):
    """MOSI, once more."""
'''
ASKED = {"lab_mosi": {"sharing": "features", "source": "the letter of 2 May"}}


@dataclass(frozen=True)
class Lab:
    """A folder of plug-ins, raw files of a miniature, and what is prepared of them in `cache`."""

    plugins: Path
    raw: Path
    cache: Path

    @property
    def folder(self) -> Path:
        """The cache that may be handed on."""
        (found,) = self.cache.glob("lab_mosi-*/")
        return found

    @property
    def words(self) -> list[str]:
        """The folders, as options."""
        return ["--plugins", str(self.plugins)]


def lab_in(folder: Path, terms: object = None) -> Path:
    """Write the two datasets and what their licences allow."""
    folder.mkdir(parents=True)
    for name in ("lab_mosi", "mute_mosi"):
        (folder / f"{name}.py").write_text(LAB.format(name=name.title().replace("_", "")), encoding="utf-8")
    (folder / "sharing.yaml").write_text(yaml.safe_dump(terms or ASKED), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Return the lab, whose dataset is prepared as it is by default."""
    base = tmp_path_factory.mktemp("lab")
    raw = mini_features.sentiment(base / "raw", "mosi")
    made = Lab(lab_in(base / "plugins"), raw, base / "cache")
    words = ["--raw", str(raw), "--cache", str(made.cache), *made.words]
    assert main(["prepare", "lab_mosi", *words]) == 0
    return made


@pytest.fixture(scope="module")
def honest(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of `tiny_lab`: ids with lengths and views, sequences, vectors, groups, two splits."""
    to = tmp_path_factory.mktemp("honest") / "tiny_lab.mmld.tar"
    return export_data("tiny_lab", {}, tiny.cache, load_index(), to).archive


def found_in(folder: Path) -> list[str]:
    """Return the names in a folder that may not be there yet."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---- what arrives ----------------------------------------------------------------------------------------------
@pytest.mark.slow  # raw files are read three times
def test_features_arrive_whole_and_every_command_finds_them(lab: Lab, tmp_path: Path, capsys) -> None:
    packed, there = tmp_path / "lab.mmld.tar", tmp_path / "there"
    assert run(capsys, "export", "--data", "lab_mosi", "--cache", lab.cache, "--to", packed, *lab.words)[0] == 0
    code, _, told_ = run(capsys, "import", packed, "--cache", there, *lab.words)
    assert code == 0 and ASKED["lab_mosi"]["source"] in told_ and "not stated in a source at hand" in told_
    assert content(there / lab.folder.name) == content(lab.folder)
    assert found_in(there) == [lab.folder.name], "nothing is left beside it"
    fingerprint = Cache.open(lab.folder).manifest["fingerprint"]
    code, _, told_ = run(capsys, "prepare", "lab_mosi", "--cache", there, *lab.words)
    assert code == 0 and fingerprint in told_, "without raw files"
    study = tmp_path / "study.yaml"
    block = {"dataset": "lab_mosi", "recipe": "mult", "seeds": [0], "methods": ["joint"]}
    study.write_text(yaml.safe_dump({"grid": [block]}), encoding="utf-8")
    (finding,) = data_findings(read_study(study), there)
    assert finding.verdict == "ok" and str(there) in finding.what
    assert main(["prepare", "lab_mosi", "--cache", str(there), "--raw", str(lab.raw), *lab.words]) == 0, "with them"
    other = mini_features.sentiment(tmp_path / "other", "mosi")
    file = other / "MOSI" / "Processed" / "aligned_50.pkl"
    file.write_bytes(file.read_bytes() + b"\n")
    words = ("prepare", "lab_mosi", "--cache", there, "--raw", other, *lab.words)
    assert "aligned_50.pkl" in refused(capsys, *words), "raw files that are others are still noticed"


def test_a_run_on_imported_data_is_that_of_the_exporter(tiny: Any, tmp_path: Path) -> None:
    packed = export_data("tiny", {}, tiny.cache, load_index(), tmp_path / "tiny.mmld.tar").archive
    import_data(packed, tmp_path / "cache", load_index())
    ours = tiny.run("joint", tmp_path / "a")
    theirs = tiny.run("joint", tmp_path / "b", cache=tmp_path / "cache")
    assert ours.record == theirs.record and ours.record.data_fingerprint == theirs.record.data_fingerprint
    assert ours.path.relative_to(tmp_path / "a") == theirs.path.relative_to(tmp_path / "b")


@pytest.mark.slow  # 14 MB, checked and hashed several times
def test_a_shipped_dataset_arrives(embedded: Any, tmp_path: Path, capsys, monkeypatch) -> None:
    made = embedded("gabor_tones")
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "export", "--data", "gabor_tones", "--cache", made.folder.parent)[0] == 0
    packed = tmp_path / f"{made.folder.name}.mmld.tar"
    assert run(capsys, "import", packed.name)[0] == 0
    assert content(tmp_path / "cache" / made.folder.name) == content(made.folder)
    assert run(capsys, "prepare", "gabor_tones")[0] == 0


@pytest.mark.parametrize("name", ["tiny_lab", "tiny_number", "tiny_labels"])
def test_equal_caches_are_equal_bytes_wherever_they_lie(tiny: Any, tmp_path: Path, name: str) -> None:
    first = export_data(name, {}, tiny.cache, load_index(), tmp_path / "first.tar").archive
    made = import_data(first, tmp_path / "cache", load_index())
    for path in made.folder.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    again = export_data(name, {}, tmp_path / "cache", load_index(), tmp_path / "second.tar").archive
    assert first.read_bytes() == again.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes() and str(tiny.cache).encode() not in first.read_bytes()


def test_parameters_choose_the_cache_and_travel_with_it(tiny: Any, tmp_path: Path, capsys) -> None:
    words = ["--cache", str(tmp_path / "a"), "--plugins", str(PLUGINS)]
    noise = ["--dataset-set", "noise=2"]
    assert "mmlbench prepare tiny --dataset-set noise=2" in refused(
        capsys, "export", "--data", "tiny", "--to", tmp_path / "x", *noise, *words
    )
    assert not (tmp_path / "x").exists()
    assert main(["prepare", "tiny", *noise, *words]) == 0
    assert main(["export", "--data", "tiny", "--to", str(tmp_path / "x"), *noise, *words]) == 0
    made = import_data(tmp_path / "x", tmp_path / "b", load_index())
    assert made.new and made.about.params == {"noise": 2.0} and made.command.endswith("--dataset-set noise=2.0")
    assert made.folder.name == next((tmp_path / "a").glob("tiny-*")).name


def test_what_is_there_already_with_equal_data_stays(honest: Path, tiny: Any, tmp_path: Path, capsys) -> None:
    first = import_data(honest, tmp_path, load_index())
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = import_data(honest, tmp_path, load_index())
    assert first.new and not again.new and first.folder == again.folder
    assert times == {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert run(capsys, "import", honest, "--cache", tmp_path, "--plugins", PLUGINS)[0] == 0
    files = read_data(honest)
    bad = write_data(tmp_path / "bad.tar", files | {"facts.npy": files["facts.npy"][:-1] + b"\x55"})
    with pytest.raises(DataError, match=r"facts\.npy"):
        import_data(bad, tmp_path, load_index())


def test_what_is_there_already_with_other_data_is_refused(honest: Path, tmp_path: Path) -> None:
    made = import_data(honest, tmp_path / "cache", load_index())
    before = content(made.folder)
    files = with_array(read_data(honest), "facts.npy", lambda facts: facts.__setitem__((0, 0, 0), 7.0))
    other = write_data(tmp_path / "other.tar", sealed(files, tmp_path))
    with pytest.raises(DataError, match=r"facts\.npy") as error:
        import_data(other, tmp_path / "cache", load_index())
    assert str(made.folder) in str(error.value) and content(made.folder) == before
    assert import_data(other, tmp_path / "apart", load_index()).new, "the archive itself is well"
    (made.folder / "facts.npy").unlink()
    with pytest.raises(DataError, match=r"facts\.npy"):
        import_data(honest, tmp_path / "cache", load_index())


def test_it_goes_to_the_first_folder_of_a_group_that_can_be_written(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, mine, work = (tmp_path / name for name in ("closed", "mine", "work"))
    for folder in (closed, mine, work):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv(VARIABLE, f"{closed}{os.pathsep}{mine}")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and real(path, mode))
    made = import_data(honest, Path("cache"), load_index())
    assert made.folder.parent == mine and found_in(closed) == [] and found_in(work) == []
    assert not import_data(honest, Path("cache"), load_index()).new


# ---- what may not leave ----------------------------------------------------------------------------------------
def test_without_a_licence_that_allows_it_nothing_leaves(lab: Lab, tmp_path: Path, capsys) -> None:
    entry = load_index().find("dataset", "mosi")
    assert terms_of(entry) == Terms()
    line = refused(capsys, "export", "--data", "mosi", "--cache", lab.cache, "--to", tmp_path / "x")
    assert entry.facts["licence"] in line and "mmlbench prepare mosi --raw FOLDER" in line
    line = refused(capsys, "export", "--data", "mute_mosi", "--cache", lab.cache, "--to", tmp_path / "x", *lab.words)
    assert str(lab.plugins / "sharing.yaml") in line and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("terms", "modality", "ways"),
    [
        (Terms(Sharing.FEATURES, "a letter"), "text", ("--dataset-set text=bert", "--dataset-set text=glove")),
        (Terms(Sharing.FEATURES, "a letter", ("visual",)), "text", ("--dataset-set text=bert",)),
    ],
)
def test_ids_of_words_are_no_features_and_the_way_to_them_is_named(
    lab: Lab, tmp_path: Path, monkeypatch, terms: Terms, modality: str, ways: tuple[str, ...]
) -> None:
    use_plugins([lab.plugins])
    made, params = tmp_path / "cache", {"text": "bert_ids"}
    words = ["--raw", str(lab.raw), "--cache", str(made), "--dataset-set", "text=bert_ids", *lab.words]
    assert main(["prepare", "lab_mosi", *words]) == 0
    monkeypatch.setattr(cache_exchange, "terms_of", lambda entry: terms)
    with pytest.raises(DataError) as error:
        export_data("lab_mosi", params, made, load_index(), tmp_path / "x")
    assert repr(modality) in error.value.what and all(way in error.value.fix for way in ways)
    assert "bert_ids" not in error.value.fix and not (tmp_path / "x").exists()
    monkeypatch.setattr(cache_exchange, "terms_of", lambda entry: Terms(Sharing.ALL, "a letter"))
    assert export_data("lab_mosi", params, made, load_index(), tmp_path / "x").bytes, "all of it may leave"


@pytest.mark.parametrize(
    ("name", "terms", "wanted"),
    [
        ("tiny", Terms(Sharing.FEATURES, "x"), "'audio'"),
        ("tiny_lab", Terms(Sharing.FEATURES, "x"), "'words'"),
        ("lab_mosi", Terms(Sharing.FEATURES, "x", ("visual",)), "'visual'"),
    ],
)
def test_media_do_not_leave_as_features(
    lab: Lab, tiny: Any, tmp_path: Path, monkeypatch, name: str, terms: Terms, wanted: str
) -> None:
    use_plugins([lab.plugins])
    root = lab.cache if name == "lab_mosi" else tiny.cache
    monkeypatch.setattr(cache_exchange, "terms_of", lambda entry: terms)
    with pytest.raises(DataError) as error:
        export_data(name, {}, root, load_index(), tmp_path / "x")
    assert wanted in error.value.what and not (tmp_path / "x").exists()


def test_further_facts_do_not_leave_as_features(lab: Lab, tmp_path: Path, monkeypatch) -> None:
    use_plugins([lab.plugins])
    assert export_data("lab_mosi", {}, lab.cache, load_index(), tmp_path / "x").bytes
    here = tmp_path / "cache" / lab.folder.name
    shutil.copytree(lab.folder, here)
    manifest = read_json(here / "manifest.json")
    np.save(here / "extra-latent.npy", np.zeros((44, 2)))
    manifest["extras"]["latent"] = caches._file_facts(here / "extra-latent.npy")
    manifest.pop("fingerprint")
    write_json(here / "manifest.json", manifest | {"fingerprint": caches.digest(manifest)[:16]})
    with pytest.raises(DataError, match="latent"):
        export_data("lab_mosi", {}, tmp_path / "cache", load_index(), tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_paths_of_the_machine_do_not_leave(lab: Lab, tmp_path: Path) -> None:
    use_plugins([lab.plugins])
    here = tmp_path / "cache" / lab.folder.name
    shutil.copytree(lab.folder, here)
    good = read_json(here / "manifest.json")

    def put(raw: dict[str, Any]) -> None:
        manifest = {name: value for name, value in good.items() if name != "fingerprint"} | {"raw": raw}
        write_json(here / "manifest.json", manifest | {"fingerprint": caches.digest(manifest)[:16]})

    for told_ in ({"folder": str(tmp_path)}, {"files": {"C:\\Users\\me\\x.pkl": "1"}}, {"x": [["../y"]]}):
        put(good["raw"] | told_)
        with pytest.raises(DataError, match="path of this machine"):
            export_data("lab_mosi", {}, tmp_path / "cache", load_index(), tmp_path / "x")
    (here / "raw.csv").write_text(f"id,file,bytes,digest\na,{tmp_path}/a.pkl,1,2\n", encoding="utf-8")
    put(good["raw"] | {"list": caches._file_facts(here / "raw.csv")})
    with pytest.raises(DataError, match=r"a\.pkl"):
        export_data("lab_mosi", {}, tmp_path / "cache", load_index(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_which_texts_are_paths_of_a_machine() -> None:
    away = ["/data/x", "C:\\x", "c:/x", "\\\\server\\share\\x", "../x", "a/../../x", "a\\..\\x"]
    assert all(map(leads_away, away))
    assert not any(map(leads_away, ["", "a/b.pkl", "a..b", "C", "1/255", "train0$_$1", "sha256:0123", "x:y"]))


def test_a_cache_that_was_changed_is_not_packed(tiny: Any, tmp_path: Path, monkeypatch) -> None:
    (source,) = tiny.cache.glob("tiny_lab-*/")
    here = Path(shutil.copytree(source, tmp_path / source.name))
    with (here / "facts.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    whole = caches.check_files  # as of a large one, of which opening sees some blocks
    monkeypatch.setattr(caches, "check_files", lambda folder, manifest: whole(folder, manifest, whole=False))
    with pytest.raises(DataError, match=r"facts\.npy"):
        export_data("tiny_lab", {}, tmp_path, load_index(), tmp_path / "x")
    assert found_in(tmp_path) == [here.name], "and no half of an archive stays"
    with (here / "facts.npy").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(DataError, match=r"facts\.npy"):
        export_data("tiny_lab", {}, tmp_path, load_index(), tmp_path / "x")
    assert found_in(tmp_path) == [here.name]


def test_an_archive_goes_into_a_new_folder_if_the_disk_has_room(tiny: Any, tmp_path: Path, monkeypatch) -> None:
    to = tmp_path / "new" / "folder" / "x.tar"
    assert export_data("tiny", {}, tiny.cache, load_index(), to).archive.exists()
    full = type("Usage", (), {"free": 1000, "total": 1000})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(DataError, match="GiB"):
        export_data("tiny", {}, tiny.cache, load_index(), to.with_name("y.tar"))
    assert found_in(to.parent) == ["x.tar"]


def test_options_of_runs_and_of_data_do_not_mix(honest: Path, tmp_path: Path, capsys) -> None:
    for words in (
        ("export", "--data", "tiny", "--scores"),
        ("export", "--data", "tiny", "--so-far"),
        ("export", "--data", "tiny", "--dataset", "tiny"),
        ("export", "--dataset-set", "noise=2"),
        ("export", "--plugins", PLUGINS),
        ("import", honest, "--contributed"),
        ("import", tmp_path / "study.tar.gz", "--plugins", PLUGINS),
    ):
        assert "--" in refused(capsys, *words)
    assert found_in(tmp_path) == []


# ---- whole or not at all ---------------------------------------------------------------------------------------
@pytest.mark.slow  # processes of their own
@pytest.mark.parametrize(
    "target",
    ["api.cache_exchange:check_contents", "api.cache_exchange:forget", "prepare.cache:write_json"],
    ids=["while it is checked", "while files are put", "before the manifest"],
)
def test_a_killed_import_leaves_no_cache_and_the_next_one_is_whole(honest: Path, tmp_path: Path, target: str) -> None:
    there, flag = tmp_path / "there", tmp_path / "flag"
    words = ("import", honest, "--cache", there, "--plugins", PLUGINS)
    killed(f"mmlbench.{target}", flag, *words)
    assert not list(there.glob("[!.]*")), "nothing that passes for a cache"
    assert found_in(there), "the kill left something"
    assert main([str(word) for word in words]) == 0
    (folder,) = there.iterdir()
    assert not left_over(there) and Cache.open(folder)


@pytest.mark.slow  # a process of its own
def test_a_killed_export_leaves_no_archive(honest: Path, tiny: Any, tmp_path: Path) -> None:
    words = ("export", "--data", "tiny_lab", "--cache", tiny.cache, "--to", tmp_path / "x.tar", "--plugins", PLUGINS)
    killed("mmlbench.prepare.cache_archive:plain", tmp_path / "flag", *words)
    assert not (tmp_path / "x.tar").exists()
    assert main([str(word) for word in words]) == 0
    assert found_in(tmp_path) == ["x.tar"] and (tmp_path / "x.tar").read_bytes() == honest.read_bytes()


@pytest.mark.parametrize("target", ["check_contents", "forget", "made_once"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
def test_an_import_that_fails_leaves_nothing(
    honest: Path, tmp_path: Path, monkeypatch, target: str, error: Any
) -> None:
    def fail(*words: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(cache_exchange, target, fail)
        with pytest.raises(DataError if isinstance(error, OSError) else error):
            import_data(honest, tmp_path / "there", load_index())
    assert found_in(tmp_path / "there") == []
    assert import_data(honest, tmp_path / "there", load_index()).new


def test_what_an_unfinished_preparation_left_goes_with_the_import_and_stays_where_that_fails(
    honest: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    name = cache_archive.contents_of(honest).about.cache
    part = there / f".{name}.part"
    part.mkdir(parents=True)
    for file in (JOURNAL, "words.npy", "odd.npy"):
        (part / file).write_text("half")
    (there / f"{name}.source.json").write_text('{"written": [1]}')
    bad = write_data(tmp_path / "bad.tar", read_data(honest) | {"facts.npy": b"x"})
    with pytest.raises(DataError):
        import_data(bad, there, load_index())
    assert (part / JOURNAL).exists(), "hours of work may stand in it"
    made = import_data(honest, there, load_index())
    assert found_in(there) == [name] and not (made.folder / "odd.npy").exists()


@pytest.mark.parametrize("same", [True, False])
def test_it_waits_for_one_who_prepares_the_same_cache(
    honest: Path, tmp_path: Path, same: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mmlbench")
    name = cache_archive.contents_of(honest).about.cache
    ready = import_data(honest, tmp_path / "ready", load_index()).folder
    if not same:
        other = sealed(with_array(read_data(honest), "facts.npy", lambda facts: facts + np.float32(1)), tmp_path)
        ready = import_data(write_data(tmp_path / "o.tar", other), tmp_path / "other", load_index()).folder
    there = tmp_path / "there"
    held, found = threading.Event(), []

    def prepare() -> None:
        with Lease(lease_folder(there / name), lambda line: None, passing=True):
            held.set()
            limit = time.monotonic() + 60
            while not any(f"waiting for {lease_folder(there / name)}" in line for line in caplog.messages):
                assert time.monotonic() < limit, "the import has not come"
                time.sleep(0.01)
            shutil.copytree(ready, there / name)

    worker = threading.Thread(target=prepare)
    worker.start()
    assert held.wait(30)
    try:
        found.append(import_data(honest, there, load_index()))
    except DataError as error:
        found.append(error)
    worker.join()
    (one,) = found
    assert isinstance(one, DataError) is not same and (isinstance(one, DataError) or not one.new)
    assert content(there / name) == content(ready) and found_in(there) == [name]


# ---- what a preparation says -----------------------------------------------------------------------------------
def test_prepare_names_a_cache_of_other_code_or_parameters(lab: Lab, tmp_path: Path, capsys) -> None:
    words = ("prepare", "lab_mosi", "--cache", lab.cache, "--dataset-set", "steps=7", *lab.words)
    assert str(lab.folder) in refused(capsys, *words)
    words = ("prepare", "lab_mosi", "--cache", tmp_path, "--dataset-set", "steps=7", *lab.words)
    assert "lab_mosi-" not in refused(capsys, *words)


FOLDED = '''
"""Two folds."""
import numpy as np
from mmlbench import Dataset, Modality, Sample, Split, register

@register
class Folded(Dataset):
    """Numbers."""
    modalities = (Modality("facts", (2,), "vector"),)
    class_names = ("a", "b")
    splits = {f"fold.{k}": Split("a fold", {"train": 2, "test": 2}) for k in (1, 2)}
    licence = citation = origin = "none"

    def prepare(self, raw, out):
        out.array("facts", 4, "float32")[:, 0] = np.arange(8).reshape(4, 2)
        for k in (1, 2):
            parts = ["test" if i // 2 == k - 1 else "train" for i in range(4)]
            out.split(f"fold.{k}", [Sample(f"s{i}", parts[i], i % 2, (i,)) for i in range(4)])
'''


def test_folds_that_test_on_the_same_sample(plugin_folder: Path, tmp_path: Path) -> None:
    (plugin_folder / "folded.py").write_text(FOLDED, encoding="utf-8")
    (plugin_folder / "sharing.yaml").write_text("folded: {sharing: features, source: mine}\n", encoding="utf-8")
    words = ["--cache", str(tmp_path / "cache"), "--plugins", str(plugin_folder)]
    assert main(["prepare", "folded", *words]) == 0
    good = export_data("folded", {}, tmp_path / "cache", load_index(), tmp_path / "good.tar").archive
    assert import_data(good, tmp_path / "there", load_index()).new
    files = read_data(good)
    files["split-fold.2.csv"] = files["split-fold.1.csv"]
    with pytest.raises(DataError, match=r"fold\.1"):
        import_data(write_data(tmp_path / "bad.tar", sealed(files, tmp_path)), tmp_path / "bad", load_index())
