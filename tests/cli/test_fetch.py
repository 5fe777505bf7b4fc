"""`mmlbench fetch`: what it prints, what it takes for there, downloads from a host that behaves and misbehaves."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mini_av
import mini_views
import pytest
from bad_input import refused

from mmlbench.api.downloads import download, state
from mmlbench.api.known_weights import find_weights, networks, of_torchvision
from mmlbench.cli import fetch as module
from mmlbench.cli import main
from mmlbench.dataset import Download
from mmlbench.errors import DataError
from mmlbench.registry.index import load_index

DATA = bytes(range(256)) * 4000
REAL = ("cremad", "ave", "ucf101", "modelnet40", "kinetics_sounds", "hmdb51", "vggsound", "nvgesture")
FEATURES = ("mosi", "mosi_2", "mosi_7", "mosei", "mosei_2", "mosei_7", "iemocap", "iemocap_4")
TEXTS = ("mvsa_single", "twitter15", "twitter17", "sarcasm", "food101")


class Host(http.server.BaseHTTPRequestHandler):
    """Serves DATA with ranges; `/short` breaks off, `/plain` knows no ranges, `/quiet` tells no length."""

    asked: list[str | None] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        first = int(wanted[6:-1]) if wanted and self.path != "/plain" else 0
        if self.path == "/gone":
            self.send_error(404)
        elif first >= len(DATA):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(DATA)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_response(206 if first else 200)
            if self.path != "/quiet":
                self.send_header("Content-Length", str(len(DATA) - first))
            self.end_headers()
            self.wfile.write(DATA[first : first + 300_000 if self.path == "/short" else None])

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    Host.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


WHOLE = {"bytes": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}


@pytest.mark.parametrize("path", ["/whole", "/plain", "/quiet"])
@pytest.mark.parametrize("there", [0, 1000, len(DATA), len(DATA) + 7])
@pytest.mark.parametrize("facts", [WHOLE, {}], ids=["known", "unknown"])
def test_a_download_goes_on_from_any_part(path, there, facts, host, tmp_path):
    if there and there != len(DATA) + 7:
        (tmp_path / "a.bin.part").write_bytes(DATA[:there])
    elif there:
        (tmp_path / "a.bin.part").write_bytes(bytes(there))  # of another file
    one = Download("a.bin", host + path, direct=True, **facts)
    download(one, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == DATA and not (tmp_path / "a.bin.part").exists()
    assert state(one, tmp_path)[0]


@pytest.mark.parametrize("facts", [WHOLE, {}], ids=["known", "unknown"])
def test_a_download_that_breaks_off_is_not_taken_for_whole(facts, host, tmp_path):
    one = Download("a.bin", f"{host}/short", direct=True, **facts)
    for came in (300_000, 600_000, 900_000):
        with pytest.raises(DataError, match="broke off") as error:
            download(one, tmp_path)
        assert "goes on from there" in error.value.fix
        assert (tmp_path / "a.bin.part").stat().st_size == came and not (tmp_path / "a.bin").exists()
        assert f"missing ({came} bytes of an earlier try" in state(one, tmp_path)[1]
    download(one, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert Host.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_another_file_than_announced_is_refused(host, tmp_path):
    for facts, words in (({"bytes": 7}, "instead of 7"), ({"sha256": "0" * 64}, "another checksum")):
        with pytest.raises(DataError, match=words):
            download(Download("a.bin", f"{host}/whole", direct=True, **facts), tmp_path)
        assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"can't be downloaded .*404"):
        download(Download("a.bin", f"{host}/gone", direct=True), tmp_path)
    with pytest.raises(DataError, match="can't be downloaded"):
        download(Download("a.bin", "http://127.0.0.1:9/x", direct=True), tmp_path)


def test_what_lies_there_is_judged(tmp_path):
    one = Download("a.bin", "x", direct=True, **WHOLE)
    assert state(one, tmp_path) == (False, "missing")
    (tmp_path / "a.bin").write_bytes(DATA[:10])
    assert state(one, tmp_path) == (False, f"not whole: 10 of {len(DATA)} bytes, fetched anew")
    (tmp_path / "a.bin").write_bytes(bytes(len(DATA)))
    assert state(one, tmp_path) == (False, "there, its checksum WRONG")
    (tmp_path / "a.bin").write_bytes(DATA)
    assert state(one, tmp_path) == (True, "there, its checksum right")


# ---- the datasets' own -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", REAL + FEATURES + TEXTS)
def test_what_to_download_is_printed_without_a_folder(name, capsys):
    assert main(["fetch", name]) == 0
    message = capsys.readouterr().out
    assert "from     http" in message and "licence  " in message and "facts    " in message
    for one in load_index().find("dataset", name).facts["downloads"]:
        assert one["name"] in message and bool(one["bytes"] or one["sha256"]) <= bool(one["source"])
        assert all(digest in message for digest in one["lists"].values())


def make(folder: Path, names: str) -> Path:
    """Make empty files, folders where a name ends in a stroke."""
    for name in names.split():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return folder


@pytest.mark.parametrize(
    ("name", "there", "missing"),
    [
        ("cremad", "VideoFlash/", ""),
        ("cremad", "Image-01-FPS/ AudioWAV/", ""),
        ("cremad", "AudioWAV/", "VideoFlash"),
        ("ave", "AVE_Dataset.zip", ""),
        ("ave", "AVE_Dataset/AVE/", "AVE_Dataset.zip"),
        ("ucf101", "UCF-101/ ucfTrainTestlist/", ""),
        ("ucf101", "jpegs_256/ tvl1_flow/ ucfTrainTestlist/", ""),
        ("ucf101", "jpegs_256/ ucfTrainTestlist/", "UCF-101, or tvl1_flow"),
        ("ucf101", "ucfTrainTestlist/", "UCF-101, or jpegs_256 and tvl1_flow"),
        ("hmdb51", "hmdb51_org/ testTrainMulti_7030_splits/", ""),
        ("hmdb51", "videos/ brush_hair_test_split2.txt", ""),
        ("hmdb51", "jpegs_256/ testTrainMulti_7030_splits/", "hmdb51_org, or tvl1_flow"),
        ("modelnet40", "ModelNet40.zip", ""),
        ("modelnet40", "ModelNet40/", ""),
        ("modelnet40", "shaded_images.tar.gz", ""),
        ("modelnet40", "modelnet40_images_new_12x/", ""),
        ("kinetics_sounds", "train/abcdefghijk_000001_000011.mp4", ""),
        ("kinetics_sounds", "clip.mp4", "clips"),
        ("kinetics_sounds_34", "visual/ audio/", ""),
        ("vggsound", "vggsound.csv a/abcdefghijk_000001.mp4", ""),
        ("vggsound", "train.csv a/abcdefghijk_000001.mp4", ""),
        ("vggsound", "a/abcdefghijk_000001.mp4", "vggsound.csv"),
    ],
)
def test_one_whole_form_is_enough(name, there, missing, tmp_path, capsys):
    make(tmp_path, there)
    if missing:
        line = refused(capsys, "fetch", name, "--into", tmp_path)
        assert f"mmlbench: {missing} must be fetched by hand (see above)" in line
    else:
        assert main(["fetch", name, "--into", str(tmp_path)]) == 0
        assert f"next: mmlbench prepare {name} --raw {tmp_path}" in capsys.readouterr().err


def served(monkeypatch: pytest.MonkeyPatch, url: str, name: str, data: bytes) -> None:
    """Let the downloads of a name come from a local host."""
    monkeypatch.setitem(globals(), "DATA", data)
    facts = {"url": url, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    made = Download

    def local(**one: object) -> Download:
        return replace(made(**one), **facts) if one["name"] == name else made(**one)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "Download", local)


def test_the_lists_of_ucf101_are_downloaded_checked_and_unpacked(host, tmp_path, monkeypatch, capsys):
    lists = mini_views.ucf_lists(tmp_path / "made" / "ucfTrainTestlist", mini_views.ucf_paths())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(lists.iterdir()):
            file.write(path, path.relative_to(tmp_path / "made"))
    served(monkeypatch, f"{host}/x", "UCF101TrainTestSplits-RecognitionTask.zip", packed.getvalue())
    raw = make(tmp_path / "raw", "UCF-101/")
    assert main(["fetch", "ucf101", "--into", str(raw)]) == 0
    message = capsys.readouterr().err
    assert (
        "downloading " in message and "its checksum right" in message and "next: mmlbench prepare ucf101" in message
    )
    found = raw / "ucfTrainTestlist"
    assert {p.name: p.read_bytes() for p in found.iterdir()} == {p.name: p.read_bytes() for p in lists.iterdir()}
    assert sorted(p.name for p in raw.iterdir())[1:] == [
        "UCF101TrainTestSplits-RecognitionTask.zip",
        "ucfTrainTestlist",
    ]
    Host.asked.clear()
    assert main(["fetch", "ucf101", "--into", str(raw)]) == 0 and not Host.asked


def test_the_next_command_that_fetch_names_works_on_archives(tmp_path, host, monkeypatch, capsys):
    """`prepare --raw FOLDER` of the folder that holds nothing but the archive, twice."""
    raw = make(tmp_path / "into", "nothing/").parent / "into"
    archive, lists = mini_views.modelnet_zip(tmp_path / "mini")
    served(monkeypatch, f"{host}/x", "ModelNet40.zip", archive.read_bytes())
    assert main(["fetch", "modelnet40", "--into", str(raw)]) == 0
    words = ["--cache", str(tmp_path / "c"), "--dataset-set", "size=16", "--workers", "1"]
    for _ in range(2):
        assert main(["prepare", "modelnet40", "--raw", str(raw), "--lists", str(lists), *words]) == 0
    (tmp_path / "two").mkdir()
    ave = mini_av.ave(tmp_path / "ave", 2, zipped=True)
    ave.replace(tmp_path / "two" / ave.name)
    given = ["prepare", "ave", "--raw", str(tmp_path / "two"), "--lists", str(tmp_path / "ave/AVE_Dataset"), *words]
    assert main(given) == 0 and main(given) == 0
    make(raw, "shaded_images.tar.gz")
    line = refused(capsys, "prepare", "modelnet40", "--raw", raw, "--cache", tmp_path / "d", "--lists", lists)
    assert "holds ModelNet40.zip and shaded_images.tar.gz" in line and "--raw FILE" in line


# ---- published weights -------------------------------------------------------------------------------------------
def test_names_of_published_weights_are_listed(capsys):
    assert main(["fetch", "weights"]) == 0
    names = capsys.readouterr().out.replace(",", " ").split()
    assert {"resnet18", "r3d_18", "bert-base-uncased"} <= set(names)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet50", "r3d_18", "vit_h_14", "bert-base-uncased"])
def test_where_weights_lie_is_printed_with_what_nobody_has_checked(name, capsys):
    assert main(["fetch", "weights", name]) == 0
    message = capsys.readouterr().out
    for one in find_weights(name):
        assert one.name in message and one.url in message and one.licence in message and one.source in message
        assert (one.sha256 or "none known here") in message and (one.size or "not known here") in message
        assert set(one.unverified) <= {"url", "licence", "files", "size", "sha256"}
    assert message.count("[unverified]") == sum(len(one.unverified) for one in find_weights(name))


def test_facts_of_torchvisions_weights_are_those_of_torchvision():
    from torchvision.models import get_model_weights

    for network in networks():
        own = get_model_weights(network)
        found = of_torchvision(network)
        assert found[0].url == own.DEFAULT.url and {one.url for one in found} == {one.url for one in own}
        assert all(len(one.sha256) >= 8 and f"-{one.sha256}." in one.url for one in found)
    assert "SWAG" in {one.name: one.licence for one in of_torchvision("vit_h_14")}["vit_h_14 IMAGENET1K_SWAG_E2E_V1"]


def test_weights_that_are_not_listed_and_downloads_are_refused(capsys, tmp_path):
    for name in ("resnet19", "torchvision:resnet19"):
        line = refused(capsys, "fetch", "weights", name)
        assert f"no published weights named {name!r} are known here. Did you mean resnet18" in line
    assert "downloads no weights" in refused(capsys, "fetch", "weights", "resnet18", "--into", tmp_path)
    assert "takes one dataset" in refused(capsys, "fetch", "cremad", "resnet18")
    assert not list(tmp_path.iterdir())
