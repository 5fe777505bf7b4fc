"""Archives of prepared data that somebody has damaged or forged: each is refused, and nothing of it is left.

A forger who is careful gets every hash right, so `sealed` does too: then only a look at the data themselves tells.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_input import refused
from data_archives import (
    HEAD,
    MANIFEST,
    Files,
    read_data,
    relisted,
    sealed,
    sha256,
    told,
    with_array,
    with_text,
    write_data,
)

from mmlbench.api.cache_exchange import export_data, import_data
from mmlbench.dataset import Dataset
from mmlbench.errors import ConfigError, DataError
from mmlbench.prepare import archives, cache_archive
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.cache_check import Declared, form_of
from mmlbench.registry.index import load_index
from mmlbench.storage.atomic import read_json

Change = Callable[[Files], Files]


@pytest.fixture(scope="module")
def honest(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of `tiny_lab`: ids with lengths and views, sequences, vectors, groups, two splits."""
    to = tmp_path_factory.mktemp("honest") / "tiny_lab.mmld.tar"
    return export_data("tiny_lab", {}, tiny.cache, load_index(), to).archive


def why_refused(archive: Path, capsys: Any) -> str:
    """Import it; return the line that refuses it, after which nothing of it is there."""
    there = archive.parent / "there"
    line = refused(capsys, "import", archive, "--cache", there)
    assert not there.exists() or list(there.iterdir()) == []
    return line


def test_the_archive_written_anew_is_as_good(honest: Path, tmp_path: Path) -> None:
    """The counter-test of all that follows: what reads, seals and writes archives here changes nothing."""
    files = read_data(honest)
    assert sealed(files, tmp_path) == files
    assert write_data(tmp_path / "same.tar", files).stat().st_size == honest.stat().st_size
    made = import_data(tmp_path / "same.tar", tmp_path / "there", load_index())
    assert made.new and Cache.open(made.folder).manifest == json.loads(files[MANIFEST])


# ---- the tar ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE]
)
@pytest.mark.parametrize("name", ["raw.csv", "split-other.csv", "../x.npy"])
def test_what_is_no_plain_file(honest: Path, tmp_path: Path, capsys, kind: bytes, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    bad = write_data(tmp_path / "bad.tar", read_data(honest), [(member, b"")])
    assert repr(name) in why_refused(bad, capsys)


@pytest.mark.parametrize(
    "name", ["/tmp/x.npy", "../x.npy", "a/b.npy", "x.py", ".npy", "manifest.json.tmp", "extra-.npy"]
)
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
def test_names_that_no_cache_has(honest: Path, tmp_path: Path, capsys, name: str, listed: bool) -> None:
    files = read_data(honest) | {name: b"x"}
    bad = write_data(tmp_path / "bad.tar", relisted(files) if listed else files)
    assert repr(name) in why_refused(bad, capsys) and not Path("/tmp/x.npy").exists()


@pytest.mark.parametrize("name", ["raw.csv", "extra-latent.npy", "split-other.csv", "valid-facts.npy", "other.npy"])
def test_a_file_that_the_manifest_does_not_name(honest: Path, tmp_path: Path, capsys, name: str) -> None:
    files = read_data(honest) | {name: b"x"}
    for found in (files, relisted(files)):
        assert name in why_refused(write_data(tmp_path / "bad.tar", found), capsys)


def test_files_that_are_missing_or_there_twice_or_in_another_order(honest: Path, tmp_path: Path, capsys) -> None:
    files = read_data(honest)
    for name in ("facts.npy", MANIFEST, "split-plain.csv"):
        less = {one: text for one, text in files.items() if one != name}
        for found in (less, relisted(less)):
            assert name in why_refused(write_data(tmp_path / "bad.tar", found), capsys)
        member = tarfile.TarInfo(name)
        member.size = len(files[name])
        assert repr(name) in why_refused(write_data(tmp_path / "bad.tar", files, [(member, files[name])]), capsys)
    other = {name: files[name] for name in reversed(files)}
    with pytest.raises(DataError, match=next(iter(other))):
        cache_archive.contents_of(write_data(tmp_path / "bad.tar", other))


def test_an_archive_that_is_cut_short_anywhere(honest: Path, tmp_path: Path, capsys) -> None:
    whole, bad = honest.read_bytes(), tmp_path / "bad.tar"
    for size in (100, 512, 700, 2048, 5000, len(whole) // 2, len(whole) - 10240, len(whole) - 512, len(whole) - 1):
        bad.write_bytes(whole[:size])
        assert str(bad) in why_refused(bad, capsys)


@pytest.mark.parametrize("behind", [b"x", b"\0" * 512, b"\0" * 10240, b"x" * 20480])
def test_bytes_behind_the_end(honest: Path, tmp_path: Path, capsys, behind: bytes) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(honest.read_bytes() + behind)
    assert str(bad) in why_refused(bad, capsys)


def test_what_is_no_archive(tmp_path: Path, capsys) -> None:
    for text in (b"", b"archive.json", b"archive.json\0" + b"x" * 2000, b"\0" * 20480, b"hello\n" * 2000):
        bad = tmp_path / "bad.tar"
        bad.write_bytes(text)
        assert str(bad) in why_refused(bad, capsys)
    (tmp_path / "gone" / "x").parent.mkdir()
    assert "gone" in why_refused(tmp_path / "gone", capsys)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_headers_that_say_more_than_a_name(honest: Path, tmp_path: Path, capsys, form: int) -> None:
    """A header for all members, a name of a megabyte, a sparse file: none of them is followed."""
    files, bad = read_data(honest), tmp_path / "bad.tar"
    with tarfile.open(
        bad, "w:", format=form, pax_headers={"comment": "x"} if form == tarfile.PAX_FORMAT else {}
    ) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        tar.addfile(tarfile.TarInfo("x" * 2**20))
    assert str(bad) in why_refused(bad, capsys)
    sparse = tarfile.TarInfo("facts.npy")
    sparse.type = tarfile.GNUTYPE_SPARSE
    assert "sparse" in why_refused(write_data(bad, files, [(sparse, b"")]), capsys)


def test_more_files_or_text_than_a_cache_has(honest: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    files = read_data(honest)
    with monkeypatch.context() as patch:
        patch.setattr(cache_archive, "MOST_FILES", len(files) - 1)
        assert str(honest) in why_refused_in(honest, tmp_path, capsys)
    with monkeypatch.context() as patch:
        patch.setattr(cache_archive, "MOST_JSON", len(files[MANIFEST]) - 1)
        assert MANIFEST in why_refused_in(honest, tmp_path, capsys)
    brackets = relisted(files | {MANIFEST: b"[" * 20_000 + b"]" * 20_000})
    assert MANIFEST in why_refused(write_data(tmp_path / "bad.tar", brackets), capsys)


def why_refused_in(archive: Path, folder: Path, capsys: Any) -> str:
    """Return what `why_refused` does, without writing beside the archive."""
    line = refused(capsys, "import", archive, "--cache", folder / "there")
    assert not (folder / "there").exists()
    return line


def test_a_disk_without_room(honest: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    full = type("Usage", (), {"free": 1000, "total": 1000})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: full)
    line = refused(capsys, "import", honest, "--cache", tmp_path / "there")
    assert "GiB" in line and list((tmp_path / "there").iterdir()) == []


def test_each_look_at_an_archive_finds_it_by_itself(honest: Path, tmp_path: Path) -> None:
    """What the look that comes after would find, too."""
    files, bad = read_data(honest), tmp_path / "bad.tar"
    with pytest.raises(DataError, match=r"archive\.json"):
        cache_archive.contents_of(write_data(bad, {}))
    with pytest.raises(DataError, match=r"facts\.npy"):
        cache_archive.contents_of(write_data(bad, files | {"facts.npy": files["facts.npy"] + b"\0"}))
    other = sealed(told(files, MANIFEST, lambda m: m.update(class_names=["red", "green", "blau"])), tmp_path)
    with pytest.raises(DataError, match=r"manifest\.json"):
        cache_archive.contents_of(write_data(bad, other | {HEAD: files[HEAD]}))
    text = bytearray(files["facts.npy"])
    text[-1] ^= 1
    contents = cache_archive.contents_of(write_data(bad, files | {"facts.npy": bytes(text)}))
    with pytest.raises(DataError, match=r"facts\.npy"):
        cache_archive.check_files(contents)
    cache_archive.check_files(cache_archive.contents_of(write_data(bad, files)))
    contents = cache_archive.contents_of(write_data(bad, files))
    write_data(bad, files | {"facts.npy": b"x"})
    with pytest.raises(DataError, match="while it was read"):
        cache_archive.check_files(contents)


def test_archives_end_anywhere_in_a_record(honest: Path, tmp_path: Path) -> None:
    """A tar is padded to records of 20 blocks: whatever is in it, an archive that is whole is taken for whole."""
    files = read_data(honest)
    for blocks in range(21):
        longer = told(files, HEAD, lambda head, blocks=blocks: head.update(citation="x" * 400 * blocks))
        path = write_data(tmp_path / "longer.tar", longer)
        assert cache_archive.contents_of(path).about.citation == "x" * 400 * blocks
        path.write_bytes(path.read_bytes()[:-512])
        with pytest.raises(DataError):
            cache_archive.contents_of(path)


# ---- archive.json and the manifest -----------------------------------------------------------------------------
HEADS: dict[str, Any] = {
    "schema": [2, "1", None, True],
    "kind": ["scores", ""],
    "dataset": ["tiny_number", "../x", ""],
    "key": ["0123456789", "x"],
    "code": ["0" * 64, "x"],
    "params": [{}, {"room": 1}, {"room": "/etc/passwd"}, {"other": 1}, {"room": 0, "other": 1}, [], {"room": [1]}],
    "sharing": ["none of it", 1],
    "version": ["\x1b[31m", ""],
    "licence": [1, "\x1b[31m"],
    "files": [{}, []],
    "unknown": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, some in HEADS.items() for value in some], ids=repr)
def test_what_archive_json_may_not_say(honest: Path, tmp_path: Path, capsys, key: str, value: object) -> None:
    files = told(read_data(honest), HEAD, lambda head: head.__setitem__(key, value))
    assert str(tmp_path) in why_refused(write_data(tmp_path / "bad.tar", files), capsys)


def test_an_archive_of_other_code_or_of_an_unknown_dataset(honest: Path, tmp_path: Path, capsys) -> None:
    files = told(read_data(honest), HEAD, lambda head: head.update(code="0" * 64, version="9.9"))
    assert "9.9" in why_refused(write_data(tmp_path / "bad.tar", files), capsys)
    files = told(read_data(honest), HEAD, lambda head: head.update(dataset="nobodys"))
    files = relisted(told(files, MANIFEST, lambda manifest: manifest.update(dataset="nobodys")))
    assert "--plugins" in why_refused(write_data(tmp_path / "bad.tar", sealed(files, tmp_path)), capsys)


def moments(manifest: dict[str, Any], **changed: object) -> None:
    """Say other moments of a vector."""
    manifest["splits"]["plain"]["standardise"]["facts"].update(changed)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another schema": lambda m: m.update(schema=2),
    "another key": lambda m: m.update(key="0123456789"),
    "other classes": lambda m: m.update(class_names=["red", "green"]),
    "another task": lambda m: m.update(task={"name": "regression"}),
    "another metric": lambda m: m.update(metric="accuracy"),
    "an unknown key": lambda m: m.update(more=1),
    "no bayes": lambda m: m.pop("bayes"),
    "bayes no number": lambda m: m.update(bayes={"fused": "x"}),
    "another shape": lambda m: m["modalities"][2].update(shape=[4]),
    "another kind": lambda m: m["modalities"][2].update(kind="sequence"),
    "an array more": lambda m: m["arrays"].update(x=m["arrays"]["facts"]),
    "an array less": lambda m: m["arrays"].pop("facts"),
    "no rows": lambda m: m["arrays"]["facts"].update(rows=0),
    "more rows": lambda m: m["arrays"]["facts"].update(rows=77),
    "another dtype": lambda m: m["arrays"]["facts"].update(dtype="float64"),
    "objects": lambda m: m["arrays"]["facts"].update(dtype="object"),
    "an unknown dtype": lambda m: m["arrays"]["facts"].update(dtype="float33"),
    "a scale that is text": lambda m: m["arrays"]["facts"].update(scale="1"),
    "scaled ids": lambda m: m["arrays"]["words"].update(scale=2.0),
    "no lengths": lambda m: [m["arrays"]["motion"].pop(name) for name in ("lengths", "longest")],
    "lengths too many": lambda m: m["arrays"]["facts"].update(
        lengths=m["arrays"]["motion"]["lengths"], longest=m["arrays"]["motion"]["longest"]
    ),
    "another longest": lambda m: m["arrays"]["motion"].update(longest=3),
    "a split more": lambda m: m["splits"].update(x=m["splits"]["plain"]),
    "a split less": lambda m: m["splits"].pop("plain"),
    "a split that leads away": lambda m: m["splits"].update({"../x": m["splits"]["plain"]}),
    "other counts": lambda m: m["splits"]["plain"]["counts"].update(train=51),
    "counts of another part": lambda m: m["splits"]["plain"]["counts"].update(more=1),
    "no deviation": lambda m: moments(m, std=[0.0] * 5),
    "a deviation below 0": lambda m: moments(m, std=[1.0, 1.0, -1.0, 1.0, 1.0]),
    "means too few": lambda m: moments(m, mean=[0.0]),
    "a mean for all": lambda m: moments(m, mean=0.0, std=1.0),
    "no moments": lambda m: m["splits"]["plain"]["standardise"].update(facts={}),
    "moments of ids": lambda m: m["splits"]["plain"]["standardise"].update(words={"mean": 0.0, "std": 1.0}),
    "notes that are a text": lambda m: m.update(raw={"notes": "x"}),
    "a note that steers a terminal": lambda m: m.update(raw={"notes": ["\x1b[31m"]}),
    "a path of a machine": lambda m: m.update(raw={"x": ["/home/me/x.pkl"]}),
    "an extra that leads away": lambda m: m.update(extras={"../x": m["splits"]["plain"]}),
}  # fmt: skip


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_what_the_manifest_may_not_say(honest: Path, tmp_path: Path, capsys, change: Any) -> None:
    files = sealed(told(read_data(honest), MANIFEST, change), tmp_path)
    assert str(tmp_path / "bad.tar") in why_refused(write_data(tmp_path / "bad.tar", files), capsys)


def facts_of(manifest: dict[str, Any], which: str) -> dict[str, Any]:
    """Return what a manifest says of the bytes of a file, of each kind of file that it names."""
    one = {"bytes": 1, "sha256": "0" * 64, "spot": "0" * 64}
    if which == "extra":
        return manifest["extras"].setdefault("latent", one)
    if which == "valid":
        return manifest["arrays"]["words"].setdefault("valid", one)
    if which == "raw":
        return manifest.setdefault("raw", {}).setdefault("list", one)
    found = {"array": manifest["arrays"]["facts"], "split": manifest["splits"]["plain"]}
    return found.get(which) or manifest["arrays"]["motion"]["lengths"]


FILES = ("array", "lengths", "valid", "extra", "split", "raw")
WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "no size": lambda facts: facts.pop("bytes"),
    "a size below 0": lambda facts: facts.update(bytes=-1),
    "a size that is text": lambda facts: facts.update(bytes="1"),
    "no hash": lambda facts: facts.pop("sha256"),
    "another hash": lambda facts: facts.update(sha256="x"),
    "no digest": lambda facts: facts.pop("spot"),
    "a digest that is a number": lambda facts: facts.update(spot=1),
    "something more": lambda facts: facts.update(more=1),
}


@cache
def declared(name: str, known: bool) -> Declared:
    """Return what a dataset declares, with its modalities or without."""
    kind = load_index().load("dataset", name)
    assert issubclass(kind, Dataset)
    return Declared.of(kind, kind().modalities if known else None)


def form(manifest: dict[str, Any], name: str, known: bool = True) -> None:
    """Take the form of a manifest."""
    form_of(manifest, declared(name, known), "here", "fix")


@pytest.fixture(scope="module")
def manifests(tiny: Any) -> dict[str, dict[str, Any]]:
    """Return the manifests of two datasets."""
    return {name: read_json(next(tiny.cache.glob(f"{name}-*")) / MANIFEST) for name in ("tiny", "tiny_lab")}


@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize("change", [None, *WRONG.values()], ids=["well", *WRONG])
def test_what_a_manifest_says_of_a_file(manifests: Any, which: str, change: Any) -> None:
    manifest = deepcopy(manifests["tiny_lab"])
    facts = facts_of(manifest, which)
    form(manifest, "tiny_lab")
    if change is not None:
        change(facts)
        with pytest.raises(DataError, match=r"^here"):
            form(manifest, "tiny_lab")


def of_a_picture(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the one mean and deviation of a modality."""
    return manifest["splits"]["plain"]["standardise"]["visual"]


FORMS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "a split more": ("tiny_lab", lambda m: m["splits"].update(x=m["splits"]["plain"])),
    "a split less": ("tiny_lab", lambda m: m["splits"].pop("plain")),
    "rows that are true": ("tiny_lab", lambda m: m["arrays"]["facts"].update(rows=True)),
    "no lengths": ("tiny_lab", lambda m: [m["arrays"]["motion"].pop(name) for name in ("lengths", "longest")]),
    "no longest": ("tiny_lab", lambda m: m["arrays"]["motion"].pop("longest")),
    "a longest that is text": ("tiny_lab", lambda m: m["arrays"]["motion"].update(longest="10")),
    "a count that is text": ("tiny_lab", lambda m: m["splits"]["plain"]["counts"].update(train="52")),
    "a mean that is text": ("tiny_lab", lambda m: moments(m, mean=[0.0, "0", 0.0, 0.0, 0.0])),
    "a mean that is infinite": ("tiny_lab", lambda m: moments(m, mean=[0.0, 1e999, 0.0, 0.0, 0.0])),
    "one mean that is text": ("tiny", lambda m: of_a_picture(m).update(mean="0")),
    "one deviation that is text": ("tiny", lambda m: of_a_picture(m).update(std="1")),
    "one deviation of 0": ("tiny", lambda m: of_a_picture(m).update(std=0.0)),
    "means of channels": ("tiny", lambda m: of_a_picture(m).update(mean=[0.0], std=[1.0])),
    "raw files that are a list": ("tiny_lab", lambda m: m.update(raw=[])),
    "an id left out that is a number": ("tiny_lab", lambda m: m.update(raw={"left_out": [1]})),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change"), FORMS.values(), ids=FORMS)
def test_forms_that_no_manifest_has(manifests: Any, name: str, change: Any) -> None:
    manifest = deepcopy(manifests[name])
    form(manifest, name)
    change(manifest)
    with pytest.raises(DataError, match=r"^here"):
        form(manifest, name)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [(2, "name", []), (2, "name", "../x"), (2, "kind", []), (2, "shape", [True]), (2, "views", True),
     (0, "vocabulary", "9"), (2, "normalise", []), (2, "aspect", "1"), (0, "tokenizer", 1)],
)  # fmt: skip
def test_forms_that_no_modality_has(manifests: Any, place: int, key: str, value: object) -> None:
    manifest = deepcopy(manifests["tiny_lab"])
    form(manifest, "tiny_lab", known=False)
    manifest["modalities"][place][key] = value
    with pytest.raises(DataError, match=r"^here"):
        form(manifest, "tiny_lab", known=False)


def test_a_fingerprint_that_is_not_that_of_the_contents(honest: Path, tmp_path: Path, capsys) -> None:
    files = read_data(honest)
    claimed = told(files, MANIFEST, lambda manifest: manifest.update(fingerprint="0" * 16))
    assert "0" * 16 in why_refused(write_data(tmp_path / "bad.tar", relisted(claimed)), capsys)
    noted = told(files, MANIFEST, lambda manifest: manifest.update(raw={"notes": ["another one"]}))
    assert "fingerprint" in why_refused(write_data(tmp_path / "bad.tar", relisted(noted)), capsys)
    assert MANIFEST in why_refused(write_data(tmp_path / "bad.tar", noted), capsys)
    honest_note = write_data(tmp_path / "good.tar", sealed(noted, tmp_path))
    assert import_data(honest_note, tmp_path / "good", load_index()).new, (
        "with its own fingerprint it is another cache"
    )


def test_a_manifest_that_is_written_otherwise(honest: Path, tmp_path: Path, capsys) -> None:
    files = read_data(honest)
    for text in (
        json.dumps(json.loads(files[MANIFEST])).encode(),
        files[MANIFEST].replace(b'"rows": 76', b'"rows": NaN', 1),
        files[MANIFEST][:-20],
        b"\xff" + files[MANIFEST],
        b"[]",
        b"",
    ):
        bad = write_data(tmp_path / "bad.tar", relisted(files | {MANIFEST: text}))
        assert MANIFEST in why_refused(bad, capsys)


def test_digests_by_which_a_large_file_is_known_later(honest: Path, tmp_path: Path, capsys) -> None:
    files = told(read_data(honest), MANIFEST, lambda m: m["arrays"]["facts"].update(spot="0" * 64))
    manifest = json.loads(files[MANIFEST])
    manifest.pop("fingerprint")
    from mmlbench.storage.hashing import digest

    files = told(files, MANIFEST, lambda m: m.update(fingerprint=digest(manifest)[:16]))
    assert "facts.npy" in why_refused(write_data(tmp_path / "bad.tar", relisted(files)), capsys)


# ---- what lies in the files ------------------------------------------------------------------------------------
def test_a_file_that_was_changed_is_named(honest: Path, tmp_path: Path, capsys) -> None:
    files = read_data(honest)
    for name in files:
        if name == HEAD:
            continue
        text = bytearray(files[name])
        text[len(text) // 2] ^= 1
        bad = write_data(tmp_path / "bad.tar", files | {name: bytes(text)})
        assert name in why_refused(bad, capsys)
        assert name in why_refused(write_data(tmp_path / "bad.tar", files | {name: files[name] + b"\0"}), capsys)


def one(place: tuple[int, ...], value: float) -> Callable[[np.ndarray], None]:
    """Return what puts a value into an array."""
    return lambda array: array.__setitem__(place, value)


ARRAYS: dict[str, tuple[str, Callable[[np.ndarray], object]]] = {
    "NaN": ("facts.npy", one((3, 0, 1), np.nan)),
    "infinity": ("motion.npy", one((75, 0, 0, 0), np.inf)),
    "an id beyond the vocabulary": ("words.npy", one((0, 0, 0), 9)),
    "padding within the length": ("words.npy", one((0, 1, 0), 0)),
    "an id below 0": ("words.npy", one((0, 1, 0), -1)),
    "rows too few": ("facts.npy", lambda array: array[:-1]),
    "another shape": ("facts.npy", lambda array: array.reshape(76, 5, 1)),
    "an axis more": ("facts.npy", lambda array: array[..., None]),
    "another type": ("facts.npy", lambda array: array.astype(np.float64)),
    "text": ("facts.npy", lambda array: array.astype("U3")),
    "by columns": ("facts.npy", lambda array: np.asfortranarray(np.ones((76, 1, 5), "float32"))),
    "a length of 0": ("length-motion.npy", one((0, 0), 0)),
    "a length beyond": ("length-motion.npy", one((0, 0), 11)),
    "lengths of another type": ("length-motion.npy", lambda array: array.astype(np.int64)),
    "lengths of one view": ("length-words.npy", lambda array: array[:, :1]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_no_dataset_would_make(honest: Path, tmp_path: Path, capsys, name: str, change: Any) -> None:
    files = sealed(with_array(read_data(honest), name, change), tmp_path)
    assert name in why_refused(write_data(tmp_path / "bad.tar", files), capsys)


class Pickled:
    """Unpickled, it runs a command."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"echo pickle >> {self.flag}",)


@pytest.mark.parametrize("name", ["facts.npy", "length-motion.npy"])
def test_a_pickle_in_an_array_is_not_run(honest: Path, tmp_path: Path, capsys, name: str) -> None:
    held = Pickled(tmp_path / "flag")
    files = with_array(read_data(honest), name, lambda array: np.full(array.shape, held, object), pickles=True)
    files = sealed(files, tmp_path)
    assert name in why_refused(write_data(tmp_path / "bad.tar", files), capsys)
    assert not (tmp_path / "flag").exists()


@pytest.mark.parametrize("text", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"no array\n" * 40])
def test_a_file_that_is_no_array(honest: Path, tmp_path: Path, capsys, text: bytes) -> None:
    files = sealed(read_data(honest) | {"facts.npy": text}, tmp_path)
    assert "facts.npy" in why_refused(write_data(tmp_path / "bad.tar", files), capsys)


def test_an_array_that_is_longer_or_shorter_than_its_shape(honest: Path, tmp_path: Path, capsys) -> None:
    files = read_data(honest)
    for text in (files["facts.npy"] + b"\0" * 4, files["facts.npy"][:-4]):
        found = sealed(files | {"facts.npy": text}, tmp_path)
        assert "facts.npy" in why_refused(write_data(tmp_path / "bad.tar", found), capsys)


def with_more(files: Files, folder: Path, name: str, array: np.ndarray, change: Any, pickles: bool = False) -> Files:
    """Return files with a further array, which the manifest names."""
    text = io.BytesIO()
    np.save(text, array, allow_pickle=pickles)
    facts = {"bytes": 0, "sha256": "0" * 64, "spot": "0" * 64}
    named = told(files, MANIFEST, lambda manifest: change(manifest, facts))
    return sealed({**named, name: text.getvalue()}, folder)


def test_further_facts_are_plain_and_one_a_row(honest: Path, tmp_path: Path, capsys) -> None:
    def extra(array: np.ndarray) -> Path:
        def name(manifest: dict[str, Any], facts: dict[str, Any]) -> None:
            manifest["extras"]["latent"] = facts

        files = with_more(read_data(honest), tmp_path, "extra-latent.npy", array, name, pickles=True)
        return write_data(tmp_path / "bad.tar", files)

    flag = tmp_path / "flag"
    wrong = [np.zeros((75, 2)), np.zeros(()), np.full((76, 1), Pickled(flag), object), np.zeros(76, [("a", "f4")])]
    for array in wrong:
        assert "extra-latent.npy" in why_refused(extra(array), capsys)
    assert not flag.exists()
    for k, array in enumerate((np.zeros((76, 2)), np.zeros(76, "U5"))):
        made = import_data(extra(array), tmp_path / f"good{k}", load_index())
        assert np.array_equal(Cache.open(made.folder).extra("latent"), array)


def test_how_many_views_are_a_rows_own(honest: Path, tmp_path: Path, capsys) -> None:
    def valid(counts: np.ndarray) -> Path:
        def name(manifest: dict[str, Any], facts: dict[str, Any]) -> None:
            manifest["arrays"]["words"]["valid"] = facts

        return write_data(
            tmp_path / "bad.tar", with_more(read_data(honest), tmp_path, "valid-words.npy", counts, name)
        )

    for value in (0, 3, -1):
        counts = np.full(76, 2, "int16")
        counts[5] = value
        assert "valid-words.npy" in why_refused(valid(counts), capsys)
    assert "valid-words.npy" in why_refused(valid(np.ones(75, "int16")), capsys)
    assert import_data(valid(np.ones(76, "int16")), tmp_path / "good", load_index()).new


UNKNOWN: dict[str, Callable[[dict[str, Any]], object]] = {
    "a name that leads away": lambda m: m["modalities"][2].update(name="../x"),
    "another name": lambda m: m["modalities"][2].update(name="other"),
    "an unknown kind": lambda m: m["modalities"][2].update(kind="nobodys"),
    "a kind that is no text": lambda m: m["modalities"][2].update(kind=1),
    "a shape that is none": lambda m: m["modalities"][2].update(shape=[]),
    "a shape of its kind": lambda m: m["modalities"][2].update(shape=[5, 5]),
    "a size of 0": lambda m: m["modalities"][2].update(shape=[0]),
    "no views": lambda m: m["modalities"][2].update(views=0),
    "views of another type": lambda m: m["modalities"][2].update(views="1"),
    "an unknown field": lambda m: m["modalities"][2].update(more=1),
    "another normalisation": lambda m: m["modalities"][2].update(normalise="nobodys"),
    "a vocabulary of no ids": lambda m: m["modalities"][2].update(vocabulary=5),
    "an aspect that is text": lambda m: m["modalities"][2].update(aspect="1"),
    "a tokenizer that is a number": lambda m: m["modalities"][0].update(tokenizer=1),
    "none": lambda m: m.update(modalities=[]),
    "no list": lambda m: m.update(modalities={}),
}  # fmt: skip


@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_modalities_that_hang_on_a_model_that_is_not_at_hand(
    honest: Path, tmp_path: Path, capsys, monkeypatch, change: Any
) -> None:
    from mmlbench.api import cache_exchange

    monkeypatch.setattr(cache_exchange, "_modalities", lambda kind, params: None)
    files = sealed(told(read_data(honest), MANIFEST, change), tmp_path)
    assert "manifest.json" in why_refused(write_data(tmp_path / "bad.tar", files), capsys)
    assert import_data(honest, tmp_path / "good", load_index()).new


TABLES: dict[str, tuple[str, str]] = {
    "a row that is not there": ("ada,0,0,0", "ada,76,0,0"),
    "a row below 0": ("ada,0,0,0", "ada,-1,0,0"),
    "a row that is no number": ("ada,0,0,0", "ada,1e1,0,0"),
    "a row in other digits": ("ada,0,0,0", "ada,\u0660,0,0"),
    "an unknown part": ("t00,train", "t00,testing"),
    "another part": ("t00,train", "t00,test"),
    "a label beyond": ("t00,train,0", "t00,train,3"),
    "a label that is none": ("t00,train,0", "t00,train,red"),
    "an id twice": ("t01,", "t00,"),
    "no id": ("t01,", ","),
    "an id that steers a terminal": ("t01,", "\x1b[31m,"),
    "a column less": ("ada,0,0,0", "ada,0,0"),
    "a column more": ("ada,0,0,0", "ada,0,0,0,0"),
    "another heading": ("group", "speaker"),
    "a quote that does not end": ("t01,", '"t01,'),
    "a line less": ("t00,train,0,ada,0,0,0\n", ""),
}


@pytest.mark.parametrize(("old", "new"), TABLES.values(), ids=TABLES)
def test_tables_that_no_split_would_be(honest: Path, tmp_path: Path, capsys, old: str, new: str) -> None:
    files = sealed(with_text(read_data(honest), "split-speaker.csv", old, new), tmp_path)
    assert "split-speaker.csv" in why_refused(write_data(tmp_path / "bad.tar", files), capsys)


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [("t00,train", "t00,testing", {"train": 39}), (",test,", ",train,", {"train": 64, "test": 0})],
    ids=["an unknown part", "no test part"],
)
def test_parts_that_the_manifest_counts_too(
    honest: Path, tmp_path: Path, capsys, old: str, new: str, counts: dict[str, int]
) -> None:
    files = told(read_data(honest), MANIFEST, lambda manifest: manifest["splits"]["speaker"]["counts"].update(counts))
    text = files["split-speaker.csv"].decode().replace(old, new)
    files = sealed(files | {"split-speaker.csv": text.encode()}, tmp_path)
    assert "split-speaker.csv" in why_refused(write_data(tmp_path / "bad.tar", files), capsys)


def with_raw_list(honest: Path, to: Path, text: bytes) -> Path:
    """Write an archive like another, with a list of raw files."""
    facts = {"bytes": 0, "sha256": "0" * 64, "spot": "0" * 64}
    files = told(read_data(honest), MANIFEST, lambda manifest: manifest.update(raw={"list": facts}))
    return write_data(to, sealed(files | {"raw.csv": text}, to.parent))


def test_a_list_of_raw_files_that_leads_away(honest: Path, tmp_path: Path, capsys) -> None:
    def listed(file: str) -> Path:
        return with_raw_list(honest, tmp_path / "bad.tar", f"id,file,bytes,digest\nx,{file},1,0\n".encode())

    for file in ("/etc/passwd", "../x", "C:\\x"):
        assert "path" in why_refused(listed(file), capsys)
    assert import_data(listed("a/x.pkl"), tmp_path / "good", load_index()).new


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"id,name,bytes,digest\nx,a,1,0\n",
        b"id,file,bytes,digest\nx,a,1\n",
        b"id,file,bytes,digest\nx,a,1,0,0\n",
        b"id,file,bytes,digest\nx,a,many,0\n",
        b"id,file,bytes,digest\n\xff,a,1,0\n",
        b'id,file,bytes,digest\n"x"y,a,1,0\n',
    ],
    ids=["empty", "other columns", "a cell less", "a cell more", "no size", "no UTF-8", "no table"],
)
def test_a_damaged_list_of_raw_files(honest: Path, tmp_path: Path, capsys, text: bytes) -> None:
    assert "raw.csv" in why_refused(with_raw_list(honest, tmp_path / "bad.tar", text), capsys)


def test_an_unknown_option_of_a_dataset_is_no_path_to_read(honest: Path, tmp_path: Path, monkeypatch) -> None:
    """A parameter that is a file stands in an archive by its content; one by its path is never opened."""
    from mmlbench.api import cache_exchange

    monkeypatch.setattr(cache_exchange, "file_names", lambda fields: ["room"])
    files = told(read_data(honest), HEAD, lambda head: head.update(params={"room": "/etc/passwd"}))
    with pytest.raises(DataError):
        import_data(write_data(tmp_path / "bad.tar", files), tmp_path / "there", load_index())
    with pytest.raises(ConfigError):
        export_data("tiny_lab", {"other": 1}, tmp_path, load_index())


def test_hashes_of_the_helper_are_those_of_the_files(honest: Path) -> None:
    files = read_data(honest)
    assert json.loads(files[HEAD])["files"]["facts.npy"]["sha256"] == sha256(files["facts.npy"])
